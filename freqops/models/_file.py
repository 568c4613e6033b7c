"""save and load: a frequency network in one safetensors file, with how to make it again.

tensors     the state dict, under its own keys
metadata    "format" "freqops.network", "version" "1", "freqops" the version that wrote it, and
            "network", JSON: the recipe, the RGB network by library, name and arguments, and what is
            neither in the recipe nor in a tensor
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import NoneType

import torch
from torch import Tensor, nn

import freqops
from freqops._arguments import describe
from freqops._extras import need
from freqops.files import replacing
from freqops.models._metadata import described, rebuilt
from freqops.models._recipe import Recipe
from freqops.models._summary import check_whole, frame_of

__all__ = ["load", "save"]

_FORMAT = "freqops.network"
_VERSION = 1


def save(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes a frequency network as a safetensors file, from which ``load`` makes it again.

    It holds the state dict under its own keys and, in the metadata, the channels, the statistics
    and the architecture. The network is made again for comparison, without weights: layers that
    were replaced since (``network.network.fc``, another number of classes) and attributes that were
    set (strides, thresholds) are saved with it. What is not: hooks, which parameters are trained,
    whether it is in training, the device.

    Args:
        network: one that freqops made.
        path: the file, replaced if it is there; ``.safetensors`` is its usual ending.

    Raises:
        TypeError: network is no module.
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
    # Copies: safetensors takes neither shared nor strided tensors.
    tensors = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor)
        for name, tensor in state.items()
    }
    with replacing(Path(path)) as hidden:
        hidden.touch()  # an OSError of the usual kind, where it cannot be written
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
    name = os.fspath(path)
    with open(name, "rb") as file:
        start = file.read(9)
    try:
        metadata, tensors = _read(name, start)
        content = _parsed(metadata)
        made = rebuilt(content, network)
        _fill(made, tensors, content.get("channels_last"))
        return made.eval()
    except (ImportError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"path must name a network that freqops.models.save wrote, got {name!r}: {error}"
        ) from error


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


def _read(path: str, start: bytes) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that begins with these bytes."""
    from safetensors import SafetensorError, safe_open

    # A safetensors file: the length of the header in 8 bytes, and the header, which is JSON.
    if start[8:] != b"{" and start.startswith((b"PK", b"\x80")):
        raise ValueError(
            "it holds pickled Python code, which is never run; "
            "freqops.models.load_released reads the authors' checkpoints"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"it is truncated or no safetensors file: {error}") from error
    return metadata, tensors


def _parsed(metadata: Mapping[str, str]) -> dict[str, object]:
    """The JSON of the metadata."""
    if metadata.get("format") != _FORMAT:
        raise ValueError(f'its "format" is {metadata.get("format")!r}, not {_FORMAT!r}')
    version = metadata.get("version", "")
    if version != str(_VERSION):
        raise ValueError(
            f"freqops {metadata.get('freqops')} wrote it in version {version!r} of the format, "
            f"known is {_VERSION}: a later freqops may read it"
        )
    try:
        content: object = json.loads(metadata.get("network", ""))
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
