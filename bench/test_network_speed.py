"""Whole networks of every real shape, through the public API, on every backend."""

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.workbench import shapes, workloads

pytestmark = pytest.mark.benchmark(min_rounds=3, max_time=1)


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.parametrize("shape", shapes.GRID, ids=lambda shape: shape.name)
def test_network(measure, shape, backend):
    measure(workloads.NETWORK, shape, backend)


@pytest.mark.parametrize("arguments", [("float16",), ("int8",), ("int8", "int8")], ids="-".join)
@pytest.mark.parametrize("shape", shapes.DEFAULT, ids=lambda shape: shape.name)
def test_network_of_fewer_bits(benchmark, sized, shape, arguments):
    """In the best backend; ``quantize`` of these arguments."""
    shape = sized(shape)
    lstm = lk.LSTM(shape.I, shape.H, shape.L, bidirectional=shape.D == 2, num_threads=1, seed=0)
    x = np.random.default_rng(0).standard_normal((shape.T, shape.B, shape.I), dtype="float32")
    benchmark.group = f"{shape.name} {workloads.NETWORK}"
    benchmark(lstm.quantize(*arguments), x)
