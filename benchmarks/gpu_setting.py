"""What the GPU's tables share: sizes, noise, the kernels to choose from, and columns."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from measure_cuda import Copy, Measured, inputs_for
from tables import Row, Table
from torch import Tensor

import freqops.ops  # noqa: F401  loads the libraries

Case = Callable[[], list[Row]]
"""Measures some rows of a table."""

REGISTERS, PRODUCT = "registers", "product"

NOT_BUILT = "not in this build"

FIGURES = {
    "ms": "{:.4f}",
    "GB/s": "{:.0f}",
    "of copy": "**{:.1%}**",
    "floor ms": "{:.4f}",
    "spread": "{:.0%}",
    "timed by": "{}",
}


class Section(NamedTuple):
    """A table, and what measures its rows, by name."""

    table: Table
    cases: Mapping[str, Case]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how long to measure.

    Args:
        device: "cuda", or "cpu" for the tests of this code.
        tiny: two pictures of a few blocks instead of many large ones.
        seconds: for the rounds of a case.
        least: rounds in any case.
        backend: of torch.compile.
        full: compiled rivals at 8 pictures too.
    """

    device: torch.device
    tiny: bool = False
    seconds: float = 0.5
    least: int = 10
    backend: str = "inductor"
    full: bool = False

    def batch(self, count: int) -> int:
        return min(count, 2) if self.tiny else count

    def side(self, pixels: int) -> int:
        """Of a picture; a tiny one keeps what is beyond the last whole block."""
        return max(8, pixels // 28 // 8 * 8) + pixels % 8 if self.tiny else pixels

    @functools.cached_property
    def copy(self) -> Copy:
        return Copy(self.device, 1 << 16 if self.tiny else 1 << 30)

    @property
    def generator(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(0)

    def inputs(self, make: Callable[[torch.Generator], Tensor], size: int) -> list[Tensor]:
        """Different noise, on so many inputs as calls that move ``size`` bytes need."""
        draw = self.generator
        return [make(draw) for _ in range(inputs_for(size, self.device))]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A batch of noise, uint8 or floating point in [0, 1]."""

    batch: int
    height: int
    width: int
    dtype: torch.dtype = torch.uint8
    layout: torch.memory_format = torch.contiguous_format

    def __str__(self) -> str:
        return f"{self.batch} x {self.height}x{self.width}"

    @property
    def blocks(self) -> int:
        return self.batch * -(-self.height // 8) * -(-self.width // 8)

    @property
    def nbytes(self) -> int:
        return 3 * self.batch * self.height * self.width * self.dtype.itemsize

    def drawn(self, draw: torch.Generator) -> Tensor:
        shape = (self.batch, 3, self.height, self.width)
        pixels = torch.randint(
            0, 256, shape, dtype=torch.uint8, device=draw.device, generator=draw
        ).contiguous(memory_format=self.layout)
        return pixels if self.dtype == torch.uint8 else (pixels / 255).to(self.dtype)


def statistics(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """mean and std (C,), std at least 1/2."""
    draw = torch.Generator().manual_seed(1)
    mean, std = (
        torch.randn(channels, generator=draw),
        torch.rand(channels, generator=draw) + 0.5,
    )
    return mean.to(device), std.to(device)


def kernels(device: torch.device) -> tuple[str, ...]:
    """The kernels of ``block_dct`` for bytes on this device, the default first."""
    if device.type == "cuda" and hasattr(torch.ops.freqops, "set_dct_kernel"):
        return (REGISTERS, PRODUCT)
    return (REGISTERS,)


@contextlib.contextmanager
def kernel(name: str) -> Iterator[None]:
    """Calls within run that kernel, where it computes what is asked for."""
    if name == REGISTERS:
        yield
        return
    torch.ops.freqops.set_dct_kernel(name)
    try:
        yield
    finally:
        torch.ops.freqops.set_dct_kernel(REGISTERS)


def figures(measured: Measured, name: str, size: int) -> Row:
    """The columns FIGURES of a candidate that must move so many bytes."""
    timing = measured.timings[name]
    return {
        "ms": 1e3 * timing.seconds,
        "GB/s": size / timing.seconds / 1e9,
        "of copy": measured.of_copy(name, size),
        "floor ms": 1e3 * measured.floor(size),
        "spread": timing.spread,
        "timed by": timing.how,
    }


def milliseconds(measured: Measured) -> dict[str, float]:
    """Of all candidates, the fastest first."""
    took = {name: 1e3 * timing.seconds for name, timing in measured.timings.items()}
    return dict(sorted(took.items(), key=lambda item: item[1]))
