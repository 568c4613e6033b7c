"""Detectors and segmenters of torchvision on a ResNet: the transform is the body's first layer.

    conv1, bn1, relu, maxpool   removed from the body; FrequencyStem stands before layer1
    detectors                   GeneralizedRCNNTransform normalises with mean 0 and std 1
    pictures                    uint8 or floating point: a hook before the network's forward
    a gate                      (output, gate): a hook behind it

They are found by structure: Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS with ResNet-FPN,
FCN and DeepLabV3. In pictures of twice the size, 8x8 blocks have the stem's stride of 4 pixels,
so that anchors, pooling of regions and masks are those of the RGB network.

Re-fitted layers are trained, also where torchvision froze layer1; what else it froze stays frozen.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from freqops._arguments import PICTURES, check_tensor, describe
from freqops.models import _resnet
from freqops.models._network import gated
from freqops.models._recipe import Recipe
from freqops.nn import ChannelGate, FrequencyTransform

__all__ = ["FrequencyStem", "body_of", "install", "kind_of", "reason"]

STEM = "frequency"
"""Name of the FrequencyStem in the body."""


class _OnTheWay(threading.local):
    """Of each thread, the gate between the stem that made it and the hook that returns it."""

    gate: Tensor | None = None


_on_the_way = _OnTheWay()


class FrequencyStem(nn.Module):
    """Pictures to frequency channels at a stride of 4 pixels: first layer of a body.

        enlarged = interpolate(images, scale_factor=2, mode="bilinear")    no antialiasing
        coefficients = transform(enlarged)               block_dct, (N, C, ceil(H/4), ceil(W/4))
        coefficients, gate = gate(coefficients)          with a gate

    The gate leaves the network beside its output, past the layers between: see ``install``. In
    training it takes at least two pictures a batch, for its BatchNorm. The black border that
    detectors put around pictures of a batch counts in what it sees.

    Attributes:
        transform: the FrequencyTransform.
        gate: the ChannelGate, or None.
        recipe: how the network was made.
        fused_gate: whether the gate may be decided from the pixels, as in FrequencyNetwork.

    The first three may be replaced; without a gate the network returns its output alone.

    Example:
        >>> from freqops.models._surgery import make_recipe
        >>> stem = FrequencyStem(FrequencyTransform(24), make_recipe("detector"))
        >>> stem(torch.zeros(1, 3, 50, 64)).shape
        torch.Size([1, 24, 13, 16])
    """

    fused_gate: bool | None = None
    gate: ChannelGate | None

    def __init__(
        self, transform: FrequencyTransform, recipe: Recipe, gate: ChannelGate | None = None
    ) -> None:
        super().__init__()
        self.transform = transform
        self.gate = gate
        self.recipe = recipe
        self._traced: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Coefficients, gated where there is a gate.

        Args:
            images: (N, 3, H, W), floating point in [0, 1].

        Returns:
            (N, C, ceil(H/4), ceil(W/4)), in the dtype of images or, under autocast, in its type;
            in the dtype of ``transform`` where it has one.

        Raises:
            TypeError, ValueError: those of ``block_dct`` and of the gate.
        """
        enlarged = interpolate(images, scale_factor=2.0, mode="bilinear", align_corners=False)
        transform, fused = self.transform, self.fused_gate
        coefficients, gate = gated(transform, self.gate, enlarged, images.dtype, fused)
        self.hand_on(gate)
        return coefficients

    def hand_on(self, gate: Tensor | None) -> None:
        """Keeps a gate for ``take``, in the place of an earlier one that nobody took."""
        # Threads that share a network have each their own. A compiler knows no threads, and follows
        # attributes of modules: calls of one compiled network with a gate must not overlap.
        self._traced = gate if torch.compiler.is_compiling() else None
        if not torch.compiler.is_compiling():
            _on_the_way.gate = gate

    def take(self) -> Tensor | None:
        """The gate of this call, which is not kept any longer."""
        # First what was compiled: what a compiled call handed on does not replace what was not.
        gate = self._traced
        if gate is None and not torch.compiler.is_compiling():
            gate = _on_the_way.gate
        self.hand_on(None)
        return gate

    def __getstate__(self) -> dict[str, object]:
        # A tensor that is part of a graph can be neither copied nor pickled.
        return {**super().__getstate__(), "_traced": None}  # type: ignore[no-untyped-call]


def kind_of(network: nn.Module) -> str | None:
    """ "detector" or "segmenter" for one of torchvision on a ResNet; None for any other."""
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return None
    detects = _is(getattr(network, "transform", None), "GeneralizedRCNNTransform")
    if not detects and not isinstance(getattr(network, "classifier", None), nn.Module):
        return None
    body = getattr(backbone, "body", None) if detects else backbone
    if not isinstance(body, nn.Module) or not _is(body, "IntermediateLayerGetter"):
        return None
    returned: object = getattr(body, "return_layers", None)
    if not isinstance(returned, dict) or not _resnet.matches(body):
        return None
    if set(_resnet.STEM) & returned.keys():  # which the network reads elsewhere
        return None
    return "detector" if detects else "segmenter"


def reason(network: nn.Module) -> str:
    """Why a detector or segmenter is refused, as the end of a sentence; "" for other networks."""
    if kind_of(network) is not None:
        return ""
    if _is(getattr(network, "transform", None), "GeneralizedRCNNTransform"):
        return ", a detector whose backbone is no ResNet with FPN"
    if {"backbone", "classifier"} <= dict(network.named_children()).keys():
        return ", a segmenter whose backbone is no ResNet"
    return ""


def _is(module: object, name: str) -> bool:
    """Whether a module is of a class of torchvision, which may be not installed."""
    return any(kind.__name__ == name for kind in type(module).__mro__)


def body_of(network: nn.Module) -> nn.Module:
    """The module that holds conv1 to layer4 of a detector or segmenter, or what is left of them."""
    backbone = network.get_submodule("backbone")
    body = getattr(backbone, "body", backbone)
    assert isinstance(body, nn.Module)
    return body


def install(network: nn.Module, stem: FrequencyStem) -> None:
    """Puts a stem into the body of a detector or segmenter, in the place of conv1 to maxpool.

    The network then takes uint8 pictures in [0, 255] or floating-point ones in [0, 1], whatever its
    own dtype: detectors a list of (3, H, W) or a batch (N, 3, H, W), segmenters a batch or a list
    of pictures of one size. With a gate it returns (output, gate), gate (N, C) as from ChannelGate:
    detectors (losses, gate) in training and (detections, gate) in evaluation.

    What the network does more hangs on hooks, so it stays of its class: a call of ``forward``
    itself has neither. The stem's recipe tells the changes by their full names.
    """
    body = body_of(network)
    detects = body is not network.get_submodule("backbone")
    place = "backbone.body." if detects else "backbone."
    layers = dict(body.named_children())
    removed = [name for name in layers if name in _resnet.STEM]
    # An IntermediateLayerGetter runs its layers in their order.
    for name in layers:
        delattr(body, name)
    body.add_module(STEM, stem.train(network.training))
    for name, layer in layers.items():
        if name not in removed:
            body.add_module(name, layer)
    changes = [f"{', '.join(place + name for name in removed)}: {place}{STEM} in their place"]
    changes += [place + change for change in stem.recipe.changes]
    if detects:
        transform = network.get_submodule("transform")
        for name, value in (("image_mean", 0.0), ("image_std", 1.0)):
            setattr(transform, name, [value] * 3)
        changes.append("transform: mean 0, std 1")
    stem.recipe = dataclasses.replace(stem.recipe, changes=tuple(changes))
    network.register_forward_pre_hook(_before, with_kwargs=True)
    network.register_forward_hook(_behind)


def _stem_of(network: nn.Module) -> FrequencyStem:
    # Asked of the network each time: hooks of copies are the same functions. It may be wrapped, in
    # what torch.compile made of it.
    return cast(FrequencyStem, getattr(body_of(network), STEM))


def _before(
    network: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Hook: no gate is there yet, and pictures become floating point."""
    _stem_of(network).hand_on(None)
    detects = body_of(network) is not network.backbone
    read = _pictures if detects else _batch
    if args:
        return (read(network, args[0]), *args[1:]), kwargs
    name = "images" if detects else "x"  # in torchvision's forward
    if name in kwargs:
        return args, {**kwargs, name: read(network, kwargs[name])}
    return args, kwargs  # forward says what is missing


def _behind(network: nn.Module, args: tuple[object, ...], output: object) -> object:
    """Hook: the output, and the gate that the stem handed on."""
    stem = _stem_of(network)
    gate = stem.take()
    if stem.gate is None:
        return output
    if gate is None:  # compiled only in part
        raise RuntimeError(
            f"{type(network).__name__}: its FrequencyStem must be compiled with the network or not "
            "at all, got a network compiled around it"
        )
    return output, gate


def _pictures(network: nn.Module, images: object) -> Tensor | list[Tensor]:
    """A batch, or pictures one by one, in [0, 1] in the dtype of the network."""
    function = type(network).__name__
    if isinstance(images, Tensor):
        return _floating(network, "images", images, batch=True)
    if not isinstance(images, Sequence) or isinstance(images, str):
        raise TypeError(
            f"{function}: images must be a list of tensors [3, H, W], got {describe(images)}"
        )
    if not images:
        raise ValueError(f"{function}: images must hold at least one picture, got none")
    return [_floating(network, f"images[{i}]", image) for i, image in enumerate(images)]


def _batch(network: nn.Module, images: object) -> Tensor:
    """Pictures of one size as a batch, in [0, 1] in the dtype of the network."""
    pictures = _pictures(network, images)
    if isinstance(pictures, Tensor):
        return pictures
    for picture in pictures:
        if picture.shape != pictures[0].shape:
            raise ValueError(
                f"{type(network).__name__}: images must be of one size, got "
                f"{list(pictures[0].shape)} and {list(picture.shape)}"
            )
    return torch.stack(pictures)


def _floating(network: nn.Module, argument: str, images: Tensor, batch: bool = False) -> Tensor:
    function = type(network).__name__
    check_tensor(function, argument, images, PICTURES, "uint8 or floating point")
    shape = images.shape
    if len(shape) != 3 + batch or shape[-3] != 3 or shape[-2] < 1 or shape[-1] < 1:
        expected = "[N, 3, H, W]" if batch else "[3, H, W]"
        raise ValueError(
            f"{function}: {argument} must be {expected} with H and W at least 1, got {list(shape)}"
        )
    pixels = images.to(next(network.parameters()).dtype)
    return pixels / 255 if images.dtype == torch.uint8 else pixels
