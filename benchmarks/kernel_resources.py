"""Registers, shared memory and occupancy of the CUDA kernels, as the compiler has left them.

    python benchmarks/kernel_resources.py [library] [--markdown FILE]

Reads the machine code in freqops/_cuda.so with cuobjdump, which the CUDA toolkit and Triton bring;
no GPU is needed. Occupancy is the share of a multiprocessor's threads that can be resident.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "freqops" / "_cuda.so"


@dataclasses.dataclass(frozen=True)
class Processor:
    """Limits of a multiprocessor: CUDA C++ programming guide, compute capabilities."""

    threads: int
    blocks: int
    shared: int
    registers: int = 65536


PROCESSORS = {
    80: Processor(2048, 32, 164 << 10),
    90: Processor(2048, 32, 228 << 10),
    100: Processor(2048, 32, 228 << 10),
    120: Processor(1536, 24, 100 << 10),
}

WARP = 32
# Registers are dealt out to warps in lots of 8 a thread. Of shared memory each thread block loses
# 1 KB, which the compiler counts from sm_90 on where there is any.
REGISTER_LOT, SHARED_LOT, RESERVED, COUNTED_FROM = 8, 128, 1024, 90


@dataclasses.dataclass(frozen=True, order=True)
class Kernel:
    """A kernel in machine code.

    Args:
        name: with its template arguments.
        architecture: 90 for sm_90.
        threads: of a thread block.
        registers: of a thread.
        shared: bytes of a thread block.
        local: bytes of a thread in local memory, spills included.
    """

    name: str
    architecture: int
    threads: int
    registers: int
    shared: int
    local: int

    @property
    def resident(self) -> int:
        """Thread blocks on a multiprocessor."""
        processor = PROCESSORS[self.architecture]
        registers = _up(self.registers, REGISTER_LOT) * _up(self.threads, WARP)
        shared = _up(self.shared, SHARED_LOT) + RESERVED
        return min(
            processor.blocks,
            processor.threads // self.threads,
            processor.registers // registers,
            processor.shared // shared,
        )

    @property
    def occupancy(self) -> float:
        return self.resident * self.threads / PROCESSORS[self.architecture].threads


def _up(number: int, lot: int) -> int:
    return -(-number // lot) * lot


def threads_of(name: str) -> int:
    """Of a thread block, at most. Kernels of float64 tiles have half as many."""
    if name.startswith("product_kernel"):
        return 512
    halved = name.startswith(("analysis_kernel", "synthesis_kernel")) and "double" in name
    return 128 if halved else 256


def cuobjdump() -> str | None:
    """The program, or None."""
    found = shutil.which("cuobjdump")
    if found:
        return found
    triton = importlib.util.find_spec("triton")
    if triton is None or triton.origin is None:
        return None
    program = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(program) if program.exists() else None


def demangled(names: Iterable[str]) -> list[str]:
    """Kernel names as the source has them, without namespaces and parameters."""
    program = shutil.which("c++filt")
    lines = list(names)
    if program is None:
        return lines
    text = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True).stdout
    return [_short(line) for line in text.splitlines()]


def _short(name: str) -> str:
    name = re.sub(r"\(anonymous namespace\)::|freqops::cuda::|^void ", "", name)
    name = re.sub(r"\(.*\)$", "", re.sub(r"\((bool|int)\)", "", name))
    for long, short in (("unsigned char", "uint8"), ("__nv_bfloat16", "bfloat16")):
        name = name.replace(long, short)
    return name.replace("__half", "half").replace("> >", ">>")


def kernels(library: Path, program: str) -> list[Kernel]:
    """All kernels of a library, for those architectures whose limits are known."""
    command = [program, "-res-usage", str(library)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = []
    architecture = 0
    mangled = ""
    for line in text.splitlines():
        if match := re.match(r"arch = sm_(\d+)", line):
            architecture = int(match[1])
        elif match := re.match(r"\s*Function (\S+):", line):
            mangled = match[1]
        elif "REG:" in line and architecture in PROCESSORS:
            used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
            local = used["LOCAL"] + used["STACK"]
            shared = used["SHARED"]
            if shared and architecture >= COUNTED_FROM:
                shared -= RESERVED
            found.append((mangled, architecture, used["REG"], shared, local))
    names = demangled(mangled for mangled, *_ in found)
    return sorted(
        Kernel(name, sm, threads_of(name), registers, shared, local)
        for name, (_, sm, registers, shared, local) in zip(names, found, strict=True)
    )


def markdown(found: list[Kernel]) -> str:
    """One row a kernel, one column an architecture."""
    architectures = sorted({kernel.architecture for kernel in found})
    by_name: dict[str, dict[int, Kernel]] = {}
    for kernel in found:
        by_name.setdefault(kernel.name, {})[kernel.architecture] = kernel
    lines = [
        "| kernel | shared KB | "
        + " | ".join(f"sm_{sm}: registers, resident" for sm in architectures)
        + " |",
        "|---|---|" + "---|" * len(architectures),
    ]
    for name, kernels_of in by_name.items():
        shared = max(kernel.shared for kernel in kernels_of.values()) / 1024
        cells = []
        for sm in architectures:
            kernel = kernels_of.get(sm)
            if kernel is None:
                cells.append("-")
                continue
            spilt = f", {kernel.local} B local" if kernel.local else ""
            cells.append(f"{kernel.registers}, {kernel.occupancy:.0%}{spilt}")
        lines.append(f"| `{name}` | {shared:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


HEAD = """\
# CUDA kernels: registers, shared memory, occupancy

Written by `python benchmarks/kernel_resources.py --markdown benchmarks/results/kernels.md` from
the machine code in the library; no GPU takes part. For each architecture: registers of a thread,
and the share of a multiprocessor's threads that can be resident. Template arguments are the type of
what is read, that of the result, that of sums, and switches (analysis: chroma "dctnet", a gate;
mean: "dctnet"; gather: the result's type alone); `AnyType` kernels serve float64, and they alone
may use local memory. Shared memory is that of a thread block; product_kernel asks for 4.7 KB more
for every 8 channels when it is launched, which leaves its occupancy as it is.

"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Registers, shared memory and occupancy.")
    parser.add_argument("library", nargs="?", type=Path, default=LIBRARY)
    parser.add_argument("--markdown", type=Path, help="file to write the table to")
    options = parser.parse_args(arguments)
    program = cuobjdump()
    if program is None:
        print("cuobjdump is missing: it comes with the CUDA toolkit and with Triton")
        return 1
    if not options.library.exists():
        print(f"{options.library} is missing: build it with nvcc on PATH")
        return 1
    table = markdown(kernels(options.library, program))
    if options.markdown:
        options.markdown.write_text(HEAD + table + "\n", encoding="utf-8")
    else:
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
