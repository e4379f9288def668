"""Weights from files and frameworks: one file a format, each giving PyTorch's names and gate order."""

from __future__ import annotations

import os
from typing import Any

from lstmkernel import backends, checks
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.formats import safetensors_file
from lstmkernel.formats.torch_names import from_torch
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

__all__ = ["from_torch", "load", "save"]

Net = LSTM | LSTMCell | Dense | Stack


def load(path: str | os.PathLike[str], *, prefix: str | None = None, **options: Any) -> Net:
    """Load a network from a ``.safetensors`` file.

    Parameters
    ----------
    path
        A file that ``save`` wrote, or any safetensors file that holds an LSTM under PyTorch's names.
    prefix
        Picks one LSTM out of a larger model: "lstm_cell" takes ``lstm_cell.weight_ih`` and its siblings. Names of an
        LSTMCell, without ``_l0``, are an LSTM of one layer.
    options
        ``dtype`` (default: float64 where all the weights are, else float32), ``backend``, ``num_threads``,
        ``batch_first``: as for LSTM.

    Raises FileNotFoundError, or ValueError naming the file, the key, what was expected and what came.
    """
    backends.get(options.get("backend"))  # what is wrong with the options is not the file's fault
    if "dtype" in options:
        checks.float_dtype(options["dtype"])
    return safetensors_file.load(os.fspath(path), prefix, options)


def save(net: Net, path: str | os.PathLike[str]) -> None:
    """Save a network as ``.safetensors``, whole or not at all; ``load`` gives the same network back.

    An LSTM's tensors have PyTorch's names, so that ``torch.nn.LSTM`` can load the file too.
    """
    safetensors_file.save(net, os.fspath(path))
