"""What tf2onnx makes of TensorFlow's SavedModels loads; ``goldens/make_tf2onnx.py`` made the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmkernel as lk

pytest.importorskip("onnx")
GOLDENS = Path(__file__).parent / "goldens" / "tf2onnx"


@pytest.fixture
def answers():
    with np.load(GOLDENS / "answers.npz") as found:
        return dict(found)


@pytest.mark.parametrize("name", ["seq", "bi"])
def test_what_tf2onnx_writes(name, answers):
    net = lk.load(GOLDENS / f"{name}.onnx")
    y, _ = net(answers["x"])  # (B, T, I) as in Keras
    assert net.batch_first
    assert np.allclose(y, answers[name], rtol=1e-5, atol=1e-5)


def test_a_model_whose_answer_is_the_last_step(answers):
    with pytest.warns(RuntimeWarning, match=r"the model gives only the last step: net\.last\(x\) gives that"):
        net = lk.load(GOLDENS / "last.onnx")
    assert np.allclose(net.last(answers["x"]), answers["last"], rtol=1e-5, atol=1e-5)
