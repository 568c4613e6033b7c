"""How often a gate held each frequency channel open over a set of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, SupportsIndex

import torch
from torch import Tensor

from freqops import _storage
from freqops._arguments import FLOATS, check_tensor
from freqops.channels import CHANNELS, ChannelSelection

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["GateStatistics"]

_KIND = "GateStatistics"


class GateStatistics:
    """How often each channel was on: the numbers of the paper's heat maps.

    Of the hard gates g of n pictures:  rate of channel c = (number of pictures with g_c = 1) / n.
    Counts are integers, so batches, processes and their order do not change a bit of the result.

    Args:
        channels: those that the gate has, as ``ChannelSelection.of`` takes them, none twice: column
            i of a gate belongs to ``channels[i]``. None for all 192.

    Raises:
        TypeError, ValueError: those of ``ChannelSelection.of``.
        ValueError: channels names one twice.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020.

    Example:
        >>> statistics = GateStatistics([0, 1, 64])
        >>> statistics.update(torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
        >>> statistics.update(torch.tensor([[1.0, 0.0, 0.0]]))
        >>> statistics.count, statistics.on.tolist()
        (3, [3, 1, 1])
        >>> statistics.selection(keep=2).indices
        (0, 64)
    """

    def __init__(
        self, channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None
    ) -> None:
        self._channels = ChannelSelection.of(channels)
        seen: set[int] = set()
        for channel in self._channels:
            if channel in seen:
                raise ValueError(f"channels must name no channel twice, got {channel} twice")
            seen.add(channel)
        self._count = 0
        # Of Python: no overflow, and no inference tensor that could not be added to later.
        self._on = [0] * len(self._channels)

    @classmethod
    def from_gates(
        cls,
        gates: Iterable[Tensor],
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None = None,
    ) -> GateStatistics:
        """Counts gates one after the other, as ``update`` takes them.

        Args:
            gates: tensors (N, C), N of any size.
            channels: those that the gate has; None for all 192.

        Returns:
            The statistics.

        Raises:
            TypeError: gates is no iterable of tensors; those of ``update``.
            ValueError: those of the constructor and of ``update``.

        Example:
            >>> gates = [torch.eye(4), torch.ones(2, 4)]
            >>> GateStatistics.from_gates(gates, [0, 1, 2, 3]).on.tolist()
            [3, 3, 3, 3]
        """
        if isinstance(gates, (str, bytes, Tensor)) or not isinstance(gates, Iterable):
            raise TypeError(
                f"gates must be an iterable of tensors [N, C], got {type(gates).__name__}"
            )
        result = cls(channels)
        for i, gate in enumerate(gates):
            try:
                result.update(gate)
            except (TypeError, ValueError) as error:
                raise type(error)(f"gates[{i}]: {error}") from error
        return result

    def update(self, gate: Tensor) -> None:
        """Counts the gates of further pictures. On a GPU this waits once, for C + 1 integers.

        Args:
            gate: (N, C) of zeros and ones, floating point or bool, on any device; what a hard
                gate gives. What is refused leaves the counts as they were.

        Raises:
            TypeError: gate is no such tensor.
            ValueError: gate has another shape, or holds another number than 0 and 1.
        """
        dtypes = (torch.bool, *FLOATS)
        check_tensor("GateStatistics.update", "gate", gate, dtypes, "floating point or bool")
        if gate.dim() != 2 or gate.shape[1] != len(self._on):
            raise ValueError(
                f"GateStatistics.update: gate must be [N, {len(self._on)}], one column a channel, "
                f"got {list(gate.shape)}"
            )
        is_on = gate == 1
        strange = ~(is_on | (gate == 0))  # NaN too
        *on, wrong = torch.cat([is_on.sum(0), strange.sum().view(1)]).tolist()
        if wrong:
            picture, column = strange.nonzero()[0].tolist()
            raise ValueError(
                "GateStatistics.update: gate must hold zeros and ones, as hard gates do, "
                f"got {gate[picture, column].item()} for picture {picture}, "
                f"channel {self._channels.indices[column]}"
            )
        self._count += gate.shape[0]
        self._on = [before + more for before, more in zip(self._on, on, strict=True)]

    @property
    def channels(self) -> ChannelSelection:
        """The channels that the gate has, in the order of its columns."""
        return self._channels

    @property
    def count(self) -> int:
        """Pictures counted."""
        return self._count

    @property
    def on(self) -> Tensor:
        """(C,) int64, a copy: for how many pictures each of ``channels`` was on."""
        return torch.tensor(self._on, dtype=torch.int64, device="cpu")

    @property
    def rates(self) -> Tensor:
        """(192,) float64 in [0, 1], by channel number; 0 for channels that the gate does not have.

        Raises:
            ValueError: no picture has been counted.
        """
        if self._count == 0:
            raise ValueError("rates need at least one picture, got none: call update first")
        rates = torch.zeros(CHANNELS, dtype=torch.float64, device="cpu")
        rates[list(self._channels.indices)] = self.on.double() / self._count
        return rates

    def selection(
        self, keep: SupportsIndex | None = None, threshold: float | None = None
    ) -> ChannelSelection:
        """The gate's channels that were on most often: the paper's step from dynamic to static.

        Args:
            keep: how many to keep. Ties go to the lower zigzag rank, then to Y before Cb before Cr.
            threshold: keep the channels with a rate >= threshold. Exactly one of keep and
                threshold must be given.

        Returns:
            Y, Cb, Cr, each ascending.

        Raises:
            TypeError: those of ``ChannelSelection.from_probabilities``.
            ValueError: the gate has fewer channels than keep, none of them reaches the threshold,
                or no picture has been counted.
        """
        return ChannelSelection.from_probabilities(
            self.rates, keep=keep, threshold=threshold, among=self._channels
        )

    def merge(self, other: GateStatistics) -> GateStatistics:
        """The statistics of both sets of pictures together.

        Args:
            other: of a gate with the same channels in the same order.

        Returns:
            New statistics.

        Raises:
            TypeError: other is no GateStatistics.
            ValueError: other has other channels.

        Example:
            >>> left = GateStatistics.from_gates([torch.eye(192)])
            >>> right = GateStatistics.from_gates([torch.ones(8, 192)])
            >>> left.merge(right)
            GateStatistics(200 pictures, 192 channels; 8.64 on: Y 2.88, Cb 2.88, Cr 2.88)
        """
        if not isinstance(other, GateStatistics):
            raise TypeError(f"other must be a GateStatistics, got {type(other).__name__}")
        if other._channels != self._channels:
            difference = _difference(self._channels.indices, other._channels.indices)
            raise ValueError(f"other must have the same channels, got {difference}")
        result = GateStatistics(self._channels)
        result._count = self._count + other._count
        result._on = [mine + theirs for mine, theirs in zip(self._on, other._on, strict=True)]
        return result

    def all_reduce(self, group: ProcessGroup | None = None) -> None:
        """Adds up the counts of all processes, in place: afterwards each has the same.

        Every process of the group must call it, and count its own share of the pictures before. A
        second call would add up the sums. Works with any backend of torch.distributed; under NCCL
        the current CUDA device must be this process's own.

        Args:
            group: the processes; None for all.

        Raises:
            ValueError: torch.distributed is not initialised, this process is not in the group,
                or the processes have gates of different channels, which every one of them finds.
        """
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized():
            raise ValueError(
                "all_reduce needs torch.distributed, got no process group: "
                "call torch.distributed.init_process_group first"
            )
        if dist.get_rank(group) < 0:
            raise ValueError(f"group must hold this process, rank {dist.get_rank()}, got others")
        mine = (self._channels.indices, self._count, self._on)
        gathered = [mine] * dist.get_world_size(group)
        dist.all_gather_object(gathered, mine, group)
        first = gathered[0][0]
        for rank, (indices, _, _) in enumerate(gathered):
            if indices != first:
                raise ValueError(
                    "channels must be those of process 0 in every process of the group, "
                    f"got {_difference(first, indices)} in process {rank}"
                )
        self._count = sum(count for _, count, _ in gathered)
        self._on = [sum(column) for column in zip(*(on for _, _, on in gathered), strict=True)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the counts as JSON.

        Args:
            path: the file, replaced if it is there.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> import os, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "gate.json")
            >>> statistics = GateStatistics.from_gates([torch.eye(192)])
            >>> statistics.save(path)
            >>> GateStatistics.load(path) == statistics
            True
        """
        _storage.write(path, _KIND, self._content())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GateStatistics:
        """Reads statistics that ``save`` wrote.

        Args:
            path: the file.

        Returns:
            The statistics, equal to those saved.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file holds no statistics, or some of a version unknown here.
        """
        with _storage.reading(path, _KIND) as content:
            channels, count, on = (content.get(key) for key in ("channels", "count", "on"))
            if not isinstance(channels, list):
                raise TypeError(f'"channels" is {channels!r}, not a list')
            result = cls(channels)
            if type(count) is not int or count < 0:
                raise ValueError(f'"count" is {count!r}, not an integer >= 0')
            if not isinstance(on, list) or len(on) != len(result._on):
                raise ValueError(f'"on" is no list of {len(result._on)} integers')
            for number in on:
                if type(number) is not int or not 0 <= number <= count:
                    raise ValueError(f'"on" holds {number!r}, not an integer in [0, {count}]')
            result._count, result._on = count, on
            return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GateStatistics):
            return NotImplemented
        return self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        held = f"{self._count} pictures, {len(self._on)} channels"
        if self._count == 0:
            return f"{type(self).__name__}({held})"
        y, cb, cr = self.rates.view(3, -1).sum(1).tolist()
        means = f"{y + cb + cr:.4g} on: Y {y:.4g}, Cb {cb:.4g}, Cr {cr:.4g}"
        return f"{type(self).__name__}({held}; {means})"

    def _content(self) -> dict[str, object]:
        return {
            "channels": list(self._channels.indices),
            "count": self._count,
            "on": self._on,
        }


def _difference(ours: Sequence[int], theirs: Sequence[int]) -> str:
    """Where the second of two unequal lists of channels leaves the first."""
    if len(ours) != len(theirs):
        return f"{len(theirs)} instead of {len(ours)} channels"
    pairs = enumerate(zip(ours, theirs, strict=True))
    column, mine, other = next((i, a, b) for i, (a, b) in pairs if a != b)
    return f"{other} instead of {mine} in column {column}"
