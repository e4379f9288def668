"""Workloads: each kernel of the contract alone, and the whole network, ready to be called and checked.

``compare`` and bench/ measure these. A new kernel in ``contract.KERNELS`` needs an entry in ALONE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lstmkernel import backends
from lstmkernel.backends import Backend
from lstmkernel.backends.packing import LayerWeights, pack_gates, unpack_gates
from lstmkernel.backends.tape import LayerGradients, LayerTape, ParameterGradients, Parameters, RowsOfTape
from lstmkernel.engine.parameters import layer_parameters
from lstmkernel.engine.tape import room
from lstmkernel.lstm import LSTM
from lstmkernel.tuning.accuracy import Answer
from lstmkernel.workbench.cases import Case
from lstmkernel.workbench.networks import on

#: The workload that is not one kernel but a whole network, called through the public API.
NETWORK = "network"

#: All workloads, the kernels first.
NAMES = (*backends.KERNELS, NETWORK)


class Workload(NamedTuple):
    """A kernel or a network on one backend, with its inputs and outputs allocated.

    ``answer`` makes one call from the first state and returns copies of everything that the call wrote. Gates in it are
    unpacked, so that answers of different backends can be compared.
    """

    call: Callable[[], object]  # what is timed; may be repeated
    answer: Callable[[], Answer]
    rows: int  # batch rows x time steps of one call
    flops: int | None  # of one call's matrix products; None where it has none


def prepare(name: str, case: Case, backend: str) -> Workload:
    """The workload of that name, one of NAMES."""
    if name == NETWORK:
        return _network(case, backend)
    return ALONE[name](case, backends.get(backend))


def operations(name: str, case: Case) -> float:
    """About the floating-point operations of one call: to say how long it will take."""
    T, B, I = case.x_steps.shape
    H = case.cells.shape[1]
    if name == NETWORK:
        weights = sum(value.size for value in case.net.state_dict().values() if value.ndim == 2)
        return float(2 * T * B * weights)
    steps = {"layer_forward": 1, "layer_record": 1, "layer_backward": 2}.get(name, 0)
    return float(8 * H * (steps * T * B * (I + H) + len(case.x_rows) * I))


def _network(case: Case, backend: str) -> Workload:
    """Through the public API, as a user calls it."""
    net = on(case.net, backend, case.dtype)
    T, B, _ = case.x.shape
    options: dict[str, Any] = {}
    if isinstance(net, LSTM):
        options["out"] = np.empty((T, B, net.out_features), net.dtype)

    def call() -> Any:
        return net(case.x, **options)

    def answer() -> Answer:
        out, states = call()
        pairs = [states] if isinstance(net, LSTM) else states
        return (out.copy(), *(array for pair in pairs for array in pair))

    weights = sum(value.size for value in net.state_dict().values() if value.ndim == 2)
    return Workload(call, answer, T * B, 2 * weights * T * B)


def _activation(case: Case, backend: Backend) -> Workload:
    """All activation functions, one after the other."""
    x = case.gates.reshape(-1)
    outputs = {name: np.empty_like(x) for name in backends.ACTIVATIONS}

    def call() -> None:
        for name, y in outputs.items():
            backend.activation(name, x, y)

    def answer() -> Answer:
        call()
        return tuple(y.copy() for y in outputs.values())

    return Workload(call, answer, len(case.gates), None)


def _gate_matmul(case: Case, backend: Backend) -> Workload:
    weights = _first_layer(case, backend)
    x = case.x_rows
    z = weights.empty_gates(len(x))

    def call() -> None:
        backend.gate_matmul(x, weights, z)

    def answer() -> Answer:
        call()
        return (unpack_gates(z, weights.hidden_size),)

    return Workload(call, answer, len(x), 8 * x.size * weights.hidden_size)


def _cell_update(case: Case, backend: Backend) -> Workload:
    z = pack_gates(case.gates, _first_layer(case, backend))
    c, h = case.cells.copy(), np.empty_like(case.cells)

    def call() -> None:
        backend.cell_update(z, c, h)

    def answer() -> Answer:
        c[...] = case.cells
        call()
        return c.copy(), h.copy()

    return Workload(call, answer, len(c), None)


def _dense_forward(case: Case, backend: Backend) -> Workload:
    """A Dense layer of H outputs. Its weights are those of the LSTM's gate i, its bias is random."""
    H = case.cells.shape[1]
    weights = backend.pack_dense(case.lstm.state_dict()["weight_ih_l0"][:H], case.gates[0, 0], "tanh")
    x = case.x_rows
    y = np.empty((len(x), H), x.dtype)

    def call() -> None:
        backend.dense_forward(x, weights, y)

    def answer() -> Answer:
        call()
        return (y.copy(),)

    return Workload(call, answer, len(x), 2 * x.size * H)


def _layer_forward(case: Case, backend: Backend) -> Workload:
    weights = _first_layer(case, backend)
    x, h, c = case.x_steps, case.h.copy(), case.c.copy()
    T, B, I = x.shape
    H, R = weights.hidden_size, weights.output_size
    out = np.empty((T, B, R), x.dtype)

    def call() -> None:
        backend.layer_forward(x, weights, None, False, h, c, out)

    def answer() -> Answer:
        h[...], c[...] = case.h, case.c
        call()
        return out.copy(), h.copy(), c.copy()

    return Workload(call, answer, T * B, 2 * T * B * (4 * H * (I + R) + weights.proj_size * H))


def _layer_record(case: Case, backend: Backend) -> Workload:
    weights, tape = _first_layer(case, backend), _empty_tape(case, backend)

    def call() -> None:
        backend.layer_record(tape, weights, 1)

    def answer() -> Answer:
        call()
        return tape.h.copy(), tape.gates.copy(), tape.c.copy()

    forward = _layer_forward(case, backend)
    return Workload(call, answer, forward.rows, forward.flops)


def _layer_backward(case: Case, backend: Backend) -> Workload:
    """For a loss that gives every output the same weight, 1 / (T B)."""
    tape = _empty_tape(case, backend)
    backend.layer_record(tape, _first_layer(case, backend), 1)
    T, B, _ = tape.x.shape
    named = case.lstm.state_dict()
    parameters = Parameters(named["weight_ih_l0"], named["weight_hh_l0"], named.get("weight_hr_l0"))
    w_hr = None if parameters.w_hr is None else np.zeros_like(parameters.w_hr)
    bias = np.zeros(len(parameters.w_ih), case.dtype)
    d_parameters = ParameterGradients(np.zeros_like(parameters.w_ih), np.zeros_like(parameters.w_hh), bias, w_hr)
    d_out = np.broadcast_to(case.h / (T * B), tape.h.shape).copy()
    states, d_x = (np.zeros_like(case.h), np.zeros_like(case.c)), np.empty_like(tape.x)
    gradients = LayerGradients(d_out, *states, d_x, False, d_parameters)

    def call() -> None:
        backend.layer_backward([RowsOfTape(tape)], parameters, gradients, 1)

    def answer() -> Answer:
        written = [array for array in (*states, *d_parameters) if array is not None]
        for array in written:
            array[...] = 0
        call()
        return d_x.copy(), *(array.copy() for array in written)

    forward = _layer_forward(case, backend)
    return Workload(call, answer, forward.rows, forward.flops and 2 * forward.flops)


#: How each kernel of the contract is prepared.
ALONE: dict[str, Callable[[Case, Backend], Workload]] = {
    "activation": _activation,
    "gate_matmul": _gate_matmul,
    "cell_update": _cell_update,
    "dense_forward": _dense_forward,
    "layer_forward": _layer_forward,
    "layer_record": _layer_record,
    "layer_backward": _layer_backward,
}


def _empty_tape(case: Case, backend: Backend) -> LayerTape:
    """For all steps of the first layer."""
    weights = _first_layer(case, backend)
    x = case.x_steps
    T, B, _ = x.shape
    c, gates = room(weights.hidden_size, x.dtype, None, T, B, 0, T)
    c[0] = case.c
    h = np.empty((T, B, weights.output_size), x.dtype)
    return LayerTape(x, None, False, case.h.copy(), h, c, gates, first=0, last=T)


def _first_layer(case: Case, backend: Backend) -> LayerWeights:
    first = layer_parameters(case.lstm.state_dict(), case.lstm.shape.suffix(0, 0))
    return backend.pack_layer(first.w_ih, first.w_hh, first.bias, first.w_hr)
