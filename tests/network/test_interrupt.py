"""Interrupted calls: Ctrl-C is heard within a second, and everything is as it was before the call."""

import numpy as np
from helpers import Watched, assert_ctrl_c_is_heard

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.engine.call_length import CALL_SECONDS

INTERRUPTED = """
import sys
import numpy as np
import lstmkernel as lk

row = np.linspace(-1, 1, 1024, dtype="float32")
lstm = lk.LSTM(1024, 1024, proj_size=1, backend=sys.argv[1], seed=0)
h, c = np.ones((1, 1, 1), "float32"), np.ones((1, 1, 1024), "float32")
short = np.broadcast_to(row, (3, 1, 1024))
before = lstm(short, (h, c))
parameters = {name: value.copy() for name, value in lstm.state_dict().items()}
print("ready", flush=True)
try:
    lstm(np.broadcast_to(row, (1_000_000, 1, 1024)), (h, c))
except KeyboardInterrupt:
    pass
else:
    raise SystemExit("it ended before it was interrupted")
assert (h == 1).all() and (c == 1).all()
assert all(np.array_equal(value, parameters[name]) for name, value in lstm.state_dict().items())
after = lstm(short, (h, c))
assert np.array_equal(before[0], after[0]) and np.array_equal(before[1][1], after[1][1])
print("as before", flush=True)
"""


def test_ctrl_c_is_heard(backend):
    assert_ctrl_c_is_heard(INTERRUPTED, backend)


def test_a_dense_layer_cuts_its_work_so_that_ctrl_c_is_heard():
    """No kernel call is longer than an LSTM's may be."""
    work = []
    kernels = Watched("numpy", dense_forward=lambda x, weights, y: work.append(2 * x.size * y.shape[1]))
    lk.Dense(64, 4096, backend=kernels.name)(np.zeros((100_000, 64), "float32"))
    assert sum(work) == 2 * 100_000 * 64 * 4096
    assert max(work) <= 2 * CALL_SECONDS * 1e9 * backends.get("numpy").min_gflops
