"""The operators in plain PyTorch: the definition of correct.

Every function is differentiable to any order, in both modes, and computes in float64 where a
picture, a coefficient or the result is float64, else in float32. The arithmetic:

    planes   Y = .299 R + .587 G + .114 B,   Cb = (B - Y) / 1.772,   Cr = (R - Y) / 1.402
             (BT.601, full range, as in JFIF 1.02; Cb and Cr without their + 128),   then Y - 128
    DCT      X[v, u] = sum_yx D[v, y] D[u, x] plane[y, x]   (ITU-T T.81, A.3.3: orthonormal),
             D[k, i] = a_k cos((2i + 1) k pi / 16),   a_0 = sqrt(1/8), else 1/2
    channel  component * 64 + v * 8 + u;   out = (X[channel] - mean) / std

`block_dct`, `block_dct_mean` and `block_idct` have the signatures of the public functions and
check nothing. The functions below them have the signatures of the operators' schemas, with a
torch.dtype for its name, and serve devices that have no kernels. The channel gate, `gumbel_gate`
and its two operators, is in _reference_gate.py; `jpeg_gather` in _reference_jpeg.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from freqops._reference_gate import gumbel_gate, gumbel_gate_backward, gumbel_gate_operator
from freqops._reference_jpeg import jpeg_gather, jpeg_gather_operator

if TYPE_CHECKING:
    from freqops.channels import ChannelSelection

__all__ = [
    "block_dct",
    "block_dct_backward",
    "block_dct_gated_operator",
    "block_dct_mean",
    "block_dct_mean_operator",
    "block_dct_operator",
    "block_idct",
    "block_idct_backward",
    "block_idct_operator",
    "gumbel_gate",
    "gumbel_gate_backward",
    "gumbel_gate_operator",
    "jpeg_gather",
    "jpeg_gather_operator",
]

BLOCK = 8
CHANNELS = 3 * BLOCK * BLOCK
LEVEL_SHIFT = 128
WHITE = 255

RGB_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)
YCBCR_TO_RGB = (
    (1.0, 0.0, 1.402),
    (1.0, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587),
    (1.0, 1.772, 0.0),
)
# libjpeg's 16-bit integers (jccolor.c): in float32 the planes of 8-bit pictures are exact.
RGB_TO_YCBCR_JPEG = (
    (19595 / 65536, 38470 / 65536, 7471 / 65536),
    (-11058 / 65536, -21710 / 65536, 32768 / 65536),
    (32768 / 65536, -27439 / 65536, -5329 / 65536),
)

# Asked once: Dynamo before torch 2.13 cannot trace the question.
AUTOCAST_DEVICES = frozenset(
    filter(torch.amp.is_autocast_available, ("cpu", "cuda", "hpu", "mps", "xla", "xpu"))
)

Matrix = tuple[tuple[float, float, float], ...]


def block_dct(
    images: Tensor,
    channels: ChannelSelection | Sequence[int] | Tensor | None = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
    rounding: str = "none",
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """`freqops.block_dct` in plain PyTorch. dtype=torch.float64 computes in float64 throughout.

    Example:
        >>> import torch
        >>> from freqops import reference
        >>> grey = torch.full((3, 8, 8), 130, dtype=torch.uint8)
        >>> reference.block_dct(grey, [0, 1]).flatten().round().int().tolist()  # DC = 8 (130 - 128)
        [16, 0]
    """
    if dtype is None:
        dtype = default_dtype(images)
    pictures, indices = images if images.dim() == 4 else images.unsqueeze(0), channel_list(channels)
    channels_last = memory_format == torch.channels_last
    if gate is None:
        out = block_dct_operator(
            pictures, indices, mean, std, chroma, rounding, dtype, channels_last
        )
    else:
        gate = gate if images.dim() == 4 else gate.unsqueeze(0)
        out = block_dct_gated_operator(
            pictures, gate, indices, mean, std, chroma, dtype, channels_last
        )
    return out if images.dim() == 4 else out.squeeze(0)


def block_dct_mean(
    images: Tensor,
    channels: ChannelSelection | Sequence[int] | Tensor | None = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
) -> Tensor:
    """`freqops.block_dct_mean` in plain PyTorch.

    Example:
        >>> import torch
        >>> from freqops import reference
        >>> grey = torch.full((3, 8, 16), 130, dtype=torch.uint8)
        >>> reference.block_dct_mean(grey, [0, 1]).round().int().tolist()
        [16, 0]
    """
    pictures = images if images.dim() == 4 else images.unsqueeze(0)
    out = block_dct_mean_operator(pictures, channel_list(channels), mean, std, chroma)
    return out if images.dim() == 4 else out.squeeze(0)


def block_idct(
    coefficients: Tensor,
    channels: ChannelSelection | Sequence[int] | Tensor | None = None,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.uint8,
) -> Tensor:
    """`freqops.block_idct` in plain PyTorch.

    Example:
        >>> import torch
        >>> from freqops import reference
        >>> reference.block_idct(torch.full((1, 1, 1), 16.0), [0])[:, 0, 0].tolist()
        [130, 130, 130]
    """
    gh, gw = coefficients.shape[-2:]
    height, width = (BLOCK * gh, BLOCK * gw) if size is None else size
    out = block_idct_operator(
        coefficients if coefficients.dim() == 4 else coefficients.unsqueeze(0),
        channel_list(channels),
        mean,
        std,
        height,
        width,
        dtype,
    )
    return out if coefficients.dim() == 4 else out.squeeze(0)


def block_dct_operator(
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
    """out = ((D S ycbcr(images))[channels] - mean) / std, [N, C, ceil(H/8), ceil(W/8)].

    linear: the map's derivative, without level shift, mean and rounding.
    """
    with no_autocast(images):
        pixels = images.to(_accumulate(images.dtype, dtype))
        pixels = _replicated(pixels * WHITE if images.is_floating_point() else pixels)
        shift = 0 if linear else LEVEL_SHIFT
        planes = _smoothed(_shifted(_colour(RGB_TO_YCBCR, pixels), -shift), chroma)
        out = _coefficients(planes)
        if rounding == "jpeg" and not linear:
            planes = _shifted(_colour(RGB_TO_YCBCR_JPEG, pixels), -shift).round()
            if chroma != "4:4:4":
                planes = _smoothed(planes, chroma).round()
            # The value is the rounded one, the derivative that of the unrounded: straight-through.
            out = _coefficients(planes).round().detach() + (out - out.detach())
        out = out[:, list(channels)]
        if mean is not None and not linear:
            out = out - by_channel(mean, channels, out)
        if std is not None:
            out = out / by_channel(std, channels, out)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return out.to(dtype).contiguous(memory_format=memory_format)


def block_dct_mean_operator(
    images: Tensor, channels: Sequence[int], mean: Tensor | None, std: Tensor | None, chroma: str
) -> Tensor:
    """The mean over blocks of block_dct without rounding, [N, C], in the type of its sums."""
    dtype = _accumulate(images.dtype)
    return block_dct_operator(images, channels, mean, std, chroma, "none", dtype).mean((2, 3))


def block_dct_gated_operator(
    images: Tensor,
    gate: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    chroma: str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> Tensor:
    """block_dct without rounding times gate, [N, C], rounded once; 0 where a gate is 0."""
    whole = _accumulate(images.dtype, dtype)
    out = block_dct_operator(images, channels, mean, std, chroma, "none", whole, channels_last)
    everywhere = gate[..., None, None].to(whole)
    # A closed gate hides what is not finite, with its derivative; all else has that of the product.
    hidden = (everywhere == 0) & ~out.isfinite()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    out = (out * everywhere).masked_fill(hidden, 0)
    return out.to(dtype).contiguous(memory_format=memory_format)


def block_dct_backward(
    grad: Tensor,
    channels: Sequence[int],
    std: Tensor | None,
    chroma: str,
    height: int,
    width: int,
    dtype: torch.dtype,
) -> Tensor:
    """The transpose of block_dct(..., linear=True): [N, C, gh, gw] -> [N, 3, height, width].

    The pictures are float: [0, 1] scale. The chroma smoothing is symmetric; the
    gradients of replicated pixels are added to the pixel they copy.
    """
    with no_autocast(grad):
        grad = grad.to(_accumulate(grad.dtype, dtype))
        if std is not None:
            grad = grad / by_channel(std, channels, grad)
        planes = _smoothed(_planes(_scattered(grad, channels)), chroma)
        pixels = _colour(_transposed(RGB_TO_YCBCR), planes) * WHITE
        return _accumulated(pixels, height, width).to(dtype).contiguous()


def block_idct_operator(
    coefficients: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    height: int,
    width: int,
    dtype: torch.dtype,
    linear: bool = False,
) -> Tensor:
    """RGB = ycbcr^-1(D^T (coefficients * std + mean)), [N, C, gh, gw] -> [N, 3, height, width].

    Channels that are absent count as their mean where mean has 192 entries, else as zero.
    linear: the map's derivative, without level shift and mean.
    """
    with no_autocast(coefficients):
        values = coefficients.to(_accumulate(coefficients.dtype, dtype))
        if std is not None:
            values = values * by_channel(std, channels, values)
        values = _scattered(values, channels)
        if mean is not None and not linear:
            everywhere = mean.to(values.dtype).view(1, -1, 1, 1)
            if mean.shape[0] != CHANNELS:
                everywhere = _scattered(everywhere, channels)
            values = values + everywhere
        planes = _shifted(_planes(values), 0 if linear else LEVEL_SHIFT)
        pixels = _colour(YCBCR_TO_RGB, planes)[..., :height, :width]
        if dtype == torch.uint8:
            pixels = pixels.nan_to_num(nan=0.0).round().clamp(0, WHITE)
        else:
            pixels = pixels / WHITE
        return pixels.to(dtype).contiguous()


def block_idct_backward(
    grad: Tensor, channels: Sequence[int], std: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """The transpose of block_idct(..., linear=True): [N, 3, H, W] -> [N, C, ceil(H/8), ceil(W/8)].

    Pixels beyond the edge were cropped: they count as zero.
    """
    with no_autocast(grad):
        grad = grad.to(_accumulate(grad.dtype, dtype))
        height, width = grad.shape[-2:]
        grad = torch.nn.functional.pad(grad, (0, -width % BLOCK, 0, -height % BLOCK))
        out = _coefficients(_colour(_transposed(YCBCR_TO_RGB), grad / WHITE))[:, list(channels)]
        if std is not None:
            out = out * by_channel(std, channels, out)
        return out.to(dtype).contiguous()


def default_dtype(images: Tensor) -> torch.dtype:
    """Of block_dct's result: float64 for float64 pictures, else the autocast type, else float32."""
    if images.dtype == torch.float64:
        return torch.float64
    device = images.device.type
    if device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.float32


def channel_list(channels: ChannelSelection | Sequence[int] | Tensor | None) -> list[int]:
    """The channel numbers as a list; None stands for all 192."""
    if channels is None:
        return list(range(CHANNELS))
    return [int(channel) for channel in getattr(channels, "indices", channels)]


def no_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    device = tensor.device.type
    if device not in AUTOCAST_DEVICES:
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def _accumulate(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else torch.float32


def by_channel(values: Tensor, channels: Sequence[int], like: Tensor) -> Tensor:
    """values [C], or [192] read by channel number -> [1, C, 1, 1] in the type of `like`."""
    values = values.to(like.dtype)
    return (values[list(channels)] if values.shape[0] == CHANNELS else values).view(1, -1, 1, 1)


def _scattered(values: Tensor, channels: Sequence[int]) -> Tensor:
    """[N, C, gh, gw] -> [N, 192, gh, gw]: absent channels are zero, duplicates are added."""
    index = torch.tensor(list(channels), device=values.device)
    everywhere = values.new_zeros(values.shape[0], CHANNELS, *values.shape[2:])
    return everywhere.index_add(1, index, values)


def _colour(matrix: Matrix, planes: Tensor) -> Tensor:
    """matrix applied to the three planes of [N, 3, H, W]."""
    return torch.einsum("kj,njyx->nkyx", planes.new_tensor(matrix), planes)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple((a, b, c) for a, b, c in zip(*matrix, strict=True))


def _shifted(planes: Tensor, shift: float) -> Tensor:
    """shift added to Y."""
    return planes + planes.new_tensor([shift, 0, 0]).view(1, 3, 1, 1)


def _smoothed(planes: Tensor, chroma: str) -> Tensor:
    """S: Cb and Cr, [N, 3, 8 gh, 8 gw], as the chroma mode has them. S is always symmetric."""
    if chroma == "4:4:4":
        return planes
    y, c = planes[:, :1], planes[:, 1:]
    if chroma == "4:2:0":
        pairs = _tiles(c, 2)
        c = pairs.mean((3, 5), keepdim=True).expand_as(pairs).flatten(4, 5).flatten(2, 3)
    else:  # [1 6 1] / 8 along both axes, the edges replicated
        c = (torch.cat([c[..., :1, :], c[..., :-1, :]], -2) + 6 * c
             + torch.cat([c[..., 1:, :], c[..., -1:, :]], -2)) / 8  # fmt: skip
        c = (torch.cat([c[..., :1], c[..., :-1]], -1) + 6 * c
             + torch.cat([c[..., 1:], c[..., -1:]], -1)) / 8  # fmt: skip
    return torch.cat([y, c], 1)


def _tiles(planes: Tensor, size: int) -> Tensor:
    """[N, K, H, W] -> [N, K, H/size, size, W/size, size]."""
    n, k, height, width = planes.shape
    return planes.reshape(n, k, height // size, size, width // size, size)


def _dct_matrix(like: Tensor) -> Tensor:
    """D[k, i] = a_k cos((2i + 1) k pi / 16)."""
    angles = [[(2 * i + 1) * k * math.pi / (2 * BLOCK) for i in range(BLOCK)] for k in range(BLOCK)]
    scale = [math.sqrt((1 if k == 0 else 2) / BLOCK) for k in range(BLOCK)]
    rows = [[scale[k] * math.cos(angle) for angle in angles[k]] for k in range(BLOCK)]
    return like.new_tensor(rows)


def _coefficients(planes: Tensor) -> Tensor:
    """D: [N, 3, 8 gh, 8 gw] -> [N, 192, gh, gw]."""
    d = _dct_matrix(planes)
    return torch.einsum("vy,nkaybx,ux->nkvuab", d, _tiles(planes, BLOCK), d).flatten(1, 3)


def _planes(coefficients: Tensor) -> Tensor:
    """D^T: [N, 192, gh, gw] -> [N, 3, 8 gh, 8 gw]."""
    d = _dct_matrix(coefficients)
    n, _, gh, gw = coefficients.shape
    blocks = coefficients.reshape(n, 3, BLOCK, BLOCK, gh, gw)
    return torch.einsum("vy,nkvuab,ux->nkaybx", d, blocks, d).flatten(4, 5).flatten(2, 3)


def _source_pixels(size: int, device: torch.device) -> Tensor:
    """The row (column) that each row of the padded plane copies: 0 .. size - 1, then size - 1."""
    padded = size + -size % BLOCK
    return torch.arange(padded, device=device).clamp(max=size - 1)


def _replicated(pixels: Tensor) -> Tensor:
    """The right and bottom edges replicated to multiples of 8."""
    height, width = pixels.shape[-2:]
    pixels = pixels.index_select(-2, _source_pixels(height, pixels.device))
    return pixels.index_select(-1, _source_pixels(width, pixels.device))


def _accumulated(pixels: Tensor, height: int, width: int) -> Tensor:
    """The transpose of _replicated: replicated pixels are added to the pixel they copy."""
    rows, columns = _source_pixels(height, pixels.device), _source_pixels(width, pixels.device)
    out = pixels.new_zeros(*pixels.shape[:-2], height, pixels.shape[-1])
    out = out.index_add(-2, rows, pixels)
    return out.new_zeros(*out.shape[:-1], width).index_add(-1, columns, out)
