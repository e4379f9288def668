"""The kernels as a differentiable function of tensors. Tensors and arrays share memory: nothing is copied here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.gradients import backward
from lstmkernel.engine.tape import Tape
from lstmkernel.host.warning import warn
from lstmkernel.lstm import LSTM
from lstmkernel.torch import operations
from lstmkernel.torch.operations import State
from lstmkernel.torch.tapes import tape_of, ticket

Run = TypeVar("Run", bound=Callable[..., Any])

_PLAIN = (Tensor, torch.nn.Parameter)  # subclasses may stand for a tensor, or change operations
_DTYPES = (torch.float32, torch.float64)


def is_traced() -> bool:
    """Whether PyTorch only records this call, as a graph to run later: kernel results would be constants in it."""
    return bool(torch.jit.is_tracing() or torch.compiler.is_exporting())  # type: ignore[no-untyped-call, attr-defined]


def between_graphs(run: Run) -> Run:
    """``run``, which ``torch.compile`` leaves out of its graphs."""
    if torch.compiler.is_compiling():  # then torch.compile has imported its modules, which takes a second
        return torch.compiler.disable(run)  # type: ignore[no-untyped-call, no-any-return]
    return run


def as_pytorchs(module: Module, kind: type[Module]) -> Module:
    """PyTorch's own module with the same parameters, for ``torch.jit.script``, which puts it into the model itself."""
    warn(
        "torch.jit.script puts PyTorch's own LSTMs into the model that it is given, in place of lstmkernel's, also if "
        "it fails; call lstmkernel.torch.accelerate(model) afterwards, or give it copy.deepcopy(model)"
    )
    own = copy.copy(module)
    make_plain(own, kind)
    return own


def make_plain(module: Module, kind: type[Module]) -> None:
    """Make a module PyTorch's own of that kind, without what lstmkernel's keeps."""
    module.__class__ = kind
    for name in ("_models", "compares_weights", "checkpoint_every"):
        vars(module).pop(name, None)


def check(x: Any, hx: Any, weights: dict[str, Tensor]) -> None:
    """Raise for what the kernels cannot take. They need dense tensors of one dtype, float32 or float64, on the CPU."""
    first, dtype = next((name, tensor.dtype) for name, tensor in weights.items())
    if dtype not in _DTYPES:
        raise TypeError(
            f"{first}: expected torch.float32 or torch.float64, got {dtype}; "
            f"call float() on the module, or take torch.nn's"
        )
    named = {**weights, "input": x}
    if hx is not None:
        named["hx[0]"], named["hx[1]"] = arguments.pair("hx", hx, "(h_0, c_0) of tensors")
    for name, tensor in named.items():
        if type(tensor) not in _PLAIN:
            way_out = f"; pass {name}.as_subclass(torch.Tensor)" if isinstance(tensor, Tensor) else ""
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}{way_out}")
        if not (tensor.is_cpu and tensor.layout is torch.strided):
            raise ValueError(
                f"{name}: expected a dense tensor on the CPU, got one on {tensor.device}, {tensor.layout}; "
                f"there, take torch.nn's"
            )
        if tensor.dtype is not dtype:
            raise TypeError(f"{name}: expected {dtype}, as {first} is, got {tensor.dtype}; call to({dtype}) on it")


def run(
    model: Callable[[], LSTM],
    x: Tensor,
    state: State | None,
    lengths: Tensor | None,
    weights: dict[str, Tensor],
    checkpoint_every: int | None = None,
) -> tuple[Tensor, State]:
    """``model()(x, state, lengths=lengths)`` as tensors, differentiable in x, the state and the model's weights.

    checkpoint_every: as for ``LSTM.forward``; it changes no number.
    """
    if operations.are_followed():
        return operations.lstm(x, state, lengths, weights)
    h, c = (None, None) if state is None else state
    if torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, h, c, *weights.values())
    ):
        x = x.contiguous()  # so that the tape reads this tensor, which autograd keeps, and no copy of it
        how = (model(), tuple(weights), lengths, checkpoint_every)
        out, h_n, c_n = _Run.apply(*how, x, h, c, *weights.values())  # type: ignore[no-untyped-call]
        return out, (h_n, c_n)
    out, (h_n, c_n) = model()(array(x), _arrays(h, c), lengths=None if lengths is None else lengths.numpy())
    return torch.from_numpy(out), (torch.from_numpy(h_n), torch.from_numpy(c_n))


def array(tensor: Tensor) -> Array:
    """The same memory as a NumPy array."""
    return tensor.numpy(force=True)  # force: also if the tensor requires a gradient


def _arrays(h: Tensor | None, c: Tensor | None) -> tuple[Array, Array] | None:
    return None if h is None or c is None else (array(h), array(c))


#: Arguments of ``_Run`` that are no tensors to differentiate in: model, names, lengths, checkpoint_every.
_BESIDE = 4


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        model: LSTM,
        names: tuple[str, ...],
        lengths: Tensor | None,
        checkpoint_every: int | None,
        x: Tensor,
        h: Tensor | None,
        c: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        row_lengths = None if lengths is None else lengths.numpy()
        out, (h_n, c_n), tape = model.forward(
            array(x), _arrays(h, c), lengths=row_lengths, checkpoint_every=checkpoint_every
        )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(ticket(tape), lengths, x, h, c, *weights)
        ctx.names = names
        return torch.from_numpy(out), torch.from_numpy(h_n), torch.from_numpy(c_n)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, lengths, *given = ctx.saved_tensors
        tape, needed = tape_of(saved), ctx.needs_input_grad[_BESIDE:]
        arrays = _seed_arrays(seeds)
        if tape is None or arrays is None or torch.is_grad_enabled() or operations.are_followed():
            return *([None] * _BESIDE), *operations.gradients(ctx.names, lengths, given, seeds, needed)
        return *([None] * _BESIDE), *_gradients(tape, ctx.names, arrays, needed)


def _seed_arrays(seeds: Sequence[Tensor | None]) -> list[Array | None] | None:
    """None where they are many at a time, as ``torch.autograd.grad`` with ``is_grads_batched`` passes them."""
    try:
        return [None if seed is None else array(seed) for seed in seeds]
    except RuntimeError:  # they have no memory
        return None


def _gradients(
    tape: Tape, names: Sequence[str], seeds: Sequence[Array | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Of x, h_0, c_0 and the weights: those that are needed, by the kernels."""
    of_out, of_h, of_c = seeds
    found = backward(tape, of_out, (of_h, of_c), of_x=needed[0], of_parameters=any(needed[3:]))
    every = ("x", "h_0", "c_0", *names)
    return [torch.from_numpy(found[name]) if need else None for name, need in zip(every, needed, strict=True)]
