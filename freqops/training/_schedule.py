"""Learning rate, penalty and temperature as functions of the step: nothing to be saved."""

from __future__ import annotations

import dataclasses
import math

from freqops.training._settings import Settings

__all__ = ["Schedule"]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What changes during a run of ``settings.epochs`` epochs of ``length`` steps.

    With step t = 0, 1, ..., the fraction of an epoch e = t / length, w = warmup_epochs and T the
    number of steps:

        warm-up      min(1, (t + 1) / (w length))             while t < w length
        step         step_factor^floor(e / step_epochs)
        cosine       (1 + cos(pi (t - w length) / (T - w length))) / 2
        penalty      lambda min(1, (t + 1) / (penalty_warmup_epochs length))
        tau          tau (tau_end / tau)^(t / (T - 1))
    """

    settings: Settings
    length: int

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.settings.epochs * self.length

    def rate(self, step: int) -> float:
        """What the learning rates are multiplied by."""
        settings = self.settings
        warm = settings.warmup_epochs * self.length
        if step < warm:
            return min(1.0, (step + 1) / warm)
        if settings.schedule == "step":
            return float(settings.step_factor ** (step // self.length // settings.step_epochs))
        if settings.schedule == "cosine":
            return (1 + math.cos(math.pi * (step - warm) / max(self.steps - warm, 1))) / 2
        return 1.0

    def penalty(self, step: int) -> float:
        """lambda."""
        warm = self.settings.penalty_warmup_epochs * self.length
        return self.settings.penalty * min(1.0, (step + 1) / warm if warm else 1.0)

    def tau(self, step: int) -> float:
        """Temperature of the gate's gradient."""
        first, last = self.settings.tau, self.settings.tau_end
        if last is None:
            return first
        return float(first * (last / first) ** (step / max(self.steps - 1, 1)))
