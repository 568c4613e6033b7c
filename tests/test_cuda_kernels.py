"""What only the CUDA kernels do: tiles that cross pictures, launches that are cut, far strides.

All of it runs under the emulation; test_operators.py has the values.
"""

from __future__ import annotations

import pytest
import torch
from by_dtype import Operators
from support import CHANNELS, CHROMA, EMULATED, pictures, selection, statistics
from torch import Tensor

F32 = torch.float32
OPS = Operators(torch.ops.freqops_emulated)


@pytest.fixture(scope="module", autouse=True)
def emulated() -> None:
    if not EMULATED.exists():
        pytest.fail(f"{EMULATED} is missing: cmake --build build/cmake --target freqops_emulated")
    torch.ops.load_library(str(EMULATED))


def operators(images: Tensor, channels: list[int], chroma: str, dtype: torch.dtype) -> list[Tensor]:
    """All four operators in turn."""
    ops = OPS
    size = images.shape[-2:]
    mean, std = statistics(len(channels))
    out = ops.block_dct(images, channels, mean, std, chroma, "none", dtype)
    grad = ops.block_dct_backward(out, channels, std, chroma, *size, dtype)
    back = ops.block_idct(out, channels, mean, std, *size, dtype)
    return [out, grad, back, ops.block_idct_backward(grad, channels, std, dtype)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("size", [(8, 8), (17, 40), (70, 90)], ids=str)
def test_pictures_of_a_batch_do_not_touch(
    size: tuple[int, int], chroma: str, dtype: torch.dtype
) -> None:
    """A batch gives each picture's own result to the last bit, wherever its blocks lie in a tile.

    70 pictures of one block, 7 of 15 and 3 of 108: launches end between pictures, after 64 blocks
    under the emulation.
    """
    count = {1: 70, 15: 7, 108: 3}[-(-size[0] // 8) * -(-size[1] // 8)]
    images, channels = pictures((count, 3, *size)), selection(20)
    together = operators(images, channels, chroma, dtype)
    for n in range(count):
        alone = operators(images[n : n + 1], channels, chroma, dtype)
        for got, want in zip(together, alone, strict=True):
            assert torch.equal(got[n : n + 1], want)


def test_channels_last_result_of_a_cut_batch() -> None:
    images, channels = pictures((3, 3, 70, 90)), selection(50)
    ops = OPS
    want = ops.block_dct(images, channels, None, None, "4:4:4", "none", F32)
    got = ops.block_dct(images, channels, None, None, "4:4:4", "none", F32, True)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(got, want)


FAR = 2**31 + 7


def far_apart(x: Tensor, axis: int) -> Tensor:
    """x with more than 2^31 elements from one to the next along an axis, and more than 2^33 bytes
    of memory for float32, of which only the touched pages are ever there."""
    strides = list(x.stride())
    strides[axis] = FAR
    room = FAR * (x.shape[axis] - 1) + x.numel()
    try:
        far = torch.empty(room, dtype=x.dtype).as_strided(x.shape, strides)
    except RuntimeError as error:
        pytest.skip(f"no address space for {room} elements: {error}")
    far.copy_(x)
    return far


@pytest.mark.parametrize("axis", range(4))
def test_pixels_beyond_two_to_the_31(axis: int) -> None:
    images = pictures((2, 3, 2, 2))
    far = far_apart(images, axis)
    ops = OPS
    for chroma in CHROMA:
        args = (list(range(CHANNELS)), None, None, chroma, "none", F32)
        assert torch.equal(ops.block_dct(far, *args), ops.block_dct(images, *args))


@pytest.mark.parametrize("axis", range(4))
def test_coefficients_beyond_two_to_the_31(axis: int) -> None:
    coefficients = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    far = far_apart(coefficients.half(), axis)
    ops = OPS
    args = ([3, 3], None, "4:4:4", 16, 16, F32)
    want = ops.block_dct_backward(coefficients.half(), *args)
    assert torch.equal(ops.block_dct_backward(far, *args), want)


def test_a_picture_has_fewer_than_two_to_the_31_blocks() -> None:
    """Block numbers are 32-bit in a launch; expanded pictures reach the limit without memory."""
    pixel = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    for size in [(2**31, 1), (1, 2**31), (2**18, 2**19)]:
        with pytest.raises(RuntimeError, match=r"fewer than 2\^31 rows, columns and 8x8 blocks"):
            OPS.block_dct(pixel.expand(1, 3, *size), [0], None, None, "4:4:4", "none", F32)
    for size in [(2**28, 1), (1, 2**28), (2**15, 2**16)]:
        with pytest.raises(RuntimeError, match=f"got {size[0]} x {size[1]} blocks"):
            OPS.block_idct(torch.zeros(1, 1, 1, 1).expand(1, 1, *size), [0], None, None, 8, 8, F32)
