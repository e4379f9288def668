"""Gates are i, f, g, o. Every other order of the four parts of a weight gives another network."""

from itertools import permutations

import numpy as np
import pytest
from helpers import assert_close_answer, normal, torch_twin
from networks import make

RIGHT = (0, 1, 2, 3)


def reordered(state_dict, order):
    """Every parameter with the parts of its four gates in another order."""
    return {
        name: np.concatenate([np.split(value, 4)[gate] for gate in order])
        for name, value in state_dict.items()
        if "weight_hr" not in name
    }


@pytest.fixture
def network(backend, dtype):
    """A network, an input, and PyTorch's answer."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(20)
    lstm = make("two directions", backend, dtype)
    x = normal(random, (6, 3, 5), dtype)
    out, (h_n, c_n) = torch_twin(lstm)(torch.tensor(x, dtype=torch.float64))
    return lstm, x, (out.numpy(), (h_n.numpy(), c_n.numpy()))


def test_the_right_order_gives_pytorchs_answer(network, dtype):
    lstm, x, expected = network
    lstm.load_state_dict(reordered(lstm.state_dict(), RIGHT))
    assert_close_answer(lstm(x), expected, dtype)


@pytest.mark.parametrize("order", [order for order in permutations(RIGHT) if order != RIGHT])
def test_a_wrong_order_is_far_off(network, order):
    lstm, x, (out, (h_n, c_n)) = network
    lstm.load_state_dict(reordered(lstm.state_dict(), order))
    got, (got_h, got_c) = lstm(x)
    for wrong, right in ((got, out), (got_h, h_n), (got_c, c_n)):
        assert np.abs(wrong - right).max() > 0.01


def test_there_are_23_wrong_orders():
    assert len(set(permutations(RIGHT)) - {RIGHT}) == 23
