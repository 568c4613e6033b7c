"""``freqops evaluate``: accuracy of a network, and what it costs."""

from __future__ import annotations

import argparse

from freqops.commands import _validation
from freqops.commands._shared import DONE, Commands, write_json

__all__ = ["add"]

EXAMPLES = """\
examples:
  freqops evaluate runs/a
      the network of the last epoch, on the validation pictures of its training
  freqops evaluate runs/a/frozen-24.safetensors ImageNet/val --amp bfloat16
      another network, on pictures in one folder a class
  torchrun --nproc-per-node 2 -m freqops evaluate runs/a --json found.json
      shared by two processes: the same counts; the numbers as a file

images/s is of transform, gate and network; with --transform workers or jpeg without the transform.

exit code: 0; 1 a file cannot be read or written; 2 wrong arguments, wrong data, or a broken picture
with --broken fail; 130 interrupted
"""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="accuracy of a network, with channels, parameters, GMAC and speed",
        description="Prints how often a network is right on pictures that it was not trained on,\n"
        "and beside it channels, input size, parameters, GMAC and images per second.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _validation.add_options(parser, "RUN|FILE")
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON too")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    _validation.needed("evaluate")
    from freqops.training._network import network_file, open_network
    from freqops.training._processes import join
    from freqops.training._report import figures, report
    from freqops.training._validation import validation_pictures

    path = network_file(options.network)
    network, about = open_network(path)
    words, samples = validation_pictures(about, options.data)
    with join(options.device) as processes:
        validation = _validation.Validation(options, about, samples, processes)
        evaluation = validation.of(network, "evaluate")
        if not processes.main:
            return DONE
        print(f"{'network':12}{path}\n{'data':12}{words}")
        print(report(evaluation, network, about.crop))
        if options.json is not None:
            named = {"network": str(path), "data": words}
            write_json(options.json, named | figures(evaluation, network, about.crop))
    return DONE
