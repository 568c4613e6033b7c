"""What the commands share: exit codes, what they print on stderr, and types of arguments."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from freqops._block_dct import CHROMA, ROUNDING
from freqops.channels import ChannelSelection
from freqops.files import replacing

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "Commands",
    "add_colour",
    "complain",
    "count",
    "say",
    "selection",
    "size",
    "write_json",
]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; 128 + SIGINT, as shells have it."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What ``add_subparsers`` gives."""


def complain(error: object) -> None:
    """Prints an error or a note on stderr, on one line."""
    print(f"freqops: {' '.join(str(error).split())}", file=sys.stderr)


def say(text: str) -> None:
    """Prints on stderr what is under way."""
    print(f"  {text} ...", file=sys.stderr, flush=True)


def size(text: str) -> int:
    """A whole number of at least 1, as argparse's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 0, as argparse's type."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def selection(text: str) -> ChannelSelection:
    """The selection that --channels names."""
    try:
        return ChannelSelection.parse(text)
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def add_colour(parser: argparse.ArgumentParser) -> None:
    """Adds --chroma and --rounding, those of ``block_dct``."""
    parser.add_argument(
        "--chroma",
        choices=CHROMA,
        default="4:4:4",
        help="colour as it is, averaged over 2x2 pixels as in JPEG files, or smoothed as in the "
        "paper's released code (default: 4:4:4)",
    )
    parser.add_argument(
        "--rounding",
        choices=ROUNDING,
        default="none",
        help="jpeg: to integers before and after the DCT (default: none)",
    )


def write_json(path: str, content: Mapping[str, object]) -> None:
    """Writes an object as a JSON file that appears complete or never."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as hidden:
        hidden.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
