"""Pictures in: files to tensors, and the paper's resize, crop and flip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from freqops._collate import Collate
from freqops._extras import torchvision_module
from freqops._jpeg_folder import JPEGFolder
from freqops._jpeg_transform import JPEGTransform
from freqops._pictures import SIZES, ToTensor, check_sizes, read_image, to_rgb, to_tensor

if TYPE_CHECKING:
    from freqops._pictures import Picture as Picture

__all__ = [
    "SIZES",
    "Collate",
    "JPEGFolder",
    "JPEGTransform",
    "ToTensor",
    "preprocess",
    "read_image",
    "to_rgb",
    "to_tensor",
]


def preprocess(network: str | tuple[int | None, int | None], train: bool = False) -> nn.Module:
    """The paper's resize, crop and flip; ``nn.FrequencyTransform`` behind it does the rest.

    Evaluation: the short side to 512 (MobileNetV2: 1024), the other to floor(512 long / short),
    bilinear without antialiasing; centre crop of 448 (896). Training: RandomResizedCrop to 448
    (896), area 0.08 to 1, aspect ratio 3/4 to 4/3; horizontal flip with probability 1/2.

    Args:
        network: "resnet50" (512, 448), "mobilenet_v2" (1024, 896), or (short side after the resize,
            side of the crop) in pixels, None for what is not wanted.
        train: whether to draw crop and flip; the resize then counts for nothing.

    Returns:
        A torchvision v2.Compose: pictures in any form that ``to_tensor`` takes, or uint8 tensors
        (..., 3, H, W), to uint8 tensors (..., 3, 448, 448) (896). Where the crop has no resize
        before it, smaller pictures raise ValueError.

    Raises:
        TypeError: network is neither a string nor a pair of integers and None.
        ValueError: network is unknown, a side is less than 1; train without a crop; without train
            a crop larger than the short side after the resize.
        ImportError: torchvision cannot be imported.

    Example:
        >>> from freqops.nn import FrequencyTransform
        >>> from torchvision.transforms import v2  # doctest: +SKIP
        >>> steps = [preprocess("resnet50"), FrequencyTransform(24)]  # doctest: +SKIP
        >>> v2.Compose(steps)("photograph.jpg").shape  # doctest: +SKIP
        torch.Size([24, 56, 56])
    """
    resize, crop = check_sizes("", "network", network, train, optional=False)
    v2 = torchvision_module("preprocess", "torchvision.transforms.v2")
    bilinear = v2.InterpolationMode.BILINEAR
    steps: list[nn.Module] = []
    if train:
        steps = [
            v2.RandomResizedCrop(
                crop,
                scale=(0.08, 1.0),
                ratio=(3 / 4, 4 / 3),
                interpolation=bilinear,
                antialias=False,
            ),
            v2.RandomHorizontalFlip(0.5),
        ]
    else:
        if resize is not None:
            steps += [v2.Resize(resize, interpolation=bilinear, antialias=False)]
        elif crop is not None:
            steps += [_AtLeast(crop)]
        if crop is not None:
            steps += [v2.CenterCrop(crop)]
    pipeline: nn.Module = v2.Compose([ToTensor(), *steps])
    return pipeline


class _AtLeast(nn.Module):
    """Lets pictures through whose sides are at least so long: CenterCrop would lay black around."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        if min(height, width) < self.side:
            raise ValueError(
                f"a crop of {self.side} must fit into the picture, which is {height} x {width}"
            )
        return picture

    def extra_repr(self) -> str:
        return str(self.side)
