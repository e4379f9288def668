"""LSTM: stacked layers in one or two directions, with PyTorch's meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.engine import arguments, gradients, parameters, quantizing, training
from lstmkernel.engine import precision as bits
from lstmkernel.engine.call import checked_call
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.expects import EXPECTS, IN_FORWARD, warn_without
from lstmkernel.engine.network import Network, NetworkOptions, State
from lstmkernel.engine.notes import Notes
from lstmkernel.engine.parameters import LSTMShape, Shapes
from lstmkernel.engine.tape import Tape
from lstmkernel.model import Model
from lstmkernel.variant import Variant

if TYPE_CHECKING:
    from lstmkernel.plan import Plan
    from lstmkernel.stream import Stream


class LSTM(Model):
    """Stacked LSTM layers, as ``torch.nn.LSTM``: ``out, (h_n, c_n) = lstm(x)``.

    An LSTM reads a sequence step by step. Each layer keeps two states, the hidden state h (its output) and the cell
    state c (its memory). Shapes below: T time steps, B batch rows, I input_size, H hidden_size, P proj_size, R = P or H
    (the width of h), L num_layers, D directions (1 or 2).

    Parameters
    ----------
    input_size
        I: how many numbers x has at each time step.
    hidden_size
        H: how many units each layer has; the width of its cell state, and of its output unless ``proj_size`` is given.
    num_layers
        L: how many layers lie on top of each other. Each reads the outputs of the layer below.
    bias
        Whether the layers have the parameters bias_ih and bias_hh.
    batch_first
        Whether batched ``x`` and ``out`` are (B, T, ...) instead of (T, B, ...). The states are (L*D, B, ...) always.
    bidirectional
        Whether each layer also runs from each row's end to its start (D = 2). The outputs of both directions lie side
        by side.
    proj_size
        P: a matrix projects h to this width (R = P); 0 for no projection (R = H).
    variant
        Peepholes, clipping, coupled gates, other activations: a ``Variant``. None is the plain LSTM.
    reverse
        Whether every layer runs only from each row's end to its start. The output is in the order of x all the same.
    initial_state
        Whether the first state of a call, a stream or a pool is learned: the parameters ``h_0`` (L*D, R) and ``c_0``
        (L*D, H) take the place of zeros. PyTorch's LSTM has none.
    dtype
        float32 or float64: the type of weights, inputs, states and outputs.
    backend
        "auto", "c", "c:<instruction set>", "numba" or "numpy"; ``lstmkernel.info()`` lists what this machine has.
    num_threads
        At most this many threads; None for no bound. A call uses only as many threads as make it faster, and no more
        than affinity and control groups leave to the process. The results are bit-identical. NumPy uses one thread.
    seed
        For the first weights, U(-1/sqrt(H), 1/sqrt(H)); None draws new ones each time.

    Raises ValueError or TypeError for a wrong argument, and BackendError for a backend that cannot run here.

    Only ``load_state_dict`` changes a model, and none that ``quantize`` made. Any number of threads may call it at
    once, also while one loads.
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

        def values(shapes: Shapes, dtype: np.dtype[Any]) -> dict[str, Array]:
            gates, _ = shapes["weight_hh_l0"]
            return parameters.uniform(shapes, 1 / np.sqrt(gates // 4), dtype, seed)

        self._make(values, shape, batch_first, dtype, backend, num_threads)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], mapping: Mapping[str, Any]) -> LSTM:
        """The model of a ``config()`` and a ``state_dict()``. No initial weights are drawn."""
        options = dict(config)
        precision, activations = options.pop("precision", None), options.pop("activations", None)
        shape = LSTMShape(**{name: options.pop(name) for name in LSTMShape._fields if name in options}).checked()
        if shape.num_layers > len(mapping):  # a lie in a file must not cost time or memory
            raise ValueError(f"num_layers: {shape.num_layers} layers, but only {len(mapping)} parameters in all")
        self = cls.__new__(cls)
        if precision is None:
            self._make(partial(parameters.checked, mapping), shape, **options)
            return self
        precisions = bits.of_config(precision, activations, shape.num_layers)
        integers = bits.checked_int8(mapping, precisions)
        others = {name: value for name, value in mapping.items() if name not in integers}
        numbers = {**others, **bits.widened(integers, np.dtype(np.float32))}
        self._make(partial(parameters.checked, numbers), shape, **options)
        self._engine = self._engine.as_quantized(precisions, integers)
        return self

    def _make(
        self,
        values: Callable[[Shapes, np.dtype[Any]], dict[str, Array]],
        shape: LSTMShape,
        batch_first: bool,
        dtype: DTypeLike,
        backend: str,
        num_threads: int | None,
        expects: str | None = None,
        **notes: Any,
    ) -> None:
        """Check the arguments and pack the parameters, which ``values`` makes for given shapes in a given dtype."""
        shape, found = shape.checked(), arguments.float_dtype(dtype)
        for name, parameter_shape in shape.parameters().items():
            arguments.addressable(name, parameter_shape, found)
        threads, kernels = arguments.num_threads(num_threads), backends.get(backend)
        # "auto" and None stay what they are when the model moves to another machine.
        self._asked: dict[str, Any] = {"backend": backend, "num_threads": num_threads}
        self._plan: Plan | None = None
        if expects not in (None, *EXPECTS):
            raise ValueError(f"expects: expected {' or '.join(map(repr, EXPECTS))} or None, got {expects!r}")
        options = NetworkOptions(threads, bool(batch_first), expects, Notes(**notes).checked())
        self._engine = Network(shape, values(shape.parameters(), found), found, kernels, options)

    @property
    def engine(self) -> Network:
        """The network that runs, packed on its backend, with the current parameters. Its interface may change."""
        return self._engine

    # ---------------------------------------------------------------- parameters

    @property
    def shape(self) -> LSTMShape:
        """All arguments that decide the parameters' names and shapes."""
        return self._engine.shape

    @property
    def hidden_size(self) -> int:
        """H: how many units each layer has."""
        return self._engine.shape.hidden_size

    @property
    def num_layers(self) -> int:
        """L: how many layers lie on top of each other."""
        return self._engine.shape.num_layers

    @property
    def bias(self) -> bool:
        """Whether the layers have bias_ih and bias_hh."""
        return self._engine.shape.bias

    @property
    def bidirectional(self) -> bool:
        """Whether each layer runs in both directions."""
        return self._engine.shape.bidirectional

    @property
    def proj_size(self) -> int:
        """P: the width of h after the projection; 0 for none."""
        return self._engine.shape.proj_size

    @property
    def variant(self) -> Variant | None:
        """How the layers' cell differs from the plain LSTM; None for the plain LSTM."""
        return self._engine.shape.variant

    @property
    def reverse(self) -> bool:
        """Whether every layer runs only from each row's end to its start."""
        return self._engine.shape.reverse

    @property
    def initial_state(self) -> bool:
        """Whether h_0 and c_0 are parameters."""
        return self._engine.shape.initial_state

    @property
    def expects(self) -> str | None:
        """ "mask" or "lengths" if the file of the network says that it runs with them, else None.

        A call without either then warns: padded steps would be taken for real ones.
        """
        return self._engine.options.expects

    @property
    def num_threads(self) -> int | None:
        """The bound on threads, from the argument or the environment; None for no bound."""
        return self._engine.options.num_threads

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"."""
        return self._engine.backend.name

    @property
    def plan(self) -> Plan | None:
        """What ``compile`` measured and chose; None for a model that ``compile`` did not make."""
        return self._plan

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, in PyTorch's order."""
        return self._engine.shape.parameters()

    def state_dict(self) -> dict[str, Array]:
        """Every parameter by PyTorch's name: read-only arrays of the model's dtype; rounded, if it is quantized."""
        return self._engine.state_dict()

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every parameter by those of ``mapping`` (names and shapes as ``state_dict()``, any float dtype).

        Raises ValueError for a missing, superfluous or misshapen key and TypeError for a wrong dtype, naming it; the
        model then keeps the parameters that it had. A quantized model never changes: ValueError.
        """
        engine = self._engine
        engine.require_loadable()
        self._engine = engine.with_parameters(parameters.checked(mapping, engine.shape.parameters(), engine.dtype))

    # ---------------------------------------------------------------- fewer bits

    @property
    def precision(self) -> str:
        """What the weights are rounded to: "float16" or "int8" after ``quantize``, else the dtype's name.

        Several joined by commas where layers differ, which ``quantize(weights="auto")`` may make: "int8, float16".
        """
        return self._engine.precision

    @property
    def activations(self) -> str:
        """What the weights are multiplied by: "int16" or "int8" where they are "int8", else the dtype's name.

        Several joined by commas where layers differ, as ``precision`` has them.
        """
        return self._engine.activations

    def quantize(
        self,
        precision: str | None = None,
        activations: str | None = None,
        calibrate: Any = None,
        *,
        weights: str | None = None,
        max_error: float | None = None,
    ) -> LSTM:
        """The same model with weights of fewer bits, which never change.

        precision
            "float16" rounds weight_ih, weight_hh and weight_hr to the nearest float16, ties to even. The results have
            the bits of a float32 model with the rounded weights.
            "int8" makes integers from -127 to 127 of them, with a scale for each row. Inputs and h become integers,
            too, and sums of their products are exact.
        activations
            Of "int8": "int16" (the default) or "int8". The second is faster, and less accurate.
        calibrate
            Data like that which the model will run on: an array as x of a call, or a list or an iterator of such
            arrays, of any lengths. Each sequence begins with the model's first state. "int8" weights are fitted to four
            fifths of it: their columns are rounded one after the other, and those to come make good the error (GPTQ,
            Frantar et al. 2022), layer by layer, with the inputs that the quantized layers below give. The rest
            measures the error: ``certificate`` of the result. "float16" weights are rounded as without data.
            An iterator's arrays are kept until the end; beyond that, the memory does not grow with the steps, unless
            a layer has a backward direction. Long work shows a progress bar, if stderr is a terminal.
        weights
            "auto", in place of ``precision``: for each layer the fewest bits with which the error stays within
            ``max_error``. They are "int8" with "int8" activations, "int8" with "int16", "float16" or "float32".
        max_error
            The largest error of ``out`` against the float64 model that may be, on data that no weight was fitted to.

        All else stays float32: biases, the cell, x, out, states, ``state_dict()``. The result runs in every way that
        this model does, but it is not compiled, and ``forward`` and ``load_state_dict`` refuse. See
        docs/smaller_weights.md.

        Raises ValueError for an unknown precision, for a float64 model, for a ``Variant`` with "int8", and by its name
        for a weight that is NaN, infinite or, with "float16", above 65504. Raises ValueError and TypeError for
        ``calibrate`` as a call for x, and for numbers that are not finite, data without a step, and a model that is
        quantized already; and ValueError, with the figures, if the error is above ``max_error``. Raises BackendError
        for a backend that has no kernels for 8-bit weights.
        """
        asked = quantizing.asked(precision, activations, calibrate, weights, max_error)
        kernels = backends.get(self._asked["backend"])
        if asked.calibrate is None:
            assert asked.precision is not None
            return with_network(self, self._engine.quantized(asked.precision, kernels))
        chain = Chain.of(self._engine.on(kernels, self.num_threads))
        (engine,) = quantizing.for_data(chain, asked, repr(self)).networks
        return with_network(self, engine)

    # ---------------------------------------------------------------- forward

    def __call__(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        mask: ArrayLike | None = None,
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
            (B,) integers in 0..T, in any order: how many steps each row has. ``out`` is 0 past a row's end; h_n and c_n
            are the states at its own last step, or its initial state if the length is 0.
        reset
            bool, of x's first two dimensions: True at each step at which a new episode starts (an utterance, a game).
            Before that step the row's state becomes what it is without ``state``: zeros, or the learned state. With two
            directions, no episode sees another one: the backward direction starts each episode at its last step. A
            model with two directions and an ``initial_state`` takes no reset.
        mask
            bool, of x's first two dimensions: False at each step that is skipped, as in Keras. The row's state stays as
            it is, x is not read, and ``out`` repeats the output before it, in the direction's order: zeros where there
            is none in the episode. Steps past a row's length are not repeated but 0.
        out
            Where to write the output: C-contiguous, of the right shape and dtype, overlapping no input. A call that is
            interrupted may have written part of it.

        Returns
        -------
        out
            h of the top layer at every step, (T, B, D*R); as ``x``, (B, T, D*R) or (T, D*R).
        (h_n, c_n)
            The last states of every layer and direction, shaped as ``state``.

        Raises ValueError for a wrong shape or length and TypeError for a wrong dtype, before anything is written.
        """
        # engine.call, written out: a function call more would take some percent of a step of a small network.
        network = self._engine
        if lengths is None and reset is None and mask is None:
            done = network.prepared.run(x, state, out)
            if done is not None:
                return done
            warn_without(network, lengths, mask)
        return checked_call(network, x, state, lengths, reset, mask, out)

    # ---------------------------------------------------------------- gradients

    def forward(
        self,
        x: ArrayLike,
        state: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        lengths: ArrayLike | None = None,
        checkpoint_every: SupportsIndex | None = None,
    ) -> tuple[Array, State, Tape]:
        """Run as a call does, with bit-identical results, and record a tape for ``backward``.

        The tape holds 5 H + R numbers for each step of a row, in every layer and direction. It also holds x itself, not
        a copy: do not change x before ``backward``. With ``checkpoint_every`` k it holds only the states before every
        k-th step; backward then runs forward again from there, k steps at a time. That is one third more work. It needs
        the memory of T / k + k steps instead of T, which is least where k is about sqrt(T). With two directions the
        tape keeps every layer's output as well.

        Returns
        -------
        out, (h_n, c_n)
            As a call returns them.
        tape
            For ``backward``, once or several times. ``tape.nbytes`` is its size. It keeps the parameters that the model
            had.

        Raises as a call, and ValueError for a model with a variant or in reverse or that is quantized, which have no
        backward pass.
        """
        warn_without(self._engine, lengths, None, IN_FORWARD)
        return training.forward(self._engine, x, state, lengths, checkpoint_every)

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
            dL/d(out), of out's shape. Past a row's length it is ignored. None if the loss does not use ``out``.
        d_state
            (dL/dh_n, dL/dc_n), of their shapes. Either may be None if the loss does not use it.

        Returns the gradient of every parameter under its name in ``state_dict()``, and of "x", "h_0" and "c_0", each of
        the shape of what it belongs to. If ``forward`` began with the learned h_0 and c_0, the last two are the
        gradients of those parameters, summed over the rows; otherwise they are the gradients of ``state``. Raises
        ValueError for a wrong shape, for another model's tape, and if x was written to since ``forward``.
        """
        if not isinstance(tape, Tape):
            raise TypeError(f"tape: expected what forward returned, got {type(tape).__name__}")
        if tape.network.kind != self._engine.kind:
            raise ValueError(f"tape: expected one of {self!r}, got one of {tape.network!r}")
        return gradients.backward(tape, d_out, d_state)

    # ---------------------------------------------------------------- compile and compare

    def compile(
        self,
        batch_size: SupportsIndex = 1,
        steps: SupportsIndex | None = None,
        num_threads: int | None = None,
        *,
        stream: bool = False,
        refresh: bool = False,
    ) -> LSTM:
        """The same model on the kernels that are fastest for inputs of ``batch_size`` rows and ``steps`` time steps.

        The candidates are the C kernels of every instruction set that this CPU has, Numba's kernels, and both again
        with this model's sizes as constants. C has such kernels if there is a compiler, and Numba has them for one row
        of narrow layers that run forwards; a variant has none. Each candidate is built. Its answer is checked against
        the float64 definition and, bit by bit, against the other candidates. Then all are timed in turns. The result's
        ``plan`` prints all of it. Plans and compiled code are kept on disk (``LSTMKERNEL_CACHE_DIR``): compiling the
        same model again on this machine takes milliseconds.

        Only batch_size and steps are timed; inputs of all other sizes work as well. Results are bit-identical, unless
        this model runs on "numpy" or "c:generic", which do not promise that. steps None means an unknown length; 100
        steps are timed. stream: time what a ``Stream`` of ``batch_size`` rows does, chunks of ``steps`` steps, or
        single steps where steps is None. num_threads as in the constructor; None keeps this model's. A deep copy or a
        pickle of the result is this model again, not compiled: call ``compile`` where it is loaded.

        Long work shows a spinner on stderr, if that is a terminal; else it says every ten seconds that it goes on.

        Another candidate takes the place of this model's kernels only if it is faster by more than the noise, which is
        how much the times differed from round to round. A plan that is remembered is made again with ``refresh``, and
        if its noise was above 10%.

        Raises ValueError or TypeError for sizes below 1, and ValueError for ``stream`` and a model that cannot stream.
        A candidate that cannot be built is no error; the plan says why.
        """
        from lstmkernel import plan
        from lstmkernel.tuning.work import Work

        B = arguments.size("batch_size", batch_size)
        steps = None if steps is None else arguments.size("steps", steps)
        threads = self.num_threads if num_threads is None else arguments.num_threads(num_threads)
        network = self._engine

        def open_stream(candidate: Network) -> Stream:
            return self._copy(_engine=candidate).stream(B)

        if stream:
            open_stream(network)  # raises for a model that cannot stream
        work = Work(B, steps, open_stream if stream else None)
        backend, made = plan.make(network, work, threads, refresh)
        asked = self._asked if num_threads is None else {**self._asked, "num_threads": threads}
        return self._copy(_engine=network.on(backend, threads), _plan=made, _asked=asked)

    # ---------------------------------------------------------------- the object itself

    def config(self) -> dict[str, Any]:
        """Plain values for ``from_config``: the arguments of the constructor but the seed, and what else is set."""
        variant = self._engine.shape.variant
        return {
            **self.shape._asdict(),
            "variant": variant and variant.to_dict(),
            "batch_first": self.batch_first,
            "dtype": self.dtype.name,
            **({"expects": self.expects} if self.expects else {}),
            **self._engine.options.notes.given(),
            **(bits.config(self._engine.precisions) if self._engine.is_quantized else {}),
            **self._asked,
        }

    def stored(self) -> Mapping[str, Array]:
        """For ``from_config``: ``state_dict()``, but weights of fewer bits in those bits. Read-only."""
        return self._engine.parameters

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_config, (self.config(), dict(self.stored()))

    def __copy__(self) -> LSTM:
        """Another model with the same packed weights, which never change."""
        return self._copy()

    def _copy(self, **changes: Any) -> LSTM:
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), **changes)
        return other

    def __repr__(self) -> str:
        return repr(self._engine)


def with_network(lstm: LSTM, network: Network) -> LSTM:
    """A copy of the model on another network of its shape, not compiled."""
    other = copy(lstm)
    vars(other).update(_engine=network, _plan=None)
    return other
