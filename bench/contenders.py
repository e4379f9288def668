"""The libraries that lstmkernel is compared with: each makes a call to be timed from the same weights and input.

Work that is needed only once happens before the call: loading, compiling, and converting the input to the library's own
arrays. A call starts from zero states and ends with the output as a NumPy array.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

import lstmkernel as lk

Call = Callable[[], np.ndarray]


def lstmkernel_call(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    model = lk.LSTM.from_config({**lstm.config(), "num_threads": threads}, lstm.state_dict())
    return lambda: model(x)[0]


def torch_call(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, bidirectional=lstm.bidirectional)
    module.load_state_dict({name: torch.tensor(value) for name, value in lstm.state_dict().items()})
    module.requires_grad_(False)
    tensor = torch.from_numpy(x)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(tensor)[0].numpy()

    return call


def onnxruntime_call(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    import onnxruntime
    from onnx_file import onnx_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(onnx_model(lstm), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["out"], {"x": x})[0]


def openvino_call(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    """In float32: by default, OpenVINO uses bfloat16 where the CPU has it."""
    return openvino_model_call("f32", lstm, x, threads)


def openvino_model_call(precision: str, lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    """In "f32" or "bf16". Fixed shapes are its fastest way."""
    sys.modules["openvino_telemetry"] = None  # as if it was not installed: otherwise openvino sends a report
    import openvino
    from onnx_file import onnx_model

    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    model = core.read_model(onnx_model(lstm))
    model.reshape(list(x.shape))
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def call() -> np.ndarray:
        request.infer()
        return request.get_output_tensor().data

    return call


def jax_call(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    """Weights are constants, which XLA packs once. States are arguments: XLA would drop products with constant zeros.

    The environment sets the number of threads; see ``contender_process.environment``.
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    named, H, D = lstm.state_dict(), lstm.hidden_size, lstm.shape.directions

    def direction(x: jax.Array, layer: int, d: int, state: tuple[jax.Array, jax.Array]) -> jax.Array:
        end = lstm.shape.suffix(layer, d)
        w_ih, w_hh = (jnp.asarray(named[f"{name}{end}"].T) for name in ("weight_ih", "weight_hh"))

        def step(state: tuple[jax.Array, jax.Array], z: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            h, c = state
            i, f, g, o = jnp.split(z + h @ w_hh, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        z = x @ w_ih + (named[f"bias_ih{end}"] + named[f"bias_hh{end}"])
        return lax.scan(step, state, z, reverse=d == 1)[1]

    @jax.jit
    def network(x: jax.Array, h: jax.Array, c: jax.Array) -> jax.Array:
        for layer in range(lstm.num_layers):
            states = [(h[layer * D + d], c[layer * D + d]) for d in range(D)]
            x = jnp.concatenate([direction(x, layer, d, states[d]) for d in range(D)], axis=-1)
        return x

    steps, zeros = jnp.asarray(x), jnp.zeros((lstm.num_layers * D, x.shape[1], H), jnp.float32)
    return lambda: np.asarray(network(steps, zeros, zeros))


def numpy_call(lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    """The definition, in float32. The environment sets the number of BLAS's threads."""
    model = lk.LSTM.from_config({**lstm.config(), "backend": "numpy"}, lstm.state_dict())
    return lambda: model(x)[0]


class Contender(NamedTuple):
    packages: tuple[str, ...]  # that it needs
    prepare: Callable[[lk.LSTM, np.ndarray, int], Call]

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]


OURS, BASELINE = "lstmkernel", "NumPy"

CONTENDERS = {
    OURS: Contender((), lstmkernel_call),
    "PyTorch": Contender(("torch",), torch_call),
    "ONNX Runtime": Contender(("onnxruntime", "onnx"), onnxruntime_call),
    "OpenVINO": Contender(("openvino", "onnx"), openvino_call),
    "JAX": Contender(("jax",), jax_call),
    BASELINE: Contender((), numpy_call),
}

#: Fast libraries: all but lstmkernel and the baseline.
PEERS = tuple(name for name in CONTENDERS if name not in (OURS, BASELINE))
