"""Rows become columns, and back: csrc/kernels/transpose.h.

In squares of 4 rows and 4 columns. Where 4 does not divide their number, the last square overlaps the one before.
"""

# mypy: ignore-errors
# Compiled code: its types are Numba's, and inferred.

from __future__ import annotations

from lstmkernel.backends.numba.jit import internal
from lstmkernel.backends.numba.memory import at
from lstmkernel.backends.numba.vec.shuffle import v_transpose4


@internal
def transpose(to, to_stride, source, rows, columns):
    """to[j * to_stride + i] = source[i][j], i in 0 .. rows - 1, j in 0 .. columns - 1. source: pointers to rows."""
    if rows < 4 or columns < 4:
        for i in range(rows):
            for j in range(columns):
                to[j * to_stride + i] = source[i][j]
        return
    for row in range(0, rows, 4):
        for column in range(0, columns, 4):
            i, j = min(row, rows - 4), min(column, columns - 4)
            t = at(to, j * to_stride + i)
            columns_of_to = (t, at(t, to_stride), at(t, 2 * to_stride), at(t, 3 * to_stride))
            a, b, c, d = source[i], source[i + 1], source[i + 2], source[i + 3]
            v_transpose4(columns_of_to, (at(a, j), at(b, j), at(c, j), at(d, j)))


@internal
def transpose_back(to, source, stride, rows, columns):
    """The inverse: to[i][j] = source[j * stride + i]. to: pointers to rows."""
    if rows < 4 or columns < 4:
        for i in range(rows):
            for j in range(columns):
                to[i][j] = source[j * stride + i]
        return
    for row in range(0, rows, 4):
        for column in range(0, columns, 4):
            i, j = min(row, rows - 4), min(column, columns - 4)
            s = at(source, j * stride + i)
            a, b, c, d = to[i], to[i + 1], to[i + 2], to[i + 3]
            v_transpose4(
                (at(a, j), at(b, j), at(c, j), at(d, j)), (s, at(s, stride), at(s, 2 * stride), at(s, 3 * stride))
            )
