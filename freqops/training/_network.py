"""A finished network: found, opened, and how it wants its pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from freqops import models
from freqops.models import FrequencyNetwork
from freqops.training._settings import TRANSFORM

__all__ = ["NETWORK", "About", "network_file", "open_network"]

NETWORK = "network.safetensors"
"""The network of a run: that of the last finished epoch."""


@dataclasses.dataclass(frozen=True)
class About:
    """What the file of a trained network says beside the network.

    Attributes:
        classes: names, by number.
        resize: short side of a picture before the crop.
        crop: side of the square that the network sees.
        data: the folder, or module:function, that it was trained on; "" where nobody said.
        transform: where pictures became channels, as in ``Settings``.
        val_share, seed: which pictures of a folder without val/ were held out.
    """

    classes: tuple[str, ...]
    resize: int
    crop: int
    data: str = ""
    transform: str = "device"
    val_share: float = 0.2
    seed: int = 0

    @classmethod
    def of(cls, content: Mapping[str, object]) -> About:
        """What ``freqops.models.about`` gives; what this version does not know is left out.

        Raises:
            ValueError: something is missing or of another type.
        """
        known: dict[str, object] = {}
        for field in dataclasses.fields(cls):
            if field.name not in content:
                if field.default is dataclasses.MISSING:
                    raise ValueError(f'it says no "{field.name}"')
                continue
            value = content[field.name]
            if field.name == "classes":
                if not isinstance(value, list) or not value:
                    raise ValueError(f'"classes" is {value!r}, not a list of names')
                value = tuple(map(str, value))
            elif type(value).__name__ != field.type and (field.type, type(value)) != ("float", int):
                raise ValueError(f'"{field.name}" is {value!r}, not of type {field.type}')
            known[field.name] = value
        if known.get("transform", "device") not in TRANSFORM:
            raise ValueError(f'"transform" is {known["transform"]!r}, not {" or ".join(TRANSFORM)}')
        return cls(**known)  # type: ignore[arg-type]

    def content(self) -> dict[str, object]:
        """For the ``about`` of ``freqops.models.save``."""
        return dataclasses.asdict(self) | {"classes": list(self.classes)}


def network_file(place: str | os.PathLike[str]) -> Path:
    """The file of a network: that of a run, or the file itself.

    Raises:
        ValueError: there is none.
    """
    path = Path(place)
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(
            f"{path} must be the folder of a run or a .safetensors file, found nothing there"
        )
    if (path / NETWORK).is_file():
        return path / NETWORK
    if (path / "settings.json").is_file():
        raise ValueError(f"{path} must hold {NETWORK}: the run has finished no epoch yet")
    raise ValueError(f"{path} must be the folder of a run, found no {NETWORK} in it")


def open_network(place: str | os.PathLike[str]) -> tuple[FrequencyNetwork, About]:
    """The network of a run or of a file, in evaluation on the CPU, and what is known about it.

    Args:
        place: the folder of a run, of which the network of the last finished epoch is taken, or a
            .safetensors file.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is none; it is no network of freqops, none that classifies, or says
            nothing of classes and sizes, as those do that were not trained by freqops.
        ImportError: a package is not installed; the message says which.

    Example:
        >>> network, about = open_network("runs/crops")  # doctest: +SKIP
        >>> about.classes, about.crop  # doctest: +SKIP
        (('cat', 'dog'), 448)
    """
    path = network_file(place)
    network = models.load(path)
    if not isinstance(network, FrequencyNetwork):
        raise ValueError(f"{path} must hold a classifier, got {type(network).__name__}")
    try:
        about = About.of(models.about(path))
    except ValueError as error:
        raise ValueError(
            f"{path} must be written by freqops train, which tells classes and sizes: {error}"
        ) from error
    return network, about
