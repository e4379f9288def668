"""One benchmark: a kernel or a network on one backend, checked, then timed beside NumPy in the same session."""

import os
import sys
from functools import lru_cache
from math import isfinite

# NumPy's BLAS is held to one thread, as the kernels are. It reads the variables when lstmkernel imports NumPy.
if "numpy" not in sys.modules:
    for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[_variable] = "1"

import pytest

import lstmkernel
from lstmkernel import backends
from lstmkernel.tuning import accuracy, timing
from lstmkernel.workbench import cases, narrow, one_thread, workloads
from lstmkernel.workbench.results import BASELINE

#: Seconds for the NumPy baseline of a kernel or network.
BASELINE_SECONDS = 0.2

#: With --benchmark-disable, each benchmark runs at most this part of its shape, to show that it works.
PART = {"B": 32, "T": 4, "L": 2}


def pytest_benchmark_update_machine_info(config, machine_info):
    """Saved runs name the backends, their versions, and whether NumPy was held to one thread."""
    machine_info["lstmkernel"] = lstmkernel.info()
    machine_info["one_thread"] = one_thread.is_set()


@pytest.fixture
def sized(request):
    """``sized(shape)``: the shape, or with --benchmark-disable a part of it."""

    def sized(shape):
        if not request.config.getoption("benchmark_disable"):
            return shape
        return shape._replace(**{size: min(getattr(shape, size), most) for size, most in PART.items()})

    return sized


@pytest.fixture
def measure(benchmark, sized):
    """``measure(workload, shape, backend)``: check, time, and note the speed in ``extra_info``.

    With a precision of ``compare --precision``: of the backend with weights of fewer bits, whose error is what it is.
    """

    def measure(name, shape, backend, precision=None):
        reason = backends.unavailable(backend)
        if reason is not None:
            pytest.skip(reason)
        if precision is not None:
            backend = _narrow(backend, precision)
        shape = sized(shape)
        case = _case(shape)
        workload = workloads.prepare(name, case, backend)
        error = accuracy.error(workload.answer(), _reference(name, shape), case.dtype)
        agrees = accuracy.agrees(error) if precision is None else isfinite(error)
        assert agrees, f"{backend} is {error} times the tolerance away from the reference"
        workload.call()  # warms the caches, which the check used for other data
        benchmark.group = f"{shape.name} {name}"
        benchmark(workload.call)
        if benchmark.stats is not None:
            seconds = benchmark.stats.stats.median
            benchmark.extra_info |= {
                "shape": dict(zip("BTIHLD", shape[1:7], strict=True)),
                "backend": backend,
                "gflops": workload.flops and workload.flops / seconds / 1e9,
                "steps_per_second": workload.rows / seconds,
                "times_numpy": _numpy_seconds(name, shape) / seconds,
                "error": error,
                "lstmkernel": lstmkernel.__version__,
            }

    return measure


def _narrow(backend, precision):
    """The name of a backend with weights of that precision."""
    try:
        made = narrow.backend(backend, precision)
    except backends.BackendError as reason:
        pytest.skip(str(reason))
    backends.register(made)
    return made.name


# The benchmarks run shape by shape, then kernel by kernel. What neighbours share is made once, and the last is kept.


@lru_cache(1)
def _case(shape):
    return cases.of_shape(shape, "float32")


@lru_cache(1)
def _reference_case(shape):
    return _case(shape).reference()


@lru_cache(1)
def _reference(name, shape):
    return workloads.prepare(name, _reference_case(shape), BASELINE).answer()


@lru_cache(1)
def _numpy_seconds(name, shape):
    call = workloads.prepare(name, _case(shape), BASELINE).call
    return timing.medians({BASELINE: call}, BASELINE_SECONDS)[BASELINE]
