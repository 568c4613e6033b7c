"""The command line: `freqops`, or `python -m freqops`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from freqops import __version__
from freqops.commands import demo, evaluate, freeze, info, predict, select, stats, train, transform
from freqops.commands._shared import FAILED, INTERRUPTED, USAGE, complain

__all__ = ["main"]

COMMANDS = (info, transform, stats, train, evaluate, select, freeze, predict, demo)
"""In the order of ``freqops --help``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name; None means those of the process.

    Returns:
        0; 1 for a broken picture or a file that cannot be written; 2 for wrong arguments; 130 after
        an interrupt.

    Raises:
        SystemExit: argparse has printed help, the version, or what is wrong with the arguments.
    """
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, TypeError) as error:
        complain(error)
        return USAGE
    except (OSError, ImportError) as error:
        complain(error)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freqops",
        description="Pictures as frequency channels: YCbCr, 8x8 DCT, selection, normalisation.",
        epilog="freqops COMMAND --help says more, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"freqops {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
        _, sub = list(commands.choices.items())[-1]
        sub.set_defaults(parser=sub)  # whose usage belongs to its errors
    return parser
