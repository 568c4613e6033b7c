"""The command line: `freqops`, or `python -m freqops`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from freqops import __version__
from freqops._block_dct import CHROMA, ROUNDING
from freqops._extras import need
from freqops.channels import ChannelSelection

__all__ = ["main"]

DEMO_PICTURES = 12
"""Rows for which the page of the demo has room."""

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; 128 + SIGINT, as shells have it."""

TRANSFORM_EXAMPLES = """\
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

INFO_EXAMPLES = """\
examples:
  freqops info --model resnet50 --channels 24
      layers changed, parameters, GMAC, normalised input size
  freqops info --model timm/vit_tiny_patch16_224 --channels 48
      any network that freqops.models.from_rgb takes
  freqops info --model trained.safetensors
      one that freqops.models.save wrote
"""

DEMO_EXAMPLES = """\
examples:
  freqops demo
      the photographs that scikit-image ships
  freqops demo holiday/ -o holiday.png
      your own; the first is the one shown in full
"""


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
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except KeyboardInterrupt:
        _complain("interrupted; what was finished is kept")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, TypeError) as error:
        _complain(error)
        return USAGE
    except (OSError, ImportError) as error:
        _complain(error)
        return FAILED


def _complain(error: object) -> None:
    print(f"freqops: {' '.join(str(error).split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freqops",
        description="Pictures as frequency channels: YCbCr, 8x8 DCT, selection, normalisation.",
        epilog="freqops COMMAND --help says more, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"freqops {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _info_options(
        commands.add_parser(
            "info",
            help="versions, libraries loaded, the instruction set in use; or what a network costs",
            description="Prints versions, libraries loaded and the instruction set in use; with\n"
            "--model, what a frequency network changes and costs.",
            epilog=INFO_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )

    text = "picture files to files of frequency channels"
    _transform_options(
        commands.add_parser(
            "transform",
            help=text,
            description="Turns picture files into files of frequency channels.",
            epilog=TRANSFORM_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _demo_options(
        commands.add_parser(
            "demo",
            help="photographs as frequency channels, on one page",
            description="Rebuilds photographs from 6, 24, 64 and 192 channels, times the operator\n"
            "on this machine, prints a table and draws one page.",
            epilog=DEMO_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    return parser


def _info_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model",
        metavar="NAME|FILE",
        help="a network of torchvision, of timm as timm/NAME, or a saved one",
    )
    add(
        "--channels",
        metavar="N|LIST|FILE",
        help="as for transform (default: 24, with --gate all 192)",
    )
    add("--gate", action="store_true", help="with a ChannelGate before the first layer")
    add("--spatial", action="store_true", help="with the RGB stem beside the channels")
    add(
        "--layer2-stride",
        type=int,
        choices=(1, 2),
        help="of a ResNet, 1 as the paper's released ones (default: 2)",
    )
    add("--size", type=_size, metavar="SIDE", help="of the picture (default: the network's own)")
    parser.set_defaults(command=_info)


def _transform_options(parser: argparse.ArgumentParser) -> None:
    from freqops.data import SIZES
    from freqops.files import DTYPES, FORMATS

    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURES", help="files, or folders (with all below them)")
    add("-o", "--output", required=True, metavar="DIR", help="folder for the results")
    add(
        "--channels",
        default="24",
        metavar="N|LIST|FILE",
        help="how many (square or triangle pattern), numbers such as 0,1,8,64,128, 'learned', "
        "or a saved ChannelSelection (default: 24)",
    )
    add(
        "--statistics",
        default="none",
        metavar="none|photographs|FILE",
        help="normalise with these means and standard deviations (default: none)",
    )
    add(
        "--chroma",
        choices=CHROMA,
        default="4:4:4",
        help="colour as it is, averaged over 2x2 pixels as in JPEG files, or smoothed as in the "
        "paper's released code (default: 4:4:4)",
    )
    add(
        "--rounding",
        choices=ROUNDING,
        default="none",
        help="jpeg: to integers before and after the DCT (default: none)",
    )
    add(
        "--from-jpeg",
        action="store_true",
        help="take the coefficients that JPEG files hold instead of decoding them; resize and crop "
        "go by eighths and blocks of 8 pixels, as near as they come; other files are decoded, "
        "named, and go the same way",
    )
    add(
        "--tolerant",
        action="store_true",
        help="with --from-jpeg: take of damaged JPEG files what can be read, instead of skipping "
        "them; they are named",
    )
    add("--dtype", choices=tuple(DTYPES), default="float32", help="default: float32")
    add(
        "--preprocess",
        choices=("none", *SIZES),
        default="none",
        help="the paper's resize and crop: resnet50 512, 448; mobilenet_v2 1024, 896",
    )
    add("--resize", type=_size, metavar="SIDE", help="short side, instead of the paper's")
    add("--crop", type=_size, metavar="SIDE", help="square from the middle, likewise")
    add("--format", choices=FORMATS, default=FORMATS[0], help=f"default: {FORMATS[0]}")
    add("--overwrite", action="store_true", help="convert again what is there already")
    add(
        "--workers",
        type=_size,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads (default: one per processor)",
    )
    add(
        "-q",
        "--quiet",
        action="store_true",
        help="no progress bar, and no names of files that were decoded, or are damaged and taken",
    )
    parser.set_defaults(command=_transform)


def _demo_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "pictures", nargs="*", metavar="PICTURES", help=f"files or folders, {DEMO_PICTURES} at most"
    )
    add(
        "-o",
        "--output",
        default="freqops-demo.png",
        metavar="FILE",
        help="the page, a .png (default: freqops-demo.png)",
    )
    add("--seconds", type=float, default=3.0, help="spent on the timing (default: 3)")
    parser.set_defaults(command=_demo)


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _info(options: argparse.Namespace) -> int:
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
            None if options.channels is None else _selection(options.channels),
            gate=options.gate,
            spatial=options.spatial,
            layer2_stride=options.layer2_stride or 2,
        )
    print(models.summarize(network, options.size))
    return DONE


def _selection(text: str) -> ChannelSelection:
    if text.isdecimal():
        return ChannelSelection.of(int(text))
    if text == "learned":
        return ChannelSelection.learned()
    numbers = text.split(",")
    if all(number.strip().isdecimal() for number in numbers):
        return ChannelSelection.of([int(number) for number in numbers])
    if Path(text).is_file():
        return ChannelSelection.load(text)
    raise ValueError(
        "--channels must be a number, numbers such as 0,1,8,64,128, 'learned', "
        f"or the file of a saved selection, got {text!r}"
    )


def _transform(options: argparse.Namespace) -> int:
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
            _complain(
                f"note: {options.statistics} was measured with chroma {measured[0]} and "
                f"rounding {measured[1]}, and is used for {options.chroma} and "
                f"{options.rounding}"
            )
        mean, std = tuple(statistics.mean.tolist()), tuple(statistics.std.tolist())
    settings = Settings(
        _selection(options.channels),
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


def _demo(options: argparse.Namespace) -> int:
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
    if len(paths) > DEMO_PICTURES:
        _say(f"the first {DEMO_PICTURES} of {len(paths)} pictures are used")
    photographs = []
    broken = 0
    for path in paths[:DEMO_PICTURES]:
        try:
            photographs.append(Photograph(path.name, read_image(path)))
        except (OSError, ValueError) as error:
            broken += 1
            _complain(f"skipped {path}: {reason_of(error)}")
    if not photographs:
        raise OSError("no picture could be read")
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = measure(photographs, seconds=options.seconds, say=_say)
    print(f"\n{table(facts)}\n", flush=True)
    _say("drawing the page")
    with replacing(output) as path:
        draw(facts, path)
    print(f"Written: {output}")
    return FAILED if broken else DONE


def _say(text: str) -> None:
    print(f"  {text} ...", file=sys.stderr, flush=True)
