"""Mean and std that the network of a run normalises its channels with."""

from __future__ import annotations

from pathlib import Path

import torch

from freqops._jpeg_transform import JPEGTransform
from freqops._sums import Sums
from freqops.statistics import ChannelStatistics
from freqops.training._build import network_of, picture_sizes
from freqops.training._data import Data
from freqops.training._interrupt import Interrupts
from freqops.training._log import Broken, Log
from freqops.training._pictures import EvaluationBatches, Pictures, Samples, View, loader, read
from freqops.training._processes import Processes
from freqops.training._seeds import drawing, seed_of
from freqops.training._settings import Settings
from freqops.training._sums_view import SumsView, unpacked
from freqops.training._views import JPEGView, PixelView

__all__ = ["STATISTICS", "statistics_of"]

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
        return ChannelStatistics.load(settings.statistics)
    path = folder / STATISTICS
    if processes.main and not path.exists():
        _measure(settings, data, broken, log, interrupts).save(path)
    processes.barrier()
    return ChannelStatistics.load(path)


def _measure(
    settings: Settings,
    data: Data,
    broken: Broken,
    log: Log,
    interrupts: Interrupts,
) -> ChannelStatistics:
    """Of training crops, drawn by the seed, without those that cannot be read."""
    with drawing(0):  # the size of its pictures needs no weights of worth
        network = network_of(settings, len(data.classes), None, lambda text: None)
    sizes = picture_sizes(settings, network)
    view: View = PixelView(*sizes, train=True, area=settings.area, flip=settings.flip)
    if settings.transform == "jpeg":
        view = JPEGView(JPEGTransform(None, None, sizes, train=True))
    generator = torch.Generator().manual_seed(seed_of(settings.seed, "statistics"))
    chosen = torch.randperm(len(data.train), generator=generator)[:MEASURED].tolist()
    log.say(f"measuring mean and std of the channels on {len(chosen)} training pictures")
    batches = loader(
        Pictures(
            _Some(data.train, chosen),
            SumsView(view, settings.chroma, settings.rounding),
            seed=settings.seed,
            broken=settings.broken,
        ),
        EvaluationBatches(len(chosen), 16),
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


class _Some:
    """Some samples of a data set, by number."""

    def __init__(self, samples: Samples, numbers: list[int]) -> None:
        self.samples = samples
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.samples[self.numbers[index]]
