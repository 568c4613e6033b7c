"""The autograd.Function classes of the operators, which also are their kernels for Autograd."""

from freqops._block_dct_operator import BlockDCT
from freqops._block_idct import BlockIDCT
from freqops._gumbel_gate import GumbelGate
from freqops._jpeg_gather import JPEGGather

__all__ = ["BlockDCT", "BlockIDCT", "GumbelGate", "JPEGGather"]
