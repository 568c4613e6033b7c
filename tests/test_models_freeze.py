"""freeze: a static network that equals the gated one with the kept channels forced open."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from support import generator
from torch import Tensor, nn

from freqops import ChannelSelection, GateStatistics
from freqops.models import freeze, from_rgb, summarize
from freqops.models._freeze import freeze_in_place
from freqops.models._summary import frame_of

torchvision = pytest.importorskip("torchvision")

# Some of the frequencies that compress well, in no order; 64 is Cb, 128 Cr.
SHUFFLED = ChannelSelection([130, 0, 64, 9, 1, 128, 8, 65, 16, 2, 17, 66])
KEPT = ChannelSelection([65, 2, 130, 0, 9])
ALL_SHUFFLED = ChannelSelection(torch.randperm(64, generator=generator()).tolist())
# Of 192 in 32 groups of 6: groups with one, two and three of these, and many with none.
SCATTERED = ChannelSelection([0, 1, 2, 64, 70, 71, 128, 191])


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freqops.models._freeze.TIMED_SECONDS", 0.0)


def resnet18() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


def resnet50() -> nn.Module:
    return torchvision.models.resnet50(num_classes=5)


def mobilenet() -> nn.Module:
    return torchvision.models.mobilenet_v2(num_classes=5)


def timm_network(name: str, **arguments: object) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, num_classes=5, **arguments)


def detector(norm: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    detection = torchvision.models.detection
    backbone = detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=norm
    )
    return detection.FasterRCNN(
        backbone,
        num_classes=3,
        min_size=64,
        max_size=96,
        box_score_thresh=0.0,
        box_detections_per_img=5,
        rpn_pre_nms_top_n_test=20,
        rpn_post_nms_top_n_test=10,
    )


def segmenter() -> nn.Module:
    fcn = torchvision.models.segmentation.fcn
    layers = torchvision.models._utils.IntermediateLayerGetter(resnet18(), {"layer4": "out"})
    return fcn.FCN(layers, fcn.FCNHead(512, 3))


# name: the RGB network, the gate's channels, those that are kept, what the transform then computes
# where it is not what is kept, arguments of from_rgb
CASES: dict[str, tuple[Callable[[], nn.Module], Any, Any, Any, dict[str, Any]]] = {
    "resnet18": (resnet18, SHUFFLED, KEPT, None, {}),
    # 64 channels need no new shortcut, until some of them go or their order changes.
    "resnet18-64": (resnet18, 64, [65, 2, 128, 0, 9], None, {}),
    "resnet18-64-order": (resnet18, range(64), ALL_SHUFFLED, None, {}),
    "resnet18-all": (resnet18, SHUFFLED, SHUFFLED, None, {}),
    "resnet50": (resnet50, SHUFFLED, KEPT, None, {}),
    "spatial": (resnet18, SHUFFLED, KEPT, None, {"spatial": True}),
    "spatial-50": (resnet50, SHUFFLED, KEPT, None, {"spatial": True, "layer2_stride": 1}),
    "timm-resnet": (partial(timm_network, "test_resnet"), SHUFFLED, KEPT, None, {}),
    # 32 groups of 6 channels, 3 of them in the fullest
    "mobilenet-192": (
        mobilenet,
        192,
        SCATTERED,
        # Each group of 6 channels: its own, then repeats of its first, or of the first of all.
        [
            channel
            for group in range(32)
            for held in [[c for c in SCATTERED if c // 6 == group]]
            for channel in (held + 3 * (held[:1] or [0]))[:3]
        ],
        {},
    ),
    # 16 groups of 3 channels, by their positions in the gate: 0, 3 and 46, in groups 0, 1 and 15
    "mobilenet-48": (
        mobilenet,
        range(48),
        [46, 0, 3],
        [0, 3, *[46] * 14],
        {},
    ),
    # one channel more than the first layer has outputs: one group
    "mobilenet-33": (mobilenet, range(33), [32, 0, 3], None, {}),
    "mobilenet-32": (mobilenet, range(32), [31, 0, 3], None, {}),
    "mobilenet-12": (mobilenet, SHUFFLED, KEPT, None, {}),
    "timm-mobilenet-12": (partial(timm_network, "mobilenetv2_100"), SHUFFLED, KEPT, None, {}),
    "timm-mobilenet-48": (
        partial(timm_network, "mobilenetv2_100"),
        range(48),
        [46, 0, 3],
        [0, 3, *[46] * 14],
        {},
    ),
    "timm-vit": (
        partial(timm_network, "test_vit", patch_size=16, img_size=64),
        SHUFFLED,
        KEPT,
        None,
        {},
    ),
    "timm-convnext": (partial(timm_network, "test_convnext"), SHUFFLED, KEPT, None, {}),
    "detector": (detector, SHUFFLED, KEPT, None, {}),
    "segmenter": (segmenter, SHUFFLED, KEPT, None, {}),
}


def gated(name: str = "resnet18", **more: Any) -> nn.Module:
    """A gated network in evaluation, whose norms have seen something.

    The constant that a closed channel makes of a norm is not zero then, and what is read reaches
    the output.
    """
    torch.manual_seed(0)
    rgb, channels, _, _, arguments = CASES[name]
    network = from_rgb(rgb(), channels, **{"gate": True, **arguments, **more})
    source = generator()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=source)
            nn.init.uniform_(module.bias, -1, 1, generator=source)
    images = pictures(network, torch.float32, 8)
    with torch.no_grad():
        if isinstance(network, detection_class()):
            network.train().backbone(torch.stack(images))
        else:
            network.train()(images)
    return network.eval()


def gate_of(network: nn.Module) -> Any:
    frame = frame_of(network)
    assert frame is not None
    return frame.gate


def transform_of(network: nn.Module) -> Any:
    frame = frame_of(network)
    assert frame is not None
    return frame.transform


def pictures(network: nn.Module, dtype: torch.dtype, n: int = 2) -> Any:
    """Noise of several strengths and colours, in numbers that every dtype holds."""
    source = generator()
    low = torch.randint(0, 128, (n, 3, 1, 1), generator=source)
    high = torch.randint(128, 257, (n, 3, 1, 1), generator=source)
    noise = torch.randint(0, 256, (n, 3, 64, 64), generator=source)
    images = (low + noise * (high - low) // 256).to(dtype) / 256
    return list(images) if isinstance(network, detection_class()) else images


def detection_class() -> type:
    return torchvision.models.detection.generalized_rcnn.GeneralizedRCNN


def tensors(output: Any) -> list[Tensor]:
    """All numbers of an output, in order; of a gated network without the gate."""
    if isinstance(output, tuple):
        output, _ = output
    if isinstance(output, dict):
        return [tensor for value in output.values() for tensor in tensors(value)]
    if isinstance(output, list):
        return [tensor for value in output for tensor in tensors(value)]
    return [output]


def forced(network: nn.Module, kept: Any, images: Any) -> list[Tensor]:
    network = copy.deepcopy(network)
    gate_of(network).forced = ChannelSelection.of(kept)
    with torch.no_grad():
        return tensors(network(images))


def run(network: nn.Module, images: Any) -> list[Tensor]:
    with torch.no_grad():
        return tensors(network(images))


def error(got: list[Tensor], want: list[Tensor]) -> float:
    """The largest difference, in units of the largest number of each tensor."""
    assert len(got) == len(want)
    errors = [0.0]
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and b.numel() > 0 and b.isfinite().all()
        errors.append(float((a.double() - b.double()).abs().max() / b.double().abs().max()))
    return max(errors)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_gated_network_with_the_kept_channels_forced(name: str) -> None:
    kept, read = CASES[name][2:4]
    network = gated(name)
    exact = copy.deepcopy(network).double()
    images = pictures(network, torch.float64)
    want = forced(exact, kept, images)
    # In float64 nothing that is left out or added twice hides in rounding: 6e-14 is the most.
    frozen = freeze(exact, selection=kept, say=None)
    assert type(frozen) is type(network) and gate_of(frozen) is None
    assert list(transform_of(frozen).channels) == list(read or kept)
    assert error(run(frozen, images), want) < 1e-12
    # The closed channels matter: open they give something else.
    channels = gate_of(network).channels
    if set(kept) < set(channels):
        assert error(forced(exact, channels, images), want) > 1e-2

    if name == "detector":
        return  # which boxes are best may hang on a rounding
    images = pictures(network, torch.float32)
    ours = error(run(freeze(network, selection=kept, say=None), images), want)
    # Sums in another order: at most 4 times as far off as the gated network is in float32, or 16
    # roundings where that had luck.
    assert ours <= 4 * error(forced(network, kept, images), want) + 16 * 2.0**-24


@pytest.mark.parametrize("name", ["resnet18-64", "spatial", "mobilenet-192", "mobilenet-12"])
def test_what_is_rebuilt_takes_its_state_dict(name: str) -> None:
    """As ``load`` does: surgery, ``freeze_in_place``, and then the values."""
    kept = ChannelSelection.of(CASES[name][2])
    frozen = freeze(gated(name), selection=kept, say=None)
    rgb, channels, _, _, arguments = CASES[name]
    again = freeze_in_place(from_rgb(rgb(), channels, gate=True, **arguments), kept)
    again.load_state_dict(frozen.state_dict())
    images = pictures(again, torch.float32)
    assert error(run(again.eval(), images), run(frozen, images)) == 0


@pytest.mark.parametrize("name", ["resnet18-64", "mobilenet-192", "mobilenet-12", "detector"])
def test_the_given_network_stays_as_it_was(name: str) -> None:
    network = gated(name)
    network.train()
    next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    gate_of(network).forced = ChannelSelection([0])
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    frozen = freeze(network, selection=[0, 9], say=lambda text: None)
    assert [module.training for module in network.modules()] == modes
    assert gate_of(network).forced == ChannelSelection([0])
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(torch.get_rng_state(), random)
    # Nor do they share anything.
    theirs = {values.data_ptr() for values in network.state_dict().values() if values.numel()}
    assert not any(v.data_ptr() in theirs for v in frozen.state_dict().values() if v.numel())
    recipe = frame_of(frozen).recipe
    assert recipe.kept == ChannelSelection([0, 9]) and recipe.gate == "bernoulli"
    assert frame_of(network).recipe.kept is None
    channels = len(transform_of(network).channels)
    assert f"gate: removed, 2 of {channels} channels kept" in recipe.changes


def test_modes_and_what_is_trained_are_kept() -> None:
    network = gated("mobilenet-12")
    network.train()
    network.network.features[1].eval()
    for name in ("features.1.conv.0.0.weight", "features.1.conv.1.weight"):
        network.network.get_parameter(name).requires_grad_(False)
    frozen = freeze(network, selection=[0, 9], say=None)
    gone = dict(network.gate.named_modules())
    modes = {name: module.training for name, module in network.named_modules()}
    for name in ["gate", *(f"gate.{name}" for name in gone if name)]:
        del modes[name]
    assert {name: module.training for name, module in frozen.named_modules()} == modes
    trained = {name for name, values in network.named_parameters() if values.requires_grad}
    assert {name for name, values in frozen.named_parameters() if values.requires_grad} == {
        name for name in trained if not name.startswith("gate.")
    }


def test_settings_of_the_transform_are_kept() -> None:
    network = gated("resnet18", chroma="dctnet", rounding="jpeg")
    network.transform.dtype = torch.float64
    network.transform.memory_format = torch.channels_last
    network.transform.mean += 1
    transform = freeze(network, selection=[9, 0], say=None).transform
    images = pictures(network, torch.float32)
    columns = [SHUFFLED.indices.index(channel) for channel in (9, 0)]
    assert torch.equal(transform(images), network.transform(images)[:, columns])
    assert transform(images).is_contiguous(memory_format=torch.channels_last)
    assert transform(images).dtype == torch.float64


@pytest.mark.parametrize("name", ["resnet18-64", "mobilenet-192", "mobilenet-12", "detector"])
def test_frozen_networks_train(name: str) -> None:
    frozen = freeze(gated(name), selection=[0, 1, 9], say=None).train()
    images = pictures(frozen, torch.float32)
    if name == "detector":
        box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        targets = [{"boxes": box, "labels": torch.ones(1, dtype=torch.int64)}] * 2
        loss = sum(frozen(images, targets).values())
    else:
        loss = frozen(images).square().mean()
    loss.backward()
    gradients = {name: p.grad for name, p in frozen.named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    before = run(frozen.eval(), images)
    torch.optim.SGD(frozen.parameters(), 1e-3).step()
    after = run(frozen, images)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def statistics_of(network: nn.Module, channels: Any = None) -> GateStatistics:
    """The k-th of a gate's channels was on for k of them all."""
    counted = GateStatistics(gate_of(network).channels if channels is None else channels)
    n = len(counted.channels)
    counted.update(torch.ones(n, n).triu())
    return counted


def test_statistics_decide_by_number_or_by_rate() -> None:
    network = gated()
    counted = statistics_of(network)
    last = sorted(SHUFFLED.indices[-4:])
    frozen = freeze(network, counted, keep=4, say=None)
    assert list(frozen.transform.channels) == last
    assert frozen.recipe.kept == counted.selection(keep=4)
    frozen = freeze(network, counted, threshold=9 / 12, say=None)
    assert list(frozen.transform.channels) == last
    # Columns follow the channels.
    images = pictures(network, torch.float64)
    want = forced(network.double(), last, images)
    assert error(run(frozen.double(), images), want) < 1e-12


def test_statistics_may_have_another_order() -> None:
    network = gated()
    channels = sorted(SHUFFLED)
    frozen = freeze(network, statistics_of(network, channels), keep=4, say=None)
    assert list(frozen.transform.channels) == channels[-4:]


def test_a_selection_needs_no_statistics_and_overrules_them() -> None:
    network = gated()
    for counted in (None, statistics_of(network)):
        frozen = freeze(network, counted, selection=[130, 0], say=None)
        assert list(frozen.transform.channels) == [130, 0]


def test_without_statistics_the_mean_picture_decides() -> None:
    network = gated().train()
    gate = network.gate
    source = generator()
    with torch.no_grad():
        for values in (*gate.parameters(), gate.norm.running_mean):
            values.copy_(torch.randn(values.shape, generator=source))
        gate.forced = ChannelSelection([0])  # whoever looks is not misled
        # The paper's gate where its input is zero, in evaluation.
        scale = gate.norm.weight / (gate.norm.running_var + gate.norm.eps).sqrt()
        hidden = (scale * (gate.squeeze.bias - gate.norm.running_mean) + gate.norm.bias).relu()
        off, on = (
            gate.logits.weight.view(12, 2) * hidden[:, None] + gate.logits.bias.view(12, 2)
        ).unbind(1)
        p = (on - off).sigmoid()
    best = p.argsort(descending=True)
    kept = sorted(SHUFFLED.indices[place] for place in best[:4].tolist())
    with pytest.warns(UserWarning, match="GateStatistics over a validation set is better"):
        frozen = freeze(network, keep=4, say=None)
    assert list(frozen.transform.channels) == kept
    threshold = float((p[best[3]] + p[best[4]]) / 2)
    with pytest.warns(UserWarning, match="mean picture"):
        frozen = freeze(network, threshold=threshold, say=None)
    assert list(frozen.transform.channels) == kept


def test_says_what_becomes_of_input_cost_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    network = gated("mobilenet-192")
    said: list[str] = []
    frozen = freeze(network, selection=SCATTERED, say=said.append)
    (text,) = said
    old, new = summarize(network), summarize(frozen)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:5] == [
        "freeze: 8 of 192 channels kept",
        "channels 192 -> 96: the 8 kept grow by 88 that pad groups",
        "input size 16.000 -> 8.000 of 3 x 224 x 224",
        f"parameters {old.parameters + 38208:,} -> {new.parameters:,}, with the gate",
        f"GMAC {old.gmacs:.4f} -> {new.gmacs:.4f}, 3 x 896 x 896",
    ]
    assert lines[5].startswith("time ") and lines[5].endswith("ms a picture, 3 x 896 x 896, cpu")
    assert len(lines) == 6
    assert capsys.readouterr().out == ""


def test_says_it_of_pictures_of_a_size() -> None:
    said: list[str] = []
    frozen = freeze(gated("resnet18-64"), selection=KEPT, say=said.append, size=(64, 96))
    lines = [" ".join(line.split()) for line in said[0].splitlines()]
    summary = summarize(frozen, (64, 96))
    assert (
        lines[2]
        == f"input size {64 * 96 / 150528:.3f} -> {summary.input_size:.3f} of 3 x 224 x 224"
    )
    assert lines[4].endswith(f"{summary.gmacs:.4f}, 3 x 64 x 96")
    assert lines[5].endswith("ms a picture, 3 x 64 x 96, cpu")


def test_says_where_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    # The shortcut becomes a convolution of 63 x 64, and 64 x 9 weights go.
    network = gated("resnet18-64")
    freeze(network, selection=network.gate.channels.indices[:63])
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if "GMAC" in line]
    assert "(grows)" in line
    (line,) = [line for line in text.splitlines() if "channels  " in line]
    assert "(grows)" not in line


def test_says_it_of_the_backbone_of_detectors() -> None:
    said: list[str] = []
    network = gated("detector")
    freeze(network, selection=KEPT, say=said.append)
    frame = frame_of(network)
    assert frame is not None and frame.take() is None  # no gate is left from the runs
    assert "backbone, 3 x 800 x 800" in said[0]
    assert "ms a picture, backbone, 3 x 256 x 256, cpu" in said[0]


def test_what_cannot_be_timed_is_frozen_all_the_same() -> None:
    said: list[str] = []
    network = gated().half()
    network.transform.dtype = torch.float32
    frozen = freeze(network, selection=KEPT, say=said.append)
    assert list(frozen.transform.channels) == list(KEPT)
    assert "not measured: " in said[0]  # channels of float32, weights of float16


def test_nothing_is_timed_without_data() -> None:
    said: list[str] = []
    freeze(gated("mobilenet-12").to("meta"), selection=KEPT, say=said.append)
    assert said[0].endswith("not measured: the parameters have no data")


def test_time_grows_only_where_every_run_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    from freqops.models import _freeze

    network = gated()
    for new, grows in (([2.5, 3.0, 9.0], True), ([1.5, 3.0, 9.0], False)):
        times = [[1.0, 2.0, 3.0], new]
        monkeypatch.setattr(_freeze, "_milliseconds", lambda networks, picture, t=times: t)
        said: list[str] = []
        freeze(network, selection=KEPT, say=said.append)
        assert f"2.00 -> 3.00{' (grows)' if grows else ''} ms" in said[0]


COUNTED = GateStatistics([0, 1])
REFUSED: list[tuple[type[Exception], str, Callable[[nn.Module], Any]]] = [
    (TypeError, "network must be a torch.nn.Module, got None", lambda n: freeze(None, keep=1)),
    (
        ValueError,
        "with a gate, got a ResNet that freqops did not make",
        lambda n: freeze(resnet18(), keep=1),
    ),
    (
        ValueError,
        "with a gate, got one without",
        lambda n: freeze(from_rgb(resnet18(), 24), keep=1),
    ),
    (
        ValueError,
        "got one already frozen to 1 channels",
        lambda n: freeze(freeze(n, selection=[0], say=None), keep=1),
    ),
    (
        ValueError,
        'kind "bernoulli", which opens channels or closes them, got "se", .* no static network',
        lambda n: freeze(from_rgb(resnet18(), 24, gate="se"), keep=1),
    ),
    (
        ValueError,
        'got "double", which multiplies a channel by another weight in each picture',
        lambda n: freeze(from_rgb(resnet18(), 24, gate="double"), keep=1),
    ),
    (
        ValueError,
        "a gate that names no channel twice, got 3 twice",
        lambda n: freeze(from_rgb(resnet18(), [0, 3, 3], gate=True), selection=[0]),
    ),
    (TypeError, "exactly one of keep, threshold and selection .* got none", lambda n: freeze(n)),
    (
        TypeError,
        "exactly one of .* got keep and threshold",
        lambda n: freeze(n, keep=1, threshold=0.5),
    ),
    (
        TypeError,
        "exactly one of .* got keep and selection",
        lambda n: freeze(n, keep=1, selection=[0]),
    ),
    (
        TypeError,
        "statistics must be a GateStatistics or None, got 24",
        lambda n: freeze(n, 24, keep=1),
    ),
    (
        ValueError,
        r"statistics must be of the gate's 12 channels, got 2, without \[2, 8, .*\]$",
        lambda n: freeze(n, COUNTED, keep=1),
    ),
    (
        ValueError,
        r"got 13, with \[191\]$",
        lambda n: freeze(n, GateStatistics([*SHUFFLED, 191]), selection=[0]),
    ),
    (
        ValueError,
        "rates need at least one picture",
        lambda n: freeze(n, GateStatistics(SHUFFLED), keep=1),
    ),
    (
        ValueError,
        r"keep must lie in \[1, 12\], got 13",
        lambda n: freeze(n, statistics_of(n), keep=13),
    ),
    (
        ValueError,
        "threshold must be at most the largest p, 0.5, got 0.9",
        lambda n: freeze(
            n,
            GateStatistics.from_gates([torch.zeros(1, 12), torch.ones(1, 12)], SHUFFLED),
            threshold=0.9,
        ),
    ),
    (
        ValueError,
        r"selection must hold channels of the gate, got \[3, 191\] besides",
        lambda n: freeze(n, selection=[191, 0, 3]),
    ),
    (
        ValueError,
        "selection must name no channel twice, got 9 twice",
        lambda n: freeze(n, selection=[0, 9, 9]),
    ),
    (TypeError, "selection: .* got 24 of type int", lambda n: freeze(n, selection=24)),
    (ValueError, "selection: .* at least one channel, got none", lambda n: freeze(n, selection=[])),
]


@pytest.mark.parametrize(("kind", "message", "call"), REFUSED, ids=[row[1] for row in REFUSED])
def test_refuses(kind: type[Exception], message: str, call: Callable[[nn.Module], Any]) -> None:
    network = from_rgb(resnet18(), SHUFFLED, gate=True)
    with pytest.raises(kind, match=message):
        call(network)


def test_refuses_a_norm_that_looks_at_all_channels() -> None:
    norm = partial(nn.BatchNorm2d, track_running_stats=False)
    rgb = torchvision.models.mobilenet_v2(num_classes=5, norm_layer=norm)
    network = from_rgb(rgb, SHUFFLED, gate=True)
    with pytest.raises(ValueError, match=r"features.1.conv.0.1 must be a norm with running stati"):
        freeze(network, selection=KEPT, say=None)


def test_hooks_see_nothing_of_the_timing() -> None:
    network, seen = gated(), []
    network.gate.register_forward_hook(lambda module, args, output: seen.append(output))
    freeze(network, selection=KEPT, say=lambda text: None)
    assert not seen


@pytest.mark.parametrize("call", [summarize, lambda n: freeze(n, selection=KEPT, say=None)])
def test_what_is_around_a_network_is_refused(call: Any) -> None:
    with pytest.raises(ValueError, match="got a Sequential, which is around one or part of one"):
        call(torch.nn.Sequential(gated()))


def test_a_network_in_training_stays_in_training() -> None:
    """Also the norm that folding the constant of closed channels runs in evaluation."""
    network = from_rgb(torchvision.models.mobilenet_v2(num_classes=3), 24, gate=True).train()
    frozen = freeze(network, selection=[0, 64, 1], say=None)
    assert all(module.training for module in frozen.modules())


def test_groups_without_padding_are_read_in_their_order() -> None:
    """One channel of each of the 32 groups of 6, named from the last group to the first."""
    torch.manual_seed(0)
    network = from_rgb(torchvision.models.mobilenet_v2(num_classes=3), gate=True).eval()
    selection = ChannelSelection([6 * group + group % 6 for group in reversed(range(32))])
    frozen = freeze(network, selection=selection, say=None)
    assert frozen.transform.channels.indices == tuple(sorted(selection))
    network.gate.forced = selection
    images = torch.rand(2, 3, 64, 64, generator=generator())
    torch.testing.assert_close(frozen(images), network(images)[0], rtol=1e-4, atol=1e-5)
