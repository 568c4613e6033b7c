"""How a frequency network was made: all that is needed to make it again."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from torch import nn

from freqops.channels import ChannelSelection
from freqops.statistics import ChannelStatistics

__all__ = ["Base", "Recipe", "recipe_of"]

Plain: TypeAlias = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None
"""What JSON holds."""


@dataclasses.dataclass(frozen=True)
class Base:
    """The RGB network, as ``name(**arguments)`` of a library makes it, without its weights."""

    library: str
    """ "torchvision" or "timm"."""
    name: str
    arguments: dict[str, Plain] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The arguments of ``from_rgb``, what it found, and what ``freeze`` did afterwards.

    A network is made again by the same steps: base, surgery for ``channels``, freeze to ``kept``.
    """

    family: str
    channels: ChannelSelection
    """What the first layers were fitted to."""
    statistics: ChannelStatistics
    gate: str | None = None
    """Kind of the ChannelGate, also where ``kept`` says that it is gone."""
    spatial: bool = False
    init: str | None = None
    chroma: str = "4:4:4"
    rounding: str = "none"
    layer2_stride: int = 2
    kept: ChannelSelection | None = None
    """What ``freeze`` kept of ``channels``."""
    base: Base | None = None
    """Known where a constructor made the network, or timm. ``save`` finds others of torchvision."""
    changes: tuple[str, ...] = ()
    """What surgery did, a layer a line."""


def recipe_of(network: nn.Module) -> Recipe | None:
    """The recipe of a network that freqops made; None for any other."""
    for module in network.modules():
        recipe = getattr(module, "recipe", None)
        if isinstance(recipe, Recipe):
            return recipe
    return None
