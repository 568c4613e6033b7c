"""FrequencyNetwork: a classifier of the zoo behind the transform and the gate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from freqops._arguments import FLOATS, check_images, check_tensor, describe
from freqops._modules import is_watched
from freqops.models._recipe import Recipe
from freqops.nn import ChannelGate, FrequencyTransform
from freqops.ops import block_dct, block_dct_mean
from freqops.reference import AUTOCAST_DEVICES

__all__ = ["FrequencyNetwork", "HalfPicture", "gated"]


def gated(
    transform: FrequencyTransform,
    gate: ChannelGate | None,
    images: Tensor,
    dtype: torch.dtype,
    fused: bool | None,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """gate(transform(images)), or the coefficients and None, in the dtype of the layers behind.

    Autocast has its own, and a dtype that the transform was given holds. Where nobody sees the
    difference (``_is_fused``), the gate is decided from the mean block of the pixels first. On the
    CPU closed channels are then not computed; on CUDA they are only written as zeros.
    """
    if fused is not None and not isinstance(fused, bool):
        raise TypeError(f"fused_gate must be True, False or None, got {describe(fused)}")
    if gate is None or not _is_fused(transform, gate, images, fused):
        coefficients = transform(images)
        if transform.dtype is None and not _is_autocast(images):
            coefficients = coefficients.to(dtype)
        return (coefficients, None) if gate is None else gate(coefficients, noise=noise)
    mean, std, chroma = transform.mean, transform.std, transform.chroma
    wanted = transform.dtype or (None if _is_autocast(images) else dtype)
    pooled = block_dct_mean(images, transform.channels, mean=mean, std=std, chroma=chroma)
    scale, opened = gate.decide(pooled if wanted is None else pooled.to(wanted), noise=noise)
    coefficients = block_dct(
        images,
        transform.channels,
        mean=mean,
        std=std,
        chroma=chroma,
        dtype=wanted,
        memory_format=transform.memory_format,
        gate=scale,
    )
    return coefficients, opened


def _is_autocast(images: Tensor) -> bool:
    device = images.device.type
    return device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)


def _is_fused(
    transform: FrequencyTransform, gate: ChannelGate, images: Tensor, fused: bool | None
) -> bool:
    """Whether pictures may go to gated coefficients without the steps between.

    fused: True, or None for CPU tensors alone. Not in training, with rounding, where a derivative
    is wanted, nor where a module is not ours, has hooks or a forward of its own: they are to see
    what they always saw.
    """
    if not isinstance(images, Tensor) or not (images.is_cpu if fused is None else fused):
        return False
    if type(transform) is not FrequencyTransform or type(gate) is not ChannelGate:
        return False
    if transform.training or gate.training or transform.rounding != "none":
        return False
    if len(transform.channels) != len(gate.channels):
        return False  # the gate says so
    if torch.is_grad_enabled():
        seen = [images, transform.mean, transform.std, *gate.parameters()]
        if any(values is not None and values.requires_grad for values in seen):
            return False
    return not is_watched(transform, *gate.modules())


class HalfPicture(nn.Module):
    """Pictures at half their size, as the RGB stem of a network takes them.

    (resized - mean) / std, resized bilinearly without antialiasing to (ceil(H/2), ceil(W/2)).

    Args:
        mean, std: of R, G and B in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            # In no state dict: they belong to the stem's weights, as the zoo has them.
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Half pictures.

        Args:
            images: (N, 3, H, W) or (3, H, W), uint8 in [0, 255] or floating point in [0, 1].

        Returns:
            (N, 3, ceil(H/2), ceil(W/2)), or without N, normalised, in the dtype of the buffers.
        """
        check_images("HalfPicture", images)
        pixels = images.to(self.mean.dtype)
        if images.dtype == torch.uint8:
            pixels = pixels / 255
        h, w = images.shape[-2:]
        size = ((h + 1) // 2, (w + 1) // 2)
        batch = pixels if pixels.dim() == 4 else pixels[None]
        resized = interpolate(batch, size, mode="bilinear", antialias=False)
        normalised = (resized - self.mean) / self.std
        return normalised if pixels.dim() == 4 else normalised[0]


class FrequencyNetwork(nn.Module):
    """A classification network that reads frequency channels instead of pixels.

        coefficients = transform(images)                  block_dct, (N, C, ceil(H/8), ceil(W/8))
        coefficients, gate = gate(coefficients)           with a gate
        output = network(coefficients)                    the zoo's network, without its stem

    In evaluation without a derivative, the gate is decided from the mean block of the pixels, by
    default on the CPU (``fused_gate``): the same but for rounding, so that a channel whose logits
    differ by less than about 1e-4 may be open where it was closed. On the CPU closed channels are
    then not computed; on CUDA they are only written as zeros. Half-precision layers and autocast
    then decide from means that were not rounded coefficient by coefficient.

    Made by ``freqops.models.from_rgb`` and the constructors beside it.

    Attributes:
        transform: the FrequencyTransform; ``transform.channels`` are those that it computes.
        gate: the ChannelGate, or None.
        halved: pictures to the second input of ``network``; None without ``spatial=True``.
        network: takes coefficients, and under the zoo's names holds all layers but the stem, for
            loaders that did the transform. It knows nothing of the gate.
        recipe: how the network was made; ``recipe.changes`` says what differs from the RGB network.
        fused_gate: whether the gate may be decided from the pixels: None, the default, on the CPU
            alone, since no GPU has measured it; True everywhere; False never. Not with transforms
            or gates of other classes, those with hooks or a forward of their own, or with rounding.
    """

    fused_gate: bool | None = None
    gate: ChannelGate | None
    halved: HalfPicture | None

    def __init__(
        self,
        transform: FrequencyTransform,
        network: nn.Module,
        recipe: Recipe,
        gate: ChannelGate | None = None,
        halved: HalfPicture | None = None,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.gate = gate
        self.halved = halved
        self.network = network
        self.recipe = recipe

    def forward(
        self,
        images: Tensor | None = None,
        *,
        coefficients: Tensor | None = None,
        spatial: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Class scores, and with a gate what it held open.

        Args:
            images: (N, 3, H, W), uint8 in [0, 255] or floating point in [0, 1], not normalised.
            coefficients: (N, C, gh, gw) instead of images, from a loader that did the transform.
            spatial: beside coefficients, for a network made with ``spatial=True``: what ``halved``
                gives.
            noise: (N, C), gates are sampled with it, as ``ChannelGate`` does; in evaluation too.
                None: drawn in training.

        Returns:
            The network's output; with a gate (output, gate), gate (N, C) as from ChannelGate.

        Raises:
            TypeError: not exactly one of images and coefficients is given, or spatial is given or
                missing; coefficients are no floating-point tensor; those of ``block_dct``.
            ValueError: coefficients are not (N, C, gh, gw); noise is given to a network without a
                gate; those of ``block_dct`` and of the gate.
        """
        if (images is None) == (coefficients is None):
            given = "neither" if images is None else "both"
            raise TypeError(
                f"FrequencyNetwork: either images or coefficients must be given, got {given}"
            )
        wanted = coefficients is not None and self.halved is not None
        if (spatial is not None) != wanted:
            raise TypeError(
                "FrequencyNetwork: spatial must be given beside coefficients where the network was "
                f"made with spatial=True, and else not, got {'None' if wanted else 'a tensor'}"
            )
        if noise is not None and self.gate is None:
            raise ValueError(
                "FrequencyNetwork: noise must be None for a network without a gate, "
                f"got {describe(noise)}"
            )
        gate: Tensor | None = None
        if images is not None:
            _check_images(images)
            dtype = next(self.network.parameters()).dtype
            coefficients, gate = gated(
                self.transform, self.gate, images, dtype, self.fused_gate, noise
            )
            if self.halved is not None:
                spatial = self.halved(images)
        elif coefficients is not None:
            _check_coefficients(coefficients, len(self.transform.channels))
            if self.gate is not None:
                coefficients, gate = self.gate(coefficients, noise=noise)
        inputs = (coefficients,) if spatial is None else (coefficients, spatial)
        output: Tensor = self.network(*inputs)
        return output if gate is None else (output, gate)


def _check_images(images: Tensor) -> None:
    """What block_dct does not say: it takes one picture as well, and knows no coefficients."""
    if not isinstance(images, Tensor):
        return
    shape = list(images.shape)
    if len(shape) == 4 and (shape[1] == 3 or not images.is_floating_point()):
        return
    hint = ": coefficients are given as network(coefficients=x)" if len(shape) == 4 else ""
    raise ValueError(f"FrequencyNetwork: images must be [N, 3, H, W], got {shape}{hint}")


def _check_coefficients(coefficients: Tensor, count: int) -> None:
    check_tensor("FrequencyNetwork", "coefficients", coefficients, FLOATS, "floating point")
    if coefficients.dim() != 4 or coefficients.shape[1] != count:
        raise ValueError(
            f"FrequencyNetwork: coefficients must be [N, {count}, gh, gw], "
            f"got {list(coefficients.shape)}"
        )
