"""Whether two networks have the same layers, and the attributes that make them so."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TypeGuard

import torch
from torch import Tensor, nn

from freqops.models._recipe import Plain

__all__ = ["Difference", "assign", "decoded", "differences", "encoded", "plain"]

# Attributes of modules: what every module has, what says nothing about the layers, what is saved
# apart (the gate's), and what a call leaves behind.
_SKIPPED = {
    *vars(nn.Module()),
    *("recipe", "pretrained_cfg", "default_cfg", "pretrained_model_args", "_model_args"),
    *("_temperature", "_forced", "_tau", "_fixed", "_traced"),
    *("scales", "map_levels"),  # of torchvision's MultiScaleRoIAlign
}

Attributes = dict[str, dict[str, object]]
"""By the name of a module, values by the name of the attribute."""


class Difference(ValueError):
    """Two networks have not the same layers: the message says where."""

    def __init__(self, place: str, message: str, alike: int) -> None:
        super().__init__(f"{place or 'the network itself'} {message}")
        self.place = place
        self.alike = alike
        """Modules before it that are the same."""


def differences(network: nn.Module, twin: nn.Module) -> Attributes:
    """What to set in a twin to make it the same as a network, but for the values of tensors.

    Args:
        network: as it is to be saved.
        twin: made again; it may lie on the meta device.

    Returns:
        Those attributes of modules that the twin has otherwise: strides, epsilons, thresholds.
        Only numbers, strings, torch's dtypes, and lists and dictionaries of these can be set.

    Raises:
        Difference: the modules, their names, order and classes, or the shapes of their tensors, or
            what they hold besides, are not the same.
    """
    result: Attributes = {}
    twins = list(twin.named_modules())
    for alike, (name, module) in enumerate(network.named_modules()):
        if alike == len(twins) or twins[alike][0] != name:
            raise Difference(name, "is in another place, or new", alike)
        other = twins[alike][1]
        mine, theirs = _class(type(module)), _class(type(other))
        if mine != theirs:
            raise Difference(name, f"is a {mine} instead of a {theirs}", alike)
        own, wanted = _shapes(module), _shapes(other)
        for key in sorted(own.keys() | wanted.keys()):
            if (key in own) != (key in wanted) or own[key] != wanted[key]:
                shapes = f"{own.get(key)} instead of {wanted.get(key)}"
                raise Difference(name, f"has another {key}, {shapes}", alike)
        for key in vars(module).keys() & vars(other).keys() - _SKIPPED:
            value, theirs_ = vars(module)[key], vars(other)[key]
            if _meaning(value) == _meaning(theirs_):
                continue
            if not _settable(value) or not _settable(theirs_):
                raise Difference(name, f"has another {key}", alike)
            result.setdefault(name, {})[key] = value
    if alike + 1 != len(twins):
        raise Difference(twins[alike + 1][0], "is missing", alike)
    return result


def assign(network: nn.Module, attributes: Attributes) -> None:
    """Sets what ``differences`` found.

    Raises:
        ValueError: there is no such module or attribute, or it or the value is not plain.
    """
    modules = dict(network.named_modules())
    for name, values in attributes.items():
        held = vars(modules[name]) if name in modules else {}
        for key, value in values.items():
            known = key in held and key not in _SKIPPED and _settable(held[key])
            if not known or not _settable(value):
                raise ValueError(f"there is no attribute {key} of {name!r} to be set to {value!r}")
            setattr(modules[name], key, value)


def plain(value: object) -> TypeGuard[Plain]:
    """Whether JSON holds a value, where tuples may become lists."""
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str)


def encoded(value: object) -> object:
    """A settable value as JSON holds it: with tuples and torch's words told from the others."""
    if isinstance(value, (torch.dtype, torch.memory_format)):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, (list, tuple)):
        items = [encoded(item) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        return {"dict": {key: encoded(item) for key, item in value.items()}}
    return value


def decoded(value: object) -> object:
    """What was encoded.

    Raises:
        ValueError: it was not.
    """
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    items, pairs, word = value.get("tuple"), value.get("dict"), value.get("torch")
    if isinstance(items, list):
        return tuple(decoded(item) for item in items)
    if isinstance(pairs, dict):
        return {key: decoded(item) for key, item in pairs.items()}
    if not isinstance(word, str):
        raise ValueError(f"{value!r} is no encoded value")
    return getattr(torch, word, None)


def _settable(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_settable, value))
    if isinstance(value, dict):
        return all(map(_settable, value.values())) and all(type(key) is str for key in value)
    return plain(value) or isinstance(value, (torch.dtype, torch.memory_format))


def _shapes(module: nn.Module) -> dict[str, list[int] | None]:
    """Of a module's own parameters and buffers. None: a place that holds none."""
    tensors: Mapping[str, Tensor | None] = {**module._parameters, **module._buffers}
    return {
        name: None if tensor is None else list(tensor.shape)
        for name, tensor in tensors.items()
        if name not in _SKIPPED
    }


def _class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _meaning(value: object, depth: int = 5) -> object:
    """Something that is equal for values that do the same; only the class of what lies deeper."""
    if isinstance(value, (torch.dtype, torch.memory_format)):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth == 0 or isinstance(value, nn.Module):
        return _class(type(value))
    if isinstance(value, (list, tuple)):
        return [_meaning(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {key: _meaning(item, depth - 1) for key, item in value.items()}
    if isinstance(value, Tensor):
        return list(value.shape) if value.is_meta else value.tolist()
    if isinstance(value, functools.partial):
        return [_meaning(item, depth - 1) for item in (value.func, value.args, value.keywords)]
    if hasattr(value, "__qualname__"):  # functions and classes
        return f"{value.__module__}.{value.__qualname__}"
    return _class(type(value)), _meaning(getattr(value, "__dict__", None), depth - 1)
