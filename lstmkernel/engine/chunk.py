"""Chunk: some steps for a stream, or for streams of a pool. Checked, run from their states, and given as they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments
from lstmkernel.engine.call import call_chain
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import State
from lstmkernel.engine.sound import warn_of_whole_numbers


class Chunk(NamedTuple):
    """An input that was checked."""

    name: str  # of the argument
    given: ArrayLike
    shape: tuple[int, ...]  # as it was given
    out_shape: tuple[int, ...]  # as the caller gets the output
    steps: int  # T
    x: Array  # (T, B, I), or (B, T, I) where the network is batch first

    def run(self, chain: Chain, states: Sequence[State], out: Array | None) -> tuple[Array, list[State]]:
        """The output, in ``out`` if that is given, and the last states.

        Raises ValueError and TypeError for an ``out`` that cannot be written to, before anything is.
        """
        if out is None:
            result, last = call_chain(chain, self.x, states)
            return result.reshape(self.out_shape), last
        written = arguments.output(out, self.out_shape, chain.dtype, [(self.name, self.given), (self.name, self.x)])
        _, last = call_chain(chain, self.x, states, out=written.reshape(*self.x.shape[:-1], chain.out_features))
        return out, last


def checked(name: str, value: ArrayLike, chain: Chain, B: int) -> Chunk:
    """A chunk of B rows. One row may come alone, as (T, I), and a mono sound as (T,).

    Raises ValueError for another shape, and TypeError for a wrong dtype.
    """
    warn_of_whole_numbers(name, value, chain)
    x = arguments.real(name, value, chain.dtype)
    shape, rows_first = x.shape, chain.batch_first
    shapes = ["(B, T, I)" if rows_first else "(T, B, I)"]
    if B == 1:
        shapes.append("(T, I)")
        if x.ndim == 2:
            x = x[None] if rows_first else x[:, None]
    if B == 1 and is_mono(chain):
        shapes.append("(T,)")
        if x.ndim == 1:
            x = x.reshape((1, -1, 1) if rows_first else (-1, 1, 1))
    if x.ndim != 3 or x.shape[0 if rows_first else 1] != B or x.shape[2] != chain.input_size:
        expected = f"{' or '.join(shapes)} with B = {B} and I = {chain.input_size}"
        raise ValueError(f"{name}: expected shape {expected}, got {shape}{_way_out(name, shape, chain, B)}")
    out_shape = shape if len(shape) == 1 else (*shape[:-1], chain.out_features)
    return Chunk(name, value, shape, out_shape, x.shape[1 if rows_first else 0], x)


def _way_out(name: str, shape: tuple[int, ...], chain: Chain, B: int) -> str:
    """What to give instead, where the shape tells."""
    if len(shape) != 2:
        return ""
    if chain.input_size == 1 and B > 1 and shape[0 if chain.batch_first else 1] == B:
        return f"; give {name}[..., None]"
    if B == 1 and shape[0] == chain.input_size:
        return f"; if that is (I, T), give {name}.T"
    if B == 1 and is_mono(chain) and not chain.batch_first:
        return f"; for {shape[1]} channels, make a stream of as many rows, and give {name}[..., None]"
    return ""


def is_mono(chain: Chain) -> bool:
    """Whether the network has one input and one output, as one for a mono sound."""
    return chain.input_size == chain.out_features == 1
