"""Pictures in: files to tensors, and the paper's resize, crop and flip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from freqops._collate import Collate
from freqops._extras import torchvision_module
from freqops._jpeg_folder import JPEGFolder
from freqops._jpeg_transform import JPEGTransform
from freqops._pictures import SIZES, ToTensor, read_image, to_rgb, to_tensor

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


def preprocess(network: str, train: bool = False) -> nn.Module:
    """The paper's resize, crop and flip; ``nn.FrequencyTransform`` behind it does the rest.

    Evaluation: the short side to 512 (MobileNetV2: 1024), the other to floor(512 long / short),
    bilinear without antialiasing; centre crop of 448 (896). Training: RandomResizedCrop to 448
    (896), area 0.08 to 1, aspect ratio 3/4 to 4/3; horizontal flip with probability 1/2.

    Args:
        network: "resnet50" or "mobilenet_v2".
        train: whether to draw the random crop and flip.

    Returns:
        A torchvision v2.Compose: pictures in any form that ``to_tensor`` takes, or uint8 tensors
        (..., 3, H, W), to uint8 tensors (..., 3, 448, 448) (896).

    Raises:
        TypeError: network is no string.
        ValueError: network is unknown.
        ImportError: torchvision cannot be imported.

    Example:
        >>> from freqops.nn import FrequencyTransform
        >>> from torchvision.transforms import v2  # doctest: +SKIP
        >>> steps = [preprocess("resnet50"), FrequencyTransform(24)]  # doctest: +SKIP
        >>> v2.Compose(steps)("photograph.jpg").shape  # doctest: +SKIP
        torch.Size([24, 56, 56])
    """
    if not isinstance(network, str):
        raise TypeError(
            f"network must be a string, got {network!r} of type {type(network).__name__}"
        )
    if network not in SIZES:
        names = " or ".join(map(repr, SIZES))
        raise ValueError(f"network must be {names}, got {network!r}")
    v2 = torchvision_module("preprocess", "torchvision.transforms.v2")
    short, crop = SIZES[network]
    bilinear = v2.InterpolationMode.BILINEAR
    steps: list[nn.Module] = [
        v2.Resize(short, interpolation=bilinear, antialias=False),
        v2.CenterCrop(crop),
    ]
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
    pipeline: nn.Module = v2.Compose([ToTensor(), *steps])
    return pipeline
