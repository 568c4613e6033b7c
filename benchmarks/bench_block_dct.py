"""Pictures to normalised channels, against what one writes in PyTorch and against DCT libraries.

Written by `make bench PYTEST="--tables benchmarks/results"`. All candidates of a row take turns in
one process, in at least 15 rounds, with memory that malloc keeps; medians. Each is first checked
against ours. Unless a table says otherwise: uint8 contiguous pictures, chroma 4:4:4, float32
results, forward, one thread, noise in the pictures and in the statistics. Channels are those of
`ChannelSelection.square`.

- **GB/s** counts the bytes that must move, each once: pixels read and results written (backward:
  gradients read, picture gradients written as well).
- **of copy** is that rate in units of that of `Tensor.copy_`, which moves as many bytes in the same
  turns.
- **error** is the largest difference from the reference in float64, in coefficient units, where DC
  goes to 1024 (backward: as a share of the largest gradient).
- **extra MB** is what torch allocates beyond the result (backward: beyond both results).
- Not every combination is measured: one thing changes at a time, with gradients only the batch and
  the channels, with two threads and for memory only ours. torchjpeg, which stays with torch 2.4,
  and freezing of compiled rivals' weights are left out.
- Rivals are a convolution of stride 8 with everything folded in, contiguous or in channels_last
  (so is its result then); a matrix product after `pixel_unshuffle`; `F.linear` on a row of pixels a
  block (result in channels_last); and einsum over colours, rows and columns with only the rows and
  columns that are needed. Each is eager and compiled, einsum also with max-autotune.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping

import growth
import pytest
import torch
import torch.nn.functional as F
from libraries import LIBRARIES
from measure import (
    COPY,
    OURS,
    Call,
    Comparison,
    allocated,
    compare,
    copying,
    interleaved,
    repeated,
)
from peers import Rival, Transform, compiled, rivals
from pytest_benchmark.fixture import BenchmarkFixture
from tables import Record, Row, Table
from torch import Tensor

import freqops
from freqops import reference

# Deprecations inside torch.compile are not ours to mend, and stop no measurement.
pytestmark = pytest.mark.filterwarnings("default")

PACKAGES = [library.package for library in LIBRARIES.values()]

BATCHES = {
    "8 x 448x448": (8, 3, 448, 448),
    "16 x 224x224": (16, 3, 224, 224),
    "1 x 1080x1920": (1, 3, 1080, 1920),
    "1 x 448x448": (1, 3, 448, 448),
}
CHANNELS = (24, 64, 192)

TOLERANCE = 2e-2
"""In coefficient units / std, std at least 1/2: ten times what the folded float32 sums are off by.
Float16 results: and one rounding each, of ours and theirs."""

GRADIENT_TOLERANCE = 1e-4
"""Of the largest gradient."""

SECONDS, ROUNDS = 2.0, 15
"""For a row: as many rounds as fit, but no fewer."""

CALLS = 50
"""Timed as one where a call takes microseconds."""

every_size = pytest.mark.parametrize(
    ("batch", "channels"), [(batch, channels) for batch in BATCHES for channels in CHANNELS]
)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is transformed, and to what."""

    batch: str
    channels: int
    pixels: torch.dtype = torch.uint8
    layout: torch.memory_format = torch.contiguous_format
    chroma: str = "4:4:4"
    dtype: torch.dtype = torch.float32

    def images(self) -> Tensor:
        """Noise, uint8 or in [0, 1]."""
        draw = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, BATCHES[self.batch], dtype=torch.uint8, generator=draw)
        images = images.contiguous(memory_format=self.layout)
        return images if self.pixels == torch.uint8 else images.to(self.pixels) / 255

    def transform(self) -> Transform:
        draw = torch.Generator().manual_seed(1)
        return Transform(
            channels=freqops.ChannelSelection.square(self.channels),
            mean=torch.randn(self.channels, generator=draw),
            std=torch.rand(self.channels, generator=draw) + 0.5,
            chroma=self.chroma,
            dtype=self.dtype,
            white=255 if self.pixels == torch.uint8 else 1,
        )


Report = Callable[[Table, Row, Call | None], None]


@pytest.fixture
def report(record: Record, benchmark: BenchmarkFixture) -> Report:
    """Adds a row, and times our call once more, if there is one, for pytest-benchmark's table."""

    def add(table: Table, row: Row, ours: Call | None) -> None:
        record(table, row)
        benchmark.extra_info.update(row)
        if ours is not None:
            benchmark.pedantic(ours, rounds=10, warmup_rounds=1)

    return add


def check(rival: Rival, transform: Transform, images: Tensor) -> None:
    """Whether a rival computes what we do."""
    rtol = 2 * torch.finfo(transform.dtype).eps if transform.dtype == torch.float16 else 1e-4
    ours = transform.freqops(images)
    torch.testing.assert_close(rival(images), ours, rtol=rtol, atol=TOLERANCE)


def allocated_beyond(call: Callable[[], Tensor], kept: int = 0) -> int:
    """Bytes of tensors that a call allocates beside its result, and beside what else is one."""
    return allocated(call) - call().nbytes - kept


def qualities(
    comparison: Comparison,
    calls: Mapping[str, Callable[[], Tensor]],
    error: Callable[[Tensor], float],
    kept: int = 0,
) -> Row:
    """Errors and memory of ours and of the best rival; ``kept`` bytes are a result too."""
    ours, best = calls[OURS], calls[comparison.best]
    return {
        "error": error(ours()),
        "its error": error(best()),
        "extra MB": allocated_beyond(ours, kept) / 1e6,
        "its extra MB": allocated_beyond(best, kept) / 1e6,
    }


def figures(comparison: Comparison) -> Row:
    """The columns that every comparison has."""
    return {
        "freqops ms": 1e3 * comparison.ours,
        "GB/s": comparison.gigabytes_per_second,
        "of copy": comparison.of_copy,
        "best rival": comparison.best,
        "its ms": 1e3 * comparison.rivals[comparison.best],
        "times faster": comparison.times_faster,
    }


FIGURES = {
    "freqops ms": "{:.3g}",
    "GB/s": "{:.1f}",
    "of copy": "{:.0%}",
    "best rival": "{}",
    "its ms": "{:.3g}",
    "times faster": "**{:.1f}**",
}
QUALITIES = {
    "error": "{:.1e}",
    "its error": "{:.1e}",
    "extra MB": "{:.1f}",
    "its extra MB": "{:.1f}",
}
SIZES = {"batch": "{}", "channels": "{}"}
OTHERS = {"other rivals, ms": "{:.3g}"}

FORWARD = Table("Forward", "All rivals.", SIZES | FIGURES | QUALITIES | OTHERS)


@every_size
def bench_forward(batch: str, channels: int, report: Report) -> None:
    """All rivals on the plain case."""
    case = Case(batch, channels)
    images, transform = case.images(), case.transform()
    eager = rivals(transform)
    calls: dict[str, Callable[[], Tensor]] = {OURS: lambda: transform.freqops(images)}
    for name, rival in (eager | compiled(eager)).items():
        check(rival, transform, images)
        calls[name] = lambda rival=rival: rival(images)
    size = images.nbytes + calls[OURS]().nbytes
    comparison = compare(calls, size, seconds=SECONDS, least=ROUNDS)
    exact = transform.exact(images)
    row = {
        "batch": batch,
        "channels": channels,
        **figures(comparison),
        **qualities(comparison, calls, lambda result: transform.error(result, exact)),
        "other rivals, ms": comparison.others,
    }
    report(FORWARD, row, calls[OURS])


BACKWARD = Table(
    "Forward and backward",
    "Float32 pictures forward, then the gradient back to them; the gradient that arrives lies in "
    "memory as the candidate's own result. All rivals. Errors are those of the picture's gradient.",
    SIZES | FIGURES | QUALITIES | OTHERS,
)


@every_size
def bench_backward(batch: str, channels: int, report: Report) -> None:
    """All rivals, with the gradient of the pictures."""
    case = Case(batch, channels, pixels=torch.float32)
    images, transform = case.images().requires_grad_(), case.transform()
    draw = torch.Generator().manual_seed(2)
    grad = torch.randn(transform.freqops(images).shape, generator=draw)

    def step(rival: Rival) -> Callable[[], Tensor]:
        laid = torch.empty_like(rival(images)).copy_(grad)  # as its own result lies in memory
        return lambda: torch.autograd.grad(rival(images), images, laid)[0]

    eager = rivals(transform)
    calls = {OURS: step(transform.freqops)}
    ours = calls[OURS]()
    unit = float(ours.abs().max())
    for name, rival in (eager | compiled(eager)).items():
        calls[name] = step(rival)
        torch.testing.assert_close(calls[name](), ours, rtol=1e-4, atol=GRADIENT_TOLERANCE * unit)
    size = 2 * (images.nbytes + grad.nbytes)
    comparison = compare(calls, size, seconds=SECONDS, least=ROUNDS)
    exact = reference.block_dct_backward(
        grad.double(),
        transform.channels.indices,
        transform.std,
        transform.chroma,
        *images.shape[2:],
        torch.float64,
    )

    def error(gradient: Tensor) -> float:
        return float((gradient - exact).abs().max()) / unit

    row = {
        "batch": batch,
        "channels": channels,
        **figures(comparison),
        **qualities(comparison, calls, error, kept=grad.nbytes),
        "other rivals, ms": comparison.others,
    }
    report(BACKWARD, row, calls[OURS])


CHANGES: dict[str, dict[str, object]] = {
    "uint8 channels_last": {"layout": torch.channels_last},
    "float32 pictures": {"pixels": torch.float32},
    "float32 channels_last": {"pixels": torch.float32, "layout": torch.channels_last},
    "dctnet": {"chroma": "dctnet"},
    "4:2:0": {"chroma": "4:2:0"},
    "float16 results": {"dtype": torch.float16},
}

CONTENDERS = (
    "convolution",
    "convolution, channels_last",
    "convolution, channels_last, compiled",
    "product, compiled",
    "linear, compiled",
    "einsum, max-autotune",
)
"""Those that are the best somewhere in the forward table or near it, and the convolution in
channels_last for pictures that are."""

CHANGED = Table(
    "One thing changed",
    "**of plain** is our time in units of that of the plain case, in the same turns. Rivals are "
    "those that are the best somewhere in the first table or near it.",
    {"changed": "{}"} | SIZES | FIGURES | {"of plain": "**{:.2f}**"} | QUALITIES | OTHERS,
)


@every_size
@pytest.mark.parametrize("change", CHANGES)
def bench_changed(change: str, batch: str, channels: int, report: Report) -> None:
    """Another input, chroma mode or type of result; beside it the plain case."""
    case, plain = Case(batch, channels, **CHANGES[change]), Case(batch, channels)
    images, transform = case.images(), case.transform()
    plain_images, plain_transform = plain.images(), plain.transform()
    eager = rivals(transform)
    every = eager | compiled(eager)
    calls: dict[str, Callable[[], Tensor]] = {OURS: lambda: transform.freqops(images)}
    for name in CONTENDERS:
        check(every[name], transform, images)
        calls[name] = lambda rival=every[name]: rival(images)
    beside = {"plain": lambda: plain_transform.freqops(plain_images)}
    size = images.nbytes + calls[OURS]().nbytes
    comparison = compare(calls, size, beside=beside, seconds=SECONDS / 2, least=ROUNDS)
    exact = transform.exact(images)
    row = {
        "changed": change,
        "batch": batch,
        "channels": channels,
        **figures(comparison),
        "of plain": comparison.ours / comparison.beside["plain"],
        **qualities(comparison, calls, lambda result: transform.error(result, exact)),
        "other rivals, ms": comparison.others,
    }
    report(CHANGED, row, calls[OURS])


BY_LIBRARIES = Table(
    "DCT libraries",
    "On 8 x 448x448. Four libraries that install beside a current torch. Each does the DCT of "
    "8x8 blocks and PyTorch what is around it; kornia also converts the colours, with constants "
    "that are not those of JFIF. cv2 takes one block a call.",
    {
        "library": "{}",
        "channels": "{}",
        "freqops ms": "{:.3g}",
        "eager ms": "{:.3g}",
        "times faster": "**{:.1f}**",
        "compiled ms": "{:.3g}",
        "than compiled": "**{:.1f}**",
        "its error": "{:.1e}",
    },
)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", LIBRARIES)
def bench_library(name: str, channels: int, report: Report) -> None:
    """Forward with a DCT from elsewhere."""
    library = LIBRARIES[name]
    first = {"library": name, "channels": channels}
    if not library.installed:
        rest = dict.fromkeys(list(BY_LIBRARIES.columns)[2:])
        report(BY_LIBRARIES, first | rest | {"eager ms": "not installed"}, None)
        pytest.skip(f"{library.package} is not installed: pip install '.[bench]'")
    case = Case("8 x 448x448", channels)
    images, transform = case.images(), case.transform()
    versions = {name: library.make(transform)}
    if library.compiles:
        versions |= compiled(versions)
    calls: dict[str, Call] = {OURS: lambda: transform.freqops(images)}
    for version, rival in versions.items():
        if library.exact:
            check(rival, transform, images)
        calls[version] = lambda rival=rival: rival(images)
    size = images.nbytes + transform.freqops(images).nbytes
    comparison = compare(calls, size, seconds=SECONDS, least=ROUNDS)
    eager, fast = (comparison.rivals.get(version) for version in (name, f"{name}, compiled"))
    row = first | {
        "freqops ms": 1e3 * comparison.ours,
        "eager ms": 1e3 * eager,
        "times faster": eager / comparison.ours,
        "compiled ms": fast and 1e3 * fast,
        "than compiled": fast and fast / comparison.ours,
        "its error": transform.error(versions[name](images), transform.exact(images)),
    }
    report(BY_LIBRARIES, row, calls[OURS])


THREADS = Table(
    "Two threads",
    "**scaling** is one thread's time in units of that of two; beside it a copy that moves as many "
    "bytes, in the same turns. Before each timed call stands one that is not timed, with as many "
    "threads.",
    SIZES
    | {"1 thread, ms": "{:.3g}", "2 threads, ms": "{:.3g}", "scaling": "**{:.2f}**"}
    | {"copy 1, ms": "{:.3g}", "copy 2, ms": "{:.3g}", "copy's scaling": "{:.2f}"},
)


@every_size
def bench_threads(batch: str, channels: int, report: Report) -> None:
    """Ours and a copy, with one thread and with two."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    case = Case(batch, channels)
    images, transform = case.images(), case.transform()

    def ours() -> Tensor:
        return transform.freqops(images)

    works = {OURS: ours, COPY: copying(images.nbytes + ours().nbytes)}
    turns = {f"{name} {count}": (work, count) for count in (1, 2) for name, work in works.items()}

    def before(turn: str) -> None:
        work, count = turns[turn]
        torch.set_num_threads(count)
        work()

    calls = {turn: work for turn, (work, _) in turns.items()}
    took = interleaved(calls, SECONDS, least=ROUNDS, before=before)
    torch.set_num_threads(1)
    row = {
        "batch": batch,
        "channels": channels,
        "1 thread, ms": 1e3 * took[f"{OURS} 1"],
        "2 threads, ms": 1e3 * took[f"{OURS} 2"],
        "scaling": took[f"{OURS} 1"] / took[f"{OURS} 2"],
        "copy 1, ms": 1e3 * took[f"{COPY} 1"],
        "copy 2, ms": 1e3 * took[f"{COPY} 2"],
        "copy's scaling": took[f"{COPY} 1"] / took[f"{COPY} 2"],
    }
    report(THREADS, row, ours)


MEMORY = Table(
    "Memory",
    "**torch** is what torch allocates in a call beyond the result. **process** is by how much the "
    "first call makes a fresh process grow beyond it, whose malloc gives nothing back: scratch of "
    "the threads and what is loaded once included. Beside it the convolution, eager.",
    SIZES
    | {"threads": "{}", "torch, KiB": "{:.0f}", "process, KiB": "{:.0f}"}
    | {"convolution: torch": "{:.0f}", "convolution: process": "{:.0f}"},
)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("channels", [24, 192])
@pytest.mark.parametrize("batch", ["8 x 448x448", "1 x 1080x1920"])
def bench_memory(batch: str, channels: int, count: int, report: Report) -> None:
    """Bytes beyond the result."""
    if not growth.available():
        pytest.skip("needs glibc and /proc")
    torch.set_num_threads(count)
    case = Case(batch, channels)
    images, transform = case.images(), case.transform()
    calls = {OURS: transform.freqops, "convolution": rivals(transform)["convolution"]}
    kib: dict[str, tuple[float, float]] = {}
    for name, rival in calls.items():
        grown = growth.measured(name, BATCHES[batch], channels, count)
        beyond = allocated_beyond(lambda rival=rival: rival(images))
        kib[name] = (beyond / 1024, grown / 1024)
    row = {
        "batch": batch,
        "channels": channels,
        "threads": count,
        "torch, KiB": kib[OURS][0],
        "process, KiB": kib[OURS][1],
        "convolution: torch": kib["convolution"][0],
        "convolution: process": kib["convolution"][1],
    }
    report(MEMORY, row, lambda: transform.freqops(images))


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Grad mode is on, as it is by default."""
    yield


MODES: dict[str, tuple[Callable[[], contextlib.AbstractContextManager[object]], bool]] = {
    "grad mode on, nothing requires grad": (plainly, False),
    "no_grad": (torch.no_grad, False),
    "inference_mode": (torch.inference_mode, False),
    "the picture requires grad, forward": (plainly, True),
}

OVERHEAD = Table(
    "Overhead of a call",
    "Microseconds for a picture of 64x64, uint8 unless it requires grad, 24 channels with "
    f"statistics; medians of {CALLS} calls each. The convolution is `F.conv2d` alone, on float32 "
    "pixels.",
    {
        "mode": "{}",
        "block_dct, us": "**{:.1f}**",
        "FrequencyTransform, us": "{:.1f}",
        "F.conv2d, us": "{:.1f}",
    },
)


@pytest.mark.parametrize("mode", MODES)
def bench_overhead(mode: str, report: Report) -> None:
    """A small picture, on which hardly any time goes into arithmetic."""
    context, tracked = MODES[mode]
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=draw)
    pixels = images.float() / 255
    given = pixels.requires_grad_() if tracked else images
    statistics = freqops.ChannelStatistics.photographs()
    selection = freqops.ChannelSelection.square(24)
    mean, std = (values[list(selection)].float() for values in (statistics.mean, statistics.std))
    module = freqops.nn.FrequencyTransform(selection, statistics)
    weight, bias = torch.randn(24, 3, 8, 8, generator=draw), torch.randn(24, generator=draw)
    candidates: dict[str, Call] = {
        "block_dct": lambda: freqops.block_dct(given, selection, mean=mean, std=std),
        "FrequencyTransform": lambda: module(given),
        "F.conv2d": lambda: F.conv2d(pixels, weight, bias, stride=8),
    }
    with context():
        took = interleaved({n: repeated(c, CALLS) for n, c in candidates.items()}, SECONDS)
        row = {"mode": mode, **{f"{n}, us": 1e6 * t / CALLS for n, t in took.items()}}
        report(OVERHEAD, row, candidates["block_dct"])
