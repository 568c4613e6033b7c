"""evaluate: counts by hand, what the network sees, and one result from one process or two."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from freqops.channels import ChannelSelection
from freqops.gate_statistics import GateStatistics
from freqops.training import Evaluation, Processes, _evaluate, evaluate, join
from freqops.training._pictures import Batch, EvaluationBatches

CLASSES = 8


def batch(values: Tensor, labels: list[int], broken: int = 0) -> Batch:
    names = [(f"{i}.jpg", "it is empty") for i in range(broken)]
    return Batch(values, torch.tensor(labels, dtype=torch.int64), list(range(len(labels))), names)


def scores(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed))


def test_counts_are_those_of_topk_where_scores_differ() -> None:
    x, labels = scores(40), [i % CLASSES for i in range(40)]
    found = evaluate(nn.Identity(), [batch(x[:30], labels[:30]), batch(x[30:], labels[30:], 2)])
    order = x.topk(5).indices.tolist()
    assert found.count == 40 and found.broken == 2
    assert found.top1 == sum(own == row[0] for own, row in zip(labels, order, strict=True)) / 40
    assert found.top5 == sum(own in row for own, row in zip(labels, order, strict=True)) / 40
    assert 0 < found.top1 < found.top5 < 1
    assert found.loss == pytest.approx(cross_entropy(x, torch.tensor(labels)).item(), rel=1e-6)
    assert found.channels_on is None


@pytest.mark.parametrize(
    ("row", "label", "top1", "top5"),
    [
        ([0.0] * 8, 0, 1, 1),  # equal scores: the lower number is ahead
        ([0.0] * 8, 4, 0, 1),
        ([0.0] * 8, 5, 0, 0),
        ([math.nan] * 8, 0, 0, 0),
        ([math.nan, 1, 0, 0, 0, 0, 0, 0], 1, 0, 1),  # what is no number is ahead
        ([math.nan, 1, 0, 0, 0, 0, 0, 0], 0, 0, 0),
        ([math.inf, 1, 0, 0, 0, 0, 0, 0], 0, 1, 1),
    ],
)
def test_ties_and_what_is_no_number_are_never_in_favour(
    row: list[float], label: int, top1: int, top5: int
) -> None:
    found = evaluate(nn.Identity(), [batch(torch.tensor([row]), [label])])
    assert (found.top1, found.top5) == (top1, top5)


def test_five_classes_have_no_top5() -> None:
    found = evaluate(nn.Identity(), [batch(torch.eye(5), [0, 1, 2, 3, 3])])
    assert found.top5 is None and found.top1 == 0.8
    assert evaluate(nn.Identity(), [batch(torch.eye(6), [5] * 6)]).top5 == 1 / 6


class Recorded(nn.Module):
    """Gives scores and a gate, and notes what it was called with."""

    def __init__(self, gate: Tensor | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(CLASSES, CLASSES)
        self.inner = nn.Dropout()
        self.gate = gate
        self.seen: list[tuple[str, bool, bool, torch.dtype]] = []

    def forward(self, images: Tensor | None = None, *, coefficients: Tensor | None = None) -> Any:
        x = coefficients if images is None else images
        assert x is not None
        out = self.layer(x)
        word = "coefficients" if images is None else "images"
        self.seen.append((word, self.training, torch.is_grad_enabled(), out.dtype))
        return out if self.gate is None else (out, self.gate[: len(x)])


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("coefficients", [False, True])
def test_the_network_runs_in_evaluation_without_gradients(
    coefficients: bool, amp: torch.dtype | None
) -> None:
    network = Recorded().train()
    network.inner.eval()
    evaluate(network, [batch(scores(2), [0, 1])], coefficients=coefficients, amp=amp)
    word = "coefficients" if coefficients else "images"
    assert network.seen == [(word, False, False, amp or torch.float32)]
    assert network.training and not network.inner.training


def test_open_channels_are_counted() -> None:
    gate = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1]])
    gates = GateStatistics(ChannelSelection([5, 64, 0]))
    steps = []
    batches = [batch(scores(3), [0, 1, 2]), batch(torch.empty(0), [], 1), batch(scores(2), [3, 4])]
    found = evaluate(Recorded(gate), batches, gates=gates, step=steps.append)
    assert found.channels_on == (2 + 1 + 3 + 2 + 1) / 5
    assert (gates.count, gates.on.tolist()) == (5, [3, 1, 5])
    assert steps == batches
    assert found.broken == 1


def test_the_clock_counts_the_network_without_its_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(_evaluate.time, "perf_counter", lambda: now)

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal now
            now += 9.0 if now < 105 else 0.25
            return x

    def read() -> Any:
        nonlocal now
        for _ in range(3):
            now += 4.0
            yield batch(scores(2), [0, 1])

    found = evaluate(Slow(), read())
    assert found.seconds == 3 * 4.0 + 9.0 + 2 * 0.25
    assert found.images_per_second == 4 / 0.5
    now = 100.0
    assert evaluate(Slow(), [batch(scores(2), [0, 1])]).images_per_second == 2 / 9.0


@pytest.mark.parametrize(
    ("network", "batches", "error", "words"),
    [
        (nn.Identity(), [], ValueError, "batches must hold pictures, got none$"),
        (nn.Identity(), [batch(torch.empty(0), [], 3)], ValueError, "got none: 3 are broken"),
        (nn.Identity(), [batch(scores(1), [8])], ValueError, r"in \[0, 8\), got 8"),
        (nn.Identity(), [batch(scores(2), [0, -1])], ValueError, r"in \[0, 8\), got -1"),
        (nn.Flatten(0), [batch(scores(1), [0])], TypeError, r"scores \[1, classes\], got \[8\]"),
    ],
)
def test_errors(
    network: nn.Module, batches: list[Batch], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        evaluate(network, batches)


def test_gates_must_be_empty() -> None:
    gates = GateStatistics.from_gates([torch.ones(2, 3)], [0, 1, 2])
    with pytest.raises(ValueError, match="gates must be empty, got 2 pictures"):
        evaluate(nn.Identity(), [batch(scores(1), [0])], gates=gates)


def shared(processes: Processes, pictures: int) -> tuple[Evaluation, GateStatistics]:
    """The share that a process has of so many pictures, in batches of 4."""
    x, gate = scores(pictures), (scores(pictures, 1) > 0).float()
    network = Recorded(gate)
    with torch.no_grad():
        network.layer.weight.copy_(torch.eye(CLASSES))
        network.layer.bias.zero_()
    gates = GateStatistics(list(range(CLASSES)))

    def batches() -> Any:
        for rows in EvaluationBatches(pictures, 4, processes.rank, processes.count):
            network.gate = gate[rows]
            yield batch(x[rows], [row % CLASSES for row in rows], len(rows) == 4)

    return evaluate(network, batches(), processes=processes, gates=gates), gates


def process(rank: int, folder: str, port: int) -> None:
    """One of two, as torchrun starts them."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with join("cpu") as processes:
        for pictures in (21, 1):  # of one, the second process has no share
            found, gates = shared(processes, pictures)
            gates.save(Path(folder, f"{rank}-{pictures}.gate.json"))
            Path(folder, f"{rank}-{pictures}.json").write_text(json.dumps(vars(found)))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(process, args=(str(tmp_path), free_port()), nprocs=2)
    for pictures in (21, 1):
        alone, gates = shared(Processes(0, 1, torch.device("cpu")), pictures)
        for rank in (0, 1):
            found = Evaluation(**json.loads((tmp_path / f"{rank}-{pictures}.json").read_text()))
            for name in ("count", "top1", "top5", "channels_on"):
                assert getattr(found, name) == getattr(alone, name)
            assert found.loss == pytest.approx(alone.loss, rel=1e-12)
            assert found.images_per_second > 0
            assert GateStatistics.load(tmp_path / f"{rank}-{pictures}.gate.json") == gates
    # Full batches of 4 count one broken picture each: 5 of 21, and 2 + 2 of 11 and 10.
    assert (shared(Processes(0, 1, torch.device("cpu")), 21)[0].broken, found.broken) == (5, 0)
    assert json.loads((tmp_path / "0-21.json").read_text())["broken"] == 4
