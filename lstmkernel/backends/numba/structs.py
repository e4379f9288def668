"""The structs of csrc/lstmkernel.h: Python writes them, compiled code reads them.

A struct is a named tuple. ``packed`` writes it as an array of 64-bit words, one for each field, and ``struct_at`` reads
them. Both go by the declarations below, so no other place knows the order of the fields.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.packing import Array

#: What a field may be, and its Numba type in a struct of a dtype. The plural is a pointer, which Python gives as an
#: array, an address or None. A number has the struct's dtype; rows are pointers to pointers to such.
KINDS = {
    "int": lambda real: types.int64,
    "flag": lambda real: types.boolean,
    "number": lambda real: real,
    "ints": lambda real: types.CPointer(types.int64),
    "numbers": lambda real: types.CPointer(real),
    "words": lambda real: types.CPointer(types.int32),
    "rows": lambda real: types.CPointer(types.CPointer(real)),
}


def struct(name: str, *declarations: str | tuple[Any, str]) -> Any:
    """A class of named tuples. A declaration is a kind and names, as in C: "int T B"; or a struct and names."""
    made, kinds = [], []
    for declaration in declarations:
        kind, names = declaration.split(maxsplit=1) if isinstance(declaration, str) else declaration
        made += names.split()
        kinds += [kind] * len(names.split())
    result = namedtuple(name, made)
    result.kinds = kinds
    return result


#: An activation with its numbers: lk_function.
Function = struct("Function", "int kind", "number alpha beta")

#: What a layer computes that is not the plain LSTM: lk_variant.
Variant = struct(
    "Variant",
    (Function, "gates candidate output"),
    "number gate_clip cell_clip",
    "int coupled",
    "flag has_peephole",
    "numbers peephole",
)

#: One direction of one layer: lk_layer. variant: an address, 0 for the plain LSTM. C computes the last two itself.
Layer = struct(
    "Layer",
    "int input_size hidden_size proj_size",
    "numbers w_x w_h bias w_r",
    "int variant",
    "int output_size blocks",
)

#: The same with 8-bit weights, which have scales. A word of w_x, w_h and w_r is four weights.
IntegerLayer = struct(
    "IntegerLayer",
    "int input_size hidden_size proj_size",
    "words w_x w_h",
    "numbers bias",
    "words w_r",
    "int output_size blocks",
    "numbers x_scale",
    "words x_offset",
    "numbers h_scale",
    "words h_offset",
    "numbers r_scale",
    "words r_offset",
)

#: lk_dense.
Dense = struct("Dense", "int in_features out_features activation", "numbers w bias")

#: A call to a whole LSTM but for its arrays: lk_call. layers: the address of each layer and direction.
Call = struct(
    "Call",
    "int num_layers directions R H T B",
    "int x_step x_row out_step out_row state_rows first last",
    "flag reverse",
    "ints layers",
)

#: What one layer and direction keeps of a forward pass for the backward pass: lk_tape.
Tape = struct(
    "Tape",
    "int T B first last",
    "flag has_lengths",
    "ints lengths",
    "flag reverse",
    "numbers x",
    "int x_step x_row",
    "numbers h_0 h",
    "int h_step h_row",
    "numbers c gates",
)


def packed(struct: tuple[Any, ...]) -> Array:
    """The struct's words. They hold addresses: keep its arrays for as long as compiled code may read them."""
    words: list[int] = []
    _add_words(words, struct)
    return np.array(words, np.int64)


def _add_words(words: list[int], struct: tuple[Any, ...]) -> None:
    for value in struct:
        if isinstance(value, int):
            words.append(value)
        elif isinstance(value, np.ndarray):
            words.append(address(value))
        elif isinstance(value, float):
            words.append(int(np.float64(value).view(np.int64)))  # a number is a double here, as in C
        elif isinstance(value, tuple):
            _add_words(words, value)
        else:
            words.append(int(value or 0))


def _numba_type(kind: Any, real: types.Float) -> types.Type:
    if isinstance(kind, str):
        return KINDS[kind](real)
    return types.NamedTuple([_numba_type(field, real) for field in kind.kinds], kind)


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
