"""Every derivative in eager mode, cell by cell, against the definition in plain PyTorch."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable

import pytest
import torch
from derivative_table import (
    CHANNELS,
    FUNC_ROWS,
    GATE_OF_TAU,
    HARD_GATE,
    NORMALISED,
    OPERATORS,
    PLAIN_ROWS,
    PUBLIC,
    Case,
    Function,
    Result,
    of_argument,
)
from torch import Tensor
from torch.autograd import forward_ad

import freqops.autograd
from freqops import ops, reference

# torch's own forward-mode machinery calls its own deprecated function.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

ROWS = PLAIN_ROWS | FUNC_ROWS
EVERY_CASE = [pytest.param(case, id=case.name) for case in (*PUBLIC, *OPERATORS, GATE_OF_TAU)]
EVERY_ARGUMENT = [pytest.param(k, id=name) for k, name in enumerate(("first", "second", "third"))]


# What torch.func does to an operator itself, rather than to the public function, it cannot do:
# a Python kernel for the Autograd key runs inside the transform. vmap alone it can.
RAISES = {row for row in FUNC_ROWS if row not in ("double backward", "checkpoint", "vmap(vmap)")}


@pytest.mark.parametrize("k", EVERY_ARGUMENT)
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("case", EVERY_CASE)
def test_table(case: Case, row: str, k: int) -> None:
    arguments, directions = case.arguments(), case.arguments(seed=1)

    def result(f: Function) -> Result:
        return ROWS[row](of_argument(f, arguments, k), arguments[k], directions[k])

    if case in OPERATORS and row in RAISES:
        with pytest.raises(NotImplementedError, match="need the public functions of freqops"):
            result(case.function)
    else:
        want = result(case.definition)
        torch.testing.assert_close(result(case.function), want, rtol=1e-9, atol=1e-8)


GRADCHECK = {
    "check_forward_ad": True,
    "check_batched_grad": True,
    "check_batched_forward_grad": True,
}


@pytest.mark.parametrize("case", [c for c in EVERY_CASE if c.id != HARD_GATE.name])
def test_gradcheck(case: Case) -> None:
    arguments = [a.requires_grad_() for a in case.arguments()]
    assert torch.autograd.gradcheck(case.function, arguments, **GRADCHECK)
    assert torch.autograd.gradgradcheck(
        case.function, arguments, check_fwd_over_rev=True, check_batched_grad=True
    )


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0", "dctnet"])
def test_adjoint_operators(chroma: str) -> None:
    """The operators that backwards call, as functions of their own."""
    generator = torch.Generator().manual_seed(0)
    grad = torch.rand(1, 4, 1, 2, dtype=torch.float64, generator=generator)
    picture = torch.rand(1, 3, 2, 9, dtype=torch.float64, generator=generator)
    std = 1 + torch.rand(192, dtype=torch.float64, generator=generator)
    repeated = [9, 70, 9, 0]

    def dct(grad: Tensor, std: Tensor) -> Tensor:
        return torch.ops.freqops.block_dct_backward(
            grad, repeated, std[:4], chroma, 2, 9, "float64"
        )

    def idct(grad: Tensor, std: Tensor) -> Tensor:
        return torch.ops.freqops.block_idct_backward(grad, CHANNELS, std, "float64")

    for function, first in ((dct, grad), (idct, picture)):
        arguments = [first.clone().requires_grad_(), std.clone().requires_grad_()]
        assert torch.autograd.gradcheck(function, arguments, **GRADCHECK)
        assert torch.autograd.gradgradcheck(function, arguments, check_fwd_over_rev=True)


@pytest.mark.parametrize("row", [*PLAIN_ROWS, "double backward", "jvp(jvp)", "grad(jvp)"])
@pytest.mark.parametrize("k", EVERY_ARGUMENT)
@pytest.mark.parametrize(("means", "stds"), [(192, 192), (192, 4), (4, 192)])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in NORMALISED])
def test_statistics_of_all_channels(case: Case, means: int, stds: int, k: int, row: str) -> None:
    case = dataclasses.replace(case, means=means, stds=stds)
    arguments, directions = case.arguments(), case.arguments(seed=1)
    got, want = (
        ROWS[row](of_argument(f, arguments, k), arguments[k], directions[k])
        for f in (case.function, case.definition)
    )
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0", "dctnet"])
@pytest.mark.parametrize("size", [(1, 1), (8, 16), (11, 21)])
@pytest.mark.parametrize("channels", [None, [5, 130, 5, 64]])
def test_backward_of_block_dct(
    chroma: str, size: tuple[int, int], channels: list[int] | None
) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    want, got = (
        torch.autograd.grad(f(images, channels, chroma=chroma).sin().sum(), images)[0]
        for f in (reference.block_dct, ops.block_dct)
    )
    torch.testing.assert_close(got, want, rtol=1e-3, atol=0.1)  # gradients up to 255 * 64


@pytest.mark.parametrize("rounding", ["none", "jpeg"])
def test_jpeg_rounding_passes_the_gradient_of_none(rounding: str) -> None:
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 192, 1, 1, dtype=torch.float64)
    std = 1 + torch.rand(192, dtype=torch.float64)

    def f(images: Tensor) -> Tensor:
        return ops.block_dct(images, std=std, chroma="4:2:0", rounding=rounding)

    want = reference.block_dct_backward(weights, range(192), std, "4:2:0", 8, 8, torch.float64)
    torch.testing.assert_close(torch.autograd.grad(f(images), images, weights)[0], want)
    tangent = torch.func.jvp(f, (images,), (want,))[1]
    linear = reference.block_dct(want, std=std, chroma="4:2:0") - reference.block_dct(
        torch.zeros_like(want), std=std, chroma="4:2:0"
    )
    torch.testing.assert_close(tangent, linear)


def test_jpeg_rounding_and_the_gradient_of_std() -> None:
    """d out / d std = -out / std, with the rounded out."""
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    std = (1 + torch.rand(192, dtype=torch.float64)).requires_grad_()
    out = ops.block_dct(images, std=std, rounding="jpeg")
    (grad,) = torch.autograd.grad(out.sum(), std)
    torch.testing.assert_close(grad, (-out / std.view(1, -1, 1, 1)).sum((0, 2, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("out", [torch.float16, torch.float32, torch.float64])
def test_gradients_have_the_dtype_of_their_argument(dtype: torch.dtype, out: torch.dtype) -> None:
    images = torch.rand(1, 3, 8, 8).to(dtype).requires_grad_()
    mean = torch.rand(192, dtype=torch.float64, requires_grad=True)
    std = torch.rand(2).add(100).to(torch.bfloat16).requires_grad_()
    f = {"channels": [1, 65], "dtype": out}
    grads = torch.autograd.grad(
        ops.block_dct(images, mean=mean, std=std, **f).sum(), (images, mean, std)
    )
    assert [g.dtype for g in grads] == [dtype, torch.float64, torch.bfloat16]
    coefficients = torch.rand(1, 2, 1, 1).to(dtype).requires_grad_()
    grads = torch.autograd.grad(
        ops.block_idct(coefficients, mean=mean, std=std, **f).sum(), (coefficients, mean, std)
    )
    assert [g.dtype for g in grads] == [dtype, torch.float64, torch.bfloat16]


def test_more_channels_than_there_are() -> None:
    generator = torch.Generator().manual_seed(0)
    channels = [c % 192 for c in range(7, 300)]
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=generator)
    mean = torch.rand(293, dtype=torch.float64, generator=generator)
    std = 1 + torch.rand(192, dtype=torch.float64, generator=generator)

    def grads(f: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        arguments = [a.clone().requires_grad_() for a in (images, mean, std)]
        out = f(arguments[0], channels, mean=arguments[1], std=arguments[2])
        return torch.autograd.grad(out.sin().sum(), arguments)

    torch.testing.assert_close(grads(ops.block_dct), grads(reference.block_dct))


def test_uint8_pictures_have_no_gradient() -> None:
    coefficients = torch.rand(1, 192, 1, 1, requires_grad=True)
    assert not ops.block_idct(coefficients).requires_grad
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(coefficients.detach(), coefficients.detach())
        out = ops.block_idct(dual)
        assert torch.autograd.forward_ad.unpack_dual(out).tangent is None
    torch.testing.assert_close(
        torch.vmap(ops.block_idct)(coefficients.detach()[None]),
        ops.block_idct(coefficients.detach())[None],
    )


def test_blocks_beyond_the_cropped_picture_have_no_gradient() -> None:
    coefficients = torch.rand(1, 192, 3, 2, requires_grad=True)
    ops.block_idct(coefficients, size=(8, 3), dtype=torch.float32).sum().backward()
    assert coefficients.grad is not None
    assert coefficients.grad[:, 0, 0, 0].item() > 0
    assert not coefficients.grad[:, :, 1:].any()
    assert not coefficients.grad[:, :, :, 1:].any()


def test_the_class_is_public_and_takes_what_the_operator_takes() -> None:
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    arguments = ([0, 1], None, None, "4:4:4", "none")
    for f, dtype in (
        (freqops.autograd.BlockDCT.apply, torch.float32),
        (torch.ops.freqops.block_dct, "float32"),
    ):
        out = f(images, *arguments, dtype)
        assert type(out.grad_fn).__name__ == "BlockDCTBackward"
        torch.testing.assert_close(out, reference.block_dct(images, [0, 1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("function", [ops.block_dct, ops.block_idct])
def test_the_callers_list_may_change(function: Callable[..., Tensor]) -> None:
    values = torch.rand(1, 3, 8, 8, requires_grad=True)
    channels = [0, 1, 2]
    options = {} if function is ops.block_dct else {"dtype": torch.float32}
    want = torch.autograd.grad(function(values, tuple(channels), **options).sum(), values)[0]
    out = function(values, channels, **options)
    channels[:] = [100, 101, 102]
    assert torch.equal(torch.autograd.grad(out.sum(), values)[0], want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_of_the_mean_of_half_results_is_summed_exactly(dtype: torch.dtype) -> None:
    mean = torch.zeros(1, requires_grad=True)
    out = ops.block_dct(torch.zeros(1, 3, 8, 8 * 70000), [0], mean=mean, dtype=dtype)
    out.float().sum().backward()  # 70,000 overflows float16; bfloat16 stops counting at 256
    assert mean.grad is not None
    assert mean.grad.item() == -70000


def test_vmap_of_nothing() -> None:
    coefficients = torch.vmap(ops.block_dct)(torch.zeros(0, 2, 3, 9, 9))
    assert coefficients.shape == (0, 2, 192, 2, 2)
    assert torch.vmap(ops.block_idct)(coefficients).shape == (0, 2, 3, 16, 16)


def test_no_graph_where_none_is_wanted() -> None:
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert ops.block_dct(images).requires_grad
    assert not ops.block_dct(images.detach()).requires_grad
    with torch.no_grad():
        assert not ops.block_dct(images).requires_grad
    with torch.inference_mode():
        assert ops.block_dct(images).is_inference()


def test_a_call_does_not_work_out_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch does for classes with setup_context, which takes longer than a small picture."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"inspect.signature of {arguments[0]}")

    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    logits = torch.zeros(1, 192, 2, requires_grad=True)
    monkeypatch.setattr("inspect.signature", refuse)
    y, _ = ops.gumbel_gate(ops.block_dct(images), logits, hard=False)
    ops.block_idct(y, dtype=torch.float32).sum().backward()
    assert images.grad is not None
    assert logits.grad is not None


def test_forward_mode_keeps_no_features() -> None:
    """Tangents of the gate read x; once they are there, only a gradient would read it again."""
    leaf = torch.rand(1, 2, 3, 3, requires_grad=True)
    x, logits = leaf * 2, torch.zeros(1, 2, 2)
    alive = weakref.ref(x)
    with forward_ad.dual_level():
        y, _ = ops.gumbel_gate(x, forward_ad.make_dual(logits, torch.ones(1, 2, 2)), hard=False)
        del x
        assert alive() is None
        assert forward_ad.unpack_dual(y).tangent is not None
    assert y.requires_grad
