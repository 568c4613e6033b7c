"""The folder of a run; and where it, the data or another process is not as expected."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from training_runs import (
    STEPS,
    environment,
    flags,
    hidden,
    make_pictures,
    rows,
    run,
    small,
    tensors,
)

from freqops import ChannelStatistics, models
from freqops.training import Processes, Settings
from freqops.training._folder import _agree
from freqops.training._interrupt import Interrupts
from freqops.training._processes import _device


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a gate."""
    folder = tmp_path_factory.mktemp("done") / "run"
    run(data, folder, gate=True, tau=2.0, tau_end=0.5)
    return folder


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no groups of processes here")
def test_a_signal_to_the_whole_group_saves(data: Path, tmp_path: Path) -> None:
    """As torchrun, timeout and schedulers send it: loader workers must outlive it."""
    settings = small(data, tmp_path / "run", workers=2, epochs=40)
    process = subprocess.Popen(
        [sys.executable, "-m", "freqops", *flags(settings)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    steps = tmp_path / "run/steps.csv"
    until = time.monotonic() + 60
    while not (steps.exists() and len(rows(steps)) >= 2):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "interrupted after step" in text and "DataLoader" not in text
    assert (tmp_path / "run/state.pt").exists()


def test_an_interrupt_is_not_forgotten() -> None:
    """One that another process got counts once, and a signal right behind it is the same one."""
    with Interrupts() as interrupts:
        interrupts.ask()
        signal.raise_signal(signal.SIGINT)  # within AGAIN seconds: no KeyboardInterrupt
        assert interrupts.asked


@pytest.mark.parametrize("name", ["steps.csv", "log.csv"])
def test_an_empty_table_gets_its_columns_again(data: Path, tmp_path: Path, name: str) -> None:
    """A full disk, or a kill right after it was opened, leaves nothing in it."""
    run(data, tmp_path / "run", epochs=1)
    columns = (tmp_path / "run" / name).read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "run" / name).write_text("")
    for epochs in (2, 3):
        run(data, tmp_path / "run", epochs=epochs)
    lines = (tmp_path / "run" / name).read_text(encoding="utf-8").splitlines()
    assert lines[0] == columns
    assert len(lines) == 1 + (2 * STEPS if name == "steps.csv" else 2)


def test_fewer_epochs_than_are_done(data: Path, done: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "run")
    with pytest.raises(ValueError, match=r"epochs must be at least .* begun, 2, got 1"):
        run(data, folder, gate=True, tau=2.0, tau_end=0.5, epochs=1)


def test_files_of_others_stay(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / ".venv.3").mkdir(parents=True)
    for name in (".mine.2024", ".state.pt.17", ".notes.txt.5"):
        (folder / name).write_text("text")
    run(data, folder, epochs=1)
    assert sorted(hidden(folder)) == [".mine.2024", ".notes.txt.5", ".venv.3"]


def test_a_run_goes_on_without_what_it_began_with(data: Path, done: Path, tmp_path: Path) -> None:
    """The network of its last epoch is enough: --init and RGB weights may be gone."""
    shutil.copytree(done, tmp_path / "first")
    changes = {"init": str(tmp_path / "first"), "model": "resnet50", "statistics": "own"}
    run(data, tmp_path / "run", epochs=1, **changes)
    shutil.rmtree(tmp_path / "first")
    run(data, tmp_path / "run", epochs=2, **changes)
    assert len(rows(tmp_path / "run/log.csv")) == 2


def test_init_brings_its_sizes(data: Path, done: Path, tmp_path: Path) -> None:
    changes = {"model": "resnet50", "statistics": "own", "crop": None, "epochs": 1}
    run(data, tmp_path / "run", init=str(done), resize=36, **changes)
    told = models.about(tmp_path / "run/network.safetensors")
    assert (told["resize"], told["crop"]) == (36, 32)


def test_tau_is_right_after_an_interrupted_validation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that is saved then has had no step in this process."""
    from freqops.training import _loop

    evaluate = _loop.evaluate

    def interrupted(*given: object, **named: object) -> object:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*given, **named)  # type: ignore[arg-type]

    changes = {"gate": True, "tau": 2.0, "tau_end": 0.5, "epochs": 1}
    monkeypatch.setattr(_loop, "evaluate", interrupted)
    assert not run(data, tmp_path / "run", **changes).finished
    assert not run(data, tmp_path / "run", **changes).finished
    monkeypatch.setattr(_loop, "evaluate", evaluate)
    assert run(data, tmp_path / "run", **changes).finished
    assert models.load(tmp_path / "run/network.safetensors").gate.tau == 0.5


def test_statistics_are_written_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: ChannelStatistics, path: Path) -> None:
        Path(path).write_text("{")
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(ChannelStatistics, "save", full)
        with pytest.raises(OSError, match="No space"):
            run(data, tmp_path / "run", statistics="own", epochs=1)
    assert not (tmp_path / "run/statistics.json").exists() and not hidden(tmp_path / "run")
    run(data, tmp_path / "run", statistics="own", epochs=1)
    assert ChannelStatistics.load(tmp_path / "run/statistics.json").count > 0


def test_statistics_of_other_channels(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    ChannelStatistics.photographs().save(file)
    with pytest.raises(
        ValueError, match=r"statistics must be measured with chroma dctnet and rounding none, got"
    ):
        run(data, tmp_path / "run", statistics=str(file), chroma="dctnet")
    zeros, ones = [0.0] * 192, [1.0] * 192
    ChannelStatistics(zeros, ones).save(file)  # given numbers say nothing, and are taken
    run(data, tmp_path / "run", statistics=str(file), chroma="dctnet", epochs=1)


def test_statistics_of_other_crops(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from freqops.cli import main

    file = tmp_path / "measured.json"
    for crop, told in (("32", False), ("64", True)):
        folder = str(data / "train")
        assert main(["stats", folder, "-o", str(file), "--crop", crop, "--workers", "0", "-q"]) == 0
        capsys.readouterr()
        run(data, tmp_path / f"run{crop}", statistics=str(file), epochs=1)
        assert (f"measured on crops of {crop} pixels" in capsys.readouterr().err) == told


def test_what_is_not_given_follows_the_pictures(data: Path, tmp_path: Path) -> None:
    """24 pictures: batches of 2 leave 12 steps; of 4 they would leave 6."""
    run(data, tmp_path / "run", batch_size=0, learning_rate=0.0, epochs=1)
    settings = json.loads((tmp_path / "run/settings.json").read_text(encoding="utf-8"))
    assert (settings["batch_size"], settings["learning_rate"]) == (2, 0.1 * 2 / 256)
    assert len(rows(tmp_path / "run/steps.csv")) == 12
    for count, size in (
        (1, 2),
        (31, 2),
        (32, 4),
        (1000, 64),
        (2047, 128),
        (2048, 256),
        (10**6, 256),
    ):
        assert Settings().resolved(count).batch_size == size
    assert Settings(optimizer="adamw").resolved(100).learning_rate == 1e-3
    assert Settings(batch_size=512).resolved(10**6).learning_rate == 0.2


def test_a_refused_run_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resnet19"):
        run(data, tmp_path / "run", model="resnet19")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="resnet19"):
        run(data, tmp_path / "run", model="resnet19")
    assert (tmp_path / "run").exists()


def test_data_and_the_folder_are_enough_to_go_on(
    data: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from freqops.cli import main

    folder = shutil.copytree(done, tmp_path / "run")
    assert main(["train", str(data), "-o", str(folder), "-q"]) == 0
    assert capsys.readouterr().out.startswith("2 epochs")
    assert main(["train", str(data), "-o", str(folder), "--batch-size", "4"]) == 2
    assert "with --batch-size 8 instead of 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "nothing"], "nothing holds no run to go on with"),
        (["x", "-o", "y", "--init", "z", "--model", "resnet50"], "model must be left out with"),
        (["x", "-o", "y", "--batch-size", "1"], "--batch-size must be at least 2"),
        (["x", "-o", "y"], "found nothing at 'x'"),
    ],
)
def test_what_is_said_has_the_names_of_flags(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from freqops.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unknown_flags_get_the_usage_of_their_command(capsys: pytest.CaptureFixture[str]) -> None:
    from freqops.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["predict", "run", "pictures", "--modle", "resnet18"])
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("usage: freqops predict") and "--modle resnet18" in text


@pytest.mark.skipif(not hasattr(os, "umask"), reason="no umask here")
def test_others_may_read_what_they_usually_may(done: Path) -> None:
    """safetensors makes files that only their owner reads."""
    mask = os.umask(0)
    os.umask(mask)
    for name in ("network.safetensors", "best.safetensors", "state.pt", "settings.json"):
        assert (done / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_one_class(tmp_path: Path) -> None:
    make_pictures(tmp_path / "data")
    for part in ("train", "val"):
        for name in ("coarse", "red"):
            shutil.rmtree(tmp_path / "data" / part / name)
    with pytest.raises(ValueError, match=r"at least two classes, got blue alone"):
        run(tmp_path / "data", tmp_path / "run")


def test_a_target_of_more_channels_than_there_are(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"penalty_target must be at most the 24 channels .* 100"):
        run(data, tmp_path / "run", gate=True, channels="24", penalty_target=100.0)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_weights_that_are_none(data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"neither a pickle nor a header")
    with pytest.raises(ValueError, match=f"weights must be a state dict, got .*{re.escape(name)}"):
        run(data, tmp_path / "run", weights=str(tmp_path / name))


def test_damaged_settings_are_named(data: Path, done: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "run")
    (folder / "settings.json").write_text("[1")
    with pytest.raises(ValueError, match=r"config .*settings\.json"):
        run(data, folder, gate=True)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_more_than_one_output(data: Path, tmp_path: Path, name: str) -> None:
    """In training torchvision gives them scores beside the scores: they are left out."""
    crop = {"googlenet": 64, "inception_v3": 320}[name]
    changes = {"model": name, "crop": crop, "resize": crop, "batch_size": 2}
    settings = small(data, tmp_path / "run", gate=True, epochs=1, **changes)
    from freqops.training._build import network_of

    network = network_of(settings, 3, ChannelStatistics.photographs(), lambda text: None)
    pixels = torch.zeros(2, 3, crop, crop, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        scores, gate = network.train()(pixels)
    assert scores.shape == (2, 3) and gate.shape == (2, 192)


class Others(Processes):
    """Two processes, of which the other has seen something else."""

    def everyones(self, value: object) -> list[object]:
        return [value, (*value[:2], 7, *value[3:])]  # type: ignore[index]


def test_processes_that_see_other_pictures(data: Path) -> None:
    from freqops.training._data import open_data

    pictures = open_data(str(data))
    with pytest.raises(ValueError, match=r"every process must see the same .* in process 1"):
        _agree(pictures, 3, None, Others(0, 2, torch.device("cpu")))
    _agree(pictures, 3, None, Processes(0, 1, torch.device("cpu")))


def test_one_gpu_for_several_processes() -> None:
    with pytest.raises(ValueError, match=r"device must be cuda under torchrun"):
        _device("cuda:1", 0)


def test_code_that_a_file_names_is_not_run(done: Path, tmp_path: Path) -> None:
    from freqops.training._network import open_network
    from freqops.training._validation import validation_pictures

    network, about = open_network(done)
    path = tmp_path / "x.safetensors"
    models.save(network, path, about=about.content() | {"data": "antigravity:open"})
    _, about = open_network(path)
    with pytest.raises(ValueError, match=r"DATA must be given: the network names antigravity:open"):
        validation_pictures(about)


class Strange:
    """A data set whose element 5 is no picture, and has no path."""

    classes = ("a", "b")

    def __init__(self, train: bool) -> None:
        self.train = train

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[object, int]:
        if index == 5:
            raise ValueError("no picture")
        value = 200 * (index % 2)
        return torch.full((3, 48, 48), value, dtype=torch.uint8), index % 2


def test_broken_pictures_of_python_data_are_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured, trained and validated: by their number, those of training and validation apart."""
    module = type(sys)("strange_pictures")
    module.pictures = Strange  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "strange_pictures", module)
    result = run("strange_pictures:pictures", tmp_path / "run", statistics="own")
    told = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert sorted(told) == [
        "freqops: skipped training picture 5: no picture",
        "freqops: skipped validation picture 5: no picture",
    ]
    assert result.skipped == 2


def test_settings_of_a_file_serve_init(
    data: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes a network, and a head that was drawn anew for it, is not taken from the file."""
    from freqops.cli import main

    settings = asdict(small(data, tmp_path / "other", gate=True, epochs=1))
    settings |= {"init": str(tmp_path / "gone"), "new_head": True}
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings))
    given = ["train", "--config", str(file), "--init", str(done), "-o", str(tmp_path / "run")]
    assert main([*given, "--learning-rate", "1e-12", "-q"]) == 0, capsys.readouterr().err
    before, after = tensors(done), tensors(tmp_path / "run")
    head = [name for name in before if name.endswith("fc.weight")]
    assert head and all(torch.allclose(before[name], after[name]) for name in head)
