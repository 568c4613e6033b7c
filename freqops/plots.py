"""Drawings of the 192 channels: an 8x8 map or mosaic per component, v down and u to the right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from freqops.channels import BLOCK, CHANNELS, FREQUENCIES, ChannelSelection, zigzag_rank
from freqops.reference import YCBCR_TO_RGB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

__all__ = ["COMPONENTS", "channel_maps", "mosaic", "outline"]

COMPONENTS = ("Y", "Cb", "Cr")

INK = "#1c2430"
PAPER = "#ffffff"
MAP_COLOURS = ("#f4f6f8", "#d3e2ea", "#9cc3d5", "#5a9dbd", "#2a7299", "#154b70", "#0a2a45")
"""Pale to dark in even steps of lightness: darker is more, as in the paper's heat maps."""

# A plane's magnitude from nothing to the largest: white light for Y, blue and red for Cb and Cr.
PLANE_COLOURS = (
    ("#0b1320", "#6f7f99", "#ffffff"),
    ("#0b1320", "#3f6fd8", "#cfe2ff"),
    ("#0b1320", "#c8453b", "#ffd9cf"),
)
FAINT, BRIGHT = 3, 150
"""A mosaic tells coefficients between these apart: log(1 + |c| / FAINT), full at BRIGHT."""


def channel_maps(
    axes: Sequence[Axes],
    values: Tensor,
    *,
    norm: Normalize,
    ranks: bool = True,
    chosen: ChannelSelection | None = None,
) -> None:
    """Draws one number per channel as three 8x8 maps (the paper's figures of channel heat maps).

    Args:
        axes: three, for Y, Cb and Cr.
        values: (192,), on one scale for all three.
        norm: matplotlib's map of values to [0, 1], shared by the three.
        ranks: writes the zigzag rank into each cell.
        chosen: outlines the cells of a selection.

    Raises:
        ValueError: there are not three axes, or not 192 values.
    """
    from matplotlib.colors import LinearSegmentedColormap

    if len(axes) != len(COMPONENTS):
        raise ValueError(f"axes must be three, for Y, Cb and Cr, got {len(axes)}")
    if values.shape != (CHANNELS,):
        raise ValueError(f"values must be [{CHANNELS}], got {list(values.shape)}")
    colours = LinearSegmentedColormap.from_list("freqops", MAP_COLOURS)
    for component, ax in enumerate(axes):
        cells = values[component * FREQUENCIES : (component + 1) * FREQUENCIES].reshape(
            BLOCK, BLOCK
        )
        ax.pcolormesh(cells.numpy(), cmap=colours, norm=norm, edgecolors=PAPER, linewidth=1)
        ax.set_aspect("equal")
        ax.invert_yaxis()
        ax.axis("off")
        if ranks:
            for channel, value in enumerate(cells.flatten().tolist()):
                v, u = divmod(channel, BLOCK)
                dark = float(norm(value)) > 0.5
                ax.text(
                    u + 0.5,
                    v + 0.53,
                    str(zigzag_rank(channel)),
                    ha="center",
                    va="center",
                    size=7.5,
                    color=PAPER if dark else INK,
                )
        if chosen is not None:
            outline(ax, (chosen.y, chosen.cb, chosen.cr)[component])


def outline(
    ax: Axes, frequencies: Sequence[int], *, scale: float = 1, colour: str = "#e8590c"
) -> None:
    """Draws the border of a set of cells v * 8 + u: the sides that no two of them share.

    Args:
        ax: where one cell is `scale` units wide and high, v downwards.
        frequencies: numbers in [0, 64).
        scale: side of a cell in the units of ax.
        colour: of the line.
    """
    cells = {divmod(frequency, BLOCK) for frequency in frequencies}
    for v, u in cells:
        sides = {(v - 1, u): ((u, u + 1), (v, v)), (v + 1, u): ((u, u + 1), (v + 1, v + 1))}
        sides |= {(v, u - 1): ((u, u), (v, v + 1)), (v, u + 1): ((u + 1, u + 1), (v, v + 1))}
        for neighbour, (xs, ys) in sides.items():
            if neighbour not in cells:
                ax.plot(
                    [x * scale for x in xs],
                    [y * scale for y in ys],
                    color=colour,
                    lw=2,
                    solid_capstyle="round",
                    clip_on=False,
                )


def mosaic(coefficients: Tensor, component: int, *, side: int = 96, gap: int = 2) -> Tensor:
    """The 64 coefficient planes of one component as an 8x8 mosaic of small pictures.

    The DC tile is the component itself in its own colours; the others show log(1 + |c| / 3),
    averaged where a tile is smaller than its plane, on one scale for all components.

    Args:
        coefficients: (192, gh, gw), all channels, not normalised.
        component: 0 Y, 1 Cb, 2 Cr.
        side: pixels of the longer side of a tile.
        gap: white pixels between tiles.

    Returns:
        float32 (8 (h + gap) - gap, 8 (w + gap) - gap, 3) in [0, 1].
    """
    planes = coefficients[component * FREQUENCIES : (component + 1) * FREQUENCIES].float()
    longest = max(planes.shape[-2:])
    height, width = (max(1, round(side * n / longest)) for n in planes.shape[-2:])
    mode = "area" if longest > side else "nearest"
    bright = (planes.abs() / FAINT).log1p() / math.log1p(BRIGHT / FAINT)
    bright[0] = planes[0] / BLOCK  # the mean of a block, less 128
    tiles = F.interpolate(bright[None], (height, width), mode=mode)[0]
    low, middle, high = map(_rgb, PLANE_COLOURS[component])
    upper = (2 * tiles[..., None]).clamp(0, 2)
    painted = low + upper.clamp(max=1) * (middle - low) + (upper - 1).clamp(min=0) * (high - middle)
    toward_rgb = torch.tensor([row[component] for row in YCBCR_TO_RGB])
    painted[0] = ((128 + tiles[0, ..., None] * toward_rgb) / 255).clamp(0, 1)
    canvas = torch.ones(BLOCK, height + gap, BLOCK, width + gap, 3)
    canvas[:, :height, :, :width] = painted.reshape(BLOCK, BLOCK, height, width, 3).transpose(1, 2)
    rows, columns = BLOCK * (height + gap), BLOCK * (width + gap)
    return canvas.reshape(rows, columns, 3)[: rows - gap, : columns - gap]


def _rgb(colour: str) -> Tensor:
    return torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
