"""Fixtures. `backend` runs a test on every implementation of the operators."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from by_dtype import Operators
from support import EMULATED, Backend

import freqops.ops  # noqa: F401  loads the libraries

# Test tensors are small: a second thread only waits. Tests of threading set their own number.
torch.set_num_threads(1)

CPU = ["cpu-avx512", "cpu-avx2", "cpu-portable"]
BACKENDS = [*CPU, "cuda-emulated", pytest.param("cuda", marks=pytest.mark.gpu)]


def _make(name: str) -> Iterator[Backend]:
    if name.startswith("cpu-"):
        before = torch.ops.freqops.cpu_isa()
        try:
            torch.ops.freqops.set_cpu_isa(name.removeprefix("cpu-"))
        except RuntimeError as error:
            pytest.skip(f"this machine lacks the instructions: {error}")
        yield Backend(name, Operators(torch.ops.freqops), "cpu")
        torch.ops.freqops.set_cpu_isa(before)
    elif name == "cuda-emulated":
        if not EMULATED.exists():
            pytest.fail(
                f"{EMULATED} is missing; build it with: "
                "cmake --build build/cmake --target freqops_emulated"
            )
        torch.ops.load_library(str(EMULATED))
        yield Backend(name, Operators(torch.ops.freqops_emulated), "cpu")
    else:
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        yield Backend(name, Operators(torch.ops.freqops), "cuda")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every implementation of the operators."""
    yield from _make(request.param)


@pytest.fixture(params=CPU)
def cpu_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The CPU kernels for each instruction set."""
    yield from _make(request.param)
