"""The rivals of ``jpeg_gather``: what a user without freqops writes in PyTorch.

Of blocks of coefficients, quantisation steps, the replication of chroma and the statistics make one
affine map. For what is not subsampled it is a factor and an offset for each chosen coefficient; for
chroma that is, a matrix from the 64 coefficients of a block to the chosen ones of fy x fx blocks:
a matrix product, or a transposed convolution with the coefficients as channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import freqops
from freqops import ChannelSelection, reference
from freqops._reference_jpeg import SAMPLINGS

Planes = tuple[Tensor, Tensor, Tensor]
Rival = Callable[[Planes], Tensor]
Chroma = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Gathering:
    """What all of them compute: the arguments of ``jpeg_gather``.

    Args:
        channels: listed Y, Cb, Cr, none of these empty.
        mean, std: (C,) float32.
        tables: (3, 64) int32.
        subsampling: "4:4:4", "4:2:2", "4:4:0", "4:2:0" or "4:1:1".
    """

    channels: ChannelSelection
    mean: Tensor
    std: Tensor
    tables: Tensor
    subsampling: str

    def freqops(self, planes: Planes, **options: object) -> Tensor:
        """Ours."""
        return freqops.jpeg_gather(
            *planes,
            self.tables,
            self.channels,
            subsampling=self.subsampling,
            mean=self.mean,
            std=self.std,
            **options,
        )

    def exact(self, planes: Planes) -> Tensor:
        """The reference in float64."""
        return reference.jpeg_gather(
            *planes,
            self.tables,
            self.channels,
            subsampling=self.subsampling,
            mean=self.mean,
            std=self.std,
            dtype=torch.float64,
        )

    def error(self, result: Tensor, exact: Tensor) -> float:
        """The largest error of a result, in coefficient units."""
        return float(((result - exact).abs() * self.std.double().view(-1, 1, 1)).max())


def random_planes(batch: int, by: int, bx: int, subsampling: str) -> Planes:
    """Values in [-50, 50]."""
    draw = torch.Generator().manual_seed(0)
    fy, fx = SAMPLINGS[subsampling]
    y, cb, cr = (
        torch.randint(-50, 51, (batch, h, w, 64), dtype=torch.int16, generator=draw)
        for h, w in ((by, bx), *((-(-by // fy), -(-bx // fx)),) * 2)
    )
    return y, cb, cr


def folded_maps(gathering: Gathering) -> tuple[Tensor, Tensor]:
    """Weights (3, 64, C, fy, fx) and offsets (C,), float64, from a block of each component to all
    results: where the component is 1 at one coefficient, less where it is 0."""
    fy, fx = SAMPLINGS[gathering.subsampling]
    zero = [torch.zeros(64, fy, fx, 64, dtype=torch.int16)] + [
        torch.zeros(64, 1, 1, 64, dtype=torch.int16) for _ in range(2)
    ]
    nothing = gathering.exact((zero[0], zero[1], zero[2]))
    weights = []
    for k in range(3):
        planes = list(zero)
        planes[k] = zero[k].clone()
        planes[k][:, 0, 0] = torch.eye(64, dtype=torch.int16)
        weights.append(gathering.exact((planes[0], planes[1], planes[2])) - nothing)
    return torch.stack(weights), nothing[0, :, 0, 0]


def selecting(indices: Tensor, factor: Tensor, offset: Tensor) -> Callable[[Tensor], Tensor]:
    """``x[..., indices] * factor + offset`` of one component."""
    return lambda blocks: torch.addcmul(offset, blocks[..., indices].float(), factor)


def product(blocks: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """[N, y, x, 64] -> [N, fy y, fx x, C] by ``blocks.float() @ W``, W of 64 by fy fx C."""
    n, y, x, _ = blocks.shape
    _, c, fy, fx = weight.shape
    matrix = weight.permute(0, 2, 3, 1).flatten(1)
    out = torch.addmm(offset.repeat(fy * fx), blocks.float().flatten(0, 2), matrix)
    return out.view(n, y, x, fy, fx, c).permute(0, 1, 3, 2, 4, 5).reshape(n, fy * y, fx * x, c)


def transposed_convolution(blocks: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """The same by ``F.conv_transpose2d`` of the coefficients as channels, which lie so already."""
    channels_last = blocks.float().permute(0, 3, 1, 2)
    return F.conv_transpose2d(channels_last, weight, offset, weight.shape[2:]).permute(0, 2, 3, 1)


def gathered(gathering: Gathering, chroma: Chroma, contiguous: bool) -> Rival:
    """Components one after the other, together along the channels."""
    weights, offsets = folded_maps(gathering)
    chosen = (gathering.channels.y, gathering.channels.cb, gathering.channels.cr)
    maps: list[Callable[[Tensor], Tensor]] = []
    start = 0
    for k, indices in enumerate(chosen):
        part = slice(start, start + len(indices))
        start += len(indices)
        weight, offset = weights[k, :, part].float(), offsets[part].float()
        if k == 0 or weight.shape[2:] == (1, 1):
            factor = torch.stack([weight[u, i, 0, 0] for i, u in enumerate(indices)])
            maps.append(selecting(torch.tensor(indices), factor, offset))
        else:
            maps.append(lambda blocks, w=weight, b=offset: chroma(blocks, w, b))

    def rival(planes: Planes) -> Tensor:
        height, width = planes[0].shape[1:3]
        parts = [f(p)[:, :height, :width] for f, p in zip(maps, planes, strict=True)]
        out = torch.cat(parts, 3).permute(0, 3, 1, 2)
        return out.contiguous() if contiguous else out

    return rival


def rivals(gathering: Gathering) -> dict[str, Rival]:
    """All of them by name, eager. Results are contiguous, or channels_last, as they come."""
    ways: dict[str, Chroma] = {"select": product}
    if SAMPLINGS[gathering.subsampling] != (1, 1):
        ways = {"product": product, "transposed convolution": transposed_convolution}
    out = {}
    for name, chroma in ways.items():
        out[name] = gathered(gathering, chroma, True)
        out[f"{name}, channels_last"] = gathered(gathering, chroma, False)
    return out
