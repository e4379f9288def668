"""GuitarML's JSON (Proteus, NeuralPi): a recurrent layer ``rec`` and a head ``lin``, under PyTorch's names.

What CoreAudioML's ``SimpleRNN`` saves: ``model_data`` has the sizes, ``state_dict`` the weights, and the output is
``lin(rec(x))``, plus the first ``skip`` inputs. The plug-ins always add the first input, so that is what a file without
``skip`` gets.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lstmkernel.engine.parameters import LSTMShape
from lstmkernel.formats.amplifiers import amplifier
from lstmkernel.formats.inspection import Contents, Tensor
from lstmkernel.formats.pytorch import names
from lstmkernel.formats.untrusted import json_text
from lstmkernel.formats.untrusted.json_arrays import array, field, mentions, shape_of, size
from lstmkernel.stack import Stack

NAME = "GuitarML"
SUFFIXES: tuple[str, ...] = ()


def recognises(path: str, head: bytes) -> bool:
    return mentions(path, head, "model_data", "state_dict")


def inspect(path: str) -> Contents:
    model = json_text.read(path)
    state_dict = field(model, "state_dict", dict)
    tensors = [Tensor(name, shape_of(value), "float32") for name, value in state_dict.items()]
    return amplifier.contents(NAME, tensors, None, partial(_net, model))


def load(path: str, prefix: str | None, options: dict[str, Any]) -> Stack:
    amplifier.whole(prefix)
    return _net(json_text.read(path), options)


def _net(model: Any, options: dict[str, Any]) -> Stack:
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
    if len(values) < 4 * L:  # a lie in a file must not cost time
        raise ValueError(f"{where}num_layers: {L} layers, but only {len(values)} tensors in state_dict")
    shape = LSTMShape(I, H, L, bias=True, bidirectional=False, proj_size=0)
    expected = {f"rec.{name}": extents for name, extents in shape.parameters().items()}
    expected["lin.weight"] = (outputs, H)
    if field(about, "bias_fl", bool, True, where=where):  # of lin alone
        expected["lin.bias"] = (outputs,)
    if set(values) != set(expected):
        wrong = min(set(values) ^ set(expected))
        raise ValueError(f"state_dict: expected exactly {', '.join(expected)}, but {wrong[:60]!r} differs")
    arrays = {name: array(name, values[name], extents) for name, extents in expected.items()}
    lstm = amplifier.lstm(names.within(arrays, "rec."), options)
    return Stack([lstm, amplifier.dense(arrays["lin.weight"], arrays.get("lin.bias"), options)], skip=min(skip, 1))
