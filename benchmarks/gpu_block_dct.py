"""Tables of the transform on a GPU: forward, backward, inverse, and one call's latency."""

from __future__ import annotations

import dataclasses
import functools

import torch
from gpu_setting import (
    FIGURES,
    REGISTERS,
    Pictures,
    Section,
    Setting,
    figures,
    kernel,
    kernels,
    statistics,
)
from measure_cuda import Call, interleaved, latency
from tables import Row, Table
from torch import Tensor

import freqops
from freqops import ChannelSelection, reference

BATCHES = (256, 64, 8, 1)
SIDE = 448
CHANNELS = (24, 64, 192)
CROSSOVER = (8, 16, 24, 32, 48, 64, 80, 96, 128, 192)

CHECKED = 2
"""Pictures of the batch whose results are compared with the reference in float64."""

PICTURES = {"pictures": "{}", "channels": "{}"}
ERROR = {"error": "{:.1e}"}


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to call ``block_dct``: all but the size of the pictures and the number of channels."""

    pixels: torch.dtype = torch.uint8
    layout: torch.memory_format = torch.contiguous_format
    chroma: str = "4:4:4"
    rounding: str = "none"
    dtype: torch.dtype = torch.float32
    result: torch.memory_format = torch.contiguous_format

    def call(self, images: Tensor, channels: tuple[int, ...], mean: Tensor, std: Tensor) -> Tensor:
        return freqops.block_dct(
            images,
            channels,
            mean=mean,
            std=std,
            chroma=self.chroma,
            rounding=self.rounding,
            dtype=self.dtype,
            memory_format=self.result,
        )

    def exact(self, images: Tensor, channels: tuple[int, ...], mean: Tensor, std: Tensor) -> Tensor:
        """The reference in float64."""
        return reference.block_dct(
            images if images.dtype == torch.uint8 else images.double(),
            channels,
            mean=mean,
            std=std,
            chroma=self.chroma,
            rounding=self.rounding,
            dtype=torch.float64,
        )

    @property
    def has_product(self) -> bool:
        """Whether the product may compute it."""
        return self.pixels == torch.uint8 and self.chroma != "dctnet" and self.rounding == "none"


PLAIN = Form()


def square(count: int) -> tuple[int, ...]:
    """``ChannelSelection.square``, or ``triangle`` where no square has so many channels."""
    return tuple(ChannelSelection.of(count).indices)


def forward_rows(
    setting: Setting,
    channels: tuple[int, ...],
    batch: int,
    size: tuple[int, int],
    form: Form,
    names: tuple[str, ...],
    plain: Form | None = None,
) -> tuple[list[tuple[str, Row, float]], float]:
    """Of each kernel its name, figures and error; and the seconds of the plain form beside it."""
    height, width = (setting.side(pixels) for pixels in size)
    pictures = Pictures(setting.batch(batch), height, width, form.pixels, form.layout)
    mean, std = statistics(len(channels), setting.device)
    moved = pictures.nbytes + pictures.blocks * len(channels) * form.dtype.itemsize
    images = setting.inputs(pictures.drawn, moved)

    def of_kernel(name: str, index: int) -> Tensor:
        with kernel(name):
            return form.call(images[index], channels, mean, std)

    calls: dict[str, Call] = {name: functools.partial(of_kernel, name) for name in names}
    if plain is not None:
        plainly = dataclasses.replace(pictures, dtype=plain.pixels, layout=plain.layout)
        draw = setting.generator
        bytes_alone = [plainly.drawn(draw) for _ in images]
        calls["plain"] = lambda index: plain.call(bytes_alone[index], channels, mean, std)
    measured = interleaved(
        calls, len(images), setting.copy, seconds=setting.seconds, least=setting.least
    )
    few = images[0][:CHECKED]
    exact = form.exact(few, channels, mean, std)
    rows = []
    for name in names:
        with kernel(name):
            result = form.call(few, channels, mean, std)
        error = float(((result - exact).abs() * std.double().view(-1, 1, 1)).max())
        rows.append((name, figures(measured, name, moved) | {"error": error}, moved))
    first: Row = {"pictures": str(pictures), "channels": len(channels)}
    found = [(name, first | row, size) for name, row, size in rows]
    return found, measured.timings["plain"].seconds if plain is not None else 0.0


FORWARD = Table(
    "Forward",
    "uint8 contiguous pictures, chroma 4:4:4, float32 results, with statistics. **product** is the "
    "kernel of integer matrices on tensor cores, **registers** the default. Goal: 90 % of the copy "
    "at 256 pictures.",
    PICTURES | {"kernel": "{}"} | FIGURES | ERROR,
)


def forward(setting: Setting) -> Section:
    def rows(batch: int, count: int) -> list[Row]:
        names = kernels(setting.device)
        found, _ = forward_rows(setting, square(count), batch, (SIDE, SIDE), PLAIN, names)
        return [{**_head(row), "kernel": name, **_rest(row)} for name, row, _ in found]

    cases = {
        f"{batch} pictures, {count} channels": functools.partial(rows, batch, count)
        for batch in BATCHES
        for count in CHANNELS
    }
    return Section(FORWARD, cases)


def _head(row: Row) -> Row:
    return {name: row[name] for name in PICTURES}


def _rest(row: Row) -> Row:
    return {name: cell for name, cell in row.items() if name not in PICTURES}


CROSSOVERS = Table(
    "Crossover",
    "As above, 64 pictures, by the number of channels: where the faster kernel changes.",
    PICTURES | {"kernel": "{}"} | FIGURES | ERROR,
)


def crossover(setting: Setting) -> Section:
    def rows(count: int) -> list[Row]:
        names = kernels(setting.device)
        found, _ = forward_rows(setting, square(count), 64, (SIDE, SIDE), PLAIN, names)
        return [{**_head(row), "kernel": name, **_rest(row)} for name, row, _ in found]

    cases = {f"{count} channels": functools.partial(rows, count) for count in CROSSOVER}
    return Section(CROSSOVERS, cases)


LAST = torch.channels_last
CHANGES: dict[str, Form] = {
    "uint8 channels_last": Form(layout=LAST),
    "float32 pictures": Form(pixels=torch.float32),
    "float32 channels_last": Form(pixels=torch.float32, layout=LAST),
    "float16 pictures": Form(pixels=torch.float16),
    "float16 results": Form(dtype=torch.float16),
    "bfloat16 results": Form(dtype=torch.bfloat16),
    "channels_last results": Form(result=LAST),
    "float16 channels_last results": Form(dtype=torch.float16, result=LAST),
    "uint8 channels_last to channels_last": Form(layout=LAST, result=LAST),
    "4:2:0": Form(chroma="4:2:0"),
    "dctnet": Form(chroma="dctnet"),
    "rounding jpeg": Form(rounding="jpeg"),
}
SIZES = {"64 x 224": (64, 224, 224), "8 x 1080": (8, 1080, 1920), "64 x 450": (64, 450, 450)}

CHANGED = Table(
    "One thing changed",
    "64 x 448x448 unless another size is named. **of plain** is the time in units of that of uint8 "
    "contiguous pictures of the same size to float32 results by the default kernel, in the same "
    "rounds. Goal: 80 % of the copy.",
    {"changed": "{}"} | PICTURES | {"kernel": "{}"} | FIGURES | {"of plain": "{:.2f}"} | ERROR,
)


def arbitrary() -> tuple[int, ...]:
    """40 channels in no order, four of them twice."""
    drawn = torch.randperm(192, generator=torch.Generator().manual_seed(3))[:36].tolist()
    return (*drawn, *drawn[:4])


def changed(setting: Setting) -> Section:
    def rows(
        what: str, channels: tuple[int, ...], batch: int, size: tuple[int, int], form: Form
    ) -> list[Row]:
        names = kernels(setting.device) if form.has_product else (REGISTERS,)
        found, plain = forward_rows(setting, channels, batch, size, form, names, PLAIN)
        result = []
        for name, row, _ in found:
            rest = dict(_rest(row))
            error = rest.pop("error")
            took = float(rest["ms"])  # type: ignore[arg-type]
            of_plain = took / (1e3 * plain) if plain else None
            result.append(
                {"changed": what, **_head(row), "kernel": name, **rest}
                | {"of plain": of_plain, "error": error}
            )
        return result

    cases = {}
    for what, form in CHANGES.items():
        for count in CHANNELS:
            cases[f"{what}, {count} channels"] = functools.partial(
                rows, what, square(count), 64, (SIDE, SIDE), form
            )
    what = "36 channels in no order, 4 of them twice"
    cases[what] = functools.partial(rows, what, arbitrary(), 64, (SIDE, SIDE), PLAIN)
    for name, (batch, *size) in SIZES.items():
        for count in CHANNELS:
            cases[f"{name}, {count} channels"] = functools.partial(
                rows, "size", square(count), batch, (size[0], size[1]), PLAIN
            )
    return Section(CHANGED, cases)


BACKWARD = Table(
    "Backward and inverse",
    "Contiguous, chroma 4:4:4 unless named, with std. **block_dct_backward** reads gradients of "
    "the coefficients and writes those of float32 pictures; **block_idct** reads float32 "
    "coefficients; **block_idct_backward** reads gradients of float32 pictures. Errors are the "
    "largest difference from the reference in float64 in units of its largest number. Goal: 80 % "
    "of the copy.",
    {"operator": "{}"} | PICTURES | FIGURES | ERROR,
)

OPERATORS: dict[str, tuple[str, str, torch.dtype]] = {
    "block_dct_backward": ("block_dct_backward", "4:4:4", torch.float32),
    "block_dct_backward, 4:2:0": ("block_dct_backward", "4:2:0", torch.float32),
    "block_dct_backward, dctnet": ("block_dct_backward", "dctnet", torch.float32),
    "block_idct to uint8": ("block_idct", "4:4:4", torch.uint8),
    "block_idct to float32": ("block_idct", "4:4:4", torch.float32),
    "block_idct_backward": ("block_idct_backward", "4:4:4", torch.float32),
}


def backward(setting: Setting) -> Section:
    def rows(what: str, batch: int, count: int) -> list[Row]:
        operator, chroma, dtype = OPERATORS[what]
        channels, side = square(count), setting.side(SIDE)
        pictures = Pictures(setting.batch(batch), side, side, torch.float32)
        mean, std = statistics(count, setting.device)
        coefficients = 4 * pictures.blocks * count
        moved = coefficients + pictures.nbytes // 4 * dtype.itemsize
        shape = (pictures.batch, count, side // 8, side // 8)
        name = str(dtype).removeprefix("torch.")

        def gradient(draw: torch.Generator) -> Tensor:
            return torch.randn(shape, device=setting.device, generator=draw)

        given = setting.inputs(
            pictures.drawn if operator == "block_idct_backward" else gradient, moved
        )

        def call(x: Tensor) -> Tensor:
            if operator == "block_dct_backward":
                return torch.ops.freqops.block_dct_backward(
                    x, channels, std, chroma, side, side, name
                )
            if operator == "block_idct_backward":
                return torch.ops.freqops.block_idct_backward(x, channels, std, name)
            return freqops.block_idct(x, channels, mean=mean, std=std, dtype=dtype)

        few = given[0][:CHECKED]
        if operator == "block_dct_backward":
            exact = reference.block_dct_backward(
                few.double(), channels, std, chroma, side, side, torch.float64
            )
        elif operator == "block_idct_backward":
            exact = reference.block_idct_backward(few.double(), channels, std, torch.float64)
        else:
            wide = torch.uint8 if dtype == torch.uint8 else torch.float64
            exact = reference.block_idct(few.double(), channels, mean=mean, std=std, dtype=wide)
        exact = exact.double()
        error = float((call(few).double() - exact).abs().max() / exact.abs().max())
        measured = interleaved(
            {what: lambda index: call(given[index])},
            len(given),
            setting.copy,
            seconds=setting.seconds,
            least=setting.least,
        )
        first = {"operator": what, "pictures": str(pictures), "channels": count}
        return [first | figures(measured, what, moved) | {"error": error}]

    cases = {
        f"{what}, {batch} pictures, {count} channels": functools.partial(rows, what, batch, count)
        for what in OPERATORS
        for batch in (256, 64)
        for count in CHANNELS
        if batch == 256 or "," not in what
    }
    return Section(BACKWARD, cases)


LATENCY = Table(
    "Latency",
    "Microseconds of one call at a time on 8 x 448x448, uint8 to float32. **replay** is a CUDA "
    "graph of one call, replays queued behind each other, on rotating inputs and results, which is "
    "throughput; **replay and wait** is one from end to end, the caller's wait for the GPU "
    "included, most of which the product of one number needs too; "
    "**call** is what the caller spends without a graph until the call returns, **call and wait** "
    "until the GPU is done. Goal: a replay and its wait below 8 us.",
    {"what": "{}", "channels": "{}"}
    | {"replay us": "{:.2f}", "replay and wait us": "**{:.2f}**"}
    | {"call us": "{:.1f}", "call and wait us": "{:.1f}"},
)


def latencies(setting: Setting) -> Section:
    side = setting.side(SIDE)
    pictures = Pictures(setting.batch(8), side, side)
    rounds = 10 if setting.tiny else 200

    def row(what: str, channels: int | None, call: Call, count: int) -> list[Row]:
        took = latency(call, count, setting.device, rounds)
        named = zip(list(LATENCY.columns)[2:], took, strict=True)
        cells = {name: None if value is None else 1e6 * value for name, value in named}
        return [{"what": what, "channels": channels, **cells}]

    def nearly_empty() -> list[Row]:
        one = torch.ones(1, device=setting.device)
        return row("one number times two", None, lambda index: one * 2, 2)

    def transform(name: str, count: int) -> list[Row]:
        channels, (mean, std) = square(count), statistics(count, setting.device)
        moved = pictures.nbytes + 4 * pictures.blocks * count
        images = setting.inputs(pictures.drawn, moved)
        selection = ChannelSelection(channels)

        def call(index: int) -> Tensor:
            return freqops.block_dct(images[index], selection, mean=mean, std=std)

        with kernel(name):
            return row(f"block_dct, {name}", count, call, len(images))

    cases = {"one number times two": nearly_empty}
    for name in kernels(setting.device):
        for count in CHANNELS:
            cases[f"block_dct, {name}, {count} channels"] = functools.partial(
                transform, name, count
            )
    return Section(LATENCY, cases)
