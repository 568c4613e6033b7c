"""By how much one call makes a fresh process grow beyond its result: all that malloc gave, to torch
and to the threads of a kernel alike.

    python benchmarks/growth.py freqops 8x3x448x448 24 --threads 2

malloc gives nothing back in that process, so what was freed within the call still counts. What the
first call loads once counts too (data of the library, tables of the dispatcher), about 0.1 MiB, so
this is an upper bound. Linux with glibc.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
from pathlib import Path

import torch
from measure import OURS, set_malloc
from peers import Transform, rivals

import freqops

ANONYMOUS = Path("/proc/self/smaps_rollup")

PR_SET_THP_DISABLE = 41  # <linux/prctl.h>


def available() -> bool:
    """Whether this machine can tell."""
    return ANONYMOUS.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")


def anonymous() -> int:
    """Bytes of this process that no file holds, exactly."""
    for line in ANONYMOUS.read_text().splitlines():
        if line.startswith("Anonymous:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{ANONYMOUS} has no line Anonymous")


def growth(candidate: str, shape: list[int], channels: int, threads: int) -> int:
    """Bytes, result excluded. Once in a process: its heap is then no longer fresh."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # else counted in steps of 2 MiB
    set_malloc(keeps=True)
    torch.set_num_threads(threads)
    selection = freqops.ChannelSelection.square(channels)
    transform = Transform(selection, torch.zeros(channels), torch.ones(channels))
    call = ({OURS: transform.freqops} | rivals(transform))[candidate]
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    images.copy_(images.clone())  # starts the threads
    libc.malloc_trim(0)  # what is used again counts again
    before = anonymous()
    result = call(images)
    return anonymous() - before - result.nbytes


def measured(candidate: str, shape: tuple[int, ...], channels: int, threads: int) -> int:
    """``growth`` in a fresh process."""
    arguments = [candidate, "x".join(map(str, shape)), str(channels), "--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidate", help="freqops or the name of an eager rival")
    parser.add_argument("shape", help="of the uint8 pictures, as 8x3x448x448")
    parser.add_argument("channels", type=int)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    shape = [int(size) for size in given.shape.split("x")]
    print(growth(given.candidate, shape, given.channels, given.threads))


if __name__ == "__main__":
    main()
