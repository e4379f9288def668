"""The parameters of LSTM layers: PyTorch's names and shapes, their initial values, their checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lstmkernel.backends.large import MOST_COPIED, fill, slices
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.variant import Variant

Shapes = dict[str, tuple[int, ...]]
T = TypeVar("T")

#: Gate order along the first axis of every weight and bias, as PyTorch has it.
GATES = ("i", "f", "g", "o")


def with_places(layers: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """What every layer has, by its names behind the layer's place: "0.weight_ih_l0", ..."""
    return {f"{place}.{name}": value for place, layer in enumerate(layers) for name, value in layer.items()}


class LSTMShape(NamedTuple):
    """All that decides the names and shapes of the parameters of stacked LSTM layers."""

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int
    variant: Variant | None = None
    reverse: bool = False
    initial_state: bool = False

    def checked(self) -> LSTMShape:
        """The same shape with plain integers and bools, or an error that names the wrong one."""
        shape = LSTMShape(
            arguments.size("input_size", self.input_size),
            arguments.size("hidden_size", self.hidden_size),
            arguments.size("num_layers", self.num_layers),
            bool(self.bias),
            bool(self.bidirectional),
            arguments.size("proj_size", self.proj_size, least=0),
            Variant.of(self.variant),
            bool(self.reverse),
            initial_state=bool(self.initial_state),
        )
        if shape.proj_size >= shape.hidden_size:
            raise ValueError(f"proj_size: expected less than hidden_size = {shape.hidden_size}, got {shape.proj_size}")
        if shape.reverse and shape.bidirectional:
            raise ValueError("reverse: expected False with bidirectional=True, which has both directions, got True")
        if shape.variant and len(shape.variant.activations) > 3 and not shape.bidirectional:
            raise ValueError("activations: expected three, for there is no second direction, got six")
        arguments.addressable("num_layers x gates", (shape.num_layers, 4 * shape.hidden_size), np.dtype(np.float32))
        return shape

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def backwards(self) -> tuple[bool, ...]:
        """Of each direction, whether it runs from a row's end to its start."""
        return (False, True) if self.bidirectional else (self.reverse,)

    @property
    def output_size(self) -> int:
        """R, the width of one direction's h."""
        return self.proj_size or self.hidden_size

    def layer_input_size(self, layer: int) -> int:
        return self.directions * self.output_size if layer else self.input_size

    def layer_sizes(self) -> list[tuple[int, int, int]]:
        """input_size, hidden_size and proj_size of its layers, each once."""
        sizes = [(self.layer_input_size(layer), self.hidden_size, self.proj_size) for layer in range(self.num_layers)]
        return list(dict.fromkeys(sizes))

    def suffix(self, layer: int, direction: int) -> str:
        return f"_l{layer}" + ("_reverse" if direction else "")

    def parameters(self) -> Shapes:
        """Every parameter's name and shape, in PyTorch's order; h_0 and c_0, which PyTorch does not have, come last."""
        H, R = self.hidden_size, self.output_size
        shapes: Shapes = {}
        for layer in range(self.num_layers):
            for direction in range(self.directions):
                end = self.suffix(layer, direction)
                shapes[f"weight_ih{end}"] = (4 * H, self.layer_input_size(layer))
                shapes[f"weight_hh{end}"] = (4 * H, R)
                if self.bias:
                    shapes[f"bias_ih{end}"] = shapes[f"bias_hh{end}"] = (4 * H,)
                if self.variant and self.variant.peephole:
                    shapes[f"weight_peephole{end}"] = (3, H)
                if self.proj_size:
                    shapes[f"weight_hr{end}"] = (R, H)
        if self.initial_state:
            states = self.num_layers * self.directions
            shapes |= {"h_0": (states, R), "c_0": (states, H)}
        return shapes


class LayerParameters(NamedTuple):
    """One direction of one layer, as PyTorch has it; one bias for both of PyTorch's."""

    w_ih: Array  # (4H, I)
    w_hh: Array  # (4H, R)
    bias: Array  # (4H,): bias_ih + bias_hh, or zeros
    w_hr: Array | None  # (P, H)
    peephole: Array | None  # (3, H)


def layer_parameters(named: Mapping[str, Array], suffix: str) -> LayerParameters:
    """The parameters of one layer and direction: those whose names end with ``suffix``."""
    w_ih = named[f"weight_ih{suffix}"]
    if f"bias_ih{suffix}" in named:
        bias = named[f"bias_ih{suffix}"] + named[f"bias_hh{suffix}"]
    else:
        bias = np.zeros(len(w_ih), np.promote_types(w_ih.dtype, np.float32))  # weights may be float16, a bias is not
    optional = (named.get(f"{name}{suffix}") for name in ("weight_hr", "weight_peephole"))
    return LayerParameters(w_ih, named[f"weight_hh{suffix}"], bias, *optional)


def uniform(shapes: Shapes, bound: float, dtype: np.dtype[Any], seed: int | None) -> dict[str, Array]:
    """Read-only values of U(-bound, bound), as PyTorch initialises; the same ones for the same seed."""
    random = np.random.default_rng(seed)
    named = {name: np.empty(shape, dtype) for name, shape in shapes.items()}
    for value in named.values():
        flat = value.reshape(-1)
        for part in slices(flat.size, MOST_COPIED):  # between two of them, Ctrl-C is heard
            flat[part] = random.uniform(-bound, bound, flat[part].size)
    return _frozen(named)


def checked(mapping: Mapping[str, Any], shapes: Shapes, dtype: np.dtype[Any]) -> dict[str, Array]:
    """The mapping's arrays as read-only copies of ``dtype``, or an error that names the first wrong key."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"state_dict: expected a mapping of names to arrays, got {type(mapping).__name__}")
    missing = [name for name in shapes if name not in mapping]
    superfluous = [str(name) for name in mapping if name not in shapes]
    if missing or superfluous:
        problems = [f"missing {', '.join(missing)}"] if missing else []
        problems += [f"superfluous {', '.join(superfluous)}"] if superfluous else []
        raise ValueError(f"state_dict: {'; '.join(problems)}; expected exactly {', '.join(shapes)}")
    values = {name: arguments.array_of(name, mapping[name]) for name in shapes}
    for name, expected in shapes.items():
        value = values[name]
        if value.dtype.kind != "f":
            raise TypeError(f"{name}: expected floating-point numbers, got {value.dtype}")
        if value.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {value.shape}{_hint(name, value.shape)}")
    named = {name: np.empty(shape, dtype) for name, shape in shapes.items()}
    for name, value in named.items():
        fill(value, values[name])
    return _frozen(named)


def require_only(mapping: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises ValueError for a name that none of the layers has, each of which was given only its own names."""
    superfluous = [str(name) for name in mapping if name not in known]
    if superfluous:
        raise ValueError(f"state_dict: superfluous {', '.join(superfluous)}; expected exactly {', '.join(known)}")


def _frozen(named: dict[str, Array]) -> dict[str, Array]:
    """The same arrays, read-only from now on."""
    for value in named.values():
        value.flags.writeable = False
    return named


def _hint(name: str, shape: tuple[int, ...]) -> str:
    if name.startswith("weight_hh") and len(shape) == 2 and shape[0] == 3 * shape[1]:
        return ": three gates, a GRU; lstmkernel runs LSTMs"
    return ""
