"""Timing on a GPU: candidates take turns, each as a CUDA graph of one call for each of several
inputs, replayed between two events.

Inputs and results together are several times the L2 cache, and each result of a graph has memory of
its own: nothing that a call reads or writes is left over from the call before. Inputs are noise,
because zeros are moved and multiplied faster. In every round a copy of a large buffer runs beside
the candidates; rates are quoted in units of its rate. On the CPU the same functions time with the
clock and without graphs, so that tests run what a GPU runs.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[int], object]
"""Work on the input of that number."""

GRAPH, EVENTS, CLOCK = "graph", "events", "clock"

L2_TIMES = 4
"""Inputs and results are that many times the L2."""

MOST_INPUTS = 128
"""Of one candidate: a small call on more of them takes longer to capture than to time."""

WARMUP = 3

SAMPLE = 1e-3
"""Seconds between two events at least: an event's own resolution is half a microsecond."""

MOST_ROUNDS = 200


def inputs_for(size: int, device: torch.device) -> int:
    """How many inputs of calls that move so many bytes it takes to exceed the L2."""
    if device.type != "cuda":
        return 2
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return min(MOST_INPUTS, max(2, math.ceil(L2_TIMES * cache / size)))


class Copy:
    """``Tensor.copy_`` from one buffer of noise to another.

    Args:
        device: where both lie.
        size: bytes of each. 1 GiB is beyond every cache.
    """

    def __init__(self, device: torch.device, size: int = 1 << 30) -> None:
        self.device = device
        self._source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
        self._target = torch.empty_like(self._source)
        self.moved = 2 * size
        """Bytes, read and written."""

    def __call__(self, index: int) -> Tensor:
        return self._target.copy_(self._source)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Of one call.

    Args:
        seconds: the median over the rounds.
        spread: the distance between the quartiles, in units of the median.
        how: "graph", "clock", or "events: " and why there is no graph.
    """

    seconds: float
    spread: float
    how: str


@dataclasses.dataclass(frozen=True)
class Measured:
    """What ``interleaved`` timed.

    Args:
        timings: by candidate.
        bandwidth: bytes per second, read plus written, of the copy in the same rounds.
    """

    timings: Mapping[str, Timing]
    bandwidth: float

    def floor(self, size: int) -> float:
        """Seconds that a copy of so many bytes takes."""
        return size / self.bandwidth

    def of_copy(self, name: str, size: int) -> float:
        """The rate at which a candidate moves so many bytes, in units of the copy's."""
        return self.floor(size) / self.timings[name].seconds

    def times(self, name: str, other: str) -> float:
        """How many times as long the other takes."""
        return self.timings[other].seconds / self.timings[name].seconds

    def best(self, names: list[str]) -> str:
        """The fastest of these."""
        return min(names, key=lambda name: self.timings[name].seconds)


class _Run(NamedTuple):
    """One call on each input."""

    work: Callable[[], object]
    calls: int
    how: str


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _captured(
    work: Callable[[], object], pool: tuple[int, int]
) -> tuple[torch.cuda.CUDAGraph, object]:
    """A graph that ran once, and its results: while they are held, no other of the pool gets their
    memory."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        results = work()  # held until the end, so that none takes the place of another
    graph.replay()
    torch.cuda.synchronize()
    return graph, results


def _prepared(call: Call, count: int, device: torch.device, pool: tuple[int, int] | None) -> _Run:
    """Warm, and captured in a graph where that is possible."""

    def all_inputs() -> list[object]:
        return [call(index) for index in range(count)]

    def in_turn() -> None:
        for index in range(count):
            call(index)

    if device.type != "cuda":
        in_turn()
        return _Run(in_turn, count, CLOCK)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            in_turn()
    torch.cuda.synchronize(device)
    try:
        graph, _ = _captured(all_inputs, pool)
    except RuntimeError as error:
        torch.cuda.synchronize(device)
        return _Run(in_turn, count, f"{EVENTS}: {str(error).splitlines()[0][:80]}")
    return _Run(graph.replay, count, GRAPH)


def _round(runs: Mapping[str, _Run], repeats: Mapping[str, int], copy: Copy) -> dict[str, float]:
    """Seconds of one call of each; on a GPU all are queued before the first is waited for."""
    if copy.device.type != "cuda":
        took = {}
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run.work()
            took[name] = (time.perf_counter() - start) / (repeats[name] * run.calls)
        return took
    copy(0)  # not timed: keeps the GPU busy while the queue fills
    events = {}
    for name, run in runs.items():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats[name]):
            run.work()
        end.record()
        events[name] = (start, end)
    torch.cuda.synchronize(copy.device)
    return {
        name: start.elapsed_time(end) / 1e3 / (repeats[name] * runs[name].calls)
        for name, (start, end) in events.items()
    }


def interleaved(
    calls: Mapping[str, Call], count: int, copy: Copy, *, seconds: float = 0.5, least: int = 10
) -> Measured:
    """Times all candidates, and the copy, in turns.

    Args:
        calls: by name; each takes the number of its input.
        count: of the inputs.
        copy: what rates are compared with; its device is that of the inputs.
        seconds: for the rounds of all candidates together.
        least: rounds that are run in any case.
    """
    device = copy.device
    pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
    runs = {name: _prepared(call, count, device, pool) for name, call in calls.items()}
    runs[_COPY] = _prepared(copy, 1, device, pool)
    once = dict.fromkeys(runs, 1)
    first = _round(runs, once, copy)
    repeats = {
        name: max(1, math.ceil(SAMPLE / max(took * runs[name].calls, 1e-9)))
        if device.type == "cuda"
        else 1
        for name, took in first.items()
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < least or (time.perf_counter() < end and rounds < MOST_ROUNDS):
        for name, took in _round(runs, repeats, copy).items():
            times[name].append(took)
        rounds += 1
    timings = {name: _timing(times[name], run.how) for name, run in runs.items()}
    bandwidth = copy.moved / timings.pop(_COPY).seconds
    return Measured(timings, bandwidth)


_COPY = "the copy"


def _timing(times: list[float], how: str) -> Timing:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else [median] * 3
    return Timing(median, (high - low) / median if median else 0.0, how)


class Latency(NamedTuple):
    """Seconds of one call; None where there is no GPU, and so no graph.

    Args:
        replay: a graph of one call, replays queued behind each other, on rotating inputs and
            results.
        replay_and_wait: a replay and the wait for it, by the clock.
        call: without a graph, what the caller spends until the call returns.
        call_and_wait: and until the GPU is done.
    """

    replay: float | None
    replay_and_wait: float | None
    call: float
    call_and_wait: float


def _clocked(work: Callable[[], object], rounds: int) -> float:
    """The median by the clock."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def latency(call: Call, count: int, device: torch.device, rounds: int = 200) -> Latency:
    """Of one call at a time.

    Args:
        call: it takes the number of its input.
        count: of the inputs, each of which has a graph of its own.
        device: theirs.
        rounds: of each kind.
    """
    index = 0

    def next_input() -> int:
        nonlocal index
        index = (index + 1) % count
        return index

    def called() -> None:
        call(next_input())

    def called_and_waited() -> None:
        called()
        synchronize(device)

    for _ in range(WARMUP):
        called_and_waited()
    eager_and_wait = _clocked(called_and_waited, rounds)
    eager = []
    for _ in range(max(1, rounds // 20)):  # few at a time, so that the queue never fills
        eager.append(_clocked(called, 20))
        synchronize(device)
    eager_alone = statistics.median(eager)
    if device.type != "cuda":
        return Latency(None, None, eager_alone, eager_and_wait)

    pool = torch.cuda.graph_pool_handle()
    # Results are held, so that each graph writes memory of its own, as calls in a program do.
    held = [_captured(lambda i=i: call(i), pool) for i in range(count)]
    graphs = [graph for graph, _ in held]

    def replayed_and_waited() -> None:
        graphs[next_input()].replay()
        torch.cuda.synchronize(device)

    waited = _clocked(replayed_and_waited, rounds)
    queued = []
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(rounds):
            graphs[next_input()].replay()
        end.record()
        torch.cuda.synchronize(device)
        queued.append(start.elapsed_time(end) / 1e3 / rounds)
    return Latency(statistics.median(queued), waited, eager_alone, eager_and_wait)
