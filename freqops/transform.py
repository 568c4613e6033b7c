"""`freqops transform`: picture files to files of coefficients, and back.

A picture `a/cat.jpg` becomes `a/cat.jpg.safetensors`, or `a/cat.jpg.npy` beside `a/cat.jpg.json`:
the whole name is kept, so that cat.jpg and cat.png do not meet. A file appears complete or never.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from freqops._jpeg_transform import JPEGTransform
from freqops._pictures import SUFFIXES, is_jpeg, read_image, read_stored, resize_and_crop
from freqops.channels import CHANNELS
from freqops.files import DTYPES, Coefficients, Settings, metadata_of, write
from freqops.jpeg import UnsupportedJPEG
from freqops.ops import block_dct
from freqops.statistics import ChannelStatistics

__all__ = [
    "Job",
    "Outcome",
    "Summary",
    "find_pictures",
    "plan",
    "reason_of",
    "resize_and_crop",
    "run",
]


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture and the file it becomes."""

    source: Path
    target: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one picture went: why it is broken, why it was decoded, what is damaged; else None."""

    broken: str | None = None
    decoded: str | None = None
    damaged: str | None = None


_Convert: TypeAlias = Callable[[Path], tuple[Coefficients, Outcome]]


@dataclasses.dataclass
class Summary:
    """How a run went: files written, files found done, and each broken picture with its reason.

    Of those written, ``decoded`` had no JPEG coefficients to take and went by their pixels, and of
    ``damaged`` what could be read was taken.
    """

    written: int = 0
    decoded: int = 0
    damaged: int = 0
    done: int = 0
    broken: list[tuple[Path, str]] = dataclasses.field(default_factory=list)


def find_pictures(places: Sequence[str | os.PathLike[str]]) -> list[tuple[Path, Path]]:
    """Picture files, sorted within each folder, each with its path below the place it was found in.

    Folders are searched to any depth, without hidden files. A picture found twice is taken once.

    Raises:
        ValueError: a place does not exist, is a folder without pictures, or cannot be listed.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for place in map(Path, places):
        if place.is_dir():
            inside = list(_walk(place))
            if not inside:
                raise ValueError(f"{place} must hold pictures, found none in it")
        elif place.exists():
            inside = [(place, Path(place.name))]
        else:
            raise ValueError(f"{place} must be a picture or a folder, found nothing there")
        for path, below in inside:
            found.setdefault(path.resolve(), (path, below))
    return list(found.values())


def _walk(folder: Path) -> Iterator[tuple[Path, Path]]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"{error.filename} must be a folder to read: {error.strerror}")

    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield path, path.relative_to(folder)


def plan(
    places: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str], suffix: str
) -> list[Job]:
    """Which picture becomes which file: below `output` as it lies below the place named.

    Raises:
        ValueError: as `find_pictures`, or two pictures would become the same file.
    """
    jobs: dict[Path, Job] = {}
    for source, below in find_pictures(places):
        target = Path(output, below.parent, f"{below.name}.{suffix}")
        if target in jobs:
            raise ValueError(
                f"{jobs[target].source} and {source} would both become {target}: "
                "name a folder above both, or write them to different folders"
            )
        jobs[target] = Job(source, target)
    return list(jobs.values())


def convert(
    source: Path, settings: Settings, transform: JPEGTransform | None = None
) -> tuple[Coefficients, Outcome]:
    """Reads a picture and transforms it, with ``transform`` where there is one.

    Returns:
        The coefficients, and with ``transform`` why the picture was decoded, where the file's own
        were not taken, and what is damaged.
    """
    if transform is None:
        picture = resize_and_crop(read_image(source), settings.resize, settings.crop)
        coefficients = block_dct(
            picture,
            settings.channels,
            mean=settings.statistics().get("mean"),
            std=settings.statistics().get("std"),
            chroma=settings.chroma,
            rounding=settings.rounding,
            dtype=DTYPES[settings.dtype],
        )
        size = (picture.shape[1], picture.shape[2])
        return Coefficients(coefficients, size, settings), Outcome()
    damaged = None
    if is_jpeg(source):
        try:
            stored = read_stored(source, tolerant=settings.tolerant)
            damaged = stored.damage or None
            coefficients, size = transform._sized(stored)
            return Coefficients(coefficients, size, settings), Outcome(damaged=damaged)
        except UnsupportedJPEG as error:
            reason = reason_of(error)
    else:
        reason = "not a JPEG file"
    coefficients, size = transform._sized(read_image(source))
    return Coefficients(coefficients, size, settings), Outcome(decoded=reason, damaged=damaged)


def transform_of(settings: Settings) -> JPEGTransform | None:
    """What files of source "jpeg" are made with; None for "pixels".

    Raises:
        ValueError: no picture could have such a crop.
    """
    if settings.source != "jpeg":
        return None
    given = settings.statistics()
    statistics = None
    if given:
        zeros, ones = [0.0] * CHANNELS, [1.0] * CHANNELS
        statistics = ChannelStatistics(given.get("mean", zeros), given.get("std", ones))
    sizes = (settings.resize, settings.crop)
    try:
        return JPEGTransform(settings.channels, statistics, sizes, dtype=DTYPES[settings.dtype])
    except ValueError as error:  # a name that the command line does not have
        raise ValueError(str(error).removeprefix("JPEGTransform: ")) from None


def is_done(job: Job, settings: Settings) -> bool:
    """Whether the file is there, made with the same settings, or strictly where they are tolerant:
    of sound files the numbers are the same.

    Raises:
        ValueError: a file is there that was made with others, or by something else.
    """
    if not job.target.exists():
        return False
    strict = dataclasses.replace(settings, tolerant=False)
    try:
        same = metadata_of(job.target)["settings"] in (settings.words(), strict.words())
    except (OSError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"{job.target} is there already, but was not made with these options: "
            "use --overwrite, or another folder"
        )
    return True


def run(
    jobs: Sequence[Job],
    settings: Settings,
    *,
    overwrite: bool = False,
    workers: int = 1,
    step: Callable[[Job, Outcome], None] = lambda job, outcome: None,
) -> Summary:
    """Converts every picture that is not done yet; a broken one is noted, and the others go on.

    Args:
        jobs: from `plan`.
        settings: for all of them.
        overwrite: convert also those that are done.
        workers: threads that read, transform and write.
        step: called for each picture that is through.

    Raises:
        ValueError: a file is there that was made with other settings, or no picture could have
            such a crop; nothing was written then.
        OSError: a file cannot be written.
    """
    one = functools.partial(convert, settings=settings, transform=transform_of(settings))
    summary = Summary()
    waiting = []
    for job in jobs:
        if not overwrite and is_done(job, settings):
            summary.done += 1
            step(job, Outcome())
        else:
            waiting.append(job)
    with contextlib.closing(_in_threads(waiting, one, workers)) as results:
        for job, outcome in results:
            if outcome.broken is None:
                summary.written += 1
                summary.decoded += outcome.decoded is not None
                summary.damaged += outcome.damaged is not None
            else:
                summary.broken.append((job.source, outcome.broken))
            step(job, outcome)
    return summary


def _in_threads(
    jobs: Sequence[Job], one: _Convert, workers: int
) -> Generator[tuple[Job, Outcome], None, None]:
    """Each job as it ends, with what `_one` says; an interrupt waits for those begun."""
    rest = iter(jobs)
    running: dict[concurrent.futures.Future[Outcome], Job] = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        while True:
            # Two a thread keep it busy, and keep the wait after an interrupt short.
            while len(running) < 2 * workers and (job := next(rest, None)) is not None:
                running[pool.submit(_one, job, one)] = job
            if not running:
                return
            ended, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in ended:
                yield running.pop(future), future.result()


def _one(job: Job, one: _Convert) -> Outcome:
    try:
        content, outcome = one(job.source)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        # torch has a RuntimeError for what does not fit into memory.
        return Outcome(broken=reason_of(error))
    write(content, job.target)
    return outcome


def reason_of(error: BaseException) -> str:
    """What an error about a file says, in one line without the file's name."""
    error = error.__cause__ if isinstance(error.__cause__, ValueError) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
