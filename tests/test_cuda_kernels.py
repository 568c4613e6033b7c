"""What only the CUDA kernels do: tiles that cross pictures, launches that are cut, far strides,
wide accesses.

All of it runs under the emulation; test_operators.py has the values.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from by_dtype import Operators
from support import (
    CHANNELS,
    CHROMA,
    EMULATED,
    LAYOUTS,
    assert_near,
    exact,
    pictures,
    selection,
    statistics,
)
from torch import Tensor

from freqops import reference

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


# --- wide accesses --------------------------------------------------------------------------------


def _from_wider(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Columns 16 and on of a wider picture whose rows are multiples of 16 pixels apart."""
    wider = x.new_full((*x.shape[:3], -(-x.shape[3] // 16) * 16 + 32), 77)
    wider = wider.contiguous(memory_format=memory_format)
    wider[..., 16 : 16 + x.shape[3]] = x
    return wider[..., 16 : 16 + x.shape[3]]


def _picture_repeated(x: Tensor) -> Tensor:
    return x[:1].expand(x.shape)


# Every layout of the operator tests, and those in which blocks that the right edge cuts lie beside
# blocks that are moved wide.
PIXELS: dict[str, Callable[[Tensor], Tensor]] = {
    **LAYOUTS,
    "from_wider": lambda x: _from_wider(x, torch.contiguous_format),
    "from_wider_channels_last": lambda x: _from_wider(x, torch.channels_last),
    "picture_repeated": _picture_repeated,
}
FLOAT_STORED = [torch.uint8, torch.float32, torch.float16, torch.bfloat16]
WIDTHS = [40, 43, 44]  # float32 rows of 44 pixels are multiples of 16 bytes
ROWS, INTERLEAVED, ELEMENTS = "rows", "interleaved", "elements"

ACCESS = """
#include <cstdio>
#include <cstdlib>
#include "cuda/pixel_access.h"
int main(int, char** a) {
  const auto number = [a](int i) { return std::strtoll(a[i], nullptr, 10); };
  freqops::View v{};
  v.data = reinterpret_cast<void*>(number(1));
  v.type = freqops::Type(number(2));
  v.stride_n = number(3), v.stride_c = number(4), v.stride_h = number(5), v.stride_w = number(6);
  const char* names[] = {"elements", "rows", "interleaved"};
  std::puts(names[int(freqops::cuda::widest_access(v))]);
}
"""


@pytest.fixture(scope="module")
def access_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tensor], str]:
    """The access that the host chooses for pictures, by a program around its rule."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("access")
    (folder / "access.cpp").write_text(ACCESS)
    csrc = Path(__file__).parents[1] / "csrc"
    command = [compiler, "-std=c++17", f"-I{csrc}", "access.cpp", "-o", "access"]
    subprocess.run(command, check=True, cwd=folder)
    types = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]

    def access(x: Tensor) -> str:
        numbers = [x.data_ptr(), types.index(x.dtype), *x.stride()]
        program = [str(folder / "access"), *map(str, numbers)]
        return subprocess.run(program, check=True, capture_output=True, text=True).stdout.strip()

    return access


@pytest.mark.parametrize(
    ("layout", "width", "one_byte", "two_bytes", "four_bytes"),
    [
        ("contiguous", 40, ROWS, ROWS, ROWS),
        ("contiguous", 44, ELEMENTS, ELEMENTS, ROWS),
        ("contiguous", 43, ELEMENTS, ELEMENTS, ELEMENTS),
        ("channels_last", 40, INTERLEAVED, INTERLEAVED, INTERLEAVED),
        ("channels_last", 44, ELEMENTS, ELEMENTS, INTERLEAVED),
        ("channels_last", 43, ELEMENTS, ELEMENTS, ELEMENTS),
        ("sliced", 40, ELEMENTS, ELEMENTS, ELEMENTS),
        ("padded_rows", 40, ELEMENTS, ELEMENTS, ELEMENTS),
        ("padded_rows", 43, ELEMENTS, ELEMENTS, ELEMENTS),
        ("cropped_channels_last", 40, ELEMENTS, ELEMENTS, ELEMENTS),
        ("misaligned", 40, ELEMENTS, ELEMENTS, ELEMENTS),
        ("transposed", 40, ELEMENTS, ELEMENTS, ELEMENTS),
        ("expanded", 43, ROWS, ROWS, ROWS),
        ("batch_last", 40, ELEMENTS, ELEMENTS, ELEMENTS),
        ("from_wider", 43, ROWS, ROWS, ROWS),
        ("from_wider_channels_last", 43, INTERLEAVED, INTERLEAVED, INTERLEAVED),
        ("picture_repeated", 40, ROWS, ROWS, ROWS),
    ],
)
def test_access_of_a_layout(
    access_of: Callable[[Tensor], str],
    layout: str,
    width: int,
    one_byte: str,
    two_bytes: str,
    four_bytes: str,
) -> None:
    want = [one_byte, four_bytes, two_bytes, two_bytes]
    for stored, access in zip(FLOAT_STORED, want, strict=True):
        assert access_of(PIXELS[layout](pictures((2, 3, 19, width), stored))) == access


def test_access_needs_every_step_aligned(access_of: Callable[[Tensor], str]) -> None:
    """One step that is no multiple of 8 bytes is enough, and so is a start."""
    memory = torch.zeros(100_000, dtype=torch.uint8)
    rows, interleaved = [3000, 1000, 40, 1], [3000, 1, 120, 3]
    for strides, access in [(rows, ROWS), (interleaved, INTERLEAVED)]:
        assert access_of(memory.as_strided((2, 3, 19, 40), strides)) == access
        for start in [1, 2, 4]:
            assert access_of(memory[start:].as_strided((2, 3, 19, 40), strides)) == ELEMENTS
        for axis in range(4):
            for by in [1, 4]:
                other = [s + by * (a == axis) for a, s in enumerate(strides)]
                assert access_of(memory.as_strided((2, 3, 19, 40), other)) == ELEMENTS
    eight = memory.view(torch.float32)[2:]
    assert access_of(eight.as_strided((2, 3, 19, 40), rows)) == ELEMENTS


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("layout", PIXELS)
@pytest.mark.parametrize("stored", FLOAT_STORED, ids=str)
def test_every_access_reads_the_same_pixels(stored: torch.dtype, layout: str, width: int) -> None:
    """To the last bit those of pictures that start misaligned, which are read element by element.

    19 rows: the last block row ends inside a block. 15 and 18 blocks in a picture: tiles hold
    several block rows and cross pictures.
    """
    images = PIXELS[layout](pictures((3, 3, 19, width), stored))
    elements = LAYOUTS["misaligned"](images)
    channels = selection(100)
    mean, std = statistics(100)
    for chroma in CHROMA:
        for rounding in ["none", "jpeg"]:
            for channels_last in [False, True]:
                args = (channels, mean, std, chroma, rounding, torch.float32, channels_last)
                got, want = OPS.block_dct(images, *args), OPS.block_dct(elements, *args)
                assert torch.equal(got, want)
            if rounding == "none":
                want = reference.block_dct_operator(
                    exact(images), channels, mean, std, chroma, rounding, torch.float64
                )
                assert_near(got, want, torch.float32)
    if stored != torch.uint8:
        backward = (channels, std, torch.float32)
        got, want = (OPS.block_idct_backward(x, *backward) for x in (images, elements))
        assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("stored", FLOAT_STORED, ids=str)
def test_every_access_for_each_result(stored: torch.dtype, dtype: torch.dtype) -> None:
    for layout in ["contiguous", "channels_last"]:
        images = pictures((2, 3, 24, 48), stored, layout)
        elements = LAYOUTS["misaligned"](images)
        for chroma in CHROMA:
            for channels_last in [False, True]:
                args = (selection(40), None, None, chroma, "none", dtype, channels_last)
                assert torch.equal(OPS.block_dct(images, *args), OPS.block_dct(elements, *args))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "misaligned"])
@pytest.mark.parametrize("chroma", CHROMA)
def test_every_pixel_is_read_from_its_place(chroma: str, layout: str) -> None:
    """One bright pixel at a time in the blocks of a corner and inside: nothing cancels an error."""
    for y in [0, 6, 7, 8, 15, 16, 23]:
        for x in [0, 3, 7, 8, 15, 16, 23]:
            dark = torch.zeros(1, 3, 24, 24, dtype=torch.uint8)
            dark[0, (x + y) % 3, y, x] = 255
            images = LAYOUTS[layout](dark)
            args = (list(range(CHANNELS)), None, None, chroma, "none")
            want = reference.block_dct_operator(images, *args, torch.float64)
            assert_near(OPS.block_dct(images, *args, F32), want, F32)


@pytest.mark.parametrize("dtype", FLOAT_STORED, ids=str)
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_wide_and_single_stores_write_the_same_pixels(
    stored: torch.dtype, dtype: torch.dtype
) -> None:
    """Rows of 40 pixels are written wide, rows of 39 element by element: the same 39 pixels."""
    channels = selection(120)
    mean, std = statistics(120)
    values = 40 * torch.randn(3, 120, 3, 5, generator=torch.Generator().manual_seed(4))
    values[0, :, 1, 1] = float("nan")
    values[1, 5, 0, 3] = float("inf")
    values[2, 7, 2, 0] = 1e4
    values = values.to(stored)
    got = OPS.block_idct(values, channels, mean, std, 21, 40, dtype)
    want = OPS.block_idct(values, channels, mean, std, 21, 39, dtype)
    torch.testing.assert_close(got[..., :39], want, rtol=0, atol=0, equal_nan=True)
    if dtype == torch.uint8:
        assert want[2].min() == 0
        assert want[2].max() == 255
        return
    # Column 39 is folded into column 38 of the narrower picture.
    for chroma in ["4:4:4", "4:2:0"]:
        got = OPS.block_dct_backward(values, channels, std, chroma, 21, 40, dtype)
        want = OPS.block_dct_backward(values, channels, std, chroma, 21, 39, dtype)
        got, want = got[..., :38], want[..., :38]
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
