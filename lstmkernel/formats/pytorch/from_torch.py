"""``lstmkernel.from_torch``: a network from live modules of PyTorch, or from a state_dict in memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine import arguments
from lstmkernel.formats import assumptions, build, joined
from lstmkernel.formats.contract import Options, Prefix
from lstmkernel.formats.pytorch import batch_norm, computed, modules, names, packed, state_dict
from lstmkernel.formats.pytorch.weights import Weight, unreadable
from lstmkernel.host.warning import warn
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
) -> LSTM | Any:  # Any: of several layers a Stack, of a Linear a Dense
    """A network from a module of PyTorch, a list of modules, or a state_dict of tensors or arrays.

    Parameters
    ----------
    source
        A ``torch.nn.LSTM``, a module that holds one, or a state_dict: an LSTM, or what ``prefix`` picks. Only weights
        are looked at: code that a module has around its LSTM, or in place of PyTorch's, is told of by a warning.
        A ``torch.nn.Linear``: a Dense. An LSTM that ``torch.ao.quantization.quantize_dynamic`` made keeps its integers
        or float16 weights, and its Linears become float32.
        A list of modules, in the order in which they run, or an ``nn.Sequential``: a Stack of its LSTMs and Linears.
        Behind a Linear may be Tanh, Sigmoid, ReLU or Softmax(dim=-1); dropout does nothing. A BatchNorm1d in evaluation
        goes into the weights of the Linear before it or of the layer behind it. Other modules are refused.
    prefix
        Picks a part of a larger model, or a list of parts, as in ``load``. Without it, the LSTM must be all of a module
        or a state_dict.
    dtype, backend, num_threads, batch_first
        As for ``load``; ``batch_first`` is by default the module's own.

    PyTorch itself is not imported. Raises TypeError for other sources, and ValueError that names the module or key.
    """
    options = Options(
        backend,
        arguments.num_threads(num_threads),
        None if dtype is None else arguments.float_dtype(dtype).name,
        None if batch_first is None else bool(batch_first),
    )
    with assumptions.collected() as told:
        if prefix is None and modules.are_in_a_row(source):
            net = _in_a_row(modules.steps(source), options)
        else:
            net = _picked(source, joined.checked(prefix), options)
    for sentence in told:
        warn(f"from_torch: {sentence}")
    return net


def _in_a_row(steps: list[modules.Step], options: Options) -> Any:
    """Modules one after the other."""

    def load(step: modules.Step, options: Options) -> LSTM | Dense | Stack:
        weights = _weights_of(step.module)
        try:
            if step.is_lstm and not step.before:
                return _one(weights, step.module, None, options)
            arrays = {weight.name: weight.read() for weight in _used(weights, step.module)}
            options = options._replace(dtype=options.dtype or build.dtype_of(arrays.values()))
            if step.before or step.behind:
                arrays = batch_norm.folded(arrays, step.before, step.behind, str(options.dtype))
            if step.is_lstm:
                return _one([_weight(*item) for item in arrays.items()], step.module, None, options)
        except ValueError as error:
            raise ValueError(f"{step.name}: {error}") from error
        return build.dense(arrays["weight"], arrays.get("bias"), step.activation, options)

    return joined.chain([(step.name, partial(load, step)) for step in steps], options)


def _weights_of(module: Any) -> list[Weight]:
    _warn_of_copies(module)
    weights = _weights(module.state_dict())
    return packed.resolved(weights, lambda place: bool(getattr(module.get_submodule(place), "bidirectional", False)))


def _weights(named: Mapping[Any, Any]) -> list[Weight]:
    found: list[Weight] = []
    for name, value in named.items():
        if type(value).__name__ == "ScriptObject" and str(name).endswith("param"):
            found += packed.of_object(str(name), value)
        elif isinstance(value, tuple) and len(value) == 2 and f".{name}".endswith(f".{packed.PAIR}"):
            found += packed.of_pair(str(name), value)
        else:
            found.append(_weight(str(name), value))
    return found


def _picked(source: Any, prefix: str | list[str] | None, options: Options) -> Any:
    """What the prefix picks from one module or state_dict."""
    if isinstance(source, Mapping):
        _check_flat(source)
        weights, module = _weights(source), None
    elif callable(getattr(source, "state_dict", None)) and callable(getattr(source, "get_submodule", None)):
        weights, module = _weights_of(source), source
    else:
        raise TypeError(
            f"from_torch: expected a torch.nn.Module, a list of them, or a state_dict, got {type(source).__name__}"
        )
    return joined.load(partial(_one, weights, module), prefix, options)


def _check_flat(source: Mapping[Any, Any]) -> None:
    """ValueError for a checkpoint that has a state_dict inside of it."""
    inner = [key for key, value in source.items() if isinstance(value, Mapping) and names.prefixes(map(str, value))]
    if inner and not names.prefixes(map(str, source)):
        raise ValueError(
            f"from_torch: expected a state_dict, got a mapping with one under {inner[0]!r}: give "
            f"from_torch(checkpoint[{inner[0]!r}]); load of the file itself finds it"
        )


def _one(weights: list[Weight], module: Any, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    """What one prefix picks."""
    known = _used(weights, module)
    if prefix is None:
        _check_alone(known)
    if module is not None:
        places = _places(known, prefix or "")
        # A wrapper that computes weights, such as a weight drop, is known for what it does.
        is_wrapped = not {weight.name for weight in weights} <= {weight.name for weight in known}
        _tell_of_own_code(module, places, bool(prefix) or is_wrapped)
        if options.batch_first is None:
            options = options._replace(batch_first=bool(getattr(_at(module, places[0]), "batch_first", False)))
    return state_dict.load(known, prefix, options)


def _used(weights: list[Weight], module: Any) -> list[Weight]:
    """The weights as the forward pass uses them."""
    known = computed.resolved(weights)
    return (
        known
        if module is None
        else [_known(weight, module) if weight.assumed and not weight.precision else weight for weight in known]
    )


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
        return  # perhaps a Linear
    others = [weight.name for weight in weights if not weight.name.startswith(found[0])]
    others += [weight.name for weight in weights if "." in weight.name[len(found[0]) :] and weight.name not in others]
    if others:
        parts = state_dict.parts(weights)
        several = ", or a list of them in the order in which they run" if len(parts) > 1 else ""
        raise ValueError(
            f"expected one LSTM and nothing else, got also {names.some(others)}; choose with prefix=, one of "
            f"{names.some(map(repr, parts))}{several}"
        )


def _places(weights: list[Weight], prefix: str) -> list[str]:
    """The LSTMs behind the prefix, each with its dot; the prefix itself, if there are none."""
    stem = prefix.removesuffix(".")
    place = f"{stem}." if stem else ""
    inside = [found for found in names.prefixes(weight.name for weight in weights) if found.startswith(place)]
    return inside or [place]


def _at(module: Any, place: str) -> Any:
    """The module there; the outermost one where a hook of state_dict gave other names."""
    try:
        return module.get_submodule(place.removesuffix("."))
    except AttributeError:
        return module


def _tell_of_own_code(module: Any, places: list[str], is_known: bool) -> None:
    """A word about code that the module has around its layers, or in place of theirs: only weights are looked at.

    is_known: whether what is around them is known: a prefix that names them leaves it out on purpose.
    """
    for place in places:
        name = place.removesuffix(".")
        found = modules.own_code(_at(module, place))
        if found:
            what = repr(name) if name else "the module"
            assumptions.assume(
                f"{what} {found}: only its weights are taken, for a layer as PyTorch has it. If it computes the same, "
                "give its state_dict()"
            )
        around = [] if is_known else [_at(module, outer) for outer in _outer(name)]
        if others := list(dict.fromkeys(type(each).__name__ for each in around if not modules.passes_on(each))):
            assumptions.assume(
                f"the LSTM {name!r} alone is taken; what the forward of {', then '.join(others)} computes around it is "
                f"not known. prefix={name!r} says that this is wanted"
            )


def _outer(name: str) -> list[str]:
    """The names of the modules around one, from the outermost on."""
    parts = name.split(".") if name else []
    return [".".join(parts[:depth]) for depth in range(len(parts))]


def _warn_of_copies(module: Any) -> None:
    """A wrapper that computes a weight again at each call puts a plain tensor where a Parameter was."""
    for name, inner in module.named_modules():
        for own, value in getattr(inner, "_parameters", {}).items():
            if value is not None and not getattr(value, "_is_param", type(value).__name__ == "Parameter"):
                place = f"{name}.{own}" if name else own
                warn(
                    f"from_torch: {place} is no Parameter, but a tensor that a wrapper has computed and may have "
                    "dropped a part of: it is taken as it is now; give from_torch the wrapper, which has the Parameter"
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
