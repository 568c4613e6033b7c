"""The reference as the kernels of devices that have none of ours: it runs there, only slower."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from freqops import _library, reference
from freqops._dispatch import implement

__all__ = ["DEVICES"]

P = ParamSpec("P")
R = TypeVar("R")

#: Dispatch keys that the reference serves: CUDA too where its library is missing.
DEVICES = (*(("CUDA",) if "_cuda" in _library.MISSING else ()), "MPS", "XPU", "PrivateUse1")

_warned: set[str] = set()


def _warning_once(function: Callable[P, R], key: str) -> Callable[P, R]:
    def kernel(*args: P.args, **kwargs: P.kwargs) -> R:
        if key not in _warned:
            _warned.add(key)
            reason = _library.MISSING.get("_cuda") if key == "CUDA" else None
            warnings.warn(
                f"freqops: no kernels for {key} ({reason or 'there are none of ours'}): the "
                "operators run the reference in plain PyTorch there, which is slower",
                RuntimeWarning,
                stacklevel=2,
            )
        return function(*args, **kwargs)

    return kernel


for _key in DEVICES:
    implement("block_dct", _key, _warning_once(reference.block_dct_operator, _key))
    implement("block_dct_mean", _key, _warning_once(reference.block_dct_mean_operator, _key))
    implement("block_dct_gated", _key, _warning_once(reference.block_dct_gated_operator, _key))
    implement("block_dct_backward", _key, _warning_once(reference.block_dct_backward, _key))
    implement("block_idct", _key, _warning_once(reference.block_idct_operator, _key))
    implement("block_idct_backward", _key, _warning_once(reference.block_idct_backward, _key))
    implement("jpeg_gather", _key, _warning_once(reference.jpeg_gather_operator, _key))
    implement("gumbel_gate", _key, _warning_once(reference.gumbel_gate_operator, _key))
    implement("gumbel_gate_backward", _key, _warning_once(reference.gumbel_gate_backward, _key))
