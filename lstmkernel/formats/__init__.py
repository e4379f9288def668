"""Weights from files and frameworks: one file a format, each giving PyTorch's names and gate order."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import DTypeLike

from lstmkernel import backends, checks
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.formats.torch_names import from_torch
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

__all__ = ["from_torch", "load", "save"]

Net = LSTM | LSTMCell | Dense | Stack


def load(
    path: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    dtype: DTypeLike | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    batch_first: bool | None = None,
) -> Net:
    """Load a network from a ``.safetensors`` file.

    Parameters
    ----------
    path
        A file that ``save`` wrote, or any safetensors file that holds an LSTM under PyTorch's names.
    prefix
        Picks one LSTM out of a larger model: "lstm_cell" takes ``lstm_cell.weight_ih`` and its siblings. Names of an
        LSTMCell, without ``_l0``, are an LSTM of one layer.
    dtype
        float32 or float64; by default what ``save`` noted, else float64 where all the weights are, else float32.
    backend, num_threads
        As for LSTM.
    batch_first
        As for LSTM; by default what ``save`` noted, else False.

    Raises FileNotFoundError, or ValueError naming the file, the key, what was expected and what came.
    """
    # What is wrong with an option is not the file's fault.
    backends.get(backend)
    options: dict[str, Any] = {"backend": backend, "num_threads": checks.num_threads(num_threads)}
    if dtype is not None:
        options["dtype"] = checks.float_dtype(dtype).name
    if batch_first is not None:
        options["batch_first"] = bool(batch_first)
    from lstmkernel.formats import safetensors_file  # here, so that importing lstmkernel stays quick

    return safetensors_file.load(os.fspath(path), prefix, options)


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Save a network as ``.safetensors``, whole or not at all; ``load`` gives the same network back.

    An LSTM's tensors have PyTorch's names, so that ``torch.nn.LSTM`` can load the file too.
    """
    if not isinstance(net, Net):
        raise TypeError(f"net: expected an LSTM, LSTMCell, Dense or Stack, got {type(net).__name__}")
    from lstmkernel.formats import safetensors_file

    safetensors_file.save(net, os.fspath(path))
