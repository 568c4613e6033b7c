"""Ways from a JPEG file to what a network reads, as a worker of a data loader goes them.

A `Pipeline` prepares a decoded picture (resize and crop) and transforms it. Those to 24 channels
are the rivals of `freqops.nn.FrequencyTransform`: the same map folded into one convolution, and the
way of the paper's authors, who encode each picture twice to read its coefficients.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from measure_statistics import photographs
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import decode_jpeg, read_file
from torchvision.transforms import v2

from freqops import ChannelSelection, ChannelStatistics
from freqops.channels import BLOCK
from freqops.data import JPEGTransform, preprocess, read_image
from freqops.jpeg import read_coefficients
from freqops.nn import FrequencyTransform
from freqops.rivals import folded_map

Transform: TypeAlias = Callable[[Tensor], Tensor]
Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3), RGB
# (gh, gw, 64), one of a file's three components.
Blocks: TypeAlias = NDArray[np.int16] | NDArray[np.int32]
Encoder: TypeAlias = Callable[[Pixels], bytes]
Reader: TypeAlias = Callable[[bytes], Sequence[Blocks]]

CHANNELS = 24
PICTURE = (500, 375)
"""Width and height of most photographs in ImageNet."""
QUALITY = 90
ENCODED_AGAIN = 100
"""The quality at which each step of quantisation is 1: coefficients are rounded, no more."""


def write_photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files of 500 x 375 pixels, every third upright, quality 90, 4:2:0.

    Different crops, every other one mirrored, of the photographs that scikit-image ships.
    """
    shipped = [Image.fromarray(x.permute(1, 2, 0).numpy()) for _, x in photographs()]
    draw = np.random.default_rng(0)
    paths = []
    for number in range(count):
        picture = shipped[number % len(shipped)]
        width, height = PICTURE if number % 3 else PICTURE[::-1]
        scale = draw.uniform(0.6, 1) * min(picture.width / width, picture.height / height)
        left = draw.uniform(0, picture.width - scale * width)
        top = draw.uniform(0, picture.height - scale * height)
        box = (left, top, left + scale * width, top + scale * height)
        crop = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
        if number % 2:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        paths.append(folder / f"{number:04}.jpg")
        crop.save(paths[-1], quality=QUALITY, subsampling="4:2:0")
    return paths


DECODERS: dict[str, Callable[[str], Tensor]] = {
    "Pillow": read_image,
    "torchvision": lambda path: decode_jpeg(read_file(path)),
}
"""Both give uint8 (3, H, W) whose memory is pixel after pixel."""


class Pipeline(NamedTuple):
    """From a decoded picture to a uint8 crop, and from that to what the network reads."""

    prepare: Transform
    transform: Transform | None = None

    def __call__(self, picture: Tensor) -> Tensor:
        crop = self.prepare(picture)
        return crop if self.transform is None else self.transform(crop)


def from_coefficients(
    selection: ChannelSelection, statistics: ChannelStatistics
) -> dict[str, Callable[[str], Tensor]]:
    """From a file to channels of the same crop without decoding, by the type of the result."""

    def way(dtype: torch.dtype) -> Callable[[str], Tensor]:
        transform = JPEGTransform(selection, statistics, "resnet50", dtype=dtype)
        return lambda path: transform(read_coefficients(path))

    return {"float32": way(torch.float32), "float16": way(torch.float16)}


class Pictures(Dataset[Tensor]):
    """Files, decoded and taken through a pipeline; without one, what the decoder gives."""

    def __init__(
        self,
        paths: Sequence[Path],
        decode: Callable[[str], Tensor],
        pipeline: Pipeline | None = None,
    ) -> None:
        self.paths = [str(path) for path in paths]
        self.decode = decode
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        decoded = self.decode(self.paths[index])
        return decoded if self.pipeline is None else self.pipeline(decoded)


def folded_convolution(selection: ChannelSelection, statistics: ChannelStatistics) -> Transform:
    """`F.conv2d(x.float(), W, b, stride=8)`: colour, DCT, selection and mean and std in W and b.

    Crop and weight are channels_last, as the decoder leaves the pixels: its fastest form here.
    """
    chosen = list(selection)
    mean, std = statistics.mean[chosen], statistics.std[chosen]
    weight, bias = folded_map(chosen)
    weight = (weight / std.view(-1, 1, 1, 1)).float().contiguous(memory_format=torch.channels_last)
    bias = ((bias - mean) / std).float()

    def convolution(crop: Tensor) -> Tensor:
        return F.conv2d(crop.unsqueeze(0).float(), weight, bias, stride=BLOCK).squeeze(0)

    return convolution


class EncodeTwice:
    """The transform as the paper's authors do it, through two JPEG files.

    The crop is encoded at quality 100, 4:2:0, and Y's coefficients are read back. The crop enlarged
    twofold is encoded too: the halved Cb and Cr of that file have the blocks of the crop. The
    chosen channels are gathered before they become floats, which the authors do after.

    Args:
        encode: pixels to a file.
        read: a file to its three components, dequantised.
        enlarge: pixels to pixels, twofold, bilinear.
    """

    def __init__(
        self,
        encode: Encoder,
        read: Reader,
        enlarge: Callable[[Pixels], Pixels],
        selection: ChannelSelection,
        statistics: ChannelStatistics,
    ) -> None:
        self.encode = encode
        self.read = read
        self.enlarge = enlarge
        self.components = [list(part) for part in (selection.y, selection.cb, selection.cr)]
        chosen = list(selection)
        self.mean = statistics.mean[chosen].float().view(-1, 1, 1)
        self.std = statistics.std[chosen].float().view(-1, 1, 1)

    def __call__(self, crop: Tensor) -> Tensor:
        pixels = np.ascontiguousarray(crop.permute(1, 2, 0).numpy())
        luma = self.read(self.encode(pixels))[0]
        chroma = self.read(self.encode(self.enlarge(pixels)))[1:]
        planes = [
            torch.from_numpy(blocks[..., chosen])
            for blocks, chosen in zip((luma, *chroma), self.components, strict=True)
        ]
        channels = torch.cat(planes, dim=-1).permute(2, 0, 1).float()
        return (channels - self.mean) / self.std


def installed(name: str) -> ModuleType | None:
    """The module, or None where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def encoders() -> dict[str, Encoder]:
    """Those installed, the authors' first. Both are libjpeg-turbo and write the same bytes."""
    found: dict[str, Encoder] = {}
    if turbojpeg := installed("turbojpeg"):
        try:
            turbo = turbojpeg.TurboJPEG()
        except RuntimeError:  # no libturbojpeg, or one older than this PyTurboJPEG knows
            pass
        else:
            found["PyTurboJPEG"] = lambda pixels: turbo.encode(
                pixels,
                quality=ENCODED_AGAIN,
                pixel_format=turbojpeg.TJPF_RGB,
                jpeg_subsample=turbojpeg.TJSAMP_420,
            )
    if simplejpeg := installed("simplejpeg"):
        found["simplejpeg"] = lambda pixels: simplejpeg.encode_jpeg(
            pixels, quality=ENCODED_AGAIN, colorspace="RGB", colorsubsampling="420"
        )
    return found


def readers() -> dict[str, Reader]:
    """Those installed, the authors' first."""
    found: dict[str, Reader] = {}
    if jpeg2dct := installed("jpeg2dct.numpy"):
        found["jpeg2dct"] = jpeg2dct.loads
    if jpegio := installed("jpegio"):

        def read(file: bytes) -> list[Blocks]:
            with tempfile.NamedTemporaryFile(suffix=".jpg") as written:  # it reads files alone
                written.write(file)
                written.flush()
                planes = jpegio.read(written.name).coef_arrays
            sides = [(plane.shape[0] // BLOCK, plane.shape[1] // BLOCK) for plane in planes]
            return [
                plane.reshape(gh, BLOCK, gw, BLOCK).swapaxes(1, 2).reshape(gh, gw, BLOCK * BLOCK)
                for plane, (gh, gw) in zip(planes, sides, strict=True)
            ]

        found["jpegio"] = read
    return found


def enlarger() -> tuple[str, Callable[[Pixels], Pixels]]:
    """OpenCV's, as the authors have it, or torchvision's."""
    if cv2 := installed("cv2"):
        cv2.setNumThreads(0)  # as torch in a worker: none but the caller's

        def by_opencv(pixels: Pixels) -> Pixels:
            height, width = pixels.shape[:2]
            return cv2.resize(pixels, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)

        return "OpenCV", by_opencv

    def by_torchvision(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        larger = v2.functional.resize(
            torch.from_numpy(pixels).permute(2, 0, 1), [2 * height, 2 * width], antialias=False
        )
        return np.ascontiguousarray(larger.permute(1, 2, 0).numpy())

    return "torchvision", by_torchvision


def encode_twice(
    selection: ChannelSelection, statistics: ChannelStatistics
) -> tuple[dict[str, EncodeTwice], list[str]]:
    """The authors' way by the packages it goes through, and what is missing to go it another way.

    An encoder is taken for each reader: the authors' for theirs where there is one.
    """
    encode, read = encoders(), readers()
    ways: dict[str, EncodeTwice] = {}
    missing = [name for name in ("jpeg2dct", "jpegio") if name not in read]
    if not encode:
        missing.append("PyTurboJPEG or simplejpeg")
        return ways, missing
    package, enlarge = enlarger()
    encoder = next(iter(encode))
    for reader in read:
        name = f"{encoder}, {reader}, enlarged by {package}"
        ways[name] = EncodeTwice(encode[encoder], read[reader], enlarge, selection, statistics)
    return ways, missing


def rgb(side: int) -> Transform:
    """Resize and crop: of 224 as torchvision's weights want it, of 448 as the paper's."""
    if side == 448:
        return preprocess("resnet50")
    return v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])


def normalised() -> Transform:
    """uint8 pixels to floats, less the mean of ImageNet, over its std."""
    return v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )


def to_pixels() -> dict[str, Pipeline]:
    """Pipelines to RGB, by name."""
    return {
        f"RGB {side}, {dtype}": Pipeline(rgb(side), transform)
        for side in (224, 448)
        for dtype, transform in (("uint8", None), ("float32", normalised()))
    }


class ToChannels(NamedTuple):
    """A pipeline to channels, its chroma, and how far it may be from the exact coefficients."""

    pipeline: Pipeline
    chroma: str
    tolerance: float


def to_channels(
    selection: ChannelSelection, statistics: ChannelStatistics
) -> tuple[dict[str, ToChannels], list[str]]:
    """Pipelines to normalised channels, by name, and what is missing for others."""
    crop = rgb(448)
    made: dict[str, ToChannels] = {}

    def add(name: str, transform: Transform, chroma: str, tolerance: float) -> None:
        made[name] = ToChannels(Pipeline(crop, transform), chroma, tolerance)

    # float16 rounds normalised values below 8 by up to 2^-9; stds are below 500.
    for name, chroma, dtype, tolerance in (
        ("freqops", "4:4:4", torch.float32, 1e-3),
        ("freqops, float16", "4:4:4", torch.float16, 1.0),
        ("freqops, chroma as the authors'", "dctnet", torch.float32, 1e-3),
    ):
        add(name, FrequencyTransform(selection, statistics, chroma, dtype=dtype), chroma, tolerance)
    # The folded float32 products are that far from the exact result.
    add("folded convolution", folded_convolution(selection, statistics), "4:4:4", 2e-2)
    ways, missing = encode_twice(selection, statistics)
    for name, way in ways.items():
        # JPEG rounds planes before the DCT and coefficients after it.
        add(f"encode twice: {name}", way, "dctnet", 5.0)
    return made, missing
