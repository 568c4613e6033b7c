"""The processes that train together, as torchrun starts them; or this one alone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes", "join"]

TIMEOUT = datetime.timedelta(minutes=30)
"""How long a process waits for the others before it gives up: longer than a validation takes."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among those that work together.

    Attributes:
        rank: its number.
        count: how many there are.
        device: where its network runs.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Adds up a tensor over all processes, in place, and gives it back."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag whether it is up in any process."""
        if self.count == 1:
            return list(flags)
        up = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(up, dist.ReduceOp.MAX)
        return [bool(value) for value in up.tolist()]

    def broadcast(self, tensor: Tensor) -> None:
        """Makes a tensor that of process 0, in place."""
        if self.count > 1:
            dist.broadcast(tensor, 0)

    def shared(self, value: object) -> object:
        """The value of process 0, which the others give up theirs for."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0)
        return values[0]

    def everyones(self, value: object) -> list[object]:
        """The values of all processes, by rank."""
        if self.count == 1:
            return [value]
        values: list[object] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Waits until all processes are here."""
        self.any(False)


@contextlib.contextmanager
def join(device: str = "auto") -> Iterator[Processes]:
    """Within the block this process works with those that torchrun started beside it.

    Tensors on the CPU travel by gloo, those on a GPU by NCCL. Started otherwise, it works alone.

    Args:
        device: "auto" is a GPU where torch has one and else the CPU; or "cpu", "cuda", "cuda:1".
            Under torchrun each process takes the GPU of its own number.

    Raises:
        ValueError: torch knows no such device, or has no such GPU; one GPU is named for several
            processes.
        ConnectionError: another process has ended while this one waited for it.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Processes(rank, count, chosen)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        if not any(name in words.lower() for name in ("gloo", "nccl", "connection")):
            raise
        raise ConnectionError(
            f"another process has ended, or cannot be reached: {words}"
        ) from error
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cpu":
        return device
    if device.index is not None and local_rank is not None:
        raise ValueError(f"device must be cuda under torchrun, one GPU a process, got {name!r}")
    number = device.index if device.index is not None else local_rank or 0
    if number >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ValueError(f"device must be one that torch has, got cuda:{number} of {found} GPUs")
    return torch.device("cuda", number)
