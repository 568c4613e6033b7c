"""JPEG files to their coefficients, and on to channels, beside decoding them to pixels.

Written by `make bench PYTEST="--tables benchmarks/results"`. All take turns in one process, one
thread, the bytes of the files in memory. A turn is all files of a row, as a worker takes them, and
its processor time by file counts, the median over rounds. Four files before them do not: whoever
comes after others finds no code of its own in the caches, and its first file takes milliseconds
more. The files are crops of scikit-image's photographs, written by Pillow with standard Huffman
tables. Decoders make RGB pixels at full size; all of them are libjpeg-turbo, of different versions
and called differently. They smooth chroma unless "replicated" is said. Readers of coefficients:
jpeg2dct (as the paper's authors use it; dequantised values; 4:4:4 it encodes again as 4:2:0),
jpeglib (quantised, with its libjpeg-turbo; it reads files alone, here each written first, to a file
system in memory where there is one), jpegio likewise.

jpeg2dct (Uber Technologies, https://github.com/uber-research/jpeg2dct) has a licence of its own,
for non-commercial purposes alone. freqops needs nothing of it.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
import torch.nn.functional as F
from measure import OURS
from pytest_benchmark.fixture import BenchmarkFixture
from tables import Record, Row, Table
from torch import Tensor

import freqops
from freqops.jpeg import read_coefficients
from freqops.rivals import folded_map

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("torchvision")
pytest.importorskip("skimage")

from loaders import installed, write_photographs  # noqa: E402
from torchvision.io import decode_jpeg  # noqa: E402

# torchvision says that its decoder will move to another package.
pytestmark = pytest.mark.filterwarnings("default")

TITLE = "JPEG files to coefficients"
PACKAGES = (
    "torchvision",
    "pillow",
    "simplejpeg",
    "PyTurboJPEG",
    "opencv-python-headless",
    "jpeg2dct-numpy",
    "jpeglib",
    "pyjpegio",
)

Work: TypeAlias = Callable[[bytes], object]

FILES = 24
FILES_BEFORE = 4
SECONDS, ROUNDS = 6.0, 9

READING = Table(
    "Reading alone",
    '"decoding" is the fastest full decode to RGB, "times faster" ours beside it; "others" are the '
    'other decoders, in units of our time; "coefficients" the other readers of coefficients.',
    {
        "files": "{}",
        "kB": "{:.0f}",
        "freqops ms": "{:.3f}",
        "decoding ms": "{:.3f}",
        "best decoder": "{}",
        "times faster": "**{:.2f}**",
        "others": "{:.2f}",
        "coefficients": "{:.2f}",
    },
)

CHANNELS = Table(
    "To normalised channels",
    "From the bytes of a file to float32 channels of the whole picture at its own size. "
    '"decode, block_dct" takes the fastest decoder above, then ours; "decode, convolution" folds '
    "all of the transform into one. jpeg2dct's blocks are gathered and normalised by PyTorch, its "
    "chroma left at half the size. All but freqops in units of its time.",
    {
        "files": "{}",
        "channels": "{}",
        "freqops ms": "{:.3f}",
        "of it reading": "{:.0%}",
        "decode, block_dct": "**{:.2f}**",
        "decode, convolution": "{:.2f}",
        "jpeg2dct": "{:.2f}",
    },
)

KINDS: dict[str, tuple[tuple[int, int], dict[str, object]]] = {
    "500 x 375, quality 75, 4:2:0": ((500, 375), {"quality": 75, "subsampling": "4:2:0"}),
    "500 x 375, quality 90, 4:2:0": ((500, 375), {"quality": 90, "subsampling": "4:2:0"}),
    "500 x 375, quality 95, 4:4:4": ((500, 375), {"quality": 95, "subsampling": "4:4:4"}),
    "2000 x 1500, quality 90, 4:2:0": ((2000, 1500), {"quality": 90, "subsampling": "4:2:0"}),
    "500 x 375, quality 90, progressive": (
        (500, 375),
        {"quality": 90, "subsampling": "4:2:0", "progressive": True},
    ),
}


def files_of(kind: str, folder: Path) -> list[bytes]:
    """Photographs as the kind has them."""
    size, options = KINDS[kind]
    files = []
    for path in write_photographs(folder, FILES):
        with Image.open(path) as picture:
            if size != (500, 375):
                turned = size if picture.width > picture.height else size[::-1]
                picture = picture.resize(turned, Image.Resampling.LANCZOS)
            file = io.BytesIO()
            picture.save(file, "JPEG", **options)
        files.append(file.getvalue())
    return files


def decoders() -> dict[str, Work]:
    """Those installed: bytes to RGB pixels."""

    def pillow(data: bytes) -> object:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("RGB").load()

    found: dict[str, Work] = {"Pillow": pillow}
    # Its own copy of the bytes: a tensor that shares them would be read-only.
    found["torchvision"] = lambda data: decode_jpeg(
        torch.frombuffer(bytearray(data), dtype=torch.uint8)
    )
    if simplejpeg := installed("simplejpeg"):
        found["simplejpeg"] = simplejpeg.decode_jpeg
        found["simplejpeg, replicated"] = lambda data: simplejpeg.decode_jpeg(
            data, fastupsample=True
        )
    if turbojpeg := installed("turbojpeg"):
        try:
            turbo = turbojpeg.TurboJPEG()
        except RuntimeError:  # no libturbojpeg, or one older than this PyTurboJPEG knows
            pass
        else:
            fast = turbojpeg.TJFLAG_FASTUPSAMPLE
            found["PyTurboJPEG"] = turbo.decode
            found["PyTurboJPEG, replicated"] = lambda data: turbo.decode(data, flags=fast)
    if cv2 := installed("cv2"):
        cv2.setNumThreads(0)
        found["OpenCV"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return found


def readers() -> dict[str, Work]:
    """Those installed: bytes to blocks of coefficients."""
    found: dict[str, Work] = {}
    if jpeg2dct := installed("jpeg2dct.numpy"):
        found["jpeg2dct"] = jpeg2dct.loads
    memory = Path("/dev/shm")
    folder = str(memory) if memory.is_dir() else None

    def through_file(read: Callable[[str], object]) -> Work:
        def work(data: bytes) -> object:
            with tempfile.NamedTemporaryFile(suffix=".jpg", dir=folder) as file:
                file.write(data)
                file.flush()
                return read(file.name)

        return work

    if jpeglib := installed("jpeglib"):
        jpeglib.version.set("turbo210")  # its default is libjpeg 6b

        def by_jpeglib(name: str) -> object:
            picture = jpeglib.read_dct(name)
            return picture.Y, picture.Cb, picture.Cr

        found["jpeglib"] = through_file(by_jpeglib)
    if jpegio := installed("jpegio"):
        found["jpegio"] = through_file(lambda name: jpegio.read(name).coef_arrays)
    return found


def medians(work: Mapping[str, Work], files: Sequence[bytes], seconds: float) -> dict[str, float]:
    """Processor seconds of a file: the median over rounds, in each of which everyone in turn takes
    all files."""
    rounds: dict[str, list[float]] = {name: [] for name in work}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds[OURS]) < ROUNDS:
        for name, call in work.items():
            for data in files[-FILES_BEFORE:]:
                call(data)
            start = time.process_time()
            for data in files:
                call(data)
            rounds[name].append((time.process_time() - start) / len(files))
    return {name: statistics.median(values) for name, values in rounds.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def bench_reading(kind: str, tmp_path: Path, record: Record, benchmark: BenchmarkFixture) -> None:
    """Bytes to coefficients beside bytes to pixels."""
    files = files_of(kind, tmp_path)
    decoding, reading = decoders(), readers()
    took = medians({OURS: read_coefficients, **decoding, **reading}, files, SECONDS)
    ours = took[OURS]
    best = min(decoding, key=lambda name: took[name])
    row: Row = {
        "files": kind,
        "kB": sum(map(len, files)) / len(files) / 1e3,
        "freqops ms": 1e3 * ours,
        "decoding ms": 1e3 * took[best],
        "best decoder": best,
        "times faster": took[best] / ours,
        "others": {name: took[name] / ours for name in decoding if name != best},
        "coefficients": {name: took[name] / ours for name in reading},
    }
    record(READING, row)
    benchmark.extra_info.update(row)
    benchmark.pedantic(lambda: read_coefficients(files[0]), rounds=20, warmup_rounds=1)


@pytest.mark.parametrize("count", [24, 64, 192])
@pytest.mark.parametrize("kind", list(KINDS)[1:2] + list(KINDS)[3:4])
def bench_channels(
    kind: str, count: int, tmp_path: Path, record: Record, benchmark: BenchmarkFixture
) -> None:
    """Bytes to normalised channels of the whole picture."""
    files = files_of(kind, tmp_path)
    selection = freqops.ChannelSelection.of(count)
    photographs = freqops.ChannelStatistics.photographs()
    chosen = list(selection)
    mean, std = (x[chosen].float() for x in (photographs.mean, photographs.std))
    scales, offsets = (1 / std).view(-1, 1, 1), (-mean / std).view(-1, 1, 1)
    weight, bias = folded_map(chosen)
    weight = (weight.float() / std.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    bias = (bias.float() - mean) / std
    decode = pixels_by(best_decoder(files))

    def ours(data: bytes) -> Tensor:
        c = read_coefficients(data)
        return freqops.jpeg_gather(
            c.y, c.cb, c.cr, c.tables, selection, subsampling=c.subsampling, mean=mean, std=std
        )

    def convolution(data: bytes) -> Tensor:
        pixels = decode(data).unsqueeze(0)
        height, width = (-side % 8 for side in pixels.shape[2:])
        padded = F.pad(pixels.float(), (0, width, 0, height), mode="replicate")
        return F.conv2d(padded, weight, bias, stride=8)

    work: dict[str, Work] = {
        OURS: ours,
        "reading": read_coefficients,
        "block_dct": lambda data: freqops.block_dct(decode(data), selection, mean=mean, std=std),
        "convolution": convolution,
    }
    if jpeg2dct := installed("jpeg2dct.numpy"):
        parts = (selection.y, selection.cb, selection.cr)
        sizes = [len(part) for part in parts]
        places = [slice(sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(3)]

        def by_jpeg2dct(data: bytes) -> list[Tensor]:
            return [
                torch.from_numpy(blocks[..., part]).permute(2, 0, 1).float() * scales[at]
                + offsets[at]
                for blocks, part, at in zip(jpeg2dct.loads(data), parts, places, strict=True)
            ]

        work["jpeg2dct"] = by_jpeg2dct
    took = medians(work, files, SECONDS)
    row: Row = {
        "files": kind,
        "channels": count,
        "freqops ms": 1e3 * took[OURS],
        "of it reading": took["reading"] / took[OURS],
        "decode, block_dct": took["block_dct"] / took[OURS],
        "decode, convolution": took["convolution"] / took[OURS],
        "jpeg2dct": took["jpeg2dct"] / took[OURS] if "jpeg2dct" in took else None,
    }
    record(CHANNELS, row)
    benchmark.extra_info.update(row)
    benchmark.pedantic(lambda: ours(files[0]), rounds=20, warmup_rounds=1)


def best_decoder(files: Sequence[bytes]) -> str:
    """The fastest on these files, of those that give pixels by themselves."""
    candidates = {name: work for name, work in decoders().items() if name != "Pillow"}
    took = medians({OURS: read_coefficients, **candidates}, files[:8], 1.0)
    return min(candidates, key=lambda name: took[name])


def pixels_by(name: str) -> Callable[[bytes], Tensor]:
    """uint8 (3, H, W), RGB; OpenCV's and PyTurboJPEG's BGR as it is, which costs nothing."""
    decode = decoders()[name]
    if name == "torchvision":
        return decode  # type: ignore[return-value]
    return lambda data: torch.from_numpy(decode(data)).permute(2, 0, 1)
