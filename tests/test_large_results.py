"""Results beyond 2 MB, which the CPU kernels write past the caches where rows are whole lines."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable, Iterator

import pytest
import torch
from support import CHROMA, LAYOUTS, Backend, generator, pictures
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """Has malloc hand out memory again that was used before: memory never touched is written
    through the caches, whatever its size."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("the settings are those of glibc")
    libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
    libc.mallopt(M_MMAP_MAX, 0)
    yield
    libc.mallopt(M_MMAP_MAX, 1 << 16)
    libc.mallopt(M_TRIM_THRESHOLD, 128 << 10)


def pages_cleared() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def check(operator: Callable[[Tensor], Tensor], batch: Tensor) -> None:
    """Bit for bit the results of the pictures one by one, which are too small for that."""
    parts = torch.cat([operator(one[None]) for one in batch])
    assert parts.nbytes > 2 << 20 > parts.nbytes // len(batch)
    for _ in range(20):  # what was used before may have been split in between
        before = pages_cleared()
        whole = operator(batch)
        cleared = pages_cleared() - before
        assert torch.equal(whole, parts)
        if cleared < parts.nbytes / 4096 / 2:
            return
        del whole
    pytest.fail("the memory was never one that had been used before")


# Rows of whole lines of 64 bytes with all blocks, with some cut off below, and rows of parts.
SIZES = [(128, 384), (123, 384), (120, 376), (128, 381)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pictures(cpu_backend: Backend, size: tuple[int, int], dtype: torch.dtype) -> None:
    grid = [-(-side // 8) for side in size]
    blocks = torch.randn(5, 24, *grid, generator=generator(), dtype=dtype)
    channels = [*range(16), *range(64, 68), *range(128, 132)]
    ops = cpu_backend.ops
    check(lambda x: ops.block_idct(x, channels, None, None, *size, dtype), blocks)
    for chroma in CHROMA:
        check(
            lambda x, c=chroma: ops.block_dct_backward(x, channels, None, c, *size, dtype),
            blocks,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_coefficients(cpu_backend: Backend, channels_last: bool, dtype: torch.dtype) -> None:
    ops = cpu_backend.ops
    for chroma in CHROMA:
        check(
            lambda x, c=chroma: ops.block_dct(
                x, list(range(192)), None, None, c, "none", dtype, channels_last
            ),
            pictures((5, 3, 128, 384)),
        )


# Planes of whole lines and others, and more than one chunk of a plane.
@pytest.mark.parametrize("shape", [(5, 24, 64, 80), (5, 24, 71, 73), (5, 3, 200, 180)], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gated_features(
    cpu_backend: Backend, dtype: torch.dtype, layout: str, shape: tuple[int, ...]
) -> None:
    """The same gates for all pictures: closed, open, and soft ones."""
    repeats = 1 if dtype == torch.float32 else 2
    x = torch.randn(shape[0], repeats * shape[1], *shape[2:], generator=generator()).to(dtype)
    x = LAYOUTS[layout](x)
    logits = torch.zeros(1, x.shape[1], 2)
    logits[..., 1] = torch.arange(x.shape[1]) % 3 - 1.0
    ops = cpu_backend.ops
    for hard in (True, False):

        def gate(x: Tensor, hard: bool = hard) -> Tensor:
            return ops.gumbel_gate(x, logits.expand(len(x), -1, -1), None, None, hard)[0]

        def gradient(x: Tensor, hard: bool = hard) -> Tensor:
            of_logits = logits.expand(len(x), -1, -1)
            return ops.gumbel_gate_backward(x, None, x, of_logits, None, None, hard, True)[0]

        check(gate, x)
        check(gradient, x)
