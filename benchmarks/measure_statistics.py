"""Measures the statistics that freqops ships: python benchmarks/measure_statistics.py

Writes freqops/photographs.json from the colour photographs inside scikit-image's wheel, in the
448 x 448 crops on which the paper feeds ResNet-50. Left out of the wheel's pictures: grey ones,
drawings, the second half of the stereo pair, and what no camera took in daylight (a microscope, a
telescope and an ophthalmoscope). Needs torchvision, scikit-image and Pillow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import skimage
import torch
from torch import Tensor

import freqops
from freqops.channels import zigzag_rank
from freqops.data import preprocess, read_image
from freqops.statistics import ChannelStatistics

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def photographs() -> Iterator[tuple[str, Tensor]]:
    """File name and pixels, uint8 (3, H, W), of each photograph."""
    folder = Path(skimage.__file__).parent / "data"
    for name in PHOTOGRAPHS:
        yield name, read_image(folder / name)


def measure() -> ChannelStatistics:
    """The statistics of the crops."""
    crop = preprocess("resnet50")
    return ChannelStatistics.from_images(crop(pixels) for _, pixels in photographs())


def main() -> None:
    """Writes the file, and prints the numbers that a reader can judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = Path(freqops.__file__).parent / "photographs.json"
    parser.add_argument("-o", "--output", type=Path, default=shipped)
    output: Path = parser.parse_args().output

    statistics = measure()
    statistics.save(output)
    content = json.loads(output.read_text(encoding="utf-8"))
    content["about"] = {
        "made by": "benchmarks/measure_statistics.py",
        "pictures from": f"scikit-image {skimage.__version__}",
        "preprocessing": 'freqops.data.preprocess("resnet50"): short side 512, crop 448 x 448',
        "height x width before it": {
            name: f"{pixels.shape[1]} x {pixels.shape[2]}" for name, pixels in photographs()
        },
    }
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    ranks = torch.tensor([zigzag_rank(channel) for channel in range(192)])
    print(f"{output}: {statistics}")
    print("zigzag ranks   std of Y   of Cb   of Cr   (mean over the ranks)")
    for low, high in ((0, 0), (1, 2), (3, 5), (6, 14), (15, 35), (36, 63)):
        chosen = ((ranks >= low) & (ranks <= high)).view(3, 64)
        y, cb, cr = (
            float(s[c].mean()) for s, c in zip(statistics.std.view(3, 64), chosen, strict=True)
        )
        print(f"{low:5} to {high:2}    {y:9.2f} {cb:8.2f} {cr:7.2f}")


if __name__ == "__main__":
    main()
