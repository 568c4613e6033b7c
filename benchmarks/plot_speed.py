"""Draws what bench_block_dct.py measured: how many times faster than the best rival.

    python benchmarks/plot_speed.py [block_dct_cpu.json] [-o speed.png]

`make bench PYTEST="--tables benchmarks/results"` calls it, and then it replaces docs/speed.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freqops._drawing import INK, MAP_COLOURS, MUTED, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "speed.png"

PANELS = {
    "Forward": "Forward, uint8 pictures",
    "Forward and backward": "Forward and backward, float32 pictures",
}
"""Tables drawn, and what stands above each."""

WIDTH, DPI = 9.0, 200
"""Inches: 100 pixels each where the picture is shown 900 wide."""

BAR, GAP = 0.25, 0.15
"""Inches: from bar to bar, and more between two batches."""

EDGE, NAMES, WORDS = 0.15, 2.1, 1.75
"""Inches from the left: to the title and to the bars; and behind the longest bar."""

TOP, BOTTOM = 0.95, 0.3
"""Inches above and below the bars."""


def draw(results: Path) -> Figure:
    """Bars of two tables, one for each batch and number of channels, with both times beside them.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        KeyError: the results lack one of the two tables.
    """
    from matplotlib.figure import Figure

    content = json.loads(results.read_text(encoding="utf-8"))
    tables = [content["tables"][name] for name in PANELS]
    batches = list(dict.fromkeys(row["batch"] for row in tables[0]))
    tall = max(map(len, tables)) * BAR + len(batches) * GAP
    figure = Figure(figsize=(WIDTH, TOP + tall + BOTTOM), facecolor="white")
    machine = content["machine"]
    where = ", ".join(machine[fact] for fact in ("processor", "threads", "kernels", "torch"))
    lines = {
        0.3: ("block_dct: times faster than the best rival in PyTorch", 12.5, "bold"),
        0.54: (f"{where}, {machine['date']}", 9, "normal"),
    }
    for down, (words, size, weight) in lines.items():
        at = 1 - down / (TOP + tall + BOTTOM)
        figure.text(EDGE / WIDTH, at, words, size=size, weight=weight, color=INK)
    longest = max(row["times faster"] for table in tables for row in table)
    width = (WIDTH - NAMES - GAP) / 2
    for panel, (title, table) in enumerate(zip(PANELS.values(), tables, strict=True)):
        ax = place(figure, NAMES + panel * (width + GAP), TOP, width, tall)
        # Room for the words behind the longest bar.
        bars(ax, table, longest * width / (width - WORDS), named=panel == 0)
        ax.set_title(title, loc="left", size=10, color=INK, pad=7)
    return figure


def bars(ax: Axes, table: Sequence[dict[str, str | float]], right: float, *, named: bool) -> None:
    """One table: a group of bars for each batch, the first at the top.

    Args:
        ax: as many inches high as the bars need.
        table: rows of the results, batch by batch.
        right: end of the axis.
        named: whether batches and channels stand at the left.
    """
    counts = sorted({row["channels"] for row in table})
    shades = dict(zip(counts, MAP_COLOURS[2::2], strict=False))
    at, batch = 0.0, None
    for row in table:
        at += BAR + GAP * (row["batch"] != batch)
        times, middle = row["times faster"], at - BAR / 2 - GAP / 2
        ax.barh(middle, times, BAR * 0.84, color=shades[row["channels"]], zorder=2)
        both = f"{digits(row['freqops ms'])} ms, rival {digits(row['its ms'])}"
        beside(ax, f"{times:.1f}", (times, middle), 0.05, weight="bold")
        beside(ax, both, (times, middle), 0.36, color=MUTED)
        if named:
            beside(ax, f"{row['channels']} channels", (0, middle), -0.06)
            if row["batch"] != batch:
                beside(ax, str(row["batch"]), (0, middle), -1.0, weight="bold")
        batch = row["batch"]
    ax.set(xlim=(0, right), ylim=(at, 0))
    ax.axvline(1, color=INK, lw=0.9, zorder=3)
    ax.set_yticks([])
    ax.set_xticks([1], ["1"])
    ax.spines[:].set_visible(False)
    ax.tick_params(axis="x", length=0, labelcolor=INK, labelsize=8.5)


def beside(
    ax: Axes,
    words: str,
    at: tuple[float, float],
    inches: float,
    *,
    color: str = INK,
    weight: str = "normal",
) -> None:
    """Words so far right of a point, or left of it where negative."""
    ax.annotate(
        words,
        at,
        (72 * inches, 0),
        textcoords="offset points",
        va="center",
        ha="left" if inches > 0 else "right",
        size=9,
        weight=weight,
        color=color,
    )


def digits(value: float) -> str:
    """Three digits, as 0.123, 1.20, 12.3 and 123."""
    return f"{value:#.3g}".rstrip(".")


def drawn_from(results: Path) -> list[Path]:
    """The pictures drawn of one operator's results: none where there is nothing to draw.

    The repository's results give docs/speed.png, others a picture beside them.
    """
    if not set(PANELS) <= set(json.loads(results.read_text())["tables"]):
        return []
    try:
        figure = draw(results)
    except ModuleNotFoundError:  # matplotlib
        return []
    path = PICTURE if results.parent.resolve() == RESULTS else results.with_suffix(".png")
    figure.savefig(path, dpi=DPI)
    return [path]


def main() -> None:
    """Draws the picture of a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS / "block_dct_cpu.json")
    parser.add_argument("-o", "--output", type=Path, default=PICTURE)
    given = parser.parse_args()
    try:
        draw(given.results).savefig(given.output, dpi=DPI)
    except FileNotFoundError:
        parser.error(f"{given.results} is missing: make bench PYTEST='--tables benchmarks/results'")
    except KeyError as missing:
        parser.error(f"{given.results} has no {missing}; needed are the tables {list(PANELS)}")


if __name__ == "__main__":
    main()
