"""The README's Python runs from top to bottom, in one session, as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import freqops

README = Path(__file__).parents[1] / "README.md"


def photographs(root: Path) -> None:
    """Two classes of two JPEG files each."""
    image, data = pytest.importorskip("PIL.Image"), pytest.importorskip("skimage.data")
    for name, pixels in (("cat", data.chelsea()), ("coffee", data.coffee())):
        (root / name).mkdir(parents=True)
        for number in (1, 2):
            image.fromarray(pixels[:, ::number]).save(root / name / f"{number}.jpg")


@pytest.mark.skipif(not README.exists(), reason="not in a checkout")
@pytest.mark.skipif(bool(freqops.jpeg.missing()), reason="no JPEG reader")
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torchvision", "matplotlib", "safetensors", "skimage"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 7
    photographs(tmp_path / "photos")
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert isinstance(names["back"], torch.Tensor)
    assert names["back"].shape == (8, 3, 448, 448)
    assert isinstance(names["channels"], freqops.ChannelSelection)
    assert len(names["channels"]) == 24
    small = names["small"]
    assert isinstance(small, freqops.models.FrequencyNetwork)
    assert len(small.transform.channels) == 24
    assert (tmp_path / "gate.png").stat().st_size > 10_000
