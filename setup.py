"""Drives CMake: CMakeLists.txt is the build recipe, this puts what it builds into the package."""

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
BUILD = ROOT / "build" / "cmake"
# The JPEG reader, a module of this Python; where CMake found pybind11 and libjpeg-turbo.
READER = f"_jpeg{sysconfig.get_config_var('EXT_SUFFIX')}"
# What CMake may leave in BUILD / "freqops"; _cuda.so only where it found nvcc.
PRODUCTS = ["_cpu.so", "_cuda.so", READER, "_build.json"]


def find_tool(name: str) -> str:
    """The program beside this Python, whether or not its environment is active, or on PATH."""
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    path = shutil.which(name, path=places)
    if path is None:
        sys.exit(f"freqops needs {name} to build: pip install {name}")
    return path


def jobs() -> int:
    """One compiler for each processor, as far as memory goes: torch's headers take 1.5 GB each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // (3 << 29)))


def replace(source: Path, target: Path) -> None:
    """Copies in one step, so that a running process keeps the library that it has mapped."""
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copy2(source, temporary)
    temporary.replace(target)


class BuildLibraries(build_ext):
    """Builds the operator libraries, which hold no CPython symbol, and the JPEG reader, a module."""

    def run(self) -> None:
        cmake, ninja = find_tool("cmake"), find_tool("ninja")
        configure = [cmake, "-S", ROOT, "-B", BUILD, "-G", "Ninja"]
        configure += [f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DPython_EXECUTABLE={sys.executable}"]
        configure += [f"-DFREQOPS_OUTPUT={BUILD / 'freqops'}"]
        build = [cmake, "--build", BUILD]
        if "CMAKE_BUILD_PARALLEL_LEVEL" not in os.environ:
            build += ["--parallel", str(jobs())]
        for command in (configure, build):
            if subprocess.run(command).returncode:
                sys.exit("freqops: building the libraries failed, see above")

        for name in PRODUCTS:
            source, target = BUILD / "freqops" / name, self.folder / name
            if source.exists():
                replace(source, target)
            else:
                target.unlink(missing_ok=True)

    @property
    def folder(self) -> Path:
        in_place = self.inplace or self.editable_mode
        return (ROOT if in_place else Path(self.build_lib)) / "freqops"

    def get_outputs(self) -> list[str]:
        return [str(self.folder / name) for name in PRODUCTS if (self.folder / name).exists()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}  # an editable installation has them in the source tree


class PlatformWheel(bdist_wheel):
    """Tags the wheel for this platform and, where it holds the JPEG reader, this Python; else for
    any Python 3 (pyproject.toml says from which on)."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        if (BUILD / "freqops" / READER).exists():
            return python, abi, platform
        return "py3", "none", platform


setup(
    # Without one setuptools would neither run build_ext nor call the wheel platform's.
    ext_modules=[Extension("freqops._cpu", sources=[])],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)
