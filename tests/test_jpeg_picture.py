"""Coefficients turned upright, gathered in the picture's own size, and brought to a geometry."""

from __future__ import annotations

import dataclasses
import io
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from freqops import jpeg_gather, reference
from freqops._jpeg_geometry import (
    Box,
    blocks_after,
    draw_box,
    draw_flip,
    nearest_scale,
    place_box,
    place_middle,
    size_after,
)
from freqops._jpeg_picture import gather, upright
from freqops._reference_jpeg import SAMPLINGS
from freqops.jpeg import JPEGCoefficients, UnsupportedJPEG

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
ImageOps = pytest.importorskip("PIL.ImageOps")

KINDS = list(SAMPLINGS)
ORIENTATION = 0x0112


def coefficients(
    subsampling: str, height: int, width: int, orientation: int = 1, seed: int = 0
) -> JPEGCoefficients:
    """Random ones; every value and every step differs from its neighbours."""
    random_numbers = torch.Generator().manual_seed(seed)
    fy, fx = SAMPLINGS[subsampling]
    by, bx = -(-height // 8), -(-width // 8)

    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=random_numbers)

    grids = [(by, bx)] + [(-(-by // fy), -(-bx // fx))] * (0 if subsampling == "gray" else 2)
    # Strided, as the decoder gives them: more blocks than the picture has.
    planes = [draw(-40, 40, a, b + 1, 64).short()[:, :b] for a, b in grids]
    tables = draw(1, 30, len(grids), 64).int()
    cb, cr = planes[1:] or (None, None)
    return JPEGCoefficients(
        planes[0], cb, cr, tables, subsampling, height, width, orientation=orientation
    )


def planes(c: JPEGCoefficients) -> NDArray[np.float64]:
    """The decoder's planes without its rounding, by the definition: float64 (1 or 3, H, W)."""
    k, i = np.mgrid[:8, :8]
    d = np.cos((2 * i + 1) * k * np.pi / 16) / 2
    d[0] /= np.sqrt(2)
    fy, fx = SAMPLINGS[c.subsampling]
    result = []
    for n, blocks in enumerate((c.y, c.cb, c.cr)):
        if blocks is None:
            continue
        values = (blocks.numpy() * c.tables[n].numpy().astype(float)).reshape(
            *blocks.shape[:2], 8, 8
        )
        pixels = (d.T @ values @ d).swapaxes(1, 2).reshape(8 * len(blocks), -1)
        if n > 0:
            pixels = pixels.repeat(fy, 0).repeat(fx, 1)
        result.append(pixels[: c.height, : c.width])
    return np.stack(result)


def turned(c: JPEGCoefficients) -> NDArray[np.int64]:
    """Which pixel of the picture comes where, by Pillow."""
    numbers = np.arange(c.height * c.width, dtype=np.int32).reshape(c.height, c.width)
    picture = Image.fromarray(numbers)
    picture.getexif()[ORIENTATION] = c.orientation
    return np.asarray(ImageOps.exif_transpose(picture)).astype(np.int64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", KINDS)
@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32), (37, 83), (71, 40), (48, 33)])
def test_upright_is_pillows_transposition_exactly(
    subsampling: str, orientation: int, height: int, width: int
) -> None:
    c = coefficients(subsampling, height, width, orientation)
    if subsampling == "4:1:1" and orientation >= 5:
        with pytest.raises(UnsupportedJPEG, match=f"4:1:1 of orientation {orientation}"):
            upright(c)
        return
    got = upright(c)
    assert got.orientation == 1
    assert got.y.shape == (-(-got.height // 8), -(-got.width // 8), 64)
    want = planes(c).reshape(len(c.tables), -1)[:, turned(c)]
    # What is cut off a mirrored axis comes first.
    top, left = want.shape[1] - got.height, want.shape[2] - got.width
    fy, fx = SAMPLINGS[got.subsampling]
    mirrored_y, mirrored_x = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    assert top == (want.shape[1] % (8 * fy) if mirrored_y else 0)
    assert left == (want.shape[2] % (8 * fx) if mirrored_x else 0)
    np.testing.assert_allclose(planes(got), want[:, top:, left:], atol=1e-9)
    # The operator takes it: shapes of chroma are right, the last dimension has no gaps.
    x = gather(got, dtype=torch.float32)
    assert x.shape == (192, *got.y.shape[:2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_upright_of_files_is_what_pillow_decodes(orientation: int, subsampling: str) -> None:
    from freqops.jpeg import read_coefficients

    picture = smooth(48, 80)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=subsampling, exif=exif)
    c = read_coefficients(file.getvalue())
    assert c.orientation == orientation
    decoded = Image.open(file)
    decoded.draft("YCbCr", decoded.size)
    luma = torch.from_numpy(np.array(ImageOps.exif_transpose(decoded))[..., 0].copy())
    # Of gray RGB block_dct's Y is the gray itself.
    want = reference.block_dct(luma.expand(3, -1, -1), list(range(64)), dtype=torch.float64)
    got = gather(upright(c), list(range(64)))
    # The decoder's rounding, at most 1/2 and 0.29 RMS in each pixel, within its 64-term sums.
    assert (got - want).abs().max() < 1.5


def smooth(height: int, width: int) -> Image.Image:
    """A coloured picture without a symmetry, whose pixels stay away from 0 and 255."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + k + y / 23) * np.cos(y / 7 - k * x / 31) + x / 200 for k in range(3)]
    return Image.fromarray(np.rint(120 + 80 * np.stack(waves, -1)).astype(np.uint8))


def test_mirrored_extremes_saturate() -> None:
    c = coefficients("gray", 8, 16, 2)
    c.y[0, 0, 1] = -32768
    got = upright(c)
    assert got.y[0, 1, 1] == 32767
    assert c.y[0, 0, 1] == -32768  # not in place


def test_an_upright_picture_is_given_back() -> None:
    c = coefficients("4:2:0", 20, 20)
    assert upright(c) is c


@pytest.mark.parametrize(
    ("height", "width", "orientation", "unit"),
    [(20, 15, 2, 16), (15, 20, 4, 16), (15, 20, 8, None)],
)
def test_an_axis_shorter_than_a_block_of_chroma_cannot_be_mirrored(
    height: int, width: int, orientation: int, unit: int | None
) -> None:
    c = coefficients("4:2:0", height, width, orientation)
    if unit is None:  # upright it is 20 x 15, and its 20 rows are mirrored
        assert (upright(c).height, upright(c).width) == (16, 15)
        return
    with pytest.raises(UnsupportedJPEG, match=f"has no whole block of {unit} pixels to mirror"):
        upright(c)


@pytest.mark.parametrize("scale", [8, 5, 16, (3, 9), ((13, 4), 2)])
def test_gather_covers_the_picture_and_not_the_padding(scale: object) -> None:
    """At 5/8, 33 pixels become 21, 3 blocks; the padded grid's 40 become 25, 4 blocks."""
    c = coefficients("4:2:0", 33, 50)
    down, across = scale if isinstance(scale, tuple) else (scale, scale)
    rows, columns = c.height, c.width
    for k in down if isinstance(down, tuple) else (down,):
        rows = math.ceil(rows * k / 8)
    for k in across if isinstance(across, tuple) else (across,):
        columns = math.ceil(columns * k / 8)
    got = gather(c, [0, 9, 64, 130], scale=scale)  # type: ignore[arg-type]
    whole = jpeg_gather(
        c.y,
        c.cb,
        c.cr,
        c.tables,
        [0, 9, 64, 130],
        subsampling="4:2:0",
        scale=scale,  # type: ignore[arg-type]
    )
    want = whole[:, : math.ceil(rows / 8), : math.ceil(columns / 8)]
    torch.testing.assert_close(got, want, atol=0, rtol=0)
    if scale == 5:
        assert got.shape[1:] == (3, 4)
        assert whole.shape[1:] == (4, 5)


def test_gather_passes_everything_on() -> None:
    c = coefficients("4:4:4", 32, 40)
    mean, std = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    arguments = {"scale": (8, 4), "crop": (1, 0, 2, 3), "flip": True, "dtype": torch.bfloat16}
    got = gather(c, [3, 70], mean=mean, std=std, **arguments)  # type: ignore[arg-type]
    want = jpeg_gather(
        c.y,
        c.cb,
        c.cr,
        c.tables,
        [3, 70],
        subsampling="4:4:4",
        mean=mean,
        std=std,
        **arguments,  # type: ignore[arg-type]
    )
    assert torch.equal(got, want)
    values = [p * t for p, t in zip((c.y, c.cb, c.cr), c.tables, strict=True)]
    y, cb, cr = (v.short() for v in values)  # type: ignore[union-attr]
    done = dataclasses.replace(c, y=y, cb=cb, cr=cr, quantized=False)
    assert torch.equal(gather(done, [3, 70], mean=mean, std=std, **arguments), want)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale must be an integer in"):
        gather(c, scale=17)
    with pytest.raises(TypeError, match="scale"):
        gather(c, scale="half")  # type: ignore[arg-type]


def every_scale() -> list[tuple[float, tuple[int, ...]]]:
    """Each product of one or two scales, with its steps."""
    ones = [(k / 8, (k,)) for k in range(1, 17)]
    return ones + [(a * b / 64, (a, b)) for a in range(1, 17) for b in range(1, a + 1)]


def test_nearest_scale_is_the_nearest() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        ratio = math.exp(draw.uniform(math.log(1 / 100), math.log(6)))
        steps = nearest_scale(ratio)
        error = abs(math.prod(steps) / 8 ** len(steps) - ratio)
        one = min(abs(k / 8 - ratio) for k in range(1, 17))
        best = min(abs(product - ratio) for product, _ in every_scale())
        if one <= ratio / 16 or one == best:
            assert len(steps) == 1
            assert error == one
        else:
            assert len(steps) == 2
            assert error == best
            assert steps[0] >= steps[1]
    assert [nearest_scale(r) for r in (1e-9, 1 / 64, 1.0, 4.0, 1e9)] == [
        (1, 1),
        (1, 1),
        (8,),
        (16, 16),
        (16, 16),
    ]


@pytest.mark.parametrize("ratio", [0, -1.0, math.nan, math.inf])
def test_nearest_scale_of_no_ratio(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio must be finite and greater than 0"):
        nearest_scale(ratio)


@pytest.mark.parametrize(
    ("resize", "crop"), [(512, 448), (1024, 896), (256, 224), (64, 64), (50, 33)]
)
def test_place_covers_the_crop_from_the_middle(resize: int, crop: int) -> None:
    draw = random.Random(resize)
    side = math.ceil(crop / 8)
    for _ in range(300):
        height, width = draw.randint(resize // 3, 6 * resize), draw.randint(resize // 3, 6 * resize)
        p = place_middle(height, width, resize, crop)
        assert p.scale_y == p.scale_x
        assert not p.flip
        ratio, scale = resize / min(height, width), math.prod(p.scale_y) / 8 ** len(p.scale_y)
        grid = [blocks_after(n, p.scale_y) for n in (height, width)]
        assert (p.rows, p.columns) == (side, side)
        assert p.top + side <= grid[0] and p.left + side <= grid[1]
        nearest = nearest_scale(ratio)
        if blocks_after(min(height, width), nearest) >= side:
            assert p.scale_y == nearest
        else:  # the nearest of those that cover it
            assert scale > math.prod(nearest) / 8 ** len(nearest)
        assert abs(scale / ratio - 1) < 0.08
        for first, n in ((p.top, height), (p.left, width)):
            middle = 8 * first + 4 * side
            # Half a block, and what the last, incomplete one lacks.
            assert abs(middle - size_after(n, p.scale_y) / 2) <= 4 + 4


def test_place_without_a_resize_or_a_crop() -> None:
    assert place_middle(33, 50, None, None) == ((8,), (8,), 0, 0, 5, 7, False)
    assert place_middle(64, 80, None, 32) == ((8,), (8,), 2, 3, 4, 4, False)
    assert place_middle(30, 60, 60, None) == ((16,), (16,), 0, 0, 8, 15, False)
    assert place_middle(40, 40, None, 37) == ((8,), (8,), 0, 0, 5, 5, False)


def test_place_refuses_what_does_not_fit() -> None:
    with pytest.raises(
        ValueError, match="a crop of 41 must fit into the picture, which is 40 x 56"
    ):
        place_middle(40, 56, None, 41)
    with pytest.raises(
        ValueError, match="a crop of 48 must fit into the picture, which is 60 x 40"
    ):
        place_middle(30, 20, 40, 48)
    for resize, crop in ((512, 448), (512, None)):
        with pytest.raises(UnsupportedJPEG, match="scaled 4 times at most"):
            place_middle(100, 90, resize, crop)
    assert place_middle(120, 112, 512, 448).scale_y == (16, 16)


@pytest.mark.parametrize("seed", range(40))
def test_draw_box_is_torchvisions(seed: int) -> None:
    try:
        from torchvision.transforms import RandomResizedCrop
        from torchvision.transforms.v2 import RandomHorizontalFlip
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    draw = random.Random(seed)
    # Narrow ones fall back to the part from the middle.
    height = draw.randint(1, 600)
    width = draw.randint(1, 600) if seed % 3 else max(height // 20, 1)
    picture = torch.arange(2.0).expand(3, height, 2)
    torch.manual_seed(seed)
    want = RandomResizedCrop.get_params(torch.empty(3, height, width), [0.08, 1.0], [3 / 4, 4 / 3])
    flipped = RandomHorizontalFlip(0.5)(picture)[0, 0, 0].item() == 1
    torch.manual_seed(seed)
    assert draw_box(height, width) == tuple(want)
    assert draw_flip() == flipped


def test_place_box_is_near_the_box() -> None:
    torch.manual_seed(0)
    draw = random.Random(1)
    for _ in range(500):
        height, width = draw.randint(150, 2000), draw.randint(150, 2000)
        box = draw_box(height, width)
        p = place_box(height, width, box, 56, True)
        assert p.flip
        for steps, first, n, start, length in (
            (p.scale_y, p.top, height, box.top, box.height),
            (p.scale_x, p.left, width, box.left, box.width),
        ):
            grid = blocks_after(n, steps)
            assert 0 <= first <= grid - 56
            nearest = nearest_scale(448 / length)
            scale = math.prod(steps) / 8 ** len(steps)
            if blocks_after(n, nearest) >= 56:
                assert steps == nearest
            else:
                assert scale > math.prod(nearest) / 8 ** len(nearest)
            # No other window on the grid has its middle nearer to the box's.
            off = abs(8 * first + 224 - (start + length / 2) * scale)
            assert off <= 4 or first in (0, grid - 56)


def test_equally_near_windows_are_drawn_alike() -> None:
    """A box of 64 pixels from 4 on stands midway between two windows of 8 blocks."""
    torch.manual_seed(0)
    box = Box(4, 0, 64, 64)
    counts = Counter(place_box(80, 80, box, 8, False).top for _ in range(400))
    assert set(counts) == {0, 1}
    assert 150 < counts[0] < 250
    assert {place_box(80, 80, Box(5, 0, 64, 64), 8, False).top for _ in range(20)} == {1}


def test_place_box_of_a_picture_that_is_too_small() -> None:
    with pytest.raises(UnsupportedJPEG, match="of 100 x 300 cannot become 56 x 56 blocks"):
        place_box(100, 300, Box(0, 0, 100, 100), 56, False)
