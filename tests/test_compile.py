"""The operators under compilers: torch.compile, make_fx, export, AOTInductor, CUDA graphs.

The tables use the backend aot_eager, which traces as inductor does (Dynamo, AOTAutograd) and spares
the C++ compiler; one test of each function goes through inductor.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from derivative_table import (
    CHANNELS,
    DCT,
    FUNC_ROWS,
    IDCT,
    OPERATORS,
    PLAIN_ROWS,
    PUBLIC,
    Case,
    Function,
    Result,
    of_argument,
)
from support import cuda_graph_of
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx

from freqops import ChannelSelection, block_dct, block_idct, reference
from freqops._dispatch import NAMES

# torch's own forward-mode machinery, inductor and export call torch's own deprecated functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated"),
]

ROWS = PLAIN_ROWS | FUNC_ROWS
EVERY_CASE = [pytest.param(case, id=case.name) for case in PUBLIC + OPERATORS]
PUBLIC_CASES = [pytest.param(case, id=case.name) for case in PUBLIC]
LONG = [c % 192 for c in range(200)]  # more than the operator takes at once
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def compiled(
    f: Callable[..., Result], *, dynamic: bool = False, backend: str = "aot_eager"
) -> Callable[..., Result]:
    return torch.compile(f, fullgraph=True, dynamic=dynamic, backend=backend)


def raised(f: Callable[[], object]) -> list[str]:
    """The names of the classes of what f raises, none if it does not, found out in a child process.

    An error in the midst of torch.func inside Dynamo leaves torch's own record of transforms and
    levels out of order, which would disturb the tests that follow, or end in a crash.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        names: list[str] = []
        try:
            f()
        except BaseException as error:
            names = [c.__name__ for c in type(error).__mro__]
        os.write(writer, " ".join(names).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        names = pipe.read().split()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return names


def inside(case: Case, row: str, k: int, dynamic: bool = False) -> tuple[Result, Result]:
    """A row of the table compiled as a whole, and the same in eager mode by the definition."""
    arguments, directions = case.arguments(), case.arguments(seed=1)

    def whole(x: Tensor, t: Tensor, *others: Tensor) -> Result:
        return ROWS[row](of_argument(case.function, others, k), x, t)

    got = compiled(whole, dynamic=dynamic)(arguments[k], directions[k], *arguments)
    f = of_argument(case.definition, arguments, k)
    return got, ROWS[row](f, arguments[k], directions[k])


RIGHT_INSIDE = ("forward", "vmap", "vmap, last dimension", "vmap(vmap)", "dual numbers")


@DYNAMIC
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("row", ["forward", "vmap", "dual numbers"])
@pytest.mark.parametrize("case", EVERY_CASE)
def test_inside(case: Case, row: str, k: int, dynamic: bool) -> None:
    got, want = inside(case, row, k, dynamic)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("row", ["vmap, last dimension", "vmap(vmap)"])
@pytest.mark.parametrize("case", PUBLIC_CASES)
def test_more_vmap_inside(case: Case, row: str) -> None:
    got, want = inside(case, row, 0)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-8)


# Torch traces torch.func.grad and jvp into an operator with a Python kernel for Autograd no more
# than it runs them there, and torch.autograd.grad not at all: all of these raise.
@pytest.mark.parametrize("row", [row for row in ROWS if row not in RIGHT_INSIDE])
@pytest.mark.parametrize("case", PUBLIC_CASES)
def test_raises_inside(case: Case, row: str) -> None:
    assert "TorchDynamoException" in raised(lambda: inside(case, row, 0))


# Of a compiled function torch itself allows these; the rest it refuses, whatever was compiled.
# Dual numbers it takes until 2.13, and refuses from 2.14 on.
RIGHT_OUTSIDE = ("forward", "backward", "checkpoint")
RIGHT_OR_REFUSED = ("dual numbers",)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("case", PUBLIC_CASES)
def test_of_a_compiled_function(case: Case, row: str) -> None:
    arguments, directions = case.arguments(), case.arguments(seed=1)

    def result(f: Callable[..., Tensor]) -> Result:
        return ROWS[row](f, arguments[0], directions[0])

    f = compiled(of_argument(case.function, arguments, 0))
    names = [] if row in RIGHT_OUTSIDE else raised(lambda: result(f))
    if row in RIGHT_OUTSIDE or (row in RIGHT_OR_REFUSED and not names):
        want = result(of_argument(case.definition, arguments, 0))
        torch.testing.assert_close(result(f), want, rtol=1e-9, atol=1e-8)
    else:
        assert "RuntimeError" in names  # so are Dynamo's own and NotImplementedError


def gradients(f: Function, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    arguments = tuple(a.clone().requires_grad_() for a in arguments)
    out = f(*arguments)
    return out.detach(), *torch.autograd.grad(out.sin().sum(), arguments)


@DYNAMIC
@pytest.mark.parametrize("case", EVERY_CASE)
def test_backward_of_a_compiled_function(case: Case, dynamic: bool) -> None:
    f = compiled(case.function, dynamic=dynamic)
    want = gradients(case.definition, case.arguments())
    torch.testing.assert_close(gradients(f, case.arguments()), want)


def test_backward_is_compiled_too() -> None:
    """The backward's operators are in the graph: nothing falls back to eager autograd."""
    seen: list[str] = []

    def record(module: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        seen.extend(str(node.target) for node in module.graph.nodes)
        return torch._functorch.aot_autograd.make_boxed_func(module.forward)

    backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=record)
    for case in PUBLIC:
        gradients(torch.compile(case.function, fullgraph=True, backend=backend), case.arguments())
    for name in ("block_dct", "block_idct", "gumbel_gate"):
        assert f"freqops.{name}.default" in seen
        assert f"freqops.{name}_backward.default" in seen


@pytest.mark.parametrize("case", PUBLIC_CASES)
def test_inductor(case: Case) -> None:
    f = compiled(lambda *a: case.function(*a).sin(), backend="inductor")
    want = gradients(lambda *a: case.definition(*a).sin(), case.arguments())
    torch.testing.assert_close(gradients(f, case.arguments()), want)


def test_dynamic_shapes_compile_once() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def there_and_back(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        coefficients = block_dct(images, chroma="4:2:0")
        return block_idct(coefficients, size=(height, width), dtype=torch.float32)

    f = torch.compile(there_and_back, fullgraph=True, dynamic=True, backend=counter)
    for shape in ((2, 3, 16, 24), (3, 3, 9, 31), (5, 3, 40, 17)):
        images = torch.rand(shape)
        torch.testing.assert_close(f(images), there_and_back(images))
    assert counter.frame_count == 1


@DYNAMIC
@pytest.mark.parametrize(
    "channels",
    [None, [1, 64], (64, 1), ChannelSelection.square(24), LONG],
    ids=["all", "list", "tuple", "selection", "long"],
)
def test_channels_in_a_graph(channels: list[int] | None, dynamic: bool) -> None:
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)

    def captured(x: Tensor) -> Tensor:
        return block_dct(x, channels, rounding="jpeg", memory_format=torch.channels_last)

    def passed(x: Tensor, channels: list[int] | None) -> Tensor:
        return block_dct(x, channels, rounding="jpeg", memory_format=torch.channels_last)

    want = captured(images)
    results = [compiled(captured, dynamic=dynamic)(images)]
    if channels is None or len(channels) < 192:  # Dynamo guards on each number of a list passed in
        results.append(compiled(passed, dynamic=dynamic)(images, channels))
    for got in results:
        assert torch.equal(got, want)
        assert got.is_contiguous(memory_format=torch.channels_last)


def test_a_tensor_of_channels_is_refused_in_a_graph() -> None:
    index = torch.tensor([0, 1])
    with pytest.raises(Exception, match=r"under torch.compile and"):
        compiled(lambda x: block_dct(x, index))(torch.rand(1, 3, 8, 8))


def test_bad_arguments_are_refused_in_a_graph() -> None:
    for call, message in (
        (lambda x: block_dct(x, [192]), "channels must lie in"),
        (lambda x: block_dct(x[:, :2]), "images must be"),
        (lambda x: block_dct(x, chroma="4:2:2"), "chroma must be one of"),
        (lambda x: block_idct(x, [0, 1, 2], size=(65, 8)), "size must lie between"),
    ):
        with pytest.raises(Exception, match=message):
            compiled(call)(torch.rand(1, 3, 8, 8))


@DYNAMIC
def test_autocast_in_a_graph(dynamic: bool) -> None:
    images = torch.rand(1, 3, 16, 8)

    def f(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return block_dct(x, CHANNELS, std=torch.full((4,), 3.0))

    got = compiled(f, dynamic=dynamic)(images)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, f(images))
    g = compiled(lambda x: block_dct(x, CHANNELS), dynamic=dynamic)
    assert g(images).dtype == torch.float32
    with torch.autocast("cpu", torch.float16):
        assert g(images).dtype == torch.float16


def test_make_fx() -> None:
    images, mean, std = DCT.arguments()
    f = make_fx(DCT.function)(images, mean, std)
    assert "freqops.block_dct.default" in [str(node.target) for node in f.graph.nodes]
    torch.testing.assert_close(f(images, mean, std), DCT.definition(images, mean, std))
    coefficients, mean, std = IDCT.arguments()
    f = make_fx(IDCT.function, tracing_mode="symbolic")(coefficients, mean, std)
    assert "freqops.block_idct.default" in [str(node.target) for node in f.graph.nodes]
    torch.testing.assert_close(f(coefficients, mean, std), IDCT.definition(coefficients, mean, std))


class ThereAndBack(torch.nn.Module):
    """Statistics as buffers, as networks hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(192))
        self.register_buffer("std", torch.full((192,), 2.0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out = block_dct(images, [0, 70, 9], mean=self.mean, std=self.std, chroma="4:2:0")
        size = (images.shape[2], images.shape[3])
        return out, block_idct(out, [0, 70, 9], mean=self.mean, std=self.std, size=size)


def exported(strict: bool = False) -> torch.export.ExportedProgram:
    sizes = {0: torch.export.Dim("n", max=64)}
    # From 9 on: torch.export takes a grid of one block for a case of its own.
    sizes |= {d: torch.export.Dim(name, min=9, max=4096) for d, name in ((2, "h"), (3, "w"))}
    images = torch.randint(0, 256, (2, 3, 17, 30), dtype=torch.uint8)
    return torch.export.export(ThereAndBack(), (images,), dynamic_shapes=(sizes,), strict=strict)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict: bool, tmp_path: Path) -> None:
    program = exported(strict)
    operators = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert [o for o in operators if o.startswith("freqops")] == [
        "freqops.block_dct.default",
        "freqops.block_idct.default",
    ]
    torch.export.save(program, tmp_path / "program.pt2")
    again = torch.export.load(tmp_path / "program.pt2").module()
    for shape in ((2, 3, 16, 24), (3, 3, 30, 17)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        torch.testing.assert_close(again(images), ThereAndBack()(images))
    decomposed = program.run_decompositions({}).module()
    torch.testing.assert_close(decomposed(images), ThereAndBack()(images))


def test_aot_inductor(tmp_path: Path) -> None:
    path = torch._inductor.aoti_compile_and_package(
        exported(), package_path=str(tmp_path / "model.pt2")
    )
    model = torch._inductor.aoti_load_package(path)
    for shape in ((2, 3, 16, 24), (3, 3, 30, 17)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        torch.testing.assert_close(tuple(model(images)), ThereAndBack()(images))


F64 = torch.float64
PICTURE = torch.rand(2, 3, 11, 9, dtype=F64, generator=torch.Generator().manual_seed(0))
BLOCKS = torch.rand(2, 3, 2, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
BYTES = (255 * PICTURE).byte()
THREE, ALL = torch.ones(3, dtype=F64), torch.ones(192)
SAMPLES: dict[str, list[tuple[object, ...]]] = {
    "block_dct": [
        (PICTURE, [0, 70, 0], THREE, ALL, "dctnet", "none", F64),
        (BYTES, [0, 70, 9], None, None, "4:2:0", "jpeg", torch.float16, True),
        (PICTURE, [0, 70, 9], THREE, THREE, "4:4:4", "none", F64, False, True),
        (PICTURE[:0], [5], None, None, "4:4:4", "none", torch.float32),
    ],
    "block_dct_backward": [
        (BLOCKS, [0, 70, 0], THREE, "dctnet", 11, 9, F64),
        (BLOCKS, [0, 70, 9], None, "4:2:0", 16, 16, torch.bfloat16),
    ],
    "block_idct": [
        (BLOCKS, [0, 70, 9], ALL, THREE, 11, 9, F64),
        (BLOCKS, [0, 70, 9], None, None, 3, 16, torch.uint8),
        (BLOCKS, [0, 70, 9], THREE, ALL, 16, 16, torch.float32, True),
    ],
    "block_idct_backward": [
        (PICTURE, [0, 70, 9], THREE, F64),
        (PICTURE.float(), [5], None, torch.float16),
    ],
}


# opcheck itself reads .grad of the tensors that it derived from ours.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("name", "sample"), [(n, i) for n, samples in SAMPLES.items() for i in range(len(samples))]
)
def test_opcheck(name: str, sample: int) -> None:
    tracked = [
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in SAMPLES[name][sample]
    ]
    operator = getattr(torch.ops.freqops, name).default
    for arguments in (SAMPLES[name][sample], tracked):
        named = [NAMES[a] if isinstance(a, torch.dtype) else a for a in arguments]
        torch.library.opcheck(operator, tuple(named))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cuda_graph() -> None:
    images = torch.rand(2, 3, 32, 40, device="cuda", requires_grad=True)
    mean = torch.zeros(192, device="cuda")
    std = torch.ones(192, device="cuda")

    def step() -> tuple[Tensor, Tensor]:
        out = block_dct(images, [0, 70, 9], mean=mean, std=std)
        return out, torch.autograd.grad(out.sum(), images)[0]

    graph, results = cuda_graph_of(step)
    with torch.no_grad():
        images.copy_(torch.rand_like(images))
    graph.replay()
    torch.testing.assert_close(results, step())
    want = reference.block_dct(images.detach().cpu(), [0, 70, 9])
    torch.testing.assert_close(results[0].detach().cpu(), want, atol=1e-3, rtol=0)
