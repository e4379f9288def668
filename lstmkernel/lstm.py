"""LSTM: stacked layers in one or two directions, with PyTorch's meaning. Check once, call the kernels, wrap up."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.contract import Batch, within
from lstmkernel.backends.packing import Array, LayerWeights, LSTMWeights
from lstmkernel.engine import arguments, parameters
from lstmkernel.engine.call_length import call_work, spans
from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.engine.prepared_calls import Routes
from lstmkernel.host import cores
from lstmkernel.variant import Variant

if TYPE_CHECKING:
    from lstmkernel.engine.tape import Tape
    from lstmkernel.pool import Pool
    from lstmkernel.stream import Stream
    from lstmkernel.tuning.plan import Plan

State = tuple[Array, Array]

#: Work of a row's step beside its matrix products, which keeps calls of tiny layers short too.
STEP_WORK = 1_000


class LSTM:
    """Stacked LSTM layers, as ``torch.nn.LSTM``.

    Parameters
    ----------
    input_size, hidden_size, num_layers
        I, H and L.
    bias
        Whether the layers have bias_ih and bias_hh.
    batch_first
        Whether batched ``x`` and ``out`` are (B, T, ...) instead of (T, B, ...). States are not affected.
    bidirectional
        Whether each layer also runs from each row's end to its start (D = 2), its outputs side by side.
    proj_size
        P: h is projected to this width (R = P); 0 for none (R = H).
    variant
        Peepholes, clipping, coupled gates, other activations: a ``Variant``; None is the plain LSTM.
    reverse
        Whether every layer runs only from each row's end to its start. The output is in the order of x all the same.
    initial_state
        Whether the state that a call, a stream or a pool begins with is learned: two more parameters, ``h_0`` (L*D, R)
        and ``c_0`` (L*D, H), take the place of the zeros. PyTorch's LSTM has none.
    dtype
        float32 or float64, of weights, inputs, states and outputs.
    backend
        "auto", "c", "c:<instruction set>", "numba" or "numpy"; see ``lstmkernel.info()``.
    num_threads
        An upper bound on threads; None is no bound. The library uses as many as pay for the work of a call, and no
        more than affinity and control groups leave to the process. The bits are the same. NumPy uses one.
    seed
        Of the initial weights, U(-1/sqrt(H), 1/sqrt(H)); None draws new ones.

    A model never changes but by ``load_state_dict``: any number of threads may call it at once.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        bidirectional: bool = False,
        proj_size: int = 0,
        variant: Variant | None = None,
        reverse: bool = False,
        initial_state: bool = False,
        dtype: DTypeLike = "float32",
        backend: str = "auto",
        num_threads: int | None = None,
        seed: int | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers, bias, bidirectional, proj_size)
        shape = LSTMShape(*sizes, variant=variant, reverse=reverse, initial_state=initial_state)
        self._configure(shape, batch_first, dtype, backend, num_threads)
        bound = 1 / np.sqrt(self.hidden_size)
        self.load_state_dict(parameters.uniform(self.parameter_shapes(), bound, self.dtype, seed))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], mapping: Mapping[str, Any]) -> LSTM:
        """The model of a ``config()`` and a ``state_dict()``, without drawing initial weights first."""
        options = dict(config)
        shape = LSTMShape(**{name: options.pop(name) for name in LSTMShape._fields if name in options}).checked()
        if shape.num_layers > len(mapping):  # a lie in a file must not cost time or memory
            raise ValueError(f"num_layers: {shape.num_layers} layers, but only {len(mapping)} parameters in all")
        self = cls.__new__(cls)
        self._configure(shape, **options)
        self.load_state_dict(mapping)
        return self

    def _configure(
        self, shape: LSTMShape, batch_first: bool, dtype: DTypeLike, backend: str, num_threads: int | None
    ) -> None:
        self._shape = shape = shape.checked()
        self._batch_first = bool(batch_first)
        self._dtype = arguments.float_dtype(dtype)
        for name, parameter_shape in self.parameter_shapes().items():
            arguments.addressable(name, parameter_shape, self._dtype)
        self._num_threads = arguments.num_threads(num_threads)
        self._plan: Plan | None = None
        # "auto" and None stay so when the model moves to another machine.
        self._asked = {"backend": backend, "num_threads": num_threads}
        self._backend = backends.get(backend)
        # What a call needs, made once: kernels trust it, so none of it can be set from outside.
        self._states = shape.num_layers * shape.directions
        self._out_features = shape.directions * shape.output_size
        width = max(shape.input_size, self._out_features) + shape.output_size
        self._row_work = self._states * (8 * shape.hidden_size * width + STEP_WORK)  # of one step of one row

    # ---------------------------------------------------------------- parameters

    @property
    def shape(self) -> LSTMShape:
        """Everything that decides the parameters' names and shapes."""
        return self._shape

    @property
    def input_size(self) -> int:
        return self._shape.input_size

    @property
    def hidden_size(self) -> int:
        return self._shape.hidden_size

    @property
    def num_layers(self) -> int:
        return self._shape.num_layers

    @property
    def bias(self) -> bool:
        return self._shape.bias

    @property
    def bidirectional(self) -> bool:
        return self._shape.bidirectional

    @property
    def proj_size(self) -> int:
        return self._shape.proj_size

    @property
    def variant(self) -> Variant | None:
        """None for the plain LSTM."""
        return self._shape.variant

    @property
    def reverse(self) -> bool:
        return self._shape.reverse

    @property
    def initial_state(self) -> bool:
        """Whether h_0 and c_0 are parameters."""
        return self._shape.initial_state

    @property
    def out_features(self) -> int:
        """Width of ``out``: D * R."""
        return self._out_features

    @property
    def batch_first(self) -> bool:
        return self._batch_first

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def num_threads(self) -> int | None:
        """The upper bound, from the argument or the environment."""
        return self._num_threads

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"."""
        return self._backend.name

    @property
    def plan(self) -> Plan | None:
        """What ``compile`` found; None for a model that it did not make."""
        return self._plan

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, in PyTorch's order."""
        return self.shape.parameters()

    def state_dict(self) -> dict[str, Array]:
        """Every parameter by PyTorch's name: read-only arrays of the model's dtype."""
        return dict(self._parameters)

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every parameter by those of ``mapping`` (names and shapes as ``state_dict()``, any float dtype).

        Raises ValueError for a missing, superfluous or misshapen key and TypeError for a wrong dtype, naming it; the
        model then keeps the parameters that it had.
        """
        self._take(parameters.checked(mapping, self.parameter_shapes(), self.dtype))

    def _take(self, new: dict[str, Array]) -> None:
        """Parameters that were checked."""
        self._weights = self._backend.pack_lstm(
            [
                [self._pack(new, layer, direction) for direction in range(self.shape.directions)]
                for layer in range(self.num_layers)
            ],
            self._shape.reverse,
        )
        self._parameters = new
        #: h and c of every row where there is no state: numbers, or arrays (L*D, 1, R) and (L*D, 1, H).
        self._first: tuple[Any, Any] = (new["h_0"][:, None], new["c_0"][:, None]) if self.initial_state else (0, 0)
        self._routes = Routes(self._shape, self._dtype, self._batch_first, new.values())

    def _pack(self, named: Mapping[str, Array], layer: int, direction: int) -> LayerWeights:
        end = self.shape.suffix(layer, direction)
        w_ih = named[f"weight_ih{end}"]
        bias = np.zeros(len(w_ih), self.dtype)
        if self.shape.bias:
            bias = named[f"bias_ih{end}"] + named[f"bias_hh{end}"]
        variant = self._shape.variant
        own = None if variant is None else variant.in_direction(direction, named.get(f"weight_peephole{end}"))
        return self._backend.pack_layer(w_ih, named[f"weight_hh{end}"], bias, named.get(f"weight_hr{end}"), own)

    # ---------------------------------------------------------------- forward

    def __call__(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[Array, State]:
        """Run over a sequence.

        Parameters
        ----------
        x
            (T, B, I), or (B, T, I) with ``batch_first``, or (T, I) unbatched; real numbers, cast to the model's dtype.
        state
            (h_0, c_0) of shapes (L*D, B, R) and (L*D, B, H), without B where x is unbatched; None for zeros, or for
            the model's own h_0 and c_0 in every row (``initial_state``).
        lengths
            (B,) integers in 0..T, in any order: the steps that each row has. ``out`` is 0 past a row's end, h_n and c_n
            are the states at its own last step (its initial state for length 0).
        reset
            bool, of x's first two dimensions: True at the first step of an episode (an utterance, a game), before which
            that row's state becomes zero, inside the kernel, or what it is without ``state``. With two directions, no
            episode sees another: backwards, each begins with zeros at its own last step; a model with two directions
            and an ``initial_state`` takes no reset.
        out
            Where to write the output: C-contiguous, of the right shape and dtype, overlapping no input.

        Returns
        -------
        out
            h of the top layer at every step, (T, B, D*R); as ``x``, (B, T, D*R) or (T, D*R).
        (h_n, c_n)
            The last states of every layer and direction, shaped as ``state``.

        Raises ValueError for a wrong shape or length and TypeError for a wrong dtype, before anything is written.
        """
        if lengths is None and reset is None:
            done = self._routes.run(x, state, out)
            if done is not None:
                return done
        x_steps, batched = self._check_x(x)
        T, B, _ = x_steps.shape
        h, c = self._check_state(state, B, batched)
        row_lengths = _check_lengths(lengths, T, B, batched)
        rows_first = self._batch_first and batched
        anew = None
        if reset is not None:
            if self.initial_state and self.bidirectional:
                raise ValueError("reset: expected None for a model with two directions and an initial_state")
            marks = reset if batched else np.asarray(reset)[:, None]
            anew = arguments.reset(marks, T, B, rows_first, row_lengths, self._shape.backwards)

        shape = (B, T) if rows_first else (T, B) if batched else (T,)
        shape = (*shape, self._out_features)
        if out is None:
            out = np.empty(shape, self._dtype)
        else:
            # As given: what was cast or copied above shares no memory any more.
            inputs = [("x", x), ("lengths", lengths), ("reset", reset), *self._parameters.items()]
            inputs += [(f"state[{i}]", part) for i, part in enumerate(state or ())]
            out = arguments.output(out, shape, self._dtype, inputs)

        if T and B:
            out_steps = out.swapaxes(0, 1) if rows_first else out if batched else out[:, None]
            run = self._run_episodes if anew is not None and self.initial_state else self._run
            run(x_steps, row_lengths, anew, h, c, out_steps)
            self._add_route(T, B, batched)
        return out, ((h, c) if batched else (h[:, 0], c[:, 0]))

    def _check_x(self, x: ArrayLike) -> tuple[Array, bool]:
        """x as (T, B, I), and whether it was batched."""
        array = arguments.real("x", x, self._dtype)
        if array.ndim not in (2, 3) or array.shape[-1] != self._shape.input_size:
            batched = "(B, T, I)" if self._batch_first else "(T, B, I)"
            raise ValueError(f"x: expected shape {batched} or (T, I) with I = {self.input_size}, got {array.shape}")
        if array.ndim == 2:
            return array[:, None], False
        return (array.swapaxes(0, 1) if self._batch_first else array), True

    def _check_state(self, state: tuple[ArrayLike, ArrayLike] | None, B: int, batched: bool) -> State:
        """Fresh (h, c) of shapes (L*D, B, R) and (L*D, B, H), for the kernels to update."""
        H, R = self._shape.hidden_size, self._shape.proj_size or self._shape.hidden_size
        if state is None:
            h, c = self._first
            return np.full((self._states, B, R), h, self._dtype), np.full((self._states, B, H), c, self._dtype)
        h_0, c_0 = arguments.pair("state", state, "(h_0, c_0)")
        return self._fresh_state("h_0", h_0, B, R, batched), self._fresh_state("c_0", c_0, B, H, batched)

    def _fresh_state(self, name: str, value: ArrayLike, B: int, width: int, batched: bool) -> Array:
        array = arguments.real(name, value, self._dtype)
        expected = (self._states, B, width) if batched else (self._states, width)
        if array.shape != expected:
            meaning = "(L*D, B, {})" if batched else "(L*D, {})"
            arguments.shape(name, array, expected, meaning.format("R" if name.endswith(("h_0", "h_n")) else "H"))
        return array.reshape(self._states, B, width).copy()

    def _run(self, x: Array, lengths: Array | None, reset: Array | None, h: Array, c: Array, out: Array) -> None:
        """All layers over all steps, in calls short enough for Ctrl-C: h, c and out are written."""
        weights = self._weights  # once: a load_state_dict meanwhile must not show in this call
        T, B, _ = x.shape
        threads = self._threads()
        call_rows = self._call_rows(B)
        if self._shape.bidirectional and call_rows < T * B:
            self._run_by_layer(weights, x, lengths, reset, h, c, out, call_rows * self._shape.num_layers, threads)
            return
        rows_a_call = min(B, max(1, call_rows))
        batch = Batch(x, lengths, reset, h, c, out)
        for rows in spans(B, rows_a_call):
            for times in spans(T, call_rows // rows_a_call):
                if self._shape.reverse:
                    times = slice(T - times.stop, T - times.start)
                self._backend.lstm_forward(weights, batch.chunk(times).rows(rows), threads)

    def _run_episodes(self, x: Array, lengths: Array | None, reset: Any, h: Array, c: Array, out: Array) -> None:
        """As ``_run`` in one direction, from one reset to the next: kernels know no beginning but zeros."""
        marks, (first_h, first_c) = reset[0], self._first
        starts = [0, *(t for t in np.flatnonzero(marks.any(axis=1)) if t), len(x)]
        for times in (slice(start, stop) for start, stop in pairwise(starts)):
            anew = marks[times.start]
            h[:, anew], c[:, anew] = first_h, first_c
            self._run(x[times], within(lengths, times), None, h, c, out[times])

    def _run_by_layer(
        self,
        weights: LSTMWeights,
        x: Array,
        lengths: Array | None,
        reset: Array | None,
        h: Array,
        c: Array,
        out: Array,
        call_rows: int,
        threads: int,
    ) -> None:
        """Two directions: each layer needs all of time in both of the layer below."""
        T, B, _ = x.shape
        rows_a_call = min(B, max(1, call_rows))
        for layer in range(self.num_layers):
            above = out if layer == self.num_layers - 1 else np.empty((T, B, self._out_features), self._dtype)
            states = slice(2 * layer, 2 * layer + 2)
            for rows in spans(B, rows_a_call):
                part = Batch(x, lengths, reset, h[states], c[states], above).rows(rows)
                for times in spans(T, call_rows // rows_a_call):
                    self._backend.lstm_forward(weights.layer(layer), part, threads, times)
            x = above

    def _add_route(self, T: int, B: int, batched: bool) -> None:
        """The next call of this shape goes straight to the kernel, where one call of it does, and begins with zeros."""
        if not self.initial_state and self._call_rows(B) >= T * B:
            self._routes.add(T, B, batched, self._backend.prepare(self._weights, T, B, self._threads()))

    def _call_rows(self, B: int) -> int:
        """Rows times steps, of B rows, that one call of the kernels may take without being deaf to Ctrl-C for long."""
        return call_work(self._backend, B, self._dtype.itemsize) * self._threads() // self._row_work

    def _threads(self) -> int:
        """Threads that a call may use now."""
        available = cores.available()
        return available if self._num_threads is None else min(self._num_threads, available)

    # ---------------------------------------------------------------- gradients

    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | None = None,
        checkpoint_every: SupportsIndex | None = None,
    ) -> tuple[Array, State, Tape]:
        """As a call, with the same bits, and a tape of it for ``backward``.

        The tape holds, for each step of a row, 5 H + R numbers of every layer and direction; and x itself, not a copy:
        leave it as it is until ``backward``. With ``checkpoint_every`` k it holds only the states before every k-th
        step, and backward runs forward again from there, k steps at a time: one third more work, and of T steps the
        memory of T / k + k, least where k is about sqrt(T). Two directions keep every layer's output as well.

        Returns
        -------
        out, (h_n, c_n)
            As a call returns them.
        tape
            For ``backward``, once or several times. ``tape.nbytes`` says what it holds. It keeps the parameters that
            the model had.

        Raises as a call, and ValueError for a model with a variant or in reverse, which have no backward pass.
        """
        from lstmkernel.engine import tape

        self._check_plain("to record for backward")
        x_steps, batched = self._check_x(x)
        T, B, _ = x_steps.shape
        h, c = self._check_state(state, B, batched)
        row_lengths = _check_lengths(lengths, T, B, batched)
        every = None if checkpoint_every is None else arguments.size("checkpoint_every", checkpoint_every)
        out, (h, c), kept = tape.record(self._snapshot(), x_steps, row_lengths, (h, c), batched, every)
        kept.from_parameters = self.initial_state and state is None
        return self._as_given(out, batched), ((h, c) if batched else (h[:, 0], c[:, 0])), kept

    def _check_plain(self, purpose: str) -> None:
        for name in ("variant", "reverse"):
            if value := getattr(self._shape, name):
                raise ValueError(f"{name}: expected a plain LSTM that runs forwards, {purpose}, got {value!r}")

    def backward(
        self,
        tape: Tape,
        d_out: ArrayLike | None,
        d_state: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    ) -> dict[str, Array]:
        """Gradients of a loss L, from those of what ``forward`` returned.

        Parameters
        ----------
        tape
            As ``forward`` returned it; it is not changed.
        d_out
            dL/d(out), of out's shape. Past a row's length it does not count. None for zeros.
        d_state
            (dL/dh_n, dL/dc_n), of their shapes; either may be None for zeros.

        Returns the gradient of every parameter under its name in ``state_dict()``, and of "x", "h_0" and "c_0", each of
        the shape of what it belongs to: where ``forward`` began with the model's own h_0 and c_0, theirs, summed over
        the rows; else those of its state. Raises ValueError for a wrong shape, another model's tape, or where x was
        written to since ``forward``.
        """
        return self._gradients(tape, d_out, d_state)

    def _gradients(
        self,
        tape: Tape,
        d_out: ArrayLike | None,
        d_state: tuple[ArrayLike | None, ArrayLike | None] | None,
        of_x: bool = True,
        of_parameters: bool = True,
    ) -> dict[str, Array]:
        """As ``backward``, without what is not needed."""
        from lstmkernel.engine import gradients
        from lstmkernel.engine.tape import Tape

        if not isinstance(tape, Tape):
            raise TypeError(f"tape: expected what forward returned, got {type(tape).__name__}")
        if (tape.lstm.shape, tape.lstm.dtype) != (self._shape, self._dtype):
            raise ValueError(f"tape: expected one of {self!r}, got one of {tape.lstm!r}")
        tape.check_x()
        rows = tape.rows
        T, B, _ = tape.x.shape
        steps = None if d_out is None else rows.sorted(self._check_d_out(d_out, T, B, tape.batched))
        d_h, d_c = (None, None) if d_state is None else arguments.pair("d_state", d_state, "(d_h_n, d_c_n)")
        R, H = self._shape.output_size, self._shape.hidden_size
        d_h, d_c = (
            np.zeros((self._states, B, width), self._dtype)
            if value is None
            else np.ascontiguousarray(rows.sorted(self._fresh_state(name, value, B, width, tape.batched)))
            for name, value, width in (("d_h_n", d_h, R), ("d_c_n", d_c, H))
        )
        found = gradients.gradients(tape, steps, d_h, d_c, of_x=of_x, of_parameters=of_parameters)
        if of_x:
            found["x"] = self._as_given(rows.given_back(found["x"]), tape.batched)
        if tape.from_parameters:
            return {**found, "h_0": d_h.sum(axis=1), "c_0": d_c.sum(axis=1)}
        d_h, d_c = rows.given_back(d_h), rows.given_back(d_c)
        return {**found, "h_0": d_h if tape.batched else d_h[:, 0], "c_0": d_c if tape.batched else d_c[:, 0]}

    def _check_d_out(self, d_out: ArrayLike, T: int, B: int, batched: bool) -> Array:
        """As (T, B, D*R)."""
        array = arguments.real("d_out", d_out, self._dtype)
        rows_first = self._batch_first and batched
        shape = (B, T) if rows_first else (T, B) if batched else (T,)
        arguments.shape("d_out", array, (*shape, self._out_features), "of out")
        return array.swapaxes(0, 1) if rows_first else array.reshape(T, B, self._out_features)

    def _as_given(self, array: Array, batched: bool) -> Array:
        """(T, B, n) in the order of the caller's x."""
        if not batched:
            return array[:, 0]
        return np.ascontiguousarray(array.swapaxes(0, 1)) if self._batch_first else array

    # ---------------------------------------------------------------- streams

    def stream(self, batch_size: int = 1) -> Stream:
        """The same model as a ``Stream`` of ``batch_size`` rows, which keeps its states from call to call.

        Raises ValueError for a model that is bidirectional or reverse: backwards, it would need the future.
        """
        from lstmkernel.stream import Stream

        return Stream(self, batch_size)

    def pool(self, capacity: SupportsIndex) -> Pool:
        """A ``Pool`` of at most ``capacity`` streams of this model, which advance together. Raises as ``stream``."""
        from lstmkernel.pool import Pool

        return Pool(self, capacity)

    def _snapshot(self) -> LSTM:
        """The model as it is now: a later load_state_dict of this one does not show."""
        other = type(self).__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        return other

    # ---------------------------------------------------------------- compile and compare

    def compile(
        self, batch_size: SupportsIndex = 1, steps: SupportsIndex | None = None, num_threads: int | None = None
    ) -> LSTM:
        """The same model on the kernels that are fastest for inputs of ``batch_size`` rows and ``steps`` time steps.

        Candidates are the C kernels of every instruction set that this CPU has, Numba's, and both once more with this
        model's sizes as constants: from C where there is a compiler, from Numba for one row of narrow layers that run
        forwards. A variant has none of the latter. Each is built, checked against the float64 definition and, bit by
        bit, against the others, and timed in turns. The result's ``plan`` prints the contest. Plans and compiled code
        are kept (``LSTMKERNEL_CACHE_DIR``), so that the next time on this machine takes milliseconds.

        batch_size and steps are what is timed; any other sizes work. Bits are the same, but for a model on "numpy" or
        "c:generic", which promise none. steps None is a stream of unknown length, timed with 100. num_threads as in the
        constructor; None keeps this model's. Copied or pickled, the result is this model again: compile it where it
        arrives, which takes milliseconds where that was done before.

        Raises ValueError or TypeError for sizes below 1. That a candidate cannot be built is no error: the plan says
        why.
        """
        from lstmkernel.tuning import plan

        batch_size = arguments.size("batch_size", batch_size)
        steps = None if steps is None else arguments.size("steps", steps)
        threads = self._num_threads if num_threads is None else arguments.num_threads(num_threads)
        backend, made = plan.make(self, batch_size, steps, threads)
        fast = self._on(backend, threads, made)
        if num_threads is not None:
            fast._asked = {**self._asked, "num_threads": threads}
        return fast

    def _on(self, backend: Backend, num_threads: int | None, plan: Plan | None = None) -> LSTM:
        """The same parameters on another backend."""
        other = type(self).__new__(type(self))
        changed = {"_backend": backend, "_num_threads": num_threads, "_plan": plan}
        other.__dict__ = {**self.__dict__, **changed}
        other._take(self._parameters)
        return other

    # ---------------------------------------------------------------- the object itself

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, but for the seed."""
        variant = self._shape.variant
        return {
            **self._shape._asdict(),
            "variant": variant and variant.to_dict(),
            "batch_first": self._batch_first,
            "dtype": self._dtype.name,
            **self._asked,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_config, (self.config(), self.state_dict())

    def __repr__(self) -> str:
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
            f"backend={self.backend!r}",
        ]
        return f"LSTM({s.input_size}, {s.hidden_size}, {', '.join(filter(None, options))})"


def _check_lengths(lengths: ArrayLike | None, T: int, B: int, batched: bool) -> Array | None:
    if lengths is None:
        return None
    if not batched:
        raise ValueError("lengths: expected a batched x of 3 dimensions, got an unbatched one of 2")
    return arguments.lengths(lengths, T, B)
