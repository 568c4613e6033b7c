"""Derivatives of jpeg_gather in mean and std, batching over each argument.

Coefficients are integers and have no gradient. Results are float32, so that the table's rows agree
with those of the float64 definition to what float32 allows, not to the 1e-9 of the other functions;
and finite differences of them say nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
from derivative_table import (
    CHANNELS,
    FUNC_ROWS,
    PLAIN_ROWS,
    Case,
    Function,
    Result,
    of_argument,
)
from jpeg_blocks import F32, F64, blocks
from torch import Tensor
from torch.autograd import forward_ad

from freqops import jpeg_gather, reference
from freqops.autograd import JPEGGather

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated")

B = blocks("4:2:0", 3, 4, tables=None, value=5)
PART = {"scale": (8, 11), "crop": (1, 2, 2, 3), "flip": True}


def of(function: Callable[..., Tensor], channels_last: bool = False) -> Function:
    """A weight of the result, mean and std; in float64 but for what the operator computes."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    options = {"subsampling": "4:2:0", "memory_format": form, **PART}
    exact = {"dtype": F64} if function is reference.jpeg_gather else {}
    return lambda x, mean, std: (
        x
        * function(B.y, B.cb, B.cr, None, CHANNELS, mean=mean, std=std, **options, **exact).double()
    )


def _operator(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    rest = ("4:2:0", [8], [11], 1, 2, 2, 3, True, "float32")
    planes = (B.y, B.cb, B.cr, None)
    return x * torch.ops.freqops.jpeg_gather(*planes, CHANNELS, mean, std, *rest).double()


SHAPE = (2, 4, 2, 3)
PUBLIC = Case("jpeg_gather", of(jpeg_gather), of(reference.jpeg_gather), SHAPE)
LAST = dataclasses.replace(PUBLIC, name="channels_last", function=of(jpeg_gather, True))
BY_NUMBER = dataclasses.replace(PUBLIC, name="jpeg_gather, [192]", means=192, stds=192)
OPERATOR = dataclasses.replace(PUBLIC, name="freqops::jpeg_gather", function=_operator)
ROWS = PLAIN_ROWS | FUNC_ROWS
CASES = [pytest.param(c, id=c.name) for c in (PUBLIC, LAST, BY_NUMBER, OPERATOR)]
RAISES = {row for row in FUNC_ROWS if row not in ("double backward", "checkpoint", "vmap(vmap)")}
ARGUMENTS = pytest.mark.parametrize("k", [0, 1, 2], ids=["weight", "mean", "std"])


def assert_table(got: Result, want: Result) -> None:
    """To 1e-5 of the largest of a result's values: they are sums of each other's."""
    both = [(r,) if isinstance(r, Tensor) else r for r in (got, want)]
    for g, w in zip(*both, strict=True):
        largest = w.detach().abs().max().item()
        torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-5 * max(1.0, largest))


@ARGUMENTS
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("case", CASES)
def test_table(case: Case, row: str, k: int) -> None:
    arguments, directions = case.arguments(), case.arguments(seed=1)

    def result(f: Function) -> Result:
        return ROWS[row](of_argument(f, arguments, k), arguments[k], directions[k])

    if case is OPERATOR and row in RAISES:
        with pytest.raises(NotImplementedError, match="need the public functions of freqops"):
            result(case.function)
        return
    assert_table(result(case.function), result(case.definition))


@pytest.mark.parametrize("count", [4, 192])
def test_closed_forms(count: int) -> None:
    """d mean[c] = -sum g / std[c], d std[c] = -sum g out / std[c], to the last bits of float32."""
    mean = torch.rand(count, dtype=F64).requires_grad_()
    std = (1 + torch.rand(count, dtype=F64)).requires_grad_()
    options = {"subsampling": "4:2:0", "scale": 11}
    out = jpeg_gather(B.y, B.cb, B.cr, None, CHANNELS, mean=mean, std=std, **options)
    g = torch.rand(out.shape)
    got = torch.autograd.grad(out, (mean, std), g)
    s = std.detach()[CHANNELS] if count == 192 else std.detach()
    sums = [-(w.double().sum((0, 2, 3)) / s) for w in (g, g.double() * out.detach().double())]
    for gradient, want in zip(got, sums, strict=True):
        assert gradient.dtype == F64
        if count == 192:
            want = torch.zeros(192, dtype=F64).index_add(0, torch.tensor(CHANNELS), want)
        torch.testing.assert_close(gradient, want, rtol=1e-5, atol=1e-5 * want.abs().max().item())


@pytest.mark.parametrize("given", ["mean", "std"])
def test_one_statistic_alone(given: str) -> None:
    value = (1 + torch.rand(4, dtype=F64)).requires_grad_()
    t = torch.rand(4, dtype=F64)
    results = []
    for f in (jpeg_gather, reference.jpeg_gather):
        dtype = F64 if f is reference.jpeg_gather else F32

        def one(v: Tensor, f: Callable[..., Tensor] = f, dtype: torch.dtype = dtype) -> Tensor:
            planes = (B.y, B.cb, B.cr, None, CHANNELS)
            return f(*planes, subsampling="4:2:0", **{given: v}, dtype=dtype).double()

        (gradient,) = torch.autograd.grad(one(value).sin().sum(), value)
        results.append((gradient, torch.func.jvp(one, (value.detach(),), (t,))[1]))
    assert_table(*results)


@pytest.mark.parametrize("out", [torch.float16, torch.bfloat16, F32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, F32, F64])
def test_gradients_have_the_dtype_of_their_argument(dtype: torch.dtype, out: torch.dtype) -> None:
    mean, std = (torch.rand(4).add(1).to(dtype).requires_grad_() for _ in range(2))
    planes = (B.y, B.cb, B.cr, None, CHANNELS)
    result = jpeg_gather(*planes, subsampling="4:2:0", mean=mean, std=std, dtype=out)
    grads = torch.autograd.grad(result.float().sum(), (mean, std))
    assert [g.dtype for g in grads] == [dtype, dtype]
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(mean.detach(), torch.ones_like(mean))
        tangent = forward_ad.unpack_dual(
            jpeg_gather(*planes, subsampling="4:2:0", mean=dual, dtype=out)
        ).tangent
    assert tangent is not None and tangent.dtype == out
    assert (tangent == -1).all()


def test_the_class_and_the_graph() -> None:
    mean = torch.zeros(4, requires_grad=True)
    channels = list(CHANNELS)
    options = {"subsampling": "4:2:0", "mean": mean}
    out = jpeg_gather(B.y, B.cb, B.cr, None, channels, **options)
    assert type(out.grad_fn).__name__ == "JPEGGatherBackward"
    channels[:] = [5, 6, 7, 8]
    (grad,) = torch.autograd.grad(out.sum(), mean)
    assert (grad == -out[:, 0].numel()).all()
    rest = ("4:2:0", [8], [8], 0, 0, 3, 4, False, F32)
    same = JPEGGather.apply(B.y, B.cb, B.cr, None, CHANNELS, mean, None, *rest)
    assert torch.equal(same, out)
    assert not jpeg_gather(B.y, B.cb, B.cr, None, channels, subsampling="4:2:0").requires_grad


# --- vmap over each argument ----------------------------------------------------------------------


def stacked(tables: str, one: bool) -> list[Tensor]:
    """y, cb, cr and tables, three of each: of batches of pictures, or of pictures."""
    parts = [blocks("4:2:0", 3, 4, tables=tables, seed=i) for i in range(3)]
    tensors = [[b.y, b.cb, b.cr, b.tables] for b in parts]
    out = [torch.stack([t[i] for t in tensors if t[i] is not None]) for i in range(4)]
    return [t[:, 0] if one and i < 3 else t for i, t in enumerate(out)]


@pytest.mark.parametrize(("tables", "one"), [("shared", True), ("shared", False), ("each", False)])
@pytest.mark.parametrize("dims", list(itertools.product([0, None], repeat=5))[:-1], ids=str)
def test_vmap(dims: tuple[int | None, ...], tables: str, one: bool) -> None:
    """Any of blocks, tables and mean with a batch, in its first dimension or the second."""
    tensors = [*stacked(tables, one), 100 * torch.rand(3, 192)]
    given = [t if d == 0 else t[0] for t, d in zip(tensors, dims, strict=True)]
    std = torch.rand(192) + 1

    def f(y: Tensor, cb: Tensor, cr: Tensor, steps: Tensor, mean: Tensor) -> Tensor:
        options = {"subsampling": "4:2:0", "scale": 11, "mean": mean, "std": std}
        return jpeg_gather(y, cb, cr, steps, CHANNELS, **options)

    want = torch.stack([
        f(*(t[i] if d == 0 else t for t, d in zip(given, dims, strict=True))) for i in range(3)
    ])  # fmt: skip
    close = {"rtol": 1e-5, "atol": 1e-2} if dims[4] == 0 else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(torch.vmap(f, dims)(*given), want, **close)
    moved = [t if d is None else t.movedim(0, 1) for t, d in zip(given, dims, strict=True)]
    seconds = tuple(None if d is None else 1 for d in dims)
    torch.testing.assert_close(torch.vmap(f, seconds)(*moved), want, **close)


def test_vmap_of_gray_pictures() -> None:
    y = torch.stack([blocks("gray", 3, 4, seed=i).y for i in range(3)])
    got = torch.vmap(lambda y: jpeg_gather(y, None, None, subsampling="gray", flip=True))(y)
    assert torch.equal(got[1], jpeg_gather(y[1], None, None, subsampling="gray", flip=True))
