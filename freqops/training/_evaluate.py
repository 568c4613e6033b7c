"""evaluate: how often a network is right, and what its gate holds open, on one process or many."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from freqops._arguments import describe
from freqops.gate_statistics import GateStatistics
from freqops.training._pictures import Batch
from freqops.training._processes import Processes

__all__ = ["AMP_DTYPES", "Evaluation", "evaluate"]

AMP_DTYPES = {"off": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Of autocast, by the words of the settings."""

TOP = 5
"""Places among which the right class counts for top-5."""

_COUNT, _FIRST, _AMONG, _OPEN, _BROKEN = range(5)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found, over the pictures of all processes.

    Attributes:
        count: pictures that the network saw.
        top1: share of them in [0, 1] whose class has the highest score.
        top5: share whose class is among the five highest; None with five classes or fewer, where
            it would be 1.
        loss: mean cross entropy, without label smoothing.
        channels_on: channels that the gate holds open in the mean picture; None without a gate.
        seconds: from the first batch asked for to the last result, reading included.
        images_per_second: of the network in the median batch, all processes together: without
            reading, copying and what loader workers did. The first batch, which is slower, does not
            count where others follow.
        broken: pictures that could not be read and are in no other number.
    """

    count: int
    top1: float
    top5: float | None
    loss: float
    channels_on: float | None
    seconds: float
    images_per_second: float
    broken: int


def evaluate(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    processes: Processes | None = None,
    coefficients: bool = False,
    amp: torch.dtype | None = None,
    gates: GateStatistics | None = None,
    step: Callable[[Batch], None] | None = None,
) -> Evaluation:
    """Accuracy, loss and speed of a classification network.

    A picture is right among the first k if fewer than k classes are ahead of its own. Ahead are
    higher scores, equal ones of lower class numbers, and those that are no number; nothing is
    right where a picture's own score is none. Right pictures and open channels are counted in
    integers and summed over processes, so that sharing pictures out changes no count.

    Args:
        network: gives scores (N, classes), or (scores, gate) with a gate. It runs in evaluation
            and is left in the modes that it had.
        batches: of this process, from ``loader``. Labels lie in [0, classes).
        processes: those that work together, each of which must call this; None: this one alone, on
            the device of the network.
        coefficients: the values are what ``network(coefficients=...)`` takes, not pictures.
        amp: dtype of autocast; None for none.
        gates: counts the gates too, and afterwards holds those of all processes. It must be empty.
        step: called with each batch when it is through.

    Returns:
        The same in every process, but for the times.

    Raises:
        TypeError: the network gives something else.
        ValueError: no picture could be read; a label is no class of the network; gates is not
            empty or of other channels; those of ``GateStatistics.update``, which soft gates have.

    Example:
        >>> from freqops.training._pictures import Batch
        >>> batch = Batch(torch.eye(3), torch.tensor([0, 1, 1]), [0, 1, 2], [])
        >>> found = evaluate(nn.Identity(), [batch])
        >>> found.count, round(found.top1, 3), found.top5
        (3, 0.667, None)
    """
    if gates is not None and gates.count:
        raise ValueError(f"evaluate: gates must be empty, got {gates.count} pictures in it")
    processes = processes or Processes(0, 1, _device(network))
    device = processes.device
    counts = [0] * 5
    loss = torch.zeros((), dtype=torch.float64, device=device)
    has_top, has_gate = False, False
    clock = _Clock(device)
    start = time.perf_counter()
    with _evaluating(network), torch.no_grad():
        for batch in batches:
            counts[_BROKEN] += len(batch.broken)
            if len(batch.labels):
                values = batch.values.to(device, non_blocking=True)
                with clock.timing(len(batch.labels)):
                    scores, gate = _run(network, values, coefficients, amp)
                _check_labels(batch.labels, scores)
                labels = batch.labels.to(device)
                places = _places(scores, labels)
                found = [(places < k).sum() for k in (1, TOP)]
                if gate is not None:
                    has_gate = True
                    found.append((gate != 0).sum())
                    if gates is not None:
                        gates.update(gate)
                has_top |= scores.shape[1] > TOP
                # Of each picture by itself: no sum depends on what else is in its batch.
                loss += F.cross_entropy(scores.float(), labels, reduction="none").double().sum()
                counts[_COUNT] += len(labels)
                for i, number in enumerate(torch.stack(found).tolist(), _FIRST):
                    counts[i] += number
            if step is not None:
                step(batch)
    if gates is not None and processes.count > 1:
        gates.all_reduce()
    has_top, has_gate = processes.any(has_top, has_gate)
    total = processes.sum(torch.tensor(counts)).tolist()
    sums = processes.sum(torch.tensor([loss.item(), clock.rate()], dtype=torch.float64)).tolist()
    count = total[_COUNT]
    if not count:
        broken = f": {total[_BROKEN]} are broken" if total[_BROKEN] else ""
        raise ValueError(f"evaluate: batches must hold pictures, got none{broken}")
    return Evaluation(
        count=count,
        top1=total[_FIRST] / count,
        top5=total[_AMONG] / count if has_top else None,
        loss=sums[0] / count,
        channels_on=total[_OPEN] / count if has_gate else None,
        seconds=time.perf_counter() - start,
        images_per_second=sums[1],
        broken=total[_BROKEN],
    )


class _Clock:
    """Pictures and seconds of the network, without the first batch where others follow."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.runs: list[tuple[int, float]] = []

    @contextlib.contextmanager
    def timing(self, pictures: int) -> Iterator[None]:
        """Times the block, which has so many pictures."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.runs.append((pictures, time.perf_counter() - start))

    def rate(self) -> float:
        """Pictures a second, in the median batch; 0 where there were none."""
        runs = self.runs[1:] or self.runs
        return statistics.median(pictures / seconds for pictures, seconds in runs) if runs else 0.0

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def _device(network: nn.Module) -> torch.device:
    """Where a network is; the CPU for one without parameters."""
    return next((values.device for values in network.parameters()), torch.device("cpu"))


def _run(
    network: nn.Module, values: Tensor, coefficients: bool, amp: torch.dtype | None
) -> tuple[Tensor, Tensor | None]:
    """Scores, and the gate where there is one."""
    with torch.autocast(values.device.type, dtype=amp, enabled=amp is not None):
        output: object = network(coefficients=values) if coefficients else network(values)
    scores, gate = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(values):
        got = list(scores.shape) if isinstance(scores, Tensor) else describe(scores)
        raise TypeError(f"evaluate: network must give scores [{len(values)}, classes], got {got}")
    return scores, gate


def _check_labels(labels: Tensor, scores: Tensor) -> None:
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= scores.shape[1]:
        raise ValueError(
            f"evaluate: labels must be classes of the network, in [0, {scores.shape[1]}), "
            f"got {low if low < 0 else high}"
        )


def _places(scores: Tensor, labels: Tensor) -> Tensor:
    """(N,) how many classes are ahead of a picture's own."""
    own = scores.gather(1, labels[:, None])
    numbers = torch.arange(scores.shape[1], device=scores.device)
    ahead = (scores > own) | ((scores == own) & (numbers < labels[:, None])) | scores.isnan()
    return torch.where(own.isnan()[:, 0], scores.shape[1] + TOP, ahead.sum(1))


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """All its modules in evaluation, and afterwards each in the mode that it had."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
