"""freqops.models.load_released: checkpoints laid out as those of the code released with the paper.

The networks here have the layers and names of the released ones, in plain PyTorch, with random
weights. They say what a checkpoint computes.
"""

from __future__ import annotations

import copy
import datetime
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import generator
from torch import Tensor, nn

import freqops
from freqops import ChannelSelection, ChannelStatistics
from freqops.models._recipe import Base, recipe_of
from freqops.models._released_networks import LoadReport, load_released
from freqops.nn import ChannelGate

pytest.importorskip("torchvision")

CLASSES = 7
AUTHORS = ChannelStatistics(
    [float(c % 5 - 2) for c in range(192)], [1 + c / 96 for c in range(192)]
)

State = dict[str, Any]


def convolution(before: int, after: int, size: int = 1, stride: int = 1, groups: int = 1) -> Any:
    """A convolution and its norm."""
    conv = nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(after)


class Gate(nn.Module):
    """Gates of a picture by its mean coefficients, without noise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        pooled = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()
        self.inp_gate = nn.Sequential(*pooled)
        self.inp_gate_l = nn.Conv2d(channels, 2 * channels, 1, groups=channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pairs = self.inp_gate_l(self.inp_gate(x.mean((2, 3), keepdim=True))).unflatten(1, (-1, 2))
        gate = (pairs[:, :, 1] > pairs[:, :, 0]).float()
        return x * gate, gate.flatten(1)


class Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(before, width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride)
        self.conv3, self.bn3 = convolution(width, 4 * width)
        if first:
            self.downsample = nn.Sequential(*convolution(before, 4 * width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def layers(channels: int, stride: int, blocks: tuple[int, ...] = (3, 4, 6, 3)) -> list[nn.Module]:
    """layer1 to layer4; the stride is that of layer2."""
    result, before = [], channels
    for i, count in enumerate(blocks):
        width = 64 << i
        made = []
        for j in range(count):
            made.append(Bottleneck(before, width, (1, stride, 2, 2)[i] if j == 0 else 1, j == 0))
            before = 4 * width
        result.append(nn.Sequential(*made))
    return result


class ResNet(nn.Module):
    """A classifier: layer2 has stride 1."""

    def __init__(
        self, channels: int, gate: bool = False, blocks: tuple[int, ...] = (3, 4, 6, 3)
    ) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers(channels, 1, blocks), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(2048, CLASSES)
        if gate:
            self.inp_GM = Gate(channels)

    def forward(self, x: Tensor) -> Any:
        if hasattr(self, "inp_GM"):
            x, gate = self.inp_GM(x)
            return self.fc(self.model(x).flatten(1)), gate
        return self.fc(self.model(x).flatten(1))


class Inverted(nn.Module):
    """An inverted residual whose layers stand in one row."""

    def __init__(self, before: int, after: int, stride: int, expand: int) -> None:
        super().__init__()
        width = before * expand
        row = [] if expand == 1 else [*convolution(before, width), nn.ReLU6()]
        row += [*convolution(width, width, 3, stride, width), nn.ReLU6()]
        self.conv = nn.Sequential(*row, *convolution(width, after))
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """Inverted residuals from the first on: there is no stem."""

    def __init__(self, channels: int, gate: bool = False) -> None:
        super().__init__()
        first = Inverted(32, 16, 1, 1)
        if channels < 32:
            first = Inverted(channels, 16, 1, 1)
        elif channels > 32:
            first.conv[0] = nn.Conv2d(channels, 32, 3, 1, 1, groups=32, bias=False)
        blocks, before = [first], 16
        for after, count, stride in (
            (24, 2, 2),
            (32, 3, 2),
            (64, 4, 2),
            (96, 3, 1),
            (160, 3, 2),
            (320, 1, 1),
        ):
            for j in range(count):
                blocks.append(Inverted(before, after, stride if j == 0 else 1, 6))
                before = after
        self.features = nn.Sequential(*blocks)
        self.conv = nn.Sequential(*convolution(320, 1280), nn.ReLU6())
        self.classifier = nn.Linear(1280, CLASSES)
        if gate:
            self.inp_GM = Gate(channels)

    def forward(self, x: Tensor) -> Any:
        gate = None
        if hasattr(self, "inp_GM"):
            x, gate = self.inp_GM(x)
        y = self.classifier(self.conv(self.features(x)).mean((2, 3)))
        return y if gate is None else (y, gate)


class Backbone(nn.Module):
    """Of a detector: layer2 has stride 2, and what was the stem is there and not used."""

    def __init__(self, channels: int, gate: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, 7, bias=False), nn.BatchNorm2d(64)
        for i, layer in enumerate(layers(channels, 2)):
            self.add_module(f"layer{i + 1}", layer)
        if gate:
            self.input_GM = Gate(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        if hasattr(self, "input_GM"):
            x, _ = self.input_GM(x)
        result = []
        for i in range(4):
            x = self.get_submodule(f"layer{i + 1}")(x)
            result.append(x)
        return result


class Detector(nn.Module):
    def __init__(self, channels: int, gate: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(channels, gate)
        self.neck, self.rpn_head = nn.Conv2d(256, 256, 1), nn.Conv2d(256, 3, 1)


def scrambled(network: nn.Module) -> nn.Module:
    """The network with weights that no initialisation gives, in evaluation."""
    draw = generator(3)
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if name.endswith("running_var"):
                values.uniform_(0.5, 2, generator=draw)
            elif name.endswith("num_batches_tracked"):
                values.fill_(11)
            elif values.dim() == 4:
                values.normal_(0, (2 / values[0].numel()) ** 0.5, generator=draw)
            elif name.endswith(("running_mean", "bias")):
                values.normal_(0, 0.3, generator=draw)
            else:
                values.uniform_(0.2, 0.8, generator=draw)
        for module in network.modules():
            if isinstance(module, Gate):
                module.inp_gate_l.weight.normal_(0, 2, generator=draw)
    return network.eval()


def saved(
    network: nn.Module, path: Path, prefix: str = "", legacy: bool = False, **entries: object
) -> Path:
    """A checkpoint as training leaves it: the state dict and more."""
    state = {prefix + key: values for key, values in network.state_dict().items()}
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1, momentum=0.9)
    content = {
        "epoch": 3,
        "arch": "resnet50dct",
        "state_dict": state,
        "best_prec1": torch.tensor(76.8),
        "optimizer": optimizer.state_dict(),
        "meta": {"CLASSES": ("person", "car"), "lr": 0.1, "config": None},
    } | entries
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def coefficients(channels: int, side: int = 9) -> Tensor:
    return 3 * torch.randn(3, channels, side, side + 1, generator=generator(4))


@torch.no_grad()
def assert_same(network: nn.Module, theirs: nn.Module, x: Tensor, gate: bool) -> None:
    """Equal results of coefficients, to float32 rounding."""
    assert isinstance(network, freqops.models.FrequencyNetwork)
    network.eval()
    want = theirs(x)
    if gate:
        scores, gates = network(coefficients=x)
        assert torch.equal(gates, want[1])
        assert 0.2 < gates.mean() < 0.8
        want = want[0]
    else:
        scores = network.network(x)
        assert torch.equal(network(coefficients=x), scores)
    assert scores.shape == (3, CLASSES) and scores.std() > 1e-3
    torch.testing.assert_close(scores, want, rtol=1e-4, atol=1e-4 * float(want.std()))


@pytest.fixture(scope="module")
def resnets() -> dict[int, nn.Module]:
    return {c: scrambled(ResNet(c, gate=c == 192)) for c in (24, 64, 192)}


@pytest.fixture(scope="module")
def mobilenets() -> dict[int, nn.Module]:
    return {c: scrambled(MobileNet(c, gate=c == 192)) for c in (6, 24, 32, 64, 192)}


@pytest.mark.parametrize(
    ("channels", "prefix", "legacy"),
    [(24, "module.", True), (64, "", False), (192, "module.", False)],
)
def test_resnet(
    resnets: dict[int, nn.Module], tmp_path: Path, channels: int, prefix: str, legacy: bool
) -> None:
    theirs, gate = resnets[channels], channels == 192
    path = saved(theirs, tmp_path / "resnet.pth.tar", prefix, legacy)
    network, report = load_released(path, statistics=AUTHORS)
    assert network.training
    assert_same(network, theirs, coefficients(channels), gate)
    assert report.missing == report.unexpected == ()
    assert len(report.matched) == len(theirs.state_dict()) == (323 if gate else 314)
    assert set(report.matched) == {k for k in network.state_dict() if not k.startswith("transform")}
    recipe = recipe_of(network)
    assert recipe is not None
    assert recipe.base == Base("torchvision", "resnet50", {"num_classes": CLASSES})
    assert (recipe.chroma, recipe.rounding, recipe.layer2_stride) == ("dctnet", "jpeg", 1)
    assert recipe.channels == ChannelSelection.square(channels) and recipe.statistics is AUTHORS
    assert recipe.gate == ("bernoulli" if gate else None)
    assert network.state_dict()["network.layer1.0.bn1.num_batches_tracked"] == 11


@pytest.mark.parametrize(
    ("channels", "prefix"), [(6, ""), (24, "module."), (32, ""), (64, ""), (192, "module.")]
)
def test_mobilenet(
    mobilenets: dict[int, nn.Module], tmp_path: Path, channels: int, prefix: str
) -> None:
    theirs, gate = mobilenets[channels], channels == 192
    path = saved(theirs, tmp_path / "mobilenet.pth", prefix)
    network, report = load_released(str(path), statistics=AUTHORS)
    assert_same(network, theirs, coefficients(channels, 17), gate)
    assert report.missing == report.unexpected == ()
    assert len(report.matched) == len(theirs.state_dict())
    recipe = recipe_of(network)
    assert recipe is not None
    assert recipe.base == Base("torchvision", "mobilenet_v2", {"num_classes": CLASSES})
    assert (recipe.chroma, recipe.rounding, recipe.layer2_stride) == ("dctnet", "jpeg", 2)
    assert recipe.channels == ChannelSelection.square(channels) and recipe.statistics is AUTHORS


@torch.no_grad()
@pytest.mark.parametrize("channels", [None, ChannelSelection.learned(24), [5, *range(64, 87)]])
def test_pictures_become_what_the_released_networks_read(
    mobilenets: dict[int, nn.Module], channels: Any
) -> None:
    theirs = mobilenets[24]
    network, _ = load_released(theirs.state_dict(), statistics=AUTHORS, channels=channels)
    images = torch.randint(0, 256, (2, 3, 128, 136), dtype=torch.uint8, generator=generator())
    selection = ChannelSelection.square(24) if channels is None else ChannelSelection.of(channels)
    mean, std = AUTHORS.select(selection)
    x = freqops.block_dct(images, selection, chroma="dctnet", rounding="jpeg")
    x = ((x - mean[:, None, None]) / std[:, None, None]).float()
    torch.testing.assert_close(network.eval()(images), theirs(x), rtol=1e-3, atol=1e-3)


def test_mappings(mobilenets: dict[int, nn.Module]) -> None:
    state = mobilenets[6].state_dict()
    for source in (state, {"state_dict": state}, {f"module.{k}": v for k, v in state.items()}):
        network, report = load_released(source, statistics=AUTHORS)
        assert len(report.matched) == len(state)
        weight = network.get_parameter("network.classifier.1.weight")
        assert torch.equal(weight, state["classifier.weight"])
        assert weight.data_ptr() != state["classifier.weight"].data_ptr()


@torch.no_grad()
def test_saved_as_ours(mobilenets: dict[int, nn.Module], tmp_path: Path) -> None:
    theirs = mobilenets[192]
    network, _ = load_released(theirs.state_dict(), statistics=AUTHORS)
    freqops.models.save(network, tmp_path / "ours.safetensors")
    again = freqops.models.load(tmp_path / "ours.safetensors")
    assert_same(again, theirs, coefficients(192, 17), gate=True)
    recipe = recipe_of(again)
    assert recipe is not None and (recipe.chroma, recipe.rounding) == ("dctnet", "jpeg")
    assert torch.equal(recipe.statistics.std, AUTHORS.std)


def test_report(mobilenets: dict[int, nn.Module]) -> None:
    state = mobilenets[192].state_dict() | {f"criterion.{i}": torch.ones(2) for i in range(5)}
    # Of a torch before 0.4.1.
    state = {key: values for key, values in state.items() if "num_batches" not in key}
    _, report = load_released(state | {"epoch": 3}, statistics=AUTHORS)
    assert report.missing == ()
    assert report.unexpected == tuple(f"criterion.{i}" for i in range(5))
    assert str(report) == (
        f"{len(state) - 5} matched, 0 missing, 5 unexpected: "
        "criterion.0, criterion.1, criterion.2, criterion.3, ..."
    )
    assert str(LoadReport((), ("a", "b"), ())) == "0 matched, 2 missing: a, b, 0 unexpected"
    with pytest.raises(AttributeError):
        report.missing = ("a",)  # type: ignore[misc]


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    return freqops.models.fasterrcnn_resnet50_fpn(
        24, statistics=AUTHORS, chroma="dctnet", rounding="jpeg", num_classes=3
    )


@pytest.fixture(scope="module")
def released_detector() -> nn.Module:
    return scrambled(Detector(24))


def images() -> Tensor:
    return torch.rand(2, 3, 64, 72, generator=generator())


@torch.no_grad()
def assert_same_features(network: nn.Module, theirs: Detector) -> None:
    body = network.eval().get_submodule("backbone.body")
    stem = next(body.children())
    x = stem.transform(F.interpolate(images(), scale_factor=2, mode="bilinear"))
    want = theirs.backbone(x)
    assert [tuple(features.shape[2:]) for features in want] == [(16, 18), (8, 9), (4, 5), (2, 3)]
    for got, features in zip(body(images()).values(), want, strict=True):
        assert features.std() > 1e-3
        torch.testing.assert_close(got, features, rtol=1e-4, atol=1e-4 * float(features.std()))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_backbone(
    detector: nn.Module, released_detector: nn.Module, tmp_path: Path, prefix: str
) -> None:
    network = copy.deepcopy(detector)
    path = saved(released_detector, tmp_path / "faster_rcnn.pth", prefix)
    loaded, report = load_released(path, network=network)
    assert loaded is network
    assert_same_features(network, released_detector)
    parts = {key.split(".")[0] for key in report.unexpected}
    assert parts == {"backbone", "neck", "rpn_head"}
    # The stem that is not used; one key of its norm is a counter.
    assert sum(key.startswith("backbone") for key in report.unexpected) == 5
    assert {key.removeprefix("backbone.").split(".")[0] for key in report.missing} == {
        "fpn",
        "rpn",
        "roi_heads",
    }
    for key, values in network.state_dict().items():
        if key in report.missing:
            assert torch.equal(values, detector.state_dict()[key])


def test_bare_backbone_into_frozen_norms(released_detector: nn.Module) -> None:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    # As detectors with RGB weights have them: without num_batches_tracked.
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
    network = freqops.models.from_rgb(
        FasterRCNN(backbone, num_classes=3),
        24,
        statistics=AUTHORS,
        chroma="dctnet",
        rounding="jpeg",
    )
    state = {
        key: values
        for key, values in released_detector.backbone.state_dict().items()
        if key.startswith("layer")
    }
    _, report = load_released(state, network=network)
    assert_same_features(network, released_detector)
    assert report.unexpected == ()
    assert not any("body" in key for key in report.missing)


def test_backbone_with_gate() -> None:
    theirs = scrambled(Detector(192, gate=True))
    network = freqops.models.fasterrcnn_resnet50_fpn(
        gate=True, statistics=AUTHORS, chroma="dctnet", rounding="jpeg", num_classes=3
    )
    _, report = load_released(theirs.state_dict(), network=network)
    assert sum(".gate." in key for key in report.matched) == 9
    assert not any("inp_gate" in key for key in report.unexpected)
    assert_same_features(network, theirs)
    with pytest.raises(ValueError, match=r"made with gate=False, .* got gate=True"):
        load_released(Detector(192).state_dict(), network=network)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chroma": "4:4:4"}, "network must be made with chroma='dctnet', .* got chroma='4:4:4'"),
        ({"rounding": "none"}, "network must be made with rounding='jpeg'"),
        ({"layer2_stride": 1}, "network must be made with layer2_stride=2"),
        ({"statistics": None}, "network must be made with the authors' mean and std"),
        (
            {"channels": 64},
            r"another architecture: backbone.body.layer1.0.conv1.weight must be \[64, 64, 1, 1\], "
            r"got \[64, 24, 1, 1\]",
        ),
    ],
)
def test_detectors_that_do_not_fit(
    released_detector: nn.Module, settings: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {
        "channels": 24,
        "statistics": AUTHORS,
        "chroma": "dctnet",
        "rounding": "jpeg",
    }
    network = freqops.models.fasterrcnn_resnet50_fpn(**arguments | settings, num_classes=3)
    before = {key: values.clone() for key, values in network.state_dict().items()}
    with pytest.raises(ValueError, match=f"^load_released: .*{message}"):
        load_released(released_detector.state_dict(), network=network)
    for key, values in network.state_dict().items():
        assert torch.equal(values, before[key]), "nothing is loaded"


def test_a_backbone_needs_a_detector(detector: nn.Module, released_detector: nn.Module) -> None:
    state = released_detector.state_dict()
    with pytest.raises(ValueError, match=r"network must be given .*\.fasterrcnn_resnet50_fpn\("):
        load_released(state)
    with pytest.raises(TypeError, match="network must be a detector, got 'resnet50'"):
        load_released(state, network="resnet50")  # type: ignore[arg-type]
    for other in (nn.Linear(2, 2), freqops.models.resnet18(24)):
        with pytest.raises(ValueError, match="network must be a detector made by freqops"):
            load_released(state, network=other)
    with pytest.raises(ValueError, match="statistics must be None for a backbone"):
        load_released(state, network=detector, statistics=AUTHORS)
    with pytest.raises(ValueError, match="channels must be None for a backbone"):
        load_released(state, network=detector, channels=24)
    with pytest.raises(ValueError, match="network must be None for a ResNet-50"):
        load_released({"model.0.0.x": torch.ones(1)}, network=detector)


def rgb_resnet() -> State:
    return {"conv1.weight": torch.ones(64, 3, 7, 7), "fc.weight": torch.ones(5, 2048)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"backbone.layer3.6.conv1.weight": torch.ones(1)}, r"has no .*layer3\.6"),
        (lambda s: s | {"backbone.upconv_y.weight": torch.ones(1)}, "has no backbone.upconv_y"),
        (lambda s: s | rgb_resnet(), "conv1.weight reads the 3 channels of pixels"),
        (
            lambda s: {k: v for k, v in s.items() if "layer4.2" not in k},
            r"got none of 15: backbone.body.layer4.2.conv1.weight, ",
        ),
    ],
)
def test_backbones_of_another_architecture(
    detector: nn.Module,
    released_detector: nn.Module,
    change: Callable[[State], State],
    message: str,
) -> None:
    before = {key: values.clone() for key, values in detector.state_dict().items()}
    with pytest.raises(ValueError, match=f"^load_released: source must .*{message}"):
        load_released(change(released_detector.state_dict()), network=detector)
    for key, values in detector.state_dict().items():
        assert torch.equal(values, before[key]), "nothing is loaded"


def without(*parts: str) -> Callable[[State], State]:
    return lambda s: {k: v for k, v in s.items() if not any(part in k for part in parts)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("features.3.conv.4."), "got none of 4: network.features.4.conv.1.1.weight, "),
        (without("conv.0.weight"), "got none of features.0.conv.0.weight$"),
        (without("classifier.weight"), "got none of classifier.weight$"),
        (without("classifier.bias"), "got none of 1: network.classifier.1.bias$"),
        (
            lambda s: s | {"features.2.conv.0.weight": torch.ones(7, 24, 1, 1)},
            r"architecture: network.features.3.conv.0.0.weight must be \[144, 24, 1, 1\], "
            r"got \[7, 24, 1, 1\]",
        ),
        (lambda s: s | {"classifier.weight": torch.ones(7)}, r"classifier.weight is \[7\]"),
        (
            lambda s: s | {"features.0.conv.0.weight": torch.ones(32, 7, 3, 3)},
            "architecture: its first layer reads 224 channels",
        ),
        (lambda s: s | {"features.17.conv.0.weight": torch.ones(1)}, "has no features.17.conv.0."),
        (lambda s: s | {"upconv_cb.0.weight": torch.ones(1)}, "has no upconv_cb.0.weight"),
        (lambda s: s | {"inp_GM.inp_att.0.bias": torch.ones(1)}, "has no inp_GM.inp_att.0.bias"),
        (
            lambda s: s | {"features.0.conv.0.weight": torch.ones(12, 1, 3, 3)},
            "channels must be given for a checkpoint of 12 channels",
        ),
        (
            lambda s: s | {"classifier.bias": torch.ones(CLASSES).to_sparse()},
            "must hold dense numbers, got none for network.classifier.1.bias",
        ),
        (without("inp_gate_l.bias"), "got none of inp_GM.inp_gate_l.bias"),
        (without("features", "inp"), "must be a checkpoint of the released code: .* conv.0.weight"),
        (lambda s: {}, "got no tensor$"),
        (lambda s: {"state_dict": 3}, 'the entry "state_dict" of source must be a mapping, got 3'),
    ],
)
def test_mobilenets_of_another_architecture(
    mobilenets: dict[int, nn.Module], change: Callable[[State], State], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_released(change(mobilenets[192].state_dict()), statistics=AUTHORS)


def test_resnets_of_another_architecture(resnets: dict[int, nn.Module]) -> None:
    state = resnets[24].state_dict()
    deeper = state | {"model.2.6.conv1.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"architecture: a ResNet-50 has no model.2.6.conv1"):
        load_released(deeper, statistics=AUTHORS)
    # One that begins with layer2, behind deconvolutions.
    shifted = {"model.0.0.conv1.weight": torch.ones(128, 256, 1, 1)}
    with pytest.raises(ValueError, match="its first layer reads 256 channels"):
        load_released(state | shifted, statistics=AUTHORS)
    with pytest.raises(ValueError, match=r"got none of model\.0\.0\.conv1\.weight"):
        load_released(without("model.0.0")(state), statistics=AUTHORS)


def test_statistics_are_asked_for(mobilenets: dict[int, nn.Module]) -> None:
    state = mobilenets[6].state_dict()
    with pytest.raises(
        ValueError,
        match="statistics must be a ChannelStatistics of the authors' mean and std, got None: "
        "their std is that of the pictures' mean coefficients",
    ):
        load_released(state)
    with pytest.raises(TypeError, match="of the authors' mean and std, got a tuple"):
        load_released(state, statistics=(0, 1))  # type: ignore[arg-type]


def test_channels_fit(mobilenets: dict[int, nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"channels must be 6, as many as .* reads, got 24"):
        load_released(mobilenets[6].state_dict(), statistics=AUTHORS, channels=24)
    with pytest.raises(TypeError, match="channels"):
        load_released(mobilenets[6].state_dict(), statistics=AUTHORS, channels="6")  # type: ignore[arg-type]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["FREQOPS_BOMB"],)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "value",
    [Bomb(), datetime.date(2026, 11, 24), nn.Linear(2, 2)],
    ids=["bomb", "date", "module"],
)
def test_pickled_code_is_never_run(
    mobilenets: dict[int, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: object,
    legacy: bool,
) -> None:
    monkeypatch.setenv("FREQOPS_BOMB", str(tmp_path / "ran"))
    path = saved(mobilenets[6], tmp_path / "bomb.pth", legacy=legacy, extra=value)
    with pytest.raises(ValueError, match=r"bomb\.pth', which holds pickled code, which is never"):
        load_released(path, statistics=AUTHORS)
    assert not (tmp_path / "ran").exists()


def test_a_later_pickle_protocol(mobilenets: dict[int, nn.Module], tmp_path: Path) -> None:
    state = mobilenets[6].state_dict()
    torch.save(state, tmp_path / "m.pth", pickle_protocol=3)
    _, report = load_released(tmp_path / "m.pth", statistics=AUTHORS)  # without torch's warning
    assert len(report.matched) == len(state)


def test_no_advice_to_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREQOPS_BOMB", str(tmp_path / "ran"))
    torch.save(Bomb(), tmp_path / "bomb.pth", pickle_protocol=4)  # torch does not read that one
    with pytest.raises(ValueError, match=r"bomb\.pth': Weights only load failed$"):
        load_released(tmp_path / "bomb.pth", statistics=AUTHORS)
    assert not (tmp_path / "ran").exists()


def test_torchscript_is_code(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated; such files are about
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "script.pt")
    with pytest.raises(ValueError, match=r"script\.pt', which holds pickled code"):
        load_released(tmp_path / "script.pt", statistics=AUTHORS)


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def file(
    request: pytest.FixtureRequest,
    mobilenets: dict[int, nn.Module],
    tmp_path_factory: pytest.TempPathFactory,
) -> bytes:
    path = saved(mobilenets[6], tmp_path_factory.mktemp("whole") / "m.pth", legacy=request.param)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 1e-6, 1e-5, 1e-4, 0.5, 0.999999])
def test_truncated(file: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(file[: int(len(file) * share)])
    with pytest.raises(ValueError, match=r"that torch\.save wrote, whole, got '.*short\.pth': \w"):
        load_released(path, statistics=AUTHORS)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("What we measured last week.\n")
    with pytest.raises(ValueError, match=r"torch\.save wrote, whole, got '.*notes\.txt'"):
        load_released(path, statistics=AUTHORS)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"notes\.txt' must hold a mapping, got a list"):
        load_released(path, statistics=AUTHORS)
    with pytest.raises(FileNotFoundError):
        load_released(tmp_path / "nothing.pth", statistics=AUTHORS)
    with pytest.raises(IsADirectoryError):
        load_released(tmp_path, statistics=AUTHORS)
    with pytest.raises(TypeError, match="source must be a path or a mapping, got 3"):
        load_released(3, statistics=AUTHORS)  # type: ignore[arg-type]


def test_gates_start_closed_or_open_as_saved(mobilenets: dict[int, nn.Module]) -> None:
    network, _ = load_released(mobilenets[192].state_dict(), statistics=AUTHORS)
    assert isinstance(network.gate, ChannelGate) and network.gate.forced is None
    weight = mobilenets[192].state_dict()["inp_GM.inp_gate_l.weight"]
    assert torch.equal(network.gate.logits.weight, weight)
