"""`freqops demo`: what a few frequency channels of a photograph hold, and what they cost."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from freqops.channels import BLOCK, CHANNELS, ChannelSelection
from freqops.ops import block_dct, block_idct
from freqops.rivals import Timing, enlarged, small_size, time_in_turn

__all__ = ["Facts", "Photograph", "Score", "measure", "psnr", "rebuilt", "table"]

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""The colour photographs inside scikit-image's wheel; the rest there is grey or drawn."""

COUNTS = (6, 24, 64, 192)

TIMED_BATCH = (8, 448)
"""Pictures and their side in the timing: the side is what the paper feeds to ResNet-50."""


def _mean(values: Sequence[float]) -> float:
    finite = sum(map(math.isfinite, values))
    if 0 < finite < len(values):
        return math.nan
    return statistics.fmean(values) if finite else math.inf


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A picture, uint8 (3, H, W), and its name."""

    name: str
    pixels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return -(-self.size[0] // BLOCK), -(-self.size[1] // BLOCK)


@dataclasses.dataclass(frozen=True)
class Score:
    """PSNR in dB of one photograph, rebuilt from channels and from as many pixel values."""

    name: str
    channels: int
    values: int
    pixel_values: int
    psnr: float
    pixel_psnr: float


@dataclasses.dataclass(frozen=True)
class Facts:
    """All that the demo measures; energy (192,) holds the share of each channel."""

    photographs: tuple[Photograph, ...]
    scores: tuple[Score, ...]
    energy: Tensor
    timings: tuple[Timing, ...]
    machine: str

    def inexact(self, channels: int) -> list[Score]:
        """Of the photographs that neither the channels nor as many pixel values hold exactly."""
        finite = math.isfinite
        return [s for s in self._of(channels) if finite(s.psnr) and finite(s.pixel_psnr)]

    def mean(self, channels: int) -> tuple[float, float]:
        """Mean PSNR of channels and of pixel values, both over the photographs of `inexact`.

        Over all photographs where it is empty: infinite for a side that is exact on all of them,
        NaN for one that is exact on some.
        """
        chosen = self.inexact(channels) or self._of(channels)
        return _mean([s.psnr for s in chosen]), _mean([s.pixel_psnr for s in chosen])

    def _of(self, channels: int) -> list[Score]:
        return [score for score in self.scores if score.channels == channels]

    def energy_of(self, channels: int) -> float:
        """Share of the energy in that many channels."""
        return float(self.energy[list(ChannelSelection.of(channels))].sum())


def shipped_photographs() -> list[Path]:
    """The files of `PHOTOGRAPHS`, where scikit-image is installed.

    Raises:
        OSError: this scikit-image has none of them.
    """
    spec = importlib.util.find_spec("skimage")
    folder = Path(spec.origin if spec and spec.origin else "").parent / "data"
    paths = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not paths:
        raise OSError(f"scikit-image must bring its photographs, found none in {folder}")
    return paths


def psnr(want: Tensor, got: Tensor) -> float:
    """10 log10(255^2 / mean squared difference) over all pixels and colours of uint8 pictures.

    Infinite where they are equal.
    """
    error = (want.double() - got.double()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def rebuilt(pixels: Tensor, channels: int) -> Tensor:
    """The picture from that many channels alone, the others zero; uint8 (3, H, W) both."""
    selection = ChannelSelection.of(channels)
    size = (pixels.shape[1], pixels.shape[2])
    return block_idct(block_dct(pixels, selection), selection, size=size)


def score(photograph: Photograph, channels: int) -> Score:
    """Measures one photograph at one number of channels."""
    pixels, (gh, gw) = photograph.pixels, photograph.grid
    height, width = small_size(photograph.size, channels)
    return Score(
        photograph.name,
        channels,
        channels * gh * gw,
        3 * height * width,
        psnr(pixels, rebuilt(pixels, channels)),
        psnr(pixels, enlarged(pixels, channels)),
    )


def energy_shares(pixels: Tensor) -> Tensor:
    """Share of each channel in the sum of all squared coefficients, float64 (192,).

    Zero throughout for a picture that is grey 128 everywhere.
    """
    # What is below 1e-3, the operator's error, is not energy.
    coefficients = F.hardshrink(block_dct(pixels), 1e-3)
    energy = coefficients.double().square().sum((1, 2))
    return energy / energy.sum().clamp_min(torch.finfo(torch.float64).tiny)


def timed_batch(photographs: Sequence[Photograph]) -> Tensor:
    """The photographs in turn, resized to fill the batch; uint8 (8, 3, 448, 448)."""
    number, side = TIMED_BATCH
    planes = [photographs[i % len(photographs)].pixels[None].float() for i in range(number)]
    resized = [F.interpolate(p, (side, side), mode="bilinear", antialias=True) for p in planes]
    return torch.cat(resized).round().clamp(0, 255).to(torch.uint8)


def machine() -> str:
    """Processor, threads and torch of this machine, in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"


def measure(
    photographs: Sequence[Photograph],
    *,
    seconds: float = 3.0,
    say: Callable[[str], None] = lambda text: None,
) -> Facts:
    """Everything that the table and the page show.

    Args:
        photographs: at least one; the page shows the first in full.
        seconds: for the timing.
        say: gets a line before each step.

    Raises:
        ValueError: there is no photograph.
    """
    if not photographs:
        raise ValueError("photographs must hold at least one picture, got none")
    scores = []
    energy = torch.zeros(CHANNELS, dtype=torch.float64)
    for photograph in photographs:
        say(f"{photograph.name}, {photograph.size[1]} x {photograph.size[0]} pixels")
        scores += [score(photograph, count) for count in COUNTS]
        energy += energy_shares(photograph.pixels) / len(photographs)
    say("timing block_dct and the folded convolution, by turns")
    timings = time_in_turn(timed_batch(photographs), seconds)
    return Facts(tuple(photographs), tuple(scores), energy, tuple(timings), machine())


def decibels(value: float) -> str:
    """A PSNR in words."""
    if math.isnan(value):
        return "-"
    return "exact" if math.isinf(value) else f"{value:.1f}"


def difference(ours: float, theirs: float) -> str:
    """How much better ours is, in dB, with its sign; nothing where one is exact."""
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return ""
    return f"{ours - theirs:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")


def table(facts: Facts) -> str:
    """The measured numbers as lines of text."""
    many = len(facts.photographs)
    whose = f"mean of {many} photographs" if many > 1 else facts.photographs[0].name
    lines = [
        f"Rebuilt from a few of the 192 channels: PSNR in dB, {whose}",
        "",
        "  channels   of the values   of the energy   channels'   as many     difference",
        "                                             PSNR        pixels'",
    ]
    for count in COUNTS:
        ours, theirs = facts.mean(count)
        compared = len(facts.inexact(count))
        note = f"   mean of {compared}, others exact" if 0 < compared < many else ""
        lines.append(
            f"  {count:8}   {count / CHANNELS:13.1%}   {facts.energy_of(count):13.2%}"
            f"   {decibels(ours):9}   {decibels(theirs):9}   {difference(ours, theirs):>10}{note}"
        )
    number, side = TIMED_BATCH
    lines += [
        "",
        f"RGB to channels, {number} pictures of {side} x {side}: median milliseconds",
        f"on {facts.machine}",
        "",
        "  channels   block_dct   folded convolution   ratio",
    ]
    for timing in facts.timings:
        lines.append(
            f"  {timing.channels:8}   {timing.block_dct:9.2f}   {timing.convolution:18.2f}"
            f"   {timing.ratio:4.1f}x"
        )
    return "\n".join(lines)
