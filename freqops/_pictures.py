"""Picture files and arrays to tensors, and the paper's resize and crop of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from freqops._arguments import describe, integer
from freqops.jpeg import MAX_PIXELS, TOLERANT, JPEGCoefficients, read_coefficients

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Picture: TypeAlias = Tensor | Image.Image | NDArray[np.uint8] | str | os.PathLike[str]

__all__ = [
    "SIZES",
    "SUFFIXES",
    "ToTensor",
    "check_sizes",
    "decode",
    "describe_tensor",
    "is_jpeg",
    "read_image",
    "read_stored",
    "resize_and_crop",
    "to_rgb",
    "to_tensor",
]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "jp2", "png", "webp", "avif"),
        *("bmp", "gif", "tif", "tiff", "ppm", "pgm"),
    )
)
"""What counts as a picture inside a folder; a file named by itself may end in anything."""

_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")

# (short side after the resize, side of the crop): coefficient grids of 56 x 56 and 112 x 112.
SIZES = {"resnet50": (512, 448), "mobilenet_v2": (1024, 896)}

# The last dimension of an array: none for grey, RGB, RGB with alpha.
_DEPTHS = ((), (3,), (4,))


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Reads a picture file as 8-bit RGB, upright.

    Any format that Pillow knows, as ``to_rgb`` converts it; of several frames the first.

    Args:
        path: the file.

    Returns:
        uint8 (3, H, W) in [0, 255]. Memory is pixel after pixel (channels_last), as decoded.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds no picture, or a broken one.
        ModuleNotFoundError: Pillow is not installed.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> path = os.path.join(tempfile.mkdtemp(), "red.png")
        >>> Image.new("RGB", (20, 10), (255, 0, 0)).save(path)
        >>> read_image(path).shape
        torch.Size([3, 10, 20])
    """
    try:
        return decode(path)
    except ValueError as error:
        name = os.fspath(path)
        raise ValueError(f"path must name a readable picture, got {name!r}: {error}") from error


def decode(path: str | os.PathLike[str]) -> Tensor:
    """`read_image` with errors that do not name the file."""
    from PIL import Image, UnidentifiedImageError

    with open(path, "rb") as file:
        try:
            with Image.open(file) as picture:
                return to_rgb(picture)
        except MemoryError:
            raise
        except UnidentifiedImageError as error:  # says which object in memory it was read from
            raise ValueError(_unidentified(path)) from error
        except Exception as error:  # Pillow's decoders raise a dozen types on broken files
            raise ValueError(str(error) or type(error).__name__) from error


def _unidentified(path: str | os.PathLike[str]) -> str:
    """Why a file is no picture: of one that is meant to be a JPEG file its reader knows more."""
    if Path(path).suffix.lower() in _JPEG_SUFFIXES:
        try:
            read_stored(path)
        except ImportError:
            pass
        except ValueError as error:
            return str(error).removesuffix(TOLERANT)  # pixels know no tolerance
    return "cannot identify its format" if os.path.getsize(path) else "it is empty"


def read_stored(
    path: str | os.PathLike[str], *, tolerant: bool = False, max_pixels: int | None = MAX_PIXELS
) -> JPEGCoefficients:
    """`read_coefficients` with errors that do not name the file."""
    try:
        return read_coefficients(path, tolerant=tolerant, max_pixels=max_pixels)
    except ValueError as error:
        reason = str(error).removeprefix(f"read_coefficients: source {os.fspath(path)!r}: ")
        raise type(error)(reason) from None


def is_jpeg(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as JPEG files do: an SOI marker, and the first byte of the next.

    Raises:
        OSError: the file cannot be opened.
    """
    with open(path, "rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


def to_rgb(picture: Image.Image) -> Tensor:
    """Converts a Pillow picture of any mode to 8-bit RGB, upright.

    The EXIF orientation is applied. Grey values are repeated, palettes looked up; 16-bit grey
    values are divided by 257; what is transparent is laid over white.

    Args:
        picture: a Pillow picture. Mode F (floats) has no agreed white and is refused.

    Returns:
        uint8 (3, H, W) in [0, 255]. Memory is pixel after pixel (channels_last), as decoded.

    Raises:
        TypeError: picture is no Pillow picture.
        ValueError: picture has mode F.

    Example:
        >>> from PIL import Image
        >>> to_rgb(Image.new("L", (2, 1), 7)).tolist()
        [[[7, 7]], [[7, 7]], [[7, 7]]]
    """
    from PIL import Image, ImageOps

    if not isinstance(picture, Image.Image):
        raise TypeError(f"picture must be a Pillow picture, got {type(picture).__name__}")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ValueError("picture must have 8 or 16 bits a value, got mode F")
    if picture.mode.startswith("I"):
        return _grey16(picture)
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _grey16(picture: Image.Image) -> Tensor:
    # Image.convert("L") would clip 16-bit values at 255. 65535 = 257 * 255.
    values = torch.frombuffer(bytearray(picture.convert("I").tobytes()), dtype=torch.int32)
    grey = ((values.clamp(0, 65535) + 128) // 257).to(torch.uint8)
    return grey.view(picture.height, picture.width, 1).repeat(1, 1, 3).permute(2, 0, 1)


def to_tensor(picture: Picture) -> Tensor:
    """A picture in any of its usual forms, as a tensor.

    Args:
        picture: a tensor (given back as it is), a Pillow picture, the path of a file, or a uint8
            array (H, W, 3), (H, W, 4) or (H, W), RGB as in scikit-image.

    Returns:
        The tensor, or uint8 (3, H, W) in [0, 255].

    Raises:
        TypeError: picture is none of these.
        OSError: the file cannot be opened.
        ValueError: it holds no picture, or a broken one.
        ModuleNotFoundError: Pillow is not installed.

    Example:
        >>> import numpy
        >>> to_tensor(numpy.zeros((10, 20, 3), "uint8")).shape
        torch.Size([3, 10, 20])
    """
    if isinstance(picture, Tensor):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        return read_image(picture)
    from PIL import Image

    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if not hasattr(picture, "__array_interface__"):
        raise TypeError(
            "picture must be a tensor, a Pillow picture, a path or an array, "
            f"got {type(picture).__name__}"
        )
    if picture.dtype != "uint8" or picture.ndim not in (2, 3) or picture.shape[2:] not in _DEPTHS:
        raise TypeError(
            "picture must be a uint8 array (H, W, 3), (H, W, 4) or (H, W), "
            f"got {picture.shape} of type {picture.dtype}"
        )
    return to_rgb(Image.fromarray(picture))


class ToTensor:
    """``to_tensor`` as a transform: the first step of a pipeline.

    Example:
        >>> from PIL import Image
        >>> ToTensor()(Image.new("CMYK", (20, 10))).shape
        torch.Size([3, 10, 20])
    """

    def __call__(self, picture: Picture) -> Tensor:
        """Any form of a picture to a tensor."""
        return to_tensor(picture)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def describe_tensor(value: object) -> str:
    """What a wrong argument is: of a tensor its dtype and shape, as part of a sentence."""
    if not isinstance(value, Tensor):
        return describe(value)
    return f"a {str(value.dtype).removeprefix('torch.')} tensor {list(value.shape)}"


def resize_and_crop(picture: Tensor, resize: int | None, crop: int | None) -> Tensor:
    """The paper's resize and crop (its released code, validation) on uint8 (3, H, W).

    The short side becomes `resize`, the other floor(resize long / short), bilinear without
    antialiasing; then the square of side `crop` from the middle.

    Raises:
        ValueError: the picture is smaller than the crop.
    """
    if resize is not None:
        short, long = sorted(picture.shape[1:])
        other = resize * long // short
        size = (resize, other) if picture.shape[1] <= picture.shape[2] else (other, resize)
        scaled = F.interpolate(picture[None].float(), size, mode="bilinear", antialias=False)[0]
        picture = scaled.round().clamp(0, 255).to(torch.uint8)
    if crop is not None:
        height, width = picture.shape[1:]
        if min(height, width) < crop:
            raise ValueError(
                f"a crop of {crop} must fit into the picture, which is {height} x {width}"
            )
        # Halves go to the even side, as in torchvision's center_crop.
        top, left = round((height - crop) / 2), round((width - crop) / 2)
        picture = picture[:, top : top + crop, left : left + crop]
    return picture


def check_sizes(
    prefix: str,
    argument: str,
    value: str | tuple[int | None, int | None] | None,
    train: bool,
    optional: bool = True,
) -> tuple[int | None, int | None]:
    """The short side after the resize and the side of the crop.

    Args:
        prefix: of errors.
        argument: its name.
        value: a name of SIZES, a pair, or None.
        train: whether the crop is drawn, which the resize then has no part in.
        optional: whether None is allowed, which is neither.

    Raises:
        TypeError, ValueError: value is none of these; train without a crop; without train a crop
            larger than the short side.
    """
    if isinstance(value, str) and value in SIZES:
        return SIZES[value]
    if value is None and optional:
        value = (None, None)
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        names = ", ".join(map(repr, SIZES))
        others = ", a pair (resize, crop) or None" if optional else " or a pair (resize, crop)"
        raise (ValueError if isinstance(value, str) else TypeError)(
            f"{prefix}{argument} must be {names}{others}, got {value!r}"
        )
    sizes: list[int | None] = []
    for name, side in zip(("resize", "crop"), value, strict=True):
        try:
            size = None if side is None else integer("", name, side)
        except TypeError:
            raise TypeError(
                f"{prefix}{name} must be an integer or None, got {describe(side)} "
                f"in {argument}={value!r}"
            ) from None
        if size is not None and size < 1:
            raise ValueError(f"{prefix}{name} must be at least 1, got {size}")
        sizes.append(size)
    resize, crop = sizes
    if train and crop is None:
        raise ValueError(f"{prefix}{argument} must have a crop with train=True, got none")
    if not train and resize is not None and crop is not None and crop > resize:
        raise ValueError(f"{prefix}crop {crop} must not be larger than the short side {resize}")
    return resize, crop
