"""Tensors beside pages that may not be read: a fault ends the process, so tests start another."""

from __future__ import annotations

import ctypes
import mmap

import torch
from torch import Tensor

ROOM = 2**18


def guarded_memory() -> mmap.mmap:
    """Memory of ROOM bytes between two such pages."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, ROOM + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for at in (start, start + page + ROOM):
        assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0)
    return memory


def guarded(memory: mmap.mmap, x: Tensor, last: bool) -> Tensor:
    """x as the last or the first of guarded memory."""
    count = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    offset = len(memory) - mmap.PAGESIZE - count * x.element_size() if last else mmap.PAGESIZE
    flat = torch.frombuffer(memory, dtype=x.dtype, count=count, offset=offset)
    return flat.copy_(x.as_strided((count,), (1,))).as_strided(x.shape, x.stride())
