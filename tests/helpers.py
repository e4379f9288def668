"""What several test files share: comparisons, the float64 definition, PyTorch as the judge, backends that are watched,
fresh interpreters.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel import backends, cli
from lstmkernel.host import compile_c

ROOT = Path(__file__).resolve().parent.parent
#: Data that others made; tests that need it skip, visibly, where it is absent.
DATA = ROOT.parent / "shared" / "data"

DTYPES = ("float32", "float64")

#: A result may differ from the reference by this much, plus this much of the reference.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def sampled(values: Iterable[Any], *fast: Any) -> list[Any]:
    """All values for a test's parameter, or for several. Those that are not ``fast`` are marked as slow: the fast ones
    are a sample of a large grid.
    """
    rows = [(value, value if isinstance(value, tuple) else (value,)) for value in values]
    return [pytest.param(*row, marks=[] if value in fast else [pytest.mark.slow]) for value, row in rows]


#: For a fresh interpreter: as many threads as asked for, up to 4, whatever the machine has.
FOUR_CORES = "from lstmkernel.host import cores; cores.available = lambda: 4\n"


def unavailable(name: str) -> str | None:
    """Why a backend cannot run here, or is left out of this run; None where it runs."""
    if name == "numba" and os.environ.get("TESTS_WITHOUT_NUMBA"):  # set by conftest.py
        return "-m 'not slow' leaves Numba out, because its kernels are not on disk"
    return backends.unavailable(name)


def usable(names: tuple[str, ...] = backends.NAMES) -> list[str]:
    """Those that can run here."""
    return [name for name in names if unavailable(name) is None]


def assert_close(got: Any, reference: Any, dtype: str, what: str = "result") -> None:
    """Every element within the promise for ``dtype`` of ``reference`` (float64), NaN nowhere."""
    got, reference = np.asarray(got), np.asarray(reference, np.float64)
    assert got.dtype == np.dtype(dtype), f"{what}: dtype {got.dtype}, expected {dtype}"
    assert got.shape == reference.shape, f"{what}: shape {got.shape}, expected {reference.shape}"
    error = np.abs(got - reference)
    allowed = TOLERANCE[dtype] * (1 + np.abs(reference))
    wrong = ~(error <= allowed)
    if wrong.any():
        at = np.unravel_index(np.argmax(np.where(wrong, error / allowed, -1)), error.shape)
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements wrong; worst at {tuple(map(int, at))}: "
            f"{got[at]!r}, expected {reference[at]!r}"
        )


def assert_same_bits(got: Any, expected: Any, what: str = "result", *, any_nan: bool = False) -> None:
    """Equal in dtype, shape and every bit: -0 is not 0. With ``any_nan``, NaN is NaN whatever its sign and payload."""
    got, expected = np.ascontiguousarray(got), np.ascontiguousarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    different = (got != expected) & ~(np.isnan(got) & np.isnan(expected))
    assert not different.any(), f"{what}: {different.sum()} of {different.size} elements differ"
    if any_nan:
        got, expected = got[~np.isnan(got)], expected[~np.isnan(expected)]
    assert got.tobytes() == expected.tobytes(), f"{what}: signs of zeros or NaNs differ"


def flat(result: Any) -> list[tuple[str, np.ndarray]]:
    """``out, (h_n, c_n)`` as named arrays."""
    out, (h_n, c_n) = result
    return [("out", out), ("h_n", h_n), ("c_n", c_n)]


def assert_same_answer(got: Any, expected: Any, what: str = "") -> None:
    """``out, (h_n, c_n)``, bit by bit."""
    for (name, a), (_, b) in zip(flat(got), flat(expected), strict=True):
        assert_same_bits(a, b, f"{what} {name}".strip())


def assert_close_answer(got: Any, reference: Any, dtype: str, what: str = "") -> None:
    """``out, (h_n, c_n)``, within the promise for ``dtype``."""
    for (name, a), (_, b) in zip(flat(got), flat(reference), strict=True):
        assert_close(a, b, dtype, f"{what} {name}".strip())


def same_or_close(got: Any, expected: Any, lstm: Any, what: str = "result") -> None:
    """Bit by bit where the backend promises that, else within the promise for the dtype."""
    if lstm.backend in backends.ONE_ANSWER:
        assert_same_bits(got, expected, what)
    else:
        assert_close(got, expected, np.dtype(lstm.dtype).name, what)


class Watched:
    """A backend that passes calls on to the kernels of another one and notes them. Ask for it by ``name``.

    ``calls`` has the name of each function of the backend that was called, and its arguments. "prepared call" and
    "advance" are calls of what ``prepare`` and ``prepare_advance`` returned; "tape backward" is each tape that
    layer_backward takes. Further arguments replace fields of the backend: with a small ``min_gflops``, work is cut into
    many calls.
    """

    def __init__(self, backend: str, **fields: Any) -> None:
        kernels = backends.get(backend)
        self.name = f"watched {backend}"
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        #: What they returned, as long as somebody holds it.
        self.prepared: dict[str, WeakSet[Callable[..., Any]]] = {"prepare": WeakSet(), "prepare_advance": WeakSet()}
        own = {name: self._noted(name, value) for name, value in kernels._asdict().items() if callable(value)}
        own |= {
            "address": kernels.address,
            "layer_backward": self._by_tape(kernels.layer_backward),
            "prepare": self._preparing("prepare", kernels.prepare, "prepared call"),
            "prepare_advance": self._preparing("prepare_advance", kernels.prepare_advance, "advance"),
        }
        backends.register(kernels._replace(**{**own, "name": self.name, **fields}))

    def _noted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            return function(*arguments)

        return call

    def _by_tape(self, layer_backward: Callable[..., Any]) -> Callable[..., Any]:
        def call(tapes: Any, *arguments: Any) -> Any:
            self.calls.append(("layer_backward", (tapes, *arguments)))
            return layer_backward(map(noted, tapes), *arguments)

        def noted(part: Any) -> Any:
            self.calls.append(("tape backward", tuple(part)))
            return part

        return call

    def _preparing(self, name: str, prepare: Callable[..., Any], made: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            run = self._noted(made, prepare(*arguments))
            self.prepared[name].add(run)
            return run

        return call

    @property
    def called(self) -> list[str]:
        """The names alone."""
        return [name for name, _ in self.calls]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of that function."""
        return [arguments for called, arguments in self.calls if called == name]


def held_open(inside: threading.Event, done: threading.Event) -> str:
    """The name of a backend whose streams set ``inside`` in the middle of a step and wait for ``done``."""
    numpy = backends.get("numpy")

    def prepare_advance(*arguments: Any) -> Any:
        advance = numpy.prepare_advance(*arguments)

        def run(x: Any, out: Any) -> int:
            inside.set()
            assert done.wait(60)
            return advance(x, out)

        return run

    def lstm_forward(*arguments: Any) -> None:
        inside.set()
        assert done.wait(60)
        numpy.lstm_forward(*arguments)

    backends.register(numpy._replace(name="held open", prepare_advance=prepare_advance, lstm_forward=lstm_forward))
    return "held open"


def definition(lstm: lk.LSTM) -> lk.LSTM:
    """The same network by the definition: NumPy, float64."""
    return lk.LSTM.from_config({**lstm.config(), "dtype": "float64", "backend": "numpy"}, lstm.state_dict())


def on_backend(lstm: lk.LSTM, backend: backends.Backend) -> lk.LSTM:
    """The same network on those kernels, which "backends" then knows by their name."""
    backends.register(backend)
    return lk.LSTM.from_config({**lstm.config(), "backend": backend.name}, lstm.state_dict())


def torch_twin(lstm: lk.LSTM) -> Any:
    """``torch.nn.LSTM`` in float64 with the parameters of ``lstm``."""
    torch = pytest.importorskip("torch")
    s = lstm.shape
    twin = torch.nn.LSTM(
        s.input_size,
        s.hidden_size,
        s.num_layers,
        bias=s.bias,
        batch_first=lstm.batch_first,
        bidirectional=s.bidirectional,
        proj_size=s.proj_size,
        dtype=torch.float64,
    )
    twin.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in lstm.state_dict().items()})
    return twin.requires_grad_(False)


def random_state(random: np.random.Generator, lstm: lk.LSTM, batch: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Initial states for a batch, or for an unbatched x where it is None."""
    states = lstm.num_layers * lstm.shape.directions
    rows = () if batch is None else (batch,)
    return tuple(
        (random.standard_normal((states, *rows, width)) / 2).astype(lstm.dtype)
        for width in (lstm.shape.output_size, lstm.hidden_size)
    )


def normal(random: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Normally distributed numbers."""
    return random.standard_normal(shape).astype(dtype)


def run_python(
    code: str, *arguments: str, env: dict[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess:
    """Run ``code`` in a fresh interpreter; an error there fails the test with its traceback."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=None if env is None else {**os.environ, **env},
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that ``main`` says on stderr, with exit status 2 and nothing on stdout."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lstmkernel: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def assert_ctrl_c_is_heard(code: str, backend: str) -> None:
    """``code`` says "ready", works for long, and after Ctrl-C "as before". Five seconds allow for a busy machine."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, backend], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=5)
        assert output == "as before\n", errors
    finally:
        child.kill()
        child.communicate()


def readonly(array: np.ndarray) -> np.ndarray:
    """The same array, no longer writeable."""
    array.flags.writeable = False
    return array


def in_one_storage(state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a state_dict as views of one storage, as cuDNN lays weights out."""
    import torch

    whole = torch.cat([value.reshape(-1) for value in state.values()])
    parts = whole.split([value.numel() for value in state.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(state.items(), parts, strict=True)}


def compiler_is_missing() -> str:
    """Why no C compiler can be used; empty where one can."""
    try:
        compile_c.compiler()
    except compile_c.CompileError as reason:
        return str(reason)
    return ""
