"""freqops.gumbel_gate as users call it: the law it follows, its gradient, compilers, errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import cuda_graph_of
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx

import freqops.autograd
from freqops import reference
from freqops.ops import gumbel_gate

# Inductor and export call torch's own deprecated functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable"),
]

DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def features(
    n: int = 4, c: int = 6, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """x, logits and noise."""
    return draw(n, c, 5, 7, dtype=dtype), draw(n, c, 2, seed=1), draw(n, c, seed=2)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("tau", [1.0, 0.5, 3])
def test_gradients_are_those_of_gumbel_softmax(
    hard: bool, tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.nn.functional.gumbel_softmax over [off, on] and a product, with the same noise: its two
    Gumbel samples are minus the logarithms of exponential ones, ours is their difference."""
    x, logits, _ = features()
    exponential = torch.rand(logits.shape, generator=torch.Generator().manual_seed(3)) + 1e-3
    gumbels = -exponential.log()
    noise = gumbels[..., 1] - gumbels[..., 0]
    weights = draw(*x.shape, seed=4), draw(*x.shape[:2], seed=5)

    def grads(f: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
        a, b = x.clone().requires_grad_(), logits.clone().requires_grad_()
        results = f(a, b)
        total = sum((r * w).sum() for r, w in zip(results, weights, strict=True))
        return [*(r.detach() for r in results), *torch.autograd.grad(total, (a, b))]

    def theirs(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "exponential_", lambda self: self.copy_(exponential))
            gate = F.gumbel_softmax(logits, tau=tau, hard=hard)[..., 1]
        return x * gate[..., None, None], gate

    got = grads(lambda x, logits: gumbel_gate(x, logits, noise, tau=tau, hard=hard))
    torch.testing.assert_close(got, grads(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("with_noise", [True, False])
def test_values(with_noise: bool, hard: bool) -> None:
    x, logits, noise = features()
    given = noise if with_noise else None
    got = gumbel_gate(x, logits, given, tau=0.7, hard=hard)
    torch.testing.assert_close(got, reference.gumbel_gate(x, logits, given, tau=0.7, hard=hard))


@pytest.mark.parametrize(
    "tau", [0.7, np.float32(0.7), torch.tensor(0.7), torch.tensor(0.7).double()]
)
def test_ways_to_give_tau(tau: float | Tensor) -> None:
    x, logits, noise = features()
    want = reference.gumbel_gate(x, logits, noise, tau=0.7, hard=False)
    torch.testing.assert_close(gumbel_gate(x, logits, noise, tau=tau, hard=False), want)
    exact = reference.gumbel_gate(x.double(), logits, noise, tau=float(tau), hard=False)
    torch.testing.assert_close(gumbel_gate(x.double(), logits, noise, tau=tau, hard=False), exact)
    half = gumbel_gate(x, logits, noise, tau=torch.tensor(0.5, dtype=torch.float16), hard=False)
    torch.testing.assert_close(half, gumbel_gate(x, logits, noise, tau=0.5, hard=False))


def test_a_number_for_tau_is_exact_where_x_is_double() -> None:
    x, logits, noise = features(dtype=torch.float64)
    got = gumbel_gate(x, logits.double(), noise.double(), tau=0.7, hard=False)
    want = torch.sigmoid((logits[..., 1].double() - logits[..., 0] + noise) / 0.7)
    torch.testing.assert_close(got[1], want, rtol=1e-14, atol=0)


def test_noise_is_not_rounded_to_the_type_of_the_logits() -> None:
    x, logits, noise = features()
    logits = logits.half()
    want = torch.sigmoid(logits[..., 1].float() - logits[..., 0].float() + noise).half()
    for function in (gumbel_gate, reference.gumbel_gate):
        torch.testing.assert_close(function(x, logits, noise, hard=False)[1], want)
    z = torch.tensor([[[0.0, 1.0]]]).half()  # 1 - 1.0002 is off; rounded to half it is a tie or on
    for near in (-1.0002, -0.9998):
        gate = gumbel_gate(torch.ones(1, 1, 1, 1), z, torch.tensor([[near]]))[1]
        assert gate.item() == (near > -1)


def test_the_slope_is_exact_where_the_gate_is_nearly_open() -> None:
    """1 - p would be 0 from z = 17 on."""
    logits = torch.tensor([[[0.0, 40.0]]], requires_grad=True)
    x = torch.ones(1, 1, 1, 1)
    for function in (gumbel_gate, reference.gumbel_gate):
        gate = function(x, logits, hard=False)[1]
        (grad,) = torch.autograd.grad(gate.sum(), logits)
        assert grad[0, 0, 1].item() == pytest.approx(math.exp(-40), rel=1e-5)
        y = function(x, logits)[0]
        (grad,) = torch.autograd.grad(y.sum(), logits)
        assert grad[0, 0, 1].item() == pytest.approx(math.exp(-40), rel=1e-5)


@pytest.mark.parametrize("hard", [True, False])
def test_gradients_of_noise_and_tau_are_not_rounded_to_half(hard: bool) -> None:
    """Sums beyond 65504, the largest half, where those of the logits are infinite."""
    x, noise = torch.ones(1, 1, 1000, 1000), torch.tensor([[0.5]], requires_grad=True)
    logits = torch.zeros(1, 1, 2, dtype=torch.float16, requires_grad=True)
    tau = torch.tensor(1.0, requires_grad=True)
    grads = [
        torch.autograd.grad(f(x, logits, noise, tau=tau, hard=hard)[0].sum(), (noise, tau, logits))
        for f in (gumbel_gate, reference.gumbel_gate)
    ]
    torch.testing.assert_close(grads[0][:2], grads[1][:2])
    assert grads[0][0].item() > 65504
    assert grads[0][2].isinf().all()


def test_second_gradients_have_the_dtype_of_their_argument() -> None:
    x, logits, noise = features()
    given = [x.half().requires_grad_(), logits.bfloat16().requires_grad_(), noise.requires_grad_()]
    y, gate = gumbel_gate(*given, tau=torch.tensor(0.7), hard=False)
    grads = torch.autograd.grad(y.float().sum() + gate.float().sum(), given, create_graph=True)
    seconds = torch.autograd.grad(sum(g.float().square().sum() for g in grads), given)
    assert [g.dtype for g in seconds] == [torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_nothing_is_allocated_but_the_results(form: torch.memory_format) -> None:
    x, logits, noise = features(8, 24)
    x = x.contiguous(memory_format=form)
    operators = torch.ops.freqops

    def allocated(call: Callable[[], object]) -> int:
        with torch.profiler.profile(profile_memory=True, acc_events=True) as recorded:
            call()
        events = recorded.profiler.kineto_results.events()
        return sum(max(e.nbytes(), 0) for e in events if e.name() == "[memory]")

    def forward() -> object:
        return operators.gumbel_gate(x, logits, noise, None, True)

    def backward() -> object:
        return operators.gumbel_gate_backward(x, None, x, logits, noise, None, True, True)

    forward(), backward()
    room = 2 * 64 + logits.nbytes  # memory comes in lines of 64 bytes
    assert x.nbytes < allocated(forward) <= x.nbytes + room
    assert x.nbytes < allocated(backward) <= x.nbytes + room


def test_default_dtypes_and_layout() -> None:
    x, logits, noise = features()
    x = x.contiguous(memory_format=torch.channels_last)
    for stored in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        for other in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            y, gate = gumbel_gate(x.to(stored), logits.to(other), noise)
            assert (y.dtype, gate.dtype) == (stored, other)
            assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("tracked", range(4))
def test_each_gradient_alone(tracked: int) -> None:
    """What is not asked for is not computed, and what is not needed is not kept."""
    x, logits, noise = features(dtype=torch.float64)
    tau = torch.tensor(0.7, dtype=torch.float64)
    arguments = [x, logits.double(), noise.double(), tau]

    def grad(f: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
        given = [a.clone().requires_grad_(i == tracked) for i, a in enumerate(arguments)]
        y, gate = f(*given[:3], tau=given[3])
        return torch.autograd.grad(y.sin().sum() + gate.cos().sum(), given[tracked])[0]

    torch.testing.assert_close(grad(gumbel_gate), grad(reference.gumbel_gate))
    given = [a.clone().requires_grad_(i == tracked) for i, a in enumerate(arguments)]
    y, _ = gumbel_gate(*given[:3], tau=given[3])
    kept = y.grad_fn.saved_tensors[-1]  # type: ignore[union-attr]
    assert (kept is None) == (tracked == 0)


def test_a_gradient_of_the_gate_alone() -> None:
    """y unused: the penalty of a gate that nothing reads."""
    x, logits, noise = features()
    logits.requires_grad_()
    grads = [
        torch.autograd.grad(f(x, logits, noise, tau=0.7)[1].square().sum(), logits)[0]
        for f in (gumbel_gate, reference.gumbel_gate)
    ]
    torch.testing.assert_close(*grads)


def test_no_graph_where_none_is_wanted() -> None:
    x, logits, noise = features()
    x.requires_grad_()
    assert all(r.requires_grad for r in gumbel_gate(x, logits, noise))
    assert not any(r.requires_grad for r in gumbel_gate(x.detach(), logits, noise))
    with torch.inference_mode():
        assert all(r.is_inference() for r in gumbel_gate(x, logits, noise))


def test_the_class_takes_what_the_operator_takes() -> None:
    x, logits, noise = features()
    x.requires_grad_()
    for f in (freqops.autograd.GumbelGate.apply, torch.ops.freqops.gumbel_gate):
        y, gate = f(x, logits, noise, None, True)
        assert type(y.grad_fn).__name__ == "GumbelGateBackward"
        torch.testing.assert_close((y, gate), reference.gumbel_gate(x, logits, noise))


def test_infinite_logits_and_the_gradient_of_tau() -> None:
    x, logits, noise = features()
    logits[0, 0, 0], logits[1, 1, 1] = -math.inf, -math.inf
    tau = torch.tensor(0.7, requires_grad=True)
    y, gate = gumbel_gate(x, logits, noise, tau=tau)
    assert torch.autograd.grad(y.sum() + gate.sum(), tau)[0].isfinite()


def test_vmap_over_each_argument() -> None:
    x, logits, noise = features(dtype=torch.float64)
    tau = torch.tensor(0.7, dtype=torch.float64)
    given = [x, logits, noise, tau]
    for k in range(4):
        batch = torch.stack([given[k], given[k] * 2, given[k] * 3])
        dims = tuple(0 if i == k else None for i in range(4))
        arguments = [batch if i == k else a for i, a in enumerate(given)]
        for hard in (True, False):

            def f(x: Tensor, logits: Tensor, noise: Tensor, tau: Tensor, hard: bool = hard) -> ...:
                return gumbel_gate(x, logits, noise, tau=tau, hard=hard)

            got = torch.vmap(f, dims)(*arguments)
            rows = [f(*[b if i == k else a for i, a in enumerate(given)]) for b in batch]
            want = tuple(torch.stack(r) for r in zip(*rows, strict=True))
            torch.testing.assert_close(got, want)
            assert got[1].dtype == logits.dtype


def test_ties_stay_ties_in_a_batch_of_temperatures() -> None:
    """on - off + noise = 0 exactly, though not each of them divided by tau."""
    draws = torch.randint(-999, 999, (2, 400), generator=torch.Generator().manual_seed(0)) / 1024
    logits, noise = torch.stack([draws[0], draws[1]], -1)[None], (draws[0] - draws[1])[None]
    x, taus = torch.ones(1, 400, 1, 1), torch.tensor([0.3, 0.7, 1.1, 3.0])
    gate = torch.vmap(lambda tau: gumbel_gate(x, logits, noise, tau=tau)[1])(taus)
    assert not gate.any()


def test_vmap_of_nothing() -> None:
    x, logits = torch.zeros(0, 4, 3, 2, 2), torch.zeros(0, 4, 3, 2)
    y, gate = torch.vmap(gumbel_gate)(x, logits)
    assert (y.shape, gate.shape) == ((0, 4, 3, 2, 2), (0, 4, 3))


@pytest.mark.parametrize("x_is_wanted", [True, False])
@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("with_gate", [True, False])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_gradcheck_of_the_backward_operator(
    with_gate: bool, need_x: bool, x_is_wanted: bool
) -> None:
    if not (need_x or x_is_wanted):
        return
    x, logits, noise = features(1, 2, torch.float64)
    given = [
        x.cos(),
        noise.double().cos(),
        x,
        logits.double(),
        noise.double(),
        torch.tensor(0.7).double(),
    ]
    wanted = [True, with_gate, x_is_wanted, True, True, True]

    def f(*tensors: Tensor) -> tuple[Tensor, ...]:
        left = list(tensors)
        arguments = [left.pop(0) if w else None for w in wanted]
        results = torch.ops.freqops.gumbel_gate_backward(*arguments, False, need_x)
        return tuple(r for r in results if r.numel())

    tensors = [t.clone().requires_grad_() for t, w in zip(given, wanted, strict=True) if w]
    assert torch.autograd.gradcheck(f, tensors, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, tensors, check_fwd_over_rev=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    """Each result has the type of its argument, and sums stay float32."""
    x, logits, noise = features()
    want = gumbel_gate(x, logits, noise, hard=False)
    with torch.autocast("cpu", dtype):
        got = gumbel_gate(x, logits, noise, hard=False)
        a = x.clone().requires_grad_()
        b = logits.clone().requires_grad_()
        y, gate = gumbel_gate(a, b.to(dtype), noise)
        assert (y.dtype, gate.dtype) == (torch.float32, dtype)
        grads = torch.autograd.grad(y.sum() + gate.sum(), (a, b))
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert [g.dtype for g in grads] == [torch.float32, torch.float32]


# --- Compilers ------------------------------------------------------------------------------------


class Gated(nn.Module):
    """A gate of fixed logits, between two layers whose memory format is channels_last."""

    def __init__(self, hard: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.logits = nn.Parameter(draw(6, 2))
        self.register_buffer("tau", torch.tensor(0.7))
        self.hard = hard

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(images)
        logits = self.logits.expand(images.shape[0], -1, -1)
        return gumbel_gate(x, logits, noise, tau=self.tau, hard=self.hard)


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


@DYNAMIC
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_compiled_network(form: torch.memory_format, backend: str, dynamic: bool) -> None:
    network = Gated().to(memory_format=form)
    compiled = torch.compile(network, fullgraph=True, dynamic=dynamic, backend=backend)
    for n, side in ((2, 9), (5, 12)) if dynamic else ((2, 9),):
        images = draw(n, 3, side, side + 1).contiguous(memory_format=form)
        noise = draw(n, 6, seed=n)
        results = []
        for f in (compiled, network):
            network.zero_grad()
            y, gate = f(images, noise)
            (y.square().sum() + gate.sum()).backward()
            if not dynamic:  # with dynamic shapes torch 2.10 makes it contiguous
                assert y.is_contiguous(memory_format=form)
            grads = [p.grad.clone() for p in network.parameters() if p.grad is not None]
            results.append([y.detach(), gate.detach(), *grads])
        torch.testing.assert_close(*results)


@DYNAMIC
def test_a_schedule_of_tau_compiles_once(dynamic: bool) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    network = Gated(hard=False)
    compiled = torch.compile(network, fullgraph=True, dynamic=dynamic, backend=counter)
    images, noise = draw(2, 3, 9, 9), draw(2, 6, seed=1)
    gates = []
    for step in range(14):
        network.tau.fill_(2.0 * 0.8**step)
        gates.append(compiled(images, noise)[1])
        torch.testing.assert_close(gates[-1], network(images, noise)[1])
    assert counter.frame_count == 1
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(gates))


def test_a_number_for_tau_in_a_graph() -> None:
    x, logits, noise = features()

    def f(x: Tensor, tau: float) -> Tensor:
        return gumbel_gate(x, logits, noise, tau=tau, hard=False)[0]

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for tau in (1.0, 0.5, 0.25):
        torch.testing.assert_close(compiled(x, tau), f(x, tau))


@DYNAMIC
def test_autocast_in_a_graph(dynamic: bool) -> None:
    network = Gated()
    compiled = torch.compile(network, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    images, noise = draw(2, 3, 9, 9), draw(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = compiled(images, noise), network(images, noise)
    assert [t.dtype for t in got] == [torch.bfloat16, torch.float32]
    torch.testing.assert_close(got, want)


def test_make_fx() -> None:
    x, logits, noise = features()
    f = make_fx(lambda *a: gumbel_gate(*a), tracing_mode="symbolic")(x, logits, noise)
    assert "freqops.gumbel_gate.default" in [str(node.target) for node in f.graph.nodes]
    torch.testing.assert_close(f(x, logits, noise), gumbel_gate(x, logits, noise))


def exported(strict: bool = False) -> torch.export.ExportedProgram:
    n = torch.export.Dim("n", min=2, max=64)
    h, w = (torch.export.Dim(name, min=5, max=512) for name in ("h", "w"))
    shapes = ({0: n, 2: h, 3: w}, {0: n})
    return torch.export.export(
        Gated().eval(), (draw(2, 3, 9, 10), draw(2, 6)), dynamic_shapes=shapes, strict=strict
    )


def test_strict_export_and_decompositions() -> None:
    program = exported(strict=True)
    network = Gated()
    network.load_state_dict(program.state_dict)
    images, noise = draw(3, 3, 12, 15), draw(3, 6)
    for module in (program.module(), program.run_decompositions({}).module()):
        torch.testing.assert_close(tuple(module(images, noise)), network(images, noise))


def test_export_and_aot_inductor(tmp_path: Path) -> None:
    program = exported()
    assert "freqops.gumbel_gate.default" in [str(n.target) for n in program.graph.nodes]
    torch.export.save(program, tmp_path / "program.pt2")
    again = torch.export.load(tmp_path / "program.pt2").module()
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "model.pt2")
    )
    package = torch._inductor.aoti_load_package(path)
    network = Gated()
    network.load_state_dict(program.state_dict)
    for n, side in ((2, 9), (3, 20)):
        images, noise = draw(n, 3, side, side + 3), draw(n, 6, seed=n)
        with torch.no_grad():
            want = network(images, noise)
        for module in (again, package):
            torch.testing.assert_close(tuple(module(images, noise)), want)


X, LOGITS, NOISE = features(2, 3, torch.float64)
LAST = X.float().contiguous(memory_format=torch.channels_last)
TAU = torch.tensor(0.7)
SAMPLES: list[tuple[str, tuple[object, ...]]] = [
    ("gumbel_gate", (X, LOGITS, NOISE, TAU, False)),
    ("gumbel_gate", (X, LOGITS.double(), None, None, True)),
    ("gumbel_gate", (LAST, LOGITS.half(), NOISE, None, True)),
    ("gumbel_gate", (X[:0], LOGITS[:0], None, TAU, True)),
    ("gumbel_gate", (X[..., ::2], LOGITS, NOISE, None, True)),
    ("gumbel_gate_backward", (X, NOISE, X, LOGITS, NOISE, TAU, False, True)),
    ("gumbel_gate_backward", (LAST, None, LAST, LOGITS, None, None, True, False)),
    ("gumbel_gate_backward", (X, None, None, LOGITS, NOISE, None, True, True)),
]


# opcheck itself reads .grad of the tensors that it derived from ours.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("sample", range(len(SAMPLES)))
def test_opcheck(sample: int) -> None:
    name, arguments = SAMPLES[sample]
    tracked = [a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in arguments]
    for given in (arguments, tuple(tracked)):
        torch.library.opcheck(getattr(torch.ops.freqops, name).default, given)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cuda_graph() -> None:
    """A captured step sees other features, noise and temperature at each replay."""
    x, logits, noise = (t.cuda() for t in features())
    tau = torch.tensor(0.7, device="cuda")
    x.requires_grad_(), logits.requires_grad_()

    def step() -> tuple[Tensor, ...]:
        y, gate = gumbel_gate(x, logits, noise, tau=tau)
        return y, gate, *torch.autograd.grad(y.sum() + gate.sum(), (x, logits))

    graph, results = cuda_graph_of(step)
    with torch.no_grad():
        for t in (x, noise):
            t.copy_(torch.randn_like(t))
        tau.fill_(0.3)
    graph.replay()
    torch.testing.assert_close(results, step())


# --- Errors ---------------------------------------------------------------------------------------

G, L, V = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 2), torch.zeros(2, 3)
REFUSED: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (TypeError, "x must be a tensor, got None", lambda: gumbel_gate(None, L)),
    (TypeError, "x must be floating point, got torch.int64", lambda: gumbel_gate(G.long(), L)),
    (TypeError, "x must be a dense tensor", lambda: gumbel_gate(G.to_sparse(), L)),
    (
        ValueError,
        r"x must be \[N, C, H, W\] with H and W at least 1, got \[3, 4, 5\]",
        lambda: gumbel_gate(G[0], L),
    ),
    (ValueError, r"got \[2, 3, 0, 5\]", lambda: gumbel_gate(G[:, :, :0], L)),
    (
        ValueError,
        r"logits must be \[2, 3, 2\] for x \[2, 3, 4, 5\], got \[2, 3\]",
        lambda: gumbel_gate(G, V),
    ),
    (TypeError, "logits must be floating point, got torch.bool", lambda: gumbel_gate(G, L.bool())),
    (TypeError, "logits must be a tensor, got a list", lambda: gumbel_gate(G, [0])),
    (
        ValueError,
        r"noise must be \[2, 3\] for x \[2, 3, 4, 5\], got \[1, 3\]",
        lambda: gumbel_gate(G, L, V[:1]),
    ),
    (ValueError, "logits must be on cpu like x, got meta", lambda: gumbel_gate(G, L.to("meta"))),
    (ValueError, "noise must be on cpu like x, got meta", lambda: gumbel_gate(G, L, V.to("meta"))),
    (
        ValueError,
        "tau must be on cpu like x, got meta",
        lambda: gumbel_gate(G, L, tau=torch.ones((), device="meta")),
    ),
    (
        ValueError,
        r"tau must be \[\] for x \[2, 3, 4, 5\], got \[1\]",
        lambda: gumbel_gate(G, L, tau=torch.ones(1)),
    ),
    (
        TypeError,
        "tau must be floating point, got torch.int64",
        lambda: gumbel_gate(G, L, tau=torch.tensor(1)),
    ),
    *(
        (
            ValueError,
            "tau must be greater than 0 and finite in float32, got",
            lambda tau=tau: gumbel_gate(G, L, tau=tau),
        )
        for tau in (0, -1.5, math.inf, math.nan, 1e-50, 1e39, 10**400)
    ),
    *(
        (
            TypeError,
            "tau must be a number or a tensor without dimensions, got",
            lambda tau=tau: gumbel_gate(G, L, tau=tau),
        )
        for tau in (True, np.True_, "1", None, [1.0], Fraction(1, 2), np.array([0.5, 0.6]))
    ),
    (TypeError, "hard must be True or False, got 1", lambda: gumbel_gate(G, L, hard=1)),
]


@pytest.mark.parametrize(("error", "message", "call"), REFUSED, ids=[r[1] for r in REFUSED])
def test_refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=f"^gumbel_gate: .*{message}"):
        call()


def test_refused_in_a_graph() -> None:
    with pytest.raises(Exception, match="logits must be"):
        torch.compile(lambda x: gumbel_gate(x, V), fullgraph=True, backend="aot_eager")(G)
