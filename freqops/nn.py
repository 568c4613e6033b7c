"""Modules over the operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from freqops._channel_gate import ChannelGate
from freqops._modules import counted, moved
from freqops._penalty import gate_penalty
from freqops.channels import ChannelSelection
from freqops.ops import block_dct, block_idct
from freqops.statistics import ChannelStatistics

__all__ = ["ChannelGate", "FrequencyTransform", "gate_penalty"]


class FrequencyTransform(nn.Module):
    """Pictures to normalised frequency channels: ``block_dct`` with its settings.

    A layer of a network, or the last step of a torchvision v2 pipeline in data-loader workers.

    Args:
        channels: a ChannelSelection, a list of channels, or an integer n for ``square(n)`` where
            that is tabulated and else ``triangle(n)``; None for all 192.
        statistics: mean and std to normalise with; None does not normalise.
        chroma: "4:4:4", "4:2:0" or "dctnet".
        rounding: "none" or "jpeg".
        dtype: of the result; None for the rule of ``block_dct``.
        memory_format: of the result; None for contiguous.

    Buffers:
        mean, std: (192,) float32 by channel number, not learned, in the state dict; absent without
            statistics. They move with ``.to(device)`` but stay float32 under ``.half()``,
            ``.bfloat16()``, ``.double()`` and ``.to(dtype)``: in bfloat16 they would be off
            by up to 0.4 %. The dtype of the result is that of the argument.
        The state dict also holds the channel numbers, as ``_extra_state``: weights that were
        trained on other channels do not load.

    Raises:
        TypeError, ValueError: those of ``ChannelSelection.of`` and ``block_dct``; statistics is
            neither a ChannelStatistics nor None.

    Example:
        >>> transform = FrequencyTransform(24, ChannelStatistics.photographs())
        >>> transform(torch.zeros(2, 3, 448, 448, dtype=torch.uint8)).shape
        torch.Size([2, 24, 56, 56])
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = 24,
        statistics: ChannelStatistics | None = None,
        chroma: str = "4:4:4",
        rounding: str = "none",
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
    ) -> None:
        super().__init__()
        if statistics is not None and not isinstance(statistics, ChannelStatistics):
            raise TypeError(
                f"statistics must be a ChannelStatistics or None, got {type(statistics).__name__}"
            )
        self.channels = ChannelSelection.of(channels)
        self.chroma = chroma
        self.rounding = rounding
        self.dtype = dtype
        self.memory_format = memory_format
        self.register_buffer("mean", None if statistics is None else statistics.mean.float())
        self.register_buffer("std", None if statistics is None else statistics.std.float())
        # block_dct's own checks, on no pictures.
        self.forward(torch.empty(0, 3, 8, 8, dtype=torch.uint8, device="cpu"))

    def forward(self, images: Tensor) -> Tensor:
        """RGB pictures to frequency channels.

        Args:
            images: (N, 3, H, W) or (3, H, W), uint8 in [0, 255] or floating point in [0, 1].

        Returns:
            (N, C, ceil(H/8), ceil(W/8)), or without N.

        Raises:
            TypeError, ValueError: those of ``block_dct``.
        """
        return block_dct(
            images,
            self.channels,
            mean=self.mean,
            std=self.std,
            chroma=self.chroma,
            rounding=self.rounding,
            dtype=self.dtype,
            memory_format=self.memory_format,
        )

    def inverse(
        self,
        coefficients: Tensor,
        size: tuple[int, int] | None = None,
        dtype: torch.dtype = torch.uint8,
    ) -> Tensor:
        """RGB pictures from what ``forward`` gave; channels that are absent count as their mean.

        Args:
            coefficients: (N, C, gh, gw) or (C, gh, gw).
            size: (height, width) of the pictures; None: 8 times the grid.
            dtype: uint8, rounded and clamped; or floating point in the [0, 1] scale, unclamped.

        Returns:
            (N, 3, height, width), or without N. Smoothing of chroma and rounding stay.

        Raises:
            TypeError, ValueError: those of ``block_idct``, which takes no channel twice.

        Example:
            >>> transform = FrequencyTransform(192)
            >>> picture = torch.arange(3 * 64, dtype=torch.uint8).view(3, 8, 8)
            >>> torch.equal(transform.inverse(transform(picture)), picture)
            True
        """
        return block_idct(
            coefficients, self.channels, mean=self.mean, std=self.std, size=size, dtype=dtype
        )

    def get_extra_state(self) -> Tensor:
        """The channel numbers, for the state dict."""
        return torch.tensor(self.channels.indices)

    def set_extra_state(self, state: Tensor) -> None:
        """Checks that a state dict was saved with the same channels.

        Raises:
            ValueError: it was not.
        """
        saved = tuple(state.tolist())
        if saved != self.channels.indices:
            raise ValueError(
                f"the state dict must hold the channels of this module, {self.channels.indices}, "
                f"got {saved}"
            )

    def extra_repr(self) -> str:
        """The settings."""
        settings = [
            counted(self.channels),
            f"normalise={self.mean is not None}",
            f"chroma={self.chroma!r}",
            f"rounding={self.rounding!r}",
        ]
        if self.dtype is not None:
            settings.append(f"dtype={self.dtype}")
        if self.memory_format is not None:
            settings.append(f"memory_format={self.memory_format}")
        return ", ".join(settings)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrequencyTransform:
        mean, std = self.mean, self.std
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.mean = moved(mean, self.mean)
        self.std = moved(std, self.std)
        return self
