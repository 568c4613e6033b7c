"""The settings that come with freqops: freqops/configs."""

from __future__ import annotations

from importlib import resources

import pytest

pytest.importorskip("torchvision", reason="torchvision is not installed")

from freqops.training import Settings, configs, read_config

NAMES = configs()


def text(name: str) -> str:
    return resources.files("freqops").joinpath("configs", f"{name}.toml").read_text("utf-8")


def test_they_come_with_the_package() -> None:
    assert NAMES == [
        "crops",
        "mobilenet_v2_imagenet",
        "resnet50_imagenet",
        "resnet50_imagenet_gate",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_run(name: str) -> None:
    """Every key is a setting, every value allowed; where data lie is left to the user."""
    settings = Settings.of(read_config(name), name)
    assert (settings.data, settings.output) == ("", "")
    assert settings.resize is not None and settings.crop is not None
    assert settings.crop % 8 == 0


def test_the_paper_is_followed() -> None:
    """Xu et al., CVPR 2020, and the released code."""
    resnet = Settings.of(read_config("resnet50_imagenet"), "it")
    assert (resnet.resize, resnet.crop, resnet.layer2_stride) == (512, 448, 1)
    assert (resnet.optimizer, resnet.momentum, resnet.learning_rate) == ("sgd", 0.9, 0.1)
    assert resnet.schedule == "step" and resnet.weights == "default"
    mobilenet = Settings.of(read_config("mobilenet_v2_imagenet"), "it")
    assert (mobilenet.resize, mobilenet.crop, mobilenet.epochs) == (1024, 896, 150)
    gated = Settings.of(read_config("resnet50_imagenet_gate"), "it")
    assert gated.gate and gated.penalty > 0
    assert resnet.differing(gated) == ["channels", "gate", "penalty"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("imagenet")])
def test_what_the_paper_does_not_say_is_marked(name: str) -> None:
    lines = {line.split(" =")[0]: line for line in text(name).splitlines() if " = " in line}
    for key in ("step_epochs", "step_factor", "batch_size", "weight_decay", "statistics"):
        assert "# our choice" in lines[key], key
    for key in ("resize", "crop"):
        assert "our choice" not in lines[key], key
