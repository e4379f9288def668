"""The networks that tests run on: one list. A test takes a part of it, by name.

KINDS differ in what a network does, SIZES in the way that kernels take through it, and OWN has what PyTorch has not.
"""

from __future__ import annotations

from typing import Any

import pytest

import lstmkernel as lk
from lstmkernel.engine.precision import PLAIN, Precision
from lstmkernel.lstm import with_network

Arguments = dict[str, Any]

#: Every option of PyTorch's LSTM, alone and together. One block of units that is not full.
KINDS: dict[str, Arguments] = {
    "plain": {"input_size": 5, "hidden_size": 9},
    "two layers": {"input_size": 5, "hidden_size": 9, "num_layers": 2},
    "two directions": {"input_size": 5, "hidden_size": 9, "num_layers": 2, "bidirectional": True},
    "three layers, two directions": {"input_size": 3, "hidden_size": 7, "num_layers": 3, "bidirectional": True},
    "projected": {"input_size": 5, "hidden_size": 9, "num_layers": 2, "proj_size": 4},
    "projected, two directions": {
        "input_size": 5,
        "hidden_size": 9,
        "num_layers": 2,
        "proj_size": 4,
        "bidirectional": True,
    },
    "without bias": {"input_size": 2, "hidden_size": 5, "num_layers": 2, "bias": False},
    "without bias, projected, two directions": {
        "input_size": 6,
        "hidden_size": 5,
        "num_layers": 2,
        "bias": False,
        "proj_size": 2,
        "bidirectional": True,
    },
    "batch first": {"input_size": 3, "hidden_size": 12, "num_layers": 2, "batch_first": True},
    "batch first, two directions": {"input_size": 3, "hidden_size": 7, "batch_first": True, "bidirectional": True},
}

#: Few units and many, whole blocks and tails, narrow inputs and wide ones, one layer and three.
SIZES: dict[str, Arguments] = {
    "few units": {"input_size": 3, "hidden_size": 5},
    "two blocks and a tail": {"input_size": 3, "hidden_size": 33, "num_layers": 2},
    "three layers with a tail": {"input_size": 17, "hidden_size": 33, "num_layers": 3},
    "two directions with a tail": {"input_size": 3, "hidden_size": 20, "num_layers": 2, "bidirectional": True},
    "projected to a few": {"input_size": 4, "hidden_size": 40, "num_layers": 2, "proj_size": 7},
    "whole blocks, projected": {"input_size": 3, "hidden_size": 128, "num_layers": 3, "proj_size": 20},
    "wide": {"input_size": 130, "hidden_size": 150},
}

OWN: dict[str, Arguments] = {
    "reverse": {"input_size": 5, "hidden_size": 7, "num_layers": 2, "reverse": True},
    "learned state": {"input_size": 3, "hidden_size": 33, "num_layers": 2, "initial_state": True},
    "variant": {"input_size": 5, "hidden_size": 9, "variant": lk.Variant(peephole=True, coupled="forget")},
}

NETWORKS: dict[str, Arguments] = {**KINDS, **SIZES, **OWN}


def each(*names: str) -> pytest.MarkDecorator:
    """The test's argument ``network`` is each of these names."""
    return pytest.mark.parametrize("network", names)


def without(option: str, names: dict[str, Arguments]) -> list[str]:
    """Those that do not have it."""
    return [name for name, arguments in names.items() if not arguments.get(option)]


def options(name: str) -> Arguments:
    """The arguments beside input_size and hidden_size."""
    return {key: value for key, value in NETWORKS[name].items() if key not in ("input_size", "hidden_size")}


def make(name: str, backend: str = "auto", dtype: Any = "float32", **more: Any) -> lk.LSTM:
    """A network of the list, the same at every call; ``more`` arguments come on top."""
    return lk.LSTM(**{**NETWORKS[name], "backend": backend, "dtype": dtype, "seed": 2, **more})


#: Precisions of layers, by short names.
PRECISIONS = {
    "int8": Precision("int8", "int8"),
    "int16": Precision("int8", "int16"),
    "float16": Precision("float16", "float32"),
    "float32": PLAIN,
}


def mixed(lstm: lk.LSTM, *names: str) -> lk.LSTM:
    """The network with a precision for each layer. int8 and int16: activations of 8-bit weights."""
    precisions = tuple(PRECISIONS[name] for name in names)
    return with_network(lstm, lstm.engine.quantized_by_layer(precisions, lstm.engine.backend))


def with_head(lstm: lk.LSTM) -> lk.Stack:
    """A Stack of ``lstm`` and a Dense of two outputs."""
    return lk.Stack([lstm, lk.Dense(lstm.out_features, 2, "softmax", dtype=lstm.dtype, backend=lstm.backend, seed=1)])
