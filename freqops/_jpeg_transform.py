"""JPEGTransform: one picture, as coefficients or as pixels, to frequency channels of a set size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor

from freqops import _arguments
from freqops._arguments import describe
from freqops._block_dct import block_dct
from freqops._jpeg_gather import RESULTS
from freqops._jpeg_geometry import (
    BLOCK,
    Box,
    Placement,
    draw_box,
    draw_flip,
    place_box,
    place_middle,
    product,
    size_after,
)
from freqops._jpeg_picture import gather, middle, upright
from freqops._modules import counted
from freqops._pictures import check_sizes, describe_tensor, resize_and_crop
from freqops.channels import ChannelSelection
from freqops.jpeg import JPEGCoefficients, UnsupportedJPEG

if TYPE_CHECKING:
    from freqops.statistics import ChannelStatistics

__all__ = ["JPEGTransform"]


class JPEGTransform:
    """Coefficients of a JPEG file to normalised frequency channels, without decoding.

        upright -> scaled -> cropped -> flipped -> (X[channels] - mean) / std

    all of it on blocks. Where ``preprocess`` makes pixels of a size, this makes blocks of that size
    / 8, with the scale of one or two steps of eighths that comes nearest and the blocks that lie
    nearest:

    Evaluation: the scale nearest to resize / short side at which the picture has the crop's blocks,
    and ceil(crop / 8) blocks a side from its middle. From 1/8 to 4 a scale is off by 1/16 at most,
    but where the crop needs a larger one.

    Training: a part of the picture is drawn as torchvision's RandomResizedCrop draws it (area 0.08
    to 1, aspect ratio 3/4 to 4/3, from torch's generator, number for number); each axis has the
    scale nearest to crop / the part's, never with fewer than the crop's blocks, and the blocks
    whose middle is nearest to the part's; then a flip with probability 1/2. Scales end at 4: of a
    smaller part its surroundings are taken too.

    Pixels, for files of other formats, go the same way: the same scale and blocks, bicubic with
    antialiasing, which is nearest to what scaling coefficients does, then `block_dct`. Pictures too
    small for a scale of 4 are brought to the size itself, as ``preprocess`` does.

    Args:
        channels: what ``ChannelSelection.of`` takes; None for all 192.
        statistics: mean and std to normalise with; None does not normalise.
        preprocess: "resnet50" (512, 448), "mobilenet_v2" (1024, 896), or (short side after the
            resize, side of the crop) in pixels, None for what is not wanted. None: the whole
            picture in its own size.
        train: whether to draw crop and flip; the resize then counts for nothing.
        dtype: of the result: float32, float16 or bfloat16.

    Raises:
        TypeError, ValueError: an argument is not as above; train without a crop; without train a
            crop larger than the short side after the resize.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from freqops.jpeg import read_coefficients
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (500, 375), (180, 90, 30)).save(file, "JPEG")
        >>> picture = read_coefficients(file.getvalue())
        >>> JPEGTransform(24, preprocess="resnet50")(picture).shape
        torch.Size([24, 56, 56])
        >>> JPEGTransform(24)(picture).shape
        torch.Size([24, 47, 63])
    """

    def __init__(
        self,
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = 24,
        statistics: ChannelStatistics | None = None,
        preprocess: str | tuple[int | None, int | None] | None = None,
        *,
        train: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        from freqops.statistics import ChannelStatistics

        name = "JPEGTransform"
        if statistics is not None and not isinstance(statistics, ChannelStatistics):
            raise TypeError(
                f"{name}: statistics must be a ChannelStatistics or None, "
                f"got {type(statistics).__name__}"
            )
        if not isinstance(train, bool):
            raise TypeError(f"{name}: train must be True or False, got {describe(train)}")
        _arguments.check_dtype(name, dtype, RESULTS)
        try:
            self.channels = ChannelSelection.of(channels)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        self.mean = None if statistics is None else statistics.mean.float()
        self.std = None if statistics is None else statistics.std.float()
        self.resize, self.crop = check_sizes(f"{name}: ", "preprocess", preprocess, train)
        self.train = train
        self.dtype = dtype

    def __call__(self, picture: JPEGCoefficients | Tensor) -> Tensor:
        """Frequency channels of one picture.

        Args:
            picture: JPEGCoefficients as `freqops.jpeg.read_coefficients` gives them, or uint8 RGB
                (3, H, W), upright.

        Returns:
            (C, rows, columns).

        Raises:
            TypeError: picture is neither.
            ValueError: it has no pixels; the crop does not fit into the resized picture.
            UnsupportedJPEG: coefficients that cannot be scaled that far, 4 times at most, or turned
                upright with all that the crop needs; its pixels can.
        """
        return self._sized(picture)[0]

    def _sized(self, picture: JPEGCoefficients | Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The channels, and height and width of what they show: the last block may reach beyond."""
        if isinstance(picture, JPEGCoefficients):
            return self._of_coefficients(picture)
        if (
            not isinstance(picture, Tensor)
            or picture.dtype != torch.uint8
            or picture.dim() != 3
            or picture.shape[0] != 3
        ):
            raise TypeError(
                "JPEGTransform: picture must be JPEGCoefficients or a uint8 tensor [3, H, W], "
                f"got {describe_tensor(picture)}"
            )
        if not picture.numel():
            raise ValueError(
                "JPEGTransform: picture must have H and W of at least 1, "
                f"got {describe_tensor(picture)}"
            )
        height, width = picture.shape[1:]
        box, flip = self._drawn(height, width)
        try:
            pixels = _window(picture, self._placed(height, width, box, flip))
        except UnsupportedJPEG:  # too small for steps of eighths; pixels take any size
            pixels = self._resized(picture, box, flip)
        out = block_dct(pixels, self.channels, mean=self.mean, std=self.std, dtype=self.dtype)
        return out, (pixels.shape[1], pixels.shape[2])

    def __repr__(self) -> str:
        settings = [counted(self.channels), f"normalise={self.mean is not None}"]
        settings += [f"resize={self.resize}", f"crop={self.crop}", f"train={self.train}"]
        return f"{type(self).__name__}({', '.join(settings)}, dtype={self.dtype})"

    def _of_coefficients(self, picture: JPEGCoefficients) -> tuple[Tensor, tuple[int, int]]:
        if self.train:
            up = upright(picture)
            at = self._placed(up.height, up.width, *self._drawn(up.height, up.width))
        else:
            up, at = middle(picture, self.resize, self.crop)
        out = gather(
            up,
            self.channels,
            mean=self.mean,
            std=self.std,
            scale=(at.scale_y, at.scale_x),
            crop=(at.top, at.left, at.rows, at.columns),
            flip=at.flip,
            dtype=self.dtype,
        )
        return out, _covered(up.height, up.width, at)

    def _drawn(self, height: int, width: int) -> tuple[Box | None, bool]:
        return (draw_box(height, width), draw_flip()) if self.train else (None, False)

    def _placed(self, height: int, width: int, box: Box | None, flip: bool) -> Placement:
        if box is None:
            return place_middle(height, width, self.resize, self.crop)
        assert self.crop is not None
        return place_box(height, width, box, -(-self.crop // BLOCK), flip)

    def _resized(self, picture: Tensor, box: Box | None, flip: bool) -> Tensor:
        """The paper's geometry to the pixel."""
        if box is None:
            if self.crop is not None:
                picture = _middle(picture)
            return resize_and_crop(picture, self.resize, self.crop)
        assert self.crop is not None
        part = picture[:, box.top : box.top + box.height, box.left : box.left + box.width]
        size = (self.crop, self.crop)
        part = _rounded(F.interpolate(part[None].float(), size, mode="bicubic", antialias=True))
        return part.flip(2) if flip else part


def _middle(picture: Tensor) -> Tensor:
    """Of a strip the middle, 4 times as long as wide: a square crop sees no more, and 1 x 3000
    pixels whole with a short side of 512 would be 9 GB."""
    height, width = picture.shape[1:]
    top, left = max(height - 4 * width, 0) // 2, max(width - 4 * height, 0) // 2
    return picture[:, top : height - top, left : width - left]


def _covered(height: int, width: int, at: Placement) -> tuple[int, int]:
    """How many rows and columns of a scaled picture the blocks of a placement hold."""
    return (
        min(BLOCK * at.rows, size_after(height, at.scale_y) - BLOCK * at.top),
        min(BLOCK * at.columns, size_after(width, at.scale_x) - BLOCK * at.left),
    )


def _window(picture: Tensor, at: Placement) -> Tensor:
    """What the blocks of a placement cover, in pixels."""
    height, width = _covered(picture.shape[1], picture.shape[2], at)
    scaled = _scaled(picture, at.scale_y, at.scale_x)
    top, left = BLOCK * at.top, BLOCK * at.left
    part = scaled[:, top : top + height, left : left + width]
    if not at.flip:
        return part
    # The flip is one of whole blocks: what the last one lacks repeats its last column first.
    lacking = BLOCK * at.columns - part.shape[2]
    return torch.cat([part, part[:, :, -1:].expand(-1, -1, lacking)], 2).flip(2)


def _scaled(picture: Tensor, scale_y: tuple[int, ...], scale_x: tuple[int, ...]) -> Tensor:
    """By exactly these scales, whose products rarely make whole pixels of a picture: a resize to
    the rounded size would drift by up to a pixel from one side to the other. At least as large as
    size_after says, from copies of the last row and column."""
    factors = (product(scale_y), product(scale_x))
    if factors == (1.0, 1.0):
        return picture
    # Two steps round up by less than 1 each, and the second makes at most 2 of the first's.
    spare = [math.ceil(4 / factor) for factor in factors]
    pixels = F.pad(picture[None].float(), (0, spare[1], 0, spare[0]), mode="replicate")
    return _rounded(F.interpolate(pixels, scale_factor=factors, mode="bicubic", antialias=True))


def _rounded(pixels: Tensor) -> Tensor:
    return pixels[0].round().clamp(0, 255).to(torch.uint8)
