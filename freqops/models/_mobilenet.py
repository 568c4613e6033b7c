"""MobileNetV2 of torchvision and timm: the stem goes, the first inverted residual reads channels.

With W the stem's width, 32, and C channels:

    C <= W   the depthwise convolution on C channels, its norm and the projection behind it sliced
    C >  W   a grouped convolution C -> W with gcd(C, W) groups instead of the depthwise one

A picture four times as large has as many 8x8 blocks as the stem, of stride 2, had pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from freqops._arguments import describe
from freqops.models._layers import (
    columns,
    keep_columns,
    plain_convolution,
    replace,
    sliced_norm,
    with_weight,
)

__all__ = ["keep", "matches", "refit"]


class Names(NamedTuple):
    """Dotted names of the layers concerned."""

    stem: tuple[str, ...]
    depthwise: str
    norm: str
    activation: str | None
    """None where the norm holds it."""
    project: str
    next_norm: str


TORCHVISION = Names(
    ("features.0",),
    "features.1.conv.0.0",
    "features.1.conv.0.1",
    "features.1.conv.0.2",
    "features.1.conv.1",
    "features.1.conv.2",
)
TIMM = Names(
    ("conv_stem", "bn1"),
    "blocks.0.0.conv_dw",
    "blocks.0.0.bn1",
    None,
    "blocks.0.0.conv_pw",
    "blocks.0.0.bn2",
)


def _names(network: nn.Module) -> Names | None:
    modules = dict(network.named_modules())
    kinds = {"MobileNetV2": TORCHVISION, "EfficientNet": TIMM}
    names = kinds.get(type(network).__name__)
    if names is None or not {*names.stem, *names[1:3], *names[4:]} <= modules.keys():
        return None
    if names is TIMM and not str(
        getattr(network, "default_cfg", {}).get("architecture", "")
    ).startswith("mobilenetv2"):
        return None
    return names


def matches(network: nn.Module) -> bool:
    """Whether the network is a MobileNetV2."""
    return _names(network) is not None


def refit(network: nn.Module, channels: int, init: str) -> list[str]:
    """Removes the stem and fits the first inverted residual to channels.

    Returns:
        The changes, a layer a line.

    Raises:
        ValueError: the first inverted residual adds its input, so that it cannot change.
    """
    names = _names(network)
    assert names is not None
    depthwise = plain_convolution(network, names.depthwise)
    width = depthwise.in_channels
    if width == plain_convolution(network, names.project).out_channels:
        raise ValueError(
            "network must be a MobileNetV2 whose first block adds no input, "
            f"got one of {width} channels in and out"
        )
    for name in names.stem:
        replace(network, name, nn.Identity())
    changes = [f"{', '.join(names.stem)}: removed"]
    if channels > width:
        groups = math.gcd(channels, width)
        weight, how = columns(depthwise.weight, channels // groups, init)
        replace(network, names.depthwise, with_weight(depthwise, weight, groups))
        changes.append(
            f"{names.depthwise}: {width} -> {channels} channels in {groups} groups, {how}"
        )
    elif channels < width:
        first = range(channels)
        if init == "slice":
            weight, how = depthwise.weight.detach()[:channels], "first channels kept"
        else:
            weight, how = columns(depthwise.weight[:channels], 1, init)
        replace(network, names.depthwise, with_weight(depthwise, weight, channels))
        replace(network, names.norm, sliced_norm(network.get_submodule(names.norm), first))
        keep_columns(network, names.project, first)
        changes += [
            f"{names.depthwise}: {width} -> {channels} channels, {how}",
            f"{names.norm}: {width} -> {channels} channels, first channels kept",
            f"{names.project}: {width} -> {channels} channels, first columns kept",
        ]
    elif init == "kaiming":
        weight, how = columns(depthwise.weight, 1, init)
        replace(network, names.depthwise, with_weight(depthwise, weight, width))
        changes.append(f"{names.depthwise}: {how}")
    return changes


def keep(network: nn.Module, positions: Sequence[int]) -> list[int]:
    """Leaves the first layer the inputs at the given positions.

    Depthwise: a closed channel was zero and came out of the norm and the activation as a constant,
    which the projection took into the next norm; it is taken off that norm's running mean.
    Grouped: every group is padded to as many inputs as the fullest has, with a position that is
    there and weights of zero.

    Returns:
        The positions that the first layer now reads, some of them repeated for padding.
    """
    names = _names(network)
    assert names is not None
    conv = plain_convolution(network, names.depthwise)
    if conv.groups == conv.in_channels == conv.out_channels:
        _keep_depthwise(network, names, positions)
        return list(positions)
    return _keep_grouped(network, names.depthwise, positions)


def _keep_depthwise(network: nn.Module, names: Names, positions: Sequence[int]) -> None:
    conv = plain_convolution(network, names.depthwise)
    norm, next_norm = (network.get_submodule(name) for name in (names.norm, names.next_norm))
    for name, layer in ((names.norm, norm), (names.next_norm, next_norm)):
        if "running_mean" not in dict(layer.named_buffers()):
            raise ValueError(
                f"freeze: {name} must be a norm with running statistics, or no static network is "
                f"equal, got {describe(layer)}"
            )
    closed = [p for p in range(conv.in_channels) if p not in set(positions)]
    with torch.no_grad():
        was_training = norm.training
        constant = norm.eval()(conv.weight.new_zeros(1, conv.in_channels, 1, 1))
        norm.train(was_training)
        if names.activation is not None:
            constant = network.get_submodule(names.activation)(constant)
        project = plain_convolution(network, names.project).weight.flatten(1)
        mean = next_norm.get_buffer("running_mean")
        mean -= project[:, closed] @ constant.flatten()[closed]
    replace(
        network, names.depthwise, with_weight(conv, conv.weight[list(positions)], len(positions))
    )
    replace(network, names.norm, sliced_norm(norm, positions))
    keep_columns(network, names.project, positions)


def _keep_grouped(network: nn.Module, name: str, positions: Sequence[int]) -> list[int]:
    conv = plain_convolution(network, name)
    groups, inputs = conv.groups, conv.in_channels // conv.groups
    outputs = conv.out_channels // groups
    held = [[p for p in positions if p // inputs == group] for group in range(groups)]
    fullest = max(len(group) for group in held)
    weight = conv.weight.new_zeros(conv.out_channels, fullest, *conv.kernel_size)
    read: list[int] = []
    for number, group in enumerate(held):
        rows = slice(number * outputs, (number + 1) * outputs)
        weight[rows, : len(group)] = conv.weight.detach()[rows, [p % inputs for p in group]]
        padding = group[0] if group else positions[0]
        read += group + [padding] * (fullest - len(group))
    replace(network, name, with_weight(conv, weight, groups))
    return read
