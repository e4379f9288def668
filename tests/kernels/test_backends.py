"""The backend that runs is the one that was asked for."""

import inspect
import sys

import numpy as np
import pytest
from helpers import Watched, assert_same_answer, normal, run_python, unavailable, usable

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.backends import ONE_ANSWER, BackendError
from lstmkernel.backends.contract import KERNELS

C_NAMES = [name for name in backends.NAMES if name.startswith("c:")]
#: Lanes of a vector, by instruction set and dtype.
LANES = {
    "avx512": {"float32": 16, "float64": 8},
    "avx2": {"float32": 8, "float64": 4},
    "neon": {"float32": 4, "float64": 2},
    "generic": {"float32": 4, "float64": 2},
}


def module_of(kernel):
    """The module that a kernel's Python function comes from."""
    return inspect.getmodule(getattr(kernel, "func", kernel)).__name__


def packed_lanes(name, dtype):
    ones = np.ones((4, 1), dtype)
    return backends.get(name).pack_layer(ones, ones, ones[:, 0], None).bias.shape[-1]


# ---------------------------------------------------------------- the one that ran


def test_the_name_is_the_one_asked_for(backend):
    assert backends.get(backend).name == backend
    assert lk.LSTM(2, 3, backend=backend).backend == backend
    assert lk.LSTMCell(2, 3, backend=backend).backend == backend
    assert lk.Dense(2, 3, backend=backend).backend == backend


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_come_from_the_module_asked_for(backend, kernel):
    expected = f"lstmkernel.backends.{backend.partition(':')[0]}"
    module = module_of(getattr(backends.get(backend), kernel))
    assert module == expected or module.startswith(f"{expected}.")


def test_a_model_runs_the_kernels_of_its_backend(backend):
    """Not some other kernels under the right name."""
    kernels = Watched(backend)
    lstm, x = lk.LSTM(2, 3, backend=kernels.name), np.ones((1, 1, 2), "float32")
    assert kernels.called == ["pack_layer", "pack_lstm"]
    kernels.calls.clear()
    first = lstm(x)
    assert kernels.called == ["lstm_forward", "prepare"]
    assert_same_answer(lstm(x), first)
    assert kernels.called == ["lstm_forward", "prepare", "prepared call"]


@pytest.mark.parametrize("name", C_NAMES)
def test_a_c_backend_is_bound_to_its_own_tables(name, dtype):
    reason = backends.unavailable(name)
    if reason:
        pytest.skip(reason)
    from lstmkernel.backends.c import calls as c

    isa = name.removeprefix("c:")
    expected = c.lib.lk_find(c.instruction_sets().index(isa), np.dtype(dtype).itemsize)
    backend, ones = backends.get(name), np.ones((8, 2), dtype)
    for kernel in (backend.activation, backend.cell_update):  # these go by the arrays' dtype
        (tables,) = kernel.args
        assert tables[np.dtype(dtype)] == expected
    layer, dense = backend.pack_layer(ones, ones, ones[:, 0], None), backend.pack_dense(ones, ones[:, 0], "tanh")
    assert layer.native[0] == dense.native[0] == expected  # the others by what packed the weights
    assert c.lib.lk_lanes(expected) == packed_lanes(name, dtype) == LANES[isa][dtype]


def test_instruction_sets_have_tables_of_their_own(dtype):
    c = pytest.importorskip("lstmkernel.backends.c.calls", reason="the C kernels were not built")
    itemsize = np.dtype(dtype).itemsize
    found = [c.lib.lk_find(i, itemsize) for i in range(len(c.instruction_sets())) if c.lib.lk_isa_usable(i)]
    assert len(set(found)) == len(found)


def test_only_the_generic_kernels_round_twice(dtype):
    """c:generic differs from the fused backends in some bits, and those agree with each other."""
    x = normal(np.random.default_rng(3), (40, 3, 17), dtype)
    out = {name: lk.LSTM(17, 33, backend=name, dtype=dtype, seed=1)(x)[0] for name in usable() if name != "numpy"}
    fused = [out[name] for name in ONE_ANSWER if name in out]
    if len(fused) < 2 or "c:generic" not in out:
        pytest.skip(f"needs c:generic and two fused backends, got {', '.join(out)}")
    assert all(np.array_equal(fused[0], other) for other in fused[1:])
    assert not np.array_equal(fused[0], out["c:generic"])


# ---------------------------------------------------------------- names, defaults and the environment


def test_the_list_is_complete():
    c = pytest.importorskip("lstmkernel.backends.c.calls", reason="the C kernels were not built")
    assert set(c.instruction_sets()) <= set(backends.INSTRUCTION_SETS)
    assert backends.usable() == [name for name in backends.NAMES if backends.unavailable(name) is None]
    assert {"numba", "numpy", "c:generic"} <= set(backends.usable())


def test_c_and_auto_mean_the_best_instruction_set():
    best = next((name for name in C_NAMES if backends.unavailable(name) is None), None)
    if best is None:
        pytest.skip("the C kernels were not built")
    assert lk.LSTM(1, 1, backend="c").backend == best
    assert lk.LSTM(1, 1).backend == best
    assert lk.info()["default"] == best


def test_the_environment_decides_where_no_argument_does(backend, monkeypatch):
    monkeypatch.setenv("LSTMKERNEL_BACKEND", backend)
    assert lk.LSTM(1, 1).backend == backend
    assert lk.LSTM(1, 1, backend="auto").backend == backend
    assert lk.LSTM(1, 1, backend="numpy").backend == "numpy"


@pytest.mark.parametrize("asked", ["auto", "c"])
def test_the_environment_names_the_instruction_set(asked, monkeypatch):
    if backends.unavailable("c:generic"):
        pytest.skip("the C kernels were not built")
    monkeypatch.setenv("LSTMKERNEL_ISA", "generic")
    assert lk.LSTM(1, 1, backend=asked).backend == "c:generic"
    best = next(name for name in C_NAMES if backends.unavailable(name) is None)
    assert lk.LSTM(1, 1, backend=best).backend == best


@pytest.mark.parametrize("unknown", ["C", "cpp", "c:", "c:sse2", "c:avx2 ", "torch", "", "numpy64"])
def test_an_unknown_name_is_refused_and_the_known_ones_named(unknown):
    with pytest.raises(ValueError, match="known are") as error:
        lk.LSTM(1, 1, backend=unknown)
    assert all(name in str(error.value) for name in (*backends.NAMES, "auto"))


@pytest.mark.parametrize("wrong", [1, b"c", ["c"], object()])
def test_a_name_that_is_no_string_is_refused(wrong):
    with pytest.raises(TypeError, match="expected a string"):
        lk.LSTM(1, 1, backend=wrong)


@pytest.mark.parametrize(("variable", "asked"), [("LSTMKERNEL_BACKEND", "auto"), ("LSTMKERNEL_ISA", "c")])
def test_an_unknown_name_in_the_environment_is_refused(variable, asked, monkeypatch):
    monkeypatch.setenv(variable, "nonsense")
    with pytest.raises(ValueError, match=r"'nonsense'.*known are"):
        lk.LSTM(1, 1, backend=asked)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_number_of_threads_in_the_environment_is_refused(value, monkeypatch):
    monkeypatch.setenv("LSTMKERNEL_NUM_THREADS", value)
    with pytest.raises(ValueError, match="LSTMKERNEL_NUM_THREADS: expected an integer of at least 1"):
        lk.LSTM(1, 1)
    assert lk.LSTM(1, 1, num_threads=2).num_threads == 2  # the argument wins


def test_the_environment_limits_the_threads(monkeypatch):
    monkeypatch.setenv("LSTMKERNEL_NUM_THREADS", "3")
    assert lk.LSTM(1, 1).num_threads == 3
    assert lk.LSTM(1, 1, num_threads=1).num_threads == 1


@pytest.mark.parametrize("name", [name for name in C_NAMES if backends.unavailable(name)])
def test_an_unusable_instruction_set_says_why(name, monkeypatch):
    with pytest.raises(BackendError, match=f"backend '{name}': .+"):
        lk.LSTM(1, 1, backend=name)
    monkeypatch.setenv("LSTMKERNEL_ISA", name.removeprefix("c:"))
    with pytest.raises(BackendError, match=f"backend '{name}': .+"):
        lk.LSTM(1, 1, backend="c")


# ---------------------------------------------------------------- fresh interpreters

WITHOUT_C = """
import sys, warnings
sys.modules["lstmkernel.backends.c._kernels"] = None
import lstmkernel as lk
from lstmkernel import backends
warnings.simplefilter("error")
try:
    lk.LSTM(1, 1)
except UserWarning as warning:
    assert "C kernels were not built" in str(warning) and "LSTMKERNEL_REQUIRE_C=1" in str(warning), warning
else:
    raise AssertionError("no warning")
warnings.simplefilter("ignore")
assert lk.LSTM(2, 3).backend == "numba"
assert not any(name.startswith("c:") for name in backends.usable())
for name in ("c", "c:generic"):
    try:
        lk.LSTM(1, 1, backend=name)
    except backends.BackendError as error:
        assert "not built" in str(error), error
    else:
        raise AssertionError(f"{name} ran without C")
out, _ = lk.LSTM(2, 3)([[1.0, 2.0]])
assert out.shape == (1, 3)
"""


def test_without_c_it_warns_and_runs_on_numba():
    if reason := unavailable("numba"):
        pytest.skip(reason)
    run_python(WITHOUT_C)


def test_info_names_every_backend():
    info = lk.info()
    assert list(info["backends"]) == list(backends.NAMES)
    assert all(reason is None or isinstance(reason, str) for reason in info["backends"].values())
    assert info["python"] == sys.version.split()[0]
    assert info["cores"] >= 1


def test_info_names_the_kernels_for_8_bit_weights(monkeypatch):
    c = pytest.importorskip("lstmkernel.backends.c.calls", reason="the C kernels were not built")
    for name in filter(lambda name: backends.unavailable(name) is None, C_NAMES):
        isa = name.removeprefix("c:")
        monkeypatch.setenv("LSTMKERNEL_ISA", isa)
        table = lk.info()["int8"]
        if backends.get(name).pack_int8_layer is None:
            assert table is None
        else:
            assert table.partition("_")[0] == isa
            assert c.source(isa, "int16") == f"{table}_i8a16.c"
        assert c.source(isa, "float64") == f"{isa}_f64.c"
    monkeypatch.setenv(
        "LSTMKERNEL_ISA", next(isa for isa in backends.INSTRUCTION_SETS if isa not in c.instruction_sets())
    )
    assert backends.int8_kernels() is None


@pytest.mark.parametrize("name", ["numpy", "c:generic", "auto"])
def test_an_unknown_instruction_set_is_an_error_whatever_runs(monkeypatch, name):
    monkeypatch.setenv("LSTMKERNEL_ISA", "avx1024")
    with pytest.raises(ValueError, match="LSTMKERNEL_ISA='avx1024' is unknown; known are avx512"):
        backends.get(name)
