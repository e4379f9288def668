"""reach.py: every measure runs and times the right calls; a line says whether the target was reached."""

import shutil

import numpy as np
import pytest
import reach
from reach import Target

import lstmkernel as lk
from lstmkernel import backends, plan
from lstmkernel.workbench.shapes import parse

pytestmark = [
    pytest.mark.skipif(not backends.c_is_built(), reason="the C kernels were not built"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]

NEEDED = {
    "step": ["onnx", "onnxruntime"],
    "lengths": ["torch"],
    "ragged": ["torch"],
    "ragged_two": ["torch"],
    "numba": ["numba"],
    "int8": ["numba"],
}


@pytest.mark.parametrize("measure", reach.MEASURES)
def test_every_measure(measure, monkeypatch):
    for package in NEEDED.get(measure, ()):
        pytest.importorskip(package)
    monkeypatch.setattr(reach, "GRID", [parse("1,4,2,9"), parse("2,3,5,70,2,2")])
    monkeypatch.setattr(reach, "CYCLES", {8: 160})
    monkeypatch.setattr(reach, "STEPS", 16)
    monkeypatch.setattr(reach, "RAGGED", 50)
    monkeypatch.setattr(reach, "TOGETHER", 16)
    monkeypatch.setattr(reach, "WINDOW", 5)
    monkeypatch.setattr(reach, "SEQUENCES", 50)
    monkeypatch.setattr(reach, "STREAMED_UNITS", 9)
    monkeypatch.setattr(reach, "AGAIN", reach.AGAIN.replace("compile(1, 2048)", "stream()"))
    monkeypatch.setattr(reach.specialised, "compiled", lambda *_: b"") if measure == "build" else None
    monkeypatch.setattr(plan, "SECONDS", 0.01)
    targets = list(reach.MEASURES[measure](0))
    assert targets
    assert all(0 < target.seen < np.inf for target in targets)


def test_a_kernel_alone_takes_the_steps_of_a_stream():
    x, lstm = reach.normal(1, 128), reach.silero()
    one, other, out = lstm.stream(), lstm.stream(), np.empty((1, 128), "float32")
    reach.kernel_alone(one, x, out)()
    expected = [other.step(x) for _ in range(2 * reach.PAIRS)][-1]
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(one.step(x), other.step(x))


def test_onnx_runtime_carries_its_states():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    x, lstm = reach.normal(1, 128), reach.silero()
    step, stream = reach.onnxruntime_step(lstm, x), lstm.stream()
    for _ in range(5):
        np.testing.assert_allclose(step()[0], stream.step(x), rtol=1e-5, atol=1e-5)


def test_packed_rows_are_the_rows_of_lengths():
    torch = pytest.importorskip("torch")
    lstm, x, steps = lk.LSTM(3, 4, 2, seed=0), reach.normal(6, 3, 3), np.array([2, 6, 4])
    for call in reach.torch_packed(lstm, x, steps).values():
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(call()[0])
        np.testing.assert_allclose(out.numpy(), lstm(x, lengths=steps)[0], rtol=1e-5, atol=1e-5)


def test_a_cycle_is_one():
    """Of 0.5 to 8 GHz."""
    call = reach.partial(reach.probes().cycles, reach.ctypes.c_int64(1_000_000))
    assert 1e6 / 8e9 < min(reach.each(call, 20)) < 1e6 / 0.5e9


def test_a_line():
    assert str(Target("a / b", 0.4251, 0.42)) == "a / b: 0.425, at most 0.42  MISSED"
    assert str(Target("a / b", 0.95, 0.95, at_least=True)) == "a / b: 0.95, at least 0.95"
