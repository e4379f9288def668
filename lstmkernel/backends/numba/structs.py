"""The structs of csrc/lstmkernel.h: Python writes them, compiled code reads them.

A struct is an array of 64-bit words, one for each field. ``packed`` makes it and ``struct_at`` reads it. Both go by the
fields of the classes below, so no other place knows their order.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.packing import Array

# What a field may be. Each says which Numba type it has in a struct of a dtype, `real`. Pointers are written as an
# array, an address or None; Numbers and Rows point to numbers of that dtype and to pointers to such.
Int = Annotated[int, lambda real: types.int64]
Flag = Annotated[bool, lambda real: types.boolean]
Number = Annotated[float, lambda real: real]
Ints = Annotated[Any, lambda real: types.CPointer(types.int64)]
Numbers = Annotated[Any, lambda real: types.CPointer(real)]
Rows = Annotated[Any, lambda real: types.CPointer(types.CPointer(real))]


class Function(NamedTuple):
    """An activation with its numbers: lk_function."""

    kind: Int
    alpha: Number
    beta: Number


class Variant(NamedTuple):
    """What a layer computes that is not the plain LSTM: lk_variant."""

    gates: Function
    candidate: Function
    output: Function
    gate_clip: Number
    cell_clip: Number
    coupled: Int
    has_peephole: Flag
    peephole: Numbers


class Layer(NamedTuple):
    """One direction of one layer: lk_layer. output_size and blocks are what C computes from the other sizes."""

    input_size: Int
    hidden_size: Int
    proj_size: Int
    output_size: Int
    blocks: Int
    w_x: Numbers
    w_h: Numbers
    bias: Numbers
    w_r: Numbers
    variant: Int  # an address; 0 for the plain LSTM


class Dense(NamedTuple):
    """lk_dense."""

    in_features: Int
    out_features: Int
    activation: Int
    w: Numbers
    bias: Numbers


class Call(NamedTuple):
    """A call to a whole LSTM but for its arrays: lk_call. Strides are in elements."""

    num_layers: Int
    directions: Int
    R: Int
    H: Int
    T: Int
    B: Int
    x_step: Int
    x_row: Int
    out_step: Int
    out_row: Int
    state_rows: Int
    first: Int
    last: Int
    reverse: Flag
    layers: Ints  # the address of each layer and direction


class Tape(NamedTuple):
    """What one layer and direction keeps of a forward pass for the backward pass: lk_tape."""

    T: Int
    B: Int
    first: Int
    last: Int
    has_lengths: Flag
    lengths: Ints
    reverse: Flag
    x: Numbers
    x_step: Int
    x_row: Int
    h_0: Numbers
    h: Numbers
    h_step: Int
    h_row: Int
    c: Numbers
    gates: Numbers


def packed(struct: tuple[Any, ...]) -> Array:
    """The struct's words. They hold addresses: keep its arrays for as long as compiled code may read them."""
    return np.array(list(_words(struct)), np.int64)


def _words(value: Any) -> Iterator[int]:
    if isinstance(value, tuple):
        for field in value:
            yield from _words(field)
    elif isinstance(value, float):
        yield int(np.float64(value).view(np.int64))  # Numbers are doubles here, as in C
    elif isinstance(value, np.ndarray):
        yield address(value)
    else:
        yield int(value or 0)


def _numba_type(struct: type, real: types.Float) -> types.NamedTuple:
    hints = get_type_hints(struct, include_extras=True).values()
    fields = [_numba_type(hint, real) if isinstance(hint, type) else hint.__metadata__[0](real) for hint in hints]
    return types.NamedTuple(fields, struct)


@intrinsic
def struct_at(typingctx, struct, address, real):
    """The struct of that class at an address. real: numba.float32, numba.float64, or a pointer to such numbers."""
    result = _numba_type(struct.instance_class, real.dtype)

    def codegen(context, builder, signature, args):
        words = builder.inttoptr(args[1], ir.IntType(64).as_pointer())
        places = (builder.gep(words, [ir.IntType(64)(n)]) for n in range(_size(result)))
        return _read(context, builder, result, places)

    return result(struct, address, real), codegen


def _size(kind):
    return sum(map(_size, kind)) if isinstance(kind, types.NamedTuple) else 1


def _read(context, builder, kind, places):
    """The value of a field or struct, from the next of `places`."""
    if isinstance(kind, types.NamedTuple):
        return context.make_tuple(builder, kind, [_read(context, builder, field, places) for field in kind])
    word = builder.load(next(places))
    if isinstance(kind, types.CPointer):
        return builder.inttoptr(word, context.get_value_type(kind))
    if kind == types.boolean:
        return builder.icmp_signed("!=", word, word.type(0))
    if isinstance(kind, types.Float):
        number = builder.bitcast(word, ir.DoubleType())
        return number if kind == types.float64 else builder.fptrunc(number, ir.FloatType())
    return word
