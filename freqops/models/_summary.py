"""What a network reads and what it costs: layers changed, parameters, GMAC, size of its input."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from freqops._arguments import describe, integer
from freqops.channels import BLOCK
from freqops.models import _dense, _general
from freqops.models._layers import replace
from freqops.models._network import FrequencyNetwork

__all__ = ["Frame", "Size", "Summary", "check_whole", "frame_of", "summarize"]

USUAL_INPUT = 3 * 224 * 224
"""Numbers in the pictures that RGB networks read: the unit of ``Summary.input_size``."""

SIDES = {"resnet": 448, "mobilenet_v2": 896, "detector": 800, "segmenter": 520}
"""Of the pictures, where no size is given; the paper's for classification, torchvision's else."""

Size: TypeAlias = tuple[int, int]

Frame: TypeAlias = FrequencyNetwork | _dense.FrequencyStem


@dataclasses.dataclass(frozen=True)
class Summary:
    """What ``summarize`` found; ``str`` of it is a report of a few lines."""

    name: str
    """Of the network: as a constructor called it, else its class."""
    changes: tuple[str, ...]
    """What differs from the RGB network, a layer a line; empty for an RGB network."""
    channels: int
    """Channels that the transform computes, those that are repeated for padding counted each time;
    3 for an RGB network."""
    parameters: int
    """Numbers in the parameters of all that is not the gate."""
    gate_parameters: int
    """Numbers in the parameters of the gate; 0 without one."""
    gmacs: float
    """10^9 multiply-accumulates of convolutions and matrix products for one picture, behind the
    transform and the gate; of detectors and segmenters, in ``backbone``."""
    part: str
    """What gmacs is of: "network", or of detectors and segmenters "backbone"."""
    size: Size
    """(height, width) of the picture."""
    grid: Size
    """(height, width) of what the first layer reads: blocks, or pixels of an RGB network."""
    halved: Size | None
    """(height, width) of the halved picture that is read beside the grid, with ``spatial=True``."""
    input_size: float
    """Numbers read by the first layers, in units of a picture of 224 x 224, 3 * 224^2."""

    def __str__(self) -> str:
        read = f"{self.channels} x {_by(self.grid)}"
        if self.halved is not None:
            read += f" and 3 x {_by(self.halved)}"
        gate = f", and {self.gate_parameters:,} of the gate" if self.gate_parameters else ""
        changed = "\n            ".join(self.changes or ["nothing"])
        lines = [
            f"network     {self.name}",
            f"changed     {changed}",
            f"picture     3 x {_by(self.size)}",
            f"input       {read}, {self.input_size:.3f} of 3 x 224 x 224",
            f"parameters  {self.parameters:,}{gate}",
            f"GMAC        {self.gmacs:.4f}{'' if self.part == 'network' else f' ({self.part})'}",
        ]
        return "\n".join(lines)


def summarize(network: nn.Module, size: int | Size | None = None) -> Summary:
    """Layers changed, parameters, GMAC and normalised input size of a network.

    normalised input size = numbers that the first layers read / (3 * 224^2): 24 channels on
    56 x 56 blocks have 0.5, and with ``spatial=True`` the halved picture counts as well.

    Nothing is computed: shapes are followed through a copy without data, on any device, in a
    fraction of a second. The network is left as it is.

    Args:
        network: one that freqops made, or an RGB network for comparison. Of detectors and
            segmenters only ``backbone`` is followed.
        size: of the picture, a side or (height, width). None: 448 for a ResNet, 896 for a
            MobileNetV2, for any other classifier what its stem demands; 800 for detectors, 520 for
            segmenters. For an RGB network what it was made for, or 224 where it does not say.

    Returns:
        The Summary.

    Raises:
        TypeError: network is no module, size is no integer and no two.
        ValueError: size is less than 1, or the network does not take it.

    Example:
        >>> import torchvision  # doctest: +SKIP
        >>> from freqops.models import from_rgb, summarize  # doctest: +SKIP
        >>> print(summarize(from_rgb(torchvision.models.resnet50(), 24)))  # doctest: +SKIP
        network     ResNet
        changed     conv1, bn1, relu, maxpool: removed
                    layer1.0.conv1: 64 -> 24 channels, first columns kept
                    layer1.0.downsample.0: 64 -> 24 channels, first columns kept
        picture     3 x 448 x 448
        input       24 x 56 x 56, 0.500 of 3 x 224 x 224
        parameters  25,534,696
        GMAC        3.9310
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"summarize: network must be a torch.nn.Module, got {describe(network)}")
    frame = frame_of(network)
    if frame is not None:
        check_whole("summarize", network, frame)
    picture = _usual_size(network, frame) if size is None else _checked(size)
    dense = isinstance(frame, _dense.FrequencyStem) or _dense.kind_of(network) is not None
    whole = frame.network if isinstance(frame, FrequencyNetwork) else network
    followed = whole.get_submodule("backbone") if dense else whole
    operations, grid, halved = _follow(frame, followed, picture)
    gate = 0 if frame is None or frame.gate is None else _numbers(frame.gate)
    channels = 3 if frame is None else len(frame.transform.channels)
    read = channels * math.prod(grid) + (3 * math.prod(halved) if halved is not None else 0)
    base = None if frame is None else frame.recipe.base
    return Summary(
        name=type(whole).__name__ if base is None else f"{base.name} ({base.library})",
        changes=() if frame is None else frame.recipe.changes,
        channels=channels,
        parameters=_numbers(whole) - (gate if dense else 0),
        gate_parameters=gate,
        gmacs=operations / 2 / 1e9,
        part="backbone" if dense else "network",
        size=picture,
        grid=grid,
        halved=halved,
        input_size=read / USUAL_INPUT,
    )


def frame_of(network: nn.Module) -> Frame | None:
    """What holds the transform, the gate and the recipe of a network; None for an RGB network."""
    for module in network.modules():
        if isinstance(module, (FrequencyNetwork, _dense.FrequencyStem)):
            return module
    return None


def check_whole(function: str, network: nn.Module, frame: Frame) -> None:
    """That a network is the one freqops made, not what is around it or a part of it."""
    place = next(name for name, module in network.named_modules() if module is frame)
    dense = isinstance(frame, _dense.FrequencyStem)
    if not (place.startswith("backbone.") if dense else place == ""):
        raise ValueError(
            f"{function}: network must be one that freqops.models made, "
            f"got {describe(network)}, which is around one or part of one"
        )


def _checked(size: object) -> Size:
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"summarize: size must be a side or (height, width), got {size!r}")
    height, width = (integer("summarize", "size", value) for value in pair)
    if height < 1 or width < 1:
        raise ValueError(f"summarize: size must be at least 1, got {size!r}")
    return height, width


def _usual_size(network: nn.Module, frame: Frame | None) -> Size:
    """Of the pictures that the network is for."""
    family = _dense.kind_of(network) if frame is None else frame.recipe.family
    if family in SIDES:
        return SIDES[family], SIDES[family]
    if isinstance(frame, FrequencyNetwork):
        return _general.side(frame.network)
    for module in network.modules():  # a patch embedding of timm, torchvision's ViT
        made_for = getattr(module, "img_size", None) or getattr(module, "image_size", None)
        if isinstance(made_for, (int, tuple)):
            return _checked(made_for)
    settings = getattr(network, "pretrained_cfg", None) or {}  # timm's
    height, width = settings.get("input_size", (3, _general.USUAL_SIDE, _general.USUAL_SIDE))[1:]
    return height, width


def _follow(frame: Frame | None, network: nn.Module, size: Size) -> tuple[int, Size, Size | None]:
    """Operations of a network, or of a backbone, for one picture; its grid and halved picture."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(fake):
        # A copy, because some networks keep what they computed. Its tensors have no data.
        network = copy.deepcopy(network)
    # FlopCounterMode does not know the CPU's fused attention, nor the fast path of
    # nn.MultiheadAttention, which is for evaluation without gradients.
    network.eval().requires_grad_(True)
    with fake, torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        halved = None
        weight = next(network.parameters())
        x = weight.new_empty(1, 3, *size)
        inputs: tuple[Tensor, ...] = (x,)
        if isinstance(frame, FrequencyNetwork):
            grid = [-(-pixels // BLOCK) for pixels in size]
            inputs = (weight.new_empty(1, len(frame.transform.channels), *grid),)
            if frame.halved is not None:
                halved = (size[0] + 1) // 2, (size[1] + 1) // 2
                inputs = (*inputs, weight.new_empty(1, 3, *halved))
        elif frame is not None:
            for name, stem in network.named_modules():
                if isinstance(stem, _dense.FrequencyStem):
                    stem.gate = None
                    inputs = (stem(x),)
                    replace(network, name, nn.Identity())
                    break
        try:
            with FlopCounterMode(display=False) as counter:
                network(*inputs)
        except Exception as error:
            words = " ".join(str(error).split())[:200]
            raise ValueError(
                f"summarize: size must be one that {type(network).__name__} takes, got {size}: "
                f"it says {words!r}"
            ) from error
    rows, columns = inputs[0].shape[-2:]
    return counter.get_total_flops(), (rows, columns), halved


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
