"""Weights from files and frameworks: one file a format, each giving PyTorch's names and gate order.

A format is a module with ``NAME``, ``SUFFIXES`` and three functions: ``recognises(path, head)`` by content, where head
is the file's first 64 KiB; ``inspect(path)``; ``load(path, prefix, options)``. They raise plain ValueErrors that name
the key; here these become FormatErrors that name the file.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.engine import arguments
from lstmkernel.formats import errors
from lstmkernel.formats.errors import FormatError
from lstmkernel.formats.inspection import Contents
from lstmkernel.formats.pytorch.names import from_torch
from lstmkernel.formats.untrusted import limits
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

__all__ = ["Contents", "FormatError", "from_torch", "inspect", "load", "save"]

Net = LSTM | LSTMCell | Dense | Stack

#: Modules of this package, in the order in which they are asked whether a file is theirs; imported when needed.
FORMATS = (
    "safetensors",
    "pytorch.file",
    "keras.file",
    "amplifiers.rtneural",
    "amplifiers.guitarml",
    "amplifiers.nam",
    "pytorch.json_file",
    "onnx.file",
)

#: What ``save`` writes, by suffix.
SAVERS = {".safetensors": "safetensors", ".onnx": "onnx.file"}

HEAD_BYTES = 1 << 16


def load(
    path: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    dtype: DTypeLike | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    batch_first: bool | None = None,
    max_bytes: int | None = None,
) -> Net:
    """Load a network from a file; its content decides which format it is.

    Parameters
    ----------
    path
        A file that ``save`` wrote, or one of another framework; ``lstmkernel.inspect`` says what is in it.
    prefix
        Picks a part of a larger model: "lstm_cell" takes ``lstm_cell.weight_ih`` and its siblings. Names of an
        LSTMCell, without ``_l0``, are an LSTM of one layer. Without a prefix, the whole file must be one LSTM, or LSTMs
        in a chain and a Linear at its end: those become a Stack. Its head is linear: activations are no weights.
        Keras's files say more, and their prefixes are the names of layers.
    dtype
        float32 or float64; by default what ``save`` noted, else float64 where all the weights are, else float32.
    backend, num_threads
        As for LSTM.
    batch_first
        As for LSTM; by default what ``save`` noted, else True for Keras's files, else False.
    max_bytes
        How much the file may unpack to; by default twice its size and 32 MiB. Raise it for files that you trust.

    Raises FileNotFoundError; FormatError, a ValueError, naming the file, the key, what was expected and what came;
    ModuleNotFoundError naming the extra that the format needs. Weights that are NaN or infinite load with a warning.
    """
    # What is wrong with an option is not the file's fault.
    backends.get(backend)
    options: dict[str, Any] = {"backend": backend, "num_threads": arguments.num_threads(num_threads)}
    if dtype is not None:
        options["dtype"] = arguments.float_dtype(dtype).name
    if batch_first is not None:
        options["batch_first"] = bool(batch_first)
    path = os.fspath(path)
    with limits.raised(None if max_bytes is None else arguments.size("max_bytes", max_bytes)), errors.naming(path):
        net: Net = _format_of(path).load(path, prefix, options)
    odd = [name for name, value in net.state_dict().items() if not np.isfinite(value).all()]
    if odd:
        warnings.warn(f"{path}: NaN or infinite weights in {', '.join(odd[:6])}", RuntimeWarning, stacklevel=2)
    return net


def inspect(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> Contents:
    """What is in a file of weights: its format, its tensors' names, shapes and dtypes, and the networks to load.

    No tensor is read where the format allows that. Raises as ``load``; ``max_bytes`` as there.
    """
    path = os.fspath(path)
    with limits.raised(None if max_bytes is None else arguments.size("max_bytes", max_bytes)), errors.naming(path):
        contents: Contents = _format_of(path).inspect(path)
    return contents


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Save a network as ``.safetensors`` or ``.onnx``, whole or not at all; ``load`` gives the same network back.

    An LSTM's tensors in a safetensors file have PyTorch's names, so that ``torch.nn.LSTM`` can load them. An ONNX model
    has the inputs x, h_0, c_0 and the outputs out, h_n, c_n, and runs in ONNX Runtime; the package onnx writes it. A
    name without a suffix is a safetensors file; any other suffix is a ValueError, as is what a format cannot say.
    """
    if not isinstance(net, Net):
        raise TypeError(f"net: expected an LSTM, LSTMCell, Dense or Stack, got {type(net).__name__}")
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower() or ".safetensors"
    if suffix not in SAVERS:
        raise ValueError(f"{path}: expected a suffix of {', '.join(SAVERS)}, got {suffix}")
    _module(SAVERS[suffix]).save(net, path)


def _format_of(path: str) -> Any:
    """The module that reads a file: by its content; by its name only for a better error."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: is a directory")
    if not os.path.isfile(path):  # a device or a pipe may have no end
        raise FormatError(f"{path}: expected a regular file")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    modules = [_module(name) for name in FORMATS]
    for module in modules:
        if module.recognises(path, head):
            return module
    for module in modules:
        if path.lower().endswith(module.SUFFIXES):
            return module
    raise FormatError(f"{path}: expected one of {', '.join(module.NAME for module in modules)}, got {head[:16]!r}")


def _module(name: str) -> Any:
    return importlib.import_module(f"lstmkernel.formats.{name}")  # here, so that importing lstmkernel stays quick
