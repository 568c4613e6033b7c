"""What the demo compares frequency channels with: a smaller picture, and one convolution."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from freqops import reference
from freqops.channels import BLOCK, CHANNELS, ChannelSelection
from freqops.ops import block_dct

__all__ = ["Timing", "enlarged", "folded_convolution", "folded_map", "small_size", "time_in_turn"]

TIMED_COUNTS = (24, 64, 192)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Median milliseconds for one batch."""

    channels: int
    block_dct: float
    convolution: float

    @property
    def ratio(self) -> float:
        """How many times as long the convolution takes."""
        return self.convolution / self.block_dct


def small_size(size: tuple[int, int], channels: int) -> tuple[int, int]:
    """Height and width of the smaller picture with the same number of values.

    C channels of gh x gw blocks are C gh gw values, h x w pixels 3 h w. With s = sqrt(C / 192),
    h = ceil(8 gh s) and w = ceil(8 gw s): rounded up, so that 3 h w >= C gh gw, but never larger
    than the picture itself.
    """
    scale = math.sqrt(channels / CHANNELS)
    # The root is off by 1e-16 of itself at most: 1e-9 of a pixel keeps ceil from adding a row.
    height, width = (
        min(pixels, math.ceil(-(-pixels // BLOCK) * BLOCK * scale - 1e-9)) for pixels in size
    )
    return height, width


def enlarged(pixels: Tensor, channels: int) -> Tensor:
    """The picture made smaller, to `small_size`, and enlarged again; uint8 (3, H, W) both.

    Lanczos both ways and float32 between: stronger than bilinear and bicubic on each colour
    photograph that scikit-image ships, with as many values as 6, 24 and 64 channels have.
    """
    import numpy as np
    from PIL import Image

    full = (pixels.shape[1], pixels.shape[2])
    planes = []
    for plane in pixels.float():
        image = Image.fromarray(plane.contiguous().numpy())
        for height, width in (small_size(full, channels), full):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        planes.append(torch.from_numpy(np.array(image)))
    return torch.stack(planes).round().clamp(0, 255).to(torch.uint8)


def folded_map(channels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weight (C, 3, 8, 8) and bias (C,), float64, of the map from pixels in [0, 255].

    Column p of the map is the transform of a picture that is 1 at pixel p, less that of black.
    """
    pixels = torch.eye(CHANNELS, dtype=torch.float64).reshape(CHANNELS, 3, BLOCK, BLOCK) / 255
    black = reference.block_dct(torch.zeros_like(pixels[:1]), channels)
    columns = reference.block_dct(pixels, channels) - black
    return columns[:, :, 0, 0].T.reshape(len(channels), 3, BLOCK, BLOCK), black.flatten()


def folded_convolution(channels: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Two lines of PyTorch: colour, DCT and selection folded into the weight of one convolution."""
    weight, bias = (values.float() for values in folded_map(channels))
    return lambda images: F.conv2d(images.float(), weight, bias, stride=BLOCK)


def time_in_turn(images: Tensor, seconds: float) -> list[Timing]:
    """block_dct against the folded convolution, by turns, so that a busy machine slows both.

    Args:
        images: uint8 (N, 3, H, W), H and W multiples of 8.
        seconds: for all of it; five rounds are run in any case.

    Raises:
        RuntimeError: the results differ by more than 0.05 coefficient units, ten times what the
            float32 sums of the convolution are off by.
    """
    result = []
    for count in TIMED_COUNTS:
        selection = ChannelSelection.of(count)
        convolution = folded_convolution(selection.indices)
        difference = float((block_dct(images, selection) - convolution(images)).abs().max())
        if not difference < 0.05:
            raise RuntimeError(
                "block_dct and the folded convolution must agree, "
                f"but differ by {difference:.3g} at {count} channels"
            )
        ours: list[float] = []
        theirs: list[float] = []
        end = time.perf_counter() + seconds / len(TIMED_COUNTS)
        while time.perf_counter() < end or len(ours) < 5:
            start = time.perf_counter()
            block_dct(images, selection)
            middle = time.perf_counter()
            convolution(images)
            theirs.append(time.perf_counter() - middle)
            ours.append(middle - start)
        ours_ms, theirs_ms = (1e3 * statistics.median(times) for times in (ours, theirs))
        result.append(Timing(count, ours_ms, theirs_ms))
    return result
