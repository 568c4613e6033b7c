"""What only the CUDA kernels of the channel gate do: planes in segments, pixels in chunks, 16 bytes
or one element at a time, sums in a fixed order, launches that are cut.

All of it runs under the emulation; test_gumbel_gate.py has what holds on every backend.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from support import EMULATED, FLOATING, LAYOUTS, generator
from torch import Tensor

from freqops import reference
from freqops._reference_gate import Gate, memory_format

F16, F32, F64 = torch.float16, torch.float32, torch.float64
OPS = torch.ops.freqops_emulated

# Relative error of a result that is stored so: some roundings of sums, then its own.
RELATIVE = {F32: 2e-6, F64: 1e-14, F16: 2.0**-11 + 2e-6, torch.bfloat16: 2.0**-8 + 2e-6}
SMALLEST = {F32: 1e-37, F64: 1e-300, F16: 2.0**-24, torch.bfloat16: 1e-37}


@pytest.fixture(scope="module", autouse=True)
def emulated() -> None:
    if not EMULATED.exists():
        pytest.fail(f"{EMULATED} is missing: cmake --build build/cmake --target freqops_emulated")
    torch.ops.load_library(str(EMULATED))


@dataclasses.dataclass(frozen=True)
class Case:
    """Arguments of both operators."""

    x: Tensor
    grad_y: Tensor
    grad_gate: Tensor | None
    logits: Tensor
    noise: Tensor | None
    tau: Tensor | None

    def double(self) -> Case:
        """In float64, in the same layout."""
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Case(**{k: None if t is None else t.double() for k, t in tensors.items()})

    def forward(self, hard: bool, ops: Any = None) -> list[Tensor]:
        call = OPS.gumbel_gate if ops is None else ops.gumbel_gate_operator
        return list(call(self.x, self.logits, self.noise, self.tau, hard))

    def backward(
        self, hard: bool, need_x: bool = True, need_logits: bool = True, ops: Any = None
    ) -> list[Tensor]:
        call = (OPS if ops is None else ops).gumbel_gate_backward
        x = self.x if need_logits else None
        of_logits = (self.logits, self.noise, self.tau, hard)
        return list(call(self.grad_y, self.grad_gate, x, *of_logits, need_x))


def case(
    shape: tuple[int, ...],
    dtype: torch.dtype = F32,
    layout: str = "contiguous",
    others: torch.dtype = F32,
) -> Case:
    draw = generator(sum(shape))
    x, grad_y = (torch.randn(shape, generator=draw).to(dtype) for _ in range(2))
    n, c = shape[:2]
    logits = torch.randn(n, c, 2, generator=draw).to(others)
    noise, grad_gate = (torch.randn(n, c, generator=draw).to(others) for _ in range(2))
    laid = LAYOUTS[layout]
    return Case(laid(x), laid(grad_y), grad_gate, logits, noise, torch.tensor(0.7))


def assert_close(got: Tensor, want: Tensor, absolute: Tensor | float = 0.0) -> None:
    """got, of any type, is the float64 want but for the rounding of that type and `absolute`."""
    allowed = RELATIVE[got.dtype] * want.abs() + SMALLEST[got.dtype] + absolute
    assert got.shape == want.shape
    error = (got.double() - want).abs()
    near = error <= allowed  # false for NaN
    assert near.all(), f"{int((~near).sum())} of {near.numel()} differ, by up to {error.max()}"


def check(c: Case, hard: bool) -> None:
    """Both operators against the float64 reference: values, dtypes, layouts."""
    y, gate = c.forward(hard)
    grad_x, grad_logits = c.backward(hard)
    exact = c.double()
    want_y, want_gate = exact.forward(hard, reference)
    want_x, want_logits = exact.backward(hard, ops=reference)
    assert_close(y, want_y)
    assert_close(gate, want_gate)
    assert_close(grad_x, want_x)
    sums_in_double = F64 in (c.x.dtype, c.logits.dtype)
    epsilon = torch.finfo(F64 if sums_in_double else F32).eps
    slope = Gate.of(exact.logits, exact.noise, exact.tau, hard, F64).slope
    size = (exact.x * exact.grad_y).abs().sum((2, 3))
    if exact.grad_gate is not None:
        size = size + exact.grad_gate.abs()
    assert_close(grad_logits, want_logits, (16 * epsilon * size * slope)[..., None])

    assert [t.dtype for t in (y, grad_x, gate, grad_logits)] == [c.x.dtype] * 2 + [
        c.logits.dtype
    ] * 2
    for result in (y, grad_x):
        assert result.is_contiguous(memory_format=memory_format(c.x))
    assert gate.is_contiguous() and grad_logits.is_contiguous()


# --- values ---------------------------------------------------------------------------------------

SIZES = [(1, 1), (7, 7), (8, 8), (56, 56), (3, 1370)]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size: tuple[int, int], dtype: torch.dtype, layout: str) -> None:
    for channels, hard in itertools.product([1, 3, 24], [False, True]):
        check(case((2, channels, *size), dtype, layout), hard)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_the_size_of_the_paper(dtype: torch.dtype, layout: str) -> None:
    check(case((1, 192, 56, 56), dtype, layout), hard=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_layouts(dtype: torch.dtype, layout: str) -> None:
    for shape in [(3, 8, 6, 8), (2, 5, 3, 7)]:
        check(case(shape, dtype, layout), hard=False)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_a_gradient_in_another_layout_than_x(layout: str) -> None:
    for other in LAYOUTS:
        c = case((2, 8, 6, 4), layout=layout)
        check(dataclasses.replace(c, grad_y=LAYOUTS[other](c.grad_y)), hard=True)


@pytest.mark.parametrize("others", FLOATING, ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_dtypes_of_the_other_arguments(dtype: torch.dtype, others: torch.dtype) -> None:
    """logits, noise and the gate's gradient have any type each, tau is float32 or float64."""
    for layout in ["contiguous", "channels_last"]:
        c = case((2, 16, 4, 6), dtype, layout)
        check(dataclasses.replace(c, logits=c.logits.to(others)), hard=False)
        assert c.noise is not None and c.grad_gate is not None and c.tau is not None
        mixed = dataclasses.replace(
            c, noise=c.noise.to(others), grad_gate=c.grad_gate.to(others), tau=c.tau.double()
        )
        check(mixed, hard=False)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_arguments_that_are_absent_or_strided(layout: str) -> None:
    c = case((3, 8, 5, 4), layout=layout)
    for absent in (["noise"], ["tau"], ["grad_gate"], ["noise", "tau", "grad_gate"]):
        check(dataclasses.replace(c, **dict.fromkeys(absent)), hard=False)
    draw = generator(5)
    logits = torch.randn(2, 8, 3, generator=draw).permute(2, 1, 0)
    noise, grad_gate = (torch.randn(8, 3, generator=draw).mT for _ in range(2))
    check(dataclasses.replace(c, logits=logits, noise=noise, grad_gate=grad_gate), hard=False)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_each_result_that_is_wanted(layout: str) -> None:
    """The same bits whatever else is wanted; [0] of the right type in place of what is not."""
    for shape in [(2, 8, 5, 4), (1, 2, 1, 4110)]:
        c = case(shape, F16, layout)
        grad_x, grad_logits = c.backward(hard=False)
        for need_x, need_logits in itertools.product([True, False], repeat=2):
            got = c.backward(False, need_x, need_logits)
            assert torch.equal(got[0], grad_x if need_x else torch.empty(0, dtype=F16))
            assert torch.equal(got[1], grad_logits if need_logits else torch.empty(0))
            assert not need_x or got[0].stride() == c.x.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (0, 0, 1, 1)], ids=str)
def test_nothing(shape: tuple[int, ...], layout: str) -> None:
    c = case(shape, F16, layout)
    y, gate = c.forward(hard=True)
    grad_x, grad_logits = c.backward(hard=True)
    assert y.shape == grad_x.shape == shape and y.dtype == grad_x.dtype == F16
    assert gate.shape == shape[:2] and grad_logits.shape == (*shape[:2], 2)
    assert gate.dtype == grad_logits.dtype == F32


# --- zeros and ones -------------------------------------------------------------------------------


def gates(c: Case, *values: float) -> Case:
    """Logits of which every channel's on-logit is the next of the values and the other is 0."""
    n, channels = c.x.shape[:2]
    on = torch.tensor(values).repeat(channels)[:channels].expand(n, channels)
    return dataclasses.replace(
        c, logits=torch.stack([torch.zeros(n, channels), on], -1), noise=None
    )


BITS = {F16: torch.int16, torch.bfloat16: torch.int16, F32: torch.int32, F64: torch.int64}


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [3, 24])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("hard", [True, False])
def test_closed_channels_are_zero_and_open_ones_keep_their_bits(
    hard: bool, dtype: torch.dtype, channels: int, layout: str
) -> None:
    """Whatever x and grad_y hold: any pattern of bits, NaNs with payloads among them."""
    draw = generator(1)
    shape = (2, channels, 6, 8)
    low, high = torch.iinfo(BITS[dtype]).min, torch.iinfo(BITS[dtype]).max
    x, grad_y = (
        LAYOUTS[layout](torch.randint(low, high, shape, generator=draw, dtype=BITS[dtype]))
        for _ in range(2)
    )
    x[:, :, 0, :3] = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype).view(BITS[dtype])
    grad_y[:, :, 1, 2:5] = x[:, :, 0, :3]
    # In runs that do and do not fill 16 bytes. Soft gates of these logits are exactly 0 and 1.
    for pattern in [(-1000, 1000), (-1000,) * 8 + (1000,) * 8, (-1000,), (1000, -1000, 1000)]:
        c = case(shape, dtype, layout)
        c = gates(dataclasses.replace(c, x=x.view(dtype), grad_y=grad_y.view(dtype)), *pattern)
        y, gate = c.forward(hard)
        open_ = (c.logits[..., 1] > 0)[..., None, None]
        assert torch.equal(gate, open_[..., 0, 0].float())
        assert torch.equal(y.view(BITS[dtype]), torch.where(open_, x, 0))
        for need_logits in [True, False]:
            grad_x = c.backward(hard, need_logits=need_logits)[0]
            assert torch.equal(grad_x.view(BITS[dtype]), torch.where(open_, grad_y, 0))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_gradient_of_a_closed_gate_sees_what_it_hides(layout: str) -> None:
    c = gates(case((1, 3, 4, 4), layout=layout), -1.0)
    c.x[0, 1, 2, 2] = math.nan
    grad_logits = c.backward(hard=True)[1]
    assert torch.equal(grad_logits.isnan(), torch.tensor([[[False] * 2, [True] * 2, [False] * 2]]))


UNREADABLE = """
import ctypes, mmap, sys
import torch

torch.ops.load_library(sys.argv[1])
ops = torch.ops.freqops_emulated
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 3 * page)
x = torch.frombuffer(memory, dtype=torch.float32).fill_(5).view(1, 3, 1, page // 4)
logits = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
middle = ctypes.c_void_p(x[0, 1].data_ptr())
libc = ctypes.CDLL(None)
assert libc.mprotect(middle, ctypes.c_size_t(page), 0) == 0  # PROT_NONE
y, _ = ops.gumbel_gate(x, logits, None, None, True)
grad_x, _ = ops.gumbel_gate_backward(x, None, None, logits, None, None, True, True)
for result in (y, grad_x):
    assert result.flatten(2).sum(2).tolist() == [[5 * page / 4, 0, 5 * page / 4]]
if sys.argv[2:] == ["read"]:
    x.sum()
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called by its Linux numbers")
def test_closed_planes_are_not_read() -> None:
    """Their memory may not even be readable: the script ends by a signal where it is told to."""
    command = [sys.executable, "-c", UNREADABLE, str(EMULATED)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
    read = subprocess.run([*command, "read"], capture_output=True)
    assert read.returncode != 0 and read.stdout == b""


@pytest.mark.parametrize("others", [F16, F32, F64], ids=str)
def test_extreme_logits(others: torch.dtype) -> None:
    """No NaN but where both logits are infinite."""
    inf, large = math.inf, 1e4
    pairs = [(0, large), (0, -large), (-inf, 0), (0, -inf), (large, -large), (-large, large)]
    logits = torch.tensor([pairs], dtype=others)
    c = case((1, 6, 4, 4), F16)
    for hard in [True, False]:
        extreme = dataclasses.replace(c, logits=logits, noise=None)
        check(extreme, hard)
        assert extreme.forward(hard)[1].tolist() == [[1, 0, 1, 0, 0, 1]]
    both = dataclasses.replace(c, logits=torch.full((1, 6, 2), -inf, dtype=others), noise=None)
    assert all(result.isnan().all() for result in both.forward(hard=True))


# --- every pixel once -----------------------------------------------------------------------------


def check_whole_numbers(c: Case) -> None:
    """Sums of small whole numbers are exact in any order: slope 1/4, all bits right."""
    draw = generator(2)
    x, grad_y = (
        torch.empty_like(t).copy_(torch.randint(-4, 5, t.shape, generator=draw))
        for t in (c.x, c.grad_y)
    )
    c = dataclasses.replace(gates(c, 0.0), x=x, grad_y=grad_y, grad_gate=None, tau=None)
    grad_x, grad_logits = c.backward(hard=False)
    total = (x.double() * grad_y.double()).sum((2, 3)) / 4
    assert torch.equal(grad_logits.double(), torch.stack([-total, total], -1))
    assert torch.equal(grad_x, grad_y / 2)
    assert torch.equal(c.forward(hard=False)[0], x / 2)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_every_number_of_pixels(dtype: torch.dtype) -> None:
    """A segment has 1 to 256 threads."""
    for pixels in [*range(1, 70), *range(124, 133), 255, 256, 257, 1020, 1024, 1028, 2048, 2056]:
        check_whole_numbers(case((2, 3, 1, pixels), dtype))


@pytest.mark.parametrize(
    ("dtype", "pixels"),
    [
        # Of a segment's 256 threads each takes up to 4 times 16 bytes or 8 elements forward, 16 of
        # either backward: elements where the plane is no multiple of 16 bytes, and in float64.
        *((F32, n) for n in (2047, 2049, 4095, 4096, 4097, 4100, 8194, 16384, 16385, 16388, 33000)),
        *((F16, n) for n in (2049, 4097, 8192, 8200, 32768, 32776, 65600)),
        *((F64, n) for n in (2048, 2049, 4096, 4097, 12289)),
    ],
    ids=str,
)
def test_ends_of_segments(dtype: torch.dtype, pixels: int) -> None:
    check_whole_numbers(case((1, 3, 1, pixels), dtype))


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_every_number_of_channels(dtype: torch.dtype) -> None:
    """A thread block has strips of up to 256 packs of channels, and as many pixels as fit."""
    for channels in [*range(2, 20), 24, 127, 128, 129, 192, 255, 256, 257, 513, 1024, 1032, 2056]:
        check_whole_numbers(case((2, channels, 3, 3), dtype, "channels_last"))


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("channels", [2, 3, 16, 24, 100, 192, 1032])
def test_ends_of_chunks(channels: int, dtype: torch.dtype) -> None:
    """A chunk has at most 8 (forward) or 16 (backward) times the pixels that a block takes."""
    width = 1 if dtype == F64 or channels % (16 // dtype.itemsize) else 16 // dtype.itemsize
    packs = channels // width
    rows = 256 // -(-packs // -(-packs // 256))
    for pixels in {rows, 8 * rows, 16 * rows, 32 * rows}:
        for beside in (-1, 0, 1):
            shape = (1, channels, 1, max(pixels + beside, 2))
            check_whole_numbers(case(shape, dtype, "channels_last"))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_launches_are_cut(dtype: torch.dtype, layout: str) -> None:
    """After 64 thread blocks under the emulation: many small planes, then many sums of parts, which
    a block makes eight of."""
    check_whole_numbers(case((700, 30, 1, 3), dtype, layout))
    check_whole_numbers(
        case((1, 600, 1, 20) if layout == "channels_last" else (1, 520, 1, 4110), dtype, layout)
    )


# --- bits -----------------------------------------------------------------------------------------


def results(c: Case) -> list[Tensor]:
    return [*c.forward(hard=False), *c.backward(hard=False)]


BIT_SHAPES = [(3, 5, 7, 7), (3, 16, 8, 8), (3, 24, 33, 32), (3, 2, 1, 4110), (3, 2, 131, 128)]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("shape", BIT_SHAPES, ids=str)
def test_the_same_bits_again_and_for_a_picture_alone(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> None:
    c = case(shape, dtype, layout)
    together = results(c)
    for got, want in zip(results(c), together, strict=True):
        assert torch.equal(got, want)
    for n in range(shape[0]):
        fields = {f.name: getattr(c, f.name) for f in dataclasses.fields(c)}
        one = {k: t[n : n + 1].clone() for k, t in fields.items() if k != "tau"}
        for got, want in zip(results(Case(**one, tau=c.tau)), together, strict=True):
            assert torch.equal(got, want[n : n + 1])


def displaced(x: Tensor, elements: int) -> Tensor:
    """x some elements behind the start of its memory, with its strides."""
    memory = x.new_empty(x.numel() + elements)
    return memory[elements:].as_strided(x.shape, x.stride(), elements).copy_(x)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("shape", BIT_SHAPES, ids=str)
def test_the_same_bits_wherever_memory_begins(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str
) -> None:
    """16 bytes that do not begin at a multiple of 16 are taken one by one, in the same order."""
    c = case(shape, dtype, layout)
    want = results(c)
    for elements in [1, 2, 16 // dtype.itemsize]:
        for name in ["x", "grad_y"]:
            moved = displaced(getattr(c, name), elements)
            assert moved.data_ptr() % 16 == elements * dtype.itemsize % 16
            for got, same in zip(
                results(dataclasses.replace(c, **{name: moved})), want, strict=True
            ):
                assert torch.equal(got, same)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [F32, F16], ids=str)
def test_a_million_pixels(dtype: torch.dtype, layout: str) -> None:
    """The error of a long sum of one sign is at most a few roundings of float32."""
    draw = generator(3)
    x, grad_y = (
        LAYOUTS[layout](torch.rand(1, 2, 1000, 1024, generator=draw).to(dtype)) for _ in range(2)
    )
    c = gates(Case(x, grad_y, None, torch.empty(0), None, None), 0.0)
    got = c.backward(hard=True)[1].double()
    want = c.double().backward(hard=True, ops=reference)[1]
    assert ((got - want).abs() <= 2e-6 * want.abs()).all()
    assert torch.equal(c.forward(hard=False)[0], x / 2)


@pytest.mark.large
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_more_than_two_to_the_31_elements(layout: str) -> None:
    """4.3 GB, and as much for a result; all but the last pixels are 0."""
    shape = (2, 8, 11600, 11600)
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x = torch.empty(shape, dtype=F16, memory_format=form).zero_()
    assert x.numel() > 2**31
    tail = torch.randint(-4, 5, (8, 50), generator=generator(4)).half()
    x[-1, :, -1, -50:] = tail
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 4).expand(2, 8, 2)
    y, _ = OPS.gumbel_gate(x, logits, None, None, True)
    opened = torch.tensor([1.0, 0.0] * 4)[:, None].half()
    assert torch.equal(y[-1, :, -1, -50:], tail * opened)
    del y
    total = tail.float().square().sum(1)
    grad_x, grad_logits = OPS.gumbel_gate_backward(x, None, x, logits, None, None, True, True)
    assert torch.equal(grad_x[-1, :, -1, -50:], tail * opened)
    slope = torch.sigmoid(torch.tensor([1.0, -1.0] * 4)) * torch.sigmoid(
        -torch.tensor([1.0, -1.0] * 4)
    )
    torch.testing.assert_close(grad_logits[1, :, 1], total * slope)
    assert not grad_logits[0].any()


# --- errors ---------------------------------------------------------------------------------------

GOOD = case((2, 3, 4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(3, 4, 4)}, "x must be [N, C, H, W], got [3, 4, 4]"),
        ({"x": torch.zeros(2, 3, 0, 4)}, "x must have at least one pixel, got [2, 3, 0, 4]"),
        ({"x": torch.zeros(2, 3, 4, 4).int()}, "x must be float16, bfloat16, float32 or float64"),
        ({"logits": torch.zeros(2, 3)}, "logits must be [2, 3, 2], got [2, 3]"),
        ({"logits": torch.zeros(2, 3, 2).int()}, "logits must be float16, bfloat16"),
        ({"noise": torch.zeros(2, 3, 1)}, "noise must be [2, 3], got [2, 3, 1]"),
        ({"noise": torch.zeros(2, 3).bool()}, "noise must be float16, bfloat16"),
        ({"tau": torch.zeros(1)}, "tau must have no dimension, got [1]"),
        ({"tau": torch.tensor(1.0).half()}, "tau must be float32 or float64, got Half"),
        ({"x": torch.zeros(0, 3, 4, 4)}, "logits must be [0, 3, 2], got [2, 3, 2]"),
    ],
    ids=str,
)
def test_forward_refuses(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(RuntimeError) as error:
        dataclasses.replace(GOOD, **changes).forward(hard=True)
    assert f"gumbel_gate: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad_y": torch.zeros(3, 4, 4)}, "grad_y must be [N, C, H, W], got [3, 4, 4]"),
        ({"x": torch.zeros(2, 3, 4, 5)}, "x must be [2, 3, 4, 4] like grad_y, got [2, 3, 4, 5]"),
        ({"x": torch.zeros(2, 3, 4, 4).half()}, "x must have the dtype of grad_y, Float, got Half"),
        ({"grad_gate": torch.zeros(3, 2)}, "grad_gate must be [2, 3], got [3, 2]"),
        ({"logits": torch.zeros(2, 3, 1)}, "logits must be [2, 3, 2], got [2, 3, 1]"),
        ({"noise": torch.zeros(6)}, "noise must be [2, 3], got [6]"),
        ({"tau": torch.zeros(2)}, "tau must have no dimension, got [2]"),
    ],
    ids=str,
)
def test_backward_refuses(changes: dict[str, Tensor], message: str) -> None:
    for need_x in [True, False]:
        with pytest.raises(RuntimeError) as error:
            dataclasses.replace(GOOD, **changes).backward(True, need_x)
        assert f"gumbel_gate_backward: {message}" in str(error.value)
