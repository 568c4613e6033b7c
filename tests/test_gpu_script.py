"""benchmarks/gpu.sh where there is no GPU, and with stand-ins for one and its tools."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import freqops

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def script(
    *arguments: str, path: Path = SCRIPT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """gpu.sh on a machine that shows no GPU."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", str(path), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | hidden | environment,
    )


@pytest.mark.parametrize("arguments", [(), ("benchmark",), ("test", "folder", "more")])
def test_a_wrong_argument_prints_the_usage(arguments: tuple[str, ...]) -> None:
    done = script(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: benchmarks/gpu.sh test | sanitize | bench")


def test_help() -> None:
    done = script("--help")
    assert done.returncode == 0 and "FREQOPS_LIBRARIES=DIR" in done.stdout


def test_without_a_gpu(tmp_path: Path) -> None:
    done = script("bench", str(tmp_path / "results"))
    assert done.returncode == 1
    assert f"gpu.sh: torch {torch.__version__} (built with" in done.stderr
    assert "sees no GPU here: nothing was run" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_time_that_is_no_number() -> None:
    done = script("test", FREQOPS_SECONDS="soon")
    assert done.returncode == 1
    assert done.stderr == "gpu.sh: FREQOPS_SECONDS must be a number of seconds, got soon\n"


def test_without_torch(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    done = script("bench", PYTHON=str(python))
    assert done.returncode == 1 and "needs torch, numpy and pytest: No module" in done.stderr
    done = script("bench", PYTHON="no-such-python")
    assert done.returncode == 1 and "no no-such-python here: set PYTHON" in done.stderr


STAND_IN = {
    "torch.py": """\
from types import SimpleNamespace as Names
__version__ = "9.0"
version = Names(cuda="19.0")
gpu = Names(name="Abacus", major=9, minor=0, multi_processor_count=7, total_memory=2**33,
            L2_cache_size=5e7)
cuda = Names(is_available=lambda: True, get_device_properties=lambda device: gpu)
backends = Names(cudnn=Names(version=lambda: 9))
""",
    "freqops.py": """\
import os
from types import SimpleNamespace as Names
__version__, __path__ = "0", ["nowhere"]
_library = Names(MISSING={"_cuda": os.environ["BROKEN"]} if "BROKEN" in os.environ else {})
""",
    "numpy.py": "",
    "pytest.py": "",
}
PYTHON = """\
#!/bin/bash
case "$*" in
  *exercise.py* | *gpu.py* | "-m pytest "*)
    echo "$@" >>given
    echo "exercise: 3 of 4 cases on abacus"
    exit ${{EXIT:-0}} ;;
  *) PYTHONPATH={folder} exec {python} -S "$@" ;;
esac
"""
SANITIZER = """\
#!/bin/bash
[[ $1 == --help ]] && {{ echo "--report-api-errors arg"; exit 0; }}
[[ $1 == --version ]] && {{ echo "Version 9"; exit 0; }}
echo "$PYTORCH_NO_CUDA_MEMORY_CACHING $@" >>given-to-it
tool=$2
while [[ $1 != *python ]]; do shift; done
"$@"
echo "========= ERROR SUMMARY: 0 errors"
[[ $tool == racecheck ]] && exit 99
exit 0
"""


LIBRARIES = ("_cpu.so", "_cuda.so")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the script, and stand-ins for a GPU, its tools, torch and built libraries."""
    (tmp_path / "tree" / "benchmarks").mkdir(parents=True)
    (tmp_path / "tree" / "freqops").mkdir()
    shutil.copy(SCRIPT, tmp_path / "tree" / "benchmarks")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in STAND_IN.items():
        (tools / name).write_text(text)
    for name, text in (("python", PYTHON), ("compute-sanitizer", SANITIZER)):
        path = tools / name
        path.write_text(text.format(python=sys.executable, folder=tools))
        path.chmod(0o755)
    (tmp_path / "built").mkdir()
    for name in (*LIBRARIES, "_build.json"):
        (tmp_path / "built" / name).write_text(f"new {name}")
    return tmp_path


def stood_in(checkout: Path, mode: str, **environment: str) -> subprocess.CompletedProcess[str]:
    tools = {"PYTHON": str(checkout / "tools" / "python"), "OMP_NUM_THREADS": "1"}
    libraries = {"FREQOPS_LIBRARIES": str(checkout / "built"), "PYTHONPATH": ""}
    path = checkout / "tree" / "benchmarks" / "gpu.sh"
    return script(mode, str(checkout / "out"), path=path, **tools | libraries | environment)


def test_the_stand_ins_have_what_the_script_asks_the_package_for() -> None:
    assert isinstance(freqops._library.MISSING, dict)
    assert Path(freqops.__path__[0]).is_dir() and freqops.__version__


def test_libraries_that_are_missing(checkout: Path) -> None:
    done = stood_in(checkout, "test", FREQOPS_LIBRARIES=str(checkout / "nowhere"))
    assert done.returncode == 1
    assert f"FREQOPS_LIBRARIES: {checkout}/nowhere has no _cpu.so" in done.stderr


def test_libraries_take_the_place_of_others(checkout: Path) -> None:
    there = checkout / "tree" / "freqops"
    for name in (*LIBRARIES, "_build.json"):
        (there / name).write_text("old")
    (checkout / "built" / "_build.json").unlink()
    done = stood_in(checkout, "bench")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"libraries from {checkout}/built" in done.stdout
    assert {path.name: path.read_text() for path in there.iterdir()} == {
        name: f"new {name}" for name in LIBRARIES
    }, "what described the others is gone"


def test_libraries_of_the_checkout_itself_stay(checkout: Path) -> None:
    there = checkout / "tree" / "freqops"
    there.rmdir()
    (checkout / "built").rename(there)
    for name in (str(there), f"{checkout}/tools/../tree/freqops/"):
        done = stood_in(checkout, "bench", FREQOPS_LIBRARIES=name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(path.name for path in there.iterdir()) == sorted([*LIBRARIES, "_build.json"])


def test_libraries_that_do_not_load(checkout: Path) -> None:
    done = stood_in(checkout, "bench", BROKEN="undefined symbol")
    assert done.returncode == 1
    assert "undefined symbol" in done.stderr and "the libraries do not load" in done.stderr
    assert not (checkout / "tree" / "given").exists()


def test_the_scripts_tests(checkout: Path) -> None:
    done = stood_in(checkout, "test", EXIT="3")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Abacus, sm_90, 7 multiprocessors, 8 GiB, 50 MB of L2" in done.stdout
    checked, tested = (checkout / "tree" / "given").read_text().splitlines()
    assert checked == "benchmarks/exercise.py --device cuda --check --seconds 90"
    assert tested.startswith("-m pytest tests -m gpu and not large ")
    assert f"--junitxml={checkout}/out/gpu_test.xml" in tested
    text = (checkout / "out" / "gpu_test.txt").read_text()
    assert "Abacus" in text and "cases on abacus" in text
    assert "exercise.py: exit 3, pytest: exit 3" in text


def test_the_scripts_sanitizers(checkout: Path) -> None:
    done = stood_in(checkout, "sanitize")
    assert done.returncode == 1, "one of the tools reported an error"
    lines = (checkout / "out" / "gpu_sanitize.md").read_text().splitlines()
    found = [line for line in lines if "check |" in line]
    exits = {"memcheck": 0, "racecheck": 99, "initcheck": 0, "synccheck": 0}
    assert found == [
        f"| {tool} | {code} | ERROR SUMMARY: 0 errors | 3 of 4 cases on abacus |"
        for tool, code in exits.items()
    ]
    given = (checkout / "tree" / "given-to-it").read_text().splitlines()
    assert len(given) == 4
    for line in given:
        assert line.startswith("1 --tool ") and "--error-exitcode 99 --report-api-errors no" in line
        assert "benchmarks/exercise.py --device cuda --seconds " in line
    assert len(list((checkout / "out").iterdir())) == 5


def test_every_sanitizer_has_a_limit(checkout: Path) -> None:
    """`timeout 0` has none."""
    limits = checkout / "tools" / "timeout"
    limits.write_text('#!/bin/bash\necho "$@" >>limits\nshift 2\nexec "$@"\n')
    limits.chmod(0o755)
    done = stood_in(checkout, "sanitize", FREQOPS_SECONDS="2")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = (checkout / "tree" / "limits").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["1"] * 4
    assert all(line.endswith("--seconds 1") for line in lines)


def test_the_scripts_benchmarks(checkout: Path) -> None:
    chosen = {"FREQOPS_RESUME": "1", "FREQOPS_FULL": "1", "FREQOPS_TABLES": "forward gate"}
    done = stood_in(checkout, "bench", EXIT="124", **chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stopped by the time" in done.stdout
    given = (checkout / "tree" / "given").read_text()
    assert given.startswith(
        f"benchmarks/gpu.py -o {checkout}/out --resume --full --only forward gate --budget 4"
    )


# --- What it needs and leaves ---------------------------------------------------------------------


def test_lines_fit() -> None:
    long = [line for line in SCRIPT.read_text().splitlines() if len(line) > 100]
    assert long == []


def test_what_it_leaves_is_ignored_or_a_table() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    left = {"gpu_memcheck.log": 0, "gpu_test.txt": 0, "gpu_test.xml": 0, "gpu_sanitize.md": 1}
    for name, code in left.items():
        command = ["git", "-C", str(ROOT), "check-ignore", "-q", f"benchmarks/results/{name}"]
        assert subprocess.run(command).returncode == code, name


ENOUGH = {"torch", "numpy", "pytest", "freqops", *sys.stdlib_module_names}


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, first part of the name, and whether a test is skipped where that is absent."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").split(".")[0], False
        for call in ast.walk(node) if isinstance(node, (ast.Expr, ast.Assign)) else ():
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.importorskip":
                yield node.lineno, ast.literal_eval(call.args[0]).split(".")[0], True


def missed(path: Path) -> list[str]:
    """Imports that fail where only torch, numpy and pytest are installed."""
    found, skipped = [], False
    for line, name, skips in imports(path):
        local = [folder / f"{name}.py" for folder in (path.parent, ROOT / "benchmarks")]
        skipped |= skips  # where that is absent, nothing behind it is run
        beside = next((p for p in local if p.exists()), None)
        if skipped or name in ENOUGH:
            continue
        found += [f"{path.name}:{line} {name}"] if beside is None else missed(beside)
    return found


def test_tests_import_nothing_else() -> None:
    """`gpu.sh test` collects all of them, with torch, numpy and pytest alone."""
    assert [each for path in sorted((ROOT / "tests").glob("*.py")) for each in missed(path)] == []
