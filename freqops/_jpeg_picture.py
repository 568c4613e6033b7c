"""One picture of coefficients: turned upright, and gathered in its own size."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from freqops._arguments import Channels
from freqops._jpeg_gather import _scales as read_scale
from freqops._jpeg_gather import jpeg_gather
from freqops._jpeg_geometry import blocks_after
from freqops._reference_jpeg import SAMPLINGS, Scale
from freqops.jpeg import JPEGCoefficients, UnsupportedJPEG

__all__ = ["gather", "upright"]

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
    """The picture with its EXIF orientation applied, exactly and without decoding.

    Rows and columns exchanged: X'[a, b][v, u] = X[b, a][u, v], of the tables too. Mirrored left to
    right: X'[a, b][v, u] = (-1)^u X[a, B - 1 - b][v, u]; top to bottom likewise.

    Blocks cannot be shifted by less than their size, so a mirrored axis begins with whole blocks:
    where its length is no multiple of 8 f, with f pixels of luma to one of chroma along it, what
    lies beyond the last multiple is cut off (it would come first), as by jpegtran -trim. Axes that
    are not mirrored keep their last, incomplete blocks.

    Args:
        c: any picture; with orientation 1 it is given back as it is.

    Returns:
        A picture of orientation 1. height and width change places where rows and columns do, and
        lose what is cut off; 4:2:2 and 4:4:0 change places too. -32768, which has no opposite in
        int16, is mirrored to 32767.

    Raises:
        UnsupportedJPEG: rows and columns of 4:1:1 exchanged are no kind of JPEGCoefficients; or an
            axis to mirror is shorter than 8 f.

    Example:
        >>> import dataclasses, torch
        >>> from freqops.jpeg import JPEGCoefficients
        >>> y, tables = torch.zeros(1, 2, 64, dtype=torch.int16), torch.ones(1, 64).int()
        >>> y[0, 0, :2] = torch.tensor([5, 3])
        >>> c = JPEGCoefficients(y, None, None, tables, "gray", 8, 16, orientation=2)
        >>> upright(c).y[0, :, :2].tolist()
        [[0, 0], [5, -3]]
    """
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
    """`freqops.jpeg_gather` of one picture: its frequency channels on the grid of luma.

    Args:
        c: the picture, as stored: its orientation is not looked at (see ``upright``).
        channels, mean, std, scale, flip, dtype, memory_format: as in `jpeg_gather`.
        crop: (top, left, rows, columns) in blocks of the scaled picture. None: those that the
            picture's pixels reach, ceil(ceil(height k / 8) / 8) by ceil(ceil(width k / 8) / 8), not
            those that only the padding of its last blocks does.

    Returns:
        (C, rows, columns).

    Raises:
        TypeError, ValueError: those of `jpeg_gather`.

    Example:
        >>> import torch
        >>> from freqops.jpeg import JPEGCoefficients
        >>> y, tables = torch.zeros(2, 3, 64, dtype=torch.int16), torch.ones(1, 64).int()
        >>> c = JPEGCoefficients(y, None, None, tables, "gray", 12, 17)
        >>> gather(c, [0, 1]).shape, gather(c, [0, 1], scale=4).shape
        (torch.Size([2, 2, 3]), torch.Size([2, 1, 2]))
    """
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
