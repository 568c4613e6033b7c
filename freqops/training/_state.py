"""The state of a run in a file: complete or not at all, and read without running code in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import torch

from freqops.files import replacing

__all__ = ["State", "read_state", "write_state"]

State: TypeAlias = dict[str, object]

_FORMAT = "freqops.training"
_VERSION = 1


def write_state(state: State, path: Path) -> None:
    """Replaces the file when the new one is complete and on the disk.

    Raises:
        OSError: it could not be written; the old one is as it was.
    """
    with replacing(path) as hidden:
        try:
            with hidden.open("wb") as file:
                torch.save({"format": _FORMAT, "version": _VERSION, **state}, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk does not say for which file
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        except RuntimeError as error:  # of torch's writer, around that of the file
            if str(error).startswith("DataLoader worker"):  # of a signal's handler, wherever it is
                raise
            inner = error.__context__
            if isinstance(inner, OSError):
                raise OSError(inner.errno, inner.strerror, os.fspath(path)) from error
            raise OSError(f"{path} could not be written: {error}") from error


def read_state(path: Path) -> State:
    """What ``write_state`` wrote, on the CPU.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    try:
        state: object = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ValueError(f'its "format" is not "{_FORMAT}"')
        if state.get("version") != _VERSION:
            raise ValueError(f'its "version" is {state.get("version")!r}, known is {_VERSION}')
    except OSError:
        raise
    except Exception as error:  # a damaged file raises anything
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} must be the state of a training run: {words}") from error
    return state
