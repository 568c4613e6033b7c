"""Loads the compiled operators into torch.ops.freqops."""

from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["MISSING"]

_open: Callable[[str], None] = torch.ops.load_library


def _load(folder: Path, *, cuda: bool) -> dict[str, str]:
    """Loads ``_cpu.so``, which must be there, and under a CUDA build of torch ``_cuda.so``.

    Returns why a library is not loaded, by its name. A CUDA library cannot even be opened under a
    torch without CUDA, whose functions it calls.
    """
    cpu = folder / "_cpu.so"
    if not cpu.exists():
        raise ImportError(
            f"freqops: the compiled library {cpu} is missing; build it in a checkout with: "
            "pip install --no-build-isolation -e ."
        )
    try:
        _open(str(cpu))
    except OSError as error:
        raise ImportError(
            f"freqops: {cpu} does not load under torch {torch.__version__} "
            f"(2.10 or later is needed): {error.__cause__ or error}"
        ) from error

    path = folder / "_cuda.so"
    if not cuda:
        return {"_cuda": f"torch {torch.__version__} is built without CUDA"}
    if not path.exists():
        return {"_cuda": "not built: no nvcc was found, or FREQOPS_CUDA was off"}
    try:
        _open(str(path))
    except OSError as error:
        return {"_cuda": str(error.__cause__ or error)}
    return {}


#: Why a library is not loaded, by its name: "_cuda" or nothing.
MISSING = _load(Path(__file__).parent, cuda=torch.version.cuda is not None)
