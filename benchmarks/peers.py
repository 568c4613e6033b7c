"""The rivals of ``block_dct``: what a user without freqops writes in PyTorch.

From RGB to the normalised coefficient the transform is one affine map of the numbers of a block, of
3 x 8 x 8 pixels, so two lines do it: a convolution of stride 8, or a matrix product of the blocks.
Both take the selection of channels for free. The third way separates rows and columns. All are
differentiable, and all take every chroma mode:

    4:2:0    a mean of 2x2 pixels never leaves the block: the same map with other weights
    dctnet   [1 6 1] / 8 reaches one pixel beyond: 10x10 pixels at stride 8 of replicated pictures

Heights and widths are multiples of 8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import freqops
from freqops import ChannelSelection, reference
from freqops.channels import BLOCK

Rival = Callable[[Tensor], Tensor]

MARGIN = {"4:4:4": 0, "4:2:0": 0, "dctnet": 1}
"""Pixels beyond its block that a coefficient depends on."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """What all of them compute: the arguments of ``block_dct``, and the unit of the pictures.

    Args:
        channels: the channels, in any order.
        mean, std: (C,) float32.
        chroma: "4:4:4", "4:2:0" or "dctnet".
        dtype: of the result.
        white: 255 for uint8 pictures, 1 for those in [0, 1].
    """

    channels: ChannelSelection
    mean: Tensor
    std: Tensor
    chroma: str = "4:4:4"
    dtype: torch.dtype = torch.float32
    white: int = 255

    def freqops(self, images: Tensor) -> Tensor:
        """Ours."""
        return freqops.block_dct(
            images,
            self.channels,
            mean=self.mean,
            std=self.std,
            chroma=self.chroma,
            dtype=self.dtype,
        )

    def exact(self, images: Tensor) -> Tensor:
        """The reference in float64."""
        images = images if images.dtype == torch.uint8 else images.double()
        return reference.block_dct(
            images,
            self.channels,
            mean=self.mean,
            std=self.std,
            chroma=self.chroma,
            dtype=torch.float64,
        )

    def error(self, result: Tensor, exact: Tensor) -> float:
        """The largest error of a result, in coefficient units."""
        return float(((result - exact).abs() * self.std.double().view(-1, 1, 1)).max())

    @property
    def margin(self) -> int:
        return MARGIN[self.chroma]

    @property
    def side(self) -> int:
        """Of the square of pixels that a coefficient depends on."""
        return BLOCK + 2 * self.margin


def folded_map(transform: Transform) -> tuple[Tensor, Tensor]:
    """Weight (C, 3, side, side) and bias (C,), float32, of the map from pixels to results.

    Column p of the map is the transform of a picture that is 1 at pixel p, less that of black. The
    pixels are those of the middle block of 3x3, and its margin.
    """
    count = 3 * transform.side**2
    middle = slice(BLOCK - transform.margin, 2 * BLOCK + transform.margin)
    pictures = torch.zeros(1 + count, 3, 3 * BLOCK, 3 * BLOCK, dtype=torch.float64)
    impulses = torch.eye(count, dtype=torch.float64) / transform.white
    pictures[1:, :, middle, middle] = impulses.view(count, 3, transform.side, transform.side)
    black, *columns = transform.exact(pictures)[:, :, 1, 1]
    weight = (torch.stack(columns, 1) - black[:, None]).unflatten(1, (3, transform.side, -1))
    return weight.float(), black.float()


def replicated(planes: Tensor, margin: int) -> Tensor:
    """[N, K, H, W] with so many copies of its edges around it."""
    return F.pad(planes, (margin,) * 4, mode="replicate") if margin else planes


def windows(planes: Tensor, side: int) -> Tensor:
    """[N, K, H, W] -> [N, K, gh, side, gw, side], blocks with their margins, without a copy."""
    if side == BLOCK:
        return planes.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
    return planes.unfold(2, side, BLOCK).unfold(3, side, BLOCK).transpose(3, 4)


def folded_convolution(transform: Transform, layout: torch.memory_format) -> Rival:
    """``F.conv2d(x.float(), W, b, stride=8)``. In channels_last so is the result."""
    weight, bias = folded_map(transform)
    weight = weight.contiguous(memory_format=layout)

    def convolution(images: Tensor) -> Tensor:
        pixels = replicated(images.to(torch.float32, memory_format=layout), transform.margin)
        return F.conv2d(pixels, weight, bias, stride=BLOCK).to(transform.dtype)

    return convolution


def folded_product(transform: Transform) -> Rival:
    """``W @ F.pixel_unshuffle(x.float(), 8) + b``, with a margin ``F.unfold``."""
    weight, bias = folded_map(transform)
    matrix, column = weight.flatten(1), bias.view(-1, 1)

    def product(images: Tensor) -> Tensor:
        pixels = replicated(images.float(), transform.margin)
        if transform.margin:
            blocks = F.unfold(pixels, transform.side, stride=BLOCK)
        else:
            blocks = F.pixel_unshuffle(pixels, BLOCK).flatten(2)
        out = (matrix @ blocks + column).unflatten(2, (images.shape[2] // BLOCK, -1))
        return out.to(transform.dtype)

    return product


def folded_linear(transform: Transform) -> Rival:
    """``F.linear`` on one row of pixels a block, as for tokens; the result is channels_last."""
    weight, bias = folded_map(transform)
    matrix = weight.flatten(1)

    def linear(images: Tensor) -> Tensor:
        pixels = replicated(images.float(), transform.margin)
        blocks = windows(pixels, transform.side).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(blocks, matrix, bias).permute(0, 3, 1, 2).to(transform.dtype)

    return linear


def separable_einsum(transform: Transform) -> Rival:
    """Colour, rows and columns by einsum for each component, then gather and normalise.

    Only the rows and columns are computed that a chosen channel needs. The smoothing of chroma is
    folded into the matrices of Cb and Cr, the level shift and the statistics into one line.
    """
    selection = transform.channels
    colours = torch.tensor(reference.RGB_TO_YCBCR) * (255 / transform.white)
    rows = reference._dct_matrix(torch.empty(0, dtype=torch.float64))
    matrices = [rows] + [rows @ smoothing(transform.chroma)] * 2
    parts = []
    for component, chosen in enumerate((selection.y, selection.cb, selection.cr)):
        vs, us = sorted({f // BLOCK for f in chosen}), sorted({f % BLOCK for f in chosen})
        matrix = matrices[component].float()
        places = [vs.index(f // BLOCK) * len(us) + us.index(f % BLOCK) for f in chosen]
        gather = torch.tensor(places) if places != list(range(len(vs) * len(us))) else None
        parts.append((colours[component], matrix[vs], matrix[us], gather))
    factor = (1 / transform.std).view(-1, 1, 1)
    level = torch.tensor([reference.LEVEL_SHIFT * BLOCK * (c == 0) for c in selection.indices])
    offset = -((level + transform.mean) / transform.std).view(-1, 1, 1)

    def einsum(images: Tensor) -> Tensor:
        pixels = images.float()
        wide = replicated(pixels, transform.margin)
        results = []
        for colour, down, across, gather in parts:
            side = down.shape[1]
            plane = torch.einsum("k,nkyx->nyx", colour, pixels if side == BLOCK else wide)
            blocks = windows(plane[:, None], side)[:, 0]
            out = torch.einsum("vy,naybx,ux->nvuab", down, blocks, across).flatten(1, 2)
            results.append(out if gather is None else out[:, gather])
        return torch.addcmul(offset, torch.cat(results, 1), factor).to(transform.dtype)

    return einsum


def smoothing(chroma: str) -> Tensor:
    """(8, 8) or, with a margin, (8, 10): what a row of Cb or Cr goes through before its DCT."""
    eye = torch.eye(BLOCK, dtype=torch.float64)
    if chroma == "4:4:4":
        return eye
    if chroma == "4:2:0":
        return torch.block_diag(*[torch.full((2, 2), 0.5, dtype=torch.float64)] * (BLOCK // 2))
    return sum(w / 8 * F.pad(eye, (i, 2 - i)) for i, w in enumerate((1, 6, 1)))


def rivals(transform: Transform) -> dict[str, Rival]:
    """All of them by name, eager. Channels must be listed Y, Cb, Cr, none of these empty."""
    return {
        "convolution": folded_convolution(transform, torch.contiguous_format),
        "convolution, channels_last": folded_convolution(transform, torch.channels_last),
        "product": folded_product(transform),
        "linear": folded_linear(transform),
        "einsum": separable_einsum(transform),
    }


def compiled(eager: dict[str, Rival]) -> dict[str, Rival]:
    """The same, each compiled for the shapes that it meets.

    The products of einsum are small and many: it is also compiled with max-autotune, which tries
    other kernels for them and takes ten seconds and more a shape.
    """
    torch.compiler.reset()  # Dynamo counts compilations a function, over all transforms and shapes
    fast = {f"{name}, compiled": torch.compile(f, dynamic=False) for name, f in eager.items()}
    if "einsum" in eager:
        fast["einsum, max-autotune"] = torch.compile(
            eager["einsum"], dynamic=False, mode="max-autotune-no-cudagraphs"
        )
    return fast
