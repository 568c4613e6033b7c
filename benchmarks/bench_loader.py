"""JPEG files of 500 x 375 pixels (quality 90, 4:2:0) through a DataLoader, to RGB and to 24
channels, on the CPU.

Written by `make bench PYTEST="--tables benchmarks/results"`. The files are crops of scikit-image's
photographs. Each picture is decoded, resized and cropped: RGB 224 by torchvision's recipe (256,
crop 224), all else by the paper's (512, crop 448). Then come: nothing (uint8); conversion and
normalisation by torchvision (float32); or the transform to 24 normalised channels, by freqops, by
one convolution into which all of it is folded, or as the paper's authors do it: the crop is encoded
as JPEG at quality 100, once as it is for Y and once enlarged twofold for Cb and Cr, and the
coefficients are read back. The packages that do it are named; all encoders are libjpeg-turbo, and
jpegio reads files alone, so that each of its readings includes writing one. "freqops, not decoded"
takes the file's coefficients: scaled by 11/8, cropped and normalised on blocks, no pixels between.

"pictures/s and core": one process runs all pipelines in turns, a batch of 8 each, with one thread,
as the workers of a DataLoader have. The median processor time of a picture counts, its copy into
the batch included. "transform" is what follows the crop, timed within the pipeline, where caches
hold what they do in earnest, and its share of the whole. "times as long as freqops" holds for the
whole pipeline, beside it for the transform alone. DataLoader is whole epochs in batches of 8 by the
clock, in turns, received by a process that does nothing else. "bytes" is what a picture hands to
the GPU. "off by" is the largest distance of a chosen channel to the exact coefficients with the
same chroma, in coefficient units, over all pictures.

jpeg2dct (Uber Technologies, https://github.com/uber-research/jpeg2dct) is what the authors use; its
licence is its own and for non-commercial purposes alone. freqops needs nothing of it.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from measure import interleaved
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.utils.data import DataLoader

from freqops import ChannelSelection, ChannelStatistics, reference

pytest.importorskip("torchvision")
pytest.importorskip("skimage")

from loaders import (
    CHANNELS,
    DECODERS,
    Pictures,
    Pipeline,
    ToChannels,
    from_coefficients,
    to_channels,
    to_pixels,
    write_photographs,
)

# torchvision says that its decoder will move to another package; workers are forked.
pytestmark = pytest.mark.filterwarnings("default")

TITLE = "From JPEG files to what a network reads"
PACKAGES = (
    "torchvision",
    "pillow",
    "PyTurboJPEG",
    "simplejpeg",
    "jpeg2dct",
    "jpeg2dct-numpy",
    "pyjpegio",
    "opencv-python-headless",
)
HEAD = """\
| decoded by | to | bytes | transform ms | of the whole | pictures/s and core \
| **times as long as freqops** | transform alone | DataLoader, 1 worker, pictures/s | 2 workers \
| off by |
|---|---|---|---|---|---|---|---|---|---|---|"""

FILES = 64
BATCH = 8
SECONDS = 20.0
"""For the turns in one process, and as much again for the DataLoaders."""
OURS = "freqops"
NOT_DECODED = "freqops, not decoded"
WORKERS = (1, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photographs(tmp_path_factory.mktemp("photographs"), FILES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A worker has one, whatever --threads says."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Turn:
    """A batch a call, file after file; keeps the processor time that each picture takes."""

    def __init__(
        self,
        files: Sequence[Path],
        decode: Callable[[str], Tensor],
        pipeline: Pipeline | None = None,
        *,
        batched: bool = False,
    ) -> None:
        self.files = itertools.cycle([str(path) for path in files])
        self.decode = decode
        self.pipeline = pipeline
        self.batch = torch.empty(0)
        if batched or pipeline is not None:
            whole = Pictures(files, decode, pipeline)
            self.batch = torch.stack([whole[i] for i in range(BATCH)])
        self.seconds: list[float] = []
        self.transform_seconds: list[float] = []

    def __call__(self) -> None:
        for place in range(BATCH):
            self.picture(place)

    def picture(self, place: int) -> None:
        start = time.process_time()
        result = self.decode(next(self.files))
        if self.pipeline is not None:
            result = self.pipeline.prepare(result)
            if self.pipeline.transform is not None:
                cropped = time.process_time()
                result = self.pipeline.transform(result)
                self.transform_seconds.append(time.process_time() - cropped)
        if len(self.batch):
            self.batch[place].copy_(result)
        self.seconds.append(time.process_time() - start)

    @property
    def whole(self) -> float:
        """Median seconds of a picture."""
        return statistics.median(self.seconds)

    @property
    def transform(self) -> float:
        """Median seconds of the transform, 0 without one."""
        return statistics.median(self.transform_seconds) if self.transform_seconds else 0.0


def off_by(
    way: ToChannels,
    pictures: Sequence[Tensor],
    selection: ChannelSelection,
    normalisation: ChannelStatistics,
) -> float:
    """The largest distance to the exact coefficients, in their units."""
    mean, std = (x[list(selection)].view(-1, 1, 1) for x in (normalisation.mean, normalisation.std))
    worst = 0.0
    for picture in pictures:
        got = way.pipeline(picture).double() * std + mean
        crop = way.pipeline.prepare(picture)
        want = reference.block_dct(crop, selection, chroma=way.chroma, dtype=torch.float64)
        worst = max(worst, float((got - want).abs().max()))
    return worst


def epoch(loader: DataLoader[Tensor]) -> int:
    """All batches of a loader; how many pictures they held."""
    return sum(len(batch) for batch in loader)


def bench_pictures_per_second(
    files: list[Path], rows_on: Callable[[str], list[str]], benchmark: BenchmarkFixture
) -> None:
    """Decoding alone, pipelines to RGB, pipelines to channels."""
    selection, normalisation = ChannelSelection.square(CHANNELS), ChannelStatistics.photographs()
    decoding = {name: Turn(files, decode) for name, decode in DECODERS.items()}
    interleaved(decoding, 2.0)
    decoder = min(decoding, key=lambda name: decoding[name].whole)
    decode = DECODERS[decoder]

    ways, missing = to_channels(selection, normalisation)
    pictures = [decode(str(path)) for path in files]
    errors = {name: off_by(way, pictures, selection, normalisation) for name, way in ways.items()}
    for name, error in errors.items():
        assert error <= ways[name].tolerance, f"{name} is off by {error}"

    pipelines = to_pixels() | {name: way.pipeline for name, way in ways.items()}
    turns = {name: Turn(files, decode, pipeline) for name, pipeline in pipelines.items()}
    datasets = {name: Pictures(files, decode, pipeline) for name, pipeline in pipelines.items()}
    straight = from_coefficients(selection, normalisation)
    for dtype, way in straight.items():
        name = f"{NOT_DECODED}, {dtype}"
        turns[name] = Turn(files, way, batched=True)
        datasets[name] = Pictures(files, way)
    interleaved(decoding | turns, SECONDS)
    loaders = {
        (name, workers): DataLoader(
            dataset,
            BATCH,
            num_workers=workers,
            persistent_workers=True,
            multiprocessing_context="fork",
        )
        for name, dataset in datasets.items()
        for workers in WORKERS
    }
    epochs = interleaved(
        {
            f"{name} {workers}": functools.partial(epoch, loader)
            for (name, workers), loader in loaders.items()
        },
        SECONDS,
        warmup=1,  # starts the workers
    )

    rows = rows_on("cpu")
    for name, turn in decoding.items():
        rows.append(f"| {name} | decoded only | | | | {1 / turn.whole:.0f} | | | | | |")
    for name, turn in turns.items():
        transform = off = ratio = share = ""
        if turn.transform:
            transform, share = f"{1e3 * turn.transform:.2f}", f"{turn.transform / turn.whole:.0%}"
        if name in ways:
            ratio = f"{turn.transform / turns[OURS].transform:.1f}"
            off = f"{errors[name]:.2g}"
        whole = turn.whole / turns[OURS].whole
        through = "not decoded" if name.startswith(NOT_DECODED) else decoder
        channels = "" if name in pipelines and name not in ways else f"{CHANNELS} channels, "
        rates = " | ".join(f"{FILES / epochs[f'{name} {workers}']:.0f}" for workers in WORKERS)
        rows.append(
            f"| {through} | {channels}{name} | {turn.batch[0].nbytes:,} | {transform} | {share} "
            f"| {1 / turn.whole:.0f} | **{whole:.2f}** | {ratio} | {rates} | {off} |"
        )
        benchmark.extra_info[name] = 1 / turn.whole
    for name in missing:
        rows.append(
            f"| | {CHANNELS} channels, encode twice: {name} not installed | | | | | | | | | |"
        )
    benchmark.pedantic(turns[OURS], rounds=20, warmup_rounds=1)
