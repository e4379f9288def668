"""One benchmark: a kernel or a network on one backend, proved right, then timed beside NumPy in the same session."""

import os
import sys
from functools import lru_cache

# NumPy's BLAS is held to one thread, as the kernels are; it looks when NumPy is imported, which lstmkernel does.
if "numpy" not in sys.modules:
    for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[_variable] = "1"

import pytest

import lstmkernel
from lstmkernel import backends
from lstmkernel.tuning import accuracy, timing
from lstmkernel.workbench import cases, compare, one_thread, workloads

#: Seconds for the NumPy baseline of a kernel or network.
BASELINE_SECONDS = 0.2

#: With --benchmark-disable each benchmark runs a part of its shape, to show that it still works: at most so much.
PART = {"B": 32, "T": 4, "L": 2}


def pytest_benchmark_update_machine_info(config, machine_info):
    """Saved runs say which backends there were, of which versions, and whether NumPy was held to one thread."""
    machine_info["lstmkernel"] = lstmkernel.info()
    machine_info["one_thread"] = one_thread.is_set()


@pytest.fixture
def measure(benchmark, request):
    """``measure(work, shape, backend)``: check, time, and note the speed in ``extra_info``."""

    def measure(what, shape, backend):
        reason = backends.unavailable(backend)
        if reason is not None:
            pytest.skip(reason)
        if request.config.getoption("benchmark_disable"):
            shape = shape._replace(**{size: min(getattr(shape, size), most) for size, most in PART.items()})
        subject = _problem(shape)
        contender = workloads.prepare(what, subject, backend)
        error = accuracy.error(contender.answer(), _reference(what, shape), subject.dtype)
        assert accuracy.agrees(error), f"{backend} is {error} times the tolerance away from the reference"
        contender.call()  # warm: the check used the caches for other things
        benchmark.group = f"{shape.name} {what}"
        benchmark(contender.call)
        if benchmark.stats is not None:
            seconds = benchmark.stats.stats.median
            benchmark.extra_info |= {
                "shape": dict(zip("BTIHLD", shape[1:7], strict=True)),
                "backend": backend,
                "gflops": contender.flops and contender.flops / seconds / 1e9,
                "steps_per_second": contender.rows / seconds,
                "times_numpy": _numpy_seconds(what, shape) / seconds,
                "error": error,
                "lstmkernel": lstmkernel.__version__,
            }

    return measure


# The benchmarks come shape by shape, then kernel by kernel: what they share is made once, and one is kept.


@lru_cache(1)
def _problem(shape):
    return cases.of_shape(shape, "float32")


@lru_cache(1)
def _wide_problem(shape):
    return _problem(shape).reference()


@lru_cache(1)
def _reference(what, shape):
    return workloads.prepare(what, _wide_problem(shape), compare.BASELINE).answer()


@lru_cache(1)
def _numpy_seconds(what, shape):
    call = workloads.prepare(what, _problem(shape), compare.BASELINE).call
    return timing.medians({compare.BASELINE: call}, BASELINE_SECONDS)[compare.BASELINE]
