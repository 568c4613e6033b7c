"""BatchNorm over the pictures of all processes, on the CPU as well: torch's refuses its tensors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from freqops._arguments import accumulate, describe
from freqops.models._layers import replace

__all__ = ["SynchronizedBatchNorm1d", "SynchronizedBatchNorm2d", "synchronize", "unsynchronize"]


def synchronize(network: nn.Module) -> nn.Module:
    """Makes the BatchNorm layers of a network normalise by the pictures of all processes.

    In training, with torch.distributed set up, mean and variance are those of the whole batch, of
    which each process holds a part, and so are the running statistics; gradients are those of the
    whole batch. The parts may be of different sizes, and empty. In evaluation, and in a single
    process, nothing changes. Parameters, buffers and the keys of the state dict are the same ones.

    Args:
        network: changed in place. Where its parameters are on CUDA, the layers become torch's
            SyncBatchNorm; else SynchronizedBatchNorm1d and SynchronizedBatchNorm2d, which
            torch.compile leaves to run as they are.

    Returns:
        The network; another layer, where it is itself a BatchNorm on CUDA.

    Raises:
        TypeError: network is no module.

    Warns:
        UserWarning: there are other kinds of BatchNorm, as timm's with an activation. They are left
            as they are.
    """
    global _apart
    _check("synchronize", network)
    _apart = torch.compiler.disable(_trained)  # type: ignore[no-untyped-call]
    on_cuda = any(parameter.is_cuda for parameter in network.parameters())
    left = []
    for name, layer in list(network.named_modules()):
        if type(layer) in _OURS:
            if on_cuda:
                network = _put(network, layer, _torchs(layer))
            else:
                layer.__class__ = _OURS[type(layer)]
        elif isinstance(layer, _BatchNorm) and type(layer) not in _KNOWN:
            left.append(f"{name} is {describe(layer)}")
    if left:
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        warnings.warn(
            f"synchronize: layers that are neither nn.BatchNorm1d nor nn.BatchNorm2d normalise by "
            f"the pictures of their own process: {left[0]}{more}",
            UserWarning,
            stacklevel=2,
        )
    return network


def unsynchronize(network: nn.Module) -> nn.Module:
    """The same network with nn.BatchNorm layers again: as ``freqops.models.save`` takes it.

    Args:
        network: left as it is. A SyncBatchNorm that ``synchronize`` did not make is taken for an
            nn.BatchNorm2d.

    Returns:
        Other modules, with the very parameters and buffers of network.

    Raises:
        TypeError: network is no module.
    """
    _check("unsynchronize", network)
    tensors = [*network.parameters(), *network.buffers()]
    result: nn.Module = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    plain = {ours: kind for kind, ours in _OURS.items()}
    for layer in list(result.modules()):
        if type(layer) in plain:
            layer.__class__ = plain[type(layer)]
        elif type(layer) is nn.SyncBatchNorm:
            result = _put(result, layer, _ordinary(layer))
    return result


class SynchronizedBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d over the batch of all processes, in training."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not _several():
            return super().forward(input)
        self._check_input_dim(input)
        return _apart(self, input)


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d over the batch of all processes, in training."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not _several():
            return super().forward(input)
        self._check_input_dim(input)
        return _apart(self, input)


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SynchronizedBatchNorm1d,
    nn.BatchNorm2d: SynchronizedBatchNorm2d,
}
_KNOWN = (*_OURS.values(), nn.SyncBatchNorm)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _trained(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What a layer in training makes of this process's part of a batch, (n, C, ...)."""
    y, mean, variance, count = _Normalise.apply(x, layer.weight, layer.bias, layer.eps)
    out: Tensor = y
    if layer.running_mean is None or layer.running_var is None or not layer.track_running_stats:
        return out
    share = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if share is None:  # the mean of all batches
            share = 1 / int(layer.num_batches_tracked)
    with torch.no_grad():
        unbiased = variance * (count / (count - 1))
        for running, seen in ((layer.running_mean, mean), (layer.running_var, unbiased)):
            running.copy_(running.double() * (1 - (share or 0.0)) + seen * (share or 0.0))
    return out


# What a compiler leaves alone, from ``synchronize`` on: its decorator imports the compiler, which
# takes as long as all else together.
_apart: Callable[[_BatchNorm, Tensor], Tensor] = _trained


class _Normalise(torch.autograd.Function):
    """y = weight (x - mean) / sqrt(variance + eps) + bias, mean and variance of all processes.

    With h = (x - mean) / sqrt(variance + eps) and sums over all n observations of a channel:
    dx = weight / sqrt(variance + eps) (dy - sum(dy) / n - h sum(dy h) / n). The gradients of weight
    and bias, sum(dy h) and sum(dy), are those of this process, which DistributedDataParallel adds.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """y; mean and variance (C) and count () in float64, which have no gradient."""
        wide = accumulate(x.dtype)
        mean, variance, count = _moments(x.to(wide))
        if count < 2:
            raise ValueError(
                "BatchNorm: training needs more than one value of each channel in the parts of all "
                f"processes together, got {int(count)} in {list(x.shape)} here"
            )
        inverse = (variance + eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        y = (x.to(wide) * _along(x, scale.to(wide))).add_(_along(x, shift.to(wide))).to(x.dtype)
        ctx.save_for_backward(x, weight, mean, inverse, count)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(
        ctx: FunctionCtx, dy: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse, count = ctx.saved_tensors  # type: ignore[attr-defined]
        wide = accumulate(x.dtype)
        dims = _others(x)
        dy = dy.to(wide)
        h = (x.to(wide) - _along(x, mean.to(wide))).mul_(_along(x, inverse.to(wide)))
        sums = torch.stack([dy.sum(dims), (dy * h).sum(dims)]).double()
        own, dx = sums.clone(), None
        if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            dist.all_reduce(sums)
            first, second = (_along(x, each.to(wide)) for each in sums / count)
            scale = inverse if weight is None else inverse * weight
            dx = (dy - first).sub_(h.mul_(second)).mul_(_along(x, scale.to(wide))).to(x.dtype)
        dweight = None if weight is None else own[1].to(weight.dtype)
        dbias = own[0].to(dy.dtype) if ctx.needs_input_grad[2] else None  # type: ignore[attr-defined]
        return dx, dweight, dbias, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C) of all processes, and how many observations of a channel, in float64.

    Of parts with n_i observations, means m_i and sums of squares s_i about them, by one collective
    (Chan, Golub and LeVeque, 1983): n = sum n_i, m = sum n_i m_i / n,
    variance = sum (s_i + n_i (m_i - m)^2) / n.
    """
    channels = x.shape[1]
    own = x.new_zeros(2 * channels + 1, dtype=torch.float64)
    if x.numel():
        variance, mean = torch.var_mean(x, _others(x), correction=0)
        count = x.numel() // channels
        own[:channels], own[channels:-1], own[-1] = mean, variance.double() * count, count
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    every = torch.stack(parts)
    means, squares, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    squares = squares.sum(0) + (counts * (means - mean) ** 2).sum(0)
    return mean, squares / total, total


def _others(x: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [0, *range(2, x.dim())]


def _along(x: Tensor, values: Tensor) -> Tensor:
    """(C) as it multiplies x."""
    return values.view(1, -1, *[1] * (x.dim() - 2))


def _torchs(layer: nn.Module) -> nn.Module:
    """A SyncBatchNorm with the tensors of a layer; it remembers which kind that was."""
    made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(layer)  # type: ignore[no-untyped-call]
    made._one_dimensional = isinstance(layer, nn.BatchNorm1d)  # type: ignore[assignment]
    return made.train(layer.training)


def _ordinary(layer: nn.SyncBatchNorm) -> nn.Module:
    """An nn.BatchNorm with the tensors of a SyncBatchNorm."""
    one = getattr(layer, "_one_dimensional", False)
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d] = nn.BatchNorm1d if one else nn.BatchNorm2d
    made = kind(layer.num_features, layer.eps, layer.momentum, device="meta")
    made.affine, made.track_running_stats = layer.affine, layer.track_running_stats
    made._parameters.update(layer._parameters)
    made._buffers.update(layer._buffers)
    return made.train(layer.training)


def _put(network: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """A network with a layer in every place of another."""
    for name, layer in list(network.named_modules(remove_duplicate=False)):
        if layer is old:
            if not name:
                return new
            replace(network, name, new)
    return network


def _check(function: str, network: object) -> None:
    if not isinstance(network, nn.Module):
        raise TypeError(f"{function}: network must be a torch.nn.Module, got {describe(network)}")
