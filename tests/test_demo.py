"""`freqops demo`: every number it shows, computed again another way, and the page it draws."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from freqops import demo, plots, poster, reference, rivals
from freqops.channels import ZIGZAG, ChannelSelection
from freqops.cli import main
from freqops.demo import Facts, Photograph, Score, measure, psnr, table
from freqops.rivals import Timing, enlarged, folded_convolution, small_size

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

COUNTS = (6, 24, 64, 192)


def photograph(name="a.png", height=203, width=310, seed=0):
    """Coloured shapes at several scales, with noise: energy at every frequency, falling with it."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for scale in (4, 12, 40, 120):
        small = generator.integers(0, 256, (scale, scale, 3), "uint8")
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        total += np.array(image, "float64") / scale**0.5
    total += generator.normal(0, 1, total.shape)
    scaled = 255 * (total - total.min()) / (total.max() - total.min())
    return Photograph(name, torch.from_numpy(scaled.round().astype("uint8")).permute(2, 0, 1))


@pytest.fixture(scope="module")
def facts():
    photographs = [photograph(), photograph("b.png", 96, 64, seed=1)]
    return measure(photographs, seconds=0.1)


def test_psnr_rises_with_the_channels_and_192_are_exact(facts):
    for name in ("a.png", "b.png"):
        values = [score.psnr for score in facts.scores if score.name == name]
        assert values == sorted(values)
        assert len(set(values)) == 4
        assert math.isinf(values[-1])


def test_psnr_by_hand():
    want = torch.zeros(3, 2, 2, dtype=torch.uint8)
    got = want.clone()
    got[0, 0, 0] = 12  # mean squared error 144 / 12
    assert psnr(want, got) == pytest.approx(10 * math.log10(255**2 / 12))
    assert psnr(want, want) == math.inf


@pytest.mark.parametrize("count", COUNTS)
def test_scores_are_those_of_the_reference(facts, count):
    """All 192 coefficients in float64, the others set to zero, and NumPy's squares."""
    for picture in facts.photographs:
        coefficients = reference.block_dct(picture.pixels, dtype=torch.float64)
        kept = torch.zeros_like(coefficients)
        chosen = list(ChannelSelection.of(count))
        kept[chosen] = coefficients[chosen]
        rebuilt = reference.block_idct(kept, size=picture.size)
        error = (picture.pixels.numpy().astype(float) - rebuilt.numpy()) ** 2
        want = 10 * np.log10(255**2 / error.mean()) if error.any() else math.inf
        (score,) = (s for s in facts.scores if (s.name, s.channels) == (picture.name, count))
        assert score.psnr == pytest.approx(want, abs=0.01)


@pytest.mark.parametrize("count", COUNTS[:3])
def test_the_rival_is_pillow_at_its_best(facts, count):
    picture = facts.photographs[0]
    height, width = small_size(picture.size, count)
    image = Image.fromarray(picture.pixels.permute(1, 2, 0).contiguous().numpy())
    values = []
    for name in ("BILINEAR", "BICUBIC", "LANCZOS"):
        kind = Image.Resampling[name]
        again = image.resize((width, height), kind).resize(image.size, kind)
        values.append(psnr(picture.pixels, torch.from_numpy(np.array(again)).permute(2, 0, 1)))
    (score,) = (s for s in facts.scores if (s.name, s.channels) == ("a.png", count))
    # Pillow rounds the small picture to 8 bits: that can only cost it.
    assert max(values) <= score.pixel_psnr < values[2] + 0.5


@pytest.mark.parametrize("count", [*COUNTS, 1, 12, 100])
@pytest.mark.parametrize("size", [(8, 8), (512, 512), (203, 310), (1, 1), (7, 500), (448, 448)])
def test_the_rival_has_as_many_values_and_no_row_to_spare(size, count):
    height, width = small_size(size, count)
    grid = -(-size[0] // 8) * -(-size[1] // 8)
    if (height, width) != size and height < size[0] and width < size[1]:
        assert 3 * height * width >= count * grid
    assert 3 * (height - 1) * (width - 1) < count * grid
    assert height <= size[0]
    assert width <= size[1]


def test_the_rival_at_all_values_is_the_picture():
    picture = photograph().pixels
    assert small_size((203, 310), 192) == (203, 310)
    assert torch.equal(enlarged(picture, 192), picture)
    assert small_size((512, 512), 48) == (256, 256)


def test_values_are_counted(facts):
    score = facts.scores[1]
    assert (score.channels, score.values) == (24, 24 * 26 * 39)
    assert score.pixel_values == 3 * math.prod(small_size((203, 310), 24))


def test_energy_by_parseval(facts):
    """Shares of Y, Cb, Cr are those of the planes' squares; that of DC is that of block means."""
    want = torch.zeros(3, dtype=torch.float64)
    dc = 0.0
    for picture in facts.photographs:
        rows, columns = (-n % 8 for n in picture.size)
        rgb = np.pad(picture.pixels.numpy(), ((0, 0), (0, rows), (0, columns)), "edge")
        r, g, b = rgb.astype("float64")
        y = 0.299 * r + 0.587 * g + 0.114 * b
        cb, cr = (b - y) / 1.772, (r - y) / 1.402
        squares = np.array([(p**2).sum() for p in (y - 128, cb, cr)])
        want += torch.from_numpy(squares / squares.sum()) / 2
        means = (y - 128).reshape(rgb.shape[1] // 8, 8, rgb.shape[2] // 8, 8).mean((1, 3))
        dc += 64 * (means**2).sum() / squares.sum() / 2
    got = facts.energy.reshape(3, 64)
    torch.testing.assert_close(got.sum(1), want, atol=1e-6, rtol=1e-6)
    assert got[0, 0].item() == pytest.approx(dc, rel=1e-6)
    assert facts.energy_of(192) == pytest.approx(1)
    assert facts.energy_of(6) == pytest.approx(got[0, [0, 1, 8, 9]].sum() + got[1:, 0].sum())


def test_a_grey_picture_has_no_energy():
    flat = torch.full((3, 20, 20), 128, dtype=torch.uint8)
    assert demo.energy_shares(flat).abs().max() == 0
    assert demo.energy_shares(flat + 1)[0] == pytest.approx(1)


def test_the_folded_convolution_is_the_same_transform():
    images = photograph(height=40, width=24).pixels[None]
    channels = [5, 0, 64, 191]
    want = reference.block_dct(images, channels, dtype=torch.float64)
    got = folded_convolution(channels)(images)
    torch.testing.assert_close(got.double(), want, atol=0.02, rtol=0)


def test_timing_refuses_rivals_that_disagree(monkeypatch):
    images = photograph(height=16, width=16).pixels[None]
    right = rivals.block_dct
    monkeypatch.setattr(rivals, "block_dct", lambda x, c: right(x, c) + 0.1)
    with pytest.raises(RuntimeError, match=r"must agree, but differ by 0\.1"):
        rivals.time_in_turn(images, 0)


def test_timing_measures_both_sides_and_divides_the_right_way(monkeypatch):
    """A clock that each call of ours moves by 2 and each convolution by 6 seconds."""
    clock = [0.0]
    right = rivals.block_dct

    def ours(images, channels):
        clock[0] += 2
        return right(images, channels)

    def theirs(channels):
        convolution = folded_convolution(channels)

        def call(images):
            clock[0] += 6
            return convolution(images)

        return call

    monkeypatch.setattr(rivals, "block_dct", ours)
    monkeypatch.setattr(rivals, "folded_convolution", theirs)
    monkeypatch.setattr(rivals.time, "perf_counter", lambda: clock[0])
    timings = rivals.time_in_turn(photograph(height=16, width=16).pixels[None], 0)
    assert [t.channels for t in timings] == [24, 64, 192]
    assert {(t.block_dct, t.convolution, t.ratio) for t in timings} == {(2000, 6000, 3)}


def test_the_table_shows_the_numbers():
    scores = [
        Score(name, count, 1, 1, value, other)
        for name, add in (("a", 0.0), ("b", 2.0))
        for count, value, other in (
            (6, 20 + add, 21),
            (24, 30 + add, 28),
            (64, 40 + add, 33),
            (192, math.inf, math.inf),
        )
    ]
    pictures = (photograph("a", 8, 8), photograph("b", 8, 8))
    energy = torch.full((192,), 1 / 192, dtype=torch.float64)
    timings = (Timing(24, 2.0, 9.0),)
    rows = [
        r.split() for r in table(Facts(pictures, tuple(scores), energy, timings, "M")).splitlines()
    ]
    assert ["6", "3.1%", "3.12%", "21.0", "21.0", "0.0"] in rows
    assert ["24", "12.5%", "12.50%", "31.0", "28.0", "+3.0"] in rows
    assert ["64", "33.3%", "33.33%", "41.0", "33.0", "+8.0"] in rows
    assert ["192", "100.0%", "100.00%", "exact", "exact"] in rows
    assert ["24", "2.00", "9.00", "4.5x"] in rows
    assert ["on", "M"] in rows


def test_the_means_compare_the_same_photographs():
    """b is exact in channels, c in pixels: neither may weigh on one side alone."""
    values = {"a": (20.0, 19.0), "b": (math.inf, 60.0), "c": (70.0, math.inf), "d": (30.0, 31.0)}
    scores = [Score(n, c, 1, 1, *pair) for n, pair in values.items() for c in COUNTS]
    pictures = tuple(photograph(name, 8, 8) for name in values)
    energy = torch.full((192,), 1 / 192, dtype=torch.float64)
    facts = Facts(pictures, tuple(scores), energy, (Timing(24, 2.0, 9.0),), "M")
    assert [score.name for score in facts.inexact(6)] == ["a", "d"]
    assert facts.mean(6) == (25, 25)
    assert "25.0        25.0               0.0   mean of 2, others exact" in table(facts)
    assert "mean of 2" in [words for words, _ in words_of(poster.figure(facts))]

    def alone(*names):
        chosen = tuple(score for score in scores if score.name in names)
        return dataclasses.replace(facts, scores=chosen)

    assert alone("b").mean(6) == (math.inf, 60)
    assert alone("c").mean(6) == (70, math.inf)
    assert all(map(math.isnan, alone("b", "c").mean(6)))
    assert "mean of" not in table(dataclasses.replace(alone("a"), photographs=pictures[:1]))


def test_the_detail_is_where_the_detail_is():
    pixels = torch.full((3, 320, 400), 128, dtype=torch.uint8)
    pixels[:, 200:240, 250:300] = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    top, left, height, width = poster.detail(pixels)
    assert (height, width) == (120, 160)
    assert top <= 200 <= 240 <= top + height
    assert left <= 250 <= 300 <= left + width


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (64, 64), (2000, 100)])
def test_the_detail_lies_inside(size):
    pixels = photograph(height=size[0], width=size[1]).pixels
    top, left, height, width = poster.detail(pixels)
    assert 0 <= top < top + height <= size[0]
    assert 0 <= left < left + width <= size[1]


@pytest.mark.parametrize("component", [0, 1, 2])
def test_a_mosaic_puts_each_plane_in_its_tile(component):
    """One coefficient at frequency (v, u) = (2, 5) lights one tile, at its block."""
    coefficients = torch.zeros(192, 3, 4)
    coefficients[component * 64 + 2 * 8 + 5, 1, 2] = -150
    got = plots.mosaic(coefficients, component, side=40, gap=2)
    assert got.shape == (8 * 32 - 2, 8 * 42 - 2, 3)
    tiles = torch.nn.functional.pad(got, (0, 0, 0, 2, 0, 2)).reshape(8, 32, 8, 42, 3)
    tiles = tiles[:, :30, :, :40].transpose(1, 2)
    code = plots.PLANE_COLOURS[component][2]
    full = torch.tensor([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    bright = (tiles - full).abs().sum(-1) < 1e-3
    want = torch.zeros(8, 8, 30, 40, dtype=torch.bool)
    want[2, 5, 10:20, 20:30] = True
    assert torch.equal(bright, want)
    assert torch.equal(got[30:32], torch.ones_like(got[30:32]))


def test_a_mosaic_shows_block_means_in_their_colours():
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    picture[:] = torch.tensor([200, 40, 90], dtype=torch.uint8)[:, None, None]
    coefficients = reference.block_dct(picture)
    tiles = [plots.mosaic(coefficients, c, side=8)[0, 0] * 255 for c in range(3)]
    got = tiles[0] + (tiles[1] - 128) + (tiles[2] - 128)
    torch.testing.assert_close(got, torch.tensor([200.0, 40.0, 90.0]), atol=0.1, rtol=0)


def test_maps_show_values_and_zigzag_ranks():
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    values = torch.arange(192.0)
    axes = Figure().subplots(1, 3)
    plots.channel_maps(axes, values, norm=Normalize(0, 191), chosen=ChannelSelection([0, 1, 64]))
    for component, ax in enumerate(axes):
        (mesh,) = ax.collections
        assert mesh.get_array().reshape(-1).tolist() == values[64 * component :][:64].tolist()
        ranks = {t.get_position(): int(t.get_text()) for t in ax.texts}
        for rank, index in enumerate(ZIGZAG):
            v, u = divmod(index, 8)
            assert ranks[u + 0.5, v + 0.53] == rank
        assert ax.yaxis_inverted()
    # Cells 0 and 1 share one side: 2 x 4 - 2 sides remain; one cell has 4; none has 0.
    assert [len(ax.lines) for ax in axes] == [6, 4, 0]


@pytest.mark.parametrize(("axes", "shape"), [(2, 192), (3, 64)])
def test_maps_refuse_wrong_shapes(axes, shape):
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    with pytest.raises(
        ValueError, match=r"must be (three, for Y, Cb and Cr, got 2|\[192\], got \[64\])"
    ):
        plots.channel_maps(Figure().subplots(1, axes), torch.zeros(shape), norm=Normalize())


def words_of(figure):
    """Every visible text with its box in units of the page, drawn outside the maps and ticks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(100)
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = list(figure.texts)
    for ax in figure.axes:
        texts += [t for t in ax.texts if t.get_text() and not t.get_text().isdecimal()]
        texts += [t for t in ax.get_xticklabels() if ax.xaxis.get_visible() and ax.axison]
    figure.draw(renderer)
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text()]


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ([(203, 310), (96, 64)], ["a.png", "b.png"]),
        ([(400, 100)] * 12, [f"a photograph with a very long name {i}.jpeg" for i in range(12)]),
        ([(7, 10)], ["tiny.png"]),
        ([(100, 1000)], ["10000 x 1000 panorama.png"]),
    ],
)
def test_no_words_on_the_page_overlap_or_leave_it(facts, sizes, names):
    pictures = [photograph(n, *s) for n, s in zip(names, sizes, strict=True)]
    scores = [demo.score(p, count) for p in pictures for count in COUNTS]
    these = dataclasses.replace(facts, photographs=tuple(pictures), scores=tuple(scores))
    figure = poster.figure(these)
    boxes = words_of(figure)
    assert len(boxes) > 50
    page = figure.bbox
    for words, box in boxes:
        assert page.x0 <= box.x0, words
        assert box.x1 <= page.x1, words
        assert page.y0 <= box.y0, words
        assert box.y1 <= page.y1, words
    for (words, one), (others, two) in itertools.combinations(boxes, 2):
        # Line boxes of neighbouring lines touch; their letters do not.
        apart = one.x1 <= two.x0 or two.x1 <= one.x0
        apart = apart or one.y1 <= two.y0 + 2 or two.y1 <= one.y0 + 2
        assert apart, (words, others)


def test_the_command_prints_the_table_and_draws_the_page(tmp_path, capsys):
    for name, height, width in (("one.png", 120, 90), ("two.png", 64, 200)):
        picture = photograph(height=height, width=width).pixels
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / name)
    page = tmp_path / "new" / "page.png"
    assert main(["demo", str(tmp_path), "-o", str(page), "--seconds", "0"]) == 0
    out, err = capsys.readouterr()
    assert "mean of 2 photographs" in out
    assert "192          100.0%         100.00%   exact       exact" in out
    assert f"Written: {page}" in out
    assert "one.png, 90 x 120 pixels ..." in err
    with Image.open(page) as image:
        assert image.width == 2400
        assert 2000 < image.height < 5000
        colours = np.array(image.convert("RGB")).astype(int) @ [1 << 16, 1 << 8, 1]
    assert len(np.unique(colours)) > 5000
    assert [p.name for p in page.parent.iterdir()] == ["page.png"]


def test_a_broken_picture_is_named_and_the_others_are_shown(tmp_path, capsys):
    Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert main(["demo", str(tmp_path), "-o", str(tmp_path / "page.png"), "--seconds", "0"]) == 1
    assert f"freqops: skipped {tmp_path / 'bad.png'}: cannot" in capsys.readouterr().err
    assert (tmp_path / "page.png").exists()


def test_nothing_readable_draws_nothing(tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert main(["demo", str(tmp_path), "-o", str(tmp_path / "page.png"), "--seconds", "0"]) == 1
    assert capsys.readouterr().err.endswith("freqops: no picture could be read\n")
    assert not (tmp_path / "page.png").exists()


def test_the_page_is_a_png(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "page.jpg")]) == 2
    assert "--output must end in .png, got" in capsys.readouterr().err


def test_only_as_many_pictures_as_the_page_holds(tmp_path, capsys):
    for i in range(14):
        Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(tmp_path / f"{i:02}.png")
    assert (
        main(["demo", str(tmp_path), "-o", str(tmp_path / "out" / "page.png"), "--seconds", "0"])
        == 0
    )
    out, err = capsys.readouterr()
    assert "the first 12 of 14 pictures are used" in err
    assert "mean of 12 photographs" in out
    assert "12.png" not in err


def test_the_shipped_photographs_are_there_and_in_colour():
    pytest.importorskip("skimage")
    from freqops.data import read_image

    paths = demo.shipped_photographs()
    assert [path.name for path in paths] == list(demo.PHOTOGRAPHS)
    for path in paths:
        picture = read_image(path).float()
        assert min(picture.shape[1:]) >= 300
        assert (picture[0] - picture[2]).abs().mean() > 1
