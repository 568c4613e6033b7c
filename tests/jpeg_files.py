"""What the tests of freqops.jpeg share: photographs, encoders, files of rare kinds."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from freqops.jpeg import JPEGCoefficients

pytest.importorskip("freqops._jpeg", reason="the JPEG reader is not built", exc_type=ImportError)
skimage = pytest.importorskip("skimage", reason="scikit-image is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")

# Encoded by libjpeg-turbo's cjpeg: what no encoder for Python writes.
KINDS = Path(__file__).parent / "fuzz" / "kinds"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
FACTORS = {
    "4:4:4": (1, 1),
    "4:2:2": (1, 2),
    "4:4:0": (2, 1),
    "4:2:0": (2, 2),
    "4:1:1": (1, 4),
    "gray": (1, 1),
}


@cache
def photograph(name: str = "astronaut.png", height: int = 83, width: int = 107) -> NDArray[Any]:
    """The middle of a photograph, uint8 (height, width, 3)."""
    pixels = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB"))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def encoded(pixels: NDArray[Any], quality: int = 75, subsampling: str = "4:2:0") -> bytes:
    """Baseline, with Huffman tables of the standard."""
    gray = subsampling == "gray"
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels[..., 1:2] if gray else pixels),
        quality,
        "GRAY" if gray else "RGB",
        "Gray" if gray else subsampling.replace(":", ""),
    )


def by_pillow(pixels: NDArray[Any], mode: str = "RGB", **options: Any) -> bytes:
    """Whatever Pillow's options say: progressive, optimize, restart_marker_rows, exif ..."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def planes(picture: JPEGCoefficients) -> list[Tensor]:
    chroma = [] if picture.cb is None else [picture.cb, picture.cr]
    return [picture.y, *chroma]


def segment(data: bytes, marker: int) -> int:
    """Where the segment of a marker begins: at its 0xff."""
    at = 2
    while data[at + 1] != marker:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def two_components() -> bytes:
    """The frame and scan headers of a 4:4:4 file without Cr; what follows is of no account."""
    data = encoded(photograph(height=8, width=8), subsampling="4:4:4")
    frame, scan = segment(data, 0xC0), segment(data, 0xDA)
    head = patched(data[:scan], frame + 3, bytes([14]))
    head = patched(head, frame + 9, b"\2")
    head = head[: frame + 16] + head[frame + 19 :]
    return head + b"\xff\xda\0\x0a\2\1\0\2\x11\0\x3f\0" + data[scan + 14 :]


def rare(kind: str) -> bytes:
    """A sound file, or as good as one, of a kind that is not read."""
    pixels = photograph(height=16, width=16)
    plain = encoded(pixels)
    frame = segment(plain, 0xC0)
    cmyk = by_pillow(pixels, "CMYK")
    files = {
        "CMYK": cmyk,
        "YCCK": patched(cmyk, segment(cmyk, 0xEE) + 15, b"\2"),
        "RGB": by_pillow(pixels, keep_rgb=True),
        "2 components": two_components(),
        "12-bit": patched(patched(plain, frame + 1, b"\xc1"), frame + 4, b"\x0c"),
        "lossless": patched(plain, frame + 1, b"\xc3"),
        "lossless arithmetic": patched(plain, frame + 1, b"\xcb"),
        "hierarchical": patched(plain, frame + 1, b"\xc5"),
        "hierarchical arithmetic": patched(plain, frame + 1, b"\xcd"),
    }
    return files[kind]
