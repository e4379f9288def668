"""Every kernel of the contract alone, on the first layer of every real shape, on every backend."""

import pytest

from lstmkernel import backends
from lstmkernel.workbench import shapes

pytestmark = pytest.mark.benchmark(min_rounds=3, max_time=0.25)


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.parametrize("kernel", backends.KERNELS)
@pytest.mark.parametrize("shape", shapes.GRID, ids=lambda shape: shape.name)
def test_kernel(measure, shape, kernel, backend):
    measure(kernel, shape, backend)
