"""``lstmkernel.from_torch``: a network from a live module of PyTorch, or from a state_dict in memory."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine import arguments
from lstmkernel.formats import assumptions, joined
from lstmkernel.formats.contract import Options, Prefix
from lstmkernel.formats.pytorch import computed, names, state_dict
from lstmkernel.formats.pytorch.weights import Weight, unreadable
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack


def from_torch(
    source: Any,
    *,
    prefix: Prefix = None,
    dtype: DTypeLike | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    batch_first: bool | None = None,
) -> LSTM | Any:  # Any: with prefix=, a Dense or a Stack
    """An LSTM from a ``torch.nn.LSTM``, a module that holds one, or a state_dict of tensors or arrays.

    ``prefix`` picks a part of a larger model, or a list of parts, as in ``load``; without it, the LSTM must be all. The
    other options are those of ``load``; ``batch_first`` is by default the module's own. PyTorch itself is not imported.
    """
    if isinstance(source, Mapping):
        mapping, module = source, None
    elif callable(getattr(source, "state_dict", None)) and callable(getattr(source, "get_submodule", None)):
        mapping, module = source.state_dict(), source
        _warn_of_copies(module)
    else:
        raise TypeError(f"from_torch: expected a torch.nn.Module or a state_dict, got {type(source).__name__}")
    weights = [_weight(str(name), value) for name, value in mapping.items()]
    options = Options(
        backend,
        arguments.num_threads(num_threads),
        None if dtype is None else arguments.float_dtype(dtype).name,
        None if batch_first is None else bool(batch_first),
    )
    with assumptions.collected() as told:
        net = joined.load(partial(_one, weights, module), joined.checked(prefix), options)
    for sentence in told:
        warnings.warn(f"from_torch: {sentence}", RuntimeWarning, stacklevel=2)
    return net


def _one(weights: list[Weight], module: Any, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    """What one prefix picks."""
    known = computed.resolved(weights)
    if module is not None:
        known = [_known(weight, module) if weight.assumed else weight for weight in known]
    if prefix is None:
        _check_alone(known)
    if options.batch_first is None and module is not None:
        options = options._replace(batch_first=_batch_first(module, known, prefix or ""))
    return state_dict.load(known, prefix, options)


def _known(weight: Weight, module: Any) -> Weight:
    """A parametrized weight: a live module tells which parametrizations it has."""
    place, _, own = weight.name.rpartition(".")
    parametrizations = list(module.get_submodule(place).parametrizations[own])
    if len(parametrizations) == 1 and type(parametrizations[0]).__module__ == "torch.nn.utils.parametrizations":
        return weight._replace(assumed="")
    found = ", ".join(type(each).__name__ for each in parametrizations)
    return unreadable(
        weight.name,
        f"expected weight norm or spectral norm alone, got {found}; "
        f"torch.nn.utils.parametrize.remove_parametrizations(module, {own!r}) first",
    )


def _check_alone(weights: list[Weight]) -> None:
    """Without a prefix, there must be one LSTM and nothing else."""
    found = names.prefixes(weight.name for weight in weights)
    if not found:
        raise ValueError(
            f"no LSTM: expected names such as weight_ih_l0, got {names.some(weight.name for weight in weights)}"
        )
    others = [weight.name for weight in weights if not weight.name.startswith(found[0])]
    others += [weight.name for weight in weights if "." in weight.name[len(found[0]) :] and weight.name not in others]
    if others:
        places = ", ".join(repr(place.removesuffix(".")) for place in found)
        raise ValueError(
            f"expected one LSTM and nothing else, got also {names.some(others)}; choose with prefix=, one of {places}"
        )


def _batch_first(module: Any, weights: list[Weight], prefix: str) -> bool:
    """As the first LSTM behind the prefix has it."""
    inside = [place for place in names.prefixes(weight.name for weight in weights) if place.startswith(prefix)]
    place = inside[0] if inside else prefix
    return bool(getattr(module.get_submodule(place.removesuffix(".")), "batch_first", False))


def _warn_of_copies(module: Any) -> None:
    """A wrapper that computes a weight again at each call puts a plain tensor where a Parameter was."""
    for name, inner in module.named_modules():
        for own, value in getattr(inner, "_parameters", {}).items():
            if value is not None and not getattr(value, "_is_param", type(value).__name__ == "Parameter"):
                place = f"{name}.{own}" if name else own
                warnings.warn(
                    f"from_torch: {place} is no Parameter, but a tensor that a wrapper has computed and may have "
                    "dropped a part of: it is taken as it is now; give from_torch the wrapper, which has the Parameter",
                    RuntimeWarning,
                    stacklevel=3,
                )


def _weight(name: str, value: Any) -> Weight:
    dtype = str(getattr(value, "dtype", "") or np.asarray(value).dtype).removeprefix("torch.")
    return Weight(name, tuple(np.shape(value)), dtype, partial(_array, name, value))


def _array(name: str, value: Any) -> Array:
    """A tensor as a NumPy array; bfloat16, which NumPy does not have, becomes float32."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array, got a masked array, whose mask would be lost")
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value
            return np.asarray(value)
        except (RuntimeError, TypeError) as error:  # a sparse, a quantized, a meta tensor
            raise ValueError(f"{name}: expected a plain tensor, got one without an array: {error}") from error
    return np.asarray(value)
