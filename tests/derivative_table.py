"""The rows of the derivative table: functions with their definition, and what is done to them.

A case is an operator as a function of three tensors, beside the same in plain PyTorch: block_dct,
block_dct_mean or block_idct of (picture or coefficients, mean, std), block_dct with a gate of
(picture, gate, std), gumbel_gate of (features, logits, noise or tau).
A row takes such a function and gives tensors, so that row(case.function, ...) and
row(case.definition, ...) must agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward_ad
import torch.utils.checkpoint
from torch import Tensor

from freqops import ops, reference

Function = Callable[[Tensor, Tensor, Tensor], Tensor]

CHANNELS = [0, 9, 70, 130]
SIZE = (2, 9)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    function: Function
    definition: Function
    shape: tuple[int, ...]  # of the first argument
    means: int = len(CHANNELS)
    stds: int = len(CHANNELS)

    def arguments(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        first = torch.rand(self.shape, dtype=torch.float64, generator=generator)
        mean = torch.randn(self.means, dtype=torch.float64, generator=generator)
        std = 1 + torch.rand(self.stds, dtype=torch.float64, generator=generator)
        return first, mean, std


@dataclasses.dataclass(frozen=True)
class GateCase(Case):
    """Features, logits, and noise or tau; the result is y and the gate end to end."""

    shape: tuple[int, ...] = (2, 3, 2, 2)
    last: tuple[int, ...] = (2, 3)

    def arguments(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x, logits, last = (
            torch.randn(shape, dtype=torch.float64, generator=generator)
            for shape in (self.shape, (*self.shape[:2], 2), self.last)
        )
        return x, logits, last if self.last else last.abs() + 0.5


@dataclasses.dataclass(frozen=True)
class GatedCase(Case):
    """Pictures, their gates and std."""

    def arguments(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        first, _, std = super().arguments(seed)
        generator = torch.Generator().manual_seed(seed + 2)
        gate = torch.rand(len(first), len(CHANNELS), dtype=torch.float64, generator=generator)
        return first, gate, std


def _dct(function: Callable[..., Tensor], **options: object) -> Function:
    return lambda x, mean, std: function(x, CHANNELS, mean=mean, std=std, **options)


def _dct_operator(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.ops.freqops.block_dct(
        x, CHANNELS, mean, std, "4:2:0", "none", "float64", False, False
    )


def _gated(function: Callable[..., Tensor]) -> Function:
    return lambda x, gate, std: function(x, CHANNELS, std=std, chroma="4:2:0", gate=gate)


def _mean_operator(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.ops.freqops.block_dct_mean(x, CHANNELS, mean, std, "4:2:0")


def _gated_operator(x: Tensor, gate: Tensor, std: Tensor) -> Tensor:
    return torch.ops.freqops.block_dct_gated(x, gate, CHANNELS, None, std, "4:2:0", "float64")


def _idct(function: Callable[..., Tensor]) -> Function:
    return lambda x, mean, std: function(
        x, CHANNELS, mean=mean, std=std, size=SIZE, dtype=torch.float64
    )


def _idct_operator(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.ops.freqops.block_idct(x, CHANNELS, mean, std, *SIZE, "float64")


DCT = Case(
    "block_dct",
    _dct(ops.block_dct, chroma="dctnet"),
    _dct(reference.block_dct, chroma="dctnet"),
    (2, 3, *SIZE),
)
MEAN = Case(
    "block_dct_mean",
    _dct(ops.block_dct_mean, chroma="dctnet"),
    _dct(reference.block_dct_mean, chroma="dctnet"),
    (2, 3, *SIZE),
)
GATED = GatedCase(
    "block_dct, gate", _gated(ops.block_dct), _gated(reference.block_dct), (2, 3, *SIZE)
)
MEAN_OPERATOR = Case(
    "freqops::block_dct_mean",
    _mean_operator,
    _dct(reference.block_dct_mean, chroma="4:2:0"),
    (2, 3, *SIZE),
)
GATED_OPERATOR = GatedCase(
    "freqops::block_dct_gated", _gated_operator, _gated(reference.block_dct), (2, 3, *SIZE)
)
IDCT = Case("block_idct", _idct(ops.block_idct), _idct(reference.block_idct), (2, 4, 1, 2))
DCT_OPERATOR = Case(
    "freqops::block_dct", _dct_operator, _dct(reference.block_dct, chroma="4:2:0"), (2, 3, *SIZE)
)
IDCT_OPERATOR = Case(
    "freqops::block_idct", _idct_operator, _idct(reference.block_idct), (2, 4, 1, 2)
)


def _together(results: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([values.flatten() for values in results])


def _gate(function: Callable[..., tuple[Tensor, Tensor]], hard: bool) -> Function:
    return lambda x, logits, noise: _together(
        function(x, logits, noise, tau=torch.tensor(0.7, dtype=torch.float64), hard=hard)
    )


def _gate_of_tau(function: Callable[..., tuple[Tensor, Tensor]], hard: bool) -> Function:
    return lambda x, logits, tau: _together(function(x, logits, tau=tau, hard=hard))


def _gate_operator(x: Tensor, logits: Tensor, noise: Tensor) -> Tensor:
    return _together(torch.ops.freqops.gumbel_gate(x, logits, noise, None, False))


GATE = GateCase("gumbel_gate", _gate(ops.gumbel_gate, False), _gate(reference.gumbel_gate, False))
HARD_GATE = GateCase(
    "gumbel_gate, hard, of tau",
    _gate_of_tau(ops.gumbel_gate, True),
    _gate_of_tau(reference.gumbel_gate, True),
    last=(),
)
GATE_OF_TAU = GateCase(
    "gumbel_gate, of tau",
    _gate_of_tau(ops.gumbel_gate, False),
    _gate_of_tau(reference.gumbel_gate, False),
    last=(),
)
GATE_OPERATOR = GateCase(
    "freqops::gumbel_gate",
    _gate_operator,
    lambda x, logits, noise: _together(reference.gumbel_gate(x, logits, noise, hard=False)),
)

NORMALISED = (DCT, IDCT)  # of mean and std
PUBLIC = (DCT, MEAN, GATED, IDCT, GATE, HARD_GATE)
OPERATORS = (DCT_OPERATOR, MEAN_OPERATOR, GATED_OPERATOR, IDCT_OPERATOR, GATE_OPERATOR)

Result = Tensor | tuple[Tensor, ...]
Row = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Result]


def loss(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: f(x).sin().sum()


def _backward(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(f)(x), x)


def _double_backward(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(f)(x), x, create_graph=True)
    return torch.autograd.grad(grad.pow(2).sum(), x)


def _dual(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(f(forward_ad.make_dual(x, t)))
        return out.primal, out.tangent


def _dual_of_backward(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.clone().requires_grad_(), t)
        (grad,) = torch.autograd.grad(loss(f)(dual), dual, create_graph=True)
        return forward_ad.unpack_dual(grad).tangent


def _backward_of_dual(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    x = x.clone().requires_grad_()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(loss(f)(forward_ad.make_dual(x, t))).tangent
        return torch.autograd.grad(tangent, x)


def _checkpoint(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    x = x.clone().requires_grad_()
    out = torch.utils.checkpoint.checkpoint(loss(f), x, use_reentrant=False)
    return torch.autograd.grad(out, x)


def _batch(x: Tensor, dim: int = 0) -> Tensor:
    return torch.stack([x, x.cos() + 1, 2 * x + 1], dim)


def _jvp(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Result:
    return torch.func.jvp(f, (x,), (t,))


def _jvp_tangent(f: Callable[[Tensor], Tensor], x: Tensor, t: Tensor) -> Tensor:
    return torch.func.jvp(f, (x,), (t,))[1]


PLAIN_ROWS: dict[str, Row] = {
    "forward": lambda f, x, t: f(x),
    "backward": _backward,
    "vmap": lambda f, x, t: torch.vmap(f)(_batch(x)),
    "vmap, last dimension": lambda f, x, t: torch.vmap(f, -1)(_batch(x, -1)),
    "dual numbers": _dual,
    "dual numbers of the backward": _dual_of_backward,
    "backward of dual numbers": _backward_of_dual,
}
FUNC_ROWS: dict[str, Row] = {
    "double backward": _double_backward,
    "checkpoint": _checkpoint,
    "grad": lambda f, x, t: torch.func.grad(loss(f))(x),
    "vjp": lambda f, x, t: torch.func.vjp(f, x)[1](f(x).detach()),
    "jvp": _jvp,
    "jvp, requires_grad": lambda f, x, t: _jvp(f, x.clone().requires_grad_(), t),
    "jacfwd": lambda f, x, t: torch.func.jacfwd(f)(x),
    "jacrev": lambda f, x, t: torch.func.jacrev(f)(x),
    "hessian": lambda f, x, t: torch.func.hessian(loss(f))(x),
    "jacrev(jacfwd)": lambda f, x, t: torch.func.jacrev(torch.func.jacfwd(loss(f)))(x),
    "jacrev(jacrev)": lambda f, x, t: torch.func.jacrev(torch.func.jacrev(loss(f)))(x),
    "jacfwd(jacfwd)": lambda f, x, t: torch.func.jacfwd(torch.func.jacfwd(loss(f)))(x),
    "vmap(vmap)": lambda f, x, t: torch.vmap(torch.vmap(f))(_batch(_batch(x))),
    "vmap(grad)": lambda f, x, t: torch.vmap(torch.func.grad(loss(f)))(_batch(x)),
    "vmap(jvp)": lambda f, x, t: torch.vmap(lambda a: _jvp_tangent(f, a, t))(_batch(x)),
    "grad(vmap)": lambda f, x, t: torch.func.grad(loss(torch.vmap(f)))(_batch(x)),
    "jvp(vmap)": lambda f, x, t: _jvp(torch.vmap(f), _batch(x), _batch(t)),
    "jvp(jvp)": lambda f, x, t: _jvp(lambda a: _jvp_tangent(loss(f), a, t), x, t.sin()),
    "jvp(grad)": lambda f, x, t: _jvp(torch.func.grad(loss(f)), x, t),
    "grad(jvp)": lambda f, x, t: torch.func.grad(lambda a: _jvp_tangent(loss(f), a, t))(x),
    "grad(grad)": lambda f, x, t: torch.func.grad(
        lambda a: torch.func.grad(loss(f))(a).pow(2).sum()
    )(x),
}


def of_argument(f: Function, arguments: tuple[Tensor, ...], k: int) -> Callable[[Tensor], Tensor]:
    """f of argument k alone, the others held. The argument is curved on its way in, and rows curve
    the result on its way out, so that each tangent that is lost shows."""

    def curved(value: Tensor) -> Tensor:
        value = value * (1 + value.sin() / 8)
        return f(*(value if i == k else a for i, a in enumerate(arguments)))

    return curved
