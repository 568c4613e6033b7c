"""benchmarks/exercise.py: that it calls every operator, and sees what is wrong."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import EMULATED
from torch.utils._python_dispatch import TorchDispatchMode

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.append(BENCHMARKS)

import exercise  # noqa: E402
import exercise_cases  # noqa: E402

Results = torch.Tensor | tuple[torch.Tensor, ...]


def operators_of(device: str) -> object:
    if device == "cpu":
        return torch.ops.freqops
    if not EMULATED.exists():
        pytest.fail(f"{EMULATED} is missing: cmake --build build/cmake --target freqops_emulated")
    torch.ops.load_library(str(EMULATED))
    return torch.ops.freqops_emulated


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_exercise(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    operators = operators_of(device)
    every, left = exercise_cases.cases(operators)
    failed = exercise.exercise(operators, "cpu", device, checks=True, seconds=600)
    out = capsys.readouterr().out
    assert failed == 0, out
    assert f"exercise: {len(every)} of {len(every)} cases on {device}, 0 failed" in out
    assert not [reason for reason in left if "others" in reason], left


def test_exercise_reaches_every_kind() -> None:
    every, _ = exercise_cases.cases(torch.ops.freqops)
    kinds = {
        (case.operator, *(a for a in case.arguments if isinstance(a, (torch.dtype, str))))
        for case in every
    }
    for result in exercise_cases.FLOATS:
        for chroma in exercise_cases.CHROMA:
            for rounding in ("none", "jpeg"):
                assert ("block_dct", chroma, rounding, result) in kinds
            assert ("block_dct_backward", chroma, result) in kinds
        assert ("block_idct", result) in kinds and ("block_idct_backward", result) in kinds
    blocks = [c.arguments for c in every if c.operator == "block_idct"]
    for result in (torch.uint8, *exercise_cases.FLOATS):
        grids = {(*a[0].on("cpu").shape[2:], *a[4:6]) for a in blocks if a[6] == result}
        assert grids >= {(4, 4, *size) for size in exercise_cases.CROPPED}
    pictures = [c.arguments[0] for c in every if c.operator == "block_dct"]
    strides = {(p.base.dtype, p.on("cpu").stride(3)) for p in pictures if p.base.shape[-1] > 1}
    for dtype in (torch.uint8, *exercise_cases.FLOATS):
        assert {stride for d, stride in strides if d == dtype} >= {1, 3}
    for name in exercise_cases.SAMPLINGS:
        for result in exercise_cases.FLOATS[:3]:
            assert ("jpeg_gather", name, result) in kinds
    gathers = [c.arguments for c in every if c.operator == "jpeg_gather"]
    full = {(a[7], a[14], a[16]) for a in gathers if a[8:10] == ((8,), (8,))}
    scaled = {(a[7], a[16]) for a in gathers if a[8:10] != ((8,), (8,))}
    for name, last in itertools.product(exercise_cases.SAMPLINGS, (False, True)):
        assert {(name, False, last), (name, True, last)} <= full and (name, last) in scaled
    first = exercise_cases.cases(torch.ops.freqops)[0]
    assert [str(a) for a in first[:20]] == [str(b) for b in every[:20]], "always in one order"


WATCHED = ("block_dct_backward", "block_idct", "gumbel_gate")


class Except:
    """The operators, but what comes of some of them."""

    def __init__(self, change: Callable[[Results], Results]) -> None:
        self.change = change

    def __getattr__(self, name: str) -> object:
        operator = getattr(torch.ops.freqops, name)
        if name not in WATCHED:
            return operator

        def call(*arguments: object) -> Results:
            results = operator(*arguments)
            return self.change(results)

        return call


def nan_last(results: Results) -> Results:
    last = results[-1] if isinstance(results, tuple) else results
    last.view(-1)[-1] = torch.nan if last.is_floating_point() else last.view(-1)[-1] + 128
    return results


class Recycled:
    """Right once, then what is in the memory that was given back: the right results, unless
    something took that memory in between. It stands in for an allocator that gives out again what
    has the same size, as CUDA's does."""

    def __init__(self) -> None:
        self.memory: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}
        self.again = False
        self.new = torch.empty_like

    def __call__(self, results: Results) -> Results:
        right = results if isinstance(results, tuple) else (results,)
        if not self.again:
            self.memory = {(each.shape, each.dtype): each.clone() for each in right}
        self.again = not self.again
        found = tuple(self.memory[each.shape, each.dtype] for each in right)
        return found if isinstance(results, tuple) else found[0]

    def empty_like(self, tensor: torch.Tensor, device: str = "cpu") -> torch.Tensor:
        free = self.memory.get((tensor.shape, tensor.dtype))
        return self.new(tensor, device=device) if free is None else free


def always_unwritten(results: Results) -> Results:
    right = results if isinstance(results, tuple) else (results,)
    blank = tuple(torch.empty_like(result) for result in right)
    return blank if len(blank) > 1 else blank[0]


@pytest.mark.parametrize(
    "change",
    [nan_last, always_unwritten, Recycled()],
    ids=["nan last", "unwritten", "recycled"],
)
def test_exercise_sees_what_is_wrong(
    change: Callable[[Results], Results],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    every, left = exercise_cases.cases(torch.ops.freqops)
    few = [case for case in every if case.operator in WATCHED][:60]
    few += [case for case in every if case.operator not in WATCHED][:10]
    monkeypatch.setattr(exercise, "cases", lambda operators: (few, left))
    if isinstance(change, Recycled):
        monkeypatch.setattr(torch, "empty_like", change.empty_like)
    failed = exercise.exercise(Except(change), "cpu", "cpu", checks=True, seconds=600)
    out = capsys.readouterr().out
    assert failed == 60, out
    assert all(f"FAILED {name}(" in out for name in WATCHED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8], ids=str)
def test_poison_fills_what_is_allocated_next(dtype: torch.dtype) -> None:
    """Not what lies beside it: sizes are those of the results."""
    filled: list[torch.Tensor] = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            out = func(*args, **(kwargs or {}))  # type: ignore[operator]
            if "fill_" in str(func):
                filled.append(out.clone())
            return out

    with Seen():
        exercise.poison([torch.ones(3, 5, dtype=dtype), torch.ones(7, dtype=dtype)], "cpu")
    assert {tuple(t.shape) for t in filled} == {(3, 5), (7,)}
    for tensor in filled:
        assert tensor.dtype == dtype
        assert (tensor.isnan() if tensor.is_floating_point() else tensor == 255).all()


def test_exercise_stops_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert exercise.exercise(torch.ops.freqops, "cpu", "cpu", checks=False, seconds=-1) == 0
    assert "exercise: 0 of" in capsys.readouterr().out
