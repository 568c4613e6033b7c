"""How the operators meet PyTorch's dispatcher, and what their autograd.Function classes share.

Each class is also its operator's kernel for the Autograd key, so that eager mode, torch.func, dual
numbers and the tracing inside torch.compile all meet the same formulas.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from freqops import _library as _library  # loads the operators
from freqops._arguments import PICTURES, accumulate
from freqops.channels import CHANNELS

__all__ = [
    "BatchInfo",
    "Context",
    "Dims",
    "Operator",
    "Pair",
    "PictureContext",
    "apply",
    "apply_pair",
    "batched_statistic",
    "below_autograd",
    "call",
    "call_composed",
    "flat_batch",
    "implement",
    "jvp_primals",
    "keep",
    "kept",
    "operator",
    "per_channel",
    "register",
    "register_composed",
    "statistic_gradient",
    "statistic_gradients",
    "statistic_tangents",
    "wanted",
    "with_batch",
]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Function = type[torch.autograd.Function]
Pair = tuple[Tensor, Tensor]
Dims = Sequence[int | None]  # which dimension of each argument is the batch of vmap

_kernels = torch.library.Library("freqops", "IMPL")  # type: ignore[no-untyped-call]


# The schemas say which dtype by name (csrc/schemas.h tells why); all Python has torch.dtype.
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in PICTURES}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

# forward_ad.unpack_dual without its checks: it is asked on each call.
_unpack_dual: Callable[[Tensor, int], Pair | tuple[Tensor, None]] = torch._VF._unpack_dual  # type: ignore[attr-defined]

# The classes of the operators in PyTorch's combined form, faster to call, which torch.func does not
# take.
_combined: dict[Function, Function] = {}


class Operator(Protocol[R_co]):
    """R_co: Tensor, or a pair of them."""

    def __call__(self, *arguments: object) -> R_co: ...


def operator(name: str) -> Operator[R]:
    """torch.ops.freqops.NAME, called with torch.dtype where its schema has a name."""
    overload = getattr(torch.ops.freqops, name).default
    names = [argument.name for argument in overload._schema.arguments]
    compiled: Operator[R] = overload
    if "dtype" not in names:
        return compiled
    place = names.index("dtype")

    def call_by_name(*arguments: object) -> R:
        named = list(arguments)
        dtype = named[place]
        if isinstance(dtype, torch.dtype):
            named[place] = NAMES[dtype]
        return compiled(*named)

    return call_by_name


def _typed(function: Callable[P, R]) -> Callable[P, R]:
    """A function as the dispatcher calls it: with names where it takes torch.dtype."""

    @wraps(function)
    def called_by_name(*arguments: P.args, **options: P.kwargs) -> R:
        typed = [DTYPES.get(a, a) if isinstance(a, str) else a for a in arguments]
        return function(*typed, **options)  # type: ignore[arg-type]

    return called_by_name


class BatchInfo(Protocol):
    """What vmap tells its rules."""

    batch_size: int


class Context(torch.autograd.function.FunctionCtx):
    """What autograd carries from a forward to its backward and jvp."""

    saved_tensors: tuple[Tensor | None, ...]
    needs_input_grad: tuple[bool, ...]


class PictureContext(Context):
    """That of the transforms of pictures."""

    channels: Sequence[int]
    height: int
    width: int


def keep(ctx: Context, *tensors: Tensor | None, last: bool = True) -> None:
    """Saves tensors for both modes, and lets absent gradients and tangents arrive as None.

    last: whether a gradient may read the last one. Tangents may in any case: what is saved for
    forward mode is let go of when the forward ends, what is saved for backward is not.
    """
    ctx.save_for_backward(*(tensors if last else (*tensors[:-1], None)))  # type: ignore[arg-type]
    ctx.save_for_forward(*tensors)  # type: ignore[arg-type]  # None is allowed
    ctx.set_materialize_grads(False)


def wanted(*arguments: Tensor | None) -> bool:
    """Whether the gradient of one of them may be asked for."""
    return any(a is not None and a.requires_grad for a in arguments)


def register(
    name: str,
    function: Function,
    fake: Callable[P, R],
    batched: Callable[Concatenate[Operator[R], BatchInfo, Dims, P], tuple[R, object]],
) -> None:
    """Gives an operator its shapes, its derivatives and its batching rule.

    batched gets what to call on the batch: the class under torch.func, the operator where vmap
    meets the operator itself, as it does inside torch.compile.
    """
    torch.library.register_fake(f"freqops::{name}", _typed(fake))
    compiled: Operator[R] = operator(name)
    torch.library.register_vmap(f"freqops::{name}", _typed(partial(batched, compiled)))
    function.vmap = partial(batched, function.apply)  # type: ignore[method-assign]
    combined = _combined[function] = _combined_form(function)
    parameters = inspect.signature(function.forward).parameters.values()
    defaults = tuple(parameter.default for parameter in parameters)
    implement(name, "Autograd", _as_kernel(combined.apply, defaults, compiled))


def register_composed(
    name: str,
    composition: Operator[R],
    defaults: tuple[object, ...],
    fake: Callable[P, R],
    batched: Callable[Concatenate[Operator[R], BatchInfo, Dims, P], tuple[R, object]],
) -> None:
    """Gives an operator that fuses others its shapes, derivatives and batching rule.

    Where a derivative may be wanted, composition stands for it: the same result from operators that
    have one, called through the dispatcher. defaults are those of its last arguments.
    """
    torch.library.register_fake(f"freqops::{name}", _typed(fake))
    compiled: Operator[R] = operator(name)
    torch.library.register_vmap(f"freqops::{name}", _typed(partial(batched, compiled)))
    implement(name, "Autograd", _as_kernel(composition, defaults, compiled))


def _combined_form(function: Function) -> Function:
    """The class with a forward that sets the context itself.

    torch.func does not take it. But of the form that it takes, with setup_context, PyTorch works
    out the signature of forward on each call, which costs more than a small picture's transform.
    """

    def forward(ctx: Context, *arguments: object) -> object:
        out = function.forward(*arguments)
        function.setup_context(ctx, arguments, out)
        return out

    inherited = torch.autograd.Function.setup_context
    members = {"forward": staticmethod(forward), "setup_context": staticmethod(inherited)}
    return type(function.__name__, (function,), members)


@contextlib.contextmanager
def jvp_primals(ctx: Context) -> Iterator[tuple[Tensor | None, ...]]:
    """The saved tensors as a jvp must see them, without the tangents that it is about to use.

    PyTorch calls a jvp with forward mode switched off. Under torch.func.jvp of torch.func.jvp that
    would silently drop the outer tangents, so it is switched on again.
    """
    with forward_ad._set_fwd_grad_enabled(True):
        yield tuple(t if t is None else _primal(t) for t in ctx.saved_tensors)


def _primal(dual: Tensor) -> Tensor:
    primal: Tensor = forward_ad.unpack_dual(dual, level=0).primal  # type: ignore[no-untyped-call]
    return primal


def implement(name: str, key: str, kernel: Callable[P, R]) -> None:
    """Makes a Python function the operator's kernel for a dispatch key."""
    _kernels.impl(name, _typed(kernel), key)  # type: ignore[no-untyped-call]


def apply(function: Function, *arguments: object) -> Tensor:
    out: Tensor = _fastest(function).apply(*arguments)  # type: ignore[no-untyped-call]
    return out


def apply_pair(function: Function, *arguments: object) -> Pair:
    out: Pair = _fastest(function).apply(*arguments)  # type: ignore[no-untyped-call]
    return out


def _fastest(function: Function) -> Function:
    """The form of the class to apply."""
    return function if torch._C._are_functorch_transforms_active() else _combined[function]


def below_autograd(operator: Operator[R], *arguments: object) -> R:
    """The kernel of the tensors' device, past the Autograd key."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def call(function: Function, operator: Operator[R], *arguments: object) -> R:
    """The operator, through its autograd.Function only where a derivative may be wanted.

    On a small picture the class takes as long as the operator, the question a tenth of it.
    """
    if _may_differentiate(arguments):
        out: R = _fastest(function).apply(*arguments)  # type: ignore[no-untyped-call]
        return out
    return below_autograd(operator, *arguments)


def call_composed(composition: Operator[R], operator: Operator[R], *arguments: object) -> R:
    """The operator, or where a derivative may be wanted what it is composed of."""
    if _may_differentiate(arguments):
        return composition(*arguments)
    return below_autograd(operator, *arguments)


def _may_differentiate(arguments: tuple[object, ...]) -> bool:
    return (
        forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or _requires_grad(arguments)
    )


def _as_kernel(
    differentiable: Operator[R], defaults: tuple[object, ...], operator: Operator[R]
) -> Operator[R]:
    """`call` for the Autograd key, where Python's own record of dual levels may be wrong: code that
    Dynamo compiled opens them in C++ alone. So the tensors are asked."""

    def kernel(*arguments: object) -> R:
        if torch._C._are_functorch_transforms_active():
            raise NotImplementedError(
                "torch.ops.freqops: torch.func.grad, vjp, jvp and their like need the public "
                "functions of freqops, outside torch.compile"
            )
        # The dispatcher leaves out the last arguments if they have their defaults.
        arguments += defaults[len(arguments) :]
        if _requires_grad(arguments) or any(isinstance(a, Tensor) and _dual(a) for a in arguments):
            return differentiable(*arguments)
        return below_autograd(operator, *arguments)

    return kernel


def _requires_grad(arguments: tuple[object, ...]) -> bool:
    return torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments)


def _dual(values: Tensor) -> bool:
    return _unpack_dual(values, 0)[1] is not None


def kept(values: Tensor | None) -> Tensor:
    """What was saved only because of an argument whose gradient is wanted: no derivative is left
    out in silence."""
    if values is None:
        raise RuntimeError("freqops: a derivative is asked for that was not announced")
    return values


def per_channel(values: Tensor, channels: Sequence[int], like: Tensor) -> Tensor:
    """values [.., C], or [.., 192] read by channel number -> [.., C, 1, 1], to scale `like`."""
    if values.shape[-1] == CHANNELS:
        values = values[..., list(channels)]
    return values.to(accumulate(like.dtype))[..., None, None]


def statistic_gradient(products: Tensor, channels: Sequence[int], values: Tensor) -> Tensor:
    """products [N, C, gh, gw] summed over pictures and blocks, in the shape and type of values."""
    total = products.to(accumulate(products.dtype)).sum((0, 2, 3))
    if values.shape[0] == CHANNELS:
        index = torch.tensor(list(channels), device=total.device)
        total = total.new_zeros(CHANNELS).index_add(0, index, total)
    return total.to(values.dtype)


def statistic_gradients(
    grad: Tensor,
    channels: Sequence[int],
    mean: Tensor | None,
    std: Tensor | None,
    out: Tensor | None,
    of_mean: bool,
    of_std: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Of out = (x - mean[c]) / std[c]: -sum g / std[c] and -sum g out / std[c], those wanted."""
    scaled = grad if std is None else grad / per_channel(std, channels, grad)
    mean_gradient = std_gradient = None
    if mean is not None and of_mean:
        mean_gradient = -statistic_gradient(scaled, channels, mean)
    if std is not None and of_std:
        std_gradient = -statistic_gradient(scaled * kept(out), channels, std)
    return mean_gradient, std_gradient


def statistic_tangents(
    channels: Sequence[int],
    std: Tensor | None,
    out: Tensor | None,
    of_mean: Tensor | None,
    of_std: Tensor | None,
) -> list[Tensor]:
    """Of out = (x - mean[c]) / std[c]: -t_mean[c] / std[c] and -out t_std[c] / std[c], where there
    is a tangent."""
    terms = []
    if of_mean is not None:
        shift = -per_channel(of_mean, channels, of_mean)
        terms.append(shift if std is None else shift / per_channel(std, channels, shift))
    if of_std is not None and std is not None:
        out = kept(out)
        terms.append(-out * per_channel(of_std, channels, out) / per_channel(std, channels, out))
    return terms


def flat_batch(values: Tensor, dim: int | None) -> tuple[Tensor, tuple[int, int] | None]:
    """[.., B, ..] -> [B N, ...] and (B, N); a tensor without vmap's batch as it is, and None."""
    if dim is None:
        return values, None
    values = values.movedim(dim, 0)
    return values.flatten(0, 1), (values.shape[0], values.shape[1])


def with_batch(values: Tensor, batch: tuple[int, int] | None) -> tuple[Tensor, int | None]:
    """[B N, ...] -> [B, N, ...], and where the batch is."""
    if batch is None:
        return values, None
    return torch.unflatten(values, 0, batch), 0


def batched_statistic(
    values: Tensor, dim: int | None, channels: Sequence[int], like: Tensor
) -> Tensor:
    """per_channel of mean or std [C] or [.., B, ..], to broadcast over [B, N, C, gh, gw]."""
    values = values if dim is None else values.movedim(dim, 0).unsqueeze(1)
    return per_channel(values, channels, like)
