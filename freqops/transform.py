"""`freqops transform`: picture files to files of coefficients, and back.

A picture `a/cat.jpg` becomes `a/cat.jpg.safetensors`, or `a/cat.jpg.npy` beside `a/cat.jpg.json`:
the whole name is kept, so that cat.jpg and cat.png do not meet. A file appears complete or never.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from freqops._jpeg_geometry import BLOCK, size_after
from freqops._jpeg_picture import gather, middle
from freqops._pictures import SUFFIXES, is_jpeg, read_image, resize_and_crop
from freqops.files import DTYPES, Coefficients, Settings, metadata_of, write
from freqops.jpeg import UnsupportedJPEG, read_coefficients
from freqops.ops import block_dct

__all__ = ["Job", "Summary", "find_pictures", "plan", "resize_and_crop", "run"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture and the file it becomes."""

    source: Path
    target: Path


@dataclasses.dataclass
class Summary:
    """How a run went: files written, files found done, and each broken picture with its reason.

    Of those written, ``decoded`` had no JPEG coefficients to take and went by their pixels.
    """

    written: int = 0
    decoded: int = 0
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


def convert(source: Path, settings: Settings) -> tuple[Coefficients, bool]:
    """Reads a picture and transforms it; True where its coefficients were taken as they are."""
    if settings.source == "jpeg" and is_jpeg(source):
        with contextlib.suppress(UnsupportedJPEG):
            return _from_jpeg(source, settings), True
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
    height, width = picture.shape[1:]
    return Coefficients(coefficients, (height, width), settings), False


def _from_jpeg(source: Path, settings: Settings) -> Coefficients:
    try:
        stored = read_coefficients(source)
    except UnsupportedJPEG:
        raise
    except ValueError as error:  # the path is told beside it
        reason = str(error).removeprefix(f"read_coefficients: source {os.fspath(source)!r}: ")
        raise ValueError(reason) from None
    picture, at = middle(stored, settings.resize, settings.crop)
    coefficients = gather(
        picture,
        settings.channels,
        mean=settings.statistics().get("mean"),
        std=settings.statistics().get("std"),
        scale=(at.scale_y, at.scale_x),
        crop=(at.top, at.left, at.rows, at.columns),
        dtype=DTYPES[settings.dtype],
    )
    # The last block may reach beyond the picture.
    height = min(BLOCK * at.rows, size_after(picture.height, at.scale_y) - BLOCK * at.top)
    width = min(BLOCK * at.columns, size_after(picture.width, at.scale_x) - BLOCK * at.left)
    return Coefficients(coefficients, (height, width), settings)


def is_done(job: Job, settings: Settings) -> bool:
    """Whether the file is there, made with the same settings.

    Raises:
        ValueError: a file is there that was made with others, or by something else.
    """
    if not job.target.exists():
        return False
    try:
        same = metadata_of(job.target)["settings"] == settings.words()
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
    step: Callable[[Job, str | None], None] = lambda job, reason: None,
) -> Summary:
    """Converts every picture that is not done yet; a broken one is noted, and the others go on.

    Args:
        jobs: from `plan`.
        settings: for all of them.
        overwrite: convert also those that are done.
        workers: threads that read, transform and write.
        step: called for each picture that is through, with the reason if it is broken.

    Raises:
        ValueError: a file is there that was made with other settings; nothing was written then.
        OSError: a file cannot be written.
    """
    summary = Summary()
    waiting = []
    for job in jobs:
        if not overwrite and is_done(job, settings):
            summary.done += 1
            step(job, None)
        else:
            waiting.append(job)
    with contextlib.closing(_in_threads(waiting, settings, workers)) as results:
        for job, (reason, taken) in results:
            if reason is None:
                summary.written += 1
                summary.decoded += settings.source == "jpeg" and not taken
            else:
                summary.broken.append((job.source, reason))
            step(job, reason)
    return summary


def _in_threads(
    jobs: Sequence[Job], settings: Settings, workers: int
) -> Generator[tuple[Job, tuple[str | None, bool]], None, None]:
    """Each job as it ends, with what `_one` says; an interrupt waits for those begun."""
    rest = iter(jobs)
    running: dict[concurrent.futures.Future[tuple[str | None, bool]], Job] = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        while True:
            # Two a thread keep it busy, and keep the wait after an interrupt short.
            while len(running) < 2 * workers and (job := next(rest, None)) is not None:
                running[pool.submit(_one, job, settings)] = job
            if not running:
                return
            ended, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in ended:
                yield running.pop(future), future.result()


def _one(job: Job, settings: Settings) -> tuple[str | None, bool]:
    """Why the picture is broken, and whether its coefficients were taken as they are."""
    try:
        content, taken = convert(job.source, settings)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        # torch has a RuntimeError for what does not fit into memory.
        return _reason(error.__cause__ or error), False
    write(content, job.target)
    return None, taken


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
