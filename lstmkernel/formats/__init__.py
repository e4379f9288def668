"""Weights from files and frameworks: each format is read into PyTorch's names and gate order.

``contract.py`` says what a format is, and ``formats()`` below lists them. Their readers raise ValueErrors that name the
key. Here these become FormatErrors that name the file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel import backends
from lstmkernel.engine import arguments
from lstmkernel.formats import assumptions, errors, joined
from lstmkernel.formats.contract import AnyNetwork, Format, Options, SavingFormat
from lstmkernel.formats.errors import FormatError
from lstmkernel.formats.inspection import Contents
from lstmkernel.formats.pytorch.from_torch import from_torch
from lstmkernel.formats.untrusted import limits
from lstmkernel.formats.which import format_of, path_of
from lstmkernel.model import Model
from lstmkernel.variant import Variant

__all__ = ["Contents", "FormatError", "from_torch", "inspect", "load", "save"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


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
    path: Path,
    *,
    prefix: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    batch_first: bool | None = None,
    variant: Variant | None = None,
    reverse: bool | None = None,
    recurrent_activation: str | None = None,
    max_bytes: int | None = None,
) -> Model | Any:  # Any: a file that save wrote may hold an LSTMCell or a Dense, which have no stream or pool
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
        A list, such as ["rnn.0", "fc", "rnn.1"], takes these parts one after the other and gives a Stack.
    dtype
        float32 or float64. By default what ``save`` wrote down; else float64 if all the weights are, else float32.
    backend, num_threads
        As for LSTM.
    batch_first
        As for LSTM. By default what ``save`` wrote down; else True for Keras's files and False for others.
    variant, reverse
        As for LSTM, for every LSTM that is loaded: what PyTorch's files do not say. If the file says otherwise, it is
        an error.
    recurrent_activation
        "sigmoid" or "hard_sigmoid": the activation of the gates in a Keras file of weights alone, which does not say
        it. By default Keras's, sigmoid; needed for files from before Keras 2.3, which had two. An error for a file that
        says otherwise.
    max_bytes
        How many bytes the file may unpack to. By default twice its size plus 32 MiB. Raise it for files that you trust.

    Returns a ``Model``, an LSTM or a Stack; an LSTMCell or a Dense where the file or the part of it is only that.
    Raises FileNotFoundError; FormatError, a ValueError that names the file, the key, what was expected and what came;
    ModuleNotFoundError, which names the extra to install. Warns of what had to be assumed because the file does not
    say it, and of weights that are NaN or infinite.
    """
    # Options are checked before the file is opened: a wrong one is not the file's fault.
    backends.get(backend)
    options = Options(
        backend,
        arguments.num_threads(num_threads),
        None if dtype is None else arguments.float_dtype(dtype).name,
        None if batch_first is None else bool(batch_first),
        variant=Variant(**variant) if isinstance(variant, Mapping) else variant,
        reverse=None if reverse is None else bool(reverse),
        recurrent_activation=_recurrent_activation(recurrent_activation),
    )
    Variant.of(options.variant)
    prefix = joined.checked(prefix)
    path = path_of(path)
    with limits.at_most(_max_bytes(max_bytes)), errors.naming(path):
        found = format_of(path, formats())
        if options.recurrent_activation is not None and found.NAME != "Keras":
            raise ValueError(f"recurrent_activation: expected a file of Keras, got {found.NAME}; leave it out")
        with assumptions.collected() as told:
            net = joined.load(partial(found.load, path), prefix, options)
    for sentence in told:
        warnings.warn(f"{path}: {sentence}", RuntimeWarning, stacklevel=2)
    odd = [name for name, value in net.state_dict().items() if not np.isfinite(value).all()]
    if odd:
        warnings.warn(f"{path}: NaN or infinite weights in {', '.join(odd[:6])}", RuntimeWarning, stacklevel=2)
    return net


def inspect(path: Path, *, max_bytes: int | None = None) -> Contents:
    """What is in a file of weights: its format, its tensors' names, shapes and dtypes, and the networks to load.

    No tensor is read where the format allows that. Raises as ``load``; ``max_bytes`` as there.
    """
    path = path_of(path)
    with limits.at_most(_max_bytes(max_bytes)), errors.naming(path):
        return format_of(path, formats()).inspect(path)


def save(net: AnyNetwork | Model, path: Path, *, state_inputs: bool = True, dynamic: bool = False) -> None:
    """Save a network as ``.safetensors`` or ``.onnx``; ``load`` gives the same network back.

    The file is written whole or not at all. A name without a suffix is a safetensors file; there an LSTM's tensors have
    PyTorch's names, so that ``torch.nn.LSTM`` can load them. An ONNX model has the inputs x, h_0, c_0 and the outputs
    out, h_n, c_n, and runs in ONNX Runtime; the package onnx writes it. h_0 and c_0 may be left out of a call, and ONNX
    Runtime warns of each such input when it loads the model. With ``state_inputs=False`` the only input is x: there are
    no warnings, and every call begins with zeros or the model's own initial state. A safetensors file has float16
    and int8 weights as such, int8 ones with their scales beside them. An ONNX model has float16 weights in float32, and
    loads as a float32 network. It has int8 weights with a DequantizeLinear behind them: other runtimes compute as with
    the rounded weights in float32, and ``load`` gives the same int8 network. With
    ``dynamic=True`` its LSTMs are DynamicQuantizeLSTM operators instead, which only ONNX Runtime has: it rounds x and h
    to 8 bits with one scale for the whole matrix, so it is less accurate, and a row's answer depends on the others.

    Any other suffix is a ValueError, and so is a network that the format cannot express.
    """
    if not isinstance(net, AnyNetwork):
        raise TypeError(f"net: expected an LSTM, LSTMCell, Dense or Stack, got {type(net).__name__}")
    path = path_of(path)
    saving_format_of(path).save(
        copy(net), path, bool(state_inputs), bool(dynamic)
    )  # somebody may load other weights meanwhile


def saving_format_of(path: Path) -> SavingFormat:
    """The format that the suffix of a new file names; ValueError for one that is not written."""
    path = path_of(path)
    suffix = os.path.splitext(path)[1].lower() or ".safetensors"
    savers = saving_formats()
    if suffix not in savers:
        raise ValueError(
            f"{path}: expected a suffix of {', '.join(savers)}, got {suffix}; no other format is written (PyTorch's "
            "safetensors.torch.load_file reads .safetensors)"
        )
    return savers[suffix]


def _recurrent_activation(given: str | None) -> str | None:
    if given not in (None, "sigmoid", "hard_sigmoid"):
        raise ValueError(f"recurrent_activation: expected 'sigmoid' or 'hard_sigmoid', got {given!r}")
    return given


def _max_bytes(given: int | None) -> int | None:
    return None if given is None else arguments.size("max_bytes", given)
