"""The emulation that runs CUDA kernels without a GPU: right kernels pass, broken ones are caught.

emulation/kernels/kernels.cpp holds small kernels with one fault each. They are compiled here, once
plainly and once with the sanitizers, which find what the emulation itself cannot: wrong indices.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

EMULATION = Path(__file__).parent / "emulation"
COMPILER = os.environ.get("CXX", "c++")

pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C++ compiler")


def compiled(folder: Path, *flags: str) -> Path:
    program = folder / "kernels"
    folders = [f"-I{EMULATION}", f"-I{EMULATION.parents[1] / 'csrc'}"]
    sources = [*folders, "-DFREQOPS_EMULATED", str(EMULATION / "kernels" / "kernels.cpp")]
    warnings = ["-Wall", "-Wextra", "-Werror"]
    command = [COMPILER, "-std=c++17", "-O1", *warnings, *flags, *sources, "-o", str(program)]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sanitized")
    try:
        return compiled(folder, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    except subprocess.CalledProcessError:
        pytest.skip(f"{COMPILER} has no sanitizers here")


def run(program: Path, case: str) -> tuple[int, str]:
    done = subprocess.run([program, case], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["sound", "shuffles", "matrices", "divide"])
@pytest.mark.parametrize("kind", ["program", "sanitized"])
def test_right_kernels_pass(kind: str, case: str, request: pytest.FixtureRequest) -> None:
    status, output = run(request.getfixturevalue(kind), case)
    assert status == 0, output


def test_missing_barrier_gives_a_wrong_result(program: Path) -> None:
    status, output = run(program, "no_barrier")
    assert status == 1
    upwards, downwards = map(int, output.split()[1:])
    assert upwards > 0
    assert downwards > 0


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("barrier_in_branch", "deadlock: 64 threads wait at a barrier"),
        ("return_before_barrier", "1 have returned"),
        ("mask_omits_caller", "a lane calls a shuffle that its mask omits"),
        ("lane_stays_away", "62 in a shuffle"),
    ],
)
@pytest.mark.parametrize("kind", ["program", "sanitized"])
def test_divergence_is_reported(
    kind: str, case: str, message: str, request: pytest.FixtureRequest
) -> None:
    status, output = run(request.getfixturevalue(kind), case)
    assert status == 2, output
    assert message in output


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("shared_out_of_bounds", "out of bounds"),
        ("global_out_of_bounds", "heap-buffer-overflow"),
    ],
)
def test_sanitizers_see_into_fibres(sanitized: Path, case: str, message: str) -> None:
    status, output = run(sanitized, case)
    assert status != 0
    assert message in output


def test_half_and_bfloat16_convert_as_torch_does(program: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint32)
    values = torch.from_numpy(np.concatenate([
        (every << 16).astype(np.uint32).view(np.float32),  # every bfloat16, NaN and infinity too
        every.astype(np.uint16).view(np.float16).astype(np.float32),
        np.random.default_rng(0).integers(0, 1 << 32, 20000, dtype=np.uint32).view(np.float32),
        # Halfway between two halves or bfloat16, and just beside.
        np.float32([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-23, 1 + 2**-8, 1 + 3 * 2**-8,
                    65519.996, 65520, 2**-24, 2**-25, 1.5 * 2**-24, 2**-25 * 1.0001, -(2**-26)]),
    ]))  # fmt: skip
    done = subprocess.run([program, "convert"], input=values.numpy().tobytes(), capture_output=True)
    layout = np.dtype([("half", "<f2"), ("bfloat", "<i2"), ("back", "<f4", 2)])
    got = np.frombuffer(done.stdout, layout)
    assert len(got) == len(values)

    half, bfloat = values.half(), values.bfloat16()
    np.testing.assert_array_equal(got["half"], half.numpy())
    np.testing.assert_array_equal(got["back"][:, 0], half.float().numpy())
    got_bfloat = torch.from_numpy(got["bfloat"].copy()).view(torch.bfloat16)
    assert torch.equal(got_bfloat.isnan(), bfloat.isnan())
    assert torch.equal(got_bfloat.nan_to_num(), bfloat.nan_to_num())
    np.testing.assert_array_equal(got["back"][:, 1], bfloat.float().numpy())
