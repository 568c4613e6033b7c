"""Tables of the transform beside its rivals on a GPU: those of peers.py, and what a GPU adds to
them: TF32, float16 and the search for the fastest convolution."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from gpu_block_dct import BATCHES, CHANNELS, CHECKED, PICTURES, SIDE, square
from gpu_setting import (
    Pictures,
    Section,
    Setting,
    kernel,
    kernels,
    milliseconds,
    statistics,
)
from measure_cuda import Call, interleaved
from peers import Rival, Transform, folded_map, rivals
from tables import Row, Table
from torch import Tensor

from freqops import ChannelSelection
from freqops.channels import BLOCK

TOLERANCE = 2e-2
"""Of float32 rivals, in coefficient units: ten times what their sums are off by."""


@contextlib.contextmanager
def precision(*, tf32: bool) -> Iterator[None]:
    """TF32 in convolutions and products or not; cuDNN searches for its fastest kernel."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32
    )
    try:
        with flags:
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def within(rival: Rival, *, tf32: bool) -> Rival:
    def call(images: Tensor) -> Tensor:
        with precision(tf32=tf32):
            return rival(images)

    return call


def half_convolution(transform: Transform, layout: torch.memory_format) -> Rival:
    """In float16 throughout, as under autocast; so is the result."""
    weight, bias = folded_map(transform)
    weight, bias = weight.half().contiguous(memory_format=layout), bias.half()

    def convolution(images: Tensor) -> Tensor:
        pixels = images.to(torch.float16, memory_format=layout)
        return F.conv2d(pixels, weight, bias, stride=BLOCK)

    return convolution


def half_product(transform: Transform) -> Rival:
    weight, bias = folded_map(transform)
    matrix, column = weight.flatten(1).half(), bias.half().view(-1, 1)

    def product(images: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(images.half(), BLOCK).flatten(2)
        return (matrix @ blocks + column).unflatten(2, (images.shape[2] // BLOCK, -1))

    return product


Eager = dict[str, tuple[Rival, bool]]
"""By name: the rival, and whether TF32 is allowed."""


def eager_rivals(transform: Transform, device: torch.device) -> Eager:
    """Those in float32, then those that round."""
    with torch.device(device):
        plain = rivals(transform)
        halves = {
            "convolution, float16": half_convolution(transform, torch.contiguous_format),
            "convolution, float16, channels_last": half_convolution(transform, torch.channels_last),
            "product, float16": half_product(transform),
        }
    result: Eager = {name: (rival, False) for name, rival in plain.items()}
    for name in ("convolution", "convolution, channels_last", "product", "linear"):
        result[f"{name}, TF32"] = (plain[name], True)
    return result | {name: (rival, False) for name, rival in halves.items()}


def rounds(name: str) -> bool:
    """Whether a rival rounds more than float32 does."""
    return "TF32" in name or "float16" in name


def made(setting: Setting, count: int) -> Transform:
    mean, std = statistics(count, setting.device)
    return Transform(ChannelSelection(square(count)), mean, std)


def ours(setting: Setting, transform: Transform, images: list[Tensor]) -> dict[str, Call]:
    """Each kernel of ours."""

    def call(name: str, index: int) -> Tensor:
        with kernel(name):
            return transform.freqops(images[index])

    names = kernels(setting.device)
    return {f"freqops, {name}": functools.partial(call, name) for name in names}


RIVALS = Table(
    "Rivals, eager",
    "uint8 contiguous pictures, float32 results, all in the same rounds; cuDNN searches for its "
    "fastest kernel (`benchmark=True`). **exact rivals** sum float32 products; TF32 and float16 "
    "round more, and float16 rivals write float16. Errors are in coefficient units, where DC goes "
    "to 1024. Ours is the faster kernel. Goal: 4 times at 64 pictures and more.",
    PICTURES
    | {"kernel": "{}", "ms": "{:.4f}", "error": "{:.1e}"}
    | {"best exact rival": "{}", "its ms": "{:.4f}", "its error": "{:.1e}"}
    | {"times faster": "**{:.1f}**"}
    | {"best that rounds": "{}", "that ms": "{:.4f}", "that error": "{:.1e}"}
    | {"times faster than that": "**{:.1f}**"}
    | {"all, ms": "{:.4f}", "errors": "{:.1e}"},
)


def eager(setting: Setting) -> Section:
    def rows(batch: int, count: int) -> list[Row]:
        side = setting.side(SIDE)
        pictures = Pictures(setting.batch(batch), side, side)
        transform = made(setting, count)
        moved = pictures.nbytes + 4 * pictures.blocks * count
        images = setting.inputs(pictures.drawn, moved)
        few = images[0][:CHECKED]
        exact = transform.exact(few)
        calls: dict[str, Call] = ours(setting, transform, images)
        errors = {name: transform.error(call(0)[:CHECKED], exact) for name, call in calls.items()}
        mine = list(calls)
        for name, (rival, tf32) in eager_rivals(transform, setting.device).items():
            whole = within(rival, tf32=tf32)
            errors[name] = checked(name, transform, whole(few), exact)
            calls[name] = lambda index, whole=whole: whole(images[index])
        measured = interleaved(
            calls, len(images), setting.copy, seconds=2 * setting.seconds, least=setting.least
        )
        took = milliseconds(measured)
        best = measured.best(mine)
        plain, rounded = (
            measured.best([n for n in calls if n not in mine and rounds(n) == wanted])
            for wanted in (False, True)
        )
        return [
            {
                "pictures": str(pictures),
                "channels": count,
                "kernel": best.removeprefix("freqops, "),
                "ms": took[best],
                "error": errors[best],
                "best exact rival": plain,
                "its ms": took[plain],
                "its error": errors[plain],
                "times faster": measured.times(best, plain),
                "best that rounds": rounded,
                "that ms": took[rounded],
                "that error": errors[rounded],
                "times faster than that": measured.times(best, rounded),
                "all, ms": took,
                "errors": errors,
            }
        ]

    cases = {
        f"{batch} pictures, {count} channels": functools.partial(rows, batch, count)
        for batch in BATCHES
        if batch > 1
        for count in CHANNELS
    }
    return Section(RIVALS, cases)


def checked(name: str, transform: Transform, result: Tensor, exact: Tensor) -> float:
    """Its error; it must compute what we do."""
    error = transform.error(result, exact)
    # float16 holds DC, up to 2048 / std, in steps of 1 and 2 there; TF32 has as many digits.
    if error > (16 if rounds(name) else TOLERANCE):
        raise ValueError(f"{name} is off by {error}")
    return error


COMPILED = Table(
    "Rivals, compiled",
    'The same by `torch.compile(mode="max-autotune-no-cudagraphs", dynamic=False)`, which tries '
    "many kernels; each beside ours in the same rounds. **compile s** is what the first call "
    "takes.",
    PICTURES
    | {"rival": "{}", "its ms": "{:.4f}", "its error": "{:.1e}"}
    | {"kernel": "{}", "ms": "{:.4f}", "times faster": "**{:.1f}**", "compile s": "{:.0f}"},
)

TO_COMPILE = (
    "product",
    "convolution, channels_last",
    "einsum",
    "product, float16",
    "linear",
    "product, TF32",
    "convolution",
    "convolution, float16, channels_last",
)
"""The likeliest to be fast come first, because each takes long to compile."""


def optimised(rival: Rival, backend: str) -> Rival:
    """Compiled afresh: Dynamo counts compilations of a function, over all shapes."""
    torch.compiler.reset()
    if backend == "inductor":
        return torch.compile(rival, dynamic=False, mode="max-autotune-no-cudagraphs")
    return torch.compile(rival, dynamic=False, backend=backend)


def compiled(setting: Setting) -> Section:
    def rows(batch: int, count: int, name: str) -> list[Row]:
        side = setting.side(SIDE)
        pictures = Pictures(setting.batch(batch), side, side)
        transform = made(setting, count)
        images = setting.inputs(pictures.drawn, pictures.nbytes + 4 * pictures.blocks * count)
        rival, tf32 = eager_rivals(transform, setting.device)[name]
        fast = within(optimised(rival, setting.backend), tf32=tf32)
        start = time.perf_counter()
        result = fast(images[0])
        seconds = time.perf_counter() - start
        exact = transform.exact(images[0][:CHECKED])
        error = checked(name, transform, result[:CHECKED], exact)
        calls: dict[str, Call] = ours(setting, transform, images)
        mine = list(calls)
        calls[name] = lambda index: fast(images[index])
        measured = interleaved(
            calls, len(images), setting.copy, seconds=setting.seconds, least=setting.least
        )
        took, best = milliseconds(measured), measured.best(mine)
        return [
            {
                "pictures": str(pictures),
                "channels": count,
                "rival": name,
                "its ms": took[name],
                "its error": error,
                "kernel": best.removeprefix("freqops, "),
                "ms": took[best],
                "times faster": measured.times(best, name),
                "compile s": seconds,
            }
        ]

    batches = (64, 256, 8) if setting.full else (64, 256)
    cases: dict[str, Callable[[], list[Row]]] = {
        f"{batch} pictures, {count} channels, {name}": functools.partial(rows, batch, count, name)
        for batch in batches
        for name in TO_COMPILE
        for count in CHANNELS
    }
    return Section(COMPILED, cases)
