"""Table of the channel gate on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from gpu_setting import FIGURES, Section, Setting, figures
from measure_cuda import Call, interleaved
from tables import Row, Table
from torch import Tensor

from freqops import reference

CHANNELS, SIDE = 192, 56
BATCHES = (256, 64)
OPEN = (192, 24)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TYPES = {"float32": torch.float32, "float16": torch.float16}

GATE = Table(
    "Gate",
    "Features (N, 192, 56, 56), float32 logits and given noise. **forward** reads the open "
    "channels and writes all (channels_last reads all); **backward** reads gradient and features "
    "and writes a gradient; **both** is one after the other, beside autograd of `x * gate` with a "
    "straight-through gate, eager and compiled. **of dense floor** is the floor with all channels "
    "read, in units of the time: above 100 % where closed channels are not read. Goal: 90 % of "
    "the copy with all channels open.",
    {"features": "{}", "layout": "{}", "type": "{}", "open": "{}", "step": "{}"}
    | FIGURES
    | {"of dense floor": "{:.1%}", "eager ms": "{:.4f}", "compiled ms": "{:.4f}"}
    | {"times faster": "**{:.2f}**", "error": "{:.1e}"},
)

Gating = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def straight_through(x: Tensor, logits: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The rival: a hard gate with the gradient of the probability, times the features."""
    z = logits[..., 1] - logits[..., 0] + noise
    p = torch.sigmoid(z)
    gate = (z > 0).to(p.dtype) + (p - p.detach())  # exactly 0 or 1
    return x * gate.to(x.dtype)[..., None, None], gate


def compiled(
    backend: str, rival: Callable[[Gating, int], tuple[Tensor, ...]]
) -> Callable[[int], tuple[Tensor, ...]] | None:
    """The rival by torch.compile; None, and why, where there is no compiler."""
    torch.compiler.reset()
    call = functools.partial(rival, torch.compile(straight_through, dynamic=False, backend=backend))
    try:
        call(0)
    except Exception as error:
        print(f"torch.compile: {type(error).__name__}: {error}", flush=True)
        return None
    return call


def drawn_gates(setting: Setting, batch: int, open_channels: int) -> tuple[Tensor, Tensor]:
    """Logits with so many channels of each picture open, by far, and little noise."""
    draw = torch.Generator().manual_seed(1)
    order = torch.rand(batch, CHANNELS, generator=draw).argsort(1).argsort(1)
    logits = torch.zeros(batch, CHANNELS, 2)
    logits[..., 1] = torch.where(order < open_channels, 4.0, -4.0)
    noise = torch.rand(batch, CHANNELS, generator=draw) - 0.5
    return logits.to(setting.device), noise.to(setting.device)


def gate(setting: Setting) -> Section:
    side = 4 if setting.tiny else SIDE

    def rows(batch: int, layout: str, dtype: str, open_channels: int) -> list[Row]:
        n = setting.batch(batch)
        shape = (n, CHANNELS, side, side)

        def noise_like(draw: torch.Generator) -> Tensor:
            x = torch.randn(shape, device=setting.device, generator=draw)
            return x.to(TYPES[dtype]).contiguous(memory_format=LAYOUTS[layout])

        dense = n * CHANNELS * side * side * TYPES[dtype].itemsize
        features = setting.inputs(noise_like, 2 * dense)
        grads = setting.inputs(noise_like, 2 * dense)
        logits, noise = drawn_gates(setting, n, open_channels)
        grad_gate = torch.full((n, CHANNELS), 1 / CHANNELS, device=setting.device)
        operators = torch.ops.freqops

        def forward(index: int) -> tuple[Tensor, Tensor]:
            return operators.gumbel_gate(features[index], logits, noise, None, True)

        def backward(index: int) -> tuple[Tensor, Tensor]:
            return operators.gumbel_gate_backward(
                grads[index], grad_gate, features[index], logits, noise, None, True, True
            )

        def both(index: int) -> tuple[Tensor, ...]:
            return (*forward(index), *backward(index))

        tracked = [x.clone().requires_grad_() for x in features]
        tracked_logits = logits.clone().requires_grad_()

        def rival(gating: Gating, index: int) -> tuple[Tensor, ...]:
            y, gate = gating(tracked[index], tracked_logits, noise)
            found = torch.autograd.grad(
                [y, gate], [tracked[index], tracked_logits], [grads[index], grad_gate]
            )
            return (y.detach(), gate.detach(), *found)

        calls: dict[str, Call] = {"forward": forward, "backward": backward, "both": both}
        if open_channels == CHANNELS:
            calls["eager"] = functools.partial(rival, straight_through)
            if (fast := compiled(setting.backend, rival)) is not None:
                calls["compiled"] = fast
            for name in calls.keys() & {"eager", "compiled"}:
                # Sums of the logits' gradient differ in order.
                for a, b in zip(both(0)[:3], calls[name](0)[:3], strict=True):  # type: ignore
                    torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)
        error = checked(both(0), features[0], grads[0], logits, noise, grad_gate)
        measured = interleaved(
            calls, len(features), setting.copy, seconds=2 * setting.seconds, least=setting.least
        )
        share = 1.0 if layout == "channels_last" else open_channels / CHANNELS
        read = int(dense * share)
        sizes = {"forward": (read + dense, 2), "backward": (3 * dense, 3)}
        sizes["both"] = (read + 4 * dense, 5)
        result: list[Row] = []
        for step, (size, passes) in sizes.items():
            took = {name: 1e3 * timing.seconds for name, timing in measured.timings.items()}
            beside = [n for n in ("eager", "compiled") if n in calls and step == "both"]
            result.append(
                {
                    "features": f"{n} x {CHANNELS} x {side}x{side}",
                    "layout": layout,
                    "type": dtype,
                    "open": f"{open_channels} of {CHANNELS}",
                    "step": step,
                    **figures(measured, step, size),
                    "of dense floor": measured.of_copy(step, passes * dense),
                    "eager ms": took["eager"] if "eager" in beside else None,
                    "compiled ms": took["compiled"] if "compiled" in beside else None,
                    "times faster": (
                        measured.times(step, measured.best(beside)) if beside else None
                    ),
                    "error": None if step == "forward" else error,
                }
            )
        return result

    cases = {
        f"{batch} pictures, {layout}, {dtype}, {count} open": functools.partial(
            rows, batch, layout, dtype, count
        )
        for batch in BATCHES
        for dtype in TYPES
        for layout in LAYOUTS
        for count in OPEN
    }
    return Section(GATE, cases)


def checked(
    results: tuple[Tensor, ...],
    x: Tensor,
    grad_y: Tensor,
    logits: Tensor,
    noise: Tensor,
    grad_gate: Tensor,
) -> float:
    """The largest error of the logits' gradient in two pictures, in units of its largest number.

    Raises:
        AssertionError: features, gates or the features' gradient are not exactly what they must be.
    """
    few = slice(0, 2)
    y, gate, grad_x, grad_logits = (t[few] for t in results)
    want, open_or_not = reference.gumbel_gate_operator(x[few], logits[few], noise[few], None, True)
    exact_x, exact_logits = reference.gumbel_gate_backward(
        grad_y[few].double(),
        grad_gate[few].double(),
        x[few].double(),
        logits[few].double(),
        noise[few].double(),
        None,
        True,
        True,
    )
    assert torch.equal(y, want) and torch.equal(gate, open_or_not)
    assert torch.equal(grad_x.double(), exact_x)
    return float((grad_logits.double() - exact_logits).abs().max() / exact_logits.abs().max())
