"""The evidence that the gate learns: docs/planted_signal.py, where the right answer is known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import freqops
from freqops.channels import CHANNELS, ChannelSelection

SCRIPT = Path(__file__).parents[1] / "docs" / "planted_signal.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_signal", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


planted_signal = load()
PLANTED = planted_signal.PLANTED
ELSEWHERE = ChannelSelection([9, 40, 64 + 0, 64 + 63, 128 + 3, 128 + 24])


def others(planted: ChannelSelection = PLANTED) -> list[int]:
    return sorted(set(range(CHANNELS)) - set(planted))


def assert_found(result: planted_signal.Result) -> None:
    """All that was planted, a tenth of the rest at most; the network uses it (chance: 1.6 %)."""
    assert result.recall == 1
    assert result.others_kept <= 0.1
    assert result.others_on <= 0.1
    assert result.accuracy > 0.9


def test_the_gate_finds_the_planted_channels() -> None:
    assert_found(planted_signal.train(0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_the_gate_finds_them_whatever_the_seed(seed: int) -> None:
    assert_found(planted_signal.train(seed))


@pytest.mark.slow
def test_the_gate_finds_them_wherever_they_are() -> None:
    """With what is left open by chance, or by position, it would not."""
    assert not set(ELSEWHERE) & set(PLANTED)
    assert_found(planted_signal.train(0, planted=ELSEWHERE))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_close_the_gate(seed: int) -> None:
    """The negative control: no channel helps, so none is worth the penalty."""
    result = planted_signal.train(seed, shuffled=True)
    assert result.recall == 0
    assert result.kept.double().mean() <= 0.1
    assert result.statistics.rates.mean() <= 0.1
    assert result.accuracy < 0.03


@pytest.mark.slow
def test_without_the_penalty_channels_of_noise_stay() -> None:
    result = planted_signal.train(0, penalty=0.0)
    assert result.recall == 1
    assert result.others_kept > 0.1


# What makes the task what it is said to be.

MANY = 16384


@pytest.fixture(scope="module")
def task() -> tuple[Tensor, Tensor, Tensor]:
    """Labels, coefficients before they were pixels, and coefficients of the uint8 pictures."""
    generator = torch.Generator().manual_seed(100)
    labels = planted_signal.balanced_labels(MANY, generator)
    before = planted_signal.coefficients(labels, generator)
    return labels, before, freqops.block_dct(freqops.block_idct(before))


def summaries(x: Tensor) -> dict[str, Tensor]:
    """(N, 192) each: what a simple network can see of a channel in a picture."""
    return {
        "mean": x.mean((2, 3)),
        "halves": (x * planted_signal.halves()).mean((2, 3)),
        "log energy": x.square().mean((2, 3)).log(),
    }


def dependence(values: Tensor, labels: Tensor) -> Tensor:
    """How far the class means of (N, C) values lie apart, in standard deviations of chance, (C,).

    Without dependence sum over classes of n (class mean - mean)^2 / variance is chi-squared with 63
    degrees of freedom: mean 63, variance 126.
    """
    values = (values - values.mean(0)) / values.std(0)
    each = len(labels) / 64
    means = torch.nn.functional.one_hot(labels).T.float() @ values / each
    spread = means.square().sum(0) * each
    return (spread - 63) / 126**0.5


def test_the_planted_channels_are_of_all_kinds() -> None:
    assert (len(PLANTED.y), len(PLANTED.cb), len(PLANTED.cr)) == (3, 1, 2)
    ranks = [freqops.channels.zigzag_rank(channel) for channel in PLANTED]
    assert ranks == [1, 25, 63, 4, 0, 55]


def test_classes_are_balanced() -> None:
    labels = planted_signal.balanced_labels(640, torch.Generator().manual_seed(0))
    assert labels.bincount().tolist() == [10] * 64
    assert labels.tolist() != sorted(labels.tolist())


def test_no_value_of_a_picture_is_clamped(task: tuple[Tensor, Tensor, Tensor]) -> None:
    """Clamping mixes channels; rounding, which stays, does not."""
    values = freqops.block_idct(task[1], dtype=torch.float32)
    assert values.min() >= 0
    assert values.max() <= 1


def test_no_channel_stands_out_by_its_strength(task: tuple[Tensor, Tensor, Tensor]) -> None:
    wanted = 0.3 * freqops.ChannelStatistics.photographs().std
    assert (task[1].double().std((0, 2, 3)) / wanted - 1).abs().max() < 0.01


def test_only_the_planted_channels_hold_the_label(task: tuple[Tensor, Tensor, Tensor]) -> None:
    labels, _, after = task
    for name, values in summaries(after).items():
        apart = dependence(values, labels)
        assert apart[others()].max() < 6, name
        if name == "halves":
            assert apart[list(PLANTED)].min() > 100
    # Nor do the means over a picture, all that the gate sees.
    assert dependence(summaries(after)["mean"], labels).max() < 6


def probe(features: Tensor, labels: Tensor) -> float:
    """Share of the bits that linear regression on one half of the pictures gets right on the
    other half."""
    x, bits = (features - features.mean(0)) / features.std(0), planted_signal.bits_of(labels)
    half = len(x) // 2
    weights = torch.linalg.lstsq(x[:half], bits[:half]).solution
    return ((x[half:] @ weights > 0) == (bits[half:] > 0)).double().mean().item()


def test_nothing_is_read_from_all_other_channels_together(
    task: tuple[Tensor, Tensor, Tensor],
) -> None:
    labels, _, after = task
    seen = torch.cat(list(summaries(after[:, others()]).values()), 1)
    # 49,152 bits: chance is 0.5 with a standard deviation of 0.0023.
    assert abs(probe(seen, labels) - 0.5) < 0.01
    assert probe(summaries(after[:, list(PLANTED)])["halves"], labels) > 0.99


# The script.


def test_the_script_writes_a_picture_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = tmp_path / "planted.png"
    assert planted_signal.main(["--seeds", "2", "--steps", "1", "-o", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["planted.png"]
    *_, head, first, second, last = capsys.readouterr().out.splitlines()
    # After one step the gate has closed next to nothing yet.
    assert head.startswith("seed  planted kept")
    assert first.split()[:4] == ["0", "6", "of", "6"]
    assert second.split()[:4] == ["1", "6", "of", "6"]
    assert float(first.split()[5].rstrip("%")) > 90
    assert last == f"wrote {path}"


def test_the_script_keeps_what_was_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = planted_signal.train

    def interrupted(seed: int, **settings: object) -> planted_signal.Result:
        if seed == 1:
            raise KeyboardInterrupt
        return real(seed, **settings)

    monkeypatch.setattr(planted_signal, "train", interrupted)
    assert planted_signal.main(["--seeds", "3", "--steps", "1"]) == 130
    printed = capsys.readouterr().out
    assert "interrupted; 1 of 3 runs were finished" in printed
    assert printed.splitlines()[-1].split()[0] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--steps", "-3"], "--steps must be at least 1, got -3"),
        (["--penalty", "nan"], "--penalty must be finite and at least 0, got nan"),
        (["-o", "planted.txt"], "--output must end in .png, .svg or .pdf, got planted.txt"),
        (["-o", "nowhere/a.png"], "--output must lie in a folder that exists, got nowhere/a.png"),
    ],
)
def test_the_script_refuses_before_it_works(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        planted_signal.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
