"""The first and the last stage of a backward pass: csrc/kernels/backward_weights.h.

Weights and their gradients so far go into the kernels' order, and the gradients come back from it.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import internal, spliced
from lstmkernel.backends.numba.kernels.dense import blocks_of
from lstmkernel.backends.numba.kernels.tile import ZERO
from lstmkernel.backends.numba.kernels.transpose import transpose, transpose_back
from lstmkernel.backends.numba.memory import at, clear, copy, lanes
from lstmkernel.backends.numba.run.team import ONE, first_part, next_part
from lstmkernel.backends.numba.vec.operations import v_load, v_store
from lstmkernel.backends.numba.vec.registers import block_size


@spliced
def of_call(given, n):
    """n blocks or vectors of the weights, those of the part that the call takes: the first, and the last + 1."""
    return n * given.part // given.parts, n * (given.part + 1) // given.parts


@internal
def pack_columns(to, w, K, outputs, first, last):
    """Blocks first .. last - 1 of columns of w [K][outputs], each with its rows one after the other."""
    for block in range(first, last):
        n = min(block_size(w), outputs - block * block_size(w))
        for k in range(K):
            place, columns = at(to, (block * K + k) * block_size(w)), at(w, k * outputs + block * block_size(w))
            if n == block_size(w):
                for v in range(4):
                    v_store(at(place, v * lanes(w)), v_load(at(columns, v * lanes(w))))
            else:
                clear(place, block_size(w))
                copy(place, columns, n)


@internal
def pack_phase(given, to, w, K, outputs, team):
    first, last = of_call(given, blocks_of(outputs, w))
    part = first_part(team, last - first)
    while part[1] >= 0:
        pack_columns(to, w, K, outputs, first + part[0], first + part[1])
        part = next_part(team, last - first)


@spliced
def move(back, to_caller, d, w, K, first, n):
    """d [K][4][LANES] goes to n rows of the caller's w [4 H][K], from row `first` on; or comes from there."""
    for row in range(n):
        back.pointers[row] = at(w, (first + row) * K)
    if to_caller != 0:
        transpose_back(back.pointers, d, block_size(d), n, K)
    else:
        transpose(d, block_size(d), back.pointers, n, K)


@internal
def move_sums(back, to_caller, team):
    """A phase: the sums of the gates' weights, vector by vector."""
    given, I, R, width = back.given, back.I, back.R, lanes(back.sums)
    begin, end = of_call(given, (4 * back.H + width - 1) // width)
    part = first_part(team, end - begin)
    while part[1] >= 0:
        for vector in range(begin + part[0], begin + part[1]):
            first = vector * width
            n = min(width, 4 * back.H - first)
            d = at(back.sums, vector // 4 * (I + 1 + R) * block_size(back.sums) + vector % 4 * width)
            move(back, to_caller, d, given.d_w_ih, I, first, n)
            move(back, to_caller, at(d, I * block_size(d)), given.d_bias, ONE, first, n)
            move(back, to_caller, at(d, (I + 1) * block_size(d)), given.d_w_hh, R, first, n)
        part = next_part(team, end - begin)


@internal
def store_projection(back, team):
    """A phase: the sums of W_hr."""
    given, P, H, block = back.given, back.P, back.H, block_size(back.sums_hr)
    first, last = of_call(given, blocks_of(H, back.sums_hr))
    part = first_part(team, last - first)
    while part[1] >= 0:
        for index in range(first + part[0], first + part[1]):
            for output in range(P):
                sums = at(back.sums_hr, (index * P + output) * block)
                copy(at(given.d_w_hr, output * H + index * block), sums, min(block, H - index * block))
        part = next_part(team, last - first)


@internal
def load_weights(back, team):
    given, I, H, P, R = back.given, back.I, back.H, back.P, back.R
    pack_phase(given, back.w_hh, given.w_hh, 4 * H, R, team)
    if given.of_x:
        pack_phase(given, back.w_ih, given.w_ih, 4 * H, I, team)
    if P:
        pack_phase(given, back.w_hr, given.w_hr, P, H, team)
    if given.of_weights:
        move_sums(back, ZERO, team)
        if P:
            pack_phase(given, back.sums_hr, given.d_w_hr, P, H, team)


@internal
def store_weights(back, team):
    if back.given.of_weights:
        move_sums(back, ONE, team)
        if back.P:
            store_projection(back, team)
