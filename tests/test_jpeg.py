"""freqops.jpeg on sound files: values, tables, shapes and facts, beside other readers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jpeg_files import (
    FACTORS,
    KINDS,
    PHOTOGRAPHS,
    Image,
    by_pillow,
    encoded,
    photograph,
    planes,
    rare,
)

from freqops.data import read_image
from freqops.jpeg import JPEGCoefficients, UnsupportedJPEG, read_coefficients

WAY_ON = r" \(freqops.data.read_image decodes it\)"
QUALITIES = [1, 10, 50, 75, 95, 100]
SIZES = [(1, 1), (7, 9), (8, 8), (17, 33), (16, 16)]


def assert_equals_jpeglib(data: bytes, tmp_path: Path) -> JPEGCoefficients:
    jpeglib = pytest.importorskip("jpeglib", reason="jpeglib is not installed")
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    want = jpeglib.read_dct(str(path))
    got = read_coefficients(path)
    assert (got.height, got.width) == (want.height, want.width)
    numbers = [0] if want.Cb is None else list(want.quant_tbl_no)
    assert len(planes(got)) == len(numbers) == len(got.tables)
    for plane, name in zip(planes(got), ("Y", "Cb", "Cr"), strict=False):
        values = getattr(want, name)
        assert plane.dtype == torch.int16 and plane.stride()[1:] == (64, 1)
        assert np.array_equal(plane.numpy(), values.reshape(*values.shape[:2], 64))
    for table, number in zip(got.tables, numbers, strict=True):
        assert table.tolist() == want.qt[number].flatten().tolist()
    return got


def assert_shapes(picture: JPEGCoefficients, subsampling: str) -> None:
    """The grid of blocks, as the documentation has it."""
    assert picture.subsampling == subsampling
    by, bx = -(-picture.height // 8), -(-picture.width // 8)
    fv, fh = FACTORS[subsampling]
    assert picture.y.shape == (by, bx, 64)
    assert picture.tables.dtype == torch.int32
    if subsampling == "gray":
        assert picture.cb is None and picture.cr is None and picture.tables.shape == (1, 64)
    else:
        assert picture.cb.shape == picture.cr.shape == (-(-by // fv), -(-bx // fh), 64)
        assert picture.tables.shape == (3, 64)


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_photographs(tmp_path: Path, name: str, quality: int) -> None:
    for subsampling in FACTORS:
        data = encoded(photograph(name), quality, subsampling)
        picture = assert_equals_jpeglib(data, tmp_path)
        assert_shapes(picture, subsampling)
        assert not picture.progressive


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    for subsampling in FACTORS:
        picture = assert_equals_jpeglib(
            encoded(photograph("coffee.png", *size), 90, subsampling), tmp_path
        )
        assert_shapes(picture, subsampling)
        assert (picture.height, picture.width) == size


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "gray"])
@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 1},
        {"restart_marker_blocks": 5},
        {"restart_marker_rows": 1},
        {"restart_marker_rows": 1, "progressive": True},
    ],
    ids=str,
)
def test_ways_of_coding(tmp_path: Path, subsampling: str, options: dict[str, Any]) -> None:
    mode = "L" if subsampling == "gray" else "RGB"
    if mode == "RGB":
        options = options | {"subsampling": subsampling}
    for size in [*SIZES, (83, 107)]:
        for quality in (1, 10, 95, 100):
            data = by_pillow(photograph("chelsea.png", *size), mode, quality=quality, **options)
            picture = assert_equals_jpeglib(data, tmp_path)
            assert_shapes(picture, subsampling)
            assert picture.progressive == options.get("progressive", False)


def test_a_progressive_file_holds_what_the_baseline_file_does() -> None:
    for subsampling in (0, 1, 2):
        pixels = photograph("rocket.jpg")
        one, other = (
            read_coefficients(by_pillow(pixels, subsampling=subsampling, progressive=progressive))
            for progressive in (False, True)
        )
        assert all(torch.equal(a, b) for a, b in zip(planes(one), planes(other), strict=True))


@pytest.mark.parametrize(
    ("name", "subsampling"),
    [
        ("gray_2x2", "gray"),
        ("sampling_1x2_1x2_1x2", "4:4:4"),
        ("sampling_2x2_1x2_1x2", "4:2:2"),
        ("sampling_4x1_1x1_1x1_progressive", "4:1:1"),
        ("scans", "4:2:0"),
        ("scans_2x2_2x2_2x2", "4:4:4"),
    ],
)
def test_rare_kinds_that_are_read(tmp_path: Path, name: str, subsampling: str) -> None:
    picture = assert_equals_jpeglib((KINDS / f"{name}.jpg").read_bytes(), tmp_path)
    assert_shapes(picture, subsampling)
    assert (picture.height, picture.width) == (17, 33)
    assert picture.progressive == ("progressive" in name)


def test_arithmetic_coding_holds_what_huffman_coding_does() -> None:
    # Of jpeglib's libjpeg 6b it says: "there are legal restrictions".
    names = ("arithmetic", "arithmetic_progressive", "scans")
    first, *others = (planes(read_coefficients(KINDS / f"{name}.jpg")) for name in names)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("quality", [1, 40, 100])
def test_the_inverse_dct_of_the_coefficients_is_the_picture(quality: int) -> None:
    # In float64; libjpeg's integer transform is within 1 of it, then rounded by at most 1/2.
    data = by_pillow(photograph(height=48, width=64), quality=quality, subsampling=0)
    picture = read_coefficients(data, dequantize=True)
    with Image.open(io.BytesIO(data)) as file:
        file.draft("YCbCr", file.size)
        want = torch.from_numpy(np.array(file)).double().unbind(-1)
    n = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * n + 1) * n[:, None] * torch.pi / 16) / 2  # [frequency, pixel]
    basis[0] /= 2**0.5
    for plane, pixels in zip(planes(picture), want, strict=True):
        blocks = basis.T @ plane.view(*plane.shape[:2], 8, 8).double() @ basis
        got = (blocks.transpose(1, 2).reshape(48, 64) + 128).clamp(0, 255)
        assert (got - pixels).abs().max() <= 1.1


def test_dequantized_values_are_those_of_jpeg2dct() -> None:
    module = pytest.importorskip(
        "jpeg2dct.numpy", reason="jpeg2dct is not installed: its licence is non-commercial"
    )
    pixels = photograph("coffee.png", 96, 128)
    for quality in QUALITIES:
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 5}):
            data = by_pillow(pixels, quality=quality, subsampling="4:2:0", **options)
            picture = read_coefficients(data, dequantize=True)
            for plane, want in zip(planes(picture), module.loads(data), strict=True):
                assert np.array_equal(plane.numpy(), want)


def test_dequantizing_multiplies_by_the_tables() -> None:
    data = encoded(photograph(), 30, "4:2:2")
    plain, multiplied = read_coefficients(data), read_coefficients(data, dequantize=True)
    assert plain.quantized and not multiplied.quantized
    assert torch.equal(plain.tables, multiplied.tables)
    for i, (stored, values) in enumerate(zip(planes(plain), planes(multiplied), strict=True)):
        assert torch.equal(stored.int() * plain.tables[i], values.int())


def test_products_saturate_and_tables_may_have_16_bits() -> None:
    data = encoded(np.full((8, 8, 3), 255, np.uint8), 100, "gray")
    at = data.index(b"\xff\xdb")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    table = b"".join(int(step).to_bytes(2, "big") for step in [60_000, *range(1, 64)])
    wide = data[:at] + b"\xff\xdb\0\x83\x10" + table + data[at + 2 + length :]
    stored = read_coefficients(wide)
    assert stored.y[0, 0, 0] == 127 * 8 and stored.tables[0, 0] == 60_000
    assert stored.tables[0, :3].tolist() == [60_000, 1, 5]  # zigzag: (0, 0), (0, 1), (1, 0)
    assert read_coefficients(wide, dequantize=True).y[0, 0, 0] == 32767
    black = encoded(np.zeros((8, 8, 3), np.uint8), 100, "gray")
    for step in (60_000, 32_768, 32_767, 300, 32, 31):
        wide = black[:at] + b"\xff\xdb\0\x83\x10" + step.to_bytes(2, "big") + table[2:]
        got = read_coefficients(wide + black[at + 2 + length :], dequantize=True)
        assert got.y[0, 0, 0] == max(-1024 * step, -32768)


# --- Facts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation(orientation: int, endian: str) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    data = by_pillow(photograph(), exif=exif.tobytes())
    assert data[data.index(b"Exif\0\0") + 6 :][:2] == {"<": b"II", ">": b"MM"}[endian]
    valid = 1 <= orientation <= 8
    assert read_coefficients(data).orientation == (orientation if valid else 1)


def test_repr_is_short() -> None:
    data = by_pillow(photograph(), progressive=True, subsampling=0)
    assert repr(read_coefficients(data)) == (
        "JPEGCoefficients(83 x 107, 4:4:4, quantized, progressive)"
    )


def test_nothing_is_copied() -> None:
    # The decoder writes whole MCUs of 2 x 2 blocks: 11 x 14 blocks lie in rows of 14, 12 of them.
    picture = read_coefficients(encoded(photograph(), 75, "4:2:0"))
    assert picture.y.shape == (11, 14, 64)
    assert read_coefficients(encoded(photograph(width=97))).y.stride() == (14 * 64, 64, 1)
    picture.y.zero_()  # is the caller's


@pytest.mark.parametrize(
    ("kind", "words", "decoded"),
    [
        ("CMYK", "CMYK JPEG is not read", True),
        ("YCCK", "YCCK JPEG is not read", True),
        ("RGB", r"RGB JPEG \(red, green and blue as they are\) is not read", True),
        ("2 components", "JPEG of 2 components is not read, only gray and YCbCr", False),
        ("12-bit", "12-bit JPEG is not read", False),
        ("lossless", "lossless JPEG is not read", False),
        ("lossless arithmetic", "lossless arithmetic JPEG is not read", False),
        ("hierarchical", "hierarchical JPEG is not read", False),
        ("hierarchical arithmetic", "hierarchical JPEG is not read", False),
    ],
)
def test_kinds_that_are_refused_by_name(
    tmp_path: Path, kind: str, words: str, decoded: bool
) -> None:
    words = f"^read_coefficients: source of .* bytes: {words}{WAY_ON if decoded else ''}$"
    for tolerant in (False, True):
        with pytest.raises(UnsupportedJPEG, match=words):
            read_coefficients(rare(kind), tolerant=tolerant)
    if decoded:
        path = tmp_path / "file.jpg"
        path.write_bytes(rare(kind))
        assert read_image(path).shape == (3, 16, 16)


def test_pixels_know_no_tolerance_that_a_reason_could_name(tmp_path: Path) -> None:
    data, path = rare("2 components"), tmp_path / "file.jpg"
    path.write_bytes(data[:2] + b"between" + data[2:])
    words = r"7 extraneous bytes before marker .* \(bytes are left over or missing\)"
    with pytest.raises(ValueError, match=rf"{words} \(tolerant=True takes"):
        read_coefficients(path)
    with pytest.raises(ValueError, match=rf"file.jpg': .*{words}$"):
        read_image(path)


@pytest.mark.parametrize("factors", ["3x1_1x1_1x1", "2x2_2x1_1x1", "1x1_2x2_2x2"])
def test_sampling_factors_that_are_refused(factors: str) -> None:
    words = f"sampling factors {factors.replace('_', ', ')} is not read, only .* and gray{WAY_ON}$"
    path = KINDS / f"sampling_{factors}.jpg"
    with pytest.raises(UnsupportedJPEG, match=words):
        read_coefficients(path)
    assert read_image(path).shape == (3, 17, 33)
