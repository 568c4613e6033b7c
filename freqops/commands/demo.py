"""``freqops demo``: photographs as frequency channels, on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from freqops._extras import need
from freqops.commands._shared import DONE, FAILED, Commands, complain, say

__all__ = ["add"]

PICTURES = 12
"""Rows for which the page has room."""

EXAMPLES = """\
examples:
  freqops demo
      the photographs that scikit-image ships
  freqops demo holiday/ -o holiday.png
      your own; the first is the one shown in full
"""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="photographs as frequency channels, on one page",
        description="Rebuilds photographs from 6, 24, 64 and 192 channels, times the operator\n"
        "on this machine, prints a table and draws one page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    argument = parser.add_argument
    argument(
        "pictures", nargs="*", metavar="PICTURES", help=f"files or folders, {PICTURES} at most"
    )
    argument(
        "-o",
        "--output",
        default="freqops-demo.png",
        metavar="FILE",
        help="the page, a .png (default: freqops-demo.png)",
    )
    argument("--seconds", type=float, default=3.0, help="spent on the timing (default: 3)")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    packages = ["PIL", "matplotlib"] + ([] if options.pictures else ["skimage"])
    need("freqops demo", "demo", *packages)

    from freqops.data import read_image
    from freqops.demo import Photograph, measure, shipped_photographs, table
    from freqops.files import replacing
    from freqops.poster import draw
    from freqops.transform import find_pictures, reason_of

    output = Path(options.output)
    if output.suffix.lower() != ".png":
        raise ValueError(f"--output must end in .png, got {options.output!r}")
    if options.pictures:
        paths = [path for path, _ in find_pictures(options.pictures)]
    else:
        paths = shipped_photographs()
    if len(paths) > PICTURES:
        say(f"the first {PICTURES} of {len(paths)} pictures are used")
    photographs = []
    broken = 0
    for path in paths[:PICTURES]:
        try:
            photographs.append(Photograph(path.name, read_image(path)))
        except (OSError, ValueError) as error:
            broken += 1
            complain(f"skipped {path}: {reason_of(error)}")
    if not photographs:
        raise OSError("no picture could be read")
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = measure(photographs, seconds=options.seconds, say=say)
    print(f"\n{table(facts)}\n", flush=True)
    say("drawing the page")
    with replacing(output) as path:
        draw(facts, path)
    print(f"Written: {output}")
    return FAILED if broken else DONE
