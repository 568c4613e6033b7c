"""The networks by name: torchvision's constructors, then the surgery."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType
from typing import Protocol, SupportsIndex

from torch import nn

from freqops._extras import torchvision_module
from freqops.channels import ChannelSelection
from freqops.models._base import make
from freqops.models._recipe import Base, Plain
from freqops.models._surgery import build, family_of, make_recipe
from freqops.statistics import ChannelStatistics

__all__ = [
    "CONSTRUCTORS",
    "deeplabv3_resnet50",
    "fasterrcnn_resnet50_fpn",
    "fcn_resnet50",
    "maskrcnn_resnet50_fpn",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]


CONSTRUCTORS: dict[str, Constructor] = {}
"""All of them, by name."""


class Constructor(Protocol):
    """The arguments that all have."""

    def __call__(
        self,
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None,
        *,
        gate: bool | str = False,
        spatial: bool = False,
        statistics: ChannelStatistics | None = None,
        init: str | None = None,
        chroma: str = "4:4:4",
        rounding: str = "none",
        layer2_stride: int = 2,
        weights: object = None,
        **arguments: object,
    ) -> nn.Module: ...


_DOC = """{about}

    torchvision's network with random weights, or with those that ``weights`` names, and then
    ``from_rgb``, which explains the arguments that are not below.

    Args:
        channels: what the first layer reads; None: 24, and with a gate all 192.
        weights: RGB weights as torchvision takes them ("DEFAULT", say), for all layers that keep
            their shape. None: random ones; nothing is downloaded{backbone}.
        arguments: those of torchvision's ``{name}``: {some}, ...

    Returns:
        {returns}

    Raises:
        ImportError: torchvision cannot be imported.
        TypeError, ValueError: those of ``from_rgb`` and of torchvision.

    Example:
        >>> from freqops.models import {name}  # doctest: +SKIP
        >>> network = {name}(channels=24, num_classes=10)  # doctest: +SKIP
    """

_CLASSIFIER = "A FrequencyNetwork."
_DETECTOR = (
    "torchvision's own class, which takes lists of pictures; with a gate it gives\n"
    "        ({losses}, gate) in training and (detections, gate) in evaluation."
)
_SEGMENTER = (
    "torchvision's own class; masks have the size of the pictures. With a gate it gives\n"
    "        ({masks}, gate)."
)


def _constructor(name: str, about: str, returns: str, some: str) -> Constructor:
    """The constructor of that name in torchvision, followed by surgery."""
    dense = returns is not _CLASSIFIER

    def construct(
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None,
        *,
        gate: bool | str = False,
        spatial: bool = False,
        statistics: ChannelStatistics | None = None,
        init: str | None = None,
        chroma: str = "4:4:4",
        rounding: str = "none",
        layer2_stride: int = 2,
        weights: object = None,
        **arguments: object,
    ) -> nn.Module:
        models = torchvision_module(f"freqops.models.{name}", "torchvision.models")
        if dense:
            arguments.setdefault("weights_backbone", None)
        network = models.get_model(name, weights=weights, **arguments)
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
            base=Base("torchvision", name, _plain(arguments)),
        )
        return build(network, recipe)

    construct.__name__ = construct.__qualname__ = name
    construct.__doc__ = _DOC.format(
        about=about,
        name=name,
        returns=returns,
        some=some,
        backbone=", unlike\n            torchvision's default for ``weights_backbone``"
        if dense
        else "",
    )
    CONSTRUCTORS[name] = construct
    return construct


def from_base(
    base: Base,
    channels: ChannelSelection | None = None,
    *,
    gate: bool = False,
    spatial: bool = False,
    layer2_stride: int = 2,
) -> nn.Module:
    """A frequency network with random weights, of any network that a library makes by name.

    Raises:
        ImportError: the library cannot be imported.
        ValueError: it has no such network, or those of ``from_rgb``.
    """
    network = make(base)
    family = family_of(network)
    recipe = make_recipe(
        family, channels, gate=gate, spatial=spatial, layer2_stride=layer2_stride, base=base
    )
    return build(network, recipe)


def _plain(arguments: dict[str, object]) -> dict[str, Plain]:
    """The arguments that a file can hold and that are not about weights."""
    kept = (bool, int, float, str, list, NoneType)
    skipped = ("weights_backbone", "progress")
    return {
        name: list(value) if isinstance(value, tuple) else value  # type: ignore[misc]
        for name, value in arguments.items()
        if isinstance(value, (*kept, tuple)) and name not in skipped
    }


_CLASSES = "num_classes"
_SIZES = "num_classes, min_size, max_size, trainable_backbone_layers"
_AUX = "num_classes, aux_loss"

resnet18 = _constructor("resnet18", "ResNet-18 that reads frequencies.", _CLASSIFIER, _CLASSES)
resnet34 = _constructor("resnet34", "ResNet-34 that reads frequencies.", _CLASSIFIER, _CLASSES)
resnet50 = _constructor(
    "resnet50", "ResNet-50 that reads frequencies: the paper's.", _CLASSIFIER, _CLASSES
)
resnet101 = _constructor("resnet101", "ResNet-101 that reads frequencies.", _CLASSIFIER, _CLASSES)
resnet152 = _constructor("resnet152", "ResNet-152 that reads frequencies.", _CLASSIFIER, _CLASSES)
mobilenet_v2 = _constructor(
    "mobilenet_v2",
    "MobileNetV2 that reads frequencies: the paper's.",
    _CLASSIFIER,
    f"{_CLASSES}, width_mult, dropout",
)
fasterrcnn_resnet50_fpn = _constructor(
    "fasterrcnn_resnet50_fpn",
    "Faster R-CNN on ResNet-50 with FPN that reads frequencies: the paper's.",
    _DETECTOR,
    _SIZES,
)
maskrcnn_resnet50_fpn = _constructor(
    "maskrcnn_resnet50_fpn",
    "Mask R-CNN on ResNet-50 with FPN that reads frequencies: the paper's.",
    _DETECTOR,
    _SIZES,
)
fcn_resnet50 = _constructor(
    "fcn_resnet50", "FCN on ResNet-50 that reads frequencies.", _SEGMENTER, _AUX
)
deeplabv3_resnet50 = _constructor(
    "deeplabv3_resnet50", "DeepLabV3 on ResNet-50 that reads frequencies.", _SEGMENTER, _AUX
)
