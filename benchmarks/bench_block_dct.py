"""``block_dct`` against the folded convolution and the folded product, eager and compiled.

GB/s counts the bytes that must move, each once: pixels read and results written (backward:
gradients read, picture gradients written as well). "of copy" is that rate as a share of a plain
copy's in the same run.
"""

from collections.abc import Callable

import pytest
import torch
from measure import copy_bandwidth, interleaved
from peers import rivals
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import freqops

# Deprecations inside torch.compile are not ours to mend, and stop no measurement.
pytestmark = pytest.mark.filterwarnings("default")

BATCHES = {
    "8 x 448x448": (8, 3, 448, 448),
    "16 x 224x224": (16, 3, 224, 224),
    "1 x 1080x1920": (1, 3, 1080, 1920),
}
# In coefficient units / std: the folded float32 products are that far from the exact result.
TOLERANCE = 2e-2


@pytest.fixture(scope="module")
def bandwidth() -> float:
    return copy_bandwidth()


def statistics(channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(channels, generator=generator), torch.rand(
        channels, generator=generator
    ) + 0.5


def pictures(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def compare(
    case: str,
    candidates: dict[str, Callable[[], object]],
    size: int,
    bandwidth: float,
    rows: list[str],
    benchmark: BenchmarkFixture,
) -> None:
    """Times all candidates in turns, adds a row, and records the ratio for pytest-benchmark."""
    took = interleaved(candidates)
    ours = took.pop("freqops")
    best = min(took, key=lambda name: took[name])
    others = ", ".join(f"{name} {1e3 * t:.1f}" for name, t in took.items() if name != best)
    rows.append(
        f"| {case} | {1e3 * ours:.2f} | {size / ours / 1e9:.1f} | {size / ours / bandwidth:.0%} "
        f"| {best} | {1e3 * took[best]:.2f} | **{took[best] / ours:.2f}** | {others} |"
    )
    benchmark.extra_info.update(
        best_rival=best, times_faster=took[best] / ours, gigabytes_per_second=size / ours / 1e9
    )
    benchmark.pedantic(candidates["freqops"], rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("channels", [24, 64, 192])
@pytest.mark.parametrize("batch", BATCHES)
def bench_forward(
    batch: str, channels: int, bandwidth: float, rows: list[str], benchmark: BenchmarkFixture
) -> None:
    """uint8 pictures to float32 normalised coefficients, 4:4:4."""
    images, selection = pictures(BATCHES[batch]), freqops.ChannelSelection.square(channels)
    mean, std = statistics(channels)

    def ours() -> Tensor:
        return freqops.block_dct(images, selection, mean=mean, std=std)

    candidates: dict[str, Callable[[], object]] = {"freqops": ours}
    for name, rival in rivals(selection.indices, mean, std, scale=1).items():
        torch.testing.assert_close(rival(images), ours(), rtol=1e-4, atol=TOLERANCE)
        candidates[name] = lambda rival=rival: rival(images)
    case = f"forward, {batch}, {channels} channels"
    compare(case, candidates, images.nbytes + ours().nbytes, bandwidth, rows, benchmark)


@pytest.mark.parametrize("channels", [24, 64, 192])
def bench_backward(
    channels: int, bandwidth: float, rows: list[str], benchmark: BenchmarkFixture
) -> None:
    """Float32 pictures forward, then the gradient back to them."""
    selection = freqops.ChannelSelection.square(channels)
    images = (pictures(BATCHES["8 x 448x448"]) / 255).requires_grad_()
    mean, std = statistics(channels)

    def step(transform: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(transform(images), images, grad)[0]

    def ours(pictures: Tensor) -> Tensor:
        return freqops.block_dct(pictures, selection, mean=mean, std=std)

    grad = torch.randn(ours(images).shape, generator=torch.Generator().manual_seed(2))
    candidates: dict[str, Callable[[], object]] = {"freqops": lambda: step(ours)}
    for name, rival in rivals(selection.indices, mean, std, scale=255).items():
        torch.testing.assert_close(step(rival), step(ours), rtol=1e-4, atol=1e-2 * 255)
        candidates[name] = lambda rival=rival: step(rival)
    case = f"forward + backward, 8 x 448x448, {channels} channels"
    compare(case, candidates, 2 * images.nbytes + 2 * grad.nbytes, bandwidth, rows, benchmark)
