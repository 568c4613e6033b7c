"""Planted signal: does the gate find the six channels that hold the label?

    python docs/planted_signal.py -o planted.png

Pictures of noise whose class is written into six of their 192 channels, a small network behind a
ChannelGate, and the penalty. Which channels matter is known here, so what the gate keeps can be
judged. planted_signal.md explains the task and gives the results.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import freqops
from freqops.channels import CHANNELS, ChannelSelection
from freqops.gate_statistics import GateStatistics

PLANTED = ChannelSelection([1, 20, 63, 64 + 9, 128, 128 + 46])
"""One bit of the label each. Y: low, middle and the highest frequency; Cb: low; Cr: DC and high."""

BITS = len(PLANTED)
CLASSES = 2**BITS

GRID = 4
"""Blocks along one side of a picture."""

CONTRAST = 0.3
"""Of the noise, where photographs have 1: no value leaves [0, 255], so none is clamped."""

BATCH, STEPS = 128, 400
MEASURED, TESTED = 4096, 4096
"""Pictures that mean and std are measured on, and pictures that the results are counted on."""

PENALTY = 1.0
"""lambda in: loss = cross entropy + lambda * (share of the channels that are on)."""

GATE_RATE, HEAD_RATE = 1e-2, 3e-3
"""Learning rates of Adam. The gate's logits start at 1.9 and have to cross 0."""

STOPPED = 130
"""What the script returns after Ctrl-C, as the shell has it."""


def balanced_labels(count: int, generator: torch.Generator) -> Tensor:
    """(count,) labels in [0, 64) in random order, each as often as the others, or once more."""
    return (torch.arange(count) % CLASSES)[torch.randperm(count, generator=generator)]


def bits_of(labels: Tensor) -> Tensor:
    """The bits b of labels, (N, 6), as -1 and 1; bit k belongs to the k-th planted channel."""
    return ((labels[:, None] >> torch.arange(BITS)) & 1) * 2.0 - 1


def halves() -> Tensor:
    """h, (4, 4): 1 on the blocks of a picture's left half, -1 on those of its right half."""
    h = torch.ones(GRID, GRID)
    h[:, GRID // 2 :] = -1
    return h


def coefficients(
    labels: Tensor, generator: torch.Generator, planted: ChannelSelection = PLANTED
) -> Tensor:
    """Frequency channels, (N, 192, 4, 4), before they become pixels. With noise n of N(0, 1):

        std (b h + n) / sqrt(2)    in a planted channel, b = -1 or 1 its bit of the label
        std n                      in any other

    All have the std of photographs, times CONTRAST, so no channel can be told by its strength. h
    adds up to 0, so the means over a picture, all that the gate sees, do not tell the label.
    """
    x = torch.randn(len(labels), CHANNELS, GRID, GRID, generator=generator)
    signal = bits_of(labels)[..., None, None] * halves()
    x[:, planted.indices] = (x[:, planted.indices] + signal) / 2**0.5
    std = CONTRAST * freqops.ChannelStatistics.photographs().std.float()
    return x * std[:, None, None]


def pictures(
    labels: Tensor, generator: torch.Generator, planted: ChannelSelection = PLANTED
) -> Tensor:
    """RGB pictures of the labels, uint8 (N, 3, 32, 32): rounded, as any picture is."""
    return freqops.block_idct(coefficients(labels, generator, planted))


def decoded(channels: Tensor, planted: ChannelSelection = PLANTED) -> Tensor:
    """The labels, (N,), that someone who knows the planted channels reads from all 192.

    Bit k is the sign of the sum of h times channel planted[k]: the best under Gaussian noise.
    """
    bits = (channels[:, planted.indices] * halves()).sum((2, 3)) > 0
    return (bits.long() << torch.arange(BITS)).sum(1)


class GatedClassifier(nn.Module):
    """Pictures to 64 scores: all 192 channels, the gate, two small layers."""

    def __init__(self, statistics: freqops.ChannelStatistics) -> None:
        super().__init__()
        self.transform = freqops.nn.FrequencyTransform(192, statistics)
        self.gate = freqops.nn.ChannelGate(192)
        self.head = nn.Sequential(
            nn.Conv2d(CHANNELS, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * GRID**2, CLASSES)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 3, 32, 32) to scores (N, 64) and the gate (N, 192)."""
        features, gate = self.gate(self.transform(images))
        return self.head(features), gate


@dataclasses.dataclass(frozen=True)
class Result:
    """What a trained gate does with TESTED pictures that it has not seen, without sampling.

    accuracy is the network's, ceiling that of `decoded`.
    """

    seed: int
    planted: ChannelSelection
    statistics: GateStatistics
    accuracy: float
    ceiling: float
    seconds: float

    @property
    def kept(self) -> Tensor:
        """(192,) bool: the channels that are on in at least half of the pictures."""
        return self.statistics.rates >= 0.5

    @property
    def recall(self) -> float:
        """The share of the planted channels that are kept."""
        return self.kept[list(self.planted)].double().mean().item()

    @property
    def others_kept(self) -> float:
        """The share of the other channels that are kept."""
        return self._others(self.kept.double())

    @property
    def others_on(self) -> float:
        """The share of the other channels that are on in the mean of all pictures."""
        return self._others(self.statistics.rates)

    def _others(self, values: Tensor) -> float:
        others = torch.ones(CHANNELS, dtype=torch.bool)
        others[list(self.planted)] = False
        return values[others].mean().item()


def train(
    seed: int,
    *,
    steps: int = STEPS,
    penalty: float = PENALTY,
    shuffled: bool = False,
    planted: ChannelSelection = PLANTED,
    report: Callable[[str], None] = lambda line: None,
) -> Result:
    """Trains a network from its initial values and tests it.

    Args:
        seed: of the pictures, the weights and the gate's samples.
        steps: batches of 128 new pictures; none comes twice, so nothing can be learned by heart.
        penalty: lambda.
        shuffled: the negative control. Labels of a training batch are dealt out anew at random.
        planted: the six channels that get the bits.
        report: gets a line of progress from time to time.
    """
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    # The library's and torch's own draws follow the global seed, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = pictures(balanced_labels(MEASURED, generator), generator, planted)
        network = GatedClassifier(freqops.ChannelStatistics.from_images([first]))
        optimizer = torch.optim.Adam(
            [
                {"params": network.gate.parameters(), "lr": GATE_RATE},
                {"params": network.head.parameters(), "lr": HEAD_RATE},
            ]
        )
        for step in range(1, steps + 1):
            labels = balanced_labels(BATCH, generator)
            images = pictures(labels, generator, planted)
            if shuffled:
                labels = labels[torch.randperm(BATCH, generator=generator)]
            scores, gate = network(images)
            error = F.cross_entropy(scores, labels)
            optimizer.zero_grad()
            (error + penalty * freqops.nn.gate_penalty(gate)).backward()
            optimizer.step()
            if step % 100 == 0 or step == steps:
                on = gate.detach().sum(1).mean()
                report(
                    f"seed {seed}  step {step:4} of {steps}  cross entropy {error.item():.3f}  "
                    f"{on:5.1f} of {CHANNELS} channels on"
                )
    network.eval()
    statistics = GateStatistics()
    right = known = 0
    with torch.no_grad():
        for labels in balanced_labels(TESTED, generator).split(1024):
            images = pictures(labels, generator, planted)
            scores, gate = network(images)
            statistics.update(gate)
            right += int((scores.argmax(1) == labels).sum())
            known += int((decoded(freqops.block_dct(images), planted) == labels).sum())
    seconds = time.perf_counter() - start
    return Result(seed, planted, statistics, right / TESTED, known / TESTED, seconds)


def table(results: Sequence[Result]) -> str:
    """One line per result."""
    lines = ["seed  planted kept  others kept  others on  accuracy  at most  seconds"]
    for r in results:
        kept = f"{round(r.recall * BITS)} of {BITS}"
        lines.append(
            f"{r.seed:4}  {kept:>12}  {r.others_kept:>10.1%}   {r.others_on:>8.1%}  "
            f"{r.accuracy:>8.1%}  {r.ceiling:>7.1%}  {r.seconds:>7.1f}"
        )
    return "\n".join(lines)


def draw(results: Sequence[Result], path: Path) -> None:
    """Writes the heat maps over the test pictures of all results, planted channels outlined."""
    from freqops.plots import heat_maps, outline

    statistics = results[0].statistics
    for result in results[1:]:
        statistics = statistics.merge(result.statistics)
    planted = results[0].planted
    title = "What the gate keeps of 192 channels. Outlined: the six that hold the label"
    figure = heat_maps(statistics, title=title)
    for ax, frequencies in zip(figure.axes, (planted.y, planted.cb, planted.cr), strict=False):
        outline(ax, frequencies)
    # Moved into place when complete, so that Ctrl-C leaves no half of a picture.
    partial = path.with_name(path.name + ".part")
    try:
        figure.savefig(partial, format=path.suffix[1:], dpi=200)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, prints a table and draws the heat maps; returns 0, or 130 after Ctrl-C."""
    options = _options(arguments)
    torch.set_num_threads(1)  # the tensors are small: a second thread only waits
    results: list[Result] = []
    interrupted = False
    try:
        for seed in range(options.seeds):
            results.append(
                train(
                    seed,
                    steps=options.steps,
                    penalty=options.penalty,
                    shuffled=options.control,
                    report=lambda line: print(line, flush=True),
                )
            )
    except KeyboardInterrupt:
        interrupted = True
        print(f"interrupted; {len(results)} of {options.seeds} runs were finished")
    if results:
        print(table(results))
        if options.output:
            draw(results, options.output)
            print(f"wrote {options.output}")
    return STOPPED if interrupted else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked before any work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=".png, .svg or .pdf")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs, from seed 0 on")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"default {STEPS}")
    text = f"lambda, default {PENALTY:g}"
    parser.add_argument("--penalty", type=float, default=PENALTY, metavar="X", help=text)
    text = "shuffle the labels: then no channel matters"
    parser.add_argument("--control", action="store_true", help=text)
    options = parser.parse_args(arguments)
    for name in ("seeds", "steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not 0 <= options.penalty < float("inf"):
        parser.error(f"--penalty must be finite and at least 0, got {options.penalty}")
    if options.output:
        if options.output.suffix not in (".png", ".svg", ".pdf"):
            parser.error(f"--output must end in .png, .svg or .pdf, got {options.output}")
        if not options.output.absolute().parent.is_dir():
            parser.error(f"--output must lie in a folder that exists, got {options.output}")
        if importlib.util.find_spec("matplotlib") is None:
            parser.error("--output needs matplotlib: pip install matplotlib")
    return options


if __name__ == "__main__":
    sys.exit(main())
