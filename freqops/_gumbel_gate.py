"""gumbel_gate: the public function, its operators' shapes, derivatives and batching rules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freqops._arguments import FLOATS, accumulate, check_temperature, check_tensor, describe
from freqops._dispatch import (
    BatchInfo,
    Context,
    Dims,
    Operator,
    Pair,
    apply_pair,
    below_autograd,
    call,
    jvp_primals,
    keep,
    kept,
    operator,
    register,
    wanted,
)
from freqops._reference_gate import Gate, memory_format

__all__ = ["GumbelGate", "GumbelGateBackward", "gumbel_gate"]

_forward: Operator[Pair] = operator("gumbel_gate")
_backward: Operator[Pair] = operator("gumbel_gate_backward")

# The operators' arguments.
_Inputs = tuple[Tensor, Tensor, Tensor | None, Tensor | None, bool]
_BackwardInputs = tuple[
    Tensor, Tensor | None, Tensor | None, Tensor, Tensor | None, Tensor | None, bool, bool
]


def gumbel_gate(
    x: Tensor,
    logits: Tensor,
    noise: Tensor | None = None,
    *,
    tau: float | Tensor = 1.0,
    hard: bool = True,
) -> tuple[Tensor, Tensor]:
    """Features with the closed channels set to zero, and the gate that says which are open.

    z = logits[..., 1] - logits[..., 0] + noise;  p = 1 / (1 + exp(-z / tau));
    gate = 1 if z > 0 else 0 (hard) or p (soft);  y[n, c, h, w] = x[n, c, h, w] gate[n, c].

    With logistic noise a hard gate is a sample of a Bernoulli law that is 1 with probability
    sigmoid(logits[..., 1] - logits[..., 0]). Its gradient is that of p (straight-through):
    d gate / d z = p (1 - p) / tau. Where a gate is 0, y is exactly 0, whatever x holds: a closed
    channel of contiguous x is not even read. The gradient of the logits reads it. Where logits or
    noise are NaN, or both logits -inf, gate and y are NaN.

    Args:
        x: (N, C, H, W), floating point. Contiguous and channels_last cost no copy.
        logits: (N, C, 2) as [off, on], of any floating-point dtype. One of the two may be -inf.
        noise: (N, C), from `logistic_noise`: the difference of two Gumbel samples. None means 0,
            with which the hard gate is the likelier of the two.
        tau: temperature > 0 of the soft gate and of the gradient: a number, or a tensor without
            dimensions, whose value is not read. A schedule in a compiled function or a captured
            CUDA graph needs the tensor: for each other number torch.compile compiles anew, and
            with fullgraph gives up after eight.
        hard: whether the gate is 0 or 1, or p.

    Returns:
        y, (N, C, H, W) in x's dtype, channels_last where x is; and the gate, (N, C) in the dtype of
        logits. z, p and all sums are computed in float64 where x or logits are, else in float32.
        Differentiable to any order in x, logits, noise and tau.

    Raises:
        TypeError: an argument is of a type or dtype that is not named above.
        ValueError: a shape or a device does not fit those of x, or tau is not greater than 0 and
            finite in float32 (in float64 where x or logits are).

    Source:
        Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.2; Jang, Gu and Poole,
        "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.

    Example:
        >>> import torch
        >>> from freqops.ops import gumbel_gate
        >>> x = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
        >>> y, gate = gumbel_gate(x, torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
        >>> y.flatten().tolist(), gate.tolist()
        ([5.0, 0.0], [[1.0, 0.0]])
    """
    check_tensor("gumbel_gate", "x", x, FLOATS, "floating point")
    if x.dim() != 4 or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(
            f"gumbel_gate: x must be [N, C, H, W] with H and W at least 1, got {list(x.shape)}"
        )
    n, c = x.shape[:2]
    _check_beside("logits", logits, (n, c, 2), x)
    if noise is not None:
        _check_beside("noise", noise, (n, c), x)
    if not isinstance(hard, bool):
        raise TypeError(f"gumbel_gate: hard must be True or False, got {describe(hard)}")
    arguments = (x, logits, noise, _temperature(tau, x, logits), hard)
    if torch.compiler.is_compiling():
        return _forward(*arguments)
    return call(GumbelGate, _forward, *arguments)


def _check_beside(argument: str, values: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    check_tensor("gumbel_gate", argument, values, FLOATS, "floating point")
    if values.shape != shape:
        raise ValueError(
            f"gumbel_gate: {argument} must be {list(shape)} for x {list(x.shape)}, "
            f"got {list(values.shape)}"
        )
    if values.device != x.device:
        raise ValueError(
            f"gumbel_gate: {argument} must be on {x.device} like x, got {values.device}"
        )


def _temperature(tau: float | Tensor, x: Tensor, logits: Tensor) -> Tensor | None:
    """tau as the operators take it: None for 1, else without dimensions, float32 or float64."""
    if isinstance(tau, Tensor):
        _check_beside("tau", tau, (), x)
        return tau if tau.dtype in (torch.float32, torch.float64) else tau.float()
    dtype = accumulate(x.dtype, logits.dtype)
    number = check_temperature("gumbel_gate", tau, dtype)
    return None if number == 1 else torch.full((), number, dtype=dtype, device=x.device)


class GumbelGate(torch.autograd.Function):
    """The operator gumbel_gate with its derivatives of every order. Arguments as in its schema.

    With s = gate and D = p (1 - p) / tau, the derivative of both the hard and the soft gate in z:

        dy = s dx + x ds,   ds = D (dz - z / tau dtau),   dz = dlogits[1] - dlogits[0] + dnoise
    """

    class _Context(Context):
        hard: bool
        shape: torch.Size
        dtype: torch.dtype

    @staticmethod
    def forward(
        x: Tensor, logits: Tensor, noise: Tensor | None, tau: Tensor | None, hard: bool
    ) -> Pair:
        return below_autograd(_forward, x, logits, noise, tau, hard)

    @staticmethod
    def setup_context(ctx: _Context, inputs: _Inputs, output: Pair) -> None:
        x, logits, noise, tau, ctx.hard = inputs
        ctx.shape, ctx.dtype = x.shape, x.dtype
        # Only the derivative of the gate reads x: a gate that is fixed does not keep it.
        keep(ctx, logits, noise, tau, x, last=wanted(logits, noise, tau))

    @staticmethod
    def backward(
        ctx: _Context, grad_y: Tensor | None, grad_gate: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        logits, noise, tau, x = ctx.saved_tensors
        logits = kept(logits)
        need_x, need_logits, need_noise, need_tau, _ = ctx.needs_input_grad
        need_gate = need_logits or need_noise or need_tau
        dtype = accumulate(ctx.dtype, logits.dtype)
        of_x = of_logits = of_noise = of_tau = None
        if grad_y is not None and (need_x or need_gate):
            # The gradients of noise and tau follow from that of logits before it is rounded.
            exact = logits.to(dtype) if need_noise or need_tau else logits
            of_x, of_logits = apply_pair(
                GumbelGateBackward,
                grad_y,
                grad_gate,
                x if need_gate else None,
                exact,
                noise,
                tau,
                ctx.hard,
                need_x,
            )
        elif grad_gate is not None and need_gate:
            of_logits = _off_on(grad_gate * Gate.of(logits, noise, tau, ctx.hard, dtype).slope)
        if of_logits is not None:
            if noise is not None and need_noise:
                of_noise = of_logits[..., 1].to(noise.dtype)
            if tau is not None and need_tau:
                gate = Gate.of(logits, noise, tau, ctx.hard, dtype)
                of_tau = gate.of_tau(of_logits[..., 1].to(dtype)).sum().to(tau.dtype)
            of_logits = of_logits.to(logits.dtype) if need_logits else None
        return of_x if need_x else None, of_logits, of_noise, of_tau, None

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Pair:
        of_x, of_logits, of_noise, of_tau = tangents[:4]
        with jvp_primals(ctx) as (logits, noise, tau, x):
            logits = kept(logits)
            gate = Gate.of(logits, noise, tau, ctx.hard, accumulate(ctx.dtype, logits.dtype))
            change = _change(gate, gate.slope, of_logits, of_noise, of_tau)
            of_y = torch.zeros(ctx.shape, dtype=gate.value.dtype, device=logits.device)
            if of_x is not None:
                of_y = of_y + of_x * _everywhere(gate.value)
            if change is None:
                change = torch.zeros_like(gate.value)
            else:
                of_y = of_y + kept(x) * _everywhere(change)
            return of_y.to(ctx.dtype), change.to(logits.dtype)


class GumbelGateBackward(torch.autograd.Function):
    """The operator gumbel_gate_backward. With a = grad_y, b = grad_gate, <.,.> a sum over pixels,
    g = b + <a, x> and E = dD/dz:

        grad_x = s a,   grad_logits = [-D g, D g]

    and for cotangents u of grad_x and [v0, v1] of grad_logits, v = v1 - v0:

        d a = s u + v D x,   d b = v D,   d x = v D a,   d z = D <u, a> + v g E,
        d tau = -(z D <u, a> + v g (D + z E)) / tau
    """

    class _Context(Context):
        hard: bool
        need_x: bool

    @staticmethod
    def forward(
        grad_y: Tensor,
        grad_gate: Tensor | None,
        x: Tensor | None,
        logits: Tensor,
        noise: Tensor | None,
        tau: Tensor | None,
        hard: bool,
        need_x: bool,
    ) -> Pair:
        return below_autograd(_backward, grad_y, grad_gate, x, logits, noise, tau, hard, need_x)

    @staticmethod
    def setup_context(ctx: _Context, inputs: _BackwardInputs, output: Pair) -> None:
        *tensors, ctx.hard, ctx.need_x = inputs
        keep(ctx, *tensors)

    @staticmethod
    def _terms(ctx: _Context, saved: Sequence[Tensor | None]) -> tuple[Tensor, Gate, Tensor | None]:
        """a in the type of the sums, the gate, and g where the gradient of the logits is wanted."""
        a, b, x, logits, noise, tau = saved
        a, logits = kept(a), kept(logits)
        gate = Gate.of(logits, noise, tau, ctx.hard, accumulate(a.dtype, logits.dtype))
        a = a.to(gate.z.dtype)
        g = None
        if x is not None:
            g = (a * x).sum((2, 3))
            g = g if b is None else g + b
        return a, gate, g

    @staticmethod
    def backward(ctx: _Context, u: Tensor | None, v: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_y, b, x, logits, noise, tau = ctx.saved_tensors
        grad_y, logits = kept(grad_y), kept(logits)
        a, gate, g = GumbelGateBackward._terms(ctx, ctx.saved_tensors)
        zero = torch.zeros_like(gate.z)
        of_a = of_b = of_x = None
        of_z, of_tau = zero, zero
        if u is not None and ctx.need_x:
            of_a = u * _everywhere(gate.value)
            of_z = (u * a).sum((2, 3)) * gate.slope
            of_tau = gate.of_tau(of_z)
        if v is not None and x is not None:
            v = v[..., 1].to(gate.z.dtype) - v[..., 0].to(gate.z.dtype)
            step = _everywhere(v * gate.slope)
            of_a = step * x if of_a is None else of_a + step * x
            of_x = (step * a).to(x.dtype)
            of_b = None if b is None else (v * gate.slope).to(b.dtype)
            curved = v * kept(g) * gate.curvature
            of_z = of_z + curved
            of_tau = of_tau + gate.of_tau(curved) - _over_tau(v * kept(g) * gate.slope, tau)
        of_logits = _off_on(of_z).to(logits.dtype)
        return (
            None if of_a is None else of_a.to(grad_y.dtype),
            of_b,
            of_x,
            of_logits,
            None if noise is None else of_z.to(noise.dtype),
            None if tau is None else of_tau.sum().to(tau.dtype),
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: _Context, *tangents: Tensor | None) -> Pair:
        of_a, of_b, of_x, of_logits, of_noise, of_tau = tangents[:6]
        with jvp_primals(ctx) as saved:
            a, gate, g = GumbelGateBackward._terms(ctx, saved)
            x, logits = saved[2], kept(saved[3])
            grad_x, grad_logits = a.new_zeros(0), logits.new_zeros(0)
            change = _change(gate, gate.slope, of_logits, of_noise, of_tau)
            if ctx.need_x:
                grad_x = torch.zeros_like(a)
                if of_a is not None:
                    grad_x = grad_x + of_a * _everywhere(gate.value)
                if change is not None:
                    grad_x = grad_x + a * _everywhere(change)
            if x is not None:
                of_g = torch.zeros_like(gate.z)
                if of_a is not None:
                    of_g = of_g + (of_a * x).sum((2, 3))
                if of_x is not None:
                    of_g = of_g + (a * of_x).sum((2, 3))
                if of_b is not None:
                    of_g = of_g + of_b
                of_z = of_g * gate.slope
                curved = _change(gate, gate.curvature, of_logits, of_noise, of_tau)
                if curved is not None:
                    of_z = of_z + kept(g) * curved
                if of_tau is not None:
                    of_z = of_z - _over_tau(kept(g) * gate.slope, gate.tau) * of_tau
                grad_logits = _off_on(of_z).to(logits.dtype)
            return grad_x.to(kept(saved[0]).dtype), grad_logits


def _everywhere(values: Tensor) -> Tensor:
    """[N, C] -> [N, C, 1, 1], to scale features."""
    return values[..., None, None]


def _off_on(of_z: Tensor) -> Tensor:
    """The gradient of the logits, [N, C, 2], from that of z = on - off + noise."""
    return torch.stack([-of_z, of_z], -1)


def _over_tau(values: Tensor, tau: Tensor | None) -> Tensor:
    return values if tau is None else values / tau.to(values.dtype)


def _change(
    gate: Gate,
    slope: Tensor,
    of_logits: Tensor | None,
    of_noise: Tensor | None,
    of_tau: Tensor | None,
) -> Tensor | None:
    """The tangent of a function of z / tau whose derivative in z is slope; None for no tangent."""
    terms = []
    if of_logits is not None:
        terms.append(slope * (of_logits[..., 1] - of_logits[..., 0]))
    if of_noise is not None:
        terms.append(slope * of_noise)
    if of_tau is not None:
        terms.append(gate.of_tau(slope) * of_tau)
    return sum(terms[1:], terms[0]) if terms else None


def _fake(x: Tensor, logits: Tensor, noise: Tensor | None, tau: Tensor | None, hard: bool) -> Pair:
    y = torch.empty_like(x, memory_format=memory_format(x))
    return y, logits.new_empty(logits.shape[:2])


def _backward_fake(
    grad_y: Tensor,
    grad_gate: Tensor | None,
    x: Tensor | None,
    logits: Tensor,
    noise: Tensor | None,
    tau: Tensor | None,
    hard: bool,
    need_x: bool,
) -> Pair:
    form = memory_format(grad_y if x is None else x)
    grad_x = torch.empty_like(grad_y, memory_format=form) if need_x else grad_y.new_empty(0)
    return grad_x, logits.new_empty(0 if x is None else logits.shape)


def _flat(values: Tensor, dim: int | None, size: int) -> tuple[Tensor, tuple[int, int]]:
    """[.., B, ..] -> [B N, ...] and (B, N); what has no batch is the same for each of it."""
    batched = values.expand(size, *values.shape) if dim is None else values.movedim(dim, 0)
    return batched.flatten(0, 1), (size, batched.shape[1])


def _flat_or_none(values: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    return None if values is None else _flat(values, dim, size)[0]


def _one_tau(
    logits: Tensor, noise: Tensor | None, tau: Tensor, n: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """A batch of temperatures, (B,), as logits [0, z / tau], [B N, C, 2], without noise or tau, and
    what the gradient of the logits is divided by. z is formed first: a tie stays one."""
    z = logits[..., 1].to(dtype) - logits[..., 0].to(dtype)
    if noise is not None:
        z = z + noise.to(dtype)
    divisor = tau.to(dtype).repeat_interleave(n)[:, None]
    return torch.stack([torch.zeros_like(z), z / divisor], -1), divisor[..., None]


def _batched(
    run: Operator[Pair],
    info: BatchInfo,
    in_dims: Dims,
    x: Tensor,
    logits: Tensor,
    noise: Tensor | None,
    tau: Tensor | None,
    hard: bool,
) -> tuple[Pair, object]:
    size, out_dtype = info.batch_size, logits.dtype
    x, batch = _flat(x, in_dims[0], size)
    logits, _ = _flat(logits, in_dims[1], size)
    noise = _flat_or_none(noise, in_dims[2], size)
    if tau is not None and in_dims[3] is not None:
        dtype = accumulate(x.dtype, out_dtype)
        logits, _ = _one_tau(logits, noise, tau, batch[1], dtype)
        noise = tau = None
    y, gate = run(x, logits, noise, tau, hard)
    y, gate = (torch.unflatten(values, 0, batch) for values in (y, gate.to(out_dtype)))
    return (y, gate), (0, 0)


def _backward_batched(
    run: Operator[Pair],
    info: BatchInfo,
    in_dims: Dims,
    grad_y: Tensor,
    grad_gate: Tensor | None,
    x: Tensor | None,
    logits: Tensor,
    noise: Tensor | None,
    tau: Tensor | None,
    hard: bool,
    need_x: bool,
) -> tuple[Pair, object]:
    size, out_dtype, divisor = info.batch_size, logits.dtype, None
    grad_y, batch = _flat(grad_y, in_dims[0], size)
    grad_gate = _flat_or_none(grad_gate, in_dims[1], size)
    x = _flat_or_none(x, in_dims[2], size)
    logits, _ = _flat(logits, in_dims[3], size)
    noise = _flat_or_none(noise, in_dims[4], size)
    if tau is not None and in_dims[5] is not None:
        dtype = accumulate(grad_y.dtype, out_dtype)
        logits, divisor = _one_tau(logits, noise, tau, batch[1], dtype)
        noise = tau = None
    of_x, of_logits = run(grad_y, grad_gate, x, logits, noise, tau, hard, need_x)
    if need_x:
        of_x = torch.unflatten(of_x, 0, batch)
    if x is not None:
        of_logits = of_logits if divisor is None else of_logits / divisor
        of_logits = torch.unflatten(of_logits.to(out_dtype), 0, batch)
    return (of_x, of_logits), (0 if need_x else None, None if x is None else 0)


register("gumbel_gate", GumbelGate, _fake, _batched)
register("gumbel_gate_backward", GumbelGateBackward, _backward_fake, _backward_batched)
