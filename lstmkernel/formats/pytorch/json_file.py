"""A PyTorch state_dict as JSON: ``{"lstm.weight_ih_l0": [[...]], ...}``, or ``{"lstm": {"weight_ih_l0": ...}}``."""

from __future__ import annotations

from typing import Any

from lstmkernel.backends.packing import Array
from lstmkernel.dense import Dense
from lstmkernel.formats.contract import Options
from lstmkernel.formats.inspection import Contents, Tensor
from lstmkernel.formats.pytorch import state_dict
from lstmkernel.formats.pytorch.weights import Weight
from lstmkernel.formats.untrusted.json import array, read_json
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

NAME = "PyTorch state_dict as JSON"
SUFFIXES: tuple[str, ...] = (".json",)

MOST_DEPTH = 32


def recognises(path: str, head: bytes) -> bool:
    """Any JSON object: the formats that look for keys of their own are asked before this one."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(b"{")


def inspect(path: str) -> Contents:
    arrays, others = _read(path)
    return state_dict.contents(NAME, _tensors(arrays), _weights(arrays), others)


def load(path: str, prefix: str | None, options: Options) -> LSTM | Dense | Stack:
    """float32 unless ``options`` says otherwise: decimal digits do not tell how many bits the weights had."""
    arrays, _ = _read(path)
    return state_dict.load(_weights(arrays), prefix, options.or_else("float32"))


def _weights(arrays: dict[str, Array]) -> list[Weight]:
    return state_dict.of_tensors(_tensors(arrays), lambda tensor: arrays[tensor.name])


def _tensors(arrays: dict[str, Array]) -> list[Tensor]:
    return [Tensor(name, array.shape, array.dtype.name) for name, array in arrays.items()]


def _read(path: str) -> tuple[dict[str, Array], list[str]]:
    """Weights and biases by their names, and the names of everything else."""
    whole = read_json(path)
    if not isinstance(whole, dict):
        raise ValueError(f"JSON: expected an object of weights by name, got {type(whole).__name__}")
    arrays: dict[str, Array] = {}
    others: list[str] = []
    _collect("", whole, arrays, others, 0)
    return arrays, others


def _collect(place: str, node: dict[str, Any], arrays: dict[str, Array], others: list[str], depth: int) -> None:
    if depth > MOST_DEPTH:
        raise ValueError(f"{place[:100]}: expected at most {MOST_DEPTH} objects in each other, got more")
    for key, value in node.items():
        name = f"{place}{key}"
        if name in arrays:
            raise ValueError(f"{name[:100]}: the name is there twice")
        if isinstance(value, dict):
            _collect(f"{name}.", value, arrays, others, depth + 1)
        elif isinstance(value, list) and (_is_parameter(key) or "parametrizations." in name):
            arrays[name] = array(name, value)
        elif isinstance(value, float) and ("parametrizations." in name or (_is_parameter(key) and key.endswith("_g"))):
            arrays[name] = array(name, value)  # a norm of all of a weight
        else:
            others.append(name)


def _is_parameter(key: str) -> bool:
    return key.rpartition(".")[2].startswith(("weight", "bias"))
