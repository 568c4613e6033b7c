"""What the modules of `freqops.nn` share."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from freqops.channels import ChannelSelection

__all__ = ["counted", "is_watched", "moved"]


MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)


def moved(before: MaybeTensor, after: MaybeTensor) -> MaybeTensor:
    """The buffer before, on the device of that after, where the latter was rounded."""
    if before is None or after is None or after.dtype == before.dtype:
        return after
    return before.to(after.device)


def counted(selection: ChannelSelection) -> str:
    """A selection in the representation of a module."""
    y, cb, cr = (len(part) for part in (selection.y, selection.cb, selection.cr))
    return f"channels={len(selection)} (Y {y}, Cb {cb}, Cr {cr})"


def is_watched(*modules: nn.Module) -> bool:
    """Whether a hook sees calls of one of these modules, or of all modules, or one of these has a
    forward of its own in place of its class's."""
    every = nn.modules.module
    return bool(
        every._global_forward_hooks
        or every._global_forward_pre_hooks
        or every._global_backward_hooks
        or every._global_backward_pre_hooks
    ) or any(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
        or "forward" in part.__dict__
        for part in modules
    )
