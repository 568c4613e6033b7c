"""Tensors of a checkpoint that torch.save wrote; what else is pickled there is not run."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from freqops._arguments import describe

__all__ = ["weights_of"]


def weights_of(source: object) -> dict[str, Tensor]:
    """The tensors of a state dict by their keys, without the "module." of DataParallel.

    Args:
        source: path of a file; or a state dict, or a mapping with the entry "state_dict".

    Raises:
        OSError: the file cannot be read.
        TypeError: source is neither path nor mapping.
        ValueError: the file is truncated, no checkpoint, or holds pickled code.
    """
    weights: dict[str, Tensor] = {}
    for key, value in _mapping(source).items():
        if isinstance(key, str) and isinstance(value, Tensor):
            weights[key] = value
    if all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _mapping(source: object) -> Mapping[object, object]:
    """The mapping of weights in a source."""
    where = "source"
    if isinstance(source, (str, os.PathLike)):
        where = f"source {os.fspath(source)!r}"
        source = _read(source)
        if not isinstance(source, Mapping):
            raise ValueError(f"load_released: {where} must hold a mapping, got {describe(source)}")
    elif not isinstance(source, Mapping):
        raise TypeError(
            f"load_released: source must be a path or a mapping, got {describe(source)}"
        )
    state_dict = source.get("state_dict", source)
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f'load_released: the entry "state_dict" of {where} must be a mapping, '
            f"got {describe(state_dict)}"
        )
    return state_dict


def _read(path: str | os.PathLike[str]) -> object:
    """What torch.save wrote, if that is tensors and plain values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and TorchScript: refused here
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    # A damaged file raises whatever its bytes lead to: EOFError, KeyError, RuntimeError, ...
    except Exception as error:
        text = str(error)
        # The unpickler, which knows tensors and plain values, met the name of something else.
        code = isinstance(error, pickle.UnpicklingError) and (
            re.search(r"GLOBAL (\S+)|allowlisted|unrecognized function", text)
        )
        if code or "TorchScript" in text:
            name = f" ({code[1]})" if code and code[1] else ""
            raise ValueError(
                "load_released: source must hold nothing but tensors and plain values, "
                f"got {os.fspath(path)!r}, which holds pickled code, which is never run{name}"
            ) from error
        # The first sentence: torch goes on to advise weights_only=False.
        reason = re.split(r"\.?\s*\n|\. ", text)[0] or type(error).__name__
        raise ValueError(
            "load_released: source must be a checkpoint that torch.save wrote, whole, "
            f"got {os.fspath(path)!r}: {reason}"
        ) from error
    return content
