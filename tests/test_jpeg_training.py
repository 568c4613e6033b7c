"""From JPEG files to a network's step: photographs cut into classes, workers, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from freqops import block_dct, models
from freqops._jpeg_geometry import place_middle, product, size_after
from freqops.channels import ChannelSelection
from freqops.data import Collate, JPEGFolder, JPEGTransform, read_image
from freqops.statistics import ChannelStatistics

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
skimage_data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")

CUT, SHORT, CROP = 160, 144, 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, cut; what makes files differ in the wild differs here too."""
    root = tmp_path_factory.mktemp("photographs")
    kinds = [
        {"subsampling": "4:4:4", "quality": 95},
        {"subsampling": "4:2:0", "quality": 75},
        {"subsampling": "4:2:2", "quality": 85, "progressive": True},
    ]
    for name in ("astronaut", "coffee"):
        pixels = getattr(skimage_data, name)()
        (root / name).mkdir()
        corners = [(y, x) for y in (0, 120, 240) for x in (0, 150, 300)]
        for i, (y, x) in enumerate(corners):
            cut = Image.fromarray(np.ascontiguousarray(pixels[y : y + CUT, x : x + CUT + 7 * i]))
            cut.save(root / name / f"{i}.jpg", **kinds[i % 3])
    return root


def network() -> nn.Module:
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    return models.resnet18(channels=24, num_classes=2)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_network_learns_from_files(folder: Path, start: str) -> None:
    """Steps of SGD on coefficients from two workers: every weight moves, the loss falls."""
    model = network()
    transform = JPEGTransform(24, ChannelStatistics.photographs(), (SHORT, CROP), train=True)
    data = JPEGFolder(folder, transform)
    loader = DataLoader(
        data,
        batch_size=6,
        shuffle=True,
        num_workers=2,
        collate_fn=Collate("equal"),
        multiprocessing_context=start,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
    before = [p.detach().clone() for p in model.parameters()]
    steps = 0
    for x, labels in loader:
        assert x.shape == (6, 24, CROP // 8, CROP // 8)
        assert 0.3 < x.std() < 3  # normalised
        loss = F.cross_entropy(model(coefficients=x), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        with torch.no_grad():
            assert F.cross_entropy(model(coefficients=x), labels) < loss
        steps += 1
    assert steps == 3
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert data.decoded == 0


def by_pixels(path: str) -> Tensor:
    """Decoded, resized in pixels by the same scale, cut at the same blocks: all 192 channels."""
    pixels = read_image(path)
    height, width = pixels.shape[1:]
    at = place_middle(height, width, SHORT, CROP)
    # Copies of the last pixels, so that nothing is lost by rounding the size.
    padded = F.pad(pixels[None].float(), (0, 8, 0, 8), mode="replicate")
    scale = [product(at.scale_y), product(at.scale_x)]
    scaled = F.interpolate(padded, scale_factor=scale, mode="bicubic", antialias=True)[0]
    scaled = scaled[:, : size_after(height, at.scale_y), : size_after(width, at.scale_x)]
    part = scaled[:, 8 * at.top :, 8 * at.left :][:, :CROP, :CROP]
    return block_dct(part.clamp(0, 255) / 255, dtype=torch.float32)


def test_evaluation_is_that_of_decoded_pictures(folder: Path) -> None:
    """Coefficients from files against decode, resize, crop, transform, in units of a coefficient,
    and what a network makes of the difference."""
    everything = JPEGFolder(folder, JPEGTransform(None, preprocess=(SHORT, CROP)))
    statistics = ChannelStatistics.photographs()
    selection = ChannelSelection.square(24)
    mean, std = (s.float()[:, None, None] for s in statistics.select(selection))
    normalised = JPEGFolder(folder, JPEGTransform(selection, statistics, (SHORT, CROP)))
    model = network().eval()
    worst_y = worst_c = worst_score = 0.0
    for i, (path, _) in enumerate(everything.samples):
        got, want = everything[i][0], by_pixels(path)
        assert got.shape == want.shape == (192, CROP // 8, CROP // 8)
        error = got - want
        worst_y = max(worst_y, error[:64].square().mean().sqrt().item())
        worst_c = max(worst_c, error[64:].square().mean().sqrt().item())
        x, y = normalised[i][0], (want[list(selection.indices)] - mean) / std
        with torch.no_grad():
            scores = model(coefficients=torch.stack([x, y]))
        worst_score = max(worst_score, (scores[0] - scores[1]).abs().max().item())
    # Measured 3.6, of luma that has 34 to 103 RMS (8 % of it at most), 1.5, of chroma with 7 to 47,
    # and 0.15, of scores that two classes have 1 to 3 apart.
    assert worst_y < 4
    assert worst_c < 1.7
    assert worst_score < 0.2


def test_channels_of_other_sizes_make_one_batch(folder: Path) -> None:
    """Whole pictures, padded to a multiple of what the network shrinks them by."""
    data = JPEGFolder(folder, JPEGTransform(24, ChannelStatistics.photographs()))
    loader = DataLoader(data, batch_size=18, collate_fn=Collate("pad", multiple=8, sizes=True))
    x, labels, sizes = next(iter(loader))
    assert x.shape == (18, 24, 24, 32)
    assert sizes.tolist() == [[20, -(-(CUT + 7 * (i % 9)) // 8)] for i in range(18)]
    assert labels.tolist() == [0] * 9 + [1] * 9
    assert (x[0, :, 20:] == 0).all()
    assert network().eval()(coefficients=x).shape == (18, 2)
