"""gate_penalty: the four formulas of its docstring, their gradients, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from freqops.nn import ChannelGate, gate_penalty

# torch's own forward-mode machinery calls torch's own deprecated functions.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated")

GATE = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])  # m = 2

FORMULAS = pytest.mark.parametrize(
    ("reduction", "target", "formula"),
    [
        ("mean", None, lambda s: s.mean()),
        ("sum", None, lambda s: s.sum(1).mean(0)),
        ("mean", 0.5, lambda s: ((s.sum(1).mean(0) - 0.5) / s.shape[1]) ** 2),
        ("sum", 0.5, lambda s: (s.sum(1).mean(0) - 0.5) ** 2),
    ],
)
Formula = Callable[[Tensor], Tensor]


def soft(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_by_hand() -> None:
    assert gate_penalty(GATE).item() == 0.5
    assert gate_penalty(GATE, "sum").item() == 2
    assert gate_penalty(GATE, target=1).item() == 1 / 16
    assert gate_penalty(GATE, "sum", target=1).item() == 1
    assert gate_penalty(GATE, "sum", target=4).item() == 4
    assert gate_penalty(GATE, "mean", target=2).item() == 0
    assert gate_penalty(GATE.new_ones(8, 192), "sum").item() == 192


@FORMULAS
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (2, 192)])
def test_formulas(
    reduction: str, target: float | None, formula: Formula, shape: tuple[int, int]
) -> None:
    gate = soft(*shape)
    got = gate_penalty(gate, reduction, target)
    assert got.shape == ()
    torch.testing.assert_close(got, formula(gate), rtol=1e-12, atol=1e-15)


@FORMULAS
def test_gradients(reduction: str, target: float | None, formula: Formula) -> None:
    def f(gate: Tensor) -> Tensor:
        return gate_penalty(gate, reduction, target)

    gate = soft(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(f, gate, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, gate)


def test_a_target_pulls_from_both_sides() -> None:
    for open_, sign in ((3, 1), (1, -1), (2, 0)):
        gate = torch.zeros(2, 4).index_fill(1, torch.arange(open_), 1).requires_grad_()
        gate_penalty(gate, "sum", target=2).backward()
        assert gate.grad is not None
        assert torch.equal(gate.grad.sign(), torch.full((2, 4), float(sign)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_half_gates_are_summed_in_float32(dtype: torch.dtype, reduction: str) -> None:
    """float16 cannot hold this sum, bfloat16 not this mean."""
    gate = torch.ones(1024, 192, dtype=dtype)
    gate[0, 0] = 0
    got = gate_penalty(gate, reduction)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, gate_penalty(gate.float(), reduction), rtol=0, atol=0)
    assert 0 < (192 if reduction == "sum" else 1) - got.item() < 1e-3
    gate.requires_grad_()
    gate_penalty(gate, reduction).backward()
    assert gate.grad is not None and gate.grad.dtype == dtype


def test_dtypes() -> None:
    assert gate_penalty(GATE).dtype == torch.float32
    assert gate_penalty(GATE.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "target", [2, 2.0, np.float32(2), np.int64(2), torch.tensor(2), torch.tensor([2.0])]
)
def test_a_target_is_any_number(target: float) -> None:
    assert gate_penalty(GATE, "sum", target=target).item() == 0
    assert gate_penalty(GATE[:1], "sum", target=target).item() == 1


@FORMULAS
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(reduction: str, target: float | None, formula: Formula, dynamic: bool) -> None:
    torch._dynamo.reset()
    f = torch.compile(gate_penalty, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n in (3, 5):
        gate, mine = (soft(n, 4).requires_grad_() for _ in range(2))
        f(gate, reduction, target).backward()
        formula(mine).backward()
        torch.testing.assert_close(gate.grad, mine.grad)


def test_closes_a_gate() -> None:
    """Gradient descent on the penalty alone, through the gate's straight-through gradient."""
    torch.manual_seed(0)
    for target in (None, 3.0):
        module = ChannelGate(6)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            gate_penalty(module(torch.randn(16, 6, 2, 2))[1], target=target).backward()
            optimizer.step()
        gate = module(torch.randn(256, 6, 2, 2))[1]
        wanted = 0.0 if target is None else target
        assert abs(gate.sum(1).mean().item() - wanted) < 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gate_penalty(None), TypeError, "gate must be a tensor, got None"),
        (lambda: gate_penalty(GATE.long()), TypeError, "gate must be floating point, got torch.i"),
        (lambda: gate_penalty(GATE.bool()), TypeError, "gate must be floating point, got torch.b"),
        (
            lambda: gate_penalty(GATE[0]),
            ValueError,
            r"gate must be \[N, C\] with N and C at least 1, got \[4\]",
        ),
        (lambda: gate_penalty(GATE[:0]), ValueError, r"got \[0, 4\]"),
        (lambda: gate_penalty(GATE[:, :0]), ValueError, r"got \[3, 0\]"),
        (lambda: gate_penalty(GATE[..., None]), ValueError, r"got \[3, 4, 1\]"),
        (
            lambda: gate_penalty(GATE, "none"),
            ValueError,
            "reduction must be one of 'mean', 'sum', got 'none'",
        ),
        (lambda: gate_penalty(GATE, 3), TypeError, "reduction must be one of .*, got 3"),
        (
            lambda: gate_penalty(GATE, target=0),
            ValueError,
            r"target must lie in \(0, 4\], the gate's channels, got 0",
        ),
        (lambda: gate_penalty(GATE, target=4.5), ValueError, r"\(0, 4\], .* got 4.5"),
        (lambda: gate_penalty(GATE, target=float("nan")), ValueError, "got nan"),
        (lambda: gate_penalty(GATE, target=True), TypeError, "target must be .* None, got True"),
        (lambda: gate_penalty(GATE, target="2"), TypeError, "number or None, got '2'"),
        (lambda: gate_penalty(GATE, target=GATE), TypeError, "number or None, got a Tensor"),
    ],
)
def test_refused_arguments(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^gate_penalty: .*{message}"):
        call()
