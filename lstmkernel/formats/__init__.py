"""Weights from files and frameworks: each format is read into PyTorch's names and gate order.

``contract.py`` says what a format is, and ``formats()`` below lists them. Their readers raise ValueErrors that name the
key. Here these become FormatErrors that name the file.
"""

from __future__ import annotations

import os
import warnings
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.engine import arguments
from lstmkernel.formats import errors
from lstmkernel.formats.contract import AnyNetwork, Format, Options, SavingFormat
from lstmkernel.formats.errors import FormatError
from lstmkernel.formats.inspection import Contents
from lstmkernel.formats.pytorch.from_torch import from_torch
from lstmkernel.formats.untrusted import limits
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

__all__ = ["Contents", "FormatError", "from_torch", "inspect", "load", "save"]

HEAD_BYTES = 1 << 16


def formats() -> tuple[Format, ...]:
    """Every format, in the order in which they are asked whether a file is theirs: strict ones before loose ones.

    Imported here, so that importing lstmkernel stays quick.
    """
    from lstmkernel.formats import safetensors
    from lstmkernel.formats.amplifiers import guitarml, nam, rtneural
    from lstmkernel.formats.keras import file as keras
    from lstmkernel.formats.onnx import file as onnx
    from lstmkernel.formats.pytorch import file as pytorch
    from lstmkernel.formats.pytorch import json_file as pytorch_json

    return (safetensors, pytorch, keras, rtneural.FORMAT, guitarml.FORMAT, nam.FORMAT, pytorch_json, onnx)


def saving_formats() -> dict[str, SavingFormat]:
    """What ``save`` writes, by suffix."""
    from lstmkernel.formats import safetensors
    from lstmkernel.formats.onnx import file as onnx

    return {".safetensors": safetensors, ".onnx": onnx}


def load(
    path: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    dtype: DTypeLike | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    batch_first: bool | None = None,
    max_bytes: int | None = None,
) -> LSTM | Stack | Any:  # Any: a file that save wrote may hold an LSTMCell or a Dense, which have no stream or pool
    """Load a network from a file; the file's content decides which format it is.

    Parameters
    ----------
    path
        A file that ``save`` wrote, or one of another framework; ``lstmkernel.inspect`` says what is in it.
    prefix
        Picks a part of a larger model: "lstm_cell" takes ``lstm_cell.weight_ih`` and the other names that begin so. An
        LSTMCell of PyTorch, whose names lack ``_l0``, becomes an LSTM of one layer. Without a prefix, the whole file
        must be one LSTM, or a chain of LSTMs, perhaps with a Linear at its end: the chain becomes a Stack. A Linear
        from PyTorch's files has no activation, since they store none. In Keras's files, a prefix is a layer's name.
    dtype
        float32 or float64. By default what ``save`` wrote down; else float64 if all the weights are, else float32.
    backend, num_threads
        As for LSTM.
    batch_first
        As for LSTM. By default what ``save`` wrote down; else True for Keras's files and False for others.
    max_bytes
        How many bytes the file may unpack to. By default twice its size plus 32 MiB. Raise it for files that you trust.

    Returns an LSTM or a Stack; an LSTMCell or a Dense where the file or the part of it is only that. Raises
    FileNotFoundError; FormatError, a ValueError that names the file, the key, what was expected and what came;
    ModuleNotFoundError, which names the extra to install. Weights that are NaN or infinite load with a warning.
    """
    # Options are checked before the file is opened: a wrong one is not the file's fault.
    backends.get(backend)
    options = Options(
        backend,
        arguments.num_threads(num_threads),
        None if dtype is None else arguments.float_dtype(dtype).name,
        None if batch_first is None else bool(batch_first),
    )
    path = os.fspath(path)
    with limits.at_most(_max_bytes(max_bytes)), errors.naming(path):
        net = _format_of(path).load(path, prefix, options)
    odd = [name for name, value in net.state_dict().items() if not np.isfinite(value).all()]
    if odd:
        warnings.warn(f"{path}: NaN or infinite weights in {', '.join(odd[:6])}", RuntimeWarning, stacklevel=2)
    return net


def inspect(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> Contents:
    """What is in a file of weights: its format, its tensors' names, shapes and dtypes, and the networks to load.

    No tensor is read where the format allows that. Raises as ``load``; ``max_bytes`` as there.
    """
    path = os.fspath(path)
    with limits.at_most(_max_bytes(max_bytes)), errors.naming(path):
        return _format_of(path).inspect(path)


def save(net: AnyNetwork, path: str | os.PathLike[str]) -> None:
    """Save a network as ``.safetensors`` or ``.onnx``; ``load`` gives the same network back.

    The file is written whole or not at all. A name without a suffix is a safetensors file; there an LSTM's tensors have
    PyTorch's names, so that ``torch.nn.LSTM`` can load them. An ONNX model has the inputs x, h_0, c_0 and the outputs
    out, h_n, c_n, and runs in ONNX Runtime; the package onnx writes it. Any other suffix is a ValueError, and so is a
    network that the format cannot express.
    """
    if not isinstance(net, AnyNetwork):
        raise TypeError(f"net: expected an LSTM, LSTMCell, Dense or Stack, got {type(net).__name__}")
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower() or ".safetensors"
    savers = saving_formats()
    if suffix not in savers:
        raise ValueError(f"{path}: expected a suffix of {', '.join(savers)}, got {suffix}")
    savers[suffix].save(copy(net), path)  # somebody may load other weights meanwhile


def _max_bytes(given: int | None) -> int | None:
    return None if given is None else arguments.size("max_bytes", given)


def _format_of(path: str) -> Format:
    """The format that reads a file, by its content. The file's name only decides which format's error is shown."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: is a directory")
    if not os.path.isfile(path):  # a device or a pipe may have no end
        raise FormatError(f"{path}: expected a regular file, got a device, a pipe or a socket")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    known = formats()
    by_content = (each for each in known if each.recognises(path, head))
    by_name = (each for each in known if path.lower().endswith(each.SUFFIXES))
    found = next(by_content, None) or next(by_name, None)
    if found is None:
        raise FormatError(f"{path}: expected one of {', '.join(each.NAME for each in known)}, got {head[:16]!r}")
    return found
