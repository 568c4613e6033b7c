"""Timing that a shared machine cannot tilt: rivals take turns in one process; ratios are quoted."""

from __future__ import annotations

import ctypes
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]

OURS = "freqops"
COPY = "copy"


def set_malloc(*, keeps: bool) -> None:
    """Whether malloc keeps what is freed, or maps each large tensor anew; asked once, at the start.

    By default glibc keeps up to 32 MB, sometimes. The pages of new memory are cleared, several
    times the work of any candidate here, and whom it hits is chance.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        m_mmap_max, m_mmap_threshold, m_trim_threshold = -4, -3, -1  # <malloc.h>
        libc.mallopt(m_mmap_max, 0 if keeps else 1 << 16)
        libc.mallopt(m_mmap_threshold, 1 << 20)
        libc.mallopt(m_trim_threshold, 1 << 30)


def allocated(call: Call) -> int:
    """Bytes of all tensors that a call allocates, whether it frees them or not."""
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = recorded.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return sum(size for size in sizes if size > 0)


def interleaved(
    candidates: Mapping[str, Call],
    seconds: float = 4.0,
    warmup: int = 2,
    least: int = 5,
    before: Callable[[str], object] | None = None,
) -> dict[str, float]:
    """Median seconds of each candidate; every round runs all of them once, in turn.

    Args:
        candidates: functions without arguments, by name.
        seconds: time for the rounds of all candidates together.
        warmup: calls of each before the clock starts: compilation, page faults, thread pools.
        least: rounds that are run in any case.
        before: called with a candidate's name before each of its calls, while the clock stands.
    """
    prepare = before or (lambda name: None)
    for name, call in candidates.items():
        prepare(name)
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < least:
        for name, call in candidates.items():
            prepare(name)
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def repeated(call: Call, count: int) -> Call:
    """So many calls as one: for calls of a few microseconds."""

    def run() -> None:
        for _ in range(count):
            call()

    return run


def copying(size: int) -> Callable[[], Tensor]:
    """``Tensor.copy_`` between two buffers, which reads and writes so many bytes together."""
    source = torch.ones(size // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def copy_bandwidth(megabytes: int = 128) -> float:
    """Bytes read plus written per second by ``Tensor.copy_`` between buffers beyond the caches."""
    size = megabytes << 21
    return size / interleaved({COPY: copying(size)}, seconds=0.5)[COPY]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What ``compare`` measured.

    Args:
        ours: median seconds.
        rivals: those of the rivals, by name.
        beside: those of what was timed in the same turns and is no rival.
        size: bytes that must move.
        copy: seconds of a plain copy that moves as many.
    """

    ours: float
    rivals: Mapping[str, float]
    beside: Mapping[str, float]
    size: int
    copy: float

    @property
    def best(self) -> str:
        """Name of the fastest rival."""
        return min(self.rivals, key=lambda name: self.rivals[name])

    @property
    def times_faster(self) -> float:
        """Than the best rival."""
        return self.rivals[self.best] / self.ours

    @property
    def gigabytes_per_second(self) -> float:
        return self.size / self.ours / 1e9

    @property
    def of_copy(self) -> float:
        """The rate at which our bytes move in units of that of a copy."""
        return self.copy / self.ours

    @property
    def others(self) -> dict[str, float]:
        """Milliseconds of all rivals but the best, fastest first."""
        rest = sorted((took, name) for name, took in self.rivals.items() if name != self.best)
        return {name: 1e3 * took for took, name in rest}


def compare(
    candidates: Mapping[str, Call],
    size: int,
    bandwidth: float | None = None,
    *,
    beside: Mapping[str, Call] | None = None,
    seconds: float = 4.0,
    least: int = 5,
    twice: bool = False,
) -> Comparison:
    """Times all candidates in turns.

    Args:
        candidates: functions without arguments; the one named "freqops" against all others.
        size: bytes that must move.
        bandwidth: of a plain copy, bytes a second; None times a copy of that size in the same
            turns.
        beside: what is timed in the same turns, but is no rival.
        seconds, least: as of ``interleaved``.
        twice: whether a turn is two calls, of which the second counts: caches then hold what a
            candidate itself left, its code above all.
    """
    everything = {**candidates, **(beside or {})}
    if bandwidth is None:
        everything[COPY] = copying(size)
    before = (lambda name: everything[name]()) if twice else None
    took = interleaved(everything, seconds, least=least, before=before)
    return Comparison(
        ours=took[OURS],
        rivals={name: took[name] for name in candidates if name != OURS},
        beside={name: took[name] for name in beside or {}},
        size=size,
        copy=took[COPY] if bandwidth is None else size / bandwidth,
    )
