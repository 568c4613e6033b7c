"""Which of the 192 frequency channels a network reads.

A channel is one DCT coefficient of one colour component. Its number is component * 64 + v * 8 + u:
components in the order Y, Cb, Cr; v the vertical and u the horizontal frequency (raster order, not
zigzag).
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex

from freqops import _storage

if TYPE_CHECKING:
    import torch

__all__ = ["BLOCK", "CHANNELS", "FREQUENCIES", "ZIGZAG", "ChannelSelection", "zigzag_rank"]

BLOCK = 8
"""Pixels along one side of a block."""

FREQUENCIES = BLOCK * BLOCK
"""Coefficients of one component of one block."""

CHANNELS = 3 * FREQUENCIES
"""Coefficients of one block: Y, Cb and Cr."""


def _zigzag_key(index: int) -> tuple[int, int]:
    v, u = divmod(index, BLOCK)
    return v + u, v if (v + u) % 2 else u


ZIGZAG: tuple[int, ...] = tuple(sorted(range(FREQUENCIES), key=_zigzag_key))
"""Raster index v * 8 + u of each place in JPEG's zigzag order (ITU-T T.81, figure 5)."""

_RANK = tuple(ZIGZAG.index(index) for index in range(FREQUENCIES))


def zigzag_rank(channel: SupportsIndex) -> int:
    """Place of a channel's frequency in JPEG's zigzag order: 0 for DC, 63 for the highest.

    Args:
        channel: number in [0, 192); the component does not matter.

    Returns:
        The rank in [0, 64), which is what the paper writes into its heat maps.

    Raises:
        TypeError: channel is no integer.
        ValueError: channel lies outside [0, 192).

    Example:
        >>> [zigzag_rank(channel) for channel in (0, 1, 8, 64, 191)]
        [0, 1, 2, 0, 63]
    """
    return _RANK[_channel(channel, "channel") % FREQUENCIES]


def python_number(value: object) -> object:
    """What a tensor or array of one number holds, as Python has it; all else as it is."""
    if hasattr(value, "item") and math.prod(getattr(value, "shape", (0,))) == 1:
        return value.item()
    return value


def _integer(value: object, name: str) -> int:
    # A tensor has an __index__ even where it holds a bool, and one that fails where it holds more.
    value = python_number(value)
    # bool has an __index__ and a float that happens to be whole does not: neither is a channel.
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or hasattr(value, "shape"):
        raise TypeError(
            f"{name} must be an integer, got {_shorten(value)} of type {type(value).__name__}"
        )
    return operator.index(value)


def _channel(value: object, name: str) -> int:
    number = _integer(value, name)
    if not 0 <= number < CHANNELS:
        raise ValueError(f"{name} must lie in [0, {CHANNELS}), got {number}")
    return number


def _channels(values: object, name: str) -> tuple[int, ...]:
    listed: object = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, (str, bytes, set, frozenset, dict)) or not isinstance(listed, Iterable):
        raise TypeError(
            f"{name} must be a list or tuple of integers, "
            f"got {_shorten(values)} of type {type(values).__name__}"
        )
    numbers = tuple(_channel(value, f"{name}[{i}]") for i, value in enumerate(listed))
    if not numbers:
        raise ValueError(f"{name} must hold at least one channel, got none")
    return numbers


def _count(value: object, name: str, most: int = CHANNELS) -> int:
    number = _integer(value, name)
    if not 1 <= number <= most:
        raise ValueError(f"{name} must lie in [1, {most}], got {number}")
    return number


def _rows(*widths: int) -> tuple[int, ...]:
    return tuple(v * BLOCK + u for v, width in enumerate(widths) for u in range(width))


# Frequencies of Y, and of Cb and Cr, as the code released with the paper tabulates them: the
# widths of the rows v = 0, 1, ...
_SQUARE: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    6: (_rows(2, 2), _rows(1)),
    24: (_rows(4, 4, 4, 4), _rows(2, 2)),
    32: (_rows(5, 5, 5, 4, 3), _rows(3, 2)),
    48: (_rows(6, 6, 6, 6, 4, 4), _rows(3, 3, 2)),
    64: (_rows(7, 7, 6, 6, 6, 6, 6), _rows(3, 3, 2, 2)),
    192: (_rows(*[8] * 8), _rows(*[8] * 8)),
}
_LEARNED: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    24: ((0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 24, 32), (0, 1, 3, 8, 24)),
}


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class ChannelSelection:
    """A checked, immutable list of channels: output channel i is coefficient ``indices[i]``.

    Equal selections are equal and hash alike; the order counts. A selection is a constant to
    ``torch.compile``.

    Args:
        indices: integers in [0, 192), at least one, in the order wanted; duplicates are fine. An
            integer tensor or array of one dimension is read on the spot.

    Raises:
        TypeError: indices is no list of integers (bool and float are none).
        ValueError: an index lies outside [0, 192), or there is none.

    Example:
        >>> selection = ChannelSelection([0, 64, 128])
        >>> len(selection), selection.indices, selection.cb
        (3, (0, 64, 128), (0,))
    """

    indices: tuple[int, ...]

    def __init__(self, indices: Iterable[SupportsIndex] | torch.Tensor) -> None:
        object.__setattr__(self, "indices", _channels(indices, "indices"))

    @classmethod
    def of(
        cls,
        channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | torch.Tensor | None,
    ) -> ChannelSelection:
        """The selection meant by what modules, networks and commands take for ``channels``.

        Args:
            channels: a ChannelSelection (given back as it is); an integer n, for ``square(n)``
                where that is tabulated and else ``triangle(n)``; a list of channels; None for all.

        Returns:
            The selection.

        Raises:
            TypeError: channels is none of these.
            ValueError: n lies outside [1, 192], or an index outside [0, 192).

        Example:
            >>> ChannelSelection.of(24) == ChannelSelection.square(24)
            True
            >>> ChannelSelection.of(10) == ChannelSelection.triangle(10)
            True
        """
        if isinstance(channels, ChannelSelection):
            return channels
        if channels is None:
            return cls.all()
        if isinstance(channels, Iterable) and getattr(channels, "ndim", 1) != 0:
            return cls(_channels(channels, "channels"))
        n = _count(channels, "channels")
        return cls.square(n) if n in _SQUARE else cls.triangle(n)

    @classmethod
    def parse(cls, words: str) -> ChannelSelection:
        """The selection that a flag or a file of settings names.

        Args:
            words: a number of channels, as in ``of``; their numbers, "0,1,8,64,128"; "learned"; or
                the path of a saved selection.

        Returns:
            The selection.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is none of these, or a number lies outside its range.

        Example:
            >>> ChannelSelection.parse("0,1,64").indices, len(ChannelSelection.parse("24"))
            ((0, 1, 64), 24)
        """
        numbers = words.split(",")
        if words.isdecimal():
            return cls.of(int(words))
        if words == "learned":
            return cls.learned()
        if all(number.strip().isdecimal() for number in numbers):
            return cls.of([int(number) for number in numbers])
        if os.path.isfile(words):
            return cls.load(words)
        raise ValueError(
            "channels must be a number, numbers such as 0,1,8,64,128, 'learned', "
            f"or the file of a saved selection, got {words!r}"
        )

    @classmethod
    def square(cls, n: SupportsIndex) -> ChannelSelection:
        """The paper's square pattern of n channels, as tabulated in its released code.

        Args:
            n: 6, 24, 32, 48, 64 or 192.

        Returns:
            Y, Cb, Cr, each ascending.

        Raises:
            TypeError: n is no integer.
            ValueError: n is another number.

        Example:
            >>> selection = ChannelSelection.square(24)
            >>> len(selection.y), selection.cb, selection.cr
            (16, (0, 1, 8, 9), (0, 1, 8, 9))
        """
        return cls._named(_SQUARE, n)

    @classmethod
    def learned(cls, n: SupportsIndex = 24) -> ChannelSelection:
        """The channels that the paper's gates kept, as tabulated in its released code.

        Args:
            n: 24, the one size that was published.

        Returns:
            Y, Cb, Cr, each ascending.

        Raises:
            TypeError: n is no integer.
            ValueError: n is another number.

        Example:
            >>> ChannelSelection.learned(24).cb
            (0, 1, 3, 8, 24)
        """
        return cls._named(_LEARNED, n)

    @classmethod
    def triangle(cls, n: SupportsIndex) -> ChannelSelection:
        """Zigzag prefixes: the first c = n // 6 frequencies of Cb and of Cr, n - 2 c of Y.

        What Y cannot hold beyond 64 is shared by Cb and Cr; an odd one goes to Cb. The paper names
        the pattern without its lists; the rule is ours.

        Args:
            n: 1 to 192.

        Returns:
            Y, Cb, Cr, each ascending.

        Raises:
            TypeError: n is no integer.
            ValueError: n lies outside [1, 192].

        Example:
            >>> ChannelSelection.triangle(6).indices
            (0, 1, 8, 16, 64, 128)
        """
        n = _count(n, "n")
        y = min(n - 2 * (n // 6), FREQUENCIES)
        cr = (n - y) // 2
        return cls._ascending(ZIGZAG[:y], ZIGZAG[: n - y - cr], ZIGZAG[:cr])

    @classmethod
    def all(cls) -> ChannelSelection:
        """All 192 channels, in their order.

        Example:
            >>> len(ChannelSelection.all())
            192
        """
        return cls(range(CHANNELS))

    @classmethod
    def from_probabilities(
        cls,
        p: Iterable[SupportsFloat] | torch.Tensor,
        *,
        keep: SupportsIndex | None = None,
        threshold: float | None = None,
        among: ChannelSelection | None = None,
    ) -> ChannelSelection:
        """The channels that a gate held open most often: the paper's step from dynamic to static.

        Args:
            p: 192 numbers in [0, 1]: how often each channel was on.
            keep: how many to keep, at least 1: those with the largest p. Ties go to the lower
                zigzag rank, then to Y before Cb before Cr.
            threshold: keep the channels with p >= threshold. Exactly one of keep and threshold
                must be given.
            among: the candidates, whose order does not matter; None for all 192. The p of other
                channels does not count.

        Returns:
            Y, Cb, Cr, each ascending.

        Raises:
            TypeError: p holds no numbers, keep is no integer, not exactly one of keep and
                threshold is given, or among is no ChannelSelection.
            ValueError: p has another length or a number outside [0, 1], there are fewer candidates
                than keep, or none of them reaches the threshold.

        Example:
            >>> p = [0.5] * 192
            >>> ChannelSelection.from_probabilities(p, keep=4).indices
            (0, 1, 64, 128)
            >>> luma = ChannelSelection(range(64))
            >>> ChannelSelection.from_probabilities(p, keep=4, among=luma).indices
            (0, 1, 8, 16)
        """
        values: object = p.tolist() if hasattr(p, "tolist") else p
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise TypeError(
                f"p must be a list of {CHANNELS} numbers, "
                f"got {_shorten(p)} of type {type(p).__name__}"
            )
        numbers = [_probability(value, f"p[{i}]") for i, value in enumerate(values)]
        if len(numbers) != CHANNELS:
            raise ValueError(f"p must hold {CHANNELS} numbers, one a channel, got {len(numbers)}")
        if (keep is None) == (threshold is None):
            raise TypeError(
                f"exactly one of keep and threshold must be given, "
                f"got keep={keep!r}, threshold={threshold!r}"
            )
        if among is not None and not isinstance(among, ChannelSelection):
            raise TypeError(
                f"among must be a ChannelSelection or None, "
                f"got {_shorten(among)} of type {type(among).__name__}"
            )
        candidates = range(CHANNELS) if among is None else sorted(set(among))
        if threshold is None:
            number = _count(keep, "keep", len(candidates))
            order = sorted(
                candidates, key=lambda channel: (-numbers[channel], zigzag_rank(channel), channel)
            )
            return cls(sorted(order[:number]))
        least = _probability(threshold, "threshold")
        chosen = [channel for channel in candidates if numbers[channel] >= least]
        if not chosen:
            largest = max(numbers[channel] for channel in candidates)
            raise ValueError(f"threshold must be at most the largest p, {largest}, got {threshold}")
        return cls(chosen)

    @classmethod
    def _named(
        cls, table: dict[int, tuple[tuple[int, ...], tuple[int, ...]]], n: SupportsIndex
    ) -> ChannelSelection:
        size = _integer(n, "n")
        if size not in table:
            raise ValueError(
                f"n must be {' or '.join(', '.join(map(str, table)).rsplit(', ', 1))}, got {size}"
            )
        y, chroma = table[size]
        return cls._ascending(y, chroma, chroma)

    @classmethod
    def _ascending(cls, *components: tuple[int, ...]) -> ChannelSelection:
        return cls(
            [
                c * FREQUENCIES + index
                for c, indices in enumerate(components)
                for index in sorted(indices)
            ]
        )

    def _component(self, component: int) -> tuple[int, ...]:
        return tuple(
            index % FREQUENCIES for index in self.indices if index // FREQUENCIES == component
        )

    @property
    def y(self) -> tuple[int, ...]:
        """Frequencies v * 8 + u in [0, 64) chosen of Y, in the selection's order."""
        return self._component(0)

    @property
    def cb(self) -> tuple[int, ...]:
        """Frequencies v * 8 + u in [0, 64) chosen of Cb, in the selection's order."""
        return self._component(1)

    @property
    def cr(self) -> tuple[int, ...]:
        """Frequencies v * 8 + u in [0, 64) chosen of Cr, in the selection's order."""
        return self._component(2)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.indices)})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the selection as JSON.

        Args:
            path: the file, replaced if it is there.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> import os, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "selection.json")
            >>> ChannelSelection.square(24).save(path)
            >>> ChannelSelection.load(path) == ChannelSelection.square(24)
            True
        """
        _storage.write(path, "ChannelSelection", {"indices": list(self.indices)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ChannelSelection:
        """Reads a selection that ``save`` wrote.

        Args:
            path: the file.

        Returns:
            The selection, equal to the one saved.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file holds no selection, or one of a version unknown here.
        """
        with _storage.reading(path, "ChannelSelection") as content:
            indices = content.get("indices")
            if not isinstance(indices, list):
                raise TypeError(f'"indices" is {indices!r}, not a list')
            return cls(indices)


def _probability(value: object, name: str) -> float:
    if isinstance(value, (bool, str)) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    number = float(value)
    if math.isnan(number) or not 0 <= number <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {number}")
    return number


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
