"""Whole networks of every real shape, through the public API, on every backend."""

import pytest

from lstmkernel import backends
from lstmkernel.workbench import shapes, workloads

pytestmark = pytest.mark.benchmark(min_rounds=3, max_time=1)


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.parametrize("shape", shapes.GRID, ids=lambda shape: shape.name)
def test_network(measure, shape, backend):
    measure(workloads.NETWORK, shape, backend)
