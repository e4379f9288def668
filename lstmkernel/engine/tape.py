"""The forward pass that keeps what the backward pass needs: a tape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.contract import Batch, within
from lstmkernel.backends.large import MOST_COPIED, fill, slices
from lstmkernel.backends.packing import Array, LayerWeights
from lstmkernel.backends.reuse import copied, empty_reused
from lstmkernel.backends.tape import LayerTape, Parameters, RowsOfTape, active_rows
from lstmkernel.engine.call_length import Cut, training_rows
from lstmkernel.engine.fingerprint import fingerprint
from lstmkernel.engine.network import Network, State


class Rows(NamedTuple):
    """The rows of a batch in the order of the tape, longest first."""

    order: Array | None  # (B,): each row's place in the caller's batch; None where that is the order
    lengths: Array | None  # (B,) int64, descending

    def sorted(self, array: Array) -> Array:
        """(..., B, n) from the caller's order to the tape's."""
        if self.order is None:
            return array
        found = empty_reused(array.shape, array.dtype)
        for rows in self._parts(array):
            found[..., rows, :] = array[..., self.order[rows], :]
        return found

    def given_back(self, array: Array) -> Array:
        """(..., B, n) from the tape's order to the caller's."""
        if self.order is None:
            return array
        back = empty_reused(array.shape, array.dtype)
        for rows in self._parts(array):
            back[..., self.order[rows], :] = array[..., rows, :]
        return back

    def _parts(self, array: Array) -> Iterator[slice]:
        """Rows that are copied at once."""
        B = array.shape[-2]
        return slices(B, MOST_COPIED * B // max(1, array.size))


def rows_of(lengths: Array | None) -> Rows:
    """The rows of a batch with these lengths (B,), in any order, or None."""
    if lengths is None:
        return Rows(None, None)
    order = np.argsort(-lengths, kind="stable")
    return Rows(None if np.array_equal(order, np.arange(len(order))) else order, lengths[order])


class Layer(NamedTuple):
    """One layer in all its directions."""

    out: Array  # (T, B, D*R)
    directions: list[Direction]


class Direction:
    """One layer in one direction: all its steps, or every k-th cell state, from which the steps are computed again."""

    def __init__(self, network: Network, index: int, direction: int, tape: LayerTape, every: int | None) -> None:
        self.network = network
        self.suffix = network.shape.suffix(index, direction)
        self.weights: LayerWeights = network.weights.layers[index][direction]
        self.tape = tape  # without c and gates where they are not kept
        self.every = every
        self.checkpoints: list[Array] = []  # c before every k-th step

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.tape.c, self.tape.gates, self.tape.h_0, *self.checkpoints))

    def record(self, c: Array) -> None:
        """Run forward from c (B, H), and write the last states to it."""
        if self.every is None:
            fill(self.tape.c[0], c)
            self._run(self.tape)
            _read_c(self.tape, c)
            return
        for steps in slices(self.tape.last, self.every):
            self.checkpoints.append(copied(c))
            _read_c(self._again(steps.start, steps.stop, c), c)

    def backwards(self) -> Iterator[RowsOfTape]:
        """All steps, the last one first, in parts short enough for Ctrl-C."""
        for steps in reversed(list(slices(self.tape.last, self.every or self.tape.last))):
            tape = self.tape
            if self.every is not None:
                tape = self._again(steps.start, steps.stop, self.checkpoints[steps.start // self.every])
            for chunk in reversed(self._chunks(tape)):
                yield from self._in_rows(tape.steps(chunk.start, chunk.stop))

    def _again(self, first: int, last: int, c: Array) -> LayerTape:
        """A tape of those steps, recorded from c (B, H)."""
        T, B, _ = self.tape.x.shape
        cells, gates = room(c.shape[1], c.dtype, self.tape.lengths, T, B, first, last)
        fill(cells[0], c)
        tape = self.tape._replace(first=first, last=last, c=cells, gates=gates)
        self._run(tape)
        return tape

    def _run(self, tape: LayerTape) -> None:
        network = self.network
        for chunk in self._chunks(tape):
            steps = tape.steps(chunk.start, chunk.stop)
            for part, rows in self._in_rows(steps):
                network.backend.layer_record(part, self.weights, network.threads())
                if part is not steps:  # it has a copy of c
                    steps.c[1, rows] = part.c[1]

    def _cut(self) -> Cut:
        """How much a kernel call takes."""
        network, B = self.network, self.tape.x.shape[1]
        return Cut.of(B, training_rows(network.shape, network.backend, B, network.dtype.itemsize))

    def _chunks(self, tape: LayerTape) -> list[slice]:
        """The steps that are taken together."""
        parts = slices(tape.last - tape.first, self._cut().steps)
        return [slice(tape.first + part.start, tape.first + part.stop) for part in parts]

    def _in_rows(self, tape: LayerTape) -> Iterator[RowsOfTape]:
        """The tape, or, where a step of all rows is too long for one call, its only step for some rows at a time.

        The sums over rows have the same order either way: one step's rows after the other.
        """
        B, most = tape.x.shape[1], self._cut().rows
        if most >= B:
            yield RowsOfTape(tape)
            return
        for rows in slices(len(tape.gates), most):
            yield RowsOfTape(tape.rows(rows), rows)

    def parameters(self) -> Parameters:
        named, end = self.network.parameters, self.suffix
        return Parameters(named[f"weight_ih{end}"], named[f"weight_hh{end}"], named.get(f"weight_hr{end}"))


def room(H: int, dtype: np.dtype, lengths: Array | None, T: int, B: int, first: int, last: int) -> tuple[Array, Array]:
    """Empty c and gates of a LayerTape of those steps."""
    rows = int(active_rows(lengths, T, B)[first:last].sum())
    return empty_reused((last - first + 1, B, H), dtype), empty_reused((rows, 4, H), dtype)


def _read_c(tape: LayerTape, c: Array) -> None:
    """Write to c (B, H) the cell state after the tape's last step, or after each row's own last step."""
    if tape.lengths is None:
        fill(c, tape.c[-1])
        return
    after = np.clip(tape.lengths, tape.first, tape.last) - tape.first
    rows = np.flatnonzero(after)
    for part in slices(len(rows), max(1, MOST_COPIED // c.shape[1])):
        c[rows[part]] = tape.c[after[rows[part]], rows[part]]


class Segment(NamedTuple):
    """Some time steps of all layers in one direction, and the states before the first of them."""

    times: slice
    h: Array  # (L, B, R)
    c: Array  # (L, B, H)


class Tape:
    """What ``LSTM.forward`` kept of one call, for ``LSTM.backward``. Only ``nbytes`` is meant to be read."""

    def __init__(self, network: Network, x: Array, rows: Rows, batched: bool, every: int | None) -> None:
        self.network, self.x, self.rows, self.batched, self.every = network, x, rows, batched, every
        self.fingerprint = fingerprint(x)
        self.from_parameters = False  # whether the call began with the network's learned h_0 and c_0
        self.layers: list[Layer] = []
        self.segments: list[Segment] = []

    @property
    def nbytes(self) -> int:
        """Bytes that the tape holds, without x.

        Without checkpoints: 5 H + R numbers for each step of a row, in every layer and direction.
        """
        directions = [direction.nbytes for layer in self.layers for direction in layer.directions]
        states = [array.nbytes for segment in self.segments for array in segment[1:]]
        return sum(directions) + sum(layer.out.nbytes for layer in self.layers) + sum(states)

    def check_x(self) -> None:
        """Raises ValueError if the caller wrote to x since."""
        if not np.array_equal(fingerprint(self.x), self.fingerprint):
            raise ValueError(
                "x: expected the numbers that forward had, of which the tape has no copy, got others: "
                "something wrote to the array since; give forward a copy"
            )

    def backwards(self) -> Iterator[tuple[slice, list[Layer]]]:
        """Chunks of time with all layers over them, the last chunk first."""
        if not self.segments:
            yield slice(0, len(self.x)), self.layers
        for segment in reversed(self.segments):
            lengths = within(self.rows.lengths, segment.times)
            h, c = copied(segment.h), copied(segment.c)
            yield segment.times, _record_layers(self.network, self.x[segment.times], lengths, (h, c), None)

    def __repr__(self) -> str:
        T, B, _ = self.x.shape
        every = f", a checkpoint every {self.every} steps" if self.every else ""
        return f"Tape(of {self.network!r}, {T} steps of {B} rows{every}, {self.nbytes} bytes)"


def record(
    network: Network, x: Array, lengths: Array | None, state: State, batched: bool, every: int | None
) -> tuple[Array, State, Tape]:
    """(out (T, B, D*R), last states, tape) of x (T, B, I). ``state``, (L*D, B, ...) each, may be overwritten."""
    rows = rows_of(lengths)
    x = np.ascontiguousarray(rows.sorted(x))
    tape = Tape(network, x, rows, batched, every)
    h, c = (np.ascontiguousarray(rows.sorted(part)) for part in state)
    if every is None or network.shape.bidirectional:
        tape.layers = _record_layers(network, x, rows.lengths, (h, c), every)
        out = tape.layers[-1].out
        if rows.order is None:  # the caller may change it before the tape is read
            out = copied(out)
    else:
        out = np.zeros((*x.shape[:2], network.out_features), network.dtype)
        batch = Batch(x, rows.lengths, None, h, c, out)
        for times in slices(len(x), every):
            tape.segments.append(Segment(times, copied(h), copied(c)))
            network.run(batch.chunk(times))
    return rows.given_back(out), (rows.given_back(h), rows.given_back(c)), tape


def _record_layers(network: Network, x: Array, lengths: Array | None, state: State, every: int | None) -> list[Layer]:
    """All layers over all of x; ``state`` becomes the last one."""
    T, B, _ = x.shape
    h, c = state
    D, R = network.shape.directions, network.shape.output_size
    layers: list[Layer] = []
    for index in range(network.shape.num_layers):
        out = empty_reused((T, B, D * R), network.dtype)
        if lengths is not None:
            out[...] = 0
        directions = []
        for direction in range(D):
            state_row = index * D + direction
            below = layers[-1].out if layers else x
            tape = _layer_tape(network, direction, below, lengths, h[state_row], out, every)
            directions.append(Direction(network, index, direction, tape, every))
            directions[-1].record(c[state_row])
            _read_h(tape, h[state_row])
        layers.append(Layer(out, directions))
    return layers


def _layer_tape(
    network: Network, direction: int, x: Array, lengths: Array | None, h_0: Array, out: Array, every: int | None
) -> LayerTape:
    T, B, _ = x.shape
    R = network.shape.output_size
    kept = 0 if every is not None else T
    c, gates = room(network.shape.hidden_size, network.dtype, lengths, T, B, 0, kept)
    h = out[:, :, direction * R : direction * R + R]
    return LayerTape(x, lengths, direction == 1, copied(h_0), h, c, gates, first=0, last=T)


def _read_h(tape: LayerTape, h: Array) -> None:
    """Write to h (B, R) the hidden state after each row's last step."""
    T, B, _ = tape.x.shape
    if not T:
        return
    if tape.lengths is None:
        fill(h, tape.h[0 if tape.reverse else T - 1])
        return
    rows = np.flatnonzero(tape.lengths)
    last = np.zeros(B, np.int64) if tape.reverse else tape.lengths - 1
    for part in slices(len(rows), max(1, MOST_COPIED // h.shape[1])):
        h[rows[part]] = tape.h[last[rows[part]], rows[part]]
