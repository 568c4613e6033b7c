"""What bounds `block_dct` on this machine.

Written by `make bench PYTEST="--tables benchmarks/results"`. All take turns in one process, one
thread, with memory that malloc keeps; medians. Float32 results (backward: float32 gradients of the
pictures), chroma 4:4:4, no statistics.

- **loads** is `Tensor.sum` of float32 numbers, as many bytes as pictures (backward: gradients).
- **stores** is `torch.full` of the result's shape.
- **of memory** is loads plus stores in units of our time. It passes 100 % where ours overlaps the
  two and writes past the caches, which `torch.full` does not.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from measure import OURS, interleaved
from pytest_benchmark.fixture import BenchmarkFixture
from tables import Record, Table
from torch import Tensor

import freqops

Work = tuple[Tensor, Callable[[], Tensor]]
"""What is read, and the operator on it."""

pytestmark = pytest.mark.filterwarnings("default")

TITLE = "What bounds block_dct"

BOUNDS = Table(
    "Loads and stores alone",
    "Milliseconds.",
    {
        "what": "{}",
        "batch": "{}",
        "channels": "{}",
        "freqops": "{:.3g}",
        "loads": "{:.3g}",
        "stores": "{:.3g}",
        "of memory": "**{:.0%}**",
    },
)

BATCHES = {
    "8 x 448x448": (8, 3, 448, 448),
    "16 x 224x224": (16, 3, 224, 224),
    "1 x 1080x1920": (1, 3, 1080, 1920),
}


def forward(dtype: torch.dtype, channels: int, shape: tuple[int, ...]) -> Work:
    """Pictures, and the transform of them."""
    selection = freqops.ChannelSelection.square(channels)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8) if dtype == torch.uint8 else images.to(dtype) / 255
    return images, lambda: freqops.block_dct(images, selection)


def backward(channels: int, shape: tuple[int, ...]) -> Work:
    """The gradient, and what takes it to the pictures."""
    n, _, height, width = shape
    indices = freqops.ChannelSelection.square(channels).indices
    draw = torch.Generator().manual_seed(0)
    grad = torch.randn(n, channels, height // 8, width // 8, generator=draw)
    options = (indices, None, "4:4:4", height, width, "float32")
    return grad, lambda: torch.ops.freqops.block_dct_backward(grad, *options)


WORKS: dict[str, Callable[[int, tuple[int, ...]], Work]] = {
    "forward, uint8": lambda channels, shape: forward(torch.uint8, channels, shape),
    "forward, float32": lambda channels, shape: forward(torch.float32, channels, shape),
    "backward, float32": backward,
}


@pytest.mark.parametrize("channels", [24, 64, 192])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("what", WORKS)
def bench_bounds(
    what: str, batch: str, channels: int, record: Record, benchmark: BenchmarkFixture
) -> None:
    """Ours, and the memory traffic alone."""
    torch.set_num_threads(1)
    read, ours = WORKS[what](channels, BATCHES[batch])
    words, result = torch.ones(read.nbytes // 4), ours()
    calls = {
        OURS: ours,
        "loads": lambda: words.sum(),
        "stores": lambda: torch.full_like(result, 0.5),
    }
    took = interleaved(calls, seconds=2, least=15)
    row = {"what": what, "batch": batch, "channels": channels}
    row |= {name: 1e3 * took[name] for name in (OURS, "loads", "stores")}
    row |= {"of memory": (took["loads"] + took["stores"]) / took[OURS]}
    record(BOUNDS, row)
    benchmark.extra_info.update(row)
    benchmark.pedantic(ours, rounds=10, warmup_rounds=1)
