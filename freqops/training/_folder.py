"""The folder of a run: its settings, its state, and whether it is this run's."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from freqops.files import replacing
from freqops.training._data import Data
from freqops.training._network import NETWORK
from freqops.training._normalisation import STATISTICS
from freqops.training._processes import Processes
from freqops.training._settings import Settings, read_config
from freqops.training._state import State, read_state

__all__ = ["BEST", "SETTINGS", "STATE", "opened"]

SETTINGS, STATE, BEST = "settings.json", "state.pt", "best.safetensors"

_WRITTEN = (SETTINGS, STATE, STATISTICS, NETWORK, BEST, "steps.csv", "log.csv")

_NAMED = 3


def opened(settings: Settings, data: Data, length: int, processes: Processes) -> State | None:
    """Makes the folder that of this run.

    Args:
        settings, data: of the run.
        length: steps of an epoch.
        processes: this one and the others, all of which must see one folder and the same pictures.

    Returns:
        The state of a run that was interrupted; None where it begins.

    Raises:
        ValueError: the folder holds another run, data are not as they were, or processes see
            others.
        OSError: it cannot be read or written.
    """
    folder = Path(settings.output)
    state = None
    if (folder / STATE).exists():
        state = read_state(folder / STATE)
        _check(settings, data, length, state, folder)
    _agree(data, length, state, processes)  # all have read before one writes
    if processes.main:
        for path in list(folder.iterdir()):
            if path.is_file() and _is_left(path.name):
                path.unlink(missing_ok=True)
        path, words = folder / SETTINGS, settings.words()
        if state is None and path.exists() and path.read_text(encoding="utf-8") != words:
            (folder / STATISTICS).unlink(missing_ok=True)  # of other pictures
        with replacing(path) as hidden:
            hidden.write_text(words, encoding="utf-8")
    return state


def _is_left(name: str) -> bool:
    """Whether a process was killed while it wrote this file: see ``replacing``."""
    found = re.fullmatch(r"\.(.+)\.\d+", name)
    return found is not None and found[1] in _WRITTEN


def _check(settings: Settings, data: Data, length: int, state: State, folder: Path) -> None:
    """Whether a state is that of a run with these settings and data."""
    path = folder / SETTINGS
    before = Settings.of(read_config(str(path)), str(path))
    names = before.differing(settings)
    if names:
        old, new = getattr(before, names[0]), getattr(settings, names[0])
        raise ValueError(
            f"output must be the folder of this run, got {folder}, which has another with "
            f"{names[0]} {old!r} instead of {new!r}"
        )
    classes, step = state["classes"], state["step"]
    assert isinstance(classes, list) and isinstance(step, int)
    if classes != list(data.classes):
        different = sorted(set(classes) ^ set(data.classes)) or ["their order"]
        words = ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")
        raise ValueError(
            f"data must have the {len(classes)} classes of the run in {folder}, got "
            f"{len(data.classes)} in {settings.data}; what differs: {words}"
        )
    if state["length"] != length:
        raise ValueError(
            f"data must have the {state['length']} batches of the run in {folder}, got {length} "
            f"in {settings.data}"
        )
    if step > settings.epochs * length:
        raise ValueError(
            f"epochs must be at least those that the run in {folder} has begun, "
            f"{-(-step // length)}, got {settings.epochs}"
        )


def _agree(data: Data, length: int, state: State | None, processes: Processes) -> None:
    """Whether all processes see the same."""
    digest = hashlib.blake2b(digest_size=16)
    for samples in (data.train, data.val):
        if isinstance(samples, list):  # paths and class numbers
            digest.update(repr(samples).encode("utf-8", "surrogateescape"))
    begun = None if state is None else (state["step"], state["pending"])
    mine = (data.classes, length, len(data.val), digest.hexdigest(), begun)
    for rank, theirs in enumerate(processes.everyones(mine)):
        if theirs != mine:
            raise ValueError(
                "every process must see the same pictures and the same folder of the run, got "
                f"others in process {rank}"
            )
