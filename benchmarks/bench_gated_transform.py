"""Pictures to gated coefficients, and the mean of coefficients, beside what they stand for.

Written by `make bench PYTEST="--tables benchmarks/results"`. Pictures of 8 x 448x448, uint8 unless
named; all 192 channels, of which the gate opens some. All candidates take turns in one process,
with memory that malloc keeps; medians. "By steps" is transform, mean over pixels, gate and product,
as a network computes them in training; "freqops" is block_dct_mean, the gate's decision, and the
transform of the open channels. GB/s counts the bytes that must move: pictures are read twice,
results written once; "of copy" is that rate as a share of a plain copy's in the same run, of
128 MB. The mean reads pictures once; "of sum" is its rate as a share of that of `Tensor.sum` over
as many bytes as float32.
"""

from collections.abc import Callable

import pytest
import torch
from measure import OURS, allocated, compare, copy_bandwidth
from pytest_benchmark.fixture import BenchmarkFixture
from tables import Record, Table
from torch import Tensor

import freqops

N, SIDE = 8, 448

TRANSFORM = Table(
    "Gated transform",
    "Pictures to gated coefficients, in evaluation.",
    {
        "layout": "{}",
        "open": "{}",
        "freqops ms": "{:.2f}",
        "GB/s": "{:.1f}",
        "of copy": "{:.0%}",
        "allocates MB": "{:.1f}",
        "by steps ms": "{:.2f}",
        "its MB": "{:.1f}",
        "times faster": "**{:.2f}**",
        "parts, ms": "{:.2f}",
    },
)
MEAN = Table(
    "Mean of coefficients",
    "Pictures to (N, 192).",
    {
        "pictures": "{}",
        "chroma": "{}",
        "freqops ms": "{:.2f}",
        "GB/s": "{:.1f}",
        "of sum": "{:.0%}",
        "transform and mean ms": "{:.2f}",
        "times faster": "**{:.2f}**",
    },
)


@pytest.fixture(scope="module")
def bandwidth() -> float:
    return copy_bandwidth()


def pictures(dtype: torch.dtype, form: torch.memory_format = torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    images = pixels if dtype == torch.uint8 else (pixels / 255).to(dtype)
    return images.contiguous(memory_format=form)


def gate_of(count: int) -> freqops.nn.ChannelGate:
    """A gate that holds so many channels open, which it computes for each picture."""
    gate = freqops.nn.ChannelGate(192).eval()
    logits = gate.get_parameter("logits.bias").view(192, 2)
    order = torch.randperm(192, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits[:, 1] = torch.where(order < count, 2.0, -2.0)
    return gate


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("count", [24, 96, 192])
def bench_transform(
    count: int,
    form: torch.memory_format,
    bandwidth: float,
    record: Record,
    benchmark: BenchmarkFixture,
) -> None:
    """Pictures to gated coefficients in evaluation."""
    images, gate = pictures(torch.uint8), gate_of(count)
    statistics = freqops.ChannelStatistics.photographs()
    transform = freqops.nn.FrequencyTransform(192, statistics, memory_format=form)
    settings = {"mean": transform.mean, "std": transform.std}

    def at_once() -> tuple[Tensor, Tensor]:
        scale, opened = gate.decide(freqops.block_dct_mean(images, **settings))
        return freqops.block_dct(images, **settings, memory_format=form, gate=scale), opened

    with torch.no_grad():
        y, opened = at_once()
        want, want_opened = gate(transform(images))
        assert torch.equal(opened, want_opened) and opened.sum() == N * count
        torch.testing.assert_close(y, want, atol=1e-3, rtol=0)
        pooled = freqops.block_dct_mean(images, **settings)
        scale, _ = gate.decide(pooled)
        parts: dict[str, Callable[[], object]] = {
            "mean": lambda: freqops.block_dct_mean(images, **settings),
            "gate": lambda: gate.decide(pooled),
            "write": lambda: freqops.block_dct(images, **settings, memory_format=form, gate=scale),
            "transform without a gate": lambda: transform(images),
        }
        candidates = {OURS: at_once, "by steps": lambda: gate(transform(images))}
        size = 2 * images.nbytes + y.nbytes
        result = compare(candidates, size, bandwidth, beside=parts)
        row = {
            "layout": "contiguous" if form == torch.contiguous_format else "channels_last",
            "open": count,
            "freqops ms": 1e3 * result.ours,
            "GB/s": result.gigabytes_per_second,
            "of copy": result.of_copy,
            "allocates MB": allocated(at_once) / 1e6,
            "by steps ms": 1e3 * result.rivals["by steps"],
            "its MB": allocated(candidates["by steps"]) / 1e6,
            "times faster": result.times_faster,
            "parts, ms": {name: 1e3 * took for name, took in result.beside.items()},
        }
        record(TRANSFORM, row)
        benchmark.extra_info.update(row)
        benchmark.pedantic(at_once, rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("chroma", ["4:4:4", "dctnet"])
@pytest.mark.parametrize(
    ("dtype", "form"),
    [
        (torch.uint8, torch.contiguous_format),
        (torch.uint8, torch.channels_last),
        (torch.float32, torch.contiguous_format),
        (torch.float32, torch.channels_last),
    ],
    ids=str,
)
def bench_mean(
    dtype: torch.dtype,
    form: torch.memory_format,
    chroma: str,
    record: Record,
    benchmark: BenchmarkFixture,
) -> None:
    """The mean of all coefficients."""
    images = pictures(dtype, form)
    read = torch.ones(images.nbytes // 4)
    torch.testing.assert_close(
        freqops.block_dct_mean(images, chroma=chroma),
        freqops.block_dct(images, chroma=chroma).mean((2, 3)),
        atol=1e-2,
        rtol=0,
    )
    candidates = {
        OURS: lambda: freqops.block_dct_mean(images, chroma=chroma),
        "by steps": lambda: freqops.block_dct(images, chroma=chroma).mean((2, 3)),
    }
    result = compare(candidates, images.nbytes, beside={"sum": lambda: read.sum()})
    layout = "" if form == torch.contiguous_format else ", channels_last"
    row = {
        "pictures": f"{str(dtype).removeprefix('torch.')}{layout}",
        "chroma": chroma,
        "freqops ms": 1e3 * result.ours,
        "GB/s": result.gigabytes_per_second,
        "of sum": result.beside["sum"] / result.ours,
        "transform and mean ms": 1e3 * result.rivals["by steps"],
        "times faster": result.times_faster,
    }
    record(MEAN, row)
    benchmark.extra_info.update(row)
    benchmark.pedantic(candidates[OURS], rounds=10, warmup_rounds=1)
