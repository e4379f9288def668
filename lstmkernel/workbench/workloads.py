"""What is compared: each kernel of the contract alone, and the whole network, ready to be called and checked.

``compare`` and bench/ take their work from here. A kernel that joins ``contract.KERNELS`` needs an entry in ALONE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.packing import LayerWeights, pack_gates, unpack_gates
from lstmkernel.backends.tape import LayerGradients, LayerTape, ParameterGradients, Parameters
from lstmkernel.engine.tape import room
from lstmkernel.lstm import LSTM
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench.cases import Problem
from lstmkernel.workbench.networks import on

#: The work that is not one kernel but all of them behind the public API.
NETWORK = "network"

#: All that is compared, the kernels first.
NAMES = (*backends.KERNELS, NETWORK)


class Work(NamedTuple):
    """A kernel or a network on one backend, with its inputs and outputs allocated."""

    call: Callable[[], object]  # what is timed; may be repeated
    answer: Callable[[], Answer]  # one call from the first state: copies of all it wrote, in no backend's own layout
    rows: int  # batch rows x time steps of one call
    flops: int | None  # of one call's matrix products; None where it has none


def prepare(name: str, problem: Problem, backend: str) -> Work:
    """The work of that name, one of NAMES."""
    if name == NETWORK:
        return _network(problem, backend)
    return ALONE[name](problem, backends.get(backend))


def _network(problem: Problem, backend: str) -> Work:
    """Through the public API, as a user calls it."""
    net = on(problem.net, backend, problem.dtype)
    T, B, _ = problem.x.shape
    options: dict[str, Any] = {}
    if isinstance(net, LSTM):
        options["out"] = np.empty((T, B, net.out_features), net.dtype)

    def call() -> Any:
        return net(problem.x, **options)

    def answer() -> Answer:
        out, states = call()
        pairs = [states] if isinstance(net, LSTM) else states
        return (out.copy(), *(array for pair in pairs for array in pair))

    weights = sum(value.size for value in net.state_dict().values() if value.ndim == 2)
    return Work(call, answer, T * B, 2 * weights * T * B)


def _activation(problem: Problem, backend: Backend) -> Work:
    """All of them, one after the other."""
    x = problem.gates.reshape(-1)
    outputs = {name: np.empty_like(x) for name in backends.ACTIVATIONS}

    def call() -> None:
        for name, y in outputs.items():
            backend.activation(name, x, y)

    def answer() -> Answer:
        call()
        return tuple(y.copy() for y in outputs.values())

    return Work(call, answer, len(problem.gates), None)


def _gate_matmul(problem: Problem, backend: Backend) -> Work:
    weights = _first_layer(problem, backend)
    x = problem.x_rows
    z = weights.empty_gates(len(x))

    def call() -> None:
        backend.gate_matmul(x, weights, z)

    def answer() -> Answer:
        call()
        return (unpack_gates(z, weights.hidden_size),)

    return Work(call, answer, len(x), 8 * x.size * weights.hidden_size)


def _cell_update(problem: Problem, backend: Backend) -> Work:
    z = pack_gates(problem.gates, _first_layer(problem, backend))
    c, h = problem.cells.copy(), np.empty_like(problem.cells)

    def call() -> None:
        backend.cell_update(z, c, h)

    def answer() -> Answer:
        c[...] = problem.cells
        call()
        return c.copy(), h.copy()

    return Work(call, answer, len(c), None)


def _dense_forward(problem: Problem, backend: Backend) -> Work:
    """A head of H outputs: the layer's weights of gate i, and some bias."""
    H = problem.cells.shape[1]
    weights = backend.pack_dense(problem.lstm.state_dict()["weight_ih_l0"][:H], problem.gates[0, 0], "tanh")
    x = problem.x_rows
    y = np.empty((len(x), H), x.dtype)

    def call() -> None:
        backend.dense_forward(x, weights, y)

    def answer() -> Answer:
        call()
        return (y.copy(),)

    return Work(call, answer, len(x), 2 * x.size * H)


def _layer_forward(problem: Problem, backend: Backend) -> Work:
    weights = _first_layer(problem, backend)
    x, h, c = problem.x_steps, problem.h.copy(), problem.c.copy()
    T, B, I = x.shape
    H, R = weights.hidden_size, weights.output_size
    out = np.empty((T, B, R), x.dtype)

    def call() -> None:
        backend.layer_forward(x, weights, None, False, h, c, out)

    def answer() -> Answer:
        h[...], c[...] = problem.h, problem.c
        call()
        return out.copy(), h.copy(), c.copy()

    return Work(call, answer, T * B, 2 * T * B * (4 * H * (I + R) + weights.proj_size * H))


def _layer_record(problem: Problem, backend: Backend) -> Work:
    weights, tape = _first_layer(problem, backend), _empty_tape(problem, backend)

    def call() -> None:
        backend.layer_record(tape, weights, 1)

    def answer() -> Answer:
        call()
        return tape.h.copy(), tape.gates.copy(), tape.c.copy()

    forward = _layer_forward(problem, backend)
    return Work(call, answer, forward.rows, forward.flops)


def _layer_backward(problem: Problem, backend: Backend) -> Work:
    """For a loss that weighs all outputs alike, whatever their number."""
    tape = _empty_tape(problem, backend)
    backend.layer_record(tape, _first_layer(problem, backend), 1)
    T, B, _ = tape.x.shape
    named = problem.lstm.state_dict()
    parameters = Parameters(named["weight_ih_l0"], named["weight_hh_l0"], named.get("weight_hr_l0"))
    w_hr = None if parameters.w_hr is None else np.zeros_like(parameters.w_hr)
    bias = np.zeros(len(parameters.w_ih), problem.dtype)
    of_parameters = ParameterGradients(np.zeros_like(parameters.w_ih), np.zeros_like(parameters.w_hh), bias, w_hr)
    d_out = np.broadcast_to(problem.h / (T * B), tape.h.shape).copy()
    states, d_x = (np.zeros_like(problem.h), np.zeros_like(problem.c)), np.empty_like(tape.x)
    gradients = LayerGradients(d_out, *states, d_x, False, of_parameters)

    def call() -> None:
        backend.layer_backward(tape, parameters, gradients, 1)

    def answer() -> Answer:
        written = [array for array in (*states, *of_parameters) if array is not None]
        for array in written:
            array[...] = 0
        call()
        return d_x.copy(), *(array.copy() for array in written)

    forward = _layer_forward(problem, backend)
    return Work(call, answer, forward.rows, forward.flops and 2 * forward.flops)


#: How each kernel of the contract is prepared.
ALONE: dict[str, Callable[[Problem, Backend], Work]] = {
    "activation": _activation,
    "gate_matmul": _gate_matmul,
    "cell_update": _cell_update,
    "dense_forward": _dense_forward,
    "layer_forward": _layer_forward,
    "layer_record": _layer_record,
    "layer_backward": _layer_backward,
}


def _empty_tape(problem: Problem, backend: Backend) -> LayerTape:
    """Of all steps of the first layer."""
    weights = _first_layer(problem, backend)
    x = problem.x_steps
    T, B, _ = x.shape
    c, gates = room(weights.hidden_size, x.dtype, None, T, B, 0, T)
    c[0] = problem.c
    h = np.empty((T, B, weights.output_size), x.dtype)
    return LayerTape(x, None, False, problem.h.copy(), h, c, gates, first=0, last=T)


def _first_layer(problem: Problem, backend: Backend) -> LayerWeights:
    named = problem.lstm.state_dict()
    w_ih = named["weight_ih_l0"]
    bias = named["bias_ih_l0"] + named["bias_hh_l0"] if "bias_ih_l0" in named else np.zeros(len(w_ih), w_ih.dtype)
    return backend.pack_layer(w_ih, named["weight_hh_l0"], bias, named.get("weight_hr_l0"))
