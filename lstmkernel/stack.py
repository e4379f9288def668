"""Stack: layers of different sizes and directions, and Dense heads, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.engine import arguments, inputs, parameters
from lstmkernel.engine.at_once import engines_of, replace_engines
from lstmkernel.engine.call import call_chain
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.expects import warn_without
from lstmkernel.engine.network import State
from lstmkernel.lstm import LSTM
from lstmkernel.model import Model

Layer = LSTM | Dense


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
            if below.out_features != _in_features(above):
                raise ValueError(
                    f"layers[{place + 1}]: expected input width {below.out_features}, the output width of "
                    f"layers[{place}], got {_in_features(above)}"
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

    def _lstms(self) -> list[LSTM]:
        return [layer for layer in self.layers if isinstance(layer, LSTM)]

    @property
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"; several joined by commas where layers differ."""
        return ", ".join(dict.fromkeys(layer.backend for layer in self.layers))

    def __call__(
        self,
        x: ArrayLike,
        state: Sequence[tuple[ArrayLike, ArrayLike] | None] | None = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        mask: ArrayLike | None = None,
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
        out, last = call_chain(chain, x, given, lengths, reset, mask)
        return out, tuple(last)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, as in ``state_dict()``."""
        return {
            f"{i}.{name}": shape
            for i, layer in enumerate(self.layers)
            for name, shape in layer.parameter_shapes().items()
        }

    def state_dict(self) -> dict[str, Array]:
        """Every layer's parameters. Each name begins with the layer's place: "0.weight_ih_l0", ..."""
        layers = enumerate(self.engine.layers)
        return {f"{i}.{name}": value for i, layer in layers for name, value in layer.parameters.items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every layer's parameters; errors as ``LSTM.load_state_dict``. All layers change, or none."""
        checked = parameters.checked(mapping, self.parameter_shapes(), self.dtype)
        engines = []
        for i, engine in enumerate(engines_of(self._layers)):
            engines.append(engine.with_parameters({name: checked[f"{i}.{name}"] for name in engine.parameters}))
        replace_engines(self._layers, engines)

    def __copy__(self) -> Stack:
        """Another stack, of copies of the layers, with the same packed weights, which never change."""
        layers, engines = [copy(layer) for layer in self._layers], engines_of(self._layers)
        replace_engines(layers, engines)
        return Stack(layers, skip=self._skip)

    def __reduce__(self) -> tuple[Any, ...]:
        # The layers themselves: who pickles one of them beside the stack gets it back as a layer of that stack. They
        # are pickled one after the other, and somebody may load other weights meanwhile, so all weights come along.
        # A pickle holds an array only once.
        return partial(type(self), skip=self._skip), (self._layers,), self.state_dict()

    def __setstate__(self, named: Mapping[str, Array]) -> None:
        own = self.state_dict()
        if not all(np.array_equal(own[name], value) for name, value in named.items()):
            self.load_state_dict(named)

    def __repr__(self) -> str:
        skip = f", skip={self._skip:g}" if self._skip else ""
        return f"Stack([{', '.join(map(repr, self.layers))}]{skip})"


def _in_features(layer: Layer) -> int:
    return layer.input_size if isinstance(layer, LSTM) else layer.in_features
