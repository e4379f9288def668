"""One network: its shape, its weights packed for one backend, and its threads. Everything that runs an LSTM holds one.

A network never changes, so any number of threads may run it at once. Other weights make another network.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lstmkernel.backends.contract import Advance, Backend, BackendError, Batch, Prepared
from lstmkernel.backends.large import slices
from lstmkernel.backends.packing import Array, LayerWeights, LSTMWeights
from lstmkernel.engine import call_length
from lstmkernel.engine import precision as bits
from lstmkernel.engine.call_length import FULL_ROWS, Cut
from lstmkernel.engine.notes import Notes
from lstmkernel.engine.parameters import LSTMShape, layer_parameters
from lstmkernel.engine.precision import Precision, Precisions, require_float32, rounded, widened
from lstmkernel.engine.prepared_calls import PreparedCalls
from lstmkernel.host import cores

State = tuple[Array, Array]


class NetworkOptions(NamedTuple):
    """Options that change no weight."""

    num_threads: int | None = None  # at most; None: no bound
    batch_first: bool = False  # callers give (B, T, I); the kernels always get (T, B, I)
    expects: str | None = None  # "mask" or "lengths", if a call without either has to warn
    notes: Notes = Notes()


class Network:
    """Stacked LSTM layers in one or two directions, packed.

    parameters: by PyTorch's names, checked, read-only, of ``dtype``; with precisions, one for each layer, as
    ``precision.rounded`` gives them. Raises BackendError for a backend that has no kernels for a precision.
    """

    def __init__(
        self,
        shape: LSTMShape,
        parameters: Mapping[str, Array],
        dtype: np.dtype[Any],
        backend: Backend,
        options: NetworkOptions,
        precisions: Precisions | None = None,
    ) -> None:
        self.shape, self.parameters, self.dtype, self.backend, self.options = shape, parameters, dtype, backend, options
        self.precisions = precisions or (bits.plain(dtype),) * shape.num_layers
        self.batch_first = options.batch_first
        self.weights = _packed(shape, parameters, self.precisions, backend)
        self.input_size = shape.input_size
        self.out_features = shape.directions * shape.output_size
        #: L*D, the rows of h and c for each row of a batch.
        self.num_states = shape.num_layers * shape.directions
        learned = (parameters["h_0"][:, None], parameters["c_0"][:, None]) if shape.initial_state else None
        #: h and c where no state is given: zeros, or the learned ones, (L*D, 1, R) and (L*D, 1, H).
        self.first: tuple[Any, Any] = learned or (0, 0)
        self.prepared = PreparedCalls(shape, dtype, self.batch_first, parameters.values(), learned)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What networks that differ only in their numbers have in common."""
        return (self.shape, self.dtype, self.precisions)

    def with_parameters(self, parameters: Mapping[str, Array]) -> Network:
        """Another network of the same shape and precisions. parameters: of the dtype."""
        kept = rounded(parameters, self.precisions)
        return Network(self.shape, kept, self.dtype, self.backend, self.options, self.precisions)

    @property
    def precision(self) -> str:
        """What the weights are: several joined by commas where layers differ."""
        return bits.distinct(each.weights for each in self.precisions)

    @property
    def activations(self) -> str:
        """What the weights are multiplied by, likewise."""
        return bits.distinct(each.activations for each in self.precisions)

    @property
    def is_quantized(self) -> bool:
        """Whether weights of a layer have fewer bits than the dtype."""
        return any(each.weights != self.dtype.name for each in self.precisions)

    @property
    def is_int8(self) -> bool:
        """Whether a layer has 8-bit weights."""
        return any(each.is_int8 for each in self.precisions)

    def quantized(self, precision: Precision, backend: Backend) -> Network:
        """The network with that precision in all layers; see ``quantized_by_layer``."""
        return self.quantized_by_layer((precision,) * self.shape.num_layers, backend)

    def quantized_by_layer(self, precisions: Precisions, backend: Backend) -> Network:
        """The network with a precision for each layer. Raises ValueError if its weights, or it, cannot have one."""
        require_float32(self.dtype, "to quantize it", "save it, and load(path, dtype='float32') gives it in float32")
        if self.is_quantized and any(
            own.weights != p.weights for own, p in zip(self.precisions, precisions, strict=True)
        ):
            wanted = bits.distinct(each.weights for each in precisions)
            raise ValueError(
                f"precision: expected a float32 network, to quantize it to {wanted}, got {self.precision} weights; "
                "quantize the network that they were made from"
            )
        self._require_int8_possible(precisions)
        narrow = self.parameters if self.is_quantized else rounded(self.parameters, precisions)
        return Network(self.shape, narrow, self.dtype, backend, self.options, precisions)

    def _require_int8_possible(self, precisions: Precisions) -> None:
        if any(each.is_int8 for each in precisions) and self.shape.variant is not None:
            raise ValueError(
                f"variant: expected a plain LSTM, to quantize it to int8, got {self.shape.variant!r}; "
                "quantize('float16') takes it"
            )

    def as_quantized(self, precisions: Precisions, mapping: Mapping[str, Any]) -> Network:
        """The network that once was quantized, from its own numbers.

        mapping: of int8, as ``parameters`` has its integers and scales. Raises as ``quantized``, and if a number
        changes.
        """
        wanted = bits.distinct(each.weights for each in precisions)
        require_float32(self.dtype, f"as precision={wanted!r} says", "leave the dtype out")
        self._require_int8_possible(precisions)
        narrow = {**bits.halves(self.parameters, precisions), **bits.checked_int8(mapping, precisions)}
        return Network(self.shape, narrow, self.dtype, self.backend, self.options, precisions)

    def noted(self, notes: Notes) -> Network:
        """The same network with other notes."""
        options = self.options._replace(notes=notes)
        return Network(self.shape, self.parameters, self.dtype, self.backend, options, self.precisions)

    def wide(self) -> Network:
        """The network with the same numbers as weights of the dtype: itself, unless it is quantized."""
        return self.on(self.backend, self.options.num_threads, self.dtype) if self.is_quantized else self

    def state_dict(self) -> dict[str, Array]:
        """Every parameter, in the dtype."""
        return widened(self.parameters, self.dtype)

    def on(self, backend: Backend, num_threads: int | None, dtype: np.dtype[Any] | None = None) -> Network:
        """The same network on another backend, or with all its numbers in a dtype, where no weight has fewer bits."""
        parameters, options = self.parameters, self.options._replace(num_threads=num_threads)
        if dtype is None:
            return Network(self.shape, parameters, self.dtype, backend, options, self.precisions)
        parameters = {name: value.astype(dtype) for name, value in self.state_dict().items()}
        return Network(self.shape, parameters, dtype, backend, options)

    def threads(self) -> int:
        """How many threads a call may use now."""
        available = cores.available()
        most = self.options.num_threads
        return available if most is None else min(most, available)

    def call_rows(self, B: int) -> int:
        """How many rows times steps, of B rows, one kernel call may take."""
        return call_length.lstm_rows(self.shape, self.backend, B, self.dtype.itemsize)

    def first_states(self, B: int) -> State:
        """A new (h, c) for B rows that begin: (L*D, B, R) and (L*D, B, H)."""
        widths = self.shape.output_size, self.shape.hidden_size
        h, c = (np.zeros((self.num_states, B, width), self.dtype) for width in widths)
        if self.shape.initial_state:
            h[...], c[...] = self.first
        return h, c

    # ---------------------------------------------------------------- run

    def run(self, batch: Batch) -> None:
        """All layers over all steps: h, c and out are written. Kernel calls are short enough for Ctrl-C."""
        if batch.reset is not None and self.shape.initial_state:
            self._run_episodes(batch)
            return
        T, B, _ = batch.x.shape
        call_rows, layers = self.call_rows(B), self.shape.num_layers
        if call_rows < T * B and (self.shape.bidirectional or (layers > 1 and call_rows < min(B, FULL_ROWS))):
            self._run_by_layer(batch, call_rows * layers)
        else:
            self._run_cut(self.weights, batch, call_rows)

    def _run_cut(self, weights: LSTMWeights, batch: Batch, call_rows: int) -> None:
        """Some rows and steps after the other. Two directions: of one layer."""
        T, B, _ = batch.x.shape
        cut, threads = Cut.of(B, call_rows), self.threads()
        for rows in slices(B, cut.rows):
            part = batch.rows(rows)
            for times in slices(T, cut.steps):
                if len(weights.layers[0]) == 2:
                    self.backend.lstm_forward(weights, part, threads, None if cut.steps >= T else times)
                    continue
                if weights.reverse:
                    times = slice(T - times.stop, T - times.start)
                self.backend.lstm_forward(weights, part.chunk(times), threads)

    def _run_episodes(self, batch: Batch) -> None:
        """One direction with a learned initial state. The kernels reset to zeros, so a call ends at each reset."""
        assert batch.reset is not None
        marks, (first_h, first_c) = batch.reset[0], self.first
        starts = [0, *(t for t in np.flatnonzero(marks.any(axis=1)) if t), len(batch.x)]
        for start, stop in pairwise(starts):
            rows = marks[start]
            batch.h[:, rows], batch.c[:, rows] = first_h, first_c
            self.run(batch._replace(reset=None).chunk(slice(start, stop)))

    def _run_by_layer(self, batch: Batch, call_rows: int) -> None:
        """One layer over all steps after the other: with two directions, a layer reads both below it at all times."""
        T, B, _ = batch.x.shape
        below, last = batch.x, self.shape.num_layers - 1
        for layer in range(self.shape.num_layers):
            above = batch.out if layer == last else np.empty((T, B, self.out_features), self.dtype)
            self._run_cut(
                self.weights.layer(layer), self.of_layer(batch._replace(x=below, out=above), layer), call_rows
            )
            below = above

    def of_layer(self, batch: Batch, layer: int) -> Batch:
        """The batch with the states of one layer alone."""
        D = self.shape.directions
        states = slice(D * layer, D * layer + D)
        return batch._replace(h=batch.h[states], c=batch.c[states])

    def run_layer(self, layer: int, batch: Batch) -> None:
        """One layer alone, in all its directions, with its own states in the batch."""
        self._run_cut(self.weights.layer(layer), batch, self.call_rows(batch.x.shape[1]))

    def run_direction(self, layer: int, direction: int, batch: Batch) -> None:
        """One layer in one direction, with its own states in the batch. out (T, B, R)."""
        alone = self.backend.pack_lstm([[self.weights.layers[layer][direction]]], self.shape.backwards[direction])
        self._run_cut(alone, batch, self.call_rows(batch.x.shape[1]))

    def prepare(self, T: int, B: int) -> Prepared | None:
        """The kernel call for inputs of T steps and B rows; None where that takes more than one call."""
        if self.call_rows(B) < T * B:
            return None
        return self.backend.prepare(self.weights, T, B, self.threads())

    def prepare_advance(self, T: int, state: State, read: Array, write: Array) -> Advance:
        """T steps of rows whose states are some of ``state``; see ``PrepareAdvanceKernel``."""
        return self.backend.prepare_advance(self.weights, T, *state, read, write, self.threads())

    # ---------------------------------------------------------------- what cannot be done

    def require_loadable(self) -> None:
        """Raises ValueError for a quantized network, which never changes."""
        if self.is_quantized:
            raise ValueError(
                f"precision: expected {self.dtype.name} weights, to load others in their place, got "
                f"{self.precision} ones, which never change; load them into the network that was quantized, "
                "then quantize it again"
            )

    def require_trainable(self) -> None:
        """Raises ValueError for a network that has no backward pass."""
        self.require_plain("to record for backward")
        if self.is_quantized:
            raise ValueError(
                f"precision: expected float32 or float64 to record for backward, got {self.precision}; train the "
                "network that was quantized, then quantize it again"
            )

    def require_plain(self, purpose: str) -> None:
        """Raises ValueError for a variant and for a network in reverse."""
        for name in ("variant", "reverse"):
            if value := getattr(self.shape, name):
                raise ValueError(f"{name}: expected a plain LSTM that runs forwards, {purpose}, got {value!r}")

    def __repr__(self) -> str:
        """As the LSTM that holds it."""
        s = self.shape
        options = [
            f"num_layers={s.num_layers}" if s.num_layers > 1 else "",
            "" if s.bias else "bias=False",
            "batch_first=True" if self.batch_first else "",
            "bidirectional=True" if s.bidirectional else "",
            f"proj_size={s.proj_size}" if s.proj_size else "",
            f"variant={s.variant!r}" if s.variant else "",
            "reverse=True" if s.reverse else "",
            "initial_state=True" if s.initial_state else "",
            f"dtype={self.dtype.name!r}",
            f"backend={self.backend.name!r}",
        ]
        quantized = f".quantize({bits.in_words(self.precisions)})" if self.is_quantized else ""
        return f"LSTM({s.input_size}, {s.hidden_size}, {', '.join(filter(None, options))}){quantized}"


def _packed(shape: LSTMShape, parameters: Mapping[str, Array], precisions: Precisions, backend: Backend) -> LSTMWeights:
    if not backend.takes_float16:
        parameters = bits.without_float16(parameters)
    sides, packed = range(shape.directions), []
    for layer, precision in enumerate(precisions):
        pack = _pack_int8 if precision.is_int8 else _pack
        packed.append([pack(shape, parameters, precision, backend, layer, side) for side in sides])
    return backend.pack_lstm(packed, shape.reverse)


def _pack(
    shape: LSTMShape,
    parameters: Mapping[str, Array],
    precision: Precision,
    backend: Backend,
    layer: int,
    direction: int,
) -> LayerWeights:
    own = layer_parameters(parameters, shape.suffix(layer, direction))
    variant = None if shape.variant is None else shape.variant.in_direction(direction, own.peephole)
    return backend.pack_layer(own.w_ih, own.w_hh, own.bias, own.w_hr, variant)


def _pack_int8(
    shape: LSTMShape,
    parameters: Mapping[str, Array],
    precision: Precision,
    backend: Backend,
    layer: int,
    direction: int,
) -> LayerWeights:
    if backend.pack_int8_layer is None:
        raise BackendError(
            f"backend {backend.name!r}: it has no kernels for 8-bit weights; backend='c', 'numba' and 'numpy' have "
            "them, and quantize('float16') runs on every backend"
        )
    suffix = shape.suffix(layer, direction)
    w_ih, w_hh = (bits.matrix(parameters, name + suffix, precision) for name in ("weight_ih", "weight_hh"))
    w_hr = bits.matrix(parameters, f"weight_hr{suffix}", precision) if shape.proj_size else None
    return backend.pack_int8_layer(w_ih, w_hh, layer_parameters(parameters, suffix).bias, w_hr)
