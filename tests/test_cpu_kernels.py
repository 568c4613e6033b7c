"""What only the CPU kernels do: tiles that cross block rows, rows that are read where they lie,
results past the caches, rounding of what is stored."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from by_dtype import Operators
from guards import guarded, guarded_memory
from support import (
    CHANNELS,
    CHROMA,
    FLOATING,
    LAYOUTS,
    Backend,
    assert_near,
    generator,
    pictures,
    selection,
)
from test_operators import dct, rounded_planes
from torch import Tensor

import freqops.ops  # noqa: F401  loads the operators
from freqops import reference

ALL = list(range(CHANNELS))
F32, F64 = torch.float32, torch.float64
LAID = [
    (torch.uint8, "contiguous"),
    (torch.uint8, "channels_last"),
    (torch.uint8, "padded_rows"),
    (torch.uint8, "cropped_channels_last"),
    (F32, "contiguous"),
    (F32, "cropped_channels_last"),
]

# 1 to 40 blocks wide, two rows and 33 blocks at least, then some of them cut. A group is 128 bytes
# of sums in blocks, 32 at most: the first is whole, the last is not, and tiles of 4 to 16 blocks
# lie in one, two and more rows.
WHOLE = [(8 * max(2, -(-33 // columns)), 8 * columns) for columns in range(1, 41)]
SIZES = WHOLE + [(y - 5, x - 3) for y, x in WHOLE[::3]]


@functools.cache
def coefficients(size: tuple[int, int], chroma: str) -> Tensor:
    images = pictures((2, 3, *size))
    return reference.block_dct_operator(images, ALL, None, None, chroma, "none", F64)


@functools.cache
def gradients(size: tuple[int, int], chroma: str) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of 40 channels, their gradient as block_dct's result, their pictures."""
    x = torch.randn(2, 40, *coefficients(size, "4:4:4").shape[-2:], generator=generator(4))
    args = (x.double(), selection(40), None)
    backward = reference.block_dct_backward(*args, chroma, *size, F64)
    return x, backward, reference.block_idct_operator(*args, None, *size, F64)


def operators(ops: Operators, x: Tensor, grad: Tensor, dtype: torch.dtype = F32) -> list[Tensor]:
    """Of pictures and 12 channels."""
    channels, size, out = selection(12), x.shape[2:], []
    for chroma in CHROMA:
        for rounding in ("none", "jpeg"):
            out.append(ops.block_dct(x, channels, None, None, chroma, rounding, dtype))
        out.append(ops.block_dct_backward(grad, channels, None, chroma, *size, dtype))
    out.append(ops.block_idct(grad, channels, None, None, *size, dtype))
    if x.dtype != torch.uint8:
        out.append(ops.block_idct_backward(x, channels, None, dtype))
    return out


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize(("stored", "layout"), LAID, ids=str)
def test_forward_grids(cpu_backend: Backend, stored: torch.dtype, layout: str, chroma: str) -> None:
    for size in SIZES:
        images = pictures((2, 3, *size), stored, layout)
        got = cpu_backend.ops.block_dct(images, ALL, None, None, chroma, "none", F32)
        assert_near(got, coefficients(size, chroma), F32)


@pytest.mark.parametrize("chroma", CHROMA)
def test_backward_grids(cpu_backend: Backend, chroma: str) -> None:
    ops, channels = cpu_backend.ops, selection(40)
    for size in SIZES:
        x, backward, inverse = gradients(size, chroma)
        got = ops.block_dct_backward(x, channels, None, chroma, *size, F32)
        assert_near(got, backward, F32, unit=5)
        got = ops.block_idct(x, channels, None, None, *size, F32)
        assert_near(got, inverse, F32, unit=1 / 255)


@pytest.mark.parametrize("chroma", CHROMA)
def test_jpeg_rounding_in_every_layout(cpu_backend: Backend, chroma: str) -> None:
    """Planes of bytes, and of k / 255, are the same integers however they are read."""
    for size in SIZES[::4]:
        edges = (0, -size[1] % 8, 0, -size[0] % 8)
        padded = torch.nn.functional.pad(pictures((2, 3, *size)).double(), edges, "replicate")
        results = []
        for stored, layout in LAID:
            images = pictures((2, 3, *size), stored, layout)
            results.append(cpu_backend.ops.block_dct(images, ALL, None, None, chroma, "jpeg", F32))
        want = dct(rounded_planes(padded, chroma))
        torch.testing.assert_close(results[0].double(), want, atol=0.5 + 1e-3, rtol=0)
        for got in results:
            assert torch.equal(got, results[0].round())


@pytest.mark.parametrize(("stored", "layout"), [*LAID, (F32, "expanded")], ids=str)
def test_batch_and_threads_do_not_matter(
    cpu_backend: Backend, stored: torch.dtype, layout: str
) -> None:
    """Bit for bit: each picture alone, and one, two and three threads."""
    images = pictures((3, 3, 103, 317), stored, layout)  # three times what one thread takes alone
    grad = torch.randn(3, 12, 13, 40, generator=generator(4))
    one_by_one = zip(images.split(1), grad.split(1), strict=True)
    alone = [operators(cpu_backend.ops, *one) for one in one_by_one]
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            together = operators(cpu_backend.ops, images, grad)
            for got, *want in zip(together, *alone, strict=True):
                assert torch.equal(got, torch.cat(want))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize(("stored", "layout"), [LAID[0], LAID[1], LAID[4]], ids=str)
def test_forward_channels(
    cpu_backend: Backend, stored: torch.dtype, layout: str, chroma: str
) -> None:
    """Each alone, rows, columns, one of each component, some twice: kernels leave out the rest."""
    images, want = pictures((2, 3, 16, 144), stored, layout), coefficients((16, 144), chroma)
    some = [[k] for k in ALL]
    some += [list(range(8 * v, 8 * v + 8)) for v in range(24)]
    some += [list(range(64 * k + u, 64 * k + 64, 8)) for k in range(3) for u in range(8)]
    some += [[0, 64, 128], [63, 64, 128], [0, 127, 130], [7, 120, 191], ALL[::-1], [9, 140] * 90]
    for channels in some:
        got = cpu_backend.ops.block_dct(images, channels, None, None, chroma, "none", F32)
        assert_near(got, want[:, channels], F32)


@pytest.mark.parametrize("chroma", CHROMA)
def test_magnitudes_of_blocks(cpu_backend: Backend, chroma: str) -> None:
    """1e-40 to 1e30 side by side: a block is as exact as its own values, and in dctnet chroma those
    around it, allow."""
    scale = 10.0 ** torch.randint(-40, 31, (3, 19), generator=generator(6)).double()
    noise = torch.rand(1, 3, 24, 152, generator=generator(7), dtype=F64) - 0.5
    images = (noise * scale.repeat_interleave(8, 0).repeat_interleave(8, 1)).float()
    args = (ALL, None, None, chroma, "none")
    got = cpu_backend.ops.block_dct(images, *args, F32, False, True).double()
    want = reference.block_dct_operator(images.double(), *args, F64, False, True)
    largest = 2000 * scale.float().double()
    if chroma == "dctnet":
        largest = torch.nn.functional.max_pool2d(largest[None], 3, 1, 1)[0]
    assert ((got - want).abs() <= 1e-6 * largest + 1e-42).all()


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("stored", FLOATING, ids=str)
def test_nonfinite_pixels(cpu_backend: Backend, stored: torch.dtype, chroma: str) -> None:
    """Every other block, in dctnet chroma but for the pixels next to them, has its bits."""
    ops, out_type = cpu_backend.ops, stored if stored != torch.float16 else F32
    for width in (72, 152, 131):  # 9 blocks, which most tiles cross, 19 and 17
        images = pictures((1, 3, 40, width), stored)
        args = (ALL, None, None, chroma, "none", out_type)
        clean = ops.block_dct(images, *args)
        for y, x, value in [(16, 64, "nan"), (23, 63, "inf"), (16, 71, "-inf"), (20, 12, "nan"),
                            (0, 0, "nan"), (39, width - 1, "inf"), (8, 127, "nan")]:  # fmt: skip
            x = min(x, width - 1)
            bad = images.clone()
            bad[0, 1, y, x] = float(value)
            got = ops.block_dct(bad, *args)
            hit = torch.zeros(1, 40, -(-width // 8) * 8)
            hit[0, y, x] = 1
            near = torch.nn.functional.max_pool2d(hit, 3, 1, 1) if chroma == "dctnet" else hit
            if x == width - 1:  # replicated
                hit[0, y, x:] = near[0, y, x:] = 1
            for part, mask in [(slice(64), hit), (slice(64, None), near)]:
                blocks = torch.nn.functional.max_pool2d(mask, 8)[0] > 0
                assert not got[0, part][:, blocks].isfinite().all(0).any()
                assert torch.equal(got[0, part][:, ~blocks], clean[0, part][:, ~blocks])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_stored_results_are_rounded_as_torch_does(cpu_backend: Backend, dtype: torch.dtype) -> None:
    """Of a black picture channel 64 is -mean to the last bit, any float32."""
    black = torch.zeros(1, 3, 16, 200, dtype=torch.uint8)
    bits = torch.randint(-(2**31), 2**31, (60, 150), generator=generator(8)).int()
    bits[1::3] = bits[1::3] & -(2**16) | 2**15  # halfway between two bfloat16
    bits[2::6] = bits[2::6] & -(2**13) | 2**12  # and two float16
    exponent = torch.randint(100, 144, (30, 150), generator=generator(9)).int()
    bits[::2] = bits[::2] & ~(255 << 23) | exponent << 23  # where float16 has values, or nearly
    for mean in bits.view(F32).nan_to_num():
        args = ([64] * 150, -mean, None, "4:4:4", "none")
        for channels_last in (False, True):
            got = cpu_backend.ops.block_dct(black, *args, dtype, channels_last)
            assert torch.equal(got, mean.to(dtype).view(1, -1, 1, 1).expand_as(got))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_stored_results_are_float32_ones_rounded(cpu_backend: Backend, dtype: torch.dtype) -> None:
    x, grad = pictures((2, 3, 19, 267), F32), torch.randn(2, 12, 3, 34, generator=generator(4))
    x.view(torch.int32)[0, :, 5, 100] = 2**31 - 1  # NaN, which is -0 where its bits are rounded
    for images in (x, pictures((2, 3, 19, 267))):
        exact = operators(cpu_backend.ops, images, grad)
        stored = operators(cpu_backend.ops, images, grad, dtype)
        for got, want in zip(stored, exact, strict=True):
            torch.testing.assert_close(got, want.to(dtype), atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("size", [(608, 576), (603, 581)], ids=str)  # of whole cache lines, or not
def test_results_past_the_caches(
    cpu_backend: Backend, size: tuple[int, int], dtype: torch.dtype
) -> None:
    """Of 2 MB and more, in memory that has been touched: the same bits as of parts of them."""
    ops, channels, width = cpu_backend.ops, selection(6), size[1]
    images = pictures((1, 3, *size))
    x = torch.randn(1, 6, *(-(-edge // 8) for edge in size), generator=generator(4))

    def forward(chosen: list[int], last: bool = False) -> Tensor:
        return ops.block_dct(images, chosen, None, None, "4:4:4", "none", dtype, last)

    def inverse(rows: Tensor, height: int) -> Tensor:
        return ops.block_idct(rows, channels, None, None, height, width, dtype)

    def backward(rows: Tensor, height: int) -> Tensor:
        return ops.block_dct_backward(rows, channels, None, "4:2:0", height, width, dtype)

    def check(call: Callable[[], Tensor], parts: list[Tensor], axis: int) -> None:
        want = torch.cat(parts, axis)
        for _ in range(3):  # the allocator hands back what has just been freed
            got = call()
            assert got.nbytes > 2**21 and torch.equal(got, want)
            del got

    parts = [forward(ALL[i : i + 16]) for i in range(0, CHANNELS, 16)]
    for last in (False, True):
        check(functools.partial(forward, ALL, last), parts, 1)
    for call in (inverse, backward):
        parts = [call(x[:, :, i : i + 10], min(80, size[0] - 8 * i)) for i in range(0, 76, 10)]
        check(functools.partial(call, x, size[0]), parts, 2)


def run_between_guards() -> None:
    """Every operator on tensors beside pages that may not be read."""
    torch.set_num_threads(1)
    ops = Operators(torch.ops.freqops)
    memory = [guarded_memory() for _ in range(2)]
    for (stored, layout), (height, width), isa in itertools.product(
        [*LAID, (torch.float16, "channels_last"), (F64, "channels_last"), (F32, "sliced")],
        [(16, 24), (16, 56), (16, 120), (24, 72), (13, 21)],  # three of a block less than a tile
        ["avx512", "avx2", "portable"],
    ):
        try:
            torch.ops.freqops.set_cpu_isa(isa)
        except RuntimeError:
            continue
        print(stored, layout, height, width, isa, flush=True)
        x = pictures((1, 3, height, width), stored, layout)
        grad = LAYOUTS[layout](torch.rand(1, 12, -(-height // 8), -(-width // 8)))
        for images in (x, x[..., :1, :].expand_as(x)):
            want = operators(ops, images, grad)
            for last in (True, False):
                placed = [guarded(memory[0], images, last), guarded(memory[1], grad, last)]
                assert all(map(torch.equal, operators(ops, *placed), want))


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_nothing_beside_a_tensor_is_read() -> None:
    """A fault would end the process."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout[-80:], done.stderr)


if __name__ == "__main__":
    run_between_guards()
