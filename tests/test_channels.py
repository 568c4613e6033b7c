"""ChannelSelection: the paper's tables, the triangle rule, free lists, files, errors."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch

from freqops.channels import CHANNELS, ZIGZAG, ChannelSelection, zigzag_rank
from freqops.nn import FrequencyTransform

# Raster indices of Y, and of Cb and Cr, as the paper's released code tabulates them.
SQUARE = {
    6: ("0 1 8 9", "0"),
    24: ("0-3 8-11 16-19 24-27", "0 1 8 9"),
    32: ("0-4 8-12 16-20 24-27 32-34", "0 1 2 8 9"),
    48: ("0-5 8-13 16-21 24-29 32-35 40-43", "0 1 2 8 9 10 16 17"),
    64: ("0-6 8-14 16-21 24-29 32-37 40-45 48-53", "0 1 2 8 9 10 16 17 24 25"),
    192: ("0-63", "0-63"),
}
LEARNED = ("0-5 8-10 16-18 24 32", "0 1 3 8 24")

# ITU-T T.81, figure 5: the zigzag rank of the coefficient at [v][u].
RANKS = [
    [0, 1, 5, 6, 14, 15, 27, 28],
    [2, 4, 7, 13, 16, 26, 29, 42],
    [3, 8, 12, 17, 25, 30, 41, 43],
    [9, 11, 18, 24, 31, 40, 44, 53],
    [10, 19, 23, 32, 39, 45, 52, 54],
    [20, 22, 33, 38, 46, 51, 55, 60],
    [21, 34, 37, 47, 50, 56, 59, 61],
    [35, 36, 48, 49, 57, 58, 62, 63],
]


def _numbers(text: str) -> list[int]:
    spans = [[int(end) for end in part.split("-")] for part in text.split()]
    return [number for span in spans for number in range(span[0], span[-1] + 1)]


def _table(row: tuple[str, str]) -> tuple[int, ...]:
    y, chroma = map(_numbers, row)
    return tuple(y + [64 + i for i in chroma] + [128 + i for i in chroma])


def test_zigzag_is_that_of_jpeg() -> None:
    ranks = [rank for row in RANKS for rank in row]
    assert [zigzag_rank(channel) for channel in range(CHANNELS)] == ranks * 3
    assert [ranks.index(place) for place in range(64)] == list(ZIGZAG)


@pytest.mark.parametrize("n", SQUARE)
def test_square_is_the_papers_table(n: int) -> None:
    selection = ChannelSelection.square(n)
    assert selection.indices == _table(SQUARE[n])
    assert len(selection) == n
    assert ChannelSelection.of(n) == selection


def test_learned_is_the_papers_table() -> None:
    assert ChannelSelection.learned(24).indices == _table(LEARNED)
    assert ChannelSelection.learned() == ChannelSelection.learned(24)
    assert len(ChannelSelection.learned(24)) == 24


@pytest.mark.parametrize("n", range(1, 193))
def test_triangle_of_every_size(n: int) -> None:
    selection = ChannelSelection.triangle(n)
    assert len(selection) == n
    assert len(set(selection)) == n
    assert list(selection) == sorted(selection)
    ranks = [
        sorted(zigzag_rank(index) for index in part)
        for part in (selection.y, selection.cb, selection.cr)
    ]
    assert ranks == [list(range(len(part))) for part in ranks], (
        "each component is a prefix of the zigzag"
    )
    y, cb, cr = map(len, ranks)
    if n - 2 * (n // 6) <= 64:
        assert (y, cb, cr) == (n - 2 * (n // 6), n // 6, n // 6)
    else:
        assert y == 64
        assert cb - cr in (0, 1)


def test_triangle_examples() -> None:
    assert ChannelSelection.triangle(5).indices == (0, 1, 8, 9, 16)
    assert ChannelSelection.triangle(24).y == (
        0,
        1,
        2,
        3,
        4,
        5,
        8,
        9,
        10,
        11,
        16,
        17,
        18,
        24,
        25,
        32,
    )
    assert ChannelSelection.triangle(24).cb == (0, 1, 8, 16)
    assert ChannelSelection.triangle(97).cb == tuple(sorted(ZIGZAG[:17]))
    assert ChannelSelection.triangle(97).cr == tuple(sorted(ZIGZAG[:16]))
    assert ChannelSelection.triangle(192) == ChannelSelection.all() == ChannelSelection(range(192))


def test_free_lists_keep_order_and_duplicates() -> None:
    selection = ChannelSelection([130, 5, 5, 64, 0])
    assert selection.indices == (130, 5, 5, 64, 0)
    assert (selection.y, selection.cb, selection.cr) == ((5, 5, 0), (0,), (2,))
    assert list(selection) == [130, 5, 5, 64, 0]
    assert selection != ChannelSelection([5, 5, 64, 0, 130])
    assert eval(repr(selection)) == selection
    assert len(ChannelSelection([7] * 500)) == 500


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_integers_of_other_libraries(kind: str) -> None:
    np = pytest.importorskip("numpy")
    for indices in (
        np.array([3, 1], kind),
        list(np.array([3, 1], kind)),
        list(torch.tensor([3, 1], dtype=getattr(torch, kind))),
        torch.tensor([3, 1], dtype=getattr(torch, kind)),
    ):
        selection = ChannelSelection(indices)
        assert selection.indices == (3, 1)
        assert {type(index) for index in selection} == {int}
    assert ChannelSelection.of(np.array(24, kind)) == ChannelSelection.square(24)
    assert ChannelSelection.square(getattr(np, kind)(24)) == ChannelSelection.square(24)


def test_of() -> None:
    selection = ChannelSelection.learned(24)
    assert ChannelSelection.of(selection) is selection
    assert ChannelSelection.of([3, 1]).indices == (3, 1)
    assert ChannelSelection.of(None) == ChannelSelection.all()
    assert ChannelSelection.of(torch.tensor([3, 1])).indices == (3, 1)
    assert ChannelSelection.of(torch.tensor(6)) == ChannelSelection.square(6)
    for n in (1, 23, 25, 63, 65, 191):
        assert ChannelSelection.of(n) == ChannelSelection.triangle(n)


def test_a_selection_is_a_value() -> None:
    selection = ChannelSelection.square(24)
    assert hash(selection) == hash(ChannelSelection(list(selection)))
    assert {selection: 1}[ChannelSelection.square(24)] == 1
    for twin in (copy.deepcopy(selection), pickle.loads(pickle.dumps(selection))):
        assert twin == selection
        assert hash(twin) == hash(selection)
    with pytest.raises(AttributeError):
        selection.indices = (0,)  # type: ignore[misc]


def test_from_probabilities_breaks_ties_by_frequency_then_component() -> None:
    flat = [0.25] * CHANNELS
    assert ChannelSelection.from_probabilities(flat, keep=3).indices == (0, 64, 128)
    assert ChannelSelection.from_probabilities(flat, keep=5).indices == (0, 1, 64, 65, 128)
    assert ChannelSelection.from_probabilities(flat, keep=7).indices == (0, 1, 8, 64, 65, 128, 129)
    p = torch.full((CHANNELS,), 0.25, dtype=torch.float64)
    p[191], p[63], p[65] = 0.75, 0.5, 0.125
    assert ChannelSelection.from_probabilities(p, keep=2).indices == (63, 191)
    assert ChannelSelection.from_probabilities(p, keep=192) == ChannelSelection.all()
    assert 65 not in ChannelSelection.from_probabilities(p, keep=191)
    assert ChannelSelection.from_probabilities(p, threshold=0.5).indices == (63, 191), (
        "p equal to the threshold stays"
    )
    assert len(ChannelSelection.from_probabilities(p, threshold=0.2)) == 191


def test_from_probabilities_among_candidates() -> None:
    among = ChannelSelection([191, 64, 3, 9, 64, 128])  # ranks 63, 0, 6, 4, 0, 0
    p = torch.full((CHANNELS,), 0.9, dtype=torch.float64)
    p[list(among)] = 0.5
    choose = ChannelSelection.from_probabilities
    got = [choose(p, keep=n, among=among).indices for n in range(1, 6)]
    assert got == [(64,), (64, 128), (9, 64, 128), (3, 9, 64, 128), (3, 9, 64, 128, 191)]
    p[191], p[64] = 0.6, 0.4
    assert choose(p, keep=1, among=among).indices == (191,)
    assert choose(p, threshold=0.5, among=among).indices == (3, 9, 128, 191)
    assert choose(p, keep=7, among=ChannelSelection.all()) == choose(p, keep=7)


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "channels.json"
    for selection in (ChannelSelection([9, 9, 191, 0]), ChannelSelection.square(64)):
        selection.save(path)
        assert ChannelSelection.load(path) == selection
        assert ChannelSelection.load(str(path)) == selection


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("[0, 1]", '"format" is not'),
        ('{"format": "freqops.ChannelStatistics", "version": 1}', '"format" is not'),
        (
            '{"format": "freqops.ChannelSelection", "version": 2, "indices": [0]}',
            '"version" is 2, known is 1',
        ),
        ('{"format": "freqops.ChannelSelection", "version": 1}', '"indices" is None, not a list'),
        (
            '{"format": "freqops.ChannelSelection", "version": 1, "indices": [0, 192]}',
            r"indices\[1\] must lie in \[0, 192\), got 192",
        ),
        (
            '{"format": "freqops.ChannelSelection", "version": 1, "indices": [1.0]}',
            r"indices\[0\] must be an integer, got 1.0",
        ),
        (
            '{"format": "freqops.ChannelSelection", "version": 1, "indices": []}',
            "at least one channel, got none",
        ),
    ],
)
def test_load_refuses_other_files(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=reason) as caught:
        ChannelSelection.load(path)
    assert str(path) in str(caught.value)


def test_the_file_is_versioned_json(tmp_path: Path) -> None:
    path = tmp_path / "channels.json"
    ChannelSelection([2, 1]).save(path)
    assert json.loads(path.read_text()) == {
        "format": "freqops.ChannelSelection",
        "version": 1,
        "indices": [2, 1],
    }


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([], ValueError, "indices must hold at least one channel, got none"),
        ([0, 192], ValueError, r"indices\[1\] must lie in \[0, 192\), got 192"),
        ([-1], ValueError, r"indices\[0\] must lie in \[0, 192\), got -1"),
        ([True], TypeError, r"indices\[0\] must be an integer, got True of type bool"),
        ([1.0], TypeError, r"indices\[0\] must be an integer, got 1.0 of type float"),
        (["1"], TypeError, r"indices\[0\] must be an integer, got '1' of type str"),
        (
            [torch.tensor(True)],
            TypeError,
            r"indices\[0\] must be an integer, got True of type bool",
        ),
        (
            [0, torch.tensor(1.0)],
            TypeError,
            r"indices\[1\] must be an integer, got 1.0 of type float",
        ),
        ([torch.tensor([0, 1])], TypeError, r"must be an integer, got tensor\(\[0, 1\]\)"),
        (torch.tensor([True]), TypeError, "must be an integer, got True"),
        (torch.tensor([1.0]), TypeError, "must be an integer, got 1.0"),
        (torch.tensor(1), TypeError, r"must be a list or tuple of integers, got tensor\(1\)"),
        (torch.tensor([[1]]), TypeError, r"indices\[0\] must be an integer, got \[1\]"),
        (24, TypeError, "must be a list or tuple of integers, got 24 of type int"),
        (None, TypeError, "must be a list or tuple of integers, got None"),
        ("012", TypeError, "must be a list or tuple of integers, got '012'"),
        ({0, 1}, TypeError, "must be a list or tuple of integers, got {0, 1} of type set"),
    ],
)
def test_refused_indices(indices: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ChannelSelection(indices)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ChannelSelection.square(25),
            ValueError,
            "n must be 6, 24, 32, 48, 64 or 192, got 25",
        ),
        (lambda: ChannelSelection.square(True), TypeError, "n must be an integer, got True"),
        (lambda: ChannelSelection.square(24.0), TypeError, "n must be an integer, got 24.0"),
        (lambda: ChannelSelection.learned(6), ValueError, "n must be 24, got 6"),
        (lambda: ChannelSelection.triangle(0), ValueError, r"n must lie in \[1, 192\], got 0"),
        (lambda: ChannelSelection.triangle(193), ValueError, r"n must lie in \[1, 192\], got 193"),
        (lambda: ChannelSelection.triangle(None), TypeError, "n must be an integer, got None"),
        (lambda: ChannelSelection.of(0), ValueError, r"channels must lie in \[1, 192\], got 0"),
        (lambda: ChannelSelection.of(True), TypeError, "channels must be an integer, got True"),
        (lambda: ChannelSelection.of(2.5), TypeError, "channels must be an integer, got 2.5"),
        (
            lambda: ChannelSelection.of("square"),
            TypeError,
            "channels must be a list or tuple of integers, got 'square'",
        ),
        (lambda: FrequencyTransform("24"), TypeError, "channels must be a list .*, got '24'"),
        (lambda: ChannelSelection.of([0, 192]), ValueError, r"channels\[1\] must lie in"),
        (lambda: ChannelSelection.of([]), ValueError, "channels must hold at least one channel"),
        (
            lambda: ChannelSelection.of(torch.tensor(True)),
            TypeError,
            "channels must be an integer, got True",
        ),
        (lambda: zigzag_rank(192), ValueError, r"channel must lie in \[0, 192\), got 192"),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 3, keep=1),
            ValueError,
            "p must hold 192 numbers, one a channel, got 3",
        ),
        (
            lambda: ChannelSelection.from_probabilities(0.5, keep=1),
            TypeError,
            "p must be a list of 192 numbers, got 0.5",
        ),
        (
            lambda: ChannelSelection.from_probabilities([1.5] * 192, keep=1),
            ValueError,
            r"p\[0\] must lie in \[0, 1\], got 1.5",
        ),
        (
            lambda: ChannelSelection.from_probabilities([float("nan")] * 192, keep=1),
            ValueError,
            r"p\[0\] must lie in \[0, 1\], got nan",
        ),
        (
            lambda: ChannelSelection.from_probabilities(["0"] * 192, keep=1),
            TypeError,
            r"p\[0\] must be a number, got '0'",
        ),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 192),
            TypeError,
            "exactly one of keep and threshold must be given",
        ),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 192, keep=1, threshold=0.1),
            TypeError,
            "exactly one of keep and threshold",
        ),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 192, keep=0),
            ValueError,
            r"keep must lie in \[1, 192\], got 0",
        ),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 192, keep=True),
            TypeError,
            "keep must be an integer, got True",
        ),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 192, threshold=0.6),
            ValueError,
            "at most the largest p, 0.5, got 0.6",
        ),
        (
            lambda: ChannelSelection.from_probabilities(
                [0.5] * 192, keep=3, among=ChannelSelection([7, 6, 7])
            ),
            ValueError,
            r"keep must lie in \[1, 2\], got 3",
        ),
        (
            lambda: ChannelSelection.from_probabilities(
                [0.5, *[0.7] * 191], threshold=0.6, among=ChannelSelection([0])
            ),
            ValueError,
            "at most the largest p, 0.5, got 0.6",
        ),
        (
            lambda: ChannelSelection.from_probabilities([0.5] * 192, keep=1, among=[0, 1]),
            TypeError,
            r"among must be a ChannelSelection or None, got \[0, 1\] of type list",
        ),
    ],
)
def test_refused_arguments(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_constant_under_compile() -> None:
    selection = ChannelSelection.learned(24)

    def gather(x: torch.Tensor, channels: ChannelSelection) -> torch.Tensor:
        return x[:, list(channels.indices)] * len(channels)

    x = torch.arange(2.0 * CHANNELS).view(2, CHANNELS)
    want = gather(x, selection)
    as_argument = torch.compile(gather, fullgraph=True, backend="eager")
    assert torch.equal(as_argument(x, selection), want)
    captured = torch.compile(lambda x: gather(x, selection), fullgraph=True, backend="eager")
    assert torch.equal(captured(x), want)
    made_inside = torch.compile(
        lambda x: gather(x, ChannelSelection.learned(24)), fullgraph=True, backend="eager"
    )
    assert torch.equal(made_inside(x), want)
