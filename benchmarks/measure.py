"""Timing that a shared machine cannot tilt: rivals take turns in one process; ratios are quoted."""

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile


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


def allocated(call: Callable[[], object]) -> int:
    """Bytes of all tensors that a call allocates, whether it frees them or not."""
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = recorded.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return sum(size for size in sizes if size > 0)


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


def compare(
    case: str,
    candidates: Mapping[str, Callable[[], object]],
    size: int,
    bandwidth: float,
    rows: list[str],
) -> dict[str, str | float]:
    """Times all candidates in turns and adds a row.

    Args:
        case: first words of the row.
        candidates: functions without arguments; the one named "freqops" against all others.
        size: bytes that must move.
        bandwidth: of a plain copy, bytes a second.
        rows: of the table.

    Returns:
        What pytest-benchmark notes beside its own figures.
    """
    took = interleaved(candidates)
    ours = took.pop("freqops")
    best = min(took, key=lambda name: took[name])
    others = ", ".join(f"{name} {1e3 * t:.1f}" for name, t in took.items() if name != best)
    megabytes = {name: allocated(candidates[name]) / 1e6 for name in ("freqops", best)}
    rows.append(
        f"| {case} | {1e3 * ours:.2f} | {size / ours / 1e9:.1f} | {size / ours / bandwidth:.0%} "
        f"| {megabytes['freqops']:.1f} | {best} | {1e3 * took[best]:.2f} | {megabytes[best]:.1f} "
        f"| **{took[best] / ours:.2f}** | {others} |"
    )
    return {
        "best_rival": best,
        "times_faster": took[best] / ours,
        "gigabytes_per_second": size / ours / 1e9,
    }
