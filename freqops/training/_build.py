"""The network of a run: made from RGB, from an earlier network, with the statistics of the data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from freqops._extras import torchvision_module
from freqops.channels import ChannelSelection
from freqops.models import FrequencyNetwork, about, load, summarize
from freqops.models._base import make
from freqops.models._recipe import Base
from freqops.models._surgery import build, family_of, make_recipe
from freqops.statistics import ChannelStatistics
from freqops.training._network import network_file
from freqops.training._settings import Settings

__all__ = ["network_of", "picture_sizes"]


AUXILIARY = ("googlenet", "inception_v3")
"""Of torchvision: with outputs beside the scores in training unless told."""


def network_of(
    settings: Settings,
    classes: int,
    statistics: ChannelStatistics | None,
    say: Callable[[str], None],
    before: Path | None = None,
) -> FrequencyNetwork:
    """A network with that many classes, random weights drawn from torch's generator.

    Args:
        settings: of the run.
        classes: their number.
        statistics: mean and std; None for those of the network that is there, or of photographs.
        say: takes lines about weights.
        before: the network of a run that goes on, where it has finished an epoch: nothing else is
            read then. Its weights are in the state.

    Raises:
        ValueError: no classification network has the name; weights or a checkpoint do not fit.
        OSError: a file cannot be read.
        ImportError: torchvision or timm is missing.
    """
    network: nn.Module | None = None
    if before is not None and before.is_file():
        network = load(before)
    elif settings.init:
        network = _loaded(settings, classes, say)
    if network is None:
        library, _, name = settings.model.rpartition("/")
        base = Base(library or "torchvision", name, {"num_classes": classes})
        if name in AUXILIARY and not library:
            base.arguments["aux_logits"] = False
        rgb = make(base)
        if settings.weights != "none":
            say(_fill(rgb, base, settings.weights))
        family = family_of(rgb)
        if family in ("detector", "segmenter"):
            raise ValueError(f"model must classify, got the {family} {settings.model!r}")
        recipe = make_recipe(
            family,
            ChannelSelection.parse(settings.channels) if settings.channels else None,
            gate=settings.gate,
            spatial=settings.spatial,
            statistics=statistics,
            chroma=settings.chroma,
            rounding=settings.rounding,
            layer2_stride=settings.layer2_stride,
            base=base,
        )
        target = settings.penalty_target
        if recipe.gate is not None and target is not None and target > len(recipe.channels):
            raise ValueError(
                f"penalty_target must be at most the {len(recipe.channels)} channels of the gate, "
                f"got {target:g}"
            )
        network = build(rgb, recipe)
    assert isinstance(network, FrequencyNetwork)
    if settings.channels_last:
        network.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.transform.memory_format = torch.channels_last
    return network


def picture_sizes(
    settings: Settings, network: nn.Module, before: Path | None = None
) -> tuple[int, int]:
    """The short side after the resize and the side of the crop.

    What the settings leave open is as the network was trained before, or its usual size.

    Args:
        settings: of the run.
        network: what is trained.
        before: the network of a run that goes on, where it has finished an epoch.

    Raises:
        ValueError: the network has no usual size that is square; the crop is larger than the rest.
    """
    resize, crop = settings.resize, settings.crop
    if crop is None and settings.init:
        there = before is not None and before.is_file()
        told = about(before if there and before else network_file(settings.init))
        sizes = told.get("resize"), told.get("crop")
        if isinstance(sizes[0], int) and isinstance(sizes[1], int):
            crop = sizes[1]
            resize = sizes[0] if resize is None else resize
    if crop is None:
        height, width = summarize(network).size
        if height != width:
            raise ValueError(
                f"crop must be given for a network of {height} x {width} pictures, got none"
            )
        crop = height
    if resize is None:
        resize = -(-crop * 8 // 7)
    if crop > resize:
        raise ValueError(f"resize must be at least the crop, {crop}, got {resize}")
    return resize, crop


def _loaded(settings: Settings, classes: int, say: Callable[[str], None]) -> nn.Module:
    """The network of another run, with its classes or a new head."""
    path = network_file(settings.init)
    network = load(path)
    if not isinstance(network, FrequencyNetwork):
        raise ValueError(f"init must classify, got {type(network).__name__} in {path}")
    name, head = _head(network.network)
    if settings.new_head:
        new = nn.Linear(head.in_features, classes, head.bias is not None)
        parent, _, last = name.rpartition(".")
        setattr(network.network.get_submodule(parent), last, new)
        say(f"{name}: drawn anew for {classes} classes instead of {head.out_features}")
    elif head.out_features != classes:
        raise ValueError(
            f"init must have the {classes} classes of the data, got {head.out_features} in {path} "
            "(new_head draws the last layer anew)"
        )
    return network


def _head(network: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer."""
    heads = [(n, layer) for n, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not heads:
        raise ValueError(f"init must end in a linear layer, got {type(network).__name__}")
    return heads[-1]


def _fill(rgb: nn.Module, base: Base, weights: str) -> str:
    """Gives an RGB network the weights that fit its layers; says which do not."""
    own: dict[str, Tensor] = rgb.state_dict()
    given = _downloaded(base) if weights == "default" else _state_dict(weights)
    fitting = {n: t for n, t in given.items() if n in own and t.shape == own[n].shape}
    missing = [name for name in own if name not in fitting]
    if 2 * len(missing) > len(own):
        raise ValueError(
            f"weights must be those of {base.name}, got a state dict of which "
            f"{len(fitting)} of its {len(own)} tensors fit"
        )
    rgb.load_state_dict(fitting, strict=False)
    others = f"; drawn anew: {', '.join(missing)}" if missing else ""
    return f"{len(fitting)} of {len(own)} RGB weights taken{others}"


def _downloaded(base: Base) -> Mapping[str, Tensor]:
    if base.library == "timm":
        import timm

        state: Mapping[str, Tensor] = timm.create_model(base.name, pretrained=True).state_dict()
        return state
    models = torchvision_module("weights", "torchvision.models")
    state = models.get_model(base.name, weights="DEFAULT").state_dict()
    return state


def _state_dict(path: str) -> Mapping[str, Tensor]:
    if not os.path.isfile(path):
        raise ValueError(f"weights must be none, default or a file, found no file {path!r}")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # pickles and safetensors have errors of their own
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"weights must be a state dict, got {path!r}: {words}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"weights must be a state dict, got {type(content).__name__} in {path}")
    return {
        str(name).removeprefix("module."): tensor
        for name, tensor in content.items()
        if isinstance(tensor, Tensor)
    }
