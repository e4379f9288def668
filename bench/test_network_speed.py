"""Whole networks of every real shape, through the public API, on every backend."""

import pytest

from lstmkernel import backends
from lstmkernel.cli import shapes, work

pytestmark = pytest.mark.benchmark(min_rounds=3, max_time=1)


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.parametrize("shape", shapes.GRID, ids=lambda shape: shape.name)
def test_network(measure, shape, backend):
    measure(work.NETWORK, shape, backend)
