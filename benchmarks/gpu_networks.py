"""Table of whole networks on a GPU."""

from __future__ import annotations

import copy
import functools
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from gpu_setting import Section, Setting
from measure_cuda import Call, interleaved
from tables import Row, Table

if TYPE_CHECKING:
    import bench_models

NETWORKS = Table(
    "Whole networks",
    "Images per second in evaluation, batches of 64, random weights, each as a CUDA graph; cuDNN "
    "searches for its fastest kernels, float32 convolutions are in TF32 as is PyTorch's default. "
    "**alone** begins with normalised coefficients or pixels, **with pictures** with uint8 "
    "pictures on the GPU, which RGB networks normalise in two operations. **of RGB** compares "
    "with the family's RGB network, both with pictures. A gate is decided from the pixels' mean "
    "block with `fused_gate=True`, from coefficients with False. Goal: 97 % of alone.",
    {
        "network": "{}",
        "variant": "{}",
        "picture": "{}",
        "alone, images/s": "{:.0f}",
        "with pictures, images/s": "{:.0f}",
        "of alone": "**{:.1%}**",
        "of RGB": "{:.2f}",
        "transform ms": "{:.4f}",
        "timed by": "{}",
    },
)

BATCH = 64


def both_gates(cases: Mapping[str, bench_models.Case]) -> dict[str, bench_models.Case]:
    """Gated networks with ``fused_gate`` False and True, the others as they are."""
    result = {}
    for name, case in cases.items():
        if getattr(case.network, "gate", None) is None:
            result[name] = case
            continue
        for fused in (False, True):
            network = copy.deepcopy(case.network)
            network.fused_gate = fused  # type: ignore[assignment]
            result[f"{name}, fused_gate={fused}"] = case._replace(network=network)
    return result


def networks(setting: Setting) -> Section:
    if importlib.util.find_spec("torchvision") is None:
        return Section(NETWORKS, {"all": lambda: [_absent("torchvision is not installed")]})
    import bench_models

    def rows(family: str, variant: str) -> list[Row]:
        device = setting.device.type
        cases = both_gates(bench_models.FAMILIES[family]())
        if setting.tiny:
            cases = {
                name: bench_models.Case(case.network, case.side // 14)
                for name, case in cases.items()
            }
        batch = setting.batch(BATCH)
        flags = torch.backends.cudnn.flags(
            enabled=True, benchmark=True, deterministic=False, allow_tf32=True
        )
        with flags:
            queued = bench_models.prepared(cases, device, variant, batch)
            calls: dict[str, Call] = {
                name: lambda index, call=call: call() for name, call in queued.items()
            }
            measured = interleaved(
                calls, 1, setting.copy, seconds=4 * setting.seconds, least=setting.least
            )
        result: list[Row] = []
        for name, case in cases.items():
            timings = [measured.timings[f"{name} {step}"] for step in bench_models.STEPS]
            alone, pictures, transform = (timing.seconds for timing in timings)
            result.append(
                {
                    "network": f"{family}, {name}",
                    "variant": variant,
                    "picture": case.side,
                    "alone, images/s": batch / alone,
                    "with pictures, images/s": batch / pictures,
                    "of alone": alone / pictures,
                    "of RGB": measured.timings["RGB pictures"].seconds / pictures,
                    "transform ms": 1e3 * transform,
                    "timed by": timings[1].how,
                }
            )
        return result

    variants = reversed(bench_models.VARIANTS["cuda"])  # the fastest first
    cases = {
        f"{family}, {variant}": functools.partial(rows, family, variant)
        for variant in variants
        for family in ("MobileNetV2", "ResNet-50")
    }
    return Section(NETWORKS, cases)


def _absent(reason: str) -> Row:
    return dict.fromkeys(NETWORKS.columns) | {"network": reason}
