import numpy as np
from numpy.typing import NDArray

LIBJPEG_TURBO: str
MAX_SCANS: int

class Damaged(ValueError): ...
class Unsupported(ValueError): ...

def read(
    source: memoryview, dequantize: bool, tolerant: bool, max_pixels: int
) -> tuple[list[NDArray[np.int16]], NDArray[np.int32], str, int, int, int, bool, str]:
    """Planes (blocks_y, blocks_x, 64), tables (components, 64), subsampling, height, width,
    orientation, progressive, damage. max_pixels 0 means no limit."""
