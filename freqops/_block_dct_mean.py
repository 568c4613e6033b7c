"""block_dct_mean: the public function, its operator's shapes, derivatives and batching rule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from freqops import _arguments
from freqops._arguments import Channels, accumulate
from freqops._block_dct import CHROMA, parts
from freqops._block_dct_operator import dct_batched, dct_operator, transform
from freqops._dispatch import (
    BatchInfo,
    Dims,
    Operator,
    call_composed,
    flat_batch,
    operator,
    register_composed,
    with_batch,
)
from freqops.channels import CHANNELS

__all__ = ["block_dct_mean"]

_mean: Operator[Tensor] = operator("block_dct_mean")


def block_dct_mean(
    images: Tensor,
    channels: Channels = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
) -> Tensor:
    """The mean of each frequency channel over a picture, in one pass over its pixels.

    out[n, i] = mean over blocks (a, b) of block_dct(images, channels, ...)[n, i, a, b]. All steps
    are affine, so this is the transform of the mean block: what a ChannelGate pools from
    coefficients, without computing them.

    Args:
        images, channels, mean, std, chroma: as in `block_dct`.

    Returns:
        (N, C), or (C,) for one picture: float64 for float64 pictures, else float32, under autocast
        too. Differentiable to any order in images (floating point), mean and std.

    Raises:
        TypeError, ValueError: those of `block_dct`.

    Example:
        >>> import torch
        >>> from freqops.ops import block_dct, block_dct_mean
        >>> images = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8)
        >>> pooled = block_dct_mean(images, [0, 9, 70])
        >>> torch.allclose(pooled, block_dct(images, [0, 9, 70]).mean((2, 3)), atol=1e-3)
        True
    """
    _arguments.check_images("block_dct_mean", images)
    indices = _arguments.read_channels("block_dct_mean", channels)
    mean = _arguments.check_statistic("block_dct_mean", "mean", mean, len(indices), images)
    std = _arguments.check_statistic("block_dct_mean", "std", std, len(indices), images)
    _arguments.check_choice("block_dct_mean", "chroma", chroma, CHROMA)
    pictures = images if images.dim() == 4 else images.unsqueeze(0)
    try:
        if len(indices) <= CHANNELS:
            out = _run(pictures, indices, mean, std, chroma)
        else:
            results = [_run(pictures, *some, chroma) for _, *some in parts(indices, mean, std)]
            out = torch.cat(results, 1)
    except RuntimeError:
        _arguments.check_values("block_dct_mean", mean, std)
        raise
    return out if images.dim() == 4 else out.squeeze(0)


def _run(*arguments: object) -> Tensor:
    if torch.compiler.is_compiling():
        return _mean(*arguments)
    return call_composed(_from_parts, _mean, *arguments)


def _composed(
    dct: Operator[Tensor],
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
) -> Tensor:
    """The mean over blocks, with its derivatives; dct is the operator block_dct."""
    dtype = accumulate(images.dtype)
    return dct(images, channels, mean, std, chroma, "none", dtype, False, False).mean((2, 3))


_from_parts: Operator[Tensor] = partial(_composed, transform)


def _fake(
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
) -> Tensor:
    return images.new_empty((len(images), len(channels)), dtype=accumulate(images.dtype))


def _batched(
    run: Operator[Tensor],
    info: BatchInfo,
    in_dims: Dims,
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
) -> tuple[Tensor, int | None]:
    if in_dims[2] is None and in_dims[3] is None:
        images, batch = flat_batch(images, in_dims[0])
        return with_batch(run(images, channels, mean, std, chroma), batch)
    options = (channels, mean, std, chroma, "none", accumulate(images.dtype))
    out, dim = dct_batched(dct_operator, info, in_dims, images, *options)
    return out.mean((-2, -1)), dim


register_composed("block_dct_mean", partial(_composed, dct_operator), (), _fake, _batched)
