"""What the operator tests share: backends, pictures in every layout, tolerances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

EMULATED = Path(__file__).parent / "emulation" / "_emulated.so"
CHANNELS = 192
FLOATING = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
STORED = [torch.uint8, *FLOATING]
CHROMA = ["4:4:4", "4:2:0", "dctnet"]

# (absolute, relative) error allowed in a result of that type, in coefficient units: 1e-3 of
# float32 sums, then one rounding of the stored type.
TOLERANCE = {
    torch.float32: (1e-3, 0.0),
    torch.float64: (1e-9, 0.0),
    torch.float16: (1e-3, 2.0**-11),
    torch.bfloat16: (1e-3, 2.0**-8),
}


@dataclass(frozen=True)
class Backend:
    """One implementation of the operators: `ops.block_dct(...)` on tensors of `device`."""

    name: str
    ops: Any
    device: str

    def __str__(self) -> str:
        return self.name


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(
    shape: tuple[int, ...], dtype: torch.dtype = torch.uint8, layout: str = "contiguous"
) -> Tensor:
    """Noise in [0, 255] for uint8 and in [0, 1] for floating point."""
    pixels = torch.randint(0, 256, shape, generator=generator())
    return LAYOUTS[layout](pixels.to(dtype) if dtype == torch.uint8 else (pixels / 255).to(dtype))


def _sliced(x: Tensor) -> Tensor:
    """Every second row and third column of a larger tensor."""
    larger = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 3 * x.shape[3])
    larger[..., ::2, 1::3] = x
    return larger[..., ::2, 1::3]


def _padded_rows(x: Tensor) -> Tensor:
    """Rows that start an odd number of elements apart."""
    larger = x.new_zeros(*x.shape[:3], x.shape[3] + 5)
    larger[..., 3:-2] = x
    return larger[..., 3:-2]


def _cropped_channels_last(x: Tensor) -> Tensor:
    """A part of a larger picture that has its colours beside each other, as decoders give it."""
    n, colours, height, width = x.shape
    larger = x.new_zeros(n, height + 2, width + 5, colours).permute(0, 3, 1, 2)
    larger[..., 1:-1, 3:-2] = x
    return larger[..., 1:-1, 3:-2]


def _misaligned(x: Tensor) -> Tensor:
    """One element behind the start of its memory."""
    flat = x.new_zeros(x.numel() + 1)
    flat[1:] = x.reshape(-1)
    return flat[1:].view(x.shape)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": _sliced,
    "padded_rows": _padded_rows,
    "cropped_channels_last": _cropped_channels_last,
    "misaligned": _misaligned,
    "transposed": lambda x: x.mT.contiguous().mT,
    "expanded": lambda x: x[:1, :1, :1].expand(x.shape),
    "batch_last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}


def statistics(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """mean and std; std is at least 1, so that a tolerance in coefficient units holds."""
    draw = torch.rand(2, count, generator=generator(1), dtype=dtype)
    return 20 * draw[0] - 10, 1 + draw[1]


def selection(count: int, seed: int = 2) -> list[int]:
    """Distinct channels in no order."""
    return torch.randperm(CHANNELS, generator=generator(seed))[:count].tolist()


def exact(x: Tensor) -> Tensor:
    """x in float64, uint8 pictures as they are: references then compute in float64."""
    return x if x.dtype == torch.uint8 else x.double()


def assert_near(got: Tensor, want: Tensor, dtype: torch.dtype, unit: float = 1.0) -> None:
    """got is of that type and differs from want by what TOLERANCE allows; unit scales its first."""
    assert got.dtype == dtype
    absolute, relative = TOLERANCE[dtype]
    torch.testing.assert_close(
        got.cpu().double(), want.double(), atol=absolute * unit, rtol=relative, equal_nan=True
    )


def cuda_graph_of(
    step: Callable[[], tuple[Tensor, ...]],
) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """A CUDA graph of a step, after one that warms up, and the tensors that a replay fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    return graph, results
