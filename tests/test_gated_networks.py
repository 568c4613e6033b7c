"""Gated networks, whose gate is decided from pixels, and ChannelGate.decide."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support import CHROMA, LAYOUTS, STORED, generator, pictures
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from freqops import ChannelSelection, ChannelStatistics, block_dct, block_dct_mean, logistic_noise
from freqops.models._dense import FrequencyStem
from freqops.models._network import FrequencyNetwork
from freqops.models._surgery import make_recipe
from freqops.nn import ChannelGate, FrequencyTransform

KINDS = ["bernoulli", "se", "double"]
COUNT = 24
FUSED = ["freqops.block_dct_mean", "freqops.block_dct_gated"]


class Seen(TorchDispatchMode):
    """The names of our operators that transform pictures, in the order of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func).removesuffix(".default")
        if name.startswith("freqops.block"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def trained(kind: str = "bernoulli", dtype: torch.dtype = torch.float32) -> ChannelGate:
    """A gate in evaluation that opens a part of the channels, others in each picture."""
    torch.manual_seed(0)
    gate = ChannelGate(COUNT, kind, reduction=4)
    with torch.no_grad():
        for values in gate.parameters():
            values.copy_(torch.randn_like(values) * 0.3)
        if kind != "se":
            gate.norm.running_var.mul_(3)
    return gate.to(dtype).eval()


def network(
    kind: str = "bernoulli",
    dtype: torch.dtype = torch.float32,
    given: torch.dtype | None = None,
    **options: object,
) -> FrequencyNetwork:
    """One whose output is what its gate left: a convolution that changes nothing.

    dtype: of the layers; given: that of the transform.
    """
    layer = nn.Conv2d(COUNT, COUNT, 1, groups=COUNT, bias=False)
    nn.init.ones_(layer.weight)
    photographs = ChannelStatistics.photographs()
    transform = FrequencyTransform(COUNT, photographs, dtype=given, **options)  # type: ignore[arg-type]
    recipe = make_recipe("resnet")
    whole = FrequencyNetwork(transform, layer.to(dtype), recipe, trained(kind, dtype))
    return whole.to(dtype).eval()


def run(
    whole: FrequencyNetwork, images: Tensor, fused: bool | None, expected: bool
) -> tuple[Tensor, Tensor]:
    """Output and gate, from pixels where that is expected."""
    whole.fused_gate = fused
    with Seen() as seen, torch.no_grad():
        output, gate = whole(images)
    assert seen.names == (FUSED if expected else ["freqops.block_dct"])
    return output, gate


def smooth_pictures(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
    """Of each picture another colour and slope, so that means differ from picture to picture."""
    n, colours, height, width = shape
    draw = torch.rand(n, colours, 3, 1, 1, generator=generator(6))
    y, x = torch.linspace(0, 1, height).view(-1, 1), torch.linspace(0, 1, width)
    smooth = (draw[:, :, 0] + draw[:, :, 1] * y + draw[:, :, 2] * x) / 3
    noise = pictures(shape, torch.float32) / 8
    pixels = 0.85 * smooth + noise
    return (255 * pixels).to(dtype) if dtype == torch.uint8 else pixels.to(dtype)


def assert_alike(whole: FrequencyNetwork, images: Tensor) -> None:
    """Equal within float32 rounding wherever the logits differ by more than 1e-4."""
    (got, got_gate), (want, want_gate) = (
        run(whole, images, True, True),
        run(whole, images, False, False),
    )
    assert got.dtype == want.dtype and got_gate.dtype == want_gate.dtype
    assert got.stride() == want.stride()
    decided = torch.ones_like(want_gate, dtype=torch.bool)
    module = whole.gate
    assert module is not None
    if module.kind != "se":
        with torch.no_grad():
            x = whole.transform(images).to(want.dtype)
            logits = module.tensors(x)["gate"][3]
        if module.forced is None:
            decided = (logits[..., 1] - logits[..., 0]).abs() > 1e-4
            assert 0.1 < want_gate.mean() < 0.9
        assert torch.equal(got_gate[decided], want_gate[decided])
        assert not got[got_gate == 0].any()
    else:
        torch.testing.assert_close(got_gate, want_gate, atol=1e-4, rtol=1e-4)
    assert decided.double().mean() > 0.95
    torch.testing.assert_close(got[decided], want[decided], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(8, 8), (33, 150), (270, 90)], ids=str)
def test_network(size: tuple[int, int], kind: str, chroma: str) -> None:
    whole = network(kind, chroma=chroma)
    for layout in ("contiguous", "channels_last", "sliced"):
        assert_alike(whole, LAYOUTS[layout](smooth_pictures((9, 3, *size))))


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("form", [None, torch.channels_last], ids=str)
def test_network_dtypes(stored: torch.dtype, form: torch.memory_format | None) -> None:
    images = smooth_pictures((9, 3, 41, 67), stored)
    for dtype in (torch.float32, torch.float64):
        for given in (None, dtype):
            assert_alike(network(dtype=dtype, memory_format=form, given=given), images)


@pytest.mark.parametrize("kind", ["bernoulli", "double"])
def test_network_with_a_forced_gate(kind: str) -> None:
    whole = network(kind)
    assert whole.gate is not None
    whole.gate.forced = ChannelSelection(whole.gate.channels.indices[3:9])
    assert_alike(whole, smooth_pictures((3, 3, 40, 40)))
    assert run(whole, smooth_pictures((3, 3, 40, 40)), None, True)[1].sum(1).tolist() == [6] * 3


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_layers_decide_from_means_that_are_rounded_once(
    dtype: torch.dtype, given: bool, stored: torch.dtype
) -> None:
    whole = network(dtype=dtype, given=dtype if given else None)
    images = smooth_pictures((9, 3, 41, 67), stored)
    output, gate = run(whole, images, None, True)
    assert output.dtype == gate.dtype == dtype
    assert [x.dtype for x in run(whole, images, False, False)] == [dtype, dtype]
    settings = {"mean": whole.transform.mean, "std": whole.transform.std}
    channels = whole.transform.channels
    assert whole.gate is not None
    with torch.no_grad():
        pooled = block_dct_mean(images, channels, **settings)
        assert torch.equal(whole.gate.decide(pooled.to(dtype))[1], gate)
        x = block_dct(images, channels, **settings, dtype=dtype)
    torch.testing.assert_close(output, x * gate[..., None, None], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.float16], ids=str)
def test_layers_of_another_dtype_are_refused_alike(given: torch.dtype) -> None:
    dtype = torch.float64 if given == torch.float32 else torch.float32
    whole, images = network(dtype=dtype, given=given), smooth_pictures((3, 3, 16, 24))
    for fused in (True, False):
        whole.fused_gate = fused
        with torch.no_grad(), pytest.raises(RuntimeError, match="type"):
            whole(images)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, torch.uint8),
        (torch.float32, torch.uint8),
        (torch.float32, torch.float64),
        (torch.bfloat16, torch.float64),
    ],
    ids=str,
)
def test_autocast_of_a_network(given: torch.dtype | None, stored: torch.dtype) -> None:
    whole, images = network(given=given), smooth_pictures((9, 3, 41, 67), stored)
    assert whole.gate is not None
    with torch.autocast("cpu", torch.bfloat16):
        output, gate = run(whole, images, None, True)
        want = run(whole, images, False, False)
        assert output.dtype == want[0].dtype and gate.dtype == want[1].dtype == torch.bfloat16
        settings = {"mean": whole.transform.mean, "std": whole.transform.std}
        with torch.no_grad():
            pooled = block_dct_mean(images, whole.transform.channels, **settings)
            assert torch.equal(whole.gate.decide(pooled.to(given or pooled.dtype))[1], gate)


def hooked(whole: FrequencyNetwork) -> None:
    assert whole.gate is not None
    whole.gate.register_forward_hook(lambda *_: None)


def hooked_within(whole: FrequencyNetwork) -> None:
    assert whole.gate is not None
    whole.gate.squeeze.register_forward_pre_hook(lambda *_: None)


def hooked_transform(whole: FrequencyNetwork) -> None:
    whole.transform.register_forward_hook(lambda *_: None)


def with_a_forward_of_its_own(module: nn.Module) -> None:
    """What wrappers do that change a module in place."""
    module.forward = module.forward  # type: ignore[method-assign]


def with_a_gate_of_another_forward(whole: FrequencyNetwork) -> None:
    assert whole.gate is not None
    with_a_forward_of_its_own(whole.gate)


def with_logits_of_another_forward(whole: FrequencyNetwork) -> None:
    assert whole.gate is not None
    with_a_forward_of_its_own(whole.gate.logits)


def with_a_transform_of_another_forward(whole: FrequencyNetwork) -> None:
    with_a_forward_of_its_own(whole.transform)


class OtherGate(ChannelGate):
    pass


class OtherTransform(FrequencyTransform):
    pass


def of_another_class(whole: FrequencyNetwork) -> None:
    whole.gate = OtherGate(COUNT).eval()


def with_another_transform(whole: FrequencyNetwork) -> None:
    whole.transform = OtherTransform(COUNT).eval()


def rounded(whole: FrequencyNetwork) -> None:
    whole.transform.rounding = "jpeg"


def training(whole: FrequencyNetwork) -> None:
    whole.train()


@pytest.mark.parametrize(
    "change",
    [
        hooked,
        hooked_within,
        hooked_transform,
        with_a_gate_of_another_forward,
        with_logits_of_another_forward,
        with_a_transform_of_another_forward,
        of_another_class,
        with_another_transform,
        rounded,
        training,
    ],
    ids=lambda f: f.__name__,
)
def test_what_is_to_see_all_steps_does(change: Callable[[FrequencyNetwork], None]) -> None:
    whole, images = network(), smooth_pictures((3, 3, 16, 24))
    run(whole, images, True, True)
    change(whole)
    run(whole, images, True, False)


def test_a_hook_for_all_modules_sees_all_steps() -> None:
    whole, images = network(), smooth_pictures((3, 3, 16, 24))
    seen: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, *_: seen.append(type(module).__name__)
    )
    try:
        run(whole, images, None, False)
    finally:
        handle.remove()
    assert "ChannelGate" in seen and "FrequencyTransform" in seen


def test_only_without_a_derivative() -> None:
    whole, images = network(), smooth_pictures((3, 3, 16, 24), torch.float32)
    for wanted, expected in ((True, False), (False, True)):
        whole.requires_grad_(wanted)
        with Seen() as seen:
            whole(images)
        assert seen.names == (FUSED if expected else ["freqops.block_dct"])
    with Seen() as seen:
        whole(images.requires_grad_())
    assert seen.names == ["freqops.block_dct"]
    whole.network.requires_grad_(True)  # behind the gate
    with Seen() as seen:
        output, _ = whole(images.detach())
    assert seen.names == FUSED and output.requires_grad


def test_on_other_devices_only_if_asked() -> None:
    whole = network().to("meta")
    images = torch.empty(2, 3, 16, 24, dtype=torch.uint8, device="meta")
    run(whole, images, None, False)
    run(whole, images, False, False)
    output, gate = run(whole, images, True, True)
    assert output.shape == (2, COUNT, 2, 3) and gate.shape == (2, COUNT)


@pytest.mark.parametrize("fused", ["no", 0, 1.0])
def test_other_values_are_refused(fused: object) -> None:
    whole = network()
    whole.fused_gate = fused  # type: ignore[assignment]
    with pytest.raises(TypeError, match=f"fused_gate must be True, False or None, got {fused!r}"):
        whole(smooth_pictures((1, 3, 16, 16)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("given", ["images", "coefficients"])
def test_noise_is_the_gates(given: str, training: bool) -> None:
    """Row by row: what two processes draw together for their halves of a batch."""
    whole = network().train(training)
    module = whole.gate
    assert module is not None
    whole.gate.norm.eval()  # type: ignore[union-attr]  # rows do not see each other
    images = smooth_pictures((9, 3, 41, 67))
    x = images if given == "images" else whole.transform(images)
    noise = logistic_noise((9, COUNT), dtype=torch.float32, generator=generator())
    with torch.no_grad():
        want, want_gate = module(whole.transform(images), noise=noise)
        output, gate = whole(**{given: x}, noise=noise)
        halves = [whole(**{given: x[i]}, noise=noise[i]) for i in (slice(5), slice(5, 9))]
        still = whole(**{given: x}, noise=torch.zeros_like(noise))[1]
    torch.testing.assert_close(output, want, atol=1e-3, rtol=1e-4)
    assert torch.equal(gate, want_gate) and not torch.equal(gate, still)
    assert torch.equal(torch.cat([half[1] for half in halves]), gate)


@pytest.mark.parametrize("given", ["images", "coefficients"])
def test_noise_in_a_compiled_network(given: str) -> None:
    torch._dynamo.reset()
    whole = network().train()
    images = smooth_pictures((9, 3, 41, 67))
    x = {given: images if given == "images" else whole.transform(images)}
    compiled = torch.compile(whole, fullgraph=True, backend="aot_eager")
    for seed in (0, 1):
        noise = logistic_noise((9, COUNT), dtype=torch.float32, generator=generator(seed))
        output, gate = compiled(**x, noise=noise)
        want, want_gate = whole(**x, noise=noise)
        assert torch.equal(gate, want_gate)
        torch.testing.assert_close(output, want, atol=1e-3, rtol=1e-4)


def test_noise_that_is_none_of_the_gates() -> None:
    whole = network().train()
    images = smooth_pictures((4, 3, 16, 16))
    with pytest.raises(ValueError, match=r"noise must be \[4, 24\] for x"):
        whole(images, noise=torch.zeros(3, COUNT))
    whole.gate = None
    with pytest.raises(ValueError, match="noise must be None for a network without a gate"):
        whole(images, noise=torch.zeros(4, COUNT))


def test_pictures_that_are_none_are_named() -> None:
    with pytest.raises(TypeError, match="block_dct: images must be a tensor, got a list"):
        network()([1])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated")
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_network(kind: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    whole, images = network(kind), smooth_pictures((3, 3, 41, 67))
    names: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        names.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    with torch.no_grad():
        want = whole(images)
        compiled = torch.compile(whole, fullgraph=True, dynamic=dynamic, backend=backend)
        got = compiled(images)
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w)
        torch.testing.assert_close(compiled(images[:2, :, :20])[0].shape[2], 3)
    assert [f"{name}.default" for name in FUSED] == [n for n in names if "block" in n][:2]


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated")
def test_exported_network() -> None:
    whole, images = network(), smooth_pictures((3, 3, 16, 24))
    with torch.no_grad():
        program = torch.export.export(whole, (images,))
        for got, want in zip(program.module()(images), whole(images), strict=True):
            torch.testing.assert_close(got, want)
    targets = [str(node.target) for node in program.graph.nodes]
    assert [f"{name}.default" for name in FUSED] == [t for t in targets if "block" in t]


def test_a_stem_of_a_detector() -> None:
    torch.manual_seed(0)
    transform = FrequencyTransform(COUNT, ChannelStatistics.photographs())
    stem = FrequencyStem(transform, make_recipe("detector"), trained()).eval()
    images = smooth_pictures((3, 3, 21, 40), torch.float32)
    results = []
    for fused in (None, False):
        stem.fused_gate = fused
        with Seen() as seen, torch.no_grad():
            results.append((stem(images), stem.take()))
        assert seen.names == (["freqops.block_dct"] if fused is False else FUSED)
    (got, got_gate), (want, want_gate) = results
    assert torch.equal(got_gate, want_gate)
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-4)


# --- decide ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [None, True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_decide_is_forward_without_features(kind: str, sample: bool | None) -> None:
    gate = trained(kind)
    x = torch.randn(5, COUNT, 4, 6, generator=generator(7))
    noise = torch.randn(5, COUNT, generator=generator(8)) if sample else None
    y, want = gate(x, sample=sample, noise=noise)
    scale, got = gate.decide(x.mean((2, 3)), sample=sample, noise=noise)
    assert torch.equal(got, want) and scale.dtype == torch.float32
    torch.testing.assert_close(x * scale[..., None, None], y)
    if kind != "se":
        assert torch.equal(scale == 0, want == 0)


@pytest.mark.parametrize("watched", [False, True])
def test_logits_of_decide(watched: bool) -> None:
    """Those of the layer, which is called where a hook sees it."""
    gate, pooled = trained(), torch.randn(5, COUNT, generator=generator(7))
    calls: list[object] = []
    if watched:
        gate.logits.register_forward_hook(lambda *_: calls.append(1))
    hidden = torch.rand(5, COUNT, 1, 1, generator=generator(8))
    want = gate.logits(hidden).reshape(5, COUNT, 2)
    before = len(calls)
    torch.testing.assert_close(gate._affine(hidden).reshape(5, COUNT, 2), want)
    gate.decide(pooled)
    assert len(calls) == (before + 2 if watched else 0)


def test_logits_of_a_forward_of_their_own() -> None:
    gate, pooled = trained(), torch.randn(5, COUNT, generator=generator(7))
    before, through = gate.decide(pooled)[1], gate.logits.forward
    gate.logits.forward = lambda x: -through(x)  # type: ignore[method-assign]
    assert torch.equal(gate.decide(pooled)[1], 1 - before)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "groups": COUNT // 2},
        {"kernel_size": 3, "padding": 1, "groups": COUNT},
        {"kernel_size": 1, "groups": COUNT, "bias": False},
    ],
    ids=str,
)
def test_decide_with_other_logits(options: dict[str, int]) -> None:
    """Those of another convolution in their place, with which forward works."""
    gate, x = trained(), torch.randn(5, COUNT, 4, 6, generator=generator(7))
    gate.logits = nn.Conv2d(COUNT, 2 * COUNT, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        y, want = gate(x)
        scale, got = gate.decide(x.mean((2, 3)))
    assert torch.equal(got, want)
    torch.testing.assert_close(x * scale[..., None, None], y)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_decide(kind: str) -> None:
    gate = trained(kind).train()
    images = torch.rand(5, 3, 16, 16, generator=generator(9))

    def gradients(function: Callable[[], tuple[Tensor, Tensor]]) -> list[Tensor]:
        torch.manual_seed(1)
        y, on_ = function()
        return list(torch.autograd.grad(y.sin().sum() + on_.sum(), list(gate.parameters())))

    def at_once() -> tuple[Tensor, Tensor]:
        scale, on_ = gate.decide(block_dct_mean(images, gate.channels))
        return block_dct(images, gate.channels, gate=scale), on_

    want = gradients(lambda: gate(block_dct(images, gate.channels)))
    for got, wanted in zip(gradients(at_once), want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"pooled": [1.0]}, TypeError, "ChannelGate: pooled must be a tensor, got a list"),
        ({"pooled": torch.ones(1, COUNT).int()}, TypeError, "pooled must be floating point"),
        ({"pooled": torch.ones(1, 3)}, ValueError, r"pooled must be \[N, 24\], got \[1, 3\]"),
        ({"pooled": torch.ones(COUNT)}, ValueError, r"pooled must be \[N, 24\], got \[24\]"),
        ({"sample": "no"}, TypeError, "sample must be True, False or None, got 'no'"),
        ({"sample": False, "noise": torch.ones(1, COUNT)}, ValueError, "noise must be None"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_decide_refuses(changes: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"pooled": torch.ones(1, COUNT), **changes}
    with pytest.raises(error, match=message):
        trained().decide(**arguments)  # type: ignore[arg-type]
