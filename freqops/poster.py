"""The page that `freqops demo` writes, 1600 units wide, in four columns."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from freqops._drawing import INK, MAP_COLOURS, MARK, MUTED, channel_maps, mosaic
from freqops.channels import BLOCK, CHANNELS, FREQUENCIES, ChannelSelection
from freqops.demo import COUNTS, TIMED_BATCH, Facts, Photograph, decibels, difference, rebuilt
from freqops.ops import block_dct
from freqops.rivals import enlarged, small_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["detail", "draw", "figure"]

WIDTH, MARGIN = 1600, 60
COLUMN, GUTTER = 340, 40
"""4 x 340 + 3 x 40 = 1480, what the margins leave."""

SHARPNESS = 1.5
"""Dots in the file per unit."""

HEAD = 80
"""Height of a step's heading."""

LABEL = 25
"""Height of the line above a picture."""

LINE = "#d5dae1"
OURS = "#1f6f9f"
RIVAL = "#c98a1b"

TIMES = "\u00d7"


class _Page:
    """A figure addressed from its top left corner; 10 pt are 14 units."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure

        self.height = height
        size = (WIDTH / 100, height / 100)
        self.figure: Figure = Figure(figsize=size, dpi=100 * SHARPNESS, facecolor="white")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes in a box whose top left corner is (x, y)."""
        bottom = 1 - (y + height) / self.height
        return self.figure.add_axes((x / WIDTH, bottom, width / WIDTH, height / self.height))

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 10.5,
        colour: str = INK,
        *,
        bold: bool = False,
        right: bool = False,
    ) -> None:
        """Writes words whose capitals reach up to y."""
        capitals = 0.73 * size / 0.72
        first, *more = words.split("\n")
        for i, line in enumerate([first, *more]):
            self.figure.text(
                x / WIDTH,
                1 - (y + capitals + i * 1.5 * size / 0.72) / self.height,
                line,
                size=size,
                color=colour,
                weight="bold" if bold else "normal",
                ha="right" if right else "left",
                va="baseline",
            )

    def heading(self, y: float, number: int, words: str, aside: str) -> None:
        """One step of the story."""
        self.text(MARGIN, y, f"{number}", 18, MARK, bold=True)
        self.text(MARGIN + 30, y, words, 18, bold=True)
        self.text(MARGIN + 30, y + 34, aside, 10.5, MUTED)

    def picture(
        self, x: float, y: float, width: float, height: float, rgb: Tensor, *, sharp: bool = False
    ) -> Axes:
        """Draws (H, W, 3) as large as fits, at the top left of the box."""
        scale = min(width / rgb.shape[1], height / rgb.shape[0])
        ax = self.axes(x, y, rgb.shape[1] * scale, rgb.shape[0] * scale)
        ax.imshow(rgb.numpy(), interpolation="nearest" if sharp else "antialiased", aspect="auto")
        ax.axis("off")
        return ax


def _column(index: int) -> float:
    return MARGIN + index * (COLUMN + GUTTER)


def detail(pixels: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window with the most detail: the largest mean |AC| of Y.

    4:3 and two fifths of the picture's width, but 64 to 256 pixels, so that single pixels show.
    """
    height, width = pixels.shape[1:]
    size = (-(-height // BLOCK), -(-width // BLOCK))
    across = max(64, min(256, round(0.4 * width))) // BLOCK
    rows, columns = min(round(0.75 * across), size[0]), min(across, size[1])
    strength = block_dct(pixels, list(range(1, FREQUENCIES))).abs().mean(0)
    windows = F.avg_pool2d(strength[None], (rows, columns), stride=1)[0]
    top, left = (BLOCK * i for i in divmod(int(windows.argmax()), windows.shape[1]))
    return top, left, min(BLOCK * rows, height - top), min(BLOCK * columns, width - left)


def draw(facts: Facts, path: Path) -> None:
    """Writes the page as a PNG, 2400 dots wide and made to be read at 1600."""
    figure(facts).savefig(path, format="png")


def figure(facts: Facts) -> Figure:
    """The page; the first photograph is the one shown in full."""
    photograph = facts.photographs[0]
    tall = min(430.0, COLUMN * photograph.size[0] / photograph.size[1])
    window = detail(photograph.pixels)
    crop = min(290.0, COLUMN * window[2] / window[3])
    rows = 27.0 * (len(facts.photographs) + (len(facts.photographs) > 1))
    heights = (
        150,
        HEAD + LABEL + tall + 65,
        HEAD + COLUMN + 65,
        HEAD + 2 * (LABEL + crop) + 15 + 65,
        HEAD + LABEL + max(rows + 30, 225) + 50,
        100,
    )
    page = _Page(sum(heights))
    starts = [sum(heights[:i]) for i in range(len(heights))]
    page.text(MARGIN, 48, "Photographs as frequency channels", 27, bold=True)
    page.text(
        MARGIN,
        98,
        f"Every block of 8 {TIMES} 8 pixels becomes 192 numbers: 64 frequencies each of brightness "
        "(Y) and of two colour differences (Cb, Cr). Most can be left out.",
        12.5,
        MUTED,
    )
    _planes(page, starts[1], tall, photograph, window)
    _energy(page, starts[2], facts)
    _details(page, starts[3], crop, window, facts)
    _every_photograph(page, starts[4], rows, facts)
    _times(page, starts[4], facts)
    _notes(page, starts[5], facts)
    return page.figure


def _planes(
    page: _Page,
    y: float,
    height: float,
    photograph: Photograph,
    window: tuple[int, int, int, int],
) -> None:
    from matplotlib.patches import Rectangle

    gh, gw = photograph.grid
    page.heading(
        y,
        1,
        "One photograph, sorted by frequency",
        f"Each tile is one channel: one number for each of the {gh} {TIMES} {gw} blocks. Top left "
        "the mean of the block; from there, finer detail rightward and downward. Bright is large.",
    )
    y += HEAD
    h, w = photograph.size
    short = textwrap.shorten(photograph.name, 22, placeholder="...")
    page.text(_column(0), y, f"{short}, {w} {TIMES} {h} pixels", bold=True)
    rgb = photograph.pixels.permute(1, 2, 0)
    ax = page.picture(_column(0), y + LABEL, COLUMN, height, rgb)
    top, left, rows, columns = window
    corner = (left - 0.5, top - 0.5)
    ax.add_patch(Rectangle(corner, columns, rows, fill=False, edgecolor=MARK, lw=2, clip_on=False))
    coefficients = block_dct(photograph.pixels)
    names = ("Y: brightness", "Cb: blue against yellow", "Cr: red against green")
    for i, name in enumerate(names):
        page.text(_column(i + 1), y, name, bold=True)
        page.picture(_column(i + 1), y + LABEL, COLUMN, height, mosaic(coefficients, i))


def _energy(page: _Page, y: float, facts: Facts) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    many = len(facts.photographs)
    page.heading(
        y,
        2,
        "A few channels hold nearly all the energy",
        "Share of each channel in the sum of all squared coefficients"
        f"{f', mean of {many} photographs' if many > 1 else ''}. "
        "Cells lie as the tiles above; numbers are zigzag ranks; outlined are the 24 of step 3.",
    )
    y += HEAD
    # Six decades: below a millionth lie only channels of Cb and Cr that are all but empty.
    norm = LogNorm(1e-6, 1)
    maps = [page.axes(_column(i), y, COLUMN, COLUMN) for i in (1, 2, 3)]
    channel_maps(maps, facts.energy.clamp(min=1e-6), norm=norm, chosen=ChannelSelection.of(24))
    for i, count in enumerate(COUNTS[:3]):
        place = y + 2 + 78 * i
        share = f"{100 * facts.energy_of(count):.1f}".replace("100.0", "100")
        page.text(_column(0), place, f"{share} %", 22, bold=True)
        words = f"of the energy in {count} channels,\n{100 * count / CHANNELS:.1f} % of the values"
        page.text(_column(0) + 135, place, words, 10.5, MUTED)
    bar = page.axes(_column(0), y + COLUMN - 50, COLUMN - 50, 14)
    colours = LinearSegmentedColormap.from_list("freqops", MAP_COLOURS)
    scale = page.figure.colorbar(
        ScalarMappable(norm, colours),
        cax=bar,
        orientation="horizontal",
        ticks=[1e-6, 1e-4, 1e-2, 1],
    )
    marks = ("0.0001 %\nor less", "0.01 %", "1 %", "100 %")
    labels = scale.ax.set_xticklabels(marks, size=9, color=MUTED)
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
    scale.outline.set_visible(False)
    bar.tick_params(length=3, color=MUTED)
    bar.minorticks_off()


def _details(
    page: _Page, y: float, height: float, window: tuple[int, int, int, int], facts: Facts
) -> None:
    page.heading(
        y,
        3,
        "Rebuilt from a few channels, and from as many pixel values",
        "The marked part of the photograph. The PSNR (higher is closer) is that of all of it.",
    )
    y += HEAD
    photograph = facts.photographs[0]
    pixels = photograph.pixels
    top, left, rows, columns = window
    for i, count in enumerate(COUNTS):
        score = next(s for s in facts.scores if s.channels == count)  # the first photograph's
        h, w = small_size(photograph.size, count)
        sides = (
            (f"{count} channels", OURS, rebuilt(pixels, count), score.psnr),
            (f"{w} {TIMES} {h} pixels, enlarged", RIVAL, enlarged(pixels, count), score.pixel_psnr),
        )
        for row, (name, colour, picture, value) in enumerate(sides):
            place = y + row * (height + LABEL + 15)
            page.text(_column(i), place, name, colour=colour, bold=True)
            words = decibels(value) + ("" if math.isinf(value) else " dB")
            page.text(_column(i) + COLUMN, place, words, bold=True, right=True)
            part = picture[:, top : top + rows, left : left + columns].permute(1, 2, 0)
            page.picture(_column(i), place + LABEL, COLUMN, height, part, sharp=True)


def _every_photograph(page: _Page, y: float, height: float, facts: Facts) -> None:
    from matplotlib.ticker import MaxNLocator
    from matplotlib.transforms import blended_transform_factory

    many = len(facts.photographs)
    title = "On every photograph" if many > 1 else "In numbers"
    page.heading(y, 4, title, "PSNR in dB, and the difference")
    page.text(_column(1), y + 34, "\u25cf  frequency channels", colour=OURS, bold=True)
    page.text(_column(2), y + 34, "\u25cf  as many pixel values", colour=RIVAL, bold=True)
    y += HEAD
    names = [p.name if len(p.name) < 16 else Path(p.name).stem for p in facts.photographs]
    names = [textwrap.shorten(name, 17, placeholder="...") for name in names]
    label, margin = 130, 55
    width = COLUMN - label - margin
    for i, count in enumerate(COUNTS[:3]):
        page.text(_column(i), y, f"{count} channels", bold=True)
        pairs = [(s.psnr, s.pixel_psnr) for s in facts.scores if s.channels == count]
        rows = list(names)
        if many > 1:
            compared = len(facts.inexact(count))
            rows.append(f"mean of {compared}" if 0 < compared < many else "mean")
            pairs.append(facts.mean(count))
        ax = page.axes(_column(i) + label, y + LABEL, width, height)
        place = blended_transform_factory(ax.transAxes, ax.transData)
        for row, (name, (ours, theirs)) in enumerate(zip(rows, pairs, strict=True)):
            weight = "bold" if many > 1 and row == many else "normal"
            ax.text(-label / width, row, name, transform=place, va="center", size=9, weight=weight)
            words = difference(ours, theirs) or "exact"
            ax.text(1.08, row, words, transform=place, va="center", size=9, weight=weight)
            dots = [(v, c) for v, c in ((theirs, RIVAL), (ours, OURS)) if math.isfinite(v)]
            ax.plot([v for v, _ in dots], [row] * len(dots), color=LINE, lw=4, zorder=1)
            for value, colour in dots:
                ax.scatter(value, row, color=colour, s=42, zorder=2)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        # Two decibels at least, so that a difference of nothing looks like nothing.
        values = [value for pair in pairs for value in pair if math.isfinite(value)] or [0.0]
        middle, half = (max(values) + min(values)) / 2, (max(values) - min(values)) / 2
        ax.set_xlim(middle - max(1, 1.15 * half), middle + max(1, 1.15 * half))
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.xaxis.set_visible(len(values) > 1)
        ax.spines[:].set_visible(False)
        ax.tick_params(left=False, labelleft=False, length=0, labelsize=9, labelcolor=MUTED)
        ax.grid(axis="x", color=LINE, lw=0.7)
        ax.set_axisbelow(True)


def _times(page: _Page, y: float, facts: Facts) -> None:
    number, side = TIMED_BATCH
    x = _column(3)
    page.text(x, y, "What it costs here", 18, bold=True)
    page.text(x, y + 34, f"{number} pictures of {side} {TIMES} {side}, milliseconds", colour=MUTED)
    y += HEAD
    longest = max(max(t.convolution, t.block_dct) for t in facts.timings)
    for timing in facts.timings:
        page.text(x, y, f"{timing.channels} channels", bold=True)
        page.text(x + COLUMN, y, f"{timing.ratio:.1f}{TIMES} as fast", bold=True, right=True)
        for row, (value, colour) in enumerate(
            ((timing.block_dct, OURS), (timing.convolution, RIVAL))
        ):
            length = max(2.0, (COLUMN - 60) * value / longest)
            bar = page.axes(x, y + LABEL + 18 * row, length, 13)
            bar.set_facecolor(colour)
            bar.set(xticks=[], yticks=[])
            bar.spines[:].set_visible(False)
            page.text(x + length + 8, y + LABEL + 2 + 18 * row, f"{value:.1f}", 9)
        y += 75
    page.text(x, y, "block_dct", colour=OURS, bold=True)
    page.text(x + 95, y, "folded convolution", colour=RIVAL, bold=True)


def _notes(page: _Page, y: float, facts: Facts) -> None:
    page.text(
        MARGIN,
        y,
        f"As many pixel values: C channels of gh {TIMES} gw blocks are C gh gw values; the rival "
        f"is the picture made smaller, to w {TIMES} h pixels with 3 w h at least as many values, "
        "and enlarged again (Lanczos, unrounded between).\n"
        "Energy: squared coefficients of Y - 128, Cb - 128, Cr - 128. Folded convolution: colour, "
        "DCT and selection in the weight of F.conv2d(x.float(), W, b, stride=8). Medians, by "
        "turns.\n"
        f"Measured on {facts.machine}.",
        9.5,
        MUTED,
    )
