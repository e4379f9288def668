"""What is public: the names of the package, and the paths that pickles and users hold. Each has a docstring."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import numpy as np
import pytest
from helpers import run_python

import lstmkernel as lk

NAMES = {
    "LSTM",
    "BackendError",
    "Dense",
    "FormatError",
    "GradientFlow",
    "LSTMCell",
    "Model",
    "Pool",
    "Stack",
    "Stream",
    "Trace",
    "Variant",
    "__version__",
    "from_torch",
    "gradient_flow",
    "info",
    "inspect",
    "load",
    "save",
    "trace",
    "warmup",
}
PATHS = [
    "lstmkernel.backends.BackendError",
    "lstmkernel.cell.LSTMCell",
    "lstmkernel.certificate.Certificate",
    "lstmkernel.dense.Dense",
    "lstmkernel.formats.FormatError",
    "lstmkernel.gradient_flow.GradientFlow",
    "lstmkernel.lstm.LSTM",
    "lstmkernel.model.Model",
    "lstmkernel.plan.Plan",
    "lstmkernel.pool.Pool",
    "lstmkernel.stack.Stack",
    "lstmkernel.stream.Stream",
    "lstmkernel.torch.LSTM",
    "lstmkernel.torch.LSTMCell",
    "lstmkernel.torch.accelerate",
    "lstmkernel.trace.Trace",
    "lstmkernel.variant.Variant",
    "lstmkernel.window.Window",
]
#: Packages that ``import lstmkernel`` leaves alone: slow to import, or of an extra that may not be installed.
HEAVY = ("asyncio", "h5py", "llvmlite", "matplotlib", "numba", "onnx", "onnxruntime", "rich", "scipy", "torch")


def found(path: str) -> object:
    module, _, name = path.rpartition(".")
    if module == "lstmkernel.torch":
        pytest.importorskip("torch")
    return getattr(importlib.import_module(module), name)


def members(cls: type) -> Iterator[tuple[str, object]]:
    """Public methods, class methods and properties that are defined in the package."""
    for owner in cls.__mro__:
        if owner.__module__.startswith("lstmkernel."):
            for name, member in vars(owner).items():
                value = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    yield f"{cls.__qualname__}.{name}", value


def test_the_package_shows_its_public_names_and_nothing_else():
    everything: dict[str, object] = {}
    exec("from lstmkernel import *", everything)
    assert set(everything) - {"__builtins__"} == NAMES
    assert {name for name in dir(lk) if not name.startswith("__")} == NAMES - {"__version__"}
    assert "__version__" in dir(lk)


@pytest.mark.parametrize("path", PATHS)
def test_a_public_path_stays(path):
    assert found(path).__name__ == path.rpartition(".")[2]


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_a_public_name_has_a_docstring(name):
    assert inspect.getdoc(getattr(lk, name))


@pytest.mark.parametrize("path", [path for path in PATHS if path.rpartition(".")[2][0].isupper()])
def test_methods_and_properties_have_docstrings(path):
    cls = found(path)
    assert vars(cls)["__doc__"]
    without = [name for name, member in members(cls) if not inspect.getdoc(member)]
    assert not without


NETWORKS = {
    "LSTM": lambda: lk.LSTM(2, 3, seed=0),
    "LSTMCell": lambda: lk.LSTMCell(2, 3, seed=0),
    "Dense": lambda: lk.Dense(2, 3, seed=0),
    "Stack": lambda: lk.Stack([lk.LSTM(2, 3, seed=0), lk.Dense(3, 1, seed=0)]),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_unknown_attribute_cannot_be_set(kind):
    """A weight that somebody assigned would change nothing, and nobody would be told."""
    net = NETWORKS[kind]()
    with pytest.raises(AttributeError, match=f"each {kind} is fixed .* load_state_dict"):
        net.weight_ih_l0 = np.zeros((12, 2))


def test_what_an_object_says_it_is(random):
    lstm, x = lk.LSTM(2, 3, backend="numpy", seed=0), random.standard_normal((4, 2))
    assert repr(lk.Dense(2, 3, "tanh", dtype="float64", backend="numpy")).startswith("Dense(2, 3, 'tanh', ")
    assert "float64" in repr(lk.Dense(2, 3, "tanh", dtype="float64", backend="numpy"))
    tape = repr(lstm.forward(x)[2])
    assert "Tape" in tape
    assert " at 0x" not in tape
    trace = repr(lk.trace(lstm, x))
    assert "Trace" in trace
    assert len(trace) < 500, "not its numbers"
    flow = repr(lk.gradient_flow(lstm, x))
    assert flow.startswith("GradientFlow(straight (1, 4), other (1, 4), ")


@pytest.mark.slow
def test_what_a_plan_says_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path))
    lstm = lk.LSTM(2, 3, seed=0)
    plan = repr(lstm.compile().plan)
    assert plan.startswith("Plan(")
    assert len(plan) < 1000


def test_import_leaves_heavy_packages_alone():
    loaded = run_python("import sys, lstmkernel; print(*sys.modules)").stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_running_on_c_leaves_numba_alone():
    if lk.info()["backends"]["c:generic"] is not None:
        pytest.skip("the C kernels were not built")
    run_python("import sys, lstmkernel as lk; lk.LSTM(1, 1)([[1.0]]); lk.info(); assert 'numba' not in sys.modules")
