"""Real time: a step, or a chunk of a known shape, makes no system call and never calls malloc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import sampled

QUIET = """
import ctypes, os, sys
import numpy as np, lstmkernel as lk
lstm = lk.LSTM(8, 40, 2, num_threads=1, seed=0)
kind, steps = sys.argv[1], int(sys.argv[2])
head = lk.Dense(40, 2, "softmax" if kind == "softmax" else "linear")
net = lstm if kind == "LSTM" else lk.Stack([lstm, head], skip=kind == "skip")
stream = net.stream()
x, out = np.ones((steps, 8), "float32"), np.empty((steps, net.out_features), "float32")
call = stream.step if steps == 1 else stream
for _ in range(10):
    call(x, out)
libc = ctypes.CDLL(None)
PR_SET_SECCOMP, STRICT = 22, 1
assert libc.prctl(PR_SET_SECCOMP, STRICT, 0, 0, 0) == 0  # from here on: read, write, exit, or be killed
for _ in range(10_000 // steps):
    call(x, out)
os.write(1, b"quiet")
if sys.argv[3] == "speak":
    os.getppid()
os.write(1, b", and alive")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("kind", sampled(["LSTM", "Stack", "skip", "softmax"], "skip"))
def test_a_step_or_chunk_makes_no_system_call(kind, steps):
    def run(then):
        command = [sys.executable, "-c", QUIET, kind, str(steps), then]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # the only thread is the one that is killed
        return subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False).stdout

    assert run("keep still") == b"quiet, and alive"
    assert run("speak") == b"quiet"  # the kernel does kill


COUNTED = """
import ctypes, sys
from functools import partial
import numpy as np, lstmkernel as lk
rows_first = sys.argv[1] == "batch first"
net = lk.LSTM(8, 40, 2, backend=sys.argv[2], num_threads=1, batch_first=rows_first, seed=0)
if sys.argv[1] in ("Stack", "skip"):
    activation = "linear" if sys.argv[1] == "skip" else "softmax"
    net = lk.Stack([net, lk.Dense(40, 3, activation, backend=sys.argv[2])], skip=sys.argv[1] == "skip")
shape = ((3, 7) if rows_first else (7, 3)) if sys.argv[3] == "chunk" else (3,)
x, out = np.ones((*shape, 8), "float32"), np.empty((*shape, net.out_features), "float32")
pool, stream = net.pool(5), net.stream(3)
step = stream if sys.argv[3] == "chunk" else stream.step
if sys.argv[1] == "Pool":
    step = partial(pool.step, pool.open(4)[1:])
for _ in range(10):
    step(x, out)
calls = ctypes.c_long.in_dll(ctypes.CDLL(None), "malloc_calls")
looks = [calls.value for _ in range(9)]  # numbers, for which Python may need memory
before = calls.value
for _ in range(10_000):
    step(x, out)
after = calls.value
counting = ctypes.CDLL(None).malloc
counting.restype = ctypes.c_void_p
counting(100_000)
print(after - before, calls.value > after)
"""

COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
long malloc_calls;
void *__libc_malloc(size_t); void *__libc_calloc(size_t, size_t); void *__libc_realloc(void *, size_t);
void *malloc(size_t size) { malloc_calls++; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { malloc_calls++; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { malloc_calls++; return __libc_realloc(old, size); }
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts glibc's calls")
@pytest.mark.parametrize(
    ("kind", "call"),
    sampled(
        [
            *((kind, "step") for kind in ("LSTM", "Stack", "skip", "Pool")),
            *((kind, "chunk") for kind in ("LSTM", "skip", "batch first")),
        ],
        ("Pool", "step"),
        ("skip", "chunk"),
        ("batch first", "chunk"),
    ),
)
def test_a_step_or_chunk_never_calls_malloc(compiled_backend, tmp_path, kind, call):
    (tmp_path / "counter.c").write_text(COUNTER)
    library = tmp_path / "counter.so"
    try:
        built = subprocess.run(["cc", "-shared", "-fPIC", str(tmp_path / "counter.c"), "-o", str(library)], check=False)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    assert built.returncode == 0
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    command = [sys.executable, "-c", COUNTED, kind, compiled_backend, call]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    assert done.stdout.split() == ["0", "True"]
