"""``freqops freeze``: from a run with a gate to a static network of fewer channels."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from freqops.channels import ChannelSelection
from freqops.commands import _validation
from freqops.commands._shared import DONE, Commands, complain
from freqops.commands.select import add_keep, empty_counts, too_alike

if TYPE_CHECKING:
    from freqops.gate_statistics import GateStatistics
    from freqops.models import FrequencyNetwork
    from freqops.training._evaluate import Evaluation

__all__ = ["add"]

EXAMPLES = """\
examples:
  freqops freeze runs/a --keep 24
      runs/a/frozen-24.safetensors, with its accuracy beside the gated network's
  freqops freeze runs/a --selection mine.json --no-evaluate
      the channels of a saved ChannelSelection

The counts of the gate are those of gate.json, which `freqops select` writes; where they are of
another network or other pictures, they are measured first and gate.json is written.

exit code: 0; 1 a file cannot be read or written; 2 wrong arguments, wrong data, or a network
without a hard gate; 130 interrupted
"""

FEWER, SLOWER = 4, 0.15
"""Training a frozen network further: as many times fewer epochs, at this part of the rate. Found on
the crops of docs/crops.py; a rate above undoes what the gate left."""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "freeze",
        help="a static network of the channels that the gate of a run keeps",
        description="Writes a network that computes only the channels kept and has no gate, and\n"
        "prints its accuracy beside that of the gated one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _validation.add_options(parser, "RUN")
    group = parser.add_mutually_exclusive_group(required=True)
    add_keep(group)
    group.add_argument("--selection", metavar="FILE", help="keep those of a saved selection")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the network (default: frozen-N.safetensors in RUN)"
    )
    parser.add_argument(
        "--no-evaluate", action="store_true", help="leave out the accuracy of both networks"
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    _validation.needed("freeze")
    from freqops import models
    from freqops.training._network import network_file, open_network
    from freqops.training._processes import join
    from freqops.training._report import comparison
    from freqops.training._validation import GATE, read_gates, validation_pictures, write_gates

    path = network_file(options.network)
    network, about = open_network(path)
    empty = empty_counts(path, network.gate, options)
    selection = ChannelSelection.load(options.selection) if options.selection else None
    gates = None
    words, samples = None, None
    if options.data is not None or not options.no_evaluate:
        words, samples = validation_pictures(about, options.data)
    if selection is None:
        gates = read_gates(path.parent, path, words)
    measured = selection is None and gates is None
    if measured and samples is None:
        words, samples = validation_pictures(about)
    columns: dict[str, Evaluation] = {}
    with join(options.device) as processes:
        network.to(processes.device)
        show = print if processes.main else _nothing
        validation = None
        if samples is not None:
            validation = _validation.Validation(options, about, samples, processes)
        if measured:
            assert validation is not None and words is not None
            gates = empty
            columns["gated"] = validation.of(network, "gated", gates)
            if processes.main:
                show(f"Written: {write_gates(gates, path.parent, path, words)}")
        elif gates is not None:
            show(f"the gate in {gates.count:,} pictures: {path.parent / GATE}")
        frozen, kept = _frozen(network, gates, selection, options, about.crop, show)
        output = Path(options.output or path.parent / f"frozen-{len(kept)}.safetensors")
        if processes.main:
            output.parent.mkdir(parents=True, exist_ok=True)
            models.save(frozen, output, about=models.about(path))
        show(f"Written: {output}")
        warning = None if gates is None else too_alike(gates, kept)
        if warning is not None and processes.main:
            complain(f"warning: {warning}")
        if validation is not None and not options.no_evaluate:
            if not measured:
                columns["gated"] = validation.of(network, "gated")
            columns["frozen"] = validation.of(frozen, "frozen")
            show(comparison(columns))
        show(f"To train it further:\n  {_further(about.data, path.parent, output)}")
    return DONE


def _nothing(text: str) -> None:
    """What processes say that are not the first."""


def _frozen(
    network: FrequencyNetwork,
    gates: GateStatistics | None,
    selection: ChannelSelection | None,
    options: argparse.Namespace,
    crop: int,
    show: Callable[[str], None],
) -> tuple[FrequencyNetwork, ChannelSelection]:
    """The static network, and the channels that it keeps."""
    from freqops.models import FrequencyNetwork, freeze

    say = None if show is _nothing else show  # a text that nobody reads is measured for seconds
    frozen = freeze(
        network,
        gates,
        keep=options.keep,
        threshold=options.threshold,
        selection=selection,
        say=say,
        size=crop,
    )
    assert isinstance(frozen, FrequencyNetwork) and frozen.recipe.kept is not None
    return frozen, frozen.recipe.kept


def _further(data: str, run: Path, network: Path) -> str:
    """The command that trains a frozen network further: as the run, in fewer and smaller steps."""
    from freqops.training._settings import Settings, read_config

    words = ["freqops", "train"]
    changes: list[str] = []
    settings = run / "settings.json"
    before = None
    if settings.is_file():
        with contextlib.suppress(ValueError, TypeError):  # somebody's own file: no suggestion then
            before = Settings.of(read_config(str(settings)), str(settings))
    if before is not None:
        words += ["--config", str(settings)]
        changes += ["--epochs", str(max(1, before.epochs // FEWER))]
        changes += ["--learning-rate", f"{before.learning_rate * SLOWER:g}", "--warmup-epochs", "0"]
    elif data:
        words.append(data)
    words += ["--init", str(network), "-o", str(network.with_suffix("")), *changes]
    return shlex.join(words)
