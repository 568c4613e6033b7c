"""The noise of a sampled gate. Operators draw no random numbers: this does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from freqops._arguments import FLOATS, check_dtype, describe, integer

__all__ = ["logistic_noise"]

# u = (k + 1/2) / 2**BITS has BITS + 1 bits: float64 holds it, and 1 - u, exactly.
BITS = 52


def logistic_noise(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Samples of the standard logistic law, that of the difference of two Gumbel samples.

    x = log(u / (1 - u)) with u = (k + 1/2) / 2^52, k uniform among the integers in [0, 2^52), in
    float64: P(x <= t) = 1 / (1 + exp(-t)), as exact in the tails as in the middle. |x| is at most
    53 log 2 = 36.74, beyond which lies 2e-16 of the law: no sample is infinite in any dtype.

    With logits l, sampling gate = l + x > 0 gives gates that are open with probability sigmoid(l).

    Args:
        shape: of the result, a tuple or list of integers of at least 0.
        generator: eager mode only, and of the result's device, or of the CPU where that is MPS,
            which has no float64. None: the default generator of that device.
        device: of the result. None: the generator's, else torch's default device.
        dtype: of the result: float32, float64, float16 or bfloat16, rounded to from float64. None:
            torch's default dtype.

    Returns:
        The samples. Equal after ``torch.manual_seed`` with an equal seed; under ``torch.compile``,
        whose random numbers are its own, likewise, but others than in eager mode.

    Raises:
        TypeError: shape is no tuple or list of integers, generator no torch.Generator, or dtype no
            torch.dtype.
        ValueError: a size is negative, dtype is another one, or the generator is of another device.

    Source:
        Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017; of two
        classes, the difference of the two Gumbel samples is all that counts.

    Example:
        >>> import torch
        >>> from freqops import logistic_noise
        >>> x = logistic_noise((8, 192), generator=torch.Generator().manual_seed(0))
        >>> x.shape, x.dtype
        (torch.Size([8, 192]), torch.float32)
    """
    sizes = _sizes(shape)
    if dtype is None:
        dtype = torch.get_default_dtype()
    check_dtype("logistic_noise", dtype, FLOATS)
    target = _device(device, generator)
    drawn_on = torch.device("cpu") if target.type == "mps" else target
    if generator is None:  # not handed on: with dynamic shapes Dynamo refuses even None
        k = torch.randint(0, 2**BITS, sizes, dtype=torch.int64, device=drawn_on)
    else:
        _check_generator(generator, drawn_on)
        k = torch.randint(
            0, 2**BITS, sizes, generator=generator, dtype=torch.int64, device=generator.device
        )
    u = (k.to(torch.float64) + 0.5) * 2.0**-BITS
    return torch.logit(u).to(target, dtype)


def _sizes(shape: Sequence[int]) -> list[int]:
    if not isinstance(shape, (list, tuple)):
        raise TypeError(
            f"logistic_noise: shape must be a tuple or list of integers, got {describe(shape)}"
        )
    sizes = [integer("logistic_noise", "shape", size) for size in shape]
    if any(size < 0 for size in sizes):
        raise ValueError(f"logistic_noise: shape must hold no negative size, got {sizes}")
    return sizes


def _device(
    device: torch.device | str | int | None, generator: torch.Generator | None
) -> torch.device:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            "logistic_noise: generator must be a torch.Generator or None, "
            f"got {describe(generator)}"
        )
    if device is not None:
        return torch.device(device)
    # The default device, as Dynamo can trace it.
    return torch.empty(0).device if generator is None else generator.device


def _check_generator(generator: torch.Generator, device: torch.device) -> None:
    given = generator.device
    if given.type != device.type or device.index not in (None, given.index):
        raise ValueError(
            f"logistic_noise: generator must be of {device}, where the noise is drawn, got {given}"
        )
