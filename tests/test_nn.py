"""FrequencyTransform: a thin module over block_dct, in networks and in data-loader workers."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from freqops import reference
from freqops.channels import ChannelSelection
from freqops.nn import FrequencyTransform
from freqops.statistics import ChannelStatistics

STATISTICS = ChannelStatistics(torch.linspace(-200, 100, 192), torch.linspace(400, 0.7, 192))


def pictures(*size: int) -> Tensor:
    """uint8 noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def close(got: Tensor, want: Tensor, std: Tensor | float = 1.0) -> bool:
    """Whether two float32 results differ by less than 1e-3 coefficient units."""
    return bool(((got.double() - want.double()) * std).abs().max() < 1e-3)


@pytest.mark.parametrize("channels", [24, 10, [130, 5, 5], ChannelSelection.learned(24), None])
@pytest.mark.parametrize("statistics", [None, STATISTICS])
@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0", "dctnet"])
@pytest.mark.parametrize("rounding", ["none", "jpeg"])
def test_forward_is_block_dct_with_its_settings(
    channels: int | list[int] | ChannelSelection | None,
    statistics: ChannelStatistics | None,
    chroma: str,
    rounding: str,
) -> None:
    transform = FrequencyTransform(channels, statistics, chroma=chroma, rounding=rounding)
    selection = ChannelSelection.of(channels)
    assert transform.channels == selection
    images = pictures(2, 3, 19, 26)
    got = transform(images)
    want = reference.block_dct(images, chroma=chroma, rounding=rounding, dtype=torch.float64)
    want = want[:, list(selection)]
    std: Tensor | float = 1.0
    if statistics is not None:
        mean, std = (s.view(-1, 1, 1) for s in statistics.select(selection))
        want = (want - mean) / std
    assert got.shape == (2, len(selection), 3, 4)
    assert got.dtype == torch.float32
    if rounding == "none":
        assert close(got, want, std)
    else:  # one in eight DCs of integers lies halfway between two, and may be rounded to either;
        # without rounding the mean difference is 1/4
        assert ((got - want) * std).abs().max() < 1.001
        assert ((got - want) * std).abs().mean() < 0.1
    assert torch.equal(transform(images[0]), got[0])


def test_defaults() -> None:
    transform = FrequencyTransform()
    assert transform.channels == ChannelSelection.square(24)
    assert transform.mean is transform.std is None, "no statistics, no normalisation"
    images = pictures(2, 3, 16, 16)
    assert close(transform(images), reference.block_dct(images, transform.channels))


def test_dtype_and_memory_format() -> None:
    images = pictures(2, 3, 16, 16)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert FrequencyTransform(6, STATISTICS, dtype=dtype)(images).dtype == dtype
    out = FrequencyTransform(24, memory_format=torch.channels_last)(images)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, FrequencyTransform(24)(images))


def test_192_channels_in_another_order_keep_their_own_statistics() -> None:
    """Statistics of 192 entries are read by channel number: they must not be gathered first."""
    reverse = list(range(191, -1, -1))
    images = pictures(1, 3, 16, 16)
    got = FrequencyTransform(reverse, STATISTICS)(images)
    want = FrequencyTransform(None, STATISTICS)(images)[:, reverse]
    assert close(got, want)


def test_statistics_are_buffers_and_are_saved() -> None:
    transform = FrequencyTransform(24, STATISTICS)
    assert list(transform.parameters()) == []
    state = transform.state_dict()
    assert sorted(state) == ["_extra_state", "mean", "std"]
    assert torch.equal(state["mean"], STATISTICS.mean.float())
    assert torch.equal(state["std"], STATISTICS.std.float())
    other = FrequencyTransform(24, ChannelStatistics.photographs())
    other.load_state_dict(state)
    images = pictures(1, 3, 16, 16)
    assert torch.equal(other(images), transform(images))
    assert list(FrequencyTransform(24).state_dict()) == ["_extra_state"]
    with pytest.raises(RuntimeError, match="Unexpected key"):
        FrequencyTransform(24).load_state_dict(state)


def test_weights_of_other_channels_do_not_load() -> None:
    state = FrequencyTransform(24).state_dict()
    with pytest.raises(
        ValueError, match=r"channels of this module, \(0, 1, 2, 3, 4, 5, 8.*got \(0"
    ):
        FrequencyTransform(ChannelSelection.learned(24)).load_state_dict(state)


@pytest.mark.parametrize(
    "move",
    [
        nn.Module.half,
        nn.Module.bfloat16,
        nn.Module.double,
        lambda module: module.to(torch.float16),
        lambda module: module.to("cpu", torch.bfloat16),
    ],
)
def test_statistics_stay_float32(move: Callable[[nn.Module], nn.Module]) -> None:
    """float16 would overflow or round them: a std of 0.7123 by 0.02 %, a DC mean by 0.06."""
    network = nn.Sequential(FrequencyTransform(24, STATISTICS), nn.Conv2d(24, 4, 1))
    images = pictures(1, 3, 16, 16)
    want = network[0](images)
    assert move(network) is network
    transform = network[0]
    assert transform.mean.dtype == transform.std.dtype == torch.float32
    assert network[1].weight.dtype != torch.float32
    assert torch.equal(transform(images), want)
    assert sorted(transform.state_dict()) == ["_extra_state", "mean", "std"], "still buffers"


def test_statistics_move_with_the_module() -> None:
    for change in (
        lambda m: m.to("meta"),
        lambda m: m.half().to("meta"),
        lambda m: m.to("meta", torch.half),
    ):
        transform = change(FrequencyTransform(24, STATISTICS))
        assert transform.mean.device.type == transform.std.device.type == "meta"
        assert transform.mean.dtype == torch.float32
    assert FrequencyTransform(24).half().mean is None
    empty = FrequencyTransform(24, STATISTICS).to("meta").to_empty(device="cpu")
    empty.load_state_dict(FrequencyTransform(24, STATISTICS).state_dict())
    images = pictures(1, 3, 16, 16)
    assert torch.equal(empty(images), FrequencyTransform(24, STATISTICS)(images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    images = pictures(2, 3, 19, 26)
    want = FrequencyTransform(24, STATISTICS)(images)
    transform = FrequencyTransform(24, STATISTICS).cuda().half()
    got = transform(images.cuda())
    assert got.device.type == "cuda"
    assert close(got.cpu(), want, STATISTICS.select(24)[1].view(-1, 1, 1))


def test_made_under_another_default_device_or_dtype() -> None:
    images = pictures(1, 3, 16, 16)
    want = FrequencyTransform(24, ChannelStatistics.photographs())(images)
    with torch.device("meta"):
        transform = FrequencyTransform(24, ChannelStatistics.photographs())
    assert torch.equal(transform(images), want)
    torch.set_default_dtype(torch.float64)
    try:
        transform = FrequencyTransform(24, ChannelStatistics.photographs())
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(transform(images), want)


def test_extra_repr() -> None:
    assert repr(FrequencyTransform(24)) == (
        "FrequencyTransform(channels=24 (Y 16, Cb 4, Cr 4), normalise=False, "
        "chroma='4:4:4', rounding='none')"
    )
    settings = FrequencyTransform(
        6, STATISTICS, "dctnet", "jpeg", torch.float16, torch.channels_last
    ).extra_repr()
    assert settings == (
        "channels=6 (Y 4, Cb 1, Cr 1), normalise=True, chroma='dctnet', rounding='jpeg', "
        "dtype=torch.float16, memory_format=torch.channels_last"
    )


def test_copies(tmp_path: Path) -> None:
    transform = FrequencyTransform(24, STATISTICS, "4:2:0", "jpeg", torch.float64)
    images = pictures(1, 3, 16, 16)
    file = io.BytesIO()
    torch.save(transform, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(transform),
        pickle.loads(pickle.dumps(transform)),
        torch.load(file, weights_only=False),
    ):
        assert repr(twin) == repr(transform)
        assert torch.equal(twin(images), transform(images))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("statistics", [None, STATISTICS])
def test_compile(dynamic: bool, statistics: ChannelStatistics | None) -> None:
    torch.compiler.reset()
    transform = FrequencyTransform(24, statistics)
    compiled = torch.compile(transform, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in ((2, 3, 16, 24), (3, 3, 33, 40)):
        assert close(compiled(pictures(*size)), transform(pictures(*size)))


def test_gradients_reach_the_pictures() -> None:
    transform = FrequencyTransform(6, STATISTICS)
    images = pictures(1, 3, 9, 10).double().div(255).requires_grad_()
    mine = images.detach().requires_grad_()
    transform(images).square().sum().backward()
    mean, std = STATISTICS.mean.float().double(), STATISTICS.std.float().double()
    reference.block_dct(mine, transform.channels, mean=mean, std=std).square().sum().backward()
    assert images.grad is not None
    assert mine.grad is not None
    assert torch.allclose(images.grad, mine.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("statistics", [None, STATISTICS])
def test_inverse(statistics: ChannelStatistics | None) -> None:
    images = pictures(2, 3, 19, 26)
    transform = FrequencyTransform(192, statistics)
    assert torch.equal(transform.inverse(transform(images), size=(19, 26)), images)
    few = FrequencyTransform(24, statistics)
    got = few.inverse(few(images), dtype=torch.float64)
    mean = None if statistics is None else statistics.mean
    std = None if statistics is None else statistics.std
    want = reference.block_idct(few(images), few.channels, mean=mean, std=std, dtype=torch.float64)
    assert got.shape == (2, 3, 24, 32)
    assert torch.allclose(got, want, atol=1e-4), "absent channels count as their mean"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FrequencyTransform(0), ValueError, r"channels must lie in \[1, 192\], got 0"),
        (lambda: FrequencyTransform([192]), ValueError, r"must lie in \[0, 192\), got 192"),
        (lambda: FrequencyTransform([]), ValueError, "at least one channel, got none"),
        (lambda: FrequencyTransform(2.0), TypeError, "channels must be an integer, got 2.0"),
        (
            lambda: FrequencyTransform(24, torch.ones(192)),
            TypeError,
            "statistics must be a ChannelStatistics or None, got Tensor",
        ),
        (
            lambda: FrequencyTransform(24, chroma="4:1:1"),
            ValueError,
            "chroma must be .*, got '4:1:1'",
        ),
        (
            lambda: FrequencyTransform(24, rounding="floor"),
            ValueError,
            "rounding must be .*, got 'floor'",
        ),
        (
            lambda: FrequencyTransform(24, dtype=torch.int32),
            ValueError,
            "dtype must be .*, got torch.int32",
        ),
        (lambda: FrequencyTransform(24, dtype="half"), TypeError, "dtype must be .*, got 'half'"),
        (
            lambda: FrequencyTransform(24, memory_format="nhwc"),
            TypeError,
            "memory_format must be .*, got 'nhwc'",
        ),
        (
            lambda: FrequencyTransform(24, ChannelStatistics(STATISTICS.mean, [1e-60] * 192)),
            ValueError,
            "std must be finite and greater than 0",
        ),
        (
            lambda: FrequencyTransform(24)(torch.zeros(4, 8, 8)),
            ValueError,
            r"images must be .*, got \[4, 8, 8\]",
        ),
    ],
)
def test_refused_arguments(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


class Photographs(Dataset[tuple[Tensor, int]]):
    """Eight pictures of different sizes, through a transform."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.picture(index)), index

    @staticmethod
    def picture(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        size = (3, 40 + index, 60)
        return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def crop(picture: Tensor) -> Tensor:
    """A transform that needs no torchvision."""
    return picture[:, :32, :32]


# Python 3.12 warns of every fork of a process with threads; this is the test that it works here.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_in_workers_of_a_data_loader(start: str) -> None:
    transform = FrequencyTransform(24, STATISTICS)
    dataset = Photographs(nn.Sequential(Crop(), transform))
    # The parent has used its threads by the time the workers are forked.
    want = torch.stack([transform(crop(Photographs.picture(i))) for i in range(8)])
    transform(pictures(8, 3, 128, 128))
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=start)
    got, indices = map(torch.cat, zip(*loader, strict=True))
    assert indices.tolist() == list(range(8))
    assert close(got, want)


class Crop(nn.Module):
    """``crop`` as a module."""

    def forward(self, picture: Tensor) -> Tensor:
        return crop(picture)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_last_step_of_a_torchvision_pipeline_in_workers() -> None:
    try:
        from torchvision import tv_tensors
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    transform = FrequencyTransform(24, STATISTICS)
    pipeline = v2.Compose([v2.ToImage(), v2.CenterCrop(32), transform])

    # An image of torchvision's own tensor class, and a Pillow picture after ToImage.
    picture = Photographs.picture(0)
    want = transform(v2.functional.center_crop(picture, [32]))
    for form in (picture, tv_tensors.Image(picture), v2.functional.to_pil_image(picture)):
        got = pipeline(form)
        assert torch.equal(got, want)
        assert type(got) is Tensor, "coefficients are no image"

    loader = DataLoader(Photographs(pipeline), batch_size=4, num_workers=2)
    got = torch.cat([batch for batch, _ in loader])
    want = torch.stack([pipeline(Photographs.picture(i)) for i in range(8)])
    assert close(got, want)
