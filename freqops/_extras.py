"""Optional packages: asked for before work begins, with the command that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import torch

__all__ = ["need", "torchvision_module"]


def need(what: str, extra: str, *modules: str) -> None:
    """Raises ModuleNotFoundError if one of the modules is not installed.

    Args:
        what: the part of freqops that needs them, first words of the sentence.
        extra: the extra of the freqops package that brings them.
        modules: names to import.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{what} needs {' and '.join(missing)}: pip install 'freqops[{extra}]'"
        )


def torchvision_module(what: str, name: str) -> ModuleType:
    """A module of torchvision, which must have been made for the torch that is here.

    Raises:
        ImportError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    # One built for another torch raises RuntimeError, or OSError where its library does not load.
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"{what} needs torchvision, and a torchvision made for torch {torch.__version__}: "
            f"{error} (pip install 'freqops[models]')"
        ) from error
