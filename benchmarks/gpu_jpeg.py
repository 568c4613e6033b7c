"""Table of jpeg_gather on a GPU: coefficients of JPEG files to channels on one grid."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from gpu_block_dct import CHECKED, SIDE, square
from gpu_setting import FIGURES, NOT_BUILT, Section, Setting, figures, statistics
from measure_cuda import Call, interleaved
from tables import Row, Table
from torch import Tensor

import freqops
from freqops import reference
from freqops._reference_jpeg import SAMPLINGS, axis

BATCHES = (256, 64, 8)
COUNTS = (24, 64, 192)
NAMES = ("4:4:4", "4:2:0")
SECTOR = 32
"""Bytes that memory moves at least: two rows of a block."""

JPEG = Table(
    "Straight from JPEG",
    "`jpeg_gather`: int16 blocks of pictures of 448x448, a table for each, to float32 results, "
    "with statistics. GB/s count each result once and, of the blocks, the rows that a channel is "
    "made of, in pairs: what 32-byte sectors move. **eager** is the same in plain PyTorch, chroma "
    "by one product with the matrices of its parts.",
    {"blocks": "{}", "subsampling": "{}", "channels": "{}", "form": "{}"}
    | FIGURES
    | {"eager ms": "{:.4f}", "times faster": "**{:.2f}**", "error": "{:.1e}"},
)


class Planes(NamedTuple):
    """int16 blocks (N, height, width, 64) of Y, Cb and Cr."""

    y: Tensor
    cb: Tensor
    cr: Tensor


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to call ``jpeg_gather``."""

    scale: int = 8
    flip: bool = False
    dtype: torch.dtype = torch.float32
    result: torch.memory_format = torch.contiguous_format


PLAIN = "plain"
FORMS = {
    PLAIN: Form(),
    "flip": Form(flip=True),
    "float16": Form(dtype=torch.float16),
    "channels_last": Form(result=torch.channels_last),
    "float16 channels_last": Form(dtype=torch.float16, result=torch.channels_last),
    "scale 4/8": Form(scale=4),
    "scale 7/8": Form(scale=7),
}


@dataclasses.dataclass(frozen=True)
class Files:
    """A batch of pictures of as many blocks of luma."""

    batch: int
    blocks: int
    subsampling: str

    @property
    def shapes(self) -> list[tuple[int, int, int, int]]:
        fy, fx = SAMPLINGS[self.subsampling]
        chroma = (self.batch, -(-self.blocks // fy), -(-self.blocks // fx), 64)
        return [(self.batch, self.blocks, self.blocks, 64), chroma, chroma]

    def drawn(self, draw: torch.Generator) -> Tensor:
        """All planes of noise in one piece, one behind the other."""
        count = sum(n * h * w * c for n, h, w, c in self.shapes)
        return torch.randint(
            -60, 61, (count,), dtype=torch.int16, device=draw.device, generator=draw
        )

    def planes(self, memory: Tensor) -> Planes:
        sizes = [n * h * w * c for n, h, w, c in self.shapes]
        parts = memory.split(sizes)
        return Planes(*[part.view(s) for part, s in zip(parts, self.shapes, strict=True)])

    def read(self, channels: Sequence[int], scale: int) -> int:
        """Bytes of the rows that those channels are made of. Where rows are mapped down, all."""
        total = 0
        for k, (n, height, width, _) in enumerate(self.shapes):
            rows = {c // 8 % 8 for c in channels if c // 64 == k}
            mapped = scale != 8 or (k > 0 and SAMPLINGS[self.subsampling][0] > 1)
            pairs = {row // 2 for row in (range(8) if mapped and rows else rows)}
            total += n * height * width * SECTOR * len(pairs)
        return total


class Eager:
    """jpeg_gather at full size in plain PyTorch: a product with the matrices of the parts of a
    block of chroma, then the chosen columns."""

    def __init__(self, files: Files, tables: Tensor, channels: Sequence[int]) -> None:
        self.factors = SAMPLINGS[files.subsampling]
        self.channels = torch.tensor(channels, device=tables.device)
        self.steps = tables.float()[:, None, None]  # [N, 1, 1, 3, 64]
        fy, fx = self.factors
        down = axis(fy, fy, (8,), like=self.steps).view(fy, 8, 8)
        across = axis(fx, fx, (8,), like=self.steps).view(fx, 8, 8)
        self.parts = torch.einsum("avi,buj->ijabvu", down, across).reshape(64, -1)

    def onto_luma(self, chroma: Tensor, luma: Tensor) -> Tensor:
        fy, fx = self.factors
        if fy == fx == 1:
            return chroma
        n, height, width, _ = chroma.shape
        parts = (chroma @ self.parts).view(n, height, width, fy, fx, 64)
        parts = parts.transpose(2, 3).reshape(n, height * fy, width * fx, 64)
        return parts[:, : luma.shape[1], : luma.shape[2]]

    def __call__(self, planes: Planes, mean: Tensor, std: Tensor) -> Tensor:
        y, cb, cr = (p.float() * self.steps[..., k, :] for k, p in enumerate(planes))
        every = torch.cat([y, self.onto_luma(cb, y), self.onto_luma(cr, y)], 3)
        out = (every[..., self.channels] - mean) / std
        return out.permute(0, 3, 1, 2).contiguous()


def jpeg(setting: Setting) -> Section:
    blocks = setting.side(SIDE) // 8

    def rows(batch: int, count: int, subsampling: str, name: str) -> list[Row]:
        files, form = Files(setting.batch(batch), blocks, subsampling), FORMS[name]
        channels = square(count)
        first: Row = {
            "blocks": f"{files.batch} x {blocks}x{blocks}",
            "subsampling": subsampling,
            "channels": count,
            "form": name,
        }
        if not hasattr(torch.ops.freqops, "jpeg_gather"):
            blank = dict.fromkeys(list(JPEG.columns)[4:])
            return [first | blank | {"timed by": NOT_BUILT}]
        mean, std = statistics(count, setting.device)
        grid = -(-blocks * form.scale // 8)
        written = files.batch * count * grid * grid * form.dtype.itemsize
        moved = files.read(channels, form.scale) + written
        memory = setting.inputs(files.drawn, moved)
        planes = [files.planes(each) for each in memory]
        draw = torch.Generator().manual_seed(1)
        steps = torch.randint(1, 21, (files.batch, 3, 64), dtype=torch.int32, generator=draw)
        tables = steps.to(setting.device)

        def gather(planes: Planes, tables: Tensor) -> Tensor:
            return freqops.jpeg_gather(
                *planes,
                tables,
                channels,
                subsampling=subsampling,
                mean=mean,
                std=std,
                scale=form.scale,
                flip=form.flip,
                dtype=form.dtype,
                memory_format=form.result,
            )

        calls: dict[str, Call] = {"ours": lambda index: gather(planes[index], tables)}
        few = Planes(*[p[:CHECKED] for p in planes[0]])
        got = gather(few, tables[:CHECKED]).double()
        exact = reference.jpeg_gather(
            *few,
            tables[:CHECKED],
            channels,
            subsampling=subsampling,
            mean=mean,
            std=std,
            scale=form.scale,
            flip=form.flip,
            dtype=torch.float64,
        )
        if name == PLAIN:
            eager = Eager(files, tables, channels)
            calls["eager"] = lambda index: eager(planes[index], mean, std)
            torch.testing.assert_close(
                eager(planes[0], mean, std)[:CHECKED].double(), exact, rtol=1e-3, atol=1e-2
            )
        measured = interleaved(
            calls, len(planes), setting.copy, seconds=2 * setting.seconds, least=setting.least
        )
        beside: Row = {"eager ms": None, "times faster": None}
        if name == PLAIN:
            beside = {
                "eager ms": 1e3 * measured.timings["eager"].seconds,
                "times faster": measured.times("ours", "eager"),
            }
        error = float(((got - exact).abs() * std.double().view(-1, 1, 1)).max())
        return [first | figures(measured, "ours", moved) | beside | {"error": error}]

    def case(batch: int, count: int, subsampling: str, name: str) -> str:
        return f"{batch} pictures, {subsampling}, {count} channels, {name}"

    kinds = [(batch, count, s, PLAIN) for batch in BATCHES for s in NAMES for count in COUNTS]
    kinds += [(64, 64, s, name) for s in NAMES for name in FORMS if name != PLAIN]
    return Section(JPEG, {case(*kind): functools.partial(rows, *kind) for kind in kinds})
