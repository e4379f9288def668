"""Models as objects: loading and reading parameters, seeds, copies, threads, forks."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal, run_python
from networks import KINDS, make

import lstmkernel as lk

torch = pytest.importorskip("torch")


@pytest.fixture(params=KINDS)
def network(request):
    """The name of a network."""
    return request.param


@pytest.fixture
def lstm(network, dtype):
    return make(network, dtype=dtype)


# ---------------------------------------------------------------- parameters


def shapes(state_dict):
    return [(name, tuple(value.shape)) for name, value in state_dict.items()]


def test_names_shapes_and_order_are_pytorchs(network, lstm):
    expected = shapes(torch.nn.LSTM(**KINDS[network]).state_dict())
    assert shapes(lstm.state_dict()) == expected
    assert list(lstm.parameter_shapes().items()) == expected


def test_a_cells_names_are_pytorchs():
    for bias in (True, False):
        expected = torch.nn.LSTMCell(3, 4, bias=bias).state_dict()
        got = lk.LSTMCell(3, 4, bias=bias).state_dict()
        assert [(name, value.shape) for name, value in got.items()] == [
            (k, tuple(v.shape)) for k, v in expected.items()
        ]


def test_dense_names_are_pytorchs():
    assert shapes(lk.Dense(3, 4).state_dict()) == shapes(torch.nn.Linear(3, 4).state_dict())


def test_what_is_loaded_comes_back(lstm, network, dtype):
    """Of any float dtype, cast; arrays, tensors or lists."""
    parameters = make(network, dtype=dtype, seed=9).state_dict()
    tensors = {name: torch.tensor(value) for name, value in parameters.items()}
    for given in (parameters, tensors, {name: value.tolist() for name, value in parameters.items()}):
        fresh = make(network, dtype=dtype)
        fresh.load_state_dict(given)
        for name, value in fresh.state_dict().items():
            assert_same_bits(value, parameters[name], name)
    halves = {name: value.astype("float16") for name, value in parameters.items()}
    lstm.load_state_dict(halves)
    assert all(np.array_equal(value, halves[name]) for name, value in lstm.state_dict().items())


def test_parameters_are_copied_in_and_read_only_out(lstm):
    given = {name: value.copy() for name, value in lstm.state_dict().items()}
    lstm.load_state_dict(given)
    x = np.ones((3, 1, lstm.input_size))
    before = lstm(x)
    for value in given.values():
        value[...] = 0
    assert_same_answer(lstm(x), before)
    for value in lstm.state_dict().values():
        with pytest.raises(ValueError, match="read-only"):
            value[...] = 0
    lstm.state_dict().clear()  # the caller's own mapping
    assert_same_answer(lstm(x), before)


WRONG = {
    "missing": (lambda p: p.pop("weight_hh_l1"), ValueError, "missing weight_hh_l1"),
    "superfluous": (lambda p: p.update(weight_ih_l2=np.ones(1)), ValueError, "superfluous weight_ih_l2"),
    "misnamed": (lambda p: p.update(w=p.pop("bias_ih_l0")), ValueError, "missing bias_ih_l0; superfluous w"),
    "no string": (lambda p: p.update({3: np.ones(1)}), ValueError, "superfluous 3"),
    "misshapen": (
        lambda p: p.update(weight_ih_l1=np.ones((16, 5))),
        ValueError,
        r"weight_ih_l1: expected shape \(16, 4\), got \(16, 5\)",
    ),
    "transposed": (
        lambda p: p.update(weight_ih_l0=p["weight_ih_l0"].T),
        ValueError,
        r"weight_ih_l0: expected shape \(16, 3\), got \(3, 16\)",
    ),
    "flat": (lambda p: p.update(bias_hh_l1=np.ones(())), ValueError, r"bias_hh_l1: expected shape \(16,\), got \(\)"),
    "a GRU": (lambda p: p.update(weight_hh_l0=np.ones((12, 4))), ValueError, r"weight_hh_l0: .*got \(12, 4\).*GRU"),
    "integers": (lambda p: p.update(bias_ih_l1=np.ones(16, int)), TypeError, "bias_ih_l1: expected floating.*int64"),
    "complex": (lambda p: p.update(bias_ih_l1=np.ones(16, complex)), TypeError, "bias_ih_l1: expected .*complex128"),
    "objects": (lambda p: p.update(bias_ih_l1=np.ones(16, object)), TypeError, "bias_ih_l1: expected .*object"),
    "strings": (lambda p: p.update(bias_ih_l1=np.full(16, "1")), TypeError, "bias_ih_l1: expected .*<U1"),
    "nothing": (lambda p: p.clear(), ValueError, "missing weight_ih_l0"),
    "None": (lambda p: p.update(bias_ih_l1=None), TypeError, "bias_ih_l1: expected .*object"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_state_dict_is_refused_and_the_model_stays(backend, what):
    spoil, error, message = WRONG[what]
    lstm = lk.LSTM(3, 4, 2, backend=backend, seed=1)
    x = np.ones((4, 2, 3), "float32")
    before, parameters = lstm(x), lstm.state_dict()
    spoiled = {name: value + 1 for name, value in parameters.items()}
    spoil(spoiled)
    with pytest.raises(error, match=message):
        lstm.load_state_dict(spoiled)
    assert_same_answer(lstm(x), before)
    for name, value in lstm.state_dict().items():
        assert_same_bits(value, parameters[name], name)


@pytest.mark.parametrize("what", ["missing", "superfluous", "misshapen", "integers"])
def test_a_stack_changes_all_its_layers_or_none(what):
    stack = lk.Stack([lk.LSTM(3, 4, 2, seed=1), lk.Dense(4, 2, seed=1)])
    parameters = stack.state_dict()
    spoiled = {name: value + 1 for name, value in parameters.items()}
    {
        "missing": lambda: spoiled.pop("1.bias"),
        "superfluous": lambda: spoiled.update({"1.bias_hh": np.ones(1)}),
        "misshapen": lambda: spoiled.update({"1.bias": np.ones(3)}),
        "integers": lambda: spoiled.update({"1.bias": np.ones(2, int)}),
    }[what]()
    with pytest.raises((ValueError, TypeError), match=r"1\.bias"):
        stack.load_state_dict(spoiled)
    for name, value in stack.state_dict().items():
        assert_same_bits(value, parameters[name], name)


def test_a_cells_errors_have_a_cells_names():
    cell = lk.LSTMCell(3, 4)
    with pytest.raises(ValueError, match="missing bias_hh") as error:
        cell.load_state_dict({name: value for name, value in cell.state_dict().items() if name != "bias_hh"})
    assert "_l0" not in str(error.value)


# ---------------------------------------------------------------- seeds


def test_a_seed_decides(network, backend, dtype):
    one, same, other = (make(network, backend, dtype, seed=seed) for seed in (7, 7, 8))
    default = make(network, dtype=dtype, seed=7)
    for name, value in one.state_dict().items():
        assert_same_bits(value, same.state_dict()[name])
        assert_same_bits(value, default.state_dict()[name])
        assert not np.array_equal(value, other.state_dict()[name])


def test_no_seed_draws_anew():
    first, second = lk.LSTM(3, 4), lk.LSTM(3, 4)
    assert not np.array_equal(first.state_dict()["weight_ih_l0"], second.state_dict()["weight_ih_l0"])


@pytest.mark.parametrize("layer", [lk.LSTM(40, 64, 2, seed=1), lk.LSTMCell(40, 64, seed=1), lk.Dense(64, 40, seed=1)])
def test_initial_values_fill_the_range(layer):
    """U(-1/8, 1/8) for H = 64."""
    values = np.concatenate([value.ravel() for value in layer.state_dict().values()])
    assert np.abs(values).max() <= 1 / 8
    assert values.min() < -0.124
    assert values.max() > 0.124
    assert abs(values.mean()) < 0.005
    assert abs(values.std() - 0.125 / 3**0.5) < 0.005


# ---------------------------------------------------------------- copies


def networks(backend, dtype):
    options = {"dtype": dtype, "backend": backend, "seed": 4}
    lstm = lk.LSTM(3, 5, 2, bidirectional=True, proj_size=2, batch_first=True, num_threads=1, **options)
    return {
        "LSTM": lstm,
        "LSTMCell": lk.LSTMCell(3, 5, bias=False, **options),
        "Dense": lk.Dense(3, 5, "tanh", **options),
        "Stack": lk.Stack([lstm, lk.Dense(4, 2, "sigmoid", **options)]),
    }


def arrays(result):
    return [result] if isinstance(result, np.ndarray) else [a for part in result for a in arrays(part)]


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "Dense", "Stack"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_give_the_same_bits(backend, dtype, kind, duplicate):
    net = networks(backend, dtype)[kind]
    x = normal(np.random.default_rng(1), (4, 3) if kind == "LSTMCell" else (4, 2, 3), dtype)
    expected = arrays(net(x))
    twin = duplicate(net)
    assert type(twin) is type(net)
    assert repr(twin) == repr(net)
    for got, wanted in zip(arrays(twin(x)), expected, strict=True):
        assert_same_bits(got, wanted)
    if kind != "Stack":
        assert twin.config() == net.config()


def test_a_copy_has_parameters_of_its_own():
    lstm = lk.LSTM(2, 3, seed=1)
    twin, before = copy.deepcopy(lstm), lstm.state_dict()
    twin.load_state_dict({name: value + 1 for name, value in before.items()})
    for name, value in lstm.state_dict().items():
        assert_same_bits(value, before[name])


def test_auto_stays_auto_when_a_model_moves(monkeypatch):
    pickled = pickle.dumps(lk.LSTM(2, 3))
    monkeypatch.setenv("LSTMKERNEL_BACKEND", "numpy")
    assert pickle.loads(pickled).backend == "numpy"


def test_repr_says_what_matters():
    assert repr(lk.LSTM(2, 3, backend="numpy")) == "LSTM(2, 3, dtype='float32', backend='numpy')"
    full = lk.LSTM(
        2,
        3,
        4,
        bias=False,
        batch_first=True,
        bidirectional=True,
        proj_size=1,
        dtype="float64",
        backend="numpy",
    )
    assert repr(full) == (
        "LSTM(2, 3, num_layers=4, bias=False, batch_first=True, bidirectional=True, proj_size=1, dtype='float64', "
        "backend='numpy')"
    )
    assert repr(lk.LSTMCell(2, 3, backend="numpy")) == "LSTMCell(2, 3, dtype='float32', backend='numpy')"
    assert repr(lk.Dense(2, 3, "tanh", backend="numpy")) == "Dense(2, 3, 'tanh', dtype='float32', backend='numpy')"
    assert (
        repr(lk.Stack([lk.Dense(2, 3, backend="numpy")]))
        == "Stack([Dense(2, 3, 'linear', dtype='float32', backend='numpy')])"
    )


# ---------------------------------------------------------------- threads and forks


@pytest.mark.slow
def test_many_threads_share_one_model(backend, dtype):
    """With inputs of different shapes at the same time: threads must not share scratch memory."""
    lstm = lk.LSTM(7, 33, 2, bidirectional=True, dtype=dtype, backend=backend, seed=1)
    random = np.random.default_rng(2)
    inputs = [normal(random, (int(T), int(B), 7), dtype) for T, B in random.integers(1, 30, (8, 2))]
    expected = [lstm(x) for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: lstm(inputs[n % 8]), range(200)))
    for n, answer in enumerate(answers):
        assert_same_answer(answer, expected[n % 8], f"call {n}")


FORK = """
import os, sys, warnings
import numpy as np
import lstmkernel as lk

warnings.simplefilter("error")
lstm = lk.LSTM(5, 33, 2, backend=sys.argv[1], seed=1)
x = np.random.default_rng(1).standard_normal((20, 3, 5), "float32")
expected = lstm(x)
for generation in range(3):
    child = os.fork()
    if child == 0:
        out, (h, c) = lstm(x)
        same = np.array_equal(out, expected[0]) and np.array_equal(c, expected[1][1])
        other = lk.LSTM(9, 17, backend=sys.argv[1], dtype="float64")(np.ones((3, 2, 9)))  # new work in the child
        os._exit(0 if same and np.isfinite(other[0]).all() else 3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
assert np.array_equal(lstm(x)[0], expected[0])
"""


@pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="needs fork")
def test_a_fork_of_a_process_that_already_ran(backend):
    run_python(FORK, backend)
