"""One small good file of every format, for the fuzzer: the corpus, made anew rather than kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hostile import Target

import lstmkernel as lk

SMALL = lk.Stack([lk.LSTM(1, 1, seed=1), lk.Dense(1, 1, seed=1)])


def saved(net: lk.Stack | lk.LSTM, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{suffix}"
        lk.save(net, path)
        return path.read_bytes()


#: Those whose package is missing stay out.
TARGETS = [
    Target("safetensors", ".safetensors", saved(SMALL, ".safetensors")),
]
