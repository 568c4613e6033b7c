"""How the JPEG reader is built, shipped and told of; without it, what is said."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from test_build import PACKAGE, ROOT, configure, tool

from freqops import info, jpeg

READER = f"_jpeg{sysconfig.get_config_var('EXT_SUFFIX')}"
KINDS = Path(__file__).parent / "fuzz" / "kinds"


@pytest.fixture
def module() -> Path:
    path = PACKAGE / READER
    if not path.exists():
        pytest.skip("the JPEG reader is not built")
    return path


def test_the_module_reads(module: Path) -> None:
    """With nothing but torch and NumPy installed."""
    picture = jpeg.read_coefficients(KINDS / "gray_2x2.jpg")
    assert picture.y.shape == (3, 5, 64) and int(picture.y.abs().sum()) > 0
    assert str(picture) == "JPEGCoefficients(17 x 33, gray, quantized)"


def test_the_module_names_no_folder_of_the_build_machine(module: Path) -> None:
    text = module.read_bytes()
    for folder in (ROOT, Path(torch.__file__).parents[1]):
        assert bytes(folder) + b"/" not in text


# --- Without it ----------------------------------------------------------------------------------


def test_why_there_is_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_FOLDER", tmp_path)
    other = f"{READER} is missing: it was built for another Python, or not at all"
    assert jpeg.missing() == other
    build = tmp_path / "_build.json"
    build.write_text(json.dumps({"jpeg": "libjpeg-turbo 2.1.5, static", "jpeg_missing": None}))
    assert jpeg.missing() == other
    build.write_text(json.dumps({"jpeg": None, "jpeg_missing": "pybind11 was not found"}))
    assert jpeg.missing() == "pybind11 was not found"
    (tmp_path / READER).write_text("")
    assert jpeg.missing() == ""


def test_a_package_without_the_reader(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "freqops", ignore=shutil.ignore_patterns("_jpeg*.so"))
    build = tmp_path / "freqops" / "_build.json"
    reason = "libjpeg-turbo's jpeglib.h was not found"
    build.write_text(json.dumps(json.loads(build.read_text()) | {"jpeg_missing": reason}))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import freqops.info; "
        "freqops.block_dct; print(freqops.info.describe()); freqops.jpeg.read_coefficients(b'')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert f"\nJPEG reader   none: {reason}\n" in done.stdout, done.stderr
    message = (
        rf"ImportError: read_coefficients: freqops has no JPEG reader: {reason}\. Install "
        r"libjpeg-turbo .*libjpeg62-turbo-dev.* and pybind11 .* build freqops again: pip install"
    )
    assert re.search(message, done.stderr), done.stderr


def test_info_names_libjpeg_turbo(module: Path) -> None:
    from freqops import _jpeg

    version = _jpeg.LIBJPEG_TURBO
    assert re.fullmatch(r"\d+\.\d+(\.\d+)*", version)
    line = rf"^JPEG reader   libjpeg-turbo {re.escape(version)}, (static|shared)$"
    assert re.search(line, info.describe(), re.M)


# --- The recipe ----------------------------------------------------------------------------------


def build_json(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "_build.json").read_text())
    return content


def test_the_reader_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / READER).write_text("of an earlier build")
    text = configure(tmp_path, "-DFREQOPS_CUDA=off", "-DFREQOPS_JPEG=off")
    reason = "FREQOPS_JPEG was off when freqops was built"
    assert f"JPEG: no reader, {reason}" in text
    assert not (tmp_path / READER).exists()
    assert build_json(tmp_path)["jpeg"] is None
    assert build_json(tmp_path)["jpeg_missing"] == reason

    text = configure(tmp_path, "-DFREQOPS_JPEG=perhaps", ok=False)
    assert "FREQOPS_JPEG: expected auto, on or off, got 'perhaps'" in text


def test_without_libjpeg_turbo_the_rest_is_built(tmp_path: Path) -> None:
    hidden = "-DCMAKE_IGNORE_PATH=/usr/include;/usr/local/include"
    text = configure(tmp_path, "-DFREQOPS_CUDA=off", hidden)
    assert "JPEG: no reader, libjpeg-turbo's jpeglib.h was not found" in text
    text = configure(tmp_path, "-DFREQOPS_JPEG=on", hidden, ok=False)
    assert "FREQOPS_JPEG=on, but libjpeg-turbo's jpeglib.h was not found" in text


def test_another_libjpeg_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "jpeglib.h").write_text("#define JPEG_LIB_VERSION 90\n")
    text = configure(tmp_path, "-DFREQOPS_CUDA=off", f"-Dlibjpeg_turbo_include={tmp_path}")
    assert "JPEG: no reader, jpeglib.h does not compile, or is that of another libjpeg" in text


def test_without_pybind11(tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pybind11.py").write_text("raise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    text = configure(tmp_path, "-DFREQOPS_CUDA=off")
    assert "JPEG: no reader, pybind11 was not found" in text
    assert build_json(tmp_path)["jpeg_missing"] == "pybind11 was not found"


def test_a_library_that_cannot_be_linked_into_a_module_is_passed_over(
    tmp_path: Path, module: Path
) -> None:
    broken = tmp_path / "libjpeg.a"
    broken.write_text("no library")
    text = configure(tmp_path, "-DFREQOPS_CUDA=off", f"-Dlibjpeg_turbo_static={broken}")
    assert re.search(r"JPEG: libjpeg-turbo [0-9.]+, shared, ", text)
    assert str(build_json(tmp_path)["jpeg"]).endswith(", shared")


@pytest.mark.parametrize("built", [False, True])
def test_the_tag_of_the_wheel(tmp_path: Path, built: bool) -> None:
    """Of this Python where the wheel holds the reader, else of any."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("not in a checkout")
    tool("cmake")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, tmp_path)
    (tmp_path / "freqops").mkdir()
    (tmp_path / "freqops" / "__init__.py").write_text("__version__ = '0.1.0'\n")
    if built:
        folder = tmp_path / "build" / "cmake" / "freqops"
        folder.mkdir(parents=True)
        (folder / READER).write_text("")
    code = (
        "from setuptools import Distribution; import distutils.core as core; "
        "setup = core.run_setup('setup.py', stop_after='config'); "
        "wheel = setup.get_command_obj('bdist_wheel'); wheel.ensure_finalized(); "
        "print('-'.join(wheel.get_tag()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    tag = done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert tag.startswith(f"{python}-{python}" if built else "py3-none-"), done.stderr
