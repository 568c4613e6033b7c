"""Mistakes that people make with freqops train, and what befalls them: one sentence, no loss."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import (
    CLASSES,
    SMALL,
    STEPS,
    Image,
    after_step,
    assert_same_runs,
    column,
    flags,
    hidden,
    make_pictures,
    picture,
    python,
    rows,
    run,
    small,
)

from freqops.cli import main
from freqops.training import Diverged, Settings
from freqops.training._state import read_state
from freqops.training._views import PixelView

resource = pytest.importorskip("resource", reason="this system has no limits of file sizes")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("good"))


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    """A folder of one's own, to be spoilt."""
    return Path(shutil.copytree(good, tmp_path / "data"))


def error_of(capsys: pytest.CaptureFixture[str], code: int, settings: Settings) -> str:
    """What a command that fails says: one line."""
    assert main([*flags(settings), "-q"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if "skipped" not in line]
    assert len(lines) == 1 and lines[0].startswith("freqops: "), captured.err
    return lines[0].removeprefix("freqops: ")


# Folders.


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda d: remove(d),
            r"data must be a folder of pictures or module:function, found nothing at '.*/data'",
        ),
        (lambda d: [remove(d / p) for p in ("train", "val")], r"data must .*found none in .*/data"),
        (
            lambda d: remove(d / "val"),
            r"data must hold train/ and val/, .*found no val/ in .*/data",
        ),
        (
            lambda d: remove(d / "train"),
            r"data must hold train/ and val/.*found no train/ in .*/data",
        ),
        (
            lambda d: empty(d / "train/red"),
            r"data: every class folder must hold pictures, found none in 1 of 3 in .*/train: red",
        ),
        (
            lambda d: empty(d / "val/blue"),
            r"data: every class folder must hold pictures, found none in 1 of 3 in .*/val: blue",
        ),
        (
            lambda d: remove(d / "val/red"),
            r"data must have the same classes in train/ and val/, got 3 and 2 in .*: red",
        ),
        (
            lambda d: (d / "val/red").rename(d / "val/orange"),
            r"data must have the same classes .* got 3 and 3 in .*; not in both: orange, red",
        ),
        (lambda d: [remove(p) for p in (d / "train").iterdir()], r"data.*/train"),
    ],
)
def test_folders(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    spoil(data)
    error = error_of(capsys, 2, small(data, tmp_path / "run"))
    assert re.fullmatch(message, error), error


def test_a_class_of_one_picture_cannot_be_split(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((data / "train" / "red").iterdir())[1:]:
        path.unlink()
    error = error_of(capsys, 2, small(data / "train", tmp_path / "run"))
    assert error.startswith(
        "data must have at least two pictures a class where a share is held out"
    )


def test_a_batch_of_more_than_there_is(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, 2, small(good, tmp_path / "run", batch_size=25))
    assert error == "--batch-size must be at most the number of training pictures, 24, got 25"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "data"], "-o must name the folder of the run, got none"),
        (
            ["train", "-o", "run"],
            "DATA must be a folder of pictures or module:function, got none, and run holds no run "
            "to go on with",
        ),
    ],
)
def test_arguments_that_are_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"freqops: {message}\n"
    assert not list(tmp_path.iterdir())


# Pictures that cannot be read.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_named_and_skipped(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    spoilt = {
        "train/blue/1.png": cut,
        "train/red/2.png": lambda p: p.write_bytes(b""),
        "train/red/3.png": lambda p: p.write_text("a text"),
        "val/coarse/9.png": cut,
    }
    for name, spoil in spoilt.items():
        spoil(data / name)
    settings = small(data, tmp_path / "run", epochs=3, workers=workers)
    assert main([*flags(settings), "-q"]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("freqops: skipped ")]
    for name in spoilt:
        assert sum(f"skipped {data / name}: " in line for line in lines) == 1, captured.err
    assert len(lines) == 4
    assert ", 4 pictures skipped: " in captured.out
    log = rows(tmp_path / "run" / "log.csv")
    assert [row["skipped"] for row in log] == ["4", "4", "4"]
    for row in log:  # of training pictures, each step still has eight
        assert round(float(row["top1"]) * 24, 6).is_integer()
        assert round(float(row["val_top1"]) * 11, 6).is_integer()


def test_another_picture_is_taken_in_place_of_a_broken_one(data: Path, tmp_path: Path) -> None:
    """Drawn by the seed: two runs, with and without workers, are the same."""
    for number in range(4):
        cut(data / "train" / "red" / f"{number}.png")
    run(data, tmp_path / "a")
    run(data, tmp_path / "b")
    assert_same_runs(tmp_path / "a", tmp_path / "b")


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("place", "workers"),
    [("train/coarse/2.png", 0), ("train/coarse/2.png", 1), ("val/coarse/9.png", 0)],
)
def test_broken_pictures_are_fatal_by_argument(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, workers: int
) -> None:
    cut(data / place)
    settings = small(data, tmp_path / "run", broken="fail", workers=workers)
    error = error_of(capsys, 2, settings)
    assert error.startswith(f"{data / place}: ") and "Traceback" not in error
    assert not (tmp_path / "run" / "network.safetensors").exists()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("train", "pictures in a row cannot be read"),
        ("val", "batches must hold pictures, got none"),
    ],
)
def test_nothing_but_broken_pictures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, words: str
) -> None:
    for path in (data / part).glob("*/*.png"):
        path.write_bytes(b"")
    assert words in error_of(capsys, 2, small(data, tmp_path / "run"))


# Pictures of every kind: the same 8-bit RGB as the upright picture.


def kinds(
    pixels: np.ndarray[Any, np.dtype[np.uint8]],
) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Name of a file -> picture, the pixels that are meant, and how to save it."""
    rgb = Image.fromarray(pixels)
    grey = np.asarray(rgb.convert("L"))
    thrice = np.repeat(grey[..., None], 3, 2)
    palette = rgb.quantize(16)
    clear = np.dstack([pixels, np.where(np.arange(56) < 28, 0, 255)[None].repeat(48, 0)])
    laid = np.where((np.arange(56) < 28)[None, :, None], 255, pixels)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    return {
        "grey.png": (rgb.convert("L"), thrice, {}),
        "palette.png": (palette, np.asarray(palette.convert("RGB")), {}),
        "transparent.png": (Image.fromarray(clear.astype(np.uint8), "RGBA"), laid, {}),
        "deep.png": (deep, thrice, {}),
        "turned.png": (turned, pixels, {"exif": exif}),
        "cmyk.tif": (rgb.convert("CMYK"), np.asarray(rgb.convert("CMYK").convert("RGB")), {}),
    }


def test_pictures_of_every_kind(data: Path, tmp_path: Path) -> None:
    """Grey, CMYK, 16 bits, palette, transparent, turned: each trains as the picture it shows."""
    for label, name in enumerate(CLASSES):
        for title, (shown, meant, how) in kinds(picture(label, 50)).items():
            path = data / "train" / name / title
            shown.save(path, **how)
            seen = PixelView(48, 48, train=False)(path)
            wanted = PixelView(48, 48, train=False)(np.ascontiguousarray(meant, dtype=np.uint8))
            assert torch.equal(seen, wanted), title
        Image.fromarray(picture(label, 51)).convert("CMYK").save(data / "train" / name / "c.jpg")
    count = 3 * (8 + 7)
    result = run(data, tmp_path / "run", broken="fail", batch_size=count, epochs=1)
    assert result.skipped == 0 and result.step == 1
    assert np.isfinite(column(tmp_path / "run" / "log.csv", "loss")).all()


# Losses that are no numbers.


def test_a_loss_that_is_not_finite(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends in that batch, named, with the last checkpoint as it was."""
    from freqops.training import _step

    run(good, tmp_path, epochs=1)
    kept = {
        p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix in (".pt", ".safetensors")
    }
    shown: list[list[int]] = []
    take = _step.Stepper.take

    def spoilt(self: _step.Stepper, step: int, batch: Any) -> torch.Tensor:
        shown.append(batch.numbers)
        if step == STEPS + 1:
            with torch.no_grad():
                next(self.network.parameters()).fill_(float("nan"))
        return take(self, step, batch)

    monkeypatch.setattr(_step.Stepper, "take", spoilt)
    assert main(["train", "-o", str(tmp_path), "--epochs", "3", "-q"]) == 1
    error = capsys.readouterr().err
    samples = sorted(good.glob("train/*/*.png"), key=lambda p: (p.parent.name, p.name))
    named = ", ".join(str(samples[number]) for number in shown[-1][:3])
    assert error == (
        f"freqops: the loss is not finite in batch 2 of 3 of epoch 2 (pictures {named}, ...); "
        f"state.pt in {tmp_path} is from before. A lower learning_rate, warmup_epochs or clip may "
        "help\n"
    )
    assert len(shown) == 2
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert hidden(tmp_path) == []
    last = rows(tmp_path / "steps.csv")[-1]
    assert (last["step"], last["loss"], last["penalty"]) == (str(STEPS + 2), "nan", "0.0")
    monkeypatch.undo()
    assert run(good, tmp_path, epochs=3).finished
    run(good, tmp_path / "whole", epochs=3)
    assert rows(tmp_path / "steps.csv") == rows(tmp_path / "whole" / "steps.csv")


@pytest.mark.parametrize("gate", [False, True])
def test_a_learning_rate_that_is_too_high(good: Path, tmp_path: Path, gate: bool) -> None:
    with pytest.raises(Diverged, match=r"batch [23] of 3 of epoch 1 .*nothing has been saved"):
        run(good, tmp_path, learning_rate=1e30, gate=gate)
    assert not (tmp_path / "state.pt").exists()


def test_parameters_that_are_not_finite(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch had a loss; what it made of the weights is never saved."""
    from freqops.training import _step

    take = _step.Stepper.take

    def spoilt(self: _step.Stepper, step: int, batch: Any) -> torch.Tensor:
        added = take(self, step, batch)
        if step == STEPS - 1:
            with torch.no_grad():
                next(self.network.parameters()).fill_(float("inf"))
        return added

    monkeypatch.setattr(_step.Stepper, "take", spoilt)
    with pytest.raises(Diverged, match=f"parameters are not finite after step {STEPS}; nothing"):
        run(good, tmp_path)
    assert not list(tmp_path.glob("*.safetensors")) and not (tmp_path / "state.pt").exists()


# A disk that is full.

LIMITED = """
import resource, signal, sys
from freqops import models
from freqops.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
save = models.save
def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
def limited(*arguments, **named):
    limit()
    save(*arguments, **named)
if sys.argv[1] == "state.pt":
    limit()
models.save = limited
sys.exit(main(sys.argv[2:]))
"""
"""``freqops`` on a disk on which no file grows beyond 200 kB: from the first, or once the network
is to be saved."""


@pytest.mark.parametrize("name", ["state.pt", "network.safetensors"])
def test_no_room_for_a_file(good: Path, tmp_path: Path, name: str) -> None:
    """What was there is there, complete; with room again the run goes on, and loses nothing."""
    run(good, tmp_path, epochs=1)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    settings = small(good, tmp_path, epochs=2)
    ended = python("-c", LIMITED, name, *flags(settings), "-q")
    assert ended.returncode == 1, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("freqops: "), ended.stderr
    assert str(tmp_path / name) in lines[0]
    for unchanged in {"state.pt", "network.safetensors", "best.safetensors"} - (
        {"state.pt"} if name != "state.pt" else set()
    ):
        assert (tmp_path / unchanged).read_bytes() == kept[unchanged]
    # Before the network is saved the state of the whole epoch has been.
    wanted = STEPS if name == "state.pt" else 2 * STEPS
    assert read_state(tmp_path / "state.pt")["step"] == wanted
    assert hidden(tmp_path) == []
    assert run(good, tmp_path, epochs=2).finished
    run(good, tmp_path / "whole", epochs=2)
    assert_same_runs(tmp_path, tmp_path / "whole")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", ["steps.csv", "log.csv"])
def test_no_room_for_a_row(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run(good, tmp_path, epochs=1)

    def fill() -> None:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("/dev/full")

    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, STEPS + 1, fill)
        error = error_of(capsys, 1, small(good, tmp_path))
    assert error == f"[Errno 28] No space left on device: '{tmp_path / name}'"
    wanted = STEPS if name == "steps.csv" else 2 * STEPS
    assert read_state(tmp_path / "state.pt")["step"] == wanted


def test_a_folder_that_cannot_be_written(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    error = error_of(capsys, 1, small(good, tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in error


# Workers that die.


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_worker_that_is_killed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the system does when memory runs out: a message, not a hang."""
    from freqops.training import _views

    main_process = os.getpid()
    decode = _views.decode

    def dying(path: Any) -> torch.Tensor:
        if os.getpid() != main_process and str(path).endswith("5.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(path)

    monkeypatch.setattr(_views, "decode", dying)
    error = error_of(capsys, 1, small(good, tmp_path / "run", workers=1))
    assert error.startswith("a process that reads pictures has died, perhaps for lack of memory: ")


def test_python_that_fails_in_a_worker_is_no_users_mistake(tmp_path: Path) -> None:
    """An error of another kind keeps its traceback."""
    (tmp_path / "failing_pictures.py").write_text(
        "class Shown:\n"
        "    classes = ['a', 'b']\n"
        "    def __len__(self):\n"
        "        return 8\n"
        "    def __getitem__(self, index):\n"
        "        return {}['missing'], 0\n"
        "def pictures(train):\n"
        "    return Shown()\n"
    )
    settings = small("failing_pictures:pictures", tmp_path / "run", workers=1)
    ended = python("-m", "freqops", *flags(settings), "-q", cwd=tmp_path)
    assert ended.returncode == 1
    assert "KeyError" in ended.stderr and "failing_pictures.py" in ended.stderr


# Settings.


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("data", 3, TypeError),
        ("output", None, TypeError),
        ("val_share", 0, ValueError),
        ("val_share", 0.95, ValueError),
        ("val_share", "x", TypeError),
        ("transform", "gpu", ValueError),
        ("resize", 7, ValueError),
        ("resize", 40.5, TypeError),
        ("crop", 0, ValueError),
        ("crop", True, TypeError),
        ("area", 0, ValueError),
        ("area", 1.5, ValueError),
        ("flip", 1, TypeError),
        ("broken", "ignore", ValueError),
        ("model", 18, TypeError),
        ("new_head", True, ValueError),
        ("layer2_stride", 3, ValueError),
        ("chroma", "4:1:1", ValueError),
        ("rounding", "up", ValueError),
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("batch_size", 1, ValueError),
        ("optimizer", "lion", ValueError),
        ("learning_rate", -0.1, ValueError),
        ("learning_rate", float("nan"), ValueError),
        ("learning_rate", float("inf"), ValueError),
        ("learning_rate", "0.1", TypeError),
        ("gate_learning_rate", -1.0, ValueError),
        ("momentum", 1.1, ValueError),
        ("weight_decay", -1e-4, ValueError),
        ("schedule", "linear", ValueError),
        ("step_epochs", 0, ValueError),
        ("step_factor", 0, ValueError),
        ("warmup_epochs", -1, ValueError),
        ("label_smoothing", 1, ValueError),
        ("clip", -1, ValueError),
        ("amp", "fp8", ValueError),
        ("penalty", -1, ValueError),
        ("penalty_target", 0, ValueError),
        ("penalty_target", 193, ValueError),
        ("penalty_warmup_epochs", -1, ValueError),
        ("tau", 0, ValueError),
        ("tau_end", 0, ValueError),
        ("seed", -1, ValueError),
        ("workers", -1, ValueError),
        ("log_steps", 0, ValueError),
        ("checkpoint_steps", -1, ValueError),
        ("tensorboard", "yes", TypeError),
    ],
)
def test_settings_out_of_their_range(name: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{name} must .*, got "):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 64, "resize": 32}, "crop must be at most resize, 32, got 64"),
        ({"init": "a", "model": "resnet18"}, "model must be left out with init"),
        ({"init": "a", "gate": True}, "gate must be left out with init"),
        ({"init": "a", "weights": "default"}, "weights must be left out with init"),
        ({"transform": "jpeg", "rounding": "jpeg"}, "chroma and rounding must be left out"),
        ({"transform": "jpeg", "flip": False}, "area and flip must be left out"),
        ({"transform": "workers", "spatial": True}, "transform must be device with spatial"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet19"}, "resnet19"),
        ({"model": "timm/no_such"}, "no_such"),
        ({"model": "fasterrcnn_resnet50_fpn"}, "model must classify, got the detector"),
        ({"channels": "0,500"}, "500"),
        ({"channels": "many"}, "channels must be .*, got 'many'"),
        ({"weights": "none_such.pth"}, "weights must be none, default or a file"),
        ({"statistics": "none_such.json"}, "statistics must be own, photographs or a file"),
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_settings_that_nothing_fits(
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    message: str,
) -> None:
    error = error_of(capsys, 2, small(good, tmp_path / "run", **changes))
    assert re.search(message, error), error


@pytest.mark.parametrize("init", ["missing", "folder", "other"])
def test_init_from_something_else(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], init: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").write_bytes(b"x" * 99)
    own = {n: v for n, v in SMALL.items() if n not in ("model", "statistics")}
    given = {"data": str(good), "output": str(tmp_path / "run"), "init": str(tmp_path / init)}
    error = error_of(capsys, 2, Settings.of(own | given, "test"))
    assert str(tmp_path / init) in error


def test_flags_of_the_wrong_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "data", "-o", "run", "--epochs", "many"])
    assert stop.value.code == 2
    assert "argument --epochs: invalid int value: 'many'" in capsys.readouterr().err
