"""Seeds: everything that is drawn is a function of the run's seed and of what it is drawn for."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["drawing", "seed_of"]


def seed_of(*parts: int | str) -> int:
    """A seed in [0, 2^63) for the thing that the parts name.

    The same for the same parts on every machine; unrelated for any others.

    Example:
        >>> seed_of(0, "picture", 3, 17) == seed_of(0, "picture", 3, 17) != seed_of(0, "picture", 3)
        True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextlib.contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Within the block the generators of torch (CPU), NumPy and Python begin at this seed.

    Afterwards they are where they were.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
