"""Networks of fewer bits: lstmkernel's and other libraries', each from the same float32 weights. See contenders.py."""

from __future__ import annotations

import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from contenders import CONTENDERS, OURS, Call, Contender, lstmkernel_call, openvino_model_call

import lstmkernel as lk
from lstmkernel.host import cpu


def ours_call(precision: str, activations: str | None, lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    model = lk.LSTM.from_config({**lstm.config(), "num_threads": threads}, lstm.state_dict())
    narrow = model.quantize(precision, activations)
    return lambda: narrow(x)[0]


def onnxruntime_call(per_channel: bool, lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    """DynamicQuantizeLSTM: int8 weights with a scale for the matrix or for each of its columns, 8-bit activations."""
    import onnxruntime
    from onnx_file import onnx_model
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with tempfile.TemporaryDirectory() as folder:
        plain, narrow = Path(folder) / "plain.onnx", Path(folder) / "narrow.onnx"
        plain.write_bytes(onnx_model(lstm))
        quantize_dynamic(plain, narrow, per_channel=per_channel, weight_type=QuantType.QInt8)
        session = onnxruntime.InferenceSession(narrow, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["out"], {"x": x})[0]


def torch_call(dtype: str, lstm: lk.LSTM, x: np.ndarray, threads: int) -> Call:
    """quantize_dynamic: "qint8" or "float16" weights."""
    import torch

    torch.set_num_threads(threads)
    module = torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, bidirectional=lstm.bidirectional)
    module.load_state_dict({name: torch.tensor(value) for name, value in lstm.state_dict().items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and there is no other one for LSTMs
        inside = torch.nn.Sequential(module)  # a module alone is not replaced
        (narrow,) = torch.ao.quantization.quantize_dynamic(inside, {torch.nn.LSTM}, dtype=getattr(torch, dtype))
    tensor = torch.from_numpy(x)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return narrow(tensor)[0].numpy()

    return call


#: lstmkernel's own. The first one is what all others are compared with where nothing else is said.
INT8, INT8_FAST, FLOAT16 = f"{OURS} int8", f"{OURS} int8, 8-bit activations", f"{OURS} float16"

#: float32, as contenders.py has them: the best of these is what float16 is compared with.
WIDE = {name: contender for name, contender in CONTENDERS.items() if name in ("PyTorch", "ONNX Runtime", "OpenVINO")}

_TORCH, _ONNX = ("torch",), ("onnxruntime", "onnx")

NARROW_PEERS = {
    "ONNX Runtime int8": Contender(_ONNX, partial(onnxruntime_call, False)),
    "ONNX Runtime int8, per channel": Contender(_ONNX, partial(onnxruntime_call, True)),
    "PyTorch int8": Contender(_TORCH, partial(torch_call, "qint8")),
    "PyTorch float16": Contender(_TORCH, partial(torch_call, "float16")),
    **(
        {"OpenVINO bfloat16": Contender(("openvino", "onnx"), partial(openvino_model_call, "bf16"))}
        if "avx512_bf16" in cpu.features()
        else {}  # others compute in float32 all the same
    ),
}

NARROW = {
    INT8: Contender((), partial(ours_call, "int8", "int16")),
    INT8_FAST: Contender((), partial(ours_call, "int8", "int8")),
    FLOAT16: Contender((), partial(ours_call, "float16", None)),
    OURS: Contender((), lstmkernel_call),
    **NARROW_PEERS,
    **WIDE,
}
