"""The compiled operators, called with torch.dtype where their schemas have its name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from freqops._dispatch import NAMES


class Operators:
    """torch.ops.NAMESPACE."""

    def __init__(self, namespace: object) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Callable[..., torch.Tensor]:
        compiled = getattr(self._namespace, name)
        return lambda *arguments: compiled(
            *[NAMES[a] if isinstance(a, torch.dtype) else a for a in arguments]
        )
