"""DCT libraries as rivals of ``block_dct``: each does the 8x8 DCT, PyTorch what is around it.

Blocks are (N, 3, gh, gw, 8, 8). Every library transforms all 64 frequencies of a block; the chosen
ones are then gathered and normalised.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable

import torch
from peers import Rival, Transform, windows
from torch import Tensor

from freqops import reference
from freqops.channels import BLOCK, FREQUENCIES


@dataclasses.dataclass(frozen=True)
class Library:
    """Where the DCT comes from.

    Args:
        module: what is imported.
        package: what is installed.
        make: the transform by this library. It imports the library.
        compiles: whether it computes on tensors, so that torch.compile can read it.
        exact: whether its colours are those of JFIF.
    """

    module: str
    package: str
    make: Callable[[Transform], Rival]
    compiles: bool
    exact: bool = True

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


def gathered(transform: Transform) -> Callable[[Tensor], Tensor]:
    """From coefficients (N, 3, gh, gw, 8, 8) to the normalised channels (N, C, gh, gw)."""
    indices = torch.tensor(transform.channels.indices)
    components, frequencies = indices // FREQUENCIES, indices % FREQUENCIES
    factor = (1 / transform.std).view(-1, 1, 1)
    offset = -(transform.mean / transform.std).view(-1, 1, 1)

    def gather(blocks: Tensor) -> Tensor:
        channels = blocks.flatten(4).permute(0, 1, 4, 2, 3)[:, components, frequencies]
        return torch.addcmul(offset, channels, factor)

    return gather


def of_blocks(transform: Transform, dct: Callable[[Tensor], Tensor]) -> Rival:
    """Colours and level shift in PyTorch, then ``dct`` of blocks (N, 3, gh, gw, 8, 8)."""
    colours = torch.tensor(reference.RGB_TO_YCBCR) * (255 / transform.white)
    shift = torch.tensor([reference.LEVEL_SHIFT, 0.0, 0.0]).view(3, 1, 1)
    gather = gathered(transform)

    def by_blocks(images: Tensor) -> Tensor:
        planes = torch.einsum("kj,njyx->nkyx", colours, images.float()) - shift
        return gather(dct(windows(planes, BLOCK).permute(0, 1, 2, 4, 3, 5).contiguous()))

    return by_blocks


def kornia(transform: Transform) -> Rival:
    """The parts of its differentiable JPEG encoder, up to the DCT."""
    from kornia.color import rgb_to_ycbcr
    from kornia.enhance.jpeg import _dct_8x8, _patchify_8x8

    gather = gathered(transform)

    def jpeg(images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        planes = 255 * rgb_to_ycbcr(images.float() / transform.white)
        blocks = _dct_8x8(_patchify_8x8(planes.flatten(0, 1)))
        return gather(blocks.view(n, 3, height // BLOCK, width // BLOCK, BLOCK, BLOCK))

    return jpeg


def torch_dct(transform: Transform) -> Rival:
    """Two one-dimensional DCTs, each by a complex FFT."""
    from torch_dct import dct_2d

    return of_blocks(transform, lambda blocks: dct_2d(blocks, norm="ortho"))


def scipy(transform: Transform) -> Rival:
    """pocketfft over the last two axes, in place."""
    from scipy.fft import dctn

    def dct(blocks: Tensor) -> Tensor:
        options = {"norm": "ortho", "overwrite_x": True, "workers": torch.get_num_threads()}
        return torch.from_numpy(dctn(blocks.numpy(), axes=(4, 5), **options))

    return of_blocks(transform, dct)


def cv2(transform: Transform) -> Rival:
    """One call a block: ``cv2.dct`` takes one matrix at a time."""
    from cv2 import dct

    def each(blocks: Tensor) -> Tensor:
        for block in blocks.view(-1, BLOCK, BLOCK).numpy():
            dct(block, block)
        return blocks

    return of_blocks(transform, each)


LIBRARIES = {
    "kornia": Library("kornia", "kornia", kornia, compiles=True, exact=False),
    "torch-dct": Library("torch_dct", "torch-dct", torch_dct, compiles=True),
    "scipy.fft.dctn": Library("scipy", "scipy", scipy, compiles=False),
    "cv2.dct": Library("cv2", "opencv-python-headless", cv2, compiles=False),
}
