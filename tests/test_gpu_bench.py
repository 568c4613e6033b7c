"""The code that measures on a GPU, and its tables, run on the CPU on tiny pictures."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import freqops

ROOT = Path(__file__).parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path.append(BENCHMARKS)

import gpu  # noqa: E402
import gpu_gate  # noqa: E402
import gpu_goals  # noqa: E402
import gpu_jpeg  # noqa: E402
import gpu_networks  # noqa: E402
import gpu_rivals  # noqa: E402
import gpu_setting  # noqa: E402
import measure_cuda  # noqa: E402
from gpu_block_dct import BACKWARD, FORWARD, LATENCY  # noqa: E402
from gpu_gate import GATE  # noqa: E402
from gpu_networks import NETWORKS  # noqa: E402
from gpu_setting import Section, Setting  # noqa: E402
from tables import Cell, Row, Table  # noqa: E402

CPU = torch.device("cpu")


def tiny() -> Setting:
    return Setting(CPU, tiny=True, seconds=0.0, least=2, backend="eager")


# --- Timing --------------------------------------------------------------------------------------


class Clock:
    """perf_counter that only `spend` moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, *seconds: float) -> Callable[[int], None]:
        turns: Iterator[float] = iter(seconds)

        def call(index: int) -> None:
            self.now += next(turns)

        return call


class SlowCopy(measure_cuda.Copy):
    """Moves 4000 bytes in a second of that clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(CPU, 2000)
        self.clock = clock

    def __call__(self, index: int) -> Tensor:
        self.clock.now += 1
        return super().__call__(index)


def test_rates_are_shares_of_the_copy_in_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measure_cuda.time, "perf_counter", clock)
    # Two inputs: a warm pass, a first round, then three rounds that count.
    a = clock.spend(9, 9, 9, 9, 1, 3, 2, 4, 9, 1)
    b = clock.spend(*[8] * 10)
    measured = measure_cuda.interleaved({"a": a, "b": b}, 2, SlowCopy(clock), seconds=0, least=3)
    assert measured.timings["a"].seconds == 3  # of 2, 3 and 5 a call
    assert measured.timings["a"].spread == pytest.approx(1)  # quartiles 2 and 5
    assert measured.timings["a"].how == measure_cuda.CLOCK
    assert measured.bandwidth == 4000
    assert measured.floor(6000) == pytest.approx(1.5)
    assert measured.of_copy("a", 6000) == pytest.approx(0.5)
    assert measured.of_copy("b", 32_000) == pytest.approx(1)
    assert measured.times("a", "b") == pytest.approx(8 / 3)
    assert measured.best(["b", "a"]) == "a"
    assert gpu_setting.milliseconds(measured) == {"a": 3000, "b": 8000}
    row = gpu_setting.figures(measured, "a", 6000)
    assert list(row) == list(gpu_setting.FIGURES)
    assert row["of copy"] == pytest.approx(0.5) and row["GB/s"] == pytest.approx(2e-6)
    assert row["floor ms"] == pytest.approx(1500)


def test_a_copy_moves_what_it_says() -> None:
    copy = measure_cuda.Copy(CPU, 1000)
    assert copy.moved == 2000
    assert torch.equal(copy(0), copy._source)
    assert copy._source.unique().numel() > 100, "never zeros"


def test_inputs_exceed_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        L2_cache_size = 50_000_000

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    device = torch.device("cuda")
    for size in (7_000_000, 60_000_000, 200_000_001):
        assert measure_cuda.inputs_for(size, device) * size >= 200_000_000
    assert measure_cuda.inputs_for(10**9, device) == 2
    assert measure_cuda.inputs_for(1000, device) == measure_cuda.MOST_INPUTS
    assert measure_cuda.inputs_for(1000, CPU) == 2


def test_latency_takes_each_input_in_turn() -> None:
    seen: list[int] = []
    took = measure_cuda.latency(seen.append, 3, CPU, rounds=20)
    assert took.replay is None and took.replay_and_wait is None
    assert took.call > 0 and took.call_and_wait > 0
    assert seen == [(i + 1) % 3 for i in range(len(seen))]


class FakeGraph:
    """Replays the time that its capture took on the clock."""

    replays = 0

    def replay(self) -> None:
        FakeGraph.replays += 1
        self.clock.now += self.took


def fake_cuda(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[object]:
    """torch.cuda on that clock, without a GPU; the pools that graphs were captured in."""
    pools: list[object] = []

    @contextlib.contextmanager
    def graph(graph: FakeGraph, pool: object) -> Iterator[None]:
        pools.append(pool)
        start = clock.now
        yield
        graph.clock, graph.took = clock, clock.now - start

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = clock.now

        def elapsed_time(self, end: Event) -> float:
            return 1e3 * (end.at - self.at)

    class Stream:
        def __init__(self, device: object = None) -> None: ...

        def wait_stream(self, other: object) -> None: ...

    for name, stand_in in {
        "graph": graph,
        "CUDAGraph": FakeGraph,
        "Event": Event,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "synchronize": lambda device=None: None,
        "graph_pool_handle": lambda: (0, 7),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return pools


def test_graphs_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measure_cuda.time, "perf_counter", clock)
    pools = fake_cuda(monkeypatch, clock)
    monkeypatch.setattr(FakeGraph, "replays", 0)
    copy = SlowCopy(clock)
    copy.device = torch.device("cuda")
    seen: list[int] = []

    def captured(index: int) -> None:
        seen.append(index)
        clock.now += 1e-4 * (1 + index)

    def refused(index: int) -> None:
        clock.now += 3e-4
        if len(pools) == 2:  # while its graph is captured
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    measured = measure_cuda.interleaved(
        {"graph": captured, "no graph": refused}, 3, copy, seconds=0, least=4
    )
    assert measured.timings["graph"].seconds == pytest.approx(2e-4)  # the mean of its inputs
    assert measured.timings["graph"].how == measure_cuda.GRAPH
    assert measured.timings["no graph"].seconds == pytest.approx(3e-4)
    assert measured.timings["no graph"].how == "events: operation not permitted"
    assert measured.bandwidth == pytest.approx(4000)
    assert measured.of_copy("graph", 4) == pytest.approx(5)
    assert seen == [0, 1, 2] * (measure_cuda.WARMUP + 1), "warm, then captured once"
    assert pools == [(0, 7)] * 3, "one pool"
    # A graph takes 0.6 ms: it runs once when captured, once to see that, twice in each round.
    assert FakeGraph.replays - 2 - 4 == 1 + 1 + 4 * 2  # less those of the copy


def test_latency_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measure_cuda.time, "perf_counter", clock)
    pools = fake_cuda(monkeypatch, clock)

    written: list[weakref.ref[Tensor]] = []
    held: list[int] = []

    def call(index: int) -> Tensor:
        held.append(sum(result() is not None for result in written))
        clock.now += 1e-6
        result = torch.empty(1)
        written.append(weakref.ref(result))
        return result

    took = measure_cuda.latency(call, 5, torch.device("cuda"), rounds=20)
    assert tuple(took) == pytest.approx((1e-6,) * 4)
    assert len(pools) == 5, "a graph for each input"
    assert held[-5:] == [0, 1, 2, 3, 4], "no graph writes where another does"
    assert set(held[:-5]) == {0}


# --- Tables --------------------------------------------------------------------------------------

SELECTED = {
    "forward": ["1 pictures, 24 channels", "8 pictures, 192 channels"],
    "latency": ["one number times two", "block_dct, registers, 24 channels"],
    "rivals": ["64 pictures, 24 channels", "8 pictures, 192 channels"],
    "backward": [f"{what}, 256 pictures, 24 channels" for what in gpu.gpu_block_dct.OPERATORS],
    "gate": [
        "64 pictures, contiguous, float32, 192 open",
        "64 pictures, channels_last, float16, 24 open",
    ],
    "gated": ["8 pictures, 24 open"],
    "jpeg": [
        "256 pictures, 4:4:4, 24 channels, plain",
        "64 pictures, 4:4:4, 192 channels, plain",
        "8 pictures, 4:2:0, 192 channels, plain",
        *(f"64 pictures, 4:2:0, 64 channels, {form}" for form in list(gpu_jpeg.FORMS)[1:]),
    ],
    "changed": [
        *(f"{what}, 24 channels" for what in gpu.gpu_block_dct.CHANGES),
        "36 channels in no order, 4 of them twice",
        "64 x 450, 24 channels",
    ],
    "crossover": ["8 channels", "80 channels"],
    "compiled": ["64 pictures, 24 channels, product", "256 pictures, 64 channels, einsum"],
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def selected(name: str, setting: Setting) -> Section:
    section = gpu.SECTIONS[name](setting)
    return section._replace(cases={case: section.cases[case] for case in SELECTED[name]})


def allowed(row: Row) -> float:
    """Error of ours: float32 sums, one rounding of the stored type, one step of a tie."""
    changed = str(row.get("changed", ""))
    if "float16" in str(row.get("form", "")):
        return 5  # of 2^-11 of sums of numbers up to 1200
    if "float16 results" in changed or "float16 channels_last results" in changed:
        return 8 if "bfloat16" in changed else 1
    if "jpeg" in changed or row.get("operator") == "block_idct to uint8":
        return 1.001
    return 1e-3


def moved(title: str, row: Row) -> float | None:
    """Bytes that must move, each once."""
    if title == "Gate":
        n, channels, side = (int(part) for part in re.findall(r"\d+", str(row["features"]))[:3])
        opened = int(str(row["open"]).split()[0]) / channels if row["layout"] == "contiguous" else 1
        passes = {"forward": 1 + opened, "backward": 3, "both": 4 + opened}[str(row["step"])]
        return passes * n * channels * side * side * (2 if row["type"] == "float16" else 4)
    if title == "Gated transform":
        n, height, width = (int(part) for part in re.findall(r"\d+", str(row["pictures"])))
        return 2 * 3 * n * height * width + 4 * n * (height // 8) * (width // 8) * 192
    if title == "Straight from JPEG":
        n, height, width = (int(part) for part in re.findall(r"\d+", str(row["blocks"])))
        read = {"4:4:4, 24": 128, "4:4:4, 192": 384, "4:2:0, 192": 192}  # 24: 4x4 of Y, 2x2 twice
        of_block = read.get(f"{row['subsampling']}, {row['channels']}")
        assert of_block or row["channels"] == 64
        return of_block and n * height * width * (of_block + 4 * int(str(row["channels"])))
    if title not in ("Forward", "Crossover", "Backward and inverse"):
        return None
    n, height, width = (int(part) for part in re.findall(r"\d+", str(row["pictures"])))
    coefficients = 4 * n * (height // 8) * (width // 8) * int(str(row["channels"]))
    bytes_alone = title != "Backward and inverse" or row["operator"] == "block_idct to uint8"
    return coefficients + (1 if bytes_alone else 4) * 3 * n * height * width


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("default")  # of Dynamo
@pytest.mark.parametrize("name", SELECTED)
def test_tables(name: str, tmp_path: Path) -> None:
    run = gpu.Run(tmp_path, tiny())
    section = selected(name, run.setting)
    run.plan(section)
    run.measure(section, time.monotonic() + 60)
    assert run.problems == {} and run.left == {}
    title = section.table.title
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["done"] == {title: SELECTED[name]}
    rows = content["tables"][title]
    assert len(rows) >= len(SELECTED[name])
    for row in rows:
        assert list(row) == list(section.table.columns)
        for column in ("ms", "its ms", "by steps ms", "call us"):
            assert row.get(column, 1) is None or row.get(column, 1) > 0
        if isinstance(row.get("error"), float):
            assert row["error"] < allowed(row), row
        if (size := moved(title, row)) is not None:
            assert row["GB/s"] * row["ms"] * 1e6 == pytest.approx(size)
            assert row["of copy"] == pytest.approx(row["floor ms"] / row["ms"])
    text = (tmp_path / "gpu.md").read_text()
    assert f"## {title}" in text and gpu.TINY in text
    assert torch.__version__ in text and freqops.__version__ in text


class OtherGate(freqops.nn.ChannelGate):
    """Decided from coefficients in any case, because it is of another class."""


def gated_network(gate: freqops.nn.ChannelGate) -> nn.Module:
    """Scores of 5 classes from 8 gated channels, with the gate."""
    from freqops.models import FrequencyNetwork
    from freqops.models._recipe import Recipe

    selection, statistics = freqops.ChannelSelection(range(8)), freqops.ChannelStatistics
    found = statistics.photographs()
    transform = freqops.nn.FrequencyTransform(selection, found)
    layers = nn.Sequential(nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    recipe = Recipe("stand-in", selection, found, gate="bernoulli")
    return FrequencyNetwork(transform, layers, recipe, gate)


@pytest.mark.usefixtures("one_thread")
def test_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision")
    import bench_models

    def small() -> dict[str, bench_models.Case]:
        rgb = bench_models.Case(torchvision.models.mobilenet_v2(), 14 * 32)
        return {
            "RGB": rgb,
            "24 channels": bench_models.Case(freqops.models.mobilenet_v2(24), 14 * 64),
            "gate": bench_models.Case(gated_network(OtherGate(8)), 14 * 64),
        }

    def gated() -> dict[str, bench_models.Case]:
        return {
            "RGB": bench_models.Case(nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.Flatten()), 14 * 32),
            "8 channels, gate": bench_models.Case(
                gated_network(freqops.nn.ChannelGate(8)), 14 * 64
            ),
        }

    monkeypatch.setitem(bench_models.FAMILIES, "MobileNetV2", small)
    monkeypatch.setitem(bench_models.FAMILIES, "ResNet-50", gated)
    run = gpu.Run(tmp_path, tiny())
    section = gpu.SECTIONS["networks"](run.setting)
    assert len(section.cases) == 8
    cases = [f"MobileNetV2, {v}" for v in ("float16, channels_last", "float32")]
    cases += [f"ResNet-50, {v}" for v in ("float16, channels_last", "float32")]
    section = section._replace(cases={case: section.cases[case] for case in cases})
    run.plan(section)
    run.measure(section, time.monotonic() + 60)
    assert run.problems == {}
    rows = run.results.tables[section.table]
    both = [f"gate, fused_gate={fused}" for fused in (False, True)]
    names = [f"MobileNetV2, {name}" for name in ("RGB", "24 channels", *both)] * 2
    names += ["ResNet-50, RGB", *(f"ResNet-50, 8 channels, {gate}" for gate in both)] * 2
    assert [row["network"] for row in rows] == names
    for row in rows:
        assert row["timed by"] == measure_cuda.CLOCK
        share = row["with pictures, images/s"] / row["alone, images/s"]
        assert row["of alone"] == pytest.approx(share)
    assert rows[0]["of RGB"] == 1


def test_a_gated_network_is_timed_both_ways() -> None:
    pytest.importorskip("torchvision")
    import bench_models

    gated = gated_network(freqops.nn.ChannelGate(8))
    cases = gpu_networks.both_gates(
        {"a": bench_models.Case(nn.Flatten(), 8), "b": bench_models.Case(gated, 16)}
    )
    assert {name: getattr(case.network, "fused_gate", 0) for name, case in cases.items()} == {
        "a": 0,
        "b, fused_gate=False": False,
        "b, fused_gate=True": True,
    }
    assert len({id(case.network) for case in cases.values()}) == 3 and gated.fused_gate is None


def test_every_table_has_its_own_title() -> None:
    sections = [make(tiny()) for make in gpu.SECTIONS.values()]
    assert len({section.table.title for section in sections}) == len(sections)
    assert all(section.cases for section in sections)


# --- Rivals --------------------------------------------------------------------------------------


def tensors(of: object) -> Iterator[Tensor]:
    """All that a function holds."""
    if isinstance(of, Tensor):
        yield of
    elif isinstance(of, (list, tuple)):
        for each in of:
            yield from tensors(each)
    elif cells := getattr(of, "__closure__", None):
        yield from tensors([cell.cell_contents for cell in cells])


def test_rivals_lie_on_the_device_and_compute_what_we_do() -> None:
    images = gpu_setting.Pictures(2, 16, 24).drawn(tiny().generator)
    transform = gpu_rivals.made(tiny(), 24)
    exact = transform.exact(images)
    there = gpu_rivals.eager_rivals(
        gpu_rivals.made(Setting(torch.device("meta")), 24), torch.device("meta")
    )
    here = gpu_rivals.eager_rivals(transform, CPU)
    assert list(here) == list(there) and len(here) == 12
    for name, (rival, tf32) in here.items():
        whole = gpu_rivals.within(rival, tf32=tf32)
        error = gpu_rivals.checked(name, transform, whole(images), exact)
        assert error < (2 if "float16" in name else 2e-3), name
        assert there[name][0](images.to("meta")).shape == exact.shape
        held = list(tensors(there[name][0]))
        assert held and all(t.is_meta for t in held), name
    assert gpu_rivals.TO_COMPILE and set(gpu_rivals.TO_COMPILE) <= set(here)
    with pytest.raises(ValueError, match="product is off by"):
        gpu_rivals.checked("product", transform, exact + 1, exact)


def test_precision_is_given_back() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with gpu_rivals.precision(tf32=True):
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.benchmark and torch.backends.cudnn.allow_tf32
    with gpu_rivals.precision(tf32=False):
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_the_gates_rival_has_our_gradient() -> None:
    setting = tiny()
    logits, noise = gpu_gate.drawn_gates(setting, 2, 24)
    assert ((logits[..., 1] - logits[..., 0] + noise) > 0).sum(1).tolist() == [24, 24]
    x = torch.randn(2, 192, 4, 4, generator=setting.generator).requires_grad_()
    logits.requires_grad_()
    ours, theirs = (
        freqops.gumbel_gate(x, logits, noise),
        gpu_gate.straight_through(x, logits, noise),
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    grads = [torch.autograd.grad(y.sin().sum() + g.sum(), (x, logits)) for y, g in (ours, theirs)]
    torch.testing.assert_close(*grads)


def test_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product is chosen where the library has it, and the default comes back, errors or not."""
    chosen: list[str] = []
    namespace = torch.ops.freqops
    monkeypatch.setattr(namespace, "set_dct_kernel", chosen.append, raising=False)
    assert gpu_setting.kernels(CPU) == ("registers",)
    assert gpu_setting.kernels(torch.device("cuda")) == ("registers", "product")
    with gpu_setting.kernel("registers"):
        assert chosen == []

    def fails() -> None:
        with gpu_setting.kernel("product"):
            assert chosen == ["product"]
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert chosen == ["product", "registers"]


# --- Goals ---------------------------------------------------------------------------------------


def row_of(table: Table, **cells: Cell) -> Row:
    return dict.fromkeys(table.columns) | cells


def test_goals() -> None:
    forward = [
        row_of(table, pictures=f"{n} x 448x448", channels=c, kernel=kernel, **{"of copy": share})
        for table, n, c, kernel, share in (
            (FORWARD, 256, 24, "registers", 0.5),
            (FORWARD, 256, 24, "product", 0.95),
            (FORWARD, 256, 64, "registers", 0.93),
            (FORWARD, 256, 64, "product", 0.91),
            (FORWARD, 64, 64, "registers", 0.1),
        )
    ]
    first, *more = gpu_goals.rows({FORWARD: forward})
    assert more == [], "nothing else was measured"
    assert first == {
        "goal": "block_dct, 256 pictures, share of the copy",
        "wanted": "90.0%",
        "measured": "93.0%",
        "reached": "yes",
        "worst row": "256 x 448x448, 64",
    }
    queued, waited = "replay us", "replay and wait us"
    latency = [
        row_of(LATENCY, what="block_dct", channels=channels, **{queued: 3 + us / 10, waited: us})
        for channels, us in ((24, 9), (24, 7), (192, 8.0))
    ]
    latency += [row_of(LATENCY, what="one number", **{queued: 20, waited: 20})]
    (found,) = gpu_goals.rows({LATENCY: latency})
    assert (found["wanted"], found["measured"], found["reached"]) == (
        "below 8.00 us",
        "8.00 us (replay us: 3.80)",
        "no",
    )
    backward = [
        row_of(BACKWARD, operator=f"block_dct_backward{chroma}", **{"of copy": share})
        for chroma, share in (("", 0.85), (", 4:2:0", 0.82), (", dctnet", 0.3))
    ]
    found, apart = gpu_goals.rows({BACKWARD: backward})
    assert (found["measured"], found["reached"]) == ("82.0%", "yes")
    assert (apart["wanted"], apart["measured"], apart["reached"]) == (None, "30.0%", None)
    assert "dctnet" in str(apart["goal"])
    written = gpu_goals.GOALS.markdown([found, apart])
    assert "| - | 30.0% | - |" in written and "36 % of its one-pass roof" in written
    networks = [
        row_of(NETWORKS, network=f"ResNet-50, {name}", variant="float16", **{"of alone": share})
        for name, share in (("24 channels", 0.98), ("192 channels", 0.5), ("RGB", 0.6))
    ]
    networks += [row_of(NETWORKS, network="MobileNetV2, 24 channels", **{"of alone": 0.97})]
    (found,) = gpu_goals.rows({NETWORKS: networks})
    assert (found["measured"], found["reached"]) == ("97.0%", "yes")
    assert "MobileNetV2" in found["worst row"]
    closed = row_of(GATE, open="24 of 192", step="forward", layout="contiguous")
    gates = [closed | {"of copy": 0.1, "of dense floor": 1.3}]
    (found,) = gpu_goals.rows({GATE: gates})
    assert found["reached"] == "yes" and found["measured"] == "130.0%"


# --- What is written -----------------------------------------------------------------------------

NUMBERS = Table("Numbers", "What they are.", {"case": "{}", "ms": "{:.2f}"})


def numbers(calls: list[str]) -> Section:
    def case(name: str) -> Callable[[], list[dict[str, str | float]]]:
        def measure() -> list[dict[str, str | float]]:
            calls.append(name)
            if name == "broken":
                raise RuntimeError("CUDA error:\n an illegal number")
            return [{"case": name, "ms": 1.5}]

        return measure

    return Section(NUMBERS, {name: case(name) for name in ("first", "broken", "second")})


def test_a_run_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    calls: list[str] = []
    run = gpu.Run(tmp_path, tiny())
    run.plan(numbers(calls))
    run.measure(numbers(calls), time.monotonic() - 1)
    run.write()
    assert calls == []
    assert "The time ended" in (tmp_path / "gpu.md").read_text()
    assert json.loads((tmp_path / "gpu.json").read_text())["left"] == {
        "Numbers": ["first", "broken", "second"]
    }

    run.measure(numbers(calls), time.monotonic() + 60)
    assert calls == ["first", "broken", "second"]
    content = json.loads((tmp_path / "gpu.json").read_text())
    keys = {"operator", "machine", "tables", "goals", "tiny", "done", "left", "problems"}
    assert set(content) == keys
    assert content["tables"] == {
        "Numbers": [{"case": "first", "ms": 1.5}, {"case": "second", "ms": 1.5}]
    }
    assert content["problems"] == {
        "Numbers: broken": "RuntimeError: CUDA error:\n an illegal number"
    }
    assert content["left"] == {}
    text = (tmp_path / "gpu.md").read_text()
    assert "| first | 1.50 |\n| second | 1.50 |" in text
    assert "- Numbers: broken: RuntimeError: CUDA error: an illegal number" in text
    assert not list(tmp_path.glob("*.part"))

    calls.clear()
    run = gpu.Run(tmp_path, tiny(), resume=True)
    run.plan(numbers(calls))
    run.measure(numbers(calls), time.monotonic() + 60)
    assert calls == ["broken"], "what is done is not measured again"
    rows = json.loads((tmp_path / "gpu.json").read_text())["tables"]["Numbers"]
    assert [row["case"] for row in rows] == ["first", "second"]


def test_another_machines_results_are_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    run = gpu.Run(tmp_path, tiny())
    run.facts["torch"] = "torch 1.0"
    run.plan(numbers(calls))
    run.measure(numbers(calls), time.monotonic() + 60)
    again = gpu.Run(tmp_path, tiny(), resume=True)
    assert again.done == {}
    assert "is not continued, its torch differ" in capsys.readouterr().out


def test_results_of_the_run_leave_the_commit_as_it_is(tmp_path: Path) -> None:
    """A run overwrites gpu.md, which is in the commit, and is to go on all the same."""
    if shutil.which("git") is None:
        pytest.skip("no git here")

    def git(*arguments: str) -> None:
        user = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *user, *arguments], check=True)

    assert gpu.commit(tmp_path) == ""
    results, code = tmp_path / "benchmarks" / "results" / "gpu.md", tmp_path / "code.cu"
    results.parent.mkdir(parents=True)
    for path in (results, code):
        path.write_text("before\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    clean = gpu.commit(tmp_path)
    assert re.fullmatch(r" \([0-9a-f]{7,}\)", clean)
    results.write_text("after\n")
    assert gpu.commit(tmp_path) == clean
    code.write_text("after\n")
    assert gpu.commit(tmp_path) == clean.replace(")", "-dirty)")
    git("add", ".")
    assert gpu.commit(tmp_path) == clean.replace(")", "-dirty)")


def test_compiled_rivals_at_64_pictures_come_first() -> None:
    for full, batches in ((False, ["64", "256"]), (True, ["64", "256", "8"])):
        setting = Setting(CPU, tiny=True, full=full)
        sizes = [name.split()[0] for name in gpu.SECTIONS["compiled"](setting).cases]
        assert list(dict.fromkeys(sizes)) == batches
        assert sizes == sorted(sizes, key=batches.index)


def test_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--device", "cpu", "--tiny", "--only", "gated", "-o", str(tmp_path / "new")]
    assert gpu.main(given) == 0
    built = hasattr(torch.ops.freqops, "block_dct_gated")
    assert ("not in this build" in (tmp_path / "new" / "gpu.md").read_text()) is not built
    assert "gpu.md and gpu.json" in capsys.readouterr().out
    more = ["--resume", "--only", "latency", *given[:2], "--tiny", *given[-2:]]
    assert gpu.main(more) == 0
    tables = json.loads((tmp_path / "new" / "gpu.json").read_text())["tables"]
    assert set(tables) == {"Latency", "Gated transform"}, "what is not asked for again stays"
    capsys.readouterr()
    assert gpu.main([*given, "--budget", "-1"]) == 0
    assert "9 cases are left" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu", "--tiny"])
    assert "need -o FOLDER" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert gpu.main(["-o", str(tmp_path)]) == 1
        assert "sees no GPU here" in capsys.readouterr().err


def test_what_is_committed_was_measured_or_says_that_it_was_not() -> None:
    text = (ROOT / "benchmarks" / "results" / "gpu.md").read_text()
    figures = ROOT / "benchmarks" / "results" / "gpu.json"
    if figures.exists():
        content = json.loads(figures.read_text())
        assert "gpu" in content["machine"] and "driver" in content["machine"]
        assert not content["tiny"] and content["machine"]["gpu"] in text
    else:
        assert "Not measured yet" in text
        assert "TB/s" not in text and "GB/s" not in text and " ms" not in text
