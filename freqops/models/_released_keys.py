"""Which layer is which: keys of the code released with the paper, and those of our networks.

their keys, each perhaps behind "module."           our keys
model.{i}.*            (ResNet-50)                  network.layer{i + 1}.*
fc.*                                                network.fc.*
features.0.conv.j.*    (MobileNetV2)                network.features.1.conv.{FIRST[j]}.*
features.{i}.conv.j.*                               network.features.{i + 1}.conv.{OTHER[j]}.*
conv.j.*                                            network.features.18.j.*
classifier.*                                        network.classifier.1.*
*.inp_gate.*, *.inp_gate_l.*                        gate.*
[backbone.]layer{i}.*  (mmdetection 1.x)            backbone.body.layer{i}.*
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

__all__ = ["BACKBONE", "MOBILENET", "OTHER_INPUTS", "RESNET", "Kind", "first_of", "kind_of"]

OTHER_INPUTS = re.compile(
    r"(backbone\.)?(upconv_|deconv|conv_y\.|bn_(y|cb|cr)\.|input_layer\.|(\w+\.)?inp_)"
)
"""Input layers of the other networks in the released code, and parts of other gates."""

SHOWN = 4
"""Keys that a message names."""


class Kind(NamedTuple):
    """A kind of released checkpoint."""

    about: str
    marks: re.Pattern[str]
    """Keys by which it is known."""
    place: str
    """Prefix of our keys."""
    whole: str
    """What begins those that must not be missing."""
    ours: Callable[[str], str | None]
    """Our key behind the prefix for one of theirs."""
    first: str
    """Weight of the first convolution."""
    head: str
    """Weight of the head, where classes are counted."""


def _resnet(key: str) -> str | None:
    found = re.fullmatch(r"model\.([0-3])\.(.+)", key)
    if found:
        return f"layer{int(found[1]) + 1}.{found[2]}"
    return key if key.startswith("fc.") else None


# Places in an inverted residual: theirs are flat, torchvision's hold convolution and norm together.
FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}
OTHER = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}


def _mobilenet(key: str) -> str | None:
    found = re.fullmatch(r"features\.(\d+)\.conv\.(\d+)\.(\w+)", key)
    if found:
        place = (FIRST if found[1] == "0" else OTHER).get(found[2])
        return place and f"features.{int(found[1]) + 1}.conv.{place}.{found[3]}"
    found = re.fullmatch(r"(conv|classifier)\.(.+)", key)
    if not found:
        return None
    return f"features.18.{found[2]}" if found[1] == "conv" else f"classifier.1.{found[2]}"


def _backbone(key: str) -> str | None:
    found = re.fullmatch(r"(?:backbone\.)?(layer[1-4]\..+)", key)
    return found[1] if found else None


RESNET = Kind(
    "a ResNet-50",
    re.compile(r"model\.[0-3]\.\d+\."),
    "network.",
    "network.",
    _resnet,
    "model.0.0.conv1.weight",
    "fc.weight",
)
MOBILENET = Kind(
    "a MobileNetV2",
    re.compile(r"features\.\d+\.conv\.\d+\."),
    "network.",
    "network.",
    _mobilenet,
    "features.0.conv.0.weight",
    "classifier.weight",
)
BACKBONE = Kind(
    "a backbone",
    re.compile(r"(backbone\.)?layer[1-4]\.\d+\."),
    "backbone.body.",
    r"backbone\.body\.layer\d",  # the rest, FPN and heads, is not looked for
    _backbone,
    "",
    "",
)


def kind_of(weights: Mapping[str, Tensor]) -> Kind:
    """The kind of a released checkpoint.

    Raises:
        ValueError: it is none.
    """
    for kind in (RESNET, MOBILENET, BACKBONE):
        if any(kind.marks.match(key) for key in weights):
            return kind
    got = f"keys such as {first_of(weights)}" if weights else "no tensor"
    raise ValueError(
        "load_released: source must be a checkpoint of the released code: a ResNet-50 "
        "(model.0...), a MobileNetV2 (features.0.conv.0...) or a backbone (backbone.layer1... or "
        f"layer1...), got {got}"
    )


def first_of(keys: Iterable[str]) -> str:
    """The first keys, for a message."""
    listed = list(keys)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")
