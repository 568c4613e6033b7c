"""Results beyond 2 MB, which the CPU kernels write past the caches where rows are whole lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support import CHROMA, Backend, generator, pictures
from torch import Tensor


def check(operator: Callable[[Tensor], Tensor], batch: Tensor) -> None:
    """Bit for bit the results of the pictures one by one, which are too small for that."""
    whole = operator(batch)
    parts = [operator(one[None]) for one in batch]
    assert whole.nbytes > 2 << 20 > parts[0].nbytes
    assert torch.equal(whole, torch.cat(parts))


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
            lambda x, c=chroma: ops.block_dct_backward(x, channels, None, c, *size, dtype), blocks
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
