"""Pictures that a finished network is judged by, and the counts of its gate that a run keeps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from freqops._jpeg_folder import find_classes, find_samples
from freqops.files import replacing
from freqops.gate_statistics import GateStatistics
from freqops.training._data import VAL, open_data
from freqops.training._network import About
from freqops.training._pictures import Samples

__all__ = ["GATE", "read_gates", "validation_pictures", "write_gates"]

GATE = "gate.json"
"""GateStatistics of a run over its validation pictures."""

_NAMED = 3


def validation_pictures(about: About, data: str | None = None) -> tuple[str, Samples]:
    """Pictures to judge a network by, with the numbers that its classes have.

    Args:
        about: of the network.
        data: None, or what the network was trained on: the validation pictures of its training,
            val/ or the share that was held out. Else val/ of a folder, or where it has none all
            pictures of a folder with one folder a class; or module:function. It may lack classes
            of the network.

    Returns:
        What they are, in words; and the pairs (picture, class number).

    Raises:
        ValueError: there are none, or one of their classes is none of the network.
    """
    name = about.data if data is None else data
    own = data is None or _is_same(data, about.data)
    if data is None and not name:
        raise ValueError("DATA must be given: the network does not say what it was trained on")
    if data is None and not Path(name).is_dir():
        if ":" in name:
            raise ValueError(
                f"DATA must be given: the network names {name}, and code that a file names is not "
                "run unless it is asked for"
            )
        raise ValueError(f"DATA must be given: {name}, of the network's training, is not there")
    if own or not Path(name).is_dir():
        found = open_data(name, about.val_share, about.seed)
        classes, samples = found.classes, found.val
        words = f"{name}, held out of training" if found.held_out else f"{name}, {VAL}"
    else:
        inside = Path(name, VAL)
        folder = inside if inside.is_dir() else Path(name)
        classes = tuple(find_classes(folder, "DATA"))
        samples = find_samples(folder, list(classes), "DATA")
        words = f"{folder}, all of it"
    if classes == about.classes:
        return words, samples
    unknown = [label for label in classes if label not in about.classes]
    if unknown:
        more = ", ..." if len(unknown) > _NAMED else ""
        raise ValueError(
            f"DATA must have the classes of the network, {len(about.classes)} of them, got "
            f"{len(classes)}, of which it has {len(unknown)} not: {', '.join(unknown[:_NAMED])}"
            f"{more} (in {name})"
        )
    return words, _Renumbered(samples, [about.classes.index(label) for label in classes])


def _is_same(data: str, other: str) -> bool:
    return data == other or os.path.realpath(data) == os.path.realpath(other)


@dataclasses.dataclass(frozen=True)
class _Renumbered:
    """Pictures whose class i is class ``numbers[i]`` of the network."""

    samples: Samples
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> tuple[object, int]:
        picture, label = self.samples[index]
        return picture, self.numbers[label]


def write_gates(gates: GateStatistics, folder: Path, network: Path, pictures: str) -> Path:
    """Writes counts, and of which network and pictures they are, into a folder.

    Args:
        gates: the counts.
        folder: of the run.
        network: the file of the network.
        pictures: words of ``validation_pictures``.

    Returns:
        The file, which ``GateStatistics.load`` reads.
    """
    path = folder / GATE
    with replacing(path) as hidden:
        gates.save(hidden)
        content = json.loads(hidden.read_text(encoding="utf-8"))
        content["of"] = {"network": _digest(network), "pictures": pictures}
        hidden.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def read_gates(folder: Path, network: Path, pictures: str | None) -> GateStatistics | None:
    """The counts that ``write_gates`` wrote of this network and these pictures; None without them.

    Args:
        folder, network: as for ``write_gates``.
        pictures: None for any.

    Raises:
        OSError, ValueError: the file is there and cannot be read.
    """
    path = folder / GATE
    if not path.exists():
        return None
    gates = GateStatistics.load(path)
    of: object = json.loads(path.read_text(encoding="utf-8")).get("of")
    if not isinstance(of, dict) or of.get("network") != _digest(network):
        return None
    return gates if pictures in (None, of.get("pictures")) else None


def _digest(path: Path) -> str:
    """Of the bytes of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
