"""Scratch memory: at most 4 MiB a thread, whatever T and B."""

import numpy as np
import pytest
from helpers import usable

import lstmkernel as lk
from lstmkernel.cli.shapes import GRID

C_NAMES = [name for name in usable() if name.startswith("c:")]
MOST = 4 << 20


@pytest.mark.parametrize("name", C_NAMES)
def test_workspace_of_a_thread(name, dtype):
    from lstmkernel.backends import c

    sizes = {(shape.I, shape.H, 0) for shape in GRID} | {(1, 1, 0), (7, 2048, 0), (5, 1000, 999)}
    for I, H, P in sizes:
        w_ih, w_hh = np.zeros((4 * H, I), dtype), np.zeros((4 * H, P or H), dtype)
        w_hr = np.zeros((P, H), dtype) if P else None
        backend = lk.backends.get(name)
        weights = backend.pack_lstm([[backend.pack_layer(w_ih, w_hh, np.zeros(4 * H, dtype), w_hr)]])
        for T in (1, 33, 10**7):
            for B in (1, 5, 96, 97, 10**6):
                for threads in (1, 2, 7):
                    call = c._call(weights.native, (T, B, I), (B * I, I, B * H, H), B, slice(0, T), threads)
                    assert c.lib.lk_lstm_workspace(call) <= MOST * threads, (I, H, P, T, B, threads)
