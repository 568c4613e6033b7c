"""What the metadata of a saved network say: its recipe, its RGB network, and what is no tensor."""

from __future__ import annotations

import copy
import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from freqops._arguments import describe
from freqops.channels import ChannelSelection
from freqops.files import DTYPES
from freqops.models._base import candidates, make, outline
from freqops.models._freeze import freeze_in_place
from freqops.models._recipe import Base, Recipe
from freqops.models._summary import frame_of
from freqops.models._surgery import build, family_of, make_recipe
from freqops.models._twin import Difference, assign, decoded, differences, encoded
from freqops.statistics import ChannelStatistics

__all__ = ["described", "rebuilt"]

Value = TypeVar("Value")


def described(network: nn.Module, recipe: Recipe, path: str) -> dict[str, object]:
    """What JSON holds of a network: all that its state dict does not.

    Args:
        network: that is saved.
        recipe: its own.
        path: of the file, for the warning that ``rebuilt`` will need the RGB network.
    """
    dtype = next(network.parameters()).dtype
    base, attributes = _architecture(network, recipe, dtype, path)
    frame = frame_of(network)
    gate, halved = getattr(frame, "gate", None), getattr(frame, "halved", None)
    state: dict[str, Tensor] = network.state_dict()
    return {
        "family": recipe.family,
        "channels": list(recipe.channels),
        "statistics": recipe.statistics._content(),
        "gate": recipe.gate,
        "spatial": recipe.spatial,
        "init": recipe.init,
        "chroma": recipe.chroma,
        "rounding": recipe.rounding,
        "layer2_stride": recipe.layer2_stride,
        "kept": None if recipe.kept is None else list(recipe.kept),
        "changes": list(recipe.changes),
        "base": None if base is None else dataclasses.asdict(base),
        "dtype": str(dtype).removeprefix("torch."),
        "attributes": {
            name: {key: encoded(value) for key, value in values.items()}
            for name, values in attributes.items()
        },
        "channels_last": [name for name, tensor in state.items() if _is_channels_last(tensor)],
        # In no state dict.
        "tau": None if gate is None else gate.tau,
        "forced": None if gate is None or gate.forced is None else list(gate.forced),
        "halved": None if halved is None else [halved.mean.tolist(), halved.std.tolist()],
    }


def _architecture(
    network: nn.Module, recipe: Recipe, dtype: torch.dtype, path: str
) -> tuple[Base | None, dict[str, dict[str, object]]]:
    """The RGB network by its name, and attributes that were set since. Warns where it has none."""
    nearest = Difference("", "is of a kind that torchvision and timm do not list", -1)
    for base in candidates(network, recipe):
        try:
            return base, differences(network, _made(outline(base), recipe, dtype))
        except Difference as difference:
            nearest = max(nearest, difference, key=lambda found: found.alike)
        except ValueError:  # no such network, or no such surgery on it
            continue
    if re.match(r"(transform|halved|gate|backbone\.(body\.)?frequency)\b", nearest.place):
        raise ValueError(f"save: network must have the layers that freqops gave it, but {nearest}")
    warnings.warn(
        f"save: {path!r} will need load(path, network=...) with the RGB network, because it cannot "
        f"be made again by name: {nearest}",
        UserWarning,
        stacklevel=4,  # of who calls save
    )
    return None, {}


def _made(rgb: nn.Module, recipe: Recipe, dtype: torch.dtype) -> nn.Module:
    """What the steps of a recipe make of an RGB network."""
    family = family_of(rgb)
    if family != recipe.family:
        raise ValueError(f"its RGB network is a {recipe.family}, got {describe(rgb)}, a {family}")
    with torch.random.fork_rng(devices=[]):
        made = build(rgb.to(dtype), dataclasses.replace(recipe, kept=None))
    return made if recipe.kept is None else freeze_in_place(made, recipe.kept)


def _field(content: Mapping[str, object], key: str, kind: type[Value]) -> Value:
    """A value of the metadata."""
    value = content.get(key)
    if not isinstance(value, kind):
        raise ValueError(f'its metadata is damaged: "{key}" is {value!r}, no {kind.__name__}')
    return value


def _recipe(content: Mapping[str, object]) -> Recipe:
    base = content.get("base")
    if base is not None:
        told = _field(content, "base", dict)
        base = Base(
            _field(told, "library", str), _field(told, "name", str), _field(told, "arguments", dict)
        )
    recipe = make_recipe(
        _field(content, "family", str),
        ChannelSelection(_field(content, "channels", list)),
        gate=False if content.get("gate") is None else _field(content, "gate", str),
        spatial=_field(content, "spatial", bool),
        statistics=ChannelStatistics._restored(_field(content, "statistics", dict)),
        init=None if content.get("init") is None else _field(content, "init", str),
        chroma=_field(content, "chroma", str),
        rounding=_field(content, "rounding", str),
        layer2_stride=_field(content, "layer2_stride", int),
        base=base,
    )
    kept = content.get("kept")
    return dataclasses.replace(
        recipe,
        kept=None if kept is None else ChannelSelection(_field(content, "kept", list)),
        changes=tuple(str(change) for change in _field(content, "changes", list)),
    )


def rebuilt(content: Mapping[str, object], network: nn.Module | None) -> nn.Module:
    """The network that ``described`` told of, with random weights.

    Args:
        content: from a file, so it can be anything.
        network: an RGB network to make it from; None for the one that content names.

    Raises:
        ValueError: content is damaged, or there is no such network.
    """
    recipe = _recipe(content)
    dtype = DTYPES.get(_field(content, "dtype", str))
    if dtype is None:
        raise ValueError(f'its metadata is damaged: "dtype" is {content["dtype"]!r}')
    if network is not None:
        rgb = copy.deepcopy(network)
    elif recipe.base is not None:
        rgb = make(recipe.base)
    else:
        raise ValueError(
            "it has no name for its RGB network: load(path, network=...) needs that network"
        )
    made = _made(rgb, recipe, dtype)
    attributes = _field(content, "attributes", dict)
    assign(
        made,
        {
            str(name): {
                key: decoded(value) for key, value in _field(attributes, name, dict).items()
            }
            for name in attributes
        },
    )
    frame = frame_of(made)
    assert frame is not None
    gate, halved = frame.gate, getattr(frame, "halved", None)
    if gate is not None:
        gate.tau = _field(content, "tau", float)
        forced = content.get("forced")
        gate.forced = None if forced is None else ChannelSelection(_field(content, "forced", list))
    if halved is not None:
        for buffer, values in zip(
            (halved.mean, halved.std), _field(content, "halved", list), strict=True
        ):
            buffer.copy_(torch.tensor(values))
    frame.recipe = recipe
    return made


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether strides are those of channels_last and no others."""
    if tensor.dim() != 4:
        return False
    strides = [
        torch.empty(tensor.shape, device="meta", memory_format=order).stride()
        for order in (torch.channels_last, torch.contiguous_format)
    ]
    return tensor.stride() == strides[0] != strides[1]
