"""The figure of what a channel gate computes from one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from freqops._arguments import FLOATS, check_tensor, describe
from freqops._drawing import (
    COMPONENTS,
    INK,
    MAP_COLOURS,
    MUTED,
    SIGNED_COLOURS,
    channel_maps,
    colour_bar,
    frame,
    place,
    plane_mosaic,
)
from freqops._extras import need
from freqops.channels import CHANNELS, ChannelSelection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GateModule", "gate_tensors"]

Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

NAMES = {"gate": "Gate: each channel on or off", "se": "Squeeze and excitation: soft weights"}

PANEL, GAP = 1.6, 0.1
"""Inches: side of a panel, from one to the next."""

THREE, BAR = 3 * PANEL + 2 * GAP, 0.72
"""Inches: a row of panels, the scale at its right."""

LEFT, TOP, WORDS, BOTTOM = 0.3, 1.0, 0.45, 0.15
"""Inches: left of a block, above its first panels, between two rows, below the last."""


class GateModule(Protocol):
    """What the figure needs of ``freqops.nn.ChannelGate``."""

    @property
    def channels(self) -> ChannelSelection:
        """Those of the input, in its order."""

    @property
    def training(self) -> bool:
        """Whether in training mode."""

    @property
    def forced(self) -> ChannelSelection | None:
        """The channels that the gate is fixed to."""

    def tensors(self, x: Tensor) -> Mapping[str, Five]:
        """The paper's tensors 1 to 5 of x, (N, C, H, W), in the blocks "gate" and "se"."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the gate (N, C)."""


def gate_tensors(module: GateModule, x: Tensor) -> Figure:
    """Tensors 1 to 5 of one picture in a channel gate, from top to bottom.

    1 is the input, 2 the mean of each plane, 3 what follows convolution, batch norm and ReLU, 4 the
    logits on - off, 5 the output. Of an SE block, 3 are the few numbers that it squeezes to and the
    sigmoids of 4 the weights. The gate and the SE block of kind "double" stand side by side.

    Planes show the logarithm of magnitudes, all on one scale; those of closed channels are plain
    grey. Blank: channels that the gate does not have.

    Args:
        module: a ``freqops.nn.ChannelGate`` in evaluation mode.
        x: (1, C, H, W) or (C, H, W), floating point: the module's input.

    Returns:
        The figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: module is no ChannelGate, or x no floating-point tensor.
        ValueError: module is in training mode, or x is not one picture of its channels or not
            finite.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020.

    Example:
        >>> from freqops.nn import ChannelGate
        >>> figure = gate_tensors(ChannelGate(24).eval(), torch.randn(24, 56, 56))
        >>> figure.texts[-1].get_text()
        '5   output: 24 of 24 channels on, grey: off'
    """
    need("freqops.plots", "plots", "matplotlib")
    from matplotlib.figure import Figure

    if not hasattr(module, "tensors") or not hasattr(module, "channels"):
        raise TypeError(f"gate_tensors: module must be a ChannelGate, got {describe(module)}")
    check_tensor("gate_tensors", "x", x, FLOATS, "floating point")
    count = len(module.channels)
    if x.dim() not in (3, 4) or x.shape[-3] != count or x.shape[:-3].numel() != 1:
        raise ValueError(
            f"gate_tensors: x must be one picture, [1, {count}, H, W] or [{count}, H, W], "
            f"got {list(x.shape)}"
        )
    if not x.isfinite().all():
        raise ValueError("gate_tensors: x must be finite, got NaN or infinity")
    if module.training:  # the BatchNorm of one picture has no variance
        raise ValueError(
            "gate_tensors: module must be in evaluation mode, got training mode: call .eval() first"
        )
    with torch.no_grad():
        picture = x.reshape(1, *x.shape[-3:])
        blocks, gate = module.tensors(picture), module(picture)[1][0]
    tall = PANEL * min(1.0, x.shape[-2] / x.shape[-1])
    rows = (tall, PANEL, PANEL, PANEL, tall)
    size = (len(blocks) * (LEFT + THREE + BAR), TOP + sum(rows) + 4 * WORDS + BOTTOM)
    figure = Figure(figsize=size, facecolor="white")
    for i, (kind, five) in enumerate(blocks.items()):
        block = _Block(figure, LEFT + i * (LEFT + THREE + BAR), rows, module.channels, five)
        block.heading(NAMES[kind])
        block.planes(
            0, f"1   input: {count} planes of {x.shape[-2]} \u00d7 {x.shape[-1]}", block.input
        )
        block.maps(1, "2   mean of each plane", block.pooled, signed=True)
        if kind == "gate":
            logits = block.logits[:, 1] - block.logits[:, 0]
            closed: list[bool] = (gate == 0).tolist()
            name = "output of both blocks" if "se" in blocks else "output"
            how = "on" if module.forced is None else "forced on"
            on = f"5   {name}: {count - sum(closed)} of {count} channels {how}, grey: off"
            block.maps(2, "3   1 \u00d7 1 convolution, batch norm, ReLU", block.hidden)
            block.maps(3, "4   logits, on \u2212 off", logits, signed=True)
            block.planes(4, on, block.output, closed)
        else:
            weights = block.logits.sigmoid()
            least, most = weights.min().item(), weights.max().item()
            block.bars(2, f"3   squeezed to {len(block.hidden)}, ReLU", block.hidden)
            block.maps(3, "4   logits: weight = sigmoid", block.logits, signed=True)
            block.planes(4, f"5   output: weights {least:.2f} to {most:.2f}", block.output)
    return figure


class _Block:
    """Five rows of panels and their words, for one picture."""

    def __init__(
        self,
        figure: Figure,
        left: float,
        rows: Sequence[float],
        channels: ChannelSelection,
        five: Five,
    ) -> None:
        self.figure, self.left, self.rows, self.channels = figure, left, rows, channels
        tensors = (tensor[0].detach().cpu().float() for tensor in five)
        self.input, self.pooled, self.hidden, self.logits, self.output = tensors
        # Three times the root mean square is bright.
        self.bright = 3 * self.input.square().mean().sqrt().item() or 1.0

    def heading(self, words: str) -> None:
        self._write(0, TOP - 0.72, words, 12.5, bold=True)
        for i, name in enumerate(COMPONENTS):
            self._write(i * (PANEL + GAP), TOP - 0.42, name, 10.5, bold=True)

    def planes(
        self, row: int, words: str, planes: Tensor, closed: Sequence[bool] | None = None
    ) -> None:
        """Three mosaics."""
        closed = [False] * len(planes) if closed is None else closed
        for component, ax in enumerate(self._row(row, words)):
            picture = plane_mosaic(
                planes, self.channels, component, bright=self.bright, closed=closed
            )
            ax.imshow(picture.numpy(), interpolation="antialiased")
            ax.set_anchor("NW")
            ax.axis("off")
            frame(ax)

    def maps(self, row: int, words: str, numbers: Tensor, *, signed: bool = False) -> None:
        """Three maps on one scale, which lies evenly about 0 where signed."""
        from matplotlib.colors import Normalize

        magnitudes = numbers.abs()
        largest = magnitudes.where(magnitudes.isfinite(), 0).max().item() or 1.0
        values = torch.zeros(CHANNELS, device="cpu")
        values[list(self.channels.indices)] = numbers.clamp(-largest, largest)
        norm = Normalize(-largest if signed else 0, largest)
        names = SIGNED_COLOURS if signed else MAP_COLOURS
        axes = self._row(row, words)
        channel_maps(axes, values, norm=norm, ranks=False, among=self.channels, names=names)
        for ax in axes:
            frame(ax)
        bar = place(self.figure, self.left + THREE + 0.12, self._top(row), 0.1, PANEL)
        colour_bar(bar, norm, names=names)

    def bars(self, row: int, words: str, numbers: Tensor) -> None:
        """Numbers >= 0 that belong to no channel."""
        few, top = len(numbers), self._top(row)
        self._write(0, top - 0.12, words, 9.5)
        ax = place(self.figure, self.left, top, THREE, PANEL)
        ax.bar(range(few), numbers.tolist(), width=0.8, color=MAP_COLOURS[4])
        ax.set(
            xlim=(-0.6, max(few, 12) - 0.4), ylim=(0, 1.05 * numbers.max().item() or 1.0), xticks=[]
        )
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.spines["bottom"].set_color(MUTED)
        ax.yaxis.tick_right()
        ax.locator_params(axis="y", nbins=5)
        ax.tick_params(length=2.5, color=MUTED, labelcolor=INK, labelsize=8)

    def _row(self, row: int, words: str) -> Sequence[Axes]:
        top, height = self._top(row), self.rows[row]
        self._write(0, top - 0.12, words, 9.5)
        lefts = [self.left + i * (PANEL + GAP) for i in range(len(COMPONENTS))]
        return [place(self.figure, left, top, PANEL, height) for left in lefts]

    def _top(self, row: int) -> float:
        return TOP + sum(self.rows[:row]) + row * WORDS

    def _write(self, x: float, y: float, words: str, size: float, *, bold: bool = False) -> None:
        """Words at (x, y), in inches from the top left corner of the block."""
        width, height = self.figure.get_size_inches()
        across, up = (self.left + x) / width, 1 - y / height
        weight = "bold" if bold else "normal"
        self.figure.text(across, up, words, size=size, color=INK, weight=weight, va="center")
