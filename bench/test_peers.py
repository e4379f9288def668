"""Every contender of peers.py answers as lstmkernel does, or comparing their speed would be idle."""

import numpy as np
import peers
import pytest

import lstmkernel as lk


@pytest.mark.parametrize("contender", peers.CONTENDERS)
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True)])
def test_a_contender_gives_the_same_answer(contender, layers, bidirectional):
    packages, prepare = peers.CONTENDERS[contender]
    for package in packages:
        pytest.importorskip(package)
    lstm = lk.LSTM(5, 7, layers, bidirectional=bidirectional, seed=0)
    x = np.random.default_rng(1).standard_normal((6, 3, 5), dtype="float32")
    np.testing.assert_allclose(prepare(lstm, x)(), lstm(x)[0], rtol=1e-5, atol=1e-5)
