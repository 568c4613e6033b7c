"""What is built: stable symbols, instruction sets kept apart, the recipe's settings, the sdist."""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

import freqops
from freqops import _library, info

ROOT = Path(__file__).parents[1]
PACKAGE = Path(freqops.__file__).parent
OBJECTS = ROOT / "build" / "cmake" / "CMakeFiles"


def tool(name: str) -> str:
    path = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def output(*command: str | Path, ok: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["_cpu.so", "_cuda.so"])
def library(request: pytest.FixtureRequest) -> Path:
    path = PACKAGE / request.param
    if not path.exists():
        pytest.skip(f"{path.name} is not built")
    return path


@pytest.mark.parametrize(("index", "ok"), [("5", True), ("index[i]", False)])
def test_local_memory_fails_the_build(tmp_path: Path, index: str, ok: bool) -> None:
    """A kernel that indexes an array by a number read at run time, compiled as ours are."""
    record = OBJECTS.parent / "compile_commands.json"
    commands = json.loads(record.read_text()) if record.exists() else []
    # The host's compiler has the same file, for the tests of CUDA without a GPU.
    kernels = [c["command"] for c in commands if c["file"].endswith("csrc/cuda/block_dct.cu")]
    ours = [command for command in kernels if " -x cu " in command]
    if not ours:
        pytest.skip("the CUDA library is not built here")
    source = tmp_path / "kernel.cu"
    source.write_text(
        "__global__ void kernel(const int* index, float* out) { float x[64] = {};"
        f"for (int i = 0; i < 99; ++i) x[{index}] += out[i]; out[0] = x[5] * x[6]; }}"
    )
    options = shlex.split(ours[0].partition(" -x cu ")[0])
    said = output(*options, "-x", "cu", "-c", source, "-o", tmp_path / "kernel.o", ok=ok)
    assert ("local memory" in said.lower()) == (not ok), said


# --- The libraries -------------------------------------------------------------------------------


def test_libraries_use_the_stable_interface_alone(library: Path) -> None:
    # The C and C++ run-time libraries version their symbols (name@GLIBC_2.14), torch does not: what
    # is left must be the C functions of torch's stable interface, so no at::, c10:: and no Python.
    lines = output(tool("nm"), "-D", "--undefined-only", library).splitlines()
    names = [line.split()[-1] for line in lines if line.split()[0] != "w"]
    theirs = [name for name in names if "@" not in name]
    assert "aoti_torch_library_init_impl" in theirs
    assert [name for name in theirs if not re.match(r"(aoti_)?torch_[a-z]", name)] == []


def test_libraries_export_nothing(library: Path) -> None:
    # Operators register themselves. An exported template of the standard library could be replaced
    # by that of another library, or replace it.
    assert output(tool("nm"), "-D", "--defined-only", library) == ""


def test_libraries_name_no_folder_of_the_build_machine(library: Path) -> None:
    text = library.read_bytes()
    for folder in (ROOT, Path(torch.__file__).parent):
        assert bytes(folder) + b"/" not in text


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_kernels_of_an_instruction_set_share_no_function(isa: str) -> None:
    # The linker merges inline functions and templates of equal name; what is left may be that for
    # AVX-512, which crashes a processor without it. So all that a kernel file defines for others to
    # see must be in the namespace of its instruction set.
    objects = sorted((OBJECTS / f"_cpu_{isa}.dir").rglob("*_kernels.cpp.o"))
    if not objects:
        pytest.skip("no build folder")
    for path in objects:
        lines = output(tool("nm"), "-C", "--defined-only", "--extern-only", path).splitlines()
        names = [line.split(maxsplit=2)[2] for line in lines if line]
        assert names
        assert [name for name in names if not name.startswith(f"freqops::cpu::{isa}::")] == []


# --- Loading -------------------------------------------------------------------------------------


def test_a_package_without_libraries_says_how_to_build_them(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "freqops", ignore=shutil.ignore_patterns("*.so"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import freqops"
    text = output(sys.executable, "-I", "-c", program, ok=False)
    assert re.search(r"ImportError: freqops: .*_cpu\.so is missing.* pip install", text)


def test_importing_reads_no_environment_variable() -> None:
    assert "environ" not in (PACKAGE / "_library.py").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package folder whose CPU library is the one already loaded."""
    (tmp_path / "_cpu.so").symlink_to(PACKAGE / "_cpu.so")
    return tmp_path


def test_why_there_is_no_cuda_library(folder: Path) -> None:
    missing = _library._load(folder, cuda=False)
    assert missing == {"_cuda": f"torch {torch.__version__} is built without CUDA"}
    missing = _library._load(folder, cuda=True)
    assert missing == {"_cuda": "not built: no nvcc was found, or FREQOPS_CUDA was off"}
    (folder / "_cuda.so").write_text("no library")
    assert "_cuda.so: file too short" in _library._load(folder, cuda=True)["_cuda"]


def test_a_cpu_library_that_does_not_load_is_an_import_error(tmp_path: Path) -> None:
    (tmp_path / "_cpu.so").write_text("no library")
    message = (
        r"_cpu\.so does not load under torch .* \(2\.10 or later is needed\): .*file too short"
    )
    with pytest.raises(ImportError, match=message):
        _library._load(tmp_path, cuda=False)


# --- freqops info --------------------------------------------------------------------------------


def test_info_tells_versions_libraries_and_instruction_set() -> None:
    before = torch.ops.freqops.cpu_isa()
    text = info.describe()
    assert torch.ops.freqops.cpu_isa() == before
    assert re.search(rf"^freqops +{re.escape(freqops.__version__)} in ", text, re.M)
    assert re.search(rf"^torch +{re.escape(torch.__version__)} ", text, re.M)
    assert re.search(rf"^instructions +{before} \(this processor has .*portable\)$", text, re.M)
    assert re.search(rf"^threads +{torch.get_num_threads()}$", text, re.M)
    reason = _library.MISSING.get("_cuda")
    assert f"CUDA library  {'loaded' if reason is None else f'not loaded: {reason}'}" in text


def test_info_tells_the_cuda_architectures_built(tmp_path: Path) -> None:
    path = tmp_path / "_build.json"
    assert info._built(path) == "unknown: _build.json is missing"
    build = {"torch": "2.10", "compiler": "GNU 12", "nvcc": None, "cuda_architectures": []}
    path.write_text(json.dumps(build))
    assert info._built(path) == "by GNU 12 against torch 2.10; without CUDA"
    path.write_text(json.dumps(build | {"nvcc": "13.0", "cuda_architectures": ["80-real", "90"]}))
    assert info._built(path).endswith("; by nvcc 13.0 for sm_80, sm_90, compute_90 (PTX)")


def test_info_says_why_the_cuda_library_is_missing() -> None:
    assert info._cuda_library({}) == "loaded"
    assert info._cuda_library({"_cuda": "not built"}).startswith("not loaded: not built")


# --- The recipe ----------------------------------------------------------------------------------

SUPPORTED = "compute_75\ncompute_80\ncompute_90\ncompute_100\n"


def architectures(tmp_path: Path, wanted: str, supported: str, ok: bool = True) -> str:
    script = tmp_path / "ask.cmake"
    script.write_text(
        "cmake_minimum_required(VERSION 3.22)\n"
        f"include({ROOT}/cmake/cuda_architectures.cmake)\n"
        f'freqops_cuda_architectures(out "{wanted}" "{supported}")\n'
        'message("[${out}]")\n'
    )
    return " ".join(output(tool("cmake"), "-P", script, ok=ok).split())


@pytest.mark.parametrize(
    ("wanted", "supported", "expected"),
    [
        ("", SUPPORTED, "80-real;90-real;100"),
        ("", SUPPORTED + "compute_120", "80-real;90-real;100-real;120"),
        ("8.0;9.0+PTX", SUPPORTED, "80-real;90"),
        ("9.0a 7.5", SUPPORTED, "90a-real;75-real"),
        ("10.0", SUPPORTED, "100-real"),
        ("8.0, 8.0", SUPPORTED, "80-real"),
    ],
)
def test_cuda_architectures(tmp_path: Path, wanted: str, supported: str, expected: str) -> None:
    assert architectures(tmp_path, wanted, supported) == f"[{expected}]"


@pytest.mark.parametrize(
    ("wanted", "supported", "message"),
    [
        ("Hopper", SUPPORTED, "expected items like 8.0, 9.0a or 12.0+PTX, got 'Hopper'"),
        ("12.0", SUPPORTED, "this nvcc does not support 12.0"),
        ("", "compute_75", "this nvcc supports none of"),
    ],
)
def test_cuda_architectures_refused(
    tmp_path: Path, wanted: str, supported: str, message: str
) -> None:
    assert message in architectures(tmp_path, wanted, supported, ok=False)


def configure(tmp_path: Path, *settings: str, ok: bool = True) -> str:
    command = [tool("cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    command += ["-S", str(ROOT), "-B", str(tmp_path / "build")]
    command += [f"-DFREQOPS_OUTPUT={tmp_path}", f"-DPython_EXECUTABLE={sys.executable}"]
    return " ".join(output(*command, *settings, ok=ok).split())


def test_without_nvcc_the_cpu_library_is_built_alone(tmp_path: Path) -> None:
    folders = {"/usr/local/cuda/bin", f"{os.environ.get('CUDA_HOME')}/bin"}
    folders |= {p for p in os.environ["PATH"].split(os.pathsep) if shutil.which("nvcc", path=p)}
    hidden = f"-DCMAKE_IGNORE_PATH={';'.join(folders)}"
    (tmp_path / "_cuda.so").write_text("of an earlier build")
    text = configure(tmp_path, "-DFREQOPS_CUDA=auto", hidden)
    assert "CUDA: no nvcc found, building the CPU library alone" in text
    assert not (tmp_path / "_cuda.so").exists()
    build = json.loads((tmp_path / "_build.json").read_text())
    assert build["nvcc"] is None
    assert build["cuda_architectures"] == []
    assert build["torch"] == torch.__version__

    text = configure(tmp_path, "-DFREQOPS_CUDA=on", hidden, ok=False)
    assert "FREQOPS_CUDA=on, but nvcc is neither on PATH nor under CUDA_HOME" in text
    text = configure(tmp_path, "-DFREQOPS_CUDA=maybe", hidden, ok=False)
    assert "FREQOPS_CUDA: expected auto, on or off, got 'maybe'" in text


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "setup.py").exists():
        pytest.skip("not in a checkout")
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", folder]
    command += ["sdist", "--dist-dir", folder]
    # It works in the checkout, and tests may run in several processes.
    with (tmp_path_factory.getbasetemp().parent / "sdist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("freqops-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def test_sdist_holds_all_sources_and_nothing_built(sdist: Path) -> None:
    names = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    wanted = ["CMakeLists.txt", "Makefile", "README.md", "LICENSE", "pyproject.toml", "setup.py"]
    wanted += [".ci/run", ".clang-format", "freqops/photographs.json", "conftest.py"]
    for folder in ("csrc", "cmake", "freqops", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {
                ".cpp",
                ".cu",
                ".cuh",
                ".h",
                ".py",
                ".pyi",
                ".txt",
                ".cmake",
                ".map",
                ".jpg",
                ".gz",
                ".dict",
                ".md",
            }:
                wanted.append(str(path.relative_to(ROOT)))
    assert len(wanted) > 40
    assert [name for name in wanted if name not in names] == []
    assert [name for name in names if name.endswith((".so", "_build.json", ".pyc"))] == []


def test_no_source_names_this_machine(sdist: Path) -> None:
    folders = [bytes(ROOT) + b"/", bytes(Path(sys.prefix)) + b"/", bytes(Path.home()) + b"/"]
    for path in sdist.rglob("*"):
        if path.is_file() and "egg-info" not in path.parts:
            text = path.read_bytes()
            assert [folder for folder in folders if folder in text] == [], path


@pytest.mark.parametrize("name", ["Makefile", "setup.py", "CMakeLists.txt", ".ci/run"])
def test_the_recipes_fetch_from_no_address_of_their_own(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.slow
def test_the_sdist_builds_a_wheel_elsewhere(sdist: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    environment = os.environ | {"FREQOPS_CUDA": "off"}
    subprocess.run([*command, "-w", tmp_path, sdist], check=True, env=environment)
    (wheel,) = tmp_path.glob("*.whl")
    version = re.escape(freqops.__version__)
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    # The JPEG reader is a module of this Python, and so is a wheel that holds it.
    reader = f"freqops/_jpeg{sysconfig.get_config_var('EXT_SUFFIX')}" in names
    tag = r"(cp3\d+)-\1t?" if reader else "py3-none"
    assert re.fullmatch(rf"freqops-{version}-{tag}-[a-z0-9_]+\.whl", wheel.name)
    assert {
        "freqops/_cpu.so",
        "freqops/_build.json",
        "freqops/py.typed",
        "freqops/_jpeg.pyi",
    } <= names
    assert "freqops/_cuda.so" not in names


def test_a_checkout_below_the_current_folder_does_not_hide_the_package(tmp_path: Path) -> None:
    """Python's path begins with the folder where it starts; there, `freqops` is the checkout."""
    command = (sys.executable, "-c", "import freqops; print(freqops.block_dct.__name__)")
    if subprocess.run(command, capture_output=True, cwd=tmp_path).returncode:
        pytest.skip("freqops is not installed here, but run from its checkout")
    (tmp_path / "freqops").symlink_to(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["block_dct"], done.stderr
