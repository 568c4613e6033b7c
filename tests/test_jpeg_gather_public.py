"""freqops.jpeg_gather as users call it: arguments, dtypes, batches, what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from jpeg_blocks import ALL, F32, F64, NAMES, RESULTS, Blocks, assert_close, blocks, largest
from jpeg_blocks import statistics as all_statistics
from torch import Tensor

from freqops import ChannelSelection, _dispatch, _fallback, autograd, jpeg_gather, reference
from freqops._reference_jpeg import SAMPLINGS

CHANNELS = [0, 9, 70, 130, 9]


def call(b: Blocks, channels: object = CHANNELS, **options: object) -> Tensor:
    return jpeg_gather(b.y, b.cb, b.cr, b.tables, channels, subsampling=b.subsampling, **options)


def definition(b: Blocks, channels: object = CHANNELS, **options: object) -> Tensor:
    planes = (b.y, b.cb, b.cr, b.tables)
    options = {"dtype": F64} | options
    return reference.jpeg_gather(*planes, channels, subsampling=b.subsampling, **options)


@pytest.mark.parametrize("tables", [None, "shared", "each"])
@pytest.mark.parametrize("subsampling", NAMES)
def test_one_picture_and_batches(subsampling: str, tables: str | None) -> None:
    b = blocks(subsampling, 3, 5, tables=tables)
    want = definition(b, scale=6)
    got = call(b, scale=6)
    assert_close(got, want, F32, largest(b))
    for n in range(2):
        one = b.map(lambda p, n=n: p[n])
        if tables == "each":
            assert b.tables is not None
            one = dataclasses.replace(one, tables=b.tables[n])
        assert torch.equal(call(one, scale=6), got[n])
        assert torch.equal(definition(one, scale=6), want[n])


@pytest.mark.parametrize(
    "channels",
    [
        ChannelSelection(CHANNELS),
        tuple(CHANNELS),
        torch.tensor(CHANNELS),
        np.array(CHANNELS, dtype=np.int16),
        list(np.array(CHANNELS)),
    ],
    ids=lambda c: type(c).__name__,
)
def test_ways_to_name_channels(channels: object) -> None:
    b = blocks("4:2:0", 2, 3)
    assert torch.equal(call(b, channels), call(b))
    assert torch.equal(call(b), call(b, None)[:, CHANNELS])
    assert torch.equal(call(b, None), call(b, ALL))


@pytest.mark.parametrize("count", [192, 300])
def test_more_channels_than_there_are(count: int) -> None:
    channels = [c % 190 for c in range(300)]
    b = blocks("4:2:0", 3, 5)
    mean, std = all_statistics(count)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        options = {"mean": mean, "std": std, "scale": 11, "memory_format": memory_format}
        got = call(b, channels, **options)
        assert_close(got, definition(b, channels, **options), F32, largest(b))
        assert got.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("scale", [8, (8, 8), (8, (8,)), [[8], 8], ((8, 8), (8, 8, 8)), np.int64(8),
                                   torch.tensor(8), (np.int32(8), 8)], ids=str)  # fmt: skip
def test_ways_to_say_a_scale(scale: object) -> None:
    b = blocks("4:4:4", 2, 3)
    assert torch.equal(call(b, scale=scale), call(b))
    assert torch.equal(call(b, crop=[0, np.int64(1), torch.tensor(2), 2]), call(b)[..., 1:])


def test_scales_are_down_and_across() -> None:
    b = blocks("4:2:0", 4, 6)
    assert call(b, scale=(4, 16)).shape == (2, 5, 2, 12)
    assert call(b, scale=((16, 4), 12)).shape == (2, 5, 4, 9)


@pytest.mark.parametrize("subsampling", list(SAMPLINGS))
def test_statistics_of_any_type(subsampling: str) -> None:
    b = blocks(subsampling, 2, 3)
    mean, std = (s.double() for s in all_statistics())
    want = definition(b, None, mean=mean, std=std)
    assert_close(call(b, None, mean=mean, std=std), want, F32, largest(b))
    assert_close(call(b, None, mean=mean.float(), std=std.half()), definition(
        b, None, mean=mean.float(), std=std.half()
    ), F32, largest(b))  # fmt: skip
    assert torch.equal(
        call(b, CHANNELS, mean=mean, std=std),
        call(b, CHANNELS, mean=mean[CHANNELS], std=std[CHANNELS]),
    )


@pytest.mark.parametrize("dtype", RESULTS)
def test_dtypes_and_autocast(dtype: torch.dtype) -> None:
    b = blocks("4:2:0", 2, 3)
    got = call(b, dtype=dtype)
    assert got.dtype == dtype
    assert torch.equal(got, call(b).to(dtype))
    if dtype == F32:
        return
    with torch.autocast("cpu", dtype):
        assert torch.equal(call(b), got)
        assert torch.equal(call(b, dtype=F32), call(b, dtype=F32))
        assert call(b, dtype=F32).dtype == F32
        planes = (b.y, b.cb, b.cr, b.tables)
        assert reference.jpeg_gather(*planes, subsampling="4:2:0").dtype == dtype
    with torch.autocast("cpu", dtype, enabled=False):
        assert call(b).dtype == F32


@pytest.mark.parametrize("memory_format", [None, torch.contiguous_format, torch.channels_last])
def test_memory_format(memory_format: torch.memory_format | None) -> None:
    b = blocks("4:2:0", 3, 5)
    got = call(b, memory_format=memory_format)
    assert got.is_contiguous(memory_format=memory_format or torch.contiguous_format)
    assert torch.equal(got, call(b))


def test_arguments_are_left_as_they_are() -> None:
    b = blocks("4:2:0", 3, 5, tables="each")
    mean, std = all_statistics()
    before = [t.clone() for t in (*b.planes, b.tables, mean, std) if t is not None]
    out = call(b, mean=mean, std=std, flip=True)
    out.zero_()  # nor does the result share their memory
    after = [t for t in (*b.planes, b.tables, mean, std) if t is not None]
    assert all(map(torch.equal, before, after))


def test_inference_does_not_pay_for_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("the autograd.Function was called")

    monkeypatch.setattr(autograd.JPEGGather, "apply", staticmethod(refuse))
    monkeypatch.setattr(_dispatch._combined[autograd.JPEGGather], "apply", staticmethod(refuse))
    b = blocks("4:2:0", 2, 3)
    mean = torch.zeros(5, requires_grad=True)
    call(b, mean=mean.detach())
    with torch.no_grad():
        call(b, mean=mean)
    with pytest.raises(AssertionError, match="was called"):
        call(b, mean=mean)


def test_devices_without_kernels_run_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel that stands at the key of such a device, given the CPU's tensors."""
    b = blocks("4:2:0", 3, 5)
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.MPS)
    monkeypatch.setattr(_fallback, "_warned", set())
    with pytest.warns(RuntimeWarning, match="no kernels for MPS .*run the reference"):
        got = torch.ops.freqops.jpeg_gather.default.redispatch(
            keys, b.y, b.cb, b.cr, b.tables, CHANNELS, None, None, "4:2:0", [11], [5], 1, 0, 3, 2,
            True, "float32",
        )  # fmt: skip
    options = {"scale": (11, 5), "crop": (1, 0, 3, 2), "flip": True}
    assert torch.equal(got, definition(b, **options, dtype=F32))


def test_meta() -> None:
    b = blocks("4:2:0", 3, 5).map(lambda p: p.to("meta"))
    b = dataclasses.replace(b, tables=None)
    assert call(b, scale=11, memory_format=torch.channels_last).shape == (2, 5, 5, 7)


B, GRAY = blocks("4:2:0", 3, 5), blocks("gray", 3, 5)
ONE = B.map(lambda p: p[0])
META = torch.zeros(5, device="meta")


def changed(b: Blocks = B, **changes: object) -> Callable[[], Tensor]:
    """A call with other tensors, or other arguments."""
    tensors = {k: v for k, v in changes.items() if k in ("y", "cb", "cr", "tables", "subsampling")}
    options = {k: v for k, v in changes.items() if k not in tensors}
    return lambda: call(dataclasses.replace(b, **tensors), **options)


NO_GAPS = r"must have no gaps in its last dimension, got stride 2 \(.contiguous\(\) makes it so\)"
SCALE = r"scale must be an integer in \[1, 16\], eighths, or a pair of integers or tuples of them"
REFUSED: list[tuple[type[Exception], str, Callable[[], Tensor]]] = [
    # subsampling
    (ValueError, "subsampling must be one of '4:4:4', .*'gray', got '4:2:1'",
     changed(subsampling="4:2:1")),
    (TypeError, "subsampling must be one of '4:4:4', .* got None", changed(subsampling=None)),
    # blocks
    (TypeError, "y must be a tensor, got None", changed(y=None)),
    (TypeError, "y must be a tensor, got a ndarray", changed(y=B.y.numpy())),
    (TypeError, "y must be int16, got torch.int32", changed(y=B.y.int())),
    (TypeError, "y must be int16, got torch.float32", changed(y=B.y.float())),
    (TypeError, "cb must be int16, got torch.uint16", changed(cb=B.cb.to(torch.uint16))),
    (TypeError, "y must be a dense tensor, got torch.sparse_coo", changed(y=B.y.to_sparse())),
    (ValueError, r"y must be \[N, by, bx, 64\] or \[by, bx, 64\] with by and bx at least 1, got "
     r"\[2, 3, 5, 8, 8\]", changed(y=B.y.unflatten(3, (8, 8)))),
    (ValueError, r"at least 1, got \[5, 64\]", changed(y=B.y[0, 0])),
    (ValueError, r"at least 1, got \[2, 3, 5, 63\]", changed(y=B.y[..., :63])),
    (ValueError, r"at least 1, got \[2, 0, 5, 64\]", changed(y=B.y[:, :0])),
    (ValueError, r"at least 1, got \[3, 0, 64\]", changed(ONE, y=ONE.y[:, :0])),
    (ValueError, f"y {NO_GAPS}", changed(y=B.y.repeat(1, 1, 1, 2)[..., ::2])),
    (ValueError, f"cr {NO_GAPS}", changed(cr=B.cr.repeat(1, 1, 1, 2)[..., ::2])),
    (TypeError, "cb must be a tensor, got None", changed(cb=None)),
    (TypeError, "cr must be a tensor, got None", changed(cr=None)),
    (ValueError, "cb must be None for 'gray', got a Tensor", changed(subsampling="gray")),
    (ValueError, "cr must be None for 'gray', got a Tensor", changed(GRAY, cr=B.cr)),
    (ValueError, r"cb must be \[2, 3, 5, 64\] beside y \[2, 3, 5, 64\] for subsampling '4:4:4', "
     r"got \[2, 2, 3, 64\]", changed(subsampling="4:4:4")),
    (ValueError, r"cb must be \[2, 3, 3, 64\] .* '4:2:2', got", changed(subsampling="4:2:2")),
    (ValueError, r"cb must be \[2, 2, 5, 64\] .* '4:4:0', got", changed(subsampling="4:4:0")),
    (ValueError, r"cb must be \[2, 3, 2, 64\] .* '4:1:1', got", changed(subsampling="4:1:1")),
    (ValueError, r"cr must be \[2, 2, 3, 64\] .* got \[1, 2, 3, 64\]", changed(cr=B.cr[:1])),
    (ValueError, r"cb must be \[2, 3, 64\] beside y \[3, 5, 64\] .* got \[1, 2, 3, 64\]",
     changed(ONE, cb=B.cb[:1])),
    (ValueError, "cb must be on cpu like y, got meta", changed(cb=B.cb.to("meta"))),
    # tables
    (TypeError, "tables must be a tensor, got a list", changed(tables=[[1] * 64] * 3)),
    (TypeError, "tables must be int32, got torch.int16", changed(tables=B.tables.short())),
    (ValueError, r"tables must be \[3, 64\] or \[2, 3, 64\] for subsampling '4:2:0', got \[64\]",
     changed(tables=B.tables[0])),
    (ValueError, r"tables must be .*, got \[2, 64\]", changed(tables=B.tables[:2])),
    (ValueError, r"tables must be .*, got \[1, 3, 64\]", changed(tables=B.tables[None])),
    (ValueError, r"tables must be \[1, 64\] or \[2, 1, 64\] for subsampling 'gray', got \[3, 64\]",
     changed(GRAY, tables=B.tables)),
    (ValueError, r"tables must be \[3, 64\] for subsampling '4:2:0', got \[1, 3, 64\]",
     changed(ONE, tables=B.tables[None])),
    (ValueError, "tables must be on cpu like y, got meta", changed(tables=B.tables.to("meta"))),
    # channels, mean and std, as block_dct does
    (ValueError, r"channels must lie in \[0, 192\), got 192", changed(channels=[0, 192])),
    (ValueError, "channels must name at least one channel, got none", changed(channels=[])),
    (TypeError, "channels must hold integers, got 1.5", changed(channels=[1.5])),
    (TypeError, r"ChannelSelection.of\(24\) is a selection", changed(channels=24)),
    (TypeError, "mean must be a tensor, got 0.0", changed(mean=0.0)),
    (TypeError, "std must be floating point, got torch.int64", changed(std=torch.ones(5).long())),
    (ValueError, r"mean must have one entry per channel, \[5\], or \[192\], got \[4\]",
     changed(mean=torch.zeros(4))),
    (ValueError, "mean must be on cpu like the pictures or coefficients, got meta",
     changed(mean=META)),
    (ValueError, "std must be finite and greater than 0, got 0.0 to 0.0",
     changed(std=torch.zeros(5))),
    (ValueError, "mean must be finite, got nan", changed(mean=torch.full((5,), float("nan")))),
    # scale, crop and flip
    (ValueError, rf"{SCALE}, got 0", changed(scale=0)),
    (ValueError, rf"{SCALE}, got 17", changed(scale=17)),
    (ValueError, rf"{SCALE}, got \(8, \(3, 17\)\)", changed(scale=(8, (3, 17)))),
    (ValueError, rf"{SCALE}, got \(8, \(\)\)", changed(scale=(8, ()))),
    (ValueError, rf"{SCALE}, got \(\(\), 8\)", changed(scale=((), 8))),
    (ValueError, rf"{SCALE}, got \(8,\)", changed(scale=(8,))),
    (ValueError, rf"{SCALE}, got \(8, 8, 8\)", changed(scale=(8, 8, 8))),
    (TypeError, rf"{SCALE}, got 0.5 \(scale=4 is half the size\)$", changed(scale=0.5)),
    (TypeError, rf"{SCALE}, got 1.0 \(scale=8 is the full size\)$", changed(scale=1.0)),
    (TypeError, rf"{SCALE}, got 2.0 \(scale=16 is twice the size\)$", changed(scale=2.0)),
    (TypeError, rf"{SCALE}, got 0.25 \(scale=2 is 0.25 times the size\)$",
     changed(scale=(8, np.float32(0.25)))),
    (TypeError, rf"{SCALE}, got 0.5 \(scale=4 is half the size\)$",
     changed(scale=torch.tensor(0.5))),
    # 4.0 may mean 4 eighths as well as 4 times the size, 0.3 and the others are no eighths.
    (TypeError, rf"{SCALE}, got 4.0$", changed(scale=4.0)),
    (TypeError, rf"{SCALE}, got 8.0$", changed(scale=((8, 8.0), 8))),
    (TypeError, rf"{SCALE}, got 0.3$", changed(scale=0.3)),
    (TypeError, rf"{SCALE}, got 0.0$", changed(scale=0.0)),
    (TypeError, rf"{SCALE}, got inf$", changed(scale=float("inf"))),
    (TypeError, rf"{SCALE}, got nan$", changed(scale=float("nan"))),
    (TypeError, rf"{SCALE}, got '8'$", changed(scale="8")),
    (TypeError, rf"{SCALE}, got True$", changed(scale=True)),
    (TypeError, rf"{SCALE}, got None$", changed(scale=(8, None))),
    (TypeError, rf"{SCALE}, got a Tensor$", changed(scale=torch.tensor([4, 4]))),
    (TypeError, r"crop must be \(top, left, rows, columns\), got 3", changed(crop=3)),
    (ValueError, r"crop must be \(top, left, rows, columns\), got \(1, 2\)", changed(crop=(1, 2))),
    (TypeError, "crop must hold integers, got 1.0", changed(crop=(0, 0, 1.0, 1))),
    (ValueError, r"crop must be \(top, left, rows, columns\) within the grid of 3 x 5 blocks, got "
     r"\(0, 0, 4, 5\)", changed(crop=(0, 0, 4, 5))),
    (ValueError, r"3 x 5 blocks, got \(0, 5, 1, 1\)", changed(crop=(0, 5, 1, 1))),
    (ValueError, r"3 x 5 blocks, got \(-1, 0, 1, 1\)", changed(crop=(-1, 0, 1, 1))),
    (ValueError, r"3 x 5 blocks, got \(0, -1, 1, 1\)", changed(crop=(0, -1, 1, 1))),
    (ValueError, r"3 x 5 blocks, got \(0, 0, 0, 1\)", changed(crop=(0, 0, 0, 1))),
    (ValueError, r"3 x 5 blocks, got \(0, 0, 1, 0\)", changed(crop=(0, 0, 1, 0))),
    (ValueError, r"5 x 7 blocks, got \(0, 0, 5, 8\)", changed(crop=(0, 0, 5, 8), scale=11)),
    (TypeError, "flip must be True or False, got 1", changed(flip=1)),
    (TypeError, "flip must be True or False, got None", changed(flip=None)),
    # dtype and memory_format
    (ValueError, "dtype must be one of float32, float16, bfloat16, got torch.float64",
     changed(dtype=F64)),
    (TypeError, "dtype must be a torch.dtype, got 'float32'", changed(dtype="float32")),
    (ValueError, "memory_format must be contiguous_format or channels_last, got torch.preserve",
     changed(memory_format=torch.preserve_format)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "call"), REFUSED, ids=[r[1] for r in REFUSED])
def test_refused(error: type[Exception], message: str, call: Callable[[], Tensor]) -> None:
    with pytest.raises(error, match=rf"^jpeg_gather: .*{message}") as caught:
        call()
    assert "\n" not in str(caught.value)
