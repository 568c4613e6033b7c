"""RGB networks by name: made again from a file, and found for a network that is to be saved."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from freqops._extras import need, torchvision_module
from freqops.models._dense import kind_of
from freqops.models._general import GridConv2d
from freqops.models._recipe import Base, Plain, Recipe
from freqops.models._twin import plain

__all__ = ["candidates", "make", "named", "outline"]

FROZEN = "FrozenBatchNorm2d"
"""What torchvision's detectors have in their bodies where these come with weights."""

WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.25, 1.3, 1.4, 1.5, 2.0)
"""Of MobileNetV2, beside 1: the usual ones. Layers round theirs, so it cannot be computed."""


def make(base: Base) -> nn.Module:
    """The RGB network of that name, with random weights. Reads no file and no network.

    Nothing but the constructors that torchvision and timm list is called, with plain arguments, of
    which none is about weights. Two arguments are ours, for torchvision's detectors: the
    ``backbone_name`` of another ResNet, and ``norm_layer``, "FrozenBatchNorm2d".

    Args:
        base: library, name and arguments.

    Returns:
        The network. The global random state is as before.

    Raises:
        ImportError: the library cannot be imported.
        ValueError: the library or the name is unknown, or the arguments are refused.
    """
    forbidden = [name for name in base.arguments if _is_forbidden(name)]
    if forbidden:
        raise ValueError(f"{base.name} must have no arguments about weights, got {forbidden}")
    makers = {"torchvision": _from_torchvision, "timm": _from_timm}
    if base.library not in makers:
        raise ValueError(f"library must be {' or '.join(makers)}, got {base.library!r}")
    try:
        # What constructors warn of, they said when the network was made for the first time.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return makers[base.library](base)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # constructors raise all sorts on arguments that do not fit
        words = " ".join(str(error).split())[:200]
        given = f" with {base.arguments}" if base.arguments else ""
        raise ValueError(f"{base.library} makes no {base.name!r}{given}: {words}") from error


class _NoValues(TorchFunctionMode):
    """Parameters are made on the meta device, and all that a constructor reads is not."""

    def __torch_function__(  # type: ignore[explicit-any]
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        return func(*args, **{**kwargs, "device": "meta"} if func is torch.empty else kwargs)


def outline(base: Base) -> nn.Module:
    """What ``make`` makes, on the meta device: in a fraction of the time, and of the memory.

    Raises:
        ImportError, ValueError: those of ``make``.
    """
    try:
        with torch.device("meta"):
            return make(base)
    except ValueError:  # of RegNet too, which reads numbers that it computed
        with _NoValues():
            return make(base).to("meta")


def _is_forbidden(argument: str) -> bool:
    """Whether an argument could read a file or a network, or leave the weights without values."""
    others = ("checkpoint_path", "cache_dir", "device", "dtype")
    return argument.startswith(("weights", "pretrained")) or argument in others


def _from_torchvision(base: Base) -> nn.Module:
    models = torchvision_module(f"{base.name!r}", "torchvision.models")
    if base.name not in _names(models):
        raise ValueError("this torchvision does not know the name")
    arguments: dict[str, object] = dict(base.arguments)
    backbone, norm = arguments.pop("backbone_name", None), arguments.pop("norm_layer", None)
    builder = models.get_model_builder(base.name)
    for name in ("weights", "weights_backbone"):
        if name in inspect.signature(builder).parameters:
            arguments[name] = None
    network = builder(**arguments)
    assert isinstance(network, nn.Module)
    if (backbone, norm) != (None, None) and kind_of(network) != "detector":
        raise ValueError("backbone_name and norm_layer are for detectors")
    if backbone is not None:
        if backbone not in _names(models, "torchvision.models.resnet"):
            raise ValueError(f"backbone_name must name a ResNet, got {backbone!r}")
        network.backbone = models.detection.backbone_utils.resnet_fpn_backbone(
            backbone_name=backbone,
            weights=None,
            norm_layer=nn.BatchNorm2d,
            trainable_layers=5,
        )
    if norm is not None:
        if norm != FROZEN:
            raise ValueError(f"norm_layer must be {FROZEN!r}, got {norm!r}")
        frozen = torchvision_module(f"{base.name!r}", "torchvision.ops").FrozenBatchNorm2d
        body = network.get_submodule("backbone.body")
        for parent in list(body.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) is nn.BatchNorm2d:
                    setattr(parent, name, frozen(layer.num_features, layer.eps))
    return network


def _from_timm(base: Base) -> nn.Module:
    need(f"{base.name!r}", "models", "timm")
    torchvision_module(f"{base.name!r}", "torchvision")  # timm imports it
    import timm

    # A name with another sign than these could be that of a file, or of a network on a hub.
    if set(base.name) & set(":/\\") or not timm.is_model(base.name):
        raise ValueError("this timm does not know the name")
    network = timm.create_model(base.name, pretrained=False, **base.arguments)  # type: ignore[arg-type]
    assert isinstance(network, nn.Module)
    return network


def _names(models: ModuleType, place: str | None = None) -> list[str]:
    """Names of constructors that torchvision lists: all, or those of one of its modules."""
    return [
        name
        for name in models.list_models()
        if not name.startswith("quantized_")  # which set a global of torch
        and place in (None, models.get_model_builder(name).__module__)
    ]


def named(network: nn.Module) -> Base | None:
    """What an RGB network of timm says of itself; None for others. It may have been changed since.

    Networks of torchvision do not know their names: ``candidates`` tries them.
    """
    settings = getattr(network, "pretrained_cfg", None)
    if not type(network).__module__.startswith("timm.") or not isinstance(settings, dict):
        return None
    name, tag = settings.get("architecture"), settings.get("tag")
    if not isinstance(name, str):
        return None
    given = getattr(network, "_model_args", None)  # not in older ones
    arguments = {
        argument: value
        for argument, value in (given if isinstance(given, dict) else {}).items()
        if plain(value) and not _is_forbidden(argument)
    }
    classes: object = getattr(network, "num_classes", None)
    if plain(classes):
        arguments["num_classes"] = classes
    size = getattr(getattr(network, "patch_embed", None), "img_size", None)
    usual = settings.get("input_size")
    if isinstance(size, (list, tuple)) and usual and [*size] != [*usual[1:]]:
        arguments["img_size"] = [*size]
    return Base("timm", f"{name}.{tag}" if tag else name, arguments)


def candidates(network: nn.Module, recipe: Recipe) -> Iterator[Base]:
    """RGB networks that a frequency network may have been made from, the likeliest first.

    What was recorded when it was made; the same with the number of classes that the network now
    has; the networks of torchvision that the same module makes. Each is to be verified.
    """
    classes: dict[str, Plain] = {"num_classes": _classes(network)}
    base = recipe.base
    if base is not None:
        names = [base.name]
        if base.library == "timm" and "." in base.name:  # a tag that this timm may not know
            names.append(base.name.partition(".")[0])
        for name in names:
            yield Base(base.library, name, base.arguments)
            yield Base(base.library, name, {**base.arguments, **classes})
    places = [type(module).__module__ for module in network.modules()]
    place = next((place for place in places if place.startswith("torchvision.models.")), None)
    if place is None:
        return
    names = _names(torchvision_module("save", "torchvision.models"), place)
    for more in _hints(network):
        for name in names:
            yield Base("torchvision", name, {**classes, **more})


def _classes(network: nn.Module) -> int:
    """Outputs of the last layer, where a detector does not say it elsewhere."""
    modules = dict(network.named_modules())
    told: object = getattr(modules.get("head.classification_head"), "num_classes", None)
    if isinstance(told, int):  # RetinaNet, FCOS
        return told
    heads = [layer for layer in modules.values() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    head = modules.get("roi_heads.box_predictor.cls_score", heads[-1])
    return head.out_features if isinstance(head, nn.Linear) else int(head.weight.shape[0])


def _hints(network: nn.Module) -> Iterator[dict[str, Plain]]:
    """Arguments of torchvision that decide which layers there are, as far as layers tell."""
    modules = dict(network.named_modules())
    always: dict[str, Plain] = {}
    if "aux_classifier" in modules:
        always["aux_loss"] = True
    if any(type(module).__name__ == FROZEN for module in modules.values()):
        always["norm_layer"] = FROZEN
    grid = next((layer for layer in modules.values() if isinstance(layer, GridConv2d)), None)
    for module in modules.values():
        if isinstance(getattr(module, "aux_logits", None), bool):  # GoogLeNet, Inception
            always["aux_logits"] = module.aux_logits  # type: ignore[assignment]
        if hasattr(module, "image_size") and grid is not None:
            always["image_size"] = grid.pictures[0]
    yield always
    for name, module in modules.items():
        if name.endswith("layer1.0.conv2") and isinstance(module, nn.Conv2d):
            width = module.out_channels // module.groups
            yield {**always, "groups": module.groups, "width_per_group": width}
        if type(module).__name__ == "MobileNetV2":
            layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
            for width_mult in (layers[-1].out_channels / 1280, *WIDTHS):
                yield {**always, "width_mult": width_mult}
    deepest = modules.get("backbone.body.layer4")
    if deepest is not None:
        models = torchvision_module("save", "torchvision.models")
        for backbone in _names(models, "torchvision.models.resnet"):
            layer = outline(Base("torchvision", backbone)).get_submodule("layer4")
            if _sizes(layer) == _sizes(deepest):
                yield {**always, "backbone_name": backbone}


def _sizes(module: nn.Module) -> dict[str, torch.Size]:
    """Of the weights of convolutions."""
    state: dict[str, torch.Tensor] = module.state_dict()
    return {name: weight.shape for name, weight in state.items() if weight.dim() == 4}
