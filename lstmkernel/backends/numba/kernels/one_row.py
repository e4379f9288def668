"""One row through one direction of a layer whose sizes are constants, with few blocks, all in one tile.

The Numba form of csrc/kernels/one_row.h. c and the sums of all blocks stay in registers from step to step, and the
inputs are part of the same tile, so z is never in memory.

Two things differ from C. The sum over h is a loop of short runs: unrolled whole, as in C, LLVM loads all of h first and
keeps the sums on the stack. And the gates of a half full last block do not share vectors.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import inlined, internal, never_inline
from lstmkernel.backends.numba.kernels.cell import cells
from lstmkernel.backends.numba.kernels.tile import FEW_UNITS, ROWS_1
from lstmkernel.backends.numba.memory import at, clear, copy, pointer
from lstmkernel.backends.numba.structs import Layer, struct_at
from lstmkernel.backends.numba.target import VECTOR_BYTES
from lstmkernel.backends.numba.vec.operations import v_add
from lstmkernel.backends.numba.vec.registers import (
    gates_of_row,
    load_tile,
    load_vectors,
    multiply_add_run,
    store_vectors,
    zero_tile,
)

#: The sums of so many blocks have registers. Weights of so many bytes are always in L1.
MOST_ROW_BLOCKS, ONE_TILE_BYTES = 4, 40 << 10

#: Inputs of an unrolled run. It is even, because the even and the odd inputs may have sums of their own.
RUN = 4


def fits(I: int, H: int, P: int, item_size: int) -> bool:
    """Whether there is such a kernel for a layer of those sizes."""
    blocks = -(-H * item_size // VECTOR_BYTES)
    return not P and blocks <= MOST_ROW_BLOCKS and (I + H) * blocks * 4 * VECTOR_BYTES <= ONE_TILE_BYTES


def _product(K: int, block_size: int, blocks: tuple[int, ...]):
    """sums + x w for one row of K inputs."""
    run, rest = tuple(range(RUN)), tuple(range(K % RUN))

    @inlined
    def product(sums, x, w, runs):
        """runs: K // RUN. LLVM must not know this number: it would unroll all of them."""
        for _ in range(runs):
            sums = multiply_add_run(sums, x, w, K * block_size, blocks, run)
            x, w = at(x, RUN), at(w, RUN * block_size)
        return multiply_add_run(sums, x, w, K * block_size, blocks, rest)

    return product


def kernel_of(I: int, H: int, item_size: int):
    """T steps of a row, of constant I and H. work: room for two rows of whole blocks."""
    lanes = VECTOR_BYTES // item_size
    blocks = tuple(range(-(-H // lanes)))
    width, half, summed_apart = len(blocks) * lanes, 4 * len(blocks), H <= FEW_UNITS
    input_product, recurrent_product = _product(I, 4 * lanes, blocks), _product(H, 4 * lanes, blocks)

    def row_forward(real, layer, T, x, x_step, h, c, out, out_step, work):
        never_inline()
        fields = struct_at(Layer, layer, real)
        x_t, out_t = pointer(x, real), pointer(out, real)
        callers_h, callers_c = pointer(h, real), pointer(c, real)
        row_h = pointer(work, real)
        row_c = at(row_h, width)
        copy(row_h, callers_h, H)
        clear(row_c, width)  # units past H too: they are computed, never read
        copy(row_c, callers_c, H)
        c_t = load_vectors(row_c, blocks)
        for _ in range(T):
            sums = load_tile(fields.bias, 0, ROWS_1, blocks)
            sums = input_product(sums, x_t, fields.w_x, fields.input_size // RUN)
            if summed_apart:  # the even and the odd k, as in small_step_sums
                both = sums + zero_tile(x_t, ROWS_1, blocks)
                both = recurrent_product(both, row_h, fields.w_h, fields.hidden_size // RUN)
                sums = v_add(both[:half], both[half:])
            else:
                sums = recurrent_product(sums, row_h, fields.w_h, fields.hidden_size // RUN)
            c_t, h_t = cells(gates_of_row(sums), c_t)
            store_vectors(h_t, row_h)
            copy(out_t, row_h, H)
            x_t, out_t = at(x_t, x_step), at(out_t, out_step)
        store_vectors(c_t, row_c)
        copy(callers_h, row_h, H)
        copy(callers_c, row_c, H)

    row_forward.__qualname__ = f"row_forward_{I}_{H}"  # code from two processes' caches must not share a name
    return internal(row_forward)
