"""The regulariser of the channel gate."""

from __future__ import annotations

from typing import SupportsFloat

from torch import Tensor

from freqops._arguments import FLOATS, accumulate, check_choice, check_tensor, describe
from freqops.channels import python_number

__all__ = ["gate_penalty"]

REDUCTIONS = ("mean", "sum")


def gate_penalty(
    gate: Tensor, reduction: str = "mean", target: SupportsFloat | None = None
) -> Tensor:
    """How many channels a gate holds open, to be added to the loss with a factor lambda.

    With s = gate, N pictures and C channels, and m = 1/N sum_n sum_c s[n, c], the open channels of
    a mean picture:

                     no target      target t
        "mean"       m / C          ((m - t) / C)^2
        "sum"        m              (m - t)^2

    Without a target every open channel costs the same, whatever the others do; with one, the gate
    is drawn towards t open channels from both sides.

    Args:
        gate: (N, C), floating point, what a ChannelGate returns beside its features. Its gradient
            is straight-through where it is 0 or 1.
        reduction: "mean", over pictures and channels; or "sum" over the channels, as the paper's
            text has it: C times "mean", C^2 times with a target.
        target: the number t of channels wanted, in (0, C]; None: as few as possible.

    Returns:
        The penalty, a tensor without dimensions: float64 for a float64 gate, else float32.

    Raises:
        TypeError: gate is no floating-point tensor, reduction no string, or target no number.
        ValueError: gate is not (N, C) with N and C at least 1, reduction is another word, or target
            lies outside (0, C].

    Source:
        Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.2. A target rate: Veit
        and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV 2018, there for
        each layer.

    Example:
        >>> import torch
        >>> from freqops.nn import gate_penalty
        >>> gate = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
        >>> gate_penalty(gate), gate_penalty(gate, "sum"), gate_penalty(gate, "sum", target=1)
        (tensor(0.5000), tensor(2.), tensor(1.))
    """
    check_tensor("gate_penalty", "gate", gate, FLOATS, "floating point")
    if gate.dim() != 2 or gate.numel() == 0:
        raise ValueError(
            f"gate_penalty: gate must be [N, C] with N and C at least 1, got {list(gate.shape)}"
        )
    check_choice("gate_penalty", "reduction", reduction, REDUCTIONS)
    channels = gate.shape[1]
    share = gate.to(accumulate(gate.dtype)).mean()  # m / C
    if target is not None:
        share = share - _target(target, channels) / channels
    scaled = share if reduction == "mean" else share * channels
    return scaled if target is None else scaled.square()


def _target(target: SupportsFloat, channels: int) -> float:
    # First what Dynamo knows to be a number, though not which.
    number = target if isinstance(target, (int, float)) else python_number(target)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"gate_penalty: target must be a number or None, got {describe(target)}")
    if not 0 < number <= channels:  # true for NaN
        raise ValueError(
            f"gate_penalty: target must lie in (0, {channels}], the gate's channels, got {number}"
        )
    return number
