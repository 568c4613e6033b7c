"""ChannelGate: the paper's five tensors, sampling, temperature, fixed gates, released weights."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support import cuda_graph_of
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from freqops import reference
from freqops._noise import logistic_noise
from freqops.channels import ChannelSelection
from freqops.nn import ChannelGate, FrequencyTransform

# What inductor and export themselves call.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
]

KINDS = ["bernoulli", "se", "double"]
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
GATE_KEYS = [
    "squeeze.weight",
    "squeeze.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
    "logits.weight",
    "logits.bias",
]
SE_KEYS = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def features(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def trained(kind: str = "bernoulli", channels: int = 24, **options: object) -> ChannelGate:
    """Parameters and statistics as training might leave them: every picture has its own gate."""
    module = ChannelGate(channels, kind, reduction=4, **options)
    with torch.no_grad():
        for name, values in module.named_parameters():
            spread = 3.0 if name == "logits.weight" else 0.5
            values.add_(torch.randn_like(values), alpha=spread)
    if kind != "se":
        with torch.no_grad():
            module.logits.bias.normal_()
        module.norm.running_mean.normal_(0, 0.1)
        module.norm.running_var.uniform_(0.5, 2)
    return module


class ByHand(nn.Module):
    """Tensors 1 to 5 in plain PyTorch, as the text has them: over a ChannelGate's own weights."""

    def __init__(self, module: ChannelGate) -> None:
        super().__init__()
        self.module = module

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = self.module
        pooled = F.adaptive_avg_pool2d(x, 1)
        squeezed = F.conv2d(pooled, m.squeeze.weight, m.squeeze.bias)
        over = (0, 2, 3)
        mean = squeezed.mean(over) if m.training else m.norm.running_mean
        var = squeezed.var(over, unbiased=False) if m.training else m.norm.running_var
        normal = (squeezed - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        hidden = (normal * m.norm.weight[:, None, None] + m.norm.bias[:, None, None]).relu()
        hidden = hidden.flatten(1)
        weight, bias = m.logits.weight.view(-1, 2), m.logits.bias.view(-1, 2)
        return pooled.flatten(1), hidden, hidden[..., None] * weight + bias

    def se(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = self.module
        pooled = x.mean((2, 3))
        hidden = (pooled @ m.fc1.weight.flatten(1).T + m.fc1.bias).relu()
        return pooled, hidden, hidden @ m.fc2.weight.flatten(1).T + m.fc2.bias


def test_the_papers_size() -> None:
    module = ChannelGate()
    assert module.channels == ChannelSelection.all()
    assert sum(p.numel() for p in module.parameters()) == 38_208
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert shapes == {
        "squeeze.weight": (192, 192, 1, 1),
        "squeeze.bias": (192,),
        "norm.weight": (192,),
        "norm.bias": (192,),
        "logits.weight": (384, 1, 1, 1),
        "logits.bias": (384,),
    }


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("bernoulli", GATE_KEYS), ("se", SE_KEYS), ("double", GATE_KEYS + SE_KEYS)],
)
def test_state_dict_names(kind: str, keys: list[str]) -> None:
    module = ChannelGate(24, kind)
    if kind != "se":
        module.forced = ChannelSelection([0])
    assert list(module.state_dict()) == keys


@pytest.mark.parametrize(
    ("channels", "reduction", "few"), [(192, 16, 12), (192, 4, 48), (24, 16, 1), (6, 16, 1)]
)
def test_reduction(channels: int, reduction: int, few: int) -> None:
    module = ChannelGate(channels, "se", reduction)
    assert module.fc1.weight.shape == (few, channels, 1, 1)
    assert module.fc2.weight.shape == (channels, few, 1, 1)


@pytest.mark.parametrize("channels", [24, 10, [130, 5, 5], ChannelSelection.learned(24), None])
def test_channels(channels: int | list[int] | ChannelSelection | None) -> None:
    module = ChannelGate(channels)
    assert module.channels == ChannelSelection.of(channels)
    c = len(module.channels)
    y, gate = module(features(2, c, 3, 3))
    assert y.shape == (2, c, 3, 3) and gate.shape == (2, c)


def test_initial_values() -> None:
    module = ChannelGate()
    weight = module.squeeze.weight
    assert abs(weight.std().item() / math.sqrt(2 / 192) - 1) < 0.02  # Kaiming, fan-out 192
    assert abs(weight.mean().item()) < 0.002
    assert (module.squeeze.bias == 0).all()
    assert (module.norm.weight == 1).all() and (module.norm.bias == 0).all()
    assert abs(module.logits.weight.std().item() / 0.001 - 1) < 0.15
    assert (module.logits.bias[0::2] == 0.1).all() and (module.logits.bias[1::2] == 2.0).all()
    _, _, _, logits, _ = module.eval().tensors(features(64, 192, 2, 2))["gate"]
    p = (logits[..., 1] - logits[..., 0]).sigmoid()
    assert (p - 0.870).abs().max() < 0.005
    assert module(features(4, 192, 2, 2))[1].all(), "all open without noise"
    gate = module.train()(features(512, 192, 2, 2))[1]
    assert abs(gate.mean().item() - 0.870) < 0.004  # 98,304 samples: a standard deviation of 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_reset_parameters(kind: str) -> None:
    module = ChannelGate(24, kind)

    def reset() -> dict[str, Tensor]:
        torch.manual_seed(5)
        module.reset_parameters()
        return {name: values.clone() for name, values in module.state_dict().items()}

    want = reset()
    for values in module.state_dict().values():
        values.fill_(7)
    got = reset()
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert not any((values == 7).any() for values in got.values())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_five_tensors(kind: str, training: bool) -> None:
    module = trained(kind, dtype=torch.float64).train(training)
    x = features(8, 24, 5, 6, dtype=torch.float64)
    noise = logistic_noise((8, 24), dtype=torch.float64) if training else None
    by_hand, want = ByHand(module), {}
    y = x
    if kind != "bernoulli":
        pooled, hidden, w = by_hand.se(x)
        y = x * w.sigmoid()[..., None, None]
        want["se"] = (x, pooled, hidden, w, y)
        gate = w.sigmoid()
    if kind != "se":
        pooled, hidden, logits = by_hand.gate(x)
        z = logits[..., 1] - logits[..., 0] + (0 if noise is None else noise)
        gate = (z > 0).double()
        y = y * gate[..., None, None]
        want = {"gate": (x, pooled, hidden, logits, y)} | want
        assert 0.2 < gate.mean() < 0.8, "nothing to see"
    got = module.tensors(x, noise=noise)
    assert list(got) == list(want)
    for name, tensors in want.items():
        assert got[name][0] is x
        torch.testing.assert_close(got[name], tensors, rtol=1e-9, atol=1e-9)
    out = module(x, noise=noise)
    torch.testing.assert_close(out, (y, gate), rtol=1e-9, atol=1e-9)


def test_is_gumbel_gate() -> None:
    module = trained()
    x, noise = features(8, 24, 3, 4), logistic_noise((8, 24))
    *_, logits, y = module.tensors(x, noise=noise)["gate"]
    want_y, want_gate = reference.gumbel_gate(x, logits, noise)
    assert torch.equal(y, want_y)
    module.norm.reset_running_stats()
    y, gate = module(x, noise=noise)
    assert torch.equal(y, want_y)
    assert torch.equal(gate, want_gate)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_deterministic(kind: str) -> None:
    module, x = trained(kind).eval(), features(8, 24, 3, 4)
    before = torch.get_rng_state()
    first, second = module(x), module(x)
    assert torch.equal(torch.get_rng_state(), before), "no noise is drawn"
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_when_it_samples() -> None:
    module, x = trained(), features(8, 24, 3, 4)

    def samples(**options: object) -> bool:
        results = [module(x, **options)[1] for _ in range(8)]
        return any(not torch.equal(result, results[0]) for result in results)

    assert samples() and samples(sample=True) and not samples(sample=False)
    module.eval()
    assert not samples() and samples(sample=True) and not samples(sample=False)
    noise = logistic_noise((8, 24))
    assert not samples(noise=noise)
    likelier = module(x)[1]
    assert not torch.equal(module(x, noise=noise)[1], likelier), "noise counts in evaluation too"
    assert torch.equal(module(x, noise=noise, sample=True)[1], module(x, noise=noise)[1])
    assert torch.equal(module(x, noise=torch.zeros(8, 24))[1], likelier)


def test_how_often_it_is_open() -> None:
    """sigmoid(on - off), within five standard deviations for each channel."""
    module = ChannelGate(6).train()
    wanted = torch.tensor([0.003, 0.1, 0.5, 0.7, 0.99, 0.999])
    with torch.no_grad():
        module.logits.weight.zero_()
        module.logits.bias[0::2] = 0.3
        module.logits.bias[1::2] = wanted.logit() + 0.3
    n = 40_000
    for tau in (1.0, 0.1):  # which has no say in it
        module.tau = tau
        gate = module(features(n, 6, 1, 1))[1]
        assert set(gate.unique().tolist()) == {0.0, 1.0}
        bound = 5 * (wanted * (1 - wanted) / n).sqrt()
        assert ((gate.mean(0) - wanted).abs() < bound).all()


@pytest.mark.parametrize("tau", [1.0, 0.3, 5.0])
def test_gradients_are_those_of_gumbel_softmax(tau: float) -> None:
    module = trained(dtype=torch.float64, tau=tau)
    x = features(8, 24, 3, 4, dtype=torch.float64).requires_grad_()
    grad = features(8, 24, 3, 4, dtype=torch.float64).flip(0)
    of_gate = features(8, 24, dtype=torch.float64).cos()
    wanted = [x, *module.parameters()]

    *_, logits, _ = module.tensors(x, sample=False)["gate"]
    torch.manual_seed(3)
    hard = F.gumbel_softmax(logits, tau=float(torch.tensor(tau)), hard=True)
    loss = (x * hard[..., 1, None, None] * grad).sum() + (hard[..., 1] * of_gate).sum()
    want = torch.autograd.grad(loss, wanted)

    torch.manual_seed(3)  # the two samples that gumbel_softmax drew
    gumbel = -torch.empty_like(logits, memory_format=torch.legacy_contiguous_format)
    gumbel = -(-gumbel).exponential_().log()
    y, gate = module(x, noise=gumbel[..., 1] - gumbel[..., 0])
    torch.testing.assert_close(gate, hard[..., 1], rtol=0, atol=1e-9)
    assert 0.2 < gate.mean() < 0.8
    got = torch.autograd.grad((y * grad).sum() + (gate * of_gate).sum(), wanted)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["se", "double"])
def test_gradients_of_the_other_kinds(kind: str) -> None:
    module = trained(kind, dtype=torch.float64).eval()
    x = features(8, 24, 3, 4, dtype=torch.float64).requires_grad_()
    noise = logistic_noise((8, 24), dtype=torch.float64)
    wanted = [x, *module.parameters()]
    by_hand = ByHand(module)
    want_y = x * by_hand.se(x)[-1].sigmoid()[..., None, None]
    if kind == "double":
        logits = by_hand.gate(x)[-1]
        z = logits[..., 1] - logits[..., 0] + noise
        hard = (z > 0).double() + z.sigmoid() - z.sigmoid().detach()
        want_y = want_y * hard[..., None, None]
    want = torch.autograd.grad(want_y.sin().sum(), wanted)
    got = torch.autograd.grad(module(x, noise=noise)[0].sin().sum(), wanted)
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-9)


def test_tau_is_a_property() -> None:
    module = ChannelGate(6, tau=0.7)
    assert module.tau == 0.7, "as it was set, not as float32 has it"
    buffer = dict(module.named_buffers())["_tau"]
    assert buffer.shape == () and buffer.dtype == torch.float32
    assert torch.equal(buffer, torch.tensor(0.7))
    module.tau = 3
    assert module.tau == 3.0 and type(module.tau) is float
    assert dict(module.named_buffers())["_tau"] is buffer, "in place"
    assert buffer.item() == 3.0
    module.tau = torch.tensor(0.25)
    assert module.tau == 0.25


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "greater than 0 and finite in float32, got 0"),
        (-1.0, ValueError, "got -1.0"),
        (float("inf"), ValueError, "got inf"),
        (float("nan"), ValueError, "got nan"),
        (1e-50, ValueError, "got 1e-50"),
        (1e50, ValueError, r"got 1e\+50"),
        (True, TypeError, "tau must be a number or a tensor without dimensions, got True"),
        ("1", TypeError, "got '1'"),
        (None, TypeError, "got None"),
        (torch.ones(2), TypeError, "got a Tensor"),
    ],
)
def test_tau_is_checked(value: float, error: type[Exception], message: str) -> None:
    module = ChannelGate(6, tau=0.5)
    with pytest.raises(error, match=f"^ChannelGate: .*{message}"):
        module.tau = value
    assert module.tau == 0.5
    assert module.get_buffer("_tau").item() == 0.5
    with pytest.raises(error, match=message):
        ChannelGate(6, tau=value)


def gradients(
    f: Callable[..., tuple[Tensor, Tensor]], module: nn.Module, x: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y, gate = f(x, noise=noise)
    loss = y.sin().sum() + (gate * torch.linspace(-1, 1, gate.shape[1])).sum()
    return y.detach(), gate.detach(), *torch.autograd.grad(loss, [x, *module.parameters()])


def test_a_schedule_compiles_once() -> None:
    module, x, noise = trained(), features(8, 24, 3, 4), logistic_noise((8, 24))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    seen = []
    for step in range(14):
        module.tau = 5.0 * 0.7**step
        got = gradients(compiled, module, x, noise)
        torch.testing.assert_close(got, gradients(module, module, x, noise))
        seen.append(got[-1])
    assert counter.frame_count == 1
    assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in itertools.pairwise(seen))


def test_tau_between_forward_and_backward_is_an_error() -> None:
    module, x = trained(tau=0.5), features(8, 24, 3, 4)
    y, _ = module(x)
    module.tau = 0.4
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("kind", ["bernoulli", "double"])
@pytest.mark.parametrize("training", [False, True])
def test_forced(kind: str, training: bool) -> None:
    """Wherever the gate itself would open or close."""
    channels = ChannelSelection([5, 0, 70, 5, 191])
    module = trained(kind, channels).train(training)
    x, noise = features(16, 5, 3, 4), logistic_noise((16, 5)) * 3
    own = module(x, noise=noise)[1]
    assert module.forced is None
    module.forced = ChannelSelection([191, 5])
    assert module.forced == ChannelSelection([191, 5])
    excited = module.tensors(x)["se"][-1] if kind == "double" else x
    want = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    for options in ({}, {"sample": True}, {"noise": noise}):
        y, gate = module(x, **options)
        assert torch.equal(gate, want.expand(16, 5))
        assert torch.equal(y, excited * want[:, None, None])
    module.forced = ChannelSelection([0])
    assert torch.equal(module(x)[1], torch.tensor([0.0, 1, 0, 0, 0]).expand(16, 5))
    module.forced = None
    assert torch.equal(module(x, noise=noise)[1], own)
    assert (own != want).any(0).all(), "nothing to force"


def test_forced_passes_no_gradient_to_the_gate() -> None:
    module, x = trained(), features(8, 24, 3, 4).requires_grad_()
    module.forced = ChannelSelection([0, 64])
    y, gate = module(x)
    (y.sum() + gate.sum()).backward()
    assert all(p.grad is None for p in module.parameters())
    open_ = torch.tensor([c in (0, 64) for c in module.channels])
    assert x.grad is not None
    assert torch.equal(x.grad, open_[:, None, None].float().expand(8, 24, 3, 4))


def test_forced_hides_what_is_not_finite() -> None:
    module, x = trained(), features(8, 24, 3, 4)
    x[:, 3] = math.nan
    module.forced = ChannelSelection(module.channels.indices[:3])
    y, _ = module(x)
    assert torch.equal(y[:, :3], x[:, :3]) and (y[:, 3:] == 0).all()


def test_tensors_of_a_forced_gate() -> None:
    """Its own logits, and what came of the others."""
    module, x = trained().eval(), features(8, 24, 3, 4)
    own = module.tensors(x)["gate"]
    module.forced = ChannelSelection([0])
    got = module.tensors(x)["gate"]
    for mine, tensor in zip(own[:4], got[:4], strict=True):
        assert torch.equal(mine, tensor)
    assert torch.equal(got[4], module(x)[0])
    assert not torch.equal(got[4], own[4])


@pytest.mark.parametrize(
    ("kind", "value", "error", "message"),
    [
        (
            "bernoulli",
            24,
            TypeError,
            r"forced must be a ChannelSelection or None, got 24 \(ChannelSelection.of makes one",
        ),
        ("bernoulli", [0], TypeError, "forced must be .*, got a list"),
        (
            "double",
            ChannelSelection([0, 6, 63]),
            ValueError,
            r"forced must hold channels of the gate, got \[6, 63\] besides",
        ),
        (
            "se",
            ChannelSelection([0]),
            ValueError,
            'forced must be None for kind "se", which closes no channel, got Chan',
        ),
    ],
)
def test_forced_is_checked(
    kind: str, value: ChannelSelection, error: type[Exception], message: str
) -> None:
    module = ChannelGate(24, kind)
    with pytest.raises(error, match=f"^ChannelGate: {message}"):
        module.forced = value
    assert module.forced is None
    module.forced = None


@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind: str) -> None:
    module = trained(kind, tau=0.3).eval()
    if kind != "se":
        module.forced = ChannelSelection([0, 64])
    x, file = features(4, 24, 3, 4), io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ):
        assert repr(twin) == repr(module)
        assert (twin.tau, twin.forced, twin.channels) == (0.3, module.forced, module.channels)
        assert torch.equal(twin(x)[0], module(x)[0])
        twin.tau = 0.9
        if kind != "se":
            twin.forced = ChannelSelection([1])
            assert not torch.equal(twin(x)[0], module(x)[0])
        assert module.get_buffer("_tau") == torch.tensor(0.3), "nothing is shared"


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_round_trip(kind: str) -> None:
    module, other = trained(kind).eval(), trained(kind, tau=0.5).eval()
    x = features(4, 24, 3, 4)
    assert not torch.equal(other(x)[0], module(x)[0])
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x)[0], module(x)[0])
    assert other.tau == 0.5, "a setting, not a weight"


MOVES = [
    nn.Module.half,
    nn.Module.bfloat16,
    nn.Module.double,
    lambda module: module.to(torch.float16),
    lambda module: module.to("cpu", torch.bfloat16),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("move", MOVES)
def test_dtypes(move: Callable[[nn.Module], nn.Module], kind: str) -> None:
    network = nn.Sequential(trained(kind, tau=0.3))
    assert move(network) is network
    module = network[0]
    dtype = next(module.parameters()).dtype
    assert dtype != torch.float32
    assert all(p.dtype == dtype for p in module.parameters())
    tau = module.get_buffer("_tau")
    assert tau.dtype == torch.float32 and tau == torch.tensor(0.3)
    x = features(8, 24, 3, 4, dtype=dtype)
    y, gate = module(x)
    assert y.dtype == gate.dtype == dtype
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    if kind != "se":
        module.forced = ChannelSelection([0])
        assert module(x)[1].dtype == dtype
        assert move(network)[0](x)[1].sum() == 8


def test_made_with_device_and_dtype() -> None:
    for kind in KINDS:
        module = ChannelGate(24, kind, device="meta", dtype=torch.float16)
        assert all(p.device.type == "meta" for p in module.parameters())
        assert all(p.dtype == torch.float16 for p in module.parameters())
        assert module.get_buffer("_tau").device.type == "meta"
        assert "kind" in repr(module) and module.tau == 1.0
        y, gate = module(torch.empty(4, 24, 3, 4, device="meta", dtype=torch.float16))
        assert y.device.type == gate.device.type == "meta"


@pytest.mark.parametrize("start", ["meta", "cpu"])
def test_to_empty_keeps_settings(start: str) -> None:
    """The buffers have nothing to load them from: they are written anew."""
    module = ChannelGate(24, tau=0.3, device=start)
    module.forced = ChannelSelection([0, 64])
    module = module.to_empty(device="cpu")
    module.load_state_dict(trained().state_dict())
    assert module.get_buffer("_tau") == torch.tensor(0.3)
    gate = module.eval()(features(2, 24, 3, 4))[1]
    assert torch.equal(gate.sum(0).nonzero().flatten(), torch.tensor([0, 16]))


def test_made_on_another_default_device() -> None:
    with torch.device("meta"):
        module = ChannelGate(24)
        module.forced = ChannelSelection([0])
    assert module.get_buffer("_tau").device.type == "meta"
    module = module.to_empty(device="cpu")
    module.load_state_dict(trained().state_dict())
    with torch.device("meta"):
        module.forced = ChannelSelection([64])
        module.tau = 0.5
    assert module.eval()(features(2, 24, 3, 4))[1].sum() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_no_pictures(kind: str) -> None:
    module = trained(kind).eval()
    y, gate = module(torch.empty(0, 24, 3, 4))
    assert y.shape == (0, 24, 3, 4) and gate.shape == (0, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_is_kept(kind: str) -> None:
    module = trained(kind, dtype=torch.float64).eval()
    x = features(4, 24, 5, 6, dtype=torch.float64)
    noise = logistic_noise((4, 24), dtype=torch.float64)
    last = x.contiguous(memory_format=torch.channels_last)
    y, gate = module(last, noise=noise)
    assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    assert module(x, noise=noise)[0].is_contiguous()
    torch.testing.assert_close((y, gate), module(x, noise=noise))
    want = gradients(module, module, x, noise)
    torch.testing.assert_close(gradients(module, module, last, noise), want)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind: str) -> None:
    """Logits are of the autocast type; sampling and features are as exact as without."""
    module, x = trained(kind), features(8, 24, 5, 6).requires_grad_()
    noise = logistic_noise((8, 24))
    with torch.autocast("cpu", torch.bfloat16):
        y, gate = module(x, noise=noise)
        tensors = module.tensors(x, noise=noise)
    assert y.dtype == torch.float32 and gate.dtype == torch.bfloat16
    assert all(five[3].dtype == torch.bfloat16 for five in tensors.values())
    if kind == "bernoulli":
        want = reference.gumbel_gate(x, tensors["gate"][3].float(), noise)
        torch.testing.assert_close((y, gate.float()), want)
    (y.sum() + gate.float().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())
    module.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x)[1].dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_noise_is_not_rounded_to_half(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.dtype | None] = []

    def spy(shape: tuple[int, ...], **options: torch.dtype | None) -> Tensor:
        drawn.append(options["dtype"])
        return logistic_noise(shape, **options)

    monkeypatch.setattr("freqops._channel_gate.logistic_noise", spy)
    assert ChannelGate(24, dtype=dtype)(features(4, 24, 3, 3, dtype=dtype))[1].dtype == dtype
    assert drawn == [torch.float64 if dtype == torch.float64 else torch.float32]


@DYNAMIC
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_compile(kind: str, training: bool, dynamic: bool) -> None:
    module = trained(kind).train(training)
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in ((4, 24, 5, 6), (7, 24, 3, 4)):
        x, noise = features(*size), logistic_noise(size[:2])
        got = gradients(compiled, module, x, noise)
        torch.testing.assert_close(got, gradients(module, module, x, noise))
    if not training:
        torch.testing.assert_close(compiled(x), module(x))
    elif kind != "se":
        torch.manual_seed(4)
        first, other = compiled(x)[1], compiled(x)[1]
        torch.manual_seed(4)
        assert torch.equal(compiled(x)[1], first)
        assert not torch.equal(first, other)


@DYNAMIC
def test_inductor(dynamic: bool) -> None:
    module = trained()
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="inductor")
    x, noise = features(7, 24, 3, 4), logistic_noise((7, 24))
    got = gradients(compiled, module, x, noise)
    torch.testing.assert_close(got, gradients(module, module, x, noise))
    fresh_module = ChannelGate(24)
    compiled = torch.compile(fresh_module, fullgraph=True, dynamic=dynamic, backend="inductor")
    gate = compiled(features(4096, 24, 1, 1))[1]
    assert abs(gate.mean().item() - 0.870) < 0.005  # 98,304 samples drawn in the graph


def test_forced_in_a_graph() -> None:
    """One graph for all selections."""
    module, x = trained(), features(8, 24, 3, 4)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    for channels in ([0], [64, 1], [128]):
        module.forced = ChannelSelection(channels)
        torch.testing.assert_close(compiled(x), module(x))
        assert compiled(x)[1].sum() == 8 * len(channels)
    assert counter.frame_count == 1
    module.forced = None
    noise = logistic_noise((8, 24))
    torch.testing.assert_close(compiled(x, noise=noise), module(x, noise=noise))


@pytest.mark.parametrize("kind", KINDS)
def test_export(kind: str) -> None:
    module = trained(kind).eval()
    shapes = {"x": {0: torch.export.Dim("n", max=64)}}
    x = features(4, 24, 5, 6)
    program = torch.export.export(module, (x,), dynamic_shapes=shapes)
    assert "freqops.gumbel_gate.default" in [str(n.target) for n in program.graph.nodes]
    x = features(9, 24, 5, 6)
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu(kind: str) -> None:
    module = trained(kind, tau=0.3)
    x, noise = features(8, 24, 5, 6), logistic_noise((8, 24))
    want = module(x, noise=noise)
    module.cuda()
    y, gate = module(x.cuda(), noise=noise.cuda())
    torch.testing.assert_close((y.cpu(), gate.cpu()), want, rtol=1e-4, atol=1e-4)
    assert module(x.cuda())[1].device.type == "cuda"
    if kind != "se":
        module.forced = ChannelSelection([0])
        assert module(x.cuda())[1].sum() == 8
        module.cpu()
        assert module(x)[1].sum() == 8


def test_a_meta_module_that_is_assigned_weights() -> None:
    module = ChannelGate(24, tau=0.7, device="meta")
    module.forced = ChannelSelection([0, 64])
    module.load_state_dict(ChannelGate(24).state_dict(), assign=True)
    assert module(features(2, 24, 4, 4))[1].sum() == 4
    assert module._tau.item() == pytest.approx(0.7)
    module.forced = None
    assert module.eval()(features(2, 24, 4, 4))[1].sum() == 48


def test_what_is_set_in_inference_mode_serves_training() -> None:
    module = ChannelGate(24)
    with torch.inference_mode():
        module.tau, module.forced = 0.5, ChannelSelection([0])
    module.tau, module.forced = 0.7, ChannelSelection([1, 64])
    x = features(2, 24, 4, 4).requires_grad_()
    y, gate = module(x)
    assert gate.sum() == 4
    y.sum().backward()
    module.forced = None
    module(x)[1].sum().backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cuda_graph() -> None:
    """tau, a forced selection and the noise follow a graph that was captured before."""
    module = trained().cuda().eval()
    x = features(8, 24, 5, 6).cuda().requires_grad_()
    noise = logistic_noise((8, 24), device="cuda")
    wanted = [x, *module.parameters()]

    def step() -> tuple[Tensor, ...]:
        y, gate = module(x, noise=noise)
        return y, gate, *torch.autograd.grad(y.sin().sum(), wanted)

    graph, results = cuda_graph_of(step)
    before = None
    for tau in (1.0, 0.3, 4.0):
        module.tau = tau
        noise.copy_(logistic_noise((8, 24), device="cuda"))
        graph.replay()
        torch.testing.assert_close(results, step())
        assert before is None or not torch.allclose(results[-1], before)
        before = results[-1].clone()

    module.forced = ChannelSelection([0])
    graph, results = cuda_graph_of(lambda: module(x))
    for channels in ([0], [64, 1]):
        module.forced = ChannelSelection(channels)
        graph.replay()
        assert results[1].sum() == 8 * len(channels)


def test_extra_repr() -> None:
    module = ChannelGate(24, "double", tau=0.5)
    module.forced = ChannelSelection([0, 1])
    assert module.extra_repr() == (
        "channels=24 (Y 16, Cb 4, Cr 4), kind='double', tau=0.5, forced=2 channels"
    )
    assert ChannelGate().extra_repr() == (
        "channels=192 (Y 64, Cb 64, Cr 64), kind='bernoulli', tau=1"
    )


def test_behind_the_transform() -> None:
    """Pictures to gated coefficients, and a gradient to the pictures through both."""
    network = nn.Sequential(FrequencyTransform(24), trained())
    images = torch.rand(4, 3, 32, 40, requires_grad=True)
    y, gate = network(images)
    assert y.shape == (4, 24, 4, 5)
    assert ((y == 0).all(3).all(2) == (gate == 0)).all()
    y.sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ChannelGate(0), ValueError, r"channels must lie in \[1, 192\], got 0"),
        (lambda: ChannelGate([192]), ValueError, r"must lie in \[0, 192\), got 192"),
        (
            lambda: ChannelGate(24, "soft"),
            ValueError,
            "ChannelGate: kind must be one of 'bernoulli', 'se', 'double', got 'soft'",
        ),
        (lambda: ChannelGate(24, None), TypeError, "ChannelGate: kind must be .*, got None"),
        (
            lambda: ChannelGate(24, reduction=0),
            ValueError,
            "ChannelGate: reduction must be at least 1, got 0",
        ),
        (
            lambda: ChannelGate(24, reduction=2.0),
            TypeError,
            "ChannelGate: reduction must be an integer, got 2.0",
        ),
        (
            lambda: ChannelGate(24)(features(2, 23, 4, 4)),
            ValueError,
            r"x must be \[N, 24, H, W\] with H and W at least 1, got \[2, 23, 4, 4\]",
        ),
        (lambda: ChannelGate(24)(features(24, 4, 4)), ValueError, r"got \[24, 4, 4\]"),
        (lambda: ChannelGate(24)(features(2, 24, 0, 4)), ValueError, r"got \[2, 24, 0, 4\]"),
        (lambda: ChannelGate(24)([1.0]), TypeError, "x must be a tensor, got a list"),
        (
            lambda: ChannelGate(24)(torch.zeros(2, 24, 4, 4, dtype=torch.int32)),
            TypeError,
            "ChannelGate: x must be floating point, got torch.int32",
        ),
        (
            lambda: ChannelGate(24)(features(2, 24, 4, 4), noise=torch.zeros(24)),
            ValueError,
            r"noise must be \[2, 24\] for x \[2, 24, 4, 4\], got \[24\]",
        ),
        (
            lambda: ChannelGate(24)(features(2, 24, 4, 4), sample=False, noise=torch.zeros(2, 24)),
            ValueError,
            "ChannelGate: noise must be None with sample=False, got a tensor",
        ),
        (
            lambda: ChannelGate(24)(features(2, 24, 4, 4), sample="no"),
            TypeError,
            "ChannelGate: sample must be True, False or None, got 'no'",
        ),
        (
            lambda: ChannelGate(24)(features(1, 24, 4, 4)),
            ValueError,
            "more than 1 value per channel when training",
        ),
    ],
)
def test_refused_arguments(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
