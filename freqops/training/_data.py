"""What is trained on: a folder of pictures, or a data set in Python, and its classes."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from freqops._arguments import describe
from freqops._jpeg_folder import find_classes, find_samples
from freqops.training._pictures import Samples
from freqops.training._seeds import seed_of

__all__ = ["Data", "open_data"]

TRAIN, VAL = "train", "val"

_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Data:
    """Two sets of pictures, and the classes of both.

    Attributes:
        name: the folder or module:function.
        classes: names, by number.
        train, val: pairs (picture, class number), the picture in any form that
            ``freqops.data.to_tensor`` takes.
        held_out: whether ``val`` is a share of one folder.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    val: Samples
    held_out: bool = False


def open_data(name: str, val_share: float = 0.2, seed: int = 0) -> Data:
    """Finds pictures and classes.

    Args:
        name: a folder with train/ and val/, each in torchvision's ImageFolder layout,
            val/class/.../picture.jpg; a folder in that layout itself, of which a share of each
            class is held out, the same for the same seed and files; or "module:function", called
            as function(train=True) and function(train=False), which gives pairs (picture, class
            number) with len, such as a torch Dataset, with ``.classes`` or one class a number.
        val_share: the share.
        seed: of the choice.

    Raises:
        ValueError: there is no such folder, it has fewer than two classes, a class has no pictures,
            the two sets have different classes; there is no such module or function, or what it
            gives is no data set.
    """
    if not name:
        raise ValueError("data must be a folder of pictures or module:function, got nothing")
    folder = Path(name)
    if folder.is_dir():
        data = _of_folders(name, folder) or _split(name, folder, val_share, seed)
        if len(data.classes) < 2:
            raise ValueError(
                f"data must have at least two classes, got {data.classes[0]} alone in {name}"
            )
        return data
    if re.fullmatch(r"[\w.]+:\w+", name):
        return _of_function(name)
    raise ValueError(
        f"data must be a folder of pictures or module:function, found nothing at {name!r}"
    )


def _of_folders(name: str, folder: Path) -> Data | None:
    """Of a folder with train/ and val/; None where it has neither."""
    found = [(folder / part).is_dir() for part in (TRAIN, VAL)]
    if not any(found):
        return None
    if not all(found):
        missing = VAL if found[0] else TRAIN
        raise ValueError(
            f"data must hold {TRAIN}/ and {VAL}/, or the folders of the classes, found no "
            f"{missing}/ in {name}"
        )
    classes, others = (find_classes(folder / part, "data") for part in (TRAIN, VAL))
    if classes != others:
        different = sorted(set(classes) ^ set(others))
        words = ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")
        raise ValueError(
            f"data must have the same classes in {TRAIN}/ and {VAL}/, got {len(classes)} and "
            f"{len(others)} in {name}; not in both: {words}"
        )
    train, val = (find_samples(folder / part, classes, "data") for part in (TRAIN, VAL))
    return Data(name, tuple(classes), train, val)


def _split(name: str, folder: Path, share: float, seed: int) -> Data:
    """A share of each class held out, at least one picture, chosen by a hash of its path."""
    classes = find_classes(folder, "data")
    found = find_samples(folder, classes, "data")
    parts: tuple[list[tuple[str, int]], list[tuple[str, int]]] = ([], [])
    for target, label in enumerate(classes):
        paths = [path for path, number in found if number == target]
        if len(paths) < 2:
            raise ValueError(
                f"data must have at least two pictures a class where a share is held out, got 1 "
                f"in {folder / label}"
            )
        drawn = sorted(paths, key=lambda path: seed_of(seed, "val", os.path.relpath(path, folder)))
        count = min(max(1, round(share * len(paths))), len(paths) - 1)
        held = set(drawn[:count])
        for path in paths:
            parts[path in held].append((path, target))
    return Data(name, tuple(classes), *parts, held_out=True)


def _of_function(name: str) -> Data:
    place, _, function = name.partition(":")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # `freqops` is a script: its folder is there, not this one
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place + ".").startswith(error.name + "."):
            raise
        raise ValueError(f"data must name a module, found no {place!r} (data={name!r})") from error
    make = getattr(module, function, None)
    if not callable(make):
        raise ValueError(f"data must name a function of {place}, found no {function!r} there")
    sets = [make(train=True), make(train=False)]
    for part, samples in zip((TRAIN, VAL), sets, strict=True):
        if not hasattr(samples, "__getitem__") or not hasattr(samples, "__len__"):
            raise ValueError(
                f"data: {name} must give a data set with len and pairs (picture, class number), "
                f"got {describe(samples)} for {part}"
            )
        if not len(samples):
            raise ValueError(f"data: {name} must give pictures, got none for {part}")
    classes = getattr(sets[0], "classes", None)
    if classes is None:
        labels = [_labels(samples, name) for samples in sets]
        classes = [str(number) for number in range(1 + max(map(max, labels)))]
    return Data(name, tuple(map(str, classes)), sets[0], sets[1])


def _labels(samples: Samples, name: str) -> Sequence[int]:
    """The class numbers of all samples, without reading pictures where the set allows it."""
    targets = getattr(samples, "targets", None)
    if targets is None:
        raise ValueError(
            f"data: {name} must give a data set with .classes, the names of the classes, or "
            ".targets, the number of each picture; it has neither"
        )
    return [int(target) for target in targets]
