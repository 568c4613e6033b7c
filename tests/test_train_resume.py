"""freqops train interrupted and killed: what comes of it is what an uninterrupted run gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_runs import (
    STEPS,
    after_step,
    assert_same_runs,
    column,
    environment,
    flags,
    hidden,
    make_pictures,
    rows,
    run,
    signalled,
    small,
    tensors,
)

from freqops.cli import main
from freqops.training import Result

# Everything that a run keeps between two steps: gate samples, dropout's seed, momentum, schedules.
GATED = {
    "gate": True,
    "penalty": 0.1,
    "epochs": 3,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "tau_end": 0.5,
    "penalty_warmup_epochs": 2.0,
}


@pytest.fixture(autouse=True)
def _missed() -> Iterator[None]:
    """A signal that training does not take fails its test, and does not end all others."""

    def fail(number: int, frame: object) -> None:
        raise AssertionError(f"signal {number} was not taken")

    before = {n: signal.signal(n, fail) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert run(data, output, **GATED).finished
    return output


# In epoch 2 behind a checkpoint in its midst; and before there is any.
@pytest.mark.parametrize(("step", "checkpoints"), [(5, 2), (2, 0)])
def test_sigkill_and_the_same_command(
    data: Path, whole: Path, tmp_path: Path, step: int, checkpoints: int
) -> None:
    settings = small(data, tmp_path, **GATED, checkpoint_steps=checkpoints)
    died = signalled(step, "SIGKILL", [*flags(settings), "-q"])
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert column(tmp_path / "steps.csv", "step")[-1] == step
    assert main([*flags(settings), "-q"]) == 0
    assert_same_runs(tmp_path, whole)
    assert hidden(tmp_path) == []


def test_sigkill_at_any_moment(data: Path, whole: Path, tmp_path: Path) -> None:
    """From outside, with loader workers, wherever it is once steps.csv has two rows."""
    settings = small(data, tmp_path, **GATED, workers=2)
    command = [sys.executable, "-m", "freqops", *flags(settings), "-q"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
    written = tmp_path / "steps.csv"
    end = time.monotonic() + 60
    while not (written.exists() and len(written.read_bytes().splitlines()) > 2):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert main(["train", "-o", str(tmp_path), "-q", "--workers", "0"]) == 0
    assert_same_runs(tmp_path, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    command = flags(small(data, tmp_path, **GATED))
    with monkeypatch.context() as patch:
        after_step(patch, STEPS + 1, lambda: signal.raise_signal(number))
        assert main(command) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == (
        f"freqops: interrupted after step {STEPS + 1}; the same command goes on: {tmp_path}"
    )
    before = (tmp_path / "steps.csv").read_bytes()
    assert len(before.splitlines()) == 1 + STEPS + 1
    assert main(command) == 0
    assert f"going on after step {STEPS + 1} of {3 * STEPS}" in capsys.readouterr().err
    assert (tmp_path / "steps.csv").read_bytes().startswith(before)
    assert_same_runs(tmp_path, whole)


# The first and the last step of an epoch, and that of the run.
@pytest.mark.parametrize("step", [1, STEPS, 3 * STEPS])
def test_interrupts_lose_nothing_at_the_ends_of_epochs(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        after_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        result = run(data, tmp_path, **GATED)
    assert (result.finished, result.step) == (False, step)
    assert result.epoch == (step - 1) // STEPS
    assert not (tmp_path / "log.csv").exists() or len(rows(tmp_path / "log.csv")) == result.epoch
    assert run(data, tmp_path, **GATED).finished
    assert_same_runs(tmp_path, whole)


def test_interrupted_again_and_again(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies after each of its steps, and goes on, is one run."""
    for step in range(1, 3 * STEPS + 1):
        with monkeypatch.context() as patch:
            after_step(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
            assert run(data, tmp_path, **GATED).step == step
    assert run(data, tmp_path, **GATED).finished
    assert_same_runs(tmp_path, whole)


def test_a_second_ctrl_c_means_at_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freqops.training import _interrupt

    monkeypatch.setattr(_interrupt, "AGAIN", 0.0)

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    after_step(monkeypatch, 2, twice)
    before = signal.getsignal(signal.SIGINT)
    assert main([*flags(small(data, tmp_path)), "-q"]) == 130
    assert not (tmp_path / "state.pt").exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_make_no_difference(data: Path, whole: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path, **GATED, workers=2).finished
    assert_same_runs(tmp_path, whole)


def test_the_seed_makes_a_difference(data: Path, whole: Path, tmp_path: Path) -> None:
    run(data, tmp_path, **GATED, seed=1)
    assert column(tmp_path / "steps.csv", "loss")[0] != column(whole / "steps.csv", "loss")[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "resnet18"),
        ("learning_rate", 0.02),
        ("batch_size", 6),
        ("seed", 1),
        ("gate", False),
        ("crop", 24),
        ("penalty", 0.2),
        ("tau_end", 0.7),
    ],
)
def test_other_settings_are_another_run(
    data: Path, whole: Path, capsys: pytest.CaptureFixture[str], name: str, value: object
) -> None:
    files = {path: path.read_bytes() for path in whole.iterdir()}
    given = flags(small(data, whole, **{**GATED, name: value}))
    if name == "gate":
        given.append("--no-gate")  # what is left out is as it was
    assert main([*given, "-q"]) == 2
    error = capsys.readouterr().err
    flag = f"--{name.replace('_', '-')}" if "_" in name else name
    assert f"has another with {flag} " in error and f"instead of {value!r}" in error
    assert {path: path.read_bytes() for path in whole.iterdir()} == files


def test_other_classes_are_another_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_pictures(tmp_path / "other")
    for part in ("train", "val"):
        (other / part / "red").rename(other / part / "orange")
    assert main([*flags(small(other, whole, **GATED)), "-q"]) == 2
    assert "data must have the 3 classes of the run" in capsys.readouterr().err


def test_settings_of_a_run_without_checkpoint_may_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins anew, with statistics of its own pictures: nothing is left of the one before."""

    def stop() -> None:
        raise KeyboardInterrupt

    own = {"statistics": "own", "epochs": 1}
    with monkeypatch.context() as patch:
        after_step(patch, 2, stop)
        assert main([*flags(small(data, tmp_path / "a", **own)), "-q"]) == 130
    changed = {**own, "resize": 24, "crop": 16, "seed": 1}
    for name in ("a", "b"):
        run(data, tmp_path / name, **changed)
    read = [(tmp_path / name / "statistics.json").read_text() for name in ("a", "b")]
    assert read[0] == read[1]
    assert_same_runs(tmp_path / "a", tmp_path / "b")


def test_a_finished_run_is_left_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(data, tmp_path, epochs=1)
    assert done == Result(True, 1, STEPS, done.top1, 0)
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.suffix != ".json"}
    after_step(monkeypatch, STEPS + 1, lambda: pytest.fail("another step"))
    assert main(["train", "-o", str(tmp_path)]) == 0
    said = f"1 epoch, validation top-1 {done.top1:.1%}: {tmp_path}"
    assert capsys.readouterr().out.splitlines()[-1] == said
    after = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.suffix != ".json"}
    # Rows behind the state are looked for, and the logs written anew: with the same rows.
    assert {n: t for n, t in after.items() if not n.endswith(".csv")} == {
        n: t for n, t in kept.items() if not n.endswith(".csv")
    }
    assert len(rows(tmp_path / "steps.csv")) == STEPS and len(rows(tmp_path / "log.csv")) == 1


def test_more_epochs(data: Path, tmp_path: Path) -> None:
    """With a rate that does not depend on their number, it is as if they had been asked for."""
    run(data, tmp_path / "a", epochs=1)
    assert main(["train", "-o", str(tmp_path / "a"), "--epochs", "2", "-q"]) == 0
    assert json.loads((tmp_path / "a" / "settings.json").read_text())["epochs"] == 2
    run(data, tmp_path / "b", epochs=2)
    assert_same_runs(tmp_path / "a", tmp_path / "b")


def test_a_run_can_be_moved(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        after_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        run(data, tmp_path / "a", epochs=1)
    os.rename(tmp_path / "a", tmp_path / "b")
    assert main(["train", "-o", str(tmp_path / "b"), "-q"]) == 0
    assert not (tmp_path / "a").exists()
    assert tensors(tmp_path / "b")


@pytest.mark.parametrize("damage", ["cut", "other", "none"])
def test_a_damaged_state_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    run(data, tmp_path, epochs=1)
    state = tmp_path / "state.pt"
    content = state.read_bytes()
    state.write_bytes(
        {"cut": content[: len(content) // 2], "other": b"x" * 99, "none": b""}[damage]
    )
    assert main(["train", "-o", str(tmp_path), "--epochs", "2"]) == 2
    error = capsys.readouterr().err
    assert f"{state} must be the state of a training run" in error and len(error.splitlines()) == 1
