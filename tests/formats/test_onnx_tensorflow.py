"""What tf2onnx makes of TensorFlow's SavedModels loads; ``goldens/make_tf2onnx.py`` made the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmkernel as lk

pytest.importorskip("onnx")
GOLDENS = Path(__file__).parent / "goldens" / "tf2onnx"


@pytest.mark.parametrize("name", ["seq", "last", "bi"])
def test_what_tf2onnx_writes(name):
    answers = np.load(GOLDENS / "answers.npz")
    net = lk.load(GOLDENS / f"{name}.onnx")
    y, _ = net(answers["x"])  # (B, T, I) as in Keras; the model's answer may be the last step alone
    assert net.batch_first
    assert np.allclose(y[:, -1] if name == "last" else y, answers[name], rtol=1e-5, atol=1e-5)
