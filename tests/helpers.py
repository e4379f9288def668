"""What several test files share: tolerances, random networks, the float64 definition, PyTorch as the judge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel import backends, cli

ROOT = Path(__file__).resolve().parent.parent
#: Data that others made; tests that need it skip, visibly, where it is absent.
DATA = ROOT.parent / "shared" / "data"

DTYPES = ("float32", "float64")

#: A network for the edges: arguments of an LSTM.
OPTIONS = {"input_size": 5, "hidden_size": 9, "num_layers": 2}

#: A result may differ from the reference by this much, plus this much of the reference.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def usable(names: tuple[str, ...] = backends.NAMES) -> list[str]:
    return [name for name in names if backends.unavailable(name) is None]


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


def assert_same_bits(got: Any, expected: Any, what: str = "result") -> None:
    """Equal in dtype, shape and every bit."""
    got, expected = np.ascontiguousarray(got), np.ascontiguousarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    different = (got != expected) & ~(np.isnan(got) & np.isnan(expected))
    assert not different.any(), f"{what}: {different.sum()} of {different.size} elements differ"
    assert got.tobytes() == expected.tobytes(), f"{what}: signs of zeros or NaNs differ"


def flat(result: Any) -> list[tuple[str, np.ndarray]]:
    """``out, (h_n, c_n)`` as named arrays."""
    out, (h_n, c_n) = result
    return [("out", out), ("h_n", h_n), ("c_n", c_n)]


def assert_same_answer(got: Any, expected: Any, what: str = "") -> None:
    for (name, a), (_, b) in zip(flat(got), flat(expected), strict=True):
        assert_same_bits(a, b, f"{what} {name}".strip())


def assert_close_answer(got: Any, reference: Any, dtype: str, what: str = "") -> None:
    for (name, a), (_, b) in zip(flat(got), flat(reference), strict=True):
        assert_close(a, b, dtype, f"{what} {name}".strip())


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


def normal(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
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


def readonly(array):
    array.flags.writeable = False
    return array
