"""One step of training: the loss of this process's share of a batch, its gradient, the update."""

from __future__ import annotations

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from freqops._arguments import accumulate
from freqops._noise import logistic_noise
from freqops._penalty import gate_penalty
from freqops.models import FrequencyNetwork
from freqops.training._evaluate import AMP_DTYPES
from freqops.training._pictures import Batch
from freqops.training._processes import Processes
from freqops.training._schedule import Schedule
from freqops.training._seeds import seed_of
from freqops.training._settings import Settings
from freqops.training._sync_norm import synchronize

__all__ = ["LOSS", "OPEN", "PENALTY", "PICTURES", "RIGHT", "Stepper"]

LOSS, PENALTY, OPEN, RIGHT, PICTURES = range(5)
"""Sums over pictures: of their cross entropy, penalty, open channels, of those that are right, of
ones."""


class Stepper:
    """The network of a run with its optimizer, and what they do in a step.

    Args:
        settings: of the run.
        network: on the device of processes.
        schedule: of learning rate, penalty and temperature.
        processes: this process and the others.

    Attributes:
        network: as given, BatchNorm over all processes where the settings want it.
        optimizer, scaler: what has a state beside the network's.
        sums: float64 (5,), added up over this process's pictures since they were last zeroed.
    """

    def __init__(
        self,
        settings: Settings,
        network: FrequencyNetwork,
        schedule: Schedule,
        processes: Processes,
    ) -> None:
        self.settings, self.schedule, self.processes = settings, schedule, processes
        self.network = network
        self._layers: nn.Module = network
        device = processes.device
        if processes.count > 1 and settings.sync_batchnorm:
            synchronize(network)
        if settings.compile:
            network.compile()  # type: ignore[no-untyped-call]
        if processes.count > 1:
            self._layers = nn.parallel.DistributedDataParallel(
                network, device_ids=[device.index] if device.type == "cuda" else None
            )
        gate = network.gate
        # Soft weights have neither noise nor a number of open channels.
        self._gate = gate if gate is not None and gate.kind != "se" else None
        self._argument = "images" if settings.transform == "device" else "coefficients"
        self._amp = AMP_DTYPES[settings.amp]
        self.optimizer = _optimizer(network, settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "float16")
        self.sums = torch.zeros(5, dtype=torch.float64, device=device)
        # The first step whose loss was not finite, and the pictures of the latest steps. On a GPU
        # the first is looked at now and then only, because a look waits for all that is under way.
        self._bad = torch.full((), -1, device=device)
        self._latest: deque[tuple[int, list[int]]] = deque(maxlen=self.patience)

    @property
    def patience(self) -> int:
        """Steps between two looks at whether the loss is finite."""
        return self.settings.log_steps if self.processes.device.type == "cuda" else 1

    @property
    def rate(self) -> float:
        """The learning rate of the layers, as it was in the latest step."""
        settings = self.settings
        bases = [group["base"] for group in self.optimizer.param_groups]
        place = bases.index(settings.learning_rate) if settings.learning_rate in bases else 0
        return float(self.optimizer.param_groups[place]["lr"])

    def take(self, step: int, batch: Batch) -> Tensor:
        """Trains on this process's share of a batch, and adds to ``sums``.

        Returns:
            What was added.

        Raises:
            ValueError: a class number is none of the network's.
        """
        settings, processes, gate = self.settings, self.processes, self._gate
        self._latest.append((step, batch.numbers))
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * self.schedule.rate(step)
        values = batch.values.to(processes.device, non_blocking=True)
        labels = batch.labels.to(processes.device, non_blocking=True)
        torch.manual_seed(seed_of(settings.seed, "step", step, processes.rank))
        arguments = {self._argument: values}
        if gate is not None:
            tau = self.schedule.tau(step)
            if gate.tau != tau:
                gate.tau = tau
            arguments["noise"] = self._noise(step, len(gate.channels))
        with torch.autocast(processes.device.type, dtype=self._amp, enabled=self._amp is not None):
            output = self._layers(**arguments)
        scores, opened = output if isinstance(output, tuple) else (output, None)
        scores = scores.to(accumulate(scores.dtype))
        _check_labels(batch.labels, scores.shape[1])
        loss = F.cross_entropy(scores, labels, label_smoothing=settings.label_smoothing)
        total, penalty, on = loss, loss.new_zeros(()), loss.new_zeros(())
        if gate is not None:
            opened = opened.to(accumulate(opened.dtype))
            penalty = gate_penalty(self._everyones(opened), target=settings.penalty_target)
            total = loss + self.schedule.penalty(step) * penalty
            on = opened.detach().sum()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if settings.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self._bad = torch.where((self._bad < 0) & ~loss.isfinite(), step, self._bad)
            count = len(labels)
            right = (scores.argmax(1) == labels).sum()
            added = torch.stack(
                [
                    x.double()
                    for x in (loss * count, penalty * count, on, right, loss.new_full((), count))
                ]
            )
            self.sums += added
        return added

    def first_bad(self) -> int:
        """The first step whose loss was not finite; -1 while there is none."""
        return int(self._bad)

    def is_finite(self) -> bool:
        """Whether all parameters are."""
        norms = torch._foreach_norm(list(self.network.parameters()))
        return bool(torch.stack(norms).isfinite().all())

    def pictures_of(self, step: int) -> list[int]:
        """Of this process in a step that is not long ago."""
        return next((numbers for number, numbers in self._latest if number == step), [])

    def _noise(self, step: int, channels: int) -> Tensor:
        """This process's rows of the gate noise of the whole batch."""
        processes, size = self.processes, self.settings.batch_size
        generator = torch.Generator(processes.device)
        generator.manual_seed(seed_of(self.settings.seed, "gate", step))
        noise = logistic_noise((size, channels), generator=generator, device=processes.device)
        share = size // processes.count
        return noise[processes.rank * share :][:share]

    def _everyones(self, opened: Tensor) -> Tensor:
        """Gates with the mean of the whole batch, where the penalty is not linear in it.

        The gradient stays that of this process's part, and is averaged with those of the others.
        """
        processes = self.processes
        if processes.count == 1 or self.settings.penalty_target is None:
            return opened
        mean = opened.detach().mean()
        return opened + (processes.sum(mean.clone()) / processes.count - mean)


def _optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The gate, biases and norms, and all other weights have rates and decays of their own."""
    gate = settings.gate_learning_rate or settings.learning_rate
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate, decay = settings.learning_rate, settings.weight_decay
        if name.startswith("gate."):
            rate, decay = gate, 0.0
        elif parameter.dim() < 2 and not settings.norm_decay:
            decay = 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    given = [
        {"params": parameters, "lr": rate, "weight_decay": decay, "base": rate}
        for (rate, decay), parameters in groups.items()
    ]
    # fused: one pass over memory, on a CPU four times as fast for AdamW.
    if settings.optimizer == "sgd":
        momentum, nesterov = settings.momentum, settings.nesterov
        return torch.optim.SGD(given, momentum=momentum, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(given, fused=True)


def _check_labels(labels: Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"data must have class numbers in [0, {classes}), got {low if low < 0 else high}"
        )
