"""The command line itself: help, version, exit codes, and errors in one sentence."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import freqops
from freqops import _extras
from freqops.cli import main
from freqops.commands import info

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"freqops {freqops.__version__}\n"


def test_info_prints_what_is_installed(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"freqops       {freqops.__version__}")
    assert torch.__version__ in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["info", "transform", "demo", "--version"]),
        (["transform", "--help"], ["examples:", "--channels", "exit code", "--from-jpeg"]),
        (["demo", "--help"], ["examples:", "scikit-image", "--output"]),
        (["info", "--help"], ["versions, libraries loaded"]),
    ],
)
def test_help(monkeypatch, capsys, arguments, words):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND"),
        (["trans"], "invalid choice: 'trans'"),
        (["transform", "-o", "x"], "arguments are required: PICTURES"),
        (["transform", "a.png"], "arguments are required: -o/--output"),
        (["transform", "a.png", "-o", "x", "--chroma", "4:1:1"], "invalid choice: '4:1:1'"),
        (["transform", "a.png", "-o", "x", "--crop", "0"], "must be a whole number of at least 1"),
        (["transform", "a.png", "-o", "x", "--resize", "1.5"], "of at least 1, got '1.5'"),
        (["transform", "a.png", "-o", "x", "--workers", "-1"], "of at least 1, got '-1'"),
        (["demo", "--seconds", "long"], "invalid float value: 'long'"),
    ],
)
def test_usage_errors_exit_with_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_python_m_is_the_command(tmp_path):
    command = [sys.executable, "-m", "freqops", "transform", "nowhere.png", "-o", "out"]
    environment = os.environ | {"PYTHONPATH": str(Path(freqops.__file__).parents[1])}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "freqops: nowhere.png must be a picture or a folder, found nothing there\n"
    )


def project():
    """The project's table in pyproject.toml."""
    path = Path(freqops.__file__).parents[1] / "pyproject.toml"
    if not path.exists():
        pytest.skip("no checkout: pyproject.toml is not installed")
    return pytest.importorskip("tomllib").loads(path.read_text())["project"]


def test_the_console_script_is_main():
    module, name = project()["scripts"]["freqops"].split(":")
    assert getattr(import_module(module), name) is main


@pytest.mark.parametrize(
    ("arguments", "missing", "sentence"),
    [
        (
            ["transform", "a.png", "-o", "out"],
            ["safetensors", "tqdm"],
            "freqops transform needs tqdm and safetensors: pip install 'freqops[transform]'",
        ),
        (
            ["transform", "a.png", "-o", "out", "--format", "npy"],
            ["PIL", "safetensors"],
            "freqops transform needs PIL: pip install 'freqops[transform]'",
        ),
        (
            ["demo", "-o", "a.png"],
            ["matplotlib", "skimage"],
            "freqops demo needs matplotlib and skimage: pip install 'freqops[demo]'",
        ),
        (
            ["demo", "a.png", "-o", "b.png"],
            ["matplotlib", "skimage"],
            "freqops demo needs matplotlib: pip install 'freqops[demo]'",
        ),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path, monkeypatch, capsys, arguments, missing, sentence
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    find = _extras.importlib.util.find_spec
    monkeypatch.setattr(
        _extras.importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    assert main(arguments) == 1
    assert capsys.readouterr().err == f"freqops: {sentence}\n"
    assert os.listdir(tmp_path) == ["a.png"]


def test_the_extras_named_exist_and_bring_the_packages():
    extras = project()["optional-dependencies"]
    assert {"pillow", "tqdm", "safetensors"} <= set(extras["transform"])
    demo = " ".join(extras["demo"] + extras["plots"])
    assert all(name in demo for name in ("transform", "plots", "scikit-image", "matplotlib"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept"),
        (ValueError("std must be\ngreater"), 2, "std must be greater"),
        (TypeError("wrong"), 2, "wrong"),
        (PermissionError(13, "Permission denied", "x"), 1, "[Errno 13] Permission denied: 'x'"),
        (ImportError("no"), 1, "no"),
    ],
)
def test_every_error_is_one_line_with_its_exit_code(monkeypatch, capsys, error, code, words):
    def fail(options):
        raise error

    monkeypatch.setattr(info, "_run", fail)
    assert main(["info"]) == code
    assert capsys.readouterr().err == f"freqops: {words}\n"


def test_a_reader_that_goes_away_is_no_error():
    environment = os.environ | {"PYTHONPATH": str(Path(freqops.__file__).parents[1])}
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-u", "-m", "freqops", "info"],
        stdout=write,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    os.close(write)
    assert process.returncode == 1
    assert process.stderr == b""


def test_the_progress_bar_counts_the_pictures(tmp_path, monkeypatch, capsys):
    class Terminal:
        """stderr as a terminal has it."""

        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return True

    for i in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    for quiet in (False, True):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        arguments = ["transform", str(tmp_path), "-o", str(tmp_path / "out"), "--overwrite"]
        assert main(arguments + ["--quiet"] * quiet) == 0
        assert ("3/3" in terminal.text) is not quiet


def test_workers_leave_torch_as_it_was(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        arguments = ["transform", str(tmp_path / "a.png"), "-o", str(tmp_path), "--workers", "2"]
        assert main(arguments) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# freqops info --model


def test_info_of_a_model(capsys):
    pytest.importorskip("torchvision")
    assert main(["info", "--model", "resnet50", "--channels", "24"]) == 0
    out = capsys.readouterr().out
    for fact in (
        "conv1, bn1, relu, maxpool: removed",
        "layer1.0.conv1: 64 -> 24 channels",
        "layer1.0.downsample.0: 64 -> 24 channels",
        "24 x 56 x 56, 0.500 of 3 x 224 x 224",
        "25,534,696",
        "3.931",
    ):
        assert fact in out


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["mobilenet_v2", "--gate"], ["38,208 of the gate", "192 x 112 x 112"]),
        (["resnet18", "--channels", "0,1,64", "--size", "64"], ["3 x 8 x 8", "3 x 64 x 64"]),
        (["resnet18", "--spatial", "--layer2-stride", "1"], ["3 x 224 x 224", "stride 2 -> 1"]),
        (["resnet18", "--channels", "learned", "--gate"], ["24 x 56 x 56", "744 of the gate"]),
    ],
)
def test_info_options(capsys, arguments, facts):
    pytest.importorskip("torchvision")
    assert main(["info", "--model", *arguments]) == 0
    out = capsys.readouterr().out
    for fact in facts:
        assert fact in out


def test_info_of_timm_and_of_a_file(capsys, tmp_path):
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    assert main(["info", "--model", "timm/test_vit", "--channels", "48"]) == 0
    assert "48 x 20 x 20" in capsys.readouterr().out
    path = tmp_path / "network.safetensors"
    freqops.models.save(freqops.models.resnet18(6, num_classes=3), path)
    assert main(["info", "--model", str(path)]) == 0
    out = capsys.readouterr().out
    assert "resnet18 (torchvision)" in out
    assert "6 x 56 x 56" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--channels", "24"],
            "--model must be given with --channels, --gate, --spatial, --layer2-stride, --size",
        ),
        (["--layer2-stride", "1"], "--model must be given"),
        (["--model", "resnet51"], "resnet51"),
        (["--model", "timm/nothing"], "nothing"),
        (["--model", "else/resnet50"], "library must be torchvision or timm, got 'else'"),
        (["--model", "vgg11"], "got VGG of torchvision.models.vgg"),
        (["--model", "resnet18", "--channels", "0"], "channels must lie in [1, 192], got 0"),
        (["--model", "mobilenet_v2", "--spatial"], "spatial must be False for mobilenet_v2"),
    ],
)
def test_info_refuses(capsys, arguments, message):
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    assert main(["info", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
