"""gumbel_gate and its backward on every backend, against the float64 reference."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import re
import signal
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import FLOATING, LAYOUTS, Backend, generator
from torch import Tensor

from freqops import reference

# Forks a process that has threads, which Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")

F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16

# Relative error of a stored type: one rounding, and one of float32 sums before it.
ROUNDING = {F32: 2.0**-22, F64: 2.0**-50, F16: 2.0**-10, BF16: 2.0**-7}

# One element, less than a vector, odd, whole lines, more than one chunk or segment of a plane.
SHAPES = [
    (1, 1, 1, 1),
    (2, 3, 7, 7),
    (3, 24, 5, 9),
    (1, 33, 16, 16),
    (2, 192, 8, 8),
    (1, 5, 131, 139),
    (2, 1, 3, 6000),
]


def on(backend: Backend, x: Tensor | None) -> Tensor | None:
    """x on the backend's device; there already, it keeps its strides."""
    return x if x is None or backend.device == "cpu" else x.to(backend.device)


def noise(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=F64).to(dtype)


class Arguments:
    """Features, their gradient, logits, noise, gradient of the gate and tau, drawn for a shape."""

    def __init__(
        self,
        shape: tuple[int, ...],
        stored: torch.dtype = F32,
        gate: torch.dtype = F32,
        layout: str = "contiguous",
    ) -> None:
        per_channel = shape[:2]
        self.x = LAYOUTS[layout](noise(*shape, dtype=stored, seed=1))
        self.grad_y = LAYOUTS[layout](noise(*shape, dtype=stored, seed=2))
        self.logits = noise(*per_channel, 2, dtype=gate, seed=3)
        self.noise = noise(*per_channel, seed=4)
        self.grad_gate = noise(*per_channel, dtype=gate, seed=5)
        self.tau = torch.tensor(0.6)


def exact(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.double()


def forward(
    backend: Backend, a: Arguments, hard: bool, with_noise: bool = True
) -> tuple[Tensor, Tensor]:
    given = (a.x, a.logits, a.noise if with_noise else None, a.tau)
    return backend.ops.gumbel_gate(*(on(backend, t) for t in given), hard)


def backward(
    backend: Backend,
    a: Arguments,
    hard: bool,
    need_x: bool = True,
    x: bool = True,
    grad_gate: bool = True,
) -> tuple[Tensor, Tensor]:
    given = (a.grad_y, a.grad_gate if grad_gate else None, a.x if x else None)
    given += (a.logits, a.noise, a.tau)
    return backend.ops.gumbel_gate_backward(*(on(backend, t) for t in given), hard, need_x)


def check_forward(backend: Backend, a: Arguments, hard: bool) -> None:
    y, gate = forward(backend, a, hard)
    want_y, want_gate = reference.gumbel_gate_operator(
        a.x.double(), a.logits.double(), a.noise, a.tau, hard
    )
    assert (y.dtype, gate.dtype) == (a.x.dtype, a.logits.dtype)
    assert (y.shape, gate.shape) == (a.x.shape, a.x.shape[:2])
    near(y, want_y)
    near(gate, want_gate)
    if hard:
        assert set(gate.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(y.cpu(), torch.where(want_gate.bool()[..., None, None], a.x, 0))


def near(got: Tensor, want: Tensor, absolute: float = 1e-7) -> None:
    relative = ROUNDING[got.dtype]
    torch.testing.assert_close(got.cpu().double(), want, atol=absolute, rtol=relative)


def check_backward(backend: Backend, a: Arguments, hard: bool, **wanted: bool) -> None:
    grad_x, grad_logits = backward(backend, a, hard, **wanted)
    given = [exact(a.grad_y), exact(a.grad_gate), exact(a.x), exact(a.logits), a.noise, a.tau]
    given[1] = given[1] if wanted.get("grad_gate", True) else None
    given[2] = given[2] if wanted.get("x", True) else None
    need_x = wanted.get("need_x", True)
    want_x, want_logits = reference.gumbel_gate_backward(*given, hard, need_x)  # type: ignore[arg-type]
    assert (grad_x.dtype, grad_logits.dtype) == (a.grad_y.dtype, a.logits.dtype)
    assert (grad_x.shape, grad_logits.shape) == (want_x.shape, want_logits.shape)
    near(grad_x, want_x)
    # Sums cancel: their error grows with the size of their terms, and not above 2^-22 of it.
    terms = (a.x.double() * a.grad_y.double()).abs().sum((2, 3)).max()
    near(grad_logits, want_logits, absolute=1e-7 + 2.0**-22 * terms.item())
    if hard and need_x:
        shut = want_x.flatten(2).abs().amax(2) == 0
        assert not grad_x.cpu()[shut].any()


HARD = pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])


@HARD
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(backend: Backend, shape: tuple[int, ...], layout: str, hard: bool) -> None:
    a = Arguments(shape, layout=layout)
    check_forward(backend, a, hard)
    check_backward(backend, a, hard)


@HARD
@pytest.mark.parametrize("gate", FLOATING, ids=str)
@pytest.mark.parametrize("stored", FLOATING, ids=str)
def test_dtypes(backend: Backend, stored: torch.dtype, gate: torch.dtype, hard: bool) -> None:
    for shape in [(2, 5, 6, 7), (2, 16, 8, 8)]:
        for layout in ("contiguous", "channels_last"):
            a = Arguments(shape, stored, gate, layout)
            check_forward(backend, a, hard)
            check_backward(backend, a, hard)


@HARD
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stored", [F32, F16], ids=str)
def test_layouts(backend: Backend, stored: torch.dtype, layout: str, hard: bool) -> None:
    """channels_last stays, everything else becomes contiguous; a gradient lies as x does."""
    a = Arguments((2, 6, 5, 8), stored, layout=layout)
    check_forward(backend, a, hard)
    check_backward(backend, a, hard)
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert forward(backend, a, hard)[0].is_contiguous(memory_format=form)
    for other in LAYOUTS:
        a.grad_y = LAYOUTS[other](a.grad_y)
        check_backward(backend, a, hard)
        assert backward(backend, a, hard)[0].is_contiguous(memory_format=form)


@HARD
@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("x", [True, False])
@pytest.mark.parametrize("grad_gate", [True, False])
def test_what_is_not_wanted(
    backend: Backend, grad_gate: bool, x: bool, need_x: bool, hard: bool
) -> None:
    for layout in ("contiguous", "channels_last"):
        a = Arguments((2, 7, 6, 5), layout=layout)
        check_backward(backend, a, hard, grad_gate=grad_gate, x=x, need_x=need_x)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (0, 0, 1, 1)], ids=str)
def test_empty(backend: Backend, shape: tuple[int, ...]) -> None:
    a = Arguments(shape)
    y, gate = forward(backend, a, True)
    assert (y.shape, gate.shape) == (shape, shape[:2])
    grad_x, grad_logits = backward(backend, a, True)
    assert (grad_x.shape, grad_logits.shape) == (shape, (*shape[:2], 2))


def test_views_of_logits_and_noise(backend: Backend) -> None:
    a = Arguments((3, 4, 5, 6))
    want = [*forward(backend, a, False), *backward(backend, a, False)]
    a.logits = a.logits.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    a.noise = torch.stack([a.noise, a.noise], -1)[..., 0]
    a.grad_gate = a.grad_gate.mT.contiguous().mT
    got = [*forward(backend, a, False), *backward(backend, a, False)]
    assert all(map(torch.equal, got, want))


@pytest.mark.parametrize("gate", FLOATING, ids=str)
def test_ties_are_off(backend: Backend, gate: torch.dtype) -> None:
    a = Arguments((1, 4, 2, 2), gate=gate)
    a.logits = torch.tensor([[[1.5, 1.5], [0, 0], [1.5, 1.75], [1.75, 1.5]]], dtype=gate)
    a.noise = torch.tensor([[0, -0.0, 0, 0]])
    assert forward(backend, a, True)[1].tolist() == [[0, 0, 1, 0]]
    assert forward(backend, a, True, with_noise=False)[1].tolist() == [[0, 0, 1, 0]]


EXTREME = [(-1e4, 1e4), (1e4, -1e4), (-math.inf, 0), (0, -math.inf), (-math.inf, 1e4), (-300, 300)]


@HARD
@pytest.mark.parametrize("gate", FLOATING, ids=str)
def test_extreme_logits(backend: Backend, gate: torch.dtype, hard: bool) -> None:
    """1e4, and one of the two -inf: gates of 0 and 1, gradients of 0, nothing that is no number."""
    a = Arguments((1, len(EXTREME), 4, 4), gate=gate)
    a.logits = torch.tensor([EXTREME], dtype=gate)
    for tau in (0.6, 1e-3, 100):
        a.tau = torch.tensor(float(tau))
        y, gate_ = forward(backend, a, hard)
        assert y.isfinite().all()
        if hard or tau < 1:
            assert gate_.tolist() == [[1, 0, 1, 0, 1, 1]]
        grad_x, grad_logits = backward(backend, a, hard)
        assert grad_x.isfinite().all() and grad_logits.isfinite().all()
        if tau < 1:
            assert not grad_logits.any()


@HARD
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_logits_that_are_no_numbers_show(backend: Backend, layout: str, hard: bool) -> None:
    """NaN is not taken for off, as which training that diverged would go unseen."""
    a = Arguments((1, 8, 2, 4), layout=layout)
    a.logits[0, 2] = -math.inf  # both
    a.logits[0, 5, 1] = math.nan
    y, gate = forward(backend, a, hard)
    grad_x, grad_logits = backward(backend, a, hard)
    for result in (y, gate[..., None], grad_x, grad_logits):
        bad = result.cpu().isnan().flatten(2)
        assert bad[0, [2, 5]].all()
        assert bad.any(2).sum() == 2


@pytest.mark.parametrize("stored", FLOATING, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_closed_channels_hide_what_is_not_finite(
    backend: Backend, layout: str, stored: torch.dtype
) -> None:
    """NaN and infinity there: y and grad_x are zero, the gradient of the logits sees them."""
    for shape in [(1, 3, 5, 5), (1, 16, 4, 8)]:
        a = Arguments(shape, stored, layout=layout)
        a.logits[..., 0], a.logits[..., 1], a.noise = 0, 1, torch.zeros(shape[:2])
        a.logits[:, 1] = torch.tensor([0.0, -1.0])  # channel 1 is off
        a.logits[:, 2] = torch.tensor([0.0, -math.inf])  # channel 2 too, soft as well
        for t in (a.x, a.grad_y):
            t[:, 1, 0, 0], t[:, 1, 1, 1], t[:, 1, -1, -1] = math.nan, math.inf, -math.inf
            t[:, 2, 0, 0], t[:, 2, 2, 2] = math.inf, math.nan
        for hard in (True, False):
            y, _ = forward(backend, a, hard)
            grad_x, grad_logits = backward(backend, a, hard)
            for result in (y, grad_x):
                assert not result[:, 2].any()
                if hard:
                    assert not result[:, 1].any()
                    assert result.isfinite().all()
            assert grad_logits[:, 1].isnan().all()
            assert grad_logits[:, 3:].isfinite().all() and grad_logits[:, 0].isfinite().all()


def test_open_channels_are_copies(backend: Backend) -> None:
    """Bit for bit, the sign of zero and subnormal numbers too; NaN stays NaN."""
    for layout in ("contiguous", "channels_last"):
        a = Arguments((1, 8, 4, 8), layout=layout)
        a.logits[..., 0], a.logits[..., 1], a.noise = 0, 1, torch.zeros(1, 8)
        a.x[0, 0, 0, :4] = torch.tensor([math.nan, math.inf, -0.0, 1e-45])
        for hard in (True, False):
            a.logits[..., 1] = 1 if hard else 1000  # soft: p is 1
            y = forward(backend, a, hard)[0].cpu()
            assert y[0, 0, 0, 0].isnan()
            a.x[0, 0, 0, 0] = y[0, 0, 0, 0] = 0
            assert torch.equal(y.view(torch.int32), a.x.view(torch.int32))
            a.x[0, 0, 0, 0] = math.nan


@pytest.mark.parametrize("tau", [torch.tensor(0.3), torch.tensor(0.3, dtype=F64), None])
def test_tau(backend: Backend, tau: Tensor | None) -> None:
    a = Arguments((2, 5, 3, 3))
    a.tau = tau  # type: ignore[assignment]
    for hard in (True, False):
        check_forward(backend, a, hard)
        check_backward(backend, a, hard)


@HARD
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_sums_of_a_million_pixels(backend: Backend, layout: str, hard: bool) -> None:
    """At most twice the error of torch's own float32 sum, plus one rounding."""
    shape = (1, 2, 1000, 1003)
    a = Arguments(shape, layout=layout)
    a.x, a.grad_y = a.x + 0.5, a.grad_y + 0.5  # sums that grow
    a.tau = torch.tensor(1.0)
    _, grad_logits = backward(backend, a, hard, need_x=False, grad_gate=False)
    slope = reference.gumbel_gate_backward(
        torch.ones(1, 2, 1, 1), None, torch.ones(1, 2, 1, 1), a.logits, a.noise, a.tau, hard, False
    )[1].double()[..., 1]
    want = (a.x.double() * a.grad_y.double()).sum((2, 3))
    torchs = (a.x * a.grad_y).sum((2, 3)).double()
    got = grad_logits.cpu().double()[..., 1] / slope
    allowed = 2 * (torchs - want).abs() + 4 * 2.0**-24 * want.abs()
    assert ((got - want).abs() <= allowed).all(), (got - want, torchs - want)


def test_results_repeat_and_do_not_depend_on_threads(backend: Backend) -> None:
    threads = torch.get_num_threads()
    try:
        for layout in ("contiguous", "channels_last"):
            a = Arguments((3, 20, 40, 41), layout=layout)
            results = []
            for count in (1, 2, 3, 1):
                torch.set_num_threads(count)
                results.append([*forward(backend, a, False), *backward(backend, a, False)])
            for other in results[1:]:
                assert all(map(torch.equal, results[0], other))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_picture_alone_and_in_a_batch(backend: Backend, layout: str) -> None:
    a = Arguments((5, 9, 12, 11), layout=layout)
    whole = [*forward(backend, a, False), *backward(backend, a, False)]
    for n in range(5):
        one = Arguments((5, 9, 12, 11), layout=layout)
        for name in ("x", "grad_y", "logits", "noise", "grad_gate"):
            setattr(one, name, getattr(a, name)[n : n + 1])
        alone = [*forward(backend, one, False), *backward(backend, one, False)]
        for got, want in zip(alone, whole, strict=True):
            assert torch.equal(got[0], want[n])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@HARD
def test_forward_does_not_read_closed_channels(backend: Backend, hard: bool) -> None:
    """The closed channels lie on pages that may not be read: touching them would be a crash."""
    if backend.device != "cpu":
        pytest.skip("pages of host memory")
    side = 64  # a channel of 4 pages
    memory = mmap.mmap(-1, 4 * side * side * 4)
    x = torch.from_numpy(np.frombuffer(memory, dtype=np.float32)).view(1, 4, side, side)
    x.copy_(noise(*x.shape))
    logits = torch.tensor([[[0, 1.0], [0, -math.inf], [0, -math.inf], [0, 2.0]]])
    protect = ctypes.CDLL(None).mprotect
    child = os.fork()
    if child == 0:
        protect(ctypes.c_void_p(x[0, 1].data_ptr()), ctypes.c_size_t(8 * side * side), 0)
        y, gate = backend.ops.gumbel_gate(x, logits, None, None, hard)
        good = not y[0, 1:3].any() and bool((gate > 0.5).tolist() == [[True, False, False, True]])
        os._exit(0 if good else 1)
    _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status), signal.Signals(os.WTERMSIG(status)).name
    assert os.WEXITSTATUS(status) == 0


G = torch.zeros(2, 3, 4, 5)
L = torch.zeros(2, 3, 2)
REFUSED: list[tuple[Callable[[Backend], object], str]] = [
    (
        lambda b: b.ops.gumbel_gate(G[0], L, None, None, True),
        "gumbel_gate: x must be [N, C, H, W], got [3, 4, 5]",
    ),
    (
        lambda b: b.ops.gumbel_gate(G[..., :0], L, None, None, True),
        "gumbel_gate: x must have at least one pixel, got [2, 3, 4, 0]",
    ),
    (
        lambda b: b.ops.gumbel_gate(G.int(), L, None, None, True),
        "gumbel_gate: x must be float16, bfloat16, float32 or float64, got Int",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L[:1], None, None, True),
        "gumbel_gate: logits must be [2, 3, 2], got [1, 3, 2]",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L[..., 0], None, None, True),
        "gumbel_gate: logits must be [2, 3, 2], got [2, 3]",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L.int(), None, None, True),
        "gumbel_gate: logits must be float16, bfloat16, float32 or float64, got Int",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L, L, None, True),
        "gumbel_gate: noise must be [2, 3], got [2, 3, 2]",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L, L[..., 0].int(), None, True),
        "gumbel_gate: noise must be float16, bfloat16, float32 or float64, got Int",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L, None, torch.ones(1), True),
        "gumbel_gate: tau must have no dimension, got [1]",
    ),
    (
        lambda b: b.ops.gumbel_gate(G, L, None, torch.ones((), dtype=F16), True),
        "gumbel_gate: tau must be float32 or float64, got Half",
    ),
    (
        lambda b: b.ops.gumbel_gate_backward(G, None, G[:1], L, None, None, True, True),
        "gumbel_gate_backward: x must be [2, 3, 4, 5] like grad_y, got [1, 3, 4, 5]",
    ),
    (
        lambda b: b.ops.gumbel_gate_backward(G, None, G.double(), L, None, None, True, True),
        "gumbel_gate_backward: x must have the dtype of grad_y, Float, got Double",
    ),
    (
        lambda b: b.ops.gumbel_gate_backward(G, L, G, L, None, None, True, True),
        "gumbel_gate_backward: grad_gate must be [2, 3], got [2, 3, 2]",
    ),
    (
        lambda b: b.ops.gumbel_gate_backward(G[0], None, None, L, None, None, True, True),
        "gumbel_gate_backward: grad_y must be [N, C, H, W], got [3, 4, 5]",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused(backend: Backend, call: Callable[[Backend], object], message: str) -> None:
    if backend.device != "cpu":
        pytest.skip("the checks are the same ones, on CPU tensors elsewhere")
    with pytest.raises(RuntimeError, match=re.escape(message)):
        call(backend)
