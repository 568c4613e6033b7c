"""What only a GPU can show: streams, devices, repeatable bits. test_operators.py has the values."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from support import FLOATING, cuda_graph_of, generator, pictures, statistics
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


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATING], ids=str)
@pytest.mark.parametrize("size", [(128, 256), (112, 232), (121, 248), (8, 8), (125, 250)])
def test_a_cropped_inverse_is_part_of_the_whole(size: tuple[int, int], dtype: torch.dtype) -> None:
    """Blocks and pixels beyond the size are neither written nor in the way of others."""
    coefficients = 20 * torch.randn(4, 192, 16, 32, generator=generator()).cuda()
    whole = block_idct(coefficients, dtype=dtype)
    got = block_idct(coefficients, size=size, dtype=dtype)
    assert torch.equal(got, whole[..., : size[0], : size[1]])


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


# --- Every operator ------------------------------------------------------------------------------

Step = Callable[..., tuple[Tensor, ...]]

SOME = (0, 70, 9, 191, 64, 5)
MEAN, STD = [0.5 * i for i in range(6)], [1 + 0.25 * i for i in range(6)]


def operators(device: str = "cuda") -> dict[str, tuple[list[Tensor], Step]]:
    """By name: inputs, and one call of the operator on them. Later builds have more of them."""
    namespace = torch.ops.freqops
    mean, std = (torch.tensor(values, device=device) for values in (MEAN, STD))
    pixels = pictures((4, 3, 130, 202)).to(device)
    values = torch.randn(4, 6, 17, 26, generator=generator()).to(device)
    x, logits, noise = gate_arguments(device)
    tau = torch.tensor(0.7, device=device)
    gate = (noise > 0).float()

    def transform(images: Tensor, chroma: str = "4:4:4", last: bool = False) -> tuple[Tensor]:
        return (
            namespace.block_dct(images, SOME, mean, std, chroma, "none", "float32", last, False),
        )

    def gradient(grad: Tensor, chroma: str = "4:4:4") -> tuple[Tensor]:
        return (namespace.block_dct_backward(grad, SOME, std, chroma, 130, 202, "float32"),)

    def inverse(coefficients: Tensor, dtype: str) -> tuple[Tensor]:
        return (namespace.block_idct(coefficients, SOME, mean, std, 130, 202, dtype, False),)

    def gated(x: Tensor, logits: Tensor, noise: Tensor, tau: Tensor) -> tuple[Tensor, ...]:
        return namespace.gumbel_gate(x, logits, noise, tau, True)

    def gate_gradient(x: Tensor, grad: Tensor, logits: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        return namespace.gumbel_gate_backward(grad, None, x, logits, noise, tau, True, True)

    # Rows of 16 bytes and whole blocks of all channels: wide loads and stores, and a tile above the
    # 48 KB of shared memory that a kernel has without asking.
    every = tuple(range(192))
    means, stds = (t.to(device) for t in statistics(192))
    rows = pictures((4, 3, 128, 256)).to(device)
    rows_last = rows.contiguous(memory_format=torch.channels_last)
    blocks = torch.randn(4, 192, 16, 32, generator=generator()).to(device)

    def whole(images: Tensor, last: bool = False) -> tuple[Tensor]:
        kind = ("4:4:4", "none", "float32", last, False)
        return (namespace.block_dct(images, every, means, stds, *kind),)

    def whole_inverse(coefficients: Tensor, h: int, w: int, dtype: str) -> tuple[Tensor]:
        return (namespace.block_idct(coefficients, every, means, stds, h, w, dtype, False),)

    last = x.contiguous(memory_format=torch.channels_last)
    found: dict[str, tuple[list[Tensor], Step]] = {
        "block_dct": ([pixels], transform),
        "block_dct of floats": ([pixels / 255], transform),
        "block_dct 4:2:0": ([pixels], lambda x: transform(x, "4:2:0")),
        "block_dct dctnet": ([pixels], lambda x: transform(x, "dctnet")),
        "block_dct channels_last": ([pixels], lambda x: transform(x, last=True)),
        "block_dct_backward": ([values], gradient),
        "block_dct_backward 4:2:0": ([values], lambda x: gradient(x, "4:2:0")),
        "block_dct_backward dctnet": ([values], lambda x: gradient(x, "dctnet")),
        "block_idct to bytes": ([values], lambda x: inverse(x, "uint8")),
        "block_idct": ([values], lambda x: inverse(x, "float32")),
        "block_idct_backward": (
            [pixels / 255],
            lambda x: (namespace.block_idct_backward(x, SOME, std, "float32"),),
        ),
        "block_dct of wide rows": ([rows], whole),
        "block_dct of wide rows to channels_last": ([rows], lambda x: whole(x, last=True)),
        "block_dct of wide channels_last": ([rows_last], whole),
        "block_dct of wide channels_last to it": ([rows_last], lambda x: whole(x, last=True)),
        "block_dct_backward to wide rows": (
            [blocks],
            lambda x: (namespace.block_dct_backward(x, every, stds, "4:4:4", 128, 256, "float32"),),
        ),
        "block_idct to wide rows": ([blocks], lambda x: whole_inverse(x, 128, 256, "float32")),
        "block_idct to wide bytes": ([blocks], lambda x: whole_inverse(x, 128, 256, "uint8")),
        "block_idct cropped by blocks": ([blocks], lambda x: whole_inverse(x, 112, 232, "float32")),
        "block_idct cropped to bytes": ([blocks], lambda x: whole_inverse(x, 121, 248, "uint8")),
        "gumbel_gate": ([x, logits, noise, tau], gated),
        "gumbel_gate channels_last": ([last, logits, noise, tau], gated),
        "gumbel_gate_backward": ([x, x.flip(0), logits, noise], gate_gradient),
        "gumbel_gate_backward channels_last": ([last, last.flip(0), logits, noise], gate_gradient),
    }
    if hasattr(namespace, "block_dct_mean"):
        found["block_dct_mean"] = (
            [pixels],
            lambda x: (namespace.block_dct_mean(x, SOME, mean, std, "4:4:4"),),
        )
    if hasattr(namespace, "block_dct_gated"):
        open_or_not = gate[:, : len(SOME)].contiguous()
        found["block_dct_gated"] = (
            [pixels, open_or_not],
            lambda x, g: (
                namespace.block_dct_gated(x, g, SOME, mean, std, "4:4:4", "float32", False),
            ),
        )
    if hasattr(namespace, "jpeg_gather"):
        found |= gathers(device, mean, std)
    return found


def gathers(device: str, mean: Tensor, std: Tensor) -> dict[str, tuple[list[Tensor], Step]]:
    """jpeg_gather at full size, which is one launch, and scaled, which takes maps to the device."""
    draw = generator()
    y, cb, cr = (
        torch.randint(-60, 61, shape, dtype=torch.int16, generator=draw).to(device)
        for shape in ((4, 17, 70, 64), (4, 9, 35, 64), (4, 9, 35, 64))
    )
    tables = torch.randint(1, 21, (4, 3, 64), dtype=torch.int32, generator=draw).to(device)
    inputs = [y, cb, cr, tables, mean, std]

    def gather(*given: Tensor, scale: int = 8, last: bool = False) -> tuple[Tensor]:
        *planes, tables, mean, std = given
        grid = [(size * scale + 7) // 8 for size in planes[0].shape[1:3]]
        statistics = (mean, std, "4:2:0", [scale], [scale])
        part = (0, 0, *grid, True, "float32", last)
        return (torch.ops.freqops.jpeg_gather(*planes, tables, SOME, *statistics, *part),)

    return {
        "jpeg_gather": (inputs, gather),
        "jpeg_gather to channels_last": (inputs, functools.partial(gather, last=True)),
        "jpeg_gather scaled up": (inputs, functools.partial(gather, scale=11)),
        "jpeg_gather scaled down": (inputs, functools.partial(gather, scale=3, last=True)),
    }


@pytest.fixture(params=["registers", "product"])
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kernel of block_dct for bytes."""
    if request.param == "product":
        if not hasattr(torch.ops.freqops, "set_dct_kernel"):
            pytest.skip("the product is not in this build")
        torch.ops.freqops.set_dct_kernel("product")
    yield request.param
    if request.param == "product":
        torch.ops.freqops.set_dct_kernel("registers")


NAMES = list(operators("meta"))


def others(inputs: list[Tensor], seed: int) -> list[Tensor]:
    """The same numbers in another order, in the same layout."""
    order = torch.Generator().manual_seed(seed)

    def shuffled(t: Tensor) -> Tensor:
        places = torch.randperm(t.numel(), generator=order).to(t.device)
        return torch.empty_like(t).copy_(t.flatten()[places].view(t.shape))

    return [shuffled(t) for t in inputs]


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_replays_with_other_inputs(name: str, kernel: str) -> None:
    inputs, step = operators()[name]
    graph, results = cuda_graph_of(lambda: step(*inputs))
    before = None
    for seed in range(3):
        for held, fresh in zip(inputs, others(inputs, seed), strict=True):
            held.copy_(fresh)
        for result in results:
            result.fill_(77)
        graph.replay()
        assert all(map(torch.equal, results, step(*inputs)))
        assert before is None or not torch.equal(results[0], before)
        before = results[0].clone()


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("name", NAMES)
def test_waits_for_nothing_on_a_side_stream(name: str, kernel: str) -> None:
    """The inputs arrive late on a side stream, and nothing between there and the call waits."""
    inputs, step = operators()[name]
    want = step(*inputs)
    late, stream = [torch.zeros_like(t) for t in inputs], torch.cuda.Stream()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            for held, given in zip(late, inputs, strict=True):
                held.copy_(given)
            got = step(*late)
        running = not stream.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert running, "the call waited for the GPU"
    stream.synchronize()
    assert all(map(torch.equal, got, want))


def test_threads_with_streams_of_their_own(kernel: str) -> None:
    """Two Python threads call all operators at once, each on its own stream and inputs."""
    every = operators()
    given = [{name: others(t, seed) for name, (t, _) in every.items()} for seed in (1, 2)]
    want = [{name: every[name][1](*t) for name, t in mine.items()} for mine in given]
    torch.cuda.synchronize()
    start = threading.Barrier(2)
    wrong: list[str] = []

    def work(which: int) -> None:
        try:
            stream = torch.cuda.Stream()
            start.wait(timeout=60)
            with torch.cuda.stream(stream):
                for _ in range(20):
                    for name, mine in given[which].items():
                        got = every[name][1](*mine)
                        if not all(map(torch.equal, got, want[which][name])):
                            wrong.append(f"{name}, thread {which}")
        except Exception as error:
            wrong.append(f"thread {which}: {error!r}")

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("name", NAMES)
def test_repeats_bit_for_bit(name: str, kernel: str) -> None:
    inputs, step = operators()[name]
    first = step(*inputs)
    for _ in range(5):
        assert all(map(torch.equal, step(*inputs), first))
