"""Mean and std that the network of a run normalises its channels with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from freqops._jpeg_transform import JPEGTransform
from freqops._sums import Sums
from freqops.files import replacing
from freqops.statistics import ChannelStatistics
from freqops.training._build import network_of, picture_sizes
from freqops.training._data import Data
from freqops.training._interrupt import Interrupts
from freqops.training._log import Broken, Log
from freqops.training._pictures import EvaluationBatches, Pictures, View, loader, read
from freqops.training._processes import Processes
from freqops.training._seeds import drawing, seed_of
from freqops.training._settings import Settings
from freqops.training._sums_view import SumsView, unpacked
from freqops.training._views import JPEGView, PixelView

__all__ = ["STATISTICS", "other_crop", "statistics_of"]

STATISTICS = "statistics.json"

MEASURED = 5000
"""Pictures that are looked at: with 3136 blocks of each the standard error of a std is far below
that of the choice of pictures."""


def statistics_of(
    settings: Settings,
    data: Data,
    folder: Path,
    processes: Processes,
    broken: Broken,
    log: Log,
    interrupts: Interrupts,
) -> ChannelStatistics | None:
    """What ``settings.statistics`` names; None where the network brings its own.

    "own" are measured by process 0, on training crops of 5000 pictures at most, and kept in the
    folder of the run.

    Args:
        settings, data, folder: of the run.
        processes: this one and the others.
        broken: takes pictures that cannot be read.
        log: shows progress.
        interrupts: end it.

    Raises:
        ValueError: there is no such file, or it holds something else; fewer than two pictures
            could be read.
    """
    if settings.init:
        return None
    if settings.statistics == "photographs":
        return ChannelStatistics.photographs()
    if settings.statistics != "own":
        if not Path(settings.statistics).is_file():
            raise ValueError(
                "statistics must be own, photographs or a file that `freqops stats` wrote, "
                f"got {settings.statistics!r}"
            )
        return _fitting(ChannelStatistics.load(settings.statistics), settings)
    path = folder / STATISTICS
    if processes.main and not path.exists():
        measured = _measure(settings, data, broken, log, interrupts)
        with replacing(path) as hidden:
            measured.save(hidden)
    processes.barrier()
    return ChannelStatistics.load(path)


def other_crop(settings: Settings, crop: int) -> str | None:
    """What to say where a file of `freqops stats` is of other crops than the run's, else None."""
    if settings.init or settings.statistics in ("own", "photographs"):
        return None
    told: object = json.loads(Path(settings.statistics).read_text(encoding="utf-8")).get("crop")
    if told in (None, crop):
        return None
    return (
        f"note: {settings.statistics} was measured on crops of {told} pixels, training has {crop} "
        f"(freqops stats --crop {crop})"
    )


def _measure(
    settings: Settings,
    data: Data,
    broken: Broken,
    log: Log,
    interrupts: Interrupts,
) -> ChannelStatistics:
    """Of training crops, drawn by the seed, without those that cannot be read."""
    with drawing(0):  # the size of its pictures needs no weights of worth
        plain = dataclasses.replace(settings, weights="none")
        network = network_of(plain, len(data.classes), None, lambda text: None)
    sizes = picture_sizes(settings, network)
    view: View = PixelView(*sizes, train=True, area=settings.area, flip=settings.flip)
    if settings.transform == "jpeg":
        view = JPEGView(JPEGTransform(None, None, sizes, train=True))
    generator = torch.Generator().manual_seed(seed_of(settings.seed, "statistics"))
    chosen = torch.randperm(len(data.train), generator=generator)[:MEASURED].tolist()
    log.say(f"measuring mean and std of the channels on {len(chosen)} training pictures")
    order = EvaluationBatches(len(data.train), 16)
    order.indices = chosen
    batches = loader(
        Pictures(
            data.train,
            SumsView(view, settings.chroma, settings.rounding),
            seed=settings.seed,
            broken=settings.broken,
            what="training picture",
        ),
        order,
        workers=settings.workers,
        device=torch.device("cpu"),
    )
    sums = Sums.nothing()
    for batch in log.track(read(batches), len(chosen), "statistics"):
        interrupts.check()
        broken.add(batch.broken)
        for packed in batch.values:
            sums = sums.plus(unpacked(packed))
    if sums.count < 2:
        raise ValueError("statistics need at least one training picture, none could be read")
    return ChannelStatistics._of(sums, ("coefficients", settings.chroma, settings.rounding))


def _fitting(statistics: ChannelStatistics, settings: Settings) -> ChannelStatistics:
    """Statistics of the channels that the network will see; those of given numbers say nothing."""
    wanted = (settings.chroma, settings.rounding)
    measured = (statistics.chroma, statistics.rounding)
    if None not in measured and measured != wanted:
        raise ValueError(
            f"statistics must be measured with chroma {wanted[0]} and rounding {wanted[1]}, got "
            f"{measured[0]} and {measured[1]} in {settings.statistics} "
            f"(freqops stats --chroma {wanted[0]} --rounding {wanted[1]})"
        )
    return statistics
