"""Sums over the coefficients of a picture, made where it is read: 3 kB travel in its place."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from freqops._sums import Sums
from freqops.ops import block_dct
from freqops.training._pictures import View

__all__ = ["SumsView", "unpacked"]


@dataclasses.dataclass(frozen=True)
class SumsView:
    """A picture to the sums of its 192 channels, float64 (1 + 2 * 192,).

    Args:
        view: the picture to uint8 pixels (3, H, W), of which ``block_dct`` is taken; or to all
            channels (192, h, w), not normalised.
        chroma, rounding: of ``block_dct``.
    """

    view: View
    chroma: str = "4:4:4"
    rounding: str = "none"

    def __call__(self, picture: object) -> Tensor:
        """Count, means, and sums of squares, one after the other."""
        x = self.view(picture)
        if x.dtype == torch.uint8:
            x = block_dct(x, chroma=self.chroma, rounding=self.rounding, dtype=torch.float64)
        sums = Sums.of(x.double().flatten(1))
        return torch.cat([torch.tensor([sums.count], dtype=torch.float64), sums.mean, sums.squares])


def unpacked(packed: Tensor) -> Sums:
    """What ``SumsView`` packed."""
    mean, squares = packed[1:].view(2, -1).clone()
    return Sums(int(packed[0]), mean, squares)
