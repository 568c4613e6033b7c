"""The operators block_dct and block_dct_backward: shapes, derivatives and batching rules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freqops._arguments import accumulate
from freqops._dispatch import (
    Dims,
    Operator,
    PictureContext,
    apply,
    batched_statistic,
    below_autograd,
    call,
    flat_batch,
    jvp_primals,
    keep,
    kept,
    operator,
    per_channel,
    register,
    statistic_gradient,
    statistic_gradients,
    statistic_tangents,
    wanted,
    with_batch,
)
from freqops.channels import BLOCK

__all__ = ["BlockDCT", "BlockDCTBackward", "dct_batched", "dct_fake", "dct_operator", "transform"]

dct_operator: Operator[Tensor] = operator("block_dct")
_backward: Operator[Tensor] = operator("block_dct_backward")

# The operators' arguments.
_Inputs = tuple[
    Tensor,
    Sequence[int],
    Tensor | None,
    Tensor | None,
    str,
    str,
    torch.dtype,
    bool,
    bool,
]
_BackwardInputs = tuple[Tensor, Sequence[int], Tensor | None, str, int, int, torch.dtype]


def transform(*arguments: object) -> Tensor:
    """The operator block_dct, from public functions."""
    if torch.compiler.is_compiling():
        return dct_operator(*arguments)
    return call(BlockDCT, dct_operator, *arguments)


class BlockDCT(torch.autograd.Function):
    """The operator block_dct with its derivatives of every order. Arguments as in its schema,
    but dtype, which is a torch.dtype.

    out = (L images + shift - mean[c]) / std[c] with a linear map L and the channels c, so

        d images = L^T (g / std[c]),  d mean[c] = -sum g / std[c],  d std[c] = -sum g out / std[c]

    and the tangent is (L t_images - t_mean[c] - out t_std[c]) / std[c].
    """

    class _Context(PictureContext):
        chroma: str
        images_dtype: torch.dtype
        dtype: torch.dtype
        shape: torch.Size
        channels_last: bool
        linear: bool

    @staticmethod
    def forward(
        images: Tensor,
        channels: Sequence[int],
        mean: Tensor | None,
        std: Tensor | None,
        chroma: str,
        rounding: str,
        dtype: torch.dtype,
        channels_last: bool = False,
        linear: bool = False,
    ) -> Tensor:
        options = (chroma, rounding, dtype, channels_last, linear)
        return below_autograd(dct_operator, images, channels, mean, std, *options)

    @staticmethod
    def setup_context(ctx: _Context, inputs: _Inputs, output: Tensor) -> None:
        images, channels, mean, std, ctx.chroma, _, ctx.dtype, last, linear = inputs
        ctx.channels = tuple(channels)  # the caller's list may change
        ctx.channels_last, ctx.linear = last, linear
        ctx.images_dtype, ctx.shape = images.dtype, output.shape
        ctx.height, ctx.width = images.shape[2:]
        keep(ctx, mean, std, output, last=wanted(std))

    @staticmethod
    def backward(ctx: _Context, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        c = ctx.channels
        mean, std, out = ctx.saved_tensors
        of_images = of_mean = of_std = None
        if grad is not None and ctx.needs_input_grad[0]:
            options = (ctx.chroma, ctx.height, ctx.width, ctx.images_dtype)
            of_images = apply(BlockDCTBackward, grad, c, std, *options)
        need_mean, need_std = ctx.needs_input_grad[2] and not ctx.linear, ctx.needs_input_grad[3]
        if grad is not None and (need_mean or need_std):
            of_mean, of_std = statistic_gradients(grad, c, mean, std, out, need_mean, need_std)
        return of_images, None, of_mean, of_std, None, None, None, None, None

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Tensor | None:
        c = ctx.channels
        of_images, _, of_mean, of_std = tangents[:4]
        with jvp_primals(ctx) as (_, std, out):
            terms = []
            if of_images is not None:
                options = (ctx.chroma, "none", ctx.dtype, ctx.channels_last, True)
                terms.append(apply(BlockDCT, of_images, c, None, std, *options))
            terms += statistic_tangents(c, std, out, None if ctx.linear else of_mean, of_std)
            if not terms:
                return None
            # As the result lies in memory: autograd would copy another layout, and a compiler
            # cannot trace that.
            form = torch.channels_last if ctx.channels_last else torch.contiguous_format
            total = sum(terms[1:], terms[0]).expand(ctx.shape).to(ctx.dtype)
            return total.contiguous(memory_format=form)


class BlockDCTBackward(torch.autograd.Function):
    """The operator block_dct_backward: images = L^T (grad / std[c]), linear in grad, so

    d grad = (L g) / std[c],   d std[c] = - sum grad (L g) / std[c]^2.
    """

    class _Context(PictureContext):
        chroma: str
        grad_dtype: torch.dtype
        dtype: torch.dtype

    @staticmethod
    def forward(
        grad: Tensor,
        channels: Sequence[int],
        std: Tensor | None,
        chroma: str,
        height: int,
        width: int,
        dtype: torch.dtype,
    ) -> Tensor:
        return below_autograd(_backward, grad, channels, std, chroma, height, width, dtype)

    @staticmethod
    def setup_context(ctx: _Context, inputs: _BackwardInputs, output: Tensor) -> None:
        grad, channels, std, ctx.chroma, ctx.height, ctx.width, ctx.dtype = inputs
        ctx.channels = tuple(channels)
        ctx.grad_dtype = grad.dtype
        keep(ctx, std, grad, last=wanted(std))

    @staticmethod
    def backward(ctx: _Context, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        std, first = ctx.saved_tensors
        of_grad = of_std = None
        if grad is not None:
            options = (ctx.chroma, "none", ctx.grad_dtype, False, True)
            of_grad = apply(BlockDCT, grad, ctx.channels, None, std, *options)
            if std is not None and ctx.needs_input_grad[2]:
                first = kept(first)
                ratio = first / per_channel(std, ctx.channels, first)
                of_std = -statistic_gradient(of_grad * ratio, ctx.channels, std)
        return of_grad, None, of_std, None, None, None, None

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Tensor | None:
        of_grad, _, of_std = tangents[:3]
        with jvp_primals(ctx) as (std, first):
            if of_std is not None and std is not None:
                c, first = ctx.channels, kept(first)
                ratio = per_channel(of_std, c, first) / per_channel(std, c, first)
                change = first * ratio
                of_grad = -change if of_grad is None else of_grad - change
            if of_grad is None:
                return None
            options = (ctx.chroma, ctx.height, ctx.width, ctx.dtype)
            return apply(BlockDCTBackward, of_grad, ctx.channels, std, *options)


def dct_fake(
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    rounding: str,
    dtype: torch.dtype,
    channels_last: bool = False,
    linear: bool = False,
) -> Tensor:
    """The shape, type and layout of a result."""
    n, _, height, width = images.shape
    grid = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    form = torch.channels_last if channels_last else torch.contiguous_format
    shape = (n, len(channels), *grid)
    return torch.empty(shape, dtype=dtype, device=images.device, memory_format=form)


def _backward_fake(
    grad: Tensor,
    channels: Sequence[int],
    std: Tensor | None,
    chroma: str,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> Tensor:
    return grad.new_empty((grad.shape[0], 3, height, width), dtype=dtype)


def dct_batched(
    run: Operator[Tensor],
    info: object,
    in_dims: Dims,
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    rounding: str,
    dtype: torch.dtype,
    channels_last: bool = False,
    linear: bool = False,
) -> tuple[Tensor, int | None]:
    """The batching rule; run is what to call on the batch."""
    images, batch = flat_batch(images, in_dims[0])
    if in_dims[2] is None and in_dims[3] is None:
        options = (chroma, rounding, dtype, channels_last, linear)
        return with_batch(run(images, channels, mean, std, *options), batch)
    # Statistics that differ along the batch are applied outside the operator.
    options = (chroma, rounding, accumulate(images.dtype, dtype), channels_last, linear)
    out, _ = with_batch(run(images, channels, None, None, *options), batch or (1, len(images)))
    if mean is not None and not linear:
        out = out - batched_statistic(mean, in_dims[2], channels, out)
    if std is not None:
        out = out / batched_statistic(std, in_dims[3], channels, out)
    return out.to(dtype), 0


def _backward_batched(
    run: Operator[Tensor],
    info: object,
    in_dims: Dims,
    grad: Tensor,
    channels: Sequence[int],
    std: Tensor | None,
    chroma: str,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> tuple[Tensor, int | None]:
    if std is not None and in_dims[2] is not None:
        grad = grad.unsqueeze(0) if in_dims[0] is None else grad.movedim(in_dims[0], 0)
        grad = grad / batched_statistic(std, in_dims[2], channels, grad)
        in_dims, std = (0,), None
    grad, batch = flat_batch(grad, in_dims[0])
    options = (chroma, height, width, dtype)
    return with_batch(run(grad, channels, std, *options), batch)


register("block_dct", BlockDCT, dct_fake, dct_batched)
register("block_dct_backward", BlockDCTBackward, _backward_fake, _backward_batched)
