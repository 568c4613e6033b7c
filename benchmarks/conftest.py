"""Collects a row a comparison and prints the table of ratios below pytest-benchmark's own."""

import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROWS = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("freqops")
    group.addoption(
        "--threads", type=int, default=1, help="threads of torch in the benchmarks (default 1)"
    )
    group.addoption(
        "--table", type=Path, help="also write the table of ratios to this Markdown file"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    count, before = request.config.getoption("--threads"), torch.get_num_threads()
    torch.set_num_threads(count)
    yield count
    torch.set_num_threads(before)


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[str]:
    """Lines of the table; a benchmark appends its own."""
    return request.config.stash[ROWS]


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    isa = torch.ops.freqops.cpu_isa()
    machine = (
        f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, "
        f"{config.getoption('--threads')} thread(s), "
        f"kernels: {isa}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    head = [
        "| case | freqops ms | GB/s | of copy | best rival | its ms | **times faster** "
        "| other rivals, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    text = "\n".join(["", machine, "", *head, *rows, ""])
    terminalreporter.write_line(text)
    if table := config.getoption("--table"):
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("# block_dct against its rivals\n" + text)
        terminalreporter.write_line(f"written to {table}")
