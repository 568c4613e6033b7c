"""The reference of jpeg_gather and the operator against pixels: inverse DCT, replicas, DCT."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from jpeg_blocks import ALL, F64, NAMES, SCALES, Blocks, assert_close, blocks, largest, wanted
from torch import Tensor
from torch.nn.functional import pad

from freqops import jpeg_gather
from freqops._reference_jpeg import SAMPLINGS, Scale, eighths

scipy_fft = pytest.importorskip("scipy.fft", reason="an inverse DCT that is not ours")


def values(b: Blocks, k: int) -> Tensor:
    """[N, by, bx, 8, 8] of component k, dequantised."""
    out = b.planes[k].to(F64)
    if b.tables is not None:
        steps = b.tables[..., k, :].to(F64)
        out = out * (steps if steps.dim() == 1 else steps[:, None, None])
    return out.unflatten(-1, (8, 8))


def pixels(coefficients: Tensor, down: int, across: int) -> Tensor:
    """[N, by, bx, 8, 8] -> [N, by * down, bx * across]: the inverse DCT of that size of the
    coefficients that fit in, at the scale of the whole."""
    part = coefficients[..., : min(down, 8), : min(across, 8)]
    blocks = scipy_fft.idctn(part.numpy(), s=(down, across), axes=(-2, -1), norm="ortho")
    n, by, bx = coefficients.shape[:3]
    planes = torch.from_numpy(blocks).permute(0, 1, 3, 2, 4).reshape(n, by * down, bx * across)
    return planes * (down * across) ** 0.5 / 8


def transform(planes: Tensor) -> Tensor:
    """[N, H, W], multiples of 8 -> [N, 64, H / 8, W / 8]."""
    n, height, width = planes.shape
    tiles = planes.reshape(n, height // 8, 8, width // 8, 8).permute(0, 1, 3, 2, 4)
    out = torch.from_numpy(scipy_fft.dctn(tiles.numpy(), axes=(-2, -1), norm="ortho"))
    return out.flatten(-2).permute(0, 3, 1, 2)


def idct_size(k: int, factor: int) -> int:
    """Pixels that a block of chroma becomes where luma's become k: as many as are of use, up to 8.
    jdmaster.c of libjpeg-turbo, there for both axes at once."""
    q = k
    while q < 8 and (factor * k) % (2 * q) == 0:
        q *= 2
    return q


def decoded(b: Blocks, k: int, down: int, across: int) -> Tensor:
    """The picture of component k at the resolution of luma, scaled; whole blocks, the last pixel
    repeated."""
    fy, fx = SAMPLINGS[b.subsampling] if k else (1, 1)
    qy, qx = idct_size(down, fy), idct_size(across, fx)
    out = pixels(values(b, k), qy, qx)
    out = out.repeat_interleave(fy * down // qy, 1).repeat_interleave(fx * across // qx, 2)
    height, width = b.y.shape[1] * down, b.y.shape[2] * across
    out = out[:, :height, :width]
    return pad(out[:, None], (0, -width % 8, 0, -height % 8), mode="replicate")[:, 0]


def by_pixels(b: Blocks, scale: Scale = 8) -> Tensor:
    """[N, 192, gh, gw] of one scale for each axis."""
    (down,), (across,) = eighths(scale)
    planes = [transform(decoded(b, k, down, across)) for k in range(len(b.planes))]
    planes += [torch.zeros_like(planes[0])] * (3 - len(planes))
    return torch.cat(planes, 1)


def operator(b: Blocks, scale: Scale = 8, **options: object) -> Tensor:
    return jpeg_gather(b.y, b.cb, b.cr, b.tables, subsampling=b.subsampling, scale=scale, **options)


SIZES = [(1, 1), (1, 9), (7, 2), (5, 13)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [s for s in SCALES if not isinstance(s, tuple)] + [(3, 7)])
@pytest.mark.parametrize("subsampling", NAMES)
def test_pixels(subsampling: str, scale: Scale, size: tuple[int, int]) -> None:
    b = blocks(subsampling, *size)
    want = by_pixels(b, scale)
    torch.testing.assert_close(wanted(b, ALL, scale=scale), want, atol=1e-8, rtol=1e-12)
    assert_close(operator(b, scale), want, torch.float32, largest(b))


@pytest.mark.parametrize("subsampling", NAMES)
def test_replicas_are_chroma_times_four_matrices(subsampling: str) -> None:
    """Unscaled chroma: the pixels of a block repeated, cut to blocks, transformed, by matrices."""
    b = blocks(subsampling, 4, 8)
    if subsampling == "gray":
        assert not wanted(b, ALL)[:, 64:].any()
        return
    fy, fx = SAMPLINGS[subsampling]
    eye = torch.eye(64, dtype=F64).view(1, 1, 64, 8, 8)
    one = pixels(eye, 8, 8).repeat_interleave(fy, 1).repeat_interleave(fx, 2)  # [1, 8fy, 64 8fx]
    maps = transform(one)[0].reshape(64, fy, 64, fx)  # [out, y, in, x]
    want = torch.einsum("oyix,nabi->noaybx", maps, values(b, 1).flatten(-2))
    torch.testing.assert_close(wanted(b, ALL)[:, 64:128], want.flatten(2, 3).flatten(3, 4))


@pytest.mark.parametrize("first", [3, 11, 16])
@pytest.mark.parametrize("second", [1, 5, 8, 13])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "4:1:1", "gray"])
def test_scales_follow_one_another(subsampling: str, second: int, first: int) -> None:
    """The second takes what the first gave for a picture of its own, without subsampling."""
    b = blocks(subsampling, 3, 7)
    once = by_pixels(b, first)
    names = {"subsampling": "4:4:4", "tables": None}
    planes = [p.unflatten(1, (3, 64))[:, k].permute(0, 2, 3, 1) for k in range(3) for p in [once]]
    want = by_pixels(
        dataclasses.replace(b, y=planes[0], cb=planes[1], cr=planes[2], **names), second
    )
    both = (first, second)
    torch.testing.assert_close(wanted(b, ALL, scale=(both, both)), want, atol=1e-8, rtol=1e-12)
    assert_close(operator(b, (both, both)), want, torch.float32, largest(b))


@pytest.mark.parametrize("scale", [8, 11, 5, ((11, 3), 9)])
@pytest.mark.parametrize("subsampling", NAMES)
def test_crop_is_a_slice(subsampling: str, scale: Scale) -> None:
    b = blocks(subsampling, 6, 9)
    whole, exact = operator(b, scale), wanted(b, ALL, scale=scale)
    height, width = b.grid(scale)
    for top, left, rows, columns in [
        (0, 0, 1, 1),
        (height - 1, width - 1, 1, 1),
        (1, 2, height - 1, width - 2),
        (height // 2, 0, 1, width),
    ]:
        crop = (top, left, rows, columns)
        part = (..., slice(top, top + rows), slice(left, left + columns))
        assert torch.equal(operator(b, scale, crop=crop), whole[part])
        torch.testing.assert_close(wanted(b, ALL, scale=scale, crop=crop), exact[part])


@pytest.mark.parametrize("scale", [8, 11, 6])
@pytest.mark.parametrize("subsampling", NAMES)
def test_flip_mirrors_the_pixels(subsampling: str, scale: int) -> None:
    """Those of the whole blocks that are cropped."""
    b = blocks(subsampling, 3, 7)
    planes = torch.cat([decoded(b, k, scale, scale).flip(2) for k in range(len(b.planes))])
    want = torch.cat(transform(planes).split(2), 1)
    if subsampling == "gray":
        want = pad(want, (0, 0, 0, 0, 0, 128))
    torch.testing.assert_close(wanted(b, ALL, scale=scale, flip=True), want, atol=1e-8, rtol=1e-12)
    assert_close(operator(b, scale, flip=True), want, torch.float32, largest(b))
    crop = (1, 1, 2, 3)
    got = operator(b, scale, flip=True, crop=crop)
    assert torch.equal(got, operator(b, scale, flip=True)[..., 1:3, b.grid(scale)[1] - 4 : -1])


def test_a_constant_stays_that_constant() -> None:
    """The DC coefficient is 8 times the mean, at every size."""
    for name in NAMES:
        b = blocks(name, 3, 5, tables=None)
        b = b.map(lambda p: torch.zeros_like(p).index_fill_(3, torch.tensor([0]), 80))
        for scale in SCALES:
            want = torch.zeros(2, 192, *b.grid(scale), dtype=F64)
            want[:, [64 * k for k in range(len(b.planes))]] = 80
            torch.testing.assert_close(wanted(b, ALL, scale=scale), want, atol=1e-9, rtol=0)


def test_halves_of_a_block() -> None:
    """4:2:0: a chroma block that is 1 on the left and 0 on the right gives a block of ones and one
    of zeros."""
    step = torch.zeros(1, 8, 8, dtype=F64)
    step[..., :4] = 1
    column = transform(step)[0, :, 0, 0]
    b = blocks("4:2:0", 2, 2, n=1, tables=None)
    cb = (column * 4000).round().to(torch.int16).view(1, 1, 1, 64)
    out = wanted(dataclasses.replace(b, cb=cb), [64]) / 4000
    want = torch.tensor([[8.0, 0], [8, 0]], dtype=F64)
    torch.testing.assert_close(out[0, 0], want, atol=1e-3, rtol=0)
