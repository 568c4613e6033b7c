"""README from a folder of pictures to a frozen network: its own commands, with two processes.

The crops of docs/crops.py, one class a photograph, split by image region. The commands are README's
with flags behind them that make them shorter: 48 x 48 pixels, half of the crops, 5 epochs. The
numbers asserted are far from chance, 1 / 17, and from what these settings reach, 0.6.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from freqops import ChannelStatistics, GateStatistics, models
from freqops.channels import ChannelSelection
from freqops.data import preprocess

for module in ("torchvision", "timm", "skimage", "matplotlib", "safetensors", "tqdm", "PIL"):
    pytest.importorskip(module)

ROOT = Path(__file__).parents[1]

SHORTER = {
    "docs/crops.py": ["--train", "48"],
    "train crops -o run": [
        *("--resize", "48", "--crop", "48", "--epochs", "5", "--gate-learning-rate", "0.1"),
        *("--penalty", "1", "--workers", "1", "--seed", "1", "--statistics", "stats.json"),
    ],
    "select": ["--workers", "1"],
    "freeze": ["--workers", "1"],
    "train crops -o fine": ["--epochs", "1", "--workers", "1"],
}
"""What is put behind the command that holds these words."""


def commands() -> list[list[str]]:
    """The first block of commands in README's section, as words."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("### Train, look, select")[1]
    lines = section.split("[![")[0].splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("    ")]
    found = [line for line in words if line]
    assert [line[0] for line in found] == ["python", *["freqops"] * 4]
    for line in found:
        (key,) = [key for key in SHORTER if key in " ".join(line)]
        line += SHORTER[key]
    return found


def run(*words: object, processes: int = 1, folder: Path) -> str:
    """What a command prints on stdout; it must succeed."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*launcher, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def freqops(*words: object, processes: int = 1, folder: Path) -> str:
    return run("-m", "freqops", *words, processes=processes, folder=folder)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_from_pictures_to_a_frozen_network(tmp_path: Path) -> None:
    make, train, select, freeze, further = commands()
    run(ROOT / make[1], *make[2:], folder=tmp_path)

    sizes = ["--crop", "48", "--area", "0.25"]
    freqops("stats", "crops/train", "-o", "stats.json", *sizes, "-q", processes=2, folder=tmp_path)
    measured = ChannelStatistics.load(tmp_path / "stats.json")
    classes = len(list((tmp_path / "crops/train").iterdir()))
    assert measured.count == classes * 48 * 6 * 6

    freqops(*train[1:], processes=2, folder=tmp_path)
    log = rows(tmp_path / "run/log.csv")
    assert len(log) == 5
    gated = float(log[-1]["val_top1"])
    assert gated > 0.4
    assert float(log[-1]["val_loss"]) < float(log[0]["val_loss"])

    text = freqops(*select[1:], folder=tmp_path)
    counts = GateStatistics.load(tmp_path / "run/gate.json")
    assert counts.count == classes * 16
    assert (counts.rates >= 0.9).sum() >= 8  # the gate separates channels
    assert (counts.rates <= 0.1).sum() >= 90
    selection = ChannelSelection.load(tmp_path / "run/selection.json")
    assert selection == counts.selection(keep=24)
    assert f"{100 * gated:.2f} %" in text
    for name in ("heat_maps.png", "bar_chart.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")

    text = freqops(*freeze[1:], folder=tmp_path)
    frozen = models.load(tmp_path / "run/frozen-24.safetensors")
    assert frozen.gate is None
    assert set(frozen.recipe.kept) == set(selection)
    suggested = shlex.split(text.splitlines()[-1])
    assert suggested[:4] == ["freqops", "train", "--config", "run/settings.json"]
    assert suggested[4:6] == ["--init", "run/frozen-24.safetensors"]

    freqops(*further[1:], processes=2, folder=tmp_path)
    freqops("evaluate", "fine", "--json", "fine.json", "--workers", "1", folder=tmp_path)
    report = json.loads((tmp_path / "fine.json").read_text(encoding="utf-8"))
    assert report["top1"] == pytest.approx(float(rows(tmp_path / "fine/log.csv")[-1]["val_top1"]))
    assert report["top1"] > 0.4
    assert report["channels"] == 24

    predict = ["predict", "fine", "crops/val/retina", "--json", "labels.json", "--workers", "0"]
    freqops(*predict, folder=tmp_path)
    pictures = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))["pictures"]
    assert len(pictures) == 16
    likeliest = pictures[0]["classes"][0]
    # The network itself says the same of the first.
    network = models.load(tmp_path / "fine/network.safetensors")
    about = models.about(tmp_path / "fine/network.safetensors")
    with torch.no_grad():
        pixels = preprocess((about["resize"], about["crop"]))(tmp_path / pictures[0]["picture"])
        scores = network(pixels[None])[0].softmax(0)
    assert likeliest["class"] == about["classes"][int(scores.argmax())]
    assert likeliest["score"] == pytest.approx(float(scores.max()), rel=1e-4)
