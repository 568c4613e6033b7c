"""Sums of observations of the 192 channels, to which more can be added without cancellation."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from freqops.channels import CHANNELS

__all__ = ["Sums"]


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """Of n observations x_i of each channel: n, their mean and sum (x_i - mean)^2."""

    count: int
    mean: Tensor  # (192,) float64
    squares: Tensor  # (192,) float64

    @classmethod
    def of(cls, observations: Tensor) -> Sums:
        """Sums of float64 observations, (192, n) with n > 0."""
        mean = observations.mean(1)
        squares = (observations - mean[:, None]).square_().sum(1)
        return cls(observations.shape[1], mean.cpu(), squares.cpu())

    @classmethod
    def nothing(cls) -> Sums:
        """Sums of no observations."""
        zero = torch.zeros(CHANNELS, dtype=torch.float64, device="cpu")
        return cls(0, zero, zero)

    def plus(self, other: Sums) -> Sums:
        """Sums of both sets together.

        With n = n_a + n_b and d = mean_b - mean_a (Chan, Golub and LeVeque, 1983):
        mean = mean_a + d n_b / n,  squares = squares_a + squares_b + d^2 n_a n_b / n.
        """
        count = self.count + other.count
        if count == 0:
            return self
        d = other.mean - self.mean
        mean = self.mean + d * (other.count / count)
        squares = self.squares + other.squares + d * d * (self.count * other.count / count)
        return Sums(count, mean, squares)
