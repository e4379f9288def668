"""Every kernel alone, on the first layer of every real shape, on every backend; one of them with fewer bits, too."""

import pytest

from lstmkernel import backends
from lstmkernel.workbench import narrow, shapes

pytestmark = pytest.mark.benchmark(min_rounds=3, max_time=0.25)


@pytest.mark.parametrize("backend", backends.NAMES)
@pytest.mark.parametrize("kernel", backends.KERNELS)
@pytest.mark.parametrize("shape", shapes.GRID, ids=lambda shape: shape.name)
def test_kernel(measure, shape, kernel, backend):
    measure(kernel, shape, backend)


@pytest.mark.parametrize("backend", [name for name in backends.NAMES if name.startswith("c:")])
@pytest.mark.parametrize("precision", narrow.CHOICES)
@pytest.mark.parametrize("shape", shapes.DEFAULT, ids=lambda shape: shape.name)
def test_layer_of_fewer_bits(measure, shape, precision, backend):
    """Beside layer_forward of float32, in its group."""
    measure("layer_forward", shape, backend, precision)
