"""Table of the transform behind a channel gate on a GPU."""

from __future__ import annotations

import functools

import torch
from gpu_block_dct import PLAIN, SIDE
from gpu_setting import (
    FIGURES,
    NOT_BUILT,
    Pictures,
    Section,
    Setting,
    figures,
    milliseconds,
    statistics,
)
from measure_cuda import Call, interleaved
from tables import Row, Table
from torch import Tensor

import freqops
from freqops.nn import ChannelGate

COUNT = 192

GATED = Table(
    "Gated transform",
    "uint8 pictures to gated coefficients in evaluation, 192 channels, a `ChannelGate` that opens "
    "some. **by steps** is `block_dct`, then the module: mean, decision and product; **fused** is "
    "`block_dct_mean`, `ChannelGate.decide` and `block_dct(gate=)`, whose parts are timed alone "
    "too. Closed channels are transformed as open ones are, and written as zeros. The figures are "
    "of fused; GB/s count the pixels twice and the result once.",
    {"pictures": "{}", "open": "{}", "by steps ms": "{:.4f}", "fused, its parts, ms": "{:.4f}"}
    | FIGURES
    | {"times faster": "**{:.2f}**", "error": "{:.1e}"},
)


def gate_of(open_channels: int, device: torch.device) -> ChannelGate:
    """A gate that holds so many channels open by far, which it computes for each picture."""
    gate = ChannelGate(COUNT).eval()
    logits = gate.get_parameter("logits.bias").view(COUNT, 2)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits[:, 0] = 0
        logits[:, 1] = torch.where(order < open_channels, 8.0, -8.0)
    return gate.to(device)


def gated(setting: Setting) -> Section:
    side = setting.side(SIDE)

    def rows(batch: int, open_channels: int) -> list[Row]:
        pictures = Pictures(setting.batch(batch), side, side)
        first: Row = {"pictures": str(pictures), "open": f"{open_channels} of {COUNT}"}
        built = [hasattr(torch.ops.freqops, f"block_dct_{name}") for name in ("mean", "gated")]
        if not all(built):
            blank = dict.fromkeys(list(GATED.columns)[2:])
            return [first | blank | {"by steps ms": NOT_BUILT}]
        channels = tuple(range(COUNT))
        mean, std = statistics(COUNT, setting.device)
        moved = 2 * pictures.nbytes + 4 * pictures.blocks * COUNT
        images = setting.inputs(pictures.drawn, moved)
        gate = gate_of(open_channels, setting.device)

        @torch.no_grad()
        def by_steps(index: int) -> tuple[Tensor, Tensor]:
            y, opened = gate(PLAIN.call(images[index], channels, mean, std))
            return y, opened

        def mean_alone(index: int) -> Tensor:
            return freqops.block_dct_mean(images[index], channels, mean=mean, std=std)

        def written(index: int, scale: Tensor) -> Tensor:
            return freqops.block_dct(images[index], channels, mean=mean, std=std, gate=scale)

        @torch.no_grad()
        def fused(index: int) -> tuple[Tensor, Tensor]:
            scale, opened = gate.decide(mean_alone(index))
            return written(index, scale), opened

        (y, opened), (want, wanted) = fused(0), by_steps(0)
        if not torch.equal(opened, wanted) or int(opened.sum()) != len(opened) * open_channels:
            raise ValueError(
                f"the gate opens {opened.sum(1).tolist()} and {wanted.sum(1).tolist()}"
            )
        error = float((y - want).abs().max())
        with torch.no_grad():
            pooled = [mean_alone(index) for index in range(len(images))]
            scale, _ = gate.decide(pooled[0])
        calls: dict[str, Call] = {
            "by steps": by_steps,
            "fused": fused,
            "mean": mean_alone,
            "gate": torch.no_grad()(lambda index: gate.decide(pooled[index])),
            "transform": lambda index: written(index, scale),
        }
        measured = interleaved(
            calls, len(images), setting.copy, seconds=2 * setting.seconds, least=setting.least
        )
        took = milliseconds(measured)
        parts = {name: took[name] for name in ("mean", "gate", "transform")}
        return [
            first
            | {"by steps ms": took["by steps"], "fused, its parts, ms": parts}
            | figures(measured, "fused", moved)
            | {"times faster": measured.times("fused", "by steps"), "error": error}
        ]

    cases = {
        f"{batch} pictures, {count} open": functools.partial(rows, batch, count)
        for batch in (256, 64, 8)
        for count in (192, 96, 24)
    }
    return Section(GATED, cases)
