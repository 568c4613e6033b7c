"""What a run says: rows of CSV always, a bar on a terminal, plain lines elsewhere, TensorBoard."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from freqops._extras import need
from freqops.files import replacing
from freqops.training._pictures import Batch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Broken", "Log"]

QUIET = 30.0
"""Seconds between two lines of progress where there is no terminal."""

STEP = ("step", "epoch", "learning_rate", "loss", "penalty", "channels_on")
EPOCH = (
    *("step", "epoch", "learning_rate", "loss", "penalty", "channels_on", "top1"),
    *("val_loss", "val_top1", "val_top5", "val_channels_on"),
    *("seconds", "pictures_per_second", "skipped"),
)
"""Columns of steps.csv and log.csv."""


class Log:
    """Progress and results of a run.

    Args:
        folder: of the run; None for a process that says and writes nothing.
        tensorboard: write events too.
        quiet: neither bar nor lines, but warnings.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool = False, quiet: bool = False):
        from tqdm import tqdm

        self._folder = folder
        self._quiet = quiet or folder is None
        # disable=None: no bar where stderr is a file.
        self._bar = tqdm(unit=" steps", disable=True if self._quiet else None, leave=False)
        self._lines = bool(self._bar.disable) and not self._quiet
        self._said = time.monotonic()
        self._writer: SummaryWriter | None = None
        if tensorboard and folder is not None:
            need("tensorboard=True", "tensorboard", "tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"))  # type: ignore[no-untyped-call]

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        if not self._quiet:
            self._print(text, sys.stderr)

    def warn(self, text: str) -> None:
        """A line that quiet runs, and processes other than the first, have too."""
        self._print(f"freqops: {text}", sys.stderr)

    def go_on(self, step: int, pending: bool) -> None:
        """Forgets the rows behind a step, as a process wrote them that was killed.

        Args:
            step: the last that is done.
            pending: whether that ends an epoch which has no row yet.
        """
        for name, columns, last in (("steps.csv", STEP, step), ("log.csv", EPOCH, step - pending)):
            if self._folder is None or not (self._folder / name).exists():
                continue
            with (self._folder / name).open(encoding="utf-8", newline="") as file:
                reader = csv.reader(file)
                rows = [row for row in reader if len(row) == len(columns) and _step(row) <= last]
            with replacing(self._folder / name) as path, path.open("w", newline="") as file:
                csv.writer(file).writerows([columns, *rows])

    def track(self, batches: Iterable[Batch], total: int, what: str) -> Iterator[Batch]:
        """The same batches, beside a bar of their own."""
        from tqdm import tqdm

        off = True if self._quiet else None
        with tqdm(total=total, desc=what, unit=" pictures", leave=False, disable=off) as bar:
            for batch in batches:
                yield batch
                bar.update(len(batch.labels) + len(batch.broken))

    def begin(self, steps: int, done: int) -> None:
        """The bar of a whole run."""
        self._bar.reset(total=steps)
        self._bar.update(done)

    def advance(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        """One step is done; its loss, where it is known."""
        if loss is not None:
            self._bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._lines and loss is not None and now - self._said > QUIET:
            self._said = now
            self.say(f"step {step} of {steps}, epoch {epoch}: loss {loss:.4f}")

    def step(self, row: Mapping[str, float]) -> None:
        """A row of steps.csv."""
        self._write("steps.csv", STEP, row)

    def epoch(self, row: Mapping[str, float | None]) -> None:
        """A row of log.csv, a line, and events."""
        self._write("log.csv", EPOCH, row)
        self._said = time.monotonic()
        on = row.get("val_channels_on")
        gate = f"  channels {on:.1f}" if on is not None else ""
        self.say(
            f"epoch {row['epoch']:>3}  loss {row['loss']:.4f}  top-1 {_percent(row['top1'])}  "
            f"val loss {row['val_loss']:.4f}  val top-1 {_percent(row['val_top1'])}{gate}  "
            f"{row['pictures_per_second']:.0f} pictures/s"
        )
        if self._writer is not None:
            for name, value in row.items():
                if value is not None and name not in ("step", "epoch"):
                    self._writer.add_scalar(name, value, row["step"])  # type: ignore[no-untyped-call]
            self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends the bar and the events."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()  # type: ignore[no-untyped-call]

    def _write(self, name: str, columns: tuple[str, ...], row: Mapping[str, float | None]) -> None:
        if self._folder is None:
            return
        path = self._folder / name
        new = not path.exists() or path.stat().st_size == 0
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns)
                if new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:  # a full disk does not say for which file
            raise OSError(error.errno, error.strerror, str(path)) from error

    def _print(self, text: str, file: TextIO) -> None:
        self._bar.write(text, file=file)
        file.flush()


def _step(row: list[str]) -> float:
    try:
        return float(row[0])
    except ValueError:
        return float("inf")


def _percent(share: float | None) -> str:
    return "  -  " if share is None else f"{100 * share:5.1f}%"


class Broken:
    """Pictures that cannot be read: each is named once, all are counted.

    Args:
        log: where they are named.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._names: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        """Of all so far, in this process."""
        return frozenset(self._names)

    def add(self, pairs: list[tuple[str, str]]) -> None:
        """Further ones, with the reasons."""
        for name, reason in pairs:
            if name not in self._names:
                self._names.add(name)
                self._log.warn(f"skipped {name}: {reason}")
