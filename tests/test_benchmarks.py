"""The rivals compute what block_dct does; medians, ratios and tables say what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support import generator, pictures

from freqops import ChannelSelection, reference

ROOT = Path(__file__).parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path.append(BENCHMARKS)

import gather_peers  # noqa: E402
import measure  # noqa: E402
import plot_speed  # noqa: E402
from libraries import LIBRARIES  # noqa: E402
from peers import MARGIN, Transform, rivals  # noqa: E402
from tables import Results, Table  # noqa: E402

sys.path.remove(BENCHMARKS)

SELECTIONS = {
    "square 24": ChannelSelection.square(24),
    "few": ChannelSelection([9, 63, 64, 66, 80, 191]),
    "all": ChannelSelection.all(),
}


def transform_of(channels: ChannelSelection, chroma: str = "4:4:4", white: int = 255) -> Transform:
    draw = torch.rand(2, len(channels), generator=generator(1))
    return Transform(channels, 20 * draw[0], 0.5 + draw[1], chroma, white=white)


@pytest.mark.parametrize("pixels", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("channels", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("chroma", MARGIN)
def test_rivals(chroma: str, channels: ChannelSelection, pixels: torch.dtype) -> None:
    images = pictures((2, 3, 16, 40), pixels)
    transform = transform_of(channels, chroma, 255 if pixels == torch.uint8 else 1)
    exact = transform.exact(images)
    for name, rival in rivals(transform).items():
        result = rival(images)
        assert result.shape == exact.shape, name
        assert result.dtype == torch.float32, name
        assert transform.error(result, exact) < 5e-3, name
    assert transform.error(transform.freqops(images), exact) < 1e-3


def test_rivals_have_the_gradient() -> None:
    transform = transform_of(SELECTIONS["few"], white=1)
    images = pictures((2, 3, 16, 24), torch.float32).requires_grad_()
    grad = torch.randn(2, 6, 2, 3, generator=generator())
    exact = reference.block_dct_backward(
        grad.double(), transform.channels.indices, transform.std, "4:4:4", 16, 24, torch.float64
    )
    for rival in (transform.freqops, *rivals(transform).values()):
        got = torch.autograd.grad(rival(images), images, grad)[0]
        torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries(name: str) -> None:
    library = LIBRARIES[name]
    pytest.importorskip(library.module)
    images = pictures((2, 3, 16, 24))
    transform = transform_of(SELECTIONS["few"])
    error = transform.error(library.make(transform)(images), transform.exact(images))
    assert error < (1e-3 if library.exact else 4.4)  # 255 / 2 instead of 128 is 4 in DC


@pytest.mark.parametrize("channels", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:4:0", "4:2:0", "4:1:1"])
def test_rivals_of_jpeg_gather(subsampling: str, channels: ChannelSelection) -> None:
    draw = torch.rand(2, len(channels), generator=generator(1))
    tables = torch.randint(1, 21, (3, 64), dtype=torch.int32, generator=generator(2))
    gathering = gather_peers.Gathering(channels, 20 * draw[0], 0.5 + draw[1], tables, subsampling)
    planes = gather_peers.random_planes(2, 3, 5, subsampling)
    exact = gathering.exact(planes)
    for name, rival in gather_peers.rivals(gathering).items():
        result = rival(planes)
        assert result.dtype == torch.float32
        last = name.endswith("channels_last")
        form = torch.channels_last if last else torch.contiguous_format
        assert result.is_contiguous(memory_format=form) or subsampling != "4:4:4", name
        assert gathering.error(result, exact) < 5e-3, name
    assert gathering.error(gathering.freqops(planes), exact) < 5e-3


class Clock:
    """perf_counter that only `spend` moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, *seconds: float) -> Callable[..., None]:
        turns: Iterator[float] = iter(seconds)

        def call(*ignored: object) -> None:
            self.now += next(turns)

        return call


def test_interleaved_takes_medians_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", clock)
    calls = {"a": clock.spend(9, 1, 5, 2), "b": clock.spend(9, 20, 10, 40)}
    before = clock.spend(*[100] * 8)  # while the clock stands
    took = measure.interleaved(calls, seconds=0, warmup=1, least=3, before=before)
    assert took == {"a": 2, "b": 20}


def test_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    medians = {"freqops": 2e-3, "slow": 9e-3, "fast": 6e-3, "slower": 10e-3, "plain": 1e-3}
    monkeypatch.setattr(
        measure,
        "interleaved",
        lambda calls, *rest, **more: {name: {**medians, "copy": 5e-4}[name] for name in calls},
    )
    calls = {name: lambda: None for name in ("freqops", "slow", "fast", "slower")}
    got = measure.compare(calls, 4_000_000, beside={"plain": lambda: None})
    assert (got.best, got.times_faster) == ("fast", pytest.approx(3))
    assert got.gigabytes_per_second == pytest.approx(2)
    assert got.of_copy == pytest.approx(0.25)
    assert got.others == pytest.approx({"slow": 9, "slower": 10})
    assert list(got.others) == ["slow", "slower"]
    assert got.beside == {"plain": 1e-3}
    assert measure.compare(calls, 4_000_000, bandwidth=4e9).of_copy == pytest.approx(0.5)


def test_of_two_calls_in_a_turn_the_second_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", clock)
    turns = [100, 2] * 5
    calls = {"freqops": clock.spend(100, 9, 9, *turns), "other": clock.spend(100, 9, 9, *turns)}
    got = measure.compare(calls, 4, bandwidth=1.0, seconds=0, twice=True)
    assert (got.ours, got.rivals) == (2, {"other": 2})


def test_a_copy_moves_so_many_bytes() -> None:
    target = measure.copying(1 << 12)()
    assert 2 * target.nbytes == 1 << 12
    assert measure.allocated(lambda: (torch.empty(256), torch.empty(256))) == 2 * 1024


SPEEDS = Table(
    "Speeds",
    "What they mean.",
    {"case": "{}", "ms": "{:.2f}", "faster": "**{:.1f}**", "others": "{:.1f}"},
)


def test_tables() -> None:
    results = Results(lines=["| 1 |"])
    first = {"case": "a", "ms": 1.234, "faster": 2.96, "others": {"x": 3.14, "y": 10.0}}
    results.add(SPEEDS, first)
    results.add(SPEEDS, {"case": "b", "ms": None, "faster": "not installed", "others": {}})
    assert results.markdown({"processor": "abacus", "torch": "torch 9"}, "| n |\n|---|") == (
        "abacus, torch 9\n\n| n |\n|---|\n| 1 |\n\n## Speeds\n\nWhat they mean.\n\n"
        "| case | ms | faster | others |\n"
        "| --- | --- | --- | --- |\n"
        "| a | 1.23 | **3.0** | x 3.1; y 10.0 |\n"
        "| b | - | not installed |  |"
    )
    content = json.loads(results.json("block_dct", {"processor": "abacus"}))
    assert content["machine"] == {"processor": "abacus"}
    assert content["tables"]["Speeds"][0] == first
    with pytest.raises(ValueError, match="Speeds: a row must have"):
        results.add(SPEEDS, {"case": "c"})


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    row = {"batch": "8 x 448x448", "freqops ms": 1.5, "its ms": 4.5, "times faster": 3.0}
    rows = [{**row, "channels": channels} for channels in (24, 64, 192)]
    facts = ("date", "processor", "threads", "kernels", "torch")
    content = {"machine": dict.fromkeys(facts, "some"), "tables": {"Forward": rows}}
    path = tmp_path / "block_dct_cpu.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert plot_speed.drawn_from(path) == []  # half of it was measured
    content["tables"]["Forward and backward"] = rows
    path.write_text(json.dumps(content), encoding="utf-8")
    assert plot_speed.drawn_from(path) == [path.with_suffix(".png")]
    bars, _ = plot_speed.draw(path).axes
    assert [bar.get_width() for bar in bars.patches] == [3, 3, 3]
    assert "1.50 ms, rival 4.50" in [text.get_text() for text in bars.texts]


def test_benchmarks_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytest_benchmark")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # it warns of benchmarks in one
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", "-m", "", "--collect-only", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for bench in (
        "forward[1 x 448x448-192]",
        "changed[dctnet-8 x 448x448-24]",
        "library[kornia-24]",
    ):
        assert f"bench_block_dct.py::bench_{bench}" in done.stdout, done.stdout
    assert "bench_gumbel_gate.py::bench_training" in done.stdout
    assert "bench_jpeg_gather.py::bench_gather[8 x 448x448-4:2:0-24]" in done.stdout
