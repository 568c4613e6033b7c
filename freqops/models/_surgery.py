"""from_rgb: which family a network is of, and what is done to it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from typing import SupportsIndex

from torch import nn

from freqops._arguments import check_choice, describe
from freqops.channels import ChannelSelection
from freqops.models import _dense, _general, _mobilenet, _resnet
from freqops.models._base import named
from freqops.models._layers import INITS
from freqops.models._network import FrequencyNetwork, HalfPicture
from freqops.models._recipe import Base, Recipe, recipe_of
from freqops.nn import ChannelGate, FrequencyTransform
from freqops.statistics import ChannelStatistics

__all__ = ["build", "family_of", "from_rgb", "make_recipe"]

KINDS = ("bernoulli", "se", "double")


def from_rgb(
    network: nn.Module,
    channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None,
    *,
    gate: bool | str = False,
    spatial: bool = False,
    statistics: ChannelStatistics | None = None,
    init: str | None = None,
    chroma: str = "4:4:4",
    rounding: str = "none",
    layer2_stride: int = 2,
) -> nn.Module:
    """A frequency network from an RGB network of torchvision or timm.

    The stem is removed and the layers behind it are re-fitted to C frequency channels; all other
    layers keep their weights and their names in the state dict. Families:

        ResNet, ResNeXt, Wide ResNet (torchvision, timm)      pictures of 448 instead of 224
        MobileNetV2 (torchvision, timm)                       896 instead of 224
        detectors on a ResNet with FPN (torchvision)          the same pictures, enlarged inside
        FCN, DeepLabV3 on a ResNet (torchvision)              the same pictures, enlarged inside
        a patch embedding of 8, 16, ... pixels (ViT in timm)  the same pictures
        any other plain convolution of stride 2 or 4 as stem  4 or 2 times as large

    Args:
        network: an instance; it is copied and left as it is.
        channels: a ChannelSelection, a list of channels, or an integer n for ``square(n)`` where
            that is tabulated and else ``triangle(n)``. None: 24, and with a gate all 192.
        gate: True for the paper's ChannelGate before the first layer, or its kind ("bernoulli",
            "se", "double"). Training then needs at least two pictures a batch.
        spatial: the halved picture goes through the RGB stem, which is kept, beside the channels.
            For classifying ResNets.
        statistics: mean and std to normalise with; None: ``ChannelStatistics.photographs()``.
        init: the weights of re-fitted layers. "slice": the first C input columns of the RGB
            network's, as the paper's code does; where it has fewer, as "kaiming": drawn anew,
            normal with variance 2 / fan-out. "project": those that see in the channels what a patch
            embedding saw in the pixels. None: "project" where that is possible, "slice" where there
            are columns, else "kaiming".
        chroma, rounding: those of ``block_dct``.
        layer2_stride: of a ResNet, 2; or 1, as the released networks have it (3.4 times the GMAC).

    Returns:
        A FrequencyNetwork. Detectors and segmenters come back as what they are, with transform and
        gate as first layer, ``backbone.body.frequency`` of detectors and ``backbone.frequency`` of
        segmenters; they take uint8 or float pictures, and with a gate give (their output, gate).

    Raises:
        TypeError: network is no module; an argument has another type.
        ValueError: there is no rule for the network's family, or an argument does not fit it.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.1 and 3.3.

    Example:
        >>> import torch, torchvision  # doctest: +SKIP
        >>> network = from_rgb(torchvision.models.resnet50(), channels=24)  # doctest: +SKIP
        >>> network(torch.zeros(1, 3, 448, 448, dtype=torch.uint8)).shape  # doctest: +SKIP
        torch.Size([1, 1000])
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"from_rgb: network must be a torch.nn.Module, got {describe(network)}")
    if recipe_of(network) is not None:
        raise ValueError("from_rgb: network must be an RGB network, got a frequency network")
    recipe = make_recipe(
        family_of(network),
        channels,
        gate=gate,
        spatial=spatial,
        statistics=statistics,
        init=init,
        chroma=chroma,
        rounding=rounding,
        layer2_stride=layer2_stride,
        base=named(network),
    )
    return build(copy.deepcopy(network), recipe)


def family_of(network: nn.Module) -> str:
    """The family whose rules hold for an RGB network.

    Raises:
        ValueError: there is none; the message names the network's own.
    """
    kind = _dense.kind_of(network)
    if kind is not None:
        return kind
    if _resnet.matches(network) and _classifies(network):
        return "resnet"
    if _mobilenet.matches(network):
        return "mobilenet_v2"
    reason = _dense.reason(network)
    if not reason and _general.matches(network):
        return "general"
    place = type(network).__module__
    raise ValueError(
        "from_rgb: network must be a ResNet, a MobileNetV2, a detector or segmenter on a ResNet, "
        "or begin with a plain convolution of stride 2 or 4 or a patch embedding of 8 pixels or a "
        f"multiple, got {type(network).__name__} of {place}{reason or _general.reason(network)}"
    )


def _classifies(network: nn.Module) -> bool:
    return {"layer4", "fc"} <= dict(network.named_children()).keys()


def make_recipe(
    family: str,
    channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None,
    *,
    gate: bool | str = False,
    spatial: bool = False,
    statistics: ChannelStatistics | None = None,
    init: str | None = None,
    chroma: str = "4:4:4",
    rounding: str = "none",
    layer2_stride: int = 2,
    base: Base | None = None,
) -> Recipe:
    """The arguments of ``from_rgb`` checked, and what None means put in its place."""
    for name, flag in (("gate", gate), ("spatial", spatial)):
        if not isinstance(flag, bool) and not (name == "gate" and isinstance(flag, str)):
            raise TypeError(f"from_rgb: {name} must be True or False, got {describe(flag)}")
    kind = "bernoulli" if gate is True else None if gate is False else gate
    if kind is not None:
        check_choice("from_rgb", "gate", kind, KINDS)
    if init is not None:
        check_choice("from_rgb", "init", init, INITS)
    if type(layer2_stride) is not int or layer2_stride not in (1, 2):
        raise ValueError(f"from_rgb: layer2_stride must be 1 or 2, got {layer2_stride!r}")
    if spatial and family != "resnet":
        raise ValueError(
            f"from_rgb: spatial must be False for {family}, it is for classifying ResNets, got True"
        )
    if layer2_stride == 1 and family not in ("resnet", "detector", "segmenter"):
        raise ValueError(
            f"from_rgb: layer2_stride must be 2 for {family}, which is no ResNet, got 1"
        )
    if init == "project" and family != "general":
        raise ValueError(
            f'from_rgb: init must be "slice" or "kaiming" for {family}, whose stem cannot be '
            'projected, got "project"'
        )
    if init == "slice" and family == "general":
        raise ValueError(
            'from_rgb: init must be "kaiming", or "project" for a patch embedding, for a network '
            'whose first layer reads pixels, got "slice"'
        )
    if channels is None:
        channels = 192 if kind else 24
    return Recipe(
        family,
        ChannelSelection.of(channels),
        ChannelStatistics.photographs() if statistics is None else statistics,
        kind,
        spatial,
        init,
        chroma,
        rounding,
        layer2_stride,
        base=base,
    )


def build(network: nn.Module, recipe: Recipe) -> nn.Module:
    """Operates on an RGB network, in place, as its recipe says, up to what ``freeze`` did."""
    example = next(network.parameters())
    device, dtype = example.device, example.dtype
    transform = FrequencyTransform(
        recipe.channels, recipe.statistics, recipe.chroma, recipe.rounding
    )
    transform.to(device)
    gate = None
    if recipe.gate is not None:
        gate = ChannelGate(recipe.channels, recipe.gate, device=device, dtype=dtype)
    count, init = len(recipe.channels), recipe.init or "slice"
    halved = None
    if recipe.family in ("detector", "segmenter"):
        body = _dense.body_of(network)
        changes = _resnet.refit(body, count, init, recipe.layer2_stride)
        recipe = dataclasses.replace(recipe, changes=tuple(changes))
        _dense.install(network, _dense.FrequencyStem(transform, recipe, gate))
        return network
    if recipe.family == "resnet":
        if recipe.spatial:
            width = _resnet.stem_width(network)
            changes = _resnet.refit(network, count, init, recipe.layer2_stride, beside=width)
            halved = HalfPicture(*_general.normalisation(network)).to(device, dtype)
            network = _resnet.SpatialResNet(network).train(network.training)
        else:
            changes = [_resnet.remove_stem(network)]
            changes += _resnet.refit(network, count, init, recipe.layer2_stride)
    elif recipe.family == "mobilenet_v2":
        changes = _mobilenet.refit(network, count, init)
    else:
        changes = _general.refit(network, recipe)
    recipe = dataclasses.replace(recipe, changes=tuple(changes))
    made = FrequencyNetwork(transform, network, recipe, gate, halved)
    return made.train(network.training)
