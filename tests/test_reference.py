"""The definition itself, against formulas written out with NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from freqops import reference

# torch's own forward-mode machinery calls its own deprecated function.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated")

CHROMA = ["4:4:4", "4:2:0", "dctnet"]


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


def planes_by_hand(image: np.ndarray) -> np.ndarray:
    """[3, H, W] bytes -> Y, Cb, Cr, each less 128, with the constants that JFIF prints."""
    r, g, b = image.astype(np.float64)
    y = 0.299 * r + 0.587 * g + 0.114 * b - 128
    cb = -0.168735892 * r - 0.331264108 * g + 0.5 * b
    cr = 0.5 * r - 0.418687589 * g - 0.081312411 * b
    return np.stack([y, cb, cr])


def smoothed_by_hand(plane: np.ndarray, chroma: str) -> np.ndarray:
    if chroma == "4:2:0":
        means = plane.reshape(plane.shape[0] // 2, 2, -1, 2).mean((1, 3))
        return means.repeat(2, 0).repeat(2, 1)
    for axis in (0, 1) if chroma == "dctnet" else ():
        plane = np.apply_along_axis(
            lambda line: np.convolve(np.pad(line, 1, "edge"), [1 / 8, 6 / 8, 1 / 8], "valid"),
            axis,
            plane,
        )
    return plane


def coefficients_by_hand(planes: np.ndarray) -> np.ndarray:
    """[3, H, W] -> [192, H/8, W/8], by the double sum of T.81, A.3.3."""
    _, height, width = planes.shape
    out = np.zeros((192, height // 8, width // 8))
    for channel in range(192):
        k, v, u = channel // 64, channel % 64 // 8, channel % 8
        scale = (math.sqrt(0.5) if v == 0 else 1) * (math.sqrt(0.5) if u == 0 else 1) / 4
        basis = [
            [
                scale
                * math.cos((2 * y + 1) * v * math.pi / 16)
                * math.cos((2 * x + 1) * u * math.pi / 16)
                for x in range(8)
            ]
            for y in range(8)
        ]
        blocks = planes[k].reshape(height // 8, 8, width // 8, 8)
        out[channel] = np.einsum("aybx,yx->ab", blocks, np.array(basis))
    return out


def by_hand(image: np.ndarray, chroma: str, rounding: str) -> np.ndarray:
    height, width = image.shape[1:]
    image = np.pad(image, ((0, 0), (0, -height % 8), (0, -width % 8)), "edge")
    planes = planes_by_hand(image)
    jpeg = rounding == "jpeg"
    planes = planes.round() if jpeg else planes
    for k in (1, 2):
        planes[k] = smoothed_by_hand(planes[k], chroma)
        planes[k] = planes[k].round() if jpeg else planes[k]
    out = coefficients_by_hand(planes)
    return out.round() if jpeg else out


@pytest.mark.parametrize("size", [(8, 8), (13, 18), (1, 1)])
@pytest.mark.parametrize("rounding", ["none", "jpeg"])
@pytest.mark.parametrize("chroma", CHROMA)
def test_block_dct(chroma: str, rounding: str, size: tuple[int, int]) -> None:
    images = picture(*size)
    want = np.stack([by_hand(image, chroma, rounding) for image in images.numpy()])
    got = reference.block_dct(images, chroma=chroma, rounding=rounding, dtype=torch.float64)
    error = np.abs(got.numpy() - want)
    if rounding == "none":
        assert error.max() < 1e-4  # JFIF prints its constants with nine digits
    else:  # a sum that ends in a half may fall either way
        assert error.max() <= 1
        assert (error == 0).mean() > 0.98


def test_dctnet_is_what_the_papers_pipeline_does() -> None:
    """Chroma upscaled twofold bilinearly, then halved by 2x2 means."""
    images = picture(16, 24).double() / 255
    twice = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    want = reference.block_dct(torch.nn.functional.avg_pool2d(twice, 2))[:, 64:]
    got = reference.block_dct(images, chroma="dctnet")[:, 64:]
    torch.testing.assert_close(got, want)


def test_planes_of_jpeg_rounding_are_libjpegs() -> None:
    """A picture of one colour: DC = 8 plane, with libjpeg's integers (jccolor.c)."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 256, (4096, 3, 1, 1), dtype=torch.uint8, generator=generator)
    r, g, b = colours.long().flatten(1).unbind(1)
    half = 1 << 15
    y = (19595 * r + 38470 * g + 7471 * b + half) >> 16
    # jccolor.c adds half - 1 here, so that no plane reaches 256.
    cb = (-11058 * r - 21710 * g + 32768 * b + half - 1) >> 16
    cr = (32768 * r - 27439 * g - 5329 * b + half - 1) >> 16
    got = reference.block_dct(colours, [0, 64, 128], rounding="jpeg").flatten(1) / 8
    torch.testing.assert_close(got[:, 0], (y - 128).float(), rtol=0, atol=0)
    for mine, theirs in ((got[:, 1], cb), (got[:, 2], cr)):
        ties = (mine - theirs).abs() > 0  # half to even, against libjpeg's half down
        assert ties.float().mean() < 0.01
        assert (mine - theirs).abs().max() <= 1


def test_it_is_exact_in_float32_too() -> None:
    images = picture(16, 24)
    for chroma in CHROMA:
        exact = reference.block_dct(images, chroma=chroma, dtype=torch.float64)
        got = reference.block_dct(images, chroma=chroma)
        assert (got - exact).abs().max() < 1e-3


@pytest.mark.parametrize("count", [192, 4])
def test_statistics(count: int) -> None:
    images, channels = picture(8, 16), [0, 70, 9, 70]
    mean, std = torch.arange(count, dtype=torch.float64), torch.arange(count) + 0.5
    raw = reference.block_dct(images, dtype=torch.float64)
    got = reference.block_dct(images, channels, mean=mean, std=std, dtype=torch.float64)
    for i, channel in enumerate(channels):
        k = channel if count == 192 else i
        torch.testing.assert_close(got[:, i], (raw[:, channel] - k) / (k + 0.5))


def test_block_idct_inverts() -> None:
    images = picture(13, 18)
    std, mean = torch.rand(192) + 0.5, torch.randn(192)
    coefficients = reference.block_dct(images, mean=mean, std=std)
    options = {"mean": mean, "std": std, "size": (13, 18)}
    assert torch.equal(reference.block_idct(coefficients, **options), images)
    floats = reference.block_idct(coefficients, dtype=torch.float32, **options)
    torch.testing.assert_close(floats, images / 255, atol=1e-5, rtol=0)


def test_block_idct_of_some_channels() -> None:
    """Absent channels: their mean where it is known, else zero."""
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(1, 3, 1, 1, dtype=torch.float64, generator=generator)
    channels, mean = [0, 65, 9], torch.randn(192, dtype=torch.float64, generator=generator)
    for statistics, absent in ((mean, mean.clone()), (mean[:3], torch.zeros(192).double())):
        full = absent.view(1, -1, 1, 1)
        mine = statistics[channels] if len(statistics) == 192 else statistics
        full[:, channels] = coefficients + mine.view(1, -1, 1, 1)
        want = reference.block_idct(full, dtype=torch.float64)
        got = reference.block_idct(coefficients, channels, mean=statistics, dtype=torch.float64)
        torch.testing.assert_close(got, want)


def test_block_idct_rounds_half_to_even_and_clamps() -> None:
    dc = torch.tensor([4.0, 12.0, 2000.0, -2000.0, float("nan")]).view(-1, 1, 1, 1)
    got = reference.block_idct(dc, [0])[:, 0, 0, 0]
    assert got.tolist() == [128, 130, 255, 0, 0]  # 128.5, 129.5


@pytest.mark.parametrize("size", [(8, 8), (13, 18), (1, 1)])
@pytest.mark.parametrize("chroma", CHROMA)
def test_adjoints(chroma: str, size: tuple[int, int]) -> None:
    """The transposes, against what autograd makes of the definitions."""
    channels = [0, 70, 130, 9]
    std = torch.rand(192, dtype=torch.float64) + 0.5
    images = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    out = reference.block_dct(images, channels, std=std, chroma=chroma)
    grad = torch.randn_like(out)
    got = reference.block_dct_backward(grad, channels, std, chroma, *size, torch.float64)
    torch.testing.assert_close(got, torch.autograd.grad(out, images, grad)[0])

    coefficients = torch.rand_like(grad).requires_grad_()
    out = reference.block_idct(coefficients, channels, std=std, size=size, dtype=torch.float64)
    grad = torch.randn_like(out)
    got = reference.block_idct_backward(grad, channels, std, torch.float64)
    torch.testing.assert_close(got, torch.autograd.grad(out, coefficients, grad)[0])


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("rounding", ["none", "jpeg"])
def test_linear_is_the_derivative(chroma: str, rounding: str) -> None:
    images, tangent = torch.rand(2, 1, 3, 9, 9, dtype=torch.float64).unbind()
    std = torch.rand(192, dtype=torch.float64) + 0.5
    mean = torch.rand(192, dtype=torch.float64)
    options = {"mean": mean, "std": std, "chroma": chroma, "rounding": rounding}
    _, want = torch.func.jvp(lambda x: reference.block_dct(x, **options), (images,), (tangent,))
    got = reference.block_dct_operator(
        tangent, range(192), mean, std, chroma, rounding, torch.float64, linear=True
    )
    torch.testing.assert_close(got, want)


def test_autocast_does_not_touch_the_arithmetic() -> None:
    images = picture(8, 8)
    want = reference.block_dct(images, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(reference.block_dct(images, dtype=torch.float32), want)
        assert torch.equal(reference.block_dct(images), want.bfloat16())
        assert torch.equal(reference.block_idct(want), reference.block_idct(want.double()))
