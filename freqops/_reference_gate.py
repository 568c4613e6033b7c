"""The channel gate in plain PyTorch. `freqops.reference` names these functions.

With logits [off, on] and logistic noise, the difference of two Gumbel samples:

    z = logits[..., 1] - logits[..., 0] + noise,     p = 1 / (1 + exp(-z / tau))
    gate = z > 0 (hard; a tie is off) or p (soft),   y = x * gate

A hard gate has the derivative of p: straight-through. Where a gate is 0, y is 0 whatever x holds.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from freqops._arguments import accumulate

__all__ = [
    "Gate",
    "gumbel_gate",
    "gumbel_gate_backward",
    "gumbel_gate_operator",
    "memory_format",
]


def gumbel_gate(
    x: Tensor,
    logits: Tensor,
    noise: Tensor | None = None,
    *,
    tau: float | Tensor = 1.0,
    hard: bool = True,
) -> tuple[Tensor, Tensor]:
    """`freqops.gumbel_gate` in plain PyTorch.

    Example:
        >>> import torch
        >>> from freqops import reference
        >>> x = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)
        >>> y, gate = reference.gumbel_gate(x, torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
        >>> y.flatten().tolist(), gate.tolist()
        ([5.0, 0.0], [[1.0, 0.0]])
    """
    if not isinstance(tau, Tensor):
        tau = torch.tensor(tau, dtype=torch.float64, device=x.device)
    return _gated(x, logits, noise, tau, hard)


def gumbel_gate_operator(
    x: Tensor, logits: Tensor, noise: Tensor | None, tau: Tensor | None, hard: bool
) -> tuple[Tensor, Tensor]:
    """y = x * gate, [N, C, H, W] in x's dtype and memory format, and the gate, [N, C] in that of
    logits. tau: 0-dim, None is 1."""
    y, gate = _gated(x, logits, noise, tau, hard)
    return y.contiguous(memory_format=memory_format(x)), gate


def _gated(
    x: Tensor, logits: Tensor, noise: Tensor | None, tau: Tensor | None, hard: bool
) -> tuple[Tensor, Tensor]:
    gate = Gate.of(logits, noise, tau, hard, accumulate(x.dtype, logits.dtype))
    everywhere = gate.value[..., None, None]
    # A closed gate hides what is not finite, with its derivative; all else has that of x * gate.
    hidden = (everywhere == 0) & ~x.isfinite()
    y = (x.to(everywhere.dtype) * everywhere).masked_fill(hidden, 0)
    return y.to(x.dtype), gate.value.to(logits.dtype)


def gumbel_gate_backward(
    grad_y: Tensor,
    grad_gate: Tensor | None,
    x: Tensor | None,
    logits: Tensor,
    noise: Tensor | None,
    tau: Tensor | None,
    hard: bool,
    need_x: bool,
) -> tuple[Tensor, Tensor]:
    """grad_x = grad_y * gate in grad_y's dtype, and grad_logits = [-g, g], [N, C, 2], where

        g = p (1 - p) / tau * (grad_gate + sum over pixels of grad_y x).

    Empty tensors stand for what is not wanted: grad_x without need_x, grad_logits where x is None.
    """
    form = memory_format(grad_y if x is None else x)
    dtype = accumulate(grad_y.dtype, logits.dtype)
    gate = Gate.of(logits, noise, tau, hard, dtype)
    grad_x, grad_logits = grad_y.new_empty(0), logits.new_empty(0)
    if need_x:
        everywhere = gate.value[..., None, None]
        hidden = (everywhere == 0) & ~grad_y.isfinite()
        grad_x = (grad_y.to(dtype) * everywhere).masked_fill(hidden, 0)
        grad_x = grad_x.to(grad_y.dtype).contiguous(memory_format=form)
    if x is not None:
        total = (grad_y.to(dtype) * x.to(dtype)).sum((2, 3))
        if grad_gate is not None:
            total = total + grad_gate
        change = total * gate.slope
        grad_logits = torch.stack([-change, change], -1).to(logits.dtype)
    return grad_x, grad_logits


@dataclasses.dataclass(frozen=True)
class Gate:
    """A gate and its derivatives in z, [N, C], each differentiable itself.

    With s = sigmoid(z / tau): slope = s (1 - s) / tau, curvature = slope (1 - 2 s) / tau.
    """

    z: Tensor
    value: Tensor
    slope: Tensor
    curvature: Tensor
    tau: Tensor | None

    @classmethod
    def of(
        cls,
        logits: Tensor,
        noise: Tensor | None,
        tau: Tensor | None,
        hard: bool,
        dtype: torch.dtype,
    ) -> Gate:
        """Computed in dtype, whatever the arguments have."""
        off, on = logits.to(dtype).unbind(-1)
        z = on - off
        if noise is not None:
            z = z + noise.to(dtype)
        scaled = z if tau is None else z / tau.to(dtype)
        p, closed = torch.sigmoid(scaled), torch.sigmoid(-scaled)  # 1 - p, exact where p is near 1
        slope = p * closed
        curvature = slope * (closed - p)
        if tau is not None:
            slope, curvature = slope / tau.to(dtype), curvature / tau.to(dtype) ** 2
        # p - p is 0 with the derivative of p, or NaN where z is.
        value = (z > 0).to(dtype) + (p - p.detach()) if hard else p
        return cls(z, value, slope, curvature, tau)

    def of_tau(self, of_z: Tensor) -> Tensor:
        """A derivative in tau, [N, C], from that in z of what depends on z / tau: -of_z z / tau."""
        finite = self.z.masked_fill(self.z.isinf(), 0)  # where p is 0 or 1, whatever tau is
        change = -of_z * finite
        return change if self.tau is None else change / self.tau.to(change.dtype)


def memory_format(x: Tensor) -> torch.memory_format:
    """Of the results: channels_last where x is that alone, else contiguous."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format
