"""from_rgb on ResNet and MobileNetV2, the constructors: layers, counts, weights, arguments."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import generator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

import freqops
from freqops import ChannelSelection, ChannelStatistics
from freqops.models import FrequencyNetwork, from_rgb

torchvision = pytest.importorskip("torchvision")

# Facts of the paper's networks: C, parameters, GMAC with stride 2 in layer2 and with stride 1.
RESNET50 = [
    (6, 25_528_936, 3.913, 13.508),
    (24, 25_534_696, 3.931, 13.526),
    (32, 25_537_256, 3.939, 13.534),
    (48, 25_542_376, 3.955, 13.550),
    (64, 25_547_496, 3.971, 13.566),
    (192, 25_588_456, 4.100, 13.695),
]
MOBILENET_V2 = [
    (6, 3_503_242, 0.2818),
    (12, 3_503_404, 0.2837),
    (24, 3_503_728, 0.2874),
    (32, 3_503_944, 0.2899),
    (64, 3_504_232, 0.2936),
    (192, 3_505_384, 0.3080),
]
STEM = ("conv1.", "bn1.")


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def gmac(network: nn.Module, channels: int, side: int) -> float:
    """Multiply-accumulates of one picture, in 10^9."""
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(allow_non_fake_inputs=True), counter:
        network.eval()(torch.empty(1, channels, side, side))
    return counter.get_total_flops() / 2e9


def pictures(n: int = 2, side: int = 64) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator())


def resnet(name: str = "resnet18", **arguments: Any) -> nn.Module:
    """A small head, and running statistics that are not those of a new network."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, **{"num_classes": 5, **arguments})
    return stirred(network)


def stirred(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    return torchvision.models.resnet50()


@pytest.mark.parametrize(("channels", "count", "stride2", "stride1"), RESNET50)
def test_resnet50(
    resnet50: nn.Module, channels: int, count: int, stride2: float, stride1: float
) -> None:
    network = from_rgb(resnet50, channels)
    assert isinstance(network, FrequencyNetwork)
    assert len(network.transform.channels) == channels
    assert parameters(network.network) == count
    assert gmac(network.network, channels, 56) == pytest.approx(stride2, rel=1e-3)
    released = from_rgb(resnet50, channels, layer2_stride=1)
    assert parameters(released.network) == count
    assert gmac(released.network, channels, 56) == pytest.approx(stride1, rel=1e-3)


@pytest.mark.parametrize(("channels", "count", "expected"), MOBILENET_V2)
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_mobilenet_v2(library: str, channels: int, count: int, expected: float) -> None:
    if library == "timm":
        network = pytest.importorskip("timm").create_model("mobilenetv2_100")
    else:
        network = torchvision.models.mobilenet_v2()
    network = from_rgb(network, channels)
    assert parameters(network.network) == count
    assert gmac(network.network, channels, 112) == pytest.approx(expected, rel=1e-3)


def test_gate_parameters(resnet50: nn.Module) -> None:
    network = from_rgb(resnet50, gate=True)
    assert len(network.transform.channels) == 192
    assert parameters(network.gate) == 38_208
    assert parameters(network.network) == 25_588_456


@pytest.mark.parametrize("channels", [24, 64, 192])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_all_other_weights_are_kept(name: str, channels: int) -> None:
    rgb = resnet(name)
    before = copy.deepcopy(rgb.state_dict())
    network = from_rgb(rgb, channels)
    for key, values in rgb.state_dict().items():
        assert torch.equal(values, before[key]), "the network given is left as it was"
    state = network.network.state_dict()
    old = {k: v for k, v in before.items() if not k.startswith(STEM)}
    new = {"layer1.0.downsample"} if name == "resnet18" and channels != 64 else set()
    added = state.keys() - old.keys()
    assert {key.rpartition(".")[0][:19] for key in added} == new
    assert not old.keys() - state.keys()
    shortcut = "layer1.0.downsample.0.weight"
    for key in old:
        if key in ("layer1.0.conv1.weight", shortcut):
            width = old[key].shape[1]
            assert state[key].shape[1] == channels
            if channels <= width:
                assert torch.equal(state[key], old[key][:, :channels])
        else:
            assert torch.equal(state[key], old[key]), key
    assert torch.isfinite(network.eval()(pictures())).all()


def test_the_added_downsample() -> None:
    block = from_rgb(resnet(), 24).network.layer1[0]
    conv, norm = block.downsample
    assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (24, 64, (1, 1))
    assert conv.stride == (1, 1) and conv.bias is None
    fresh = nn.BatchNorm2d(64).state_dict()
    for key, values in norm.state_dict().items():
        assert torch.equal(values, fresh[key]), key
    assert from_rgb(resnet(), 64).network.layer1[0].downsample is None


@pytest.mark.parametrize("name", ["resnet50d", "resnet26t", "seresnet50", "resnext50_32x4d"])
def test_timm_resnets(name: str) -> None:
    """A deep stem; a pooling before the convolution of a downsample, which is found by type."""
    timm = pytest.importorskip("timm")
    rgb = timm.create_model(name, num_classes=5)
    network = from_rgb(rgb, 24)
    state, old = network.network.state_dict(), rgb.state_dict()
    assert state.keys() == {key for key in old if not key.startswith(STEM)}
    changed = {key for key in state if state[key].shape != old[key].shape}
    shortcut = 1 if name in ("resnet50d", "resnet26t") else 0
    assert changed == {"layer1.0.conv1.weight", f"layer1.0.downsample.{shortcut}.weight"}
    assert network.eval()(pictures()).shape == (2, 5)
    released = from_rgb(rgb, 24, layer2_stride=1).eval()
    x = torch.zeros(1, 24, 8, 8)
    maps = nn.Sequential(released.network.layer1, released.network.layer2)
    assert maps(x).shape[-2:] == (8, 8)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_layer2_stride(name: str) -> None:
    sides = []
    for stride in (2, 1):
        network = from_rgb(resnet(name), 24, layer2_stride=stride).network
        x = network.layer2(network.layer1(torch.zeros(1, 24, 8, 8)))
        sides.append(x.shape[-1])
        assert network.eval()(torch.zeros(1, 24, 8, 8)).shape == (1, 5)
    assert sides == [4, 8]


@pytest.mark.parametrize("channels", [24, 32, 48, 192])
def test_mobilenet_weights(channels: int) -> None:
    torch.manual_seed(0)
    rgb = stirred(torchvision.models.mobilenet_v2(num_classes=5))
    state, old = from_rgb(rgb, channels).network.state_dict(), rgb.state_dict()
    assert state.keys() == {key for key in old if not key.startswith("features.0.")}
    few = min(channels, 32)
    for key, values in state.items():
        want = old[key]
        if key == "features.1.conv.0.0.weight" and channels > 32:
            inputs = {48: 3, 192: 6}[channels]
            assert values.shape == (32, inputs, 3, 3)
        elif key.startswith("features.1.conv.0.") and want.dim():
            assert torch.equal(values, want[:few]), key
        elif key == "features.1.conv.1.weight":
            assert torch.equal(values, want[:, :few])
        else:
            assert torch.equal(values, want), key


def test_kaiming() -> None:
    network = from_rgb(resnet("resnet50"), 24, init="kaiming").network
    for conv in (network.layer1[0].conv1, network.layer1[0].downsample[0]):
        expected = (2 / conv.out_channels) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1)
    torch.manual_seed(0)
    mobile = torchvision.models.mobilenet_v2()
    weights = [
        from_rgb(mobile, 32, init=i).network.features[1].conv[0][0].weight
        for i in ("slice", "kaiming")
    ]
    few = from_rgb(mobile, 24, init="kaiming").network.features[1].conv[0]
    assert not torch.equal(few[0].weight, mobile.features[1].conv[0][0].weight[:24])
    assert few[1].num_features == 24
    assert torch.equal(weights[0], mobile.features[1].conv[0][0].weight)
    assert not torch.equal(weights[1], weights[0])


def test_refitted_layers_train() -> None:
    rgb = resnet("resnet50").requires_grad_(False)
    network = from_rgb(rgb, 24).network
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {"layer1.0.conv1.weight", "layer1.0.downsample.0.weight"}


# What flows.


def by_hand(network: FrequencyNetwork, images: Tensor) -> Tensor:
    transform = network.transform
    x = freqops.reference.block_dct(
        images, transform.channels, mean=transform.mean, std=transform.std, chroma=transform.chroma
    )
    return network.network(x)


@pytest.mark.parametrize("channels", [24, [5, 64, 130], ChannelSelection.learned()])
def test_images_and_coefficients(channels: Any) -> None:
    statistics = ChannelStatistics(torch.randn(192), torch.rand(192) * 50 + 10)
    network = from_rgb(resnet(), channels, statistics=statistics, chroma="4:2:0").eval()
    assert network.transform.channels == ChannelSelection.of(channels)
    images = pictures()
    want = by_hand(network, images)
    assert want.std() > 0.01
    torch.testing.assert_close(network(images), want, rtol=1e-3, atol=1e-3)
    coefficients = network.transform(images)
    assert torch.equal(network(coefficients=coefficients), network.network(coefficients))
    assert torch.equal(network(coefficients=coefficients), network(images))
    floats = network(images.float() / 255)
    torch.testing.assert_close(floats, want, rtol=1e-3, atol=1e-3)


def test_default_statistics() -> None:
    network = from_rgb(resnet(), 24)
    assert torch.equal(network.transform.std, ChannelStatistics.photographs().std.float())


def test_gated() -> None:
    network = from_rgb(resnet(), gate=True)
    images = pictures(4)
    output, gate = network(images)
    assert output.shape == (4, 5) and gate.shape == (4, 192)
    assert 0.7 < gate.mean() < 1
    (output.square().mean() + freqops.nn.gate_penalty(gate)).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), name
    network.eval()
    network.gate.forced = ChannelSelection.square(24)
    output, gate = network(images)
    assert gate.sum(1).tolist() == [24] * 4
    coefficients = network.transform(images)
    closed = [c for c in range(192) if c not in set(ChannelSelection.square(24))]
    coefficients[:, closed] = 0
    assert torch.equal(output, network.network(coefficients))
    by_loader = network(coefficients=network.transform(images))
    assert torch.equal(by_loader[0], output) and torch.equal(by_loader[1], gate)


def test_kinds_of_gate() -> None:
    assert from_rgb(resnet(), gate="double").gate.kind == "double"
    network = from_rgb(resnet(), [0, 1, 64], gate="se").eval()
    assert network.gate.channels.indices == (0, 1, 64)
    gate = network(pictures())[1]
    assert gate.shape == (2, 3) and (gate > 0).all() and (gate < 1).all()


# spatial=True.


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("gate", [False, True])
def test_spatial(name: str, gate: bool) -> None:
    rgb = resnet(name)
    network = from_rgb(rgb, 24, gate=gate, spatial=True).eval()
    state, old = network.network.state_dict(), rgb.state_dict()
    assert {k for k in state if k not in old} == (
        {k for k in state if "layer1.0.downsample" in k} if name == "resnet18" else set()
    )
    for key in old:
        if state[key].shape == old[key].shape:
            assert torch.equal(state[key], old[key]), key
        else:
            assert state[key].shape[1] == 64 + 24
            assert torch.equal(state[key][:, :64], old[key][:, :64]), "those of the stem are kept"
    images = pictures(side=72)
    half = interpolate(images.float() / 255, (36, 36), mode="bilinear", antialias=False)
    half = (half - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    torch.testing.assert_close(network.halved(images), half)
    torch.testing.assert_close(network.halved(images[1]), half[1])
    coefficients = network.transform(images)
    if gate:
        coefficients, _ = network.gate(coefficients)
    stem = rgb.eval().maxpool(rgb.relu(rgb.bn1(rgb.conv1(half))))
    assert stem.shape[-2:] == coefficients.shape[-2:] == (9, 9)
    body = network.network
    x = body.layer1(torch.cat([stem, coefficients], 1))
    x = body.layer4(body.layer3(body.layer2(x))).mean((2, 3))
    want = body.fc(x)
    got = network(images)
    torch.testing.assert_close(got[0] if gate else got, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(body(coefficients, half), want, rtol=1e-4, atol=1e-4)
    given = network(coefficients=network.transform(images), spatial=network.halved(images))
    torch.testing.assert_close(given, got)


@pytest.mark.parametrize("size", [(64, 64), (61, 75), (8, 8), (9, 23), (1, 17)])
@pytest.mark.parametrize("channels", [6, 64])
def test_spatial_grids_agree(size: tuple[int, int], channels: int) -> None:
    network = from_rgb(resnet(), channels, spatial=True).eval()
    assert network(torch.zeros(1, 3, *size)).shape == (1, 5)


def test_spatial_timm() -> None:
    """Its head has a pooling that flattens and a dropout; its stem, three convolutions."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    rgb = stirred(timm.create_model("resnet26t", num_classes=5, drop_rate=0.5)).eval()
    rgb.pretrained_cfg["mean"], rgb.pretrained_cfg["std"] = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    network = from_rgb(rgb, 24, spatial=True)
    images = pictures()
    half, coefficients = network.halved(images), network.transform(images)
    assert network.halved.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert network.halved.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    body = network.network
    stem = rgb.maxpool(rgb.act1(rgb.bn1(rgb.conv1(half))))
    x = body.layer1(torch.cat([stem, coefficients], 1))
    want = rgb.forward_head(body.layer4(body.layer3(body.layer2(x))))
    torch.testing.assert_close(network(images), want)
    assert want.std() > 1e-3
    network.train()
    one, two = (network(images) for _ in range(2))
    assert not torch.equal(one, two), "dropout"


# Where it runs.


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compile_fullgraph(gate: bool, spatial: bool, train: bool) -> None:
    torch._dynamo.reset()
    network = from_rgb(resnet(), 24, gate=gate, spatial=spatial).train(train)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    images = pictures()
    torch.manual_seed(3)
    got = compiled(images)
    if gate:
        assert got[1].shape == (2, 24)
        got = got[0]
    if train:
        got.square().sum().backward()
        assert network.network.layer1[0].conv1.weight.grad is not None
    else:
        want = network(images)
        torch.testing.assert_close(got, want[0] if gate else want, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor() -> None:
    torch._dynamo.reset()
    network = from_rgb(resnet(), gate=True).eval()
    images = pictures()
    got, gate = torch.compile(network, fullgraph=True)(images)
    want, want_gate = network(images)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    assert torch.equal(gate, want_gate)


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("spatial", [False, True])
def test_export(gate: bool, spatial: bool) -> None:
    network = from_rgb(resnet(), 24, gate=gate, spatial=spatial).eval()
    n = torch.export.Dim("n", min=2, max=64)
    images = pictures(4)
    program = torch.export.export(network, (images,), dynamic_shapes={"images": {0: n}})
    more = pictures(3)
    got, want = program.module()(more), network(more)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gate", [False, True])
def test_autocast(dtype: torch.dtype, gate: bool) -> None:
    network = from_rgb(resnet(), 24, gate=gate)
    images = pictures()
    with torch.autocast("cpu", dtype):
        output = network(images)
    logits = output[0] if gate else output
    assert logits.dtype == dtype and torch.isfinite(logits).all()
    logits.float().square().mean().backward()
    network.eval()
    with torch.autocast("cpu", dtype):
        got = network(images)
    want = network(images)
    if gate:
        got, want = got[0], want[0]
    torch.testing.assert_close(got.float(), want, rtol=0.1, atol=0.1 * want.std().item())


def test_channels_last() -> None:
    network = from_rgb(resnet("resnet50"), 24).eval()
    images = pictures()
    want = network(images)
    network = network.to(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    network.network.layer2.register_forward_hook(lambda module, args, out: seen.append(out))
    got = network(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    rgb = resnet().to(memory_format=torch.channels_last)
    weight = from_rgb(rgb, 24).network.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert from_rgb(resnet(), 24).network.layer1[0].conv1.weight.is_contiguous()


def test_half_and_meta() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        network = from_rgb(resnet(), 24, gate=True, spatial=True).to(dtype).eval()
        for images in (pictures(), pictures().to(dtype) / 255, pictures().float() / 255):
            assert network(images)[0].dtype == dtype
    network.transform.dtype = torch.float32
    with pytest.raises(RuntimeError, match=r"dtype|type"):
        network(pictures())
    network = from_rgb(resnet().to(torch.bfloat16), 24, spatial=True)
    assert network.halved.mean.dtype == network.network.fc.weight.dtype == torch.bfloat16
    with torch.device("meta"):
        rgb = torchvision.models.resnet18()
    network = from_rgb(rgb, 24, gate=True, spatial=True)
    assert all(values.is_meta for values in network.state_dict().values() if values.dim() != 1)
    assert network.transform.mean.is_meta and network.halved.mean.is_meta


def test_training_mode_follows() -> None:
    assert not from_rgb(resnet().eval(), gate=True).training
    network = from_rgb(resnet(), gate=True, spatial=True)
    assert network.training and network.gate.training and network.network.training


# Constructors.


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101", "resnet152", "mobilenet_v2"])
def test_constructors(name: str) -> None:
    constructor = getattr(freqops.models, name)
    assert constructor.__name__ == name and f"torchvision's ``{name}``" in constructor.__doc__
    with torch.device("meta"):
        want = parameters(torchvision.models.get_model(name, num_classes=7))
    network = constructor(channels=64 if "res" in name else 32, num_classes=7)
    stem = {"res": 3 * 64 * 49 + 128, "mob": 3 * 32 * 9 + 64}[name[:3]]
    assert parameters(network.network) == want - stem
    assert network.recipe.base.arguments == {"num_classes": 7}


def test_constructor_arguments() -> None:
    network = freqops.models.resnet18(
        channels=ChannelSelection.learned(),
        gate=True,
        spatial=True,
        statistics=ChannelStatistics([1.0] * 192, [2.0] * 192),
        chroma="dctnet",
        rounding="jpeg",
        layer2_stride=1,
        num_classes=3,
        zero_init_residual=True,
    )
    assert network.transform.channels == ChannelSelection.learned()
    assert network.transform.chroma == "dctnet" and network.transform.rounding == "jpeg"
    assert network.transform.std[0] == 2 and network.gate is not None
    assert (network.network.layer2[1].bn2.weight == 0).all()
    assert network.network.layer2[0].conv1.stride == (1, 1)
    assert network.halved is not None
    assert network.eval()(pictures())[0].shape == (2, 3)


def test_constructor_init() -> None:
    torch.manual_seed(0)
    drawn = freqops.models.resnet18(24, init="kaiming").network.layer1[0].conv1.weight
    torch.manual_seed(0)
    rgb = torchvision.models.resnet18().layer1[0].conv1.weight
    assert drawn.shape == (64, 24, 3, 3) and not torch.equal(drawn, rgb[:, :24])


def test_weights_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """No download here: what would be downloaded is put in its place."""
    trained = torchvision.models.resnet18().state_dict()
    enum = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda self, *args, **kwargs: trained)
    network = freqops.models.resnet18(24, weights="IMAGENET1K_V1")
    assert torch.equal(network.network.fc.weight, trained["fc.weight"])
    conv = network.network.layer1[0].conv1
    assert torch.equal(conv.weight, trained["layer1.0.conv1.weight"][:, :24])


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 0}, ValueError, r"channels must lie in \[1, 192\], got 0"),
        ({"channels": [1, 192]}, ValueError, "192"),
        ({"gate": "soft"}, ValueError, "from_rgb: gate must be one of 'bernoulli', 'se', 'double'"),
        ({"gate": ""}, ValueError, "from_rgb: gate must be one of 'bernoulli', 'se', 'double'"),
        ({"gate": 1}, TypeError, "from_rgb: gate must be True or False, got 1"),
        ({"spatial": "yes"}, TypeError, "from_rgb: spatial must be True or False, got 'yes'"),
        ({"init": "copy"}, ValueError, "from_rgb: init must be one of .*, got 'copy'"),
        ({"init": "project"}, ValueError, 'init must be "slice" or "kaiming" for resnet'),
        ({"layer2_stride": 3}, ValueError, "layer2_stride must be 1 or 2, got 3"),
        ({"chroma": "4:1:1"}, ValueError, "chroma"),
        ({"rounding": "up"}, ValueError, "rounding"),
        ({"statistics": 3}, TypeError, "statistics must be a ChannelStatistics or None, got int"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_rgb(resnet(), **arguments)


def test_wrong_networks() -> None:
    with pytest.raises(TypeError, match=r"network must be a torch\.nn\.Module, got 'resnet50'"):
        from_rgb("resnet50")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be an RGB network, got a frequency network"):
        from_rgb(from_rgb(resnet(), 24))
    with pytest.raises(ValueError, match=r"got Linear of torch\.nn\.modules\.linear"):
        from_rgb(nn.Linear(3, 3))
    mobile = torchvision.models.mobilenet_v2()
    for arguments in ({"spatial": True}, {"layer2_stride": 1}):
        name = next(iter(arguments))
        with pytest.raises(ValueError, match=f"{name} must be .* for mobilenet_v2"):
            from_rgb(mobile, **arguments)  # type: ignore[arg-type]
    narrow = torchvision.models.mobilenet_v2(width_mult=0.25)
    with pytest.raises(ValueError, match="whose first block adds no input"):
        from_rgb(narrow, 24)
    dilated = resnet("resnet50", replace_stride_with_dilation=[True, True, True])
    with pytest.raises(ValueError, match=r"layer2_stride must be 2 .* has no stride"):
        from_rgb(dilated, 24, layer2_stride=1)


def test_wrong_calls() -> None:
    plain, spatial = from_rgb(resnet(), 24), from_rgb(resnet(), 24, spatial=True)
    images, x = pictures(), torch.zeros(2, 24, 8, 8)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: plain(), "either images or coefficients must be given, got neither"),
        (lambda: plain(images, coefficients=x), "got both"),
        (lambda: plain(coefficients=x, spatial=images), "spatial must be given .* got a tensor"),
        (lambda: spatial(coefficients=x), "spatial must be given beside coefficients .* got None"),
        (lambda: spatial(images, spatial=images), "and else not, got a tensor"),
    ]
    for call, message in calls:
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(ValueError, match="images must be"):
        spatial(x)
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\], got \[3, 64, 64\]"):
        plain(images[0])


def test_coefficients_in_the_wrong_place_or_shape() -> None:
    """As a compiler says it too, within its own message."""
    images, x = pictures(), torch.zeros(2, 24, 8, 8)
    images_or_x = r"images must be .*, got \[2, 24, 8, 8\]: .* network\(coefficients=x\)"
    expected = r"FrequencyNetwork: coefficients must be \[N, 24, gh, gw\], got "
    for gate in (False, True):
        plain = from_rgb(resnet(), 24, gate=gate)
        torch._dynamo.reset()
        compiled = torch.compile(plain, fullgraph=True, backend="eager", dynamic=False)
        for network, error in ((plain, ValueError), (compiled, torch._dynamo.exc.Unsupported)):
            with pytest.raises(error, match=images_or_x):
                network(x)
            for wrong, got in (
                (x[:, :23], r"\[2, 23, 8, 8\]"),
                (x[0], r"\[24, 8, 8\]"),
                (images.float(), r"\[2, 3, 64, 64\]"),
            ):
                with pytest.raises(error, match=expected + got):
                    network(coefficients=wrong)
        with pytest.raises(TypeError, match=r"coefficients must be floating point, got torch\.u"):
            plain(coefficients=x.byte())
        with pytest.raises(TypeError, match="coefficients must be a tensor, got a list"):
            plain(coefficients=[x])
        with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\] .*\[2, 24, 8, 8\]$"):
            plain(x.byte())


@pytest.mark.parametrize("missing", ["torchvision", "timm"])
def test_without_a_library(missing: str) -> None:
    """The rest of freqops works; the models say what to install."""
    code = f"""
import sys
sys.modules[{missing!r}] = None
import torch, freqops
freqops.block_dct(torch.zeros(1, 3, 8, 8))
if {missing!r} == "torchvision":
    try:
        freqops.models.resnet50()
    except ImportError as error:
        assert "freqops.models.resnet50 needs torchvision" in str(error), error
        assert "pip install 'freqops[models]'" in str(error), error
    else:
        raise AssertionError
else:
    freqops.models.resnet18()
"""
    folder = os.path.dirname(os.path.dirname(freqops.__file__))
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": folder}
    )


def test_import_brings_no_zoo() -> None:
    code = "import sys, freqops; assert not {'torchvision', 'timm'} & sys.modules.keys()"
    folder = os.path.dirname(os.path.dirname(freqops.__file__))
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": folder}
    )
