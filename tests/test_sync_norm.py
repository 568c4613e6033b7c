"""BatchNorm over two processes against BatchNorm of one process on the whole batch."""

from __future__ import annotations

import copy
import datetime
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from freqops.nn import ChannelGate
from freqops.training._sync_norm import (
    SynchronizedBatchNorm1d,
    SynchronizedBatchNorm2d,
    _torchs,
    synchronize,
    unsynchronize,
)

PROCESSES = 2
STEPS = 2
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 2e-2}


class OtherNorm(nn.BatchNorm2d):
    """As timm's, with an activation."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Gated(nn.Module):
    """The gate's own norm sees one number of a picture in each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = ChannelGate(6)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.gate.tensors(x, sample=False)["gate"][3]
        return x * logits.sum(2)[..., None, None]


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(6, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, momentum=None)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 7),
        nn.BatchNorm1d(7, eps=1e-3, momentum=0.3),
    )


def without_parameters() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(6, 4, 1),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
    )


def of_sequences() -> nn.Module:
    return nn.Sequential(nn.Flatten(2), nn.Conv1d(6, 4, 1), nn.BatchNorm1d(4))


def frozen() -> nn.Module:
    network = convolutional()
    network[1].requires_grad_(False)
    network[7].eval()
    return network


# Of a batch, the pictures of the first process.
CASES: dict[str, tuple[Callable[[], nn.Module], int, int, torch.dtype]] = {
    "float32": (convolutional, 8, 4, torch.float32),
    "float64": (convolutional, 8, 4, torch.float64),
    "uneven": (convolutional, 7, 5, torch.float64),
    "without parameters": (without_parameters, 6, 3, torch.float64),
    "sequences": (of_sequences, 5, 2, torch.float64),
    "gate": (Gated, 6, 3, torch.float64),
    "one picture each": (Gated, 2, 1, torch.float64),
    "frozen": (frozen, 6, 3, torch.float64),
    "bfloat16": (lambda: nn.BatchNorm2d(6), 8, 4, torch.bfloat16),
}


def case(name: str) -> tuple[nn.Module, list[Tensor]]:
    """The network and whole batches, with values far from 0."""
    make, count, _, dtype = CASES[name]
    torch.manual_seed(1)
    network = make().to(dtype)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.weight is not None:
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    offset = 3 + torch.arange(6).view(6, 1, 1)
    batches = [(torch.randn(count, 6, 4, 5) * 2 + offset).to(dtype) for _ in range(STEPS)]
    return network, [x.to(memory_format=torch.channels_last) for x in batches]


def weighted(output: Tensor) -> Tensor:
    """Of every picture a number; its gradient by output is not constant, nor is its mean."""
    y = output.flatten(1)
    return (y.sin() * torch.linspace(0.5, 2, y.shape[1], dtype=y.dtype)).sum(1)


def run(network: nn.Module, batches: list[Tensor], part: slice, factor: float) -> dict[str, Any]:
    """Training steps on a part of each batch, and what came of them."""
    results: dict[str, Any] = {"outputs": [], "inputs": []}
    for batch in batches:
        x = batch[part].clone().requires_grad_()
        y = network(x)
        (weighted(y).sum() * factor / len(batch)).backward()
        results["outputs"].append(y.detach())
        results["inputs"].append(x.grad)
    results["weights"] = {
        name.removeprefix("module."): parameter.grad
        for name, parameter in network.named_parameters()
    }
    inner = network.module if isinstance(network, DistributedDataParallel) else network
    results["state"] = inner.state_dict()
    with torch.no_grad():
        results["evaluated"] = inner.eval()(batches[0])
    return results


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    # Of 1x1 convolutions in channels_last: DistributedDataParallel copies their gradients.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=PROCESSES,
        timeout=datetime.timedelta(seconds=60),
    )
    results = {}
    for name, (_, count, first, _) in CASES.items():
        network, batches = case(name)
        network = DistributedDataParallel(synchronize(network))
        part = slice(first) if rank == 0 else slice(first, count)
        results[name] = run(network, batches, part, PROCESSES)
    results["empty"] = empty_part(rank)
    results["compiled"] = compiled(rank)
    results["too few"] = too_few(rank)
    torch.save(results, os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def empty_part(rank: int) -> dict[str, Any]:
    """The second process has no picture: none of its own gradients, and the others are right."""
    layer = nn.BatchNorm2d(6).double()
    batches = case("float64")[1]
    return run(synchronize(layer), batches, slice(None) if rank == 0 else slice(0), 1)


def compiled(rank: int) -> dict[str, Any]:
    network, batches = case("float64")
    part = slice(4) if rank == 0 else slice(4, 8)
    module = torch.compile(synchronize(network), backend="eager")
    with warnings.catch_warnings():
        # The compiler's own, of what goes on behind a break of the graph.
        warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor that is not a leaf")
        results = run(module, batches, part, PROCESSES)
    del results["state"]
    return results


def too_few(rank: int) -> str:
    try:
        synchronize(nn.BatchNorm1d(3))(torch.zeros(1 - rank, 3))
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found, by the name of the case."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(worker, (str(folder),), PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def assert_close(
    got: Tensor, want: Tensor, dtype: torch.dtype, scale: Tensor | None = None
) -> None:
    """Relative to a scale, or to the largest value."""
    assert got.dtype == want.dtype and got.shape == want.shape
    largest = want.abs().max() if scale is None else scale
    error = (got.double() - want.double()).abs().max() / largest.clamp(min=1e-30)
    assert error <= TOLERANCE[dtype], f"{error:.1e}"


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(name: str, parts: list[dict[str, Any]]) -> None:
    network, batches = case(name)
    want = run(network, batches, slice(None), 1)
    dtype = CASES[name][3]
    found = [part[name] for part in parts]
    for step in range(STEPS):
        outputs = torch.cat([each["outputs"][step] for each in found])
        assert_close(outputs, want["outputs"][step], dtype)
        # Of the sum of both losses, each of which was multiplied by the number of processes.
        inputs = torch.cat([each["inputs"][step] for each in found]) / PROCESSES
        assert_close(inputs, want["inputs"][step], dtype)
    # Biases before a norm have no gradient but rounding.
    scale = max(x.abs().max() for x in want["weights"].values() if x is not None)
    for each in found:
        assert each["weights"].keys() == want["weights"].keys()
        for key, gradient in want["weights"].items():
            if gradient is None:
                assert each["weights"][key] is None
            else:
                assert_close(each["weights"][key], gradient, dtype, scale)
        assert list(each["state"]) == list(want["state"])
        for key, values in want["state"].items():
            if values.is_floating_point():
                assert_close(each["state"][key], values, dtype)
            else:
                assert torch.equal(each["state"][key], values)
        assert_close(each["evaluated"], want["evaluated"], dtype)


def test_channels_last_stays(parts: list[dict[str, Any]]) -> None:
    x = parts[0]["empty"]["outputs"][0]
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_a_process_without_pictures(parts: list[dict[str, Any]]) -> None:
    want = run(nn.BatchNorm2d(6).double(), case("float64")[1], slice(None), 1)
    first, second = (part["empty"] for part in parts)
    for step in range(STEPS):
        assert_close(first["outputs"][step], want["outputs"][step], torch.float64)
        assert_close(first["inputs"][step], want["inputs"][step], torch.float64)
        assert second["outputs"][step].shape == (0, 6, 4, 5)
    for key, gradient in want["weights"].items():
        assert_close(first["weights"][key], gradient, torch.float64)
        assert not second["weights"][key].any()
    for each in (first, second):
        assert_close(each["state"]["running_var"], want["state"]["running_var"], torch.float64)


def test_a_compiled_network(parts: list[dict[str, Any]]) -> None:
    for part in parts:
        for key in ("outputs", "inputs"):
            for got, want in zip(part["compiled"][key], part["float64"][key], strict=True):
                assert_close(got, want, torch.float64)


def test_one_value_of_a_channel_is_too_few(parts: list[dict[str, Any]]) -> None:
    for part, shape in zip(parts, ("[1, 3]", "[0, 3]"), strict=True):
        assert "more than one value of each channel" in part["too few"]
        assert f"got 1 in {shape} here" in part["too few"]


def test_one_process_is_ordinary() -> None:
    network, batches = case("float32")
    want = run(copy.deepcopy(network), batches, slice(None), 1)
    got = run(synchronize(network), batches, slice(None), 1)
    for left, right in zip(got["outputs"], want["outputs"], strict=True):
        assert torch.equal(left, right)
    for key, values in want["state"].items():
        assert torch.equal(got["state"][key], values)


def test_layers_and_back() -> None:
    network = convolutional()
    network[1].train(False)
    seen: list[object] = []
    network[1].register_forward_hook(lambda *call: seen.append(call[0]))
    tensors = network.state_dict(keep_vars=True)
    assert synchronize(network) is network
    kinds = [type(network[i]) for i in (1, 7)] + [type(network[3][1])]
    assert kinds == [SynchronizedBatchNorm2d, SynchronizedBatchNorm1d, SynchronizedBatchNorm2d]
    assert isinstance(network[1], nn.BatchNorm2d) and not network[1].training
    network(torch.randn(2, 6, 4, 4))
    assert seen == [network[1]]
    assert str(synchronize(network)) == str(network)  # again: nothing
    plain = unsynchronize(network)
    assert type(network[1]) is SynchronizedBatchNorm2d
    assert str(plain) == str(convolutional())
    for key, tensor in plain.state_dict(keep_vars=True).items():
        assert tensor is tensors[key] is network.state_dict(keep_vars=True)[key]
    assert [module.training for module in plain.modules()] == [
        module.training for module in network.modules()
    ]


def test_torchs_layers_and_back() -> None:
    """What parameters on CUDA get; torch makes these layers anywhere."""
    network = convolutional()
    want = str(network)
    network[7].eval()
    tensors = network.state_dict(keep_vars=True)
    for parent, key in ((network, "1"), (network[3], "1"), (network, "7")):
        setattr(parent, key, _torchs(getattr(parent, key)))
    assert type(network[7]) is nn.SyncBatchNorm and not network[7].training
    plain = unsynchronize(network)
    assert str(plain) == want and not plain[7].training and plain[1].training
    for key, tensor in plain.state_dict(keep_vars=True).items():
        assert tensor is tensors[key]
    x = torch.randn(3, 6, 4, 4)
    assert torch.equal(plain.eval()(x), network.eval()(x))
    alone = unsynchronize(_torchs(nn.BatchNorm2d(3, eps=0.1, momentum=None, affine=False)))
    assert str(alone) == str(nn.BatchNorm2d(3, eps=0.1, momentum=None, affine=False))


@pytest.mark.gpu
def test_layers_on_a_gpu_are_torchs() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    network = convolutional().cuda()
    tensors = network.state_dict(keep_vars=True)
    assert synchronize(network) is network
    assert type(network[1]) is type(network[7]) is nn.SyncBatchNorm
    assert all(network.state_dict(keep_vars=True)[key] is tensors[key] for key in tensors)
    assert str(unsynchronize(network)) == str(convolutional())


def test_a_layer_in_two_places_stays_one() -> None:
    norm = nn.BatchNorm2d(3)
    network = synchronize(nn.Sequential(norm, nn.Sequential(norm)))
    plain = unsynchronize(network)
    assert plain[0] is plain[1][0] and type(plain[0]) is nn.BatchNorm2d
    twice = nn.Sequential(_torchs(norm))
    twice.append(twice[0])
    plain = unsynchronize(twice)
    assert plain[0] is plain[1] and type(plain[0]) is nn.BatchNorm2d


def test_other_norms_are_left_and_named() -> None:
    network = nn.Sequential(OtherNorm(3), nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm3d(3)))
    with pytest.warns(UserWarning, match=r"own process: 0 is an OtherNorm, and 1 more"):
        synchronize(network)
    assert type(network[0]) is OtherNorm and type(network[1]) is SynchronizedBatchNorm2d


@pytest.mark.parametrize("call", [synchronize, unsynchronize])
def test_what_is_no_network(call: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=r"synchronize: network must be a torch\.nn\.Module"):
        call(3)


def test_a_network_that_was_synchronized_is_saved(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    pytest.importorskip("safetensors")
    from freqops.models import from_rgb, load, save

    network = from_rgb(torchvision.models.resnet18(num_classes=3), 24, gate=True)
    synchronize(network)
    assert type(network.gate.norm) is SynchronizedBatchNorm2d
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    network.train()(images)
    save(unsynchronize(network), tmp_path / "network.safetensors")
    loaded = load(tmp_path / "network.safetensors")
    with torch.no_grad():
        for got, want in zip(loaded(images), network.eval()(images), strict=True):
            assert torch.equal(got, want)
