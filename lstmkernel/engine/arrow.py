"""A column of Arrow, whose entries are rows of steps, as one array and the places where rows begin.

pyarrow is not imported: who gives a column of it has imported it. Arrow keeps the numbers of all rows one after the
other. They are copied only where a column lies in several chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments

#: Arrow's arrays of lists that have offsets; those with one length for all lists have another name.
WITH_OFFSETS, OF_ONE_LENGTH = ("ListArray", "LargeListArray"), "FixedSizeListArray"

#: How to leave out rows without which nothing is missing.
_LEAVE_OUT = (
    "to leave out such rows, give column.filter(pyarrow.array([row is not None and None not in row for row in "
    "column.to_pylist()]))"
)
_FILL = (
    "to take 0 in such places, give numpy.nan_to_num({numbers}.to_numpy(zero_copy_only=False)).reshape(-1, {I}) and "
    "{offsets} (a ChunkedArray: combine_chunks() first)"
)


def is_of_arrow(value: Any) -> bool:
    """Whether pyarrow has made it."""
    return type(value).__module__.partition(".")[0] == "pyarrow"


def rows_of(column: Any, I: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The steps of all rows (N, I), of any real dtype, and where rows begin, (rows + 1,), from 0 on.

    Raises TypeError for another type of column, and ValueError for missing values and for steps of another width.
    """
    chunks = column.chunks if type(column).__name__ == "ChunkedArray" else [column]
    parts, first = [], 0
    for chunk in chunks:
        numbers, offsets = _of_chunk(chunk, I, dtype, first)
        parts.append((numbers, offsets))
        first += len(chunk)
    if not parts:
        return np.empty((0, I), dtype), np.zeros(1, np.int64)
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(numbers) for numbers, _ in parts)])
    ends = [offsets[1:] + start for (_, offsets), start in zip(parts, starts, strict=False)]
    return np.concatenate([numbers for numbers, _ in parts]), np.concatenate([[0], *ends])


def _of_chunk(column: Any, I: int, dtype: np.dtype[Any], first: int) -> tuple[Array, Array]:
    """As ``rows_of``, of one array. first: the number of its first row, for messages."""
    if type(column).__name__ not in (*WITH_OFFSETS, OF_ONE_LENGTH):
        raise TypeError(_expected(column, I))
    if column.null_count:
        row = first + _first_null(column)
        raise ValueError(
            f"flat: expected a list of steps in each row, got a missing one (null), row {row}; {_LEAVE_OUT}"
        )
    steps, offsets = _entries(column)
    numbers = steps
    if _is_list(steps):
        if steps.null_count:
            where = _place(_first_null(steps), offsets, first)
            raise ValueError(f"flat: expected {I} numbers a step, got a missing step (null), {where}; {_LEAVE_OUT}")
        numbers, inner = _entries(steps)
        wrong = np.flatnonzero(np.diff(inner) != I)
        if wrong.size:
            place = int(wrong[0])
            where, got = _place(place, offsets, first), inner[place + 1] - inner[place]
            raise ValueError(f"flat: expected steps of I = {I} numbers, got {got}, {where}")
    elif I != 1:
        raise TypeError(_expected(column, I))
    if numbers.null_count:
        where = _place(_first_null(numbers) // I, offsets, first)
        within = "column.values.flatten()" if _is_list(steps) else "column.values"
        size = getattr(column.type, "list_size", None)
        ends = "column.offsets" if size is None else f"{size} * numpy.arange(len(column) + 1)"
        way_out = _FILL.format(numbers=within, offsets=ends, I=I)
        raise ValueError(f"flat: expected numbers, got a missing one (null), {where}; {way_out}")
    found = arguments.real_numbers("flat", numbers.to_numpy(zero_copy_only=False), dtype)
    return found.reshape(-1, I), offsets


def _is_list(array: Any) -> bool:
    return type(array).__name__ in (*WITH_OFFSETS, OF_ONE_LENGTH)


def _entries(lists: Any) -> tuple[Any, Array]:
    """What is in the lists, one after the other, without a copy; and where each list begins, from 0 on."""
    if type(lists).__name__ == OF_ONE_LENGTH:
        return lists.flatten(), lists.type.list_size * np.arange(len(lists) + 1)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    start = int(offsets[0])
    return lists.values.slice(start, int(offsets[-1]) - start), offsets - start


def _first_null(array: Any) -> int:
    return int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))


def _place(step: int, offsets: Array, first: int) -> str:
    """Which row and step of it is the step number ``step`` of all."""
    row = int(np.searchsorted(offsets, step, side="right")) - 1
    return f"row {first + row}, step {step - offsets[row]}"


def _expected(column: Any, I: int) -> str:
    numbers = " or of numbers" if I == 1 else ""
    way_out = "; give one of its columns" if hasattr(column, "column_names") else ""
    of = getattr(column, "type", type(column).__name__)
    return f"flat: expected a column of lists of lists of I = {I} numbers{numbers}, got {of}{way_out}"
