"""The rivals of ``block_dct``: two lines of PyTorch with everything folded into one matrix.

From RGB to the normalised coefficient the transform is one affine map of the 192 numbers of a
block, so a user without freqops writes a convolution of stride 8, or a matrix product after
``pixel_unshuffle``. Both take the selection of channels for free and are differentiable.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from freqops.channels import BLOCK
from freqops.rivals import folded_map


def folded_convolution(weight: Tensor, bias: Tensor, scale: float) -> Callable[[Tensor], Tensor]:
    """``F.conv2d(x.float(), W, b, stride=8)``; ``scale`` 255 for pictures in [0, 1], else 1."""
    weight = weight * scale

    def convolution(images: Tensor) -> Tensor:
        return F.conv2d(images.float(), weight, bias, stride=BLOCK)

    return convolution


def folded_product(weight: Tensor, bias: Tensor, scale: float) -> Callable[[Tensor], Tensor]:
    """``W @ F.pixel_unshuffle(x.float(), 8) + b``."""
    matrix, column = weight.flatten(1) * scale, bias.view(-1, 1)

    def product(images: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(images.float(), BLOCK)
        return (matrix @ blocks.flatten(2) + column).unflatten(2, blocks.shape[2:])

    return product


def rivals(
    channels: Sequence[int], mean: Tensor, std: Tensor, scale: float
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Every rival by name, eager and compiled."""
    torch.compiler.reset()  # Dynamo counts compilations a function, over all channels and shapes
    weight, bias = folded_map(channels)
    weight = (weight / std.double().view(-1, 1, 1, 1)).float()
    bias = ((bias - mean.double()) / std.double()).float()
    eager = {
        "convolution": folded_convolution(weight, bias, scale),
        "product": folded_product(weight, bias, scale),
    }
    compiled = {f"{name}, compiled": torch.compile(f, dynamic=False) for name, f in eager.items()}
    return eager | compiled
