"""ChannelStatistics against torch's mean and std over all coefficients laid end to end."""

from __future__ import annotations

import copy
import json
import math
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import freqops
from freqops._sums import Sums
from freqops.channels import ChannelSelection
from freqops.data import JPEGTransform
from freqops.ops import block_dct
from freqops.statistics import ChannelStatistics

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "measure_statistics.py"


def pictures() -> list[Tensor]:
    """Pictures of different sizes, brightness, batching and type."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, 8, 8), (3, 40, 24), (2, 3, 17, 30), (3, 9, 70), (5, 3, 16, 16)]
    ranges = [(0, 256), (0, 40), (200, 256), (90, 110), (0, 256)]
    made = [
        torch.randint(low, high, size, dtype=torch.uint8, generator=generator)
        for size, (low, high) in zip(sizes, ranges, strict=True)
    ]
    return [*made, torch.rand(3, 24, 25, generator=generator, dtype=torch.float64)]


def coefficients(images: list[Tensor], **modes: str) -> list[Tensor]:
    """float64 coefficients of each single picture, (192, blocks)."""
    singles = [one for image in images for one in (image if image.dim() == 4 else [image])]
    return [block_dct(x, dtype=torch.float64, **modes).flatten(1) for x in singles]  # type: ignore[arg-type]


def assert_equal(got: ChannelStatistics, want: Tensor) -> None:
    """Mean (relative to std) and std to 1e-10."""
    mean, std = want.mean(1), want.std(1, correction=0)
    assert (got.mean - mean).abs().div(std).max() < 1e-10
    assert (got.std / std - 1).abs().max() < 1e-10
    assert got.count == want.shape[1]
    assert got.mean.dtype == got.std.dtype == torch.float64


def same(left: ChannelStatistics, right: ChannelStatistics) -> bool:
    """Whether two are equal but for the order of summation."""
    means = (left.mean - right.mean).abs().div(right.std).max() < 1e-12
    stds = (left.std / right.std - 1).abs().max() < 1e-12
    return left.count == right.count and bool(means) and bool(stds)


@pytest.mark.parametrize("chroma", ["4:4:4", "dctnet"])
@pytest.mark.parametrize("rounding", ["none", "jpeg"])
def test_equals_torch_over_all_coefficients(chroma: str, rounding: str) -> None:
    got = ChannelStatistics.from_images(pictures(), chroma=chroma, rounding=rounding)
    want = torch.cat(coefficients(pictures(), chroma=chroma, rounding=rounding), 1)
    assert_equal(got, want)
    assert (got.estimator, got.chroma, got.rounding) == ("coefficients", chroma, rounding)


def test_std_of_image_means_is_the_papers_estimator() -> None:
    got = ChannelStatistics.from_images(pictures(), estimator="image_means")
    want = torch.stack([c.mean(1) for c in coefficients(pictures())], 1)
    assert got.count == 11
    assert_equal(got, want)
    assert got.estimator == "image_means"


def test_order_and_batching_do_not_matter() -> None:
    got = ChannelStatistics.from_images(pictures())
    singles = [one for image in pictures() for one in (image if image.dim() == 4 else [image])]
    assert same(ChannelStatistics.from_images(pictures()[::-1]), got)
    assert same(ChannelStatistics.from_images(iter(singles)), got)


@pytest.mark.parametrize("estimator", ["coefficients", "image_means"])
def test_merge_equals_all_at_once(estimator: str) -> None:
    images = pictures()
    whole = ChannelStatistics.from_images(images, estimator=estimator)
    parts = [
        ChannelStatistics.from_images(p, estimator=estimator) for p in (images[:3], images[3:])
    ]
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert same(merged, whole)
        assert merged.estimator == estimator


@pytest.mark.parametrize("estimator", ["coefficients", "image_means"])
@pytest.mark.parametrize("modes", [{}, {"chroma": "dctnet", "rounding": "jpeg"}], ids=str)
def test_coefficients_are_as_good_as_pictures(estimator: str, modes: dict[str, str]) -> None:
    want = ChannelStatistics.from_images(pictures(), estimator=estimator, **modes)
    exact = [block_dct(image, dtype=torch.float64, **modes) for image in pictures()]  # type: ignore[arg-type]
    empty = torch.zeros(0, 192, 3, 3)
    got = ChannelStatistics.from_coefficients(
        iter([*exact[:2], empty, *exact[2:]]), estimator=estimator, **modes
    )
    assert got == want
    assert (got.estimator, got.chroma, got.rounding) == (want.estimator, want.chroma, want.rounding)
    stored = [x.float().requires_grad_() for x in exact]
    near = ChannelStatistics.from_coefficients(stored, estimator=estimator, **modes)
    assert not near.mean.requires_grad
    assert ((near.mean - want.mean) / want.std).abs().max() < 1e-6
    assert (near.std / want.std - 1).abs().max() < 1e-5


def test_coefficients_of_a_transform_are_measured() -> None:
    """Without statistics and with all channels a JPEGTransform gives what is wanted."""
    images = [image for image in pictures() if image.dim() == 3 and image.dtype == torch.uint8]
    got = ChannelStatistics.from_coefficients(map(JPEGTransform(None), images))
    assert got.merge(got).count == 2 * got.count
    want = ChannelStatistics.from_images(images)
    assert ((got.mean - want.mean) / want.std).abs().max() < 1e-5
    assert (got.std / want.std - 1).abs().max() < 1e-5


def test_merge_of_constant_channels_is_exact() -> None:
    """The std of 1 that stands for "does not vary" must not enter the merged one."""
    grey = [torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (10, 20)]
    merged = ChannelStatistics.from_images(grey).merge(ChannelStatistics.from_images(pictures()))
    assert_equal(merged, torch.cat(coefficients(grey + pictures()), 1))


def test_large_offsets_do_not_cancel() -> None:
    """A variance of 1 beside a mean of 1e9: mean(x^2) - mean(x)^2 has no digit left."""
    generator = torch.Generator().manual_seed(1)
    offset = 1e9  # float64 resolves 1e-7 there
    x = offset + torch.randn(192, 3000, dtype=torch.float64, generator=generator)
    sums = Sums.nothing()
    for part in x.split([1, 999, 1700, 300], 1):
        sums = sums.plus(Sums.of(part))
    std = (sums.squares / sums.count).sqrt()
    assert (std / (x - offset).std(1, correction=0) - 1).abs().max() < 1e-8
    assert ((sums.mean - offset) - (x - offset).mean(1)).abs().max() < 1e-6
    naive = (x.square().mean(1) - x.mean(1).square()).clamp(min=0).sqrt()
    assert (naive - 1).abs().max() > 1


def test_long_streams_stay_exact() -> None:
    """20,000 single observations whose std is a 40,000th of their mean."""
    generator = torch.Generator().manual_seed(2)
    x = 400 + torch.randn(192, 20000, dtype=torch.float64, generator=generator) * 1e-2
    sums = Sums.nothing()
    for part in x.split(1, 1):
        sums = sums.plus(Sums.of(part))
    assert ((sums.squares / sums.count).sqrt() / x.std(1, correction=0) - 1).abs().max() < 1e-9
    assert (sums.mean / x.mean(1) - 1).abs().max() < 1e-13


def test_channels_that_do_not_vary_have_std_1() -> None:
    generator = torch.Generator().manual_seed(3)
    grey = torch.randint(0, 256, (1, 64, 64), dtype=torch.uint8, generator=generator).repeat(
        3, 1, 1
    )
    statistics = ChannelStatistics.from_images([grey, grey.double() / 255])
    assert (statistics.std[64:] == 1).all()
    assert (statistics.std[:64] > 2).all()
    averaged = ChannelStatistics.from_images(pictures(), chroma="4:2:0").std.view(3, 8, 8)
    assert (averaged[1:, 4] == 1).all(), "means of 2x2 pixels hold no v = 4"
    assert (averaged[1:, :, 4] == 1).all()
    assert (averaged[1:, :4, :4] > 5).all()


def test_every_form_of_a_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = pictures()[1]
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    file = tmp_path / "picture.png"
    image.fromarray(array).save(file)
    want = ChannelStatistics.from_images([pixels])
    for form in (array, image.fromarray(array), file, str(file), pixels[None]):
        assert same(ChannelStatistics.from_images([form]), want)
    assert ChannelStatistics.from_images(torch.stack([pixels] * 2)).count == 2 * want.count


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_pictures_on_a_gpu() -> None:
    got = ChannelStatistics.from_images(image.cuda() for image in pictures())
    assert same(got, ChannelStatistics.from_images(pictures()))
    assert got.mean.device.type == "cpu"


def test_no_pictures_in_a_batch_count_for_nothing() -> None:
    empty = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    got = ChannelStatistics.from_images([empty, *pictures(), empty])
    assert got == ChannelStatistics.from_images(pictures())


def test_pictures_that_require_grad_leave_no_graph() -> None:
    """A graph would hold the coefficients of every picture until the end."""
    image = torch.rand(3, 16, 16, requires_grad=True)
    sums = ChannelStatistics.from_images([image, image])._sums
    assert sums is not None
    assert not sums.mean.requires_grad
    assert not sums.squares.requires_grad


def test_save_and_load_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "statistics.json"
    measured = ChannelStatistics.from_images(pictures(), chroma="dctnet", rounding="jpeg")
    given = ChannelStatistics(torch.linspace(-1, 1, 192) / 3, torch.linspace(1e-30, 1e30, 192))
    for statistics in (measured, given, measured.merge(measured)):
        statistics.save(path)
        loaded = ChannelStatistics.load(str(path))
        assert loaded == statistics
        assert torch.equal(loaded.mean, statistics.mean)
        assert torch.equal(loaded.std, statistics.std)
        for twin in (pickle.loads(pickle.dumps(statistics)), copy.deepcopy(statistics)):
            assert twin == statistics
    measured.save(path)
    assert ChannelStatistics.load(path).merge(measured) == measured.merge(measured)
    assert measured != given
    assert measured != ChannelStatistics(measured.mean, measured.std)


def test_given_numbers() -> None:
    mean, std = np.linspace(-5, 5, 192), [0.5] * 192
    for m in (mean, mean.tolist(), torch.from_numpy(mean)):
        statistics = ChannelStatistics(m, std)
        assert torch.equal(statistics.mean, torch.from_numpy(mean)), "lists keep their 53 bits"
        assert statistics.std.tolist() == std
    assert (statistics.count, statistics.estimator, statistics.chroma, statistics.rounding) == (
        0,
        None,
        None,
        None,
    )
    mine = torch.ones(192, dtype=torch.float64)
    statistics = ChannelStatistics(mine, mine)
    mine.zero_()
    assert statistics.std.min() == 1, "the numbers are copied"


def test_select_reads_by_channel_number() -> None:
    statistics = ChannelStatistics(torch.arange(192), torch.arange(1, 193))
    mean, std = statistics.select([130, 5, 5])
    assert mean.tolist() == [130, 5, 5]
    assert std.tolist() == [131, 6, 6]
    assert statistics.select(24)[0].tolist() == list(ChannelSelection.square(24))


def test_repr() -> None:
    assert repr(ChannelStatistics([0.0] * 192, [2.0] * 192)) == (
        "ChannelStatistics(given; DC Y 0 +- 2, Cb 0 +- 2, Cr 0 +- 2)"
    )
    assert "(27 coefficients; DC Y" in repr(
        ChannelStatistics.from_images(pictures()[1:2]).merge(
            ChannelStatistics.from_images(pictures()[-1:])
        )
    )


def test_shipped_statistics_are_those_of_photographs() -> None:
    """Natural images: every std falls with the frequency; DC far above AC, Y above Cb and Cr."""
    statistics = ChannelStatistics.photographs()
    std = statistics.std.view(3, 8, 8)
    assert (statistics.estimator, statistics.chroma, statistics.rounding) == (
        "coefficients",
        "4:4:4",
        "none",
    )
    assert (statistics.mean.view(3, 64)[:, 1:].abs() < 3).all()
    assert (std[:, 0, 0] > 1.5 * std[:, 0, 1]).all()
    assert (std[0] > std[1]).all()
    assert (std[0] > std[2]).all()
    for component in std:
        bands = torch.stack([component.flip(0).diagonal(k).mean() for k in range(-7, 8)])
        assert (bands.diff() < 0).all()
    about = json.loads(Path(freqops.__file__).with_name("photographs.json").read_text())["about"]
    assert statistics.count == 56 * 56 * len(about["height x width before it"])


def test_shipped_statistics_come_from_the_script() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    measured = runpy.run_path(str(SCRIPT))["measure"]()
    shipped = ChannelStatistics.photographs()
    assert measured.count == shipped.count
    # torchvision resizes uint8 pictures with other roundings on processors without AVX2.
    assert (measured.mean - shipped.mean).abs().div(shipped.std).max() < 1e-3
    assert (measured.std / shipped.std - 1).abs().max() < 1e-2


ONES = [1.0] * 192


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ChannelStatistics(ONES, [*ONES[1:], 0.0]),
            ValueError,
            "std must be greater than 0, got 0.0 for channel 191",
        ),
        (
            lambda: ChannelStatistics(ONES, [-1.0, *ONES[1:]]),
            ValueError,
            "std must be greater than 0, got -1.0 for channel 0",
        ),
        (
            lambda: ChannelStatistics(ONES, [*ONES[1:], math.nan]),
            ValueError,
            "std must be finite, got nan for channel 191",
        ),
        (
            lambda: ChannelStatistics([math.inf, *ONES[1:]], ONES),
            ValueError,
            "mean must be finite, got inf for channel 0",
        ),
        (
            lambda: ChannelStatistics(ONES[:24], ONES),
            ValueError,
            r"mean must have the shape \(192,\), got \(24,\)",
        ),
        (
            lambda: ChannelStatistics(ONES, torch.ones(1, 192)),
            ValueError,
            r"std must have the shape \(192,\), got \(1, 192\)",
        ),
        (
            lambda: ChannelStatistics(None, ONES),
            TypeError,
            "mean must hold real numbers, got object",
        ),
        (
            lambda: ChannelStatistics(["1"] * 192, ONES),
            TypeError,
            "mean must hold real numbers, got <U1",
        ),
        (
            lambda: ChannelStatistics(ONES, torch.ones(192, dtype=torch.complex64)),
            TypeError,
            "std must hold real numbers, got torch.complex64",
        ),
        (
            lambda: ChannelStatistics(ONES, [True] * 192),
            TypeError,
            "std must hold real numbers, got bool",
        ),
        (
            lambda: ChannelStatistics(ONES, torch.ones(192, dtype=torch.bool)),
            TypeError,
            "std must hold real numbers, got torch.bool",
        ),
        (
            lambda: ChannelStatistics.from_images([]),
            ValueError,
            "at least two observations of a channel, got 0",
        ),
        (
            lambda: ChannelStatistics.from_images(pictures()[:1]),
            ValueError,
            "at least two observations of a channel, got 1",
        ),
        (
            lambda: ChannelStatistics.from_images(pictures()[1:2], estimator="image_means"),
            ValueError,
            "at least two observations of a channel, got 1",
        ),
        (
            lambda: ChannelStatistics.from_images("photo.jpg"),
            TypeError,
            "images must be an iterable of pictures, got 'photo.jpg'",
        ),
        (
            lambda: ChannelStatistics.from_images(3),
            TypeError,
            "images must be an iterable of pictures, got 3",
        ),
        (
            lambda: ChannelStatistics.from_images([pictures()[0], 3]),
            TypeError,
            r"images\[1\]: picture must be a tensor, a Pillow picture, a path or an array, got int",
        ),
        (
            lambda: ChannelStatistics.from_images([torch.full((3, 8, 8), math.nan)]),
            ValueError,
            r"images\[0\] must be finite, got NaN or infinity",
        ),
        (
            lambda: ChannelStatistics.from_images(pictures(), estimator="median"),
            ValueError,
            "from_images: estimator must be one of 'coefficients', 'image_means', got 'median'",
        ),
        (
            lambda: ChannelStatistics.from_coefficients(torch.zeros(2, 192, 1, 1)),
            TypeError,
            "batches must be an iterable of tensors, got a Tensor",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([torch.zeros(192, 1, 1).byte()]),
            TypeError,
            r"batches\[0\] must be a floating-point tensor, got torch.uint8",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([torch.zeros(192, 2, 1), None]),
            TypeError,
            r"batches\[1\] must be a floating-point tensor, got None",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([torch.zeros(24, 1, 1)]),
            ValueError,
            r"batches\[0\] must be \[192, gh, gw\] or \[N, 192, gh, gw\], got \[24, 1, 1\]",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([torch.full((192, 1, 1), math.inf)]),
            ValueError,
            r"batches\[0\] must be finite, got NaN or infinity",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([torch.zeros(192, 1, 1)]),
            ValueError,
            "batches must give at least two observations of a channel, got 1",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([], chroma="grey"),
            ValueError,
            "from_coefficients: chroma must be one of '4:4:4', .*, got 'grey'",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([], rounding="up"),
            ValueError,
            "from_coefficients: rounding must be one of .*, got 'up'",
        ),
        (
            lambda: ChannelStatistics.from_coefficients([], estimator="median"),
            ValueError,
            "from_coefficients: estimator must be one of .*, got 'median'",
        ),
        (
            lambda: ChannelStatistics.photographs().merge(3),
            TypeError,
            "other must be a ChannelStatistics, got int",
        ),
        (
            lambda: ChannelStatistics.photographs().merge(ChannelStatistics(ONES, ONES)),
            ValueError,
            "both statistics must be measured ones, got given numbers",
        ),
        (
            lambda: ChannelStatistics.photographs().merge(
                ChannelStatistics.from_images(pictures(), chroma="dctnet")
            ),
            ValueError,
            r"rounding \('coefficients', '4:4:4', 'none'\), got \('coefficients', 'dctnet', ",
        ),
    ],
)
def test_refused_arguments(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_errors_of_the_operator_name_the_picture() -> None:
    with pytest.raises(
        (TypeError, ValueError), match=r"images\[1\]: .*images must be .*got \[4, 8, 8\]"
    ):
        ChannelStatistics.from_images([pictures()[0], torch.zeros(4, 8, 8)])
    for modes in ({"chroma": "4:1:1"}, {"rounding": "up"}):
        with pytest.raises(
            ValueError, match=rf"{next(iter(modes))} must be .*, got '{next(iter(modes.values()))}'"
        ):
            ChannelStatistics.from_images(pictures(), **modes)


def test_load_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    ChannelStatistics.photographs().save(path)
    good = json.loads(path.read_text())
    changes = [
        ({"format": "freqops.ChannelSelection"}, '"format" is not "freqops.ChannelStatistics"'),
        ({"version": 2}, '"version" is 2, known is 1'),
        ({"mean": None}, '"mean" is no list of numbers'),
        ({"mean": good["mean"][1:]}, r"mean must have the shape \(192,\), got \(191,\)"),
        ({"std": [0.0] * 192}, "std must be greater than 0"),
        ({"std": ["1"] * 192}, '"std" is no list of numbers'),
        ({"squares": None}, '"squares" is no list of numbers'),
        ({"count": -1}, '"count" is -1, not an integer >= 0'),
        ({"count": 1.5}, '"count" is 1.5, not an integer >= 0'),
    ]
    texts = [(json.dumps(good | change), reason) for change, reason in changes]
    for text, reason in [*texts, ("[]", '"format" is not'), ("{", "Expecting property name")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=reason) as caught:
            ChannelStatistics.load(path)
        assert str(path) in str(caught.value)
