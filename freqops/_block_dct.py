"""block_dct: the public function, its operators' shapes, derivatives and batching rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from freqops import _arguments
from freqops._arguments import Channels, accumulate
from freqops._dispatch import (
    BatchInfo,
    Dims,
    Operator,
    PictureContext,
    apply,
    batched_statistic,
    below_autograd,
    call,
    call_composed,
    flat_batch,
    jvp_primals,
    keep,
    kept,
    operator,
    per_channel,
    register,
    register_composed,
    statistic_gradient,
    wanted,
    with_batch,
)
from freqops.channels import BLOCK, CHANNELS
from freqops.reference import default_dtype

__all__ = ["BlockDCT", "BlockDCTBackward", "block_dct", "parts", "transform"]

_forward: Operator[Tensor] = operator("block_dct")
_backward: Operator[Tensor] = operator("block_dct_backward")
_gated: Operator[Tensor] = operator("block_dct_gated")

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

# Channels of a part of a longer list. Below 192, the length at which mean and std would be read by
# channel number.
PART = 128
CHROMA = ("4:4:4", "4:2:0", "dctnet")
ROUNDING = ("none", "jpeg")


def block_dct(
    images: Tensor,
    channels: Channels = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
    rounding: str = "none",
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """The chosen frequency channels of RGB pictures: YCbCr, 8x8 DCT, selection, normalisation.

    out[n, i, a, b] = (X[channels[i]] - mean[i]) / std[i], where X is the orthonormal 2-D DCT-II of
    block (a, b) of the Y, Cb and Cr planes, Y less 128: the units of JPEG coefficients, so that
    Y's first one is 8 (mean of the block - 128).

    Args:
        images: (N, 3, H, W) or (3, H, W), RGB. uint8 in [0, 255], or floating point in [0, 1]. Any
            strides: channels_last and crops cost no copy; where neither pixels nor colours are
            neighbours in memory, `.contiguous()` first is faster on the CPU. H and W are any sizes
            of at least 1; the right and bottom edges are replicated to a multiple of 8 first, as
            JPEG encoders do.
        channels: ChannelSelection (cheapest: checked once), or list or tuple of integers in
            [0, 192), in any order, duplicates included; None means all 192. Channel number:
            component * 64 + v * 8 + u, components Y, Cb, Cr; v vertical, u horizontal frequency. An
            integer tensor or array is read in eager mode only.
        mean, std: (C,), one for each chosen channel, or (192,), read by channel number. None means
            0 and 1. std > 0, all finite. On the CPU values are checked: ValueError in eager mode,
            RuntimeError from the operator under compilers and transforms.
        chroma: "4:4:4", Cb and Cr at full resolution; "4:2:0", averaged over 2x2 pixels and
            replicated; "dctnet", smoothed by [1 6 1]/8 in both directions.
        rounding: "none"; or "jpeg", planes rounded to integers before the DCT and coefficients
            after it, with the gradient of "none" (straight-through).
        dtype: of the result: float32, float64, float16 or bfloat16. None: float64 for float64
            pictures, else the autocast type under autocast, else float32. The computation is in
            float64 where pictures or result are, else in float32.
        memory_format: of the result: torch.contiguous_format (None) or torch.channels_last.
        gate: (N, C), or (C,) for one picture, floating point: channel i of picture n is multiplied
            by gate[n, i] before it is rounded. Where a gate is 0 the result is exactly 0, whatever
            the pixels hold, and the channel is not computed, unless a derivative may be wanted;
            where it is NaN, so is the result. With rounding="none" alone. None means 1.

    Returns:
        (N, C, ceil(H/8), ceil(W/8)), or (C, ceil(H/8), ceil(W/8)) for one picture. Differentiable
        to any order in images (floating point), mean, std and gate.

    Raises:
        TypeError: an argument is of a type or dtype that is not named above.
        ValueError: a shape, an index, a name, a device or a value of mean or std is not as above.

    Source:
        Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.1; colours: ITU-R
        BT.601 in the full range of JFIF 1.02; DCT: ITU-T T.81, A.3.3.

    Example:
        >>> import torch
        >>> from freqops.ops import block_dct
        >>> images = torch.full((1, 3, 448, 448), 130, dtype=torch.uint8)
        >>> block_dct(images, [0, 1, 64]).shape
        torch.Size([1, 3, 56, 56])
        >>> round(block_dct(images, [0])[0, 0, 0, 0].item(), 3)  # 8 (130 - 128)
        16.0
    """
    _arguments.check_images("block_dct", images)
    indices = _arguments.read_channels("block_dct", channels)
    mean = _arguments.check_statistic("block_dct", "mean", mean, len(indices), images)
    std = _arguments.check_statistic("block_dct", "std", std, len(indices), images)
    _arguments.check_choice("block_dct", "chroma", chroma, CHROMA)
    _arguments.check_choice("block_dct", "rounding", rounding, ROUNDING)
    channels_last = _arguments.check_memory_format("block_dct", memory_format)
    if dtype is None:
        dtype = default_dtype(images)
    else:
        _arguments.check_dtype("block_dct", dtype, _arguments.FLOATS)

    pictures = images if images.dim() == 4 else images.unsqueeze(0)
    if gate is not None:
        _check_gate(gate, images, len(indices), rounding)
        gate = gate if images.dim() == 4 else gate.unsqueeze(0)

    function = _long if len(indices) > CHANNELS else _run
    try:
        out = function(pictures, indices, mean, std, gate, chroma, rounding, dtype, channels_last)
    except RuntimeError:
        _arguments.check_values("block_dct", mean, std)
        raise
    return out if images.dim() == 4 else out.squeeze(0)


def _check_gate(gate: Tensor, images: Tensor, count: int, rounding: str) -> None:
    _arguments.check_tensor("block_dct", "gate", gate, _arguments.FLOATS, "floating point")
    shape = (images.shape[0], count) if images.dim() == 4 else (count,)
    if gate.shape != shape:
        raise ValueError(
            f"block_dct: gate must be {list(shape)}, one entry per picture and channel, "
            f"got {list(gate.shape)}"
        )
    if gate.device != images.device:
        raise ValueError(
            f"block_dct: gate must be on {images.device} like the pictures, got {gate.device}"
        )
    if rounding != "none":
        raise ValueError(f"block_dct: rounding must be 'none' with a gate, got {rounding!r}")


def _run(
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    gate: Tensor | None,
    chroma: str,
    rounding: str,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    if gate is not None:
        gated = (images, gate, channels, mean, std, chroma, dtype, channels_last)
        if torch.compiler.is_compiling():
            return _gated(*gated)
        return call_composed(_gated_from_parts, _gated, *gated)
    arguments = (images, channels, mean, std, chroma, rounding, dtype, channels_last, False)
    return transform(*arguments)


def transform(*arguments: object) -> Tensor:
    """The operator block_dct, from public functions."""
    if torch.compiler.is_compiling():
        out: Tensor = _forward(*arguments)
        return out
    return call(BlockDCT, _forward, *arguments)


def parts(
    channels: Sequence[int], mean: Tensor | None, std: Tensor | None
) -> Iterator[tuple[int, Sequence[int], Tensor | None, Tensor | None]]:
    """A list of more channels than an operator takes at once, cut: where a part starts, and it."""

    def part(values: Tensor | None, start: int) -> Tensor | None:
        return values if values is None or len(values) == CHANNELS else values[start : start + PART]

    for start in range(0, len(channels), PART):
        yield start, channels[start : start + PART], part(mean, start), part(std, start)


def _long(
    images: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    gate: Tensor | None,
    *options: object,
) -> Tensor:
    """More channels than the operator takes at once."""
    results = []
    for start, indices, m, s in parts(channels, mean, std):
        gates = None if gate is None else gate[:, start : start + PART]
        results.append(_run(images, indices, m, s, gates, *options))  # type: ignore[arg-type]
    form = torch.channels_last if options[-1] else torch.contiguous_format
    return torch.cat(results, 1).contiguous(memory_format=form)


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
        return below_autograd(_forward, images, channels, mean, std, *options)

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
        if grad is not None and (ctx.needs_input_grad[2] or ctx.needs_input_grad[3]):
            scaled = grad if std is None else grad / per_channel(std, c, grad)
            if mean is not None and ctx.needs_input_grad[2] and not ctx.linear:
                of_mean = -statistic_gradient(scaled, c, mean)
            if std is not None and ctx.needs_input_grad[3]:
                of_std = -statistic_gradient(scaled * kept(out), c, std)
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
            if of_mean is not None and not ctx.linear:
                shift = -per_channel(of_mean, c, of_mean)
                terms.append(shift if std is None else shift / per_channel(std, c, shift))
            if of_std is not None and std is not None:
                out = kept(out)
                terms.append(-out * per_channel(of_std, c, out) / per_channel(std, c, out))
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


def _fake(
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


def _batched(
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


# --- block_dct_gated ------------------------------------------------------------------------------


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


def _gated_fake(
    images: Tensor,
    gate: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> Tensor:
    return _fake(images, channels, mean, std, chroma, "none", dtype, channels_last)


def _gated_batched(
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
    x, _ = _batched(_forward, info, dims, images, *rest)
    gate = gate.unsqueeze(0) if of_gate is None else gate.movedim(of_gate, 0)
    return _product(x, gate[..., None, None].to(whole), dtype), 0


_gated_from_parts: Operator[Tensor] = partial(_composed, transform)

register("block_dct", BlockDCT, _fake, _batched)
register("block_dct_backward", BlockDCTBackward, _backward_fake, _backward_batched)
register_composed(
    "block_dct_gated", partial(_composed, _forward), (False,), _gated_fake, _gated_batched
)
