"""The public functions; importing them loads the compiled operators and completes them.

One file per public function holds it with its operator's shapes, derivatives and batching rule; the
operators of block_dct have files beside it.
"""

from freqops import _fallback  # noqa: F401  # kernels for the devices that have none of ours
from freqops._block_dct import block_dct
from freqops._block_dct_mean import block_dct_mean
from freqops._block_idct import block_idct
from freqops._gumbel_gate import gumbel_gate
from freqops._jpeg_gather import jpeg_gather

__all__ = ["block_dct", "block_dct_mean", "block_idct", "gumbel_gate", "jpeg_gather"]
