"""The figures, read back from what matplotlib holds: colours, numbers, bars, words, files."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from freqops import _drawing, plots
from freqops.channels import ZIGZAG, ChannelSelection
from freqops.gate_statistics import GateStatistics
from freqops.nn import ChannelGate

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

LEARNED = ChannelSelection.learned(24)
SQUARE = ChannelSelection.square(24)


def rates() -> Tensor:
    """Every channel has its own rate from 0 to 1, but some of Y, Cb and Cr share one."""
    order = torch.randperm(192, generator=torch.Generator().manual_seed(0))
    made = torch.linspace(0, 1, 192, dtype=torch.float64)[order]
    made[[5, 64 + 9, 128 + 63]] = 0.375
    return made


def statistics(channels: ChannelSelection | None = None) -> GateStatistics:
    generator = torch.Generator().manual_seed(1)
    count = 192 if channels is None else len(channels)
    p = torch.linspace(1, 0, count)
    gates = (torch.rand(50, count, generator=generator) < p).float()
    return GateStatistics.from_gates([gates], channels)


def scene(channels: ChannelSelection, size: tuple[int, int] = (9, 9)) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, len(channels), *size, generator=generator)


def module(channels: ChannelSelection, kind: str, reduction: int = 4) -> ChannelGate:
    """Its gate is on for every third channel, whatever it sees."""
    torch.manual_seed(3)
    made = ChannelGate(channels, kind, reduction).eval()
    if kind != "se":
        off_on = made.get_parameter("logits.bias").data.view(-1, 2)
        off_on[:, 0] = torch.where(torch.arange(len(channels)) % 3 == 0, -1.0, 4.0)
    return made


def cell_colours(ax: Any) -> Tensor:
    """(64, 4): what the cells of a map are filled with, v * 8 + u."""
    (mesh,) = ax.collections
    mesh.update_scalarmappable()
    return torch.tensor(mesh.get_facecolor())


def cell_values(ax: Any) -> Tensor:
    """(64,): the numbers behind them, NaN where there is none."""
    return torch.from_numpy(ax.collections[0].get_array().filled(float("nan")).reshape(-1))


def outlined(ax: Any, colour: str = _drawing.MARK) -> set[int]:
    """Cells inside the lines: an odd number of upright sides lies left of each."""
    upright = set()
    for line in ax.lines:
        (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
        assert line.get_color() == colour
        if x0 == x1:
            upright.add((min(y0, y1), x0))
    inside = set()
    for v, u in itertools.product(range(8), range(8)):
        if sum((v, x) in upright for x in range(u + 1)) % 2:
            inside.add(v * 8 + u)
    return inside


def ranks(ax: Any) -> dict[int, Any]:
    """The texts in the cells, by v * 8 + u."""
    found = {}
    for text in ax.texts:
        x, y = text.get_position()
        if text.get_text().isdecimal():
            found[int(y) * 8 + int(x)] = text
    return found


def darkness(colours: Tensor) -> Tensor:
    return 1 - colours[:, :3] @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=colours.dtype)


FIGURES: dict[str, Callable[[], Figure]] = {
    "heat maps": lambda: plots.heat_maps(statistics()),
    "heat maps, chosen": lambda: plots.heat_maps(
        statistics(), chosen=LEARNED, title="A gate trained on photographs"
    ),
    "heat maps, 24": lambda: plots.heat_maps(statistics(LEARNED), chosen=ChannelSelection([0, 1])),
    "heat maps, never": lambda: plots.heat_maps(torch.zeros(192)),
    "heat maps, always": lambda: plots.heat_maps(torch.ones(192), title="All on"),
    "bar chart": lambda: plots.bar_chart(statistics()),
    "bar chart, chosen": lambda: plots.bar_chart(statistics(), chosen=LEARNED),
    "bar chart, 24": lambda: plots.bar_chart(statistics(LEARNED), chosen=ChannelSelection([0, 1])),
    "bar chart, always": lambda: plots.bar_chart(torch.ones(192)),
    "mask": lambda: plots.selection_mask(LEARNED),
    "mask, all": lambda: plots.selection_mask(ChannelSelection.all()),
    "gate": lambda: plots.gate_tensors(module(SQUARE, "bernoulli"), scene(SQUARE)),
    "SE": lambda: plots.gate_tensors(module(SQUARE, "se"), scene(SQUARE)),
    "gate and SE": lambda: plots.gate_tensors(
        module(ChannelSelection.all(), "double"), scene(ChannelSelection.all(), (6, 11))
    ),
}


def test_heat_maps_are_darker_where_more_often_on_and_alike_where_alike() -> None:
    values = rates()
    *maps, bar = plots.heat_maps(values).axes
    assert len(maps) == 3
    colours = torch.cat([cell_colours(ax) for ax in maps])
    dark = darkness(colours)[values.argsort()]
    assert (dark.diff() > -1e-9).all()
    assert dark[-1] - dark[0] > 0.7
    assert len({tuple(colours[c].tolist()) for c in (5, 64 + 9, 128 + 63)}) == 1
    assert len(colours.unique(dim=0)) > 100
    assert torch.equal(torch.cat([cell_values(ax) for ax in maps]), values)
    assert bar.get_ylim() == (0, 1)
    assert bar.get_ylabel() == "how often on"


@pytest.mark.parametrize(("value", "colour"), [(0.0, 0), (0.5, 3), (1.0, 6)])
def test_heat_maps_of_one_rate_keep_the_scale(value: float, colour: int) -> None:
    *maps, bar = plots.heat_maps(torch.full((192,), value)).axes
    want = torch.tensor(to_rgb(plots.MAP_COLOURS[colour]), dtype=torch.float64)
    for ax in maps:
        assert (cell_colours(ax)[:, :3] - want).abs().max() < 0.01
    assert bar.get_ylim() == (0, 1)


def test_every_cell_bears_its_zigzag_rank_in_a_colour_that_shows() -> None:
    for ax in (*plots.heat_maps(rates()).axes[:3], *plots.selection_mask(LEARNED).axes):
        found = ranks(ax)
        assert [int(found[place].get_text()) for place in ZIGZAG] == list(range(64))
        dark = darkness(cell_colours(ax))
        for place, text in found.items():
            paper = text.get_color() == "#ffffff"
            assert paper == (dark[place] > 0.5) or 0.4 < dark[place] < 0.6


def test_heat_maps_of_statistics_are_those_of_their_rates() -> None:
    counted = statistics()
    left, right = plots.heat_maps(counted), plots.heat_maps(counted.rates.float())
    for one, other in zip(left.axes[:3], right.axes[:3], strict=True):
        assert (cell_colours(one) - cell_colours(other)).abs().max() < 1e-2
    on = [part.sum().item() for part in counted.rates.view(3, 64)]
    for ax, number in zip(left.axes, on, strict=False):
        assert f"{number:.1f} of 64 on" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("chosen", [LEARNED, ChannelSelection([130, 191, 9, 9, 18]), SQUARE])
def test_the_chosen_cells_are_outlined(chosen: ChannelSelection) -> None:
    figure = plots.heat_maps(rates(), chosen=chosen, title="Title")
    got = [outlined(ax) for ax in figure.axes[:3]]
    assert got == [set(chosen.y), set(chosen.cb), set(chosen.cr)]
    words = [text.get_text() for text in figure.texts]
    assert words == ["Title", f"outlined: {len(set(chosen))} chosen"]
    assert not any(ax.lines for ax in plots.heat_maps(rates()).axes[:3])


def test_channels_that_a_gate_does_not_have_are_blank() -> None:
    counted = statistics(LEARNED)
    figure = plots.heat_maps(counted)
    parts = (LEARNED.y, LEARNED.cb, LEARNED.cr)
    for component, (ax, part) in enumerate(zip(figure.axes, parts, strict=False)):
        values, colours, texts = cell_values(ax), cell_colours(ax), ranks(ax)
        for place in range(64):
            if place in part:
                assert values[place] == counted.rates[component * 64 + place]
                assert colours[place, 3] == 1
            else:
                assert values[place].isnan()
                assert colours[place, 3] == 0
                assert texts[place].get_color() == _drawing.ABSENT
        aside = f"{counted.rates.view(3, 64)[component].sum():.1f} of {len(part)} on"
        assert aside in [text.get_text() for text in ax.texts]
    assert "blank: not in the gate" in [text.get_text() for text in figure.texts]
    alone = GateStatistics.from_gates([torch.ones(1, 2)], [3, 64])
    assert "not in the gate" in [t.get_text() for t in plots.heat_maps(alone).axes[2].texts]


def test_bars_are_the_rates_by_channel_number() -> None:
    values = rates()
    (ax,) = plots.bar_chart(values).axes
    bars = ax.patches
    assert [bar.get_height() for bar in bars] == values.tolist()
    middles = torch.tensor([bar.get_x() + bar.get_width() / 2 for bar in bars]).float()
    torch.testing.assert_close(middles, torch.arange(192.0))
    assert len({bar.get_facecolor() for bar in bars}) == 1
    assert [line.get_xdata()[0] for line in ax.lines] == [63.5, 127.5]
    heads = [(t.get_position()[0], t.get_text().split()[0]) for t in ax.texts]
    assert heads == [(31.5, "Y"), (95.5, "Cb"), (159.5, "Cr")]
    assert ax.get_ylim() == (0, 1)
    assert {0, 64, 128, 191} < set(ax.get_xticks())
    assert ax.get_ylabel() == "how often on"


def test_bars_of_chosen_channels_are_dark() -> None:
    figure = plots.bar_chart(rates(), chosen=LEARNED)
    colours = torch.tensor([bar.get_facecolor() for bar in figure.axes[0].patches])
    dark = darkness(colours)
    chosen = torch.zeros(192, dtype=torch.bool)
    chosen[list(LEARNED)] = True
    assert dark[chosen].min() > dark[~chosen].max() + 0.2
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["chosen", "not chosen"]


def test_bars_of_a_small_gate_stand_before_its_slots() -> None:
    counted = statistics(LEARNED)
    figure = plots.bar_chart(counted)
    (ax,) = figure.axes
    assert [bar.get_height() for bar in ax.patches] == counted.rates.tolist()
    (slots,) = ax.collections
    middles = sorted(path.get_extents().x0 + 0.5 for path in slots.get_paths())
    assert middles == sorted(LEARNED)
    assert not plots.bar_chart(statistics()).axes[0].collections


def test_a_mask_fills_the_chosen_cells() -> None:
    selection = ChannelSelection([9, 130, 9, 0])
    figure = plots.selection_mask(selection)
    assert len(figure.axes) == 3
    for ax, part in zip(figure.axes, ({0, 9}, set(), {2}), strict=True):
        dark = darkness(cell_colours(ax)) > 0.5
        assert set(dark.nonzero().flatten().tolist()) == part
        assert f"{len(part)} of 64" in [text.get_text() for text in ax.texts]


def tiles(ax: Any, height: int, width: int) -> Tensor:
    """The 64 tiles of a mosaic, (64, height, width, 3)."""
    picture = torch.from_numpy(ax.images[0].get_array())
    padded = torch.nn.functional.pad(picture, (0, 0, 0, 3, 0, 3))
    cells = padded.reshape(8, height + 3, 8, width + 3, 3).transpose(1, 2)
    return cells[:, :, :height, :width].flatten(0, 1)


@pytest.mark.parametrize("forced", [None, ChannelSelection([1, 65])])
def test_gate_tensors_shows_all_five_and_which_channels_are_closed(
    forced: ChannelSelection | None,
) -> None:
    gate = module(SQUARE, "bernoulli")
    gate.forced = forced
    x = scene(SQUARE)
    figure = plots.gate_tensors(gate, x)
    _, pooled, hidden, logits, _ = (t[0].double() for t in gate.tensors(x)["gate"])
    on = set(gate.channels.indices[::3]) if forced is None else {1, 65}
    drawn = [ax for ax in figure.axes if ax.collections and len(ranks(ax)) == 0]
    maps = [ax for ax in drawn if ax.yaxis_inverted()]
    assert len(maps) == 9
    for row, want in zip(range(3), (pooled, hidden, logits[:, 1] - logits[:, 0]), strict=True):
        values = torch.cat([cell_values(ax) for ax in maps[3 * row : 3 * row + 3]])
        torch.testing.assert_close(values[list(SQUARE)], want.detach())
        assert values.isfinite().sum() == 24
    mosaics = [ax for ax in figure.axes if ax.images]
    assert len(mosaics) == 6
    grey = torch.tensor(to_rgb(_drawing.CLOSED))
    for i, ax in enumerate(mosaics):
        for place, tile in enumerate(tiles(ax, 40, 40)):
            channel = i % 3 * 64 + place
            if channel not in SQUARE.indices:
                assert (tile == 1).all()
            elif i >= 3 and channel not in on:
                assert (tile - grey).abs().max() < 1e-6
            else:
                assert len(tile.flatten(0, 1).unique(dim=0)) == 81, "one colour a coefficient"
    words = [text.get_text() for text in figure.texts]
    how = "on" if forced is None else "forced on"
    assert f"5   output: {len(on)} of 24 channels {how}, grey: off" in words
    zeros = plots.gate_tensors(gate, torch.zeros_like(x))  # told by the gate, not by the planes
    if forced is not None:
        assert zeros.texts[-1].get_text() == "5   output: 2 of 24 channels forced on, grey: off"
    assert "1   input: 24 planes of 9 \u00d7 9" in words


def test_gate_tensors_of_an_se_block() -> None:
    block = module(SQUARE, "se", reduction=3)
    x = scene(SQUARE)
    figure = plots.gate_tensors(block, x[0])
    _, _, hidden, logits, _ = (t[0].detach() for t in block.tensors(x)["se"])
    (bars,) = [ax.patches for ax in figure.axes if len(ax.patches) == 8]
    assert [bar.get_height() for bar in bars] == hidden.tolist()
    weights = logits.sigmoid()
    words = [text.get_text() for text in figure.texts]
    assert "3   squeezed to 8, ReLU" in words
    assert f"5   output: weights {weights.min():.2f} to {weights.max():.2f}" in words
    before, after = [ax for ax in figure.axes if ax.images][::3]
    lights = [tiles(ax, 40, 40)[list(SQUARE.y)].flatten(1).mean(1) for ax in (before, after)]
    assert (lights[1] < lights[0]).all(), "weights below 1 make planes darker, on one scale"


def test_gate_and_se_block_stand_side_by_side() -> None:
    both = module(SQUARE, "double")
    figure = plots.gate_tensors(both, scene(SQUARE))
    alone = plots.gate_tensors(module(SQUARE, "se"), scene(SQUARE))
    assert figure.get_figwidth() == pytest.approx(2 * alone.get_figwidth())
    assert figure.get_figheight() == alone.get_figheight()
    titles = [t for t in figure.texts if t.get_size() > 12]
    assert [t.get_text().split(":")[0] for t in titles] == ["Gate", "Squeeze and excitation"]
    assert titles[0].get_position()[1] == titles[1].get_position()[1]
    assert len([ax for ax in figure.axes if ax.images]) == 12
    words = [text.get_text() for text in figure.texts]
    assert "5   output of both blocks: 8 of 24 channels on, grey: off" in words


def test_gate_tensors_of_nothing_but_zeros() -> None:
    """A plane of zeros shows its gate all the same, zero has no colour, no scale is empty."""
    gate = module(SQUARE, "double")
    figure = plots.gate_tensors(gate, torch.zeros(1, 24, 1, 1))
    words = [text.get_text() for text in figure.texts]
    assert "5   output of both blocks: 8 of 24 channels on, grey: off" in words
    means = next(ax for ax in figure.axes if ax.yaxis_inverted() and ax.collections)
    neutral = torch.tensor(to_rgb(plots.MAP_COLOURS[0]), dtype=torch.float64)
    assert (cell_colours(means)[0, :3] - neutral).abs().max() < 0.02


def test_gate_tensors_leaves_the_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = module(SQUARE, "double")
    graphs, tensors = [], gate.tensors
    monkeypatch.setattr(
        gate, "tensors", lambda x: graphs.append(torch.is_grad_enabled()) or tensors(x)
    )
    before = {name: value.clone() for name, value in gate.state_dict().items()}
    plots.gate_tensors(gate, scene(SQUARE).requires_grad_())
    assert graphs == [False]
    assert not gate.training
    for name, value in gate.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in gate.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gate_tensors_of_other_types(dtype: torch.dtype) -> None:
    gate = module(SQUARE, "bernoulli").to(dtype)
    figure = plots.gate_tensors(gate, scene(SQUARE).to(dtype))
    words = [text.get_text() for text in figure.texts]
    assert "5   output: 8 of 24 channels on, grey: off" in words


def test_gate_tensors_of_infinite_logits() -> None:
    """They are drawn as the largest that is finite, and the gate follows them."""
    gate = module(SQUARE, "bernoulli")
    off_on = gate.get_parameter("logits.bias").data.view(-1, 2)
    off_on[0], off_on[1] = torch.tensor([float("-inf"), 0.0]), torch.tensor([0.0, float("-inf")])
    x = scene(SQUARE)
    figure = plots.gate_tensors(gate, x)
    logits = gate.tensors(x)["gate"][3][0].diff(dim=-1).detach().squeeze(1)
    largest = logits[2:].abs().max()
    maps = [ax for ax in figure.axes if ax.collections and ax.yaxis_inverted()]
    got = torch.cat([cell_values(ax) for ax in maps[6:]])[list(SQUARE)]
    assert got[:2].tolist() == [largest, -largest]
    torch.testing.assert_close(got[2:], logits[2:].double())
    assert "5   output: 8 of 24 channels on, grey: off" in [t.get_text() for t in figure.texts]


def test_figures_are_drawn_on_the_cpu() -> None:
    """Whatever the default device is."""
    counted = statistics(LEARNED)
    gate, x = module(SQUARE, "double"), scene(SQUARE)
    with torch.device("meta"):
        plots.heat_maps(counted, chosen=SQUARE)
        plots.bar_chart(counted)
        plots.selection_mask(SQUARE)
        plots.gate_tensors(gate, x)
        plots.mosaic(torch.zeros(192, 2, 2, device="cpu"), 0)


def test_a_plane_mosaic_puts_each_plane_in_its_tile() -> None:
    selection = ChannelSelection([64 + 21, 3, 64, 64 + 63])
    planes = torch.zeros(4, 2, 4)
    planes[0, 1, 2] = -6.0
    planes[2] = 0.5
    got = _drawing.plane_mosaic(
        planes, selection, 1, bright=6.0, closed=[False, False, False, True], side=8, gap=1
    )
    assert got.shape == (8 * 5 - 1, 8 * 9 - 1, 3)
    cells = torch.nn.functional.pad(got, (0, 0, 0, 1, 0, 1)).reshape(8, 5, 8, 9, 3)
    cells = cells[:, :4, :, :8].transpose(1, 2).flatten(0, 1)
    dark, _, full = (torch.tensor(to_rgb(name)) for name in plots.PLANE_COLOURS[1])
    want = dark.expand(4, 8, 3).clone()
    want[2:, 4:6] = full
    torch.testing.assert_close(cells[21], want)
    assert (cells[63] - torch.tensor(to_rgb(_drawing.CLOSED))).abs().max() < 1e-6
    assert len(cells[0].flatten(0, 1).unique(dim=0)) == 1
    assert (cells[[i for i in range(64) if i not in (0, 21, 63)]] == 1).all()


@pytest.mark.parametrize("name", FIGURES)
def test_no_words_overlap_or_leave_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
    for ax in figure.axes:
        texts += ax.texts
        if ax.axison:
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
                texts += [axis.label, *(label for at, label in ticks if low <= at <= high)]
    boxes = [
        (text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()
    ]
    assert len(boxes) > 10
    page = figure.bbox
    for words, box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1, words
        assert page.y0 <= box.y0 and box.y1 <= page.y1, words
    for (words, one), (others, two) in itertools.combinations(boxes, 2):
        apart = one.x1 <= two.x0 or two.x1 <= one.x0 or one.y1 <= two.y0 or two.y1 <= one.y0
        assert apart, (words, others)


@pytest.mark.parametrize("name", ["heat maps, chosen", "bar chart, 24", "mask", "gate and SE"])
def test_every_format_is_written(name: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    figure = FIGURES[name]()
    for ending in ("png", "svg", "pdf"):
        figure.savefig(tmp_path / f"figure.{ending}")
    with image.open(tmp_path / "figure.png") as picture:
        assert picture.size == tuple(int(n * figure.dpi) for n in figure.get_size_inches())
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
    root = xml.etree.ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 50
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert len(pdf) > 5000


def test_pyplot_is_never_there(tmp_path: Path) -> None:
    """In a process of its own: another test may have imported it."""
    code = """
import sys, torch
from freqops import plots
assert "matplotlib" not in sys.modules
from freqops.channels import ChannelSelection
from freqops.nn import ChannelGate
import matplotlib
settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = settings()
plots.heat_maps(torch.zeros(192), chosen=ChannelSelection.square(6))
plots.bar_chart(torch.zeros(192))
plots.selection_mask(ChannelSelection.square(6))
figure = plots.gate_tensors(ChannelGate(6, "double").eval(), torch.zeros(6, 2, 2))
figure.savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""
    file = str(tmp_path / "figure.png")
    subprocess.run([sys.executable, "-W", "error", "-c", code, file], check=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plots.heat_maps(torch.zeros(192)),
        lambda: plots.bar_chart(torch.zeros(192)),
        lambda: plots.selection_mask(SQUARE),
        lambda: plots.gate_tensors(module(SQUARE, "se"), scene(SQUARE)),
    ],
)
def test_a_missing_matplotlib_is_named(
    call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    sentence = r"freqops.plots needs matplotlib: pip install 'freqops\[plots\]'"
    with pytest.raises(ModuleNotFoundError, match=sentence):
        call()


NAN = torch.zeros(192)
NAN[70] = float("nan")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plots.heat_maps([0.5] * 192),
            TypeError,
            "heat_maps: statistics must be a GateStatistics or rates in floating point, got a list",
        ),
        (
            lambda: plots.bar_chart(torch.ones(192, dtype=torch.int64)),
            TypeError,
            "bar_chart: statistics must be .*, got torch.int64",
        ),
        (
            lambda: plots.heat_maps(torch.zeros(3, 64)),
            ValueError,
            r"statistics must be \[192\], a rate for each channel, got \[3, 64\]",
        ),
        (
            lambda: plots.heat_maps(NAN),
            ValueError,
            r"statistics must lie in \[0, 1\], got nan for channel 70",
        ),
        (
            lambda: plots.bar_chart(torch.full((192,), 1.5)),
            ValueError,
            r"bar_chart: statistics must lie in \[0, 1\], got 1.5 for channel 0",
        ),
        (
            lambda: plots.heat_maps(GateStatistics()),
            ValueError,
            "rates need at least one picture, got none",
        ),
        (
            lambda: plots.heat_maps(rates(), chosen=24),
            TypeError,
            "heat_maps: chosen must be a ChannelSelection, got 24",
        ),
        (
            lambda: plots.bar_chart(rates(), chosen=[0, 1]),
            TypeError,
            "bar_chart: chosen must be a ChannelSelection, got a list",
        ),
        (
            lambda: plots.selection_mask(None),
            TypeError,
            "selection_mask: selection must be a ChannelSelection, got None",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "double").train(), scene(SQUARE)),
            ValueError,
            "gate_tensors: module must be in evaluation mode, got training mode",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "se"), torch.zeros(2, 24, 3, 3)),
            ValueError,
            r"x must be one picture, \[1, 24, H, W\] or \[24, H, W\], got \[2, 24, 3, 3\]",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "se"), torch.zeros(192, 3, 3)),
            ValueError,
            r"x must be one picture, .*, got \[192, 3, 3\]",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "se"), torch.zeros(24, 3)),
            ValueError,
            r"x must be one picture, .*, got \[24, 3\]",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "se"), torch.full((24, 3, 3), float("nan"))),
            ValueError,
            "gate_tensors: x must be finite, got NaN or infinity",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "se"), None),
            TypeError,
            "gate_tensors: x must be a tensor, got None",
        ),
        (
            lambda: plots.gate_tensors(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 3, 3)),
            TypeError,
            "gate_tensors: module must be a ChannelGate, got a Conv2d",
        ),
        (
            lambda: plots.gate_tensors(module(SQUARE, "se"), torch.zeros(24, 3, 3).int()),
            TypeError,
            "gate_tensors: x must be floating point, got torch.int32",
        ),
    ],
)
def test_refused_arguments(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
