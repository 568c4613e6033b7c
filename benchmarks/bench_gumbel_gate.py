"""Float32 features (N, 192, 56, 56) and their gates, against `gumbel_softmax(hard=True)` and a
product, eager and compiled.

Written by `make bench PYTEST="--tables benchmarks/results"`. All candidates take turns in one
process, with memory that malloc keeps; medians. Noise is drawn within the time of each; in training
gates are open with probability 0.87. GB/s counts the bytes that must move, each once: forward reads
and writes the features, backward reads them and the gradient and writes a gradient. "of copy" is
that rate as a share of a plain copy's in the same run, of 128 MB: tensors that the caches hold in
part are faster, and so is a closed channel, which is not read.
"""

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from measure import OURS, Call, Comparison, allocated, compare, copy_bandwidth
from pytest_benchmark.fixture import BenchmarkFixture
from tables import Record, Row, Table
from torch import Tensor

import freqops

# Deprecations inside torch.compile are not ours to mend, and stop no measurement.
pytestmark = pytest.mark.filterwarnings("default")

CHANNELS, SIDE = 192, 56
Gating = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


COLUMNS = {
    "case": "{}",
    "freqops ms": "{:.2f}",
    "GB/s": "{:.1f}",
    "of copy": "{:.0%}",
    "allocates MB": "{:.1f}",
    "best rival": "{}",
    "its ms": "{:.2f}",
    "its MB": "{:.1f}",
    "times faster": "**{:.2f}**",
    "other rivals, ms": "{:.1f}",
}
TRAINING = Table("Training", "Sampled gates, forward and backward.", COLUMNS)
EVALUATION = Table("Evaluation", "Forward alone, without noise.", COLUMNS)


def row(case: str, comparison: Comparison, candidates: Mapping[str, Call]) -> Row:
    best = comparison.best
    return {
        "case": case,
        "freqops ms": 1e3 * comparison.ours,
        "GB/s": comparison.gigabytes_per_second,
        "of copy": comparison.of_copy,
        "allocates MB": allocated(candidates[OURS]) / 1e6,
        "best rival": best,
        "its ms": 1e3 * comparison.rivals[best],
        "its MB": allocated(candidates[best]) / 1e6,
        "times faster": comparison.times_faster,
        "other rivals, ms": comparison.others,
    }


@pytest.fixture(scope="module")
def bandwidth() -> float:
    return copy_bandwidth()


def ours(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return freqops.gumbel_gate(x, logits, freqops.logistic_noise(x.shape[:2]))


def softmax_and_product(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    gate = F.gumbel_softmax(logits, hard=True)[..., 1]
    return x * gate[..., None, None], gate


def ours_in_evaluation(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return freqops.gumbel_gate(x, logits)


def comparison_and_product(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What stands for the rival without noise: no softmax is needed for a decision."""
    gate = (logits[..., 1] > logits[..., 0]).to(x.dtype)
    return x * gate[..., None, None], gate


def features(n: int, form: torch.memory_format = torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, CHANNELS, SIDE, SIDE, generator=generator)
    return x.contiguous(memory_format=form)


def logits_of(n: int, share: float) -> Tensor:
    """Logits whose gates are open with this probability, each by far without noise."""
    logits = torch.zeros(n, CHANNELS, 2)
    drawn = torch.rand(n, CHANNELS, generator=torch.Generator().manual_seed(1))
    logits[..., 1] = torch.where(drawn < share, 1.0, -1.0)
    return logits


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("n", [8, 32])
def bench_training(
    n: int,
    form: torch.memory_format,
    bandwidth: float,
    record: Record,
    benchmark: BenchmarkFixture,
) -> None:
    """Forward and backward of a sampled gate, with the gradients of features and logits."""
    torch.compiler.reset()
    x = features(n, form).requires_grad_()
    logits = torch.tensor([0.1, 2.0]).repeat(n, CHANNELS, 1).requires_grad_()
    grad_y = torch.randn_like(x)
    grad_gate = torch.full((n, CHANNELS), 1 / CHANNELS)

    def step(gating: Gating) -> tuple[Tensor, ...]:
        y, gate = gating(x, logits)
        return torch.autograd.grad([y, gate], [x, logits], [grad_y, grad_gate])

    compiled = torch.compile(softmax_and_product, dynamic=False)
    for gating in (ours, softmax_and_product, compiled):  # samples differ; each is what it must be
        y, gate = gating(x, logits)
        assert 0.8 < gate.mean() < 0.93
        torch.testing.assert_close(y, x * gate.round()[..., None, None])
    candidates = {
        "freqops": lambda: step(ours),
        "eager": lambda: step(softmax_and_product),
        "compiled": lambda: step(compiled),
    }
    layout = "" if form == torch.contiguous_format else ", channels_last"
    case = f"N = {n}{layout}"
    result = row(case, compare(candidates, 5 * x.nbytes, bandwidth), candidates)
    record(TRAINING, result)
    benchmark.extra_info.update(result)
    benchmark.pedantic(candidates["freqops"], rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("share", [1.0, 0.12])
@pytest.mark.parametrize("n", [8, 32])
def bench_evaluation(
    n: int, share: float, bandwidth: float, record: Record, benchmark: BenchmarkFixture
) -> None:
    """Forward alone, without noise: what is closed is not read."""
    torch.compiler.reset()
    x, logits = features(n), logits_of(n, share)
    compiled = torch.compile(comparison_and_product, dynamic=False)
    for results in zip(
        ours_in_evaluation(x, logits), comparison_and_product(x, logits), strict=True
    ):
        torch.testing.assert_close(*results, rtol=0, atol=0)
    candidates = {
        "freqops": lambda: ours_in_evaluation(x, logits),
        "eager": lambda: comparison_and_product(x, logits),
        "compiled": lambda: compiled(x, logits),
    }
    case = f"N = {n}, {share:.0%} open"
    result = row(case, compare(candidates, 2 * x.nbytes, bandwidth), candidates)
    record(EVALUATION, result)
    benchmark.extra_info.update(result)
    benchmark.pedantic(candidates["freqops"], rounds=10, warmup_rounds=1)
