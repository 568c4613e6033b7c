"""block_dct of bytes as a product of integer matrices, which set_dct_kernel("product") chooses.

Under the emulation, where tensor cores are their definition, and on a GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from by_dtype import Operators
from support import (
    CHANNELS,
    EMULATED,
    FLOATING,
    LAYOUTS,
    Backend,
    assert_near,
    pictures,
    selection,
    statistics,
)
from torch import Tensor

from freqops import reference

F32 = torch.float32
MOST = 168
"""Channels that 99 KB of shared memory hold, which is what the emulation has, and sm_120."""

# Four blocks side by side in one row of blocks, in two rows, in two pictures; edges to replicate;
# more tiles than the emulation has warps at a time.
SIZES = [(1, 1), (8, 8), (8, 32), (24, 64), (16, 24), (64, 72), (17, 40), (33, 150), (70, 96)]
SIZES += [(16, 48), (256, 272)]


@pytest.fixture(params=["cuda-emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def product(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The operators with the product chosen."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        namespace, device = torch.ops.freqops, "cuda"
    else:
        torch.ops.load_library(str(EMULATED))
        namespace, device = torch.ops.freqops_emulated, "cpu"
    namespace.set_dct_kernel("product")
    yield Backend(request.param, Operators(namespace), device)
    namespace.set_dct_kernel("auto")


def transform(
    backend: Backend,
    images: Tensor,
    channels: list[int],
    chroma: str = "4:4:4",
    dtype: torch.dtype = F32,
    statistic: tuple[Tensor, Tensor] | None = None,
    channels_last: bool = False,
    linear: bool = False,
) -> Tensor:
    mean, std = (s.to(backend.device) for s in statistic) if statistic else (None, None)
    images = images if backend.device == "cpu" else images.to(backend.device)
    got = backend.ops.block_dct(
        images, channels, mean, std, chroma, "none", dtype, channels_last, linear
    )
    form = torch.channels_last if channels_last else torch.contiguous_format
    assert got.is_contiguous(memory_format=form)
    return got.cpu()


def exact(
    images: Tensor,
    channels: list[int],
    chroma: str = "4:4:4",
    statistic: tuple[Tensor, Tensor] | None = None,
    linear: bool = False,
) -> Tensor:
    mean, std = statistic or (None, None)
    return reference.block_dct_operator(
        images, channels, mean, std, chroma, "none", torch.float64, False, linear
    )


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values(product: Backend, size: tuple[int, int], layout: str, chroma: str) -> None:
    images, channels = pictures((3, 3, *size), layout=layout), selection(20)
    given = statistics(20)
    got = transform(product, images, channels, chroma, statistic=given)
    assert_near(got, exact(images, channels, chroma, given), F32)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 24, 64, MOST])
@pytest.mark.parametrize("channels_last", [False, True])
def test_any_number_of_channels(product: Backend, count: int, channels_last: bool) -> None:
    images, channels, given = pictures((2, 3, 24, 72)), selection(count), statistics(count)
    got = transform(product, images, channels, statistic=given, channels_last=channels_last)
    assert_near(got, exact(images, channels, statistic=given), F32)


def test_every_channel(product: Backend) -> None:
    images = pictures((1, 3, 16, 32))
    for chroma in ("4:4:4", "4:2:0"):
        for first in range(0, CHANNELS, 64):
            channels = list(range(first, first + 64))
            got = transform(product, images, channels, chroma)
            assert_near(got, exact(images, channels, chroma), F32)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_result_types(product: Backend, dtype: torch.dtype, channels_last: bool) -> None:
    """float64 too, which the product leaves to the other kernel."""
    images, channels = pictures((2, 3, 16, 64)), [5, 0, 64, 0, 191]
    got = transform(product, images, channels, dtype=dtype, channels_last=channels_last)
    assert_near(got, exact(images, channels), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(24, 64), (19, 61)], ids=str)
def test_layouts(product: Backend, size: tuple[int, int], layout: str) -> None:
    images, channels = pictures((2, 3, *size), layout=layout), selection(24)
    assert_near(transform(product, images, channels), exact(images, channels), F32)


@pytest.mark.parametrize("offset", [1, 4, 8, 16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("part", ["start", "row", "plane", "picture"])
def test_alignment(product: Backend, part: str, layout: str, offset: int) -> None:
    """Rows that begin at multiples of 16 bytes, of 8, or anywhere, each for one reason."""
    shape = (2, 16, 64, 3) if layout == "channels_last" else (2, 3, 16, 64)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(4))
    images = images.to(torch.uint8)
    strides = list(images.stride())
    row = 1 if layout == "channels_last" else 2
    if part == "row":
        strides[row] += offset
        for axis in range(row - 1, -1, -1):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
    elif part == "plane":
        strides[1] += offset
        strides[0] = -(-strides[1] * shape[1] // 16) * 16
    elif part == "picture":
        strides[0] += offset
    start = offset if part == "start" else 0
    memory = images.new_zeros(strides[0] * 2 + start)
    laid = memory.as_strided(shape, strides, start).copy_(images)
    if layout == "channels_last":
        laid = laid.permute(0, 3, 1, 2)
    channels = selection(24)
    if product.device != "cpu":
        memory = memory.cuda()
        laid = memory.as_strided(laid.shape, laid.stride(), start)
    assert_near(transform(product, laid, channels), exact(laid.cpu(), channels), F32)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_right_edge_of_a_crop(product: Backend, layout: str) -> None:
    """Rows begin at multiples of 16 bytes, and beyond the edge there are other pixels."""
    whole, channels = pictures((2, 3, 16, 64), layout=layout), selection(24)
    whole = whole if product.device == "cpu" else whole.cuda()
    for width in range(57, 64):
        images = whole[..., :width]
        got = transform(product, images, channels)
        assert_near(got, exact(images.cpu(), channels), F32)


def test_it_is_the_product_that_runs(product: Backend) -> None:
    """Its bits differ from those of the other kernel: here in some value, always."""
    images, channels = pictures((1, 3, 64, 64)), selection(24)
    bits = transform(product, images, channels)
    namespace = torch.ops.freqops if product.device == "cuda" else torch.ops.freqops_emulated
    assert namespace.dct_kernel() == "product"
    namespace.set_dct_kernel("registers")
    assert not torch.equal(transform(product, images, channels), bits)


def test_grey_pictures_are_exact(product: Backend) -> None:
    for value in range(256):
        images = torch.full((1, 3, 8, 32), value, dtype=torch.uint8)
        got = transform(product, images, [0, 1, 9, 36, 63, 64, 65, 128, 191])
        assert torch.equal(got[:, 0], torch.full((1, 1, 4), 8.0 * (value - 128)))
        assert torch.equal(got[:, 1:], torch.zeros(1, 8, 1, 4))


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
def test_largest_sums(product: Backend, chroma: str) -> None:
    """Each channel's own pattern at full contrast: digits and their sums at their bounds."""
    patterns = exact(torch.eye(CHANNELS).view(CHANNELS, 3, 8, 8), list(range(CHANNELS)), chroma,
                     linear=True)  # fmt: skip
    weights = patterns.view(CHANNELS, CHANNELS).T
    for sign in (1, -1):
        images = (255 * (sign * weights > 0)).to(torch.uint8).view(CHANNELS, 3, 8, 8)
        for first in range(0, CHANNELS, 64):
            channels = list(range(first, first + 64))
            got = transform(product, images[first : first + 64], channels, chroma)
            assert_near(got, exact(images[first : first + 64], channels, chroma), F32)


def test_pictures_of_a_batch_do_not_touch(product: Backend) -> None:
    """Tiles of 32 blocks cross pictures of 15; under the emulation launches end between them."""
    images, channels = pictures((9, 3, 17, 40)), selection(24)
    together = transform(product, images, channels)
    for n in range(9):
        assert torch.equal(transform(product, images[n : n + 1], channels), together[n : n + 1])


def test_statistics_by_channel_number_and_in_float64(product: Backend) -> None:
    images, channels = pictures((1, 3, 16, 32)), [3, 70, 3, 190]
    for given in (statistics(CHANNELS), statistics(4, torch.float64)):
        got = transform(product, images, channels, statistic=given)
        assert_near(got, exact(images, channels, statistic=given), F32)


def test_linear_part(product: Backend) -> None:
    images, channels = pictures((1, 3, 16, 32)), [0, 1, 64]
    got = transform(product, images, channels, linear=True)
    assert_near(got, exact(images, channels, linear=True), F32)


@pytest.mark.parametrize("case", ["dctnet", "jpeg", "float32", "169 channels"])
def test_what_it_does_not_take_stays_right(product: Backend, case: str) -> None:
    if case == "169 channels" and product.device == "cuda":
        pytest.skip("a device may hold more")
    dtype = F32 if case == "float32" else torch.uint8
    images = pictures((1, 3, 16, 32), dtype)
    channels = selection(MOST + 1 if case == "169 channels" else 24)
    chroma = case if case == "dctnet" else "4:4:4"
    rounding = case if case == "jpeg" else "none"
    on = images if product.device == "cpu" else images.cuda()
    got = product.ops.block_dct(on, channels, None, None, chroma, rounding, F32)
    namespace = torch.ops.freqops if product.device == "cuda" else torch.ops.freqops_emulated
    namespace.set_dct_kernel("registers")
    want = product.ops.block_dct(on, channels, None, None, chroma, rounding, F32)
    assert torch.equal(got, want)


def test_registers_are_the_default_and_other_names_refused(product: Backend) -> None:
    """No GPU has measured where the two cross."""
    images = pictures((1, 3, 64, 64))
    by_product = transform(product, images, [0, 1, 64])
    namespace = torch.ops.freqops if product.device == "cuda" else torch.ops.freqops_emulated
    namespace.set_dct_kernel("auto")
    by_default = transform(product, images, [0, 1, 64])
    namespace.set_dct_kernel("registers")
    assert torch.equal(transform(product, images, [0, 1, 64]), by_default)
    assert not torch.equal(by_product, by_default)
    with pytest.raises(RuntimeError, match='"auto", "registers" or "product", got "tensor"'):
        namespace.set_dct_kernel("tensor")
