"""gradients over a collection: those of the whole in one call, summed in the order of the chunks; what is refused."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits

import lstmkernel as lk

pytest.importorskip("dask")
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import pandas as pd

from lstmkernel.dask import gradients

KINDS = ("two layers", "two directions", "batch first", "learned state")


def make(kind: str) -> Any:
    """A network in float64, where another order of the sum is hardly seen."""
    if kind != "stack":
        return networks.make(kind, dtype="float64")
    lstms = [lk.LSTM(5, 4, dtype="float64", seed=0), lk.LSTM(4, 3, dtype="float64", seed=1)]
    return lk.Stack([*lstms, lk.Dense(3, 2, "tanh", dtype="float64", seed=2)])


def squares(out: np.ndarray, state: Any, targets: Any) -> tuple[float, np.ndarray]:
    """Half the sum of squared errors at every step."""
    error = out - targets
    return np.sum(error**2) / 2, error


def squares_of_h_n(out: np.ndarray, state: Any, targets: Any) -> tuple[float, None, Any]:
    h_n, c_n = state
    return np.sum(h_n**2) / 2 + c_n.sum(), None, (h_n, np.ones_like(c_n))


def squares_of_the_first_h_n(out: np.ndarray, states: Any, targets: Any) -> tuple[float, np.ndarray, Any]:
    """Of a Stack of two LSTMs."""
    (h_n, _), _ = states
    return np.sum(h_n**2) / 2 + out.sum(), np.ones_like(out), [(h_n, None), None]


def assert_gradients(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], net: Any) -> None:
    assert list(got) == list(net.state_dict())
    for name, gradient in got.items():
        assert_close(gradient, expected[name], "float64", name)


@pytest.mark.parametrize("network", [*KINDS, "stack"])
def test_array(network: str, random: np.random.Generator) -> None:
    """With targets at every step, and with lengths."""
    net = make(network)
    order = (17, 6) if net.batch_first else (6, 17)
    x, y = random.standard_normal((*order, net.input_size)), random.standard_normal((*order, net.out_features))
    lengths = random.integers(0, 7, 17)
    for given in (None, lengths):
        out, state, tape = net.forward(x, lengths=given)
        for loss in (squares, squares_of_h_n) if isinstance(net, lk.LSTM) else (squares, squares_of_the_first_h_n):
            value, d_out, *d_state = loss(out, state, y)
            lazy = gradients(net, da.from_array(x, chunks=4), loss, da.from_array(y, chunks=(3, 5, -1)), lengths=given)
            got, named = lazy.compute(scheduler="sync")
            assert got == pytest.approx(value, rel=1e-12)
            assert_gradients(named, net.backward(tape, d_out, *d_state), net)


def test_targets_of_rows(random: np.random.Generator) -> None:
    """(B,) and (B, K) have rows first, whatever the order of x."""
    net = lk.LSTM(3, 2, dtype="float64", seed=0)
    x = random.standard_normal((5, 12, 3))
    for shape in ((12,), (12, 2)):
        y = random.standard_normal(shape)

        def loss(out: np.ndarray, state: Any, targets: np.ndarray) -> tuple[float, np.ndarray]:
            d_out = np.zeros_like(out)
            d_out[-1].T[:] = targets.T
            return float(np.sum(out[-1].T * targets.T)), d_out

        out, state, tape = net.forward(x)
        value, d_out = loss(out, state, y)
        got, named = gradients(net, da.from_array(x, chunks=(5, 5, 3)), loss, y).compute(scheduler="sync")
        assert got == pytest.approx(value, rel=1e-12)
        assert_gradients(named, net.backward(tape, d_out), net)


@pytest.mark.parametrize("network", [*KINDS, "stack"])
def test_bag_of_pairs(network: str, random: np.random.Generator) -> None:
    """Rows of unequal length: the sum over the rows alone."""
    net = make(network)
    lengths = random.integers(0, 8, 11)
    pairs = [
        (random.standard_normal((t, net.input_size)), random.standard_normal((t, net.out_features))) for t in lengths
    ]
    value, total = 0.0, {name: np.zeros_like(parameter) for name, parameter in net.state_dict().items()}
    for x, y in pairs:
        out, state, tape = net.forward(x)
        more, d_out = squares(out, state, y)
        value += more
        for name, gradient in net.backward(tape, d_out).items():
            if name in total:
                total[name] += gradient.reshape(total[name].shape)
    got, named = gradients(net, db.from_sequence(pairs, npartitions=3), squares).compute(scheduler="sync")
    assert got == pytest.approx(value, rel=1e-12)
    assert_gradients(named, total, net)


def test_a_row_of_a_bag_has_its_own_state(random: np.random.Generator) -> None:
    net = lk.LSTM(3, 4, num_layers=2, seed=0)
    rows = [random.standard_normal((t, 3)).astype("f") for t in (4, 2)]

    def loss(out: np.ndarray, state: Any, row: np.ndarray) -> tuple[float, None]:
        for got, expected in zip(state, net(row)[1], strict=True):
            assert_same_bits(got, expected)
        return 1.0, None

    value, _ = gradients(net, db.from_sequence([(row, row) for row in rows], npartitions=1), loss).compute(
        scheduler="sync"
    )
    assert value == 2.0


def test_the_order_of_the_sum_is_that_of_the_chunks(random: np.random.Generator) -> None:
    """More chunks than one task adds, of very different size: any scheduler gives the same bits."""
    net = networks.make("plain")
    x = (random.standard_normal((4, 70, 5)) * 10.0 ** random.integers(-3, 4, (70, 1))).astype("f")
    lazy = gradients(net, da.from_array(x, chunks=(4, 1, 5)), squares, np.zeros((4, 70, 9), "f"))
    (value, got), (expected, alone) = (lazy.compute(scheduler=name) for name in ("threads", "sync"))
    assert value == expected
    for name in got:
        assert_same_bits(got[name], alone[name], name)


def test_nothing_to_learn_from_is_zero() -> None:
    net = networks.make("plain")
    for empty in (da.zeros((4, 0, 5)), da.zeros((4, 3, 5))[:, :0]):
        value, named = gradients(net, empty, squares, np.zeros((4, 0, 9))).compute(scheduler="sync")
        assert value == 0.0
        assert not any(gradient.any() for gradient in named.values())
    nobody = db.from_sequence([1], npartitions=1).filter(lambda _: False)
    assert gradients(net, nobody, squares).compute(scheduler="sync")[0] == 0.0


def test_it_trains() -> None:
    """Whether a row is of noise above 0 or below: the loss falls to a tenth."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    x = (random.standard_normal((10, 200, 1)) / 2 + 2 * labels[:, None] - 1).astype("f")
    net = lk.LSTM(1, 4, seed=0)
    rows, targets = da.from_array(x, chunks=(10, 50, 1)), da.from_array(labels, chunks=50)

    def loss(out: np.ndarray, state: Any, labels: np.ndarray) -> tuple[float, np.ndarray]:
        error = out[-1].mean(axis=1) - (labels - 0.5)
        d_out = np.zeros_like(out)
        d_out[-1] = 2 * error[:, None] / 4 / 200
        return float(np.sum(error**2) / 200), d_out

    values = []
    for _ in range(30):
        value, named = gradients(net, rows, loss, targets).compute(scheduler="sync")
        net.load_state_dict({name: parameter - named[name] for name, parameter in net.state_dict().items()})
        values.append(value)
    assert values[-1] < values[0] / 10


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (1.0, r"return \(value, d_out\)"),
        ((np.ones(2), None), "a number as value"),
        ((1.0, np.ones((4, 2, 3))), "d_out"),
        ((1.0, np.ones((3, 2, 9)), 1.0), "d_state"),
    ],
)
def test_what_a_loss_may_return(answer: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        gradients(networks.make("plain"), da.zeros((3, 2, 5)), lambda *_: answer).compute(scheduler="sync")
    pairs = db.from_sequence([(np.zeros((3, 5)), 0)])
    with pytest.raises((TypeError, ValueError), match=says):
        gradients(networks.make("plain"), pairs, lambda *_: answer).compute(scheduler="sync")


def test_refused() -> None:
    net = networks.make("plain")
    x = da.zeros((3, 2, 5))
    with pytest.raises(ValueError, match="targets: expected 2 along axis 1, one for each row of x"):
        gradients(net, x, squares, np.zeros((3, 4, 9)))
    with pytest.raises(ValueError, match="expected None for a bag"):
        gradients(net, db.from_sequence([1]), squares, [1])
    with pytest.raises(TypeError, match=r"expected a bag of pairs \(x, target\), got ndarray"):
        gradients(net, db.from_sequence([np.zeros((3, 5))]), squares).compute(scheduler="sync")


def test_the_way_out_of_a_frame() -> None:
    net = lk.LSTM(1, 2, seed=0)
    frame = dd.from_pandas(pd.DataFrame({"x": [1.0, 2.0], "target": [0.5, 1.0]}), npartitions=1)
    with pytest.raises(TypeError, match=r"frame\[\['x', 'target'\]\].to_bag\(\)"):
        gradients(net, frame, squares)
    pairs = frame[["x", "target"]].to_bag().map(lambda pair: ([pair[0]], pair[1]))
    assert gradients(net, pairs, squares).compute(scheduler="sync")[0] > 0
