"""block_dct: the public function of the operators block_dct and block_dct_gated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from freqops import _arguments
from freqops._arguments import Channels
from freqops._block_dct_gated import gated_transform
from freqops._block_dct_operator import transform
from freqops.channels import CHANNELS
from freqops.reference import default_dtype

__all__ = ["block_dct", "parts"]

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
        gate: (N, C), or (C,) for one picture, floating point, finite or NaN: channel i of picture n
            is multiplied by gate[n, i] before it is rounded. Where a gate is 0 in the type of the
            computation, the result is exactly 0, whatever the pixels hold; where it is NaN, so is
            the result. On the CPU channels that are 0 are not computed, unless a derivative may be
            wanted; on CUDA they are computed and written as zeros. With rounding="none" alone. None
            means 1.

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
        entries = "picture and channel" if images.dim() == 4 else "channel"
        raise ValueError(
            f"block_dct: gate must be {list(shape)}, one entry per {entries}, "
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
        return gated_transform(images, gate, channels, mean, std, chroma, dtype, channels_last)
    return transform(images, channels, mean, std, chroma, rounding, dtype, channels_last, False)


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
    chroma: str,
    rounding: str,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """More channels than the operator takes at once."""
    options = (chroma, rounding, dtype, channels_last)
    results = []
    for start, indices, m, s in parts(channels, mean, std):
        gates = None if gate is None else gate[:, start : start + PART]
        results.append(_run(images, indices, m, s, gates, *options))
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.cat(results, 1).contiguous(memory_format=form)
