"""Mean and standard deviation of each frequency channel over a set of pictures."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from freqops import _storage
from freqops._arguments import check_choice, describe
from freqops._block_dct import CHROMA, ROUNDING
from freqops._sums import Sums
from freqops.channels import CHANNELS, ChannelSelection
from freqops.data import to_tensor
from freqops.ops import block_dct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from freqops.data import Picture

__all__ = ["ESTIMATORS", "ChannelStatistics", "sums_of"]

ESTIMATORS = ("coefficients", "image_means")

# The operators' error bound, in coefficient units. A channel that varies less (Cb and Cr of grey
# pictures; u = 4 or v = 4 of averaged chroma) holds nothing but rounding, and is not scaled up.
_CONSTANT = 1e-3

_KIND = "ChannelStatistics"


class ChannelStatistics:
    """Mean and standard deviation of the 192 channels; networks see (coefficient - mean) / std.

    Made from known numbers here, from pictures by ``from_images``, from a file by ``load``;
    ``photographs()`` are the defaults that come with freqops.

    Args:
        mean: 192 finite numbers in coefficient units, by channel number.
        std: 192 finite numbers greater than 0, likewise.

    Raises:
        TypeError: mean or std holds no real numbers.
        ValueError: mean or std has another shape, a number that is not finite, or a std <= 0.

    Example:
        >>> statistics = ChannelStatistics(mean=[0.0] * 192, std=[2.0] * 192)
        >>> mean, std = statistics.select(24)
        >>> std.shape, std[0].item()
        (torch.Size([24]), 2.0)
    """

    def __init__(
        self,
        mean: Tensor | Sequence[float] | NDArray[np.float64],
        std: Tensor | Sequence[float] | NDArray[np.float64],
    ) -> None:
        self._mean = _vector(mean, "mean")
        self._std = _vector(std, "std")
        if not (self._std > 0).all():
            channel = int((self._std > 0).logical_not().nonzero()[0])
            raise ValueError(
                f"std must be greater than 0, got {self._std[channel]} for channel {channel}"
            )
        self._sums: Sums | None = None
        self._settings: tuple[str, str, str] | None = None

    @classmethod
    def from_images(
        cls,
        images: Iterable[Picture],
        *,
        chroma: str = "4:4:4",
        rounding: str = "none",
        estimator: str = "coefficients",
    ) -> ChannelStatistics:
        """Measures pictures one after the other, of any sizes; nothing is kept but the sums.

        Of n observations x_i of a channel: mean = sum x_i / n, std = sqrt(sum (x_i - mean)^2 / n),
        in float64, added up by the pairwise rule of Chan, Golub and LeVeque (1983), which does not
        cancel. A channel whose std is below 1e-3, the operators' error bound, does not vary: its
        std is given as 1.

        Args:
            images: pictures as ``freqops.data.to_tensor`` takes them: tensors (3, H, W) or
                (N, 3, H, W) as ``block_dct`` takes them, on any device; Pillow pictures; arrays;
                paths of files.
            chroma: chroma mode of ``block_dct``.
            rounding: rounding mode of ``block_dct``.
            estimator: what is observed. "coefficients": every coefficient of every block.
                "image_means": each picture's mean coefficient, whose std the authors' tables hold
                (for the DC of Y 0.6 times, for its AC 20 to 70 times too small to normalise with).

        Returns:
            The statistics.

        Raises:
            TypeError: images is no iterable, or an element is no picture.
            ValueError: an element is no picture in the sense above, or there are fewer than two
                observations; unknown chroma, rounding or estimator.

        Example:
            >>> pictures = [torch.full((3, 16, 24), value, dtype=torch.uint8) for value in (0, 255)]
            >>> statistics = ChannelStatistics.from_images(pictures)
            >>> statistics.count, round(statistics.mean[0].item()), round(statistics.std[0].item())
            (12, -4, 1020)
        """
        check_choice("from_images", "estimator", estimator, ESTIMATORS)
        if isinstance(images, (str, bytes)) or not isinstance(images, Iterable):
            raise TypeError(f"images must be an iterable of pictures, got {images!r}")
        sums = Sums.nothing()
        for coefficients in _transformed(images, chroma, rounding):
            sums = sums.plus(sums_of(coefficients, estimator))
        return cls._measured("images", sums, (estimator, chroma, rounding))

    @classmethod
    def from_coefficients(
        cls,
        batches: Iterable[Tensor],
        *,
        chroma: str = "4:4:4",
        rounding: str = "none",
        estimator: str = "coefficients",
    ) -> ChannelStatistics:
        """``from_images`` of pictures whose coefficients there are already.

        Args:
            batches: all 192 channels, not normalised, of one picture (192, gh, gw) or of several
                (N, 192, gh, gw), as ``block_dct`` or ``JPEGTransform(192)`` gives them: floating
                point, on any device.
            chroma, rounding: how they were made; noted in the result.
            estimator: as in ``from_images``.

        Returns:
            The statistics: of float64 coefficients bit for bit those of ``from_images``, else as
            exact as the coefficients are.

        Raises:
            TypeError: batches is no iterable, or an element is no floating-point tensor.
            ValueError: an element is of another shape or not finite, or there are fewer than two
                observations; unknown chroma, rounding or estimator.

        Example:
            >>> pictures = [torch.full((3, 16, 24), value, dtype=torch.uint8) for value in (0, 255)]
            >>> batches = [block_dct(picture) for picture in pictures]
            >>> ChannelStatistics.from_coefficients(batches).count
            12
        """
        function = "from_coefficients"
        check_choice(function, "chroma", chroma, CHROMA)
        check_choice(function, "rounding", rounding, ROUNDING)
        check_choice(function, "estimator", estimator, ESTIMATORS)
        if isinstance(batches, (str, bytes, Tensor)) or not isinstance(batches, Iterable):
            raise TypeError(f"batches must be an iterable of tensors, got {describe(batches)}")
        sums = Sums.nothing()
        for i, coefficients in enumerate(batches):
            sums = sums.plus(sums_of(_given(coefficients, f"batches[{i}]"), estimator))
        return cls._measured("batches", sums, (estimator, chroma, rounding))

    @classmethod
    def photographs(cls) -> ChannelStatistics:
        """The defaults: measured on the colour photographs that scikit-image ships.

        ``benchmarks/measure_statistics.py`` in the repository made them from the 448 x 448 crops
        of ``freqops.data.preprocess("resnet50")``, chroma "4:4:4", rounding "none"; the file names
        the pictures. They are a handful: for a set of your own, use ``from_images``.

        Example:
            >>> ChannelStatistics.photographs().count % 56**2
            0
        """
        file = importlib.resources.files("freqops").joinpath("photographs.json")
        return cls._restored(_storage.parse(file.read_text(encoding="utf-8"), _KIND))

    @property
    def mean(self) -> Tensor:
        """(192,) float64, by channel number."""
        return self._mean

    @property
    def std(self) -> Tensor:
        """(192,) float64, by channel number, greater than 0."""
        return self._std

    @property
    def count(self) -> int:
        """Observations of each channel; 0 where the numbers were given."""
        return 0 if self._sums is None else self._sums.count

    @property
    def estimator(self) -> str | None:
        """What was observed; None where the numbers were given."""
        return None if self._settings is None else self._settings[0]

    @property
    def chroma(self) -> str | None:
        """Chroma mode of the coefficients; None where the numbers were given."""
        return None if self._settings is None else self._settings[1]

    @property
    def rounding(self) -> str | None:
        """Rounding mode of the coefficients; None where the numbers were given."""
        return None if self._settings is None else self._settings[2]

    def select(
        self, channels: ChannelSelection | SupportsIndex | Iterable[SupportsIndex] | None
    ) -> tuple[Tensor, Tensor]:
        """Mean and std of chosen channels.

        Args:
            channels: what ``ChannelSelection.of`` takes.

        Returns:
            mean and std, (C,) float64 each, in the order of the selection.

        Raises:
            TypeError, ValueError: those of ``ChannelSelection.of``.
        """
        indices = list(ChannelSelection.of(channels).indices)
        return self._mean[indices], self._std[indices]

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """The statistics of both sets of pictures together, as if they had been measured at once.

        Args:
            other: measured with the same chroma, rounding and estimator.

        Returns:
            New statistics.

        Raises:
            TypeError: other is no ChannelStatistics.
            ValueError: either was not measured, or they were measured in different ways.

        Example:
            >>> pictures = [torch.full((3, 8, 8), value, dtype=torch.uint8) for value in range(4)]
            >>> left = ChannelStatistics.from_images(pictures[:2])
            >>> right = ChannelStatistics.from_images(pictures[2:])
            >>> whole = ChannelStatistics.from_images(pictures)
            >>> torch.allclose(left.merge(right).std, whole.std, rtol=1e-12)
            True
        """
        if not isinstance(other, ChannelStatistics):
            raise TypeError(f"other must be a ChannelStatistics, got {type(other).__name__}")
        if self._sums is None or other._sums is None or self._settings is None:
            raise ValueError("both statistics must be measured ones, got given numbers")
        if self._settings != other._settings:
            raise ValueError(
                f"other must be measured with estimator, chroma and rounding {self._settings}, "
                f"got {other._settings}"
            )
        return self._of(self._sums.plus(other._sums), self._settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the statistics as JSON; every float64 comes back bit for bit.

        Args:
            path: the file, replaced if it is there.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> import os, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "statistics.json")
            >>> ChannelStatistics.photographs().save(path)
            >>> ChannelStatistics.load(path) == ChannelStatistics.photographs()
            True
        """
        _storage.write(path, _KIND, self._content())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ChannelStatistics:
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
            return cls._restored(content)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelStatistics):
            return NotImplemented
        return self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name} {self._mean[channel]:.4g} +- {self._std[channel]:.4g}"
            for name, channel in (("Y", 0), ("Cb", 64), ("Cr", 128))
        )
        measured = "given" if self._sums is None else f"{self.count} {self.estimator}"
        return f"{type(self).__name__}({measured}; DC {values})"

    def _content(self) -> dict[str, object]:
        sums = self._sums
        return {
            "estimator": self.estimator,
            "chroma": self.chroma,
            "rounding": self.rounding,
            "count": self.count,
            "mean": self._mean.tolist(),
            "std": self._std.tolist(),
            "squares": None if sums is None else sums.squares.tolist(),
        }

    @classmethod
    def _restored(cls, content: dict[str, object]) -> ChannelStatistics:
        result = cls(_numbers(content, "mean"), _numbers(content, "std"))
        count = content.get("count")
        if type(count) is not int or count < 0:
            raise ValueError(f'"count" is {count!r}, not an integer >= 0')
        if count > 0:
            squares = _vector(_numbers(content, "squares"), '"squares"')
            settings = [content.get(key) for key in ("estimator", "chroma", "rounding")]
            estimator, chroma, rounding = map(str, settings)
            result._sums = Sums(count, result._mean, squares)
            result._settings = (estimator, chroma, rounding)
        return result

    @classmethod
    def _measured(
        cls, argument: str, sums: Sums, settings: tuple[str, str, str]
    ) -> ChannelStatistics:
        """The statistics of sums that came from an argument: estimator, chroma, rounding."""
        if sums.count < 2:
            raise ValueError(
                f"{argument} must give at least two observations of a channel, got {sums.count}"
            )
        return cls._of(sums, settings)

    @classmethod
    def _of(cls, sums: Sums, settings: tuple[str, str, str]) -> ChannelStatistics:
        std = (sums.squares / sums.count).sqrt()
        result = cls(sums.mean, torch.where(std < _CONSTANT, 1.0, std))
        result._sums = sums
        result._settings = settings
        return result


def sums_of(coefficients: Tensor, estimator: str) -> Sums:
    """Sums of float64 coefficients (N, 192, gh, gw), by the estimator; of no numbers too."""
    if not coefficients.numel():
        return Sums.nothing()
    if estimator == "image_means":
        coefficients = coefficients.mean((2, 3), keepdim=True)
    return Sums.of(coefficients.transpose(0, 1).flatten(1))


def _given(coefficients: Tensor, name: str) -> Tensor:
    """Finite float64 coefficients (N, 192, gh, gw)."""
    if not isinstance(coefficients, Tensor) or not coefficients.is_floating_point():
        got = coefficients.dtype if isinstance(coefficients, Tensor) else describe(coefficients)
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if coefficients.dim() not in (3, 4) or coefficients.shape[-3] != CHANNELS:
        raise ValueError(
            f"{name} must be [{CHANNELS}, gh, gw] or [N, {CHANNELS}, gh, gw], "
            f"got {list(coefficients.shape)}"
        )
    wide = coefficients.detach()
    wide = (wide.cpu() if wide.device.type == "mps" else wide).double()  # no float64 there
    if not wide.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return wide if wide.dim() == 4 else wide[None]


def _transformed(images: Iterable[Picture], chroma: str, rounding: str) -> Iterator[Tensor]:
    """float64 coefficients (N, 192, gh, gw) of every element, N > 0."""
    for i, picture in enumerate(images):
        try:
            pixels = to_tensor(picture).detach()
            if pixels.device.type == "mps":  # no float64 there
                pixels = pixels.cpu()
            coefficients = block_dct(pixels, chroma=chroma, rounding=rounding, dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(f"images[{i}]: {error}") from error
        if coefficients.dim() == 3:
            coefficients = coefficients.unsqueeze(0)
        if coefficients.numel() == 0:
            continue
        if not coefficients.isfinite().all():
            raise ValueError(f"images[{i}] must be finite, got NaN or infinity")
        yield coefficients


def _vector(values: Tensor | Sequence[float] | NDArray[np.float64], name: str) -> Tensor:
    """A copy of 192 finite numbers in float64, on the CPU."""
    if isinstance(values, Tensor):
        real = values.dtype != torch.bool and not values.is_complex()
        array = values.detach().cpu().double().numpy() if real else np.empty(0)
    else:
        array = np.asarray(values)
        real = array.dtype.kind in "fiu"
    if not real:
        dtype = getattr(values, "dtype", array.dtype)
        raise TypeError(f"{name} must hold real numbers, got {dtype}")
    if array.shape != (CHANNELS,):
        raise ValueError(f"{name} must have the shape ({CHANNELS},), got {array.shape}")
    vector = torch.tensor(array, dtype=torch.float64, device="cpu")
    if not vector.isfinite().all():
        channel = int(vector.isfinite().logical_not().nonzero()[0])
        raise ValueError(f"{name} must be finite, got {vector[channel]} for channel {channel}")
    return vector


def _numbers(content: dict[str, object], key: str) -> list[float]:
    numbers = content.get(key)
    if not isinstance(numbers, list) or not all(type(x) in (int, float) for x in numbers):
        raise TypeError(f'"{key}" is no list of numbers')
    return numbers
