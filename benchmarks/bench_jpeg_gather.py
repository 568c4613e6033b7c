"""Coefficients of JPEG files to normalised channels on one grid, against the ways to say it in
PyTorch.

Written by `make bench PYTEST="--tables benchmarks/results"`. All candidates of a row take turns in
one process, in at least 15 rounds, with memory that malloc keeps; medians. A turn is two calls, of
which the second counts: the caches hold what a candidate itself left. Each
is first checked against ours. int16 values and a table of steps for each component, float32
results, one thread, noise. Channels are those of `ChannelSelection.square`.

- **GB/s** counts the bytes of all coefficients and of the result, each once.
- **of copy** is that rate in units of that of `Tensor.copy_`, which moves as many bytes in the same
  turns.
- **error** is the largest difference from the reference in float64, in coefficient units.
- Rivals have steps, replication of chroma and statistics folded into one map: luma, and chroma that
  is not subsampled, by indices, a factor and an offset; other chroma by a matrix product from the
  64 coefficients of a block to the chosen ones of four, or a transposed convolution. Each gives a
  contiguous result, or one in channels_last, which spares it a transposition; eager and compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from bench_block_dct import FIGURES, OTHERS, QUALITIES, Report, figures, qualities, report
from gather_peers import Gathering, Planes, random_planes, rivals
from measure import OURS, Call, compare, interleaved
from peers import compiled
from tables import Row, Table
from torch import Tensor

import freqops

__all__ = ["report"]  # a fixture

# Deprecations inside torch.compile are not ours to mend, and stop no measurement.
pytestmark = pytest.mark.filterwarnings("default")

BATCHES = {"8 x 448x448": (8, 56, 56), "1 x 1080x1920": (1, 135, 240), "1 x 448x448": (1, 56, 56)}
CHANNELS = (24, 64, 192)
SUBSAMPLINGS = ("4:4:4", "4:2:0")
TOLERANCE = 5e-3
"""In coefficient units, of values up to 50 x 20."""

SECONDS, ROUNDS = 5.0, 15

every_case = pytest.mark.parametrize(
    ("batch", "subsampling", "channels"),
    [(b, s, c) for b in BATCHES for s in SUBSAMPLINGS for c in CHANNELS],
)
SIZES = {"batch": "{}", "subsampling": "{}", "channels": "{}"}


def gathering(channels: int, subsampling: str) -> Gathering:
    draw = torch.Generator().manual_seed(1)
    return Gathering(
        channels=freqops.ChannelSelection.square(channels),
        mean=torch.randn(channels, generator=draw),
        std=torch.rand(channels, generator=draw) + 0.5,
        tables=torch.randint(1, 21, (3, 64), dtype=torch.int32, generator=draw),
        subsampling=subsampling,
    )


def case(batch: str, subsampling: str, channels: int) -> tuple[Gathering, Planes]:
    return gathering(channels, subsampling), random_planes(*BATCHES[batch], subsampling)


LAST = "freqops, channels_last"
FORWARD = Table(
    "Onto the grid of luma",
    "All rivals against ours with a contiguous result; beside it ours in channels_last.",
    SIZES | FIGURES | {"channels_last ms": "{:.3g}"} | QUALITIES | OTHERS,
)


@every_case
def bench_gather(batch: str, subsampling: str, channels: int, report: Report) -> None:
    """All rivals, unscaled."""
    what, planes = case(batch, subsampling, channels)
    calls: dict[str, Callable[[], Tensor]] = {OURS: lambda: what.freqops(planes)}
    eager = rivals(what)
    ours, exact = calls[OURS](), what.exact(planes)
    for name, rival in (eager | compiled(eager)).items():
        assert what.error(rival(planes), exact) < TOLERANCE
        calls[name] = lambda rival=rival: rival(planes)
    assert what.error(ours, exact) < TOLERANCE
    size = sum(p.nbytes for p in planes) + ours.nbytes
    last = {LAST: lambda: what.freqops(planes, memory_format=torch.channels_last)}
    comparison = compare(calls, size, beside=last, seconds=SECONDS, least=ROUNDS, twice=True)
    row: Row = {
        "batch": batch,
        "subsampling": subsampling,
        "channels": channels,
        **figures(comparison),
        "channels_last ms": 1e3 * comparison.beside[LAST],
        **qualities(comparison, calls, lambda result: what.error(result, exact)),
        "other rivals, ms": comparison.others,
    }
    report(FORWARD, row, calls[OURS])


CHANGES: dict[str, dict[str, object]] = {
    "flip": {"flip": True},
    "scale 4": {"scale": 4},
    "scale 11": {"scale": 11},
    "scale 11, crop of the middle": {"scale": 11, "crop": (10, 10, 56, 56)},
    "scale 6, then 11": {"scale": ((6, 11), (6, 11))},
    "float16 results": {"dtype": torch.float16},
    "channels_last results": {"memory_format": torch.channels_last},
}
CHANGED = Table(
    "One thing changed",
    "Ours alone, on 8 x 448x448. **of plain** is our time in units of that of the plain case, in "
    "the same turns.",
    {
        "changed": "{}",
        "subsampling": "{}",
        "channels": "{}",
        "freqops ms": "{:.3g}",
        "plain ms": "{:.3g}",
        "of plain": "**{:.2f}**",
    },
)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("change", CHANGES)
def bench_changed(change: str, subsampling: str, channels: int, report: Report) -> None:
    """Another size, order, type or layout; beside it the plain case."""
    what, planes = case("8 x 448x448", subsampling, channels)
    calls: dict[str, Call] = {
        OURS: lambda: what.freqops(planes, **CHANGES[change]),
        "plain": lambda: what.freqops(planes),
    }
    took = interleaved(calls, SECONDS / 2, least=ROUNDS, before=lambda name: calls[name]())
    row: Row = {
        "changed": change,
        "subsampling": subsampling,
        "channels": channels,
        "freqops ms": 1e3 * took[OURS],
        "plain ms": 1e3 * took["plain"],
        "of plain": took[OURS] / took["plain"],
    }
    report(CHANGED, row, calls[OURS])
