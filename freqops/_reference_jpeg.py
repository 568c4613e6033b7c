"""jpeg_gather in plain PyTorch: coefficients as JPEG files hold them, onto one grid.

Everything is linear and separable: of a component with blocks X, whose coefficients [v, u] stand
as a matrix of 8 blocks_y rows and 8 blocks_x columns, the result is P X Q^T. P and Q are alike; P
of a component that is subsampled f times, at a scale of k/8, is

    analysis   8 of the scaled pixels of luma at a time, to coefficients: D
    replicas   each of the q pixels of a block f k / q times
    synthesis  each block to q pixels: the inverse DCT of length q of its first min(8, q)
               coefficients, times sqrt(q / 8), which keeps their mean. q is k, doubled as long as
               it is less than 8 and divides f k: as jdmaster.c of libjpeg-turbo has it, there
               for both axes at once

so that k = 8 repeats the decoder's pixels f times, without its rounding. Pixels that the last block
lacks repeat the last one of luma. A second scale takes the result for a picture of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from freqops.channels import ChannelSelection

__all__ = ["SAMPLINGS", "Scale", "eighths", "grid_after", "jpeg_gather", "jpeg_gather_operator"]

BLOCK = 8
CHANNELS = 3 * BLOCK * BLOCK

SAMPLINGS = {
    "4:4:4": (1, 1),
    "4:2:2": (1, 2),
    "4:4:0": (2, 1),
    "4:2:0": (2, 2),
    "4:1:1": (1, 4),
    "gray": (1, 1),
}
"""Pixels of luma to one of chroma, down and across."""

Scale = int | tuple[int | tuple[int, ...], int | tuple[int, ...]]


def jpeg_gather(
    y: Tensor,
    cb: Tensor | None,
    cr: Tensor | None,
    tables: Tensor | None = None,
    channels: ChannelSelection | Sequence[int] | Tensor | None = None,
    *,
    subsampling: str,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    scale: Scale = BLOCK,
    crop: tuple[int, int, int, int] | None = None,
    flip: bool = False,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    """`freqops.jpeg_gather` in plain PyTorch. dtype=torch.float64 computes in float64 throughout.

    Example:
        >>> import torch
        >>> from freqops import reference
        >>> y = torch.zeros(1, 2, 64, dtype=torch.int16)
        >>> y[..., 0] = 16
        >>> out = reference.jpeg_gather(y, None, None, channels=[0, 1], subsampling="gray")
        >>> out.round().int().tolist()
        [[[16, 16]], [[0, 0]]]
    """
    from freqops import reference

    scale_y, scale_x = eighths(scale)
    if crop is None:
        grid = grid_after(y.shape[-3], scale_y), grid_after(y.shape[-2], scale_x)
        crop = (0, 0, *grid)
    planes = [p if p is None or p.dim() == 4 else p.unsqueeze(0) for p in (y, cb, cr)]
    assert planes[0] is not None
    out = jpeg_gather_operator(
        planes[0],
        planes[1],
        planes[2],
        tables,
        reference.channel_list(channels),
        mean,
        std,
        subsampling,
        scale_y,
        scale_x,
        *crop,
        flip,
        reference.default_dtype(y) if dtype is None else dtype,
        memory_format == torch.channels_last,
    )
    return out if y.dim() == 4 else out.squeeze(0)


def jpeg_gather_operator(
    y: Tensor,
    cb: Tensor | None,
    cr: Tensor | None,
    tables: Tensor | None,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    subsampling: str,
    scale_y: Sequence[int],
    scale_x: Sequence[int],
    top: int,
    left: int,
    rows: int,
    columns: int,
    flip: bool,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> Tensor:
    """out = ((P X Q^T)[channels] - mean) / std, [N, C, rows, columns]."""
    from freqops import reference

    whole = torch.float64 if dtype == torch.float64 else torch.float32
    factors = SAMPLINGS[subsampling]
    with reference.no_autocast(y):
        results = []
        for k, blocks in enumerate((y, cb, cr)):
            if blocks is None:  # gray: Cb and Cr are 128 everywhere
                results.append(y.new_zeros(y.shape[0], BLOCK, BLOCK, rows, columns, dtype=whole))
                continue
            values = blocks.to(whole)
            if tables is not None:  # [K, 64] or [N, K, 64]
                steps = tables[..., k, :].to(whole)
                values = values * (steps if steps.dim() == 1 else steps[:, None, None, :])
            fy, fx = factors if k > 0 else (1, 1)
            down = axis(y.shape[1], fy, scale_y, like=values)
            across = axis(y.shape[2], fx, scale_x, like=values)
            down = down[BLOCK * top : BLOCK * (top + rows)]
            across = across[BLOCK * left : BLOCK * (left + columns)]
            if flip:  # the blocks in the other order, odd frequencies with the other sign
                signs = values.new_tensor([1, -1]).repeat(BLOCK // 2)
                across = torch.unflatten(across, 0, (columns, BLOCK)).flip(0) * signs[:, None]
                across = across.flatten(0, 1)
            n, by, bx, _ = values.shape
            matrix = (
                values.view(*values.shape[:3], BLOCK, BLOCK)
                .transpose(2, 3)
                .reshape(n, 8 * by, 8 * bx)
            )
            matrix = down[:, : 8 * by] @ matrix @ across[:, : 8 * bx].T
            tiles = matrix.reshape(n, rows, BLOCK, columns, BLOCK)
            results.append(tiles.permute(0, 2, 4, 1, 3))
        out = torch.stack(results, 1).flatten(1, 3)[:, list(channels)]
        if mean is not None:
            out = out - reference.by_channel(mean, channels, out)
        if std is not None:
            out = out / reference.by_channel(std, channels, out)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return out.to(dtype).contiguous(memory_format=memory_format)


def eighths(scale: Scale) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The scales down and across, each a sequence of eighths."""
    both = scale if isinstance(scale, (tuple, list)) else (scale, scale)
    down, across = (tuple(s) if isinstance(s, (tuple, list)) else (s,) for s in both)
    return down, across


def grid_after(blocks: int, scales: Sequence[int]) -> int:
    """How many blocks there are after scaling."""
    for k in scales:
        blocks = (blocks * k + BLOCK - 1) // BLOCK
    return blocks


def axis(blocks: int, factor: int, scales: Sequence[int], *, like: Tensor) -> Tensor:
    """P: [8 result blocks, 8 ceil(blocks / factor)], for luma of that many blocks."""
    matrix, count = None, blocks
    for k in scales or (BLOCK,):
        step = _scaling(count, factor if matrix is None else 1, k, like)
        matrix = step if matrix is None else step @ matrix
        count = grid_after(count, (k,))
    assert matrix is not None
    return matrix


def _scaling(blocks: int, factor: int, k: int, like: Tensor) -> Tensor:
    q = k
    while q < BLOCK and 2 * q <= factor * k:
        q *= 2
    synthesis = _dct(q, like)[: min(q, BLOCK)].T * math.sqrt(q / BLOCK)
    synthesis = torch.nn.functional.pad(synthesis, (0, BLOCK - synthesis.shape[1]))
    sources = -(-blocks // factor)
    eye = torch.eye(sources, dtype=like.dtype, device=like.device)
    pixels = torch.kron(eye, synthesis.repeat_interleave(factor * k // q, 0))
    targets = grid_after(blocks, (k,))
    chosen = torch.arange(BLOCK * targets, device=like.device).clamp(max=blocks * k - 1)
    eye = torch.eye(targets, dtype=like.dtype, device=like.device)
    return torch.kron(eye, _dct(BLOCK, like)) @ pixels[chosen]


def _dct(size: int, like: Tensor) -> Tensor:
    """D[v, i] = a_v cos((2i + 1) v pi / (2 size)), orthonormal."""
    i = torch.arange(size, dtype=torch.float64, device=like.device)
    matrix = torch.cos((2 * i + 1) * i[:, None] * math.pi / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like.dtype)
