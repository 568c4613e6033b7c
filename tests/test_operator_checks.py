"""What the operators refuse, and what they say. The public functions check more, and earlier."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import Backend

F32 = torch.float32


def images(**changes: Any) -> Callable[[Backend], object]:
    """block_dct on an 8x8 picture with some arguments changed."""

    def call(backend: Backend) -> object:
        arguments: dict[str, Any] = {
            "images": torch.zeros(1, 3, 8, 8),
            "channels": [0, 1],
            "mean": None,
            "std": None,
            "chroma": "4:4:4",
            "rounding": "none",
            "dtype": F32,
        }
        return backend.ops.block_dct(*(arguments | changes).values())

    return call


def gradient(grad: torch.Tensor, *arguments: Any) -> Callable[[Backend], object]:
    return lambda backend: backend.ops.block_dct_backward(grad, *arguments)


def coefficients(values: torch.Tensor, *arguments: Any) -> Callable[[Backend], object]:
    return lambda backend: backend.ops.block_idct(values, *arguments)


def gathered(**changes: Any) -> Callable[[Backend], object]:
    """jpeg_gather of 2 x 4 blocks of 4:2:0 with some arguments changed."""

    def call(backend: Backend) -> object:
        if not hasattr(backend.ops._namespace, "jpeg_gather"):
            pytest.skip(f"{backend} has no jpeg_gather")
        arguments: dict[str, Any] = {
            "y": i16(1, 2, 4, 64),
            "cb": i16(1, 1, 2, 64),
            "cr": i16(1, 1, 2, 64),
            "tables": None,
            "channels": [0, 1],
            "mean": None,
            "std": None,
            "subsampling": "4:2:0",
            "scale_y": [8],
            "scale_x": [8],
            "top": 0,
            "left": 0,
            "rows": 1,
            "columns": 1,
            "flip": False,
            "dtype": F32,
        }
        return backend.ops.jpeg_gather(*(arguments | changes).values())

    return call


def i16(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int16)


def i32(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int32)


def zeros(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


G = zeros(1, 2, 3, 4)

REFUSED: list[tuple[Callable[[Backend], object], str]] = [
    (images(images=zeros(3, 8, 8)), "block_dct: images must be [N, 3, H, W], got [3, 8, 8]"),
    (images(images=zeros(2, 4, 8, 8)), "block_dct: images must be [N, 3, H, W], got [2, 4, 8, 8]"),
    (images(images=zeros(1, 3, 0, 8)), "images must have at least one pixel, got [1, 3, 0, 8]"),
    (
        images(images=zeros(1, 3, 8, 8, dtype=torch.int32)),
        "images must be uint8, float16, bfloat16, float32 or float64, got Int",
    ),
    (images(channels=[]), "channels must have 1 to 192 entries, got 0"),
    (images(channels=[0] * 193), "channels must have 1 to 192 entries, got 193"),
    (images(channels=[0, 192]), "channels must lie in [0, 192), got 192"),
    (images(channels=[-1]), "channels must lie in [0, 192), got -1"),
    (images(mean=zeros(3)), "block_dct: mean must be [2] or [192], got [3]"),
    (images(std=zeros(2, 1)), "block_dct: std must be [2] or [192], got [2, 1]"),
    (images(std=zeros(2).half()), "std must be float32 or float64, got Half"),
    (images(chroma="4:2:2"), 'chroma must be "4:4:4", "4:2:0" or "dctnet", got "4:2:2"'),
    (images(chroma=""), 'chroma must be "4:4:4", "4:2:0" or "dctnet", got ""'),
    (images(rounding="up"), 'rounding must be "none" or "jpeg", got "up"'),
    (
        images(dtype=torch.uint8),
        "dtype must be float16, bfloat16, float32 or float64, got Byte",
    ),
    (
        gradient(G, [0], None, "4:4:4", 24, 32, F32),
        "block_dct_backward: grad must be [N, 1, H, W] for 1 channels, got [1, 2, 3, 4]",
    ),
    (
        gradient(zeros(1, 2, 0, 4), [0, 1], None, "4:4:4", 24, 32, F32),
        "grad must have at least one block, got [1, 2, 0, 4]",
    ),
    (
        gradient(G, [0, 1], None, "4:4:4", 25, 32, F32),
        "height and width must fit the blocks of [1, 2, 3, 4], got 25 x 32",
    ),
    (
        gradient(G, [0, 1], None, "4:4:4", 24, 24, F32),
        "height and width must fit the blocks of [1, 2, 3, 4], got 24 x 24",
    ),
    (
        gradient(G.byte(), [0, 1], None, "4:4:4", 24, 32, F32),
        "grad must be float16, bfloat16, float32 or float64, got Byte",
    ),
    (gradient(G, [0, 1], zeros(1), "4:4:4", 24, 32, F32), "std must be [2] or [192], got [1]"),
    (gradient(G, [0, 200], None, "4:4:4", 24, 32, F32), "must lie in [0, 192), got 200"),
    (gradient(G, [0, 1], None, "444", 24, 32, F32), 'or "dctnet", got "444"'),
    (
        coefficients(G, [5, 5], None, None, 24, 32, F32),
        "block_idct: channels must be distinct, got 5 twice",
    ),
    (
        coefficients(G, [0, 1], None, None, 24, 33, F32),
        "height and width must lie within the blocks of [1, 2, 3, 4], got 24 x 33",
    ),
    (
        coefficients(G, [0, 1], None, None, 0, 32, F32),
        "height and width must lie within the blocks of [1, 2, 3, 4], got 0 x 32",
    ),
    (
        coefficients(zeros(2, 3, 4), [0, 1], None, None, 24, 32, F32),
        "coefficients must be [N, 2, H, W] for 2 channels, got [2, 3, 4]",
    ),
    (coefficients(G, [0, 1], zeros(4), None, 24, 32, F32), "mean must be [2] or [192], got [4]"),
    (
        coefficients(G, [0, 1], None, None, 24, 32, "int64"),
        'dtype must be "float32", "float64", "float16", "bfloat16" or, of pictures, "uint8", '
        'got "int64"',
    ),
    (
        lambda backend: backend.ops.block_idct_backward(zeros(1, 3, 8, 8), [7, 7], None, F32),
        "block_idct_backward: channels must be distinct, got 7 twice",
    ),
    (
        lambda backend: backend.ops.block_idct_backward(zeros(1, 1, 8, 8), [0], None, F32),
        "block_idct_backward: grad must be [N, 3, H, W], got [1, 1, 8, 8]",
    ),
    (gathered(y=i16(1, 2, 4, 64).int()), "jpeg_gather: y must be int16, got Int"),
    (gathered(cr=zeros(1, 1, 2, 64)), "jpeg_gather: cr must be int16, got Float"),
    (
        gathered(y=i16(2, 4, 64)),
        "y must be [N, blocks_y, blocks_x, 64] without gaps in the last, got [2, 4, 64]",
    ),
    (gathered(y=i16(1, 2, 4, 63)), "without gaps in the last, got [1, 2, 4, 63]"),
    (
        gathered(cb=i16(1, 1, 2, 128)[..., ::2]),
        "cb must be [N, blocks_y, blocks_x, 64] without gaps in the last, got [1, 1, 2, 64]",
    ),
    (gathered(y=i16(1, 0, 4, 64)), "y must have at least one block, got [1, 0, 4, 64]"),
    (gathered(y=i16(1, 2, 0, 64)), "y must have at least one block, got [1, 2, 0, 64]"),
    (gathered(cb=None), 'jpeg_gather: cb must be a tensor for "4:2:0", got None'),
    (gathered(cr=None), 'jpeg_gather: cr must be a tensor for "4:2:0", got None'),
    (gathered(subsampling="gray"), 'jpeg_gather: cb must be None for "gray"'),
    (
        gathered(subsampling="4:4:4"),
        'cb must be [1, 2, 4, 64] for "4:4:4", got [1, 1, 2, 64]',
    ),
    (
        gathered(cr=i16(2, 1, 2, 64)),
        'cr must be [1, 1, 2, 64] for "4:2:0", got [2, 1, 2, 64]',
    ),
    (
        gathered(subsampling="4:1:0"),
        'jpeg_gather: subsampling must be "4:4:4", "4:2:2", "4:4:0", "4:2:0", "4:1:1" or "gray", '
        'got "4:1:0"',
    ),
    (gathered(tables=zeros(3, 64)), "jpeg_gather: tables must be int32, got Float"),
    (
        gathered(tables=i32(1, 64)),
        "jpeg_gather: tables must be [3, 64] or [1, 3, 64], got [1, 64]",
    ),
    (gathered(tables=i32(3, 65)), "tables must be [3, 64] or [1, 3, 64], got [3, 65]"),
    (gathered(tables=i32(2, 3, 64)), "[3, 64] or [1, 3, 64], got [2, 3, 64]"),
    (gathered(tables=i32(64)), "[3, 64] or [1, 3, 64], got [64]"),
    (gathered(tables=i32(1, 1, 3, 64)), "[3, 64] or [1, 3, 64], got [1, 1, 3, 64]"),
    (gathered(scale_y=[]), "jpeg_gather: scale_y must have at least one entry"),
    (gathered(scale_x=[0]), "jpeg_gather: scale_x must lie in [1, 16], eighths, got 0"),
    (gathered(scale_x=[8, 17]), "scale_x must lie in [1, 16], eighths, got 17"),
    (gathered(scale_y=[16] * 41), "jpeg_gather: scale_y must end below 2^40 blocks"),
    (
        gathered(top=1, rows=2),
        "jpeg_gather: top and rows must lie within the 2 blocks of the scaled grid, "
        "got 2 from 1 on",
    ),
    (
        gathered(scale_x=[4], left=2),
        "left and columns must lie within the 2 blocks of the scaled grid, got 1 from 2 on",
    ),
    (gathered(top=-1), "top and rows must lie within the 2 blocks of the scaled grid, got 1 from"),
    (
        gathered(columns=0),
        "left and columns must lie within the 4 blocks of the scaled grid, got 0",
    ),
    (gathered(rows=2**62, top=2**62), "top and rows must lie within the 2 blocks"),
    (gathered(channels=[]), "jpeg_gather: channels must have 1 to 192 entries, got 0"),
    (gathered(channels=[192]), "jpeg_gather: channels must lie in [0, 192), got 192"),
    (gathered(mean=zeros(3)), "jpeg_gather: mean must be [2] or [192], got [3]"),
    (gathered(std=zeros(2).half()), "jpeg_gather: std must be float32 or float64, got Half"),
    (
        gathered(dtype=torch.float64),
        "jpeg_gather: dtype must be float32, float16 or bfloat16, got Double",
    ),
    (gathered(dtype=torch.uint8), "dtype must be float32, float16 or bfloat16, got Byte"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused(backend: Backend, call: Callable[[Backend], object], message: str) -> None:
    if backend.device != "cpu":
        pytest.skip("the checks are the same ones, on CPU tensors elsewhere")
    with pytest.raises(RuntimeError, match=re.escape(message)):
        call(backend)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("size", [2, 192])
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("mean", math.nan, "mean must be finite, got nan"),
        ("mean", -math.inf, "mean must be finite, got -inf"),
        ("std", 0.0, "std must be finite and greater than 0, got 0"),
        ("std", -2.0, "std must be finite and greater than 0, got -2"),
        ("std", math.nan, "std must be finite and greater than 0, got nan"),
        ("std", math.inf, "std must be finite and greater than 0, got inf"),
    ],
)
def test_values_of_statistics(
    cpu_backend: Backend, argument: str, value: float, message: str, size: int, count: int
) -> None:
    """The CPU's operators read them all, also of 192 those that they have no use for."""
    values = torch.ones(size, dtype=torch.float64)
    values[-1] = value
    mean, std = (values, None) if argument == "mean" else (None, values)
    with pytest.raises(RuntimeError, match=f"block_dct: {message}"):
        images(images=zeros(count, 3, 8, 8), mean=mean, std=std)(cpu_backend)
    with pytest.raises(RuntimeError, match=f"block_idct: {message}"):
        coefficients(zeros(count, 2, 1, 1), [0, 1], mean, std, 8, 8, F32)(cpu_backend)
    blocks = {"y": i16(count, 2, 4, 64), "cb": None, "cr": None, "subsampling": "gray"}
    with pytest.raises(RuntimeError, match=f"jpeg_gather: {message}"):
        gathered(**blocks, mean=mean, std=std)(cpu_backend)


def test_unknown_instruction_set() -> None:
    before = torch.ops.freqops.cpu_isa()
    with pytest.raises(RuntimeError, match=r'set_cpu_isa: isa must be one of "portable".* got "x"'):
        torch.ops.freqops.set_cpu_isa("x")
    assert torch.ops.freqops.cpu_isa() == before
