"""GuitarML's JSON (Proteus, NeuralPi): a recurrent layer ``rec`` and a Dense layer ``lin``, under PyTorch's names.

CoreAudioML's ``SimpleRNN`` saves such files: ``model_data`` has the sizes and ``state_dict`` the weights. The output is
``lin(rec(x))`` plus the first ``skip`` inputs. A file without ``skip`` gets 1, because the plug-ins always add the
first input.
"""

from __future__ import annotations

from typing import Any

from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats.amplifiers.amplifier import AmplifierFormat, DenseLayer, Layers, LSTMLayer
from lstmkernel.formats.inspection import Tensor
from lstmkernel.formats.pytorch import names
from lstmkernel.formats.untrusted.json import array, field, shape_of, size


def _tensors(model: Any) -> list[Tensor]:
    return [Tensor(name, shape_of(value), "float32") for name, value in field(model, "state_dict", dict).items()]


def _network(model: Any) -> tuple[Layers, float]:
    about = field(model, "model_data", dict)
    where = "model_data."
    for key, known in (("model", "SimpleRNN"), ("unit_type", "LSTM")):
        found = field(about, key, str, known, where=where)
        if found != known:
            raise ValueError(f"{where}{key}: expected {known!r}, got {found[:60]!r}; lstmkernel runs LSTMs")
    I, H = (size(about, key, where=where) for key in ("input_size", "hidden_size"))
    L, outputs = (size(about, key, 1, where=where) for key in ("num_layers", "output_size"))
    skip = size(about, "skip", 1, where=where, least=0)
    if skip not in (0, outputs):
        raise ValueError(f"{where}skip: expected 0 or output_size = {outputs}, got {skip}")

    values = field(model, "state_dict", dict)
    if len(values) < 4 * L:  # a false number must not cost time
        raise ValueError(f"{where}num_layers: {L} layers, but only {len(values)} tensors in state_dict")
    shape = LSTMShape(I, H, L, bias=True, bidirectional=False, proj_size=0)
    expected = {f"rec.{name}": extents for name, extents in shape.parameters().items()}
    expected["lin.weight"] = (outputs, H)
    if field(about, "bias_fl", bool, True, where=where):  # says whether lin has a bias; rec always has
        expected["lin.bias"] = (outputs,)
    if set(values) != set(expected):
        wrong = min(set(values) ^ set(expected))
        raise ValueError(f"state_dict: expected exactly {', '.join(expected)}, but {wrong[:60]!r} differs")
    arrays = {name: array(name, values[name], extents) for name, extents in expected.items()}
    head = DenseLayer(arrays["lin.weight"], arrays.get("lin.bias"))
    return [LSTMLayer(names.within(arrays, "rec.")), head], min(skip, 1)


FORMAT = AmplifierFormat(
    NAME="GuitarML",
    SUFFIXES=(),
    keys=("model_data", "state_dict"),
    network=_network,
    tensors=_tensors,
    about=lambda model: ("GuitarML", None),
)
