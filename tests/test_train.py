"""freqops train: what a step computes, every setting against its formula, what a run writes."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_runs import (
    CLASSES,
    SMALL,
    STEPS,
    TRAIN,
    VAL,
    Image,
    assert_same_runs,
    column,
    flags,
    hidden,
    make_pictures,
    picture,
    rows,
    run,
    small,
    tensors,
)

from freqops import jpeg, models
from freqops._noise import logistic_noise
from freqops.cli import main
from freqops.training import Settings, configs, read_config
from freqops.training._schedule import Schedule
from freqops.training._seeds import seed_of

# Relative: a loss in float32 after a few steps, whose sums were taken in another order.
ROUNDING = 2e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data"))


def test_training_learns(data: Path, tmp_path: Path) -> None:
    """Colours and stripes that nobody could mistake; two thirds of the answers would be wrong."""
    result = run(
        data,
        tmp_path,
        statistics="own",
        optimizer="adamw",
        learning_rate=3e-3,
        schedule="cosine",
        epochs=8,
        log_steps=5,
    )
    assert result.finished and result.top1 is not None and result.top1 > 0.9
    loss, top1 = (column(tmp_path / "log.csv", name) for name in ("loss", "top1"))
    assert loss[-1] < 0.3 * loss[0] and top1[-1] > 0.9


def test_files_of_a_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = small(data, tmp_path, gate=True, statistics="own", log_steps=2)
    assert main(flags(settings)) == 0
    captured = capsys.readouterr()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("settings.json", "statistics.json", "log.csv", "steps.csv"),
        *("state.pt", "network.safetensors", "best.safetensors"),
    }
    assert Settings(**json.loads((tmp_path / "settings.json").read_text())) == settings
    log, steps = rows(tmp_path / "log.csv"), rows(tmp_path / "steps.csv")
    assert (tmp_path / "log.csv").read_text().splitlines()[0] == (
        "step,epoch,learning_rate,loss,penalty,channels_on,top1,val_loss,val_top1,val_top5,"
        "val_channels_on,seconds,pictures_per_second,skipped"
    )
    assert list(steps[0]) == ["step", "epoch", "learning_rate", "loss", "penalty", "channels_on"]
    assert [row["step"] for row in steps] == ["2", "4", "6"]
    assert [row["epoch"] for row in steps] == ["1", "2", "2"]
    assert [(row["step"], row["epoch"]) for row in log] == [("3", "1"), ("6", "2")]
    for row in log:
        assert 0 < float(row["channels_on"]) < 192 and 0 <= float(row["val_channels_on"]) <= 192
        assert row["val_top5"] == ""  # of three classes
        assert row["skipped"] == "0"
        assert round(float(row["top1"]) * TRAIN * 3, 9).is_integer()
        assert round(float(row["val_top1"]) * VAL * 3, 9).is_integer()
    assert captured.out == (
        f"2 epochs, validation top-1 {float(log[-1]['val_top1']):.1%}: {tmp_path}\n"
    )
    lines = [line for line in captured.err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2 and f"channels {float(log[0]['val_channels_on']):.1f}" in lines[0]
    about = models.about(tmp_path / "network.safetensors")
    assert about["classes"] == list(CLASSES) and about["data"] == str(data)
    assert (about["resize"], about["crop"]) == (40, 32)


def test_an_epoch_is_the_mean_of_its_steps(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, gate=True)
    for name in ("loss", "penalty", "channels_on"):
        steps, epochs = (column(tmp_path / file, name) for file in ("steps.csv", "log.csv"))
        assert epochs == pytest.approx([np.mean(steps[:STEPS]), np.mean(steps[STEPS:])])


def test_best_is_the_best_by_validation(data: Path, tmp_path: Path) -> None:
    """After each of some epochs it is the network of the first that was best until then."""
    kept: dict[str, Tensor] = {}
    for epoch in range(1, 5):
        run(data, tmp_path, epochs=epoch, learning_rate=0.03)
        top1 = column(tmp_path / "log.csv", "val_top1")
        if epoch == 1 or top1[-1] > max(top1[:-1]):
            kept = tensors(tmp_path)
        best = tensors(tmp_path, "best.safetensors")
        assert all(torch.equal(best[name], kept[name]) for name in kept)
    assert len(set(top1)) > 1


def test_what_is_written_is_what_validation_saw(data: Path, tmp_path: Path) -> None:
    """val_top1 and val_loss by hand: short side to 40, the 32 pixels in the middle."""
    run(data, tmp_path, epochs=1)
    network = models.load(tmp_path / "network.safetensors")
    shown = [(picture(c, TRAIN + i), c) for c in range(3) for i in range(VAL)]
    pixels = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p, _ in shown])
    resized = torch.nn.functional.interpolate(
        pixels.float(), (40, 40 * 56 // 48), mode="bilinear", antialias=False
    )
    top, left = (40 - 32) // 2, round((40 * 56 // 48 - 32) / 2)
    seen = resized.round().to(torch.uint8)[..., top : top + 32, left : left + 32]
    labels = torch.tensor([label for _, label in shown])
    with torch.no_grad():
        scores = network(seen)
    log = rows(tmp_path / "log.csv")[0]
    right = (scores.argmax(1) == labels).float().mean()
    assert float(log["val_top1"]) == pytest.approx(float(right))
    # Pixels are rounded at halves one way or the other.
    loss = nn.functional.cross_entropy(scores, labels)
    assert float(log["val_loss"]) == pytest.approx(float(loss), rel=0.01)


class ByHand:
    """Training written again from the formulas, with one thing in common: what the seeds give."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        network = models.load(settings.init)
        assert isinstance(network, models.FrequencyNetwork)
        self.network = network.train()
        self.memory: dict[str, tuple[Tensor, Tensor]] = {}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import v2

        settings = self.settings
        crop = v2.RandomResizedCrop(
            settings.crop,
            scale=(settings.area, 1.0),
            interpolation=v2.InterpolationMode.BILINEAR,
            antialias=False,
        )
        epoch, number = divmod(step, STEPS)
        generator = torch.Generator().manual_seed(seed_of(settings.seed, "order", epoch))
        order = torch.randperm(TRAIN * 3, generator=generator).tolist()
        chosen = order[number * settings.batch_size :][: settings.batch_size]
        seen = []
        for index in chosen:
            torch.manual_seed(seed_of(settings.seed, "picture", epoch, index))
            pixels = torch.from_numpy(picture(*divmod(index, TRAIN))).permute(2, 0, 1)
            seen.append(v2.RandomHorizontalFlip(0.5)(crop(pixels)))
        return torch.stack(seen), torch.tensor([index // TRAIN for index in chosen])

    def rate(self, step: int) -> float:
        s = self.settings
        warm, steps = s.warmup_epochs * STEPS, s.epochs * STEPS
        if step < warm:
            return min(1.0, (step + 1) / warm)
        if s.schedule == "step":
            return s.step_factor ** (step // (s.step_epochs * STEPS))
        if s.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        return 1.0

    def step(self, step: int) -> tuple[float, float, float]:
        """Loss, penalty and open channels."""
        s, network = self.settings, self.network
        images, labels = self.batch(step)
        opened = None
        if network.gate is None:
            scores = network(images)
        else:
            last = s.tau if s.tau_end is None else s.tau_end
            network.gate.tau = s.tau * (last / s.tau) ** (step / (s.epochs * STEPS - 1))
            generator = torch.Generator().manual_seed(seed_of(s.seed, "gate", step))
            noise = logistic_noise((len(images), 192), generator=generator).float()
            scores, opened = network(images, noise=noise)
        logs = scores.log_softmax(1)
        target = torch.full_like(logs, s.label_smoothing / len(CLASSES))
        target[torch.arange(len(labels)), labels] += 1 - s.label_smoothing
        loss = -(target * logs).sum(1).mean()
        total, penalty, on = loss, 0.0, 0.0
        if opened is not None:
            on = float(opened.detach().sum(1).mean())
            price = opened.mean()
            if s.penalty_target is not None:
                price = (price - s.penalty_target / 192) ** 2
            warm = s.penalty_warmup_epochs * STEPS
            total = loss + s.penalty * (min(1, (step + 1) / warm) if warm else 1) * price
            penalty = float(price.detach())
        named = dict(network.named_parameters())
        gradients = dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))
        if s.clip:
            norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
            gradients = {n: g * min(1.0, s.clip / float(norm)) for n, g in gradients.items()}
        for name, parameter in named.items():
            self.update(step, name, parameter, gradients[name])
        return float(loss.detach()), penalty, on

    @torch.no_grad()
    def update(self, step: int, name: str, parameter: Tensor, gradient: Tensor) -> None:
        s, gate = self.settings, name.startswith("gate.")
        rate = (s.gate_learning_rate if gate and s.gate_learning_rate else s.learning_rate) * (
            self.rate(step)
        )
        decay = 0.0 if gate or (parameter.dim() == 1 and not s.norm_decay) else s.weight_decay
        zero = torch.zeros_like(parameter)
        first, second = self.memory.get(name, (zero, zero))
        if s.optimizer == "sgd":
            gradient = gradient + decay * parameter
            first = gradient if step == 0 else s.momentum * first + gradient
            parameter -= rate * (gradient + s.momentum * first if s.nesterov else first)
        else:
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            a, b = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
            parameter *= 1 - rate * decay
            parameter -= rate * a / (b.sqrt() + 1e-8)
        self.memory[name] = (first, second)


RECIPES = {
    "sgd": {},
    "plain sgd": {"momentum": 0.0, "weight_decay": 0.0, "norm_decay": False},
    "nesterov, decay": {"nesterov": True, "weight_decay": 0.1, "norm_decay": False},
    "decay of norms": {"weight_decay": 0.2},
    "step": {"schedule": "step", "step_epochs": 1, "step_factor": 0.3},
    "cosine, warm-up": {"schedule": "cosine", "warmup_epochs": 0.9},
    "adamw": {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.5},
    "label smoothing": {"label_smoothing": 0.2},
    "clip": {"clip": 0.5},
    "gate": {"gate": True, "penalty": 0.5},
    "gate's rate": {"gate": True, "gate_learning_rate": 1.0, "penalty": 50.0, "weight_decay": 0.1},
    "penalty warm-up": {"gate": True, "penalty": 50.0, "penalty_warmup_epochs": 1.5},
    "penalty target": {"gate": True, "penalty": 50.0, "penalty_target": 24.0, "seed": 3},
    "tau": {"gate": True, "tau": 2.0, "tau_end": 0.25, "gate_learning_rate": 1.0, "penalty": 50.0},
    "tau alone": {"gate": True, "tau": 0.5, "gate_learning_rate": 1.0, "penalty": 50.0},
    "adamw, gate": {"gate": True, "optimizer": "adamw", "learning_rate": 1e-3, "clip": 1.0},
}


@pytest.fixture(scope="module")
def beginnings(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Networks that runs begin with, without and with a gate."""
    root = tmp_path_factory.mktemp("beginnings")
    for gate in (False, True):
        run(data, root / str(gate), gate=gate, epochs=1, seed=7)
    return {gate: root / str(gate) / "network.safetensors" for gate in (False, True)}


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_those_written_by_hand(
    data: Path, beginnings: dict[bool, Path], tmp_path: Path, name: str
) -> None:
    changes = dict(RECIPES[name])
    gate = bool(changes.pop("gate", False))
    own = {name: value for name, value in SMALL.items() if name not in ("model", "statistics")}
    settings = Settings.of(
        own
        | {"data": str(data), "output": str(tmp_path), "init": str(beginnings[gate])}
        | {"schedule": "constant"}
        | changes,
        "test",
    )
    assert main([*flags(settings), "-q"]) == 0
    hand = ByHand(settings)
    wanted = [hand.step(step) for step in range(2 * STEPS)]
    for place, title in enumerate(("loss", "penalty", "channels_on")):
        got = column(tmp_path / "steps.csv", title)
        assert got == pytest.approx([step[place] for step in wanted], rel=ROUNDING), title
    rates = [settings.learning_rate * hand.rate(step) for step in range(2 * STEPS)]
    assert column(tmp_path / "steps.csv", "learning_rate") == pytest.approx(rates)
    trained = tensors(tmp_path)
    for key, parameter in hand.network.named_parameters():
        moved = (parameter - tensors(beginnings[gate].parent)[key]).norm()
        # BatchNorm behind a bias leaves it only rounding to follow.
        assert (trained[key] - parameter).norm() <= 0.02 * moved + 1e-6, key


# name, settings, what is asked for, its values in steps 0 ... 7 of two epochs of four steps.
SCHEDULES = [
    ("constant", {"schedule": "constant"}, "rate", [1.0] * 8),
    (
        "step",
        {"schedule": "step", "step_epochs": 1, "step_factor": 0.1},
        "rate",
        [1.0] * 4 + [0.1] * 4,
    ),
    ("steps later", {"schedule": "step", "step_epochs": 2}, "rate", [1.0] * 8),
    (
        "cosine",
        {"schedule": "cosine"},
        "rate",
        [(1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)],
    ),
    (
        "warm-up",
        {"schedule": "cosine", "warmup_epochs": 1.0},
        "rate",
        [0.25, 0.5, 0.75, 1.0, *((1 + math.cos(math.pi * (t - 4) / 4)) / 2 for t in range(4, 8))],
    ),
    (
        "part of an epoch",
        {"schedule": "constant", "warmup_epochs": 0.625},
        "rate",
        [0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ),
    ("penalty", {"penalty": 3.0}, "penalty", [3.0] * 8),
    (
        "penalty warm-up",
        {"penalty": 3.0, "penalty_warmup_epochs": 1.5},
        "penalty",
        [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0],
    ),
    ("tau", {"tau": 2.0}, "tau", [2.0] * 8),
    ("tau to", {"tau": 4.0, "tau_end": 0.5}, "tau", [4.0 * 8 ** (-t / 7) for t in range(8)]),
]


@pytest.mark.parametrize(("changes", "what", "wanted"), [s[1:] for s in SCHEDULES])
def test_schedules(changes: dict[str, object], what: str, wanted: list[float]) -> None:
    schedule = Schedule(small("d", "o", **changes), 4)
    got = [getattr(schedule, what)(step) for step in range(schedule.steps)]
    assert got == pytest.approx(wanted)


# What only rounding tells from the usual way.
WAYS = {
    "on workers": {"transform": "workers"},
    "channels_last": {"channels_last": True},
    "channels_last, on workers": {"channels_last": True, "transform": "workers"},
}


@pytest.mark.parametrize("gate", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("name", WAYS)
def test_other_ways_to_the_same_losses(data: Path, tmp_path: Path, name: str, gate: bool) -> None:
    run(data, tmp_path / "a", gate=gate)
    run(data, tmp_path / "b", gate=gate, **WAYS[name])
    a, b = (column(tmp_path / x / "steps.csv", "loss") for x in "ab")
    assert a == pytest.approx(b, rel=ROUNDING)
    for title in ("val_loss", "val_top1"):
        a, b = (column(tmp_path / x / "log.csv", title) for x in "ab")
        assert a == pytest.approx(b, rel=0.01)
    if WAYS[name].get("channels_last"):
        network = models.load(tmp_path / "b" / "network.safetensors")
        kernel = next(p for p in network.network.parameters() if p.dim() == 4 and p.shape[2] > 1)
        assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16(data: Path, tmp_path: Path) -> None:
    """Layers compute in 8 bits of mantissa: losses differ, but not by more than a few roundings."""
    # On maps of a single pixel oneDNN's gradient of a bfloat16 weight now and then is NaN.
    large = {"crop": 128, "resize": 128}
    for name, amp in (("a", "off"), ("b", "bfloat16")):
        run(data, tmp_path / name, gate=True, amp=amp, epochs=1, **large)
    a, b = (column(tmp_path / x / "steps.csv", "loss") for x in "ab")
    assert a != pytest.approx(b, rel=ROUNDING)
    assert a == pytest.approx(b, rel=2.0**-4)
    assert all(t.dtype != torch.bfloat16 for t in tensors(tmp_path / "b").values())


@pytest.mark.slow
def test_compile(data: Path, tmp_path: Path) -> None:
    for name, compiled in (("a", False), ("b", True)):
        run(data, tmp_path / name, gate=True, compile=compiled, epochs=1)
    a, b = (column(tmp_path / x / "steps.csv", "loss") for x in "ab")
    assert a == pytest.approx(b, rel=1e-3)
    assert tensors(tmp_path / "a").keys() == tensors(tmp_path / "b").keys()


@pytest.mark.skipif(bool(jpeg.missing()), reason=f"no JPEG reader: {jpeg.missing()}")
def test_from_jpeg_coefficients(tmp_path: Path) -> None:
    """Never decoded; other formats in the same folder are."""
    data = make_pictures(tmp_path / "data", "jpg")
    Image.fromarray(picture(0, 99)).save(data / "train" / "blue" / "99.png")
    settings = {
        **SMALL,
        "data": str(data),
        "output": str(tmp_path / "run"),
        "transform": "jpeg",
        "statistics": "own",
        "batch_size": 5,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
    }
    del settings["area"]
    assert main([*flags(Settings.of(settings, "test")), "-q", "--epochs", "5"]) == 0
    loss = column(tmp_path / "run" / "log.csv", "loss")
    assert loss[-1] < loss[0]
    assert models.about(tmp_path / "run" / "network.safetensors")["transform"] == "jpeg"


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("resnet18", {"spatial": True, "gate": True}),
        ("resnet18", {"channels": "0,1,8,64,128", "layer2_stride": 1}),
        ("mobilenet_v2", {"gate": True, "crop": 64, "resize": 64}),
        ("timm/resnet10t", {"channels": "learned", "chroma": "4:2:0", "rounding": "jpeg"}),
    ],
)
def test_other_networks(data: Path, tmp_path: Path, model: str, changes: dict[str, object]) -> None:
    """One step each; the recipe comes back with the file."""
    result = run(data, tmp_path, model=model, epochs=1, batch_size=24, **changes)
    assert result.step == 1
    network = models.load(tmp_path / "network.safetensors")
    assert isinstance(network, models.FrequencyNetwork)
    assert (network.gate is not None) == bool(changes.get("gate"))
    assert (network.halved is not None) == bool(changes.get("spatial"))
    if "channels" in changes and "," in str(changes["channels"]):
        assert list(network.transform.channels.indices) == [0, 1, 8, 64, 128]


@pytest.mark.parametrize("statistics", ["own", "photographs", "file"])
def test_statistics(data: Path, tmp_path: Path, statistics: str) -> None:
    from freqops.statistics import ChannelStatistics

    path = tmp_path / "some.json"
    ChannelStatistics(torch.arange(192.0), torch.arange(1.0, 193.0)).save(path)
    named = str(path) if statistics == "file" else statistics
    run(data, tmp_path / "run", statistics=named, epochs=1, gate=True)
    network = models.load(tmp_path / "run" / "network.safetensors")
    wanted = {
        "own": lambda: ChannelStatistics.load(tmp_path / "run" / "statistics.json"),
        "photographs": ChannelStatistics.photographs,
        "file": lambda: ChannelStatistics.load(path),
    }[statistics]()
    assert torch.allclose(network.transform.mean.flatten().double(), wanted.mean)
    assert torch.allclose(network.transform.std.flatten().double(), wanted.std)
    assert (tmp_path / "run" / "statistics.json").exists() == (statistics == "own")
    if statistics == "own":  # of training crops: the mean of Y, of 3 x 24 pictures, to a tenth
        bright = [
            picture(c, i) @ np.array([0.299, 0.587, 0.114]) for c in range(3) for i in range(8)
        ]
        wanted_mean = 8 * (np.mean(bright) - 128)
        assert float(wanted.mean[0]) == pytest.approx(wanted_mean, abs=40)


def test_init_goes_on_with_another_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "a", gate=True, channels="learned")
    own = {n: v for n, v in SMALL.items() if n not in ("model", "statistics")}
    given = own | {"data": str(data), "output": str(tmp_path / "b"), "init": str(tmp_path / "a")}
    settings = Settings.of(given | {"learning_rate": 1e-9, "epochs": 1}, "test")
    assert main([*flags(settings), "-q"]) == 0
    a, b = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    for name in a:
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(a[name], b[name], atol=1e-6), name
    network = models.load(tmp_path / "b" / "network.safetensors")
    assert network.gate is not None and len(network.transform.channels) == 24


def test_init_with_other_classes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, tmp_path / "a", epochs=1)
    other = make_pictures(tmp_path / "other")
    for part in ("train", "val"):
        for path in (other / part / "red").iterdir():
            path.unlink()
        (other / part / "red").rmdir()
    own = {n: v for n, v in SMALL.items() if n not in ("model", "statistics")}
    given = own | {"data": str(other), "output": str(tmp_path / "b"), "init": str(tmp_path / "a")}
    command = [*flags(Settings.of(given | {"epochs": 1, "learning_rate": 1e-9}, "test"))]
    assert main(command) == 2
    assert (
        f"freqops: init must have the 2 classes of the data, got 3 in "
        f"{tmp_path / 'a' / 'network.safetensors'} (--new-head draws the last layer anew)\n"
    ) in capsys.readouterr().err
    assert main([*command, "--new-head"]) == 0
    assert "drawn anew for 2 classes instead of 3" in capsys.readouterr().err
    a, b = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    other_shapes = [name for name in a if a[name].shape != b[name].shape]
    assert sorted(other_shapes) == ["network.fc.bias", "network.fc.weight"]
    assert torch.allclose(a["network.layer1.0.conv1.weight"], b["network.layer1.0.conv1.weight"])


def test_weights_from_a_state_dict(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 1000 classes, as checkpoints of ImageNet are, by DataParallel and inside a dictionary."""
    import timm

    torch.manual_seed(3)
    rgb = timm.create_model("test_resnet").state_dict()
    path = tmp_path / "rgb.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in rgb.items()}}, path)
    settings = small(data, tmp_path / "run", weights=str(path), learning_rate=1e-9, epochs=1)
    assert main(flags(settings)) == 0
    said = capsys.readouterr().err
    assert f"{len(rgb) - 2} of {len(rgb)} RGB weights taken; drawn anew: fc.weight, fc.bias" in said
    trained = tensors(tmp_path / "run")
    key = "layer3.0.conv2.weight"
    assert torch.allclose(trained[f"network.{key}"], rgb[key], atol=1e-6)


def test_weights_of_another_network(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(3)}, path)
    assert main(flags(small(data, tmp_path / "run", weights=str(path)))) == 2
    assert "weights must be those of test_resnet, got a state dict of which 0 of" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_flags_win_over_a_config(data: Path, tmp_path: Path, suffix: str) -> None:
    settings = {**SMALL, "label-smoothing": 0.25, "flip": False, "epochs": 1}
    config = tmp_path / f"recipe.{suffix}"
    text = json.dumps(settings)
    if suffix == "toml":
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    config.write_text(text)
    output = tmp_path / "run"
    given = ["train", str(data), "-o", str(output), "--config", str(config), "-q"]
    assert main([*given, "--learning-rate", "0.02", "--flip"]) == 0
    used = json.loads((output / "settings.json").read_text())
    assert (used["label_smoothing"], used["learning_rate"], used["flip"]) == (0.25, 0.02, True)
    assert (used["model"], used["epochs"]) == (SMALL["model"], 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rte = 0.1", "got 'learning_rte' (perhaps --learning-rate)"),
        ("epochs = 'x'", "epochs must be"),
        ("epochs = ", "recipe.toml'"),
    ],
)
def test_a_wrong_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text(text)
    assert main(["train", "data", "-o", str(tmp_path / "run"), "--config", str(config)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", configs())
def test_configs_that_come_with_freqops(name: str) -> None:
    settings = Settings.of(read_config(name), name)
    assert settings.epochs > 1


def test_a_config_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data", "-o", "run", "--config", "no_such"]) == 2
    assert "config 'no_such': there is no such file" in capsys.readouterr().err


def test_tensorboard(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(data, tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    got = [(event.step, event.value) for event in events.Scalars("val_loss")]
    wanted = column(tmp_path / "log.csv", "val_loss")
    assert [step for step, _ in got] == [STEPS, 2 * STEPS]
    assert [value for _, value in got] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed"
)
def test_tensorboard_is_missing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags(small(data, tmp_path, tensorboard=True))]) == 1
    assert "needs tensorboard: pip install" in capsys.readouterr().err


MODULE = """
from training_runs import picture

class Shown:
    def __init__(self, first, count, classes):
        self.first, self.count = first, count
        if classes:
            self.classes = ["b", "c", "r"]
        else:
            self.targets = [i % 3 for i in range(3 * count)]
    def __len__(self):
        return 3 * self.count
    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError
        return picture(index % 3, self.first + index // 3), index % 3

def named(train):
    return Shown(0, 8, True) if train else Shown(8, 4, True)

def numbered(train):
    return Shown(0, 8, False) if train else Shown(8, 4, False)

def bare(train):
    return [(picture(0, 0), 0)] * 8

def beyond(train):
    made = Shown(0, 8, True)
    made.classes = ["b", "c"]
    return made

def wrong(train):
    return iter([])

def none(train):
    return []

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_pictures.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_pictures", None)
    return "own_pictures"


@pytest.mark.parametrize(
    ("function", "classes"), [("named", ["b", "c", "r"]), ("numbered", ["0", "1", "2"])]
)
def test_a_data_set_in_python(
    module: str, tmp_path: Path, function: str, classes: list[str]
) -> None:
    result = run(f"{module}:{function}", tmp_path / "run", statistics="own", epochs=1)
    assert result.finished and result.step == STEPS
    assert models.about(tmp_path / "run" / "network.safetensors")["classes"] == classes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_pictures:bare", "must give a data set with .classes, the names of the classes, or"),
        ("own_pictures:beyond", "data must have class numbers in [0, 2), got 2"),
        ("own_pictures:wrong", "must give a data set with len and pairs"),
        ("own_pictures:none", "must give pictures, got none for train"),
        ("own_pictures:number", "must name a function of own_pictures, found no 'number' there"),
        ("own_pictures:missing", "must name a function of own_pictures, found no 'missing' there"),
        ("no_such_module:f", "must name a module, found no 'no_such_module'"),
    ],
)
def test_a_wrong_data_set_in_python(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    assert main([*flags(small(name, tmp_path / "run")), "-q"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("freqops: data") and error.count("\n") == 1


def test_a_folder_without_validation_is_split(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small(data / "train", tmp_path, epochs=1, val_share=0.25, batch_size=6)
    assert main(flags(settings)) == 0
    assert f"6 pictures of {data / 'train'} are held out" in capsys.readouterr().err
    assert column(tmp_path / "steps.csv", "step")[-1] == 18 // 6
    assert round(column(tmp_path / "log.csv", "val_top1")[0] * 6, 9).is_integer()


def test_python_and_the_command_line_are_the_same(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "a", gate=True)
    assert main([*flags(small(data, tmp_path / "b", gate=True)), "-q"]) == 0
    assert_same_runs(tmp_path / "a", tmp_path / "b")
    assert hidden(tmp_path / "a") == []


def test_training_leaves_the_random_numbers_of_the_process(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    wanted = torch.rand(3), np.random.random(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    run(data, tmp_path, gate=True, epochs=1)
    assert torch.equal(torch.rand(3), wanted[0])
    assert np.array_equal(np.random.random(3), wanted[1])  # noqa: NPY002
