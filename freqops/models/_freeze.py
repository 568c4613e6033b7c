"""freeze: from a network with a hard gate to a static one that reads fewer channels."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import statistics as stats
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from freqops._arguments import describe
from freqops.channels import CHANNELS, ChannelSelection
from freqops.gate_statistics import GateStatistics
from freqops.models import _dense, _general, _mobilenet, _resnet
from freqops.models._network import FrequencyNetwork
from freqops.models._summary import Frame, Size, Summary, check_whole, frame_of, summarize
from freqops.nn import ChannelGate

__all__ = ["freeze", "freeze_in_place"]

BACKBONE_SIDE = 256
"""Of the picture that backbones of detectors and segmenters are timed with."""

TIMED_SECONDS, TIMED_RUNS = 2.0, (3, 15)
"""Both networks run in turn for so long, but 3 times at least and 15 times at most."""


def freeze(
    network: nn.Module,
    statistics: GateStatistics | None = None,
    *,
    keep: SupportsIndex | None = None,
    threshold: float | None = None,
    selection: ChannelSelection | Iterable[SupportsIndex] | None = None,
    say: Callable[[str], None] | None = print,
    size: int | Size | None = None,
) -> nn.Module:
    """A static network from one with a gate: it computes the channels that are kept, and no gate.

    In evaluation its outputs are those of the gated network with these channels forced open and all
    others closed, ``gate.forced = kept``, but for rounding. The columns of the first layers
    that read the others are gone. It may be trained further.

        first layer of MobileNetV2    with more channels than it has outputs it is grouped, and
                                      every group is padded to as many inputs as the fullest has,
                                      with a kept channel and weights of zero: 24 kept of 192 may
                                      become 128. Else it is depthwise, and what a closed channel
                                      made of the norm behind it, a constant, goes into the next.
        BasicBlock of 64 channels     its shortcut, which was the identity, becomes a 1x1
                                      convolution of zeros and ones without norm.

    Args:
        network: made by ``from_rgb`` or a constructor with gate=True; it is copied and left as it
            is.
        statistics: of this gate over a validation set, say. Its order of channels does not matter.
            None: channels are ranked by how probable the gate opens them for the mean picture,
            whose normalised channels are all zero; a warning says so.
        keep: how many channels to keep, those that were on most often.
        threshold: keep the channels with a rate, or without statistics a probability, >= threshold.
        selection: keep these, whatever statistics says. Exactly one of the three must be given.
        say: takes a text on what became of channels, input size, parameters, GMAC and time, also
            where they grew; None measures nothing. Times are of one picture on the network's
            device, whole networks in turn, of detectors and segmenters the backbone on 256 x 256.
        size: of the picture that the text is about, a side or (height, width), as ``summarize``
            takes it.

    Returns:
        The static network, of the class of network and in its mode. The channels of its transform
        are those kept, in the order of selection, else Y, Cb, Cr, each ascending; with padding, in
        the order of the groups.

    Raises:
        TypeError: network is no module, statistics no GateStatistics, selection no list of
            channels; not exactly one of keep, threshold and selection is given.
        ValueError: network is not of freqops, has no gate or none any longer; its gate is of kind
            "se" or "double", so that no static network equals it; statistics are of other channels,
            selection names others than the gate's or one twice; those of
            ``GateStatistics.selection``.

    Source: Xu et al., "Learning in the Frequency Domain", CVPR 2020, section 3.2: a static
        selection from the gate's.

    Example:
        >>> import torchvision  # doctest: +SKIP
        >>> from freqops.models import freeze, from_rgb  # doctest: +SKIP
        >>> gated = from_rgb(torchvision.models.resnet50(), gate=True)  # doctest: +SKIP
        >>> ...  # train, and count gates with GateStatistics  # doctest: +SKIP
        >>> static = freeze(gated, counted, keep=24)  # doctest: +SKIP
    """
    frame = _gated(network)
    given = {"keep": keep, "threshold": threshold, "selection": selection}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise TypeError(
            "freeze: exactly one of keep, threshold and selection must be given, "
            f"got {' and '.join(names) or 'none'}"
        )
    channels = frame.transform.channels
    if statistics is not None:
        _check_statistics(statistics, channels)
    if selection is not None:
        kept = _checked(selection, channels)
    elif statistics is not None:
        kept = statistics.selection(keep, threshold)
    else:
        assert frame.gate is not None
        warnings.warn(
            "freeze: without statistics, channels are ranked by how probable the gate opens them "
            "for the mean picture; GateStatistics over a validation set is better",
            UserWarning,
            stacklevel=2,
        )
        kept = ChannelSelection.from_probabilities(
            _of_mean_picture(frame.gate), keep=keep, threshold=threshold, among=channels
        )
    frozen = freeze_in_place(copy.deepcopy(network), kept)
    if say is not None:
        say(_report(network, frozen, size))
    return frozen


def freeze_in_place(network: nn.Module, kept: ChannelSelection) -> nn.Module:
    """Leaves a network with a hard gate the kept channels, and no gate.

    Raises:
        TypeError, ValueError: those of ``freeze``.
    """
    frame = _gated(network)
    before = frame.transform.channels
    kept = _checked(kept, before)
    positions = [before.indices.index(channel) for channel in kept]
    trained = {name: values.requires_grad for name, values in network.named_parameters()}
    family = frame.recipe.family
    if not isinstance(frame, FrequencyNetwork):
        read = _resnet.keep(_dense.body_of(network), positions)
    elif family == "resnet":
        width = _resnet.stem_width(frame.network)
        beside = 0 if frame.halved is None else width - len(before)
        read = _resnet.keep(frame.network, positions, beside)
    elif family == "mobilenet_v2":
        read = _mobilenet.keep(frame.network, positions)
    else:
        read = _general.keep(frame.network, positions)
    frame.gate = None
    frame.transform.channels = ChannelSelection([before.indices[place] for place in read])
    changes = [*frame.recipe.changes, f"gate: removed, {len(kept)} of {len(before)} channels kept"]
    for name, values in network.named_parameters():
        if name in trained:
            values.requires_grad_(trained[name])  # what was not trained is not now
        else:
            changes.append(f"{name}: added, puts channels in their places")
    frame.recipe = dataclasses.replace(frame.recipe, kept=kept, changes=tuple(changes))
    return network


def _gated(network: object) -> Frame:
    """What holds the hard gate of a network.

    Raises:
        TypeError: network is no module.
        ValueError: there is none.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"freeze: network must be a torch.nn.Module, got {describe(network)}")
    wanted = "freeze: network must be one of freqops.models with a gate, got"
    frame = frame_of(network)
    if frame is None:
        raise ValueError(f"{wanted} {describe(network)} that freqops did not make")
    check_whole("freeze", network, frame)
    if frame.recipe.kept is not None:
        raise ValueError(f"{wanted} one already frozen to {len(frame.recipe.kept)} channels")
    if frame.gate is None:
        raise ValueError(f"{wanted} one without (gate=True makes one with it)")
    if frame.gate.kind != "bernoulli":
        raise ValueError(
            'freeze: network must have a gate of kind "bernoulli", which opens channels or closes '
            f'them, got "{frame.gate.kind}", which multiplies a channel by another weight in each '
            "picture: no static network equals that"
        )
    columns = frame.gate.channels.indices
    twice = next((channel for channel in columns if columns.count(channel) > 1), None)
    if twice is not None:
        raise ValueError(
            f"freeze: network must have a gate that names no channel twice, got {twice} twice"
        )
    return frame


def _checked(
    selection: ChannelSelection | Iterable[SupportsIndex], channels: ChannelSelection
) -> ChannelSelection:
    """The selection of some of these channels."""
    if not isinstance(selection, ChannelSelection):
        try:
            selection = ChannelSelection(selection)
        except (TypeError, ValueError) as error:
            raise type(error)(f"freeze: selection: {error}") from error
    unknown = sorted(set(selection) - set(channels))
    if unknown:
        raise ValueError(f"freeze: selection must hold channels of the gate, got {unknown} besides")
    if len(set(selection)) < len(selection):
        twice = next(channel for channel in selection if selection.indices.count(channel) > 1)
        raise ValueError(f"freeze: selection must name no channel twice, got {twice} twice")
    return selection


def _check_statistics(statistics: object, channels: ChannelSelection) -> None:
    if not isinstance(statistics, GateStatistics):
        raise TypeError(
            f"freeze: statistics must be a GateStatistics or None, got {describe(statistics)}"
        )
    ours, theirs = set(channels), set(statistics.channels)
    if ours != theirs:
        missing, besides = sorted(ours - theirs), sorted(theirs - ours)
        difference = [f"without {missing}"] * bool(missing) + [f"with {besides}"] * bool(besides)
        raise ValueError(
            f"freeze: statistics must be of the gate's {len(ours)} channels, "
            f"got {len(theirs)}, {' and '.join(difference)}"
        )


def _of_mean_picture(gate: ChannelGate) -> Tensor:
    """(192,) the probability that each channel is on, sigmoid(on - off), where x is zero."""
    gate = copy.deepcopy(gate).float().eval()
    x = torch.zeros(1, len(gate.channels), 1, 1, device=next(gate.parameters()).device)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        logits = gate.tensors(x)["gate"][3][0]
    p = torch.zeros(CHANNELS, device="cpu")
    p[list(gate.channels)] = (logits[:, 1] - logits[:, 0]).sigmoid().cpu()
    return p


def _report(gated: nn.Module, frozen: nn.Module, size: int | Size | None) -> str:
    """What became of channels, input, parameters, GMAC and time."""
    old, new = summarize(gated, size), summarize(frozen, size)
    frame = frame_of(frozen)
    assert frame is not None
    kept = frame.recipe.kept
    assert kept is not None
    repeats = new.channels - len(kept)
    padded = f": the {len(kept)} kept grow by {repeats} that pad groups" if repeats else ""
    before, after = (summary.parameters + summary.gate_parameters for summary in (old, new))
    backbone = "" if new.part == "network" else f", {new.part}"
    lines = [
        f"freeze: {len(kept)} of {old.channels} channels kept",
        _row("channels", old.channels, new.channels, ",d") + padded,
        _row("input size", old.input_size, new.input_size, ".3f") + " of 3 x 224 x 224",
        _row("parameters", before, after, ",d") + ", with the gate",
        _row("GMAC", old.gmacs, new.gmacs, ".4f")
        + f"{backbone}, 3 x {new.size[0]} x {new.size[1]}",
    ]
    try:
        time_row = _time_row(gated, frozen, new)
    # Of torch, where the network does not run as it is: parameters of float16 on channels that
    # were asked for in float32, say. What is asked for, the frozen network, is there.
    except RuntimeError as error:
        time_row = f"  {'time':12}not measured: {' '.join(str(error).split())[:100]}"
    return "\n".join([*lines, time_row])


def _row(name: str, old: float, new: float, form: str) -> str:
    """The numbers, and a word where they grow."""
    return f"  {name:12}{old:{form}} -> {new:{form}}{' (grows)' if new > old else ''}"


def _time_row(gated: nn.Module, frozen: nn.Module, summary: Summary) -> str:
    """Median milliseconds for one picture, with transform and gate; of detectors the backbone's."""
    weight = next(gated.parameters())
    if weight.is_meta:
        return f"  {'time':12}not measured: the parameters have no data"
    networks, size, what = [_without_hooks(gated), _without_hooks(frozen)], summary.size, ""
    if summary.part == "backbone":
        networks = [network.get_submodule("backbone") for network in networks]
        size, what = (BACKBONE_SIDE, BACKBONE_SIDE), "backbone, "
    # No random numbers: the user's go on as they would.
    picture = torch.arange(3 * size[0] * size[1], device=weight.device) % 251
    picture = picture.to(torch.uint8).view(1, 3, *size)
    if summary.part == "backbone" or weight.dtype == torch.float64:
        picture = picture.to(weight.dtype) / 255
    old, new = _milliseconds(networks, picture)
    # Where other work disturbs the runs, a larger median says little.
    grows = " (grows)" if min(new) > stats.median(old) else ""
    medians = f"{stats.median(old):.2f} -> {stats.median(new):.2f}"
    where = f"3 x {size[0]} x {size[1]}, {weight.device.type}"
    return f"  {'time':12}{medians}{grows} ms a picture, {what}{where}"


def _without_hooks(network: nn.Module) -> nn.Module:
    """A copy that tells nobody of its runs: hooks may count gates."""
    network = copy.deepcopy(network)
    for module in network.modules():
        module._forward_hooks.clear()
    return network


def _milliseconds(networks: list[nn.Module], picture: Tensor) -> list[list[float]]:
    """Of runs in turn. The last network has no gate, so none is left on its way to a detector."""
    times: list[list[float]] = [[] for _ in networks]
    least, most = TIMED_RUNS
    end = time.perf_counter() + TIMED_SECONDS
    for network in networks:
        _time(network, picture)  # the first run is slower
    while len(times[0]) < least or (len(times[0]) < most and time.perf_counter() < end):
        for network, runs in zip(networks, times, strict=True):
            runs.append(1e3 * _time(network, picture))
    return times


def _time(network: nn.Module, picture: Tensor) -> float:
    """Seconds of one run in evaluation."""
    with _evaluating(network), torch.no_grad():
        _wait(picture)
        start = time.perf_counter()
        network(picture)
        _wait(picture)
        return time.perf_counter() - start


def _wait(tensor: Tensor) -> None:
    if not tensor.is_cpu:
        torch.accelerator.synchronize(tensor.device)


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """All its modules in evaluation, and afterwards each in the mode that it had."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
