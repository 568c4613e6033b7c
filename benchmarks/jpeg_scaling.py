"""What scaling in the coefficient domain is off by: python benchmarks/jpeg_scaling.py

Photographs of scikit-image, encoded by Pillow, scaled by `jpeg_gather` and compared with what they
are when decoded, resized in pixels and transformed; and with libjpeg-turbo's own scaled decoding.
Writes benchmarks/results/jpeg_scaling.md, and with --picture docs/jpeg_scaling.png. No figure here
is a time: the load of the machine does not change them.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure_statistics import photographs
from numpy.typing import NDArray
from PIL import Image, features
from tables import Results, Row, Table, machine
from torch import Tensor

from freqops import block_dct, block_idct
from freqops._jpeg_geometry import nearest_scale, product
from freqops._jpeg_picture import gather
from freqops.jpeg import read_coefficients

ROOT = Path(__file__).parents[1]

QUALITIES = (75, 90, 95)
SUBSAMPLINGS = ("4:4:4", "4:2:0")
SCALES = [(k,) for k in range(1, 17)]
PAIRS = [
    *((13, 4), (4, 13), (9, 6), (6, 9), (12, 2), (2, 12), (3, 8), (15, 1), (1, 15)),
    *((16, 9), (9, 16), (16, 12), (16, 16)),
]
LUMA, CHROMA = slice(0, 64), slice(64, 192)
LUMA_CHANNELS = list(range(64))
UPPER = [v * 8 + u for v in range(8) for u in range(8) if max(v, u) >= 5]

ABOUT = """\
Photographs: {names}, cut to multiples of 64
pixels so that every scale makes whole pixels. All 192 channels, not normalised, in the units of
`block_dct` (the DC of a block is 8 times its mean). Mean squares are over all photographs; "max" is
the largest of any. PSNR is of RGB pixels through `block_idct`, against the resized pixels.
Written by `python benchmarks/jpeg_scaling.py`.

{meaning}
"""

MEANING = """\
What the numbers mean:

- At 8/8 nothing is scaled: {unscaled:.2f} RMS of luma is what the decoder loses by rounding Y, Cb,
  Cr and R, G, B to integers and by clamping. 4:2:0 adds the decoder's smoothing of chroma, which
  coefficients do not have.
- Below 8/8 a block keeps its lowest k of 8 frequencies. At 1/8 that is the mean of a box; from 2/8
  on bicubic with antialiasing is the nearest of the three filters, so freqops uses it where it
  scales pixels to go with coefficients. The difference is one of filters, and neither is wrong:
  {down:.1f} RMS at 4/8, {down_share:.0%} of the signal.
  Coefficients are the sharper ones: see "upper" below, where (3, 8) is 3/8.
- Above 8/8 the frequencies that a block does not have are zero, and each block ends where it ended:
  seams that a filter across blocks would close, {up:.1f} RMS at 16/8, {up_share:.0%} of the signal.
  [A photograph at 3/8 and at 13/8](../../docs/jpeg_scaling.png) shows both.
- libjpeg-turbo's own scaled decoding is the same map at 1/8, 3/8, 5/8, 6/8 and 7/8: what is left is
  its rounding, and clamping where the sharper picture overshoots. At 2/8 and 4/8 it does something
  else: it averages boxes of pixels (its jidctred.c), as the column "box" shows.
- Of two steps the larger goes first where the smaller shrinks. (13, 4) and (4, 13) both make 52/64,
  but after 4/8 half of the detail is gone: {late:.1f} RMS against {first:.1f}, and the upper
  frequencies keep {late_upper:.0%} of their size against {first_upper:.0%}.
  Where both enlarge, the order hardly matters. `nearest_scale` puts the larger first.
"""

SCALED = Table(
    "Against decode, resize, transform",
    "Quality 90. Luma: mean of |error|, RMS and max against bicubic with antialiasing, then RMS "
    "against bilinear with antialiasing and, where the picture shrinks, the mean of a box. Chroma: "
    "RMS against bicubic. signal: RMS of luma of the resized picture.",
    {
        "subsampling": "{}",
        "scale": "{}",
        "signal": "{:.1f}",
        "mean": "{:.2f}",
        "RMS": "**{:.2f}**",
        "max": "{:.0f}",
        "bilinear": "{:.2f}",
        "box": "{:.2f}",
        "chroma": "{:.2f}",
        "PSNR": "{:.1f}",
        "PSNR bilinear": "{:.1f}",
        "PSNR box": "{:.1f}",
    },
)

BY_QUALITY = Table(
    "By quality",
    "RMS of luma and of chroma against bicubic with antialiasing, at quality 75, 90 and 95.",
    {"subsampling": "{}", "scale": "{}"}
    | {f"{part} {q}": "{:.2f}" for part in ("luma", "chroma") for q in QUALITIES},
)

DRAFT = Table(
    "Against libjpeg-turbo's scaled decoding",
    "Pillow's draft mode at quality 90: planes of Y, Cb, Cr at 1/2, 1/4 and 1/8, each transformed. "
    "RMS and max of ours against it, and RMS of luma of the mean of boxes against it. 8/8 "
    "is 4:4:4 alone: there 4:2:0 is smoothed.",
    {
        "subsampling": "{}",
        "scale": "{}",
        "luma": "**{:.2f}**",
        "max": "{:.1f}",
        "chroma": "**{:.2f}**",
        "chroma max": "{:.1f}",
        "box": "{:.2f}",
    },
)

LUMA_ALONE = Table(
    "Luma against libjpeg-turbo at every scale up to 8/8",
    "simplejpeg's decode_jpeg to grey, 4:4:4; RMS at quality 75, 90 and 95, and the max of all.",
    {"scale": "{}"} | {f"luma {q}": "{:.2f}" for q in QUALITIES} | {"max": "{:.1f}"},
)

STEPS = Table(
    "Two steps",
    "Quality 90, 4:4:4, against bicubic with antialiasing. upper: RMS of the luma channels with a "
    "frequency of 5 and more, in units of what the resized picture has there. chosen: what "
    "`nearest_scale` gives for the ratio.",
    {
        "steps": "{}",
        "of 64": "{}",
        "mean": "{:.2f}",
        "RMS": "**{:.2f}**",
        "max": "{:.0f}",
        "upper": "{:.0%}",
        "PSNR": "{:.1f}",
        "chosen": "{}",
    },
)


@dataclasses.dataclass
class Sums:
    """Of one comparison, over photographs."""

    squares: float = 0.0
    absolute: float = 0.0
    largest: float = 0.0
    count: int = 0

    def add(self, values: Tensor) -> None:
        self.squares += values.square().sum().item()
        self.absolute += values.abs().sum().item()
        self.largest = max(self.largest, values.abs().max().item())
        self.count += values.numel()

    @property
    def rms(self) -> float:
        return math.sqrt(self.squares / self.count)

    @property
    def mean(self) -> float:
        return self.absolute / self.count

    @property
    def psnr(self) -> float:
        return -10 * math.log10(self.squares / self.count)


@dataclasses.dataclass
class Compared:
    """Coefficients scaled by us against one way with pixels."""

    signal: Sums = dataclasses.field(default_factory=Sums)
    luma: Sums = dataclasses.field(default_factory=Sums)
    chroma: Sums = dataclasses.field(default_factory=Sums)
    pixels: Sums = dataclasses.field(default_factory=Sums)
    upper: Sums = dataclasses.field(default_factory=Sums)
    upper_signal: Sums = dataclasses.field(default_factory=Sums)

    def add(self, got: Tensor, pixels: Tensor) -> None:
        """got (192, gh, gw); pixels (3, H, W) in [0, 1]."""
        want = block_dct(pixels)
        self.signal.add(want[LUMA])
        self.luma.add((got - want)[LUMA])
        self.chroma.add((got - want)[CHROMA])
        self.upper.add(got[UPPER])
        self.upper_signal.add(want[UPPER])
        back = block_idct(got, size=tuple(pixels.shape[1:]), dtype=torch.float32)
        self.pixels.add(back.clamp(0, 1) - pixels)


def encoded(pixels: Tensor, quality: int, subsampling: str) -> bytes:
    height, width = (size // 64 * 64 for size in pixels.shape[1:])
    picture = Image.fromarray(pixels[:, :height, :width].permute(1, 2, 0).numpy())
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


def decoded(data: bytes) -> Tensor:
    """float32 (3, H, W) in [0, 255]."""
    array = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).float()


def resized(pixels: Tensor, ratio: float, how: str) -> Tensor:
    """In [0, 1]."""
    size = [round(length * ratio) for length in pixels.shape[1:]]
    if how == "box":
        out = F.interpolate(pixels[None], size, mode="area")
    else:
        out = F.interpolate(pixels[None], size, mode=how, antialias=True)
    return out[0].clamp(0, 255) / 255


def compared(files: list[bytes], steps: tuple[int, ...], how: str) -> Compared:
    result = Compared()
    for data in files:
        got = gather(read_coefficients(data), scale=(steps, steps))
        result.add(got, resized(decoded(data), product(steps), how))
    return result


def of_draft(data: bytes, k: int) -> Tensor:
    """float32 (192, gh, gw) of libjpeg-turbo's planes at k/8."""
    picture = Image.open(io.BytesIO(data))
    picture.draft("YCbCr", (picture.width * k // 8, picture.height * k // 8))
    if picture.mode != "YCbCr":  # 8/8 asks for no draft
        raise ValueError(f"Pillow decoded to {picture.mode}")
    planes = np.array(picture)
    return torch.cat([of_plane(planes[..., i]) for i in range(3)])


def of_plane(plane: NDArray[np.uint8]) -> Tensor:
    """(64, gh, gw): Y of a grey picture is the grey itself."""
    grey = torch.from_numpy(np.ascontiguousarray(plane))
    return block_dct(grey.expand(3, -1, -1).contiguous(), LUMA_CHANNELS)


def name(steps: tuple[int, ...]) -> str:
    return f"{steps[0]}/8" if len(steps) == 1 else str(steps)


def measure() -> tuple[Results, dict[str, float]]:
    """The tables, and the figures that the text names."""
    results = Results()
    named: dict[str, float] = {}
    pictures = [pixels for _, pixels in photographs()]
    files = {(s, q): [encoded(p, q, s) for p in pictures] for s in SUBSAMPLINGS for q in QUALITIES}
    for subsampling in SUBSAMPLINGS:
        for steps in SCALES:
            by = {q: compared(files[subsampling, q], steps, "bicubic") for q in QUALITIES}
            best = by[90]
            bilinear = compared(files[subsampling, 90], steps, "bilinear")
            box = compared(files[subsampling, 90], steps, "box") if steps < (8,) else None
            results.add(SCALED, _scaled_row(subsampling, steps, best, bilinear, box))
            results.add(
                BY_QUALITY,
                {"subsampling": subsampling, "scale": name(steps)}
                | {f"luma {q}": by[q].luma.rms for q in QUALITIES}
                | {f"chroma {q}": by[q].chroma.rms for q in QUALITIES},
            )
            if subsampling == "4:4:4":
                share = best.luma.rms / best.signal.rms
                for key, k in (("unscaled", 8), ("down", 4), ("up", 16)):
                    if steps == (k,):
                        named |= {key: best.luma.rms, f"{key}_share": share}
        for k in (8, 4, 2, 1) if subsampling == "4:4:4" else (4, 2, 1):
            results.add(DRAFT, _draft_row(files[subsampling, 90], subsampling, k))
    for k in range(1, 9):
        results.add(LUMA_ALONE, _luma_row({q: files["4:4:4", q] for q in QUALITIES}, k))
    for steps in PAIRS:
        pair = compared(files["4:4:4", 90], steps, "bicubic")
        upper = pair.upper.rms / pair.upper_signal.rms
        results.add(
            STEPS,
            {
                "steps": name(steps),
                "of 64": round(64 * product(steps)),
                "mean": pair.luma.mean,
                "RMS": pair.luma.rms,
                "max": pair.luma.largest,
                "upper": upper,
                "PSNR": pair.pixels.psnr,
                "chosen": name(nearest_scale(product(steps))),
            },
        )
        for key, which in (("first", (13, 4)), ("late", (4, 13))):
            if steps == which:
                named |= {key: pair.luma.rms, f"{key}_upper": upper}
    return results, named


def _scaled_row(
    subsampling: str,
    steps: tuple[int, ...],
    best: Compared,
    bilinear: Compared,
    box: Compared | None,
) -> Row:
    return {
        "subsampling": subsampling,
        "scale": name(steps),
        "signal": best.signal.rms,
        "mean": best.luma.mean,
        "RMS": best.luma.rms,
        "max": best.luma.largest,
        "bilinear": bilinear.luma.rms,
        "box": None if box is None else box.luma.rms,
        "chroma": best.chroma.rms,
        "PSNR": best.pixels.psnr,
        "PSNR bilinear": bilinear.pixels.psnr,
        "PSNR box": None if box is None else box.pixels.psnr,
    }


def _draft_row(files: list[bytes], subsampling: str, k: int) -> Row:
    luma, chroma, box = Sums(), Sums(), Sums()
    for data in files:
        want = of_draft(data, k)
        error = gather(read_coefficients(data), scale=k) - want
        luma.add(error[LUMA])
        chroma.add(error[CHROMA])
        box.add((block_dct(resized(decoded(data), k / 8, "box")) - want)[LUMA])
    return {
        "subsampling": subsampling,
        "scale": f"{k}/8",
        "luma": luma.rms,
        "max": luma.largest,
        "chroma": chroma.rms,
        "chroma max": chroma.largest,
        "box": box.rms,
    }


def _luma_row(files: dict[int, list[bytes]], k: int) -> Row:
    import simplejpeg

    sums = {quality: Sums() for quality in files}
    for quality, group in files.items():
        for data in group:
            c = read_coefficients(data)
            height, width = c.height * k // 8, c.width * k // 8
            grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=height, min_width=width)
            if grey.shape[:2] != (height, width):
                raise ValueError(f"{k}/8 of {c} was decoded to {grey.shape}")
            sums[quality].add(gather(c, LUMA_CHANNELS, scale=k) - of_plane(grey[..., 0]))
    largest = max(s.largest for s in sums.values())
    return {"scale": f"{k}/8"} | {f"luma {q}": s.rms for q, s in sums.items()} | {"max": largest}


def draw(path: Path) -> None:
    """A photograph at 3/8 and at 13/8, by coefficients and by pixels, and their difference."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pixels = dict(photographs())["astronaut.png"][:, :256, 128:384]
    data = encoded(pixels, 90, "4:2:0")
    figure, axes = pyplot.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
    for row, steps in zip(axes, ((3,), (13,)), strict=True):
        want = resized(decoded(data), product(steps), "bicubic")
        smooth = resized(decoded(data), product(steps), "bilinear")
        got = gather(read_coefficients(data), scale=(steps, steps))
        ours = block_idct(got, size=tuple(want.shape[1:]), dtype=torch.float32).clamp(0, 1)
        difference = (0.5 + 4 * (ours - want)).clamp(0, 1)
        titles = ("coefficients", "pixels, bicubic", "pixels, bilinear", "4 x (first - second)")
        for ax, picture, title in zip(row, (ours, want, smooth, difference), titles, strict=True):
            ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
            ax.set_title(f"{name(steps)}: {title}" if ax is row[0] else title, fontsize=11)
            ax.set_axis_off()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Writes the tables and, if asked, the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "benchmarks/results/jpeg_scaling.md"
    )
    parser.add_argument("--picture", action="store_true", help="docs/jpeg_scaling.png too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, named = measure()
    facts = machine(1, "kept", ("numpy", "pillow", "scikit-image", "simplejpeg"))
    del facts["memory"], facts["threads"], facts["cores"]
    facts["libjpeg"] = f"Pillow's libjpeg-turbo {features.version('libjpeg_turbo')}"
    names = ", ".join(name.partition(".")[0] for name, _ in photographs())
    about = ABOUT.format(names=names, meaning=MEANING.format(**named).rstrip())
    text = f"# Scaling in the coefficient domain\n\n{about}\n{results.markdown(facts)}\n"
    options.output.write_text(text, encoding="utf-8")
    print(text)
    if options.picture:
        draw(ROOT / "docs/jpeg_scaling.png")


if __name__ == "__main__":
    main()
