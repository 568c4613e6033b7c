"""``freqops predict``: labels and scores of pictures."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from freqops.commands import _validation
from freqops.commands._shared import DONE, FAILED, Commands, complain, count, size, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from freqops.training._pictures import Batch

__all__ = ["add"]

EXAMPLES = """\
examples:
  freqops predict runs/a cat.jpg
      cat.jpg  cat 93.1 %, dog 5.2 %, ...
  freqops predict runs/a/frozen-24.safetensors holiday/ --top 1 --csv labels.csv
      the likeliest label of every picture below holiday/, and as a table
  freqops predict runs/a holiday/ --json labels.json
      with unrounded scores, and the pictures that could not be read

Scores are the softmax of the network's output. Grey, CMYK, 16-bit and palette pictures are
converted, and the EXIF orientation is applied.

exit code: 0; 1 a picture is broken (named, skipped, counted) or a file cannot be read or written;
2 wrong arguments; 130 interrupted
"""


class Prediction(NamedTuple):
    """The likeliest classes of a picture and their scores, highest first."""

    picture: str
    classes: list[tuple[str, float]]

    def __str__(self) -> str:
        labels = ", ".join(f"{label} {100 * score:.1f} %" for label, score in self.classes)
        return f"{self.picture}  {labels}"


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="labels and scores of pictures",
        description="Prints for each picture the likeliest classes and their scores.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    argument = parser.add_argument
    argument(
        "network", metavar="MODEL", help="a network, or a run (that of its last finished epoch)"
    )
    argument("pictures", nargs="+", metavar="PICTURES", help="files, or folders (with all below)")
    argument("--top", type=size, default=5, metavar="K", help="labels a picture (default: 5)")
    argument("--json", metavar="FILE", help="write labels and scores as JSON too")
    argument("--csv", metavar="FILE", help="the same as a table: picture, rank, class, score")
    argument(
        "--batch-size", type=size, default=16, metavar="N", help="pictures at a time (default: 16)"
    )
    argument(
        "--workers",
        type=count,
        default=0,
        metavar="N",
        help="processes that read pictures; 0, the default: none beside the command's own",
    )
    argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    _validation.needed("predict")
    from tqdm import tqdm

    from freqops.training._network import open_network
    from freqops.training._pictures import EvaluationBatches, Pictures, loader, read
    from freqops.training._processes import join
    from freqops.training._views import view_of
    from freqops.transform import find_pictures

    network, about = open_network(options.network)
    paths = [str(path) for path, _ in find_pictures(options.pictures)]
    view = view_of(network, about.transform, about.resize, about.crop)
    predictions: list[Prediction] = []
    broken: list[tuple[str, str]] = []
    with join(options.device) as processes:
        if processes.count > 1:
            raise ValueError(f"predict must run in one process, got {processes.count}")
        batches = loader(
            Pictures([(path, 0) for path in paths], view, broken="skip"),
            EvaluationBatches(len(paths), options.batch_size),
            workers=options.workers,
            device=processes.device,
        )
        network.to(processes.device)
        # disable=None: no bar where stderr is a file.
        with tqdm(total=len(paths), unit=" pictures", leave=False, disable=None) as bar:
            for batch in read(batches):
                scores = _scores(network, batch, about.transform != "device", about.classes)
                names = [paths[index] for index in batch.numbers]
                found, strange = _likeliest(names, scores, about.classes, options.top)
                predictions += found
                for line in map(str, found):
                    bar.write(line)
                for name, reason in [*batch.broken, *strange]:
                    broken.append((name, reason))
                    bar.write(f"freqops: skipped {name}: {reason}", file=sys.stderr)
                bar.update(len(batch.numbers) + len(batch.broken))
    if options.json is not None:
        write_json(options.json, _content(options.network, predictions, broken))
    if options.csv is not None:
        _write_csv(Path(options.csv), predictions)
    if broken:
        complain(f"{len(broken)} of {len(paths)} pictures are broken and skipped")
    return FAILED if broken else DONE


def _scores(network: nn.Module, batch: Batch, coefficients: bool, classes: Sequence[str]) -> Tensor:
    """(N, classes), their softmax, on the CPU."""
    import torch

    if not batch.numbers:
        return torch.empty(0, len(classes))
    values = batch.values.to(next(network.parameters()).device)
    with torch.no_grad():
        output = network(coefficients=values) if coefficients else network(values)
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    if logits.shape[1] != len(classes):
        raise ValueError(
            f"MODEL must give a score for each of its {len(classes)} classes, "
            f"got {logits.shape[1]} scores"
        )
    return logits.float().softmax(1).cpu()


def _likeliest(
    names: Sequence[str], scores: Tensor, classes: Sequence[str], top: int
) -> tuple[list[Prediction], list[tuple[str, str]]]:
    """Predictions, and names of pictures that have none, with the reason."""
    found, strange = [], []
    for name, row in zip(names, scores, strict=True):
        if not row.isfinite().all():
            strange.append((name, "the network gives scores that are no finite numbers"))
            continue
        values, numbers = row.topk(min(top, len(classes)))
        pairs = zip(numbers.tolist(), values.tolist(), strict=True)
        found.append(Prediction(name, [(classes[number], value) for number, value in pairs]))
    return found, strange


def _content(
    network: str, predictions: Sequence[Prediction], broken: Sequence[tuple[str, str]]
) -> dict[str, object]:
    return {
        "network": network,
        "pictures": [
            {
                "picture": one.picture,
                "classes": [{"class": label, "score": score} for label, score in one.classes],
            }
            for one in predictions
        ],
        "broken": [{"picture": name, "reason": reason} for name, reason in broken],
    }


def _write_csv(path: Path, predictions: Sequence[Prediction]) -> None:
    from freqops.files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as hidden, open(hidden, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "rank", "class", "score"])
        for one in predictions:
            for rank, (label, score) in enumerate(one.classes, 1):
                writer.writerow([one.picture, rank, label, score])
