"""Settings: all that decides a training run, from flags, a file, or Python."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

from freqops._arguments import describe
from freqops._block_dct import CHROMA, ROUNDING
from freqops._extras import need
from freqops.training._pictures import BROKEN

__all__ = ["FREE", "GROUPS", "MADE", "Settings", "configs", "kinds", "read_config"]

T = TypeVar("T")

TRANSFORM = ("device", "workers", "jpeg")
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "cosine", "constant")
AMP = ("off", "bfloat16", "float16")

LEAST_STEPS = 8
"""Of an epoch, for a batch size that is not given."""

GROUPS = {
    "data": "pictures",
    "model": "network",
    "epochs": "optimiser",
    "penalty": "gate",
    "seed": "how it runs",
}
"""Headings of the help, each before the field that it begins with."""

MADE = (
    *("model", "weights", "channels", "gate", "spatial", "layer2_stride"),
    *("chroma", "rounding", "statistics"),
)
"""What a network is made with: one that is there already has it."""

FREE = frozenset(
    (
        *("data", "output", "epochs", "workers", "device", "broken", "compile", "transform"),
        *("tensorboard", "log_steps", "checkpoint_steps"),
    )
)
"""What may change where a run goes on: all else would make it another run."""


def _field(
    default: T,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> T:
    """A field with what its flag says, and the range of its values."""
    metadata = {"text": text, "least": least, "most": most, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a training run; each field is a flag of ``freqops train`` too.

    ``freqops train --help`` and the metadata of the fields say what each means. With the same
    settings, data and versions a run gives the same numbers, whatever the number of workers, and on
    CPUs within rounding whatever the number of processes.

    Raises:
        TypeError: a value has another type.
        ValueError: a value is out of its range, or two do not go together.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020. What the authors did not
        publish is torchvision's reference recipe or our own choice; ``freqops/configs`` says which.

    Example:
        >>> Settings(data="photos", output="run", gate=True).resolved(1000).batch_size
        64
    """

    # fmt: off
    # What is trained on.
    data: str = _field("", "folder with train/ and val/, each of one folder a class; a folder of "
        "one folder a class, of which a share is held out; or module:function in Python")
    output: str = _field("", "folder of the run")
    val_share: float = _field(0.2, "share of each class that is held out where the data have no "
        "val/", above=0, most=0.9)
    transform: str = _field("device", "where pictures become frequency channels: on the device of "
        "the network, on the loader's workers, or there from the coefficients of JPEG files "
        "without decoding", choices=TRANSFORM)
    resize: int | None = _field(None, "short side of the picture in validation before the crop; "
        "none: 8/7 of the crop, with init as there", least=8)
    crop: int | None = _field(None, "side of the square that the network sees; none: the "
        "network's own, 448 for a ResNet, 896 for MobileNetV2, with init as there", least=8)
    area: float = _field(0.08, "least share of a picture's area that a training crop shows",
        above=0, most=1)
    flip: bool = _field(True, "mirror half of the training pictures")
    broken: str = _field("skip", "pictures that cannot be read: skip them, named and counted, or "
        "fail", choices=BROKEN)
    # The network.
    model: str = _field("resnet50", "network of torchvision, or of timm as timm/NAME")
    weights: str = _field("none", "RGB weights to begin with: none, default (downloaded by the "
        "library), or a file of a state dict")
    init: str = _field("", "begin with this frequency network, a run or a .safetensors file, in "
        "place of model")
    new_head: bool = _field(False, "with init: draw the last layer anew, for other classes")
    channels: str = _field("", "N, a list such as 0,1,8,64,128, 'learned', or a saved "
        "ChannelSelection; empty: 24, and with a gate all 192")
    gate: bool = _field(False, "with a ChannelGate before the first layer")
    spatial: bool = _field(False, "of a ResNet: with the RGB stem beside the channels")
    layer2_stride: int = _field(2, "of a ResNet: 2, or 1 as the paper's released ones", least=1,
        most=2)
    chroma: str = _field("4:4:4", "colour as it is, averaged over 2x2 pixels, or as the paper's "
        "released code", choices=CHROMA)
    rounding: str = _field("none", "jpeg: to integers before and after the DCT", choices=ROUNDING)
    statistics: str = _field("own", "mean and std of the channels: own (measured on training "
        "pictures first), photographs, or a file of `freqops stats`")
    # The optimiser.
    epochs: int = _field(90, "passes over the training pictures", least=1)
    batch_size: int = _field(0, "pictures a step, of all processes together; 0: 256, or where that "
        "would be fewer than 8 steps an epoch the largest power of two with 8", least=0)
    optimizer: str = _field("sgd", "sgd or adamw", choices=OPTIMIZERS)
    learning_rate: float = _field(0.0, "at its highest; 0: of sgd 0.1 batch_size / 256, of adamw "
        "0.001", least=0)
    gate_learning_rate: float | None = _field(None, "of the gate; none: learning_rate", above=0)
    momentum: float = _field(0.9, "of sgd", least=0, most=1)
    nesterov: bool = _field(False, "of sgd")
    weight_decay: float = _field(1e-4, "of all parameters but the gate's", least=0)
    norm_decay: bool = _field(True, "weight decay of biases and norms too")
    schedule: str = _field("step", "of the learning rate", choices=SCHEDULES)
    step_epochs: int = _field(30, "step: epochs between two steps", least=1)
    step_factor: float = _field(0.1, "step: what each multiplies the rate by", above=0, most=1)
    warmup_epochs: float = _field(0.0, "epochs in which the rate rises from 0, linearly", least=0)
    label_smoothing: float = _field(0.0, "of the cross entropy", least=0, most=0.99)
    clip: float = _field(0.0, "largest norm of the gradient; 0: any", least=0)
    amp: str = _field("off", "automatic mixed precision", choices=AMP)
    # The gate.
    penalty: float = _field(1.0, "lambda: price of the open channels, of gate_penalty", least=0)
    penalty_target: float | None = _field(None, "open channels a picture that the gate is drawn "
        "to; none: as few as possible", above=0, most=192)
    penalty_warmup_epochs: float = _field(0.0, "epochs in which lambda rises from 0, linearly",
        least=0)
    tau: float = _field(1.0, "temperature of the gate's gradient in the first step", above=0)
    tau_end: float | None = _field(None, "in the last step, geometrically; none: as tau", above=0)
    # How it runs.
    seed: int = _field(0, "of weights, order, crops and gate samples", least=0)
    device: str = _field("auto", "auto, cpu, cuda or cuda:N")
    workers: int = _field(2, "loader processes of each training process", least=0)
    channels_last: bool = _field(False, "weights and channels in that order of memory")
    compile: bool = _field(False, "torch.compile the network")
    sync_batchnorm: bool = _field(True, "BatchNorm over all processes, so that their number makes "
        "no difference")
    log_steps: int = _field(10, "steps between two rows of steps.csv", least=1)
    checkpoint_steps: int = _field(0, "steps between two checkpoints; 0: at the end of each epoch",
        least=0)
    tensorboard: bool = _field(False, "write events for TensorBoard too")
    # fmt: on

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if self.batch_size == 1:
            raise ValueError("batch_size must be at least 2, for BatchNorm, or 0, got 1")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise ValueError(f"crop must be at most resize, {self.resize}, got {self.crop}")
        if self.init:
            usual = {field.name: field.default for field in dataclasses.fields(self)}
            for name in MADE:
                if getattr(self, name) != usual[name]:
                    raise ValueError(
                        f"{name} must be left out with init, which has its own, "
                        f"got {getattr(self, name)!r}"
                    )
        elif self.new_head:
            raise ValueError("new_head must be left out without init, got True")
        if self.transform == "jpeg" and (self.chroma, self.rounding) != ("4:4:4", "none"):
            raise ValueError(
                "chroma and rounding must be left out with transform jpeg: files have their own, "
                f"got {self.chroma!r} and {self.rounding!r}"
            )
        if self.transform == "jpeg" and (self.area != 0.08 or not self.flip):
            raise ValueError("area and flip must be left out with transform jpeg")
        if self.transform != "device" and self.spatial:
            raise ValueError(
                f"transform must be device with spatial, which needs pixels, got {self.transform!r}"
            )

    def resolved(self, pictures: int) -> Settings:
        """The settings with batch size and learning rate for that many training pictures."""
        size, rate = self.batch_size, self.learning_rate
        if size == 0:
            size = min(256, 1 << max(1, (pictures // LEAST_STEPS).bit_length() - 1))
        if rate == 0:
            rate = 0.1 * size / 256 if self.optimizer == "sgd" else 1e-3
        return dataclasses.replace(self, batch_size=size, learning_rate=rate)

    def words(self) -> str:
        """The settings as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def of(cls, values: Mapping[str, object], where: str) -> Settings:
        """Settings from names and values; the others have their defaults.

        Args:
            values: by field name, with - or _.
            where: what an error says they come from.

        Raises:
            TypeError, ValueError: those of the constructor; a name is unknown.
        """
        return cls(**_named(values, where))  # type: ignore[arg-type]

    def differing(self, other: Settings) -> list[str]:
        """Names of what makes the other settings another run."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in FREE and getattr(self, field.name) != getattr(other, field.name)
        ]


def kinds() -> dict[str, type]:
    """Of each field its type, that of numbers and words that may be None without it."""
    types = {"bool": bool, "int": int, "float": float, "str": str}
    return {field.name: types[_kind(field)] for field in dataclasses.fields(Settings)}


def _kind(field: dataclasses.Field[object]) -> str:
    return str(field.type).removesuffix(" | None")


def _checked(field: dataclasses.Field[object], value: object) -> object:
    """A value of the field's type and in its range."""
    name, kind, facts = field.name, _kind(field), field.metadata
    if value is None and "None" in str(field.type):
        return None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value).__name__ != kind:
        words = {"bool": "True or False", "int": "an integer", "float": "a number"}
        raise TypeError(f"{name} must be {words.get(kind, 'a string')}, got {describe(value)}")
    if isinstance(value, str):
        if facts["choices"] and value not in facts["choices"]:
            raise ValueError(f"{name} must be {' or '.join(facts['choices'])}, got {value!r}")
    elif isinstance(value, (int, float)):
        least, most, above = (facts[key] for key in ("least", "most", "above"))
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
        if least is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
        if most is not None and value > most:
            raise ValueError(f"{name} must be at most {most}, got {value}")
        if above is not None and value <= above:
            raise ValueError(f"{name} must be greater than {above}, got {value}")
    return value


def _named(values: Mapping[str, object], where: str) -> dict[str, object]:
    known = [field.name for field in dataclasses.fields(Settings)]
    named = {name.replace("-", "_"): value for name, value in values.items()}
    unknown = sorted(set(named) - set(known))
    if unknown:
        import difflib

        close = difflib.get_close_matches(unknown[0], known, 1)
        hint = f" (perhaps {close[0]})" if close else ""
        raise ValueError(f"{where} must hold settings of training, got {unknown[0]!r}{hint}")
    return named


def configs() -> list[str]:
    """Names of the files that come with freqops."""
    folder = resources.files("freqops").joinpath("configs")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def read_config(place: str) -> dict[str, object]:
    """The settings that a file holds: .toml, .json, or the name of one that comes with freqops.

    Raises:
        ValueError: there is no such file, or it holds something else.
        ModuleNotFoundError: before Python 3.11, tomli is not installed.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        need("--config", "train", "tomli")
        import tomli as tomllib  # type: ignore[import-not-found]

    try:
        if place in configs():
            file = resources.files("freqops").joinpath("configs").joinpath(f"{place}.toml")
            content: object = tomllib.loads(file.read_text(encoding="utf-8"))
        elif not Path(place).is_file():
            raise ValueError(f"there is no such file; freqops has {_list(configs())}")
        elif Path(place).suffix == ".json":
            content = json.loads(Path(place).read_text(encoding="utf-8"))
        else:
            content = tomllib.loads(Path(place).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no settings")
        return _named(content, "it")
    except ValueError as error:
        raise ValueError(f"config {place!r}: {error}") from error


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
