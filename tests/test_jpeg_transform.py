"""JPEGTransform: pixels go the way of coefficients, training draws, sizes, errors."""

from __future__ import annotations

import math
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from jpeg_pictures import Image, decoded, jpeg, smooth
from torch import Tensor

from freqops import block_dct
from freqops._jpeg_geometry import place_middle
from freqops._jpeg_picture import gather, upright
from freqops.channels import ChannelSelection
from freqops.data import JPEGFolder, JPEGTransform
from freqops.jpeg import UnsupportedJPEG, read_coefficients
from freqops.statistics import ChannelStatistics


def check(error: Tensor, subsampling: str) -> None:
    """Measured at most 0.44 RMS for luma, and for chroma 0.42, 1.48 and 1.79: signals are of 32 and
    25. It is the decoder's rounding, bicubic weights against those of the DCT, and the decoder's
    smoothing of chroma, which has none here."""
    assert error[:64].square().mean().sqrt() < 0.5
    limit = {"4:4:4": 0.5, "4:2:2": 1.7, "4:2:0": 2.0}[subsampling]
    assert error[64:].square().mean().sqrt() < limit


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("preprocess", [None, (64, 48), (None, 40), (150, None), (97, 96)])
@pytest.mark.parametrize("size", [(90, 120), (121, 75), (100, 100)])
def test_pixels_go_the_same_way(
    subsampling: str,
    preprocess: tuple[int | None, int | None] | None,
    size: tuple[int, int],
) -> None:
    data = jpeg(smooth(*size), subsampling)
    transform = JPEGTransform(192, preprocess=preprocess)
    got, want = transform(read_coefficients(data)), transform(decoded(data))
    assert got.shape == want.shape
    check(got - want, subsampling)


def test_pixels_of_detail_are_scaled_as_coefficients_are() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    picture = jpeg(Image.fromarray(data.astronaut()))
    transform = JPEGTransform(list(range(64)), preprocess=(128, None))  # 2/8
    error = transform(read_coefficients(picture)) - transform(decoded(picture))
    # Measured 2.9, of 73; without antialiasing it is 10, bilinear 5.
    assert error.square().mean().sqrt() < 3.5


@pytest.mark.parametrize("short", [24, 37, 50, 61])
def test_pixels_make_as_many_blocks(short: int) -> None:
    """Where rounding the size up begins another block too."""
    transform = JPEGTransform([0], preprocess=(short, None))
    for size in range(16, 100):
        at = place_middle(size, size + 3, short, None)
        pixels = torch.zeros(3, size, size + 3, dtype=torch.uint8)
        assert transform(pixels).shape == (1, at.rows, at.columns)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_pixels_are_drawn_alike_in_training(subsampling: str) -> None:
    transform = JPEGTransform(192, preprocess=(None, 64), train=True)
    draw = random.Random(0)
    pictures = set()
    for seed in range(60):
        data = jpeg(smooth(draw.randint(64, 200), draw.randint(64, 200), seed), subsampling)
        torch.manual_seed(seed)
        got = transform(read_coefficients(data))
        torch.manual_seed(seed)
        want = transform(decoded(data))
        assert got.shape == want.shape == (192, 8, 8)
        check(got - want, subsampling)
        pictures.add(got[0].sum().item())
    assert len(pictures) == 60


def test_training_flips_half_of_them() -> None:
    """A ramp from left to right: the sign of the first horizontal frequency says which."""
    ramp = np.broadcast_to(np.linspace(20, 230, 128)[None, :, None], (128, 128, 3))
    picture = read_coefficients(jpeg(Image.fromarray(np.rint(ramp).astype("uint8"))))
    transform = JPEGTransform([1], preprocess=(None, 32), train=True)
    torch.manual_seed(0)
    flipped = sum(bool(transform(picture).mean() > 0) for _ in range(400))
    assert 160 < flipped < 240


def test_evaluation_is_gather_at_the_place() -> None:
    statistics = ChannelStatistics(mean=list(range(192)), std=[2.0] * 192)
    selection = ChannelSelection([5, 70, 0])
    c = read_coefficients(jpeg(smooth(90, 120), "4:2:0", 6))
    transform = JPEGTransform(selection, statistics, (64, 48), dtype=torch.float16)
    up = upright(c)
    assert (up.height, up.width) == (120, 80)  # whole blocks of chroma of 120 x 90
    at = place_middle(up.height, up.width, 64, 48)
    want = gather(
        up,
        selection,
        mean=statistics.mean.float(),
        std=statistics.std.float(),
        scale=(at.scale_y, at.scale_x),
        crop=(at.top, at.left, 6, 6),
        dtype=torch.float16,
    )
    assert torch.equal(transform(c), want)


def test_a_crop_that_only_the_pixels_have_once_upright(tmp_path: Path) -> None:
    """Mirrored, 4:2:0 keeps whole 16 pixels across: of 92 x 75 those of 92 x 64."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.jpg").write_bytes(jpeg(smooth(92, 75), "4:2:0", 2))
    transform = JPEGTransform(24, preprocess=(None, 70))
    folder = JPEGFolder(tmp_path, transform)
    with pytest.raises(UnsupportedJPEG, match="92 x 64 when whole blocks of it are turned up"):
        transform(read_coefficients(folder.samples[0][0]))
    assert folder[0][0].shape == (24, 9, 9)
    assert folder.decoded == 1
    with pytest.raises(ValueError, match=r"a crop of 76 must fit .* 92 x 75$"):
        JPEGFolder(tmp_path, JPEGTransform(24, preprocess=(None, 76)))[0]


def test_names_are_the_papers_sizes() -> None:
    c = read_coefficients(jpeg(smooth(375, 500)))
    assert JPEGTransform(24, preprocess="resnet50")(c).shape == (24, 56, 56)
    assert JPEGTransform(6, preprocess="mobilenet_v2")(c).shape == (6, 112, 112)
    assert JPEGTransform(6, preprocess="resnet50", train=True)(c).shape == (6, 56, 56)


@pytest.mark.parametrize("train", [False, True])
def test_pictures_too_small_for_eighths(train: bool) -> None:
    data = jpeg(smooth(20, 17))
    transform = JPEGTransform(24, preprocess=(96, 88), train=train)
    with pytest.raises(UnsupportedJPEG, match="scaled 4 times at most"):
        transform(read_coefficients(data))
    out = transform(decoded(data))
    assert out.shape == (24, 11, 11)
    assert abs(out[0].mean() / 8 + 128 - decoded(data).float().mean()) < 40


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 3001)])
def test_strips_do_not_fill_the_memory(size: tuple[int, int]) -> None:
    """Resized whole, a strip of one pixel would have 9 GB: only its middle is looked at."""
    pixels = torch.zeros(3, *size, dtype=torch.uint8)
    pixels[:, size[0] // 2, size[1] // 2] = 255
    pixels[:, :2, :2] = 128  # an end
    out = JPEGTransform([0], preprocess="resnet50")(pixels)
    assert out.shape == (1, 56, 56)
    assert out.max() > 500  # the middle
    assert out.min() < -800  # its black neighbours, not the end


def test_it_survives_pickling() -> None:
    transform = JPEGTransform(24, ChannelStatistics.photographs(), "resnet50", train=True)
    copied = pickle.loads(pickle.dumps(transform))
    assert repr(copied) == repr(transform)
    assert "resize=512, crop=448, train=True, dtype=torch.float32" in repr(copied)
    assert copied.channels == transform.channels
    assert torch.equal(copied.mean, transform.mean)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 0}, ValueError, "channels must lie in"),
        ({"channels": "many"}, TypeError, ""),
        ({"statistics": [0.0]}, TypeError, "statistics must be a ChannelStatistics or None"),
        ({"preprocess": "vgg"}, ValueError, "preprocess must be 'resnet50', 'mobilenet_v2', a"),
        ({"preprocess": 448}, TypeError, "a pair .resize, crop. or None, got 448"),
        ({"preprocess": (0, 8)}, ValueError, "resize must be at least 1, got 0"),
        (
            {"preprocess": (8, 1.5)},
            TypeError,
            "crop must be an integer or None, got 1.5 in preprocess=.8, 1.5.",
        ),
        ({"preprocess": (224, 256)}, ValueError, "crop 256 must not be .* short side 224$"),
        ({"train": 1}, TypeError, "train must be True or False"),
        ({"train": True}, ValueError, "preprocess must have a crop with train=True, got none"),
        ({"dtype": torch.float64}, ValueError, "dtype must be one of float32, float16"),
    ],
)
def test_wrong_arguments(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^JPEGTransform: .*{message}"):
        JPEGTransform(**arguments)  # type: ignore[arg-type]


def test_training_draws_what_the_short_side_does_not_decide() -> None:
    assert JPEGTransform(24, preprocess=(224, 256), train=True).crop == 256


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (None, "None"),
        (b"", "a bytes"),
        (torch.zeros(3, 8, 8), "a float32 tensor [3, 8, 8]"),
        (torch.zeros(8, 8).byte(), "a uint8 tensor [8, 8]"),
    ],
)
def test_wrong_pictures(wrong: object, got: str) -> None:
    want = f"picture must be JPEGCoefficients or a uint8 tensor [3, H, W], got {got}"
    with pytest.raises(TypeError, match=f"{re.escape(want)}$"):
        JPEGTransform()(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("train", [False, True])
def test_pictures_without_pixels(train: bool) -> None:
    transform = JPEGTransform(24, preprocess=(None, 8), train=train)
    with pytest.raises(ValueError, match=r"at least 1, got a uint8 tensor \[3, 0, 10\]"):
        transform(torch.zeros(3, 0, 10, dtype=torch.uint8))


def test_the_whole_picture_is_block_dct_of_the_decoded_one() -> None:
    """No scale, 4:4:4: nothing but the decoder's rounding between them."""
    data = jpeg(smooth(61, 83))
    want = block_dct(decoded(data))
    got = JPEGTransform(None)(read_coefficients(data))
    assert got.shape == (192, math.ceil(61 / 8), math.ceil(83 / 8))
    # Incomplete blocks hold the encoder's padding, and block_dct's own.
    assert (got - want)[:, :7, :10].abs().max() < 4
