"""What a GPU must reach, and by how much the measured rows do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from gpu_block_dct import BACKWARD, CHANGED, FORWARD, LATENCY
from gpu_gate import GATE
from gpu_networks import NETWORKS
from gpu_rivals import COMPILED, RIVALS
from tables import Row, Table

GOALS = Table(
    "Goals",
    "The worst row that a goal is set for; of two kernels of ours for the same work, the better. "
    'The backward of chroma "dctnet" takes two launches and cannot pass 36 % of its one-pass roof '
    "at 24 channels (docs/kernels.md): it is listed apart, without a goal.",
    {"goal": "{}", "wanted": "{}", "measured": "{}", "reached": "**{}**", "worst row": "{}"},
)


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on a column of some rows.

    Args:
        what: in words.
        table: where the rows are.
        column: which number is bounded.
        wanted: the bound; None where there is none, and the number is listed all the same.
        written: how such a number is written.
        of: whether the goal is set for a row.
        below: whether the number must be smaller.
        beside: another column, whose number in that row is named too.
    """

    what: str
    table: Table
    column: str
    wanted: float | None
    written: str
    of: Callable[[Row], bool] = lambda row: True
    below: bool = False
    beside: str | None = None

    def row(self, rows: Iterable[Row]) -> Row | None:
        """What was reached; None where nothing was measured."""
        names = list(self.table.columns)
        work = [n for n in names[: names.index(self.column)] if n in _WORK]
        best: dict[str, tuple[float, Row]] = {}
        for row in rows:
            number = row[self.column]
            if not isinstance(number, (int, float)) or not self.of(row):
                continue
            key = ", ".join(f"{row[name]}" for name in work)
            better = key not in best or (number < best[key][0]) == self.below
            if better:
                best[key] = number, row
        if not best:
            return None
        key = (max if self.below else min)(best, key=lambda key: best[key][0])
        number, row = best[key]
        measured = self.written.format(number)
        if self.beside is not None:
            measured += f" ({self.beside}: {row[self.beside]:.2f})"
        return {"goal": self.what} | self._verdict(number, measured) | {"worst row": key}

    def _verdict(self, number: float, measured: str) -> Row:
        if self.wanted is None:
            return {"wanted": None, "measured": measured, "reached": None}
        reached = number < self.wanted if self.below else number >= self.wanted
        return {
            "wanted": ("below " if self.below else "") + self.written.format(self.wanted),
            "measured": measured,
            "reached": "yes" if reached else "no",
        }


_WORK = {
    *("pictures", "channels", "changed", "operator", "what"),
    *("features", "layout", "type", "open", "step", "network", "variant", "rival"),
}
"""Columns that say what is computed; the kernel is not among them."""


def _count(row: Row) -> int:
    """Pictures of the batch."""
    return int(str(row["pictures"]).split()[0])


def _in_two_launches(row: Row) -> bool:
    return "dctnet" in str(row["operator"])


SHARE, TIMES, MICROSECONDS = "{:.1%}", "{:.1f} times", "{:.2f} us"

ALL = (
    Goal(
        "block_dct, 256 pictures, share of the copy",
        *(FORWARD, "of copy", 0.9, SHARE, lambda row: _count(row) == 256),
    ),
    Goal("block_dct in every other mode, share of the copy", CHANGED, "of copy", 0.8, SHARE),
    Goal(
        "block_dct, one call on 8 pictures in a graph, from end to end",
        *(LATENCY, "replay and wait us", 8, MICROSECONDS),
        lambda row: row["channels"] is not None,
        below=True,
        beside="replay us",
    ),
    Goal(
        "faster than every eager rival that sums float32 products, 64 pictures and more",
        *(RIVALS, "times faster", 4, TIMES, lambda row: _count(row) >= 64),
    ),
    Goal(
        "faster than every eager rival, TF32 and float16 included, 64 pictures and more",
        *(RIVALS, "times faster than that", 4, TIMES, lambda row: _count(row) >= 64),
    ),
    Goal(
        "faster than every compiled rival, 64 pictures and more",
        *(COMPILED, "times faster", 4, TIMES, lambda row: _count(row) >= 64),
    ),
    Goal(
        "backward and inverse, share of the copy",
        *(BACKWARD, "of copy", 0.8, SHARE, lambda row: not _in_two_launches(row)),
    ),
    Goal(
        'backward of chroma "dctnet", share of the copy',
        *(BACKWARD, "of copy", None, SHARE, _in_two_launches),
    ),
    Goal(
        "gate, all channels open, share of the copy",
        *(GATE, "of copy", 0.9, SHARE, lambda row: row["open"] == "192 of 192"),
    ),
    Goal(
        "gate forward, contiguous, most channels closed, of the dense floor",
        *(GATE, "of dense floor", 1, SHARE),
        lambda row: (
            (row["open"], row["step"], row["layout"]) == ("24 of 192", "forward", "contiguous")
        ),
    ),
    Goal(
        "networks with 24 channels from pictures, share of the network alone",
        *(NETWORKS, "of alone", 0.97, SHARE),
        lambda row: str(row["network"]).endswith(", 24 channels"),
    ),
)


def rows(tables: Mapping[Table, Sequence[Row]]) -> list[Row]:
    """Of the goals for which something was measured."""
    found = [goal.row(tables.get(goal.table, [])) for goal in ALL]
    return [row for row in found if row is not None]
