"""Optional packages: asked for before work begins, with the command that installs them."""

from __future__ import annotations

import importlib.util

__all__ = ["need"]


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
