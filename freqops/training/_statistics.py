"""Exact statistics of a folder of pictures: in shards, so that it can be shared and interrupted.

Pictures are cut into shards of consecutive ones. The sums of a shard are added up picture after
picture and those of all shards shard after shard, whoever measured them and when: the result is the
same bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from freqops._arguments import check_choice
from freqops._block_dct import CHROMA, ROUNDING
from freqops._jpeg_transform import JPEGTransform
from freqops._sums import Sums
from freqops.channels import CHANNELS
from freqops.files import replacing
from freqops.statistics import ChannelStatistics
from freqops.training._interrupt import Interrupts
from freqops.training._pictures import EvaluationBatches, Pictures, View, loader, read
from freqops.training._processes import Processes
from freqops.training._sums_view import SumsView, unpacked
from freqops.training._views import JPEGView, PixelView

__all__ = ["VIEWS", "Crops", "Measured", "measure"]

VIEWS = ("train", "eval")

LEAST, MOST = 64, 1000
"""Pictures in a shard at least, which are lost by an interrupt; shards at most, each a file."""

PIECE = 16
"""Pictures that a worker hands over at a time."""

_FORMAT = "freqops.shard"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Crops:
    """What is measured of a picture.

    Args:
        resize: short side before the crop, for "eval".
        crop: side of the square.
        view: "train": a random crop and flip, drawn for each picture by the seed and its number,
            as in the first epoch of a training; "eval": the middle.
        seed: of what is drawn.
        area: for "train", the least share of a picture's area that a crop shows.
        chroma, rounding: of ``block_dct``.
        from_jpeg: the coefficients of JPEG files without decoding, as JPEGTransform takes them.

    Raises:
        TypeError, ValueError: view, chroma or rounding is unknown; files have their own chroma and
            rounding; the crop is larger than the short side.
    """

    resize: int
    crop: int
    view: str = "train"
    seed: int = 0
    chroma: str = "4:4:4"
    rounding: str = "none"
    from_jpeg: bool = False
    area: float = 0.08

    def __post_init__(self) -> None:
        check_choice("Crops", "view", self.view, VIEWS)
        check_choice("Crops", "chroma", self.chroma, CHROMA)
        check_choice("Crops", "rounding", self.rounding, ROUNDING)
        if self.from_jpeg and (self.chroma, self.rounding) != ("4:4:4", "none"):
            raise ValueError(
                "chroma and rounding must be '4:4:4' and 'none' with from_jpeg: files have their "
                f"own, got {self.chroma!r} and {self.rounding!r}"
            )
        if not 0 < self.area <= 1:
            raise ValueError(f"area must lie in (0, 1], got {self.area}")
        if self.from_jpeg and self.area != 0.08:
            raise ValueError(f"area must be 0.08 with from_jpeg, got {self.area}")
        if self.view == "eval" and self.crop > self.resize:
            raise ValueError(f"resize must be at least the crop, {self.crop}, got {self.resize}")

    def sums(self) -> SumsView:
        """A picture to its sums.

        Raises:
            ImportError: torchvision cannot be imported.
        """
        train = self.view == "train"
        view: View = PixelView(self.resize, self.crop, train=train, area=self.area)
        if self.from_jpeg:
            view = JPEGView(JPEGTransform(None, None, (self.resize, self.crop), train=train))
        return SumsView(view, self.chroma, self.rounding)

    def words(self, names: Sequence[str]) -> str:
        """These settings for the pictures of these names as JSON: equal where the sums are."""
        content = dataclasses.asdict(self)
        if self.view == "train":
            del content["resize"]
        else:
            del content["seed"], content["area"]
        listed = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
        return json.dumps({"version": _VERSION, "pictures": len(names), "names": listed} | content)


@dataclasses.dataclass(frozen=True)
class Measured:
    """How it went: the statistics, and names and reasons of pictures that could not be read."""

    statistics: ChannelStatistics
    broken: list[tuple[str, str]]


def measure(
    pictures: Sequence[tuple[Path, Path]],
    output: Path,
    crops: Crops,
    processes: Processes,
    *,
    workers: int = 0,
    broken: str = "skip",
    step: Callable[[int, list[tuple[str, str]]], None] = lambda done, broken: None,
) -> Measured | None:
    """Measures mean and standard deviation of all 192 channels, and writes them.

    The sums of each shard are written to a hidden folder beside the output; an interrupted
    measurement goes on from there, with any number of processes. Processes on several machines
    must see the same folders.

    Args:
        pictures: files, each with its name in the folder, as ``find_pictures`` gives them.
        output: a JSON file for ``ChannelStatistics.load``.
        crops: what is measured of a picture.
        processes: this one and the others, each of which must call this.
        workers: processes of each that read pictures; 0: itself.
        broken: "skip" or "fail", pictures that cannot be read.
        step: called now and then with the number of pictures that are through, and names and
            reasons of those that this process could not read since.

    Returns:
        What was found; None in processes other than the first.

    Raises:
        ValueError: the folder beside the output is of other pictures or settings; a picture is
            broken, with "fail"; none could be read.
        OSError: a file cannot be written; another process has ended.
        KeyboardInterrupt: an interrupt. What was finished is kept.
    """
    shards = _Shards(output, crops.words([below.as_posix() for _, below in pictures]), pictures)
    missing = shards.missing(processes, broken)
    base = len(pictures) - sum(len(shards.ranges[i]) for i in missing)
    mine = missing[processes.rank :: processes.count]
    order = _Pieces([shards.ranges[i] for i in mine])
    reader = loader(
        Pictures(_Unlabelled(pictures), crops.sums(), seed=crops.seed, broken=broken),
        order,
        workers=min(workers, len(order)),
        device=torch.device("cpu"),
    )
    own = 0
    step(base, [])
    with _one_thread(), Interrupts() as interrupts, contextlib.closing(read(reader)) as batches:
        for i in mine:
            sums, skipped = Sums.nothing(), []
            for batch in itertools.islice(batches, order.pieces(shards.ranges[i])):
                interrupts.check()
                for packed in batch.values:
                    sums = sums.plus(unpacked(packed))
                skipped += batch.broken
                own += len(batch.labels) + len(batch.broken)
                step(base + own if processes.count == 1 else base, batch.broken)
            shards.write(i, _Shard(sums, skipped))
            if processes.main and processes.count > 1:
                base = shards.through()
    processes.barrier()
    step(len(pictures), [])
    return shards.finish(crops) if processes.main else None


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Sums of some pictures, and names and reasons of those among them that are broken."""

    sums: Sums
    broken: list[tuple[str, str]]


class _Shards:
    """The files of an unfinished measurement, in a hidden folder beside its output.

    settings.json says what is measured; N.json are the sums of shard N. Each appears complete or
    never.
    """

    def __init__(self, output: Path, words: str, pictures: Sequence[object]) -> None:
        count = len(pictures)
        size = max(LEAST, -(-count // MOST))
        self.output = output
        self.folder = output.with_name(f".{output.name}.partial")
        self.words = words
        self.ranges = [range(i, min(i + size, count)) for i in range(0, count, size)]

    def missing(self, processes: Processes, broken: str) -> list[int]:
        """The numbers of shards that are not there yet, as the first process finds them."""
        found: object = None
        if processes.main:
            try:
                found = (self.words, self._missing(broken))
            except (OSError, ValueError) as error:
                found = error
        found = processes.shared(found)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, tuple)
        words, numbers = found
        if words != self.words:
            raise ValueError(
                "every process must find the same pictures and have the same options, got others "
                f"in process {processes.rank}"
            )
        return list(numbers)

    def _missing(self, broken: str) -> list[int]:
        if self.output.is_dir():
            raise ValueError(f"output must be a file, got the folder {self.output}")
        self.folder.mkdir(parents=True, exist_ok=True)
        told = self.folder / "settings.json"
        if not told.exists():
            with replacing(told) as hidden:
                hidden.write_text(self.words, "utf-8")
        elif told.read_text("utf-8") != self.words:
            raise ValueError(
                f"{self.folder} must be of the same pictures and options, but was begun with "
                "others: delete it, or write to another file"
            )
        missing = []
        for i in range(len(self.ranges)):
            shard = self._read(i)
            if shard is None:
                missing.append(i)
            elif shard.broken and broken == "fail":
                raise ValueError(": ".join(shard.broken[0]))
        return missing

    def through(self) -> int:
        """Pictures of all shards that are there."""
        return sum(len(self.ranges[i]) for i in range(len(self.ranges)) if self._path(i).exists())

    def write(self, i: int, shard: _Shard) -> None:
        """Keeps the sums of a shard."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "count": shard.sums.count,
            "mean": shard.sums.mean.tolist(),
            "squares": shard.sums.squares.tolist(),
            "broken": shard.broken,
        }
        with replacing(self._path(i)) as hidden:
            hidden.write_text(json.dumps(content), "utf-8")

    def finish(self, crops: Crops) -> Measured:
        """Adds all up, writes the output and removes the folder."""
        sums, broken = Sums.nothing(), []
        for i in range(len(self.ranges)):
            shard = self._read(i)
            if shard is None:
                raise OSError(f"{self._path(i)} is missing: all processes must see one folder")
            sums = sums.plus(shard.sums)
            broken += shard.broken
        if sums.count < 2:
            shutil.rmtree(self.folder)
            first = f", the first of them {': '.join(broken[0])}" if broken else ""
            raise ValueError(
                f"pictures must give at least two coefficients of a channel, got {sums.count}: "
                f"{len(broken)} cannot be read{first}"
            )
        statistics = ChannelStatistics._of(sums, ("coefficients", crops.chroma, crops.rounding))
        with replacing(self.output) as hidden:
            statistics.save(hidden)
            content = json.loads(hidden.read_text("utf-8"))
            hidden.write_text(json.dumps(content | {"crop": crops.crop}) + "\n", "utf-8")
        shutil.rmtree(self.folder)
        return Measured(statistics, broken)

    def _path(self, i: int) -> Path:
        return self.folder / f"{i}.json"

    def _read(self, i: int) -> _Shard | None:
        """A shard; None where it is not there, or damaged."""
        try:
            content = json.loads(self._path(i).read_text("utf-8"))
            if (content["format"], content["version"]) != (_FORMAT, _VERSION):
                return None
            mean, squares = (
                torch.tensor(content[key], dtype=torch.float64).reshape(CHANNELS)
                for key in ("mean", "squares")
            )
            broken = [(str(name), str(reason)) for name, reason in content["broken"]]
            return _Shard(Sums(int(content["count"]), mean, squares), broken)
        except (FileNotFoundError, ValueError, KeyError, TypeError, RuntimeError):
            return None


class _Pieces(EvaluationBatches):
    """Shard after shard, a few consecutive pictures at a time, never of two shards."""

    def __init__(self, ranges: Sequence[range]) -> None:
        super().__init__(0, PIECE)
        self.ranges = ranges

    def pieces(self, shard: range) -> int:
        """Of one shard."""
        return -(-len(shard) // self.size)

    def __len__(self) -> int:
        return sum(map(self.pieces, self.ranges))

    def __iter__(self) -> Iterator[list[int]]:
        for shard in self.ranges:
            for start in range(0, len(shard), self.size):
                yield list(shard[start : start + self.size])


class _Unlabelled:
    """Pictures as samples of one class."""

    def __init__(self, pictures: Sequence[tuple[Path, Path]]) -> None:
        self.paths = [os.fspath(path) for path, _ in pictures]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.paths[index], 0


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Workers have one thread of torch; so has this process, so that nothing depends on its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
