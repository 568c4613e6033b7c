"""freqops train by two processes: the numbers of one within rounding, and no hang when one dies."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from training_runs import (
    CLASSES,
    SIGNALLED,
    STEPS,
    VAL,
    Image,
    column,
    environment,
    flags,
    hidden,
    make_pictures,
    picture,
    python,
    rows,
    run,
    small,
    tensors,
)

from freqops.training import Processes, train

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

# Relative: sums of a batch are taken in two parts, float32 rounds at 6e-8 each time, and steps of
# SGD through a dozen layers of BatchNorm make of it what they make of any difference.
ROUNDING = 5e-4

TRAINED = """
import json, sys, torch
torch.set_num_threads(1)
from freqops.training import Settings, join, train
with join("cpu") as processes:
    assert processes.count == 2
    for settings in json.loads(sys.argv[1]):
        train(Settings(**settings), processes, quiet=True)
"""
"""Several runs by the processes that torchrun's environment names."""

IN_VALIDATION = """
import os, signal, sys
from freqops.cli import main
from freqops.training._log import Log
track = Log.track
def signalled(self, batches, total, what):
    for batch in track(self, batches, total, what):
        yield batch
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
Log.track = signalled
sys.exit(main(sys.argv[1:]))
"""
"""``freqops`` whose second process gets a signal when it has validated a batch."""

RUNS = {
    "sgd": {"statistics": "own"},
    "adamw": {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.5,
        "clip": 1.0,
        "gate": True,
        "transform": "workers",
        "label_smoothing": 0.1,
    },
    "gate": {"gate": True, "penalty": 50.0, "gate_learning_rate": 1.0, "schedule": "cosine"},
    "target": {"gate": True, "penalty": 50.0, "gate_learning_rate": 1.0, "penalty_target": 24.0},
}


def pair(*arguments: str, timeout: float = 60, **extra: str) -> list[tuple[int, str, str]]:
    """Two processes with the environment that torchrun gives: exit code, output, errors of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **extra}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
        )
        for rank in (0, 1)
    ]
    end = time.monotonic() + timeout
    ended = []
    try:
        for process in started:
            out, err = process.communicate(timeout=max(1.0, end - time.monotonic()))
            ended.append((process.returncode, out, err))
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return ended


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an odd number of pictures in val/: one process has more of them."""
    root = make_pictures(tmp_path_factory.mktemp("data"))
    Image.fromarray(picture(2, 30)).save(root / "val" / "red" / "30.png")
    return root


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that cannot be read: a quarter of those in train/, which both processes meet."""
    root = make_pictures(tmp_path_factory.mktemp("broken"))
    for place in (*(f"train/blue/{number}.png" for number in range(6)), "val/red/9.png"):
        (root / place).write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def trained(data: Path, broken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of runs by two processes, and by one below one/."""
    root = tmp_path_factory.mktemp("runs")
    sets = dict.fromkeys(RUNS, data) | {"broken": broken, "apart": data}
    changes = RUNS | {"broken": {}, "apart": {"sync_batchnorm": False, "epochs": 1}}
    words = [asdict(small(sets[name], root / name, **changes[name])) for name in sets]
    for code, _, error in pair("-c", TRAINED, json.dumps(words), timeout=150):
        assert code == 0, error
    for name in sets:
        run(sets[name], root / "one" / name, **changes[name])
    return root


@pytest.mark.parametrize("name", [*RUNS, "broken"])
def test_two_processes_are_one(trained: Path, name: str) -> None:
    one, two = trained / "one" / name, trained / name
    for title in ("loss", "penalty", "channels_on", "learning_rate"):
        a, b = (column(folder / "steps.csv", title) for folder in (one, two))
        assert a == pytest.approx(b, rel=ROUNDING), title
    a, b = rows(one / "log.csv"), rows(two / "log.csv")
    for title in ("step", "epoch", "skipped", "val_top5"):
        assert [row[title] for row in a] == [row[title] for row in b], title
    for title in ("loss", "penalty", "val_loss"):
        # The last batch norms of a validation are further from the first step than any loss.
        assert column(one / "log.csv", title) == pytest.approx(
            column(two / "log.csv", title), rel=10 * ROUNDING
        ), title
    assert column(one / "log.csv", "val_top1") == pytest.approx(
        column(two / "log.csv", "val_top1"), abs=1.01 / (VAL * len(CLASSES))
    )
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    for key, weight in first.items():
        if weight.dim() > 1:
            assert (weight - second[key]).norm() <= 1e-3 * weight.norm() + 1e-6, key


def test_without_synchronised_batchnorm_they_are_not(trained: Path) -> None:
    """So that the test above sees what it is there to see."""
    one, two = (column(f / "apart" / "steps.csv", "loss") for f in (trained / "one", trained))
    assert one[0] != pytest.approx(two[0], rel=10 * ROUNDING)


def test_torchrun(data: Path, tmp_path: Path, trained: Path) -> None:
    """The command of the help; the main process alone writes and speaks."""
    settings = small(data, tmp_path / "run", **RUNS["gate"])
    ran = python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "freqops", *flags(settings)),
    )
    assert ran.returncode == 0, ran.stderr
    top1 = column(tmp_path / "run" / "log.csv", "val_top1")[-1]
    assert ran.stdout == f"2 epochs, validation top-1 {top1:.1%}: {tmp_path / 'run'}\n"
    assert len(re.findall("^epoch +1 ", ran.stderr, re.M)) == 1
    loss = column(tmp_path / "run" / "steps.csv", "loss")
    assert loss == column(trained / "gate" / "steps.csv", "loss")
    assert hidden(tmp_path / "run") == []


def test_one_dies_and_the_other_leaves(data: Path, tmp_path: Path, trained: Path) -> None:
    """With an error, soon; and one process goes on from the last checkpoint."""
    settings = small(data, tmp_path, **RUNS["gate"], checkpoint_steps=2)
    began = time.monotonic()
    died = pair("-c", SIGNALLED, "5", "SIGKILL", *flags(settings), "-q", SIGNALLED_RANK="1")
    assert died[1][0] == -signal.SIGKILL
    assert died[0][0] == 1 and time.monotonic() - began < 50
    error = died[0][2].splitlines()
    assert error[-1].startswith("freqops: another process has ended"), died[0][2]
    assert "Traceback" not in died[0][2]
    assert hidden(tmp_path) == []
    assert run(data, tmp_path, **RUNS["gate"], checkpoint_steps=2).finished
    loss, whole = (column(folder / "steps.csv", "loss") for folder in (tmp_path, trained / "gate"))
    assert loss[:4] == whole[:4] and loss == pytest.approx(whole, rel=ROUNDING)


def test_a_signal_to_one_ends_both(data: Path, tmp_path: Path, trained: Path) -> None:
    settings = small(data, tmp_path, **RUNS["gate"])
    ended = pair("-c", SIGNALLED, str(STEPS + 1), "SIGTERM", *flags(settings), SIGNALLED_RANK="1")
    assert [code for code, _, _ in ended] == [130, 130], ended
    assert f"interrupted after step {STEPS + 1}" in ended[0][2]
    assert "interrupted" not in ended[1][2]
    assert run(data, tmp_path, **RUNS["gate"]).finished
    loss, whole = (column(folder / "steps.csv", "loss") for folder in (tmp_path, trained / "gate"))
    assert len(loss) == 2 * STEPS
    assert loss[: STEPS + 1] == whole[: STEPS + 1]
    assert loss == pytest.approx(whole, rel=ROUNDING)


def test_a_signal_to_one_in_validation_ends_both(data: Path, tmp_path: Path, trained: Path) -> None:
    """Neither waits for sums that the other never sends."""
    settings = small(data, tmp_path, **RUNS["gate"])
    ended = pair("-c", IN_VALIDATION, *flags(settings))
    assert [code for code, _, _ in ended] == [130, 130], ended
    assert column(tmp_path / "steps.csv", "step")[-1] == STEPS
    assert not (tmp_path / "log.csv").exists()
    assert run(data, tmp_path, **RUNS["gate"]).finished
    loss, whole = (column(folder / "log.csv", "loss") for folder in (tmp_path, trained / "gate"))
    assert loss == pytest.approx(whole, rel=ROUNDING)


def test_a_batch_that_cannot_be_shared(data: Path, tmp_path: Path) -> None:
    """Each process says so by itself, before it waits for another."""
    alone = Processes(0, 2, torch.device("cpu"))
    message = "batch_size must be a multiple of the number of processes, 2, got 5"
    with pytest.raises(ValueError, match=message):
        train(small(data, tmp_path / "run", batch_size=5), alone, quiet=True)


def test_an_error_in_one_process_ends_both(data: Path, tmp_path: Path) -> None:
    """A picture that only the second process reads first cannot be read."""
    root = make_pictures(tmp_path / "data")
    generator = torch.Generator().manual_seed(order_seed())
    first = torch.randperm(8 * len(CLASSES), generator=generator).tolist()[7]
    label, number = divmod(first, 8)
    (root / "train" / CLASSES[label] / f"{number}.png").write_bytes(b"no picture")
    settings = small(root, tmp_path / "run", broken="fail")
    ended = pair("-m", "freqops", *flags(settings), "-q")
    assert ended[1][0] == 2 and ended[0][0] == 1, ended
    assert f"{CLASSES[label]}/{number}.png: cannot identify its format" in ended[1][2]
    assert ended[0][2].splitlines()[-1].startswith("freqops: another process has ended")


def order_seed() -> int:
    """Of the first epoch's order with seed 0."""
    from freqops.training._seeds import seed_of

    return seed_of(0, "order", 0)
