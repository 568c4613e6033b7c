"""Tables of results: rows of numbers, written as Markdown to read and as JSON to draw from."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch

import freqops.ops  # noqa: F401  loads the libraries

Cell = str | int | float | Mapping[str, float] | None
Row = Mapping[str, Cell]

ABSENT = "-"


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A section of what is written about an operator.

    Args:
        title: its heading, and its name in JSON.
        about: what the cells mean, in Markdown.
        columns: for each heading how its numbers are written, as in "{:.2f}".
    """

    title: str
    about: str
    columns: Mapping[str, str]

    def markdown(self, rows: Iterable[Row]) -> str:
        """Heading, explanation and the rows."""
        lines = [f"## {self.title}", "", self.about, ""]
        lines += [_line(self.columns), _line("---" for _ in self.columns)]
        for row in rows:
            lines.append(_line(_written(row[name], how) for name, how in self.columns.items()))
        return "\n".join(lines)


Record = Callable[[Table, Row], None]
"""Adds a row to a table."""


@dataclasses.dataclass
class Results:
    """Of one operator on one type of device."""

    lines: list[str] = dataclasses.field(default_factory=list)
    tables: dict[Table, list[Row]] = dataclasses.field(default_factory=dict)

    def add(self, table: Table, row: Row) -> None:
        """One more row.

        Raises:
            ValueError: it has other columns than the table.
        """
        if list(row) != list(table.columns):
            raise ValueError(
                f"{table.title}: a row must have {list(table.columns)}, got {list(row)}"
            )
        self.tables.setdefault(table, []).append(row)

    def markdown(self, facts: Mapping[str, str], head: str = "") -> str:
        """The machine, the lines below their head, the tables."""
        parts = [", ".join(facts.values())]
        if self.lines:
            parts.append("\n".join([head, *self.lines]))
        return "\n\n".join(parts + [table.markdown(rows) for table, rows in self.tables.items()])

    def json(self, operator: str, facts: Mapping[str, str]) -> str:
        """The machine and the rows of each table, by its title."""
        tables = {table.title: rows for table, rows in self.tables.items()}
        return json.dumps({"operator": operator, "machine": facts, "tables": tables}, indent=1)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _written(cell: Cell, how: str) -> str:
    """Numbers as the column has them, words as they are, "-" for None."""
    if cell is None:
        return ABSENT
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Mapping):
        return "; ".join(f"{name} {how.format(value)}" for name, value in cell.items())
    return how.format(cell)


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def machine(threads: int, memory: str, packages: Sequence[str] = ()) -> dict[str, str]:
    """What the results depend on, for one line of a table.

    Args:
        threads: of torch.
        memory: "kept" or "fresh", what malloc does with what is freed.
        packages: distributions whose versions are named where they are installed.
    """
    facts = {
        "date": str(datetime.date.today()),
        "processor": processor(),
        "cores": f"{os.cpu_count()} cores",
        "threads": "1 thread" if threads == 1 else f"{threads} threads",
        "memory": f"{memory} memory",
        "kernels": f"kernels: {torch.ops.freqops.cpu_isa()}",
        "torch": f"torch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
    }
    for package in packages:
        try:
            facts[package] = f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return facts
