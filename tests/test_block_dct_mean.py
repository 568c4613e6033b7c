"""block_dct_mean: the operator on every backend, and the public function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from derivative_table import CHANNELS as FEW
from support import (
    CHANNELS,
    CHROMA,
    LAYOUTS,
    STORED,
    Backend,
    exact,
    generator,
    pictures,
    selection,
    statistics,
)
from torch import Tensor

from freqops import ChannelSelection, block_dct, block_dct_mean, reference

# One block and less; edges that are replicated; more than one band of 16 block rows and strip of
# 1536 elements; a band and a strip with one block row or one pixel too many.
SIZES = [(1, 1), (8, 8), (7, 9), (24, 136), (129, 40), (256, 20), (11, 1537), (270, 770)]


def on(backend: Backend, x: Tensor) -> Tensor:
    return x if backend.device == "cpu" else x.to(backend.device)


def check(
    backend: Backend,
    images: Tensor,
    channels: list[int],
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chroma: str = "4:4:4",
) -> None:
    got = backend.ops.block_dct_mean(
        on(backend, images),
        channels,
        None if mean is None else on(backend, mean),
        None if std is None else on(backend, std),
        chroma,
    )
    whole = exact(images)
    want = reference.block_dct_operator(whole, channels, mean, std, chroma, "none", torch.float64)
    assert got.dtype == (torch.float64 if images.dtype == torch.float64 else torch.float32)
    assert got.shape == (len(images), len(channels))
    # Coefficients are below 1024, and a float32 of that size is 6e-5 from the next.
    atol = 1e-9 if got.dtype == torch.float64 else 2e-4
    torch.testing.assert_close(got.double().cpu(), want.mean((2, 3)), atol=atol, rtol=0)


@pytest.mark.parametrize("chroma", CHROMA)
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(backend: Backend, size: tuple[int, int], stored: torch.dtype, chroma: str) -> None:
    images = pictures((2, 3, *size), stored)
    check(backend, images, list(range(CHANNELS)), *statistics(CHANNELS), chroma)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stored", STORED, ids=str)
def test_layouts(backend: Backend, stored: torch.dtype, layout: str) -> None:
    for chroma in CHROMA:
        check(backend, pictures((2, 3, 21, 43), stored, layout), selection(30), chroma=chroma)


@pytest.mark.parametrize("place", [(0, 0), (0, 20), (18, 0), (18, 20), (7, 8), (9, 3)], ids=str)
@pytest.mark.parametrize("chroma", CHROMA)
def test_one_pixel(backend: Backend, chroma: str, place: tuple[int, int]) -> None:
    """Where each pixel counts: corners and edges are replicated, neighbours see each other."""
    images = torch.zeros(1, 3, 19, 21, dtype=torch.uint8)
    images[0, 1, place[0], place[1]] = 255
    check(backend, images, list(range(CHANNELS)), chroma=chroma)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("count", [12, CHANNELS])
def test_statistics(backend: Backend, count: int, dtype: torch.dtype) -> None:
    mean, std = statistics(count, dtype)
    images, channels = pictures((2, 3, 16, 16)), [*selection(10), 5, 5]
    strided = torch.stack([mean, std], 1)
    for given in [(mean, std), (mean, None), (None, std), (strided[:, 0], strided[:, 1])]:
        check(backend, images, channels, *given)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (70, 3, 9, 9)], ids=str)
def test_batches(backend: Backend, shape: tuple[int, ...]) -> None:
    check(backend, pictures(shape), [0, 64, 190])


def test_white(backend: Backend) -> None:
    """The largest sums: a band of white bytes."""
    check(backend, torch.full((1, 3, 2080, 16), 255, dtype=torch.uint8), [0, 1, 64])


@pytest.mark.parametrize("stored", [torch.uint8, torch.float32], ids=str)
def test_layouts_have_the_same_bits(cpu_backend: Backend, stored: torch.dtype) -> None:
    images = pictures((2, 3, 141, 90), stored)
    want = cpu_backend.ops.block_dct_mean(images, [0, 9, 70], None, None, "dctnet")
    for layout in LAYOUTS.values():
        if layout is LAYOUTS["expanded"]:
            continue
        got = cpu_backend.ops.block_dct_mean(layout(images), [0, 9, 70], None, None, "dctnet")
        assert torch.equal(got, want)


@pytest.mark.parametrize("stored", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_threads_change_no_bit(stored: torch.dtype) -> None:
    images = pictures((3, 3, 400, 300), stored)
    want = block_dct_mean(images, chroma="dctnet")
    try:
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            assert torch.equal(block_dct_mean(images, chroma="dctnet"), want)
    finally:
        torch.set_num_threads(1)


def test_not_a_number(backend: Backend) -> None:
    """A pixel that is no number spoils its picture and no other."""
    images = pictures((3, 3, 20, 20), torch.float32)
    images[1, 2, 19, 3] = float("nan")
    got = backend.ops.block_dct_mean(on(backend, images), [0, 70], None, None, "dctnet")
    assert got.isnan().any(1).tolist() == [False, True, False]


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"images": torch.zeros(3, 8, 8)}, r"block_dct_mean: images must be \[N, 3, H, W\]"),
    ({"images": torch.zeros(1, 3, 0, 8)}, "images must have at least one pixel"),
    ({"images": torch.zeros(1, 3, 8, 8).int()}, "images must be uint8, float16"),
    ({"channels": [192]}, r"channels must lie in \[0, 192\), got 192"),
    ({"channels": [0] * 193}, "channels must have 1 to 192 entries, got 193"),
    ({"mean": torch.zeros(3)}, r"block_dct_mean: mean must be \[2\] or \[192\], got \[3\]"),
    ({"std": torch.zeros(2).half()}, "std must be float32 or float64"),
    ({"chroma": "4:2:2"}, 'chroma must be "4:4:4", "4:2:0" or "dctnet", got "4:2:2"'),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=lambda x: str(x)[:30])
def test_operator_refuses(backend: Backend, changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "images": torch.zeros(1, 3, 8, 8),
        "channels": [0, 1],
        "mean": None,
        "std": None,
        "chroma": "4:4:4",
    }
    with pytest.raises(RuntimeError, match=message):
        backend.ops.block_dct_mean(*(arguments | changes).values())


# --- the public function --------------------------------------------------------------------------


@pytest.mark.parametrize("chroma", CHROMA)
def test_public(chroma: str) -> None:
    images, (mean, std) = pictures((2, 3, 30, 50)), statistics(CHANNELS)
    options = {"mean": mean, "std": std, "chroma": chroma}
    want = block_dct(images, [3, 70, 3], dtype=torch.float64, **options).mean((2, 3))
    for channels in ([3, 70, 3], ChannelSelection([3, 70, 3]), torch.tensor([3, 70, 3])):
        got = block_dct_mean(images, channels, **options)
        torch.testing.assert_close(got.double(), want, atol=2e-4, rtol=0)
    torch.testing.assert_close(
        reference.block_dct_mean(images, [3, 70, 3], **options), got, atol=1e-3, rtol=0
    )
    assert torch.equal(block_dct_mean(images[1], [3, 70, 3], **options), got[1])
    assert block_dct_mean(images).shape == (2, CHANNELS)


def test_long_list() -> None:
    images, channels = pictures((2, 3, 9, 17)), [i % 192 for i in range(300)]
    mean, std = statistics(300)
    got = block_dct_mean(images, channels, mean=mean, std=std)
    want = block_dct(images, channels, mean=mean, std=std).mean((2, 3))
    torch.testing.assert_close(got, want, atol=1e-3, rtol=0)


def test_autocast_changes_nothing() -> None:
    images = pictures((2, 3, 16, 16))
    with torch.autocast("cpu"):
        assert torch.equal(block_dct_mean(images), block_dct_mean(images.clone()))
        assert block_dct_mean(images).dtype == torch.float32


def test_public_refuses() -> None:
    images = pictures((1, 3, 8, 8))
    with pytest.raises(TypeError, match="block_dct_mean: images must be a tensor"):
        block_dct_mean([1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"block_dct_mean: channels must lie in \[0, 192\)"):
        block_dct_mean(images, [200])
    with pytest.raises(ValueError, match="block_dct_mean: mean must have one entry per channel"):
        block_dct_mean(images, [1], mean=torch.zeros(2))
    with pytest.raises(ValueError, match="block_dct_mean: chroma must be one of"):
        block_dct_mean(images, chroma="no")
    with pytest.raises(ValueError, match="block_dct_mean: std must be finite and greater than 0"):
        block_dct_mean(images, [1], std=torch.zeros(1))


def dct_of(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return block_dct_mean(x, FEW, mean=mean, std=std, chroma="dctnet")


def test_composition_is_taken_where_a_derivative_may_be_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And only there: the operator has none of its own."""
    import freqops._block_dct_mean as module

    calls: list[str] = []

    def counted(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *a: (calls.append(name), function(*a))[1]

    monkeypatch.setattr(module, "_mean", counted("fused", module._mean))
    monkeypatch.setattr(module, "_from_parts", counted("parts", module._from_parts))
    images = torch.rand(1, 3, 8, 8, generator=generator())
    block_dct_mean(images)
    assert calls == ["fused"]
    images.requires_grad_()
    with torch.no_grad():
        block_dct_mean(images)
    assert calls == ["fused", "fused"]
    block_dct_mean(images)
    assert calls == ["fused", "fused", "parts"]
