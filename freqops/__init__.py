"""Learning in the frequency domain: fused operators from RGB pictures to DCT channels, for PyTorch."""

__version__ = "0.1.0"
