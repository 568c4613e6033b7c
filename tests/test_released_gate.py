"""ChannelGate.load_released: weights under the names of the code released with the paper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from freqops.nn import ChannelGate


class Released(nn.Module):
    """The layers of the gate in the code released with the paper, under their names there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inp_gate = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.inp_gate_l = nn.Conv2d(channels, 2 * channels, 1, groups=channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features and the logits, without noise."""
        logits = self.inp_gate_l(self.inp_gate(F.adaptive_avg_pool2d(x, 1)))
        logits = logits.view(x.shape[0], x.shape[1], 2)
        return x * logits.argmax(-1)[..., None, None], logits


def released(channels: int = 24) -> Released:
    model = Released(channels)
    with torch.no_grad():
        for values in model.parameters():
            values.normal_(0, 0.7)
    model.inp_gate[1].running_mean.normal_()
    model.inp_gate[1].running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize("prefix", ["", "module.", "module.gate.", "backbone.inp."])
@pytest.mark.parametrize("kind", ["bernoulli", "double"])
def test_load_released(prefix: str, kind: str) -> None:
    theirs = released()
    state = {prefix + key: values for key, values in theirs.state_dict().items()}
    state |= {"fc.weight": torch.zeros(3), "module.conv1_inp_gate.0.weight": torch.zeros(2)}
    module = ChannelGate(24, kind).eval()
    before = {key: values.clone() for key, values in module.state_dict().items()}
    module.load_released(state)
    x = torch.randn(8, 24, 5, 6, generator=torch.Generator().manual_seed(0))
    y, logits = theirs(x)
    assert 0.2 < (y != 0).float().mean() < 0.8
    got = module.tensors(x)
    assert torch.equal(got["gate"][3], logits)
    if kind == "bernoulli":
        assert torch.equal(module(x)[0], y)
    else:
        assert torch.equal(module.fc1.weight, before["fc1.weight"])
    theirs.train(), module.train()
    assert torch.equal(module.tensors(x)["gate"][3], theirs(x)[1])
    assert torch.equal(module.norm.running_var, theirs.inp_gate[1].running_var)


def test_load_released_of_an_old_torch() -> None:
    state = released().state_dict()
    del state["inp_gate.1.num_batches_tracked"]
    ChannelGate(24).load_released(state)


def test_load_released_converts() -> None:
    module = ChannelGate(24, dtype=torch.float64)
    module.load_released(released().state_dict())
    assert module.squeeze.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {}, "must hold one gate, inp_gate.0, inp_gate.1, inp_gate_l, got none of"),
        (lambda s: {"state_dict": s}, r'got none of their weights \(try its entry "state_dict"\)'),
        (
            lambda s: s | {"module." + key: values for key, values in s.items()},
            r"got several, behind \['', 'module.'\]",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "inp_gate_l" not in k},
            "the whole gate, got none of inp_gate_l.weight, inp_gate_l.bias$",
        ),
        (
            lambda s: {"module." + k: v for k, v in s.items() if k != "inp_gate.1.running_var"},
            "got none of module.inp_gate.1.running_var$",
        ),
        (
            lambda s: s | {"inp_gate_l.bias": torch.zeros(24)},
            r"inp_gate_l.bias must be \[48\], got \[24\]",
        ),
        (
            lambda s: released(6).state_dict(),
            r"inp_gate.0.weight must be \[24, 24, 1, 1\], got \[6, 6, 1, 1\]",
        ),
    ],
)
def test_load_released_refuses(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    module = ChannelGate(24)
    before = {key: values.clone() for key, values in module.state_dict().items()}
    with pytest.raises(ValueError, match=f"^state_dict.*{message}"):
        module.load_released(change(dict(released().state_dict())))
    for key, values in module.state_dict().items():
        assert torch.equal(values, before[key]), "nothing is loaded"
    with pytest.raises(ValueError, match='kind must be "bernoulli" or "double", got "se"'):
        ChannelGate(24, "se").load_released(released().state_dict())


def test_what_is_no_state_dict_is_named() -> None:
    message = r"^load_released: state_dict must be a mapping, got 'x\.pth'"
    with pytest.raises(TypeError, match=message):
        ChannelGate(24).load_released("x.pth")
