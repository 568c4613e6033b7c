"""summarize: layers changed, parameters, GMAC and input size, without running the network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from freqops import ChannelSelection
from freqops.models import freeze, from_rgb, summarize
from freqops.models._summary import frame_of

torchvision = pytest.importorskip("torchvision")


def resnet50() -> nn.Module:
    with torch.device("meta"):  # nothing is read of the weights
        return torchvision.models.resnet50()


def mobilenet() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.mobilenet_v2()


def detector() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None
        )


def segmenter() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None)


# The paper's networks, from REFERENCE: channels, parameters, GMAC, normalised input size.
PAPER: list[tuple[Callable[[], nn.Module], int, int, float, float]] = [
    (resnet50, 24, 25_534_696, 3.931, 0.5),
    (resnet50, 48, 25_542_376, 3.955, 1.0),
    (resnet50, 64, 25_547_496, 3.971, 4 / 3),
    (resnet50, 192, 25_588_456, 4.100, 4.0),
    (mobilenet, 6, 3_503_242, 0.2818, 0.5),
    (mobilenet, 12, 3_503_404, 0.2837, 1.0),
    (mobilenet, 24, 3_503_728, 0.2874, 2.0),
    (mobilenet, 192, 3_505_384, 0.3080, 16.0),
]


@pytest.mark.parametrize(("rgb", "channels", "parameters", "gmacs", "size"), PAPER)
def test_the_papers_numbers(
    rgb: Callable[[], nn.Module], channels: int, parameters: int, gmacs: float, size: float
) -> None:
    network = from_rgb(rgb(), channels)
    found = summarize(network)
    assert found.channels == channels and found.changes == network.recipe.changes
    assert (found.parameters, found.gate_parameters) == (parameters, 0)
    assert found.gmacs == pytest.approx(gmacs, rel=1e-3)
    assert found.input_size == pytest.approx(size)
    side = 448 if rgb is resnet50 else 896
    assert (found.size, found.grid, found.halved) == ((side, side), (side // 8, side // 8), None)


def test_rgb_networks_for_comparison() -> None:
    found = summarize(resnet50())
    assert (found.changes, found.channels, found.part) == ((), 3, "network")
    assert (found.parameters, found.input_size) == (25_557_032, 1.0)
    assert found.gmacs == pytest.approx(4.089, rel=1e-3)
    assert summarize(mobilenet()).gmacs == pytest.approx(0.3008, rel=1e-3)
    assert summarize(resnet50(), 448).input_size == 4.0


def test_the_gate_is_counted_apart() -> None:
    plain, gated = (summarize(from_rgb(resnet50(), 192, gate=gate)) for gate in (False, True))
    assert gated == dataclasses.replace(plain, gate_parameters=38_208)


def test_the_halved_picture_is_read_too() -> None:
    network = from_rgb(torchvision.models.resnet18(num_classes=5), 24, spatial=True)
    found = summarize(network)
    assert found.halved == (224, 224) and found.input_size == 1.5
    assert found.parameters == sum(p.numel() for p in network.network.parameters())
    # What counts is the network on both inputs.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.network.eval()(torch.zeros(1, 24, 5, 7), torch.zeros(1, 3, 19, 27))
    assert summarize(network, (37, 53)).gmacs == counter.get_total_flops() / 2e9


def test_size_is_a_side_or_two() -> None:
    network = from_rgb(resnet50(), 24)
    found = summarize(network, (65, 120))
    assert (found.size, found.grid) == ((65, 120), (9, 15))
    assert found.input_size == 24 * 9 * 15 / (3 * 224**2)
    assert summarize(network, 64) == summarize(network, (64, 64))


@pytest.mark.parametrize(("rgb", "side", "part"), [(detector, 800, 200), (segmenter, 520, 130)])
def test_of_dense_networks_the_backbone(rgb: Callable[[], nn.Module], side: int, part: int) -> None:
    reference, network, gated = rgb(), from_rgb(rgb(), 24), from_rgb(rgb(), 24, gate=True)
    found = summarize(network)
    assert found.part == "backbone"
    assert (found.size, found.grid, found.channels) == ((side, side), (part, part), 24)
    assert found.input_size == 24 * part**2 / (3 * 224**2)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    gate = sum(p.numel() for p in gated.parameters()) - found.parameters
    assert gate == 24 * 24 + 24 + 2 * 24 + 2 * 2 * 24
    # The 1x1 convolutions of the gate are not those of the backbone.
    expected = dataclasses.replace(found, gate_parameters=gate)
    assert summarize(gated) == expected
    frame = frame_of(gated)
    assert frame is not None and frame.take() is None  # no gate is left from following it
    # The RGB backbone: its stem, 7x7 of 3 to 64 at stride 2, and 40 more columns of two layers.
    rgb_found = summarize(reference)
    assert (rgb_found.part, rgb_found.size, rgb_found.changes) == ("backbone", (side, side), ())
    more = 147 * 64 * (side // 2) ** 2 + 40 * (64 + 256) * part**2
    assert rgb_found.gmacs - found.gmacs == pytest.approx(more / 1e9, rel=1e-6)


def test_attention_counts() -> None:
    # 5 tokens of 64, 2 layers: keys by queries, weights by values; in, out and both of the MLP.
    network = torchvision.models.VisionTransformer(32, 16, 2, 2, 64, 256, num_classes=5)
    layers = 2 * (2 * 5 * 5 * 64 + 5 * 12 * 64**2)
    expected = (layers + 4 * 64 * 3 * 16 * 16 + 64 * 5) / 1e9
    assert summarize(network).gmacs == expected
    # Also where nothing is trained, which is when torch takes its fused layer.
    assert summarize(network.requires_grad_(False)).gmacs == expected
    timm = pytest.importorskip("timm")
    vit = timm.create_model("test_vit", patch_size=16, img_size=32, num_classes=5)
    for block in vit.blocks:
        assert block.attn.fused_attn  # the fused kernel
    layers = sum(
        2 * 5 * 5 * 64 + 5 * 4 * 64**2 + 2 * 5 * 64 * block.mlp.fc1.out_features
        for block in vit.blocks
    )
    assert summarize(vit).gmacs == pytest.approx((layers + 4 * 64 * 3 * 16 * 16 + 64 * 5) / 1e9)


def test_general_networks_say_their_size() -> None:
    timm = pytest.importorskip("timm")
    rgb = timm.create_model("test_vit", patch_size=16, img_size=(64, 96))
    network = from_rgb(rgb, 24)
    found = summarize(network)
    assert (found.size, found.grid) == ((64, 96), (8, 12))
    assert summarize(timm.create_model("test_vit")).size == (160, 160)
    with pytest.raises(ValueError, match=r"size must be one that VisionTransformer takes, got \("):
        summarize(network, 100)


def test_padding_counts_as_it_is_read() -> None:
    network = from_rgb(torchvision.models.mobilenet_v2(num_classes=5), gate=True)
    frozen = freeze(network, selection=[0, 1, 6], say=None)
    found = summarize(frozen)
    # Two inputs of each of 32 groups.
    assert found.channels == 64 and found.input_size == 16 / 3
    assert found.gate_parameters == 0
    assert found.changes[-1] == "gate: removed, 3 of 192 channels kept"


class Watchful(nn.Module):
    """Keeps what it computed, as some networks keep tables of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout()
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.drop(self.norm(self.conv(x)))
        return self.seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_network_stays_as_it_was(dtype: torch.dtype) -> None:
    network = Watchful().to(dtype).train()
    network.norm.eval()
    network.conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    before = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    assert summarize(network).gmacs == 27 * 8 * 224**2 / 1e9
    assert network.seen is None
    assert [module.training for module in network.modules()] == [True, True, False, True]
    assert [p.requires_grad for p in network.parameters()] == [True, False, True, True]
    assert all(type(p) is nn.Parameter for p in network.parameters())
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name]) and values.device.type == "cpu"
    assert torch.equal(torch.get_rng_state(), random)


def test_the_report() -> None:
    found = summarize(from_rgb(resnet50(), 24, gate=True))
    assert str(found).splitlines() == [
        "network     ResNet",
        "changed     conv1, bn1, relu, maxpool: removed",
        "            layer1.0.conv1: 64 -> 24 channels, first columns kept",
        "            layer1.0.downsample.0: 64 -> 24 channels, first columns kept",
        "picture     3 x 448 x 448",
        "input       24 x 56 x 56, 0.500 of 3 x 224 x 224",
        "parameters  25,534,696, and 744 of the gate",
        "GMAC        3.9310",
    ]
    lines = str(summarize(segmenter())).splitlines()
    assert lines[:2] == ["network     FCN", "changed     nothing"]
    assert lines[-1].startswith("GMAC") and lines[-1].endswith(" (backbone)")
    spatial = from_rgb(torchvision.models.resnet18(), ChannelSelection([0, 64]), spatial=True)
    assert "input       2 x 4 x 8 and 3 x 16 x 32, " in str(summarize(spatial, (32, 64)))


def test_constructors_are_named() -> None:
    from freqops.models import resnet18

    found = summarize(resnet18(channels=24, num_classes=5))
    assert str(found).splitlines()[0] == "network     resnet18 (torchvision)"


REFUSED: list[tuple[type[Exception], str, Callable[[nn.Module], Any]]] = [
    (TypeError, "network must be a torch.nn.Module, got None", lambda n: summarize(None)),
    (TypeError, "size must hold integers, got 2.5", lambda n: summarize(n, 2.5)),
    (TypeError, "size must hold integers, got 'large'", lambda n: summarize(n, "large")),
    (ValueError, "size must be at least 1, got 0", lambda n: summarize(n, 0)),
    (ValueError, r"size must be at least 1, got \(8, -1\)", lambda n: summarize(n, (8, -1))),
    (ValueError, r"a side or \(height, width\), got \(8, 8, 8\)", lambda n: summarize(n, (8,) * 3)),
]


@pytest.mark.parametrize(("kind", "message", "call"), REFUSED, ids=[row[1] for row in REFUSED])
def test_refuses(kind: type[Exception], message: str, call: Callable[[nn.Module], Any]) -> None:
    with pytest.raises(kind, match=message):
        call(Watchful())
