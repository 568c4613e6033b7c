"""train: one run from its settings, on one process or many, interrupted and resumed at will."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from freqops import models
from freqops._extras import need
from freqops.training._build import network_of, picture_sizes
from freqops.training._data import open_data
from freqops.training._evaluate import AMP_DTYPES, Evaluation, evaluate
from freqops.training._folder import BEST, STATE, opened
from freqops.training._interrupt import Interrupts
from freqops.training._log import Broken, Log
from freqops.training._network import NETWORK, About
from freqops.training._normalisation import other_crop, statistics_of
from freqops.training._pictures import (
    Batch,
    EvaluationBatches,
    Pictures,
    TrainingBatches,
    loader,
    read,
)
from freqops.training._processes import Processes, join
from freqops.training._schedule import Schedule
from freqops.training._seeds import drawing, seed_of
from freqops.training._settings import Settings
from freqops.training._state import State, write_state
from freqops.training._step import LOSS, OPEN, PENALTY, PICTURES, RIGHT, Stepper
from freqops.training._sync_norm import unsynchronize
from freqops.training._views import view_of

__all__ = ["Diverged", "Result", "train"]

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
        OSError: a file cannot be written, or a loader worker has died: the state is that of the
            checkpoint before.
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
        with join(settings.device) as processes:
            return train(settings, processes, quiet=quiet)
    folder = Path(settings.output)
    new = processes.main and not folder.exists()
    if processes.main:
        folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder if processes.main else None, tensorboard=settings.tensorboard, quiet=quiet)
    devices = [processes.device] if processes.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), Interrupts() as interrupts:
            return _Run(settings, processes, log, interrupts).run()
    except (ValueError, TypeError, ImportError):
        if new and not (folder / STATE).exists():
            shutil.rmtree(folder, ignore_errors=True)  # nothing was begun
        raise
    except RuntimeError as error:  # a signal's handler raises it, wherever the loop is
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ChildProcessError(
            f"a process that reads pictures has died, perhaps for lack of memory: {error}"
        ) from error
    finally:
        log.close()


class _Interrupted(Exception):
    """In the validation, whose state is saved."""


class _Run:
    """A run under way."""

    def __init__(
        self, settings: Settings, processes: Processes, log: Log, interrupts: Interrupts
    ) -> None:
        self.data = open_data(settings.data, settings.val_share, settings.seed)
        settings = settings.resolved(len(self.data.train))
        self.settings, self.processes, self.log = settings, processes, log
        self.interrupts = interrupts
        self.folder = Path(settings.output)
        self.broken = Broken(log)
        if self.data.held_out:
            log.say(f"{len(self.data.val)} pictures of {settings.data} are held out")
        self.batches = TrainingBatches(
            len(self.data.train),
            settings.batch_size,
            settings.seed,
            processes.rank,
            processes.count,
        )
        self.schedule = Schedule(settings, len(self.batches))
        state = opened(settings, self.data, len(self.batches), processes)
        statistics = statistics_of(
            settings, self.data, self.folder, processes, self.broken, log, interrupts
        )
        with drawing(seed_of(settings.seed, "weights")):
            network = network_of(
                settings,
                len(self.data.classes),
                statistics,
                log.say,
                self.folder / NETWORK if state is not None else None,
            )
        self.sizes = picture_sizes(settings, network, self.folder / NETWORK)
        note = other_crop(settings, self.sizes[1])
        if note is not None and processes.main:
            log.warn(note)
        self.stepper = Stepper(settings, network.to(processes.device), self.schedule, processes)
        self.network = network
        self.step = 0
        self.pending = False  # the epoch is trained and not validated
        self.cut = False  # this process has left a validation
        self.seconds = 0.0  # of training in this epoch
        self.best = -1.0
        self.top1: float | None = None
        if state is not None:
            self._restore(state)
        else:
            self.log.go_on(0, False)

    def _restore(self, state: State) -> None:
        """Goes on from a state."""
        stepper = self.stepper
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        stepper.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        stepper.scaler.load_state_dict(state["scaler"])  # type: ignore[arg-type]
        numbers = state["step"], state["pending"], state["seconds"], state["best"], state["top1"]
        self.step, self.pending, self.seconds, self.best, self.top1 = numbers  # type: ignore[assignment]
        if self.network.gate is not None and self.step:
            self.network.gate.tau = self.schedule.tau(self.step - 1)
        if self.processes.main:
            sums = torch.tensor(state["sums"], dtype=torch.float64)
            stepper.sums += sums.to(self.processes.device)
        self.log.go_on(self.step, self.pending)
        if self.pending or self.step < self.schedule.steps:
            self.log.say(f"going on after step {self.step} of {self.schedule.steps}")

    def run(self) -> Result:
        """All epochs that are left."""
        schedule = self.schedule
        training = self._loader(train=True)
        self.log.begin(schedule.steps, self.step)
        while self.pending or self.step < schedule.steps:
            if not self.pending:
                self.batches.epoch, self.batches.first = divmod(self.step, schedule.length)
                with contextlib.closing(self._read(training)) as batches:
                    last = time.perf_counter()
                    for batch in batches:
                        self._take(batch)
                        now = time.perf_counter()
                        self.seconds += now - last
                        last = now
                        if self._stops():
                            self._save()
                            return self._result()
                self.pending = True
                self._save()
            try:
                self._end_epoch()
            except _Interrupted:
                break
        return self._result()

    def _loader(self, train: bool) -> DataLoader[Batch]:
        """Pictures for training or validation, as the network reads them."""
        settings, processes, data = self.settings, self.processes, self.data
        view = view_of(
            self.network,
            settings.transform,
            *self.sizes,
            train=train,
            area=settings.area,
            flip=settings.flip,
        )
        pictures = Pictures(
            data.train if train else data.val,
            view,
            seed=settings.seed,
            broken=settings.broken,
            replace=train,
            what="training picture" if train else "validation picture",
        )
        shares = EvaluationBatches(
            len(data.val), self.batches.share, processes.rank, processes.count
        )
        return loader(
            pictures,
            self.batches if train else shares,
            workers=settings.workers,
            device=processes.device,
        )

    def _read(self, batches: DataLoader[Batch]) -> Generator[Batch, None, None]:
        """The batches of a loader; broken pictures are named."""
        for batch in read(batches):
            self.broken.add(batch.broken)
            yield batch

    def _watched(self, batches: DataLoader[Batch]) -> Iterator[Batch]:
        """The batches of validation; after an interrupt no further ones."""
        share = -(-len(self.data.val) // self.processes.count)
        for batch in self.log.track(self._read(batches), share, "validation"):
            yield batch
            if self.interrupts.asked:
                self.cut = True  # the other processes wait for the sums of this one
                return

    def _take(self, batch: Batch) -> None:
        """One step, and its row where one is due."""
        added = self.stepper.take(self.step, batch)
        epoch = self.step // self.schedule.length + 1
        self.step += 1
        loss = None
        if self.step % self.settings.log_steps == 0 or self.step == self.schedule.steps:
            sums = self.processes.sum(added).tolist()
            loss, penalty, on = (sums[i] / sums[PICTURES] for i in (LOSS, PENALTY, OPEN))
            self.log.step(
                {
                    "step": self.step,
                    "epoch": epoch,
                    "learning_rate": self.stepper.rate,
                    "loss": loss,
                    "penalty": penalty,
                    "channels_on": on,
                }
            )
        self.log.advance(epoch, self.step, self.schedule.steps, loss)

    def _stops(self) -> bool:
        """Between two steps: whether the run ends here. Checks and saves what is due."""
        looked = self.step % self.stepper.patience == 0
        bad = looked and self.stepper.first_bad() >= 0
        asked, bad = self.processes.any(self.interrupts.asked, bad)
        if asked:  # one process is enough
            self.interrupts.ask()
        if bad:
            self._check_finite()
        every, ends = self.settings.checkpoint_steps, self.step % self.schedule.length == 0
        if every and self.step % every == 0 and not ends and not asked:
            self._save()
        return asked and not ends  # an epoch that is through is saved as such

    def _check_finite(self) -> None:
        """Before anything is saved.

        Raises:
            Diverged: a loss or a parameter is not finite, in any process.
        """
        bad = self.stepper.first_bad()
        (diverged,) = self.processes.any(bad >= 0 or not self.stepper.is_finite())
        if not diverged:
            return
        kept = f"{STATE} in {self.folder} is from before"
        if not (self.folder / STATE).exists():
            kept = "nothing has been saved"
        if bad < 0:
            raise Diverged(f"the parameters are not finite after step {self.step}; {kept}")
        epoch, number = divmod(bad, self.schedule.length)
        numbers = self.stepper.pictures_of(bad)
        names = ", ".join(map(self._name, numbers[:_NAMED]))
        raise Diverged(
            f"the loss is not finite in batch {number + 1} of {self.schedule.length} of epoch "
            f"{epoch + 1} (pictures {names}{', ...' if len(numbers) > _NAMED else ''}); {kept}. "
            "A lower learning_rate, warmup_epochs or clip may help"
        )

    def _name(self, number: int) -> str:
        """Of a training picture."""
        if isinstance(self.data.train, list):
            return str(self.data.train[number][0])
        return str(number)

    def _end_epoch(self) -> None:
        """Validation, a row of the log, and the checkpoints.

        Raises:
            _Interrupted: it is to be done when the run goes on.
        """
        sums = self.processes.sum(self.stepper.sums.clone()).tolist()
        loss, penalty, on, top1 = (sums[i] / sums[PICTURES] for i in (LOSS, PENALTY, OPEN, RIGHT))
        result = self._validate()
        if self.processes.any(self.cut)[0]:
            raise _Interrupted
        self.log.epoch(
            {
                "step": self.step,
                "epoch": self.step // self.schedule.length,
                "learning_rate": self.stepper.rate,
                "loss": loss,
                "penalty": penalty,
                "channels_on": None if result.channels_on is None else on,
                "top1": top1,
                "val_loss": result.loss,
                "val_top1": result.top1,
                "val_top5": result.top5,
                "val_channels_on": result.channels_on,
                "seconds": self.seconds,
                "pictures_per_second": sums[PICTURES] / self.seconds,
                "skipped": self._skipped(),
            }
        )
        self.top1 = result.top1
        self.stepper.sums.zero_()
        self.seconds = 0.0
        if self.processes.main:
            self._save_network(NETWORK)
            if result.top1 > self.best:
                self._save_network(BEST)
        self.best = max(self.best, result.top1)
        self.pending = False
        self._save()

    def _validate(self) -> Evaluation:
        """Over the validation set, with the statistics of BatchNorm that process 0 has."""
        for buffer in self.network.buffers():
            self.processes.broadcast(buffer)
        return evaluate(
            self.network,
            self._watched(self._loader(train=False)),
            processes=self.processes,
            coefficients=self.settings.transform != "device",
            amp=AMP_DTYPES[self.settings.amp],
        )

    def _save(self) -> None:
        """Writes the state, unless the network has diverged."""
        self._check_finite()
        stepper = self.stepper
        sums = self.processes.sum(stepper.sums.clone())
        if self.processes.main:
            state: State = {
                "classes": list(self.data.classes),
                "length": self.schedule.length,
                "network": self.network.state_dict(),
                "optimizer": stepper.optimizer.state_dict(),
                "scaler": stepper.scaler.state_dict(),
                "step": self.step,
                "pending": self.pending,
                "seconds": self.seconds,
                "best": self.best,
                "top1": self.top1,
                "sums": sums.tolist(),
            }
            write_state(state, self.folder / STATE)

    def _save_network(self, name: str) -> None:
        """Writes the network as it is, with what prediction needs."""
        settings = self.settings
        about = About(
            self.data.classes,
            *self.sizes,
            data=self.data.name,
            transform=settings.transform,
            val_share=settings.val_share,
            seed=settings.seed,
        )
        models.save(unsynchronize(self.network), self.folder / name, about=about.content())

    def _skipped(self) -> int:
        """Pictures that could not be read, in all processes: one that two have met counts once."""
        found: set[object] = set()
        for names in self.processes.everyones(self.broken.names):
            assert isinstance(names, frozenset)
            found |= names
        return len(found)

    def _result(self) -> Result:
        finished = self.step == self.schedule.steps and not self.pending
        epoch = self.step // self.schedule.length - self.pending
        return Result(finished, epoch, self.step, self.top1, self._skipped())
