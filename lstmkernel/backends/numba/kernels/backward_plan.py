"""The sizes of a backward pass, and where everything lies in its two pieces of memory: csrc/kernels/backward_plan.h.

`packed` is kept from call to call; `work` is for one. Python computes all of it, once for each kind of call.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache

from lstmkernel.backends.numba.arrays import address
from lstmkernel.backends.numba.jit import spliced
from lstmkernel.backends.numba.kernels.layout import WORD
from lstmkernel.backends.numba.kernels.tile import LINE_BYTES
from lstmkernel.backends.numba.memory import at, pointer, pointer_to_rows
from lstmkernel.backends.numba.structs import packed, struct, struct_at

#: Rows of a chunk: at most CHUNK_STEPS_ROWS, and fewer where their d_z would be more than CHUNK_D_Z_BYTES, but at least
#: CHUNK_LEAST_ROWS.
CHUNK_STEPS_ROWS, CHUNK_LEAST_ROWS, CHUNK_D_Z_BYTES = 256, 96, 1 << 21

#: What a call does: load the weights and the gradients so far; take the tape's steps; store the weights' gradients.
#: Loading and storing is for one part in `parts` of the weights.
LOAD, STEPS, STORE = 1, 2, 4

#: The gradients, and the parameters as PyTorch has them: lk_gradients. packed: the address of packed_bytes.
Gradients = struct(
    "Gradients",
    "numbers w_ih w_hh w_hr",
    "flag has_d_out",
    "numbers d_out",
    "int d_out_step d_out_row",
    "numbers d_h d_c",
    "flag of_x",
    "numbers d_x",
    "int d_x_step d_x_row",
    "flag add_x of_weights",
    "numbers d_w_ih d_w_hh d_bias d_w_hr",
    "int packed stages part parts",
)

#: Sizes. R: of h. Padded widths of a row; that of d_z [4][H] is one cache line wider, because rows that are a power of
#: two apart would share few sets of a cache. most_rows: of a chunk.
_SIZES = "I H P R c_stride h_stride d_z_stride hidden_stride d_x_stride transposed_stride most_rows"

#: In `packed`: weights for transposed_product, and the sums of the weights' gradients: of all gates
#: [blocks][inputs][4][LANES], whose inputs are x, 1 and h_before; and of W_hr.
_PACKED = "w_hh w_ih w_hr sums sums_hr"

#: In `work`: of the step at hand d_h, d_c, d_hidden; of the chunk at hand d_z, d_x, [x, 1, h_before] transposed; and
#: for a projection o tanh(c), d_h, and d_h transposed.
_WORK = "d_h d_c d_hidden d_z d_x_rows transposed hidden d_h_rows d_h_transposed"

#: All of that; places are numbers from the beginning. pointers: in bytes. own: how many pointers a thread has.
Plan = struct("Plan", f"int {_SIZES} {_PACKED} {_WORK} pointers own")

#: One call, as one thread sees it: the same with addresses. pointers: room for a pointer to each row of a chunk.
BackwardPass = namedtuple("BackwardPass", f"given tape {_SIZES} {_PACKED} {_WORK} pointers")


class Planned:
    """A plan as compiled code reads it, and the bytes of `packed` and, for so many threads, of `work`."""

    def __init__(self, plan: Plan, packed_bytes: int) -> None:
        self.packed_bytes = packed_bytes
        self._words, self._plan = packed(plan), plan
        self.address = address(self._words)

    def work_bytes(self, threads: int) -> int:
        return self._plan.pointers + threads * self._plan.own * WORD


@lru_cache
def plan_backward(
    I: int, H: int, P: int, B: int, steps: int, of_x: bool, of_weights: bool, lanes: int, size: int
) -> Planned:
    R, block, line = P or H, 4 * lanes, LINE_BYTES // size
    fitting = max(CHUNK_LEAST_ROWS, CHUNK_D_Z_BYTES // (4 * H * size))
    rows = max(B, min(CHUNK_STEPS_ROWS, fitting, B * steps))
    d_z, d_x, transposed = _whole(4 * H, block) + line, _whole(I, line), _whole(rows, line) + line
    sizes = [I, H, P, R, _whole(H, lanes), _whole(R, lanes), d_z, _whole(H, block), d_x, transposed, rows]
    w_hh, w_ih, w_hr = _whole(R, block) * 4 * H, of_x * _whole(I, block) * 4 * H, _whole(H, block) * P
    sums = of_weights * _whole(4 * H, block) * (I + 1 + R)
    *of_packed, packed_end = _places(line, w_hh, w_ih, w_hr, sums, of_weights * w_hr)
    c_stride, h_stride, projected = sizes[4], sizes[5], rows if P else 0
    *of_work, work_end = _places(
        line,
        *(B * h_stride, B * c_stride, B * c_stride if P else 0),
        *(rows * d_z, of_x * rows * d_x, of_weights * (I + 1 + R) * transposed),
        *(projected * _whole(H, block), projected * h_stride, P * transposed),
    )
    if not P:  # d_hidden is d_h
        of_work[2] = of_work[0]
    return Planned(Plan(*sizes, *of_packed, *of_work, work_end * size, max(rows, lanes)), packed_end * size)


def _whole(count: int, of: int) -> int:
    """The next multiple."""
    return -(-count // of) * of


def _places(line: int, *counts: int) -> list[int]:
    """Where each of them begins, one after the other in whole lines; and their end."""
    places = [0]
    for count in counts:
        places.append(places[-1] + _whole(count, line))
    return places


@spliced
def backward_pass(plan_at, given, tape, work, real, rank):
    plan, p, w = struct_at(Plan, plan_at, real), pointer(work, real), pointer(given.packed, real)
    return BackwardPass(
        given,
        tape,
        plan.I,
        plan.H,
        plan.P,
        plan.R,
        plan.c_stride,
        plan.h_stride,
        plan.d_z_stride,
        plan.hidden_stride,
        plan.d_x_stride,
        plan.transposed_stride,
        plan.most_rows,
        at(w, plan.w_hh),
        at(w, plan.w_ih),
        at(w, plan.w_hr),
        at(w, plan.sums),
        at(w, plan.sums_hr),
        at(p, plan.d_h),
        at(p, plan.d_c),
        at(p, plan.d_hidden),
        at(p, plan.d_z),
        at(p, plan.d_x_rows),
        at(p, plan.transposed),
        at(p, plan.hidden),
        at(p, plan.d_h_rows),
        at(p, plan.d_h_transposed),
        pointer_to_rows(work + plan.pointers + rank * plan.own * WORD, real),
    )
