"""Figures of the 192 channels: how often a gate opens them, which are chosen, what a gate computes.

Each function returns a matplotlib Figure that belongs to no window and that pyplot does not know:
`figure.savefig("name.png")`, or .svg, or .pdf. Maps have v down and u to the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from freqops._arguments import FLOATS, describe
from freqops._drawing import (
    CLOSED,
    COMPONENTS,
    INK,
    MAP_COLOURS,
    MUTED,
    PLANE_COLOURS,
    channel_maps,
    colour_bar,
    frame,
    mosaic,
    outline,
    place,
)
from freqops._extras import need
from freqops._gate_figure import gate_tensors
from freqops.channels import BLOCK, CHANNELS, FREQUENCIES, ChannelSelection
from freqops.gate_statistics import GateStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COMPONENTS",
    "INK",
    "MAP_COLOURS",
    "PLANE_COLOURS",
    "bar_chart",
    "channel_maps",
    "gate_tensors",
    "heat_maps",
    "mosaic",
    "outline",
    "selection_mask",
]

MAP, GAP, EDGE = 2.9, 0.28, 0.42
"""Inches: side of a map, between two, around all."""


def heat_maps(
    statistics: GateStatistics | Tensor,
    *,
    chosen: ChannelSelection | None = None,
    title: str | None = None,
) -> Figure:
    """How often each channel was on, as three 8x8 maps: the paper's heat maps.

    Darker is more often, on one scale from 0 to 1; the numbers are zigzag ranks. Beside the names
    stands how many channels of a component are on in the mean of all pictures. Channels that the
    gate does not have stay blank.

    Args:
        statistics: of a gate; or the rates themselves, (192,) in [0, 1] by channel number.
        chosen: a selection to outline.
        title: a line above the maps.

    Returns:
        The figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: an argument is nothing of the kind.
        ValueError: no picture has been counted, or the rates have another shape or lie outside
            [0, 1].

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020.

    Example:
        >>> statistics = GateStatistics.from_gates([torch.ones(10, 192).tril()])
        >>> figure = heat_maps(statistics, chosen=statistics.selection(keep=4))
        >>> len(figure.axes)  # three maps and the scale
        4
    """
    need("freqops.plots", "plots", "matplotlib")
    from matplotlib.colors import Normalize

    rates, among = _rates("heat_maps", statistics)
    notes = []
    if chosen is not None:
        _check_selection("heat_maps", "chosen", chosen)
        notes.append(f"outlined: {len(set(chosen))} chosen")
    if len(among) < CHANNELS:
        notes.append("blank: not in the gate")
    figure, axes = _three_maps(title, "; ".join(notes), right=0.95)
    channel_maps(axes, rates, norm=Normalize(0, 1), chosen=chosen, among=among)
    for component, ax in enumerate(axes):
        _heading(ax, component, _mean_on(rates, among, component))
    width, height = figure.get_size_inches()
    bar = place(figure, width - 0.75, height - EDGE - MAP, 0.14, MAP)
    colour_bar(bar, Normalize(0, 1), "how often on")
    return figure


def bar_chart(
    statistics: GateStatistics | Tensor, *, chosen: ChannelSelection | None = None
) -> Figure:
    """How often each channel was on, as 192 bars by channel number: Y, Cb and Cr in raster order.

    Args:
        statistics: of a gate; or the rates themselves, (192,) in [0, 1] by channel number.
        chosen: a selection, whose bars are dark.

    Returns:
        The figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: an argument is nothing of the kind.
        ValueError: no picture has been counted, or the rates have another shape or lie outside
            [0, 1].

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020.

    Example:
        >>> figure = bar_chart(torch.linspace(1, 0, 192), chosen=ChannelSelection.square(24))
        >>> len(figure.axes[0].patches)
        192
    """
    need("freqops.plots", "plots", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rates, among = _rates("bar_chart", statistics)
    if chosen is not None:
        _check_selection("bar_chart", "chosen", chosen)
    width, height, left, top = 10.4, 3.2, 0.72, 0.45
    figure = Figure(figsize=(width, height), facecolor="white")
    ax = place(figure, left, top, width - left - 0.3, height - top - 0.72)
    dark, pale = MAP_COLOURS[4], MAP_COLOURS[2]
    shades = [dark if chosen is None or i in chosen.indices else pale for i in range(CHANNELS)]
    ax.bar(range(CHANNELS), rates.tolist(), width=0.8, color=shades, zorder=2)
    legend = []
    if chosen is not None:
        legend.append(Patch(color=dark, label="chosen"))
        legend.append(Patch(color=pale, label="not chosen"))
    if len(among) < CHANNELS:
        slots = [(channel - 0.5, 1) for channel in among]
        ax.broken_barh(slots, (0, 1), color=CLOSED, lw=0, zorder=0)
        legend.append(Patch(color=CLOSED, label="off; blank: not in the gate"))
    if legend:
        figure.legend(
            handles=legend,
            loc="lower right",
            bbox_to_anchor=(1 - 0.3 / width, 0.06 / height),
            ncols=len(legend),
            borderaxespad=0,
            columnspacing=1.4,
            handlelength=1,
            handleheight=0.9,
            frameon=False,
            fontsize=8.5,
        )
    for component, first in enumerate(range(0, CHANNELS, FREQUENCIES)):
        if component:
            ax.axvline(first - 0.5, color=MUTED, lw=0.8, ymax=1.12, clip_on=False)
        words = f"{COMPONENTS[component]}   {_mean_on(rates, among, component)}"
        ax.text(first + FREQUENCIES / 2 - 0.5, 1.04, words, ha="center", size=10, color=INK)
    ax.set(xlim=(-0.5, CHANNELS - 0.5), ylim=(0, 1))
    ax.set_xticks([*range(0, CHANNELS, 2 * BLOCK), CHANNELS - 1])
    ax.set_xticks(range(0, CHANNELS, BLOCK), minor=True)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.set_ylabel("how often on", size=9.5, color=INK)
    ax.set_xlabel("channel: 64 component + 8 v + u", size=9.5, color=INK, loc="left")
    ax.grid(axis="y", color=CLOSED, lw=0.8, zorder=1)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
    ax.tick_params(which="both", color=MUTED, labelcolor=INK, labelsize=8.5)
    ax.tick_params(axis="y", length=0)
    return figure


def selection_mask(selection: ChannelSelection) -> Figure:
    """Which channels a selection holds, as three 8x8 grids with the chosen cells filled.

    Args:
        selection: the channels; how often one is named, and in which order, does not show.

    Returns:
        The figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: selection is no ChannelSelection.

    Example:
        >>> figure = selection_mask(ChannelSelection.learned(24))
        >>> len(figure.axes)
        3
    """
    need("freqops.plots", "plots", "matplotlib")
    from matplotlib.colors import Normalize

    _check_selection("selection_mask", "selection", selection)
    figure, axes = _three_maps(None, "", right=EDGE)
    mask = torch.zeros(CHANNELS, dtype=torch.float64, device="cpu")
    mask[list(selection.indices)] = 1
    channel_maps(axes, mask, norm=Normalize(0, 1.25))
    for component, (ax, part) in enumerate(
        zip(axes, (selection.y, selection.cb, selection.cr), strict=True)
    ):
        _heading(ax, component, f"{len(set(part))} of {FREQUENCIES}")
    return figure


def _three_maps(title: str | None, note: str, *, right: float) -> tuple[Figure, list[Axes]]:
    """A figure with room for three maps, what their axes mean, and a line below."""
    from matplotlib.figure import Figure

    top = EDGE + (0.42 if title else 0)
    height, width = top + MAP + EDGE, EDGE + 3 * MAP + 2 * GAP + right
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = [place(figure, EDGE + i * (MAP + GAP), top, MAP, MAP) for i in range(3)]
    if title:
        figure.text(EDGE / width, 1 - 0.3 / height, title, size=12, weight="bold", color=INK)
    across, down = "horizontal frequency u \u2192", "vertical frequency v \u2192"
    at = axes[0].transAxes
    axes[0].text(0, -0.03, across, va="top", size=8.5, color=MUTED, transform=at)
    axes[0].text(
        -0.03, 1, down, va="top", ha="right", rotation=270, size=8.5, color=MUTED, transform=at
    )
    figure.text(1 - right / width, 0.22 / height, note, size=8.5, color=MUTED, ha="right")
    return figure, axes


def _heading(ax: Axes, component: int, aside: str) -> None:
    """The component's name above a map, with an aside at the right, and a thin frame."""
    above = ax.transAxes
    ax.text(0, 1.03, COMPONENTS[component], transform=above, size=11, weight="bold", color=INK)
    ax.text(1, 1.03, aside, transform=above, size=9, color=MUTED, ha="right")
    frame(ax)


def _mean_on(rates: Tensor, among: ChannelSelection, component: int) -> str:
    """How many channels of a component are on in the mean of all pictures."""
    there = len((among.y, among.cb, among.cr)[component])
    mean = rates[component * FREQUENCIES :][:FREQUENCIES].sum().item()
    return f"{mean:.1f} of {there} on" if there else "not in the gate"


def _rates(function: str, statistics: GateStatistics | Tensor) -> tuple[Tensor, ChannelSelection]:
    """(192,) float64 on the CPU, and the channels that there are."""
    if isinstance(statistics, GateStatistics):
        return statistics.rates, statistics.channels
    if not isinstance(statistics, Tensor) or statistics.dtype not in FLOATS:
        got = statistics.dtype if isinstance(statistics, Tensor) else describe(statistics)
        raise TypeError(
            f"{function}: statistics must be a GateStatistics or rates in floating point, got {got}"
        )
    if statistics.shape != (CHANNELS,):
        raise ValueError(
            f"{function}: statistics must be [{CHANNELS}], a rate for each channel, "
            f"got {list(statistics.shape)}"
        )
    rates = statistics.detach().cpu().double()
    wrong = ~((rates >= 0) & (rates <= 1))  # NaN too
    if wrong.any():
        channel = int(wrong.nonzero()[0])
        raise ValueError(
            f"{function}: statistics must lie in [0, 1], got {rates[channel]} for channel {channel}"
        )
    return rates, ChannelSelection.all()


def _check_selection(function: str, argument: str, selection: ChannelSelection | None) -> None:
    if not isinstance(selection, ChannelSelection):
        raise TypeError(
            f"{function}: {argument} must be a ChannelSelection, got {describe(selection)}"
        )
