"""freqops.block_dct and block_idct as users call them: values, dtypes, shapes, layouts, devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from freqops import (
    ChannelSelection,
    _dispatch,
    _fallback,
    autograd,
    block_dct,
    block_idct,
    gumbel_gate,
    reference,
)

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
CHANNELS = [0, 9, 70, 130, 9]


def pictures(*shape: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    bytes_ = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return bytes_ if dtype == torch.uint8 else (bytes_.double() / 255).to(dtype)


def statistics(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    mean = torch.randn(count, dtype=torch.float64, generator=generator)
    return mean, 1 + torch.rand(count, dtype=torch.float64, generator=generator)


def assert_coefficients(got: Tensor, want: Tensor) -> None:
    """want is in float64: 1e-3 coefficient units, and one rounding to got's dtype."""
    assert got.shape == want.shape
    rounding = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(got.dtype, 0.0)
    torch.testing.assert_close(got.double(), want, rtol=rounding, atol=1.1e-3)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (17, 30)])
@pytest.mark.parametrize("rounding", ["none", "jpeg"])
@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0", "dctnet"])
def test_block_dct(chroma: str, rounding: str, size: tuple[int, int]) -> None:
    images = pictures(2, 3, *size)
    options = {"chroma": chroma, "rounding": rounding}
    want = reference.block_dct(images, CHANNELS, dtype=torch.float64, **options)
    got = block_dct(images, CHANNELS, **options)
    assert got.dtype == torch.float32
    if rounding == "none":
        assert_coefficients(got, want)
    else:  # a value within 1e-3 of a half may be rounded either way
        assert torch.equal(got, got.round())
        planes = reference.block_dct(images, CHANNELS, dtype=torch.float64, chroma=chroma)
        assert (got - want).abs().max() <= 1
        assert (got - planes).abs().max() < 4  # rounding noise of the planes


@pytest.mark.parametrize("count", [len(CHANNELS), 192])
def test_statistics(count: int) -> None:
    images = pictures(1, 3, 9, 9)
    mean, std = statistics(count)
    want = reference.block_dct(images, CHANNELS, mean=mean, std=std, dtype=torch.float64)
    assert_coefficients(block_dct(images, CHANNELS, mean=mean, std=std), want)
    assert_coefficients(block_dct(images, CHANNELS, mean=mean.float(), std=std.half()), (
        reference.block_dct(images, CHANNELS, mean=mean, std=std.half(), dtype=torch.float64)
    ))  # fmt: skip
    raw = reference.block_dct(images, CHANNELS, dtype=torch.float64)
    by_number = [v[CHANNELS] if count == 192 else v for v in (mean, std)]
    m, s = (v.view(-1, 1, 1) for v in by_number)
    torch.testing.assert_close(want, (raw - m) / s)
    assert_coefficients(block_dct(images, CHANNELS, mean=mean), raw - m)
    assert_coefficients(block_dct(images, CHANNELS, std=std), raw / s)


def test_all_192_statistics_are_read_by_channel_number() -> None:
    images, backwards = pictures(1, 3, 8, 8), list(range(191, -1, -1))
    mean, std = statistics(192)
    ordered = block_dct(images, mean=mean, std=std)
    torch.testing.assert_close(block_dct(images, backwards, mean=mean, std=std), ordered.flip(1))


@pytest.mark.parametrize(
    "channels",
    [
        ChannelSelection(CHANNELS),
        tuple(CHANNELS),
        torch.tensor(CHANNELS),
        torch.tensor(CHANNELS, dtype=torch.uint8),
        np.array(CHANNELS, dtype=np.int16),
        list(np.array(CHANNELS)),
        list(torch.tensor(CHANNELS)),
    ],
    ids=lambda c: type(c).__name__,
)
def test_ways_to_name_channels(channels: object) -> None:
    images = pictures(1, 3, 8, 8)
    assert torch.equal(block_dct(images, channels), block_dct(images, CHANNELS))
    assert torch.equal(block_dct(images, CHANNELS), block_dct(images)[:, CHANNELS])


def test_one_picture() -> None:
    images = pictures(1, 3, 11, 20)
    one = block_dct(images[0], [0, 64, 3])
    assert torch.equal(one, block_dct(images, [0, 64, 3])[0])
    back = block_idct(one, [0, 64, 3], size=(11, 20))
    assert back.shape == (3, 11, 20)
    assert torch.equal(back, block_idct(one[None], [0, 64, 3], size=(11, 20))[0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("source", [torch.uint8, *FLOATS])
def test_dtypes(source: torch.dtype, dtype: torch.dtype) -> None:
    images = pictures(1, 3, 16, 16, dtype=source)
    mean, std = statistics(192)
    want = reference.block_dct(images, mean=mean, std=std, dtype=torch.float64)
    got = block_dct(images, mean=mean, std=std, dtype=dtype)
    assert got.dtype == dtype
    assert_coefficients(got, want)
    assert block_dct(images).dtype == (torch.float64 if source == torch.float64 else torch.float32)
    if torch.float64 in (source, dtype):
        exact = block_dct(images, mean=mean, std=std, dtype=torch.float64)
        torch.testing.assert_close(exact, want, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_rounds_the_result_alone(dtype: torch.dtype) -> None:
    images = pictures(1, 3, 16, 16, dtype=torch.float32)
    mean, std = statistics(192)
    options = {"mean": mean, "std": std}
    want = reference.block_dct(images, dtype=torch.float64, **options)
    with torch.autocast("cpu", dtype):
        got = block_dct(images, **options)
        assert got.dtype == dtype
        assert reference.block_dct(images).dtype == dtype
        assert_coefficients(got, want)
        assert block_dct(images, dtype=torch.float32).dtype == torch.float32
        assert block_dct(images.double()).dtype == torch.float64
        assert block_idct(got.float(), dtype=torch.float32).dtype == torch.float32
    with torch.autocast("cpu", dtype, enabled=False):
        assert block_dct(images).dtype == torch.float32


@pytest.mark.parametrize("memory_format", [None, torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [[0, 64], [c % 192 for c in range(200)]])
def test_memory_format(memory_format: torch.memory_format | None, channels: list[int]) -> None:
    images = pictures(2, 3, 16, 24)
    got = block_dct(images, channels, memory_format=memory_format)
    assert got.is_contiguous(memory_format=memory_format or torch.contiguous_format)
    torch.testing.assert_close(got, block_dct(images, channels))


def test_strides_make_no_difference() -> None:
    images = pictures(2, 3, 16, 24, dtype=torch.float32)
    want = block_dct(images)
    assert torch.equal(block_dct(images.contiguous(memory_format=torch.channels_last)), want)
    assert torch.equal(block_dct(images.transpose(2, 3).contiguous().transpose(2, 3)), want)
    assert torch.equal(block_dct(images.repeat(1, 1, 2, 2)[:, :, :16, :24]), want)
    assert torch.equal(block_dct(images[:1].expand(2, -1, -1, -1)), want[:1].expand_as(want))


def test_empty_batches() -> None:
    assert block_dct(pictures(0, 3, 9, 8), [1, 2]).shape == (0, 2, 2, 1)
    assert block_idct(torch.zeros(0, 192, 2, 1)).shape == (0, 3, 16, 8)


@pytest.mark.parametrize("count", [300, 192])
def test_more_channels_than_there_are(count: int) -> None:
    channels = [c % 190 for c in range(300)]
    images = pictures(1, 3, 9, 16)
    mean, std = statistics(count)
    want = reference.block_dct(images, channels, mean=mean, std=std, dtype=torch.float64)
    assert_coefficients(block_dct(images, channels, mean=mean, std=std), want)
    half = block_dct(images, channels, mean=mean, std=std, dtype=torch.float16)
    assert half.dtype == torch.float16
    assert_coefficients(half, want)
    assert_coefficients(block_dct(images, channels), reference.block_dct(
        images, channels, dtype=torch.float64
    ))  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_in_their_block(value: float) -> None:
    images = pictures(1, 3, 24, 24, dtype=torch.float32)
    want = block_dct(images, chroma="4:2:0")
    images[0, 1, 9, 10] = value
    got = block_dct(images, chroma="4:2:0")
    assert not got[0, :, 1, 1].isfinite().any()
    got[0, :, 1, 1] = want[0, :, 1, 1]
    assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
@pytest.mark.parametrize("count", [len(CHANNELS) - 1, 192])
def test_block_idct(dtype: torch.dtype, count: int) -> None:
    channels = CHANNELS[:-1]
    mean, std = statistics(count)
    generator = torch.Generator().manual_seed(0)
    coefficients = 100 * torch.randn(2, len(channels), 2, 3, generator=generator)
    options = {"mean": mean, "std": std, "size": (13, 18)}
    want = reference.block_idct(coefficients, channels, dtype=torch.float64, **options)
    got = block_idct(coefficients, channels, dtype=dtype, **options)
    assert got.dtype == dtype
    assert got.shape == (2, 3, 13, 18)
    if dtype == torch.uint8:
        want = (255 * want).round().clamp(0, 255)
        assert (got.double() - want).abs().max() <= 1
        assert (got == want).double().mean() > 0.999
    else:
        half = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)
        torch.testing.assert_close(got.double(), want, rtol=half, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_there_and_back(dtype: torch.dtype) -> None:
    images = pictures(2, 3, 13, 22, dtype=dtype)
    mean, std = statistics(192)
    coefficients = block_dct(images, mean=mean, std=std)
    back = block_idct(coefficients, mean=mean, std=std, size=(13, 22), dtype=dtype)
    torch.testing.assert_close(back, images, atol=1e-5, rtol=0)
    assert block_idct(coefficients).shape == (2, 3, 16, 24)


def test_absent_channels_are_their_mean_where_it_is_known() -> None:
    mean = torch.zeros(192)
    mean[0] = 80.0
    grey = block_idct(torch.zeros(1, 1, 1, 1), [1], mean=mean)
    assert grey.unique().tolist() == [138]  # 128 + 80 / 8
    assert block_idct(torch.zeros(1, 1, 1, 1), [1], mean=mean[1:2]).unique().tolist() == [128]


def test_nan_coefficients_give_black() -> None:
    assert block_idct(torch.full((1, 192, 1, 1), float("nan"))).unique().tolist() == [0]


def test_values_of_statistics_elsewhere_are_not_read() -> None:
    """Under transforms and on other devices a value would cost a synchronisation or be unknown."""
    images, std = torch.zeros(3, 3, 8, 8), torch.zeros(3, 2)
    assert not torch.vmap(lambda s: block_dct(images, [0, 1], std=s))(std).isnan().all()
    meta = block_dct(images.to("meta"), [0, 1], mean=std[0].to("meta"), std=std[0].to("meta"))
    assert meta.shape == (3, 2, 1, 1)


def test_devices_without_kernels_run_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel that stands at the key of such a device, given the CPU's tensors."""
    key = "MPS"
    assert key in _fallback.DEVICES
    images = pictures(1, 3, 9, 16)
    arguments = (images, [0, 70], None, None, "4:2:0", "none", torch.float32)
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    monkeypatch.setattr(_fallback, "_warned", set())

    def there(name: str, *arguments: object) -> Tensor:
        named = [_dispatch.NAMES[a] if isinstance(a, torch.dtype) else a for a in arguments]
        out: Tensor = getattr(torch.ops.freqops, name).default.redispatch(keys, *named)
        return out

    with pytest.warns(RuntimeWarning, match="no kernels for MPS .*run the reference"):
        got = there("block_dct", *arguments)
    assert torch.equal(got, reference.block_dct(images, [0, 70], chroma="4:2:0"))
    assert torch.equal(there("block_dct", *arguments, True), got)  # and no second warning
    back = (got, [0, 70], None, "4:2:0", 9, 16, torch.float32)
    assert torch.equal(there("block_dct_backward", *back), reference.block_dct_backward(*back))
    inverse = (got, [0, 70], None, None, 9, 16, torch.uint8)
    want = reference.block_idct(got, [0, 70], size=(9, 16))
    assert torch.equal(there("block_idct", *inverse), want)
    adjoint = (images.float(), [0, 70], None, torch.float32)
    want = reference.block_idct_backward(*adjoint)
    assert torch.equal(there("block_idct_backward", *adjoint), want)


def test_the_reference_serves_cuda_where_its_library_is_missing() -> None:
    from freqops import _library

    missing = "_cuda" in _library.MISSING
    assert ("CUDA" in _fallback.DEVICES) == missing
    assert torch._C._dispatch_has_kernel_for_dispatch_key("freqops::block_dct", "CUDA")


def test_ordinary_inference_does_not_pay_for_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("the autograd.Function was called")

    for function in (autograd.BlockDCT, autograd.BlockIDCT, autograd.GumbelGate):
        monkeypatch.setattr(function, "apply", staticmethod(refuse))
    images = torch.rand(1, 3, 8, 8)
    block_idct(block_dct(images))
    gumbel_gate(images, torch.rand(1, 3, 2))
    with torch.no_grad():
        block_dct(images.requires_grad_())
        gumbel_gate(images, torch.rand(1, 3, 2))
    for call in (block_dct, lambda x: gumbel_gate(x, torch.rand(1, 3, 2))):
        with pytest.raises(AssertionError, match="was called"):
            call(images)
