"""jpeg_gather's operator on every backend, against the float64 reference."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable

import pytest
import torch
from jpeg_blocks import (
    ALL,
    F32,
    NAMES,
    RESULTS,
    SCALES,
    blocks,
    check,
    gather,
    statistics,
    wanted,
)
from support import Backend, selection
from torch import Tensor

from freqops._reference_jpeg import Scale

# One block, one row, one column; fewer blocks than a tile has, as many, and more; rows of many.
SIZES = [(1, 1), (1, 2), (2, 1), (3, 4), (1, 16), (5, 17), (2, 31), (9, 33), (1, 130), (40, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("subsampling", NAMES)
def test_sizes(backend: Backend, subsampling: str, size: tuple[int, int]) -> None:
    for scale in (8, 4, 11, 16):
        check(backend, blocks(subsampling, *size), ALL, *statistics(), scale=scale)


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("subsampling", NAMES)
def test_scales(backend: Backend, subsampling: str, scale: Scale) -> None:
    for flip in (False, True):
        check(backend, blocks(subsampling, 7, 23), selection(60), scale=scale, flip=flip)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [8, 5, 11, ((11, 7), (3, 16))], ids=str)
@pytest.mark.parametrize("subsampling", NAMES)
def test_crops(backend: Backend, subsampling: str, scale: Scale, flip: bool) -> None:
    """Corners, edges, and what begins and ends within a tile."""
    b = blocks(subsampling, 9, 45)
    height, width = b.grid(scale)
    for top, left, rows, columns in [
        (0, 0, 1, 1),
        (height - 1, width - 1, 1, 1),
        (height - 1, 0, 1, width),
        (0, width - 1, height, 1),
        (1, 3, height - 2, width - 5),
        (2, width - 7, 3, 7),
    ]:
        check(
            backend,
            b,
            selection(30),
            *statistics(30),
            scale=scale,
            crop=(top, left, rows, columns),
            flip=flip,
        )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", RESULTS, ids=str)
def test_dtypes(backend: Backend, dtype: torch.dtype, channels_last: bool) -> None:
    for scale, count in itertools.product((8, 13), (1, 5, 16, 33, 64, 100, 192)):
        b = blocks("4:2:0", 5, 21, tables="each", value=100)
        options = {"scale": scale, "dtype": dtype, "channels_last": channels_last}
        check(backend, b, selection(count), *statistics(count), **options)


@pytest.mark.parametrize("dtype", RESULTS[1:], ids=str)
def test_results_are_float32_ones_rounded(backend: Backend, dtype: torch.dtype) -> None:
    for subsampling, flip, channels_last in itertools.product(NAMES, (False, True), (False, True)):
        b = blocks(subsampling, 5, 21)
        options = {"scale": 11, "flip": flip, "channels_last": channels_last}
        whole = gather(backend, b, selection(70), *statistics(70), **options)
        assert torch.equal(
            gather(backend, b, selection(70), *statistics(70), dtype=dtype, **options),
            whole.to(dtype),
        )


@pytest.mark.parametrize("tables", [None, "shared", "each"])
@pytest.mark.parametrize("subsampling", NAMES)
def test_tables(backend: Backend, subsampling: str, tables: str | None) -> None:
    """One set of steps, one of each picture, or none."""
    b = blocks(subsampling, 4, 10, n=3, tables=tables)
    for scale in (8, 6):
        check(backend, b, ALL, scale=scale)
    if b.tables is not None:
        strided = b.tables.mT.contiguous().mT
        assert not strided.is_contiguous() or subsampling == "gray"
        check(backend, dataclasses.replace(b, tables=strided), ALL)


def test_the_largest_values(backend: Backend) -> None:
    """All that int16 and the steps of 8-bit and 16-bit tables hold; no integer overflows."""
    b = blocks("4:2:0", 2, 5, n=1)
    b = b.map(lambda p: torch.where(p > 0, 32767, -32768).to(torch.int16))
    b = dataclasses.replace(b, tables=torch.full((3, 64), 65535, dtype=torch.int32))
    for scale in (8, 9):
        got, want = gather(backend, b, ALL, scale=scale), wanted(b, ALL, scale=scale)
        torch.testing.assert_close(got.cpu().double(), want, atol=2.0**-22 * 2**31, rtol=1e-5)


CHANNELS = [
    [0],
    [63],
    [64],
    [191],
    [5, 5, 5],
    [130, 7, 64, 7, 0],
    list(range(64, 128)),
    [*range(0, 192, 3), 0, 3],
    [7] * 192,
    ALL[::-1],
]


@pytest.mark.parametrize("scale", [8, 11])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "gray"])
@pytest.mark.parametrize("channels", CHANNELS, ids=lambda c: f"{len(c)}-{c[0]}")
def test_selections(backend: Backend, channels: list[int], subsampling: str, scale: int) -> None:
    count = len(channels)
    for channels_last in (False, True):
        for given in (statistics(count), statistics()):
            b = blocks(subsampling, 3, 19)
            check(backend, b, channels, *given, scale=scale, channels_last=channels_last)


@pytest.mark.parametrize("v", range(8))
def test_each_extent(backend: Backend, v: int) -> None:
    """Kernels leave out what no chosen channel needs: any last row and column of coefficients."""
    for u, scale in itertools.product(range(8), (8, 11)):
        for name in ("4:4:4", "4:2:0"):
            check(backend, blocks(name, 2, 5), [8 * v + u, 128 + 8 * u + v], scale=scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("count", [12, 192])
def test_statistics(backend: Backend, count: int, dtype: torch.dtype) -> None:
    """[C] by position, [192] by channel number."""
    mean, std = (s.to(dtype) for s in statistics(count))
    b, channels = blocks("4:2:0", 2, 9), selection(12)
    for given in [(mean, std), (mean, None), (None, std), (mean, std[:12])]:
        check(backend, b, channels, *given)
    strided = torch.stack([mean, std], 1)
    check(backend, b, channels, strided[:, 0], strided[:, 1])


def padded(p: Tensor) -> Tensor:
    """A part of a larger array, as decoders give it."""
    larger = p.new_full((p.shape[0] + 1, p.shape[1] + 2, p.shape[2] + 3, 64), 9999)
    larger[1:, :-2, :-3] = p
    return larger[1:, :-2, :-3]


def gaps(p: Tensor) -> Tensor:
    """Blocks that lie an odd number of elements apart."""
    larger = p.new_full((*p.shape[:3], 81), 9999)
    larger[..., 13:77] = p
    return larger[..., 13:77]


def misaligned(p: Tensor) -> Tensor:
    """One element behind the start of its memory."""
    flat = p.new_zeros(p.numel() + 1)
    flat[1:] = p.reshape(-1)
    return flat[1:].view(p.shape)


def mirrored_in_memory(p: Tensor) -> Tensor:
    """Rows and pictures in another order in memory."""
    return p.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "padded": padded,
    "gaps": gaps,
    "misaligned": misaligned,
    "permuted": mirrored_in_memory,
    "one block for all": lambda p: p[:1, :1, :1].expand(p.shape),
    "one picture for all": lambda p: p[:1].expand(p.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("subsampling", NAMES)
def test_layouts(backend: Backend, subsampling: str, layout: str) -> None:
    b = blocks(subsampling, 5, 35).map(LAYOUTS[layout])
    assert not b.y.is_contiguous() or layout == "misaligned"
    for scale, flip in itertools.product((8, 11), (False, True)):
        check(backend, b, selection(50), scale=scale, flip=flip)


def test_the_stride_of_one_block_is_never_used(backend: Backend) -> None:
    b = blocks("4:4:4", 1, 1, n=1)
    far = b.map(lambda t: t.as_strided(t.shape, (64, 64, 2**60, 1)))
    assert torch.equal(gather(backend, far, [0, 70]), gather(backend, b, [0, 70]))


@pytest.mark.parametrize("subsampling", NAMES)
def test_empty_batch(backend: Backend, subsampling: str) -> None:
    for tables in (None, "shared", "each"):
        b = blocks(subsampling, 3, 5, n=0, tables=tables)
        assert gather(backend, b, [0, 1, 70], scale=11).shape == (0, 3, 5, 7)


def test_wide_and_high(backend: Backend) -> None:
    for size in ((2, 300), (200, 3)):
        for scale in (8, 3):
            check(backend, blocks("4:2:0", *size, n=1), selection(9), scale=scale)


@pytest.mark.parametrize("case", range(40))
def test_anything(backend: Backend, case: int) -> None:
    """Arguments drawn at random."""
    draw = random.Random(case)
    b = blocks(
        draw.choice(NAMES),
        draw.randrange(1, 24),
        draw.randrange(1, 40),
        draw.choice([1, 2, 3]),
        draw.choice([None, "shared", "each"]),
        seed=case,
    )
    axes = [draw.choice([8, draw.randrange(1, 17), (draw.randrange(1, 17), draw.randrange(1, 17))])
            for _ in range(2)]  # fmt: skip
    scale = (axes[0], axes[1])
    height, width = b.grid(scale)
    top, left = draw.randrange(height), draw.randrange(width)
    crop = (top, left, draw.randrange(1, height - top + 1), draw.randrange(1, width - left + 1))
    check(
        backend,
        b,
        [draw.randrange(192) for _ in range(draw.choice([1, 24, 192]))],
        draw.choice([None, statistics()[0]]),
        draw.choice([None, statistics()[1]]),
        scale=scale,
        crop=draw.choice([None, crop]),
        flip=draw.random() < 0.5,
        channels_last=draw.random() < 0.5,
    )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "4:1:1", "gray"])
def test_exact_where_arithmetic_is(backend: Backend, subsampling: str, channels_last: bool) -> None:
    """Unscaled luma, and chroma that is not subsampled: the stored integer times its step."""
    whole = 1 if subsampling != "4:4:4" else 3
    channels = selection(192)
    for layout in (padded, misaligned):
        b = blocks(subsampling, 6, 37, tables="each").map(layout)
        assert b.tables is not None
        values = [p.int() * b.tables[:, None, None, k] for k, p in enumerate(b.planes[:whole])]
        want = torch.cat(values, 3).permute(0, 3, 1, 2)
        for crop in ((0, 0, 6, 37), (1, 2, 4, 33)):
            got = gather(backend, b, channels, crop=crop, channels_last=channels_last).cpu()
            top, left, rows, columns = crop
            for i, channel in enumerate(channels):
                if channel < 64 * whole:
                    part = want[:, channel, top : top + rows, left : left + columns]
                    assert torch.equal(got[:, i], part.to(F32))
