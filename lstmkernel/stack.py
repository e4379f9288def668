"""Stack: layers of different sizes and directions, and Dense heads, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel import backends
from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine import arguments, inputs, parameters, quantizing, training
from lstmkernel.engine import precision as bits
from lstmkernel.engine.at_once import engines_of, replace_engines
from lstmkernel.engine.call import call_chain
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.expects import warn_without
from lstmkernel.engine.head import Head
from lstmkernel.engine.network import Network, State
from lstmkernel.engine.precision import Precisions
from lstmkernel.engine.quantizing import Asked
from lstmkernel.engine.training import ChainTape
from lstmkernel.lstm import LSTM, with_network
from lstmkernel.model import Model
from lstmkernel.plan import Plan

Layer = LSTM | Dense


class Plans(tuple[Plan, ...]):
    """What ``Stack.compile`` found for each LSTM, the lowest one first. Prints as their tables."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))


class Stack(Model):
    """LSTM and Dense layers one after the other.

    ``out, states = net(x, states)``: ``states`` holds one ``(h, c)`` for each LSTM of ``layers``, in order. Each
    layer's output width must be the next one's input width; all share one dtype, and all LSTMs one ``batch_first``.

    The first ``out_features`` numbers of x, times ``skip``, are added to ``out``. ``skip`` is 1 in a network that
    predicts only what an amplifier changes. 0 adds nothing.

    The layers stay what they are: weights that are loaded into a layer of ``layers`` show in the stack, and those that
    are loaded into the stack show in its layers. ``load_state_dict`` replaces all layers at one moment: a call, a
    stream or a copy that another thread makes meanwhile has all the old weights or all the new ones.
    """

    def __init__(self, layers: Iterable[Layer], *, skip: float = 0) -> None:
        self._layers: tuple[Layer, ...] = tuple(layers)
        self._chain: Chain | None = None  # as it was last asked for
        if not self.layers:
            raise ValueError("layers: expected at least one")
        for place, layer in enumerate(self.layers):
            if not isinstance(layer, LSTM | Dense):
                raise TypeError(f"layers[{place}]: expected an LSTM or a Dense, got {type(layer).__name__}")
            if type(layer).__call__ not in (LSTM.__call__, Dense.__call__):
                raise TypeError(
                    f"layers[{place}]: expected an LSTM or a Dense that runs as it is, got {type(layer).__name__} with "
                    "a __call__ of its own, which the stack would pass over; call such a layer yourself"
                )
        for place, (below, above) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if below.out_features != above.in_features:
                raise ValueError(
                    f"layers[{place + 1}]: expected input width {below.out_features}, the output width of "
                    f"layers[{place}], got {above.in_features}"
                )
        dtype = self.layers[0].dtype
        if any(layer.dtype != dtype for layer in self.layers):
            raise ValueError(f"layers: expected one dtype, got {', '.join(layer.dtype.name for layer in self.layers)}")
        orders = {layer.batch_first for layer in self._lstms()}
        if len(orders) > 1:
            raise ValueError("layers: expected one batch_first for all LSTMs, got both")
        self._skip = float(skip)
        if not np.isfinite(self._skip):
            raise ValueError(f"skip: expected a finite number, got {skip}")
        if self._skip and self.input_size < self.out_features:
            raise ValueError(
                f"skip: expected an input at least as wide as out, {self.out_features}, got {self.input_size}"
            )

    @property
    def engine(self) -> Chain:
        """The layers' networks, with the parameters of one moment. Its interface may change."""
        engines, chain = engines_of(self._layers), self._chain
        if chain is None or chain.layers != engines:
            chain = self._chain = Chain(engines, self._skip)
        return chain

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The LSTM and Dense layers, the first one first."""
        return self._layers

    @property
    def skip(self) -> float:
        """The input, times this, is added to the output; 0 for none."""
        return self._skip

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        """The layers, the first one first."""
        return iter(self._layers)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Layer: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, place: Any) -> Any:
        """A layer by its place, or those of a slice; as ``layers``."""
        return self._layers[place]

    def _lstms(self) -> list[LSTM]:
        return [layer for layer in self.layers if isinstance(layer, LSTM)]

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"; several joined by commas where layers differ."""
        return ", ".join(dict.fromkeys(layer.backend for layer in self.layers))

    @property
    def activations(self) -> str:
        """What the LSTM layers' weights are multiplied by, as ``precision`` says it; see ``LSTM.activations``."""
        return bits.distinct(each.activations for each in self._precisions()) or self.dtype.name

    @property
    def precision(self) -> str:
        """The LSTM layers' precision, several joined by commas where they differ; the dtype's name if there is none."""
        return bits.distinct(each.weights for each in self._precisions()) or self.dtype.name

    def _precisions(self) -> Precisions:
        """Of all LSTM layers."""
        return tuple(each for lstm in self._lstms() for each in lstm.engine.precisions)

    @property
    def num_threads(self) -> int | None:
        """The largest of its LSTMs' bounds on threads; None if one has no bound."""
        bounds = [lstm.num_threads for lstm in self._lstms()]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if known and len(known) == len(bounds) else None

    @property
    def plan(self) -> Plans | None:
        """What ``compile`` measured and chose for each LSTM; None for a stack that ``compile`` did not make."""
        plans = [lstm.plan for lstm in self._lstms()]
        known = [plan for plan in plans if plan is not None]
        return Plans(known) if known and len(known) == len(plans) else None

    def __call__(
        self,
        x: ArrayLike,
        state: Sequence[tuple[ArrayLike, ArrayLike] | None] | None = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[Array, tuple[State, ...]]:
        """Run over a sequence; arguments and errors as for LSTM, ``state`` with one (h, c) or None for each LSTM."""
        chain = self.engine
        given = inputs.states_given(chain, state)
        lengths, reset, mask = (
            None if value is None else arguments.array_of(name, value).copy()  # the same in all layers
            for name, value in (("lengths", lengths), ("reset", reset), ("mask", mask))
        )
        for network in chain.networks:
            warn_without(network, lengths, mask)
        written, last = call_chain(chain, x, given, lengths, reset, mask, out)
        return written, tuple(last)

    # ---------------------------------------------------------------- gradients

    def forward(
        self,
        x: ArrayLike,
        state: Sequence[tuple[ArrayLike, ArrayLike] | None] | None = None,
        *,
        lengths: ArrayLike | None = None,
        checkpoint_every: SupportsIndex | None = None,
    ) -> tuple[Array, tuple[State, ...], ChainTape]:
        """Run as a call does, with bit-identical results, and record a tape for ``backward``.

        Arguments and errors as for ``LSTM.forward``; ``state`` has one (h, c) or None for each LSTM.
        """
        chain = self.engine
        return training.forward_chain(chain, x, inputs.states_given(chain, state), lengths, checkpoint_every)

    def backward(
        self,
        tape: ChainTape,
        d_out: ArrayLike | None,
        d_state: Sequence[tuple[ArrayLike | None, ArrayLike | None] | None] | None = None,
    ) -> dict[str, Array]:
        """Gradients of a loss L, from those of what ``forward`` returned.

        Parameters
        ----------
        tape
            As ``forward`` returned it; it is not changed.
        d_out
            dL/d(out), of out's shape. Past a row's length it is ignored. None if the loss does not use ``out``.
        d_state
            One (dL/dh_n, dL/dc_n) or None for each LSTM; None if the loss uses none of them.

        Returns the gradient of every parameter under its name in ``state_dict()``, of the first states of each LSTM
        ("0.h_0" and "0.c_0" for the layer in place 0), and of "x". Errors as for ``LSTM.backward``.
        """
        if not isinstance(tape, ChainTape):
            raise TypeError(f"tape: expected what forward returned, got {type(tape).__name__}")
        if not tape.is_of(self.engine):
            raise ValueError(f"tape: expected one of {self!r}, got that of other layers: {tape!r}")
        return training.backward_chain(tape, d_out, d_state)

    # ---------------------------------------------------------------- fewer bits

    def quantize(
        self,
        precision: str | None = None,
        activations: str | None = None,
        calibrate: Any = None,
        *,
        weights: str | None = None,
        max_error: float | None = None,
    ) -> Stack:
        """The same stack with weights of fewer bits in every LSTM; see ``LSTM.quantize``.

        Dense layers stay float32: they are copies of this stack's. ``load_state_dict`` refuses. With ``weights="auto"``
        each layer of each LSTM has a precision of its own, and ``max_error`` bounds the error of the whole stack's
        ``out``. Raises as ``LSTM.quantize``, and names the layer; and ValueError for
        a stack without an LSTM.
        """
        asked = quantizing.asked(precision, activations, calibrate, weights, max_error)
        if not self._lstms():
            raise ValueError(f"layers: expected an LSTM to quantize, got {self!r}; Dense layers stay as they are")

        def quantized(place: int, layer: Layer) -> Layer:
            try:
                return layer if isinstance(layer, Dense) else layer.quantize(precision, activations)
            except ValueError as error:
                raise ValueError(f"layers[{place}]: {error}") from error

        if asked.calibrate is not None:
            return self._quantized_for_data(asked)
        layers = [quantized(place, layer) for place, layer in enumerate(copy(self).layers)]
        return Stack(layers, skip=self._skip)

    def _quantized_for_data(self, asked: Asked) -> Stack:
        layers = copy(self).layers
        engines = [_not_compiled(layer) for layer in layers]
        done = quantizing.for_data(Chain(engines, self._skip), asked, repr(self))
        both = zip(layers, done.layers, strict=True)
        return Stack([_on(layer, engine) for layer, engine in both], skip=self._skip)

    # ---------------------------------------------------------------- compile

    def compile(
        self,
        batch_size: SupportsIndex = 1,
        steps: SupportsIndex | None = None,
        num_threads: int | None = None,
        *,
        stream: bool = False,
        refresh: bool = False,
    ) -> Stack:
        """The same stack with each LSTM on the kernels that are fastest for its sizes; ``plan`` prints what they took.

        Arguments and errors as for ``LSTM.compile``. Dense layers stay on their backend.
        """

        def compiled(layer: Layer) -> Layer:
            if isinstance(layer, Dense):
                return layer
            return layer.compile(batch_size, steps, num_threads, stream=stream, refresh=refresh)

        layers = [compiled(layer) for layer in copy(self).layers]
        return Stack(layers, skip=self._skip)

    # ---------------------------------------------------------------- parameters

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, as in ``state_dict()``."""
        return parameters.with_places(layer.parameter_shapes() for layer in self.layers)

    def state_dict(self) -> dict[str, Array]:
        """Every layer's parameters. Each name begins with the layer's place: "0.weight_ih_l0", ..."""
        return parameters.with_places(layer.state_dict() for layer in self.engine.layers)

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every layer's parameters; errors as ``LSTM.load_state_dict``. All layers change, or none."""
        for network in self.engine.networks:
            network.require_loadable()
        self._replace(mapping)

    def _replace(self, mapping: Mapping[str, Any]) -> None:
        checked = parameters.checked(mapping, self.parameter_shapes(), self.dtype)
        engines = []
        for i, engine in enumerate(engines_of(self._layers)):
            engines.append(engine.with_parameters({name: checked[f"{i}.{name}"] for name in engine.parameters}))
        replace_engines(self._layers, engines)

    def config(self) -> dict[str, Any]:
        """``skip``, and each layer's ``config()`` with its class as "type": plain values."""
        layers = [{"type": type(layer).__name__, **layer.config()} for layer in self._layers]
        return {"layers": layers, "skip": self._skip}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], mapping: Mapping[str, Any]) -> Stack:
        """The stack of a ``config()`` and a ``state_dict()``. No initial weights are drawn."""
        kinds: dict[str, type[Layer]] = {"LSTM": LSTM, "Dense": Dense}
        layers = []
        for i, described in enumerate(config["layers"]):
            own = dict(described)
            kind = kinds.get(own.pop("type", None))
            if kind is None:
                raise ValueError(f"layers[{i}]: expected type LSTM or Dense, got {described.get('type')!r}")
            named = {name.removeprefix(f"{i}."): v for name, v in mapping.items() if name.startswith(f"{i}.")}
            layers.append(kind.from_config(own, named))
        stack = cls(layers, skip=config.get("skip", 0))
        parameters.require_only(mapping, stack.stored())
        return stack

    def __copy__(self) -> Stack:
        """Another stack, of copies of the layers, with the same packed weights, which never change."""
        layers, engines = [copy(layer) for layer in self._layers], engines_of(self._layers)
        replace_engines(layers, engines)
        return Stack(layers, skip=self._skip)

    def __reduce__(self) -> tuple[Any, ...]:
        # The layers themselves: who pickles one of them beside the stack gets it back as a layer of that stack. They
        # are pickled one after the other, and somebody may load other weights meanwhile, so all weights come along.
        # A pickle holds an array only once.
        return partial(type(self), skip=self._skip), (self._layers,), self.stored()

    def stored(self) -> dict[str, Array]:
        """For ``from_config``: ``state_dict()``, but weights of fewer bits in those bits. Read-only."""
        return parameters.with_places(layer.parameters for layer in self.engine.layers)

    def __setstate__(self, named: Mapping[str, Array]) -> None:
        own = self.stored()
        if not all(np.array_equal(own[name], value) for name, value in named.items()):
            self._replace(named)

    def __repr__(self) -> str:
        skip = f", skip={self._skip:g}" if self._skip else ""
        return f"Stack([{', '.join(map(repr, self.layers))}]{skip})"


def _not_compiled(layer: Layer) -> Network | Head:
    """The layer's engine, on the backend that was asked for when the layer was made."""
    if isinstance(layer, Dense):
        return layer.engine
    return layer.engine.on(backends.get(layer.config()["backend"]), layer.num_threads)


def _on(layer: Layer, engine: Network | Head) -> Layer:
    return with_network(layer, engine) if isinstance(layer, LSTM) and isinstance(engine, Network) else layer
