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
from torch import Tensor

from freqops import block_dct, reference

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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_closed_in_the_type_of_the_sums(
    backend: Backend, dtype: torch.dtype, channels_last: bool
) -> None:
    """1e-60 is 0 in float32, and hides what is not finite; in float64 it does not."""
    images = pictures((1, 3, 16, 24), torch.float32)
    images[0, 1, 3, 4] = float("inf")
    gate = torch.tensor([[1e-60, 1.0, 0.0]], dtype=torch.float64)
    arguments = ([0, 9, 70], None, None, "4:4:4", dtype, channels_last)
    got = backend.ops.block_dct_gated(on(backend, images), on(backend, gate), *arguments).cpu()
    want = reference.block_dct_gated_operator(images, gate, *arguments)
    assert torch.equal(got.isfinite(), want.isfinite())
    assert not got[0, 2].any() and not got[0, 1].isfinite().all()
    assert (dtype == torch.float32) == (not got[0, 0].any())


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
