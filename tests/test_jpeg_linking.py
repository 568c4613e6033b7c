"""The JPEG reader keeps its own libjpeg, whatever other ones the process holds.

Each order of imports has a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jpeg_files import KINDS, encoded, photograph

import freqops
from freqops import info
from freqops.jpeg import read_coefficients

# How to import each library with a libjpeg of its own, and to decode the file `path` with it.
OTHERS = {
    "PIL": "from PIL import Image; Image.open(path).convert('RGB').load()",
    "simplejpeg": "import simplejpeg; simplejpeg.decode_jpeg(open(path, 'rb').read())",
    "cv2": "import cv2; assert cv2.imread(path) is not None",
    "torchvision": "from torchvision.io import decode_image; decode_image(path)",
    "jpeglib": "import jpeglib; jpeglib.read_dct(path)",
}
OURS = """
from freqops.jpeg import read_coefficients
for file in (path, rare):
    picture = read_coefficients(file)
    sums.append([int(picture.y.long().sum()), int(picture.cb.long().abs().sum())])
try:
    read_coefficients(open(path, 'rb').read()[:-9])
except ValueError:
    pass
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jpeg") / "file.jpg"
    path.write_bytes(encoded(photograph()))
    return path


def expected(path: Path) -> list[list[int]]:
    pictures = [read_coefficients(file) for file in (path, KINDS / "arithmetic_progressive.jpg")]
    return [[int(p.y.long().sum()), int(p.cb.long().abs().sum())] for p in pictures]


def run(path: Path, steps: list[str], **environment: str) -> str:
    rare = str(KINDS / "arithmetic_progressive.jpg")
    code = f"path, rare, sums = {str(path)!r}, {rare!r}, []\n" + "\n".join(steps)
    code += "\nprint(sums)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment or None
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("order", ["first", "last", "between"])
def test_beside_the_libjpegs_of_other_packages(path: Path, order: str) -> None:
    others = [step for name, step in OTHERS.items() if importlib.util.find_spec(name)]
    assert len(others) >= 2
    steps = {
        "first": [OURS, *others, OURS],
        "last": [*others, OURS, *others],
        "between": [step for other in reversed(others) for step in (other, OURS)],
    }[order]
    assert run(path, steps) == str(expected(path) * sum(step == OURS for step in steps))


def test_functions_of_another_libjpeg_are_not_called(path: Path, tmp_path: Path) -> None:
    """One that ends the process, before all others in the search for symbols."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    if "static" not in info.describe().split("JPEG reader")[1]:
        pytest.skip("the JPEG reader is linked to the system's libjpeg.so here")
    names = ["CreateDecompress", "read_header", "read_coefficients", "resync_to_restart"]
    names += ["save_markers", "std_error", "destroy_decompress", "destroy", "abort"]
    functions = [f"void jpeg_{name}(void) {{ abort(); }}\n" for name in names]
    source = tmp_path / "other.c"
    source.write_text("#include <stdlib.h>\n" + "".join(functions))
    library = tmp_path / "libother.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)

    environment = {**os.environ, "LD_PRELOAD": str(library)}
    assert run(path, [OURS], **environment) == str(expected(path))


def test_the_module_exports_its_entry_alone() -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    (module,) = Path(freqops.__file__).parent.glob("_jpeg.*.so")
    exported = subprocess.run([nm, "-D", "--defined-only", module], capture_output=True, text=True)
    assert [line.split()[-1] for line in exported.stdout.splitlines()] == ["PyInit__jpeg"]
    needed = subprocess.run([nm, "-D", "--undefined-only", module], capture_output=True, text=True)
    theirs = [line.split()[-1] for line in needed.stdout.splitlines() if "jpeg" in line]
    # Of a shared libjpeg, where there is no other, only functions with a version.
    assert [name for name in theirs if "@LIBJPEG" not in name] == []
