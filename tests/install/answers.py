"""Use an installed lstmkernel as a program would, and print the bits of its answers: ``answers.py [BACKEND]``."""

from __future__ import annotations

import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np

import lstmkernel as lk

BACKEND = sys.argv[1] if len(sys.argv) > 1 else "auto"
#: One step of float32 is within this of float64's.
ALLOWED = 1e-4


def main() -> None:
    x = np.random.default_rng(0).normal(size=(30, 3, 20)).astype("float32")
    lstm = lk.LSTM(20, 33, 2, bidirectional=True, seed=0, backend=BACKEND)
    out, (h_n, c_n) = lstm(x, lengths=[30, 7, 0])
    reference = lk.LSTM.from_config({**lstm.config(), "backend": "numpy", "dtype": "float64"}, lstm.state_dict())
    right, _ = reference(x, lengths=[30, 7, 0])
    assert np.abs(out - right).max() < ALLOWED
    single = lk.LSTM(20, 33, seed=1, backend=BACKEND)
    stream = single.stream(3)
    chunks = np.concatenate([stream(chunk).copy() for chunk in np.split(x, [1, 8])])
    whole, _, tape = single.forward(x)
    gradients = single.backward(tape, whole)
    show(out=out, h_n=h_n, c_n=c_n, chunks=chunks, whole=whole, **gradients)
    with tempfile.TemporaryDirectory() as folder:
        lk.save(lstm, Path(folder, "net.safetensors"))
        again = lk.load(Path(folder, "net.safetensors"))
    assert np.abs(again(x)[0] - lstm(x)[0]).max() < ALLOWED


def show(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        print(name, array.shape, sha256(np.ascontiguousarray(array)).hexdigest()[:16])


main()
