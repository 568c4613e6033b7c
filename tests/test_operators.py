"""The four operators on every backend, against the float64 reference."""

from __future__ import annotations

import math

import pytest
import torch
from support import (
    CHANNELS,
    CHROMA,
    FLOATING,
    LAYOUTS,
    STORED,
    Backend,
    assert_near,
    exact,
    generator,
    pictures,
    selection,
    statistics,
)
from torch import Tensor

from freqops import reference

# Blocks per row that no vector width divides, so that tiles cross the ends of block rows; pictures
# of one block, and smaller; edges that are replicated.
SIZES = [(1, 1), (8, 8), (7, 9), (16, 24), (3, 130), (50, 1), (24, 136), (33, 150)]


def on(backend: Backend, x: Tensor) -> Tensor:
    """x on the backend's device; there already, it keeps its strides."""
    return x if backend.device == "cpu" else x.to(backend.device)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator(3)).to(dtype)


# --- block_dct ------------------------------------------------------------------------------------


def check_forward(
    backend: Backend,
    images: Tensor,
    channels: list[int],
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    linear: bool = False,
) -> None:
    got = backend.ops.block_dct(
        on(backend, images),
        channels,
        None if mean is None else on(backend, mean),
        None if std is None else on(backend, std),
        chroma,
        "none",
        dtype,
        channels_last,
        linear,
    )
    want = reference.block_dct_operator(
        exact(images), channels, mean, std, chroma, "none", torch.float64, False, linear
    )
    assert_near(got, want, dtype)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert got.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_sizes(backend: Backend, size: tuple[int, int], chroma: str) -> None:
    check_forward(
        backend, pictures((2, 3, *size)), list(range(CHANNELS)), *statistics(CHANNELS), chroma
    )


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("stored", STORED, ids=str)
def test_forward_dtypes(backend: Backend, stored: torch.dtype, dtype: torch.dtype) -> None:
    for chroma in CHROMA:
        images = pictures((2, 3, 20, 43), stored)
        check_forward(backend, images, selection(40), *statistics(40), chroma, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32, torch.float16], ids=str)
def test_forward_layouts(backend: Backend, stored: torch.dtype, layout: str) -> None:
    for chroma in CHROMA:
        images = pictures((2, 3, 19, 139), stored, layout)
        check_forward(backend, images, selection(30), chroma=chroma)


@pytest.mark.parametrize(
    "channels",
    [
        [0],
        [63],
        [191],
        [5, 5, 5],
        [130, 7, 64, 7, 0],
        list(range(64, 128)),
        [*range(0, 192, 3), 0, 3],
        [7] * 192,
        list(range(191, -1, -1)),
    ],
    ids=lambda c: f"{len(c)}-{c[0]}",
)
def test_forward_selections(backend: Backend, channels: list[int]) -> None:
    check_forward(backend, pictures((1, 3, 24, 40)), channels, *statistics(len(channels)))


@pytest.mark.parametrize("v", range(8))
def test_forward_each_extent(backend: Backend, v: int) -> None:
    """Kernels leave out what no chosen channel needs: any last row and column of coefficients."""
    for u in range(8):
        channels = [8 * v + u, 128 + 8 * u + v]
        check_forward(backend, pictures((1, 3, 8, 24)), channels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("count", [12, CHANNELS])
def test_forward_statistics(backend: Backend, count: int, dtype: torch.dtype) -> None:
    """[C] by position, [192] by channel number; float64 ones serve float32 results too."""
    mean, std = statistics(count, dtype)
    images, channels = pictures((1, 3, 16, 16)), selection(12)
    for given in [(mean, std), (mean, None), (None, std), (mean, std[: len(channels)])]:
        check_forward(backend, images, channels, *given)
    strided = torch.stack([mean, std], 1)
    check_forward(backend, images, channels, strided[:, 0], strided[:, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("count", [1, 5, 16, 33, 64, 100, CHANNELS])
def test_forward_channels_last(backend: Backend, count: int, dtype: torch.dtype) -> None:
    images = pictures((2, 3, 24, 56))
    check_forward(backend, images, selection(count), dtype=dtype, channels_last=True)


@pytest.mark.parametrize("stored", [torch.uint8, torch.float32], ids=str)
def test_forward_linear(backend: Backend, stored: torch.dtype) -> None:
    """No level shift, no mean; rounding is ignored."""
    images, channels = pictures((1, 3, 16, 30), stored), [0, *selection(50)]
    check_forward(backend, images, channels, *statistics(51), "dctnet", linear=True)
    rounded, plain = (
        backend.ops.block_dct(
            on(backend, images), channels, None, None, "4:2:0", mode, torch.float32, False, True
        )
        for mode in ("jpeg", "none")
    )
    assert torch.equal(rounded, plain)


JPEG_MATRIX = [[19595, 38470, 7471], [-11058, -21710, 32768], [32768, -27439, -5329]]


def rounded_planes(images: Tensor, chroma: str) -> Tensor:
    """[N, 3, H, W], multiples of 8, uint8 -> the integers that a JPEG encoder transforms."""
    matrix = torch.tensor(JPEG_MATRIX, dtype=torch.float64) / 65536
    planes = torch.einsum("kj,njyx->nkyx", matrix, images.double())
    planes = (planes - torch.tensor([128.0, 0, 0]).view(3, 1, 1)).round()
    if chroma == "4:2:0":
        means = torch.nn.functional.avg_pool2d(planes[:, 1:], 2).round()
        planes[:, 1:] = means.repeat_interleave(2, 2).repeat_interleave(2, 3)
    elif chroma == "dctnet":
        kernel = torch.tensor([1.0, 6, 1], dtype=torch.float64) / 8
        weight = torch.outer(kernel, kernel).expand(2, 1, 3, 3)
        framed = torch.nn.functional.pad(planes[:, 1:], (1, 1, 1, 1), mode="replicate")
        planes[:, 1:] = torch.nn.functional.conv2d(framed, weight, groups=2).round()
    return planes


def dct(planes: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, 192, H / 8, W / 8] by the definition."""
    i = torch.arange(8, dtype=torch.float64)
    d = torch.cos((2 * i + 1) * i.view(-1, 1) * math.pi / 16) / 2
    d[0] = math.sqrt(1 / 8)
    n, _, height, width = planes.shape
    blocks = planes.view(n, 3, height // 8, 8, width // 8, 8)
    return torch.einsum("vy,nkaybx,ux->nkvuab", d, blocks, d).flatten(1, 3)


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_forward_jpeg_rounding(backend: Backend, stored: torch.dtype, chroma: str) -> None:
    """Integer coefficients of integer planes, exactly those of a JPEG encoder."""
    images = pictures((2, 3, 24, 136))
    given = images if stored == torch.uint8 else (images.to(stored) / 255)
    mean, std = statistics(CHANNELS)
    got = backend.ops.block_dct(
        on(backend, given),
        list(range(CHANNELS)),
        on(backend, mean),
        on(backend, std),
        chroma,
        "jpeg",
        torch.float32,
    )
    values = got.cpu().double() * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
    torch.testing.assert_close(values, values.round(), atol=1e-3, rtol=0)
    want = dct(rounded_planes(images, chroma))
    torch.testing.assert_close(values.round(), want, atol=0.5 + 1e-3, rtol=0)


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_forward_nonfinite_pixels_stay_in_their_block(
    backend: Backend, value: float, chroma: str
) -> None:
    """In dctnet chroma the blocks around see the pixels next to them, here the one at the right."""
    images = pictures((1, 3, 40, 152), torch.float32)
    images[0, 1, 20, 71] = value  # row 2, column 8 of the blocks, its last column of pixels
    out = backend.ops.block_dct(
        on(backend, images), list(range(CHANNELS)), None, None, chroma, "none", torch.float32
    )
    bad = ~out.cpu().isfinite()
    hit = torch.zeros(5, 19, dtype=torch.bool)
    hit[2, 8] = True
    assert torch.equal(bad[0, :64].any(0), hit)
    if chroma == "dctnet":
        hit[2, 9] = True
    assert torch.equal(bad[0, 64:].any(0), hit)


# --- block_dct_backward ---------------------------------------------------------------------------


def check_backward(
    backend: Backend,
    grad: Tensor,
    channels: list[int],
    size: tuple[int, int],
    std: Tensor | None = None,
    chroma: str = "4:4:4",
    dtype: torch.dtype = torch.float32,
) -> None:
    got = backend.ops.block_dct_backward(
        on(backend, grad), channels, None if std is None else on(backend, std), chroma, *size, dtype
    )
    want = reference.block_dct_backward(grad.double(), channels, std, chroma, *size, torch.float64)
    # A gradient is 255 times a sum of as many terms as there are channels and folded pixels.
    assert_near(got, want, dtype, unit=5)
    assert got.is_contiguous()


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_backward_sizes(backend: Backend, size: tuple[int, int], chroma: str) -> None:
    grid = [math.ceil(edge / 8) for edge in size]
    channels = [*selection(90), 3, 70, 70]
    grad = noise(2, len(channels), *grid)
    check_backward(backend, grad, channels, size, statistics(len(channels))[1], chroma)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("stored", FLOATING, ids=str)
def test_backward_dtypes(backend: Backend, stored: torch.dtype, dtype: torch.dtype) -> None:
    grad = noise(1, 20, 3, 6, dtype=stored)
    for chroma in CHROMA:
        check_backward(backend, grad, selection(20), (23, 41), None, chroma, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_backward_layouts(backend: Backend, layout: str) -> None:
    grad = LAYOUTS[layout](noise(2, 9, 3, 19))
    for chroma in CHROMA:
        check_backward(backend, grad, selection(9), (24, 150), statistics(CHANNELS)[1], chroma)


@pytest.mark.parametrize("v", range(8))
def test_backward_each_extent(backend: Backend, v: int) -> None:
    for u in range(8):
        channels = [8 * v + u, 64 + 8 * u + v]
        check_backward(backend, noise(1, 2, 1, 3), channels, (8, 24), None, "4:2:0")


@pytest.mark.parametrize("chroma", CHROMA)
def test_backward_nonfinite_gradients_stay_in_their_block(backend: Backend, chroma: str) -> None:
    """In dctnet chroma the blocks around may see them."""
    grad = noise(1, 192, 3, 19)
    grad[0, 80, 1, 4] = math.nan
    out = backend.ops.block_dct_backward(
        on(backend, grad), list(range(CHANNELS)), None, chroma, 24, 152, torch.float32
    )
    bad = out.cpu().isnan().any(1).view(3, 8, 19, 8).any(3).any(1)
    assert bad[1, 4]
    bad[:, 3:6] &= chroma != "dctnet"
    bad[1, 4] = False
    assert not bad.any()


# --- block_idct, block_idct_backward --------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("stored", FLOATING, ids=str)
def test_inverse_dtypes(backend: Backend, stored: torch.dtype, dtype: torch.dtype) -> None:
    coefficients = noise(2, 30, 3, 5, dtype=stored) * 20
    mean, std = statistics(30)
    channels = selection(30)
    got = backend.ops.block_idct(
        on(backend, coefficients), channels, on(backend, mean), on(backend, std), 22, 35, dtype
    )
    want = reference.block_idct_operator(
        coefficients.double(), channels, mean, std, 22, 35, torch.float64
    )
    assert_near(got, want, dtype, unit=1 / 255)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("count", [3, 70, CHANNELS])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inverse_sizes(backend: Backend, size: tuple[int, int], count: int, linear: bool) -> None:
    """Channels that are absent count as their mean where there are 192, else as zero."""
    channels = selection(count)
    coefficients = noise(2, count, *(math.ceil(edge / 8) for edge in size)) * 20
    for mean, std in [(None, None), statistics(count), statistics(CHANNELS)]:
        got = backend.ops.block_idct(
            on(backend, coefficients),
            channels,
            None if mean is None else on(backend, mean),
            None if std is None else on(backend, std),
            *size,
            torch.float32,
            linear,
        )
        want = reference.block_idct_operator(
            coefficients.double(), channels, mean, std, *size, torch.float64, linear
        )
        assert_near(got, want, torch.float32, unit=1 / 255)


def test_inverse_to_uint8(backend: Backend) -> None:
    """Rounded half to even and clamped; NaN becomes 0."""
    coefficients = noise(2, CHANNELS, 3, 19) * 100
    channels = list(range(CHANNELS))
    args = (None, None, 24, 150)
    got = backend.ops.block_idct(on(backend, coefficients), channels, *args, torch.uint8).cpu()
    exactly = reference.block_idct_operator(coefficients.double(), channels, *args, torch.float64)
    want = (exactly * 255).clamp(0, 255)
    assert got.dtype == torch.uint8
    torch.testing.assert_close(got.double(), want, atol=0.5 + 1e-3, rtol=0)
    assert (got == 0).any() and (got == 255).any()

    # Y = 8 (value - 128) alone: grey levels 0.5, 1.5, 2.5, and what cannot be held.
    levels = torch.tensor([0.5, 1.5, 2.5, 300, -5, math.inf, -math.inf, math.nan])
    grey = (8 * (levels - 128)).view(1, 1, 1, 8)
    got = backend.ops.block_idct(on(backend, grey), [0], None, None, 8, 64, torch.uint8).cpu()
    assert got[0, 0, 0, ::8].tolist() == [0, 2, 2, 255, 0, 255, 0, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("size", [(11, 37), (16, 24), (8, 8), (32, 152), (24, 160)], ids=str)
def test_inverse_crops_whole_blocks(
    backend: Backend, size: tuple[int, int], dtype: torch.dtype
) -> None:
    args = (on(backend, noise(3, 40, 4, 20) * 20), selection(40), None, None)
    whole = backend.ops.block_idct(*args, 32, 160, dtype)
    cut = backend.ops.block_idct(*args, *size, dtype)
    assert torch.equal(cut, whole[..., : size[0], : size[1]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inverse_layouts(backend: Backend, layout: str) -> None:
    coefficients = LAYOUTS[layout](noise(2, 9, 3, 19))
    channels = selection(9)
    args = (None, None, 24, 150)
    got = backend.ops.block_idct(on(backend, coefficients), channels, *args, torch.float32)
    want = reference.block_idct_operator(coefficients.double(), channels, *args, torch.float64)
    assert_near(got, want, torch.float32, unit=1 / 255)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("stored", FLOATING, ids=str)
def test_inverse_backward_dtypes(backend: Backend, stored: torch.dtype, dtype: torch.dtype) -> None:
    grad = noise(2, 3, 20, 43, dtype=stored) * 255
    std = statistics(CHANNELS)[1]
    channels = selection(40)
    got = backend.ops.block_idct_backward(on(backend, grad), channels, on(backend, std), dtype)
    want = reference.block_idct_backward(grad.double(), channels, std, torch.float64)
    assert_near(got, want, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_inverse_backward_sizes(backend: Backend, size: tuple[int, int], layout: str) -> None:
    """Pixels beyond the edge count as zero."""
    grad = LAYOUTS[layout](noise(2, 3, *size) * 255)
    channels = [*selection(20), 0, 64, 128, 63]
    got = backend.ops.block_idct_backward(on(backend, grad), channels, None, torch.float32)
    want = reference.block_idct_backward(grad.double(), channels, None, torch.float64)
    assert_near(got, want, torch.float32)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("size", [(9, 7), (24, 136), (33, 147)], ids=str)
def test_backward_is_the_transpose(backend: Backend, size: tuple[int, int], chroma: str) -> None:
    """<L x, g> = <x, L^T g> for both pairs of operators."""
    channels = [*selection(50), 1, 1, 64]
    std = on(backend, statistics(CHANNELS)[1])
    grid = [math.ceil(edge / 8) for edge in size]
    x = on(backend, noise(2, 3, *size, dtype=torch.float64))
    g = on(backend, noise(2, len(channels), *grid, dtype=torch.float64))
    forward = backend.ops.block_dct(
        x, channels, None, std, chroma, "none", torch.float64, False, True
    )
    back = backend.ops.block_dct_backward(g, channels, std, chroma, *size, torch.float64)
    scale = (forward.norm() * g.norm()).item()
    assert abs((forward * g).sum() - (x * back).sum()).item() < 1e-12 * scale

    distinct = selection(50)
    c = g[:, :50]
    forward = backend.ops.block_idct(c, distinct, None, std, *size, torch.float64, True)
    back = backend.ops.block_idct_backward(x, distinct, std, torch.float64)
    scale = (forward.norm() * x.norm()).item()
    assert abs((forward * x).sum() - (c * back).sum()).item() < 1e-12 * scale


def test_empty_batch(backend: Backend) -> None:
    x = torch.zeros(0, 3, 20, 30, device=backend.device)
    g = torch.zeros(0, 2, 3, 4, device=backend.device)
    f32 = torch.float32
    ops = backend.ops
    assert ops.block_dct(x, [0, 1], None, None, "dctnet", "none", f32).shape == g.shape
    assert ops.block_dct_backward(g, [0, 1], None, "dctnet", 20, 30, f32).shape == x.shape
    assert ops.block_idct(g, [0, 1], None, None, 20, 30, f32).shape == x.shape
    assert ops.block_idct_backward(x, [0, 1], None, f32).shape == g.shape


@pytest.mark.parametrize("chroma", CHROMA)
def test_same_bits_for_any_number_of_threads(cpu_backend: Backend, chroma: str) -> None:
    images = pictures((3, 3, 250, 331))  # 7.6 times what one thread takes alone
    channels, ops, f32 = list(range(CHANNELS)), cpu_backend.ops, torch.float32

    def run() -> list[Tensor]:
        out = ops.block_dct(images, channels, None, None, chroma, "none", f32)
        grad = ops.block_dct_backward(out, channels, None, chroma, 250, 331, f32)
        back = ops.block_idct(out, channels, None, None, 250, 331, f32)
        return [out, grad, back, ops.block_idct_backward(grad, channels, None, f32)]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = run()
        for count in (2, 3, 5):
            torch.set_num_threads(count)
            for got, one in zip(run(), want, strict=True):
                assert torch.equal(got, one)
    finally:
        torch.set_num_threads(threads)
