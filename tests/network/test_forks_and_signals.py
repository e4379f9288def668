"""Forks while other threads work, and signal handlers that use networks: nothing waits for a lock that nobody opens."""

import signal
import threading

import numpy as np
import pytest
from helpers import run_python

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends import memory


def test_weights_are_packed_in_the_middle_of_packing_weights(monkeypatch):
    """As by a signal handler that loads weights while the thread that it interrupts does so."""
    right, ended = memory._region, []

    def interrupted(size):
        monkeypatch.setattr(memory, "_region", right)
        lk.LSTM(4, 4, seed=1)
        return right(size)

    def load():
        lstm = lk.LSTM(4, 4, seed=0)
        ended.append(lstm)

    monkeypatch.setattr(memory, "_region", interrupted)
    monkeypatch.setattr(memory, "_rests", type(memory._rests)(maxlen=4))
    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(60)
    assert ended
    x = np.ones((3, 1, 4), "float32")
    assert np.array_equal(ended[0](x)[0], lk.LSTM(4, 4, seed=0)(x)[0])


def test_the_rests_of_regions_are_shared_out_once():
    """Weights that several threads pack at once lie in memory of their own."""
    places = []

    def take():
        for number in range(200):
            place = memory.empty_weights((40,), np.float32)
            place[...] = number
            places.append((place, number))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((place == number).all() for place, number in places)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals here")
def test_a_signal_handler_loads_weights():
    """Whatever the main thread does at that moment."""
    run_python(
        """
import signal, time
import numpy as np, lstmkernel as lk
lstm, other = lk.LSTM(8, 8, seed=0), lk.LSTM(8, 8, seed=1)
parameters, x, loads = lstm.state_dict(), np.ones((3, 2, 8), "float32"), 0
def handler(*_):
    global loads
    other.load_state_dict(parameters)
    other(x)
    loads += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0002 * (loads % 7) / 7)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0003)
end = time.time() + 1
while time.time() < end:
    lstm.load_state_dict(parameters)
    lstm(x)
signal.setitimer(signal.ITIMER_REAL, 0)
assert loads
""",
        timeout=60,
    )


def test_a_child_of_fork_makes_a_model_while_a_thread_does():
    run_python(
        """
import os, signal, threading
import numpy as np, lstmkernel as lk
from lstmkernel.backends import memory
inside, done, right = threading.Event(), threading.Event(), memory._region
def held(size):
    inside.set()
    done.wait(60)
    return right(size)
memory._region = held
thread = threading.Thread(target=lambda: lk.LSTM(4, 4, seed=0))
thread.start()
assert inside.wait(60)
memory._region = right
child = os.fork()
if not child:
    signal.alarm(30)
    lk.LSTM(4, 4, seed=0)(np.zeros((3, 2, 4), "float32"))
    os._exit(0)
done.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
""",
        timeout=60,
    )


@pytest.mark.slow
def test_a_fork_waits_until_numba_has_compiled():
    pytest.importorskip("numba")
    run_python(
        """
import os, signal, threading, time
from lstmkernel import backends
backends.get("numba")
from numba.core.compiler_lock import global_compiler_lock
inside = threading.Event()
def compile():
    with global_compiler_lock:
        inside.set()
        time.sleep(0.5)
thread = threading.Thread(target=compile)
thread.start()
assert inside.wait(60)
child = os.fork()
if not child:
    signal.alarm(30)
    with global_compiler_lock:
        os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
with global_compiler_lock:
    pass
""",
        timeout=60,
    )


@pytest.mark.slow
def test_a_fork_while_a_thread_imports_numba():
    pytest.importorskip("numba")
    run_python(
        """
import os, signal, sys, threading, time
import lstmkernel as lk
thread = threading.Thread(target=lambda: lk.LSTM(4, 4, seed=0, backend="numba"))
thread.start()
while "numba" not in sys.modules:
    time.sleep(0.001)
child = os.fork()
if not child:
    signal.alarm(60)
    lk.LSTM(4, 4, seed=0, backend="numba")
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
""",
        timeout=120,
    )


def test_ctrl_c_while_numba_takes_its_lock():
    """Numba takes it in a method, where Ctrl-C can come after the lock is taken and before anybody would open it."""
    if backends.unavailable("numba"):
        pytest.skip("no Numba here")
    from numba.core.compiler_lock import global_compiler_lock

    from lstmkernel.backends.numba.compiled import _numbas_lock_given_back

    def compile_interrupted():
        with _numbas_lock_given_back():
            global_compiler_lock.acquire()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_interrupted()
    assert not global_compiler_lock.is_locked()
    with global_compiler_lock:  # one that was held before stays held
        with _numbas_lock_given_back():
            pass
        assert global_compiler_lock.is_locked()


def test_a_handler_that_needs_a_kernel_while_numba_compiles(tmp_path, monkeypatch):
    """Numba would fail inside of itself, and take the kernel that is being compiled along."""
    if backends.unavailable("numba"):
        pytest.skip("no Numba here")
    from numba.core.compiler_lock import global_compiler_lock

    from lstmkernel.backends.numba.compiled import compiled

    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "cache"))
    with global_compiler_lock, pytest.raises(backends.BackendError, match=r"call lstmkernel\.warmup\(\) before"):
        compiled("nothing", lambda n: None)
