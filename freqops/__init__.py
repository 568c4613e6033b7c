"""Learning in the frequency domain: fused operators from RGB pictures to DCT channels, for PyTorch."""
