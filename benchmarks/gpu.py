"""All benchmarks on a GPU: python benchmarks/gpu.py -o FOLDER

Writes gpu.json and gpu.md after every case, so that a run that is cut short keeps what it has; with
--resume it goes on where gpu.json of the same machine and versions ends. `benchmarks/gpu.sh bench`
builds the libraries and runs this. Without a GPU, `--device cpu --tiny` runs the same code on small
pictures, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import gpu_block_dct
import gpu_gate
import gpu_gated
import gpu_goals
import gpu_jpeg
import gpu_networks
import gpu_rivals
import torch
from gpu_setting import Section, Setting
from tables import Results, Row, processor

import freqops

SECTIONS: dict[str, Callable[[Setting], Section]] = {
    "forward": gpu_block_dct.forward,
    "latency": gpu_block_dct.latencies,
    "rivals": gpu_rivals.eager,
    "backward": gpu_block_dct.backward,
    "gate": gpu_gate.gate,
    "gated": gpu_gated.gated,
    "jpeg": gpu_jpeg.jpeg,
    "networks": gpu_networks.networks,
    "changed": gpu_block_dct.changed,
    "crossover": gpu_block_dct.crossover,
    "compiled": gpu_rivals.compiled,
}
"""What goals are set for comes first; compiled rivals come last, because they take longest."""

ABOUT = """\
Written by `benchmarks/gpu.sh bench`. All candidates of a row take turns in one process; medians.
Inputs are noise and with the results exceed the L2 several times; each candidate is a CUDA graph of
one call for each input, unless "timed by" says otherwise. **GB/s** counts the bytes that must move,
each once; **of copy** is that rate in units of that of `Tensor.copy_` between two buffers of 1 GiB
(bytes read and written) in the same rounds, and **floor ms** is what that copy needs for as many
bytes. **spread** is the distance between the quartiles. Errors of the transform are the largest
difference from the reference in float64 on two pictures, in coefficient units."""

TINY = "Tiny pictures, to try the code: the figures mean nothing."


def driver() -> str:
    """The driver's version, where nvidia-smi tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "driver unknown"
    return f"driver {done.stdout.splitlines()[0].strip()}"


def commit(checkout: Path = Path(__file__).parents[1]) -> str:
    """Of the checkout, where git and its history are at hand.

    "-dirty" where a file differs from it, those apart that benchmarks write: a run that goes on is
    of the commit that it began with.
    """
    git = ["git", "-C", str(checkout)]
    try:
        name = subprocess.run(
            [*git, "describe", "--always"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"],
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({name.stdout.strip()}{'-dirty' if changes.returncode else ''})"


def facts(setting: Setting) -> dict[str, str]:
    """What the results depend on."""
    found = {"date": str(datetime.date.today())}
    if setting.device.type == "cuda":
        properties = torch.cuda.get_device_properties(setting.device)
        found |= {
            "gpu": properties.name,
            "multiprocessors": f"{properties.multi_processor_count} multiprocessors",
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "l2": f"{properties.L2_cache_size / 1e6:.0f} MB of L2",
            "driver": driver(),
            "cudnn": f"cuDNN {torch.backends.cudnn.version()}",
        }
    found |= {
        "processor": processor(),
        "torch": f"torch {torch.__version__}",
        "cuda": f"CUDA {torch.version.cuda}",
        "python": f"Python {platform.python_version()}",
        "freqops": f"freqops {freqops.__version__}{commit()}",
        "kernels": _kernels(),
    }
    for package in ("triton", "torchvision"):
        try:
            found[package] = f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return found


def _kernels() -> str:
    """The compiler of the CUDA library and its architectures."""
    path = Path(freqops.__file__).parent / "_build.json"
    if not path.exists():
        return "build unknown"
    build = json.loads(path.read_text(encoding="utf-8"))
    return f"nvcc {build['nvcc']} for {' '.join(build['cuda_architectures'])}"


class Run:
    """What is measured, and the two files it is written to.

    Args:
        folder: theirs.
        setting: where and how long.
        resume: keep the rows of gpu.json there, if it is of the same machine and versions.
    """

    def __init__(self, folder: Path, setting: Setting, *, resume: bool = False) -> None:
        self.folder, self.setting = folder, setting
        self.results = Results()
        self.facts = facts(setting)
        self.done: dict[str, list[str]] = {}
        self.planned: dict[str, list[str]] = {}
        self.problems: dict[str, str] = {}
        self._earlier: dict[str, list[Row]] = {}
        if resume:
            self._read()
        folder.mkdir(parents=True, exist_ok=True)

    def _read(self) -> None:
        path = self.folder / "gpu.json"
        if not path.exists():
            return
        content = json.loads(path.read_text(encoding="utf-8"))
        machine = content.get("machine", {})
        other = [
            name
            for name, fact in self.facts.items()
            if name not in ("date", "processor") and machine.get(name) != fact
        ]
        if other:
            print(f"{path} is not continued, its {', '.join(other)} differ", flush=True)
            return
        self.done = content["done"]
        self._earlier = content["tables"]

    def plan(self, section: Section) -> None:
        """Names what will be measured, and takes over what is done."""
        title = section.table.title
        self.planned[title] = list(section.cases)
        self.done.setdefault(title, [])
        self.keep(section)

    def keep(self, section: Section) -> None:
        """Takes over what is done of a table of which nothing more is measured."""
        for row in self._earlier.pop(section.table.title, []):
            self.results.add(section.table, row)

    @property
    def left(self) -> dict[str, list[str]]:
        """Cases that are planned and neither done nor failed, by table."""
        left = {
            title: [
                name
                for name in names
                if name not in self.done[title] and f"{title}: {name}" not in self.problems
            ]
            for title, names in self.planned.items()
        }
        return {title: names for title, names in left.items() if names}

    def measure(self, section: Section, until: float) -> None:
        """All cases that are left and begin before that time of ``time.monotonic``."""
        title = section.table.title
        done = self.done[title]
        for name in self.left.get(title, []):
            if time.monotonic() > until:
                break
            case = section.cases[name]
            start = time.monotonic()
            try:
                rows = case()
            except Exception as error:
                self.problems[f"{title}: {name}"] = f"{type(error).__name__}: {error}"
                print(f"FAILED  {title}: {name}", flush=True)
                traceback.print_exc()
                self.write()
                self._clear()
                continue
            for row in rows:
                self.results.add(section.table, row)
            done.append(name)
            print(f"{time.monotonic() - start:6.1f} s  {title}: {name}", flush=True)
            for row in rows:
                print(f"          {_short(row)}", flush=True)
            self.write()
            self._clear()

    def _clear(self) -> None:
        """Gives memory back. What a broken kernel left behind is raised here, and ends the run."""
        if self.setting.device.type == "cuda":
            gc.collect()
            torch.cuda.synchronize(self.setting.device)
            torch.cuda.empty_cache()

    def write(self) -> None:
        content = json.loads(self.results.json("gpu", self.facts))
        content["tiny"] = self.setting.tiny
        content["goals"] = gpu_goals.rows(self.results.tables)
        content["done"] = self.done
        content["left"] = self.left
        content["problems"] = self.problems
        _replace(self.folder / "gpu.json", json.dumps(content, indent=1) + "\n")
        _replace(self.folder / "gpu.md", self.markdown() + "\n")

    def markdown(self) -> str:
        parts = ["# freqops on a GPU", ABOUT]
        if self.setting.tiny:
            parts.append(f"**{TINY}**")
        parts.append(", ".join(self.facts.values()))
        goals = gpu_goals.rows(self.results.tables)
        if goals and not self.setting.tiny:
            parts.append(gpu_goals.GOALS.markdown(goals))
        parts += [table.markdown(rows) for table, rows in self.results.tables.items()]
        if self.problems:
            lines = [
                f"- {name}: {' '.join(text.split())[:300]}" for name, text in self.problems.items()
            ]
            parts.append("\n".join(["## What failed", "", *lines]))
        if left := self.left:
            lines = [f"- {title}: {'; '.join(names)}" for title, names in left.items()]
            about = "The time ended; `FREQOPS_RESUME=1 benchmarks/gpu.sh bench` goes on from here."
            parts.append("\n".join(["## Not measured yet", "", about, "", *lines]))
        return "\n\n".join(parts)


def _short(row: Row) -> str:
    """The cells that fit a line."""
    cells = []
    for name, cell in row.items():
        if cell is None or isinstance(cell, Mapping):
            continue
        cells.append(f"{name} {cell:.4g}" if isinstance(cell, float) else f"{name} {cell}")
    return ", ".join(cells)


def _replace(path: Path, text: str) -> None:
    """In one step: a run may be killed at any time."""
    temporary = path.with_suffix(f"{path.suffix}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, help="folder of the results (on a GPU benchmarks/results)"
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small pictures, to try the code")
    parser.add_argument("--full", action="store_true", help="compile rivals at 8 pictures too")
    parser.add_argument("--resume", action="store_true", help="go on where gpu.json ends")
    parser.add_argument("--budget", type=float, default=420, help="seconds; no case begins later")
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="TABLE",
        help=f"of {', '.join(SECTIONS)}",
    )  # fmt: skip
    options = parser.parse_args(given)
    if options.output is None:
        if options.tiny or options.device == "cpu":
            parser.error("--tiny and --device cpu need -o FOLDER: their figures mean nothing")
        options.output = Path(__file__).parent / "results"
    return options


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    until = time.monotonic() + options.budget
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU here", file=sys.stderr)
        return 1
    if options.device == "cuda" and "_cuda" in freqops._library.MISSING:
        print(f"freqops/_cuda.so: {freqops._library.MISSING['_cuda']}", file=sys.stderr)
        return 1
    setting = Setting(
        torch.device(options.device),
        tiny=options.tiny,
        seconds=0.0 if options.tiny else 0.5,
        least=1 if options.tiny else 10,
        backend="eager" if options.tiny else "inductor",
        full=options.full,
    )
    run = Run(options.output, setting, resume=options.resume)
    print(", ".join(run.facts.values()), flush=True)
    sections = []
    for name, make in SECTIONS.items():
        section = make(setting)
        if name in options.only:
            run.plan(section)
            sections.append(section)
        else:
            run.keep(section)
    for section in sections:
        run.measure(section, until)
    run.write()
    print(gpu_goals.GOALS.markdown(gpu_goals.rows(run.results.tables)))
    for name, problem in run.problems.items():
        print(f"FAILED  {name}: {problem}")
    left = sum(len(names) for names in run.left.values())
    if left:
        print(f"{left} cases are left: go on with --resume")
    print(f"written to {options.output}/gpu.md and gpu.json")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
