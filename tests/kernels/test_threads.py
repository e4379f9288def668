"""Threads: the same bits on any number of them, from many Python threads at once and after fork; and how many run."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import FOUR_CORES, assert_same_answer, normal, random_state, sampled, usable

import lstmkernel as lk
from lstmkernel.host import cores

#: The definition runs on one thread.
NAMES = [name for name in usable() if name != "numpy"]

#: T, B and a network, by the way in which threads share the work. Each is so large that they do.
SHARED = {
    "directions": (40, 3, {"input_size": 20, "hidden_size": 50, "num_layers": 3, "bidirectional": True}),
    "directions and rows": (9, 50, {"input_size": 20, "hidden_size": 40, "num_layers": 2, "bidirectional": True}),
    "projected directions": (20, 5, {"input_size": 9, "hidden_size": 70, "proj_size": 11, "bidirectional": True}),
    "layers": (210, 2, {"input_size": 30, "hidden_size": 40, "num_layers": 3}),
    "layers of many rows": (50, 70, {"input_size": 10, "hidden_size": 30, "num_layers": 2}),
    "projected layers": (300, 1, {"input_size": 30, "hidden_size": 60, "num_layers": 2, "proj_size": 20}),
    "rows": (20, 100, {"input_size": 15, "hidden_size": 20}),
    "rows of one step": (1, 400, {"input_size": 45, "hidden_size": 40, "num_layers": 2}),
    "team": (11, 1, {"input_size": 130, "hidden_size": 200}),
    "team of rows": (5, 4, {"input_size": 130, "hidden_size": 133}),
    "team of groups of rows": (3, 100, {"input_size": 8, "hidden_size": 270}),
    "team of one step": (1, 1, {"input_size": 200, "hidden_size": 300, "num_layers": 3}),
    "projected team": (6, 2, {"input_size": 130, "hidden_size": 203, "proj_size": 150}),
}


@pytest.mark.parametrize("way", sampled(SHARED, "directions and rows", "layers", "rows of one step", "projected team"))
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("backend", NAMES)
def test_any_number_of_threads(backend, dtype, random, threads_as_asked, way, ragged):
    T, B, options = SHARED[way]
    first = lk.LSTM(**options, dtype=dtype, backend=backend, num_threads=1, seed=3)
    x, state = normal(random, (T, B, first.input_size), dtype), random_state(random, first, B)
    lengths = random.integers(0, T + 1, B) if ragged else None
    expected = first(x, state, lengths=lengths)
    for threads in (2, 3, 4):
        lstm = lk.LSTM.from_config({**first.config(), "num_threads": threads}, first.state_dict())
        for attempt in range(10):
            assert_same_answer(lstm(x, state, lengths=lengths), expected, f"{threads} threads, attempt {attempt}")


@pytest.mark.parametrize("backend", NAMES)
def test_from_many_python_threads_at_once(random, threads_as_asked, backend):
    """A pool serves one call at a time, and others run alone. No call waits without end, and no two mix."""
    options = {"backend": backend, "num_threads": 4, "seed": 1}
    models = {way: lk.LSTM(**SHARED[way][2], **options) for way in ("layers", "team", "directions", "rows")}
    inputs = {way: normal(random, (*SHARED[way][:2], lstm.input_size), "float32") for way, lstm in models.items()}
    expected = {way: lk.LSTM(**SHARED[way][2], **options | {"num_threads": 1})(inputs[way]) for way in models}

    def run(i):
        way = list(models)[i % len(models)]
        assert_same_answer(models[way](inputs[way]), expected[way], way)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(run, range(300)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", NAMES)
def test_after_fork(backend):
    """A child has none of the parent's threads. In a process of its own: pytest's must not fork with threads."""
    program = f"""
import os, sys, warnings
import numpy as np, lstmkernel as lk
{FOUR_CORES}
warnings.simplefilter("ignore")  # Python warns of fork with threads
lstm = lk.LSTM(64, 64, 3, backend=sys.argv[1], seed=0)
x = np.random.default_rng(0).standard_normal((300, 12, 64)).astype("float32")
expected = lstm(x)[0]
for _ in range(5):
    child = os.fork()
    if child == 0:
        same = np.array_equal(lstm(x)[0], expected) and np.array_equal(lstm(x)[0], expected)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if np.array_equal(lstm(x)[0], expected) else 1)
        os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(lstm(x)[0], expected)
print("same")
"""
    command = [sys.executable, "-c", program, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "same\n", done.stderr


#: Calls whose answers must stay those of one thread; {meanwhile} runs in each round.
MANY_CALLS = """
import os, sys
import numpy as np, lstmkernel as lk
{four_cores}
options = {{"backend": sys.argv[1], "num_threads": 4, "seed": 0}}
networks = [lk.LSTM(150, 150, 2, bidirectional=both, **options) for both in (False, True)]
x = np.random.default_rng(0).standard_normal((30, 3, 150)).astype("float32")
ones = [lk.LSTM.from_config({{**net.config(), "num_threads": 1}}, net.state_dict()) for net in networks]
expected = [net(x)[0] for net in ones]
cores = sorted(os.sched_getaffinity(0))
for n in range(60):
    {meanwhile}
    assert all(np.array_equal(net(x)[0], out) for net, out in zip(networks, expected))
print("same")
"""


def many_calls(backend, meanwhile="pass"):
    program = MANY_CALLS.format(four_cores=FOUR_CORES, meanwhile=meanwhile)
    return subprocess.Popen([sys.executable, "-c", program, backend], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@pytest.mark.parametrize("backend", NAMES)
def test_affinity_that_changes(backend):
    """Of every thread, and so of those of the pool, too: all on one core, then on all cores."""
    every_thread = (
        "[os.sched_setaffinity(int(t), cores[:1] if n % 2 else cores) for t in os.listdir('/proc/self/task')]"
    )
    out, errors = many_calls(backend, every_thread).communicate(timeout=60)
    assert out == b"same\n", errors.decode()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs sched_getaffinity")
@pytest.mark.parametrize("backend", NAMES)
def test_pools_of_several_processes_on_the_same_cores(backend):
    for process in [many_calls(backend) for _ in range(4)]:
        out, errors = process.communicate(timeout=60)
        assert out == b"same\n", errors.decode()


def threads_of_a_process(program):
    """How many it has at its end, as the system counts them."""
    program += "\nimport os; print(len(os.listdir('/proc/self/task')))"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return int(done.stdout)


LARGE = """
import numpy as np, lstmkernel as lk
lstm = lk.LSTM({size}, {size}, 2, num_threads={threads}, backend={backend!r}, seed=0)
lstm(np.ones(({steps}, {rows}, {size}), "float32"))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
@pytest.mark.slow
@pytest.mark.parametrize("backend", NAMES)
def test_no_more_threads_than_asked_for_than_cores_or_than_pay(backend):
    allowed = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"

    def threads(before, **options):
        return threads_of_a_process(
            before + LARGE.format(backend=backend, **{"steps": 50, "rows": 40, "size": 100, **options})
        )

    assert threads(FOUR_CORES, threads=3) == 3
    assert threads(FOUR_CORES, threads=None) == 4
    assert threads(FOUR_CORES, threads=1) == 1
    assert threads(FOUR_CORES, threads=3, steps=1, rows=1, size=20) == 1, "too little work"
    assert threads(allowed, threads=None) == 1, "one core"


def test_cgroup_limits(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert cores.cgroup_limit(tmp_path, ["0::/a/b"]) == 2
    (tmp_path / "a" / "b" / "cpu.max").write_text("50000 100000\n")
    assert cores.cgroup_limit(tmp_path, ["0::/a/b"]) == 1
    first = tmp_path / "cpu,cpuacct" / "x"
    first.mkdir(parents=True)
    (first / "cpu.cfs_quota_us").write_text("300000\n")
    (first / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.cgroup_limit(tmp_path, ["4:memory:/x", "3:cpu,cpuacct:/x"]) == 3
    (first / "cpu.cfs_quota_us").write_text("-1\n")
    assert cores.cgroup_limit(tmp_path, ["3:cpu,cpuacct:/x"]) > 1000
    assert cores.cgroup_limit(tmp_path, ["0::/nowhere"]) > 1000
