"""Every operator on small tensors of every kind: for compute-sanitizer, and a first look at a GPU.

    compute-sanitizer --tool memcheck python benchmarks/exercise.py
    python benchmarks/exercise.py --device cpu --check
    python benchmarks/exercise.py --device emulated --check

Inputs are drawn on the CPU and reach the device in one copy, so that hardly any kernel but ours
runs. Cases come in an order of no meaning that is always the same: a run that --seconds cuts short
has seen some of all kinds. "emulated" runs the CUDA sources on the CPU (tests/emulation), whose
library is built by `cmake --build build/cmake --target freqops_emulated`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from exercise_cases import PRODUCT, REGISTERS, Argument, Case, Laid, cases
from torch import Tensor

import freqops.ops
from freqops import reference
from freqops._dispatch import NAMES
from freqops._reference_jpeg import jpeg_gather_operator


def _mean(images: Tensor, channels: tuple[int, ...], *rest: object) -> Tensor:
    out = reference.block_dct_operator(images, channels, *rest, "none", torch.float64)  # type: ignore
    return out.mean((2, 3))


def _gated(images: Tensor, gate: Tensor, *rest: object) -> Tensor:
    *options, dtype, _ = rest
    out = reference.block_dct_operator(images, *options, "none", dtype)  # type: ignore
    return out * gate[..., None, None]


REFERENCES: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "block_dct": reference.block_dct_operator,
    "block_dct_backward": reference.block_dct_backward,
    "block_dct_mean": _mean,
    "block_dct_gated": _gated,
    "block_idct": reference.block_idct_operator,
    "block_idct_backward": reference.block_idct_backward,
    "jpeg_gather": jpeg_gather_operator,
    "gumbel_gate": reference.gumbel_gate_operator,
    "gumbel_gate_backward": reference.gumbel_gate_backward,
}


Placed = Tensor | Sequence[int] | str | bool | int | None


def placed(case: Case, device: str) -> list[Placed]:
    """The arguments on that device, types by their names."""
    return [
        a.on(device) if isinstance(a, Laid) else NAMES[a] if isinstance(a, torch.dtype) else a
        for a in case.arguments
    ]


def run(case: Case, operators: object, arguments: Sequence[Placed]) -> tuple[Tensor, ...]:
    """The results of the operator."""
    choice = case.kernel == PRODUCT
    if choice:
        operators.set_dct_kernel(PRODUCT)  # type: ignore[attr-defined]
    results = getattr(operators, case.operator)(*arguments)
    if choice:
        operators.set_dct_kernel(REGISTERS)  # type: ignore[attr-defined]
    return results if isinstance(results, tuple) else (results,)


def wanted(case: Case) -> tuple[Tensor, ...]:
    """The same by the reference in float64."""

    def exact(a: Argument) -> object:
        if isinstance(a, Laid):
            x = a.on("cpu")
            return x if x.dtype == torch.uint8 else x.double()
        return torch.float64 if isinstance(a, torch.dtype) and a != torch.uint8 else a

    results = REFERENCES[case.operator](*[exact(a) for a in case.arguments])
    return results if isinstance(results, tuple) else (results,)


ROUNDED = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""One rounding of a stored number, relative."""


def check(case: Case, results: tuple[Tensor, ...]) -> None:
    """Whether the results are those of the reference.

    Raises:
        AssertionError: they are not.
    """
    for got, want in zip(results, wanted(case), strict=True):
        size = float(want.abs().max()) if want.numel() else 0.0
        absolute = 1e-3 * max(1.0, size / 1024)  # coefficients go to 1024
        if got.dtype in (torch.uint8,):
            absolute = 1.0  # a tie
        relative = ROUNDED.get(got.dtype, 0.0)
        torch.testing.assert_close(
            got.cpu().double(), want.double(), atol=absolute, rtol=relative, equal_nan=True
        )


COPIES = 3
"""Of the results, filled before a second run: it may take memory for more than its results."""


def poison(like: Iterable[Tensor], device: str) -> None:
    """Leaves NaN, or 255 in bytes, where tensors of these sizes and types are allocated next.

    Allocators give back what was freed last, and keep sizes apart: CUDA's has one pool below 1 MB
    and one above.
    """
    held = []
    for tensor in like:
        for _ in range(COPIES):
            value = float("nan") if tensor.is_floating_point() else 255
            held.append(torch.empty_like(tensor, device=device).fill_(value))


def checked(case: Case, operators: object, device: str) -> None:
    """Runs the case twice, the second time on memory that is no number.

    Raises:
        AssertionError: results differ from the reference, or from one run to the next, as they do
            where an element is not written.
    """
    arguments = placed(case, device)
    results = run(case, operators, arguments)
    first = [result.cpu().clone() for result in results]
    del results
    poison(first, device)
    results = run(case, operators, arguments)
    for number, (before, after) in enumerate(zip(first, results, strict=True)):
        after = after.cpu()
        if not torch.equal(before, after):
            places = int((before != after).sum())
            raise AssertionError(
                f"result {number}: {places} of {after.numel()} elements differ in a second run"
            )
    if case.checked:
        check(case, results)


def exercise(operators: object, device: str, name: str, *, checks: bool, seconds: float) -> int:
    """Runs the cases on tensors of that device; how many failed. The name is what is printed."""
    every, left = cases(operators)
    end = time.monotonic() + seconds
    ran = failed = 0
    for case in every:
        if time.monotonic() > end:
            break
        ran += 1
        if not checks:
            run(case, operators, placed(case, device))
            if device == "cuda":
                torch.cuda.synchronize()
            continue
        try:
            checked(case, operators, device)
        except AssertionError as error:
            failed += 1
            print(f"FAILED {case}: {error}", flush=True)
    for reason in left:
        print(f"left out: {reason}")
    outcome = f", {failed} failed" if checks else ""
    print(f"exercise: {ran} of {len(every)} cases on {name}{outcome}", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu", "emulated"])
    parser.add_argument("--check", action="store_true", help="compare with the reference")
    parser.add_argument("--seconds", type=float, default=1e9, help="no case begins later")
    options = parser.parse_args()
    operators, device = torch.ops.freqops, options.device
    if device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU here", file=sys.stderr)
        return 1
    if device == "cuda" and "_cuda" in freqops._library.MISSING:
        print(f"freqops/_cuda.so: {freqops._library.MISSING['_cuda']}", file=sys.stderr)
        return 1
    if device == "emulated":
        folder = Path(__file__).parents[1] / "tests" / "emulation"
        torch.ops.load_library(str(folder / "_emulated.so"))
        operators, device = torch.ops.freqops_emulated, "cpu"
    failed = exercise(
        operators, device, options.device, checks=options.check, seconds=options.seconds
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
