"""logistic_noise: its law, in the middle, in the tails and in the last bits, eager and compiled."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from freqops._noise import logistic_noise

# What inductor itself calls.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
]

N = 1_000_000
FLOATING = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
Sampler = Callable[[Tensor], Tensor]


def like(x: Tensor) -> Tensor:
    """Noise of a shape that a compiler may not know."""
    return logistic_noise(x.shape, dtype=x.dtype)


def sampler(kind: str) -> Sampler:
    if kind == "eager":
        return like
    torch._dynamo.reset()
    return torch.compile(like, fullgraph=True, dynamic=kind == "dynamic", backend="inductor")


@pytest.fixture(params=["eager", "static", "dynamic"], scope="module")
def samples(request: pytest.FixtureRequest) -> Tensor:
    """(N,) float64."""
    torch.manual_seed(0)
    out = sampler(request.param)(torch.empty(1000, N // 1000, dtype=torch.float64))
    assert out.shape == (1000, N // 1000)
    return out.flatten()


def kolmogorov_smirnov(u: Tensor) -> float:
    """sqrt(n) times the largest distance between the share of u below a number in [0, 1] and that
    number. Of uniform u it exceeds d with probability 2 exp(-2 d^2)."""
    u = u.sort().values
    rank = torch.arange(len(u) + 1, dtype=torch.float64)
    above, below = rank[1:] / len(u) - u, u - rank[:-1] / len(u)
    return max(above.max().item(), below.max().item()) * math.sqrt(len(u))


LIMIT = 2.7  # exceeded with probability 1e-6


def test_law(samples: Tensor) -> None:
    """P(x <= t) = 1 / (1 + exp(-t))."""
    assert kolmogorov_smirnov(samples.sigmoid()) < LIMIT


@pytest.mark.parametrize("bits", [8, 20, 31, 32, 33, 42])
def test_last_bits(samples: Tensor, bits: int) -> None:
    """What follows the first bits of u is uniform too, down to what sigmoid leaves of it."""
    assert kolmogorov_smirnov((samples.sigmoid() * 2.0**bits).frac()) < LIMIT


def test_all_differ(samples: Tensor) -> None:
    """Of 2^52 numbers; of 2^32 numbers 116 would come twice."""
    assert samples.unique().numel() == N


@pytest.mark.parametrize("t", [2.0, 5.0, 8.0])
def test_tails(samples: Tensor, t: float) -> None:
    """Each holds N / (1 + e^t) samples, 335 for t = 8, within five standard deviations."""
    want = N / (1 + math.exp(t))
    for tail in (samples > t, samples < -t):
        assert abs(tail.sum().item() - want) < 5 * math.sqrt(want)


@pytest.mark.parametrize("dtype", FLOATING)
def test_extremes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact log(u / (1 - u)) of the first, the last and the middle k."""
    last = 2**52 - 1
    numbers = [0, 1, 2, 1000, 2**51 - 1, 2**51, last - 1000, last - 2, last - 1, last]
    seen: list[tuple[object, ...]] = []

    def randint(*arguments: object, **options: object) -> Tensor:
        seen.append(arguments)
        return torch.tensor(numbers)

    monkeypatch.setattr(torch, "randint", randint)
    got = logistic_noise((10,), dtype=dtype)
    assert seen == [(0, last + 1, [10])]
    exact = [math.log(Fraction(2 * k + 1, 2 * last + 1 - 2 * k)) for k in numbers]
    want = torch.tensor(exact, dtype=torch.float64)
    assert want[0] == -36.7368005696771
    torch.testing.assert_close(got, want.to(dtype), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", FLOATING)
def test_is_rounded_from_float64(dtype: torch.dtype) -> None:
    got = logistic_noise((4, 5), generator=torch.Generator().manual_seed(3), dtype=dtype)
    want = logistic_noise((4, 5), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert got.dtype == dtype
    assert torch.equal(got, want.to(dtype))
    assert got.isfinite().all()


@pytest.mark.parametrize("kind", ["eager", "static", "dynamic"])
def test_repeats_after_the_same_seed(kind: str) -> None:
    draw, x = sampler(kind), torch.empty(3, 64)
    torch.manual_seed(7)
    first, second = draw(x), draw(x)
    torch.manual_seed(7)
    assert torch.equal(draw(x), first)
    assert torch.equal(draw(x), second)
    torch.manual_seed(8)
    assert not torch.equal(draw(x), first)
    assert not torch.equal(first, second)


def test_generator() -> None:
    """Its own numbers: the default generator is left alone."""
    generator = torch.Generator().manual_seed(5)
    before = torch.get_rng_state()
    first, second = (logistic_noise((64,), generator=generator) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, second)
    again = logistic_noise((64,), generator=generator.manual_seed(5), device="cpu")
    assert torch.equal(again, first)


def test_a_generator_is_not_lost_in_a_graph() -> None:
    """Dynamo takes none: an error, no other noise."""
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(5)

    def draw(x: Tensor) -> Tensor:
        return logistic_noise(x.shape, generator=generator)

    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(draw, fullgraph=True, backend="eager")(torch.empty(3))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), [4, 2], torch.Size([2, 3])])
def test_shapes(shape: tuple[int, ...]) -> None:
    assert logistic_noise(shape).shape == torch.Size(shape)


def test_defaults() -> None:
    out = logistic_noise((3,))
    assert (out.dtype, out.device.type, out.requires_grad) == (torch.float32, "cpu", False)
    torch.set_default_dtype(torch.float64)
    try:
        assert logistic_noise((3,)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert logistic_noise((3,)).device.type == "meta"
        generator = torch.Generator("cpu").manual_seed(0)
        assert logistic_noise((3,), generator=generator).device.type == "cpu"
        assert logistic_noise((3,), device="cpu").device.type == "cpu"
    assert logistic_noise((3,), device=torch.device("meta")).device.type == "meta"


class Devices(TorchDispatchMode):
    """Where each operator computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, str] = {}

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Tensor:
        out: Tensor = func(*args, **(kwargs or {}))
        self.seen[func.overloadpacket.__name__] = out.device.type
        return out


def test_is_drawn_on_the_cpu_for_mps() -> None:
    """Which has no float64; and torch on this machine no MPS, so that the last step fails."""
    devices = Devices()
    with contextlib.suppress(RuntimeError), FakeTensorMode(), devices:
        assert logistic_noise((3,), device="mps").device.type == "mps"
    assert devices.seen["randint"] == devices.seen["logit"] == "cpu"
    devices = Devices()
    with devices:
        logistic_noise((3,), device="meta")
    assert devices.seen["randint"] == devices.seen["logit"] == "meta", "nowhere else"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("kind", ["eager", "static", "dynamic"])
def test_on_a_gpu(kind: str) -> None:
    torch._dynamo.reset()

    def draw(x: Tensor) -> Tensor:
        return logistic_noise(x.shape, device=x.device, dtype=x.dtype)

    f = draw if kind == "eager" else torch.compile(draw, fullgraph=True, dynamic=kind == "dynamic")
    x = torch.empty(1000, N // 1000, dtype=torch.float64, device="cuda")
    torch.manual_seed(0)
    got = f(x)
    torch.manual_seed(0)
    assert torch.equal(f(x), got)
    for bits in (0, 20, 32, 42):
        u = got.flatten().cpu().sigmoid()
        assert kolmogorov_smirnov((u * 2.0**bits).frac()) < LIMIT
    assert got.unique().numel() == N
    generator = torch.Generator("cuda").manual_seed(1)
    for device in (None, "cuda", generator.device):
        first = logistic_noise((5,), generator=generator.manual_seed(1), device=device)
        assert first.device == generator.device
        assert torch.equal(first, logistic_noise((5,), generator=generator.manual_seed(1)))
    with pytest.raises(ValueError, match="generator must be of cuda"):
        logistic_noise((5,), generator=torch.Generator(), device="cuda")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": 3}, TypeError, "shape must be a tuple or list of integers, got 3"),
        ({"shape": "23"}, TypeError, "shape must be a tuple or list of integers, got '23'"),
        ({"shape": torch.ones(2)}, TypeError, "shape must be .* of integers, got a Tensor"),
        ({"shape": (2, 3.0)}, TypeError, "shape must hold integers, got 3.0"),
        ({"shape": (True,)}, TypeError, "shape must hold integers, got True"),
        ({"shape": (2, -3)}, ValueError, r"shape must hold no negative size, got \[2, -3\]"),
        (
            {"dtype": torch.int64},
            ValueError,
            "dtype must be one of float32, float64, float16, bfloat16, got torch.int64",
        ),
        ({"dtype": torch.complex64}, ValueError, "dtype must be .*, got torch.complex64"),
        ({"dtype": "half"}, TypeError, "dtype must be a torch.dtype, got 'half'"),
        ({"generator": 5}, TypeError, "generator must be a torch.Generator or None, got 5"),
        (
            {"generator": torch.Generator(), "device": "meta"},
            ValueError,
            "generator must be of meta, where the noise is drawn, got cpu",
        ),
    ],
)
def test_refused_arguments(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^logistic_noise: {message}$"):
        logistic_noise(**{"shape": (2,)} | arguments)
