"""Networks that run over a sequence: load one from a file, read an input for it, move it to another backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.backends.packing import Array
from lstmkernel.cell import LSTMCell
from lstmkernel.dense import Dense
from lstmkernel.formats import from_torch, load
from lstmkernel.formats.contract import Prefix
from lstmkernel.formats.others.files import stand_in
from lstmkernel.lstm import LSTM
from lstmkernel.stack import Stack

Net = LSTM | Stack


def load_sequence(path: str, prefix: Prefix, **options: Any) -> Net:
    """As ``lstmkernel.load``, but the result has an LSTM. An LSTMCell becomes an LSTM of one layer."""
    net = load(path, prefix=prefix, **options)
    if isinstance(net, LSTMCell):
        return from_torch(net.state_dict(), **options)
    if isinstance(net, LSTM) or (isinstance(net, Stack) and lstms(net)):
        return net
    raise ValueError(f"{path}: expected an LSTM, got {net!r}")


def read_input(path: str, net: Net) -> Array:
    """The network's x from a .npy file: (T, I) or batched."""
    try:
        with open(path, "rb") as file:  # NumPy leaves a broken .npz open
            head = file.read(2048)
            other = stand_in(head)
            if other or not head.startswith((b"\x93NUMPY", b"PK")):  # NumPy would take it for a pickle
                raise ValueError(f"got {other.what}; {other.way_out}" if other else f"it begins with {head[:20]!r}")
            file.seek(0)
            x = np.load(file, allow_pickle=False)
    except OSError:  # it names the file
        raise
    except MemoryError as error:
        raise ValueError(f"{path}: expected an array that fits in memory, got: {error}") from error
    except Exception as error:  # NumPy reads the header with Python's own parser, and zip files with zipfile
        raise ValueError(f"{path}: expected an array of numbers, as numpy.save writes it: {error}") from error
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{path}: expected an array, as numpy.save writes it, got several (.npz)")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{path}: expected an array of real numbers, got {x.dtype}")
    I, batched = net.input_size, "B, T" if net.batch_first else "T, B"
    if x.ndim not in (2, 3) or x.shape[-1] != I:
        raise ValueError(f"{path}: expected shape (T, {I}) or ({batched}, {I}), got {x.shape}")
    return x


def layers(net: Net) -> Sequence[LSTM | Dense]:
    """What a network computes, in order."""
    return net.layers if isinstance(net, Stack) else (net,)


def lstms(net: Net) -> list[LSTM]:
    """The LSTMs of a network, in order."""
    return [layer for layer in layers(net) if isinstance(layer, LSTM)]


def on(net: Net, backend: str, dtype: DTypeLike) -> Net:
    """The same network on another backend, in one thread, time first."""
    if isinstance(net, Stack):
        return Stack([_layer_on(layer, backend, dtype) for layer in net.layers], skip=net.skip)
    return _lstm_on(net, backend, dtype)


def _layer_on(layer: LSTM | Dense, backend: str, dtype: DTypeLike) -> LSTM | Dense:
    if isinstance(layer, LSTM):
        return _lstm_on(layer, backend, dtype)
    return Dense.from_config({**layer.config(), "backend": backend, "dtype": dtype}, layer.state_dict())


def _lstm_on(lstm: LSTM, backend: str, dtype: DTypeLike) -> LSTM:
    config = {
        **lstm.config(),
        "backend": backend,
        "dtype": dtype,
        "num_threads": 1,
        "batch_first": False,
        "expects": None,
    }
    if dtype == np.float32:
        return LSTM.from_config(config, lstm.stored())
    for name in ("precision", "activations"):  # in float64 there are the same numbers
        config.pop(name, None)
    return LSTM.from_config(config, lstm.state_dict())
