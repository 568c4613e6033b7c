"""More than 2^31 elements, on either side of each operator: offsets are 64-bit integers.

Pictures differ in their last rows only, and the memory is that of one operand: 4.5 GB at most.
"""

from __future__ import annotations

import pytest
import torch
from by_dtype import Operators
from support import pictures

import freqops.ops  # noqa: F401  loads the operators

pytestmark = pytest.mark.large

OPS = Operators(torch.ops.freqops)
F16 = torch.float16
ALL = list(range(192))


def test_large_pictures() -> None:
    """3 x 27008 x 27008 bytes; a crop of the last rows has the same coefficients."""
    side = 27008
    images = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    assert images.numel() > 2**31
    images[..., -64:, -64:] = pictures((1, 3, 64, 64))
    block_dct = OPS.block_dct
    out = block_dct(images, [0, 70, 130], None, None, "4:2:0", "none", torch.float32)
    crop = images[..., -64:, -64:].clone()
    want = block_dct(crop, [0, 70, 130], None, None, "4:2:0", "none", torch.float32)
    assert torch.equal(out[..., -8:, -8:], want)


def test_large_coefficients() -> None:
    """3600 copies of one picture, which share its memory, have 2.17e9 coefficients."""
    image = pictures((1, 3, 448, 448))
    block_dct, block_idct = OPS.block_dct, OPS.block_idct
    want = block_dct(image, ALL, None, None, "4:4:4", "none", F16)
    out = block_dct(image.expand(3600, -1, -1, -1), ALL, None, None, "4:4:4", "none", F16)
    assert out.numel() > 2**31
    assert torch.equal(out[0], want[0])
    assert torch.equal(out[-1], want[0])

    back = block_idct(out[-8:], ALL, None, None, 448, 448, torch.uint8)  # read beyond 2^31
    assert torch.equal(back, back[:1].expand_as(back))
    assert (back[0].int() - image[0].int()).abs().max() <= 1


def test_large_gradients() -> None:
    """Gradients of 3600 pictures: 2.17e9 elements."""
    grad = torch.randn(1, 6, 56, 56, dtype=F16)
    channels = [0, 1, 8, 64, 128, 191]
    backward = OPS.block_dct_backward
    for chroma in ["4:4:4", "dctnet"]:
        want = backward(grad, channels, None, chroma, 448, 448, F16)
        out = backward(grad.expand(3600, -1, -1, -1), channels, None, chroma, 448, 448, F16)
        assert out.numel() > 2**31
        assert torch.equal(out[0], want[0])
        assert torch.equal(out[-1], want[0])

    adjoint = OPS.block_idct_backward  # reads beyond 2^31
    assert torch.equal(adjoint(out, channels, None, F16)[-1], adjoint(want, channels, None, F16)[0])


def test_large_features() -> None:
    """Pictures that are alike, 2.17e9 elements of half: 4.3 GB of features, and as much for each
    result."""
    one = torch.randn(1, 192, 56, 56).half()
    logits = torch.randn(1, 192, 2)
    for form in (torch.contiguous_format, torch.channels_last):
        few = one.contiguous(memory_format=form)
        want = OPS.gumbel_gate(few, logits, None, None, False)[0]
        want_x, want_logits = OPS.gumbel_gate_backward(
            few, None, few, logits, None, None, False, True
        )
        x = few.expand(3600, -1, -1, -1).contiguous(memory_format=form)
        all_logits = logits.expand(3600, -1, -1)
        assert x.numel() > 2**31
        y = OPS.gumbel_gate(x, all_logits, None, None, False)[0]
        assert torch.equal(y[-1], want[0])
        del y
        grad_x, grad_logits = OPS.gumbel_gate_backward(
            x, None, x, all_logits, None, None, False, True
        )
        assert torch.equal(grad_x[-1], want_x[0])
        assert torch.equal(grad_logits[-1], want_logits[0])
