"""``freqops transform``: picture files to files of frequency channels."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from freqops._extras import need
from freqops.commands._shared import DONE, FAILED, Commands, add_colour, complain, selection, size

__all__ = ["add"]

EXAMPLES = """\
examples:
  freqops transform photographs/ -o coefficients/
      24 channels of every picture below photographs/, one .safetensors each
  freqops transform ImageNet/val -o dct/ --preprocess resnet50 --chroma dctnet --statistics FILE
      the paper's input to ResNet-50: 24 x 56 x 56 numbers, normalised
  freqops transform ImageNet/val -o dct/ --from-jpeg --preprocess resnet50
      the same size from the coefficients that the JPEG files hold, without decoding
  freqops transform cat.jpg -o . --channels 0,1,8,64,128 --format npy
      five channels, as cat.jpg.npy with cat.jpg.json beside it

A file is named after its picture: sub/cat.jpg becomes DIR/sub/cat.jpg.safetensors. Run the same
command again to go on after an interrupt. In Python, freqops.files.read(path) gives the
coefficients, and .picture() the picture again.

exit code: 0; 1 a picture is broken (named, skipped, counted) or a file cannot be written;
2 wrong arguments; 130 interrupted, and what was finished is kept
"""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    from freqops.data import SIZES
    from freqops.files import DTYPES, FORMATS

    parser = commands.add_parser(
        "transform",
        help="picture files to files of frequency channels",
        description="Turns picture files into files of frequency channels.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    argument = parser.add_argument
    argument(
        "pictures", nargs="+", metavar="PICTURES", help="files, or folders (with all below them)"
    )
    argument("-o", "--output", required=True, metavar="DIR", help="folder for the results")
    argument(
        "--channels",
        default="24",
        metavar="N|LIST|FILE",
        help="how many (square or triangle pattern), numbers such as 0,1,8,64,128, 'learned', "
        "or a saved ChannelSelection (default: 24)",
    )
    argument(
        "--statistics",
        default="none",
        metavar="none|photographs|FILE",
        help="normalise with these means and standard deviations (default: none)",
    )
    add_colour(parser)
    argument(
        "--from-jpeg",
        action="store_true",
        help="take the coefficients that JPEG files hold instead of decoding them; resize and crop "
        "go by eighths and blocks of 8 pixels, as near as they come; other files are decoded, "
        "named, and go the same way",
    )
    argument(
        "--tolerant",
        action="store_true",
        help="with --from-jpeg: take of damaged JPEG files what can be read, instead of skipping "
        "them; they are named",
    )
    argument("--dtype", choices=tuple(DTYPES), default="float32", help="default: float32")
    argument(
        "--preprocess",
        choices=("none", *SIZES),
        default="none",
        help="the paper's resize and crop: resnet50 512, 448; mobilenet_v2 1024, 896",
    )
    argument("--resize", type=size, metavar="SIDE", help="short side, instead of the paper's")
    argument("--crop", type=size, metavar="SIDE", help="square from the middle, likewise")
    argument("--format", choices=FORMATS, default=FORMATS[0], help=f"default: {FORMATS[0]}")
    argument("--overwrite", action="store_true", help="convert again what is there already")
    argument(
        "--workers",
        type=size,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads (default: one per processor)",
    )
    argument(
        "-q",
        "--quiet",
        action="store_true",
        help="no progress bar, and no names of files that were decoded, or are damaged and taken",
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from freqops.data import SIZES
    from freqops.files import Settings
    from freqops.jpeg import TOLERANT
    from freqops.statistics import ChannelStatistics
    from freqops.transform import Job, Outcome, plan, run

    packages = ["PIL", "tqdm"] + (["safetensors"] if options.format == "safetensors" else [])
    need("freqops transform", "transform", *packages)
    if options.format == "npy" and options.dtype == "bfloat16":
        raise ValueError("--dtype must not be bfloat16 with --format npy, which cannot hold it")
    if options.tolerant and not options.from_jpeg:
        raise ValueError("--tolerant must be left out without --from-jpeg")
    if options.from_jpeg:
        if (options.chroma, options.rounding) != ("4:4:4", "none"):
            raise ValueError(
                "--chroma and --rounding must be left out with --from-jpeg: files have their own"
            )
        if options.dtype == "float64":
            raise ValueError(
                "--dtype must not be float64 with --from-jpeg, which computes in float32"
            )
    resize, crop = (None, None) if options.preprocess == "none" else SIZES[options.preprocess]
    mean = std = None
    if options.statistics != "none":
        if options.statistics == "photographs":
            statistics = ChannelStatistics.photographs()
        elif Path(options.statistics).is_file():
            statistics = ChannelStatistics.load(options.statistics)
        else:
            raise ValueError(
                "--statistics must be none, photographs, or the file of saved statistics, "
                f"got {options.statistics!r}"
            )
        measured = (statistics.chroma, statistics.rounding)
        if None not in measured and measured != (options.chroma, options.rounding):
            complain(
                f"note: {options.statistics} was measured with chroma {measured[0]} and "
                f"rounding {measured[1]}, and is used for {options.chroma} and "
                f"{options.rounding}"
            )
        mean, std = tuple(statistics.mean.tolist()), tuple(statistics.std.tolist())
    settings = Settings(
        selection(options.channels),
        mean,
        std,
        options.chroma,
        options.rounding,
        options.dtype,
        options.resize or resize,
        options.crop or crop,
        "jpeg" if options.from_jpeg else "pixels",
        options.tolerant,
    )
    jobs = plan(options.pictures, options.output, options.format)

    import torch
    from tqdm import tqdm

    threads = torch.get_num_threads()
    # One picture a worker: the operator's own threads would only compete with the others.
    torch.set_num_threads(1 if options.workers > 1 else threads)
    # disable=None: no bar where stderr is a file.
    bar = tqdm(total=len(jobs), unit=" pictures", disable=True if options.quiet else None)
    way_out = TOLERANT.replace("tolerant=True", "--tolerant")

    def step(job: Job, outcome: Outcome) -> None:
        if outcome.broken is not None:
            reason = outcome.broken.replace(TOLERANT, way_out)
            bar.write(f"freqops: skipped {job.source}: {reason}", file=sys.stderr)
        if outcome.decoded is not None and not options.quiet:
            bar.write(f"freqops: decoded {job.source}: {outcome.decoded}", file=sys.stderr)
        if outcome.damaged is not None and not options.quiet:
            bar.write(f"freqops: damaged {job.source}: {outcome.damaged}", file=sys.stderr)
        bar.update()

    try:
        with bar:
            summary = run(
                jobs,
                settings,
                overwrite=options.overwrite,
                workers=options.workers,
                step=step,
            )
    finally:
        torch.set_num_threads(threads)
    counts = [f"{summary.written} written"]
    notes = []
    if summary.decoded:
        notes.append(f"{summary.decoded} of them decoded: no JPEG coefficients to take")
    if summary.damaged:
        notes.append(f"{summary.damaged} of them damaged: what could be read was taken")
    if notes:
        counts[0] += f" ({'; '.join(notes)})"
    if summary.done:
        counts.append(f"{summary.done} done before")
    if summary.broken:
        counts.append(f"{len(summary.broken)} broken and skipped")
    print(f"{', '.join(counts)}: {options.output}")
    return FAILED if summary.broken else DONE
