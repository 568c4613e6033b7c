"""Resize, crop and flip in blocks: which eighths and which blocks stand for a geometry in pixels.

Plain integers in and out. A scale of k eighths makes ceil(n k / 8) of n pixels, and blocks of 8 of
them; steps follow one another.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch

from freqops.jpeg import UnsupportedJPEG

__all__ = [
    "Box",
    "Placement",
    "blocks_after",
    "draw_box",
    "draw_flip",
    "nearest_scale",
    "place_box",
    "place_middle",
    "product",
    "size_after",
]

BLOCK = 8
LARGEST = 2 * BLOCK

# A single step off by less than this is taken before a pair, which costs more.
_CLOSE = 1 / 16

# The ratio from which on the largest scale, (16, 16), is further off than that.
_MOST = (LARGEST / BLOCK) ** 2 / (1 - _CLOSE)

# torchvision's RandomResizedCrop, as the paper's training uses it.
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Placement(NamedTuple):
    """Arguments of `jpeg_gather`: scale = (scale_y, scale_x), crop = (top, left, rows, columns)."""

    scale_y: tuple[int, ...]
    scale_x: tuple[int, ...]
    top: int
    left: int
    rows: int
    columns: int
    flip: bool


def size_after(pixels: int, steps: tuple[int, ...]) -> int:
    """How many pixels `steps` eighths make of `pixels`."""
    for k in steps:
        pixels = -(-pixels * k // BLOCK)
    return pixels


def blocks_after(pixels: int, steps: tuple[int, ...]) -> int:
    """How many blocks hold them."""
    return -(-size_after(pixels, steps) // BLOCK)


def nearest_scale(ratio: float) -> tuple[int, ...]:
    """Eighths whose product comes nearest to a ratio of sizes, the steps of one axis.

    (k,) where k / 8 is off by at most 1/16 of the ratio, or where no pair is nearer; else the pair
    (k1, k2) with k1 >= k2 whose k1 k2 / 64 is nearest, k in [1, 16], of equal ones that with the
    largest k1. Larger first: at 52/64 the error of photographs by (13, 4) is a third of that by
    (4, 13), which first throws half of the detail away (benchmarks/results/jpeg_scaling.md).

    Args:
        ratio: new size / old size, greater than 0. Below 1/64 and above 4 the nearest there is.

    Raises:
        ValueError: ratio is not finite or not greater than 0.

    Example:
        >>> nearest_scale(0.5), nearest_scale(1.37), nearest_scale(0.81), nearest_scale(3)
        ((4,), (11,), (13, 4), (16, 12))
    """
    if not 0 < ratio < math.inf:  # false for NaN
        raise ValueError(f"ratio must be finite and greater than 0, got {ratio}")
    return _nearest(ratio, 1, 1) or (LARGEST, LARGEST)


def _nearest(ratio: float, pixels: int, blocks: int) -> tuple[int, ...] | None:
    """The nearest of those that make at least so many blocks of so many pixels."""
    one = _first(_ones(), ratio, pixels, blocks)
    if one is not None and abs(product(one) - ratio) <= _CLOSE * ratio:
        return one
    pair = _first(_pairs(), ratio, pixels, blocks)
    if one is None or pair is None:
        return pair
    return pair if abs(product(pair) - ratio) < abs(product(one) - ratio) else one


def _first(
    table: dict[float, tuple[int, ...]], ratio: float, pixels: int, blocks: int
) -> tuple[int, ...] | None:
    for value in sorted(table, key=lambda value: abs(value - ratio)):
        if blocks_after(pixels, table[value]) >= blocks:
            return table[value]
    return None


def product(steps: tuple[int, ...]) -> float:
    """The ratio of sizes that steps of eighths make."""
    return math.prod(steps) / float(BLOCK ** len(steps))  # exact


@lru_cache(maxsize=1)
def _ones() -> dict[float, tuple[int, ...]]:
    return {product((k,)): (k,) for k in range(1, LARGEST + 1)}


@lru_cache(maxsize=1)
def _pairs() -> dict[float, tuple[int, ...]]:
    """By product; the pair that comes last stays, that of the largest k1."""
    pairs = [(a, b) for a in range(1, LARGEST + 1) for b in range(1, a + 1)]
    return {product(pair): pair for pair in pairs}


def place_middle(height: int, width: int, resize: int | None, crop: int | None) -> Placement:
    """Short side to `resize`, square of side `crop` from the middle, as near as blocks allow.

    The scale, one for both axes, is that nearest to resize / short side of which the crop's
    ceil(crop / 8) blocks a side are there; the blocks are those nearest to the middle.

    Args:
        height, width: of the picture, upright.
        resize: None keeps the size.
        crop: None keeps all.

    Raises:
        ValueError: the crop does not fit into the resized picture.
        UnsupportedJPEG: only a scale above 4 would make the crop fit, or, without a crop, come near
            to the size.
    """
    side = None if crop is None else -(-crop // BLOCK)
    steps: tuple[int, ...] | None = (BLOCK,)
    if crop is not None and (resize is None or resize < crop):
        short, long = sorted((height, width))
        if resize is not None:
            short, long = resize, resize * long // short
        if short < crop:
            tall, wide = (short, long) if height <= width else (long, short)
            raise ValueError(
                f"a crop of {crop} must fit into the picture, which is {tall} x {wide}"
            )
    if resize is not None:
        ratio = resize / min(height, width)
        steps = _nearest(ratio, min(height, width), side or 1)
        if steps is None or (crop is None and ratio > _MOST):
            raise _too_small(height, width, f"{resize} pixels on its short side")
    assert steps is not None
    rows, columns = blocks_after(height, steps), blocks_after(width, steps)
    if side is None:
        return Placement(steps, steps, 0, 0, rows, columns, False)
    top = _middle(size_after(height, steps) / 2, side, rows)
    left = _middle(size_after(width, steps) / 2, side, columns)
    return Placement(steps, steps, top, left, side, side, False)


def _middle(middle: float, side: int, grid: int) -> int:
    """The first of `side` blocks around a pixel, within the grid; halves go to the even one."""
    return min(max(round(middle / BLOCK - side / 2), 0), grid - side)


def draw_box(height: int, width: int) -> Box:
    """What torchvision's RandomResizedCrop draws, number for number from torch's generator.

    Area uniform in [0.08, 1] of the picture's, aspect ratio log-uniform in [3/4, 4/3], position
    uniform; after 10 that do not fit the largest part of an allowed ratio, from the middle.
    """
    low, high = torch.log(torch.tensor(_RATIO)).tolist()
    for _ in range(_TRIES):
        area = height * width * torch.empty(1).uniform_(*_AREA).item()
        ratio = torch.exp(torch.empty(1).uniform_(low, high)).item()
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, (1,)))
            left = int(torch.randint(0, width - w + 1, (1,)))
            return Box(top, left, h, w)
    w, h = width, height
    if width / height < _RATIO[0]:
        h = round(w / _RATIO[0])
    elif width / height > _RATIO[1]:
        w = round(h * _RATIO[1])
    return Box((height - h) // 2, (width - w) // 2, h, w)


def draw_flip() -> bool:
    """True with probability 1/2, as torchvision's RandomHorizontalFlip draws it."""
    return bool(torch.rand(1) < 0.5)


def place_box(height: int, width: int, box: Box, side: int, flip: bool) -> Placement:
    """The blocks that stand for a part of the picture resized to `side` blocks each way.

    Each axis has the scale nearest to 8 side / (the part's size) at which the picture has `side`
    blocks at least, and the blocks whose middle is nearest to the part's; of two equally near ones
    one is drawn.

    Raises:
        UnsupportedJPEG: only a scale above 4 would make that many blocks.
    """
    axes = []
    for size, first, length in ((height, box.top, box.height), (width, box.left, box.width)):
        steps = _nearest(BLOCK * side / length, size, side)
        if steps is None:
            raise _too_small(height, width, f"{side} x {side} blocks")
        at = (first + length / 2) * product(steps) / BLOCK - side / 2  # exact: a dyadic number
        low = math.floor(at)
        if at - low == 0.5:
            low += int(torch.randint(0, 2, (1,)))
        else:
            low = round(at)
        axes.append((steps, min(max(low, 0), blocks_after(size, steps) - side)))
    (scale_y, top), (scale_x, left) = axes
    return Placement(scale_y, scale_x, top, left, side, side, flip)


def _too_small(height: int, width: int, wanted: str) -> UnsupportedJPEG:
    return UnsupportedJPEG(
        f"a picture of {height} x {width} cannot become {wanted}: "
        "coefficients can be scaled 4 times at most"
    )
