"""block_idct: the public function, its operators' shapes, derivatives and batching rules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freqops import _arguments
from freqops._arguments import Channels, accumulate
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
    wanted,
    with_batch,
)
from freqops.channels import BLOCK, CHANNELS

__all__ = ["BlockIDCT", "BlockIDCTBackward", "block_idct"]

_forward: Operator[Tensor] = operator("block_idct")
_backward: Operator[Tensor] = operator("block_idct_backward")

# The operators' arguments.
_Inputs = tuple[Tensor, Sequence[int], Tensor | None, Tensor | None, int, int, torch.dtype, bool]
_BackwardInputs = tuple[Tensor, Sequence[int], Tensor | None, torch.dtype]


def block_idct(
    coefficients: Tensor,
    channels: Channels = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    size: Sequence[int] | None = None,
    dtype: torch.dtype = torch.uint8,
) -> Tensor:
    """RGB pictures from frequency channels: the inverse of `block_dct`.

    X[channels[i]] = coefficients[i] * std[i] + mean[i]; the planes are the orthonormal 2-D inverse
    DCT-II of X, Y plus 128; then YCbCr -> RGB.

    Args:
        coefficients: (N, C, gh, gw) or (C, gh, gw), floating point, as `block_dct` gives them.
        channels: which channels they are, as in `block_dct`, each at most once; None means all 192.
        mean, std: (C,), one for each of the channels, or (192,), read by channel number. None means
            0 and 1. Channels that are absent count as their mean where mean has 192 entries, else
            as zero.
        size: (height, width) of the pictures, at most (8 gh, 8 gw), which is what None means.
        dtype: of the pictures: uint8, rounded (half to even) and clamped to [0, 255], without a
            gradient; or float32, float64, float16, bfloat16, in [0, 1] scale and not clamped. The
            computation is in float64 where coefficients or pictures are, else in float32.

    Returns:
        (N, 3, height, width), or (3, height, width) for one picture. Floating-point pictures are
        differentiable to any order in coefficients, mean and std.

    Raises:
        TypeError: an argument is of a type or dtype that is not named above.
        ValueError: a shape, an index, a device, a size or a value of mean or std is not as above,
            or a channel is named twice.

    Source:
        DCT: ITU-T T.81, A.3.3; colours: ITU-R BT.601 in the full range of JFIF 1.02.

    Example:
        >>> import torch
        >>> from freqops.ops import block_dct, block_idct
        >>> images = torch.randint(0, 256, (2, 3, 30, 41), dtype=torch.uint8)
        >>> torch.equal(block_idct(block_dct(images), size=(30, 41)), images)
        True
    """
    indices = _arguments.read_channels("block_idct", channels)
    if len(set(indices)) != len(indices):
        twice = next(c for i, c in enumerate(indices) if c in indices[:i])
        raise ValueError(f"block_idct: channels must name each channel once, got {twice} twice")
    _arguments.check_coefficients("block_idct", coefficients, indices)
    mean = _arguments.check_statistic("block_idct", "mean", mean, len(indices), coefficients)
    std = _arguments.check_statistic("block_idct", "std", std, len(indices), coefficients)
    _arguments.check_dtype("block_idct", dtype, _arguments.PICTURES)
    rows, columns = coefficients.shape[-2:]
    height, width = BLOCK * rows, BLOCK * columns
    if size is not None:
        height, width = _arguments.check_size("block_idct", size, rows, columns)

    batch = coefficients if coefficients.dim() == 4 else coefficients.unsqueeze(0)
    arguments = (batch, indices, mean, std, height, width, dtype, False)
    out: Tensor
    try:
        if torch.compiler.is_compiling():
            out = _forward(*arguments)
        else:
            out = call(BlockIDCT, _forward, *arguments)
    except RuntimeError:
        _arguments.check_values("block_idct", mean, std)
        raise
    return out if coefficients.dim() == 4 else out.squeeze(0)


class BlockIDCT(torch.autograd.Function):
    """The operator block_idct with its derivatives of every order. Arguments as in its schema,
    but dtype, which is a torch.dtype.

    out = K (coefficients std[c] + mean) + shift with a linear map K and the channels c, so

        d coefficients = std[c] K^T g,   d mean = sum K^T g,   d std[c] = sum coefficients K^T g

    where K^T g has the channels c, or all 192 for a mean that has. uint8 pictures have no gradient.
    """

    class _Context(PictureContext):
        coefficients_dtype: torch.dtype
        dtype: torch.dtype
        shape: torch.Size
        linear: bool

    @staticmethod
    def forward(
        coefficients: Tensor,
        channels: Sequence[int],
        mean: Tensor | None,
        std: Tensor | None,
        height: int,
        width: int,
        dtype: torch.dtype,
        linear: bool = False,
    ) -> Tensor:
        options = (height, width, dtype, linear)
        return below_autograd(_forward, coefficients, channels, mean, std, *options)

    @staticmethod
    def setup_context(ctx: _Context, inputs: _Inputs, output: Tensor) -> None:
        coefficients, channels, mean, std, ctx.height, ctx.width, ctx.dtype, ctx.linear = inputs
        ctx.channels = tuple(channels)  # the caller's list may change
        ctx.coefficients_dtype, ctx.shape = coefficients.dtype, coefficients.shape
        if ctx.dtype == torch.uint8:
            ctx.mark_non_differentiable(output)
        keep(ctx, mean, std, coefficients, last=wanted(std))

    @staticmethod
    def backward(ctx: _Context, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        c = ctx.channels
        mean, std, coefficients = ctx.saved_tensors
        of_coefficients = of_mean = of_std = None
        if grad is not None and ctx.needs_input_grad[0]:
            of_coefficients = _on_grid(
                apply(BlockIDCTBackward, grad, c, std, ctx.coefficients_dtype), ctx.shape
            )
        exact = accumulate(ctx.coefficients_dtype, ctx.dtype)
        if grad is not None and mean is not None and ctx.needs_input_grad[2] and not ctx.linear:
            every = range(CHANNELS) if mean.shape[0] == CHANNELS else c
            of_mean = apply(BlockIDCTBackward, grad, list(every), None, exact).sum((0, 2, 3))
            of_mean = of_mean.to(mean.dtype)
        if grad is not None and std is not None and ctx.needs_input_grad[3]:
            inner = _on_grid(apply(BlockIDCTBackward, grad, c, None, exact), ctx.shape)
            of_std = statistic_gradient(inner * kept(coefficients), c, std)
        return of_coefficients, None, of_mean, of_std, None, None, None, None

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Tensor | None:
        if ctx.dtype == torch.uint8:
            return None
        c = ctx.channels
        of_coefficients, _, of_mean, of_std = tangents[:4]
        with jvp_primals(ctx) as (_, std, coefficients):
            options = (ctx.height, ctx.width, ctx.dtype, True)
            terms = []
            if of_coefficients is not None:
                terms.append(apply(BlockIDCT, of_coefficients, c, None, std, *options))
            if of_mean is not None and not ctx.linear:
                every = list(range(CHANNELS)) if of_mean.shape[0] == CHANNELS else c
                planes = of_mean.view(1, -1, 1, 1).expand(ctx.shape[0], -1, *ctx.shape[2:])
                terms.append(apply(BlockIDCT, planes, every, None, None, *options))
            if of_std is not None:
                coefficients = kept(coefficients)
                change = coefficients * per_channel(of_std, c, coefficients)
                terms.append(apply(BlockIDCT, change, c, None, None, *options))
            return sum(terms[1:], terms[0]) if terms else None


class BlockIDCTBackward(torch.autograd.Function):
    """The operator block_idct_backward: coefficients = std[c] K^T grad, linear in grad, so

    d grad = K (g std[c]),   d std[c] = sum g K^T grad.
    """

    class _Context(PictureContext):
        grad_dtype: torch.dtype
        dtype: torch.dtype

    @staticmethod
    def forward(
        grad: Tensor, channels: Sequence[int], std: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        return below_autograd(_backward, grad, channels, std, dtype)

    @staticmethod
    def setup_context(ctx: _Context, inputs: _BackwardInputs, output: Tensor) -> None:
        grad, channels, std, ctx.dtype = inputs
        ctx.channels = tuple(channels)
        ctx.grad_dtype, (ctx.height, ctx.width) = grad.dtype, grad.shape[2:]
        keep(ctx, std, grad, last=wanted(std))

    @staticmethod
    def backward(ctx: _Context, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        std, first = ctx.saved_tensors
        of_grad = of_std = None
        if grad is not None and ctx.needs_input_grad[0]:
            options = (ctx.height, ctx.width, ctx.grad_dtype, True)
            of_grad = apply(BlockIDCT, grad, ctx.channels, None, std, *options)
        if grad is not None and std is not None and ctx.needs_input_grad[2]:
            exact = accumulate(ctx.grad_dtype, ctx.dtype)
            inner = apply(BlockIDCTBackward, kept(first), ctx.channels, None, exact)
            of_std = statistic_gradient(inner * grad, ctx.channels, std)
        return of_grad, None, of_std, None

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Tensor | None:
        of_grad, _, of_std, _ = tangents
        with jvp_primals(ctx) as (std, first):
            terms = []
            if of_grad is not None:
                terms.append(apply(BlockIDCTBackward, of_grad, ctx.channels, std, ctx.dtype))
            if of_std is not None:
                exact = accumulate(ctx.grad_dtype, ctx.dtype)
                inner = apply(BlockIDCTBackward, kept(first), ctx.channels, None, exact)
                terms.append(inner * per_channel(of_std, ctx.channels, inner))
            return sum(terms[1:], terms[0]).to(ctx.dtype) if terms else None


def _on_grid(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Blocks that lie outside the cropped pictures altogether: zeros to the right and below."""
    below, right = shape[2] - blocks.shape[2], shape[3] - blocks.shape[3]
    return torch.nn.functional.pad(blocks, (0, right, 0, below))


def _fake(
    coefficients: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    height: int,
    width: int,
    dtype: torch.dtype,
    linear: bool = False,
) -> Tensor:
    return coefficients.new_empty((coefficients.shape[0], 3, height, width), dtype=dtype)


def _backward_fake(
    grad: Tensor, channels: Sequence[int], std: Tensor | None, dtype: torch.dtype
) -> Tensor:
    n, _, height, width = grad.shape
    grid = (height + BLOCK - 1) // BLOCK, (width + BLOCK - 1) // BLOCK
    return grad.new_empty((n, len(channels), *grid), dtype=dtype)


def _batched(
    run: Operator[Tensor],
    info: object,
    in_dims: Dims,
    coefficients: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    height: int,
    width: int,
    dtype: torch.dtype,
    linear: bool = False,
) -> tuple[Tensor, int | None]:
    options = (height, width, dtype, linear)
    if in_dims[2] is None and in_dims[3] is None:
        flat, batch = flat_batch(coefficients, in_dims[0])
        return with_batch(run(flat, channels, mean, std, *options), batch)
    # Statistics that differ along the batch are applied outside the operator.
    exact = accumulate(coefficients.dtype, dtype)
    dim = in_dims[0]
    values = coefficients.unsqueeze(0) if dim is None else coefficients.movedim(dim, 0)
    values = values.to(exact)
    if std is not None:
        values = values * batched_statistic(std, in_dims[3], channels, values)
    if mean is not None and not linear:
        dim = in_dims[2]
        mean = mean.unsqueeze(0) if dim is None else mean.movedim(dim, 0)  # [B, C] or [B, 192]
        if mean.shape[1] == CHANNELS:
            index = torch.tensor(list(channels), device=values.device)
            zeros = values.new_zeros(*values.shape[:2], CHANNELS, *values.shape[3:])
            values, channels = zeros.index_add(2, index, values), range(CHANNELS)
        values = values + batched_statistic(mean, 0, channels, values)
    flat, batch = flat_batch(values, 0)
    options = (height, width, dtype, linear)
    return with_batch(run(flat, list(channels), None, None, *options), batch)


def _backward_batched(
    run: Operator[Tensor],
    info: object,
    in_dims: Dims,
    grad: Tensor,
    channels: Sequence[int],
    std: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, int | None]:
    flat, batch = flat_batch(grad, in_dims[0])
    if std is None or in_dims[2] is None:
        return with_batch(run(flat, channels, std, dtype), batch)
    exact = accumulate(grad.dtype, dtype)
    out, _ = with_batch(run(flat, channels, None, exact), batch or (1, len(flat)))
    return (out * batched_statistic(std, in_dims[2], channels, out)).to(dtype), 0


register("block_idct", BlockIDCT, _fake, _batched)
register("block_idct_backward", BlockIDCTBackward, _backward_fake, _backward_batched)
