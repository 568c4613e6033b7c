"""What a network costs, always beside how often it is right."""

from __future__ import annotations

import math

from torch import nn

from freqops.models import Summary, summarize
from freqops.training._evaluate import Evaluation

__all__ = ["comparison", "figures", "report"]


def report(
    evaluation: Evaluation, network: nn.Module, size: int | tuple[int, int] | None = None
) -> str:
    """Accuracy, and beside it channels, input size, parameters, GMAC and speed, a fact a line.

    Args:
        evaluation: of the network.
        network: one of freqops.models, or an RGB network.
        size: of the pictures, as ``freqops.models.summarize`` takes it.

    Raises:
        TypeError, ValueError: those of ``freqops.models.summarize``.

    Example:
        >>> from freqops.models import resnet18  # doctest: +SKIP
        >>> found = Evaluation(50, 0.94, None, 0.2, None, 2.0, 80.0, 0)
        >>> print(report(found, resnet18(24, num_classes=5), 64))  # doctest: +SKIP
        pictures    50
        top-1       94.00 %
        top-5       not with 5 classes or fewer
        loss        0.2000
        channels    24
        input       24 x 8 x 8, 0.010 of 3 x 224 x 224
        parameters  11,161,285
        GMAC        0.0337
        images/s    80.0; with reading 25.0
    """
    summary = summarize(network, size)
    channels = f"{summary.channels}"
    if evaluation.channels_on is not None:
        channels += f", of which the gate holds {evaluation.channels_on:.2f} open a picture"
    grid = f"{summary.channels} x {summary.grid[0]} x {summary.grid[1]}"
    if summary.halved is not None:
        grid += f" and 3 x {summary.halved[0]} x {summary.halved[1]}"
    gate = f", and {summary.gate_parameters:,} of the gate" if summary.gate_parameters else ""
    broken = f"; {evaluation.broken} broken and skipped" if evaluation.broken else ""
    lines = {
        "pictures": f"{evaluation.count:,}{broken}",
        "top-1": _percent(evaluation.top1),
        "top-5": _percent(evaluation.top5),
        "loss": f"{evaluation.loss:.4f}",
        "channels": channels,
        "input": f"{grid}, {summary.input_size:.3f} of 3 x 224 x 224",
        "parameters": f"{summary.parameters:,}{gate}",
        "GMAC": f"{summary.gmacs:.4f}",
        "images/s": f"{evaluation.images_per_second:.1f}; with reading {_rate(evaluation):.1f}",
    }
    return "\n".join(f"{name:12}{text}" for name, text in lines.items())


def figures(
    evaluation: Evaluation, network: nn.Module, size: int | tuple[int, int] | None = None
) -> dict[str, object]:
    """The numbers of ``report``, as JSON has them: null for what is not there or not finite.

    Args:
        evaluation, network, size: as for ``report``.

    Raises:
        TypeError, ValueError: those of ``report``.
    """
    summary: Summary = summarize(network, size)
    return {
        "pictures": evaluation.count,
        "broken": evaluation.broken,
        "top1": evaluation.top1,
        "top5": evaluation.top5,
        "loss": evaluation.loss if math.isfinite(evaluation.loss) else None,
        "channels": summary.channels,
        "channels_on": evaluation.channels_on,
        "grid": list(summary.grid),
        "input_size": summary.input_size,
        "parameters": summary.parameters,
        "gate_parameters": summary.gate_parameters,
        "gmac": summary.gmacs,
        "seconds": evaluation.seconds,
        "images_per_second": evaluation.images_per_second,
    }


def comparison(columns: dict[str, Evaluation]) -> str:
    """Networks beside one another, by name: accuracy, loss and speed.

    Example:
        >>> found = Evaluation(50, 0.94, None, 0.2, None, 2.0, 80.0, 0)
        >>> print(comparison({"gated": found, "frozen": found}))
                         gated      frozen
        top-1          94.00 %     94.00 %
        loss            0.2000      0.2000
        images/s          80.0        80.0
    """
    found = columns.values()
    rows = {"": list(columns), "top-1": [_percent(one.top1) for one in found]}
    if all(one.top5 is not None for one in found):
        rows["top-5"] = [_percent(one.top5) for one in found]
    rows["loss"] = [f"{one.loss:.4f}" for one in found]
    rows["images/s"] = [f"{one.images_per_second:.1f}" for one in found]
    return "\n".join(
        f"{name:10}" + "".join(f"{cell:>12}" for cell in cells) for name, cells in rows.items()
    )


def _percent(share: float | None) -> str:
    return "not with 5 classes or fewer" if share is None else f"{100 * share:.2f} %"


def _rate(evaluation: Evaluation) -> float:
    return evaluation.count / evaluation.seconds
