"""Interrupted calls: Ctrl-C is heard within a second, and everything is as it was before the call."""

import sys

import numpy as np
import pytest
from helpers import Watched, assert_close_answer, assert_ctrl_c_is_heard, definition

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.engine import call_length
from lstmkernel.engine.call_length import CALL_SECONDS
from lstmkernel.host import cores

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


FLOPS = 1e6  #: that a kernel call may take in these tests


def watched(name="numpy"):
    """A backend on which a call may take so few operations, whatever the machine."""
    return Watched(name, min_gflops=FLOPS / 1e9 / CALL_SECONDS)


def allowed(lstm, part=1.0):
    """Rows times steps of a call through ``part`` of the network. 8 rows of a step are the least."""
    return max(8, FLOPS / (part * call_length.lstm_step_flops(lstm.shape)))


@pytest.mark.parametrize("shape", [(400, 1), (1, 400), (20, 60)], ids=["long", "wide", "both"])
@pytest.mark.parametrize("kind", ["plain", "two layers", "bidirectional", "reverse", "initial"])
@pytest.mark.parametrize("threads", [1, 64])
def test_no_kernel_call_is_long(monkeypatch, kind, shape, threads):
    """However many threads there may be: a call may get only one of them."""
    monkeypatch.setattr(cores, "available", lambda: 64)
    options = {
        "plain": {},
        "two layers": {"num_layers": 2},
        "bidirectional": {"num_layers": 2, "bidirectional": True},
        "reverse": {"reverse": True},
        "initial": {"initial_state": True},
    }[kind]
    kernels = watched()
    lstm = lk.LSTM(5, 16, **options, backend=kernels.name, seed=0, num_threads=threads)
    x = np.ones((*shape, 5), "float32")
    lstm(x)
    done = [(weights, *batch.x.shape[:2], times) for weights, batch, _, *times in kernels.of("lstm_forward")]
    sizes = [
        (steps if not times or times[0] is None else times[0].stop - times[0].start)
        * (rows if len(weights.layers) == lstm.num_layers else rows / lstm.num_layers)
        for weights, steps, rows, times in done
    ]
    assert max(sizes) <= allowed(lstm)
    assert sum(sizes) == pytest.approx(shape[0] * shape[1])


def test_a_layer_of_a_large_network_is_called_alone():
    """Where even one step of all layers takes too long."""
    kernels = watched()
    lstm = lk.LSTM(64, 64, 4, backend=kernels.name, seed=0)
    x = np.linspace(-1, 1, 3 * 20 * 64, dtype="float32").reshape(3, 20, 64)
    done = lstm(x)
    assert {len(weights.layers) for weights, *_ in kernels.of("lstm_forward")} == {1}
    assert_close_answer(done, definition(lstm)(x), "float32")


@pytest.mark.parametrize("shape", [(300, 1), (3, 150), (20, 30)], ids=["long", "wide", "both"])
@pytest.mark.parametrize("kind", ["all", "checkpoints", "trace", "bidirectional"])
def test_no_call_of_a_training_kernel_is_long(kind, shape):
    kernels = watched()
    lstm = lk.LSTM(5, 16, 2, bidirectional=kind == "bidirectional", backend=kernels.name, seed=0, num_threads=8)
    x = np.ones((*shape, 5), "float32")
    if kind == "trace":
        lk.trace(lstm, x)
    else:
        out, _, tape = lstm.forward(x, checkpoint_every=7 if kind == "checkpoints" else None)
        lstm.backward(tape, out)
    sizes = [len(tape.gates) for name in ("layer_record", "tape backward") for tape, *_ in kernels.of(name)]
    directions = 2 * (2 if kind == "bidirectional" else 1)
    rows = shape[0] * shape[1] * directions
    assert sum(sizes) == rows if kind == "trace" else 2 * rows
    assert max(sizes) <= allowed(lstm, call_length.BACKWARD / directions)


def test_a_step_of_a_stream_with_very_many_rows():
    kernels = watched()
    lstm = lk.LSTM(5, 16, backend=kernels.name, seed=0)
    stream = lstm.stream(400)
    stream(np.ones((2, 400, 5), "float32"))
    stream.step(np.ones((400, 5), "float32"))
    assert kernels.of("advance")
    assert max(len(x) for x, *_ in kernels.of("advance")) <= allowed(lstm)
    assert max(batch.x.shape[0] * batch.x.shape[1] for _, batch, *_ in kernels.of("lstm_forward")) <= allowed(lstm)


def test_gradient_flow_cuts_its_products(monkeypatch):
    """They are NumPy's, and NumPy hears Ctrl-C no sooner than a kernel."""
    module = sys.modules["lstmkernel.gradient_flow"]
    lstm, x = lk.LSTM(5, 8, seed=0), np.linspace(-1, 1, 60, dtype="float32").reshape(4, 3, 5)
    whole, sizes, right = lk.gradient_flow(lstm, x), [], np.matmul
    monkeypatch.setattr(module, "MOST_FLOPS", 2500)

    def product(a, b, out):
        sizes.append(2 * a.size * b.shape[1])
        return right(a, b, out=out)

    monkeypatch.setattr(np, "matmul", product)
    for name, field in lk.gradient_flow(lstm, x)._asdict().items():
        assert np.allclose(field, getattr(whole, name), rtol=1e-12)
    assert len(sizes) > 10
    assert max(sizes) <= 2500


def test_a_dense_layer_cuts_its_work_so_that_ctrl_c_is_heard():
    """No kernel call is longer than an LSTM's may be."""
    work = []
    kernels = Watched("numpy", dense_forward=lambda x, weights, y: work.append(2 * x.size * y.shape[1]))
    lk.Dense(64, 4096, backend=kernels.name)(np.zeros((100_000, 64), "float32"))
    assert sum(work) == 2 * 100_000 * 64 * 4096
    assert max(work) <= 2 * CALL_SECONDS * 1e9 * backends.get("numpy").min_gflops
