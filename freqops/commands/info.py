"""``freqops info``: versions and libraries, or what a network costs."""

from __future__ import annotations

import argparse

from freqops.commands._shared import DONE, Commands, selection, size

__all__ = ["add"]

EXAMPLES = """\
examples:
  freqops info --model resnet50 --channels 24
      layers changed, parameters, GMAC, normalised input size
  freqops info --model timm/vit_tiny_patch16_224 --channels 48
      any network that freqops.models.from_rgb takes
  freqops info --model trained.safetensors
      one that freqops.models.save wrote
"""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "info",
        help="versions, libraries loaded, the instruction set in use; or what a network costs",
        description="Prints versions, libraries loaded and the instruction set in use; with\n"
        "--model, what a frequency network changes and costs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    argument = parser.add_argument
    argument(
        "--model",
        metavar="NAME|FILE",
        help="a network of torchvision, of timm as timm/NAME, or a saved one",
    )
    argument(
        "--channels",
        metavar="N|LIST|FILE",
        help="as for transform (default: 24, with --gate all 192)",
    )
    argument("--gate", action="store_true", help="with a ChannelGate before the first layer")
    argument("--spatial", action="store_true", help="with the RGB stem beside the channels")
    argument(
        "--layer2-stride",
        type=int,
        choices=(1, 2),
        help="of a ResNet, 1 as the paper's released ones (default: 2)",
    )
    argument(
        "--size", type=size, metavar="SIDE", help="of the picture (default: the network's own)"
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    surgery = options.channels or options.gate or options.spatial or options.layer2_stride
    if options.model is None:
        if surgery or options.size:
            raise ValueError(
                "--model must be given with --channels, --gate, --spatial, --layer2-stride, --size"
            )
        from freqops.info import describe

        print(describe())
        return DONE
    from freqops import models
    from freqops.models._recipe import Base
    from freqops.models._zoo import from_base

    if options.model.endswith(".safetensors"):
        if surgery:
            raise ValueError(
                "--channels, --gate, --spatial and --layer2-stride are those of the saved network"
            )
        network = models.load(options.model)
    else:
        library, _, name = options.model.rpartition("/")
        network = from_base(
            Base(library or "torchvision", name),
            None if options.channels is None else selection(options.channels),
            gate=options.gate,
            spatial=options.spatial,
            layer2_stride=options.layer2_stride or 2,
        )
    print(models.summarize(network, options.size))
    return DONE
