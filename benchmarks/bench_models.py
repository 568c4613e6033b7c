"""Images per second of RGB networks and of frequency networks, in evaluation, batches of 8 (on a
GPU of 64), random weights.

Written by `make bench PYTEST="--tables benchmarks/results"`. All networks of a family take turns in
one process, with memory that malloc keeps; medians. "alone" begins with normalised pixels or
coefficients, as from a loader that did the transform; "with pictures" begins with uint8 pictures,
which RGB networks convert and normalise in two operations. Neither reads or resizes files. "of RGB"
is the rate in units of that of the family's RGB network; "of alone" is "with pictures" in units of
"alone"; "transform" the share of the time with pictures that what precedes the network takes, timed
by itself in the same turns. A gate belongs to
the network; here it holds all channels open. "input" is how many numbers the network reads, in
units of 3 x 224 x 224.

ResNets have layer2 at stride 2. At stride 1, as released, they need 3.4 times the GMAC.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from measure import interleaved
from torch import Tensor, nn

import freqops
from freqops.models import FrequencyNetwork, freeze, summarize

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

torchvision = pytest.importorskip("torchvision")

TITLE = "Frequency networks beside their RGB networks"
HEAD = """\
| network | picture | input | GMAC | alone, images/s | of RGB | with pictures, images/s \
| **of RGB** | **of alone** | transform |
|---|---|---|---|---|---|---|---|---|---|"""

BATCH = {"cpu": 8, "cuda": 64}
SECONDS = {"cpu": 100.0, "cuda": 10.0}
"""For the rounds of a family: about ten of ResNet-50 on one core."""

# Of 255, as uint8 pictures have them.
MEAN = 255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = 255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class Case(NamedTuple):
    """A network and the side of its pictures."""

    network: nn.Module
    side: int


def resnets() -> dict[str, Case]:
    gated = freqops.models.resnet50(gate=True).eval()
    cases = {"RGB": Case(torchvision.models.resnet50(), 224)}
    for channels in (24, 64, 192):
        cases[f"{channels} channels"] = Case(freqops.models.resnet50(channels), 448)
    cases["192 channels, gate"] = Case(gated, 448)
    kept = freqops.ChannelSelection.square(24)
    cases["192 frozen to 24 channels"] = Case(freeze(gated, selection=kept, say=None), 448)
    return cases


def mobilenets() -> dict[str, Case]:
    cases = {"RGB": Case(torchvision.models.mobilenet_v2(), 224)}
    for channels in (24, 32):
        cases[f"{channels} channels"] = Case(freqops.models.mobilenet_v2(channels), 896)
    return cases


FAMILIES = {"ResNet-50": resnets, "MobileNetV2": mobilenets}

STEPS = ("alone", "pictures", "transform")

PLAIN = "float32"
VARIANTS: dict[str, tuple[str, ...]] = {
    "cpu": (PLAIN,),
    "cuda": (
        PLAIN,
        "float32, channels_last",
        "autocast float16, channels_last",
        "float16, channels_last",
    ),
}


def steps(
    case: Case, images: Tensor, layout: torch.memory_format
) -> tuple[Callable[[], Tensor], Callable[[], Tensor], Callable[[], Tensor]]:
    """The network alone, with pictures, and what comes between the two."""
    network = case.network
    if isinstance(network, FrequencyNetwork):
        network.transform.memory_format = layout

        def transform() -> Tensor:
            return network.transform(images)

        ready = transform()
        return lambda: network(coefficients=ready), lambda: network(images), transform
    dtype = next(network.parameters()).dtype
    mean, factor = (t.to(images.device, dtype) for t in (MEAN, 1 / STD))

    def normalise() -> Tensor:
        return (images - mean).mul_(factor)

    ready = normalise()
    return lambda: network(ready), lambda: network(normalise()), normalise


def evaluation(device: str, variant: str) -> contextlib.ExitStack:
    """In which a network is called."""
    stack = contextlib.ExitStack()
    stack.enter_context(torch.inference_mode())
    if "autocast" in variant:
        stack.enter_context(torch.autocast(device, torch.float16))
    return stack


def scores(output: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Of a network's output, beside which gated ones return their gate."""
    return output[0] if isinstance(output, tuple) else output


def prepared(
    cases: Mapping[str, Case], device: str, variant: str, batch: int
) -> dict[str, Callable[[], Tensor]]:
    """The steps of each network on pictures of noise, by "network step"; those of a GPU are queued
    and not waited for."""
    layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format

    def within(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with evaluation(device, variant):
                return call()

        return run

    candidates: dict[str, Callable[[], Tensor]] = {}
    for name, case in cases.items():
        case.network.eval().to(device).to(memory_format=layout)
        if variant.startswith("float16"):
            case.network.half()
            if isinstance(case.network, FrequencyNetwork):
                case.network.transform.dtype = torch.float16  # written once, not rounded after
        draw = torch.Generator().manual_seed(0)
        shape = (batch, 3, case.side, case.side)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw).to(device)
        images = images.contiguous(memory_format=layout)
        with evaluation(device, variant):
            calls = steps(case, images, layout)
        candidates |= {
            f"{name} {step}": within(call) for step, call in zip(STEPS, calls, strict=True)
        }
        alone, pictures = (scores(candidates[f"{name} {step}"]()) for step in STEPS[:2])
        tolerance: dict[str, float] = {}
        if "float16" in variant:  # a GPU may add in another order each time, and rounds to 11 bits
            tolerance = {"rtol": 0.0, "atol": 1e-2 * float(alone.abs().max())}
        torch.testing.assert_close(alone, pictures, **tolerance)
    return candidates


@pytest.mark.parametrize(
    ("device", "variant"), [(d, v) for d, variants in VARIANTS.items() for v in variants]
)
@pytest.mark.parametrize("family", FAMILIES)
def bench_images_per_second(
    family: str,
    device: str,
    variant: str,
    rows_on: Callable[[str], list[str]],
    benchmark: BenchmarkFixture,
) -> None:
    """RGB and frequency networks in turn."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    batch = BATCH[device]
    cases = FAMILIES[family]()

    def finished(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            result = call()
            if device == "cuda":
                torch.cuda.synchronize()
            return result

        return run

    queued = prepared(cases, device, variant, batch)
    candidates = {name: finished(call) for name, call in queued.items()}
    took = interleaved(candidates, SECONDS[device])
    for name, case in cases.items():
        summary = summarize(case.network, case.side)
        alone, pictures, transform = (took[f"{name} {step}"] for step in STEPS)
        label = f"{family}, {name}" + ("" if variant == PLAIN else f", {variant}")
        rows_on(device).append(
            f"| {label} | {case.side} | {summary.input_size:.2f} | {summary.gmacs:.3f} "
            f"| {batch / alone:.1f} | {took['RGB alone'] / alone:.2f} | {batch / pictures:.1f} "
            f"| **{took['RGB pictures'] / pictures:.2f}** | **{alone / pictures:.1%}** "
            f"| {transform / pictures:.1%} |"
        )
        benchmark.extra_info[name] = batch / pictures
    benchmark.pedantic(candidates["24 channels pictures"], rounds=5, warmup_rounds=1)
