"""Crops: a small data set of real pictures, to try training on. One class a photograph.

    python docs/crops.py crops/

Writes crops/train/CLASS/*.jpg and crops/val/CLASS/*.jpg, the layout of torchvision's ImageFolder:
square crops from the photographs that scikit-image and scikit-learn bring. A photograph is cut into
cells; a quarter of them, spread over it, is for validation, and a crop lies within one cell. So no
pixel of a validation crop is in a training crop.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from freqops.demo import PHOTOGRAPHS

GREY = (
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "page.png",
)
"""The grey photographs inside scikit-image's wheel that are large and not of one tone all over."""

SKLEARN = ("china.jpg", "flower.jpg")
"""The photographs inside scikit-learn's wheel."""

TRAIN, VAL = 96, 16
"""Crops a class."""

SIDE = 96
"""Pixels. Every photograph then has cells of 128 pixels or more, three at least."""

QUALITY = 95
"""Of the JPEG files, which are 4:4:4: colour keeps its resolution. Grey ones stay grey."""

VALIDATED = (1, 3, 0, 2)
"""Column of the validation cell in rows 0 to 3 of 4x4 cells, which repeat: a quarter of all, in no
two rows or columns of four the same."""

LIST = "crops.json"
"""Beside train and val: the settings, and each file with its box in the photograph."""

STOPPED = 130
"""What the script returns after Ctrl-C, as the shell has it."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; pixels, the last two not inside."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """A file, "train/moon/007.jpg", and its box in the photograph."""

    file: str
    box: Box


def photographs() -> tuple[list[Path], list[str]]:
    """The files of all photographs, and the packages that are missing.

    Raises:
        OSError: scikit-image is not installed.
    """
    paths: list[Path] = []
    missing: list[str] = []
    for package, module, below, names in (
        ("scikit-image", "skimage", "data", (*PHOTOGRAPHS, *GREY)),
        ("scikit-learn", "sklearn", "datasets/images", SKLEARN),
    ):
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            missing.append(package)
        else:
            folder = Path(spec.origin).parent / below
            paths += [folder / name for name in names if (folder / name).is_file()]
    if "scikit-image" in missing or not paths:
        raise OSError("the photographs are those of scikit-image: pip install scikit-image")
    return sorted(paths, key=lambda path: path.stem), missing


def cells(size: tuple[int, int], side: int) -> tuple[list[Box], list[Box]]:
    """The cells of a photograph: those for training and those for validation.

    Equal rows and columns, as many as leave each cell 4/3 of a crop's side, rounded down, or more.

    Args:
        size: width and height, in pixels.
        side: of a crop.

    Raises:
        ValueError: there are not two columns, or no row.
    """
    width, height = size
    columns, rows = 3 * width // (4 * side), 3 * height // (4 * side)
    if columns < 2 or rows < 1:
        raise ValueError(
            f"side must be at most {min(3 * width // 8, 3 * height // 4)} for a photograph of "
            f"{width}x{height} pixels, got {side}"
        )
    x = [width * i // columns for i in range(columns + 1)]
    y = [height * i // rows for i in range(rows + 1)]
    train: list[Box] = []
    val: list[Box] = []
    for row in range(rows):
        for column in range(columns):
            cell = (x[column], y[row], x[column + 1], y[row + 1])
            (val if column % 4 == VALIDATED[row % 4] else train).append(cell)
    return train, val


def plan(
    name: str, size: tuple[int, int], *, train: int, val: int, side: int, seed: int
) -> list[Crop]:
    """The crops of one photograph: the cell of each at random, and the place in the cell.

    Args:
        name: of the class. What is drawn depends on it and on seed, not on the other photographs.
        size: width and height of the photograph.
        train, val: how many crops.
        side: of a crop, in pixels.
        seed: of the random numbers.

    Raises:
        ValueError: that of `cells`.
    """
    crops = []
    both = cells(size, side)
    for split, count, boxes in (("train", train, both[0]), ("val", val, both[1])):
        generator = random.Random(f"{seed} {name} {split}")
        for i in range(count):
            left, top, right, bottom = generator.choice(boxes)
            x = generator.randint(left, right - side)
            y = generator.randint(top, bottom - side)
            crops.append(Crop(f"{split}/{name}/{i:03}.jpg", (x, y, x + side, y + side)))
    return crops


def read_list(folder: Path) -> list[Crop]:
    """The crops that the folder's list names.

    Raises:
        OSError: there is no list.
        ValueError: it is another file.
    """
    try:
        content = json.loads((folder / LIST).read_text())
        return [Crop(str(file), _box(box)) for file, box in content["crops"].items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / LIST} is no list of crops") from error


def _box(numbers: Sequence[int]) -> Box:
    left, top, right, bottom = map(int, numbers)
    return left, top, right, bottom


def clear(folder: Path) -> None:
    """Removes what an earlier run wrote.

    Raises:
        ValueError: the folder holds anything else; nothing is removed then.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{folder} must be a folder, or not there")
    files = {path.relative_to(folder).as_posix() for path in _files(folder)}
    if not files:
        return
    try:
        own = {LIST, *(crop.file for crop in read_list(folder))}
    except (OSError, ValueError):
        own = set()
    if foreign := sorted(files - own):
        raise ValueError(
            f"{folder} holds files that this script did not write, {foreign[0]} among them: "
            "name another folder"
        )
    for split in ("train", "val"):
        shutil.rmtree(folder / split, ignore_errors=True)
    (folder / LIST).unlink()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def write(
    folder: Path,
    paths: Sequence[Path],
    *,
    train: int = TRAIN,
    val: int = VAL,
    side: int = SIDE,
    seed: int = 0,
) -> list[Crop]:
    """Writes the crops of all photographs and their list.

    Args:
        folder: made, or one that this script wrote, which is replaced.
        paths: the photographs; a class is named after the file.
        train, val, side, seed: as in `plan`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: that of `cells`; that of `clear`.
    """
    crops: dict[Path, list[Crop]] = {}
    for path in paths:
        with Image.open(path) as photograph:
            size = photograph.size
        try:
            crops[path] = plan(path.stem, size, train=train, val=val, side=side, seed=seed)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = [crop for of_one in crops.values() for crop in of_one]
    settings = {"train": train, "val": val, "side": side, "seed": seed}
    content = {**settings, "crops": {crop.file: crop.box for crop in flat}}
    # First, so that the folder of a run that was interrupted is known as one of this script.
    (folder / LIST).write_text(json.dumps(content, indent=1) + "\n")
    for path, of_one in crops.items():
        with Image.open(path) as photograph:
            photograph.load()
        for crop in of_one:
            file = folder / crop.file
            file.parent.mkdir(parents=True, exist_ok=True)
            photograph.crop(crop.box).save(file, quality=QUALITY, subsampling=0)
    return flat


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the folder; returns 0, 1 if that fails, 130 after Ctrl-C."""
    options = _options(arguments)
    try:
        paths, missing = photographs()
        for package in missing:
            print(f"without the pictures of {package}, which is not installed")
        crops = write(
            options.folder,
            paths,
            train=options.train,
            val=options.val,
            side=options.side,
            seed=options.seed,
        )
    except (OSError, ValueError) as error:
        print(f"crops.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return STOPPED
    print(f"wrote {len(crops)} crops of {len(paths)} photographs to {options.folder}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked before any work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where train and val are made")
    for name, value in (("train", TRAIN), ("val", VAL)):
        text = f"crops a class in {name}, default {value}"
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N", help=text)
    text = f"pixels along one side of a crop, default {SIDE}"
    parser.add_argument("--side", type=int, default=SIDE, metavar="N", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="where the crops lie")
    options = parser.parse_args(arguments)
    for name, least in (("train", 1), ("val", 1), ("side", 8)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(options, name)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
