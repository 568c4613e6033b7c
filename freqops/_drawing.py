"""What the figures are made of: maps and mosaics of the 192 channels, v down and u to the right."""

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
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure

__all__ = [
    "CLOSED",
    "COMPONENTS",
    "INK",
    "MAP_COLOURS",
    "MARK",
    "MUTED",
    "PLANE_COLOURS",
    "SIGNED_COLOURS",
    "channel_maps",
    "colour_bar",
    "colours",
    "frame",
    "mosaic",
    "outline",
    "place",
    "plane_mosaic",
]

COMPONENTS = ("Y", "Cb", "Cr")

INK = "#1c2430"
MUTED = "#667085"
PAPER = "#ffffff"
MARK = "#e8590c"
MAP_COLOURS = ("#f4f6f8", "#d3e2ea", "#9cc3d5", "#5a9dbd", "#2a7299", "#154b70", "#0a2a45")
"""Pale to dark in even steps of lightness: darker is more, as in the paper's heat maps."""

SIGNED_COLOURS = (
    *("#6e2a06", "#b54a0e", "#e08a55", "#f3d2bd"),
    MAP_COLOURS[0],
    *("#d3e2ea", "#5a9dbd", "#2a7299", "#154b70"),
)
"""The same for numbers of both signs: orange below zero, blue above, as many of each."""

ABSENT, CLOSED = "#c4cbd4", "#e4e8ed"
"""The rank of a channel that is not there, and the tile of one that a gate closed."""

# A plane's magnitude from nothing to the largest: white light for Y, blue and red for Cb and Cr.
PLANE_COLOURS = (
    ("#0b1320", "#6f7f99", "#ffffff"),
    ("#0b1320", "#3f6fd8", "#cfe2ff"),
    ("#0b1320", "#c8453b", "#ffd9cf"),
)
FAINT, BRIGHT = 3, 150
"""A mosaic tells coefficients between these apart: log(1 + |c| / FAINT), full at BRIGHT."""

CONTRAST = 15
"""The same for normalised planes, whose magnitudes are more alike."""


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes in a box in inches, from the top left corner of the figure."""
    across, down = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )


def frame(ax: Axes) -> None:
    """A thin line around ax, so that what is blank has a place."""
    from matplotlib.patches import Rectangle

    box = Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=CLOSED, clip_on=False)
    ax.add_patch(box).set_zorder(1.5)  # above cells, below what outline draws


def colours(names: Sequence[str] = MAP_COLOURS) -> LinearSegmentedColormap:
    """matplotlib's colour map through the named colours."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("freqops", list(names))


def colour_bar(
    ax: Axes, norm: Normalize, label: str = "", names: Sequence[str] = MAP_COLOURS
) -> None:
    """Fills ax, upright and narrow, with the colours of a map and the numbers they stand for."""
    from matplotlib.cm import ScalarMappable

    bar = ax.figure.colorbar(ScalarMappable(norm, colours(names)), cax=ax)
    bar.set_label(label, color=INK, size=9)
    bar.outline.set_visible(False)
    ax.tick_params(length=2.5, color=MUTED, labelcolor=INK, labelsize=8)


def channel_maps(
    axes: Sequence[Axes],
    values: Tensor,
    *,
    norm: Normalize,
    ranks: bool = True,
    chosen: ChannelSelection | None = None,
    among: ChannelSelection | None = None,
    names: Sequence[str] = MAP_COLOURS,
) -> None:
    """Draws one number per channel as three 8x8 maps (the paper's figures of channel heat maps).

    Args:
        axes: three, for Y, Cb and Cr.
        values: (192,), on one scale for all three.
        norm: matplotlib's map of values to [0, 1], shared by the three.
        ranks: writes the zigzag rank into each cell.
        chosen: outlines the cells of a selection.
        among: the channels that there are; the cells of others stay blank. None for all.
        names: colours from the lowest value to the highest.

    Raises:
        ValueError: there are not three axes, or not 192 values.
    """
    if len(axes) != len(COMPONENTS):
        raise ValueError(f"axes must be three, for Y, Cb and Cr, got {len(axes)}")
    if values.shape != (CHANNELS,):
        raise ValueError(f"values must be [{CHANNELS}], got {list(values.shape)}")
    there = set(range(CHANNELS) if among is None else among)
    shown = colours(names)
    for component, ax in enumerate(axes):
        first = component * FREQUENCIES
        cells = values[first : first + FREQUENCIES].double()
        blank = torch.tensor([first + i not in there for i in range(FREQUENCIES)], device="cpu")
        # NaN is drawn as nothing.
        drawn = cells.masked_fill(blank, math.nan).reshape(BLOCK, BLOCK)
        ax.pcolormesh(drawn.numpy(), cmap=shown, norm=norm, edgecolors=PAPER, linewidth=1)
        ax.set_aspect("equal")
        ax.invert_yaxis()
        ax.axis("off")
        if ranks:
            for channel, value in enumerate(cells.tolist()):
                v, u = divmod(channel, BLOCK)
                dark = float(norm(value)) > 0.5
                ax.text(
                    u + 0.5,
                    v + 0.53,
                    str(zigzag_rank(channel)),
                    ha="center",
                    va="center",
                    size=7.5,
                    color=ABSENT if blank[channel] else PAPER if dark else INK,
                )
        if chosen is not None:
            outline(ax, (chosen.y, chosen.cb, chosen.cr)[component])


def outline(ax: Axes, frequencies: Sequence[int], *, scale: float = 1, colour: str = MARK) -> None:
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
    bright = (planes.abs() / FAINT).log1p() / math.log1p(BRIGHT / FAINT)
    bright[0] = planes[0] / BLOCK  # the mean of a block, less 128
    tiles = _resized(bright, side)
    painted = _painted(tiles, component)
    toward_rgb = torch.tensor([row[component] for row in YCBCR_TO_RGB], device="cpu")
    painted[0] = ((128 + tiles[0, ..., None] * toward_rgb) / 255).clamp(0, 1)
    return _laid_out(painted, gap)


def plane_mosaic(
    planes: Tensor,
    channels: ChannelSelection,
    component: int,
    *,
    bright: float,
    closed: Sequence[bool],
    side: int = 40,
    gap: int = 3,
) -> Tensor:
    """Planes of chosen channels in the places that they have in ``mosaic``.

    Each shows log(1 + 15 |x| / bright), full at bright. A closed one is plain grey; where no
    channel is, the paper shows.

    Args:
        planes: (C, gh, gw), normalised or not.
        channels: of the planes; none twice.
        component: 0 Y, 1 Cb, 2 Cr.
        bright: magnitude of full brightness, greater than 0.
        closed: C truth values.
        side: pixels of the longer side of a tile.
        gap: white pixels between tiles.

    Returns:
        float32 (8 (h + gap) - gap, 8 (w + gap) - gap, 3) in [0, 1].
    """
    light = (planes.float().abs() * (CONTRAST / bright)).log1p() / math.log1p(CONTRAST)
    painted = _painted(_resized(light, side), component)
    canvas = _rgb(PAPER).expand(FREQUENCIES, *painted.shape[1:]).clone()
    for i, channel in enumerate(channels):
        if channel // FREQUENCIES == component:
            canvas[channel % FREQUENCIES] = _rgb(CLOSED) if closed[i] else painted[i]
    return _laid_out(canvas, gap)


def _resized(planes: Tensor, side: int) -> Tensor:
    """Planes whose longer side has so many pixels."""
    longest = max(planes.shape[-2:])
    height, width = (max(1, round(side * n / longest)) for n in planes.shape[-2:])
    mode = "area" if longest > side else "nearest"
    return F.interpolate(planes[None], (height, width), mode=mode)[0]


def _painted(tiles: Tensor, component: int) -> Tensor:
    """Brightness in [0, 1], and beyond as 1, in the colours of a component, [..., 3]."""
    low, middle, high = map(_rgb, PLANE_COLOURS[component])
    upper = (2 * tiles[..., None]).clamp(0, 2)
    return low + upper.clamp(max=1) * (middle - low) + (upper - 1).clamp(min=0) * (high - middle)


def _laid_out(painted: Tensor, gap: int) -> Tensor:
    """64 tiles [64, h, w, 3] as one picture."""
    height, width = painted.shape[1:3]
    canvas = torch.ones(BLOCK, height + gap, BLOCK, width + gap, 3, device="cpu")
    canvas[:, :height, :, :width] = painted.reshape(BLOCK, BLOCK, height, width, 3).transpose(1, 2)
    rows, columns = BLOCK * (height + gap), BLOCK * (width + gap)
    return canvas.reshape(rows, columns, 3)[: rows - gap, : columns - gap]


def _rgb(colour: str) -> Tensor:
    return torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], device="cpu")
