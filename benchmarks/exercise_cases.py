"""Calls of every operator on small tensors of every kind: types, layouts, sizes, channels."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
CHROMA = ("4:4:4", "4:2:0", "dctnet")
REGISTERS, PRODUCT = "registers", "product"

# N, H, W: one block, edges, odd grids, several tiles of blocks, rows of 16 bytes and others.
SIZES = (
    (1, 8, 8),
    (2, 9, 17),
    (3, 16, 40),
    (1, 33, 147),
    (2, 7, 5),
    (1, 1, 1),
    (1, 130, 264),
    (5, 64, 64),
    (2, 40, 128),
)
SELECTIONS: tuple[tuple[int, ...], ...] = (
    (0,),
    (*range(16), *range(64, 68), *range(128, 132)),
    tuple(range(192)),
    (63, 127, 191, 5),
    (9, 9, 70, 0, 130, 9, 191),
    tuple(range(64)),
    tuple(range(191, 111, -1)),
)

# How values lie in memory: a view of a larger contiguous tensor, and that tensor's shape.
Shape = tuple[int, ...]
LAYOUTS: dict[str, tuple[Callable[[int, int, int, int], Shape], Callable[[Tensor], Tensor]]] = {
    "contiguous": (lambda n, c, h, w: (n, c, h, w), lambda x: x),
    "channels_last": (lambda n, c, h, w: (n, h, w, c), lambda x: x.permute(0, 3, 1, 2)),
    "padded rows": (lambda n, c, h, w: (n, c, h, w + 5), lambda x: x[..., 3:-2]),
    "sliced": (lambda n, c, h, w: (n, c, 2 * h, 3 * w), lambda x: x[..., ::2, 1::3]),
    "cropped channels_last": (
        lambda n, c, h, w: (n, h + 2, w + 5, c),
        lambda x: x[:, 1:-1, 3:-2].permute(0, 3, 1, 2),
    ),
    "transposed": (lambda n, c, h, w: (n, c, w, h), lambda x: x.mT),
    "batch last": (lambda n, c, h, w: (c, h, w, n), lambda x: x.permute(3, 0, 1, 2)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Laid:
    """A tensor that reaches a device by one copy of the memory it lies in.

    Args:
        base: contiguous, on the CPU.
        view: the tensor in it.
    """

    base: Tensor
    view: Callable[[Tensor], Tensor]

    def on(self, device: str) -> Tensor:
        return self.view(self.base.to(device))


def laid(values: Tensor, layout: str) -> Laid:
    shape, view = LAYOUTS[layout]
    base = values.new_zeros(shape(*values.shape))
    view(base).copy_(values)
    return Laid(base, view)


def one_behind(values: Tensor, form: torch.memory_format) -> Laid:
    """Dense in that format, one element behind the start of its memory."""
    values = values.contiguous(memory_format=form)
    base = values.new_zeros(values.numel() + 1)
    strides = values.stride()

    def view(memory: Tensor) -> Tensor:
        return memory.as_strided(values.shape, strides, 1)

    view(base).copy_(values)
    return Laid(base, view)


def plain(values: Tensor | None) -> Laid | None:
    return None if values is None else Laid(values, lambda x: x)


Argument = Laid | Sequence[int] | torch.dtype | str | bool | int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One call of an operator.

    Args:
        operator: its name.
        arguments: types by torch.dtype.
        kernel: of block_dct for bytes.
        checked: False where results are rounded to integers, which ties may move by one.
    """

    operator: str
    arguments: tuple[Argument, ...]
    kernel: str = REGISTERS
    checked: bool = True

    def __str__(self) -> str:
        cells = []
        for a in self.arguments:
            if isinstance(a, Laid):
                x = a.on("cpu")
                cells.append(f"{str(x.dtype)[6:]}{list(x.shape)} strides {list(x.stride())}")
            else:
                cells.append(f"{len(a)} channels" if isinstance(a, tuple) else str(a))
        return f"{self.operator}({', '.join(cells)}), {self.kernel}"


def pixels(draw: torch.Generator, shape: Shape, dtype: torch.dtype) -> Tensor:
    drawn = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    return drawn if dtype == torch.uint8 else (drawn / 255).to(dtype)


def statistic(draw: torch.Generator, kind: int, count: int) -> tuple[Laid | None, Laid | None]:
    """mean and std: none, of the chosen channels, or of all 192 in float64."""
    if kind == 0:
        return None, None
    shape, dtype = ((count,), torch.float32) if kind == 1 else ((192,), torch.float64)
    mean, std = torch.randn(shape, generator=draw), torch.rand(shape, generator=draw) + 1
    return plain(mean.to(dtype)), plain(std.to(dtype))


def analysis() -> Iterator[Case]:
    """block_dct in every type, chroma mode and form of result; all else takes turns."""
    draw = torch.Generator().manual_seed(0)
    sizes, lists, layouts, kinds = (
        itertools.cycle(each) for each in (SIZES, SELECTIONS, [*LAYOUTS, "behind"], range(3))
    )
    forms = itertools.product(
        (torch.uint8, *FLOATS), FLOATS, CHROMA, (False, True), ("none", "jpeg")
    )
    for dtype, result, chroma, channels_last, rounding in forms:
        n, height, width = next(sizes)
        channels, layout = next(lists), next(layouts)
        mean, std = statistic(draw, next(kinds), len(channels))
        values = pixels(draw, (n, 3, height, width), dtype)
        images = (
            one_behind(values, torch.contiguous_format)
            if layout == "behind"
            else laid(values, layout)
        )
        given = (images, channels, mean, std, chroma, rounding, result, channels_last, False)
        checked = rounding == "none"
        yield Case("block_dct", given, checked=checked)


def bytes_by_product() -> Iterator[Case]:
    """block_dct by the product, on bytes: every way that rows are read and results written."""
    draw = torch.Generator().manual_seed(1)
    forms = itertools.product(
        ("4:4:4", "4:2:0"),
        ("contiguous", "channels_last", "padded rows", "cropped channels_last", "behind"),
        (False, True),
        SIZES,
    )
    lists, types, kinds = (itertools.cycle(each) for each in (SELECTIONS, FLOATS[:3], range(3)))
    for chroma, layout, channels_last, (n, height, width) in forms:
        channels = next(lists)
        mean, std = statistic(draw, next(kinds), len(channels))
        values = pixels(draw, (n, 3, height, width), torch.uint8)
        images = (
            one_behind(values, torch.contiguous_format)
            if layout == "behind"
            else laid(values, layout)
        )
        given = (images, channels, mean, std, chroma, "none", next(types), channels_last, False)
        yield Case("block_dct", given, PRODUCT)


CROPPED = ((16, 16), (9, 24), (8, 8))
"""Height and width of pictures of 4 x 4 blocks: one whole block and more are cut off each side."""


def synthesis() -> Iterator[Case]:
    """block_dct_backward, block_idct and block_idct_backward in every type."""
    draw = torch.Generator().manual_seed(2)
    sizes, lists, layouts, kinds = (
        itertools.cycle(each) for each in (SIZES, SELECTIONS, LAYOUTS, range(3))
    )

    def coefficients(dtype: torch.dtype, channels: tuple[int, ...]) -> tuple[Laid, int, int]:
        n, height, width = next(sizes)
        shape = (n, len(channels), -(-height // 8), -(-width // 8))
        values = 50 * torch.randn(shape, generator=draw)
        return laid(values.to(dtype), next(layouts)), height, width

    for dtype, result, chroma in itertools.product(FLOATS, FLOATS, CHROMA):
        channels = next(lists)
        _, std = statistic(draw, next(kinds), len(channels))
        grad, height, width = coefficients(dtype, channels)
        yield Case("block_dct_backward", (grad, channels, std, chroma, height, width, result))
    once = itertools.cycle([s for s in SELECTIONS if len(set(s)) == len(s)])
    for dtype, result in itertools.product(FLOATS, (torch.uint8, *FLOATS)):
        for linear in (False, True):
            channels = next(once)
            mean, std = statistic(draw, next(kinds), len(channels))
            x, height, width = coefficients(dtype, channels)
            yield Case("block_idct", (x, channels, mean, std, height, width, result, linear))
    for dtype, result in itertools.product(FLOATS, (torch.uint8, *FLOATS)):
        for height, width in CROPPED:
            channels = next(once)
            mean, std = statistic(draw, next(kinds), len(channels))
            values = 50 * torch.randn(2, len(channels), 4, 4, generator=draw)
            x = laid(values.to(dtype), next(layouts))
            yield Case("block_idct", (x, channels, mean, std, height, width, result, False))
    for dtype, result in itertools.product(FLOATS, FLOATS):
        channels = next(once)
        _, std = statistic(draw, next(kinds), len(channels))
        n, height, width = next(sizes)
        values = pixels(draw, (n, 3, height, width), dtype)
        yield Case("block_idct_backward", (laid(values, next(layouts)), channels, std, result))


GATE_SHAPES = (  # packs of 16 bytes or not, several segments of a plane, several strips of a pixel
    (2, 3, 8, 8),
    (3, 24, 5, 5),
    (2, 16, 7, 9),
    (1, 2, 71, 70),
    (1, 1, 130, 132),
    (1, 1100, 2, 3),
    (2, 8, 1, 1),
    (1, 7, 3, 67),
)


def gates() -> Iterator[Case]:
    """The gate forward and backward in every type, layout and way to take features."""
    draw = torch.Generator().manual_seed(3)
    forms = itertools.product(FLOATS, (False, True), GATE_SHAPES, (False, True))
    others = itertools.cycle((torch.float32, torch.float64, torch.float16))
    for turn, (dtype, last, shape, behind) in enumerate(forms):
        n, c = shape[:2]
        form = torch.channels_last if last else torch.contiguous_format

        def features(
            shape: Shape = shape,
            dtype: torch.dtype = dtype,
            form: torch.memory_format = form,
            behind: bool = behind,
            last: bool = last,
        ) -> Laid:
            values = torch.randn(shape, generator=draw).to(dtype)
            if behind:
                return one_behind(values, form)
            return laid(values, "channels_last" if last else "contiguous")

        logits = torch.randn(n, c, 2, generator=draw)
        if turn % 5 == 3:
            logits[..., 1] -= 20  # all closed
        if turn % 5 == 4:
            logits[..., 1] += 20  # all open
        kind = dtype if turn % 2 else next(others)
        small = plain(logits.to(kind))
        noise = plain(torch.randn(n, c, generator=draw).to(kind)) if turn % 3 else None
        tau = plain(torch.tensor(0.7)) if turn % 4 > 1 else None
        hard = turn % 7 != 0
        yield Case("gumbel_gate", (features(), small, noise, tau, hard))
        grad_gate = plain(torch.randn(n, c, generator=draw).to(kind)) if turn % 3 else None
        need_x = turn % 6 != 1
        x = features() if turn % 6 != 5 or not need_x else None
        yield Case(
            "gumbel_gate_backward", (features(), grad_gate, x, small, noise, tau, hard, need_x)
        )


def gated_transforms() -> Iterator[Case]:
    """The mean of the transform and the transform with a gate known in advance."""
    draw = torch.Generator().manual_seed(4)
    sizes, lists, layouts, kinds = (
        itertools.cycle(each) for each in (SIZES, SELECTIONS, LAYOUTS, range(3))
    )
    for dtype, chroma in itertools.product((torch.uint8, *FLOATS), CHROMA):
        for result in FLOATS:
            n, height, width = next(sizes)
            channels = next(lists)
            mean, std = statistic(draw, next(kinds), len(channels))
            images = laid(pixels(draw, (n, 3, height, width), dtype), next(layouts))
            gate = (torch.rand(n, len(channels), generator=draw) < 0.4).float()
            first = (images, plain(gate), channels, mean, std, chroma, result)
            yield Case("block_dct_gated", (*first, result in FLOATS[:2]))
        yield Case("block_dct_mean", (images, channels, mean, std, chroma))


SAMPLINGS = {
    "4:4:4": (1, 1),
    "4:2:2": (1, 2),
    "4:4:0": (2, 1),
    "4:2:0": (2, 2),
    "4:1:1": (1, 4),
    "gray": (1, 1),
}
"""Pixels of luma to one of chroma, down and across."""

# N and blocks of luma: one, odd grids, a whole run of a row, several.
GRIDS = ((1, 1, 1), (2, 5, 7), (1, 3, 33), (3, 2, 32), (70, 1, 2), (1, 9, 70))

# Eighths, down and across. Full size is another kernel, and the one that is called most.
EIGHTHS = (((8,), (8,)), ((4,), (4,)), ((8,), (8,)), ((11,), (3,)), ((8,), (8,)), ((2, 6), (16, 5)))


def blocks_of_files(values: Tensor, layout: str) -> Laid:
    """[N, height, width, 64] in memory that is larger, or begins at any multiple of two bytes."""
    n, height, width, _ = values.shape
    views: dict[str, tuple[Shape, Callable[[Tensor], Tensor]]] = {
        "contiguous": ((n, height, width, 64), lambda x: x),
        "cropped": ((n + 1, height + 2, width + 3, 64), lambda x: x[1:, 1:-1, 2:-1]),
        "gaps": ((n, height, width, 81), lambda x: x[..., 13:77]),
        "transposed": ((n, width, height, 64), lambda x: x.transpose(1, 2)),
    }
    shape, view = views[layout]
    base = values.new_zeros(shape)
    view(base).copy_(values)
    return Laid(base, view)


def gathers() -> Iterator[Case]:
    """jpeg_gather of every subsampling to every type and form; all else takes turns."""
    draw = torch.Generator().manual_seed(5)
    grids, lists, kinds, scales, layouts, shared, flips = (
        itertools.cycle(each)
        for each in (
            GRIDS,
            SELECTIONS,
            range(3),
            EIGHTHS,
            ("contiguous", "cropped", "gaps", "contiguous", "transposed"),
            ("each", "each", "shared", None),
            (False, True, True, False, True),
        )
    )
    forms = itertools.product(SAMPLINGS.items(), FLOATS[:3], (False, True), range(3))
    for (name, (fy, fx)), result, channels_last, _ in forms:
        (n, by, bx), channels, layout = next(grids), next(lists), next(layouts)

        def plane(height: int, width: int, n: int = n, layout: str = layout) -> Laid:
            shape = (n, height, width, 64)
            values = torch.randint(-60, 61, shape, dtype=torch.int16, generator=draw)
            return blocks_of_files(values, layout)

        gray = name == "gray"
        cb, cr = (None if gray else plane(-(-by // fy), -(-bx // fx)) for _ in range(2))
        form, count = next(shared), 1 if gray else 3
        shape = (count, 64) if form == "shared" else (n, count, 64)
        steps = torch.randint(1, 21, shape, dtype=torch.int32, generator=draw)
        tables = None if form is None else plain(steps)
        mean, std = statistic(draw, next(kinds), len(channels))
        down, across = next(scales)
        part = []
        for size, eighths in ((by, down), (bx, across)):
            for k in eighths:
                size = (size * k + 7) // 8
            part.append((size // 5, size - size // 5 - size // 7))  # begin, count
        (top, rows), (left, columns) = part
        given = (plane(by, bx), cb, cr, tables, channels, mean, std, name, down, across)
        where = (top, left, rows, columns, next(flips))
        yield Case("jpeg_gather", (*given, *where, result, channels_last))


PARAMETERS = {
    "block_dct_mean": ["images", "channels", "mean", "std", "chroma"],
    "block_dct_gated": [
        *("images", "gate", "channels", "mean", "std", "chroma", "dtype", "channels_last")
    ],
    "jpeg_gather": [
        *("y", "cb", "cr", "tables", "channels", "mean", "std", "subsampling", "scale_y"),
        *("scale_x", "top", "left", "rows", "columns", "flip", "dtype", "channels_last"),
    ],
}
"""Of the operators that a build may lack."""


def cases(operators: object) -> tuple[list[Case], list[str]]:
    """Those of the operators that there are, shuffled, and what is left out and why."""
    every = [*analysis(), *synthesis(), *gates()]
    left = []
    if hasattr(operators, "set_dct_kernel"):
        every += bytes_by_product()
    else:
        left.append("the product: not in this build")
    for name, expected in PARAMETERS.items():
        if not hasattr(operators, name):
            left.append(f"{name}: not in this build")
            continue
        schema = getattr(operators, name).default._schema
        if [argument.name for argument in schema.arguments] != expected:
            left.append(f"{name}: its arguments are others: {schema}")
            continue
        more = gathers() if name == "jpeg_gather" else gated_transforms()
        every += [case for case in more if case.operator == name]
    random.Random(0).shuffle(every)
    return every, left
