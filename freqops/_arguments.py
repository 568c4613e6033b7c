"""What the public functions check of their arguments, in Python because errors are sentences there.

Each rule stands once: what memory safety needs is checked by the operators, what the user's meaning
needs is checked here. Nothing here reads a value on a GPU or under a compiler.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from freqops.channels import BLOCK, CHANNELS, ChannelSelection, python_number

__all__ = [
    "Channels",
    "accumulate",
    "check_choice",
    "check_coefficients",
    "check_dtype",
    "check_images",
    "check_memory_format",
    "check_size",
    "check_statistic",
    "check_temperature",
    "check_tensor",
    "check_values",
    "describe",
    "integer",
    "read_channels",
]

Channels = ChannelSelection | Sequence[int] | Tensor | None

ALL_CHANNELS = tuple(range(CHANNELS))
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PICTURES = (torch.uint8, *FLOATS)
PLAIN = (Tensor, torch.nn.Parameter)


def accumulate(*dtypes: torch.dtype) -> torch.dtype:
    """The type that an operator computes in."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def check_images(function: str, images: Tensor) -> None:
    check_tensor(function, "images", images, PICTURES, "uint8 or floating point")
    shape = images.shape
    if len(shape) not in (3, 4) or shape[-3] != 3 or shape[-2] < 1 or shape[-1] < 1:
        raise ValueError(
            f"{function}: images must be [N, 3, H, W] or [3, H, W] with H and W at least 1, "
            f"got {list(shape)}"
        )


def check_coefficients(function: str, coefficients: Tensor, channels: Sequence[int]) -> None:
    check_tensor(function, "coefficients", coefficients, FLOATS, "floating point")
    shape = coefficients.shape
    if len(shape) not in (3, 4) or shape[-2] < 1 or shape[-1] < 1:
        raise ValueError(
            f"{function}: coefficients must be [N, C, gh, gw] or [C, gh, gw] with gh and gw at "
            f"least 1, got {list(shape)}"
        )
    if shape[-3] != len(channels):
        raise ValueError(
            f"{function}: coefficients must have as many channels as are named, "
            f"{len(channels)}, got {list(shape)}"
        )


def read_channels(function: str, channels: Channels) -> Sequence[int]:
    """The channel numbers, each in [0, 192)."""
    if channels is None:
        return ALL_CHANNELS
    if isinstance(channels, ChannelSelection):
        return channels.indices
    if not isinstance(channels, (list, tuple)):
        channels = _read_array(function, channels)
    if len(channels) == 0:
        raise ValueError(f"{function}: channels must name at least one channel, got none")
    for channel in channels:
        if type(channel) is not int:
            channels = [integer(function, "channels", c) for c in channels]
            break
    # One by one: a compiler with dynamic sizes takes minutes over the least of a long list.
    for channel in channels:
        if not 0 <= channel < CHANNELS:
            raise ValueError(f"{function}: channels must lie in [0, {CHANNELS}), got {channel}")
    return channels


def check_statistic(
    function: str, argument: str, values: Tensor | None, count: int, beside: Tensor
) -> Tensor | None:
    """mean or std as the operators take them: float32 or float64."""
    if values is None:
        return None
    floats = "floating point"
    check_tensor(function, argument, values, FLOATS, floats)
    if values.dim() != 1 or values.shape[0] not in (count, CHANNELS):
        raise ValueError(
            f"{function}: {argument} must have one entry per channel, [{count}], or [{CHANNELS}], "
            f"got {list(values.shape)}"
        )
    if values.device != beside.device:
        raise ValueError(
            f"{function}: {argument} must be on {beside.device} like the pictures or "
            f"coefficients, got {values.device}"
        )
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def check_values(function: str, mean: Tensor | None, std: Tensor | None) -> None:
    """Called where an operator failed: a ValueError, where the values of mean or std are why.

    The operator reads them all the same, and under compilers and transforms its RuntimeError
    stands. Two reductions before each call would take as long as the transform of a small picture.
    """
    for argument, values in (("mean", mean), ("std", std)):
        if values is not None and not torch.compiler.is_compiling() and _readable(values):
            _check_values(function, argument, values)


def check_temperature(function: str, tau: object, dtype: torch.dtype) -> float:
    """A number greater than 0 that the type holds: in float32 1e-50 is 0 and 1e39 infinite."""
    # First what Dynamo knows to be a number, though not which.
    number = tau if isinstance(tau, (int, float)) else python_number(tau)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(
            f"{function}: tau must be a number or a tensor without dimensions, got {describe(tau)}"
        )
    limits = torch.finfo(dtype)
    if not limits.tiny <= number <= limits.max:  # true for NaN
        name = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{function}: tau must be greater than 0 and finite in {name}, got {number}"
        )
    return number


def check_choice(function: str, argument: str, value: str, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise TypeError(
            f"{function}: {argument} must be one of {', '.join(map(repr, choices))}, "
            f"got {describe(value)}"
        )
    if value not in choices:
        raise ValueError(
            f"{function}: {argument} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )


def check_dtype(function: str, dtype: torch.dtype, choices: tuple[torch.dtype, ...]) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{function}: dtype must be a torch.dtype, got {describe(dtype)}")
    if dtype not in choices:
        names = ", ".join(str(choice).removeprefix("torch.") for choice in choices)
        raise ValueError(f"{function}: dtype must be one of {names}, got {dtype}")


def check_memory_format(function: str, memory_format: torch.memory_format | None) -> bool:
    """Whether the result is to be channels_last."""
    if memory_format is None or memory_format == torch.contiguous_format:
        return False
    if not isinstance(memory_format, torch.memory_format):
        raise TypeError(
            f"{function}: memory_format must be a torch.memory_format, "
            f"got {describe(memory_format)}"
        )
    if memory_format != torch.channels_last:
        raise ValueError(
            f"{function}: memory_format must be contiguous_format or channels_last, "
            f"got {memory_format}"
        )
    return True


def check_size(function: str, size: Sequence[int], rows: int, columns: int) -> tuple[int, int]:
    """The size of the pictures, at most rows x columns of blocks."""
    if not isinstance(size, (list, tuple)):
        raise TypeError(f"{function}: size must be (height, width), got {describe(size)}")
    if len(size) != 2:
        raise ValueError(f"{function}: size must be (height, width), got {size!r}")
    h, w = (integer(function, "size", value) for value in size)
    # In blocks: where the grid was computed from h and w, a compiler sees that this holds.
    if h < 1 or w < 1 or _blocks(h) > rows or _blocks(w) > columns:
        raise ValueError(
            f"{function}: size must lie between (1, 1) and ({BLOCK * rows}, {BLOCK * columns}), "
            f"8 times the grid, got ({h}, {w})"
        )
    return h, w


def check_tensor(
    function: str, argument: str, value: Tensor, dtypes: tuple[torch.dtype, ...], expected: str
) -> None:
    if not isinstance(value, Tensor):
        hint = ""
        if argument == "images" and (hasattr(value, "mode") or hasattr(value, "__array__")):
            hint = " (freqops.data.to_tensor makes one of a picture)"
        raise TypeError(f"{function}: {argument} must be a tensor, got {describe(value)}{hint}")
    if value.layout != torch.strided or value.is_nested:
        kind = "nested" if value.is_nested else value.layout
        raise TypeError(f"{function}: {argument} must be a dense tensor, got {kind}")
    if value.dtype not in dtypes:
        raise TypeError(f"{function}: {argument} must be {expected}, got {value.dtype}")


def _read_array(function: str, channels: object) -> list[int]:
    """The numbers of an integer tensor or array, which a compiler does not know."""
    expected = "a ChannelSelection, a list or a tuple of integers"
    dtype, shape = getattr(channels, "dtype", None), getattr(channels, "shape", None)
    if dtype is None or shape is None or not hasattr(channels, "tolist"):
        hint = ""
        is_int = isinstance(channels, int) and not isinstance(channels, bool)
        if is_int and channels in range(1, CHANNELS + 1):
            hint = f" (ChannelSelection.of({channels}) is a selection of that size)"
        raise TypeError(f"{function}: channels must be {expected}, got {describe(channels)}{hint}")
    if torch.compiler.is_compiling():
        raise TypeError(
            f"{function}: channels must be {expected} under torch.compile and torch.export, "
            f"where a tensor's values are not known, got {describe(channels)}"
        )
    if len(shape) != 1:
        raise TypeError(
            f"{function}: channels must have one dimension, got {describe(channels)} of shape "
            f"{list(shape)}"
        )
    values: list[int] = channels.tolist()
    return values


def integer(function: str, argument: str, value: object) -> int:
    # bool is an int, and has an __index__, but is no number of a channel.
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, torch.SymInt):  # a size that a compiler has not fixed
        return value  # type: ignore[return-value]
    if isinstance(value, Tensor) and torch.compiler.is_compiling():
        raise TypeError(
            f"{function}: {argument} must hold integers under torch.compile and torch.export, "
            "where a tensor's value is not known, got a Tensor"
        )
    value = python_number(value)
    # What is an array still holds more than one number, or none.
    if isinstance(value, bool) or not hasattr(value, "__index__") or hasattr(value, "shape"):
        raise TypeError(f"{function}: {argument} must hold integers, got {describe(value)}")
    return operator.index(value)


def _blocks(pixels: int) -> int:
    return (pixels + BLOCK - 1) // BLOCK


def _readable(values: Tensor) -> bool:
    """Whether the values can be read without waiting for a GPU or disturbing a transform."""
    return (
        values.is_cpu
        and type(values) in PLAIN
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
    )


def _check_values(function: str, argument: str, values: Tensor) -> None:
    low, high = (bound.item() for bound in torch.aminmax(values.detach()))
    if argument == "std":
        if not (low > 0 and high < math.inf):  # false for NaN, which aminmax passes on
            raise ValueError(
                f"{function}: std must be finite and greater than 0, got {low} to {high}"
            ) from None
    elif not (low > -math.inf and high < math.inf):
        raise ValueError(f"{function}: mean must be finite, got {low} to {high}") from None


def describe(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, (bool, int, float, str)):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
