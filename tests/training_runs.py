"""What the tests of training share: pictures that are easily told apart, runs, what they wrote."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from freqops.training import Processes, Result, Settings, train

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("timm", reason="timm is not installed")

CLASSES = ("blue", "coarse", "red")
TRAIN, VAL = 8, 4
"""Pictures of a class."""

TIMES = ("seconds", "pictures_per_second")
"""Columns of log.csv that no two runs have in common."""

SMALL = {
    "model": "timm/test_resnet",  # timm's own for tests: 0.4 million weights
    "crop": 32,
    "resize": 40,
    "area": 0.5,
    "batch_size": 8,
    "epochs": 2,
    "learning_rate": 0.01,
    "statistics": "photographs",
    "device": "cpu",
    "workers": 0,
    "log_steps": 1,
}
"""Three steps of eight pictures an epoch."""

STEPS = TRAIN * len(CLASSES) // 8


def picture(label: int, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """48 x 56 pixels: mostly blue, of two brightnesses in coarse stripes, or mostly red."""
    pixels = np.random.default_rng((label, number)).integers(0, 60, (48, 56, 3))
    if CLASSES[label] == "coarse":
        pixels[:, np.arange(56) % 8 < 4] += 180
    else:
        pixels[..., 2 if CLASSES[label] == "blue" else 0] += 150
    return pixels.astype(np.uint8)


def make_pictures(root: Path, suffix: str = "png") -> Path:
    """A folder with train/ and val/."""
    for part, first, count in (("train", 0, TRAIN), ("val", TRAIN, VAL)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                Image.fromarray(picture(label, number)).save(folder / f"{number}.{suffix}")
    return root


def small(data: Path | str, output: Path | str, **changes: object) -> Settings:
    """Settings of a run of a second."""
    return Settings.of(SMALL | {"data": str(data), "output": str(output)} | changes, "test")


def run(data: Path | str, output: Path, **changes: object) -> Result:
    """Trains, saying nothing."""
    alone = Processes(0, 1, torch.device("cpu"))
    return train(small(data, output, **changes), alone, quiet=True)


def flags(settings: Settings) -> list[str]:
    """The arguments of ``freqops train`` for settings that are not the usual ones."""
    given = ["train", settings.data, "-o", settings.output]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        name = field.name.replace("_", "-")
        if field.name in ("data", "output") or value == field.default:
            continue
        if isinstance(value, bool):
            given.append(f"--{name}" if value else f"--no-{name}")
        else:
            given += [f"--{name}", str(value)]
    return given


def rows(path: Path) -> list[dict[str, str]]:
    """Of a CSV file, without times."""
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [{name: text for name, text in row.items() if name not in TIMES} for row in found]


def column(path: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(path)]


def tensors(folder: Path, name: str = "network.safetensors") -> dict[str, Tensor]:
    """The weights that a run wrote."""
    load_file = pytest.importorskip("safetensors.torch").load_file
    found: dict[str, Tensor] = load_file(folder / name)
    return found


def assert_same_runs(a: Path, b: Path) -> None:
    """Logs and weights, bit for bit."""
    for name in ("steps.csv", "log.csv"):
        assert rows(a / name) == rows(b / name)
    for name in ("network.safetensors", "best.safetensors"):
        first, second = tensors(a, name), tensors(b, name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def hidden(folder: Path) -> list[str]:
    """Files that were begun and not finished."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def environment(**extra: str) -> dict[str, str]:
    """Of a process of its own: this checkout, one thread, no bar."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **extra}


def python(
    *arguments: str, timeout: float = 90, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env=environment(**extra),
        check=False,
    )


SIGNALLED = """
import os, signal, sys
from freqops.cli import main
from freqops.training._log import Log
step, number = int(sys.argv[1]), getattr(signal, sys.argv[2])
advance = Log.advance
def signalled(self, epoch, done, steps, loss):
    advance(self, epoch, done, steps, loss)
    if done == step and os.environ.get("RANK", "0") == os.environ.get("SIGNALLED_RANK", "0"):
        os.kill(os.getpid(), number)
Log.advance = signalled
sys.exit(main(sys.argv[3:]))
"""
"""``freqops`` with the arguments behind the first two, and a signal to itself after a step."""


def signalled(step: int, name: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs ``freqops`` in a process that gets a signal after a step."""
    return python("-c", SIGNALLED, str(step), name, *arguments)


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Does something in this process when a step is done and its row written."""
    from freqops.training._log import Log

    advance = Log.advance

    def patched(self: Log, epoch: int, done: int, steps: int, loss: float | None) -> None:
        advance(self, epoch, done, steps, loss)
        if done == step:
            act()

    monkeypatch.setattr(Log, "advance", patched)
