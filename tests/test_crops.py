"""The folder of crops: docs/crops.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

SCRIPT = Path(__file__).parents[1] / "docs" / "crops.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crops", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


crops = load()


@pytest.fixture(scope="module")
def paths() -> list[Path]:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    return crops.photographs()[0]


def sizes(paths: list[Path]) -> dict[str, tuple[int, int]]:
    result = {}
    for path in paths:
        with Image.open(path) as photograph:
            result[path.stem] = photograph.size
    return result


def pixels(boxes: list[tuple[int, int, int, int]]) -> set[tuple[int, int]]:
    """All that lie in a box."""
    return {
        (x, y)
        for left, top, right, bottom in boxes
        for x in range(left, right)
        for y in range(top, bottom)
    }


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("size", [(512, 512), (384, 191), (640, 427)])
def test_no_pixel_is_in_crops_of_both_splits(size: tuple[int, int]) -> None:
    plan = crops.plan("moon", size, train=100, val=100, side=96, seed=3)
    train = pixels([crop.box for crop in plan if crop.file.startswith("train/")])
    val = pixels([crop.box for crop in plan if crop.file.startswith("val/")])
    assert train and val
    assert not train & val
    both = train | val
    assert min(x for x, _ in both) >= 0 and max(x for x, _ in both) < size[0]
    assert min(y for _, y in both) >= 0 and max(y for _, y in both) < size[1]


@pytest.mark.parametrize("side", [32, 64, 96])
def test_cells_tile_every_photograph(paths: list[Path], side: int) -> None:
    for name, (width, height) in sizes(paths).items():
        train, val = crops.cells((width, height), side)
        areas = [(right - left) * (bottom - top) for left, top, right, bottom in train + val]
        assert sum(areas) == width * height, name
        shortest = min(min(r - left, b - top) for left, top, r, b in train + val)
        assert shortest >= 4 * side // 3, name
        share = len(val) / len(train + val)
        # 1 of 6 in the least favourable, 2 rows of 3.
        assert 1 / 6 <= share <= 1 / 3, name


def test_validation_cells_are_spread() -> None:
    """In 4x4 cells one in each row and each column."""
    _, val = crops.cells((512, 512), 96)
    assert len(val) == 4
    assert len({box[0] for box in val}) == len({box[1] for box in val}) == 4


def test_crops_use_the_cells_and_the_places_in_them() -> None:
    plan = crops.plan("moon", (512, 512), train=400, val=400, side=96, seed=0)
    corners = {crop.box[:2] for crop in plan}
    assert len(corners) > 700
    cells = {(x // 128, y // 128) for x, y in corners}
    assert len(cells) == 16
    assert {x % 128 for x, _ in corners} == set(range(33))


def test_a_class_depends_on_its_name_and_seed_alone() -> None:
    settings = {"train": 5, "val": 5, "side": 64}
    first = crops.plan("moon", (512, 512), seed=0, **settings)
    assert crops.plan("moon", (512, 512), seed=0, **settings) == first
    assert crops.plan("moon", (512, 512), seed=1, **settings) != first
    boxes = [crop.box for crop in crops.plan("grass", (512, 512), seed=0, **settings)]
    assert boxes != [crop.box for crop in first]


def test_a_side_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="side must be at most 143 for a photograph of 384x191"):
        crops.cells((384, 191), 144)
    assert [len(boxes) for boxes in crops.cells((384, 191), 143)] == [1, 1]
    with pytest.raises(ValueError, match="side must be at most 72 for a photograph of 192x512"):
        crops.cells((192, 512), 73)
    assert len(crops.cells((192, 512), 72)[1]) > 0


def test_the_folder(paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "crops"
    command = [str(folder), "--train", "3", "--val", "2", "--side", "40"]
    assert crops.main(command) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"wrote {5 * len(paths)} crops of {len(paths)} photographs to {folder}"
    names = sorted(path.stem for path in paths)
    assert {"astronaut", "moon", "retina"} <= set(names)
    written = files(folder)
    for split, count in (("train", 3), ("val", 2)):
        assert sorted(path.name for path in (folder / split).iterdir()) == names
        for name in names:
            of_class = [file for file in written if file.startswith(f"{split}/{name}/")]
            assert len(of_class) == count
    assert len(written) == 5 * len(names) + 1
    # The list says where each file is from.
    with Image.open(next(path for path in paths if path.stem == "astronaut")) as photograph:
        astronaut = photograph.convert("RGB")
    listed = [crop for crop in crops.read_list(folder) if "astronaut" in crop.file]
    assert len(listed) == 5
    for crop in listed:
        with Image.open(folder / crop.file) as picture:
            assert picture.size == (40, 40) and picture.mode == "RGB"
            assert all(sampling[1:3] == (1, 1) for sampling in picture.layer)
            pairs = zip(picture.tobytes(), astronaut.crop(crop.box).tobytes(), strict=True)
            assert sum(abs(a - b) for a, b in pairs) / 4800 < 3
    with Image.open(folder / "train" / "moon" / "000.jpg") as picture:
        assert picture.mode == "L"
    # Once more: the same. With fewer crops: none of the old ones stays.
    assert crops.main(command) == 0
    assert files(folder) == written
    assert crops.main([str(folder), "--train", "1", "--val", "1", "--side", "40"]) == 0
    assert len(files(folder)) == 2 * len(names) + 1


def test_a_folder_of_somebody_else_is_left_alone(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.jpg").write_bytes(b"mine")
    few = ["--train", "1", "--val", "1", "--side", "40"]
    assert crops.main([str(tmp_path), *few]) == 1
    assert "train/mine.jpg among them: name another folder" in capsys.readouterr().err
    assert files(tmp_path) == {"train/mine.jpg": b"mine"}
    # Nor is one that the script wrote and somebody added to.
    own = tmp_path / "own"
    assert crops.main([str(own), *few]) == 0
    (own / "train" / "moon" / "added.jpg").write_bytes(b"mine")
    before = files(own)
    assert crops.main([str(own), *few]) == 1
    assert files(own) == before
    # A file in the folder's place.
    assert crops.main([str(tmp_path / "train" / "mine.jpg"), *few]) == 1


def test_without_scikit_learn_its_pictures_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    real = importlib.util.find_spec
    hidden = {"sklearn"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in hidden else real(name)
    )
    command = [str(tmp_path / "crops"), "--train", "1", "--val", "1", "--side", "40"]
    assert crops.main(command) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "without the pictures of scikit-learn, which is not installed"
    assert second.startswith("wrote 30 crops of 15 photographs")
    hidden.add("skimage")
    assert crops.main(command) == 1
    assert "pip install scikit-image" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--train", "0"], ["--val", "-1"], ["--side", "7"]])
def test_wrong_arguments(wrong: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        crops.main([str(tmp_path / "crops"), *wrong])
    assert not (tmp_path / "crops").exists()


def test_a_photograph_that_is_too_small_is_named(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crops.main([str(tmp_path / "crops"), "--side", "150"]) == 1
    text = "coins.png: side must be at most 144 for a photograph of 384x303 pixels, got 150"
    assert capsys.readouterr().err == f"crops.py: {text}\n"
    assert not (tmp_path / "crops").exists()
