"""The pipelines of the loader benchmark: what is timed computes what its row says."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from freqops import ChannelSelection, ChannelStatistics, reference

pytest.importorskip("torchvision")
pytest.importorskip("skimage")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from PIL.JpegImagePlugin import get_sampling  # noqa: E402

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.append(BENCHMARKS)
import loaders  # noqa: E402

sys.path.remove(BENCHMARKS)

# torchvision says that its decoder will move to another package.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

SELECTION = ChannelSelection.square(24)
STATISTICS = ChannelStatistics.photographs()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return loaders.write_photographs(tmp_path_factory.mktemp("photographs"), 6)


@pytest.fixture(scope="module")
def picture(files: list[Path]) -> Tensor:
    return loaders.DECODERS["Pillow"](str(files[2]))


def distance(got: Tensor, crop: Tensor, chroma: str) -> Tensor:
    """From the exact coefficients, in their units, of each channel of each block."""
    chosen = list(SELECTION)
    mean, std = (x[chosen].view(-1, 1, 1) for x in (STATISTICS.mean, STATISTICS.std))
    want = reference.block_dct(crop, SELECTION, chroma=chroma, dtype=torch.float64)
    return (got.double() * std + mean - want).abs()


def test_files(files: list[Path]) -> None:
    """500 x 375 or upright, 4:2:0, quality 90, no two alike."""
    assert len({path.read_bytes() for path in files}) == len(files)
    for number, path in enumerate(files):
        with Image.open(path) as picture:
            assert picture.size == ((500, 375) if number % 3 else (375, 500))
            assert get_sampling(picture) == 2  # 4:2:0
            assert picture.quantization[0][0] == 3  # 16 at quality 50, a fifth of it at 90


def test_decoders_agree(files: list[Path]) -> None:
    pillow, torchvision = (decode(str(files[1])) for decode in loaders.DECODERS.values())
    assert torch.equal(pillow, torchvision)


def test_pipelines_to_pixels(picture: Tensor) -> None:
    pipelines = loaders.to_pixels()
    for side in (224, 448):
        whole = pipelines[f"RGB {side}, uint8"](picture)
        assert whole.dtype == torch.uint8 and whole.shape == (3, side, side)
        floats = pipelines[f"RGB {side}, float32"](picture)
        assert floats.dtype == torch.float32
        # (x / 255 - mean) / std in green.
        torch.testing.assert_close(floats[1], (whole[1] / 255 - 0.456) / 0.224)


def test_pipelines_to_channels(picture: Tensor) -> None:
    """Those that need no further package, and all that are installed."""
    ways, _ = loaders.to_channels(SELECTION, STATISTICS)
    assert {"freqops", "freqops, float16", "folded convolution"} < set(ways)
    for name, way in ways.items():
        got = way.pipeline(picture)
        assert got.shape == (24, 56, 56), name
        assert got.dtype == (torch.float16 if "float16" in name else torch.float32)
        off = distance(got, way.pipeline.prepare(picture), way.chroma)
        assert off.max() <= way.tolerance, name


def test_encode_twice_with_an_exact_file(picture: Tensor) -> None:
    """A file that holds exact coefficients gives those of smoothed chroma."""

    def encode(pixels: loaders.Pixels) -> bytes:
        return pickle.dumps(pixels)

    def read(file: bytes) -> list[NDArray[np.float64]]:
        pixels = torch.from_numpy(pickle.loads(file)).permute(2, 0, 1).double()
        luma, halved = (
            reference.block_dct(x / 255, range(192)).permute(1, 2, 0).numpy()
            for x in (pixels, F.avg_pool2d(pixels, 2))
        )
        return [luma[..., :64], halved[..., 64:128], halved[..., 128:]]

    name, enlarge = loaders.enlarger()
    way = loaders.EncodeTwice(encode, read, enlarge, SELECTION, STATISTICS)
    crop = loaders.rgb(448)(picture)
    off = distance(way(crop), crop, "dctnet")
    assert off[:16].max() < 1e-3
    # The enlarged pixels are whole numbers: off by 0.3 in the mean, halved by their average.
    assert off[16:].max() < 2, name
    assert off[16:].mean() < 0.2, name


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "installed", lambda name: None)
    ways, missing = loaders.to_channels(SELECTION, STATISTICS)
    assert not any("encode twice" in name for name in ways)
    assert missing == ["jpeg2dct", "jpegio", "PyTurboJPEG or simplejpeg"]


@pytest.mark.parametrize("reader", ["jpeg2dct", "jpegio"])
def test_readers_and_encoders(reader: str, picture: Tensor) -> None:
    """Luma read from a file is that of JPEG's arithmetic but for its integer DCT."""
    if reader not in loaders.readers() or not loaders.encoders():
        pytest.skip(f"needs {reader}, and PyTurboJPEG or simplejpeg")
    pixels = np.ascontiguousarray(picture[:, :368, :368].permute(1, 2, 0).numpy())
    files = {encode(pixels) for encode in loaders.encoders().values()}
    assert len(files) == 1
    luma, *chroma = loaders.readers()[reader](files.pop())
    assert luma.shape == (46, 46, 64)
    assert [blocks.shape for blocks in chroma] == [(23, 23, 64)] * 2
    want = reference.block_dct(torch.from_numpy(pixels).permute(2, 0, 1), range(64))
    assert np.abs(luma.transpose(2, 0, 1) - want.numpy()).max() < 5
