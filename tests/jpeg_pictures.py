"""What the tests of JPEGTransform and JPEGFolder share: pictures that survive scaling, as files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from torch import Tensor

from freqops.data import to_rgb

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

ORIENTATION = 0x0112


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    """A coloured picture whose detail is coarse enough to survive a scale of 1/4."""
    small = np.random.default_rng(seed).integers(40, 216, (height // 40 + 3, width // 40 + 3, 3))
    picture = Image.fromarray(small.astype("uint8"))
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, subsampling: str = "4:4:4", orientation: int = 1) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {} if picture.mode != "RGB" else {"subsampling": subsampling}
    picture.save(file, "JPEG", quality=95, exif=exif, **options)
    return file.getvalue()


def decoded(data: bytes) -> Tensor:
    """uint8 (3, H, W), upright."""
    return to_rgb(Image.open(io.BytesIO(data)))
