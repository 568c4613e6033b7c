"""evaluate, select, freeze and predict on a finished network: a ResNet-18 and few pictures."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from freqops.channels import ChannelSelection
from freqops.cli import main
from freqops.gate_statistics import GateStatistics

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("tqdm", reason="tqdm is not installed")

from freqops import models  # noqa: E402
from freqops.commands import select  # noqa: E402
from freqops.data import read_image  # noqa: E402
from freqops.training._network import (  # noqa: E402
    About,
    network_file,
    open_network,
)
from freqops.training._validation import read_gates, validation_pictures  # noqa: E402
from freqops.training._views import view_of  # noqa: E402

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")
OPEN = ChannelSelection([0, 1, 8, 9, 64, 128])
RESIZE, CROP = 40, 32


def noise(seed: int, height: int = 44, width: int = 52) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def save_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed).permute(1, 2, 0).numpy()).save(path)


def about(data: str = "", **others: object) -> dict[str, object]:
    return About(CLASSES, RESIZE, CROP, data).content() | others


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, two pictures a class in val/, and run/, a gated network."""
    folder = tmp_path_factory.mktemp("made")
    for number, label in enumerate(CLASSES):
        for part in ("train", "val"):
            for i in range(2):
                place = folder / "data" / part / label / f"{i}.{('png', 'jpg')[i]}"
                save_picture(place, 10 * number + i)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.resnet18(gate=True, num_classes=len(CLASSES)).eval()
    for values in network.parameters():
        values.requires_grad_(False)
    # Scores of random layers grow by a factor of 30; softmax and ranks want them near 1.
    network.network.fc.weight.mul_(0.05)
    only(network, OPEN)
    (folder / "run").mkdir()
    models.save(network, folder / "run" / "network.safetensors", about=about(str(folder / "data")))
    return folder


def only(network: torch.nn.Module, selection: ChannelSelection) -> None:
    """Lets the gate open these channels in every picture, and no other."""
    bias = network.gate.logits.bias.view(-1, 2)
    network.gate.logits.weight.zero_()
    bias[:, 0], bias[:, 1] = 2.0, 0.1
    bias[list(selection.indices), 1] = 4.0


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run of its own, with the network of ``made``."""
    (tmp_path / "run").mkdir()
    os.link(made / "run" / "network.safetensors", tmp_path / "run" / "network.safetensors")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`freeze` runs both networks once instead of for seconds."""
    monkeypatch.setattr("freqops.models._freeze.TIMED_RUNS", (1, 1))


@pytest.fixture
def edited(run: Path) -> Callable[[Callable[[torch.nn.Module], object]], None]:
    """Changes the network of ``run``."""

    def edit(change: Callable[[torch.nn.Module], object]) -> None:
        path = run / "network.safetensors"
        known = models.about(path)
        network = models.load(path)
        with torch.no_grad():
            change(network)
        models.save(network, path, about=known)

    return edit


def outputs(network: torch.nn.Module, paths: list[Path]) -> Tensor:
    """Scores of pictures one by one, by hand."""
    view = view_of(network, "device", RESIZE, CROP)
    with torch.no_grad():
        found = [network(view(path)[None]) for path in paths]
    return torch.cat([out[0] if isinstance(out, tuple) else out for out in found])


def rows(text: str) -> dict[str, str]:
    return {line[:12].strip(): line[12:] for line in text.splitlines()}


# evaluate


def test_evaluate_prints_accuracy_beside_what_it_costs(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [path for path, _ in validation_pictures(open_network(made / "run")[1])[1]]
    network = models.load(made / "run" / "network.safetensors")
    scores = outputs(network, [Path(path) for path in paths])
    labels = torch.arange(len(CLASSES)).repeat_interleave(2)
    top1 = (scores.argmax(1) == labels).double().mean().item()
    top5 = (scores.topk(5).indices == labels[:, None]).any(1).double().mean().item()

    wanted = ["evaluate", str(made / "run"), "--workers", "0", "--batch-size", "5"]
    assert main([*wanted, "--json", str(tmp_path / "new" / "found.json")]) == 0
    out, err = capsys.readouterr()
    found = rows(out)
    assert found["network"] == str(made / "run" / "network.safetensors")
    assert found["data"] == f"{made / 'data'}, val"
    assert found["pictures"] == "12"
    assert found["top-1"] == f"{100 * top1:.2f} %"
    assert found["top-5"] == f"{100 * top5:.2f} %"
    assert found["channels"] == "192, of which the gate holds 6.00 open a picture"
    summary = models.summarize(network, CROP)
    assert found["input"] == f"192 x 4 x 4, {summary.input_size:.3f} of 3 x 224 x 224"
    assert found["parameters"] == f"{summary.parameters:,}, and 38,208 of the gate"
    assert found["GMAC"] == f"{summary.gmacs:.4f}"
    assert float(found["images/s"].split(";")[0]) > 0
    assert err == ""
    numbers = json.loads((tmp_path / "new" / "found.json").read_text())
    loss = torch.nn.functional.cross_entropy(scores, labels).item()
    assert (numbers["pictures"], numbers["top1"], numbers["top5"]) == (12, top1, top5)
    assert numbers["loss"] == pytest.approx(loss, rel=1e-4)
    assert (numbers["channels_on"], numbers["gmac"]) == (6, summary.gmacs)


def test_evaluate_transforms_where_it_is_told(made: Path, tmp_path: Path) -> None:
    found = {}
    for transform in ("device", "workers", "jpeg"):
        path = tmp_path / f"{transform}.json"
        wanted = ["evaluate", str(made / "run"), "--transform", transform, "--workers", "0"]
        assert main([*wanted, "--json", str(path)]) == 0
        found[transform] = json.loads(path.read_text())
    device, workers, jpeg = found.values()
    assert workers["top1"] == device["top1"]
    assert workers["loss"] == pytest.approx(device["loss"], rel=1e-4)
    # Scaled by eighths instead of pixels.
    assert jpeg["loss"] != pytest.approx(device["loss"], rel=1e-4)
    assert jpeg["pictures"] == 12


def test_evaluate_on_other_pictures_goes_by_the_names_of_classes(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, known = open_network(made / "run")
    for label in ("dog", "bee"):
        shutil.copytree(made / "data" / "val" / label, tmp_path / "some" / label)
    words, samples = validation_pictures(known, str(tmp_path / "some"))
    assert words == f"{tmp_path / 'some'}, all of it"
    assert [samples[i][1] for i in range(len(samples))] == [1, 1, 3, 3]
    assert main(["evaluate", str(made / "run"), str(tmp_path / "some"), "--workers", "0"]) == 0
    assert rows(capsys.readouterr().out)["pictures"] == "4"

    (tmp_path / "some" / "dog").rename(tmp_path / "some" / "emu")
    assert main(["evaluate", str(made / "run"), str(tmp_path / "some")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "freqops: DATA must have the classes of the network, 6 of them, got 2, "
        "of which it has 1 not: emu (in "
    )


def test_validation_pictures_are_those_of_the_training(made: Path, tmp_path: Path) -> None:
    from freqops.training._data import open_data

    flat = str(made / "data" / "val")
    known = About(CLASSES, RESIZE, CROP, flat, val_share=0.5, seed=7)
    words, held_out = validation_pictures(known)
    assert words == f"{flat}, held out of training"
    assert held_out == open_data(flat, 0.5, 7).val and len(held_out) == 6
    assert validation_pictures(known, flat)[1] == held_out  # named again
    other = shutil.copytree(flat, tmp_path / "other")
    assert len(validation_pictures(known, str(other))[1]) == 12
    assert len(validation_pictures(known, str(made / "data"))[1]) == 12  # its val/ alone
    with pytest.raises(ValueError, match="DATA must be given: gone, of the network's training"):
        validation_pictures(About(CLASSES, RESIZE, CROP, "gone"))
    with pytest.raises(ValueError, match="DATA must be given: the network does not say"):
        validation_pictures(About(CLASSES, RESIZE, CROP))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_picture_is_skipped_or_the_end(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    data = shutil.copytree(made / "data" / "val", tmp_path / "data")
    bad = data / "cat" / "bad.png"
    bad.write_bytes(b"no picture")
    wanted = ["evaluate", str(made / "run"), str(data), "--workers", workers]
    assert main(wanted) == 0
    out, err = capsys.readouterr()
    assert rows(out)["pictures"] == "12; 1 broken and skipped"
    assert err == f"freqops: skipped {bad}: cannot identify its format\n"
    assert main([*wanted, "--broken", "fail"]) == 2
    assert capsys.readouterr().err == f"freqops: {bad}: cannot identify its format\n"


# select


def test_select_writes_the_selection_and_its_figures(
    made: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main(["select", str(run), "--keep", "6", "--workers", "0"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("6 of 192 channels kept")
    assert [line.split() for line in lines[1:4]] == [
        ["Y", "4:", "0", "1", "2", "4"],
        ["Cb", "1:", "0"],
        ["Cr", "1:", "0"],
    ]
    assert lines[4] == "open in the mean of 12 pictures: 6.00 channels, 6.00 of them kept"
    names = ["gate.json", "selection.json", "heat_maps.png", "bar_chart.png"]
    assert lines[-1] == f"Written: {', '.join(str(run / name) for name in names)}"
    assert sorted(os.listdir(run)) == sorted([*names, "network.safetensors"])
    assert ChannelSelection.load(run / "selection.json") == OPEN
    gates = GateStatistics.load(run / "gate.json")
    assert gates.count == 12
    assert gates.rates.nonzero().flatten().tolist() == list(OPEN.indices)
    for name in names[2:]:
        with Image.open(run / name) as figure:
            assert figure.format == "PNG" and min(figure.size) > 400


def test_select_warns_where_the_gate_does_not_separate_channels(
    run: Path,
    edited: Callable[[Callable[[torch.nn.Module], object]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    drawn = []
    monkeypatch.setattr(
        select, "_draw", lambda gates, selection, folder: drawn.append(selection) or []
    )
    assert main(["select", str(run), "--threshold", "0.5", "--workers", "0"]) == 0
    assert capsys.readouterr().err == "" and drawn == [OPEN]
    assert main(["select", str(run), "--keep", "10", "--workers", "0"]) == 0
    err = capsys.readouterr().err
    assert err.startswith(
        "freqops: warning: the gate opens 186 channels equally often, in 0.0 % of the pictures, of "
        "which 4 are kept, only for their lower frequency: keep 6, or train with a smaller "
        "--penalty\n"
    )
    assert main(["select", str(run), "--keep", "3", "--workers", "0"]) == 0
    assert ": keep 6, or train more epochs" in capsys.readouterr().err
    edited(lambda network: only(network, ChannelSelection.all()))
    assert main(["select", str(run), "--keep", "10", "--workers", "0"]) == 0
    err = capsys.readouterr().err
    assert err.startswith(
        "freqops: warning: the gate opens all 192 channels equally often, in 100.0 % of the "
        "pictures: those kept are only the lowest frequencies; train more epochs, or with a larger "
        "--penalty"
    )
    assert main(["select", str(run), "--keep", "192", "--workers", "0"]) == 0
    assert capsys.readouterr().err == ""


def test_the_flags_that_the_warning_names_are_there() -> None:
    import dataclasses

    from freqops.training import Settings

    flags = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(Settings)}
    words = f"{select.CLOSE_MORE} {select.CLOSE_LESS}".split()
    named = {word for word in words if word.startswith("--")}
    assert len(named) == 2 and named <= flags


# freeze


def test_freeze_writes_what_the_forced_gate_computes(
    made: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["freeze", str(run), "--keep", "6", "--workers", "0"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = run / "frozen-6.safetensors"
    assert sorted(os.listdir(run)) == ["frozen-6.safetensors", "gate.json", "network.safetensors"]
    frozen, known = open_network(path)
    assert known == open_network(run)[1]
    assert frozen.gate is None and frozen.transform.channels == OPEN
    pictures = [Path(path) for path, _ in validation_pictures(known)[1]]
    torch.testing.assert_close(
        outputs(frozen, pictures),
        outputs(models.load(run / "network.safetensors"), pictures),
        rtol=1e-3,
        atol=1e-3,
    )
    lines = out.splitlines()
    assert lines[0] == f"Written: {run / 'gate.json'}"
    assert lines[1] == "freeze: 6 of 192 channels kept"
    assert lines[3].split()[2:] == ["0.020", "->", "0.001", "of", "3", "x", "224", "x", "224"]
    table = [line.split() for line in lines[lines.index(f"Written: {path}") + 1 :]]
    assert table[0] == ["gated", "frozen"]
    # These channels are all that the gate opens, so both networks are right equally often.
    assert table[1][0] == "top-1" and table[1][1] == table[1][3]
    assert [row[0] for row in table[2:5]] == ["top-5", "loss", "images/s"]
    assert table[3][1] == table[3][2]
    command = f"freqops train {made / 'data'} --init {path} -o {run / 'frozen-6'}"
    assert lines[-1].strip() == command


def test_freeze_takes_counts_of_this_network_and_no_others(
    made: Path,
    run: Path,
    edited: Callable[[Callable[[torch.nn.Module], object]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = ["freeze", str(run), "--keep", "2", "--workers", "0", "--no-evaluate"]
    assert main(wanted) == 0
    first = json.loads((run / "gate.json").read_text())
    capsys.readouterr()
    # Counts that only the file can tell.
    counts = first | {"on": [0] * 190 + [12, 12]}
    (run / "gate.json").write_text(json.dumps(counts))
    assert main(wanted) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"the gate in 12 pictures: {run / 'gate.json'}\n") and "top-1" not in out
    assert main(wanted[:-1]) == 0  # both networks are evaluated
    out = capsys.readouterr().out
    assert ["gated", "frozen"] in [line.split() for line in out.splitlines()]
    assert open_network(run / "frozen-2.safetensors")[0].transform.channels.indices == (190, 191)
    # Of other pictures: measured again.
    other = shutil.copytree(made / "data" / "val", run.parent / "other")
    assert main([*wanted[:2], str(other), *wanted[2:]]) == 0
    assert f"Written: {run / 'gate.json'}" in capsys.readouterr().out
    assert json.loads((run / "gate.json").read_text())["on"] == first["on"]
    # Of another network too.
    (run / "gate.json").write_text(json.dumps(counts))
    edited(lambda network: only(network, ChannelSelection([3, 70])))
    assert main(wanted) == 0
    assert open_network(run / "frozen-2.safetensors")[0].transform.channels.indices == (3, 70)
    assert read_gates(run, run / "network.safetensors", None) is not None


def test_freeze_keeps_a_saved_selection_or_what_reaches_a_threshold(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ChannelSelection([5, 3, 100]).save(tmp_path / "mine.json")
    wanted = ["freeze", str(run), "--workers", "0", "--no-evaluate"]
    output = tmp_path / "new" / "small.safetensors"
    assert main([*wanted, "--selection", str(tmp_path / "mine.json"), "-o", str(output)]) == 0
    assert open_network(output)[0].transform.channels.indices == (5, 3, 100)
    assert os.listdir(run) == ["network.safetensors"]
    assert f"-o {tmp_path / 'new' / 'small'}" in capsys.readouterr().out
    assert main([*wanted, "--threshold", "0.9"]) == 0
    assert open_network(run / "frozen-6.safetensors")[0].transform.channels == OPEN


@pytest.mark.parametrize("command", ["evaluate", "select", "freeze", "predict"])
def test_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(
        word in out for word in ("examples:", f"freqops {command} ", "exit code", "--device")
    )
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["select", "RUN"], "one of the arguments --keep --threshold is required"),
        (["select", "RUN", "--keep", "0"], "argument --keep: must be a whole number of at least 1"),
        (["freeze", "RUN", "--keep", "3", "--selection", "x"], "not allowed with argument --keep"),
        (["evaluate", "RUN", "--workers", "-1"], "a whole number of at least 0, got '-1'"),
        (["evaluate", "RUN", "--workers", "x"], "must be a whole number of at least 0, got 'x'"),
        (["predict", "RUN"], "the following arguments are required: PICTURES"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["select", "RUN", "--keep", "193"],
            "--keep must be at most the channels of the gate, 192",
        ),
        (["select", "RUN", "--threshold", "1.5"], "--threshold must lie in [0, 1], got 1.5"),
        (["evaluate", "RUN", "--device", "tpu"], "device must be auto, cpu, cuda or cuda:N"),
        (["evaluate", "RUN", "nowhere"], "data must be a folder of pictures or module:function"),
        (["evaluate", "nowhere"], "nowhere must be the folder of a run or a .safetensors file"),
        (["predict", "RUN", "nowhere"], "nowhere must be a picture or a folder"),
    ],
)
def test_wrong_arguments(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main([str(run) if word == "RUN" else word for word in arguments]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"freqops: {words}") and err.count("\n") == 1
    assert out == ""
    assert os.listdir(run) == ["network.safetensors"]


def test_networks_without_a_hard_gate_are_refused(
    run: Path,
    edited: Callable[[Callable[[torch.nn.Module], object]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from freqops.nn import ChannelGate

    path = run / "network.safetensors"
    for gate, words in (
        (ChannelGate(192, kind="se"), "a gate that closes channels, got one of kind 'se'"),
        (None, "a network with a gate, got one without"),
    ):
        edited(lambda network, gate=gate: setattr(network, "gate", gate))  # type: ignore[misc]
        for command in ("select", "freeze"):
            assert main([command, str(run), "--keep", "6"]) == 2
            assert capsys.readouterr().err == f"freqops: {path} must hold {words}\n"


# predict


def test_predict_prints_labels_and_scores(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [made / "data" / "val" / label / "0.png" for label in CLASSES]
    scores = outputs(models.load(made / "run" / "network.safetensors"), paths).softmax(1)
    wanted = ["predict", str(made / "run"), *map(str, paths), "--top", "2", "--batch-size", "4"]
    json_path, csv_path = tmp_path / "new" / "a.json", tmp_path / "new" / "a.csv"
    assert main([*wanted, "--json", str(json_path), "--csv", str(csv_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    content = json.loads(json_path.read_text())
    assert content["network"] == str(made / "run") and content["broken"] == []
    with open(csv_path, newline="") as file:
        table = list(csv.reader(file))
    assert table.pop(0) == ["picture", "rank", "class", "score"]
    lines = out.splitlines()
    for row, path, line, one in zip(scores, paths, lines, content["pictures"], strict=True):
        values, numbers = row.topk(2)
        labels = [CLASSES[number] for number in numbers]
        assert one["picture"] == str(path)
        assert [pair["class"] for pair in one["classes"]] == labels
        assert [pair["score"] for pair in one["classes"]] == pytest.approx(values.tolist(), 1e-3)
        shown = [f"{label} {100 * pair['score']:.1f} %" for label, pair in
                 zip(labels, one["classes"], strict=True)]  # fmt: skip
        assert line == f"{path}  {', '.join(shown)}"
        for rank, pair in enumerate(one["classes"], 1):
            assert table.pop(0) == [str(path), str(rank), pair["class"], str(pair["score"])]
    assert table == []


def test_predict_takes_pictures_of_every_kind(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = Image.fromarray(noise(3).permute(1, 2, 0).numpy())
    folder = tmp_path / "kinds"
    folder.mkdir()
    picture.convert("L").save(folder / "grey.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.png")
    grey16 = picture.convert("L").convert("I").point(lambda value: value * 257)
    grey16.convert("I;16").save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    assert (
        main(["predict", str(made / "run"), str(folder), "--json", str(tmp_path / "a.json")]) == 0
    )
    found = json.loads((tmp_path / "a.json").read_text())["pictures"]
    assert [Path(one["picture"]).name for one in found] == sorted(os.listdir(folder))
    # Each as its upright RGB pixels, which differ from the file's own.
    network = models.load(made / "run" / "network.safetensors")
    view = view_of(network, "device", RESIZE, CROP)
    assert read_image(folder / "turned.jpg").shape == (3, 52, 44)
    for one in found:
        with torch.no_grad():
            scores = network(view(read_image(one["picture"]))[None])[0].softmax(1)[0]
        values, numbers = scores.topk(5)
        assert [pair["class"] for pair in one["classes"]] == [CLASSES[i] for i in numbers]
        assert [pair["score"] for pair in one["classes"]] == pytest.approx(values.tolist(), 1e-3)


def test_predict_transforms_as_training_did(made: Path, tmp_path: Path) -> None:
    network = models.load(made / "run" / "network.safetensors")
    models.save(network, tmp_path / "a.safetensors", about=about(transform="jpeg"))
    path = made / "data" / "val" / "ant" / "1.jpg"
    wanted = ["predict", str(tmp_path / "a.safetensors"), str(path), "--top", "6"]
    assert main([*wanted, "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["pictures"][0]["classes"]
    view = view_of(network, "jpeg", RESIZE, CROP)
    with torch.no_grad():
        scores = network(coefficients=view(path)[None])[0].softmax(1)[0]
    values, numbers = scores.sort(descending=True)
    assert [pair["class"] for pair in found] == [CLASSES[i] for i in numbers]
    assert [pair["score"] for pair in found] == pytest.approx(values.tolist(), 1e-3)
    other = outputs(network, [path]).softmax(1)[0].sort(descending=True).values
    assert other.tolist() != pytest.approx(values.tolist(), 1e-3)


def test_predict_names_and_counts_broken_pictures(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    (tmp_path / "c.jpg").write_bytes(b"")
    wanted = ["predict", str(made / "run"), str(tmp_path), "--top", "1", "--batch-size", "1"]
    assert main([*wanted, "--json", str(tmp_path / "a.json")]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path / 'a.png'}  ") and out.count("\n") == 1
    lines = err.splitlines()
    assert lines[0].startswith(f"freqops: skipped {tmp_path / 'b.png'}: ")
    assert lines[1:] == [
        f"freqops: skipped {tmp_path / 'c.jpg'}: not a JPEG file: it is empty",
        "freqops: 2 of 3 pictures are broken and skipped",
    ]
    broken = json.loads((tmp_path / "a.json").read_text())["broken"]
    assert [Path(one["picture"]).name for one in broken] == ["b.png", "c.jpg"]


def test_predict_gives_no_label_where_scores_are_no_numbers(
    made: Path,
    run: Path,
    edited: Callable[[Callable[[torch.nn.Module], object]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    edited(lambda network: network.network.fc.bias.fill_(torch.nan))
    path = made / "data" / "val" / "ant" / "0.png"
    assert main(["predict", str(run), str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    words = "the network gives scores that are no finite numbers"
    assert err.splitlines()[0] == f"freqops: skipped {path}: {words}"


# open_network


def test_what_is_no_network_of_a_run(made: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"must be the folder of a run, found no network\.safe"):
        network_file(empty)
    (empty / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="the run has finished no epoch yet"):
        network_file(empty)
    with pytest.raises(ValueError, match="found nothing there"):
        network_file(tmp_path / "nowhere")
    network = models.load(made / "run" / "network.safetensors")
    path = tmp_path / "a.safetensors"
    models.save(network, path)
    with pytest.raises(ValueError, match=r'must be written by freqops train.*says no "classes"'):
        open_network(path)
    path.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"freqops\.models\.save wrote"):
        open_network(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": []}, r'"classes" is \[\], not a list of names'),
        ({"classes": "ant"}, "\"classes\" is 'ant', not a list"),
        ({"crop": "32"}, "\"crop\" is '32', not of type int"),
        ({"crop": True}, '"crop" is True, not of type int'),
        ({"transform": "gpu"}, "\"transform\" is 'gpu', not device or workers or jpeg"),
    ],
)
def test_about_says_what_is_wrong(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        About.of(about(**change))


def test_about_goes_there_and_back() -> None:
    known = About(CLASSES, 40, 32, "data", "jpeg", 0.5, 3)
    assert About.of(json.loads(json.dumps(known.content())) | {"later": 1}) == known
    assert About.of({"classes": ["a"], "resize": 8, "crop": 8}) == About(("a",), 8, 8)
    assert About.of(about(val_share=1)).val_share == 1


def test_views_that_a_network_cannot_have(made: Path) -> None:
    spatial = models.resnet18(4, spatial=True, num_classes=2)
    with pytest.raises(ValueError, match="must be device for a network with spatial=True"):
        view_of(spatial, "workers", RESIZE, CROP)
    smoothed = models.resnet18(4, chroma="4:2:0", num_classes=2)
    with pytest.raises(ValueError, match="must not be jpeg for a network with chroma"):
        view_of(smoothed, "jpeg", RESIZE, CROP)
