"""Collects rows and prints the tables of each operator below pytest-benchmark's own.

A benchmark records rows of a `tables.Table`, or appends lines of Markdown to `rows_on(device)`
below the HEAD of its module. TITLE is the heading of all, PACKAGES what is named beside
torch's version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import plot_speed
import pytest
import torch
from measure import set_malloc
from tables import Record, Results, machine

RESULTS = pytest.StashKey[dict[tuple[str, str], Results]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("freqops")
    group.addoption(
        "--threads", type=int, default=1, help="threads of torch in the benchmarks (default 1)"
    )
    group.addoption(
        "--memory",
        choices=["kept", "fresh"],
        default="kept",
        help="whether malloc keeps what is freed or maps large tensors anew (default kept)",
    )
    group.addoption(
        "--tables",
        type=Path,
        help="also write the tables that ran to this folder, as Markdown and JSON, and a picture",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}
    # After Ctrl-C its warning of an unused fixture would be an error, and nothing be written.
    config.addinivalue_line(
        "filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"
    )
    set_malloc(keeps=config.getoption("--memory") == "kept")


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    count, before = request.config.getoption("--threads"), torch.get_num_threads()
    torch.set_num_threads(count)
    yield count
    torch.set_num_threads(before)


@pytest.fixture
def results_on(request: pytest.FixtureRequest) -> Callable[[str], Results]:
    """Results of the module's operator on a type of device."""
    operator = request.module.__name__.removeprefix("bench_")
    results = request.config.stash[RESULTS]
    return lambda device: results.setdefault((operator, device), Results())


@pytest.fixture
def record(results_on: Callable[[str], Results]) -> Record:
    """Adds a row to a table for the CPU."""
    return results_on("cpu").add


@pytest.fixture
def rows_on(results_on: Callable[[str], Results]) -> Callable[[str], list[str]]:
    """Lines below the module's HEAD for a type of device; a benchmark appends its own."""
    return lambda device: results_on(device).lines


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    folder: Path | None = config.getoption("--tables")
    terminalreporter.write_line(
        "\nIn the tables below all candidates take turns, and caches hold what the last one left. "
        "\npytest-benchmark's own table repeats our call alone, which is faster."
    )
    for (operator, device), results in config.stash[RESULTS].items():
        bench = __import__(f"bench_{operator}")
        facts = machine(
            config.getoption("--threads"),
            config.getoption("--memory"),
            getattr(bench, "PACKAGES", ()),
        )
        if device == "cuda":
            facts = {"gpu": torch.cuda.get_device_name(), **facts}
        text = results.markdown(facts, getattr(bench, "HEAD", ""))
        terminalreporter.write_line(f"\n{operator}\n\n{text}")
        if folder is None:
            continue
        title = getattr(bench, "TITLE", f"{operator} against its rivals")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{operator}_{device}.md"
        if path.exists() and config.getoption("keyword"):
            terminalreporter.write_line(f"not written, because -k left benchmarks out: {path}")
            continue
        path.write_text(f"# {title}\n\n{bench.__doc__}\n{text}\n", encoding="utf-8")
        written = [path]
        if results.tables:
            figures = path.with_suffix(".json")
            figures.write_text(results.json(operator, facts), encoding="utf-8")
            written += [figures, *plot_speed.drawn_from(figures)]
        for path in written:
            terminalreporter.write_line(f"written to {path}")
