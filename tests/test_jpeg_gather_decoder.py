"""jpeg_gather of photographs against libjpeg-turbo: its planes without smoothing of chroma.

The result's inverse DCT are the decoder's pixels before it rounds and clamps them, to the accuracy
of its integers. So pixels differ by 1/2 and a little, all of them, and coefficients by what that
sums up to: 0.3 as a rule, 4 in the first coefficient of a block whose pixels are all rounded alike.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jpeg_blocks import F64, Blocks
from test_jpeg_gather_reference import transform
from torch import Tensor

from freqops import jpeg_gather
from freqops._reference_jpeg import Scale
from freqops.jpeg import read_coefficients

scipy_fft = pytest.importorskip("scipy.fft", reason="an inverse DCT that is not ours")
simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg encodes, and decodes at k/8")
Image = pytest.importorskip("PIL.Image", reason="Pillow opens the photographs")
jpeglib = pytest.importorskip("jpeglib", reason="jpeglib decodes without smoothing chroma")
scikit_image = importlib.util.find_spec("skimage")
if scikit_image is None or scikit_image.origin is None:
    pytest.skip("scikit-image has the photographs", allow_module_level=True)
PHOTOGRAPHS = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"]
FOLDER = Path(scikit_image.origin).parent / "data"
FOUND = [name for name in PHOTOGRAPHS if (FOLDER / name).exists()]
KINDS = ["4:4:4", "4:2:2", "4:4:0", "4:2:0", "4:1:1", "gray"]
TURBO = "turbo210"
HALF = 0.6  # the integers of jidctint.c are off by up to 0.08


@functools.cache
def file(name: str, quality: int, subsampling: str) -> bytes:
    """A part of odd size."""
    with Image.open(FOLDER / name) as picture:
        part = picture.convert("RGB").crop((0, 0, 331, 275))
    if subsampling == "gray":
        out = io.BytesIO()
        part.convert("L").save(out, "JPEG", quality=quality)
        return out.getvalue()
    pixels = np.ascontiguousarray(part)
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling.replace(":", ""))


def read_by_jpeglib(data: bytes, subsampling: str) -> Blocks:
    with tempfile.NamedTemporaryFile(suffix=".jpg") as f, jpeglib.version(TURBO):
        f.write(data)
        f.flush()
        read = jpeglib.read_dct(f.name)
        parts = [p for p in (read.Y, read.Cb, read.Cr) if p is not None]
        numbers = read.quant_tbl_no[: len(parts)]
        tables = np.stack([read.qt[i] for i in numbers]).reshape(-1, 64).astype(np.int32)
    y, *chroma = (torch.from_numpy(p.astype(np.int16)).flatten(2)[None] for p in parts)
    cb, cr = chroma or (None, None)
    return Blocks(y, cb, cr, torch.from_numpy(tables), subsampling)


def read(data: bytes, subsampling: str) -> Blocks:
    pytest.importorskip("freqops._jpeg", reason="the reader is not built")
    read = read_coefficients(data)
    assert read.subsampling == subsampling
    planes = [p if p is None else p[None] for p in (read.y, read.cb, read.cr)]
    return Blocks(*planes, read.tables, subsampling)


def decoder_planes(data: bytes, subsampling: str) -> Tensor:
    """[3 or 1, H, W] of uint8: YCbCr, each pixel of chroma repeated."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as f, jpeglib.version(TURBO):
        f.write(data)
        f.flush()
        out = jpeglib.read_spatial(
            f.name,
            out_color_space=jpeglib.JCS_GRAYSCALE if subsampling == "gray" else jpeglib.JCS_YCbCr,
            dct_method=jpeglib.JDCT_ISLOW,
            flags=["-DO_FANCY_UPSAMPLING"],
        )
        planes = torch.from_numpy(np.array(out.spatial))
    return planes.reshape(*planes.shape[:2], -1).permute(2, 0, 1)


def inverse(coefficients: Tensor) -> Tensor:
    """[64 k, gh, gw] -> pixels [k, 8 gh, 8 gw]."""
    k, (rows, columns) = len(coefficients) // 64, coefficients.shape[1:]
    blocks = coefficients.to(F64).view(k, 8, 8, rows, columns).permute(0, 3, 4, 1, 2).numpy()
    planes = torch.from_numpy(scipy_fft.idctn(blocks, axes=(-2, -1), norm="ortho"))
    return planes.permute(0, 1, 3, 2, 4).reshape(k, 8 * rows, 8 * columns) + 128


def difference(got: Tensor, planes: Tensor) -> float:
    """Of pixels, at most."""
    k, height, width = planes.shape
    ours = inverse(got[0, : 64 * k]).clamp(0, 255)[:, :height, :width]
    return float((ours - planes).abs().max())


def gathered(b: Blocks, scale: Scale = 8) -> Tensor:
    return jpeg_gather(b.y, b.cb, b.cr, b.tables, subsampling=b.subsampling, scale=scale)


@pytest.mark.parametrize("reader", [read, read_by_jpeglib])
@pytest.mark.parametrize("subsampling", KINDS)
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("name", FOUND)
def test_planes(
    name: str, quality: int, subsampling: str, reader: Callable[[bytes, str], Blocks]
) -> None:
    data = file(name, quality, subsampling)
    b = reader(data, subsampling)
    assert b.y.shape[1:3] == (35, 42)
    got, planes = gathered(b), decoder_planes(data, subsampling)
    assert difference(got, planes) < HALF

    # Coefficients, in blocks within the picture that hold no pixel that may have been clamped.
    k, rows, columns = len(planes), 275 // 8, 331 // 8
    inside = planes[:, : 8 * rows, : 8 * columns].to(F64)
    clamped = ((inside == 0) | (inside == 255)).double()
    kept = torch.nn.functional.max_pool2d(clamped[None], 8)[0] == 0
    assert kept.double().mean() > 0.85
    want = transform(inside - 128)
    error = got[0, : 64 * k].unflatten(0, (k, 64))[..., :rows, :columns] - want
    error = error.permute(0, 2, 3, 1)[kept].abs()
    assert (error < 1.5).double().mean() > 0.99
    assert error.pow(2).mean().sqrt() < 0.36  # 12^-1/2 is 0.29


# --- Scaled decoding ------------------------------------------------------------------------------


def component(b: Blocks, k: int) -> bytes:
    """A grey file of the component alone."""
    assert b.tables is not None
    with tempfile.TemporaryDirectory() as folder, jpeglib.version(TURBO):
        path = Path(folder) / "component.jpg"
        values = np.ascontiguousarray(b.planes[k][0].unflatten(2, (8, 8)).numpy())
        table = b.tables[k : k + 1].reshape(1, 8, 8).numpy().astype(np.uint16)
        jpeglib.from_dct(Y=values, qt=table).write_dct(str(path))
        return path.read_bytes()


def scaled(b: Blocks, k: int, q: int) -> Tensor:
    """Component k by the decoder at q/8."""
    rows, columns = (q * n for n in b.planes[k].shape[1:3])
    plane = simplejpeg.decode_jpeg(component(b, k), "GRAY", min_height=rows, min_width=columns)
    assert plane.shape == (rows, columns, 1)
    return torch.from_numpy(plane[..., 0])


@pytest.mark.parametrize("k", [1, 3, 5, 6, 7, 8])
def test_scaled_planes(k: int) -> None:
    """libjpeg-turbo's inverse DCT of k x k."""
    b = read_by_jpeglib(file("astronaut.png", 75, "4:4:4"), "4:4:4")
    planes = torch.stack([scaled(b, i, k) for i in range(3)])
    assert difference(gathered(b, k), planes) < HALF


@pytest.mark.parametrize("k", [3, 4])
def test_scaled_chroma(k: int) -> None:
    """That of 2 k x 2 k, at most 8 x 8, at the resolution of luma, as jdmaster.c has it."""
    b = read_by_jpeglib(file("astronaut.png", 75, "4:2:0"), "4:2:0")
    height, width = (k * n for n in b.y.shape[1:3])
    planes = torch.stack([scaled(b, i, 2 * k)[:height, :width] for i in (1, 2)])
    assert difference(gathered(b, k)[:, 64:], planes) < HALF


@pytest.mark.parametrize("k", [2, 4])
def test_halves_and_quarters_are_means_there(k: int) -> None:
    """jidctred.c of libjpeg-turbo: means of the pixels of the whole picture, which keep less of
    what is sharp than the inverse DCT of that size."""
    b = read_by_jpeglib(file("astronaut.png", 75, "4:4:4"), "4:4:4")
    planes = torch.stack([scaled(b, i, k) for i in range(3)])
    means = torch.nn.functional.avg_pool2d(inverse(gathered(b)[0]), 8 // k).clamp(0, 255)
    assert (means - planes).abs().max() < HALF
    ours = inverse(gathered(b, k)[0]).clamp(0, 255)[:, : planes.shape[1], : planes.shape[2]]
    assert 0.5 < (ours - planes).abs().mean() < 1  # roundings alone make 1/4
