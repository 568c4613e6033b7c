"""jpeg_gather: the public function, its operator's shapes, derivatives and batching rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freqops import _arguments
from freqops._arguments import Channels, describe, integer
from freqops._block_dct import parts
from freqops._dispatch import (
    BatchInfo,
    Context,
    Dims,
    Operator,
    batched_statistic,
    below_autograd,
    call,
    flat_batch,
    jvp_primals,
    keep,
    operator,
    register,
    statistic_gradients,
    statistic_tangents,
    wanted,
    with_batch,
)
from freqops._reference_jpeg import SAMPLINGS, Scale, eighths, grid_after
from freqops.channels import BLOCK, CHANNELS, python_number
from freqops.reference import default_dtype

__all__ = ["JPEGGather", "jpeg_gather", "read_scale"]

LARGEST_SCALE = 2 * BLOCK
SCALE = (
    f"jpeg_gather: scale must be an integer in [1, {LARGEST_SCALE}], eighths, or a pair of "
    "integers or tuples of them"
)
RESULTS = (torch.float32, torch.float16, torch.bfloat16)
COEFFICIENTS = BLOCK * BLOCK

_gather: Operator[Tensor] = operator("jpeg_gather")


def jpeg_gather(
    y: Tensor,
    cb: Tensor | None,
    cr: Tensor | None,
    tables: Tensor | None = None,
    channels: Channels = None,
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
    """The coefficients of JPEG files as frequency channels on one grid, without decoding.

    out[n, i, a, b] = (X[channels[i]] - mean[i]) / std[i], where X are the coefficients of block
    (a, b) of Y, Cb and Cr times their quantisation steps, Cb and Cr at the resolution of luma: each
    of their pixels repeated fy x fx times, which is a linear map of their blocks. The same as
    block_dct of the planes that a decoder makes without smoothing chroma, but for its rounding and
    clamping of pixels: where none is clamped 0.3 as a rule, and at most 4.6, where all pixels of a
    block are rounded alike. scale, crop and flip follow in this order, all by linear maps: no pixel
    is made.

    Args:
        y: (N, by, bx, 64) or (by, bx, 64), int16: blocks of luma, the last dimension v * 8 + u
            and without gaps; any other strides. As `freqops.jpeg.read_coefficients` gives them.
        cb, cr: likewise, ceil(by / fy) by ceil(bx / fx) blocks; None where subsampling is "gray",
            whose Cb and Cr coefficients are 0.
        tables: (3, 64) or (N, 3, 64), int32: quantisation steps of Y, Cb and Cr, for "gray" (1, 64)
            or (N, 1, 64). None where values are multiplied by them already, as those of
            read_coefficients(..., dequantize=True) are; ``JPEGCoefficients.gather`` passes what
            belongs to its values by itself.
        channels: as in `block_dct`.
        subsampling: "4:4:4" (fy, fx = 1, 1), "4:2:2" (1, 2), "4:4:0" (2, 1), "4:2:0" (2, 2),
            "4:1:1" (1, 4) or "gray".
        mean, std: as in `block_dct`.
        scale: the size of the result, in eighths of the picture's: an integer in [1, 16] or a pair
            of them, (vertical, horizontal); in place of one a tuple of several, applied one after
            the other, each of them an eighth of what the one before gives. Each block becomes k
            pixels by the inverse DCT of length k, below 8 with what resolution chroma has. So does
            libjpeg-turbo's scaled decoding, but for 2 and 4, where it takes means of pixels, and
            for chroma of "4:2:2", "4:4:0" and "4:1:1" below 8, of which it keeps less.
        crop: (top, left, rows, columns), the part of the grid of ceil(by k / 8) by ceil(bx k / 8)
            blocks that is wanted. None means all.
        flip: the part mirrored left to right: blocks in the other order, odd horizontal frequencies
            with the other sign.
        dtype: of the result: float32, float16 or bfloat16. None: the autocast type under autocast,
            else float32. The computation is in float32.
        memory_format: of the result: torch.contiguous_format (None) or torch.channels_last.

    Returns:
        (N, C, rows, columns), or (C, rows, columns) for one picture. Differentiable in mean and
        std.

    Raises:
        TypeError: an argument is of a type or dtype that is not named above.
        ValueError: a shape, an index, a name, a device or a value of mean or std is not as above.

    Source:
        ITU-T T.81, A.3 (DCT, quantisation, subsampling) and JFIF 1.02. Scaling: libjpeg-turbo's
        jdmaster.c and jidctint.c. Xu et al., CVPR 2020, take coefficients from files likewise.

    Example:
        >>> import torch
        >>> from freqops.ops import jpeg_gather
        >>> y = torch.randint(-50, 50, (6, 8, 64), dtype=torch.int16)
        >>> c = torch.randint(-50, 50, (3, 4, 64), dtype=torch.int16)
        >>> tables = torch.full((3, 64), 2, dtype=torch.int32)
        >>> out = jpeg_gather(y, c, c, tables, [0, 1, 64], subsampling="4:2:0")
        >>> out.shape, bool((out[1] == 2 * y[..., 1]).all())
        (torch.Size([3, 6, 8]), True)
        >>> jpeg_gather(y, c, c, tables, [0], subsampling="4:2:0", scale=4, crop=(0, 1, 3, 2)).shape
        torch.Size([1, 3, 2])
    """
    name = "jpeg_gather"
    _arguments.check_choice(name, "subsampling", subsampling, tuple(SAMPLINGS))
    _check_blocks(y, cb, cr, subsampling)
    _check_tables(tables, y, subsampling)
    indices = _arguments.read_channels(name, channels)
    mean = _arguments.check_statistic(name, "mean", mean, len(indices), y)
    std = _arguments.check_statistic(name, "std", std, len(indices), y)
    scale_y, scale_x = read_scale(scale)
    grid = grid_after(y.shape[-3], scale_y), grid_after(y.shape[-2], scale_x)
    part = (0, 0, *grid) if crop is None else _part(crop, grid)
    if not isinstance(flip, bool):
        raise TypeError(f"{name}: flip must be True or False, got {describe(flip)}")
    channels_last = _arguments.check_memory_format(name, memory_format)
    if dtype is None:
        dtype = default_dtype(y)
    else:
        _arguments.check_dtype(name, dtype, RESULTS)
    one = y.dim() == 3
    planes = [p.unsqueeze(0) if one and p is not None else p for p in (y, cb, cr)]
    rest = (subsampling, scale_y, scale_x, *part, flip, dtype, channels_last)
    # A list of more channels than the operator takes at once is cut.
    long = len(indices) > CHANNELS
    chosen = parts(indices, mean, std) if long else [(0, indices, mean, std)]
    try:
        results = [_run(*planes, tables, some, m, s, *rest) for _, some, m, s in chosen]
    except RuntimeError:
        _arguments.check_values(name, mean, std)
        raise
    out = results[0]
    if long:
        form = torch.channels_last if channels_last else torch.contiguous_format
        out = torch.cat(results, 1).contiguous(memory_format=form)
    return out.squeeze(0) if one else out


def _check_blocks(y: Tensor, cb: Tensor | None, cr: Tensor | None, subsampling: str) -> None:
    name = "jpeg_gather"
    fy, fx = SAMPLINGS[subsampling]
    for argument, blocks in (("y", y), ("cb", cb), ("cr", cr)):
        if subsampling == "gray" and argument != "y":
            if blocks is not None:
                raise ValueError(
                    f"{name}: {argument} must be None for 'gray', got {describe(blocks)}"
                )
            continue
        _arguments.check_tensor(name, argument, blocks, (torch.int16,), "int16")  # type: ignore[arg-type]
        assert blocks is not None
        shape = list(blocks.shape)
        if argument == "y":
            if len(shape) not in (3, 4) or shape[-1] != COEFFICIENTS or min(shape[-3:]) < 1:
                raise ValueError(
                    f"{name}: y must be [N, by, bx, 64] or [by, bx, 64] with by and bx at least 1, "
                    f"got {shape}"
                )
        else:
            want = [*y.shape[:-3], -(-y.shape[-3] // fy), -(-y.shape[-2] // fx), COEFFICIENTS]
            if not _equal(shape, want):
                raise ValueError(
                    f"{name}: {argument} must be {want} beside y {list(y.shape)} for "
                    f"subsampling {subsampling!r}, got {shape}"
                )
            if blocks.device != y.device:
                raise ValueError(
                    f"{name}: {argument} must be on {y.device} like y, got {blocks.device}"
                )
        if blocks.stride(-1) != 1:
            raise ValueError(
                f"{name}: {argument} must have no gaps in its last dimension, got stride "
                f"{blocks.stride(-1)} (.contiguous() makes it so)"
            )


def _equal(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Number by number under a compiler, which would fix the sizes of lists that it compares."""
    if not torch.compiler.is_compiling():
        return list(shape) == list(wanted)
    return len(shape) == len(wanted) and all(a == b for a, b in zip(shape, wanted, strict=True))


def _check_tables(tables: Tensor | None, y: Tensor, subsampling: str) -> None:
    if tables is None:
        return
    _arguments.check_tensor("jpeg_gather", "tables", tables, (torch.int32,), "int32")
    one = [1 if subsampling == "gray" else 3, COEFFICIENTS]
    each = [*y.shape[:-3], *one]
    if not (_equal(tables.shape, one) or _equal(tables.shape, each)):
        shapes = f"{one}" if one == each else f"{one} or {each}"
        raise ValueError(
            f"jpeg_gather: tables must be {shapes} for subsampling {subsampling!r}, "
            f"got {list(tables.shape)}"
        )
    if tables.device != y.device:
        raise ValueError(f"jpeg_gather: tables must be on {y.device} like y, got {tables.device}")


def read_scale(scale: Scale) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The scales down and across, checked."""
    if isinstance(scale, (tuple, list)) and len(scale) != 2:
        raise ValueError(f"{SCALE}, got {scale!r}")
    down, across = (tuple(_eighths(k) for k in scales) for scales in eighths(scale))
    both = (*down, *across)
    if not (down and across) or min(both) < 1 or max(both) > LARGEST_SCALE:
        raise ValueError(f"{SCALE}, got {scale!r}")
    return down, across


def _eighths(k: object) -> int:
    try:
        return integer("jpeg_gather", "scale", k)
    except TypeError:
        if isinstance(k, Tensor) and torch.compiler.is_compiling():
            raise  # its sentence names the compiler
        number = python_number(k)
        raise TypeError(f"{SCALE}, got {describe(number)}{_in_eighths(number)}") from None


def _in_eighths(number: object) -> str:
    """The scale that a fraction of the size probably means, in words."""
    if not isinstance(number, float):
        return ""
    k = BLOCK * number
    if not (1 <= k <= LARGEST_SCALE and k.is_integer()):
        return ""
    words = {0.5: "half the", 1.0: "the full", 2.0: "twice the"}
    return f" (scale={int(k)} is {words.get(number, f'{number} times the')} size)"


def _part(crop: tuple[int, int, int, int], grid: tuple[int, int]) -> tuple[int, int, int, int]:
    expected = "(top, left, rows, columns)"
    if not isinstance(crop, (tuple, list)):
        raise TypeError(f"jpeg_gather: crop must be {expected}, got {describe(crop)}")
    if len(crop) != 4:
        raise ValueError(f"jpeg_gather: crop must be {expected}, got {crop!r}")
    top, left, rows, columns = (integer("jpeg_gather", "crop", value) for value in crop)
    if (
        min(top, left) < 0
        or min(rows, columns) < 1
        or (top + rows > grid[0] or left + columns > grid[1])
    ):
        raise ValueError(
            f"jpeg_gather: crop must be {expected} within the grid of "
            f"{grid[0]} x {grid[1]} blocks, got {tuple(crop)}"
        )
    return top, left, rows, columns


def _run(*arguments: object) -> Tensor:
    if torch.compiler.is_compiling():
        return _gather(*arguments)
    return call(JPEGGather, _gather, *arguments)


class JPEGGather(torch.autograd.Function):
    """The operator jpeg_gather with its derivatives of every order. Arguments as in its schema,
    but dtype, which is a torch.dtype.

    out = (X - mean[c]) / std[c] with the channels c, so

        d mean[c] = -sum g / std[c],  d std[c] = -sum g out / std[c]

    and the tangent is -(t_mean[c] + out t_std[c]) / std[c].
    """

    class _Context(Context):
        channels: Sequence[int]
        dtype: torch.dtype
        shape: torch.Size
        channels_last: bool

    @staticmethod
    def forward(
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
        part = (scale_y, scale_x, top, left, rows, columns, flip, dtype, channels_last)
        return below_autograd(_gather, y, cb, cr, tables, channels, mean, std, subsampling, *part)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[object, ...], output: Tensor) -> None:
        channels, mean, std = inputs[4:7]
        assert isinstance(channels, Sequence)
        ctx.channels = tuple(channels)  # the caller's list may change
        ctx.dtype, ctx.shape, ctx.channels_last = output.dtype, output.shape, bool(inputs[16])
        mean, std = (s if isinstance(s, Tensor) else None for s in (mean, std))
        keep(ctx, mean, std, output, last=wanted(std))

    @staticmethod
    def backward(ctx: _Context, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        c = ctx.channels
        mean, std, out = ctx.saved_tensors
        of_mean = of_std = None
        if grad is not None:
            need_mean, need_std = ctx.needs_input_grad[5:7]
            of_mean, of_std = statistic_gradients(grad, c, mean, std, out, need_mean, need_std)
        return (None,) * 5 + (of_mean, of_std) + (None,) * 10

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Tensor | None:
        c = ctx.channels
        of_mean, of_std = tangents[5:7]
        with jvp_primals(ctx) as (_, std, out):
            terms = statistic_tangents(c, std, out, of_mean, of_std)
            if not terms:
                return None
            # As the result lies in memory: autograd would copy another layout, and a compiler
            # cannot trace that. vmap takes no memory_format.
            total = sum(terms[1:], terms[0]).expand(ctx.shape).to(ctx.dtype)
            if ctx.channels_last:
                return total.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
            return total.contiguous()


def _fake(
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
    form = torch.channels_last if channels_last else torch.contiguous_format
    shape = (y.shape[0], len(channels), rows, columns)
    return torch.empty(shape, dtype=dtype, device=y.device, memory_format=form)


def _batched(
    run: Operator[Tensor],
    info: BatchInfo,
    in_dims: Dims,
    y: Tensor,
    cb: Tensor | None,
    cr: Tensor | None,
    tables: Tensor | None,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    *rest: object,
) -> tuple[Tensor, int | None]:
    size = info.batch_size
    batch = None
    if any(dim is not None for dim in in_dims[:4]):
        # What has no batch is the same for each of it.
        n = y.shape[0] if in_dims[0] is None else y.movedim(in_dims[0], 0).shape[1]
        y = flat_batch(y.expand(size, *y.shape) if in_dims[0] is None else y, in_dims[0] or 0)[0]
        cb, cr = _flat(cb, in_dims[1], size), _flat(cr, in_dims[2], size)
        if tables is not None and (in_dims[3] is not None or tables.dim() == 3):
            if in_dims[3] is not None:
                tables = tables.movedim(in_dims[3], 0)
                if tables.dim() == 3:  # one for all pictures of an entry
                    tables = tables.unsqueeze(1).expand(size, n, *tables.shape[1:])
            else:
                tables = tables.expand(size, *tables.shape)
            tables = tables.flatten(0, 1)
        batch = (size, n)
    if in_dims[5] is None and in_dims[6] is None:
        return with_batch(run(y, cb, cr, tables, channels, mean, std, *rest), batch)
    # Statistics that differ along the batch are applied outside the operator.
    *part, dtype, channels_last = rest if len(rest) == 10 else (*rest, False)
    plain = run(y, cb, cr, tables, channels, None, None, *part, torch.float32, channels_last)
    out, _ = with_batch(plain, batch or (1, y.shape[0]))
    if mean is not None:
        out = out - batched_statistic(mean, in_dims[5], channels, out)
    if std is not None:
        out = out / batched_statistic(std, in_dims[6], channels, out)
    assert isinstance(dtype, torch.dtype)
    return out.to(dtype), 0


def _flat(blocks: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    if blocks is None:
        return None
    return flat_batch(blocks.expand(size, *blocks.shape) if dim is None else blocks, dim or 0)[0]


register("jpeg_gather", JPEGGather, _fake, _batched)
