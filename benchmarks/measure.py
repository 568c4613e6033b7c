"""Timing that a shared machine cannot tilt: rivals take turns in one process; ratios are quoted."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    candidates: Mapping[str, Callable[[], object]], seconds: float = 4.0, warmup: int = 2
) -> dict[str, float]:
    """Median seconds of each candidate; every round runs all of them once, in turn.

    Args:
        candidates: functions without arguments, by name.
        seconds: time for the rounds of all candidates together (at least five rounds are run).
        warmup: calls of each before the clock starts: compilation, page faults, thread pools.
    """
    for call in candidates.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def copy_bandwidth(megabytes: int = 128) -> float:
    """Bytes read plus written per second by ``Tensor.copy_`` between buffers beyond the caches."""
    source = torch.ones(megabytes << 18)
    target = torch.empty_like(source)
    seconds = interleaved({"copy": lambda: target.copy_(source)}, seconds=0.5)["copy"]
    return 2 * source.nbytes / seconds
