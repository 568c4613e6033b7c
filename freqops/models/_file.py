"""save and load: a frequency network in one safetensors file, with how to make it again.

tensors     the state dict, under its own keys
metadata    "format" "freqops.network", "version" "1", "freqops" the version that wrote it, and
            "network", JSON: the recipe, the RGB network by library, name and arguments, and what is
            neither in the recipe nor in a tensor; "about", JSON: what the caller has to say, if
            anything
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import TypeAlias

import torch
from torch import Tensor, nn

import freqops
from freqops._arguments import describe
from freqops._extras import need
from freqops.files import replacing
from freqops.models._metadata import described, rebuilt
from freqops.models._recipe import Recipe
from freqops.models._summary import check_whole, frame_of

__all__ = ["about", "load", "save"]

_FORMAT = "freqops.network"
_VERSION = 1

Opened: TypeAlias = tuple[Mapping[str, str], Callable[[], dict[str, Tensor]]]


def save(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    about: Mapping[str, object] | None = None,
) -> None:
    """Writes a frequency network as a safetensors file, from which ``load`` makes it again.

    It holds the state dict under its own keys and, in the metadata, the channels, the statistics
    and the architecture. The network is made again for comparison, without weights: layers that
    were replaced since (``network.network.fc``, another number of classes) and attributes that were
    set (strides, thresholds) are saved with it. What is not: hooks, which parameters are trained,
    whether it is in training, the device.

    Args:
        network: one that freqops made.
        path: the file, replaced if it is there; ``.safetensors`` is its usual ending.
        about: what else there is to know, such as the names of the classes, as JSON has it: None,
            booleans, finite numbers, strings, lists, and dictionaries with strings for keys.
            ``freqops.models.about`` reads it; ``load`` does not.

    Raises:
        TypeError: network is no module; about holds something else, or no finite number.
        ValueError: freqops did not make it, it is part of another network, or on the meta device;
            its transform was replaced by another kind.
        OSError: the file cannot be written.
        ModuleNotFoundError: safetensors is not installed.

    Warns:
        UserWarning: torchvision and timm have no name for its RGB network, or a layer was replaced
            by one of another kind. The file then needs ``load(path, network=...)``, and settings
            of layers are those of that network.

    Example:
        >>> import os, tempfile
        >>> from freqops.models import load, resnet18, save  # doctest: +SKIP
        >>> path = os.path.join(tempfile.mkdtemp(), "network.safetensors")
        >>> save(resnet18(channels=24, num_classes=10), path)  # doctest: +SKIP
        >>> len(load(path).recipe.channels)  # doctest: +SKIP
        24
    """
    need("freqops.models.save", "models", "safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    recipe = _own_recipe(network)
    if about is not None:
        if not isinstance(about, Mapping):
            raise TypeError(f"save: about must be a mapping or None, got {describe(about)}")
        about = dict(about)
        _check_json("about", about)
    state: dict[str, Tensor] = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_meta:
            raise ValueError(f"save: network must hold values, got {name} on the meta device")
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "freqops": freqops.__version__,
        "network": json.dumps(described(network, recipe, os.fspath(path))),
    }
    if about is not None:
        metadata["about"] = json.dumps(about)
    # Copies: safetensors takes neither shared nor strided tensors.
    tensors = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor)
        for name, tensor in state.items()
    }
    with replacing(Path(path)) as hidden:
        try:
            save_file(tensors, hidden, metadata)
        except SafetensorError as error:
            raise OSError(f"{os.fspath(path)!r} could not be written: {error}") from error


def load(path: str | os.PathLike[str], network: nn.Module | None = None) -> nn.Module:
    """Makes a network again from a file that ``save`` wrote. Nothing else is needed.

    The file is data: no code in it is run, of its text only names of constructors that torchvision
    and timm list are called, and nothing is downloaded.

    Args:
        path: the file.
        network: an RGB network to make it from, as ``from_rgb`` takes it; it is copied, and its
            weights do not matter, but settings such as strides and thresholds are its own. For
            files of networks that torchvision and timm have no name for.

    Returns:
        The network, in evaluation mode. It lies on the CPU, or where ``network`` does; its
        parameters are trained, or as those of ``network`` are. What it computes is what the saved
        one computes, bit for bit; weights lie in memory as they did, channels_last or else
        contiguous.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is truncated, of another kind or a later version; it holds pickled Python
            code, which is never run; its tensors are those of another architecture; it needs
            ``network``, or that is another one; torchvision or timm does not know the name.
        TypeError: network is neither a module nor None.
        ImportError: a package is not installed; the message says which.

    Example:
        >>> from freqops.models import load  # doctest: +SKIP
        >>> scores = load("network.safetensors")(images)  # doctest: +SKIP
    """
    need("freqops.models.load", "models", "safetensors")
    if not isinstance(network, (nn.Module, NoneType)):
        raise TypeError(f"load: network must be a torch.nn.Module or None, got {describe(network)}")
    with _opened(path) as (metadata, tensors):
        content = _parsed(metadata)
        made = rebuilt(content, network)
        _fill(made, tensors(), content.get("channels_last"))
        return made.eval()


def about(path: str | os.PathLike[str]) -> dict[str, object]:
    """What ``save`` was told to write beside a network.

    Args:
        path: a file that ``save`` wrote.

    Returns:
        That, with lists where there were tuples; {} where there is nothing. No tensor is read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is truncated, of another kind or a later version; it holds pickled Python
            code, which is never run.
        ModuleNotFoundError: safetensors is not installed.

    Example:
        >>> import os, tempfile
        >>> from freqops.models import about, resnet18, save  # doctest: +SKIP
        >>> path = os.path.join(tempfile.mkdtemp(), "network.safetensors")
        >>> save(resnet18(num_classes=2), path, about={"classes": ["cat", "dog"]})  # doctest: +SKIP
        >>> about(path)["classes"]  # doctest: +SKIP
        ['cat', 'dog']
    """
    need("freqops.models.about", "models", "safetensors")
    with _opened(path) as (metadata, _):
        _parsed(metadata)
        return _json(metadata.get("about", "{}"))


def _own_recipe(network: nn.Module) -> Recipe:
    """The recipe of a network that is to be saved, with the gate that it has now."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"save: network must be a torch.nn.Module, got {describe(network)}")
    frame = frame_of(network)
    if frame is None:
        raise ValueError(
            "save: network must be one that freqops.models made, "
            f"got {describe(network)} of {type(network).__module__}"
        )
    recipe = frame.recipe
    check_whole("save", network, frame)
    kind = None if frame.gate is None else frame.gate.kind  # it may have been replaced
    return dataclasses.replace(recipe, gate=kind if recipe.kept is None else "bernoulli")


def _check_json(place: str, value: object) -> None:
    """That JSON holds a value, and gives it back as it was but for tuples."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"save: {place} must have strings for keys, got {key!r}")
            _check_json(f"{place}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_json(f"{place}[{i}]", item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"save: {place} must be finite, which JSON's numbers are, got {value}")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise TypeError(
            f"save: {place} must be None, a boolean, a number, a string, a list or a dictionary, "
            f"got {describe(value)}"
        )


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Opened]:
    """Metadata of a file, and what reads its tensors; errors in it, found here or in the block,
    name it."""
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    with open(name, "rb") as bytes_:
        start = bytes_.read(9)
    try:
        # A safetensors file: the length of the header in 8 bytes, and the header, which is JSON.
        if start[8:] != b"{" and start.startswith((b"PK", b"\x80")):
            raise ValueError(
                "it holds pickled Python code, which is never run; "
                "freqops.models.load_released reads the authors' checkpoints"
            )
        try:
            with safe_open(name, "pt") as file:
                yield (
                    file.metadata() or {},
                    lambda: {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
                )
        except SafetensorError as error:
            raise ValueError(f"it is truncated or no safetensors file: {error}") from error
    except (ImportError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"path must name a network that freqops.models.save wrote, got {name!r}: {error}"
        ) from error


def _parsed(metadata: Mapping[str, str]) -> dict[str, object]:
    """What the metadata say of the network."""
    if metadata.get("format") != _FORMAT:
        raise ValueError(f'its "format" is {metadata.get("format")!r}, not {_FORMAT!r}')
    version = metadata.get("version", "")
    if version != str(_VERSION):
        raise ValueError(
            f"freqops {metadata.get('freqops')} wrote it in version {version!r} of the format, "
            f"known is {_VERSION}: a later freqops may read it"
        )
    return _json(metadata.get("network", ""))


def _json(text: str) -> dict[str, object]:
    """An object of the metadata."""
    try:
        content: object = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its metadata is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"its metadata is damaged: no object but {describe(content)}")
    return content


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], channels_last: object) -> None:
    """Gives a network the tensors of a file, in their dtypes and their order in memory."""
    own: dict[str, Tensor] = network.state_dict(keep_vars=True)
    for what, names in (("lacks", own.keys() - tensors), ("also holds", tensors.keys() - own)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"it holds another architecture: it {what} {min(names)}{more}")
    for name, tensor in own.items():
        given = tensors[name]
        if given.shape != tensor.shape or given.is_floating_point() != tensor.is_floating_point():
            raise ValueError(
                f"it holds another architecture: {name} is {given.dtype} {list(given.shape)} "
                f"instead of {tensor.dtype} {list(tensor.shape)}"
            )
        order = torch.contiguous_format
        if isinstance(channels_last, list) and name in channels_last:
            order = torch.channels_last
        tensor.data = tensor.data.to(given.dtype, memory_format=order)
    own.update(tensors)  # it also says in which version each module writes its state
    network.load_state_dict(own)
