"""Weights as the code released with the paper names them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

__all__ = ["gate_weights"]

# The gate's layers, and ours.
GATE = {"inp_gate.0": "squeeze", "inp_gate.1": "norm", "inp_gate_l": "logits"}

# What checkpoints of torch before 0.4.1 lack.
OPTIONAL = "norm.num_batches_tracked"


def gate_weights(state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a released gate, by the keys of a ChannelGate whose state dict is own.

    Raises:
        ValueError: a key is missing, a shape is not that of own, or there are several gates.
    """
    names = {
        key: f"{theirs}.{key.removeprefix(ours + '.')}"
        for theirs, ours in GATE.items()
        for key in own
        if key.startswith(ours + ".")
    }
    prefixes = {
        key.removesuffix(name)
        for key in state_dict
        for name in names.values()
        if key == name or key.endswith("." + name)
    }
    if len(prefixes) != 1:
        raise ValueError(
            f"state_dict must hold one gate, {', '.join(GATE)}, "
            + (f"got several, behind {sorted(prefixes)}" if prefixes else _nothing(state_dict))
        )
    prefix = prefixes.pop()
    found = {key: state_dict[prefix + n] for key, n in names.items() if prefix + n in state_dict}
    missing = [prefix + names[key] for key in names if key not in found and key != OPTIONAL]
    if missing:
        raise ValueError(f"state_dict must hold the whole gate, got none of {', '.join(missing)}")
    for key, values in found.items():
        if values.shape != own[key].shape:
            raise ValueError(
                f"state_dict: {prefix}{names[key]} must be {list(own[key].shape)}, "
                f"got {list(values.shape)}"
            )
    return found


def _nothing(state_dict: Mapping[str, Tensor]) -> str:
    hint = ' (try its entry "state_dict")' if "state_dict" in state_dict else ""
    return f"got none of their weights{hint}"
