"""block_dct with a gate: the operator on every backend, and the public function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support import (
    CHANNELS,
    CHROMA,
    FLOATING,
    LAYOUTS,
    STORED,
    Backend,
    assert_near,
    exact,
    generator,
    pictures,
    selection,
    statistics,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from freqops import ChannelSelection, ChannelStatistics, block_dct, block_dct_mean, reference
from freqops.models._dense import FrequencyStem
from freqops.models._network import FrequencyNetwork
from freqops.models._surgery import make_recipe
from freqops.nn import ChannelGate, FrequencyTransform

SIZES = [(1, 1), (8, 8), (7, 9), (3, 130), (24, 136), (33, 150), (72, 88)]
NAN = float("nan")


def on(backend: Backend, x: Tensor) -> Tensor:
    return x if backend.device == "cpu" else x.to(backend.device)


def gates(n: int, count: int, open_: float = 0.4, soft: bool = True) -> Tensor:
    """A share of ones, of numbers in between, and zeros."""
    draw = torch.rand(n, count, generator=generator(4))
    between = torch.rand(n, count, generator=generator(5)) if soft else torch.ones(n, count)
    return torch.where(draw < open_ / 2, 1.0, torch.where(draw < open_, between, 0.0))


def check(
    backend: Backend,
    images: Tensor,
    gate: Tensor,
    channels: list[int],
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> None:
    got = backend.ops.block_dct_gated(
        on(backend, images),
        on(backend, gate),
        channels,
        None if mean is None else on(backend, mean),
        None if std is None else on(backend, std),
        chroma,
        dtype,
        channels_last,
    )
    want = reference.block_dct_gated_operator(
        exact(images), gate.double(), channels, mean, std, chroma, torch.float64
    )
    assert_near(got, want, dtype)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert got.is_contiguous(memory_format=memory_format)
    assert not got.cpu()[gate == 0].any()


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(backend: Backend, size: tuple[int, int], stored: torch.dtype, chroma: str) -> None:
    images, gate = pictures((3, 3, *size), stored), gates(3, CHANNELS)
    for channels_last in (False, True):
        check(
            backend,
            images,
            gate,
            list(range(CHANNELS)),
            *statistics(CHANNELS),
            chroma,
            channels_last=channels_last,
        )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("stored", STORED, ids=str)
def test_dtypes(
    backend: Backend, stored: torch.dtype, dtype: torch.dtype, channels_last: bool
) -> None:
    images, channels = pictures((2, 3, 20, 43), stored), selection(40)
    for chroma in CHROMA:
        check(
            backend, images, gates(2, 40), channels, *statistics(40), chroma, dtype, channels_last
        )


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_types_of_gates(backend: Backend, dtype: torch.dtype) -> None:
    gate = gates(2, 12).to(dtype)
    for some in (gate, gate.mT.contiguous().mT, gate[:1].expand(2, -1)):
        check(backend, pictures((2, 3, 16, 40)), some, selection(12))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32, torch.float16], ids=str)
def test_layouts(backend: Backend, stored: torch.dtype, layout: str) -> None:
    images = pictures((2, 3, 19, 139), stored, layout)
    for chroma in CHROMA:
        check(backend, images, gates(2, 30), selection(30), chroma=chroma)


@pytest.mark.parametrize(
    "channels", [[0], [191], [5, 5, 5], [130, 7, 64, 7, 0], [7] * 192], ids=lambda c: f"{len(c)}"
)
def test_selections(backend: Backend, channels: list[int]) -> None:
    count = len(channels)
    check(backend, pictures((2, 3, 24, 40)), gates(2, count), channels, *statistics(count))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5, -2.0])
def test_all_alike(backend: Backend, value: float, channels_last: bool) -> None:
    """No channel open; all of them; in one picture the one and in the next the other."""
    images, channels = pictures((3, 3, 24, 56)), selection(50)
    gate = torch.full((3, 50), value)
    gate[1] = 1 - gate[1]
    check(backend, images, gate, channels, channels_last=channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("v", range(8))
def test_each_extent(backend: Backend, v: int, channels_last: bool) -> None:
    """Of one open channel, any row and column of coefficients."""
    images, gate = pictures((8, 3, 8, 24)), torch.zeros(8, CHANNELS)
    for u in range(8):
        gate[u, [8 * v + u, 128 + 8 * u + v]] = 1
    check(backend, images, gate, list(range(CHANNELS)), channels_last=channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
def test_closed_is_zero_and_not_a_number_is_not(backend: Backend, channels_last: bool) -> None:
    images = pictures((2, 3, 16, 24), torch.float32)
    images[0, 1, 3, 4], images[0, 0, 9, 9] = NAN, float("inf")
    gate = torch.tensor([[0.0, 1.0, -0.0], [1.0, NAN, 0.0]])
    arguments = (on(backend, images), on(backend, gate), [0, 9, 70], None, None, "4:4:4")
    got = backend.ops.block_dct_gated(*arguments, torch.float32, channels_last).cpu()
    assert torch.equal(got[gate == 0], torch.zeros(3, 2, 3))
    assert got[1, 1].isnan().all() and got[1, 0].isfinite().all()
    assert got[0, 1].isnan().any()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32], ids=str)
def test_bits_of_open_channels(
    cpu_backend: Backend, stored: torch.dtype, chroma: str, channels_last: bool
) -> None:
    """Those of block_dct of the open channels alone, picture by picture: the same arithmetic."""
    ops, (mean, std) = cpu_backend.ops, statistics(CHANNELS)
    images, gate = pictures((3, 3, 40, 150), stored), gates(3, CHANNELS, soft=False)
    rest = (mean, std, chroma)
    f32 = torch.float32
    got = ops.block_dct_gated(images, gate, list(range(CHANNELS)), *rest, f32, channels_last)
    for n in range(3):
        open_ = gate[n].nonzero().flatten().tolist()
        want = ops.block_dct(images[n : n + 1], open_, *rest, "none", f32, channels_last, False)
        assert torch.equal(got[n, open_], want[0])
    everything = ops.block_dct_gated(
        images, torch.ones_like(gate), list(range(CHANNELS)), *rest, f32, channels_last
    )
    whole = ops.block_dct(images, list(range(CHANNELS)), *rest, "none", f32, channels_last, False)
    assert torch.equal(everything, whole)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_past_the_caches(dtype: torch.dtype, channels_last: bool) -> None:
    """A result that is larger than they are, in memory that has been touched."""
    images, gate = pictures((4, 3, 264, 328)), gates(4, CHANNELS)
    form = torch.channels_last if channels_last else torch.contiguous_format
    for _ in range(2):
        got = block_dct(images, dtype=dtype, memory_format=form, gate=gate)
        want = reference.block_dct(images, dtype=torch.float64, gate=gate)
        assert_near(got, want, dtype)


@pytest.mark.parametrize("channels_last", [False, True])
def test_threads_change_no_bit(channels_last: bool) -> None:
    images, gate = pictures((3, 3, 200, 300)), gates(3, CHANNELS)
    form = torch.channels_last if channels_last else torch.contiguous_format
    want = block_dct(images, gate=gate, memory_format=form)
    try:
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            assert torch.equal(block_dct(images, gate=gate, memory_format=form), want)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (70, 3, 9, 9)], ids=str)
def test_batches(backend: Backend, shape: tuple[int, ...]) -> None:
    check(backend, pictures(shape), gates(shape[0], 3), [0, 64, 190])


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"images": torch.zeros(3, 8, 8)}, r"block_dct_gated: images must be \[N, 3, H, W\]"),
    ({"images": torch.zeros(1, 3, 8, 8).int()}, "images must be uint8, float16"),
    ({"gate": torch.zeros(2, 2)}, r"block_dct_gated: gate must be \[1, 2\], got \[2, 2\]"),
    ({"gate": torch.zeros(2)}, r"block_dct_gated: gate must be \[1, 2\], got \[2\]"),
    ({"gate": torch.zeros(1, 2).int()}, "gate must be float16, bfloat16, float32 or float64"),
    ({"channels": [192, 0]}, r"channels must lie in \[0, 192\), got 192"),
    ({"mean": torch.zeros(3)}, r"block_dct_gated: mean must be \[2\] or \[192\], got \[3\]"),
    ({"std": torch.zeros(2).half()}, "std must be float32 or float64"),
    ({"chroma": "4:2:2"}, 'chroma must be "4:4:4", "4:2:0" or "dctnet", got "4:2:2"'),
    ({"dtype": torch.uint8}, "dtype must be float16, bfloat16, float32 or float64, got Byte"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda x: str(x)[:30])
def test_operator_refuses(backend: Backend, changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "images": torch.zeros(1, 3, 8, 8),
        "gate": torch.ones(1, 2),
        "channels": [0, 1],
        "mean": None,
        "std": None,
        "chroma": "4:4:4",
        "dtype": torch.float32,
    }
    with pytest.raises(RuntimeError, match=message):
        backend.ops.block_dct_gated(*(arguments | changes).values())


# --- the public function --------------------------------------------------------------------------


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_public(form: torch.memory_format) -> None:
    images, gate, (mean, std) = pictures((2, 3, 30, 50)), gates(2, 3), statistics(CHANNELS)
    options = {"mean": mean, "std": std, "chroma": "4:2:0", "memory_format": form}
    want = block_dct(images, [3, 70, 3], **options) * gate[..., None, None]
    got = block_dct(images, [3, 70, 3], gate=gate, **options)
    torch.testing.assert_close(got, want, atol=1e-3, rtol=0)
    assert got.is_contiguous(memory_format=form)
    slow = reference.block_dct(images, [3, 70, 3], gate=gate, **options)
    torch.testing.assert_close(slow, want, atol=1e-3, rtol=0)
    assert slow.is_contiguous(memory_format=form)
    one = {**options, "memory_format": None}
    assert torch.equal(block_dct(images[1], [3, 70, 3], gate=gate[1], **one), got[1])
    assert torch.equal(reference.block_dct(images[1], [3, 70, 3], gate=gate[1], **one), slow[1])


def test_long_list() -> None:
    images, channels = pictures((2, 3, 9, 17)), [i % 192 for i in range(300)]
    gate, (mean, std) = gates(2, 300), statistics(300)
    for form in (torch.contiguous_format, torch.channels_last):
        options = {"mean": mean, "std": std, "memory_format": form}
        got = block_dct(images, channels, gate=gate, **options)
        want = block_dct(images, channels, **options) * gate[..., None, None]
        torch.testing.assert_close(got, want, atol=1e-3, rtol=0)
        assert got.is_contiguous(memory_format=form)


def test_autocast() -> None:
    images, gate = pictures((2, 3, 16, 16)), gates(2, CHANNELS)
    want = reference.block_dct(images, dtype=torch.float64, gate=gate)
    with torch.autocast("cpu", torch.bfloat16):
        assert_near(block_dct(images, gate=gate), want, torch.bfloat16)
        assert_near(reference.block_dct(images, gate=gate), want, torch.bfloat16)
        got = block_dct(images, gate=gate.clone().requires_grad_())
        assert_near(got.detach(), want, torch.bfloat16)
        assert block_dct(images.double(), gate=gate).dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gate": [1.0]}, TypeError, "block_dct: gate must be a tensor, got a list"),
        ({"gate": torch.ones(1, 2).bool()}, TypeError, "gate must be floating point"),
        ({"gate": torch.ones(2)}, ValueError, r"gate must be \[1, 2\], one entry per picture"),
        ({"gate": torch.ones(1, 3)}, ValueError, r"gate must be \[1, 2\].*got \[1, 3\]"),
        ({"gate": torch.ones(1, 2, device="meta")}, ValueError, "gate must be on cpu"),
        ({"rounding": "jpeg"}, ValueError, "rounding must be 'none' with a gate, got 'jpeg'"),
        ({"std": torch.zeros(2)}, ValueError, "std must be finite and greater than 0"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_public_refuses(changes: dict[str, object], error: type[Exception], message: str) -> None:
    arguments: dict[str, object] = {"channels": [0, 1], "gate": torch.ones(1, 2)}
    with pytest.raises(error, match=message):
        block_dct(pictures((1, 3, 8, 8)), **(arguments | changes))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"gate must be \[2\], one entry"):
        block_dct(pictures((3, 8, 8)), [0, 1], gate=torch.ones(1, 2))


def test_gradients_of_a_closed_channel() -> None:
    """The gradient of a gate sees the channel that it closes; the pixels' does not pass it."""
    images = torch.rand(2, 3, 16, 24, dtype=torch.float64, generator=generator())
    gate = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, 0.0]], dtype=torch.float64)

    def gradients(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        inputs = (images.clone().requires_grad_(), gate.clone().requires_grad_())
        y = function(inputs[0], [0, 9, 70], gate=inputs[1])
        return torch.autograd.grad(y.sin().sum(), inputs)

    for got, want in zip(gradients(block_dct), gradients(reference.block_dct), strict=True):
        torch.testing.assert_close(got, want)
    of_gate = gradients(block_dct)[1]
    assert of_gate.abs().min() > 1e-3
    x = block_dct(images, [0, 9, 70])
    torch.testing.assert_close(of_gate, (x * (x * gate[..., None, None]).cos()).sum((2, 3)))


def test_a_closed_gate_hides_what_is_no_number_also_with_a_gradient() -> None:
    images = torch.full((1, 3, 8, 8), NAN).requires_grad_()
    y = block_dct(images, [0, 9], gate=torch.zeros(1, 2))
    assert torch.equal(y, torch.zeros(1, 2, 1, 1))
    assert torch.equal(torch.autograd.grad(y.sum(), images)[0], torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 9, 8), (2, 3, 8, 17)], ids=str)
def test_layout_of_what_has_a_gradient(shape: tuple[int, ...], form: torch.memory_format) -> None:
    images, gate = pictures(shape, torch.float32), gates(shape[0], 5).requires_grad_()
    y = block_dct(images, [0, 1, 2, 3, 4], gate=gate, memory_format=form)
    assert y.requires_grad
    assert y.is_contiguous(memory_format=form)


def test_vmap_of_everything() -> None:
    """Each argument in a batch, and in each place of it."""
    images = torch.rand(4, 2, 3, 9, 8, dtype=torch.float64, generator=generator())
    gate = torch.rand(4, 2, 3, dtype=torch.float64, generator=generator())
    mean = torch.rand(4, 3, dtype=torch.float64, generator=generator())

    def f(x: Tensor, g: Tensor, m: Tensor) -> Tensor:
        return block_dct(x, [0, 9, 70], mean=m, gate=g)

    def operator(x: Tensor, g: Tensor, m: Tensor) -> Tensor:
        return torch.ops.freqops.block_dct_gated(x, g, [0, 9, 70], m, None, "4:4:4", "float64")

    for dims in ((0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0), (0, 0, None)):
        arguments = [a if d == 0 else a[0] for a, d in zip((images, gate, mean), dims, strict=True)]
        want = torch.stack(
            [
                f(*(a[i] if d == 0 else a for a, d in zip(arguments, dims, strict=True)))
                for i in range(4)
            ]
        )
        for function in (f, operator):
            got = torch.vmap(function, dims)(*arguments)
            torch.testing.assert_close(got, want)
    last = torch.vmap(operator, (1, 2, None))(images.movedim(0, 1), gate.movedim(0, 2), mean[0])
    torch.testing.assert_close(last, torch.vmap(f, (0, 0, None))(images, gate, mean[0]))


# --- the gate of a network, decided from pixels ---------------------------------------------------

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
    kind: str = "bernoulli", dtype: torch.dtype = torch.float32, **options: object
) -> FrequencyNetwork:
    """One whose output is what its gate left: a convolution that changes nothing."""
    layer = nn.Conv2d(COUNT, COUNT, 1, groups=COUNT, bias=False)
    nn.init.ones_(layer.weight)
    transform = FrequencyTransform(COUNT, ChannelStatistics.photographs(), **options)  # type: ignore[arg-type]
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
        assert_alike(network(dtype=dtype, memory_format=form), images)


@pytest.mark.parametrize("kind", ["bernoulli", "double"])
def test_network_with_a_forced_gate(kind: str) -> None:
    whole = network(kind)
    assert whole.gate is not None
    whole.gate.forced = ChannelSelection(whole.gate.channels.indices[3:9])
    assert_alike(whole, smooth_pictures((3, 3, 40, 40)))
    assert run(whole, smooth_pictures((3, 3, 40, 40)), None, True)[1].sum(1).tolist() == [6] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_layers_decide_from_means_that_are_rounded_once(dtype: torch.dtype) -> None:
    whole, images = network(dtype=dtype), smooth_pictures((9, 3, 41, 67))
    output, gate = run(whole, images, None, True)
    assert output.dtype == gate.dtype == dtype
    settings = {"mean": whole.transform.mean, "std": whole.transform.std}
    channels = whole.transform.channels
    assert whole.gate is not None
    with torch.no_grad():
        pooled = block_dct_mean(images, channels, **settings)
        assert torch.equal(whole.gate.decide(pooled.to(dtype))[1], gate)
        x = block_dct(images, channels, **settings, dtype=dtype)
    torch.testing.assert_close(output, x * gate[..., None, None], atol=1e-2, rtol=1e-2)


def test_autocast_of_a_network() -> None:
    whole, images = network(), smooth_pictures((9, 3, 41, 67))
    assert whole.gate is not None
    with torch.autocast("cpu", torch.bfloat16):
        output, gate = run(whole, images, None, True)
        want = run(whole, images, False, False)
        assert output.dtype == want[0].dtype and gate.dtype == want[1].dtype == torch.bfloat16
        settings = {"mean": whole.transform.mean, "std": whole.transform.std}
        with torch.no_grad():
            pooled = block_dct_mean(images, whole.transform.channels, **settings)
            assert torch.equal(whole.gate.decide(pooled)[1], gate)


def hooked(whole: FrequencyNetwork) -> None:
    assert whole.gate is not None
    whole.gate.register_forward_hook(lambda *_: None)


def hooked_within(whole: FrequencyNetwork) -> None:
    assert whole.gate is not None
    whole.gate.squeeze.register_forward_pre_hook(lambda *_: None)


def hooked_transform(whole: FrequencyNetwork) -> None:
    whole.transform.register_forward_hook(lambda *_: None)


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
