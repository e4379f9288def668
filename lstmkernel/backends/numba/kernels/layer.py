"""The packed layers as compiled code sees them: lk_layer and lk_dense of csrc/lstmkernel.h.

Python keeps each as an array of int64, made once when weights are packed: sizes, then addresses.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple

from numba import int64

from lstmkernel.backends.numba.jit import internal
from lstmkernel.backends.numba.memory import lanes, pointer

#: output_size: R, the width of h; blocks: of hidden_size; variant: an address (variant.py), 0 for the plain LSTM.
Layer = namedtuple("Layer", "input_size hidden_size proj_size output_size blocks w_x w_h bias w_r variant")
Dense = namedtuple("Dense", "in_features out_features activation w bias")


@internal
def layer_at(address, real):
    field = pointer(address, int64)
    input_size, hidden_size, proj_size = field[0], field[1], field[2]
    w_x, w_h = pointer(field[3], real), pointer(field[4], real)
    bias, w_r = pointer(field[5], real), pointer(field[6], real)
    blocks = (hidden_size + lanes(bias) - 1) // lanes(bias)
    output_size = proj_size or hidden_size
    return Layer(input_size, hidden_size, proj_size, output_size, blocks, w_x, w_h, bias, w_r, field[7])


@internal
def dense_at(address, real):
    field = pointer(address, int64)
    return Dense(field[0], field[1], field[2], pointer(field[3], real), pointer(field[4], real))
