"""The forward pass that keeps what the backward one needs: ``LSTM.forward`` and its tape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstmkernel.backends.contract import within
from lstmkernel.backends.packing import Array, LayerWeights
from lstmkernel.backends.reuse import copied, empty_reused
from lstmkernel.backends.tape import LayerTape, Parameters, active_rows
from lstmkernel.engine.call_length import call_work, spans
from lstmkernel.engine.fingerprint import fingerprint

if TYPE_CHECKING:
    from lstmkernel.lstm import LSTM, State


class Rows(NamedTuple):
    """The rows of a batch in the order of the tape, longest first."""

    order: Array | None  # (B,): each one's place in the caller's batch; None where that order will do
    lengths: Array | None  # (B,) int64, descending

    def sorted(self, array: Array) -> Array:
        """(..., B, n) of the caller's, in the tape's order."""
        return array if self.order is None else array[..., self.order, :]

    def given_back(self, array: Array) -> Array:
        """The other way."""
        if self.order is None:
            return array
        back = empty_reused(array.shape, array.dtype)
        back[..., self.order, :] = array
        return back


def rows_of(lengths: Array | None) -> Rows:
    """Of row lengths (B,) in any order, or None."""
    if lengths is None:
        return Rows(None, None)
    order = np.argsort(-lengths, kind="stable")
    return Rows(None if np.array_equal(order, np.arange(len(order))) else order, lengths[order])


class Layer(NamedTuple):
    """One layer in all its directions."""

    out: Array  # (T, B, D*R)
    parts: list[Part]


class Part:
    """One layer in one direction, all of its steps: kept, or only every k-th cell state, from which they come again."""

    def __init__(self, lstm: LSTM, index: int, direction: int, tape: LayerTape, every: int | None) -> None:
        self.lstm = lstm
        self.name_end = lstm.shape.suffix(index, direction)
        self.weights: LayerWeights = lstm._weights.layers[index][direction]
        self.tape = tape  # without c and gates where they are not kept
        self.every = every
        self.checkpoints: list[Array] = []  # c before every k-th step

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.tape.c, self.tape.gates, self.tape.h_0, *self.checkpoints))

    def record(self, c: Array) -> None:
        """Run forward from c (B, H), which becomes the last states."""
        if self.every is None:
            self.tape.c[0] = c
            self._run(self.tape)
            _read_c(self.tape, c)
            return
        for steps in spans(self.tape.last, self.every):
            self.checkpoints.append(c.copy())
            _read_c(self._again(steps.start, steps.stop, c), c)

    def backwards(self) -> Iterator[LayerTape]:
        """All steps in parts, each short enough for Ctrl-C, the last part first."""
        for steps in reversed(list(spans(self.tape.last, self.every or self.tape.last))):
            tape = self.tape
            if self.every is not None:
                tape = self._again(steps.start, steps.stop, self.checkpoints[steps.start // self.every])
            for part in reversed(list(self._calls(tape))):
                yield tape.steps(part.start, part.stop)

    def _again(self, first: int, last: int, c: Array) -> LayerTape:
        """A tape of those steps, recorded from c (B, H)."""
        T, B, _ = self.tape.x.shape
        cells, gates = room(c.shape[1], c.dtype, self.tape.lengths, T, B, first, last)
        cells[0] = c
        tape = self.tape._replace(first=first, last=last, c=cells, gates=gates)
        self._run(tape)
        return tape

    def _run(self, tape: LayerTape) -> None:
        for part in self._calls(tape):
            self.lstm._backend.layer_record(tape.steps(part.start, part.stop), self.weights, self.lstm._threads())

    def _calls(self, tape: LayerTape) -> Iterator[slice]:
        """Steps of a kernel call. Backwards is twice the work."""
        lstm, B = self.lstm, tape.x.shape[1]
        step_work = 2 * lstm._row_work // lstm._states * max(1, B)
        work = call_work(lstm._backend, B, tape.x.itemsize) * lstm._threads()
        for part in spans(tape.last - tape.first, work // step_work):
            yield slice(tape.first + part.start, tape.first + part.stop)

    def parameters(self) -> Parameters:
        named, end = self.lstm._parameters, self.name_end
        return Parameters(named[f"weight_ih{end}"], named[f"weight_hh{end}"], named.get(f"weight_hr{end}"))


def room(H: int, dtype: np.dtype, lengths: Array | None, T: int, B: int, first: int, last: int) -> tuple[Array, Array]:
    """c and gates of a LayerTape of those steps."""
    rows = int(active_rows(lengths, T, B)[first:last].sum())
    return empty_reused((last - first + 1, B, H), dtype), empty_reused((rows, 4, H), dtype)


def _read_c(tape: LayerTape, c: Array) -> None:
    """c (B, H) becomes that after the tape's last step, or each row's own."""
    if tape.lengths is None:
        c[...] = tape.c[-1]
        return
    after = np.clip(tape.lengths, tape.first, tape.last) - tape.first
    c[...] = np.where((after > 0)[:, None], tape.c[after, np.arange(len(c))], c)


class Segment(NamedTuple):
    """Some times of all layers in one direction: the states that they begin with."""

    times: slice
    h: Array  # (L, B, R)
    c: Array  # (L, B, H)


class Tape:
    """What ``LSTM.forward`` kept of one call, for ``LSTM.backward``. Opaque, but for ``nbytes``."""

    def __init__(self, lstm: LSTM, x: Array, rows: Rows, batched: bool, every: int | None) -> None:
        self.lstm, self.x, self.rows, self.batched, self.every = lstm, x, rows, batched, every
        self.fingerprint = fingerprint(x)
        self.from_parameters = False  # whether it began with the model's own h_0 and c_0
        self.layers: list[Layer] = []
        self.segments: list[Segment] = []

    @property
    def nbytes(self) -> int:
        """Bytes that it holds, beside x.

        Without checkpoints, for each step of a row: (5 H + R) numbers for every layer and direction.
        """
        parts = [part.nbytes for layer in self.layers for part in layer.parts]
        states = [array.nbytes for segment in self.segments for array in segment[1:]]
        return sum(parts) + sum(layer.out.nbytes for layer in self.layers) + sum(states)

    def check_x(self) -> None:
        """Raises ValueError where the caller wrote to it."""
        if not np.array_equal(fingerprint(self.x), self.fingerprint):
            raise ValueError(
                "x: expected the numbers that forward had, of which the tape has no copy, got others: "
                "something wrote to the array since; give forward a copy"
            )

    def backwards(self) -> Iterator[tuple[slice, list[Layer]]]:
        """Times and all layers over them, the last times first."""
        if not self.segments:
            yield slice(0, len(self.x)), self.layers
        for segment in reversed(self.segments):
            lengths = within(self.rows.lengths, segment.times)
            h, c = segment.h.copy(), segment.c.copy()
            yield segment.times, _record_layers(self.lstm, self.x[segment.times], lengths, (h, c), None)


def record(
    lstm: LSTM, x: Array, lengths: Array | None, state: State, batched: bool, every: int | None
) -> tuple[Array, State, Tape]:
    """(out (T, B, D*R), last states, tape) of x (T, B, I). ``state``, (L*D, B, ...) each, is not read again."""
    rows = rows_of(lengths)
    x = np.ascontiguousarray(rows.sorted(x))
    tape = Tape(lstm, x, rows, batched, every)
    h, c = (np.ascontiguousarray(rows.sorted(part)) for part in state)
    if every is None or lstm.bidirectional:
        tape.layers = _record_layers(lstm, x, rows.lengths, (h, c), every)
        out = tape.layers[-1].out
        if rows.order is None:  # the caller may change it before the tape is read
            out = copied(out)
    else:
        out = np.zeros((*x.shape[:2], lstm.out_features), lstm.dtype)
        for times in spans(len(x), every):
            tape.segments.append(Segment(times, h.copy(), c.copy()))
            lstm._run(x[times], within(rows.lengths, times), None, h, c, out[times])
    return rows.given_back(out), (rows.given_back(h), rows.given_back(c)), tape


def _record_layers(lstm: LSTM, x: Array, lengths: Array | None, state: State, every: int | None) -> list[Layer]:
    """All layers over all of x; ``state`` becomes the last one."""
    T, B, _ = x.shape
    h, c = state
    D, R = lstm.shape.directions, lstm.shape.output_size
    layers: list[Layer] = []
    for index in range(lstm.num_layers):
        out = empty_reused((T, B, D * R), lstm.dtype)
        if lengths is not None:
            out[...] = 0
        parts = []
        for direction in range(D):
            state_row = index * D + direction
            below = layers[-1].out if layers else x
            tape = _layer_tape(lstm, index, direction, below, lengths, h[state_row], out, every)
            parts.append(Part(lstm, index, direction, tape, every))
            parts[-1].record(c[state_row])
            _read_h(tape, h[state_row])
        layers.append(Layer(out, parts))
    return layers


def _layer_tape(
    lstm: LSTM, index: int, direction: int, x: Array, lengths: Array | None, h_0: Array, out: Array, every: int | None
) -> LayerTape:
    T, B, _ = x.shape
    R = lstm.shape.output_size
    kept = 0 if every is not None else T
    c, gates = room(lstm.hidden_size, lstm.dtype, lengths, T, B, 0, kept)
    h = out[:, :, direction * R : direction * R + R]
    return LayerTape(x, lengths, direction == 1, h_0.copy(), h, c, gates, first=0, last=T)


def _read_h(tape: LayerTape, h: Array) -> None:
    """h (B, R) becomes that after each row's last step."""
    T, B, _ = tape.x.shape
    steps = np.full(B, T) if tape.lengths is None else tape.lengths
    last = np.zeros(B, np.int64) if tape.reverse else np.maximum(steps - 1, 0)
    if T:
        h[...] = np.where((steps > 0)[:, None], tape.h[last, np.arange(B)], h)
