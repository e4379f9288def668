"""LSTMs that PyTorch's ``quantize_dynamic`` made: objects with packed weights stand where the tensors were.

A state_dict has one such object for each layer and direction, "rnn._all_weight_values.0.param". Read as data, it is a
tuple: its kind, biases, and for weight_ih and weight_hh another object, which is a pair of weight and bias. The tensors
get names behind the object's, such as "rnn._all_weight_values.0.param.int8.weight_ih"; ``resolved`` makes an LSTM's of
them. An int8 weight has the tensors "weight_ih_scale" and "weight_ih_zero" beside it, for the matrix or for each row.

A Linear has a pair of weight and bias, "fc._packed_params._packed_params", and becomes one of float32.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine.precision import FLOAT16, INT8, SCALE
from lstmkernel.formats.integers import symmetric
from lstmkernel.formats.pytorch.pickled import Dict, Name, Opaque, Storage, StoredTensor, view
from lstmkernel.formats.pytorch.weights import Weight, unreadable

#: The kinds of such objects, and what the weights in them are.
KINDS = {"quantized_dynamic": INT8, "quantized_fp16": FLOAT16}

#: What comes behind a zero point's name.
ZERO = "_zero"

_CLASSES = "__torch__.torch.classes."
_CELL, _LINEAR = f"{_CLASSES}rnn.CellParamsBase", f"{_CLASSES}quantized.LinearPackedParamsBase"

_NAME = re.compile(
    r"(?P<place>(?:.*\.)?)_all_weight_values\.(?P<number>[0-9]{1,6})\.param\.(?P<precision>int8|float16)\.(?P<own>\w+)",
    re.DOTALL,
)

#: Where the pair of a Linear is, behind the Linear's name; and the same with what is in it.
PAIR = "_packed_params._packed_params"
_OF_PAIR = re.compile(rf"(?P<place>(?:.*\.)?){re.escape(PAIR)}\.linear\.(?P<own>\w+)", re.DOTALL)

#: What else a Linear has: what its outputs would be rounded to, in a model that is not dynamic.
_BESIDE = ("scale", "zero_point", "_packed_params.dtype", "_packed_params")

#: What differs from PyTorch.
ACTIVATIONS = (
    "PyTorch's quantize_dynamic rounds the activations of all rows to 8 bits with one scale, here each row has its own "
    "and 16 bits (activations='int16'): the integers of the weights are the same, the outputs are near PyTorch's but "
    "not equal to them"
)


# ---------------------------------------------------------------- as a pickle has them


def tensors(node: Opaque) -> Dict | None:
    """The tensors in such an object by their names; None for any other object."""
    match _state(node, _CELL):
        case (str(kind), biases, _, _, [packed_ih, packed_hh]) if kind in KINDS:
            pairs = [_state(each, _LINEAR) for each in (packed_ih, packed_hh)]
            given = _list(biases)
        case _:
            return None
    found = Dict()
    for place, (own, pair) in enumerate(zip(("ih", "hh"), pairs, strict=True)):
        if not isinstance(pair, tuple) or len(pair) != 2:
            return None
        bias = given[place] if len(given) == 2 else pair[1]
        for name, value in (*_matrix(f"weight_{own}", pair[0]), (f"bias_{own}", bias)):
            found.items += [f"{KINDS[kind]}.{name}", value]
    return found


def _state(node: Any, kind: str) -> Any:
    """What an object of a class of TorchScript is made of; beside the class's name where Python pickled it."""
    match node:
        case Opaque(why="torch.ScriptObject", inner=[(state, str(found))]) if found == kind:
            return state
        case Opaque(why=found, inner=[state]) if found == kind:
            return state
    return None


def _list(value: Any) -> list[Any]:
    """TorchScript has a function around a list."""
    inner = value.inner[0] if isinstance(value, Opaque) and len(value.inner) == 1 else value
    return inner if isinstance(inner, list) else []


def _matrix(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case Opaque(
            inner=[Storage(dtype="qint8") as raw, int(offset), tuple(shape), tuple(strides), tuple(quantizer), *_]
        ):
            yield name, view(Storage(raw.key, "int8", raw.elements, raw.data, raw.byte_order), offset, shape, strides)
            match quantizer:
                case (Name(name="per_tensor_affine"), float(scale), int(zero)):
                    yield name + SCALE, _constant(scale, "float64")
                    yield name + ZERO, _constant(max(min(zero, 1 << 31), -1 << 31), "int64")
                case (Name(name="per_channel_affine"), scale, zero, 0):
                    yield name + SCALE, scale
                    yield name + ZERO, zero
        case _:
            yield name, value


def _constant(value: float, dtype: str) -> StoredTensor:
    data = np.array(value, np.dtype(dtype).newbyteorder("<")).tobytes()
    return StoredTensor(Storage("", dtype, 1, data), 0, (), ())


def linear(name: str, node: Any) -> Dict | None:
    """The tensors of a Linear's pair, as those of an LSTM's object."""
    if not (isinstance(node, tuple) and len(node) == 2 and f".{name}".endswith(f".{PAIR}")):
        return None
    found = Dict()
    for own, value in (*_matrix("weight", node[0]), ("bias", node[1])):
        found.items += [f"linear.{own}", value]
    return found


# ---------------------------------------------------------------- as they live


def of_pair(name: str, pair: Any) -> list[Weight]:
    """A Linear's pair in memory."""
    weight, bias = pair
    arrays = _of_tensor("weight", weight) | ({} if bias is None else {"bias": bias.detach().numpy()})
    return [_weight(f"{name}.linear.{own}", array) for own, array in arrays.items()]


def of_object(name: str, value: Any) -> list[Weight]:
    """The same of an object in memory, with the same names."""
    state, _ = value.__getstate__()
    kind, biases, _, _, packed = state
    if kind not in KINDS or len(packed) != 2:
        return [unreadable(name, f"expected one of {', '.join(KINDS)}, got {str(kind)[:100]}")]
    found = []
    for place, (own, each) in enumerate(zip(("ih", "hh"), packed, strict=True)):
        (weight, bias), _ = each.__getstate__()
        arrays = _of_tensor(f"weight_{own}", weight)
        arrays[f"bias_{own}"] = (biases[place] if len(biases) == 2 else bias).detach().numpy()
        found += [_weight(f"{name}.{KINDS[kind]}.{inner}", array) for inner, array in arrays.items()]
    return found


def _of_tensor(name: str, weight: Any) -> dict[str, Array]:
    if not weight.is_quantized:
        return {name: weight.detach().numpy()}
    if str(weight.qscheme()) == "torch.per_tensor_affine":
        scale, zero = np.float64(weight.q_scale()), np.int64(weight.q_zero_point())
    else:
        scale, zero = weight.q_per_channel_scales().numpy(), weight.q_per_channel_zero_points().numpy()
    return {name: weight.int_repr().numpy(), name + SCALE: np.asarray(scale), name + ZERO: np.asarray(zero)}


def _weight(name: str, array: Array) -> Weight:
    return Weight(name, array.shape, array.dtype.name, lambda: array)


# ---------------------------------------------------------------- as an LSTM's


def resolved(weights: Sequence[Weight], two_directions: Callable[[str], bool] | None = None) -> list[Weight]:
    """The weights with an LSTM's names for those of such objects.

    two_directions says of the place of an LSTM whether it has two; without it, only shapes tell.
    """
    found: list[Weight | _Place] = []  # in the order of the layers
    places: dict[tuple[str, str], _Place] = {}
    for weight in weights:
        match = _OF_PAIR.fullmatch(weight.name) or _NAME.fullmatch(weight.name)
        if match is None:
            found.append(weight)
            continue
        kind = "Linear" if match.re is _OF_PAIR else "LSTM"
        if (kind, match["place"]) not in places:
            places[kind, match["place"]] = _Place(kind, match["place"], {})
            found.append(places[kind, match["place"]])
        number, own = (
            (int(match["number"]), weight._replace(precision=match["precision"])) if kind == "LSTM" else (0, weight)
        )
        places[kind, match["place"]].parts.setdefault(number, {})[match["own"]] = own
    beside = {place + own for kind, place in places if kind == "Linear" for own in _BESIDE}
    resolved: list[Weight] = []
    for each in found:
        if isinstance(each, Weight):
            resolved += [] if each.name in beside else [each]
        elif each.kind == "Linear":
            resolved += _linear(each.name, each.parts[0])
        else:
            resolved += _lstm(each.name, each.layers(), two_directions)
    return resolved


class _Place(NamedTuple):
    """An LSTM or a Linear, its name with a dot, and what is in each of its objects."""

    kind: str
    name: str
    parts: dict[int, dict[str, Weight]]

    def layers(self) -> list[dict[str, Weight]]:
        if sorted(self.parts) != list(range(len(self.parts))):
            raise ValueError(f"{self.name[-100:]}_all_weight_values: expected numbers from 0 on, got others")
        return [self.parts[number] for number in range(len(self.parts))]


def _linear(place: str, parts: Mapping[str, Weight]) -> Iterator[Weight]:
    """Weight and bias in float32."""
    for own in ("weight", "bias"):
        if own not in parts:
            continue
        weight, scale, zero = (parts.get(own + end) for end in ("", SCALE, ZERO))
        assert weight is not None
        renamed = weight._replace(name=place + own)
        if scale is None or zero is None:
            yield renamed
        else:
            yield renamed._replace(dtype="float32", read=partial(_numbers, renamed.name, weight, scale, zero))


def _numbers(name: str, weight: Weight, scale: Weight, zero: Weight) -> Array:
    values, scales, zeros = (np.asarray(each.read()) for each in (weight, scale, zero))
    if scales.shape not in ((), values.shape[:1]) or zeros.shape != scales.shape:
        raise ValueError(f"{name}: expected a scale and a zero point, or such for each of its rows, got {scales.shape}")
    by_row = (-1, *[1] * (values.ndim - 1)) if scales.ndim else ()
    with np.errstate(over="ignore"):
        numbers: Array = ((values - zeros.reshape(by_row)) * scales.reshape(by_row)).astype(np.float32)
    return numbers


def _lstm(
    place: str, layers: list[dict[str, Weight]], two_directions: Callable[[str], bool] | None
) -> Iterator[Weight]:
    fits = _directions(layers)
    if two_directions is not None:
        fits = [2 if two_directions(place.removesuffix(".")) else 1]
    unclear = "two networks fit: two layers, or two directions; give from_torch the module, which knows"
    for number, parts in enumerate(layers):
        layer, direction = divmod(number, fits[0])
        end = f"_l{layer}" + ("_reverse" if direction else "")
        for own, weight in parts.items():
            if own.endswith((SCALE, ZERO)):
                continue
            renamed = weight._replace(
                name=f"{place}{own}{end}", problem=weight.problem or ("" if len(fits) == 1 else unclear)
            )
            if own + SCALE in parts and own + ZERO in parts:
                yield from _integers(renamed, parts[own + SCALE], parts[own + ZERO])
            else:
                yield renamed


def _directions(layers: Sequence[Mapping[str, Weight]]) -> list[int]:
    """The numbers of directions that fit the shapes: a layer above reads H or 2H numbers."""
    shapes = [[parts[own].shape if own in parts else () for own in ("weight_ih", "weight_hh")] for parts in layers]
    widths = [ih[-1] if ih else 0 for ih, _ in shapes]
    H = shapes[0][1][-1] if shapes[0][1] else 0
    one = all(width == H for width in widths[1:])
    two = len(widths) % 2 == 0 and widths[1] == widths[0] and all(width == 2 * H for width in widths[2:])
    return [count for count, fits in ((1, one), (2, two)) if fits] or [1]


def _integers(weight: Weight, scale: Weight, zero: Weight) -> Iterator[Weight]:
    """A matrix and its scale, one for each row."""
    rows = weight.shape[:1]

    def read() -> Array:
        if np.asarray(zero.read()).any():
            raise ValueError(
                f"{weight.name}: expected a zero point of 0, as quantize_dynamic gives it, got another; load the model "
                "as it was before, then quantize('int8')"
            )
        return symmetric(weight.read())

    def read_scale() -> Array:
        given = np.asarray(scale.read())
        if given.shape not in ((), rows):
            raise ValueError(f"{weight.name}: expected a scale, or one for each of its rows, got {given.shape}")
        with np.errstate(over="ignore"):
            return np.broadcast_to(given.astype(np.float32), rows)

    yield weight._replace(read=read, assumed=ACTIVATIONS)
    yield Weight(weight.name + SCALE, rows, "float32", read_scale, scale.problem, precision=INT8)
