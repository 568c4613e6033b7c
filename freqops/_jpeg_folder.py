"""JPEGFolder: a folder of pictures, one subfolder a class, as frequency channels."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from freqops._arguments import describe
from freqops._jpeg_transform import JPEGTransform
from freqops._pictures import SUFFIXES, decode, is_jpeg, read_stored
from freqops.jpeg import MAX_PIXELS, JPEGCoefficients, UnsupportedJPEG, _Options

__all__ = ["JPEGFolder", "find_classes", "find_samples"]

# Counters, one for each thread that decodes: the system numbers threads one after the other, so
# those of two that are alive at a time rarely are equal modulo this, and then have to count within
# the same microsecond to lose a count. 128 KiB for each of the two things that are counted.
_COUNTERS = 1 << 14
_DECODED, _DAMAGED = range(2)

# Names in an error.
_NAMED = 3


@dataclasses.dataclass
class _Way:
    """How one picture went."""

    decoded: bool = False
    damaged: bool = False


class JPEGFolder(Dataset[tuple[Tensor, int]]):
    """Pictures in torchvision's ImageFolder layout, root/class/.../picture.jpg, without decoding.

    JPEG files are read as coefficients. Files of other formats, and JPEG files of a kind that is
    not read (CMYK, 12 bits and the like; those too small for the transform), are decoded to pixels
    and counted; of these the transform gets pixels, a uint8 tensor. What a file is, its first bytes
    say, not its name.

    For torch.utils.data.DataLoader with any number of workers, forked or spawned. With the same
    torch.manual_seed and number of workers batches are the same; a transform that draws nothing
    gives the same with any number.

    Args:
        root: folder of one folder for each class. Hidden files and folders are left out, and so
            are files beside the class folders; pictures are what ends as in
            freqops.transform.SUFFIXES, at any depth.
        transform: JPEGCoefficients, or uint8 RGB (3, H, W) of what is decoded, to a tensor: a
            ``JPEGTransform``. It must be picklable for spawned workers.
        tolerant: of damaged JPEG files take what can be read, instead of raising; they are counted.
        max_pixels: JPEG files of more pixels are refused; None means no limit. Other formats have
            Pillow's own.
        decode_others: False refuses what would have to be decoded.

    Attributes:
        classes: names of the class folders, sorted.
        class_to_idx: their numbers.
        samples: (path, class number), sorted by class and path.
        targets: the class numbers of the samples.

    Raises:
        TypeError: an argument is not as above; transform cannot be called, or is a class.
        ValueError: root is no folder, has no folders, or a class folder holds no pictures;
            max_pixels is less than 1.

    Example:
        >>> import tempfile
        >>> from freqops.data import Collate, JPEGTransform
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for i, name in enumerate(["cat/a.jpg", "cat/b.png", "dog/c.jpg"]):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     Image.new("RGB", (40 + 8 * i, 32), (200, 90, 30)).save(root / name)
        >>> folder = JPEGFolder(root, JPEGTransform(24))
        >>> loader = torch.utils.data.DataLoader(folder, batch_size=3, collate_fn=Collate("pad"))
        >>> x, labels = next(iter(loader))
        >>> x.shape, labels.tolist(), folder.decoded
        (torch.Size([3, 24, 4, 7]), [0, 0, 1], 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[JPEGCoefficients | Tensor], Tensor],
        *,
        tolerant: bool = False,
        max_pixels: int | None = MAX_PIXELS,
        decode_others: bool = True,
    ) -> None:
        if not isinstance(root, (str, os.PathLike)) or not isinstance(os.fspath(root), str):
            raise TypeError(f"JPEGFolder: root must be a string or a path, got {describe(root)}")
        if isinstance(transform, type) or not callable(transform):
            is_class = isinstance(transform, type)
            got = f"the class {transform.__name__}" if is_class else describe(transform)
            raise TypeError(
                f"JPEGFolder: transform must be a callable, a JPEGTransform(...) perhaps, got {got}"
            )
        _Options.checked("JPEGFolder", False, tolerant, max_pixels)
        if not isinstance(decode_others, bool):
            raise TypeError(
                f"JPEGFolder: decode_others must be True or False, got {describe(decode_others)}"
            )
        self.root = os.fspath(root)
        self.transform = transform
        self.tolerant = tolerant
        self.max_pixels = max_pixels
        self.decode_others = decode_others
        self.classes = find_classes(Path(root), "JPEGFolder: root")
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = find_samples(Path(root), self.classes, "JPEGFolder")
        self.targets = [target for _, target in self.samples]
        # Workers write where this process reads.
        self._counts = torch.zeros(2, _COUNTERS, dtype=torch.int64)
        self._counts.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def decoded(self) -> int:
        """How many times a picture was decoded, by all workers together: each pass adds to it.

        A count is lost where two threads whose system numbers are equal modulo 16384 count at the
        same moment. Copies count for themselves, pickled ones too; DataLoader's workers count here.
        """
        return int(self._counts[_DECODED].sum())

    @property
    def damaged(self) -> int:
        """How many times a picture was taken in spite of its damage, with ``tolerant``.

        By all workers together: each pass adds to it. One that was decoded as well, being too small
        for the transform, is in both; damage of other kinds of file is not known. A count is lost
        where two threads whose system numbers are equal modulo 16384 count at the same moment.
        Copies count for themselves, pickled ones too; DataLoader's workers count here.
        """
        return int(self._counts[_DAMAGED].sum())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One picture and its class.

        Raises:
            IndexError: there is none of that number.
            OSError: the file cannot be opened.
            ValueError: it is broken, would have to be decoded with ``decode_others=False``, or the
                transform fails. The message names the file.
        """
        path, target = self.samples[index]
        way = _Way()
        try:
            out = self._transformed(path, way)
        except (OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # a transform of the user's raises anything
            kind = UnsupportedJPEG if isinstance(error, UnsupportedJPEG) else ValueError
            reason = str(error)
            if not isinstance(error, ValueError):
                reason = f"{type(error).__name__}: {error}"
            if way.decoded and not isinstance(self.transform, JPEGTransform):
                reason += " (it had to be decoded: the transform got pixels, a uint8 tensor)"
            raise kind(f"JPEGFolder: {path!r}: {reason}") from error
        counter = threading.get_native_id() % _COUNTERS
        for what, happened in ((_DECODED, way.decoded), (_DAMAGED, way.damaged)):
            if happened:
                self._counts[what, counter] += 1
        return out, target

    def __repr__(self) -> str:
        counts = f"{len(self)} pictures, {len(self.classes)} classes"
        return f"{type(self).__name__}({self.root!r}: {counts}, {self.transform!r})"

    def __copy__(self) -> JPEGFolder:
        """Counts for itself, from here on."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._counts = self._counts.clone()
        other._counts.share_memory_()  # type: ignore[no-untyped-call]
        return other

    def __setstate__(self, state: dict[str, object]) -> None:
        """A copy counts for itself; in a spawned worker the memory is that of the first."""
        self.__dict__.update(state)
        if not self._counts.is_shared():  # type: ignore[no-untyped-call]
            self._counts.share_memory_()  # type: ignore[no-untyped-call]

    def _transformed(self, path: str, way: _Way) -> Tensor:
        jpeg = is_jpeg(path)
        if jpeg or not self.decode_others:
            try:
                stored = read_stored(path, tolerant=self.tolerant, max_pixels=self.max_pixels)
                way.damaged = bool(stored.damage)
                return self.transform(stored)
            except UnsupportedJPEG as error:
                if not self.decode_others:
                    reason = str(error).removesuffix(" (freqops.data.read_image decodes it)")
                    raise UnsupportedJPEG(f"{reason} (decode_others=True decodes it)") from error
            except ValueError as error:
                if jpeg:
                    raise
                raise ValueError(f"{error} (decode_others=True decodes other formats)") from error
        pixels = decode(path)
        way.decoded = True
        return self.transform(pixels)


def find_classes(root: Path, what: str) -> list[str]:
    """Names of the class folders of a root, sorted. Errors say what the root is.

    Raises:
        ValueError: it is no folder, or has none.
    """
    if not root.is_dir():
        raise ValueError(f"{what} must be a folder, found none at {root}")
    classes = sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise ValueError(
            f"{what} must hold a folder for each class, found none in {root}" + _beside(root)
        )
    return classes


def _beside(root: Path) -> str:
    """What a root without classes holds instead, as the end of a sentence."""
    names = [
        entry.name for entry in os.scandir(root) if entry.is_file() and _is_picture(entry.name)
    ]
    if not names:
        return ""
    pictures = "1 picture" if len(names) == 1 else f"{len(names)} pictures"
    return f", but {pictures}, such as {min(names)}: pictures belong in the folder of their class"


def find_samples(root: Path, classes: list[str], what: str) -> list[tuple[str, int]]:
    """(path, class number) of every picture in these folders, sorted by class and path.

    Raises:
        ValueError: a class folder holds no pictures.
    """
    samples = []
    empty = []
    for target, name in enumerate(classes):
        paths = _pictures(root / name)
        if not paths:
            empty.append(name)
        samples += [(path, target) for path in paths]
    if empty:
        names = ", ".join(empty[:_NAMED]) + (", ..." if len(empty) > _NAMED else "")
        raise ValueError(
            f"{what}: every class folder must hold pictures, found none in {len(empty)} of "
            f"{len(classes)} in {root}: {names}"
        )
    return samples


def _pictures(folder: Path) -> list[str]:
    """Paths of the pictures below a folder, links followed, in the order of torchvision's."""
    paths = []
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in files:
            if _is_picture(name):
                paths.append((here, name))
    return [os.path.join(here, name) for here, name in sorted(paths)]


def _is_picture(name: str) -> bool:
    return name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES
