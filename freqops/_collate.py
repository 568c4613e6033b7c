"""Collate: pictures of frequency channels, of different sizes, to one batch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from freqops._arguments import check_choice, describe, integer
from freqops._pictures import describe_tensor

__all__ = ["Collate"]

FITS = ("pad", "crop", "equal")


class Collate:
    """Joins pairs (channels of a picture, label) to a batch: ``collate_fn`` of a DataLoader.

    Args:
        fit: what makes pictures of different sizes equal. "pad": zeros at the right and at the
            bottom, up to the largest height and width of the batch; zero is the mean where the
            channels are normalised, else mid-grey. "crop": down to the smallest height and width,
            from the middle; of an odd number of blocks to leave out, the right and the bottom lose
            one more. "equal": nothing; they must be equal.
        multiple: in blocks; the batch's height and width are rounded to multiples of it, up for
            "pad" and down for "crop".
        sizes: whether the batch also tells each picture's own rows and columns.

    Raises:
        TypeError, ValueError: an argument is not as above; multiple with "equal".

    Example:
        >>> pictures = [(torch.ones(24, 5, 7), 0), (torch.ones(24, 6, 4), 1)]
        >>> x, labels, sizes = Collate("pad", multiple=4, sizes=True)(pictures)
        >>> x.shape, labels.tolist(), sizes.tolist()
        (torch.Size([2, 24, 8, 8]), [0, 1], [[5, 7], [6, 4]])
        >>> Collate("crop")(pictures)[0].shape
        torch.Size([2, 24, 5, 4])
    """

    def __init__(self, fit: str = "pad", *, multiple: int = 1, sizes: bool = False) -> None:
        check_choice("Collate", "fit", fit, FITS)
        self.fit = fit
        try:
            self.multiple = integer("Collate", "multiple", multiple)
        except TypeError:
            raise TypeError(
                f"Collate: multiple must be an integer, got {describe(multiple)}"
            ) from None
        if self.multiple < 1:
            raise ValueError(f"Collate: multiple must be at least 1, got {multiple}")
        if fit == "equal" and self.multiple != 1:
            raise ValueError(f"Collate: multiple must be 1 with fit='equal', got {multiple}")
        if not isinstance(sizes, bool):
            raise TypeError(f"Collate: sizes must be True or False, got {describe(sizes)}")
        self.sizes = sizes

    def __call__(
        self, batch: Sequence[tuple[Tensor, int]]
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """The batch.

        Args:
            batch: pairs (channels (C, rows, columns), label), all of one C and dtype.

        Returns:
            channels (N, C, rows, columns), labels (N,) int64, and with ``sizes`` (N, 2) int64: the
            rows and columns that each picture had.

        Raises:
            TypeError: an element is no such pair, a label no integer, or dtypes differ.
            ValueError: no pictures; their C differ; sizes differ with "equal"; the smallest has
                fewer blocks than ``multiple`` with "crop".
        """
        pictures = [_picture(element) for element in batch]
        if not pictures:
            raise ValueError("Collate: batch must hold at least one picture, got none")
        _check_alike(pictures)
        own = torch.tensor([p.shape[1:] for p in pictures])
        labels = torch.tensor([_label(label) for _, label in batch])
        rows, columns = self._size(own)
        out = pictures[0].new_zeros(len(pictures), len(pictures[0]), rows, columns)
        for target, picture in zip(out, pictures, strict=True):
            height, width = picture.shape[1:]
            top, left = max(height - rows, 0) // 2, max(width - columns, 0) // 2
            part = picture[:, top : top + rows, left : left + columns]
            target[:, : part.shape[1], : part.shape[2]] = part
        return (out, labels, own) if self.sizes else (out, labels)

    def __repr__(self) -> str:
        settings = f"fit={self.fit!r}, multiple={self.multiple}, sizes={self.sizes}"
        return f"{type(self).__name__}({settings})"

    def _size(self, own: Tensor) -> tuple[int, int]:
        """Rows and columns of the batch."""
        smallest, largest = own.amin(0).tolist(), own.amax(0).tolist()
        m = self.multiple
        if self.fit == "pad":
            return -(-largest[0] // m) * m, -(-largest[1] // m) * m
        if self.fit == "crop":
            if min(smallest) < m:
                raise ValueError(
                    f"Collate: pictures must have at least {m} x {m} blocks for multiple={m}, "
                    f"got one of {smallest[0]} rows and one of {smallest[1]} columns"
                )
            return smallest[0] // m * m, smallest[1] // m * m
        if smallest != largest:
            other = next(size for size in own.tolist() if size != own[0].tolist())
            raise ValueError(
                "Collate: pictures of a batch must have one size with fit='equal', got "
                f"{own[0, 0]} x {own[0, 1]} and {other[0]} x {other[1]} blocks: "
                "fit='pad' or fit='crop' makes them equal, or a crop in JPEGTransform"
            )
        return smallest[0], smallest[1]


def _picture(element: tuple[Tensor, int]) -> Tensor:
    pair = isinstance(element, (tuple, list)) and len(element) == 2
    picture = element[0] if pair else element
    if not pair or not isinstance(picture, Tensor) or picture.dim() != 3:
        raise TypeError(
            "Collate: batch must hold pairs of a tensor [C, rows, columns] and a label, "
            f"got {describe_tensor(picture)}"
        )
    return picture


def _label(label: SupportsIndex) -> int:
    try:
        return operator.index(label)
    except TypeError:
        raise TypeError(f"Collate: labels must be integers, got {describe(label)}") from None


def _check_alike(pictures: Sequence[Tensor]) -> None:
    first = pictures[0]
    for picture in pictures:
        if picture.dtype != first.dtype:
            raise TypeError(
                "Collate: pictures of a batch must have one dtype, "
                f"got {first.dtype} and {picture.dtype}"
            )
        if len(picture) != len(first):
            raise ValueError(
                "Collate: pictures of a batch must have as many channels as one another, "
                f"got {len(first)} and {len(picture)}"
            )
