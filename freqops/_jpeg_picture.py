"""The methods of JPEGCoefficients: turned upright, and gathered in its own size; its middle."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from freqops._arguments import Channels
from freqops._jpeg_gather import jpeg_gather, read_scale
from freqops._jpeg_geometry import Placement, blocks_after, place_middle
from freqops._reference_jpeg import SAMPLINGS, Scale
from freqops.jpeg import JPEGCoefficients, UnsupportedJPEG

__all__ = ["gather", "middle", "upright"]

BLOCK = 8
COEFFICIENTS = BLOCK * BLOCK

# EXIF 2.3, tag 0x0112: rows and columns exchanged, then top and bottom, then left and right.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

_TRANSPOSED = {"4:2:2": "4:4:0", "4:4:0": "4:2:2"}


def upright(c: JPEGCoefficients) -> JPEGCoefficients:
    """`JPEGCoefficients.upright`."""
    if c.orientation == 1:
        return c
    transpose, upside_down, mirror = _TURNS[c.orientation]
    subsampling = c.subsampling
    if transpose and subsampling == "4:1:1":
        raise UnsupportedJPEG(
            f"4:1:1 of orientation {c.orientation} turned upright has 4 pixels of luma to one of "
            "chroma down the picture, which is no kind that is read"
        )
    if transpose:
        subsampling = _TRANSPOSED.get(subsampling, subsampling)
    height, width = (c.width, c.height) if transpose else (c.height, c.width)
    fy, fx = SAMPLINGS[subsampling]
    if upside_down:
        height = _whole(height, fy, c)
    if mirror:
        width = _whole(width, fx, c)
    planes = [
        None if p is None else _turned(p, transpose, upside_down, mirror, height, width, *f)
        for p, f in ((c.y, (1, 1)), (c.cb, (fy, fx)), (c.cr, (fy, fx)))
    ]
    assert planes[0] is not None
    tables = c.tables
    if transpose:
        tables = tables.view(-1, BLOCK, BLOCK).transpose(1, 2).reshape(-1, COEFFICIENTS)
    return dataclasses.replace(
        c,
        y=planes[0],
        cb=planes[1],
        cr=planes[2],
        tables=tables,
        subsampling=subsampling,
        height=height,
        width=width,
        orientation=1,
    )


def middle(
    c: JPEGCoefficients, resize: int | None, crop: int | None
) -> tuple[JPEGCoefficients, Placement]:
    """The picture turned upright, and `place_middle` in it.

    Raises:
        ValueError: the crop does not fit into the resized picture.
        UnsupportedJPEG: that of either; or the crop does not fit into what turning leaves.
    """
    up = upright(c)
    try:
        return up, place_middle(up.height, up.width, resize, crop)
    except UnsupportedJPEG:
        raise
    except ValueError as error:
        if up.height * up.width == c.height * c.width:
            raise
        raise UnsupportedJPEG(f"{error} when whole blocks of it are turned upright") from error


def _whole(length: int, factor: int, c: JPEGCoefficients) -> int:
    """The part of a mirrored axis that whole blocks of chroma cover."""
    unit = BLOCK * factor
    if length < unit:
        raise UnsupportedJPEG(
            f"a picture of {c.height} x {c.width} of orientation {c.orientation} has no whole "
            f"block of {unit} pixels to mirror"
        )
    return length // unit * unit


def _turned(
    blocks: Tensor,
    transpose: bool,
    upside_down: bool,
    mirror: bool,
    height: int,
    width: int,
    fy: int,
    fx: int,
) -> Tensor:
    """One component, [rows, columns, 64], for a picture of height x width when turned."""
    if transpose:
        blocks = blocks.transpose(0, 1)
        square = blocks.view(*blocks.shape[:2], BLOCK, BLOCK)
        blocks = square.transpose(2, 3).reshape(blocks.shape)
    rows, columns = -(-height // (BLOCK * fy)), -(-width // (BLOCK * fx))
    blocks = blocks[:rows, :columns]
    dims = [d for d, mirrored in ((0, upside_down), (1, mirror)) if mirrored]
    if not dims:
        return blocks
    out = blocks.flip(dims).view(rows, columns, BLOCK, BLOCK)
    for d in dims:
        odd = out[:, :, 1::2] if d == 0 else out[..., 1::2]
        odd.clamp_(min=-32767).neg_()
    return out.flatten(2)


def gather(
    c: JPEGCoefficients,
    channels: Channels = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    scale: Scale = BLOCK,
    crop: tuple[int, int, int, int] | None = None,
    flip: bool = False,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    """`JPEGCoefficients.gather`."""
    wanted = crop
    if crop is None:
        down, across = read_scale(scale)
        wanted = (0, 0, blocks_after(c.height, down), blocks_after(c.width, across))
    return jpeg_gather(
        c.y,
        c.cb,
        c.cr,
        c.tables if c.quantized else None,
        channels,
        subsampling=c.subsampling,
        mean=mean,
        std=std,
        scale=scale,
        crop=wanted,
        flip=flip,
        dtype=dtype,
        memory_format=memory_format,
    )
