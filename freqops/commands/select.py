"""``freqops select``: which channels the gate of a run opens, and the selection that follows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from freqops._extras import need
from freqops.channels import ChannelSelection, zigzag_rank
from freqops.commands import _validation
from freqops.commands._shared import DONE, Commands, complain, size

if TYPE_CHECKING:
    from freqops.gate_statistics import GateStatistics

__all__ = ["add", "add_keep", "empty_counts", "too_alike"]

EXAMPLES = """\
examples:
  freqops select runs/a --keep 24
      the 24 channels that the gate held open most often, with heat maps
  freqops select runs/a --threshold 0.5
      those that were open in half of the validation pictures

Written into the folder of the run: gate.json (how often each channel was open), selection.json,
heat_maps.png and bar_chart.png. `freqops freeze` takes gate.json up.

exit code: 0; 1 a file cannot be read or written; 2 wrong arguments, wrong data, or a network
without a gate; 130 interrupted
"""

CLOSE_MORE = "train more epochs, or with a larger --penalty or --gate-learning-rate"
CLOSE_LESS = "train with a smaller --penalty"
"""What to do where too many channels are always open, or never."""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "select",
        help="which channels the gate of a run opens, as heat maps and a selection",
        description="Counts over the validation pictures how often the gate of a run opens each\n"
        "channel, draws heat maps and keeps the channels that were open most often.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _validation.add_options(parser, "RUN")
    group = parser.add_mutually_exclusive_group(required=True)
    add_keep(group)
    parser.set_defaults(command=_run)


def add_keep(group: argparse._MutuallyExclusiveGroup) -> None:
    """Adds --keep and --threshold."""
    group.add_argument("--keep", type=size, metavar="N", help="channels to keep")
    group.add_argument(
        "--threshold", type=float, metavar="X", help="keep channels open at least so often, 0 to 1"
    )


def _run(options: argparse.Namespace) -> int:
    _validation.needed("select")
    need("freqops select", "plots", "matplotlib")
    from freqops.training._network import network_file, open_network
    from freqops.training._processes import join
    from freqops.training._validation import validation_pictures, write_gates

    path = network_file(options.network)
    network, about = open_network(path)
    gates = empty_counts(path, network.gate, options)
    words, samples = validation_pictures(about, options.data)
    with join(options.device) as processes:
        validation = _validation.Validation(options, about, samples, processes)
        evaluation = validation.of(network, "select", gates)
        if not processes.main:
            return DONE
        selection = gates.selection(options.keep, options.threshold)
        print(_words(gates, selection))
        print(f"accuracy with the gate: {100 * evaluation.top1:.2f} % of {evaluation.count:,}")
        warning = too_alike(gates, selection)
        if warning is not None:
            complain(f"warning: {warning}")
        folder = path.parent
        written = [write_gates(gates, folder, path, words), *_draw(gates, selection, folder)]
        print(f"Written: {', '.join(map(str, written))}")
    return DONE


def empty_counts(path: Path, gate: object, options: argparse.Namespace) -> GateStatistics:
    """Statistics for the gate of a network, of which --keep and --threshold can choose.

    Raises:
        ValueError: the network has no gate, or one that closes no channel; they cannot.
    """
    from freqops.gate_statistics import GateStatistics
    from freqops.nn import ChannelGate

    if not isinstance(gate, ChannelGate):
        raise ValueError(f"{path} must hold a network with a gate, got one without")
    if gate.kind == "se":
        raise ValueError(f"{path} must hold a gate that closes channels, got one of kind 'se'")
    if options.keep is not None and options.keep > len(gate.channels):
        raise ValueError(
            f"--keep must be at most the channels of the gate, {len(gate.channels)}, "
            f"got {options.keep}"
        )
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold must lie in [0, 1], got {options.threshold}")
    return GateStatistics(gate.channels)


def _words(gates: GateStatistics, selection: ChannelSelection) -> str:
    """The selection, by component and zigzag rank."""
    parts = {"Y": selection.y, "Cb": selection.cb, "Cr": selection.cr}
    lines = [
        f"{len(selection)} of {len(gates.channels)} channels kept, by zigzag rank (0 is the mean "
        "of a block):"
    ]
    for name, part in parts.items():
        ranks = " ".join(map(str, sorted(map(zigzag_rank, part)))) or "none"
        lines.append(f"  {name:3}{len(part):3}: {ranks}")
    open_ = gates.rates.sum().item()
    inside = gates.rates[list(selection.indices)].sum().item()
    lines.append(
        f"open in the mean of {gates.count:,} pictures: {open_:.2f} channels, {inside:.2f} of them "
        "kept"
    )
    return "\n".join(lines)


def too_alike(gates: GateStatistics, selection: ChannelSelection) -> str | None:
    """What to say where the gate does not tell the channels kept from the others, else None.

    Example:
        >>> import torch
        >>> from freqops.gate_statistics import GateStatistics
        >>> gates = GateStatistics.from_gates([torch.eye(4)], [0, 1, 2, 64])
        >>> print(too_alike(gates, gates.selection(keep=2)))  # doctest: +ELLIPSIS
        the gate opens all 4 channels equally often, in 25.0 % of the pictures: ...
    """
    rates = gates.rates.tolist()
    rated = {channel: rates[channel] for channel in gates.channels}
    kept = [rated.pop(channel) for channel in selection]
    others = list(rated.values())
    if not others or min(kept) > max(others):
        return None
    last = min(kept)
    share = f"in {100 * last:.1f} % of the pictures"
    remedy = CLOSE_MORE if last else CLOSE_LESS
    alike = kept.count(last) + others.count(last)
    if alike == len(gates.channels):
        return (
            f"the gate opens all {alike} channels equally often, {share}: those kept are only the "
            f"lowest frequencies; {remedy}"
        )
    before = len(kept) - kept.count(last)
    counts = [str(count) for count in (before, before + alike) if 0 < count < len(gates.channels)]
    return (
        f"the gate opens {alike} channels equally often, {share}, of which {kept.count(last)} are "
        f"kept, only for their lower frequency: keep {' or '.join(counts)}, or {remedy}"
    )


def _draw(gates: GateStatistics, selection: ChannelSelection, folder: Path) -> list[Path]:
    """Writes the selection and the figures of it."""
    from freqops import plots
    from freqops.files import replacing

    paths = [folder / name for name in ("selection.json", "heat_maps.png", "bar_chart.png")]
    with replacing(paths[0]) as hidden:
        selection.save(hidden)
    figures = (
        plots.heat_maps(gates, chosen=selection),
        plots.bar_chart(gates, chosen=selection),
    )
    for path, figure in zip(paths[1:], figures, strict=True):
        with replacing(path) as hidden:
            figure.savefig(hidden, format="png", dpi=150)
    return paths
