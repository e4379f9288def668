"""Check a user's own kernel: with every number of units in the last block, and with unusual numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.packing import Array, pack_gates, unpack_gates
from lstmkernel.tuning import accuracy

#: Numbers of units around the ends of blocks, of rows around the ends of tiles, and of inputs.
UNITS, ROWS, INPUTS = (1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65), (1, 2, 3, 6, 13), (1, 2, 7, 33)

#: The numbers that are tried: their name, and the factor of normal random numbers.
SCALES = {"random": 1.0, "zero": 0.0, "large": 10.0, "tiny": 1e-30}


class Call(NamedTuple):
    """One call: its sizes, what the kernel gave, and what the definition gives."""

    what: str
    got: tuple[Array, ...]
    right: tuple[Array, ...]


def failure(kernel: str, own: Backend, dtype: np.dtype[Any]) -> str | None:
    """The first error, with the sizes and the numbers; None where all is right."""
    for call in CALLS[kernel](own, backends.get("numpy"), dtype):
        for got, right in zip(call.got, call.right, strict=True):
            error = accuracy.error((got,), (right,), dtype)
            if not accuracy.agrees(error):
                return f"{kernel} is wrong for {call.what}: {_worst(got, right)}"
    return None


def _worst(got: Array, right: Array) -> str:
    off = np.abs(got - right) / (1 + np.abs(right))
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), off.shape)
    return f"at {list(map(int, at))} it gave {got[at]:.9g}, expected {right[at]:.9g}"


def _numbers(seed: int, scale: float, dtype: np.dtype[Any], *shape: int) -> Array:
    numbers: Array = (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)
    return numbers


def _weights(own: Backend, definition: Backend, dtype: np.dtype[Any], I: int, H: int) -> tuple[Any, Any]:
    shapes = ((4 * H, I), (4 * H, H), (4 * H,))
    w_ih, w_hh, bias = (_numbers(seed, 1 / np.sqrt(I + H), dtype, *shape) for seed, shape in enumerate(shapes))
    wide = [array.astype(np.float64) for array in (w_ih, w_hh, bias)]
    return own.pack_layer(w_ih, w_hh, bias, None), definition.pack_layer(wide[0], wide[1], wide[2], None)


def _gate_matmul(own: Backend, definition: Backend, dtype: np.dtype[Any]) -> Iterator[Call]:
    for H in UNITS:
        for N, I in zip(ROWS, (*INPUTS, 1), strict=True):
            ours, theirs = _weights(own, definition, dtype, I, H)
            for name, scale in SCALES.items():
                x = _numbers(4, scale, dtype, N, I)
                z, right = ours.empty_gates(N), theirs.empty_gates(N)
                z[...] = np.nan  # a number that is not written stays NaN
                own.gate_matmul(x, ours, z)
                definition.gate_matmul(x.astype(np.float64), theirs, right)
                what = f"N={N}, I={I}, H={H}, {name} x"
                yield Call(what, (unpack_gates(z, H),), (unpack_gates(right, H),))


def _cell_update(own: Backend, definition: Backend, dtype: np.dtype[Any]) -> Iterator[Call]:
    for H in UNITS:
        ours, theirs = _weights(own, definition, dtype, 1, H)
        for N in ROWS:
            for name, scale in SCALES.items():
                gates, c = _numbers(4, 3 * scale, dtype, N, 4, H), _numbers(5, min(scale, 3), dtype, N, H)
                h, right_c, right_h = np.full_like(c, np.nan), c.astype(np.float64), np.empty((N, H))
                own.cell_update(pack_gates(gates, ours), c, h)
                definition.cell_update(pack_gates(gates.astype(np.float64), theirs), right_c, right_h)
                yield Call(f"N={N}, H={H}, {name} gates", (c, h), (right_c, right_h))


def _layer_forward(own: Backend, definition: Backend, dtype: np.dtype[Any]) -> Iterator[Call]:
    for H in UNITS:
        for B, I in zip(ROWS, (*INPUTS, 1), strict=True):
            reverse = B % 2 == 0
            ours, theirs = _weights(own, definition, dtype, I, H)
            for name, scale in SCALES.items():
                for lengths in (None, np.arange(B) % 6):
                    arrays = [_numbers(4, scale, dtype, 5, B, I)]
                    arrays += [_numbers(seed, min(scale, 1), dtype, B, H) for seed in (5, 6)]
                    wide = [array.astype(np.float64) for array in arrays]
                    out, right = np.full((5, B, H), np.nan, dtype), np.full((5, B, H), np.nan)
                    own.layer_forward(arrays[0], ours, lengths, reverse, arrays[1], arrays[2], out)
                    definition.layer_forward(wide[0], theirs, lengths, reverse, wide[1], wide[2], right)
                    ends = "" if lengths is None else f", lengths {lengths.tolist()}"
                    what = f"T=5, B={B}, I={I}, H={H}, reverse {int(reverse)}{ends}, {name} x"
                    yield Call(what, (out, *arrays[1:]), (right, *wide[1:]))


#: The calls of each kernel of load.OWN.
CALLS: dict[str, Callable[[Backend, Backend, np.dtype[Any]], Iterator[Call]]] = {
    "gate_matmul": _gate_matmul,
    "cell_update": _cell_update,
    "layer_forward": _layer_forward,
}
