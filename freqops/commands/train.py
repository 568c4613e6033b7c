"""`freqops train`: one run, from flags or a file of settings."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from freqops.commands._shared import DONE, FAILED, INTERRUPTED, Commands, complain

EXAMPLES = """\
examples:
  freqops train photos/ -o runs/gate --model resnet18 --crop 112 --gate --epochs 20
      all 192 channels behind a gate that learns which of them matter
  freqops train ImageNet/ -o runs/r50 --config resnet50_imagenet
      the paper's recipe; flags win over the file
  torchrun --nproc-per-node 8 -m freqops train ImageNet/ -o runs/r50 --config resnet50_imagenet
      on eight GPUs
  freqops train -o runs/gate
      goes on where that run was interrupted or killed
  freqops train photos/ -o runs/fine --init runs/gate/frozen-24.safetensors --epochs 5
      further training of a frozen network

DATA is a folder with train/ and val/, each of one folder a class (torchvision's ImageFolder
layout); a folder of one folder a class, of which --val-share is held out; or module:function.

The run's folder gets settings.json, statistics.json, log.csv (an epoch a row), steps.csv,
network.safetensors after each epoch, best.safetensors by top-1, and state.pt to go on from.

exit code: 0; 1 the loss is not finite, or a file cannot be written; 2 wrong arguments;
130 interrupted, and the state is saved
"""


def add(commands: Commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network on frequency channels, with or without a gate",
        description="Trains a classification network that reads frequency channels.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from freqops.training._settings import GROUPS, Settings, configs, kinds

    parser.add_argument("data", nargs="?", metavar="DATA", help="what is trained on")
    parser.add_argument("-o", "--output", metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help=f"settings from a .toml or .json file, or one of {', '.join(configs())}",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, only warnings")
    types = kinds()
    for field in dataclasses.fields(Settings):
        if field.name in GROUPS:
            group = parser.add_argument_group(GROUPS[field.name])
        if field.name in ("data", "output"):
            continue
        name = "--" + field.name.replace("_", "-")
        text = str(field.metadata["text"])
        if field.default not in (None, ""):
            default = field.default
            shown = ("on" if default else "off") if isinstance(default, bool) else default
            text += f" (default: {shown})"
        text = text.replace("%", "%%")
        kind = types[field.name]
        if kind is bool:
            group.add_argument(name, action=argparse.BooleanOptionalAction, help=text)
        else:
            choices = field.metadata["choices"] or None
            metavar = None if choices else {int: "N", float: "X"}.get(kind, "TEXT")
            group.add_argument(name, type=kind, choices=choices, metavar=metavar, help=text)
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from freqops.training._settings import kinds

    try:
        return _train(options)
    except (ValueError, TypeError) as error:  # Python's names of settings, as flags
        names = "|".join(name for name in kinds() if "_" in name)
        flags = re.sub(rf"\b({names})\b", lambda m: f"--{m[0].replace('_', '-')}", str(error))
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(flags) from error


def _train(options: argparse.Namespace) -> int:
    from freqops._extras import need

    need("freqops train", "train", "PIL", "torchvision", "tqdm", "safetensors")
    import torch

    from freqops.training import Diverged, Settings, join, read_config, train
    from freqops.training._settings import MADE

    given: dict[str, object] = {}
    if options.output is not None and options.config is None:
        run = Path(options.output)
        begun = options.data is None or (run / "state.pt").is_file()
        if begun and (run / "settings.json").is_file():
            given |= read_config(str(run / "settings.json"))
    if options.config is not None:
        given |= read_config(options.config)
    if options.init is not None and options.config is not None:
        # The file's other settings serve a network that is there too.
        others = (*MADE, "init", "new_head")
        given = {name: value for name, value in given.items() if name not in others}
    for field in dataclasses.fields(Settings):
        value = getattr(options, field.name)
        if value is not None:
            given[field.name] = value
        if value is not None and options.init is not None and field.name in MADE:
            raise ValueError(f"{field.name} must be left out with --init, which has its own")
    settings = Settings.of(given, "train")
    if not settings.output:
        raise ValueError("-o must name the folder of the run, got none")
    if not settings.data:
        raise ValueError(
            "DATA must be a folder of pictures or module:function, got none, and "
            f"{settings.output} holds no run to go on with"
        )
    with join(settings.device) as processes:
        try:
            result = train(settings, processes, quiet=options.quiet)
        except Diverged as error:
            complain(error)
            return FAILED
        except torch.OutOfMemoryError as error:
            complain(
                f"a batch of {settings.batch_size} does not fit into the memory of the device "
                f"(--batch-size, --amp, more processes): {error}"
            )
            return FAILED
    if processes.main:
        skipped = f", {_many(result.skipped, 'picture')} skipped" if result.skipped else ""
        if not result.finished:
            complain(
                f"interrupted after step {result.step}{skipped}; the same command goes on: "
                f"{settings.output}"
            )
        else:
            top1 = "" if result.top1 is None else f", validation top-1 {result.top1:.1%}"
            print(f"{_many(result.epoch, 'epoch')}{top1}{skipped}: {settings.output}")
    return DONE if result.finished else INTERRUPTED


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
