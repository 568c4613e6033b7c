"""Any other network of torchvision and timm whose first layer is one plain convolution of pixels.

    kernel and stride multiples of 8, no padding    a patch embedding; p = 8a becomes a convolution
                                                    of a x a blocks, for the same pictures
    any other kernel of stride 2 or 4               1x1, stride 1, for pictures 4 or 2 times as
                                                    large: they have as many 8x8 blocks as the
                                                    convolution had places

It has the name, the outputs and the bias of the old one, and all behind it stays. Let d be the 8
pixels or the stride: what the network took in pixels it now takes in steps of d on the grid.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from freqops.channels import BLOCK, CHANNELS
from freqops.models._layers import columns, replace
from freqops.models._recipe import Recipe
from freqops.ops import block_idct
from freqops.statistics import ChannelStatistics

__all__ = ["GridConv2d", "keep", "matches", "normalisation", "reason", "refit", "side"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of R, G and B in [0, 1]: what torchvision's networks were trained with."""

USUAL_SIDE = 224
"""Of the pictures of a network that does not say."""


class GridConv2d(nn.Conv2d):
    """The first layer of such a network: a convolution on the grid of 8x8 blocks.

    The class tells it from the network's own layers.

    Args:
        weight: (O, C, kh, kw).
        bias: (O,) or None.
        stride: in blocks.
        pictures: (height, width) of the pictures that the network was refitted for.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        pictures: tuple[int, int],
    ) -> None:
        out, channels, height, width = weight.shape
        super().__init__(
            channels, out, (height, width), stride, bias=bias is not None, device="meta"
        )
        self.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
        if bias is not None:
            self.bias = nn.Parameter(bias.detach().clone())
        self.pictures = pictures


class Stem(NamedTuple):
    """The convolution that reads the pixels, by its dotted name."""

    name: str
    conv: nn.Conv2d
    embedding: bool

    @property
    def step(self) -> int:
        """Pixels of the old network's pictures that are one step on the grid."""
        return BLOCK if self.embedding else self.conv.stride[0]


def matches(network: nn.Module) -> bool:
    """Whether the network begins with a convolution that a rule is for."""
    return isinstance(_find(network), Stem)


def reason(network: nn.Module) -> str:
    """Why the network does not match, as the end of a sentence: ": its first layer ..."."""
    found = _find(network)
    return "" if isinstance(found, Stem) else f": {found}"


def _find(network: nn.Module) -> Stem | str:
    """The convolution, or why there is no rule for it."""
    readers = _readers(network)
    if len(readers) > 1:
        return f"its pictures are read by {' and by '.join(readers)}"
    if not readers:
        return "it has no Conv2d of 3 channels"
    name = readers[0]
    conv = network.get_submodule(name)
    first = f"its first layer {name}"
    if not isinstance(conv, nn.Conv2d) or (type(conv) is not nn.Conv2d and not _pads_itself(conv)):
        return f"{first} is a {type(conv).__name__}"
    if conv.in_channels != 3:
        return f"{first} reads {conv.in_channels} channels, not 3"
    if conv.groups != 1:
        return f"{first} has {conv.groups} groups"
    if _is_embedding(conv):
        return Stem(name, conv, True)
    if conv.stride in ((2, 2), (4, 4)):
        return Stem(name, conv, False)
    words = f"{first} is {_sides(conv.kernel_size)} of stride {_sides(conv.stride)}"
    if conv.padding != (0, 0):
        words += f", padding {_sides(conv.padding)}"
    return words if conv.dilation == (1, 1) else f"{words}, dilation {_sides(conv.dilation)}"


def _sides(sides: tuple[int, ...] | str) -> str:
    return sides if isinstance(sides, str) else " x ".join(map(str, sides))


def _readers(network: nn.Module) -> list[str]:
    """Names of the layers that read the pictures: as timm tells, else the first by its type."""
    told = _settings(network).get("first_conv")
    names = [told] if isinstance(told, str) else told if isinstance(told, (list, tuple)) else []
    modules = dict(network.named_modules())
    if names and all(name in modules for name in names):  # a variant may have other layers
        return [str(name) for name in names]
    for name, layer in modules.items():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            return [name]
    return []


def _settings(network: nn.Module) -> dict[str, object]:
    """What timm knows of a network; nothing for others."""
    for name in ("pretrained_cfg", "default_cfg"):
        settings = getattr(network, name, None)
        if settings and isinstance(settings, dict):
            return settings
    return {}


def _pads_itself(conv: nn.Conv2d) -> bool:
    """Whether it is timm's convolution that differs in nothing but its padding."""
    return type(conv).__name__ == "Conv2dSame" and type(conv).__module__.startswith("timm.")


def _is_embedding(conv: nn.Conv2d) -> bool:
    sides = (*conv.kernel_size, *conv.stride)
    return (
        type(conv) is nn.Conv2d
        and not any(side % BLOCK for side in sides)
        and conv.padding in ((0, 0), "valid")
        and conv.dilation == (1, 1)
    )


def normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and std of the pictures, in [0, 1], that an RGB network was trained with."""
    settings = _settings(network)
    mean, std = (
        tuple(float(value) for value in values) if isinstance(values, (list, tuple)) else usual
        for values, usual in (
            (settings.get("mean"), IMAGENET_MEAN),
            (settings.get("std"), IMAGENET_STD),
        )
    )
    return mean, std


def side(network: nn.Module) -> tuple[int, int]:
    """(height, width) of the pictures that the refitted network takes.

    They are what its RGB network was made for, or 4 or 2 times that.

    Args:
        network: before ``refit`` or after it.
    """
    made = _made(network)
    if made is not None:
        return made[1].pictures
    stem = _find(network)
    assert isinstance(stem, Stem)
    height, width = _size(network, stem)
    return BLOCK * height // stem.step, BLOCK * width // stem.step


def _size(network: nn.Module, stem: Stem) -> tuple[int, int]:
    """(height, width) of the pictures that the RGB network takes."""
    for module in _above(network, stem.name):
        for attribute in ("img_size", "image_size"):
            pair = _pair(getattr(module, attribute, None))
            if pair is not None:
                return pair
    shape = _settings(network).get("input_size")
    pair = _pair(tuple(shape)[1:]) if isinstance(shape, (list, tuple)) else None
    return pair or (USUAL_SIDE, USUAL_SIDE)


def _pair(value: object) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return int(value[0]), int(value[1])
    return None


def _above(network: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules that hold a layer, from the nearest to the network."""
    while name:
        name = name.rpartition(".")[0]
        yield network.get_submodule(name)


def refit(network: nn.Module, recipe: Recipe) -> list[str]:
    """Makes the first layer read ``recipe.channels`` on the grid of blocks.

    ``recipe.init`` of a patch embedding is "project", also where it is None, or "kaiming"; of any
    other convolution "kaiming".

    Returns:
        The changes, a layer a line.

    Raises:
        ValueError: init is "project" where there are no patches; or the network does not run on the
            grid, which it is tried on without data.
    """
    stem = _find(network)
    assert isinstance(stem, Stem)
    conv, count = stem.conv, len(recipe.channels)
    pictures = side(network)
    if not stem.embedding and recipe.init == "project":
        raise ValueError(
            f'from_rgb: init must be "kaiming" for {_named(network)}, whose first layer '
            f'{stem.name} is no patch embedding, got "project"'
        )
    bias, how, added = conv.bias, "drawn anew", ""
    if not stem.embedding:
        weight, _ = columns(conv.weight.new_empty(conv.out_channels, 0, 1, 1), count, "kaiming")
        stride = (1, 1)
    else:
        stride = (conv.stride[0] // BLOCK, conv.stride[1] // BLOCK)
        if recipe.init == "kaiming":
            kernel = (conv.kernel_size[0] // BLOCK, conv.kernel_size[1] // BLOCK)
            old = conv.weight.new_empty(conv.out_channels, 0, *kernel)
            weight, _ = columns(old, count, "kaiming")
        else:
            how, added = "projected", "" if bias is not None else ", bias added"
            weight, bias = _projected(
                conv, recipe.channels.indices, recipe.statistics, *normalisation(network)
            )
    layer = GridConv2d(weight, bias, stride, pictures).train(conv.training)
    was, now = _shape(conv), _shape(layer)
    changes = [f"{stem.name}: {was}, 3 channels -> {now}, {count} channels, {how}{added}"]
    replace(network, stem.name, layer)
    changes += _resize(network, stem)
    if getattr(network, "transform_input", False):  # torchvision's GoogLeNet and Inception
        network.transform_input = False  # type: ignore[assignment]
        changes.append("transform_input: True -> False, it is for R, G and B")
    _try(network, layer)
    return changes


def _shape(conv: nn.Conv2d) -> str:
    return f"{_sides(conv.kernel_size)} of stride {_sides(conv.stride)}"


def _named(network: nn.Module) -> str:
    return f"{type(network).__name__} of {type(network).__module__}"


def _projected(
    conv: nn.Conv2d,
    channels: Sequence[int],
    statistics: ChannelStatistics,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Weight and bias that see in the channels what a patch embedding saw in the pixels.

    A block of pixels, x in [0, 1], is linear in its 192 normalised coefficients z: with M the block
    whose coefficients are the statistics' mean, and B_k what one std of channel k adds to it,

        x = M + sum_k z_k B_k

        sum W (x - mean) / std + b = sum_k z_k (sum W / std B_k) + sum W / std (M - mean) + b

    where W is summed over R, G, B and the pixels of each block. Channels that are not read count as
    their mean, z_k = 0. One that is read twice is divided between its places.
    """
    if conv.weight.is_meta:
        blocks = (conv.kernel_size[0] // BLOCK, conv.kernel_size[1] // BLOCK)
        weight = conv.weight.new_empty(conv.out_channels, len(channels), *blocks)
        return weight, conv.weight.new_empty(conv.out_channels)
    unit = torch.cat([torch.zeros(1, CHANNELS), torch.eye(CHANNELS)]).double()
    seen = block_idct(
        unit[:, :, None, None], mean=statistics.mean, std=statistics.std, dtype=torch.float64
    )
    average, basis = seen[0], seen[1:] - seen[0]
    pixels = conv.weight.detach().cpu().double() / torch.tensor(std).double().view(3, 1, 1)
    out, _, height, width = pixels.shape
    pixels = pixels.view(out, 3, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    share = [1 / channels.count(channel) for channel in channels]
    weight = torch.einsum("ocavbu,kcvu->okab", pixels, basis[list(channels)])
    weight *= torch.tensor(share).double().view(-1, 1, 1)
    centred = average - torch.tensor(mean).double().view(3, 1, 1)
    bias = torch.einsum("ocavbu,cvu->o", pixels, centred)
    if conv.bias is not None:
        bias += conv.bias.detach().cpu().double()
    return weight.to(conv.weight), bias.to(conv.weight)


def _resize(network: nn.Module, stem: Stem) -> list[str]:
    """Says in steps on the grid what the embedding, and timm's feature_info, say in pixels."""
    changes = []
    step = stem.step
    for module in _above(network, stem.name):
        if not hasattr(module, "patch_size"):
            continue
        # Behind a whole network, timm's HybridEmbed cuts its features into patches.
        ratio = "feature_ratio" if hasattr(module, "feature_ratio") else "patch_size"
        for attribute in (ratio, "img_size", "image_size"):
            old = getattr(module, attribute, None)
            pair = _pair(old)
            if pair is None or (attribute == ratio and any(value % step for value in pair)):
                continue
            height, width = (-(-value // step) for value in pair)
            new = height if isinstance(old, int) else (height, width)
            setattr(module, attribute, new)
            name = next(name for name, other in network.named_modules() if other is module)
            changes.append(f"{name}.{attribute}".lstrip(".") + f": {old} -> {new}")
        break
    features = getattr(network, "feature_info", None)
    for feature in features if isinstance(features, list) else []:
        reduction = feature.get("reduction") if isinstance(feature, dict) else None
        if isinstance(reduction, int) and reduction % step == 0:
            feature["reduction"] = reduction // step
    return changes


def _try(network: nn.Module, layer: GridConv2d) -> None:
    """Runs a copy without data: what else looks at the pictures, or at their size, shows itself.

    Raises:
        ValueError: the network fails, or gives what belongs to the pixels of its pictures.
    """
    grid = [-(-length // BLOCK) for length in layer.pictures]
    weight = layer.weight
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    log = logging.getLogger("torch._subclasses.fake_tensor")
    silent = log.disabled
    log.disabled = True  # it would print the whole stack of a failure that is told here
    try:
        with FakeCopyMode(fake):
            # A copy, because some networks keep what they computed.
            twin = copy.deepcopy(network).eval()
        with fake, torch.no_grad():
            output = twin(
                torch.empty(1, layer.in_channels, *grid, dtype=weight.dtype, device=weight.device)
            )
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"from_rgb: no rule for {_named(network)}: on a grid of {grid[0]} x {grid[1]} blocks "
            f"it says {words!r}"
        ) from error
    finally:
        log.disabled = silent
    if isinstance(output, (dict, list)):
        of = ", ".join(map(repr, output)) if isinstance(output, dict) else f"{len(output)} maps"
        raise ValueError(
            f"from_rgb: no rule for {_named(network)}: it must classify, got an output of {of}"
        )


def _made(network: nn.Module) -> tuple[str, GridConv2d] | None:
    """The first layer of a refitted network."""
    for name, layer in network.named_modules():
        if isinstance(layer, GridConv2d):
            return name, layer
    return None


def keep(network: nn.Module, positions: Sequence[int]) -> list[int]:
    """Leaves the first layer the inputs at the given positions.

    Returns:
        The positions.
    """
    made = _made(network)
    assert made is not None
    name, conv = made
    stride = (conv.stride[0], conv.stride[1])
    layer = GridConv2d(conv.weight[:, list(positions)], conv.bias, stride, conv.pictures)
    replace(network, name, layer.train(conv.training))
    return list(positions)
