"""PyTorch's tensors where arrays are expected: taken if NumPy can read them, else an error that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_same_bits

import lstmkernel as lk

torch = pytest.importorskip("torch")

lstm, dense = lk.LSTM(3, 5, seed=0), lk.Dense(3, 2, seed=0)

CALLS = {
    "LSTM": lambda x: lstm(x)[0],
    "last": lambda x: lstm.last(x),
    "Stack": lambda x: lk.Stack([lstm])(x)[0],
    "Dense": dense,
    "chunk": lambda x: lstm.stream(2)(x),
    "state": lambda x: lstm(np.zeros((1, 2, 3)), (x[:1, :, :1].repeat(1, 1, 5), np.zeros((1, 2, 5))))[0],
    "windows": lambda x: lstm.windows(x, 2),
    "lk.trace": lambda x: lk.trace(lstm, x).h,
}


@pytest.mark.parametrize("call", CALLS)
def test_a_tensor_with_a_gradient(call):
    x = torch.randn(4, 2, 3)
    expected = CALLS[call](x)
    with pytest.raises(
        TypeError,
        match=r"got a tensor that requires a gradient; give (\w+)\.detach\(\) .*; lstmkernel\.torch\.LSTM takes",
    ):
        CALLS[call](x.requires_grad_())
    assert_same_bits(CALLS[call](x.detach()), expected)


def test_a_tensor_of_16_bits():
    x = torch.randn(4, 2, 3).bfloat16()
    with pytest.raises(
        TypeError, match=r"x: expected an array, got a tensor that NumPy .*BFloat16; give x\.float\(\)\.cpu\(\)"
    ):
        lstm(x)
    assert lstm(x.float().cpu())[0].shape == (4, 2, 5)


def test_other_objects_keep_their_own_error():
    class Odd:
        def __array__(self, *_arguments, **_options):
            raise RuntimeError("not now")

    with pytest.raises(RuntimeError, match="not now"):
        lstm(Odd())
