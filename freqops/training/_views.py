"""Views: how a picture becomes what the network reads, drawn for training or not."""

from __future__ import annotations

import copy
import dataclasses
import os

import torch
from torch import Tensor, nn

from freqops._extras import torchvision_module
from freqops._jpeg_transform import JPEGTransform
from freqops._pictures import decode, is_jpeg, read_stored, to_tensor
from freqops.jpeg import UnsupportedJPEG
from freqops.models import FrequencyNetwork
from freqops.statistics import ChannelStatistics
from freqops.training._pictures import View

__all__ = ["ChannelView", "JPEGView", "PixelView", "view_of"]


class PixelView:
    """Pictures to uint8 pixels (3, crop, crop): the paper's resize, crop and flip.

    Args:
        resize: short side in evaluation, bilinear without antialiasing; then the middle.
        crop: side of the square.
        train: RandomResizedCrop and flip, drawn from torch's generator.
        area: with train, the least share of the picture's area; the most is 1.
        flip: with train, whether half of the pictures are mirrored.
    """

    def __init__(
        self, resize: int, crop: int, *, train: bool, area: float = 0.08, flip: bool = True
    ) -> None:
        v2 = torchvision_module("training", "torchvision.transforms.v2")
        bilinear = v2.InterpolationMode.BILINEAR
        steps: list[nn.Module] = [
            v2.Resize(resize, interpolation=bilinear, antialias=False),
            v2.CenterCrop(crop),
        ]
        if train:
            steps = [
                v2.RandomResizedCrop(
                    crop, scale=(area, 1.0), interpolation=bilinear, antialias=False
                )
            ]
            if flip:
                steps.append(v2.RandomHorizontalFlip(0.5))
        self.steps = v2.Compose(steps)

    def __call__(self, picture: object) -> Tensor:
        """Contiguous pixels of one picture, in the order of memory that decoding left."""
        # A path by itself: its errors do not repeat the name.
        path = isinstance(picture, (str, os.PathLike))
        pixels = decode(picture) if path else to_tensor(picture)  # type: ignore[arg-type]
        if pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] != 3:
            raise TypeError(
                "a data set's picture must be a path, a Pillow picture, an array or a uint8 tensor "
                f"[3, H, W], got {pixels.dtype} {list(pixels.shape)}"
            )
        seen: Tensor = self.steps(pixels)
        return seen


@dataclasses.dataclass(frozen=True)
class ChannelView:
    """Pixels to frequency channels, where the pictures are read."""

    pixels: PixelView
    transform: nn.Module

    def __call__(self, picture: object) -> Tensor:
        """(C, crop / 8, crop / 8)."""
        with torch.no_grad():
            channels: Tensor = self.transform(self.pixels(picture))
        return channels


@dataclasses.dataclass(frozen=True)
class JPEGView:
    """JPEG files to frequency channels without decoding; other pictures by their pixels."""

    transform: JPEGTransform

    def __call__(self, picture: object) -> Tensor:
        """(C, crop / 8, crop / 8)."""
        if isinstance(picture, (str, os.PathLike)):
            path = os.fspath(picture)
            if is_jpeg(path):
                try:
                    return self.transform(read_stored(path))
                except UnsupportedJPEG:
                    pass
            return self.transform(decode(path))
        return self.transform(to_tensor(picture))  # type: ignore[arg-type]


def view_of(
    network: FrequencyNetwork,
    transform: str,
    resize: int,
    crop: int,
    *,
    train: bool = False,
    area: float = 0.08,
    flip: bool = True,
) -> View:
    """How a picture becomes what a network reads.

    Args:
        network: with ``transform`` other than "device", its own transform is taken over.
        transform: "device" gives pixels, for ``network(images)``; "workers" and "jpeg" give
            channels, for ``network(coefficients=...)``.
        resize, crop: in pixels.
        train: whether crop and flip are drawn, then with area and flip as in ``PixelView``;
            "jpeg" has its own, which are their defaults.

    Raises:
        ValueError: the network reads pixels too; with "jpeg", its transform has chroma or rounding,
            which files have their own.
        ImportError: torchvision cannot be imported.
    """
    pixels = PixelView(resize, crop, train=train, area=area, flip=flip)
    if transform == "device":
        return pixels
    own = network.transform
    if network.halved is not None:
        raise ValueError(
            "transform must be device for a network with spatial=True, which needs pixels, "
            f"got {transform!r}"
        )
    if transform == "workers":
        return ChannelView(pixels, copy.deepcopy(own).cpu().eval())
    if (own.chroma, own.rounding) != ("4:4:4", "none"):
        raise ValueError(
            "transform must not be jpeg for a network with chroma and rounding: files have their "
            f"own, got {own.chroma!r} and {own.rounding!r}"
        )
    statistics = None
    if own.mean is not None and own.std is not None:
        statistics = ChannelStatistics(own.mean.cpu(), own.std.cpu())
    return JPEGView(JPEGTransform(own.channels, statistics, (resize, crop), train=train))
