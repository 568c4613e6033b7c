"""Checkpoints of the code released with the paper, in networks of ours."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from freqops._arguments import describe
from freqops._released import gate_weights
from freqops.channels import CHANNELS, ChannelSelection
from freqops.models._checkpoint import weights_of
from freqops.models._recipe import recipe_of
from freqops.models._released_keys import (
    BACKBONE,
    MOBILENET,
    OTHER_INPUTS,
    Kind,
    first_of,
    kind_of,
)
from freqops.models._zoo import mobilenet_v2, resnet50
from freqops.nn import ChannelGate, FrequencyTransform
from freqops.statistics import ChannelStatistics

__all__ = ["LoadReport", "load_released"]

CHROMA, ROUNDING = "dctnet", "jpeg"
"""What the released pipeline amounts to."""

GROUPS = 32
"""Of the first convolution of MobileNetV2 that reads more than 32 channels."""

COUNTER = "num_batches_tracked"
"""Old and frozen norms have none."""


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Which weights a checkpoint and a network share.

    Neither ``num_batches_tracked``, which not every BatchNorm has, nor mean and std of the
    transform count as missing or unexpected.

    Attributes:
        matched: keys of the network's state dict that were loaded.
        missing: keys of the network that the checkpoint lacks; they keep their values.
        unexpected: keys of the checkpoint that the network has no place for.

    Example:
        >>> print(LoadReport(("network.fc.weight",), (), ("neck.weight", "neck.bias")))
        1 matched, 0 missing, 2 unexpected: neck.weight, neck.bias
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        missing, unexpected = (
            f"{len(keys)} {name}" + (f": {first_of(keys)}" if keys else "")
            for name, keys in (("missing", self.missing), ("unexpected", self.unexpected))
        )
        return f"{len(self.matched)} matched, {missing}, {unexpected}"


def load_released(
    source: str | os.PathLike[str] | Mapping[str, object],
    *,
    statistics: ChannelStatistics | None = None,
    channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None,
    network: nn.Module | None = None,
) -> tuple[nn.Module, LoadReport]:
    """A network with the weights of a checkpoint of the code released with the paper.

    Three kinds are known by their keys: ResNet-50 and MobileNetV2 without input layer ("woinp"),
    each with a gate or without, and backbones of mmdetection 1.x. What the released networks and
    their pipeline have is set: stride 1 in layer2 of the classifying ResNet, chroma "dctnet",
    rounding "jpeg"; channels and classes are counted in the checkpoint.

    Only tensors and plain values are read from a file, never pickled code. Either all weights are
    loaded or none.

    Args:
        source: path of a file that ``torch.save`` wrote; or a state dict, or a mapping with the
            entry "state_dict".
        statistics: the authors' mean and std, which classifying networks need. The released tables
            hold the standard deviation of the pictures' mean coefficients; freqops' own, of the
            coefficients, do not fit weights that were trained with them.
        channels: what the first layer reads, in its order, as ``ChannelSelection.of`` takes it.
            None: the authors' square list of that size.
        network: for a backbone, and only then: a detector with its channels, made with the authors'
            statistics, chroma "dctnet" and rounding "jpeg", as by
            ``freqops.models.fasterrcnn_resnet50_fpn``. It is changed in place. FPN and heads have
            no counterpart among its layers: they are reported as unexpected, and its own as
            missing.

    Returns:
        The network, in training mode where it is a new one; and a LoadReport.

    Raises:
        ImportError: torchvision cannot be imported.
        OSError: the file cannot be read.
        TypeError: an argument has another type.
        ValueError: the file is truncated, no checkpoint, or holds pickled code; the checkpoint is
            of another architecture or incomplete; statistics, channels or network do not fit it.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020, and the code released with it.

    Example:
        >>> import freqops  # doctest: +SKIP
        >>> authors = freqops.ChannelStatistics(mean, std)  # doctest: +SKIP
        >>> network, report = load_released("resnet50_24.pth", statistics=authors)  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        314 matched, 0 missing, 0 unexpected
    """
    weights = weights_of(source)
    kind = kind_of(weights)
    gated = any("inp_gate" in key for key in weights)
    if kind is BACKBONE:
        for name, value in (("statistics", statistics), ("channels", channels)):
            if value is not None:
                raise ValueError(
                    f"load_released: {name} must be None for a backbone, which goes into a network "
                    f"that has its own, got {describe(value)}"
                )
        made = _checked_detector(network, gated)
    else:
        if network is not None:
            raise ValueError(
                f"load_released: network must be None for {kind.about}, which is made here, "
                f"got {describe(network)}"
            )
        made = _made(kind, weights, _checked_statistics(statistics), channels, gated)
    return made, _loaded(made, kind, weights)


def _checked_statistics(statistics: ChannelStatistics | None) -> ChannelStatistics:
    if isinstance(statistics, ChannelStatistics):
        return statistics
    expected = "load_released: statistics must be a ChannelStatistics of the authors' mean and std"
    if statistics is not None:
        raise TypeError(f"{expected}, got {describe(statistics)}")
    raise ValueError(
        f"{expected}, got None: their std is that of the pictures' mean coefficients, up to 70 "
        "times smaller than that of the coefficients, so freqops' own do not fit their weights"
    )


def _made(
    kind: Kind,
    weights: Mapping[str, Tensor],
    statistics: ChannelStatistics,
    channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None,
    gated: bool,
) -> nn.Module:
    """The classifying network of a checkpoint, with random weights."""
    first, head = (_dimensions(weights, key, kind) for key in (kind.first, kind.head))
    if len(first) != 4 or len(head) != 2 or 0 in head:
        raise _another(f"{kind.first} is {first}, {kind.head} is {head}")
    count = first[1]
    if kind is MOBILENET:
        count = first[0] if count == 1 else GROUPS * count
    if not 1 <= count <= CHANNELS:
        raise _another(f"its first layer reads {count} channels")
    selection = _selection(channels, count)
    if kind is MOBILENET:
        return mobilenet_v2(
            selection,
            gate=gated,
            statistics=statistics,
            chroma=CHROMA,
            rounding=ROUNDING,
            num_classes=head[0],
        )
    return resnet50(
        selection,
        gate=gated,
        statistics=statistics,
        chroma=CHROMA,
        rounding=ROUNDING,
        layer2_stride=1,
        num_classes=head[0],
    )


def _dimensions(weights: Mapping[str, Tensor], key: str, kind: Kind) -> list[int]:
    if key not in weights:
        raise ValueError(
            f"load_released: source must hold all weights of {kind.about}, got none of {key}"
        )
    return list(weights[key].shape)


def _selection(
    channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None, count: int
) -> ChannelSelection:
    if channels is not None:
        selection = ChannelSelection.of(channels)
        if len(selection) != count:
            raise ValueError(
                f"load_released: channels must be {count}, as many as the first layer reads, "
                f"got {len(selection)}"
            )
        return selection
    try:
        return ChannelSelection.square(count)
    except ValueError:
        raise ValueError(
            f"load_released: channels must be given for a checkpoint of {count} channels, which "
            "the released code tabulates no list of, got None"
        ) from None


def _checked_detector(network: nn.Module | None, gated: bool) -> nn.Module:
    """The network that a backbone goes into."""
    if network is None:
        raise ValueError(
            "load_released: network must be given for a backbone: a detector, as "
            'freqops.models.fasterrcnn_resnet50_fpn(channels=..., statistics=..., chroma="dctnet", '
            'rounding="jpeg") makes one with the authors\' statistics, got None'
        )
    if not isinstance(network, nn.Module):
        raise TypeError(f"load_released: network must be a detector, got {describe(network)}")
    recipe = recipe_of(network)
    if recipe is None or recipe.family != "detector":
        raise ValueError(
            "load_released: network must be a detector made by freqops for a backbone, "
            f"got {describe(network)}"
        )
    for name, value, wanted in (
        ("chroma", recipe.chroma, CHROMA),
        ("rounding", recipe.rounding, ROUNDING),
        ("layer2_stride", recipe.layer2_stride, 2),
    ):
        if value != wanted:
            raise ValueError(
                f"load_released: network must be made with {name}={wanted!r}, as the released "
                f"weights were trained, got {name}={value!r}"
            )
    ours = ChannelStatistics.photographs()
    if torch.equal(recipe.statistics.std, ours.std):
        raise ValueError(
            "load_released: network must be made with the authors' mean and std as statistics, got "
            "freqops' own: the authors' std is that of the pictures' mean coefficients"
        )
    if gated != any(isinstance(module, ChannelGate) for module in network.modules()):
        raise ValueError(
            f"load_released: network must be made with gate={gated}, as the checkpoint was, "
            f"got gate={not gated}"
        )
    return network


def _loaded(network: nn.Module, kind: Kind, weights: Mapping[str, Tensor]) -> LoadReport:
    """Loads weights into a network: all that the kind has, or nothing."""
    own = network.state_dict()
    values: dict[str, Tensor] = {}
    gate_of: str | None = None
    for name, module in network.named_modules():
        if isinstance(module, FrequencyTransform):  # its mean and std are the user's
            own = {key: value for key, value in own.items() if not key.startswith(f"{name}.")}
        elif isinstance(module, ChannelGate):
            gate_of = name
            gate = gate_weights(weights, module.state_dict())
            values |= {f"{name}.{key}": value for key, value in gate.items()}
    unexpected: list[str] = []
    for key, value in weights.items():
        ours = kind.ours(key)
        if ours is not None and kind.place + ours in own:
            values[kind.place + ours] = value
        elif not (gate_of is not None and _of_gate(key)) and not key.endswith(COUNTER):
            unexpected.append(key)
    missing = [key for key in own if key not in values and not key.endswith(COUNTER)]
    _check_fit(kind, weights, own, values, missing, unexpected)
    # Every key and every shape is right: nothing is left that could fail half-way.
    network.load_state_dict(values, strict=False)
    return LoadReport(tuple(values), tuple(missing), tuple(unexpected))


def _of_gate(key: str) -> bool:
    """Whether gate_weights took it."""
    return re.search(r"(^|\.)inp_gate(\.[01]|_l)\.\w+$", key) is not None


def _check_fit(
    kind: Kind,
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
) -> None:
    for key, value in values.items():
        if value.shape != own[key].shape:
            raise _another(f"{key} must be {list(own[key].shape)}, got {list(value.shape)}")
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            raise ValueError(f"load_released: source must hold dense numbers, got none for {key}")
    lacking = [key for key in missing if re.match(kind.whole, key)]
    if lacking:
        raise ValueError(
            f"load_released: source must hold all weights of {kind.about}, got none of "
            f"{len(lacking)}: {first_of(lacking)}"
        )
    # A deeper network has layers of ours and more; other input layers change what it reads.
    strange = [key for key in unexpected if kind.ours(key) or OTHER_INPUTS.match(key)]
    if strange:
        raise _another(f"{kind.about} has no {first_of(strange)}")
    for key in ("conv1.weight", "backbone.conv1.weight"):  # unused, and as wide as layer1 reads
        if key in unexpected and list(weights[key].shape[1:2]) == [3]:
            raise _another(f"{key} reads the 3 channels of pixels")


def _another(why: str) -> ValueError:
    return ValueError(
        f"load_released: source must be a network of the released code that freqops has, got "
        f"another architecture: {why}"
    )
