"""``freqops stats``: mean and standard deviation of each channel over a folder of pictures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from freqops._extras import need
from freqops.commands._shared import DONE, Commands, add_colour, count, size

__all__ = ["add"]

EXAMPLES = """\
examples:
  freqops stats ImageNet/train -o imagenet.json
      what training crops of 448 x 448 pixels hold, for freqops train --statistics imagenet.json
  freqops stats photos/ -o photos.json --crop 112 --chroma dctnet
      other crops, and the colour of the paper's released code
  freqops stats ImageNet/train -o imagenet.json --from-jpeg --view eval
      from the coefficients of JPEG files, without decoding; the middle of each picture
  torchrun --nproc-per-node 8 -m freqops stats ImageNet/train -o imagenet.json
      shared by eight processes: the same file, bit for bit

Every block of every picture counts, in float64. Run the same command again to go on after an
interrupt, with any number of processes and workers: sums of what was finished are kept in a hidden
folder beside the output. In Python, freqops.ChannelStatistics.load(path) reads the file.

exit code: 0; 1 a file cannot be written, or another process has ended; 2 wrong arguments, no
pictures, or a broken picture with --broken fail; 130 interrupted, and what was finished is kept
"""

QUIET = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    from freqops.data import SIZES

    parser = commands.add_parser(
        "stats",
        help="mean and standard deviation of the 192 channels over a folder of pictures",
        description="Measures mean and standard deviation of all 192 channels over the pictures\n"
        "below a folder, as a network in training sees them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    argument = parser.add_argument
    argument("folder", metavar="DIR", help="folder of pictures, at any depth")
    argument("-o", "--output", required=True, metavar="FILE", help="the statistics, as JSON")
    argument(
        "--preprocess",
        choices=tuple(SIZES),
        help="the paper's resize and crop: resnet50 512, 448; mobilenet_v2 1024, 896 "
        "(default: resnet50)",
    )
    argument("--resize", type=size, metavar="SIDE", help="short side before the crop, for --view "
             "eval (default: the paper's, or 8/7 of --crop)")  # fmt: skip
    argument("--crop", type=size, metavar="SIDE", help="side of the square, instead of the paper's")
    argument(
        "--view",
        choices=("train", "eval"),
        default="train",
        help="random crops and flips, drawn by the seed, or the middle (default: train)",
    )
    argument(
        "--area",
        type=float,
        default=0.08,
        metavar="X",
        help="least share of a picture's area that a random crop shows (default: 0.08)",
    )
    argument("--seed", type=count, default=0, metavar="N", help="of crops and flips (default: 0)")
    add_colour(parser)
    argument(
        "--from-jpeg",
        action="store_true",
        help="take the coefficients that JPEG files hold instead of decoding them, as freqops "
        "train --transform jpeg does; other files are decoded",
    )
    argument("--workers", type=count, metavar="N", help="processes that read pictures; 0: none "
             "beside the command's own (default: one per processor)")  # fmt: skip
    argument(
        "--broken",
        choices=("skip", "fail"),
        default="skip",
        help="pictures that cannot be read: name, count and skip them, or fail (default: skip)",
    )
    argument("-q", "--quiet", action="store_true", help="no progress, only broken pictures")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    need("freqops stats", "train", "torchvision", "PIL", "tqdm")
    from freqops.commands._validation import reading_workers
    from freqops.training._processes import join
    from freqops.training._statistics import Crops, measure
    from freqops.transform import find_pictures

    resize, crop = _sizes(options)
    if options.from_jpeg and (options.chroma, options.rounding) != ("4:4:4", "none"):
        raise ValueError(
            "--chroma and --rounding must be left out with --from-jpeg: files have their own"
        )
    crops = Crops(
        resize,
        crop,
        options.view,
        options.seed,
        options.chroma,
        options.rounding,
        options.from_jpeg,
        options.area,
    )
    if not Path(options.folder).is_dir():
        raise ValueError(f"DIR must be a folder of pictures, found none at {options.folder!r}")
    pictures = find_pictures([options.folder])
    with (
        join("cpu") as processes,
        _Progress(len(pictures), quiet=options.quiet or not processes.main) as progress,
    ):
        found = measure(
            pictures,
            Path(options.output),
            crops,
            processes,
            workers=reading_workers(options.workers),
            broken=options.broken,
            step=progress.step,
        )
    if found is not None:
        read = len(pictures) - len(found.broken)
        skipped = f", {len(found.broken)} broken and skipped" if found.broken else ""
        print(
            f"{read} pictures, {found.statistics.count} coefficients of each channel{skipped}: "
            f"{options.output}"
        )
    return DONE


def _sizes(options: argparse.Namespace) -> tuple[int, int]:
    """Short side and crop: of --preprocess, or of --crop with 8/7 of it."""
    from freqops.data import SIZES

    if options.crop is None or options.preprocess is not None:
        resize, crop = SIZES[options.preprocess or "resnet50"]
    else:
        resize, crop = -(-options.crop * 8 // 7), options.crop
    return options.resize or resize, options.crop or crop


class _Progress:
    """A bar on a terminal, a line from time to time elsewhere, and the names of broken pictures."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        from tqdm import tqdm

        self.total = total
        # disable=None: no bar where stderr is a file.
        self._bar = tqdm(total=total, unit=" pictures", disable=True if quiet else None)
        self._lines = bool(self._bar.disable) and not quiet
        self._said = time.monotonic()
        self._done: int | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step(self, done: int, broken: list[tuple[str, str]]) -> None:
        """So many pictures are through; some that were not before are broken."""
        for name, reason in broken:
            self._print(f"freqops: skipped {name}: {reason}")
        if self._done is None:  # what was finished before says nothing about the speed
            self._bar.initial = self._bar.n = self._done = done
            self._bar.refresh()
            if self._lines and done:
                self._print(f"{done} of {self.total} pictures done before")
        self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._lines and now - self._said >= QUIET:
            self._said = now
            self._print(f"{done} of {self.total} pictures")

    def _print(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)
        sys.stderr.flush()
