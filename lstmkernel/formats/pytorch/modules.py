"""Live modules of PyTorch that run one after the other, as layers: a list of them, an ``nn.Sequential``, a Linear.

Only PyTorch's own classes are taken: what another class computes, only its program says. PyTorch is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: PyTorch's activations that ``Dense`` has, by their classes' names.
_ACTIVATIONS = {"Tanh": "tanh", "Sigmoid": "sigmoid", "ReLU": "relu", "Softmax": "softmax"}
#: What does nothing in inference.
_NOTHING = {"Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"}
#: Those whose features are the last axis of a step go into the weights of a neighbour.
_FOLDED, _BATCH_NORMS = {"BatchNorm1d", "SyncBatchNorm"}, {"BatchNorm2d", "BatchNorm3d"}

EXPECTED = (
    f"nn.LSTM, nn.Linear, {', '.join(f'nn.{name}' for name in _ACTIVATIONS)} behind a Linear, nn.BatchNorm1d beside "
    "one of the first two, or dropout"
)

#: What to do with a BatchNorm, which is one factor and one summand for each feature.
WITHOUT_BATCH_NORM = (
    "leave it out, and give the layer above it x * scale + shift, with scale = weight / sqrt(running_var + eps) and "
    "shift = bias - running_mean * scale; or, where the model is, give from_torch a list of modules with the "
    "BatchNorm1d among them: it goes into the layer beside it"
)


class Named(NamedTuple):
    """A module and its name in messages."""

    name: str
    module: Any


class Step(NamedTuple):
    """A layer to load: an LSTM, or a Linear with the activation behind it.

    before: BatchNorms whose output it takes; behind: those that take a Linear's output, before the activation.
    """

    name: str
    module: Any
    activation: str = "linear"
    before: tuple[Named, ...] = ()
    behind: tuple[Named, ...] = ()

    @property
    def is_lstm(self) -> bool:
        return _kind(self.module) == "LSTM"


def are_in_a_row(source: Any) -> bool:
    """Whether these are modules of which is known that they run one after the other."""
    return isinstance(source, list | tuple) or _kind(source) in ("Sequential", "Linear")


def steps(source: Any) -> list[Step]:
    """The layers of modules in a row; ValueError or TypeError for what lstmkernel has not."""
    found: list[Step] = []
    norms: list[Named] = []  # that wait for the layer behind them
    for name, module in _flat("modules" if isinstance(source, list | tuple) else "module", source):
        kind = _kind(module)
        _check(name, module, kind)
        if kind in ("LSTM", "Linear"):
            found.append(Step(name, module, before=tuple(norms)))
            norms = []
            continue
        open_end = bool(found) and not (norms or found[-1].is_lstm or found[-1].activation != "linear")
        if kind in _FOLDED and open_end:
            found[-1] = found[-1]._replace(behind=(*found[-1].behind, Named(name, module)))
        elif kind in _FOLDED:
            norms.append(Named(name, module))
        elif kind in _ACTIVATIONS:
            if not open_end:
                raise ValueError(f"{name}: expected {kind} right behind a Linear, whose activation a Dense applies")
            found[-1] = found[-1]._replace(activation=_ACTIVATIONS[kind])
    if norms:
        raise ValueError(
            f"{norms[0].name}: expected a Linear before it or a layer behind it, into whose weights it goes, got none; "
            "leave it out, and compute out * scale + shift, with scale = weight / sqrt(running_var + eps) and shift = "
            "bias - running_mean * scale"
        )
    if not found:
        raise ValueError(f"expected modules in the order in which they run, {EXPECTED}; got none of them")
    return found


def _flat(place: str, source: Any) -> Iterator[Named]:
    """Modules in a row, also those of an ``nn.Sequential`` among them."""
    if not (isinstance(source, list | tuple) or _kind(source) == "Sequential"):
        yield Named(place, source)
        return
    if not isinstance(source, list | tuple):
        _check(place, source, "Sequential")
    for i, module in enumerate(source):
        yield from _flat(f"{place}[{i}]", module)


def _kind(module: Any) -> str:
    """The name of a class of PyTorch's own, quantized or not, or of ``lstmkernel.torch``; "" for any other one."""
    kind = type(module)
    if kind.__module__ == "torch.nn.utils.parametrize":
        kind = kind.__bases__[0]
    own = kind.__module__.startswith(
        ("torch.nn.modules.", "torch.ao.nn.quantized.dynamic.modules.", "lstmkernel.torch.")
    )
    return kind.__name__ if own else ""


def _check(name: str, module: Any, kind: str) -> None:
    if kind in _BATCH_NORMS:
        raise ValueError(f"{name}: expected {EXPECTED}, got a {kind}; {WITHOUT_BATCH_NORM}")
    if kind in _FOLDED:
        _check_statistics(name, module, kind)
    if kind not in ("LSTM", "Linear", "Sequential", *_FOLDED, *_ACTIVATIONS, *_NOTHING):
        if isinstance(module, Mapping) or not callable(getattr(module, "state_dict", None)):
            raise TypeError(f"{name}: expected a torch.nn.Module, got {type(module).__name__}")
        raise ValueError(
            f"{name}: expected {EXPECTED}, got {type(module).__name__}; if it only picks the output of the LSTM below "
            "it, leave it out of the list; else load what stands before it and behind it, and compute it between them"
        )
    if _has_own_code(module):
        raise ValueError(f"{name}: expected a {kind} as PyTorch has it, got one with a forward or hooks of its own")
    if kind == "Softmax" and module.dim != -1:
        raise ValueError(f"{name}: expected Softmax(dim=-1), over the features of a step, got dim={module.dim}")


def _check_statistics(name: str, module: Any, kind: str) -> None:
    """A BatchNorm is one factor and one summand a feature only if its statistics do not come from the batch."""
    if module.running_mean is None or module.running_var is None:
        raise ValueError(
            f"{name}: expected a {kind} with running statistics, got track_running_stats=False, which takes them from "
            "each batch; load what stands before it and what stands behind it, and compute it between them"
        )
    if module.training:
        raise ValueError(
            f"{name}: expected a {kind} in evaluation, got one in training, which takes its statistics from the batch; "
            "call eval() of the model first"
        )


def own_code(module: Any) -> str:
    """In words, why a module may compute something else than PyTorch's LSTM or Linear; "" for those themselves."""
    if _kind(module) not in ("LSTM", "LSTMCell", "Linear"):
        return f"is a {type(module).__name__}"
    return "has a forward or hooks of its own" if _has_own_code(module) else ""


def passes_on(module: Any) -> bool:
    """Whether a module around an LSTM is one of PyTorch's: they compute nothing themselves."""
    place = type(module).__module__
    return place.startswith("torch._dynamo.") or (place.startswith("torch.") and not _has_own_code(module))


def _has_own_code(module: Any) -> bool:
    """A forward of its own, or hooks. Those of PyTorch's weight norm and its like only compute weights."""
    own = vars(module)
    hooks = [*own.get("_forward_hooks", {}).values(), *own.get("_forward_pre_hooks", {}).values()]
    return "forward" in own or any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)
