"""What the public functions refuse, each rule by its sentence: argument, expectation, what came."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from freqops import ChannelSelection, block_dct, block_idct

X = torch.zeros(1, 3, 8, 8)
C = torch.zeros(1, 2, 2, 2)
COMPLEX = torch.zeros(1, 3, 8, 8, dtype=torch.complex64)
SPARSE = torch.zeros(1, 3, 8, 8).to_sparse()
META = torch.zeros(2, device="meta")


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are on their way out
        return torch.quantize_per_tensor(torch.zeros(1, 3, 8, 8), 0.1, 0, torch.quint8)


def nested() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        return torch.nested.nested_tensor([torch.zeros(3, 8, 8)])


CHOICES = "'4:4:4', '4:2:0', 'dctnet'"
REFUSED: list[tuple[type[Exception], str, Callable[[], object]]] = [
    # images
    (TypeError, "images must be a tensor, got None", lambda: block_dct(None)),
    (TypeError, "images must be a tensor, got a ndarray", lambda: block_dct(np.zeros((3, 8, 8)))),
    (
        TypeError,
        "images must be uint8 or floating point, got torch.int32",
        lambda: block_dct(X.int()),
    ),
    (
        TypeError,
        "images must be uint8 or floating point, got torch.bool",
        lambda: block_dct(X.bool()),
    ),
    (
        TypeError,
        "images must be uint8 or floating point, got torch.complex64",
        lambda: block_dct(COMPLEX),
    ),
    (
        TypeError,
        "images must be uint8 or floating point, got torch.quint8",
        lambda: block_dct(quantised()),
    ),
    (TypeError, "images must be a dense tensor, got torch.sparse_coo", lambda: block_dct(SPARSE)),
    (TypeError, "images must be a dense tensor, got nested", lambda: block_dct(nested())),
    (
        ValueError,
        r"images must be \[N, 3, H, W\] or \[3, H, W\] with H and W at least 1, got \[8, 8\]",
        lambda: block_dct(X[0, 0]),
    ),
    (ValueError, r"got \[1, 1, 3, 8, 8\]", lambda: block_dct(X[None])),
    (ValueError, r"got \[1, 4, 8, 8\]", lambda: block_dct(torch.zeros(1, 4, 8, 8))),
    (ValueError, r"got \[1, 8, 8, 3\]", lambda: block_dct(torch.zeros(1, 8, 8, 3))),
    (ValueError, r"got \[1, 3, 0, 8\]", lambda: block_dct(torch.zeros(1, 3, 0, 8))),
    (ValueError, r"got \[3, 8, 0\]", lambda: block_dct(torch.zeros(3, 8, 0))),
    # channels
    (ValueError, r"channels must lie in \[0, 192\), got 192", lambda: block_dct(X, [0, 192])),
    (ValueError, r"channels must lie in \[0, 192\), got -1", lambda: block_dct(X, [0, -1])),
    (
        ValueError,
        r"channels must lie in \[0, 192\), got 500",
        lambda: block_dct(X, torch.tensor([500])),
    ),
    (ValueError, "channels must name at least one channel, got none", lambda: block_dct(X, [])),
    (
        TypeError,
        "channels must be a ChannelSelection, a list or a tuple of integers, got 24 "
        r"\(ChannelSelection.of\(24\) is a selection of that size\)",
        lambda: block_dct(X, 24),
    ),
    (TypeError, "a list or a tuple of integers, got 193$", lambda: block_dct(X, 193)),
    (TypeError, "a list or a tuple of integers, got 0$", lambda: block_dct(X, 0)),
    (TypeError, "a list or a tuple of integers, got True$", lambda: block_dct(X, True)),
    (
        TypeError,
        "images must be a tensor, got a ndarray .freqops.data.to_tensor makes one of a picture",
        lambda: block_dct(X.numpy()),
    ),
    (TypeError, "a list or a tuple of integers, got '0'", lambda: block_dct(X, "0")),
    (TypeError, "a list or a tuple of integers, got a set", lambda: block_dct(X, {0, 1})),
    (TypeError, "channels must hold integers, got True", lambda: block_dct(X, [0, True])),
    (TypeError, "channels must hold integers, got 1.0", lambda: block_dct(X, [0, 1.0])),
    (TypeError, "channels must hold integers, got None", lambda: block_dct(X, [None])),
    (
        TypeError,
        "channels must hold integers, got 1.0",
        lambda: block_dct(X, [torch.tensor(1.0)]),
    ),
    (
        TypeError,
        "channels must hold integers, got True",
        lambda: block_dct(X, [0, torch.tensor(True)]),
    ),
    (
        TypeError,
        "channels must hold integers, got a Tensor",
        lambda: block_dct(X, [torch.tensor([0, 1])]),
    ),
    (
        TypeError,
        "channels must hold integers, got True",
        lambda: block_dct(X, [np.array(True)]),
    ),
    (TypeError, "channels must hold integers, got 0.5", lambda: block_dct(X, torch.tensor([0.5]))),
    (
        TypeError,
        "channels must hold integers, got True",
        lambda: block_dct(X, torch.tensor([True])),
    ),
    (
        TypeError,
        r"channels must have one dimension, got a Tensor of shape \[1, 2\]",
        lambda: block_dct(X, torch.tensor([[0, 1]])),
    ),
    (
        TypeError,
        r"channels must have one dimension, got a Tensor of shape \[\]",
        lambda: block_dct(X, torch.tensor(0)),
    ),
    # mean and std
    (TypeError, r"mean must be a tensor, got a list", lambda: block_dct(X, [0], mean=[0.0])),
    (TypeError, "std must be a tensor, got 2.0", lambda: block_dct(X, [0], std=2.0)),
    (
        TypeError,
        "mean must be floating point, got torch.int64",
        lambda: block_dct(X, [0], mean=torch.zeros(1).long()),
    ),
    (
        TypeError,
        "std must be floating point, got torch.complex64",
        lambda: block_dct(X, [0], std=COMPLEX[0, 0, 0, :1]),
    ),
    (
        ValueError,
        r"mean must have one entry per channel, \[2\], or \[192\], got \[3\]",
        lambda: block_dct(X, [0, 1], mean=torch.zeros(3)),
    ),
    (
        ValueError,
        r"std must have one entry per channel, \[2\], or \[192\], got \[2, 1, 1\]",
        lambda: block_dct(X, [0, 1], std=torch.ones(2, 1, 1)),
    ),
    (
        ValueError,
        r"std must have one entry per channel, \[2\], or \[192\], got \[\]",
        lambda: block_dct(X, [0, 1], std=torch.tensor(1.0)),
    ),
    (
        ValueError,
        "mean must be on cpu like the pictures or coefficients, got meta",
        lambda: block_dct(X, [0, 1], mean=META),
    ),
    (
        ValueError,
        "std must be finite and greater than 0, got 0.0 to 1.0",
        lambda: block_dct(X, [0, 1], std=torch.tensor([0.0, 1.0])),
    ),
    (
        ValueError,
        "std must be finite and greater than 0, got -1.0 to 1.0",
        lambda: block_dct(X, [0, 1], std=torch.tensor([1.0, -1.0])),
    ),
    (
        ValueError,
        "std must be finite and greater than 0, got nan",
        lambda: block_dct(X, [0, 1], std=torch.tensor([1.0, float("nan")])),
    ),
    (
        ValueError,
        "std must be finite and greater than 0, got 1.0 to inf",
        lambda: block_dct(X, [0, 1], std=torch.tensor([1.0, float("inf")])),
    ),
    (
        ValueError,
        "mean must be finite, got nan",
        lambda: block_dct(X, [0, 1], mean=torch.tensor([float("nan"), 1.0])),
    ),
    (
        ValueError,
        "mean must be finite, got -inf to 1.0",
        lambda: block_dct(X, [0, 1], mean=torch.tensor([float("-inf"), 1.0])),
    ),
    # the rest
    (
        ValueError,
        f"chroma must be one of {CHOICES}, got '4:2:2'",
        lambda: block_dct(X, chroma="4:2:2"),
    ),
    (TypeError, f"chroma must be one of {CHOICES}, got None", lambda: block_dct(X, chroma=None)),
    (
        ValueError,
        "rounding must be one of 'none', 'jpeg', got 'up'",
        lambda: block_dct(X, rounding="up"),
    ),
    (TypeError, "rounding must be one of 'none', 'jpeg', got 1", lambda: block_dct(X, rounding=1)),
    (
        ValueError,
        "dtype must be one of float32, float64, float16, bfloat16, got torch.uint8",
        lambda: block_dct(X, dtype=torch.uint8),
    ),
    (
        TypeError,
        "dtype must be a torch.dtype, got 'float32'",
        lambda: block_dct(X, dtype="float32"),
    ),
    (
        ValueError,
        "memory_format must be contiguous_format or channels_last, got torch.preserve_format",
        lambda: block_dct(X, memory_format=torch.preserve_format),
    ),
    (
        TypeError,
        "memory_format must be a torch.memory_format, got 1",
        lambda: block_dct(X, memory_format=1),
    ),
    # block_idct
    (TypeError, "coefficients must be a tensor, got None", lambda: block_idct(None)),
    (
        TypeError,
        "coefficients must be floating point, got torch.uint8",
        lambda: block_idct(C.byte(), [0, 1]),
    ),
    (
        TypeError,
        "coefficients must be floating point, got torch.complex64",
        lambda: block_idct(COMPLEX, [0, 1, 2]),
    ),
    (TypeError, "coefficients must be a dense tensor", lambda: block_idct(SPARSE, [0, 1, 2])),
    (
        ValueError,
        r"coefficients must be \[N, C, gh, gw\] or \[C, gh, gw\] .*, got \[2, 2\]",
        lambda: block_idct(C[0, 0], [0, 1]),
    ),
    (
        ValueError,
        r"with gh and gw at least 1, got \[1, 2, 0, 2\]",
        lambda: block_idct(C[:, :, :0], [0, 1]),
    ),
    (
        ValueError,
        r"coefficients must have as many channels as are named, 3, got \[1, 2, 2, 2\]",
        lambda: block_idct(C, [0, 1, 2]),
    ),
    (ValueError, r"as many channels as are named, 192, got \[1, 2, 2, 2\]", lambda: block_idct(C)),
    (
        ValueError,
        "channels must name each channel once, got 5 twice",
        lambda: block_idct(C, [5, 5]),
    ),
    (
        ValueError,
        "channels must name each channel once, got 5 twice",
        lambda: block_idct(C, ChannelSelection([5, 5])),
    ),
    (ValueError, r"channels must lie in \[0, 192\), got 192", lambda: block_idct(C, [0, 192])),
    (TypeError, "integers, got 2", lambda: block_idct(C, 2)),
    (
        ValueError,
        "std must be finite and greater than 0, got 0.0 to 0.0",
        lambda: block_idct(C, [0, 1], std=torch.zeros(2)),
    ),
    (
        ValueError,
        r"mean must have one entry per channel, \[2\], or \[192\], got \[1\]",
        lambda: block_idct(C, [0, 1], mean=torch.zeros(1)),
    ),
    (
        ValueError,
        r"size must lie between \(1, 1\) and \(16, 16\), 8 times the grid, got \(0, 8\)",
        lambda: block_idct(C, [0, 1], size=(0, 8)),
    ),
    (ValueError, r"got \(8, -1\)", lambda: block_idct(C, [0, 1], size=(8, -1))),
    (ValueError, r"got \(16, 17\)", lambda: block_idct(C, [0, 1], size=(16, 17))),
    (
        ValueError,
        r"size must be \(height, width\), got \(8,\)",
        lambda: block_idct(C, [0, 1], size=(8,)),
    ),
    (TypeError, r"size must be \(height, width\), got 8", lambda: block_idct(C, [0, 1], size=8)),
    (TypeError, "size must hold integers, got 8.0", lambda: block_idct(C, [0, 1], size=(8.0, 8))),
    (
        TypeError,
        "size must hold integers, got 8.0",
        lambda: block_idct(C, [0, 1], size=(8, torch.tensor(8.0))),
    ),
    (TypeError, "size must hold integers, got True", lambda: block_idct(C, [0, 1], size=(True, 8))),
    (
        ValueError,
        "dtype must be one of uint8, float32, float64, float16, bfloat16, got torch.int8",
        lambda: block_idct(C, [0, 1], dtype=torch.int8),
    ),
    (TypeError, "dtype must be a torch.dtype, got None", lambda: block_idct(C, [0, 1], dtype=None)),
]


@pytest.mark.parametrize(("error", "message", "call"), REFUSED, ids=[r[1] for r in REFUSED])
def test_refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=rf"^block_i?dct: .*{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_integers_may_be_tensors_of_one_number() -> None:
    channels = [torch.tensor(3), np.int64(0), np.array(1)]
    assert torch.equal(block_dct(X + 1, channels), block_dct(X + 1, [3, 0, 1]))
    assert block_idct(C, [0, 1], size=(torch.tensor(9), np.int32(7))).shape == (1, 3, 9, 7)
