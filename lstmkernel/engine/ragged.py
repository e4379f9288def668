"""Rows of unequal length that lie one after the other in one array: no row is padded.

The rows are sorted by length, so that rows that run together end at about the same step. Some kernels take rows where
they lie (``Backend.lstm_ragged``, segments.py). For others, and where a few rows are longer than what the cache holds,
rows are copied to blocks (blocks.py), and their outputs from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.large import fill
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, arrow, segments
from lstmkernel.engine.blocks import Blocks
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.segments import Segments, longest_first
from lstmkernel.engine.sound import warn_of_whole_numbers
from lstmkernel.engine.states import as_given, checked_states
from lstmkernel.host.progress import progress
from lstmkernel.host.warning import warn

#: How to get offsets, for messages.
FROM_LENGTHS = "numpy.concatenate([[0], numpy.cumsum(lengths)])"


def ragged(
    engine: Network | Chain, flat: Any, offsets: ArrayLike | None, state: Any, last: bool, out: Array | None
) -> tuple[Array | list[Array], Any]:
    """As ``Model.ragged`` says."""
    chain, of_arrow = Chain.of(engine), offsets is None and arrow.is_of_arrow(flat)
    as_list = offsets is None and not (last or of_arrow)
    if of_arrow:
        x, first_steps = arrow.rows_of(flat, chain.input_size, chain.dtype)
    else:
        x, first_steps = _joined(flat, chain) if offsets is None else _checked(flat, offsets, chain)
    states = checked_states(engine, state, len(first_steps) - 1)
    shape = len(first_steps) - 1 if last else len(x), chain.out_features
    if out is None:
        written = out = np.empty(shape, chain.dtype)
    else:
        named = [("flat", x), *([("flat", flat), ("offsets", offsets)] if offsets is not None else [])]
        named += [item for layer in chain.layers for item in layer.parameters.items()]
        written = arguments.output(out, shape, chain.dtype, named)
    _Rows(chain, x, first_steps, states, last, written).run()
    given_back = as_given(engine, states)
    return [out[start:stop] for start, stop in pairwise(first_steps)] if as_list else out, given_back


class _Rows:
    """One call: row r has the steps offsets[r] .. offsets[r + 1] - 1 of x (N, I) and of out.

    With ``last``, out has row r's output at its last step in place r.
    """

    def __init__(self, chain: Chain, x: Array, offsets: Array, states: list[State], last: bool, out: Array) -> None:
        self._x, self._states, self._last, self._out, self._blocks = x, states, last, out, Blocks(chain)
        self._segments = Segments(chain, x, offsets, last, out) if _takes_them_in_place(chain) else None
        self._starts, self._lengths = offsets[:-1], np.diff(offsets)
        self._outside = slice(0, int(offsets[0])), slice(int(offsets[-1]), len(x))

    def run(self) -> None:
        """Writes out; the states become the last ones."""
        if self._last:
            self._out[self._lengths == 0] = 0
        else:
            for steps in self._outside:
                fill(self._out[steps], np.broadcast_to(self._out.dtype.type(0), self._out[steps].shape))
        first, count = 0, len(self._lengths)
        with progress("lstmkernel: ragged rows", int(self._lengths.sum())) as advance:
            while first < count:
                stop = self._segments.stop(first) if self._segments else first
                if self._segments and stop > first:
                    self._run_segment(self._segments, slice(first, stop))
                else:
                    stop = min(count, first + segments.SORTED_ROWS)
                    for rows in self._groups(slice(first, stop)):
                        self._keep(rows, self._run_group(rows))
                advance(int(self._lengths[first:stop].sum()))
                first = stop

    def _states_of(self, rows: Array) -> list[State]:
        return [(h.take(rows, 1), c.take(rows, 1)) for h, c in self._states]

    def _keep(self, rows: Array, states: list[State]) -> None:
        """Their last states."""
        for (h, c), (h_n, c_n) in zip(states, self._states, strict=True):
            h_n[:, rows], c_n[:, rows] = h, c

    def _run_segment(self, runner: Segments, rows: slice) -> None:
        order = longest_first(self._lengths[rows])
        states = self._states_of(rows.start + order)
        runner.run(rows, order, states)
        self._keep(rows.start + order, states)

    # ---------------------------------------------------------------- as blocks

    def _groups(self, some: slice) -> Iterator[Array]:
        """Rows that run together, the longest first. Rows without a step are in none."""
        order = some.start + longest_first(self._lengths[some])
        first = 0
        while first < len(order):
            longest = int(self._lengths[order[first]])
            group = order[first : first + self._blocks.cut(longest).rows]
            if self._blocks.whole_rows:  # a block of a few long rows and many short ones would be padding
                group = group[: np.count_nonzero(2 * self._lengths[group] >= longest)]
            yield group
            first += len(group)

    def _run_group(self, rows: Array) -> list[State]:
        """All steps of these rows. Returns their last states."""
        starts, lengths, states = self._starts[rows], self._lengths[rows], self._states_of(rows)
        longest = int(lengths[0])
        for times in self._blocks.parts(longest, self._blocks.cut(longest).steps):
            active = int(np.count_nonzero(lengths > times.start))
            steps = np.minimum(lengths[:active], times.stop) - times.start
            own = [(h[:, :active], c[:, :active]) for h, c in states]
            self._run_block(rows[:active], starts[:active] + times.start, steps, own)
        return states

    def _run_block(self, rows: Array, starts: Array, lengths: Array, states: Sequence[State]) -> None:
        """Steps of ``rows`` that begin at ``starts``. The longest come first, so equal lengths are neighbours."""
        x = self._blocks.input(len(starts), int(lengths[0]))
        edges = np.flatnonzero(np.diff(lengths)) + 1
        runs = [(slice(*ends), int(lengths[ends[0]])) for ends in pairwise([0, *edges.tolist(), len(starts)])]
        for some, length in runs:
            x[some, :length] = _every(self._x, length)[starts[some]]
        out = self._blocks.run(x, lengths, states)
        if self._last:
            ended = np.flatnonzero(starts + lengths == (self._starts + self._lengths)[rows])
            at = ended, lengths[ended] - 1
            self._out[rows[ended]] = self._blocks.finish(out[at], x[at])
            return
        out = self._blocks.finish(out, x)
        for some, length in runs:
            _every(self._out, length)[starts[some]] = out[some, :length]


def _takes_them_in_place(chain: Chain) -> bool:
    """Whether there are networks, and the kernels of all of them take rows where they lie."""
    return bool(chain.networks) and all(network.backend.lstm_ragged for network in chain.networks)


def _every(flat: Array, length: int) -> Array:
    """(N - length + 1, length, width): a view of every ``length`` neighbouring steps. One index picks a row's steps."""
    (N, width), (step, number) = flat.shape, flat.strides
    return np.ndarray((N - length + 1, length, width), flat.dtype, flat, 0, (step, step, number))


# ---------------------------------------------------------------- arguments


def _checked(flat: ArrayLike, offsets: ArrayLike, chain: Chain) -> tuple[Array, Array]:
    """x (N, I) of any real dtype, contiguous, and the offsets, int64."""
    warn_of_whole_numbers("flat", flat, chain)
    x, width = arguments.real_numbers("flat", flat, chain.dtype), chain.input_size
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"flat: expected shape (N, I) with I = {width}, got {x.shape}")
    given = arguments.array_of("offsets", offsets)
    if given.ndim != 1 or not len(given):
        raise ValueError(f"offsets: expected shape (rows + 1,), got {given.shape}")
    if given.dtype.kind not in "iu":
        raise TypeError(f"offsets: expected integers, got {given.dtype}")
    found = given.astype(np.int64)  # a copy: what was checked must not change while kernels run
    _check_order(found, len(x))
    _doubt_lengths(found, len(x))
    return np.ascontiguousarray(x), found


def _check_order(offsets: Array, N: int) -> None:
    """Row r has the steps offsets[r] .. offsets[r + 1] - 1 of flat: that must be so for every row."""
    if offsets[0] < 0:
        raise ValueError(f"offsets: expected 0..{N} (the steps of flat), got {offsets[0]}, the start of row 0")
    shrinking = offsets[1:] < offsets[:-1]
    if shrinking.any():
        row = int(shrinking.argmax())
        raise ValueError(
            f"offsets: row {row} ends at step {offsets[row + 1]}, before its start, {offsets[row]}; if you have "
            f"lengths, give {FROM_LENGTHS}"
        )
    beyond = offsets > N
    if beyond.any():
        place = int(beyond.argmax())
        which = f"the end of row {place - 1}" if place else "the start of row 0"
        raise ValueError(f"offsets: expected 0..{N} (the steps of flat), got {offsets[place]}, {which}")


def _doubt_lengths(offsets: Array, N: int) -> None:
    """Warn where offsets leave out steps of flat, and would be the lengths of rows that leave out none."""
    if offsets[-1] < N and offsets.sum() == N:
        left_out = N - int(offsets[-1] - offsets[0])
        warn(
            f"offsets: they add up to {N}, the steps of flat, as lengths do; as offsets they leave out {left_out} of "
            f"these steps. If you have lengths, give {FROM_LENGTHS}",
            UserWarning,
        )


def _joined(rows: Any, chain: Chain) -> tuple[Array, Array]:
    """The rows (T, I) of a list, one after the other, and their offsets."""
    if not isinstance(rows, list | tuple) and not (isinstance(rows, np.ndarray) and rows.dtype == object):
        raise TypeError(
            f"offsets: expected integers (rows + 1,) for a flat array, got None; without offsets, give a list of "
            f"arrays (T, I), or a column of Arrow, not {type(rows).__name__}"
        )
    arrays = [_row(place, row, chain) for place, row in enumerate(rows)]
    offsets = np.zeros(len(arrays) + 1, np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    x = np.empty((int(offsets[-1]), chain.input_size), chain.dtype)
    for start, array in zip(offsets.tolist(), arrays, strict=False):
        x[start : start + len(array)] = array
    return x, offsets


def _row(place: int, row: ArrayLike, chain: Chain) -> Array:
    name = f"flat[{place}]"
    warn_of_whole_numbers(name, row, chain)
    array = arguments.real_numbers(name, row, chain.dtype)
    if array.ndim != 2 or array.shape[1] != chain.input_size:
        raise ValueError(f"{name}: expected shape (T, I) with I = {chain.input_size}, got {array.shape}")
    return array
