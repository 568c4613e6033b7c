"""Blocks of coefficients as JPEG files hold them, for the tests of jpeg_gather."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from support import CHANNELS, Backend, generator
from torch import Tensor

from freqops import reference
from freqops._reference_jpeg import SAMPLINGS, Scale, eighths, grid_after

F32, F64 = torch.float32, torch.float64
RESULTS = [torch.float32, torch.float16, torch.bfloat16]
NAMES = list(SAMPLINGS)
SCALES: list[Scale] = [
    8,
    *[k for k in range(1, 17) if k != 8],
    (3, 7),
    ((2, 6), 5),
    ((11, 1), (1, 11)),
]
VALUE, STEP = 300, 20  # |value * table| is at most 6000
ALL = list(range(CHANNELS))


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The tensors of one call."""

    y: Tensor
    cb: Tensor | None
    cr: Tensor | None
    tables: Tensor | None
    subsampling: str

    @property
    def planes(self) -> list[Tensor]:
        return [p for p in (self.y, self.cb, self.cr) if p is not None]

    def map(self, f: Callable[[Tensor], Tensor]) -> Blocks:
        """Each plane in another layout."""
        cb, cr = (p if p is None else f(p) for p in (self.cb, self.cr))
        return dataclasses.replace(self, y=f(self.y), cb=cb, cr=cr)

    def one(self, n: int) -> Blocks:
        """One picture of the batch."""
        each = self.tables is not None and self.tables.dim() == 3
        alone = self.map(lambda p: p[n : n + 1])
        return dataclasses.replace(alone, tables=self.tables[n]) if each else alone

    def grid(self, scale: Scale) -> tuple[int, int]:
        down, across = eighths(scale)
        return grid_after(self.y.shape[-3], down), grid_after(self.y.shape[-2], across)


def blocks(
    subsampling: str,
    by: int,
    bx: int,
    n: int = 2,
    tables: str | None = "shared",
    *,
    value: int = VALUE,
    seed: int = 0,
) -> Blocks:
    """Noise. tables: None, "shared" or "each", a set for each picture."""
    draw = generator(seed)
    fy, fx = SAMPLINGS[subsampling]

    def plane(height: int, width: int) -> Tensor:
        shape = (n, height, width, 64)
        return torch.randint(-value, value + 1, shape, dtype=torch.int16, generator=draw)

    gray = subsampling == "gray"
    y = plane(by, bx)
    cb, cr = (None if gray else plane(-(-by // fy), -(-bx // fx)) for _ in range(2))
    shape = (1 if gray else 3, 64) if tables == "shared" else (n, 1 if gray else 3, 64)
    steps = torch.randint(1, STEP + 1, shape, dtype=torch.int32, generator=draw)
    return Blocks(y, cb, cr, None if tables is None else steps, subsampling)


def statistics(count: int = CHANNELS) -> tuple[Tensor, Tensor]:
    draw = torch.rand(2, count, generator=generator(1))
    return 20 * draw[0] - 10, 1 + draw[1]


def on(device: str, t: Tensor) -> Tensor:
    """There, as it lies in its memory: `to` alone would close gaps."""
    if device == "cpu":
        return t
    count = t.untyped_storage().nbytes() // t.element_size()
    memory = t.as_strided((count,), (1,), 0).to(device)
    return memory.as_strided(t.shape, t.stride(), t.storage_offset())


def gather(
    backend: Backend,
    b: Blocks,
    channels: list[int],
    mean: Tensor | None = None,
    std: Tensor | None = None,
    *,
    scale: Scale = 8,
    crop: tuple[int, int, int, int] | None = None,
    flip: bool = False,
    dtype: torch.dtype = F32,
    channels_last: bool = False,
) -> Tensor:
    """The operator of a backend; those that lack it are skipped."""
    if not hasattr(backend.ops._namespace, "jpeg_gather"):
        pytest.skip(f"{backend} has no jpeg_gather")
    given = (b.y, b.cb, b.cr, b.tables, mean, std)
    tensors = tuple(None if t is None else on(backend.device, t) for t in given)
    part = (0, 0, *b.grid(scale)) if crop is None else crop
    rest = (b.subsampling, *map(list, eighths(scale)), *part, flip, dtype, channels_last)
    out: Tensor = backend.ops.jpeg_gather(*tensors[:4], channels, *tensors[4:], *rest)
    assert out.dtype == dtype
    form = torch.channels_last if channels_last else torch.contiguous_format
    assert out.is_contiguous(memory_format=form)
    return out.cpu()


def wanted(b: Blocks, channels: list[int], mean: Tensor | None = None, std: Tensor | None = None, *,
           scale: Scale = 8, crop: tuple[int, int, int, int] | None = None, flip: bool = False,
           ) -> Tensor:  # fmt: skip
    """The same by the reference in float64."""
    options = {"scale": scale, "crop": crop, "flip": flip, "mean": mean, "std": std, "dtype": F64}
    planes = (b.y, b.cb, b.cr, b.tables)
    return reference.jpeg_gather(*planes, channels, subsampling=b.subsampling, **options)


def largest(b: Blocks) -> float:
    """|value * table|, at most."""
    values = max((int(p.abs().max()) for p in b.planes if p.numel()), default=0)
    return float(values * (1 if b.tables is None else int(b.tables.max())))


def assert_close(got: Tensor, want: Tensor, dtype: torch.dtype, most: float) -> None:
    """1e-4 (1 + |x|) and one rounding of the stored type. Terms of more than 400 are rounded to
    2^-22 of themselves or so, whatever is left of them in the sum."""
    assert got.dtype == dtype
    assert got.shape == want.shape
    rounding = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 0.0)
    absolute = max(1e-4, 2.0**-22 * most)
    torch.testing.assert_close(got.cpu().double(), want, atol=absolute, rtol=1e-4 + rounding)


def check(
    backend: Backend,
    b: Blocks,
    channels: list[int],
    mean: Tensor | None = None,
    std: Tensor | None = None,
    *,
    scale: Scale = 8,
    crop: tuple[int, int, int, int] | None = None,
    flip: bool = False,
    dtype: torch.dtype = F32,
    channels_last: bool = False,
) -> None:
    """The operator against the reference."""
    got = gather(backend, b, channels, mean, std, scale=scale, crop=crop, flip=flip, dtype=dtype,
                 channels_last=channels_last)  # fmt: skip
    want = wanted(b, channels, mean, std, scale=scale, crop=crop, flip=flip)
    assert_close(got, want, dtype, largest(b))


def dct_matrix(size: int) -> Tensor:
    """D[v, i], orthonormal, by its definition."""
    rows = [[math.cos((2 * i + 1) * v * math.pi / (2 * size)) for i in range(size)]
            for v in range(size)]  # fmt: skip
    d = torch.tensor(rows, dtype=F64) * math.sqrt(2 / size)
    d[0] = math.sqrt(1 / size)
    return d
