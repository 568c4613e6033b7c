"""Reading pictures, and the paper's steps one by one in NumPy against the pipeline."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import freqops.data
from freqops import _pictures
from freqops.channels import ChannelSelection
from freqops.data import preprocess, read_image, to_rgb, to_tensor
from freqops.nn import FrequencyTransform
from freqops.statistics import ChannelStatistics

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture
def vision() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")


def noise(height: int, width: int, depth: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, (height, width, depth)."""
    size = (height, width, depth)
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """A picture in whose resize a rounding moves a pixel by one at most."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 31 + k) * np.cos(y / 17 - k) for k in range(3)]
    return np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)


def pixels_of(tensor: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) to (H, W, 3)."""
    return tensor.permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


# The paper's five steps, one by one, in NumPy.


def resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Step 1a: bilinear without antialiasing, pixel centres at half integers, edges replicated."""

    def axis(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        at = (np.arange(size) + 0.5) * len(values) / size - 0.5
        at = np.clip(at, 0, len(values) - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, len(values) - 1)
        weight = (at - low)[:, None, None]
        return values[low] * (1 - weight) + values[high] * weight

    return axis(axis(picture.astype(float), height).swapaxes(0, 1), width).swapaxes(0, 1)


def cropped(picture: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Step 1b: the central square."""
    top, left = (round((size - side) / 2) for size in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def transformed(picture: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Step 2: Y, Cb, Cr as (H/8, W/8, 64), by the definition of the DCT-II."""
    r, g, b = np.moveaxis(picture, -1, 0)
    planes = [
        0.299 * r + 0.587 * g + 0.114 * b - 128,
        -0.168735892 * r - 0.331264108 * g + 0.5 * b,
        0.5 * r - 0.418687589 * g - 0.081312411 * b,
    ]
    k, i = np.mgrid[:8, :8]
    d = np.cos((2 * i + 1) * k * np.pi / 16) / 2
    d[0] /= np.sqrt(2)
    height, width = picture.shape[0] // 8, picture.shape[1] // 8
    blocks = [plane.reshape(height, 8, width, 8).swapaxes(1, 2) for plane in planes]
    return [(d @ block @ d.T).reshape(height, width, 64) for block in blocks]


def five_steps(
    picture: NDArray[np.uint8],
    short: int,
    side: int,
    selection: ChannelSelection,
    statistics: ChannelStatistics,
) -> NDArray[np.float64]:
    """Resize and crop; DCT; select; concatenate Y, Cb, Cr; normalise."""
    height, width = picture.shape[:2]
    scale = short / min(height, width)
    height, width = (
        short if size == min(height, width) else int(size * scale) for size in (height, width)
    )
    crop = np.rint(cropped(resized(picture, height, width), side))
    components = transformed(crop)
    parts = (selection.y, selection.cb, selection.cr)
    chosen = [c[..., list(part)] for c, part in zip(components, parts, strict=True)]
    joined = np.moveaxis(np.concatenate(chosen, -1), -1, 0)
    mean, std = (s.numpy()[:, None, None] for s in statistics.select(selection))
    return (joined - mean) / std  # type: ignore[no-any-return]


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(
    "selection",
    [ChannelSelection.square(24), ChannelSelection.learned(24), ChannelSelection.triangle(100)],
)
@pytest.mark.parametrize(
    ("network", "short", "side"), [("resnet50", 512, 448), ("mobilenet_v2", 1024, 896)]
)
def test_pipeline_is_the_papers_five_steps(
    network: str, short: int, side: int, selection: ChannelSelection
) -> None:
    from torchvision.transforms import v2

    statistics = ChannelStatistics.photographs()
    pipeline = v2.Compose([preprocess(network), FrequencyTransform(selection, statistics)])

    # A picture that needs no resize: the whole chain, exactly.
    picture = noise(short, short + 90)
    got = pipeline(Image.fromarray(picture))
    want = five_steps(picture, short, side, selection, statistics)
    assert got.shape == (len(selection), side // 8, side // 8)
    std = statistics.select(selection)[1].numpy()[:, None, None]
    assert np.abs((got.double().numpy() - want) * std).max() < 1e-3

    # One that does: torchvision may round a pixel the other way; that moves coefficients by 1 or 2.
    for size in ((333, 500), (600, 401)):
        picture = smooth(*size)
        got = pipeline(Image.fromarray(picture))
        want = five_steps(picture, short, side, selection, statistics)
        difference = np.abs((got.double().numpy() - want) * std)
        assert difference.max() < 4
        assert difference.mean() < 0.4


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(
    ("network", "size", "after"),
    [
        ("resnet50", (300, 451), (512, 769)),  # 769.7
        ("resnet50", (451, 300), (769, 512)),
        ("resnet50", (1411, 1411), (512, 512)),
        ("mobilenet_v2", (375, 500), (1024, 1365)),  # 1365.3
    ],
)
def test_resize_is_bilinear_without_antialiasing(
    network: str, size: tuple[int, int], after: tuple[int, int]
) -> None:
    side = {"resnet50": 448, "mobilenet_v2": 896}[network]
    picture = noise(*size)
    got = pixels_of(preprocess(network)(to_tensor(picture)))
    want = cropped(resized(picture, *after), side)
    assert got.shape == (side, side, 3)
    assert got.dtype == np.uint8
    # Half a level of rounding, and fixed-point weights in torchvision: antialiasing, another crop,
    # another size or another filter differ by tens of levels in noise.
    assert np.abs(got - want).max() <= 2
    assert np.abs(got - want).mean() < 0.5


@pytest.mark.usefixtures("vision")
def test_training_crops_and_flips() -> None:
    torch.manual_seed(0)
    pipeline = preprocess("resnet50", train=True)
    # Red grows to the right, green downwards: the crop's corners tell where it was taken.
    y, x = np.mgrid[:256, :256]
    picture = torch.from_numpy(np.stack([x, y, 0 * x]).astype(np.uint8))
    areas, ratios, flips = [], [], []
    for _ in range(200):
        crop = pipeline(picture)
        assert crop.shape == (3, 448, 448)
        assert crop.dtype == torch.uint8
        left, right = int(crop[0, 0, 0]), int(crop[0, 0, -1])
        width, height = abs(right - left) + 1, int(crop[1, -1, 0]) - int(crop[1, 0, 0]) + 1
        areas.append(width * height / 256**2)
        ratios.append(width / height)
        flips.append(right < left)
    assert 0.07 < min(areas) < 0.15
    assert 0.9 < max(areas) < 1.01
    assert 0.73 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.36
    assert 70 < sum(flips) < 130


@pytest.mark.usefixtures("vision")
def test_training_does_not_antialias() -> None:
    """Uniform noise has a std of 74; bilinear interpolation leaves 2/3 of it whatever the scale."""
    torch.manual_seed(1)
    crop = preprocess("resnet50", train=True)(to_tensor(noise(3000, 3000)))
    assert 40 < crop.double().std() < 60


@pytest.mark.usefixtures("vision")
def test_evaluation_draws_nothing() -> None:
    picture = to_tensor(noise(300, 400))
    state = torch.get_rng_state()
    first = preprocess("resnet50")(picture)
    assert torch.equal(first, preprocess("resnet50", train=False)(picture))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("vision")
def test_pipelines_take_every_form(tmp_path: Path) -> None:
    from torchvision import tv_tensors

    pixels = smooth(300, 400)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "picture.png")
    want = preprocess("resnet50")(to_tensor(pixels))
    for form in (pixels, image, tmp_path / "picture.png", tv_tensors.Image(to_tensor(pixels))):
        assert torch.equal(preprocess("resnet50")(form), want)
    grey = preprocess("resnet50")(image.convert("L"))
    assert grey.shape == (3, 448, 448)
    assert torch.equal(grey[0], grey[2])
    batch = preprocess("resnet50")(to_tensor(pixels).expand(2, -1, -1, -1))
    assert torch.equal(batch, want.expand(2, -1, -1, -1))


@pytest.mark.usefixtures("vision")
def test_example_of_preprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The docstring's example, which doctest cannot run everywhere: it needs torchvision."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(300, 400)).save("photograph.jpg")
    text = (preprocess.__doc__ or "").replace("# doctest: +SKIP", "")
    example = doctest.DocTestParser().get_doctest(
        text, vars(freqops.data).copy(), "preprocess", None, 0
    )
    assert len(example.examples) == 4
    assert doctest.DocTestRunner().run(example).failed == 0


def test_preprocess_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(
        ImportError,
        match=rf"preprocess needs torchvision, .* made for torch {torch.__version__[:3]}.*: ",
    ):
        preprocess("resnet50")


@pytest.mark.usefixtures("vision")
def test_any_size() -> None:
    picture = to_tensor(smooth(120, 90))
    for name, sizes in freqops.data.SIZES.items():
        for train in (False, True):
            assert repr(preprocess(sizes, train)) == repr(preprocess(name, train))
    want = cropped(np.rint(resized(smooth(120, 90), 85, 64)), 56)
    got = pixels_of(preprocess((64, 56))(picture))
    assert np.abs(got - want).max() <= 1
    assert preprocess((64, None))(picture).shape == (3, 85, 64)
    assert torch.equal(preprocess((None, None))(picture), picture)
    assert torch.equal(preprocess((None, 40))(picture), picture[:, 40:80, 25:65])
    drawn = []
    for resize in (64, None, 20):  # no part of what is drawn
        torch.manual_seed(0)
        drawn.append(preprocess((resize, 56), train=True)(picture))
    assert drawn[0].shape == (3, 56, 56)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    assert preprocess((None, 90))(picture).shape == (3, 90, 90)
    with pytest.raises(ValueError, match=r"a crop of 91 must fit .*, which is 120 x 90"):
        preprocess((None, 91))(picture)


@pytest.mark.parametrize(
    ("network", "train", "error", "message"),
    [
        (
            "vgg16",
            False,
            ValueError,
            r"network must be 'resnet50', 'mobilenet_v2' or a pair \(resize, crop\), got 'vgg16'",
        ),
        (50, False, TypeError, r"network must be .* or a pair \(resize, crop\), got 50"),
        (None, False, TypeError, "network must be .*, got None"),
        ((64,), False, TypeError, r"network must be .*, got \(64,\)"),
        ((64, 56.0), False, TypeError, r"crop must be an integer or None, got 56.0 in network=\("),
        ((0, None), False, ValueError, "resize must be at least 1, got 0"),
        ((64, 65), False, ValueError, "crop 65 must not be larger than the short side 64"),
        ((64, None), True, ValueError, "network must have a crop with train=True, got none"),
    ],
)
def test_unknown_networks(
    network: object, train: bool, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        preprocess(network, train)  # type: ignore[arg-type]


# Reading.


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_read_image(tmp_path: Path, suffix: str) -> None:
    pixels = noise(11, 7)
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    for name in (path, str(path)):
        got = read_image(name)
        assert got.dtype == torch.uint8
        assert got.shape == (3, 11, 7)
        assert np.array_equal(pixels_of(got), pixels)
    got[0, 0, 0] = 7  # writable memory of its own
    assert got.unsqueeze(0).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    stored = noise(6, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(stored).save(path, exif=exif)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored.transpose(1, 0, 2)[:, ::-1],
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: stored.transpose(1, 0, 2)[::-1],
    }[orientation]
    assert np.array_equal(pixels_of(read_image(path)), upright)


def test_grey_and_palette(tmp_path: Path) -> None:
    grey = noise(5, 6, 1)[..., 0]
    assert np.array_equal(pixels_of(to_rgb(Image.fromarray(grey))), np.stack([grey] * 3, -1))
    black_and_white = Image.fromarray((grey > 99).astype(np.uint8) * 255).convert("1")
    assert np.array_equal(pixels_of(to_rgb(black_and_white))[..., 1] > 0, grey > 99)
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([1, 0])
    assert to_rgb(palette).squeeze(1).T.tolist() == [[40, 50, 60], [10, 20, 30]]
    palette.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "clear.png").squeeze(1).T.tolist() == [
        [255, 255, 255],
        [10, 20, 30],
    ]


def test_cmyk(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    assert to_rgb(ink).flatten().tolist() == [0, 255, 255]
    Image.new("CMYK", (16, 16), (0, 0, 0, 255)).save(tmp_path / "black.jpg", quality=100)
    assert read_image(tmp_path / "black.jpg").max() <= 2


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 300, 32896, 65406, 65535]], dtype=np.uint16)
    want = np.rint(values / 257).astype(int).tolist()
    assert want == [[0, 0, 1, 1, 1, 128, 254, 255]]
    Image.fromarray(values).save(tmp_path / "deep.png")
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_image(tmp_path / name).tolist() == [want] * 3
    wide = Image.fromarray(np.array([[-5, 257, 70000]], dtype=np.int32))
    assert to_rgb(wide)[0].tolist() == [[0, 1, 255]]


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    path = tmp_path / "clear.png"
    Image.fromarray(pixels).save(path)
    for got in (read_image(path), to_tensor(pixels)):
        assert got.squeeze(1).T.tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]
    assert to_rgb(Image.new("LA", (1, 1), (9, 0))).flatten().tolist() == [255, 255, 255]


def test_several_frames_give_the_first(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(path)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.95])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(64, 64)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="path must name a readable picture, got ") as caught:
        read_image(path)
    assert repr(str(path)) in str(caught.value)


def test_want_of_memory_is_not_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(noise(4, 4)).save(path)

    def exhausted(picture: object) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(_pictures, "to_rgb", exhausted)
    with pytest.raises(MemoryError):
        read_image(path)


def test_other_files_are_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    with pytest.raises(ValueError, match=r"path must name a readable picture, got .*notes\.jpg"):
        read_image(text)
    floats = tmp_path / "floats.tif"
    Image.new("F", (2, 2)).save(floats)
    with pytest.raises(
        ValueError, match=r"got .*floats\.tif.*: picture must have 8 or 16 bits a value"
    ):
        read_image(floats)
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: to_tensor(None),
            "picture must be a tensor, a Pillow picture, a path or an array, got NoneType",
        ),
        (
            lambda: to_tensor(np.zeros((4, 4, 3))),
            r"picture must be a uint8 array .*, got \(4, 4, 3\) of type float64",
        ),
        (
            lambda: to_tensor(noise(4, 4, 2)),
            r"picture must be a uint8 array .*, got \(4, 4, 2\) of type uint8",
        ),
        (
            lambda: to_tensor(noise(4, 4)[0, 0]),
            r"picture must be a uint8 array .*, got \(3,\) of type uint8",
        ),
        (lambda: to_rgb(noise(4, 4)), "picture must be a Pillow picture, got ndarray"),
    ],
)
def test_what_is_no_picture(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_tensors_pass_through() -> None:
    tensor = torch.rand(3, 4, 5)
    assert to_tensor(tensor) is tensor
    assert freqops.data.ToTensor()(tensor) is tensor
    assert repr(freqops.data.ToTensor()) == "ToTensor()"
    assert torch.equal(to_tensor(noise(4, 5)), torch.from_numpy(noise(4, 5)).permute(2, 0, 1))
