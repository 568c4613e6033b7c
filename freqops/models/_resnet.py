"""ResNet, ResNeXt and Wide ResNet of torchvision and timm: the stem goes, layer1 reads channels.

    conv1, bn1, relu, maxpool   removed: of a picture twice as large, each block of 8x8 stands
                                for a pixel of the 56x56 map that they made
    layer1.0.conv1              C inputs instead of 64
    layer1.0.downsample         its convolution likewise; where there is none (BasicBlock) and C is
                                not 64, a 1x1 convolution and a norm are added

Everything is found by name and type, so that the bodies of detectors and segmenters, which hold the
same layers in an ``IntermediateLayerGetter``, are handled too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from freqops.models._layers import (
    columns,
    convolution,
    keep_columns,
    plain_convolution,
    replace,
    with_weight,
)

__all__ = ["SpatialResNet", "keep", "matches", "refit", "remove_stem", "stem_width"]

STEM = ("conv1", "bn1", "relu", "act1", "maxpool")
BLOCK = "layer1.0"
MAIN, SHORTCUT = f"{BLOCK}.conv1", f"{BLOCK}.downsample"


def matches(network: nn.Module) -> bool:
    """Whether the network, or the body of one, has the layers of a ResNet."""
    names = dict(network.named_children())
    block = names.get("layer1")
    return (
        {"conv1", "bn1", "maxpool", "layer1", "layer2"} <= names.keys()
        and isinstance(block, nn.Sequential)
        and type(getattr(block[0], "conv1", None)) is nn.Conv2d
        and hasattr(block[0], "downsample")
    )


def stem_width(network: nn.Module) -> int:
    """Channels that the stem hands to layer1: 64, or 128 for some of timm."""
    return plain_convolution(network, MAIN).in_channels


def remove_stem(network: nn.Module) -> str:
    """Makes nothing of the stem's layers. Says so."""
    names = [name for name in STEM if name in dict(network.named_children())]
    for name in names:
        replace(network, name, nn.Identity())
    return f"{', '.join(names)}: removed"


def refit(
    network: nn.Module, channels: int, init: str, layer2_stride: int, beside: int = 0
) -> list[str]:
    """Fits layer1 to channels, behind ``beside`` channels of the stem that it reads as before.

    Returns:
        The changes, a layer a line.

    Raises:
        ValueError: layer2 cannot be given the stride.
    """
    changes = []
    names = [MAIN]
    # named_modules has no downsample that is None.
    shortcut = convolution(network, SHORTCUT) if SHORTCUT in dict(network.named_modules()) else None
    if shortcut is not None:
        names.append(shortcut)
    width = stem_width(network)
    for name in names:
        conv = plain_convolution(network, name)
        read = conv.weight.detach()[:, :beside]
        new, how = columns(conv.weight, channels, init)
        replace(network, name, with_weight(conv, torch.cat([read, new], 1)))
        changes.append(f"{name}: {width} -> {beside + channels} channels, {how}")
    if shortcut is None and beside + channels != width:
        replace(network, SHORTCUT, _projection(network, beside + channels, width))
        changes.append(f"{SHORTCUT}: added, {beside + channels} -> {width} channels, drawn anew")
    if layer2_stride == 1:
        changes += _unstride(network)
    return changes


def keep(network: nn.Module, positions: Sequence[int], beside: int = 0) -> list[int]:
    """Leaves layer1 the inputs at the given positions behind ``beside`` channels of the stem.

    A shortcut that was the identity becomes a 1x1 convolution that puts each channel in its place,
    with zeros in the others.

    Returns:
        The positions.
    """
    width = stem_width(network)
    kept = [*range(beside), *(beside + position for position in positions)]
    keep_columns(network, MAIN, kept)
    if SHORTCUT in dict(network.named_modules()):
        shortcut = convolution(network, SHORTCUT)
        assert shortcut is not None
        keep_columns(network, shortcut, kept)
    elif kept != list(range(width)):
        main = plain_convolution(network, MAIN)
        conv = nn.Conv2d(len(kept), width, 1, bias=False, device="meta")
        places = torch.eye(width, dtype=main.weight.dtype, device=main.weight.device)[:, kept]
        conv.weight = nn.Parameter(places[:, :, None, None].clone())
        replace(network, SHORTCUT, nn.Sequential(conv).train(main.training))
    return list(positions)


def _projection(network: nn.Module, channels: int, width: int) -> nn.Sequential:
    """What a BasicBlock adds to its result where its input does not fit."""
    block = network.get_submodule(BLOCK)
    main = plain_convolution(network, MAIN)
    norm = copy.deepcopy(block.get_submodule("bn2")).requires_grad_(True)
    reset = getattr(norm, "reset_parameters", None)
    if callable(reset):
        reset()
    for name, values in norm.named_buffers():  # a frozen one would scale by what bn2 saw
        if values.dim() == 1:
            nn.init.constant_(values, name in ("weight", "running_var"))
    weight, _ = columns(main.weight.new_empty(width, 0, 1, 1), channels, "kaiming")
    conv = nn.Conv2d(channels, width, 1, main.stride[0], bias=False, device="meta")
    conv.weight = nn.Parameter(weight)
    return nn.Sequential(conv, norm).train(block.training)


def _unstride(network: nn.Module) -> list[str]:
    """Gives layer2 stride 1, as the released networks have it."""
    changes = []
    for name, layer in list(network.get_submodule("layer2.0").named_modules(prefix="layer2.0")):
        if getattr(layer, "stride", None) in (2, (2, 2)):
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
            elif isinstance(layer, nn.AvgPool2d) and layer.kernel_size in (3, (3, 3)):
                layer.stride = 1
            elif isinstance(layer, nn.AvgPool2d):  # of 2x2, which timm leaves out at stride 1
                replace(network, name, nn.Identity())
            elif list(layer.children()):  # a block says its stride
                layer.stride = 1  # type: ignore[assignment]
                continue
            else:
                raise ValueError(
                    f"layer2_stride must be 2 for this network, whose {name} is a "
                    f"{type(layer).__name__}, got 1"
                )
            changes.append(f"{name}: stride 2 -> 1")
    if not changes:
        raise ValueError("layer2_stride must be 2 for this network, whose layer2 has no stride")
    return changes


class SpatialResNet(nn.Module):
    """A ResNet that reads the picture and its frequencies: the layers of one, under their names.

    torch.cat([maxpool(relu(bn1(conv1(spatial)))), coefficients], 1) goes into layer1.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        children = dict(network.named_children())
        names = list(children)
        first, last = names.index("layer1"), names.index("layer4")
        self._stem, self._layers = names[:first], names[first : last + 1]
        self._head = names[last + 1 :]
        self._dropout = float(getattr(network, "drop_rate", 0.0))  # timm's, before fc
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, coefficients: Tensor, spatial: Tensor) -> Tensor:
        """Scores.

        Args:
            coefficients: (N, C, gh, gw), normalised, of pictures (N, 3, H, W).
            spatial: (N, 3, ceil(H/2), ceil(W/2)), the halved pictures, normalised.
        """
        for name in self._stem:
            spatial = self.get_submodule(name)(spatial)
        x = torch.cat([spatial, coefficients], 1)
        for name in self._layers:
            x = self.get_submodule(name)(x)
        for name in self._head:
            if name == "fc":
                x = nn.functional.dropout(x.flatten(1), self._dropout, self.training)
            x = self.get_submodule(name)(x)
        return x
