"""jpeg_gather under compilers: torch.compile, export, AOTInductor, opcheck."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from derivative_table import Case, Result, of_argument
from jpeg_blocks import ALL, F32, F64, NAMES, Blocks, blocks
from test_compile import DYNAMIC, RIGHT_INSIDE, compiled, raised
from test_jpeg_gather_derivatives import (
    ARGUMENTS,
    CASES,
    CHANNELS,
    LAST,
    PUBLIC,
    ROWS,
    B,
    assert_table,
)
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from freqops import jpeg_gather

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


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
