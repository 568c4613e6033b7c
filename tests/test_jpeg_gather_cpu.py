"""jpeg_gather: long scales; on the CPU threads, results past the caches, memory around tensors."""

from __future__ import annotations

import ctypes.util
import dataclasses
import itertools
import os
import subprocess
import sys

import pytest
import torch
from by_dtype import Operators
from guards import guarded, guarded_memory
from jpeg_blocks import ALL, NAMES, RESULTS, blocks, check, gather, statistics
from support import Backend, selection

from freqops._reference_jpeg import Scale


@pytest.mark.parametrize("scale", [8, 11, ((3, 5), 9)], ids=str)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "gray"])
def test_same_bits_for_any_number_of_threads(
    cpu_backend: Backend, subsampling: str, scale: Scale
) -> None:
    """And for each picture alone."""
    b = blocks(subsampling, 37, 60, n=3, tables="each")
    threads = torch.get_num_threads()
    try:
        for channels_last, flip in itertools.product((False, True), (False, True)):
            options = {"scale": scale, "channels_last": channels_last, "flip": flip}
            torch.set_num_threads(1)
            want = gather(cpu_backend, b, ALL, *statistics(), **options)
            for count in (2, 3, 5):
                torch.set_num_threads(count)
                got = gather(cpu_backend, b, ALL, *statistics(), **options)
                assert torch.equal(got, want)
            for n in range(3):
                one = b.map(lambda p, n=n: p[n : n + 1])
                assert b.tables is not None
                one = dataclasses.replace(one, tables=b.tables[n])
                got = gather(cpu_backend, one, ALL, *statistics(), **options)
                assert torch.equal(got, want[n : n + 1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("count", [1, 3, 17, 40])
def test_many_scales(backend: Backend, count: int) -> None:
    """The map's period, 15^count blocks, may be beyond all bounds."""
    b = blocks("gray", 2, 3, value=30)
    check(backend, b, ALL[:64], scale=((15, 4) * count, (4, 15) * count))


def test_a_part_of_an_endless_grid(backend: Backend) -> None:
    """2^31 blocks high, of which one is wanted: it costs no more. A flat picture stays flat."""
    b = blocks("gray", 2, 1, n=1, tables=None)
    b = b.map(lambda p: torch.zeros_like(p).index_fill_(3, torch.tensor([0]), 80))
    for k, top in ((16, 2**31 - 1), (15, 300_000_000)):
        got = gather(backend, b, ALL[:64], scale=((k,) * 30, 8), crop=(top, 0, 1, 1)).cpu()
        want = torch.zeros(64)
        want[0] = 80
        torch.testing.assert_close(got.flatten(), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", RESULTS, ids=str)
@pytest.mark.parametrize("width", [64, 72, 79])
def test_results_past_the_caches(cpu_backend: Backend, width: int, dtype: torch.dtype) -> None:
    """Of 2 MB and more, in memory that has been touched: the same bits as of parts of them."""
    b = blocks("4:2:0", 96, width, n=1)
    for channels_last in (False, True):
        options = {"dtype": dtype, "channels_last": channels_last}
        parts = [gather(cpu_backend, b, ALL, crop=(i, 0, 8, width), **options)
                 for i in range(0, 96, 8)]  # fmt: skip
        want = torch.cat(parts, 2)
        for _ in range(3):  # the allocator hands back what has just been freed
            got = gather(cpu_backend, b, ALL, **options)
            assert got.nbytes > 2**21 and torch.equal(got, want)
            del got


def run_between_guards() -> None:
    """The operator on tensors beside pages that may not be read."""
    torch.set_num_threads(1)
    memory = [guarded_memory() for _ in range(4)]
    chosen: list[list[int]] = [[63, 127, 191], [0, 64, 128], selection(40)]
    for name, isa, (by, bx) in itertools.product(
        NAMES, ["avx512", "avx2", "portable"], [(1, 1), (2, 3), (1, 16), (3, 19), (2, 33)]
    ):
        try:
            torch.ops.freqops.set_cpu_isa(isa)
        except RuntimeError:
            continue
        print(name, isa, by, bx, flush=True)
        backend = Backend(isa, Operators(torch.ops.freqops), "cpu")
        b = blocks(name, by, bx, n=1)
        assert b.tables is not None
        for scale, channels, last in itertools.product((8, 5, 11, 16), chosen, (True, False)):
            room = iter(memory)
            placed = b.map(lambda p, room=room, last=last: guarded(next(room), p, last))
            tables = guarded(next(room), b.tables, last)
            placed = dataclasses.replace(placed, tables=tables)
            for flip in (False, True):
                options = {"scale": scale, "flip": flip}
                want = gather(backend, b, channels, **options)
                assert torch.equal(gather(backend, placed, channels, **options), want)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
@pytest.mark.parametrize("checked", [False, True], ids=["read", "written"])
def test_nothing_beside_a_tensor_is(checked: bool) -> None:
    """A fault would end the process, and so does glibc's debugging malloc if what it gave out was
    written past its end."""
    library = ctypes.util.find_library("c_malloc_debug")
    if checked and library is None:
        pytest.skip("glibc's debugging malloc is not installed")
    checks = {"LD_PRELOAD": str(library), "MALLOC_CHECK_": "3"} if checked else {}
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, env=os.environ | checks
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-80:], done.stderr)


if __name__ == "__main__":
    run_between_guards()
