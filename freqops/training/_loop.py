"""train: one run from its settings, on one process or many, interrupted and resumed at will."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from freqops import models
from freqops._extras import need
from freqops._jpeg_transform import JPEGTransform
from freqops._noise import logistic_noise
from freqops._penalty import gate_penalty
from freqops.files import replacing
from freqops.statistics import ChannelStatistics
from freqops.training._build import network_of, picture_sizes
from freqops.training._data import open_data
from freqops.training._evaluate import AMP_DTYPES, Evaluation, evaluate
from freqops.training._interrupt import Interrupts
from freqops.training._log import Broken, Log
from freqops.training._network import NETWORK, About
from freqops.training._pictures import (
    Batch,
    EvaluationBatches,
    Pictures,
    TrainingBatches,
    View,
    loader,
    read,
)
from freqops.training._processes import Processes
from freqops.training._schedule import Schedule
from freqops.training._seeds import drawing, seed_of
from freqops.training._settings import Settings
from freqops.training._state import State, read_state, write_state
from freqops.training._statistics import of_training_pictures
from freqops.training._sync_norm import synchronize, unsynchronize
from freqops.training._views import ChannelView, JPEGView, PixelView

__all__ = ["Diverged", "Result", "train"]

SETTINGS, STATISTICS, STATE = "settings.json", "statistics.json", "state.pt"
BEST = "best.safetensors"

_LOSS, _PENALTY, _OPEN, _RIGHT, _PICTURES = range(5)
"""What is added up over an epoch, each picture counting once."""

_NAMED = 3


class Diverged(ArithmeticError):
    """The loss, or a parameter, is not finite; the last checkpoint is from before."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        finished: whether all epochs are done; otherwise it was interrupted, and its state saved.
        epoch: epochs done.
        step: steps done.
        top1: of the last validation, in [0, 1]; None before there was one.
        skipped: pictures that could not be read, in all processes.
    """

    finished: bool
    epoch: int
    step: int
    top1: float | None
    skipped: int


def train(settings: Settings, processes: Processes | None = None, *, quiet: bool = False) -> Result:
    """Trains a frequency network, or goes on where it was interrupted.

        loss = cross entropy + lambda gate_penalty(gate)

    The folder ``settings.output`` holds the settings, the statistics, log.csv and steps.csv, after
    each epoch network.safetensors (and best.safetensors, by validation top-1), and state.pt, from
    which the same call goes on, number for number: batches, crops, gate samples and dropout are
    functions of the seed and the step. SIGINT and SIGTERM save the state and end the run.

    Processes share each batch, and BatchNorm spans all of them, so that their number changes
    nothing but rounding (and dropout, which each draws for itself).

    Args:
        settings: of the run.
        processes: from ``join``, as torchrun starts them; None: this one alone.
        quiet: neither bar nor lines, but warnings.

    Returns:
        How it ended.

    Raises:
        ValueError: settings, data and checkpoints do not fit each other; the folder holds another
            run; a picture cannot be read, with broken="fail".
        OSError: a file cannot be written: the state is that of the checkpoint before.
        Diverged: the loss is not finite. The message says in which batch.
        ImportError: a package is missing.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.2.

    Example:
        >>> train(Settings(data="photos", output="run", gate=True))  # doctest: +SKIP
        Result(finished=True, epoch=90, step=1260, top1=0.91, skipped=0)
    """
    need("freqops.training", "train", "PIL", "torchvision", "tqdm", "safetensors")
    if not settings.output:
        raise ValueError("output must be the folder of the run, got nothing")
    if processes is None:
        from freqops.training._processes import join

        with join(settings.device) as processes:
            return train(settings, processes, quiet=quiet)
    devices = [processes.device] if processes.device.type == "cuda" else []
    folder = Path(settings.output)
    if processes.main:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.[0-9]*"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
    log = Log(folder if processes.main else None, tensorboard=settings.tensorboard, quiet=quiet)
    try:
        with torch.random.fork_rng(devices), Interrupts() as interrupts:
            return _Run(settings, processes, log, interrupts).run()
    finally:
        log.close()


class _Run:
    """A run under way."""

    def __init__(
        self, settings: Settings, processes: Processes, log: Log, interrupts: Interrupts
    ) -> None:
        self.settings, self.processes, self.log = settings, processes, log
        self.interrupts = interrupts
        self.folder = Path(settings.output)
        self.amp = AMP_DTYPES[settings.amp]
        self.broken = Broken(log)
        self.data = open_data(settings.data, settings.val_share, settings.seed)
        if self.data.held_out:
            log.say(f"{len(self.data.val)} pictures of {settings.data} are held out")
        state = self._before()
        statistics = self._statistics()
        with drawing(seed_of(settings.seed, "weights")):
            self.network = network_of(settings, len(self.data.classes), statistics, log.say)
        self.sizes = picture_sizes(settings, self.network)
        self.network.to(processes.device)
        self.layers: nn.Module = self.network
        if processes.count > 1 and settings.sync_batchnorm:
            synchronize(self.network)
        if settings.compile:
            self.network.compile()  # type: ignore[no-untyped-call]
        if processes.count > 1:
            cuda = processes.device.type == "cuda"
            self.layers = nn.parallel.DistributedDataParallel(
                self.network, device_ids=[processes.device.index] if cuda else None
            )
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=settings.amp == "float16")
        self.batches = TrainingBatches(
            len(self.data.train),
            settings.batch_size,
            settings.seed,
            processes.rank,
            processes.count,
        )
        self.schedule = Schedule(settings, len(self.batches))
        self.step = 0
        self.best = -1.0
        self.top1: float | None = None
        self.sums = torch.zeros(5, dtype=torch.float64, device=processes.device)
        # Of the latest steps, the one whose loss was not finite, and what was in each.
        self.bad = torch.full((), -1, device=processes.device)
        self.latest: deque[tuple[int, list[int]]] = deque(maxlen=settings.log_steps)
        if state is not None:
            self._restore(state)
        else:
            self.log.go_on(0)

    # What is there before the first step.

    def _before(self) -> State | None:
        """The state of a run that was interrupted; writes the settings of a new one."""
        path = self.folder / SETTINGS
        state = None
        if (self.folder / STATE).exists():
            state = read_state(self.folder / STATE)
            before = Settings.of(json.loads(path.read_text(encoding="utf-8")), str(path))
            names = before.differing(self.settings)
            if names:
                old, new = getattr(before, names[0]), getattr(self.settings, names[0])
                raise ValueError(
                    f"output must be the folder of this run, got {self.folder}, which has another "
                    f"with {names[0]} {old!r} instead of {new!r}"
                )
            if state["classes"] != list(self.data.classes):
                theirs = state["classes"]
                assert isinstance(theirs, list)
                raise ValueError(
                    f"data must have the {len(theirs)} classes of the run in {self.folder}, "
                    f"got {len(self.data.classes)} or others in {self.settings.data}"
                )
        words = self.settings.words()
        if self.processes.main:
            if state is None and path.exists() and path.read_text(encoding="utf-8") != words:
                (self.folder / STATISTICS).unlink(missing_ok=True)  # of other pictures
            with replacing(path) as hidden:
                hidden.write_text(words, encoding="utf-8")
        return state

    def _statistics(self) -> ChannelStatistics | None:
        """mean and std of the channels; those of a run that goes on are in its folder."""
        settings = self.settings
        if settings.init:
            return None
        if settings.statistics == "photographs":
            return ChannelStatistics.photographs()
        if settings.statistics != "own":
            if not Path(settings.statistics).is_file():
                raise ValueError(
                    "statistics must be own, photographs or a file that `freqops stats` wrote, "
                    f"got {settings.statistics!r}"
                )
            return ChannelStatistics.load(settings.statistics)
        path = self.folder / STATISTICS
        if self.processes.main and not path.exists():
            with drawing(0):  # the sizes need no weights of worth
                network = network_of(settings, len(self.data.classes), None, lambda text: None)
            measured = of_training_pictures(
                self.data.train,
                self._view(picture_sizes(settings, network), train=True, measured=True),
                settings,
                self.broken,
                self.log.say,
            )
            with replacing(path) as hidden:
                measured.save(hidden)
        self.processes.barrier()
        return ChannelStatistics.load(path)

    def _view(self, sizes: tuple[int, int], train: bool, measured: bool = False) -> View:
        """What a picture becomes; all channels without statistics where they are measured."""
        settings = self.settings
        if settings.transform == "jpeg":
            if measured:
                return JPEGView(JPEGTransform(None, None, sizes, train=train))
            transform = self.network.transform
            return JPEGView(JPEGTransform(transform.channels, _of(transform), sizes, train=train))
        pixels = PixelView(*sizes, train=train, area=settings.area, flip=settings.flip)
        if measured or settings.transform == "device":
            return pixels
        return ChannelView(pixels, copy.deepcopy(self.network.transform).cpu())

    def _optimizer(self) -> torch.optim.Optimizer:
        """The gate's parameters, norms and biases, and the rest have rates and decays of theirs."""
        settings = self.settings
        gate = settings.gate_learning_rate or settings.learning_rate
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith("gate."):
                key = (gate, 0.0)
            elif parameter.dim() < 2 and not settings.norm_decay:
                key = (settings.learning_rate, 0.0)
            else:
                key = (settings.learning_rate, settings.weight_decay)
            groups.setdefault(key, []).append(parameter)
        given = [
            {"params": parameters, "lr": rate, "weight_decay": decay, "base": rate}
            for (rate, decay), parameters in groups.items()
        ]
        if settings.optimizer == "sgd":
            return torch.optim.SGD(given, momentum=settings.momentum, nesterov=settings.nesterov)
        return torch.optim.AdamW(given)

    # The state between two steps.

    def _restore(self, state: State) -> None:
        """Goes on from a state."""
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.scaler.load_state_dict(state["scaler"])  # type: ignore[arg-type]
        step, best, top1, sums = (state[name] for name in ("step", "best", "top1", "sums"))
        assert isinstance(step, int) and isinstance(best, float) and isinstance(sums, list)
        assert top1 is None or isinstance(top1, float)
        self.step, self.best, self.top1 = step, best, top1
        if self.processes.main:
            self.sums += torch.tensor(sums, dtype=torch.float64)
        self.log.go_on(step)
        self.log.say(f"going on after step {step} of {self.schedule.steps}")

    def _save(self) -> None:
        """Writes the state, unless the network has diverged."""
        self._check_finite()
        sums = self.processes.sum(self.sums.clone())
        if self.processes.main:
            state: State = {
                "classes": list(self.data.classes),
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "step": self.step,
                "best": self.best,
                "top1": self.top1,
                "sums": sums.tolist(),
            }
            write_state(state, self.folder / STATE)

    def _save_network(self, name: str) -> None:
        resize, crop = self.sizes
        settings = self.settings
        about = About(
            self.data.classes,
            resize,
            crop,
            self.data.name,
            settings.transform,
            settings.val_share,
            settings.seed,
        )
        network = unsynchronize(copy.deepcopy(self.network))
        models.save(network, self.folder / name, about=about.content())

    # The steps.

    def run(self) -> Result:
        """All epochs that are left."""
        schedule = self.schedule
        training = loader(
            Pictures(
                self.data.train,
                self._view(self.sizes, train=True),
                seed=self.settings.seed,
                broken=self.settings.broken,
                replace=True,
            ),
            self.batches,
            workers=self.settings.workers,
            device=self.processes.device,
        )
        self.log.begin(schedule.steps, self.step)
        while self.step < schedule.steps:
            self.batches.epoch, self.batches.first = divmod(self.step, schedule.length)
            started, first = time.perf_counter(), self.step
            with contextlib.closing(read(training)) as batches:
                for batch in batches:
                    self._train(batch)
                    if self._stops():
                        self._save()
                        return self._result()
            seconds = time.perf_counter() - started
            self._end_epoch(seconds, (self.step - first) * self.settings.batch_size)
            if self.processes.any(self.interrupts.asked)[0]:
                break
        return self._result()

    def _stops(self) -> bool:
        """Between two steps: whether the run ends here. Saves and checks what is due."""
        settings, schedule = self.settings, self.schedule
        every_step = self.processes.device.type != "cuda"  # there a look costs a synchronisation
        looked = every_step or self.step % settings.log_steps == 0
        asked, bad = self.processes.any(self.interrupts.asked, looked and bool(self.bad >= 0))
        if bad:
            self._check_finite()
        ended = self.step % schedule.length == 0
        if asked and not ended:  # else the epoch is finished first
            return True
        if settings.checkpoint_steps and self.step % settings.checkpoint_steps == 0 and not ended:
            self._save()
        return False

    def _train(self, batch: Batch) -> None:
        """One step."""
        settings, processes, step = self.settings, self.processes, self.step
        self.broken.add(batch.broken)
        self.latest.append((step, batch.numbers))
        self.network.train()
        factor = self.schedule.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        labels = batch.labels.to(processes.device, non_blocking=True)
        values = batch.values.to(processes.device, non_blocking=True)
        if labels.numel() and int(batch.labels.max()) >= len(self.data.classes):
            raise ValueError(
                f"data must have class numbers below {len(self.data.classes)}, "
                f"got {int(batch.labels.max())}"
            )
        gate = self.network.gate
        if gate is not None and settings.tau_end is not None:
            gate.tau = self.schedule.tau(step)
        elif gate is not None and step == 0:
            gate.tau = settings.tau
        torch.manual_seed(seed_of(settings.seed, "step", step, processes.rank))
        arguments = {"images" if settings.transform == "device" else "coefficients": values}
        if gate is not None and gate.kind != "se":
            arguments["noise"] = self._noise(len(gate.channels))
        with torch.autocast(processes.device.type, dtype=self.amp, enabled=self.amp is not None):
            output = self.layers(**arguments)
        scores, opened = output if isinstance(output, tuple) else (output, None)
        scores = scores.float()
        loss = F.cross_entropy(scores, labels, label_smoothing=settings.label_smoothing)
        total = loss
        penalty = torch.zeros((), device=processes.device)
        if opened is not None and gate is not None and gate.kind != "se":
            opened = opened.float()
            penalty = gate_penalty(self._everyones(opened), target=settings.penalty_target)
            total = total + self.schedule.penalty(step) * penalty
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if settings.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self._count(step, loss, penalty, opened, scores, labels)
        self.step += 1

    def _noise(self, channels: int) -> Tensor:
        """This process's rows of the gate noise of the whole batch."""
        device, share = self.processes.device, self.batches.share
        generator = torch.Generator(device).manual_seed(
            seed_of(self.settings.seed, "gate", self.step)
        )
        noise = logistic_noise((self.batches.size, channels), generator=generator, device=device)
        dtype = next(self.network.parameters()).dtype
        return noise[self.processes.rank * share :][:share].to(dtype)

    def _everyones(self, opened: Tensor) -> Tensor:
        """Gates of the whole batch where the penalty is not linear in them.

        Their gradient comes back summed over processes, and is averaged with that of the weights:
        that of one process with the whole batch.
        """
        if self.processes.count == 1 or self.settings.penalty_target is None:
            return opened
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(opened))  # type: ignore[no-untyped-call]

    def _count(
        self,
        step: int,
        loss: Tensor,
        penalty: Tensor,
        opened: Tensor | None,
        scores: Tensor,
        labels: Tensor,
    ) -> None:
        """Adds a step to the sums of the epoch, and writes its row where one is due."""
        settings, processes = self.settings, self.processes
        count = len(labels)
        on = opened.sum() if opened is not None else torch.zeros((), device=loss.device)
        right = (scores.argmax(1) == labels).sum()
        row = torch.stack(
            [x.double() for x in (loss * count, penalty * count, on, right)]
            + [torch.full((), count, dtype=torch.float64, device=loss.device)]
        )
        self.sums += row
        self.bad = torch.where((self.bad < 0) & ~loss.isfinite(), step, self.bad)
        done, epoch = step + 1, step // self.schedule.length + 1
        shown = None
        if done % settings.log_steps == 0 or done == self.schedule.steps:
            *means, pictures = processes.sum(row).tolist()
            shown, penalty_, on_, _ = (value / pictures for value in means)
            self.log.step(
                {
                    "step": done,
                    "epoch": epoch,
                    "learning_rate": self.optimizer.param_groups[-1]["lr"],
                    "loss": shown,
                    "penalty": penalty_,
                    "channels_on": on_,
                }
            )
        self.log.advance(epoch, done, self.schedule.steps, shown)

    def _check_finite(self) -> None:
        """Before anything is saved.

        Raises:
            Diverged: a loss or a parameter is not finite.
        """
        bad = int(self.bad)
        norms = torch._foreach_norm(list(self.network.parameters()))
        finite = bool(torch.stack(norms).isfinite().all())
        (diverged,) = self.processes.any(bad >= 0 or not finite)
        if not diverged:
            return
        kept = "nothing has been saved"
        if (self.folder / STATE).exists():
            kept = f"{STATE} in {self.folder} is from before"
        if bad < 0:
            where = "a parameter is not finite" if not finite else "the loss of another process is"
            raise Diverged(f"{where} after step {self.step}; {kept}")
        epoch, number = divmod(bad, self.schedule.length)
        names = next((numbers for step, numbers in self.latest if step == bad), [])
        pictures = ", ".join(self._name(n) for n in names[:_NAMED])
        raise Diverged(
            f"the loss is not finite in batch {number + 1} of {self.schedule.length} of epoch "
            f"{epoch + 1} (pictures {pictures}{', ...' if len(names) > _NAMED else ''}); {kept}. "
            "A lower learning_rate, warmup_epochs or clip may help"
        )

    def _name(self, number: int) -> str:
        if isinstance(self.data.train, list):
            return str(self.data.train[number][0])
        return str(number)

    def _end_epoch(self, seconds: float, pictures: int) -> None:
        """Validation, a row of the log, and the checkpoints."""
        self._check_finite()
        processes = self.processes
        *means, count = processes.sum(self.sums).tolist()
        loss, penalty, on, top1 = (value / count for value in means)
        result = self._validate()
        skipped = self._skipped()
        gated = self.network.gate is not None
        epoch = self.step // self.schedule.length
        self.log.epoch(
            {
                "step": self.step,
                "epoch": epoch,
                "learning_rate": self.optimizer.param_groups[-1]["lr"],
                "loss": loss,
                "penalty": penalty,
                "channels_on": on if gated else None,
                "top1": top1,
                "val_loss": result.loss,
                "val_top1": result.top1,
                "val_top5": result.top5,
                "val_channels_on": result.channels_on,
                "seconds": seconds,
                "pictures_per_second": pictures / seconds,
                "skipped": skipped,
            }
        )
        self.top1 = result.top1
        self.sums.zero_()
        if processes.main:
            self._save_network(NETWORK)
            if result.top1 > self.best:
                self._save_network(BEST)
        self.best = max(self.best, result.top1)
        self._save()

    def _validate(self) -> Evaluation:
        """Over the validation set, with the statistics of BatchNorm that process 0 has."""
        settings, processes = self.settings, self.processes
        for buffer in self.network.buffers():
            processes.broadcast(buffer)
        batches = loader(
            Pictures(
                self.data.val,
                self._view(self.sizes, train=False),
                seed=settings.seed,
                broken=settings.broken,
            ),
            EvaluationBatches(
                len(self.data.val),
                self.batches.share,
                processes.rank,
                processes.count,
            ),
            workers=settings.workers,
            device=processes.device,
        )
        return evaluate(
            self.network,
            self._watched(read(batches)),
            processes=processes,
            coefficients=settings.transform != "device",
            amp=self.amp,
        )

    def _watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.broken.add(batch.broken)
            yield batch

    def _skipped(self) -> int:
        return int(self.processes.sum(torch.tensor(len(self.broken.names))))

    def _result(self) -> Result:
        finished = self.step == self.schedule.steps
        epoch = self.step // self.schedule.length
        return Result(finished, epoch, self.step, self.top1, self._skipped())


def _of(transform: nn.Module) -> ChannelStatistics | None:
    """The statistics of a FrequencyTransform."""
    mean, std = transform.mean, transform.std
    if mean is None or std is None:
        return None
    assert isinstance(mean, Tensor) and isinstance(std, Tensor)
    return ChannelStatistics(mean.double().cpu(), std.double().cpu())
