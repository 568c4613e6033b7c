"""Convolutions and norms with other input channels, and modules by their dotted names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from freqops._arguments import describe

__all__ = [
    "INITS",
    "columns",
    "convolution",
    "keep_columns",
    "plain_convolution",
    "replace",
    "sliced_norm",
    "with_weight",
]

INITS = ("slice", "kaiming", "project")
"""Rules for the weights of re-fitted layers; "project" is for patch embeddings."""

Norm = TypeVar("Norm", bound=nn.Module)


def plain_convolution(network: nn.Module, name: str) -> nn.Conv2d:
    """The convolution of that name. One that standardises its weights, say, cannot be re-fitted.

    Raises:
        ValueError: it is something else.
    """
    layer = network.get_submodule(name)
    if type(layer) is not nn.Conv2d:
        raise ValueError(f"{name} must be a Conv2d, got {describe(layer)}")
    return layer


def convolution(network: nn.Module, name: str) -> str | None:
    """The name of the first convolution at or below a name, found by type."""
    for below, layer in network.get_submodule(name).named_modules():
        if isinstance(layer, nn.Conv2d):
            return f"{name}.{below}" if below else name
    return None


def replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Puts a layer in the place of the one of that name."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)


def with_weight(conv: nn.Conv2d, weight: Tensor, groups: int = 1) -> nn.Conv2d:
    """A convolution like conv with another weight (O, C / groups, kh, kw), which is trained."""
    layer = copy.deepcopy(conv)
    layer.in_channels, layer.out_channels = weight.shape[1] * groups, weight.shape[0]
    layer.groups = groups
    old = conv.weight
    last = not old.is_contiguous() and old.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=layout))
    return layer


def columns(weight: Tensor, count: int, init: str) -> tuple[Tensor, str]:
    """Weights (O, count, kh, kw) for other inputs than those of weight, and how they were made.

    "slice": the first input columns of weight, where it has as many; else, and for "kaiming",
    normal with variance 2 / (O kh kw).
    """
    if init == "slice" and count <= weight.shape[1]:
        how = "kept" if count == weight.shape[1] else "first columns kept"
        return weight.detach()[:, :count].clone(), how
    drawn = weight.new_empty(weight.shape[0], count, *weight.shape[2:])
    with torch.no_grad():
        nn.init.kaiming_normal_(drawn, mode="fan_out", nonlinearity="relu")
    return drawn, "drawn anew"


def keep_columns(network: nn.Module, name: str, positions: Sequence[int]) -> None:
    """Leaves a convolution the given input columns."""
    conv = plain_convolution(network, name)
    replace(network, name, with_weight(conv, conv.weight[:, list(positions)]))


def sliced_norm(norm: Norm, positions: Sequence[int]) -> Norm:
    """A BatchNorm of the given channels of another."""
    index = list(positions)
    layer = copy.deepcopy(norm)
    for name, weight in list(layer.named_parameters(recurse=False)):
        layer.register_parameter(name, nn.Parameter(weight.detach()[index].clone()))
    for name, values in list(layer.named_buffers(recurse=False)):
        if values.dim() == 1:  # not num_batches_tracked
            setattr(layer, name, values[index].clone())
    layer.num_features = len(index)  # type: ignore[assignment]
    return layer
