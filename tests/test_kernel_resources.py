"""The table of registers, shared memory and occupancy of the CUDA kernels."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.append(BENCHMARKS)
import kernel_resources  # noqa: E402
from kernel_resources import (  # noqa: E402
    LIBRARY,
    Kernel,
    cuobjdump,
    kernels,
    main,
    markdown,
)

sys.path.remove(BENCHMARKS)

DUMP = """\
Fatbin elf code:
arch = sm_80
Resource usage:
 Function _ZN7freqops4cuda15analysis_kernelIhffLb0EEEvNS0_14AnalysisParamsIT1_EE:
  REG:52 STACK:0 SHARED:30720 LOCAL:0 CONSTANT[0]:1928 TEXTURE:0 SURFACE:0 SAMPLER:0
arch = sm_90
 Function _ZN7freqops4cuda15analysis_kernelIhffLb0EEEvNS0_14AnalysisParamsIT1_EE:
  REG:56 STACK:8 SHARED:31744 LOCAL:4 CONSTANT[0]:1576 TEXTURE:0 SURFACE:0 SAMPLER:0
arch = sm_61
 Function other:
  REG:10 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:8 TEXTURE:0 SURFACE:0 SAMPLER:0
"""


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "resident"),
    [
        (90, 256, 32, 0, 8),  # threads
        (90, 256, 33, 0, 6),  # registers: lots of 8, so 40
        (90, 256, 64, 0, 4),
        (90, 256, 32, 37 << 10, 6),  # shared memory: 38 KB each of 228
        (90, 32, 16, 0, 32),  # thread blocks
        (80, 256, 64, 31 << 10, 4),
        (120, 256, 32, 0, 6),
        (120, 256, 32, 31 << 10, 3),
        (120, 128, 255, 0, 2),
    ],
)
def test_resident_blocks(
    architecture: int, threads: int, registers: int, shared: int, resident: int
) -> None:
    kernel = Kernel("k", architecture, threads, registers, shared, 0)
    assert kernel.resident == resident
    most = 1536 if architecture == 120 else 2048
    assert kernel.occupancy == resident * threads / most


@pytest.fixture
def dump(tmp_path: Path) -> str:
    """A program that prints DUMP."""
    program = tmp_path / "cuobjdump"
    (tmp_path / "dump").write_text(DUMP)
    program.write_text(f"#!/bin/sh\ncat {tmp_path / 'dump'}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_what_is_read(dump: str) -> None:
    old, new = kernels(LIBRARY, dump)
    assert old == Kernel(old.name, 80, 256, 52, 30720, 0)
    assert new == Kernel(new.name, 90, 256, 56, 30720, 12)
    assert markdown([old, new]).splitlines()[2].endswith("| 30.0 | 52, 50% | 56, 50%, 12 B local |")


def test_names(dump: str) -> None:
    if kernel_resources.shutil.which("c++filt") is None:
        pytest.skip("no c++filt here")
    assert {k.name for k in kernels(LIBRARY, dump)} == {
        "analysis_kernel<uint8, float, float, false>"
    }


def test_without_the_program_or_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernel_resources, "cuobjdump", lambda: None)
    assert main([]) == 1
    assert "cuobjdump is missing" in capsys.readouterr().out
    monkeypatch.setattr(kernel_resources, "cuobjdump", lambda: "cuobjdump")
    assert main([str(tmp_path / "none.so")]) == 1
    assert "none.so is missing" in capsys.readouterr().out


def test_the_library(tmp_path: Path) -> None:
    """float kernels keep all in registers; every kernel fits on every architecture."""
    program = cuobjdump()
    if program is None or not LIBRARY.exists():
        pytest.skip("no cuobjdump or no CUDA library here")
    found = kernels(LIBRARY, program)
    assert found
    assert all(kernel.resident > 0 for kernel in found)
    assert not [k for k in found if k.local and "double" not in k.name]
    path = tmp_path / "kernels.md"
    assert main(["--markdown", str(path)]) == 0
    names = {kernel.name for kernel in found}
    assert path.read_text().count("\n| `") == len(names)
