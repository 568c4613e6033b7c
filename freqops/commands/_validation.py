"""What evaluate, select and freeze share: options, and one pass over the validation pictures."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from typing import TYPE_CHECKING

from freqops._extras import need
from freqops.commands._shared import count, size

if TYPE_CHECKING:
    from freqops.gate_statistics import GateStatistics
    from freqops.models import FrequencyNetwork
    from freqops.training._evaluate import Evaluation
    from freqops.training._network import About
    from freqops.training._pictures import Batch, Samples
    from freqops.training._processes import Processes

__all__ = ["Validation", "add_options", "needed"]


def needed(command: str) -> None:
    """Raises ModuleNotFoundError if a package is not installed that reads networks and pictures."""
    need(f"freqops {command}", "train", "torchvision", "PIL", "tqdm", "safetensors")


def add_options(parser: argparse.ArgumentParser, network: str) -> None:
    """Adds the network, the data, and how they are gone through.

    Args:
        parser: of the command.
        network: what the command calls it, RUN or RUN|FILE.
    """
    argument = parser.add_argument
    argument(
        "network", metavar=network, help="folder of a run (its last finished epoch), or a network"
    )
    argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="folder with val/, or of one folder a class; or module:function (default: the "
        "validation pictures of the network's training)",
    )
    argument("--batch-size", type=size, default=64, metavar="N", help="pictures at a time in each "
             "process (default: 64)")  # fmt: skip
    argument("--workers", type=count, metavar="N", help="processes that read pictures; 0: none "
             "beside the command's own (default: one per processor)")  # fmt: skip
    argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    argument(
        "--transform",
        choices=("device", "workers", "jpeg"),
        help="where pictures become frequency channels: on the device, where they are read, or "
        "there from JPEG coefficients without decoding (default: as in training)",
    )
    argument(
        "--amp",
        choices=("off", "bfloat16", "float16"),
        default="off",
        help="automatic mixed precision (default: off)",
    )
    argument(
        "--broken",
        choices=("skip", "fail"),
        default="skip",
        help="pictures that cannot be read: name, count and skip them, or fail (default: skip)",
    )


def reading_workers(wanted: int | None) -> int:
    """Processes that read pictures: one per processor, shared by the processes of a machine."""
    if wanted is not None:
        return wanted
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Where there is affinity it knows of containers with a few of many processors.
    can = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (can or 1) // beside)


@dataclasses.dataclass(frozen=True)
class Validation:
    """The validation pictures, and how the options want them gone through."""

    options: argparse.Namespace
    about: About
    samples: Samples
    processes: Processes

    def of(
        self, network: FrequencyNetwork, what: str, gates: GateStatistics | None = None
    ) -> Evaluation:
        """Evaluates a network, on the device, and names broken pictures on stderr.

        Args:
            network: with the channels of the view it is given pictures by.
            what: a word beside the progress bar.
            gates: empty, to count the gate.

        Raises:
            TypeError, ValueError: those of ``evaluate`` and ``view_of``; a picture is
                broken, with --broken fail.
        """
        from tqdm import tqdm

        from freqops.training._evaluate import AMP_DTYPES, evaluate
        from freqops.training._pictures import EvaluationBatches, Pictures, loader, read
        from freqops.training._views import view_of

        options, processes = self.options, self.processes
        transform = options.transform or self.about.transform
        view = view_of(network, transform, self.about.resize, self.about.crop)
        order = EvaluationBatches(
            len(self.samples), options.batch_size, processes.rank, processes.count
        )
        batches = loader(
            Pictures(self.samples, view, broken=options.broken),
            order,
            workers=reading_workers(options.workers),
            device=processes.device,
        )
        # disable=None: no bar where stderr is a file.
        hidden = None if processes.main else True
        with tqdm(
            total=len(order.indices), desc=what, unit=" pictures", leave=False, disable=hidden
        ) as bar:

            def step(batch: Batch) -> None:
                for name, reason in batch.broken:
                    bar.write(f"freqops: skipped {name}: {reason}", file=sys.stderr)
                bar.update(len(batch.labels) + len(batch.broken))

            return evaluate(
                network.to(processes.device),
                read(batches),
                processes=processes,
                coefficients=transform != "device",
                amp=AMP_DTYPES[options.amp],
                gates=gates,
                step=step,
            )
