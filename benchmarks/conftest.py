"""Collects a row a comparison and prints a table of ratios for each operator below
pytest-benchmark's own."""

import datetime
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from measure import set_malloc

TABLES = pytest.StashKey[dict[str, list[str]]]()

HEAD = """\
| case | freqops ms | GB/s | of copy | allocates MB | best rival | its ms | allocates MB \
| **times faster** | other rivals, ms |
|---|---|---|---|---|---|---|---|---|---|"""


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
        "--tables", type=Path, help="also write the tables of ratios to this folder, as Markdown"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLES] = {}
    set_malloc(keeps=config.getoption("--memory") == "kept")


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    count, before = request.config.getoption("--threads"), torch.get_num_threads()
    torch.set_num_threads(count)
    yield count
    torch.set_num_threads(before)


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[str]:
    """Lines of the operator's table; a benchmark appends its own."""
    operator = request.module.__name__.removeprefix("bench_")
    return request.config.stash[TABLES].setdefault(operator, [])


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    isa = torch.ops.freqops.cpu_isa()
    machine = (
        f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, "
        f"{config.getoption('--threads')} thread(s), {config.getoption('--memory')} memory, "
        f"kernels: {isa}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    folder = config.getoption("--tables")
    for operator, rows in config.stash[TABLES].items():
        text = "\n".join(["", machine, "", HEAD, *rows, ""])
        terminalreporter.write_line(f"\n{operator}\n{text}")
        if folder:
            about = __import__(f"bench_{operator}").__doc__
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{operator}_cpu.md"
            path.write_text(f"# {operator} against its rivals\n\n{about}{text}")
            terminalreporter.write_line(f"written to {path}")
