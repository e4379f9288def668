"""Checks of single arguments. An argument that passes fits the kernels. Each error says what was expected and given."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.ma import MaskedArray  # at once: NumPy imports it when it is first asked for, perhaps in a signal handler
from numpy.typing import ArrayLike, DTypeLike

from lstmkernel.backends.packing import Array


def size(name: str, value: SupportsIndex, least: int = 1) -> int:
    """An integer of at least ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number


def addressable(name: str, shape: Iterable[int], dtype: np.dtype[Any]) -> None:
    """Refuse a shape whose bytes no address can count, before anything is allocated."""
    bytes_needed = dtype.itemsize
    for extent in shape:
        bytes_needed *= extent
    if bytes_needed > sys.maxsize:
        raise ValueError(
            f"{name}: shape {tuple(shape)} of {dtype} needs {bytes_needed} bytes, more than an address holds"
        )


def float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype: expected float32 or float64, got {dtype!r}")
    return np.dtype(found)


def num_threads(value: SupportsIndex | None) -> int | None:
    if value is not None:
        return size("num_threads", value)
    text = os.environ.get("LSTMKERNEL_NUM_THREADS")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"LSTMKERNEL_NUM_THREADS: expected an integer of at least 1, got {text!r}")
    return int(text)


def array_of(name: str, value: ArrayLike) -> Array:
    """``value`` as an array. Every argument that may be an array comes in here.

    It is a view, so that nobody can give it another shape or dtype after it was checked. An array with a mask
    (numpy.ma) is refused, also within a list: the numbers under the mask would be taken for real ones.
    """
    try:
        masked = isinstance(value, list | tuple) and _has_masked(value)
        array = None if masked else np.asanyarray(value)
    except ValueError as error:  # of lists of unequal length
        if type(value).__name__ == "PackedSequence":
            raise ValueError(_PACKED.format(name=name)) from None
        if name == "x" and _are_unequal_rows(value):
            raise ValueError(_UNEQUAL_ROWS) from None
        raise ValueError(f"{name}: expected an array, got {type(value).__name__}: {error}") from error
    except (RuntimeError, TypeError) as error:
        if not hasattr(value, "requires_grad"):
            raise
        raise TypeError(f"{name}: expected an array, got a tensor {_of_tensor(name, value, error)}") from error
    if array is None or isinstance(array, MaskedArray):
        way_out = _WITHOUT_MASK.get(name, "fill it: numpy.ma.filled(array, ...)")
        raise TypeError(f"{name}: expected an array without a mask, got a masked one; {way_out}")
    plain: Array = np.asarray(array)[...]
    return plain


_FILL_X = (
    "fill it: numpy.ma.filled(array, 0); lengths= and mask= of a call of an LSTM or a Stack name the steps that count"
)
#: What to do instead.
_WITHOUT_MASK = {"x": _FILL_X, "chunk": _FILL_X, "out": "give its data: out.data"}


_PACKED = (
    "{name}: expected an array, got a PackedSequence; give the padded array, and lengths= beside it "
    "(torch.nn.utils.rnn.pad_packed_sequence gives both), or take lstmkernel.torch.LSTM"
)
_UNEQUAL_ROWS = (
    "x: expected an array, got a list of rows of unequal length; use net.ragged(list) (last=True: only each row's last "
    "step), or pad the rows and give lengths="
)


def _of_tensor(name: str, tensor: Any, error: Exception) -> str:
    """What a tensor of PyTorch has that NumPy cannot read, and what to do."""
    if tensor.requires_grad:
        return (
            f"that requires a gradient; give {name}.detach() if you need none; lstmkernel.torch.LSTM takes tensors and "
            "gives gradients"
        )
    return f"that NumPy cannot read: {error}; give {name}.float().cpu()"


def _are_unequal_rows(value: Any) -> bool:
    """Whether these are rows (T, I) that differ in T alone."""
    try:
        shapes = {np.shape(part) for part in value}
    except (TypeError, ValueError):  # no list; rows that are no arrays themselves
        return False
    return {len(shape) for shape in shapes} == {2} and len({shape[1] for shape in shapes}) == 1


def _has_masked(parts: Sequence[Any]) -> bool:
    kinds = set(map(type, parts))
    if any(issubclass(kind, MaskedArray) for kind in kinds):
        return True
    nested = kinds & {list, tuple}
    return bool(nested) and any(_has_masked(part) for part in parts if type(part) in nested)


def real_numbers(name: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """``value`` as an array of any dtype that casts to ``dtype``."""
    array = array_of(name, value)
    if array.dtype is not dtype and array.dtype.kind not in "fiub":
        hint = f"; give its to_numpy({dtype.name!r})" if array.dtype == object and hasattr(value, "to_numpy") else ""
        raise TypeError(f"{name}: expected real numbers that cast to {dtype}, got {array.dtype}{hint}")
    return array


def real(name: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """``value`` as an array for the kernels: of ``dtype``, native, aligned, contiguous along its last axis."""
    array = real_numbers(name, value, dtype)
    if array.dtype is not dtype:
        array = array.astype(dtype, copy=False)
    if not array.flags.aligned or (not array.flags.c_contiguous and array.strides[-1] != dtype.itemsize):
        return array.copy(order="C")
    return array


def pair(name: str, value: Any, meaning: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        came = f"{len(value)} of them" if isinstance(value, tuple | list) else type(value).__name__
        raise TypeError(f"{name}: expected a pair {meaning}, got {came}")
    return value[0], value[1]


def shape(name: str, array: Array, expected: tuple[int, ...], meaning: str) -> None:
    if array.shape != expected:
        raise ValueError(f"{name}: expected shape {meaning} = {expected}, got {array.shape}")


def lengths(value: ArrayLike, T: int, B: int) -> Array:
    """Row lengths as int64 (B,), each in 0..T."""
    array = array_of("lengths", value).copy()  # what was checked must not change while kernels run
    if array.dtype.kind not in "iu" and array.size:  # an empty list has no integers to show
        raise TypeError(f"lengths: expected integers, got {array.dtype}")
    shape("lengths", array, (B,), "(B,)")
    wrong = (array < 0) | (array > T)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"lengths: expected 0..{T} (the time steps of x), got {array[row]} in row {row}")
    return np.ascontiguousarray(array, np.int64)


def of_steps(name: str, value: ArrayLike, T: int, B: int | None, rows_first: bool) -> Array:
    """bool (T, B), a copy: what was checked must not change while kernels run. B None: an unbatched x, so B is 1."""
    array = array_of(name, value).copy()
    if array.dtype != np.bool_ and array.size:  # an empty list has no bools to show
        raise TypeError(f"{name}: expected bool, got {array.dtype}")
    if B is None:
        shape(name, array, (T,), "(T,)")
        return array[:, None].astype(np.bool_)
    shape(name, array, (B, T) if rows_first else (T, B), "(B, T)" if rows_first else "(T, B)")
    return np.ascontiguousarray(array.T if rows_first else array, np.bool_)


def resets(first_steps: Array, row_lengths: Array | None, backwards: Sequence[bool]) -> Array:
    """bool (D, T, B): the steps before which each direction's states become zero.

    first_steps (T, B) marks the first steps of episodes. A direction that runs backwards takes an episode's last step
    first. A row has no steps past its end.
    """
    T, B = first_steps.shape
    planes = np.zeros((len(backwards), T, B), np.bool_)
    if row_lengths is not None:
        first_steps = first_steps & (np.arange(T)[:, None] < row_lengths)
    for plane, backward in zip(planes, backwards, strict=True):
        if backward:
            plane[:-1] = first_steps[1:]
        else:
            plane[...] = first_steps
    return planes


def output(out: Any, expected: tuple[int, ...], dtype: np.dtype[Any], inputs: Iterable[tuple[str, Any]]) -> Array:
    """A view of ``out``, if kernels may write to it: shape ``expected``, ``dtype``, no memory shared with an input."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a NumPy array, got {type(out).__name__}")
    view = array_of("out", out)
    if view.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}, got {view.dtype}")
    if view.shape != expected:
        raise ValueError(f"out: expected shape {expected}, got {view.shape}")
    if not (view.flags.c_contiguous and view.flags.aligned and view.flags.writeable):
        raise ValueError(f"out: expected a C-contiguous, aligned, writeable array, got one that is {_lacks(view)}")
    for name, array in inputs:
        if array is not None and np.may_share_memory(view, np.asarray(array)):
            raise ValueError(f"out: overlaps {name}; give an array of its own")
    return view


def _lacks(array: Array) -> str:
    """What keeps kernels from writing to an array, and what to do."""
    if not array.flags.writeable:
        return "read-only"
    if not array.flags.aligned:
        return "not aligned"
    return f"not contiguous, with strides of {array.strides} bytes; give an array of its own, and copy from it"
