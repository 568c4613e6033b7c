"""ChannelGate: a module that learns which frequency channels a network reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import SupportsFloat, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from freqops._arguments import (
    FLOATS,
    accumulate,
    check_choice,
    check_temperature,
    check_tensor,
    describe,
)
from freqops._modules import counted, is_watched, moved
from freqops._noise import logistic_noise
from freqops._released import gate_weights
from freqops.channels import ChannelSelection
from freqops.ops import gumbel_gate
from freqops.reference import AUTOCAST_DEVICES

__all__ = ["ChannelGate"]

Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

KINDS = ("bernoulli", "se", "double")

# Biases of the logits before training: channels are open with probability sigmoid(1.9) = 0.870.
OFF, ON = 0.1, 2.0


class ChannelGate(nn.Module):
    """Opens or closes each frequency channel of each picture, by what the picture holds.

    kind "bernoulli", the paper's gate, from its input tensor 1 to its output tensor 5:

        1  x, (N, C, H, W)
        2  mean of x over pixels, (N, C)
        3  relu(norm(squeeze(2))), (N, C): a 1x1 convolution C to C and a BatchNorm
        4  logits [off, on], (N, C, 2): an affine map of 3 for each of the two in each channel
        5  y = x * gate, gate = on - off + noise > 0, with noise in training: ``gumbel_gate``

    kind "se", for comparison: squeeze and excitation, y = x * sigmoid(w), w = fc2(relu(fc1(2))).
    kind "double": y = x * sigmoid(w) * gate, both computed from x.

    Training and evaluation differ: in training gates are sampled, and it is their mean that a
    penalty bounds; in evaluation a channel is open where that is likelier than not, so before
    training all are. ``sample=True`` samples in evaluation as well.

    It returns a pair, so it is no member of ``nn.Sequential``.

    Args:
        channels: of x, in their order: a ChannelSelection (``channels`` of the FrequencyTransform
            before it), a list of channels, or an integer n for ``square(n)`` where that is
            tabulated and else ``triangle(n)``; None for all 192.
        kind: "bernoulli", "se" or "double".
        reduction: C // reduction, at least 1, channels are between fc1 and fc2.
        tau: temperature > 0 of the gradient, see ``tau``.
        device, dtype: of the parameters.

    Parameters:
        squeeze.weight (C, C, 1, 1), squeeze.bias (C), norm.weight, norm.bias (C), logits.weight
        (2 C, 1, 1, 1), logits.bias (2 C): 38,208 numbers for 192 channels. fc1 and fc2 are 1x1
        convolutions with bias. The temperature is in no state dict, nor is what ``forced`` says.

    Raises:
        TypeError, ValueError: those of ``ChannelSelection.of``; kind, reduction or tau is none of
            the above.

    Source:
        Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.2. Hu, Shen,
        Sun, "Squeeze-and-Excitation Networks", CVPR 2018.

    Example:
        >>> import torch
        >>> from freqops.nn import ChannelGate, gate_penalty
        >>> module = ChannelGate(24)
        >>> y, gate = module(torch.randn(8, 24, 56, 56))
        >>> y.shape, gate.shape
        (torch.Size([8, 24, 56, 56]), torch.Size([8, 24]))
        >>> gate_penalty(gate).backward()
    """

    squeeze: nn.Conv2d
    norm: nn.BatchNorm2d
    logits: nn.Conv2d
    fc1: nn.Conv2d
    fc2: nn.Conv2d
    _tau: Tensor
    _fixed: Tensor | None

    def __init__(
        self,
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = 192,
        kind: str = "bernoulli",
        reduction: int = 16,
        tau: SupportsFloat = 1.0,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("ChannelGate", "kind", kind, KINDS)
        if isinstance(reduction, bool) or not isinstance(reduction, int):
            raise TypeError(f"ChannelGate: reduction must be an integer, got {describe(reduction)}")
        if reduction < 1:
            raise ValueError(f"ChannelGate: reduction must be at least 1, got {reduction}")
        self.channels = ChannelSelection.of(channels)
        self.kind = kind
        c, few = len(self.channels), max(1, len(self.channels) // reduction)
        if kind != "se":
            self.squeeze = nn.Conv2d(c, c, 1, device=device, dtype=dtype)
            self.norm = nn.BatchNorm2d(c, device=device, dtype=dtype)
            self.logits = nn.Conv2d(c, 2 * c, 1, groups=c, device=device, dtype=dtype)
        if kind != "bernoulli":
            self.fc1 = nn.Conv2d(c, few, 1, device=device, dtype=dtype)
            self.fc2 = nn.Conv2d(few, c, 1, device=device, dtype=dtype)
        # What operators and graphs see of `tau` and `forced`. Changed in place.
        with torch.inference_mode(False):
            one = torch.ones((), dtype=torch.float32, device=device)
        self.register_buffer("_tau", one, persistent=False)
        self.register_buffer("_fixed", None, persistent=False)
        self._forced: ChannelSelection | None = None
        self.tau = tau
        self.register_load_state_dict_post_hook(_buffers_follow)  # type: ignore[no-untyped-call]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The paper's initial values: channels are open with probability 0.870, whatever x holds.

        squeeze: Kaiming normal by fan-out, bias 0. norm: 1 and 0. logits: weights N(0, 0.001^2),
        bias 0.1 for off and 2.0 for on. fc1 and fc2: those of ``nn.Conv2d``.
        """
        if self.kind != "se":
            nn.init.kaiming_normal_(self.squeeze.weight, mode="fan_out", nonlinearity="relu")
            self.norm.reset_parameters()
            nn.init.normal_(self.logits.weight, std=0.001)
            with torch.no_grad():
                self.get_parameter("squeeze.bias").zero_()
                off_on = self.get_parameter("logits.bias").view(-1, 2)
                off_on[:, 0], off_on[:, 1] = OFF, ON
        if self.kind != "bernoulli":
            self.fc1.reset_parameters()
            self.fc2.reset_parameters()

    def forward(
        self, x: Tensor, *, sample: bool | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The features with the closed channels set to zero, and the gate.

        Args:
            x: (N, C, H, W), floating point. N of at least 2 in training, for the BatchNorm.
            sample: whether gates are sampled, or open where that is likelier than not. None: in
                training they are, in evaluation they are not.
            noise: (N, C), samples with this noise, from ``logistic_noise``: in a compiled function
                with a generator, say, or to repeat a sample. None: drawn here.

        sample and noise make no difference to kind "se" and to a gate that is ``forced``.

        Returns:
            y, (N, C, H, W) in the dtype and memory format of x; and the gate, (N, C), of 0 and 1 in
            the dtype of the logits: that of the parameters, or of autocast. For kind "se" the
            weights in (0, 1); for kind "double" the binary gate. The gradient of a gate is
            straight-through: that of sigmoid((on - off + noise) / tau).

        Raises:
            TypeError: x is no floating-point tensor, sample is none of True, False and None.
            ValueError: x is not (N, C, H, W), noise is not (N, C) on its device, noise is given
                together with sample=False; BatchNorm's, where training has one picture.
            RuntimeError: torch's, where x has another dtype than the parameters, without autocast.
        """
        return self._run(x, sample, noise)[:2]

    def tensors(
        self, x: Tensor, *, sample: bool | None = None, noise: Tensor | None = None
    ) -> dict[str, Five]:
        """What ``forward`` computes on its way: the paper's tensors 1 to 5.

        Args:
            x, sample, noise: as in ``forward``.

        Returns:
            "gate": (x, pooled (N, C), hidden (N, C), logits (N, C, 2), y), for kinds "bernoulli"
            and "double". A gate that is forced shows the logits that it would follow.
            "se": (x, pooled (N, C), hidden (N, few), w (N, C), y), for kinds "se" and "double";
            for the latter, y before the binary gate.

        Raises:
            TypeError, ValueError: those of ``forward``.

        Example:
            >>> import torch
            >>> from freqops.nn import ChannelGate
            >>> five = ChannelGate(24).tensors(torch.randn(2, 24, 7, 7))["gate"]
            >>> [tuple(tensor.shape) for tensor in five]
            [(2, 24, 7, 7), (2, 24), (2, 24), (2, 24, 2), (2, 24, 7, 7)]
        """
        return self._run(x, sample, noise)[2]

    def decide(
        self, pooled: Tensor, *, sample: bool | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What ``forward`` makes of features with these means, without the features.

        With scale, gate = decide(x.mean((2, 3))), forward(x) = x * scale[:, :, None, None], gate.
        With ``block_dct_mean`` before it and ``block_dct(..., gate=scale)`` behind it, a picture
        becomes gated coefficients in two passes over its pixels.

        Args:
            pooled: (N, C), tensor 2: means over pixels, floating point. N of at least 2 in
                training, for the BatchNorm.
            sample, noise: as in ``forward``.

        Returns:
            scale, (N, C), float64 for float64 means, else float32: what features are multiplied by,
            exactly 0 for a closed channel; and the gate as from ``forward``. They differ for kind
            "double", whose scale is sigmoid(w) * gate, and in dtype.

        Raises:
            TypeError, ValueError, RuntimeError: those of ``forward``.

        Example:
            >>> import torch
            >>> from freqops.nn import ChannelGate
            >>> scale, gate = ChannelGate(24).eval().decide(torch.randn(2, 24))
            >>> scale.shape, gate.shape
            (torch.Size([2, 24]), torch.Size([2, 24]))
        """
        check_tensor("ChannelGate", "pooled", pooled, FLOATS, "floating point")
        if pooled.dim() != 2 or pooled.shape[1] != len(self.channels):
            raise ValueError(
                f"ChannelGate: pooled must be [N, {len(self.channels)}], got {list(pooled.shape)}"
            )
        _check_sampling(sample, noise)
        means = pooled[..., None, None]
        ones = torch.ones_like(means, dtype=accumulate(pooled.dtype))
        scale, gate, _ = self._gated(ones, means, sample, noise, affine=True)
        return scale.flatten(1), gate

    def _run(
        self, x: Tensor, sample: bool | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Five]]:
        """y, the gate, and the tensors of its making."""
        self._check(x)
        _check_sampling(sample, noise)
        return self._gated(x, x.mean((2, 3), keepdim=True), sample, noise)

    def _gated(
        self,
        x: Tensor,
        pooled: Tensor,
        sample: bool | None,
        noise: Tensor | None,
        affine: bool = False,
    ) -> tuple[Tensor, Tensor, dict[str, Five]]:
        """The same of features whose means, (N, C, 1, 1), are given; logits by _affine or not."""
        y = gate = x
        tensors: dict[str, Five] = {}
        if self.kind != "bernoulli":
            hidden = relu(self.fc1(pooled))
            w = self.fc2(hidden).flatten(1)
            y, gate = gumbel_gate(x, torch.stack([torch.zeros_like(w), w], -1), hard=False)
            tensors["se"] = (x, pooled.flatten(1), hidden.flatten(1), w, y)
        if self.kind != "se":
            hidden = relu(self.norm(self.squeeze(pooled)))
            logits = self._affine(hidden) if affine else self.logits(hidden)
            logits = logits.reshape(*x.shape[:2], 2)
            deciding = logits
            if self._fixed is not None:
                deciding, noise = self._fixed.to(logits.dtype).expand_as(logits), None
            elif noise is None and (self.training if sample is None else sample):
                dtype = accumulate(logits.dtype)  # as the gate is computed, not rounded to half
                noise = logistic_noise(logits.shape[:2], device=logits.device, dtype=dtype)
            y, gate = gumbel_gate(y, deciding, noise, tau=self._tau)
            five = (x, pooled.flatten(1), hidden.flatten(1), logits, y)
            tensors = {"gate": five, **tensors}
        return y, gate, tensors

    def _affine(self, hidden: Tensor) -> Tensor:
        """logits(hidden), but for rounding.

        A convolution of one pixel with as many groups as channels takes longer than all else that
        decides a gate, so the affine map is written out, unless somebody sees that or the layer
        was replaced by another convolution. Autocast has a type for convolutions.
        """
        layer, device = self.logits, hidden.device.type
        autocast = device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)
        if (
            autocast
            or type(layer) is not nn.Conv2d
            or layer.bias is None
            or layer.groups != len(self.channels)
            or layer.kernel_size != (1, 1)
            or is_watched(layer)
        ):
            through: Tensor = layer(hidden)
            return through
        scale, shift = layer.weight.view(-1, 2), layer.bias.view(-1, 2)
        return torch.addcmul(shift, hidden.flatten(1).unsqueeze(2), scale)

    def _check(self, x: Tensor) -> None:
        # Before the BatchNorm counts the batch; the rest is gumbel_gate's.
        c = len(self.channels)
        check_tensor("ChannelGate", "x", x, FLOATS, "floating point")
        if x.dim() != 4 or x.shape[1] != c or x.shape[2] < 1 or x.shape[3] < 1:
            raise ValueError(
                f"ChannelGate: x must be [N, {c}, H, W] with H and W at least 1, "
                f"got {list(x.shape)}"
            )

    @property
    def tau(self) -> float:
        """Temperature of the gradient: gates have that of sigmoid((on - off + noise) / tau).

        Whether a gate is open does not depend on it. It may be set at any time but between a
        forward and its backward; a compiled function or a captured CUDA graph follows.

        Raises:
            TypeError: set to no number.
            ValueError: set to a number that is not greater than 0, or outside the range of float32.
        """
        return self._temperature

    @tau.setter
    def tau(self, tau: SupportsFloat) -> None:
        self._temperature = float(check_temperature("ChannelGate", tau, torch.float32))
        self._tau.fill_(self._temperature)

    @property
    def forced(self) -> ChannelSelection | None:
        """The channels that are open, of every picture, in place of those that the gate would open.

        None, the default, leaves it to the gate. While it is forced, its parameters get no
        gradient; they and the BatchNorm still see x. For kind "double" the binary gate is forced.

        Raises:
            TypeError: set to neither a ChannelSelection nor None.
            ValueError: set to channels that the gate does not have; kind is "se", which closes no
                channel.
        """
        return self._forced

    @forced.setter
    def forced(self, selection: ChannelSelection | None) -> None:
        if selection is None:
            self._forced = self._fixed = None
            return
        if not isinstance(selection, ChannelSelection):
            raise TypeError(
                "ChannelGate: forced must be a ChannelSelection or None, "
                f"got {describe(selection)} (ChannelSelection.of makes one)"
            )
        if self.kind == "se":
            raise ValueError(
                'ChannelGate: forced must be None for kind "se", which closes no channel, '
                f"got {selection}"
            )
        unknown = sorted(set(selection) - set(self.channels))
        if unknown:
            raise ValueError(
                f"ChannelGate: forced must hold channels of the gate, got {unknown} besides"
            )
        self._forced = selection
        with torch.inference_mode(False):  # training may follow
            if self._fixed is None:
                self._fixed = torch.empty_like(self.logits.weight.detach().view(-1, 2))
            self._fixed.copy_(self._logits_of_forced())

    def load_released(self, state_dict: Mapping[str, Tensor]) -> None:
        """Takes the weights of a gate as the code released with the paper names them.

        inp_gate.0 is the 1x1 convolution, inp_gate.1 the BatchNorm, inp_gate_l the grouped
        convolution.

        Args:
            state_dict: with these keys, behind any one prefix ("module.", say) and among any
                others.

        Raises:
            TypeError: state_dict is no mapping.
            ValueError: a key is missing, a shape is another one, or the keys are there behind
                several prefixes; kind is "se". Nothing is loaded then.
        """
        if self.kind == "se":
            raise ValueError('load_released: kind must be "bernoulli" or "double", got "se"')
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"load_released: state_dict must be a mapping, got {describe(state_dict)}"
            )
        # Not strict: fc1 and fc2 of kind "double" stay as they are.
        self.load_state_dict(gate_weights(state_dict, self.state_dict()), strict=False)

    def extra_repr(self) -> str:
        """The settings."""
        settings = [counted(self.channels), f"kind={self.kind!r}", f"tau={self.tau:g}"]
        if self.forced is not None:
            settings.append(f"forced={len(self.forced)} channels")
        return ", ".join(settings)

    def _logits_of_forced(self) -> Tensor:
        """(C, 2), [0, 1] where the channel is open and [0, -1] where it is closed."""
        open_ = () if self._forced is None else self._forced.indices
        rows = [[0.0, 1.0 if channel in open_ else -1.0] for channel in self.channels]
        return torch.tensor(rows, device="cpu")

    def _refill(self) -> None:
        """The values of buffers that were laid anew."""
        self._tau.fill_(self._temperature)
        if self._fixed is not None:
            self._fixed.copy_(self._logits_of_forced())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ChannelGate:
        tau, fixed = self._tau, self._fixed
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._tau = moved(tau, self._tau)
        if self._tau is not tau or self._fixed is not fixed:
            self._refill()  # to_empty leaves buffers without values
        return self


def _check_sampling(sample: bool | None, noise: Tensor | None) -> None:
    if not isinstance(sample, (bool, NoneType)):
        raise TypeError(f"ChannelGate: sample must be True, False or None, got {describe(sample)}")
    if noise is not None and sample is not None and not sample:
        raise ValueError("ChannelGate: noise must be None with sample=False, got a tensor")


def _buffers_follow(module: ChannelGate, incompatible_keys: object) -> None:
    """After load_state_dict(assign=True), which brings parameters of a meta module to a device, but
    not what is in no state dict."""
    device = next(module.parameters()).device
    if module._tau.device != device:
        module._tau = torch.empty_like(module._tau, device=device)
        if module._fixed is not None:
            module._fixed = torch.empty_like(module._fixed, device=device)
        module._refill()
