"""CUDA kernels under the emulation read nothing beside a tensor."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from by_dtype import Operators
from guards import guarded, guarded_memory
from support import CHROMA, EMULATED, LAYOUTS, pictures, selection
from torch import Tensor

import freqops.ops  # noqa: F401  loads torch's side of the operators

F16, F32 = torch.float16, torch.float32
LAID = [
    (torch.uint8, "contiguous"),
    (torch.uint8, "channels_last"),
    (torch.uint8, "cropped_channels_last"),
    (F32, "contiguous"),
    (F32, "channels_last"),
    (F16, "contiguous"),
    (F16, "cropped_channels_last"),
    (torch.bfloat16, "sliced"),
]

# Blocks that fill a tile of 32, and that leave 1, 2 or 31 of its places empty; edges to replicate.
SIZES = [(32, 64), (8, 264), (40, 104), (8, 240), (8, 32), (8, 96), (8, 8), (13, 21), (64, 60)]


def operators(ops: Operators, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Of pictures and 12 channels; bytes with both kernels."""
    channels, size, out = selection(12), x.shape[2:], []
    for chroma, kernel in itertools.product(CHROMA, ("registers", "product")):
        torch.ops.freqops_emulated.set_dct_kernel(kernel)
        out.append(ops.block_dct(x, channels, None, None, chroma, "none", F32))
    for chroma in CHROMA:
        out.append(ops.block_dct(x, channels, None, None, chroma, "jpeg", F32))
        out.append(ops.block_dct_backward(grad, channels, None, chroma, *size, F32))
    out.append(ops.block_idct(grad, channels, None, None, *size, F32))
    if x.dtype != torch.uint8:
        out.append(ops.block_idct_backward(x, channels, None, F32))
    return out


def run_between_guards() -> None:
    """Every operator on tensors beside pages that may not be read."""
    torch.ops.load_library(str(EMULATED))
    ops = Operators(torch.ops.freqops_emulated)
    memory = [guarded_memory() for _ in range(2)]
    for (stored, layout), (height, width) in itertools.product(LAID, SIZES):
        print(stored, layout, height, width, flush=True)
        x = pictures((1, 3, height, width), stored, layout)
        kept = F32 if stored == torch.uint8 else stored
        grad = LAYOUTS[layout](torch.rand(1, 12, -(-height // 8), -(-width // 8)).to(kept))
        want = operators(ops, x, grad)
        for last in (True, False):
            placed = [guarded(memory[0], x, last), guarded(memory[1], grad, last)]
            assert all(map(torch.equal, operators(ops, *placed), want))


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_nothing_beside_a_tensor_is_read() -> None:
    """A fault would end the process."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout[-80:], done.stderr)


if __name__ == "__main__":
    run_between_guards()
