"""Learning in the frequency domain: fused operators from RGB pictures to DCT channels, for PyTorch.

    freqops.block_dct     RGB -> YCbCr -> 8x8 DCT -> chosen channels -> normalised, in one pass
    freqops.block_idct    the inverse

Importing loads the compiled operators into torch.ops.freqops and nothing else.
"""

from freqops import autograd, data, files, nn, reference
from freqops.channels import ChannelSelection
from freqops.ops import block_dct, block_idct
from freqops.statistics import ChannelStatistics

__all__ = [
    "ChannelSelection",
    "ChannelStatistics",
    "__version__",
    "autograd",
    "block_dct",
    "block_idct",
    "data",
    "files",
    "nn",
    "reference",
]

__version__ = "0.1.0"
