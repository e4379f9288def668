"""warmup: compile now, so that the first call need not wait."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import DTypeLike

from lstmkernel.dense import Dense
from lstmkernel.lstm import LSTM


def warmup(backend: str = "auto", dtype: DTypeLike = "float32") -> float:
    """Compile the kernels of an LSTM, an LSTMCell and a Dense layer now, so that their first calls need not wait.

    Only Numba compiles at run time: once for each dtype, kept on disk (``LSTMKERNEL_CACHE_DIR``). For other backends
    there is nothing to do. backend and dtype as for ``LSTM``. Returns the seconds that it took.
    """
    start = perf_counter()
    x = np.zeros((1, 1), dtype)
    LSTM(1, 1, dtype=dtype, backend=backend, seed=0)(x)
    Dense(1, 1, dtype=dtype, backend=backend, seed=0)(x)
    return perf_counter() - start
