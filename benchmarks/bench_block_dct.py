"""uint8 pictures (backward: float32) to float32 normalised channels, 4:4:4, against the folded
convolution and the folded product, eager and compiled.

Written by `make bench PYTEST="--tables benchmarks/results"`. All candidates take turns in one
process, with memory that malloc keeps; medians. GB/s counts the bytes that must move, each once:
pixels read and results written (backward: gradients read, picture gradients written as well). "of
copy" is that rate as a share of a plain copy's in the same run.
"""

from collections.abc import Callable

import pytest
import torch
from measure import compare, copy_bandwidth
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
    size = images.nbytes + ours().nbytes
    benchmark.extra_info.update(compare(case, candidates, size, bandwidth, rows))
    benchmark.pedantic(ours, rounds=10, warmup_rounds=1)


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
    size = 2 * images.nbytes + 2 * grad.nbytes
    benchmark.extra_info.update(compare(case, candidates, size, bandwidth, rows))
    benchmark.pedantic(candidates["freqops"], rounds=10, warmup_rounds=1)
