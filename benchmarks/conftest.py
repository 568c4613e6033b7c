"""Collects a row a comparison and prints a table of ratios for each operator below
pytest-benchmark's own. A benchmark whose table is another one says so by TITLE and HEAD."""

import datetime
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from measure import set_malloc

TABLES = pytest.StashKey[dict[tuple[str, str], list[str]]]()

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
def rows_on(request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """Lines of the operator's table for a type of device; a benchmark appends its own."""
    operator = request.module.__name__.removeprefix("bench_")
    tables = request.config.stash[TABLES]
    return lambda device: tables.setdefault((operator, device), [])


@pytest.fixture
def rows(rows_on: Callable[[str], list[str]]) -> list[str]:
    """Lines of the operator's table for the CPU."""
    return rows_on("cpu")


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
    for (operator, device), rows in config.stash[TABLES].items():
        bench = __import__(f"bench_{operator}")
        where = f"{torch.cuda.get_device_name()}, {machine}" if device == "cuda" else machine
        text = "\n".join(["", where, "", getattr(bench, "HEAD", HEAD), *rows, ""])
        terminalreporter.write_line(f"\n{operator}\n{text}")
        if folder:
            title = getattr(bench, "TITLE", f"{operator} against its rivals")
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{operator}_{device}.md"
            path.write_text(f"# {title}\n\n{bench.__doc__}{text}")
            terminalreporter.write_line(f"written to {path}")
