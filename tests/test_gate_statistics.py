"""GateStatistics against the mean of all gates laid end to end."""

from __future__ import annotations

import copy
import json
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from freqops.channels import ChannelSelection
from freqops.gate_statistics import GateStatistics

SOME = [130, 5, 64, 0]
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool]


def gates(channels: int = 192, seed: int = 0) -> list[Tensor]:
    """Batches of different sizes, one of them empty; channels are on more and more often."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.linspace(0, 1, channels)
    return [torch.rand(n, channels, generator=generator).lt(p).float() for n in (1, 7, 0, 40)]


def test_rates_are_the_mean_over_all_pictures() -> None:
    statistics = GateStatistics()
    for gate in gates():
        statistics.update(gate)
    whole = torch.cat(gates())
    assert statistics.count == 48
    assert torch.equal(statistics.on, whole.sum(0).long())
    assert torch.equal(statistics.rates, whole.double().mean(0))
    assert statistics.channels == ChannelSelection.all()
    assert statistics == GateStatistics.from_gates(iter(gates()))
    assert statistics == GateStatistics.from_gates([whole.flip(0)])
    assert statistics != GateStatistics.from_gates([whole[1:]])


def test_column_i_belongs_to_channel_i_of_the_gate() -> None:
    whole = torch.cat(gates(4))
    statistics = GateStatistics.from_gates(gates(4), SOME)
    assert statistics.channels.indices == tuple(SOME)
    assert torch.equal(statistics.on, whole.sum(0).long())
    assert torch.equal(statistics.rates[SOME], whole.double().mean(0))
    others = [channel for channel in range(192) if channel not in SOME]
    assert (statistics.rates[others] == 0).all()
    assert GateStatistics.from_gates(gates(24), 24).channels == ChannelSelection.square(24)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_and_layout(dtype: torch.dtype) -> None:
    whole = torch.cat(gates(4))
    want = GateStatistics.from_gates([whole], SOME)
    gate = whole.to(dtype)
    strided = torch.zeros(48, 8, dtype=dtype)
    strided[:, ::2] = gate
    for form in (gate, gate.T.contiguous().T, strided[:, ::2]):
        assert GateStatistics.from_gates([form], SOME) == want
    if dtype != torch.bool:
        assert GateStatistics.from_gates([gate.requires_grad_()], SOME) == want
        assert GateStatistics.from_gates([-torch.zeros(3, 4, dtype=dtype)], SOME).on.sum() == 0


def test_a_straight_through_gate_is_taken() -> None:
    """Its value is hard, its graph that of p."""
    p = torch.rand(5, 4, requires_grad=True)
    gate = p.gt(0.5).float() + (p - p.detach())
    assert GateStatistics.from_gates([gate], SOME).on.tolist() == p.gt(0.5).sum(0).tolist()


def test_inference_mode_and_a_default_device_leave_the_counts_usable() -> None:
    statistics = GateStatistics()
    with torch.inference_mode(), torch.device("meta"):
        inside = torch.ones(2, 192, device="cpu")
        statistics.update(inside)
        assert statistics.rates.device == statistics.on.device == torch.device("cpu")
    statistics.update(inside)
    assert not statistics.on.is_inference()
    assert statistics.on.tolist() == [4] * 192


def test_results_are_copies() -> None:
    statistics = GateStatistics.from_gates([torch.ones(1, 192)])
    statistics.on.zero_()
    statistics.rates.zero_()
    assert statistics.rates.min() == 1


def test_counts_stay_exact_where_float32_would_not() -> None:
    """2^24 + 1 is no float32, and 2^53 + 1 no float64."""
    statistics = GateStatistics([7])
    statistics.update(torch.ones(1, 1, dtype=torch.bool).expand(2**24 + 1, 1))
    statistics.update(torch.zeros(1, 1))
    assert (statistics.count, statistics.on.item()) == (2**24 + 2, 2**24 + 1)
    for _ in range(30):
        statistics = statistics.merge(statistics)
    assert statistics.on.item() == 2**30 * (2**24 + 1)


def test_merge_equals_all_at_once() -> None:
    whole = GateStatistics.from_gates(gates(4), SOME)
    left, right = (GateStatistics.from_gates(part, SOME) for part in (gates(4)[:2], gates(4)[2:]))
    parts = left.count, right.count
    for merged in (left.merge(right), right.merge(left), whole.merge(GateStatistics(SOME))):
        assert merged == whole
        assert merged.channels.indices == tuple(SOME)
    merged = left.merge(right)
    merged.update(torch.ones(1, 4))
    assert (left.count, right.count) == parts


def test_selection_breaks_ties_by_frequency_then_component_among_its_channels() -> None:
    channels = [191, 136, 72, 8, 65, 0]  # ranks 63, 2, 2, 2, 1, 0
    flat = GateStatistics.from_gates([torch.ones(3, 6)], channels)
    got = [flat.selection(keep=n).indices for n in range(1, 7)]
    assert got[0] == (0,)
    assert got[1] == (0, 65)
    assert got[2] == (0, 8, 65)
    assert got[3] == (0, 8, 65, 72)
    assert got[4] == (0, 8, 65, 72, 136)
    assert got[5] == tuple(sorted(channels))
    gate = torch.tensor([[1.0, 0, 0, 0, 1, 0], [1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    statistics = GateStatistics.from_gates([gate], channels)
    assert statistics.selection(keep=2).indices == (65, 191)
    assert statistics.selection(threshold=1 / 3).indices == (65, 72, 191)
    assert statistics.selection(threshold=0.0).indices == tuple(sorted(channels))
    assert GateStatistics.from_gates(gates()).selection(24) == (
        ChannelSelection.from_probabilities(torch.cat(gates()).double().mean(0), keep=24)
    )


def test_save_and_load_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    some = GateStatistics.from_gates(gates(4), SOME)
    for statistics in (some, GateStatistics.from_gates(gates()), GateStatistics(SOME)):
        statistics.save(path)
        loaded = GateStatistics.load(str(path))
        for twin in (loaded, pickle.loads(pickle.dumps(statistics)), copy.deepcopy(statistics)):
            assert twin == statistics
            assert twin.merge(statistics) == statistics.merge(statistics)
    twin.update(torch.ones(1, 4))
    assert (twin.count, statistics.count) == (1, 0)
    some.save(path)
    assert json.loads(path.read_text()) == {
        "format": "freqops.GateStatistics",
        "version": 1,
        "channels": SOME,
        "count": 48,
        "on": some.on.tolist(),
    }


def test_equality_sees_channels_count_and_order() -> None:
    one = GateStatistics.from_gates([torch.eye(4)], SOME)
    assert one == GateStatistics.from_gates([torch.eye(4).flip(0)], SOME)
    assert one != GateStatistics.from_gates([torch.eye(4)], SOME[::-1])
    assert one != GateStatistics.from_gates([torch.eye(4), torch.zeros(1, 4)], SOME)
    assert one != SOME
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_repr() -> None:
    assert repr(GateStatistics(24)) == "GateStatistics(0 pictures, 24 channels)"
    statistics = GateStatistics.from_gates([torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 1]])], SOME)
    assert repr(statistics) == ("GateStatistics(2 pictures, 4 channels; 2.5 on: Y 1, Cb 1, Cr 0.5)")


class _Pulls(TorchDispatchMode):
    """Counts the operators that would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        names = ("_local_scalar_dense", "_to_copy", "copy_", "equal", "is_nonzero", "nonzero")
        self.count += function.overloadpacket.__name__ in names
        return function(*args, **(kwargs or {}))


def test_a_gate_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda x: lists.append(x) or tolist(x))
    statistics = GateStatistics(SOME)
    with _Pulls() as pulls:
        statistics.update(torch.eye(4))
    assert statistics.count == 4
    assert pulls.count + len(lists) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_gate_on_a_gpu_is_waited_for_once() -> None:
    gate = torch.cat(gates(4)).cuda()
    statistics = GateStatistics(SOME)
    statistics.update(gate)
    assert statistics == GateStatistics.from_gates(gates(4), SOME)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            statistics.update(gate)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in caught if "synchroniz" in str(w.message)]) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: GateStatistics([3, 5, 3]),
            ValueError,
            "channels must name no channel twice, got 3 twice",
        ),
        (lambda: GateStatistics("24"), TypeError, "channels must be a list .*, got '24'"),
        (
            lambda: GateStatistics(SOME).update([[1.0] * 4]),
            TypeError,
            "update: gate must be a tensor, got a list",
        ),
        (
            lambda: GateStatistics(SOME).update(torch.ones(1, 4).to_sparse()),
            TypeError,
            "gate must be a dense tensor, got torch.sparse_coo",
        ),
        (
            lambda: GateStatistics(SOME).update(torch.ones(1, 4, dtype=torch.int64)),
            TypeError,
            "gate must be floating point or bool, got torch.int64",
        ),
        (
            lambda: GateStatistics(SOME).update(torch.ones(4)),
            ValueError,
            r"gate must be \[N, 4\], one column a channel, got \[4\]",
        ),
        (
            lambda: GateStatistics(SOME).update(torch.ones(2, 192)),
            ValueError,
            r"gate must be \[N, 4\], .*, got \[2, 192\]",
        ),
        (
            lambda: GateStatistics(SOME).update(torch.ones(2, 4, 1, 1)),
            ValueError,
            r"gate must be \[N, 4\], .*, got \[2, 4, 1, 1\]",
        ),
        (
            lambda: GateStatistics.from_gates(torch.ones(2, 192)),
            TypeError,
            r"gates must be an iterable of tensors \[N, C\], got Tensor",
        ),
        (
            lambda: GateStatistics.from_gates(3),
            TypeError,
            "gates must be an iterable of tensors .*, got int",
        ),
        (
            lambda: GateStatistics.from_gates([torch.ones(1, 4), torch.ones(1, 5)], SOME),
            ValueError,
            r"gates\[1\]: .*gate must be \[N, 4\], .*got \[1, 5\]",
        ),
        (
            lambda: GateStatistics.from_gates([torch.ones(1, 4), None], SOME),
            TypeError,
            r"gates\[1\]: .*gate must be a tensor, got None",
        ),
        (
            lambda: GateStatistics().rates,
            ValueError,
            "rates need at least one picture, got none",
        ),
        (
            lambda: GateStatistics.from_gates([torch.zeros(0, 192)]).selection(keep=1),
            ValueError,
            "rates need at least one picture, got none",
        ),
        (
            lambda: GateStatistics.from_gates([torch.ones(1, 4)], SOME).selection(keep=5),
            ValueError,
            r"keep must lie in \[1, 4\], got 5",
        ),
        (
            lambda: GateStatistics.from_gates([torch.ones(1, 4)], SOME).selection(),
            TypeError,
            "exactly one of keep and threshold must be given",
        ),
        (
            lambda: GateStatistics.from_gates([torch.zeros(1, 4)], SOME).selection(threshold=0.5),
            ValueError,
            "threshold must be at most the largest p, 0.0, got 0.5",
        ),
        (
            lambda: GateStatistics().merge(torch.ones(192)),
            TypeError,
            "other must be a GateStatistics, got Tensor",
        ),
        (
            lambda: GateStatistics().merge(GateStatistics(24)),
            ValueError,
            "other must have the same channels, got 24 instead of 192 channels",
        ),
        (
            lambda: GateStatistics(SOME).merge(GateStatistics([130, 5, 65, 1])),
            ValueError,
            "other must have the same channels, got 65 instead of 64 in column 2",
        ),
        (
            lambda: GateStatistics().all_reduce(),
            ValueError,
            "all_reduce needs torch.distributed, got no process group",
        ),
    ],
)
def test_refused_arguments(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("value", "shown"), [(0.8808, "0.8808"), (math.nan, "nan"), (-1.0, "-1"), (1 + 1e-7, "1")]
)
def test_other_numbers_than_0_and_1_are_refused_and_leave_the_counts(
    value: float, shown: str
) -> None:
    statistics = GateStatistics.from_gates(gates(4), SOME)
    gate = torch.ones(6, 4)
    gate[3, 2] = gate[5, 0] = value
    with pytest.raises(
        ValueError,
        match=rf"must hold zeros and ones, .*, got {shown}\S* for picture 3, channel 64$",
    ):
        statistics.update(gate)
    assert statistics == GateStatistics.from_gates(gates(4), SOME)


def test_load_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    GateStatistics.from_gates(gates(4), SOME).save(path)
    good = json.loads(path.read_text())
    changes = [
        ({"format": "freqops.ChannelStatistics"}, '"format" is not "freqops.GateStatistics"'),
        ({"version": 2}, '"version" is 2, known is 1'),
        ({"channels": None}, '"channels" is None, not a list'),
        ({"channels": 4}, '"channels" is 4, not a list'),
        ({"channels": [0, 1, 2, 192]}, r"channels\[3\] must lie in \[0, 192\), got 192"),
        ({"channels": [0, 1, 2, 2]}, "channels must name no channel twice, got 2 twice"),
        ({"count": 48.0}, '"count" is 48.0, not an integer >= 0'),
        ({"count": -1}, '"count" is -1, not an integer >= 0'),
        ({"count": 1}, r'"on" holds \d+, not an integer in \[0, 1\]'),
        ({"on": None}, '"on" is no list of 4 integers'),
        ({"on": good["on"][1:]}, '"on" is no list of 4 integers'),
        ({"on": [-1, 0, 0, 0]}, r'"on" holds -1, not an integer in \[0, 48\]'),
        ({"on": [0, True, 0, 0]}, r'"on" holds True, not an integer in \[0, 48\]'),
    ]
    texts = [(json.dumps(good | change), reason) for change, reason in changes]
    for text, reason in [*texts, ("[]", '"format" is not'), ("{", "Expecting property name")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=reason) as caught:
            GateStatistics.load(path)
        assert str(path) in str(caught.value)


def _process(rank: int, folder: str) -> None:
    """One of two processes; what it finds is for the test to judge."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    try:
        alone = torch.distributed.new_group([0])
        mine = GateStatistics.from_gates(gates(4)[2 * rank : 2 * rank + 2], SOME)
        before = copy.deepcopy(mine)
        found: dict[str, object] = {}
        try:
            mine.all_reduce(alone)
        except ValueError as error:
            found["not in the group"] = str(error)
        found["alone"] = mine == before
        mine.all_reduce()
        mine.save(f"{folder}/{rank}.gate.json")
        for name, channels in (("unlike", [64, 5 + rank]), ("longer", range(24 + rank))):
            other = GateStatistics(ChannelSelection(channels))
            other.update(torch.ones(1, len(other.channels)))
            try:
                other.all_reduce()
            except ValueError as error:
                found[name] = str(error)
            found[f"{name} count"] = other.count
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)
def test_two_processes_add_up_their_counts(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, args=(str(tmp_path),), nprocs=2)
    whole = GateStatistics.from_gates(gates(4), SOME)
    for rank in (0, 1):
        assert GateStatistics.load(tmp_path / f"{rank}.gate.json") == whole
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        same = "channels must be those of process 0 in every process of the group, got"
        assert found["unlike"] == f"{same} 6 instead of 5 in column 1 in process 1"
        assert found["longer"] == f"{same} 25 instead of 24 channels in process 1"
        assert found["unlike count"] == found["longer count"] == 1
        assert found["alone"] is True
        outside = "group must hold this process, rank 1, got others"
        assert found.get("not in the group") == (outside if rank == 1 else None)
