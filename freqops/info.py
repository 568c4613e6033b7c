"""What ``freqops info`` prints: versions, libraries, instruction set, devices."""

import json
import platform
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

import freqops
from freqops import _library, jpeg

__all__ = ["describe"]

_FOLDER = Path(__file__).parent


class _Build(TypedDict):
    """``_build.json``, which CMakeLists.txt writes beside the libraries."""

    torch: str
    compiler: str
    nvcc: str | None
    cuda_architectures: list[str]
    jpeg: str | None


def describe() -> str:
    """The text of ``freqops info``, one fact a line.

    >>> print(describe())  # doctest: +ELLIPSIS
    freqops ...
    """
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    lines = {
        "freqops": f"{freqops.__version__} in {_FOLDER}",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": f"{torch.__version__} ({cuda})",
        "NumPy": np.__version__,
        "built": _built(_FOLDER / "_build.json"),
        "CPU library": "loaded",
        "instructions": _instruction_sets(),
        "threads": str(torch.get_num_threads()),
        "CUDA library": _cuda_library(_library.MISSING),
        "GPU": "; ".join(_gpus()) or "none",
        "JPEG reader": _jpeg_reader(_FOLDER / "_build.json"),
    }
    return "\n".join(f"{name:14}{text}" for name, text in lines.items())


def _built(path: Path) -> str:
    if not path.exists():
        return f"unknown: {path.name} is missing"
    build: _Build = json.loads(path.read_text())
    text = f"by {build['compiler']} against torch {build['torch']}; "
    if build["nvcc"] is None:
        return text + "without CUDA"
    return text + f"by nvcc {build['nvcc']} for {_architectures(build['cuda_architectures'])}"


def _architectures(names: list[str]) -> str:
    """CMake's names in NVIDIA's: "80-real" is code for sm_80, "120" that and PTX besides.

    >>> _architectures(["80-real", "90a-real", "120"])
    'sm_80, sm_90a, sm_120, compute_120 (PTX)'
    """
    code = [f"sm_{name.removesuffix('-real')}" for name in names]
    return ", ".join(code + [f"compute_{name} (PTX)" for name in names if "-" not in name])


def _instruction_sets() -> str:
    chosen: str = torch.ops.freqops.cpu_isa()
    possible = []
    try:
        for name in ("avx512", "avx2", "portable"):
            try:
                torch.ops.freqops.set_cpu_isa(name)
            except RuntimeError:  # not on this processor, or not in this build
                continue
            possible.append(name)
    finally:
        torch.ops.freqops.set_cpu_isa(chosen)
    return f"{chosen} (this processor has {', '.join(possible)})"


def _cuda_library(missing: dict[str, str]) -> str:
    reason = missing.get("_cuda")
    if reason is None:
        return "loaded"
    text = f"not loaded: {reason}"
    return text + "; CUDA tensors go through the reference" if torch.version.cuda else text


def _jpeg_reader(path: Path) -> str:
    try:
        from freqops import _jpeg
    except ImportError as error:
        return f"none: {jpeg.missing() or error}"
    build: _Build | None = json.loads(path.read_text()) if path.exists() else None
    return (build and build.get("jpeg")) or f"libjpeg-turbo {_jpeg.LIBJPEG_TURBO}"


def _gpus() -> list[str]:
    names = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"{properties.major}.{properties.minor}"
        names.append(f"cuda:{index} {properties.name}, {capability}")
    other = torch.accelerator.current_accelerator()
    if other is not None and other.type != "cuda":
        names.append(f"{other.type}, through the reference")
    return names
