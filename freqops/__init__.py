"""Learning in the frequency domain: fused operators from RGB pictures to DCT channels, for PyTorch.

    freqops.block_dct       RGB -> YCbCr -> 8x8 DCT -> chosen channels -> normalised, in one pass
    freqops.block_dct_mean  the mean of each channel, from the pixels
    freqops.block_idct      the inverse
    freqops.gumbel_gate     features -> features with the closed channels set to zero, and the gate
    freqops.jpeg            JPEG files -> their coefficients, without decoding
    freqops.jpeg_gather     coefficients of JPEG files -> chosen channels on one grid, normalised

Importing loads the compiled operators into torch.ops.freqops and nothing else.
"""

from freqops import autograd, data, files, jpeg, models, nn, plots, reference
from freqops._noise import logistic_noise
from freqops.channels import ChannelSelection
from freqops.gate_statistics import GateStatistics
from freqops.ops import block_dct, block_dct_mean, block_idct, gumbel_gate, jpeg_gather
from freqops.statistics import ChannelStatistics

__all__ = [
    "ChannelSelection",
    "ChannelStatistics",
    "GateStatistics",
    "__version__",
    "autograd",
    "block_dct",
    "block_dct_mean",
    "block_idct",
    "data",
    "files",
    "gumbel_gate",
    "jpeg",
    "jpeg_gather",
    "logistic_noise",
    "models",
    "nn",
    "plots",
    "reference",
]

__version__ = "0.1.0"
