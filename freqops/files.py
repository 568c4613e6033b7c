"""Files of coefficients, with all that is needed to turn them back into the picture.

name.safetensors holds the tensors `coefficients` and, where normalised, `mean` and `std`, and the
rest in its metadata; name.npy holds the coefficients alone, and name.json beside it the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from freqops.channels import ChannelSelection
from freqops.ops import block_idct

__all__ = [
    "DTYPES",
    "FORMATS",
    "SOURCES",
    "Coefficients",
    "Settings",
    "metadata_of",
    "read",
    "replacing",
    "write",
]

FORMATS = ("safetensors", "npy")
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
SOURCES = ("pixels", "jpeg")
_FORMAT = "freqops.coefficients"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers in a file.

    mean and std are those of all 192 channels, or None; resize is the new short side, crop the side
    of the square from the middle. source is "pixels", or "jpeg" for coefficients that were taken
    from JPEG files as they are where there were any, and from pixels elsewhere: both go the way of
    ``freqops.data.JPEGTransform``, with resize and crop in blocks, as near as eighths come; only
    pictures too small for eighths have them exactly. tolerant, with source "jpeg": of damaged files
    what could be read was taken, and zeros. Files of "jpeg" without this word are older and read as
    False, but may hold either.
    """

    channels: ChannelSelection
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    chroma: str = "4:4:4"
    rounding: str = "none"
    dtype: str = "float32"
    resize: int | None = None
    crop: int | None = None
    source: str = "pixels"
    tolerant: bool = False

    def __post_init__(self) -> None:
        if len(set(self.channels.indices)) != len(self.channels):
            raise ValueError("channels must not repeat in a file, or it could not be inverted")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {self.source!r}")
        if self.source == "jpeg" and (self.chroma, self.rounding) != ("4:4:4", "none"):
            raise ValueError(
                "chroma and rounding must be '4:4:4' and 'none' with source 'jpeg', whose files "
                f"have their own, got {self.chroma!r} and {self.rounding!r}"
            )
        if self.source != "jpeg" and self.tolerant:
            raise ValueError(f"tolerant must be False with source {self.source!r}, got True")
        if self.source == "jpeg" and self.dtype == "float64":
            raise ValueError(
                "dtype must not be 'float64' with source 'jpeg', which is computed in float32"
            )
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def words(self) -> str:
        """The settings as JSON: equal exactly where the settings are."""
        content = dataclasses.asdict(self) | {"channels": list(self.channels.indices)}
        if self.source == "pixels":  # files without the words are of pixels
            del content["source"], content["tolerant"]
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_words(cls, words: str) -> Settings:
        """The settings that `words` wrote."""
        content = json.loads(words)
        for name in ("mean", "std"):
            content[name] = None if content[name] is None else tuple(content[name])
        return cls(**content | {"channels": ChannelSelection(content["channels"])})

    def statistics(self) -> dict[str, Tensor]:
        """mean and std as tensors, where there are any."""
        pairs = {"mean": self.mean, "std": self.std}
        return {k: torch.tensor(v, dtype=torch.float64) for k, v in pairs.items() if v is not None}


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """One file: coefficients (C, gh, gw), height and width of the picture that they cover, the
    settings."""

    coefficients: Tensor
    size: tuple[int, int]
    settings: Settings

    def picture(self) -> Tensor:
        """The picture again, uint8 (3, H, W); channels left out count as their mean, or zero."""
        return block_idct(
            self.coefficients,
            self.settings.channels,
            size=self.size,
            mean=self.settings.statistics().get("mean"),
            std=self.settings.statistics().get("std"),
        )


def write(content: Coefficients, target: Path) -> None:
    """Writes one file, complete or not at all; its suffix says which format.

    Raises:
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "height": str(content.size[0]),
        "width": str(content.size[1]),
        "settings": content.settings.words(),
    }
    if target.suffix == ".safetensors":
        from safetensors.torch import save_file

        tensors = {"coefficients": content.coefficients, **content.settings.statistics()}
        with replacing(target) as path:
            save_file(tensors, path, metadata)
        return
    import numpy as np

    # The .json first: a .npy that is there is then never without its own description.
    target.unlink(missing_ok=True)
    with replacing(target.with_suffix(".json")) as path:
        path.write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
    with replacing(target) as path, path.open("wb") as file:
        np.save(file, content.coefficients.numpy())


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A hidden path beside the target, which becomes the target when all went well."""
    path = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        path.touch()
        mode = path.stat().st_mode
        yield path
        path.chmod(mode)  # safetensors makes files that nobody else may read
        os.replace(path, target)
    finally:
        path.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> Coefficients:
    """Reads a file that `freqops transform` wrote.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no file of coefficients.
    """
    metadata = metadata_of(Path(path))
    if Path(path).suffix == ".safetensors":
        from safetensors.torch import load_file

        coefficients = load_file(path)["coefficients"]
    else:
        import numpy as np

        coefficients = torch.from_numpy(np.load(path))
    size = (int(metadata["height"]), int(metadata["width"]))
    return Coefficients(coefficients, size, Settings.from_words(metadata["settings"]))


def metadata_of(path: Path) -> dict[str, str]:
    """What a file says about itself."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    try:
        if path.is_dir():
            raise ValueError("it is a folder")
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                metadata: dict[str, str] | None = file.metadata()
        elif path.suffix == ".npy":
            description = path.with_suffix(".json")
            if not description.exists():
                raise ValueError(f"there is no {description.name} beside it")
            metadata = json.loads(description.read_text(encoding="utf-8"))
        else:
            raise ValueError("its name ends in neither .safetensors nor .npy")
        if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
            raise ValueError(f'its "format" is not "{_FORMAT}"')
        if metadata.get("version") != str(_VERSION):
            raise ValueError(f'its "version" is {metadata.get("version")!r}, known is {_VERSION}')
    except OSError:
        raise
    except Exception as error:  # a SafetensorError is only an Exception
        raise ValueError(
            f"path must name coefficients that freqops wrote, got {os.fspath(path)!r}: {error}"
        ) from error
    return metadata
