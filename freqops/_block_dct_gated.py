"""The operator block_dct_gated: shapes, derivatives and batching rule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from freqops._arguments import accumulate
from freqops._block_dct_operator import dct_batched, dct_fake, dct_operator, transform
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

__all__ = ["gated_transform"]

_gated: Operator[Tensor] = operator("block_dct_gated")


def gated_transform(*arguments: object) -> Tensor:
    """The operator block_dct_gated, from public functions."""
    if torch.compiler.is_compiling():
        return _gated(*arguments)
    return call_composed(_from_parts, _gated, *arguments)


def _composed(
    dct: Operator[Tensor],
    images: Tensor,
    gate: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> Tensor:
    """block_dct * gate, with the derivatives of both; dct is the operator block_dct.

    A closed gate hides what is not finite, with its derivative; all else has that of the product.
    """
    whole = accumulate(images.dtype, dtype)
    x = dct(images, channels, mean, std, chroma, "none", whole, channels_last, False)
    y = _product(x, gate[..., None, None].to(whole), dtype)
    if torch._C._are_functorch_transforms_active():  # which know no channels_last
        return y
    form = torch.channels_last if channels_last else torch.contiguous_format
    return y.contiguous(memory_format=form)


def _product(x: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
    hidden = (gate == 0) & ~x.isfinite()
    return (x * gate).masked_fill(hidden, 0).to(dtype)


def _fake(
    images: Tensor,
    gate: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> Tensor:
    return dct_fake(images, channels, mean, std, chroma, "none", dtype, channels_last)


def _batched(
    run: Operator[Tensor],
    info: BatchInfo,
    in_dims: Dims,
    images: Tensor,
    gate: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> tuple[Tensor, int | None]:
    of_images, of_gate, _, of_mean, of_std = in_dims[:5]
    if of_mean is None and of_std is None:
        # What has no batch is the same for each of it.
        size = info.batch_size
        many = images.expand(size, *images.shape) if of_images is None else images
        gates = gate.expand(size, *gate.shape) if of_gate is None else gate
        pictures, batch = flat_batch(many, of_images or 0)
        rows, _ = flat_batch(gates, of_gate or 0)
        options = (channels, mean, std, chroma, dtype, channels_last)
        return with_batch(run(pictures, rows, *options), batch)
    whole = accumulate(images.dtype, dtype)
    dims = (of_images, None, of_mean, of_std)
    rest = (channels, mean, std, chroma, "none", whole, channels_last)
    x, _ = dct_batched(dct_operator, info, dims, images, *rest)
    gate = gate.unsqueeze(0) if of_gate is None else gate.movedim(of_gate, 0)
    return _product(x, gate[..., None, None].to(whole), dtype), 0


_from_parts: Operator[Tensor] = partial(_composed, transform)

register_composed("block_dct_gated", partial(_composed, dct_operator), (False,), _fake, _batched)
