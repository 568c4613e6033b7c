"""What only a GPU can show: streams, devices, repeatable bits. test_operators.py has the values."""

from __future__ import annotations

import pytest
import torch
from support import pictures
from torch import Tensor

from freqops import block_dct, block_idct, gumbel_gate, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]


def test_runs_on_the_current_stream_without_waiting() -> None:
    """The pictures arrive late on a side stream: a kernel on another stream would read zeros."""
    images = pictures((4, 3, 256, 256)).cuda()
    want = block_dct(images)
    late, stream = torch.zeros_like(images), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        late.copy_(images)
        got = block_dct(late)
    assert not stream.query(), "the call waited for the GPU"
    stream.synchronize()
    assert torch.equal(got, want)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second GPU here")
def test_runs_on_the_device_of_its_tensors() -> None:
    images = pictures((2, 3, 40, 48))
    with torch.cuda.device(0):
        got = block_dct(images.to("cuda:1"))
    assert got.device == torch.device("cuda:1")
    assert torch.equal(got.cpu(), block_dct(images.to("cuda:0")).cpu())


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0", "dctnet"])
def test_gradients_repeat_bit_for_bit(chroma: str) -> None:
    images = pictures((2, 3, 250, 333), torch.float32).cuda().requires_grad_()

    def gradient() -> Tensor:
        out = block_dct(images, [0, 70, 0, 130], chroma=chroma)
        return torch.autograd.grad(out.square().sum(), images)[0]

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(5))


def test_pictures_come_back() -> None:
    images = pictures((2, 3, 250, 333)).cuda()
    assert torch.equal(block_idct(block_dct(images), size=(250, 333)), images)


def gate_arguments(device: str = "cuda") -> tuple[Tensor, Tensor, Tensor]:
    """x, logits, noise."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 24, 128, 130), (4, 24, 2), (4, 24))
    drawn = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    return drawn[0], drawn[1], drawn[2]


def gate_step(x: Tensor, logits: Tensor, noise: Tensor) -> list[Tensor]:
    """y, the gate, and the gradients of x and logits."""
    x, logits = x.detach().requires_grad_(), logits.detach().requires_grad_()
    y, gate = gumbel_gate(x, logits, noise, tau=torch.tensor(0.7, device=x.device))
    grads = torch.autograd.grad((y * y.detach()).sum() + gate.sum(), (x, logits))
    return [y.detach(), gate.detach(), *grads]


def test_the_gate_runs_on_the_current_stream_without_waiting() -> None:
    x, logits, noise = gate_arguments()
    want = gate_step(x, logits, noise)
    late, stream = torch.zeros_like(x), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        late.copy_(x)
        got = gate_step(late, logits, noise)
    assert not stream.query(), "the call waited for the GPU"
    stream.synchronize()
    assert all(map(torch.equal, got, want))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second GPU here")
def test_the_gate_runs_on_the_device_of_its_tensors() -> None:
    with torch.cuda.device(0):
        got = gate_step(*gate_arguments("cuda:1"))
    assert all(t.device == torch.device("cuda:1") for t in got)
    want = gate_step(*gate_arguments("cuda:0"))
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gates_repeat_bit_for_bit(form: torch.memory_format) -> None:
    x, logits, noise = gate_arguments()
    x = x.contiguous(memory_format=form)
    first = gate_step(x, logits, noise)
    for _ in range(5):
        assert all(map(torch.equal, gate_step(x, logits, noise), first))
    want = reference.gumbel_gate(x.double(), logits.double(), noise)
    torch.testing.assert_close(first[0].double(), want[0])
