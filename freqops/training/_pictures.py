"""Pictures of a data set, as a network takes them: drawn by seed, the broken ones told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from freqops._arguments import check_choice, describe
from freqops.training._seeds import drawing, seed_of

__all__ = [
    "BROKEN",
    "Batch",
    "EvaluationBatches",
    "Pictures",
    "Sample",
    "Samples",
    "TrainingBatches",
    "View",
    "collate",
    "loader",
    "read",
]

BROKEN = ("skip", "fail")
"""What to do about a picture that cannot be read."""

View: TypeAlias = Callable[[object], Tensor]
"""A picture in any form that ``freqops.data.to_tensor`` takes, to a tensor."""

_ATTEMPTS = 32
"""Pictures tried in place of a broken one: if all are broken, something else is wrong."""


class Samples(Protocol):
    """Pictures and their classes: a list of pairs, or a data set that gives them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[object, int]: ...


class Sample(NamedTuple):
    """One picture as its view gives it, and what was skipped on the way to it."""

    value: Tensor | None
    """None: the picture is broken, and none was taken in its place."""
    label: int
    number: int
    broken: tuple[tuple[str, str], ...]
    """Names and reasons."""


class Batch(NamedTuple):
    """Some pictures together."""

    values: Tensor
    """(N, ...); (0,) where all were broken."""
    labels: Tensor
    """(N,) int64."""
    numbers: list[int]
    broken: list[tuple[str, str]]
    """Names and reasons of what was skipped."""


class Pictures(Dataset[Sample]):
    """A data set of pictures through a view, which is seeded for each picture and epoch.

    What is drawn for a picture depends on (seed, epoch, index) alone: neither on the number of
    workers or processes nor on what was drawn before.

    Args:
        samples: pairs (picture, label).
        view: the picture to a tensor; it may draw from torch, NumPy or Python.
        seed: of all that is drawn.
        broken: "skip" or "fail": pictures that cannot be read.
        replace: with "skip", whether another picture is taken in place of a broken one, as training
            wants it; else the sample has no value.
        what: what one without a path is called, before its number.

    Raises:
        TypeError, ValueError: broken is another word.
    """

    def __init__(
        self,
        samples: Samples,
        view: View,
        *,
        seed: int = 0,
        broken: str = "skip",
        replace: bool = False,
        what: str = "picture",
    ) -> None:
        check_choice("Pictures", "broken", broken, BROKEN)
        self.samples = samples
        self.view = view
        self.seed = seed
        self.broken = broken
        self.replace = replace
        self.what = what

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int | tuple[int, int]) -> Sample:
        """One picture.

        Args:
            place: its index, or (epoch, index); without an epoch it is that of epoch 0.

        Raises:
            IndexError: there is none of that number.
            ValueError: it cannot be read, with broken="fail"; or no other could be taken for it.
        """
        epoch, index = place if isinstance(place, tuple) else (0, place)
        skipped: list[tuple[str, str]] = []
        taken = index
        for attempt in range(1, _ATTEMPTS + 1):
            seed = seed_of(self.seed, "picture", epoch, taken)
            picture: object = None
            try:
                with drawing(seed):
                    picture, label = self.samples[taken]
                    return Sample(self.view(picture), int(label), taken, tuple(skipped))
            # SyntaxError: Pillow's of some broken PNG files.
            except (OSError, ValueError, SyntaxError) as error:
                name, reason = self._name(picture, taken), " ".join(str(error).split())
                if self.broken == "fail":
                    raise ValueError(f"{name}: {reason}") from error
                skipped.append((name, reason))
            if not self.replace:
                return Sample(None, -1, index, tuple(skipped))
            taken = seed_of(self.seed, "replacement", epoch, index, attempt) % len(self.samples)
        raise ValueError(
            f"{_ATTEMPTS} pictures in a row cannot be read, the last of them "
            f"{skipped[-1][0]}: {skipped[-1][1]}"
        )

    def _name(self, picture: object, index: int) -> str:
        """Of a picture, for an error."""
        if isinstance(picture, (str, os.PathLike)):
            return str(os.fspath(picture))
        return f"{self.what} {index}"


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of those samples that have a value, and the names of all that was skipped."""
    read = [(sample, sample.value) for sample in samples if sample.value is not None]
    values = [value for _, value in read]
    return Batch(
        torch.stack(values) if values else torch.empty(0),
        torch.tensor([sample.label for sample, _ in read], dtype=torch.int64),
        [sample.number for sample, _ in read],
        [pair for sample in samples for pair in sample.broken],
    )


class TrainingBatches(Sampler[list[tuple[int, int]]]):
    """Batches of one epoch in an order drawn from (seed, epoch), of each this process's share.

    The last pictures of the order, too few for a batch, are left out. Process r of n has the rows
    [r B / n, (r + 1) B / n) of each batch of B: all processes together see what one would.

    Args:
        count: pictures.
        size: B, of all processes together, a multiple of their number.
        seed: of the order.
        rank, processes: this process and how many there are.

    Attributes:
        epoch: of the next iteration.
        first: the batch that it begins with.
    """

    def __init__(self, count: int, size: int, seed: int, rank: int, processes: int) -> None:
        if size % processes:
            raise ValueError(
                f"batch_size must be a multiple of the number of processes, {processes}, got {size}"
            )
        if count < size:
            raise ValueError(
                f"batch_size must be at most the number of training pictures, {count}, got {size}"
            )
        self.count = count
        self.size = size
        self.seed = seed
        self.rank = rank
        self.share = size // processes
        self.epoch = 0
        self.first = 0

    def __len__(self) -> int:
        return self.count // self.size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", self.epoch))
        order = torch.randperm(self.count, generator=generator).tolist()
        epoch, first = self.epoch, self.first
        for batch in range(first, len(self)):
            start = batch * self.size + self.rank * self.share
            yield [(epoch, index) for index in order[start : start + self.share]]


class EvaluationBatches(Sampler[list[int]]):
    """Every picture once, in order: process r of n has the pictures r, r + n, r + 2n, ..."""

    def __init__(self, count: int, size: int, rank: int = 0, processes: int = 1) -> None:
        self.indices: Sequence[int] = range(rank, count, processes)
        self.size = size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.indices), self.size):
            yield list(self.indices[start : start + self.size])


def loader(
    pictures: Pictures,
    batches: TrainingBatches | EvaluationBatches,
    *,
    workers: int,
    device: torch.device,
) -> DataLoader[Batch]:
    """Batches of pictures, read by so many worker processes; 0 reads them in this one."""
    if not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers must be an integer of at least 0, got {describe(workers)}")
    return DataLoader(
        pictures,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=_quiet,
        persistent_workers=workers > 0,
    )


def read(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """The batches of a loader; errors in its workers without the text of their tracebacks."""
    try:
        yield from batches
    except Exception as error:
        text = str(error)
        if not text.startswith("Caught ") or "worker process" not in text:
            raise
        # The last line of a traceback: type and message.
        kind, _, message = text.rstrip().splitlines()[-1].partition(": ")
        raise type(error)(message or kind) from error


def _quiet(worker: int) -> None:
    """Makes a worker deaf to signals that a terminal, torchrun or a scheduler sends to a group of
    processes: the main one decides when its workers end."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
