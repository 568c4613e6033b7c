"""Derivatives of jpeg_gather in mean and std, batching over each argument, compilers.

Coefficients are integers and have no gradient. Results are float32, so that the table's rows agree
with those of the float64 definition to what float32 allows, not to the 1e-9 of the other functions;
and finite differences of them say nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

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
from jpeg_blocks import ALL, F32, F64, NAMES, Blocks, blocks
from test_compile import RIGHT_INSIDE, compiled, raised
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad

from freqops import jpeg_gather, reference
from freqops.autograd import JPEGGather

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
]

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
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


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


# --- Compilers ------------------------------------------------------------------------------------


@DYNAMIC
@ARGUMENTS
@pytest.mark.parametrize("row", ["forward", "vmap", "dual numbers"])
@pytest.mark.parametrize("case", [c for c in CASES if c.id != LAST.name])
def test_inside(case: Case, row: str, k: int, dynamic: bool) -> None:
    arguments, directions = case.arguments(), case.arguments(seed=1)

    def whole(x: Tensor, t: Tensor, *others: Tensor) -> Result:
        return ROWS[row](of_argument(case.function, others, k), x, t)

    got = compiled(whole, dynamic=dynamic)(arguments[k], directions[k], *arguments)
    want = ROWS[row](of_argument(case.definition, arguments, k), arguments[k], directions[k])
    assert_table(got, want)


@pytest.mark.parametrize("row", [row for row in ROWS if row not in RIGHT_INSIDE])
def test_raises_inside(row: str) -> None:
    arguments, directions = PUBLIC.arguments(), PUBLIC.arguments(seed=1)

    def whole(x: Tensor, t: Tensor, *others: Tensor) -> Result:
        return ROWS[row](of_argument(PUBLIC.function, others, 1), x, t)

    call = compiled(whole)
    names = raised(lambda: call(arguments[1], directions[1], *arguments))
    assert "TorchDynamoException" in names


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_backward_of_a_compiled_function(backend: str) -> None:
    results = []
    for f in (compiled(PUBLIC.function, backend=backend), PUBLIC.definition):
        arguments = [a.requires_grad_() for a in PUBLIC.arguments()]
        out = f(*arguments)
        results.append((out.detach(), *torch.autograd.grad(out.sin().sum(), arguments)))
    assert_table(*results)


def call(b: Blocks, **options: object) -> Tensor:
    return jpeg_gather(b.y, b.cb, b.cr, b.tables, ALL, subsampling=b.subsampling, **options)


def test_dynamic_shapes_compile_once() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def f(y: Tensor, cb: Tensor, cr: Tensor, tables: Tensor) -> Tensor:
        half = (0, 0, y.shape[1] // 2, y.shape[2] // 2)
        return jpeg_gather(y, cb, cr, tables, CHANNELS, subsampling="4:2:0", scale=11, crop=half)

    g = torch.compile(f, fullgraph=True, dynamic=True, backend=counter)
    for n, by, bx in ((5, 8, 14), (2, 4, 10), (4, 20, 12)):  # no size of 3, the components
        b = blocks("4:2:0", by, bx, n, "each")
        planes = (b.y, b.cb, b.cr, b.tables)
        assert torch.equal(g(*planes), f(*planes))
    assert counter.frame_count == 1


@DYNAMIC
@pytest.mark.parametrize("subsampling", NAMES)
def test_compiled_forward(subsampling: str, dynamic: bool) -> None:
    b = blocks(subsampling, 4, 6)
    options = {"scale": (5, (11, 3)), "flip": True, "memory_format": torch.channels_last}
    tensors = (b.y, b.cb, b.cr, b.tables)

    def f(y: Tensor, cb: Tensor | None, cr: Tensor | None, tables: Tensor) -> Tensor:
        return jpeg_gather(y, cb, cr, tables, CHANNELS, subsampling=subsampling, **options)

    got = compiled(f, dynamic=dynamic)(*tensors)
    assert torch.equal(got, f(*tensors))
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_autocast_in_a_graph() -> None:
    g = compiled(lambda y: jpeg_gather(y, None, None, channels=[0], subsampling="gray"))
    assert g(B.y).dtype == F32
    with torch.autocast("cpu", torch.bfloat16):
        assert g(B.y).dtype == torch.bfloat16


class Gather(torch.nn.Module):
    """Statistics as buffers, as networks hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(192))
        self.register_buffer("std", torch.full((192,), 2.0))

    def forward(self, y: Tensor, cb: Tensor, cr: Tensor, tables: Tensor) -> Tensor:
        options = {"subsampling": "4:2:0", "mean": self.mean, "std": self.std, "scale": 12}
        return jpeg_gather(y, cb, cr, tables, [0, 70, 9], **options)


def exported(strict: bool = False) -> torch.export.ExportedProgram:
    b = blocks("4:2:0", 4, 6, 2, "each")
    batch = torch.export.Dim("n", max=64)
    h, w = (torch.export.Dim(name, min=2, max=512) for name in ("h", "w"))
    shapes = ({0: batch, 1: 2 * h, 2: 2 * w}, *({0: batch, 1: h, 2: w},) * 2, {0: batch})
    planes = (b.y, b.cb, b.cr, b.tables)
    return torch.export.export(Gather(), planes, dynamic_shapes=shapes, strict=strict)


def assert_same(program: Callable[..., Tensor]) -> None:
    for n, by, bx in ((2, 4, 8), (3, 10, 6)):
        b = blocks("4:2:0", by, bx, n, "each")
        planes = (b.y, b.cb, b.cr, b.tables)
        assert torch.equal(program(*planes), Gather()(*planes))


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool, tmp_path: Path) -> None:
    program = exported(strict)
    operators = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert [o for o in operators if o.startswith("freqops")] == ["freqops.jpeg_gather.default"]
    torch.export.save(program, tmp_path / "program.pt2")
    assert_same(torch.export.load(tmp_path / "program.pt2").module())
    assert_same(program.run_decompositions({}).module())


def test_aot_inductor(tmp_path: Path) -> None:
    path = torch._inductor.aoti_compile_and_package(
        exported(), package_path=str(tmp_path / "model.pt2")
    )
    assert_same(torch._inductor.aoti_load_package(path))


G = blocks("gray", 3, 4)
REST = (3, 4, False, "float32")
SAMPLES: list[tuple[object, ...]] = [
    (B.y, B.cb, B.cr, None, [0, 70, 0], torch.ones(3), torch.ones(192), "4:2:0", [8], [8], 0, 0,
     *REST),
    (B.y, B.cb, B.cr, torch.ones(2, 3, 64, dtype=torch.int32), [5], None, torch.ones(1, dtype=F64),
     "4:2:0", [11, 3], [5], 0, 1, 1, 2, True, "float16", True),
    (G.y, None, None, G.tables, ALL, None, None, "gray", [8], [16], 0, 0, 3, 8, False, "bfloat16"),
    (G.y[:0], None, None, None, [3], torch.ones(1), None, "gray", [8], [8], 0, 0, *REST),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("sample", range(len(SAMPLES)))
def test_opcheck(sample: int) -> None:
    tracked = [
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in SAMPLES[sample]
    ]
    for arguments in (SAMPLES[sample], tuple(tracked)):
        torch.library.opcheck(torch.ops.freqops.jpeg_gather.default, arguments)
