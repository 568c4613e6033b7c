"""jpeg_gather by the CUDA kernels: runs, launches, accesses, maps, and the memory around tensors.

Under the emulation, and on a GPU where there is one.
"""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from by_dtype import Operators
from guards import guarded, guarded_memory
from jpeg_blocks import ALL, F32, F64, RESULTS, Blocks, blocks, check, gather
from support import CHANNELS, EMULATED, Backend, selection, statistics
from torch import Tensor

from freqops._reference_jpeg import SAMPLINGS, Scale

SCALES: list[Scale] = [8, 4, 11, 1, 16, (3, 7), (8, 5), (5, 8), ((2, 6), 5), ((11, 1), (1, 11))]


@pytest.fixture(params=["cuda-emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest) -> Backend:
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU here")
        return Backend(request.param, Operators(torch.ops.freqops), "cuda")
    if not EMULATED.exists():
        pytest.fail(f"{EMULATED} is missing: cmake --build build/cmake --target freqops_emulated")
    torch.ops.load_library(str(EMULATED))
    return Backend(request.param, Operators(torch.ops.freqops_emulated), "cpu")


def files(subsampling: str, n: int, by: int, bx: int, tables: str | None = "each") -> Blocks:
    return blocks(subsampling, by, bx, n, tables)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("subsampling", SAMPLINGS)
def test_values(cuda: Backend, subsampling: str, scale: Scale, channels_last: bool) -> None:
    """All else takes turns: sizes, crops, flips, result types, statistics."""
    types = itertools.cycle(RESULTS)
    for (by, bx), flip in itertools.product([(5, 37), (2, 3), (1, 1)], (False, True)):
        given = files(subsampling, 2, by, bx)
        height, width = given.grid(scale)
        crops = [None, (height // 2, width // 3, height - height // 2, width - width // 3)]
        for crop in crops:
            dtype = next(types)
            options = {"flip": flip, "dtype": dtype, "channels_last": channels_last}
            check(cuda, given, ALL, *statistics(192), scale=scale, crop=crop, **options)


@pytest.mark.parametrize("width", [1, 31, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "4:1:1"])
def test_runs_of_a_row(cuda: Backend, subsampling: str, width: int) -> None:
    """One run, a whole one, several, and a last one of one block."""
    channels = selection(40)
    for scale, flip in itertools.product((8, (8, 11)), (False, True)):
        given = files(subsampling, 1, 2, width)
        check(cuda, given, channels, scale=scale, flip=flip)
        plain = gather(cuda, given, channels, scale=scale, flip=flip)
        last = gather(cuda, given, channels, scale=scale, flip=flip, channels_last=True)
        assert torch.equal(plain, last)


@pytest.mark.parametrize("scale", [8, 5], ids=str)
@pytest.mark.parametrize("size", [(70, 1, 1), (7, 5, 40), (3, 66, 33), (2, 130, 2)], ids=str)
def test_pictures_of_a_batch_do_not_touch(
    cuda: Backend, size: tuple[int, int, int], scale: Scale
) -> None:
    """A batch gives each picture's own result to the last bit. Launches end between pictures, after
    64 runs under the emulation, or take one picture of more."""
    given, channels = files("4:2:0", *size), selection(20)
    for channels_last in (False, True):
        options = {"scale": scale, "channels_last": channels_last}
        together = gather(cuda, given, channels, *statistics(20), **options)
        for n in range(size[0]):
            alone = gather(cuda, given.one(n), channels, *statistics(20), **options)
            assert torch.equal(together[n : n + 1], alone)


def spaced(axis: int) -> Callable[[Tensor], Tensor]:
    """One axis goes on by an odd number of elements beyond what it takes, the others by whole
    blocks."""

    def layout(p: Tensor) -> Tensor:
        strides = [64] * 3
        for i in (2, 1, 0):
            inner = 64 if i == 2 else strides[i + 1] * p.shape[i + 1]
            strides[i] = -(-inner // 64) * 64 + (3 if i == axis else 64)
        room = 64 + sum((size - 1) * step for size, step in zip(p.shape[:3], strides, strict=True))
        return p.new_full((room,), 9999).as_strided(p.shape, (*strides, 1)).copy_(p)

    return layout


def behind(p: Tensor) -> Tensor:
    """One element behind the start of its memory."""
    flat = p.new_zeros(p.numel() + 1)
    flat[1:] = p.reshape(-1)
    return flat[1:].view(p.shape)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "behind": behind,
    "pictures apart": spaced(0),
    "rows apart": spaced(1),
    "blocks apart": spaced(2),
    "all aligned": spaced(3),
    "permuted": lambda p: p.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3),
    "one block for all": lambda p: p[:1, :1, :1].expand(p.shape),
}


@pytest.mark.parametrize("scale", [8, 11], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(cuda: Backend, layout: str, scale: Scale) -> None:
    """The bits of contiguous blocks, whatever access they take. The emulation stops at a wide one
    that is not aligned."""
    for name in ("4:4:4", "4:2:0", "gray"):
        given = files(name, 3, 4, 19)
        laid = given.map(LAYOUTS[layout])
        given = laid.map(lambda p: p.contiguous())
        want = gather(cuda, given, ALL, scale=scale, flip=True)
        assert torch.equal(gather(cuda, laid, ALL, scale=scale, flip=True), want)
        # One component alone in another layout.
        some = dataclasses.replace(given, y=laid.y)
        assert torch.equal(gather(cuda, some, ALL, scale=scale, flip=True), want)


@pytest.mark.parametrize("tables", [None, "shared", "each"])
@pytest.mark.parametrize("scale", [8, 6], ids=str)
def test_tables(cuda: Backend, scale: Scale, tables: str | None) -> None:
    for name in ("4:2:0", "gray"):
        given = files(name, 3, 3, 9, tables)
        check(cuda, given, ALL, scale=scale)
        if given.tables is not None:
            strided = given.tables.mT.contiguous().mT
            alike = dataclasses.replace(given, tables=strided)
            assert torch.equal(gather(cuda, alike, ALL), gather(cuda, given, ALL))


CHOSEN = {
    "one": [191],
    "no luma": [64, 130, 70],
    "no order, some twice": [130, 7, 64, 7, 0, 130, 9],
    "one 192 times": [77] * 192,
    "backwards": ALL[::-1],
    "only luma": [63, 0, 8],
}


@pytest.mark.parametrize("scale", [8, (8, 16), 3], ids=str)
@pytest.mark.parametrize("chosen", CHOSEN)
def test_selections(cuda: Backend, chosen: str, scale: Scale) -> None:
    channels = CHOSEN[chosen]
    for name, channels_last in itertools.product(("4:4:4", "4:2:0", "gray"), (False, True)):
        given = files(name, 2, 3, 35)
        for count in {len(channels), CHANNELS}:
            mean, std = statistics(count, F64)
            check(cuda, given, channels, mean, std, scale=scale, channels_last=channels_last)


@pytest.mark.parametrize("v", range(8))
def test_each_coefficient(cuda: Backend, v: int) -> None:
    """Rows and columns that no channel needs are left out."""
    for u, scale, name in itertools.product(range(8), (8, 11), ("4:4:4", "4:2:0", "4:1:1")):
        channels = [8 * v + u, 128 + 8 * u + v]
        check(cuda, files(name, 1, 2, 5), channels, scale=scale, flip=True)


def test_maps_of_many_words(cuda: Backend) -> None:
    """Scaled axes go to the device 240 words at a time: here in several launches."""
    check(cuda, files("4:2:2", 1, 1, 180), [0, 9, 70], scale=(8, 11))
    check(cuda, files("4:4:0", 1, 150, 1), [0, 9, 70], scale=(13, 8), flip=True)


@pytest.mark.parametrize("scale", [((1, 1), (1, 1)), ((16, 16, 1), (1, 16, 16))], ids=str)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_sums_of_many_blocks(cuda: Backend, subsampling: str, scale: Scale) -> None:
    """A result of 64 x 64 blocks, and blocks that are spread and summed again."""
    by, bx = (70, 130) if scale[0] == (1, 1) else (9, 10)
    check(cuda, files(subsampling, 1, by, bx), [0, 1, 8, 64, 191], scale=scale)


def test_full_size_in_several_steps(cuda: Backend) -> None:
    """Scales of 8 alone are full size."""
    given = files("4:2:0", 2, 5, 9)
    want = gather(cuda, given, ALL)
    for scale in (((8, 8), (8,)), ((8,), (8, 8, 8))):
        assert torch.equal(gather(cuda, given, ALL, scale=scale), want)


def test_full_size_is_what_scaling_gives(cuda: Backend) -> None:
    """The matrices of the first half of a block and their mirror images, beside the general map:
    with a crop, every part of a block is the first of a row in its turn."""
    for name, flip in itertools.product(SAMPLINGS, (False, True)):
        given = files(name, 1, 4, 9)
        for top, left in itertools.product(range(2), range(4)):
            crop = (top, left, 2, 5)
            check(cuda, given, selection(64), crop=crop, flip=flip)


@pytest.mark.parametrize("scale", [8, 11], ids=str)
def test_results_are_float32_ones_rounded(cuda: Backend, scale: Scale) -> None:
    given, channels = files("4:2:0", 2, 3, 21), selection(70)
    for dtype, channels_last in itertools.product(RESULTS[1:], (False, True)):
        options = {"scale": scale, "channels_last": channels_last}
        whole = gather(cuda, given, channels, *statistics(70), **options)
        got = gather(cuda, given, channels, *statistics(70), dtype=dtype, **options)
        assert torch.equal(got, whole.to(dtype))


def test_all_values_times_their_steps_are_exact(cuda: Backend) -> None:
    """Every value of 16 bits, in float32 without a rounding where the step is small."""
    y = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(1, 32, 32, 64)
    tables = torch.arange(1, 65, dtype=torch.int32).view(1, 64)
    for flip in (False, True):
        got = gather(cuda, Blocks(y, None, None, tables, "gray"), ALL[:64], flip=flip)
        want = (y.int() * tables).permute(0, 3, 1, 2).float()
        if flip:
            signs = torch.tensor([1.0, -1.0]).repeat(32).view(1, 64, 1, 1)
            want = want.flip(3) * signs
        assert torch.equal(got, want)


def test_statistics_are_read_by_stride(cuda: Backend) -> None:
    given, channels = files("4:2:2", 1, 2, 5), selection(12)
    for dtype, count in itertools.product((F32, F64), (12, 192)):
        mean, std = torch.stack(statistics(count, dtype), 1).unbind(1)
        check(cuda, given, channels, mean, std)
        check(cuda, given, channels, None, std)
        check(cuda, given, channels, mean)


def test_an_empty_batch(cuda: Backend) -> None:
    for scale in (8, 11):
        got = gather(cuda, files("4:2:0", 0, 3, 5), [0, 70], scale=scale)
        assert got.shape == (0, 2, *files("4:2:0", 1, 3, 5).grid(scale))


@pytest.mark.parametrize("scale", [8, 11], ids=str)
def test_repeats_bit_for_bit(cuda: Backend, scale: Scale) -> None:
    given = files("4:2:0", 2, 9, 45)
    for channels_last in (False, True):
        options = {"scale": scale, "channels_last": channels_last}
        first = gather(cuda, given, ALL, *statistics(192), **options)
        for _ in range(3):
            assert torch.equal(gather(cuda, given, ALL, *statistics(192), **options), first)


FAR = 2**31 + 8
"""Elements, a multiple of 16 bytes."""


@pytest.mark.parametrize("axis", range(3))
def test_blocks_beyond_two_to_the_31(axis: int) -> None:
    """Of memory that is never touched but where blocks are."""
    torch.ops.load_library(str(EMULATED))
    emulated = Backend("cuda-emulated", Operators(torch.ops.freqops_emulated), "cpu")
    given = files("gray", 2, 2, 2)

    def far(p: Tensor) -> Tensor:
        strides = [*p.stride()]
        strides[axis] = FAR
        try:
            room = torch.empty(FAR + p.numel(), dtype=p.dtype)
        except RuntimeError as error:
            pytest.skip(f"no address space for {FAR} elements: {error}")
        return room.as_strided(p.shape, strides).copy_(p)

    for scale in (8, 12):
        want = gather(emulated, given, ALL[:64], scale=scale)
        assert torch.equal(gather(emulated, given.map(far), ALL[:64], scale=scale), want)


def test_a_grid_of_two_to_the_31_blocks_is_refused(cuda: Backend) -> None:
    one = torch.zeros(1, 1, 1, 64, dtype=torch.int16).expand(1, 2**15, 2**16, 64)
    with pytest.raises(RuntimeError, match=r"jpeg_gather: .* fewer than 2\^31"):
        gather(cuda, Blocks(one, None, None, None, "gray"), [0])


def test_what_would_leave_memory_is_refused(cuda: Backend) -> None:
    given = files("4:2:0", 2, 3, 5)
    for change, message in (
        ({"channels": [192]}, r"channels must lie in \[0, 192\), got 192"),
        ({"mean": torch.zeros(3)}, r"mean must be \[1\] or \[192\], got \[3\]"),
        ({"std": torch.ones(1, dtype=torch.int32)}, "std must be float32 or float64"),
        ({"crop": (0, 1, 3, 5)}, "left and columns must lie within the 5 blocks"),
        ({"scale": 17}, r"scale_y must lie in \[1, 16\]"),
        ({"dtype": F64}, "dtype must be float32, float16 or bfloat16"),
        ({"b": dataclasses.replace(given, cb=given.y)}, r"cb must be \[2, 2, 3, 64\]"),
        ({"b": dataclasses.replace(given, cr=None)}, 'cr must be a tensor for "4:2:0"'),
    ):
        arguments = {"b": given, "channels": [0], "crop": (0, 0, 3, 5), **change}
        with pytest.raises(RuntimeError, match=f"jpeg_gather: {message}"):
            gather(cuda, **arguments)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_all_tensors_are_on_one_device() -> None:
    given, part = files("4:2:0", 1, 2, 2), (0, 0, 2, 2)
    for i, name in ((1, "cb"), (3, "tables"), (4, "mean"), (5, "std")):
        tensors = [given.y, given.cb, given.cr, given.tables, torch.zeros(1), torch.ones(1)]
        placed = [t if k == i or t is None else t.cuda() for k, t in enumerate(tensors)]
        with pytest.raises(RuntimeError, match=f"jpeg_gather: {name} must be on the device"):
            torch.ops.freqops.jpeg_gather(
                *placed[:4], [0], *placed[4:], "4:2:0", [8], [8], *part, False, "float32"
            )


def run_between_guards() -> None:
    """Every tensor beside pages that may not be read."""
    torch.ops.load_library(str(EMULATED))
    emulated = Backend("cuda-emulated", Operators(torch.ops.freqops_emulated), "cpu")
    memory = [guarded_memory() for _ in range(6)]
    sizes = [(1, 1), (3, 33), (2, 7)]
    layouts = ["all aligned", "behind", "blocks apart"]
    for name, size, layout in itertools.product(SAMPLINGS, sizes, layouts):
        print(name, size, layout, flush=True)
        given = files(name, 2, *size).map(LAYOUTS[layout])
        for scale, count in ((8, 12), (8, 192), (11, 192), ((3, 8), 12)):
            channels, (mean, std) = selection(12), statistics(count)
            for channels_last in (False, True):
                options = {"scale": scale, "flip": True, "channels_last": channels_last}
                want = gather(emulated, given, channels, mean, std, **options)
                for last in (True, False):
                    planes = (given.y, given.cb, given.cr, given.tables, mean, std)
                    y, cb, cr, tables, *placed = (
                        None if t is None else guarded(memory[i], t, last)
                        for i, t in enumerate(planes)
                    )
                    assert y is not None
                    beside = Blocks(y, cb, cr, tables, name)
                    assert torch.equal(gather(emulated, beside, channels, *placed, **options), want)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_nothing_beside_a_tensor_is_read() -> None:
    """A fault would end the process."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout[-80:], done.stderr)


if __name__ == "__main__":
    run_between_guards()
