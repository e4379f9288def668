"""Wrong arguments are refused before anything is written. The error names what was expected and what came."""

import sys

import numpy as np
import pytest
from helpers import assert_same_answer, normal, readonly, run_python
from networks import NETWORKS

import lstmkernel as lk
from lstmkernel.engine import arguments as checks

# ---------------------------------------------------------------- refused, naming what was expected and what came

STATE = (np.zeros((2, 3, 9)), np.zeros((2, 3, 9)))


@pytest.mark.parametrize(
    ("x", "state", "message"),
    [
        (np.zeros(5), None, r"x: expected shape \(T, B, I\).*I = 5, got \(5,\)"),
        (np.zeros(()), None, r"x: expected shape .* got \(\)"),
        (np.zeros((6, 3, 4)), None, r"x: expected shape .*I = 5, got \(6, 3, 4\)"),
        (np.zeros((6, 6)), None, r"x: expected shape .*I = 5, got \(6, 6\)"),
        (np.zeros((1, 6, 3, 5)), None, r"x: expected shape .*I = 5, got \(1, 6, 3, 5\)"),
        (np.zeros((6, 3, 0)), None, r"x: expected shape .*I = 5, got \(6, 3, 0\)"),
        (np.zeros((6, 4, 5)), STATE, r"h_0: expected shape \(L\*D, B, R\) = \(2, 4, 9\), got \(2, 3, 9\)"),
        (np.zeros((6, 3, 5)), (STATE[0][:1], STATE[1]), r"h_0: expected shape .*\(2, 3, 9\), got \(1, 3, 9\)"),
        (np.zeros((6, 3, 5)), (STATE[0], STATE[1][..., 1:]), r"c_0: expected .*\(2, 3, 9\), got \(2, 3, 8\)"),
        (np.zeros((6, 3, 5)), (STATE[0][:, 0], STATE[1]), r"h_0: expected .*\(2, 3, 9\), got \(2, 9\)"),
        (np.zeros((6, 5)), STATE, r"h_0: expected shape \(L\*D, R\) = \(2, 9\), got \(2, 3, 9\)"),
    ],
)
def test_wrong_shapes(default_lstm, x, state, message):
    with pytest.raises(ValueError, match=message):
        default_lstm(x, state)


@pytest.mark.parametrize("state", [STATE[0], STATE[:1], (*STATE, STATE[0]), {"h": 1, "c": 2}, 3, "hc"])
def test_a_state_is_a_pair(default_lstm, state):
    with pytest.raises(TypeError, match=r"state: expected a pair \(h_0, c_0\)"):
        default_lstm(np.zeros((6, 3, 5)), state)


@pytest.mark.parametrize("state", [STATE[0][0], (STATE[0][0],), (*(part[0] for part in STATE), 0), 3, "hc"])
def test_a_cells_state_is_a_pair(state):
    with pytest.raises((TypeError, ValueError), match=r"expected a pair"):
        lk.LSTMCell(5, 9)(np.zeros((3, 5)), state)


def test_a_cell_names_the_shapes_that_it_got():
    cell = lk.LSTMCell(5, 9)
    for x in (np.zeros(()), np.zeros((1, 3, 5)), np.zeros((3, 4)), np.zeros(4)):
        with pytest.raises(ValueError, match="x: expected shape") as error:
            cell(x)
        assert str(error.value).endswith(f"got {x.shape}")
    with pytest.raises(ValueError, match=r"expected .*\(3, 9\), got \(2, 9\)"):
        cell(np.zeros((3, 5)), (np.zeros((2, 9)), np.zeros((3, 9))))


def test_a_stack_wants_a_state_for_each_lstm():
    stack = lk.Stack([lk.LSTM(5, 9, 2), lk.Dense(9, 2)])
    with pytest.raises(ValueError, match=r"state: expected one .* for each of 1 LSTMs, got 2"):
        stack(np.zeros((6, 3, 5)), [STATE, STATE])


@pytest.mark.parametrize("x", [np.zeros(()), np.zeros((3, 4)), np.zeros(0)])
def test_dense_wants_its_width(x):
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., 5\), got") as error:
        lk.Dense(5, 2)(x)
    assert str(x.shape) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size: expected at least 1, got 0"),
        ({"hidden_size": -3}, ValueError, "hidden_size: expected at least 1, got -3"),
        ({"num_layers": 0}, ValueError, "num_layers: expected at least 1, got 0"),
        ({"proj_size": -1}, ValueError, "proj_size: expected at least 0, got -1"),
        ({"proj_size": 9}, ValueError, "proj_size: expected less than hidden_size = 9, got 9"),
        ({"hidden_size": 2.0}, TypeError, "hidden_size: expected an integer, got float"),
        ({"hidden_size": "9"}, TypeError, "hidden_size: expected an integer, got str"),
        ({"hidden_size": None}, TypeError, "hidden_size: expected an integer, got NoneType"),
        ({"num_layers": True}, TypeError, "num_layers: expected an integer, got True"),
        ({"dtype": "float16"}, ValueError, "dtype: expected float32 or float64, got 'float16'"),
        ({"dtype": "int32"}, ValueError, "dtype: expected float32 or float64, got 'int32'"),
        ({"dtype": "real"}, ValueError, "got 'real'"),
        ({"num_threads": 0}, ValueError, "num_threads: expected at least 1, got 0"),
        ({"num_threads": 1.5}, TypeError, "num_threads: expected an integer, got float"),
        ({"hidden_size": 2**31}, ValueError, r"weight_hh_l0: shape \(8589934592, 2147483648\) .* needs \d+ bytes"),
        ({"input_size": 2**62}, ValueError, r"weight_ih_l0: shape \(36, 4611686018427387904\) .* needs \d+ bytes"),
        ({"hidden_size": 2**200}, ValueError, r"shape .* needs \d+ bytes, more than an address holds"),
    ],
)
def test_wrong_sizes(arguments, error, message):
    with pytest.raises(error, match=message):
        lk.LSTM(**{**NETWORKS["two layers"], **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "in_features: expected at least 1, got 0"),
        ((1, 0), ValueError, "out_features: expected at least 1, got 0"),
        ((2**40, 2**40), ValueError, r"weight: shape .* needs \d+ bytes"),
        (
            (1, 1, "softplus"),
            ValueError,
            "activation: expected one of linear, tanh, sigmoid, relu, softmax, got 'softplus'",
        ),
    ],
)
def test_wrong_dense(arguments, error, message):
    with pytest.raises(error, match=message):
        lk.Dense(*arguments)


def test_integers_of_numpy_are_sizes(dtype):
    assert lk.LSTM(np.int64(2), np.uint8(3), np.int32(1), dtype=dtype).state_dict()["weight_hh_l0"].shape == (12, 3)


MANY_LAYERS = """
import resource, lstmkernel as lk
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    lk.LSTM(1, 1, num_layers=2**62, backend="numpy")
except (ValueError, MemoryError) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_too_many_layers_are_refused_at_once():
    assert run_python(MANY_LAYERS, timeout=20).stdout.startswith("ValueError")


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "layers: expected at least one"),
        ([lk.LSTM(1, 2), lk.LSTM(3, 1)], ValueError, r"layers\[1\]: expected input width 2.* got 3"),
        ([lk.LSTM(1, 2, bidirectional=True), lk.Dense(2, 1)], ValueError, r"layers\[1\]: expected input width 4"),
        ([lk.LSTM(1, 2), lk.LSTM(2, 1, dtype="float64")], ValueError, "one dtype, got float32, float64"),
        ([lk.LSTM(1, 2), lk.LSTM(2, 1, batch_first=True)], ValueError, "one batch_first"),
        ([lk.LSTM(1, 2), lk.LSTMCell(2, 1)], TypeError, r"layers\[1\]: expected an LSTM or a Dense, got LSTMCell"),
    ],
)
def test_wrong_stacks(layers, error, message):
    with pytest.raises(error, match=message):
        lk.Stack(layers)


def test_a_dense_head_is_zero_past_a_rows_end(backend, dtype, random):
    for batch_first in (False, True):
        options = {"dtype": dtype, "backend": backend, "seed": 1}
        stack = lk.Stack([lk.LSTM(2, 3, batch_first=batch_first, **options), lk.Dense(3, 2, "sigmoid", **options)])
        out, _ = stack(normal(random, (4, 4, 2), dtype), lengths=[4, 0, 2, 3])
        out = out if batch_first else out.swapaxes(0, 1)
        for row, length in zip(out, [4, 0, 2, 3], strict=True):
            assert row[:length].all()
            assert not row[length:].any()


# ---------------------------------------------------------------- out=

X = np.zeros((6, 3, 5), "float32")


def wrong_outs():
    memory = np.full(4 * 6 * 3 * 9 + 1, 5, np.uint8)
    yield np.zeros((6, 3, 8), "float32"), ValueError, r"out: expected shape \(6, 3, 9\), got \(6, 3, 8\)"
    yield np.zeros((3, 6, 9), "float32"), ValueError, r"out: expected shape \(6, 3, 9\), got \(3, 6, 9\)"
    yield np.zeros((6, 3, 9), "float64"), TypeError, "out: expected dtype float32, got float64"
    yield np.zeros((6, 3, 9), ">f4"), TypeError, "out: expected dtype float32, got >f4"
    yield np.zeros((6, 3, 18), "float32")[..., ::2], ValueError, "out: expected a C-contiguous"
    yield np.zeros((3, 6, 9), "float32").swapaxes(0, 1), ValueError, "out: expected a C-contiguous"
    yield readonly(np.zeros((6, 3, 9), "float32")), ValueError, "out: expected .*writeable"
    yield memory[1:].view("float32").reshape(6, 3, 9), ValueError, "out: expected .*aligned"
    yield [[0.0]], TypeError, "out: expected a NumPy array, got list"


@pytest.mark.parametrize(("out", "error", "message"), list(wrong_outs()), ids=lambda value: "")
def test_a_wrong_out_is_refused_and_untouched(out, error, message):
    before = np.array(out).tobytes()
    with pytest.raises(error, match=message):
        lk.LSTM(5, 9, seed=1)(X, out=out)
    assert np.array(out).tobytes() == before


def overlapping(lstm, name):
    """out, x, state and lengths. out shares memory with the one of that name."""
    memory = np.zeros(10_000, lstm.dtype)
    out = memory[:108].reshape(2, 6, 9)
    x, state, lengths = np.zeros((2, 6, 5), lstm.dtype), None, None
    if name == "x":
        x = memory[100:160].reshape(2, 6, 5)
    elif name == "state[0]":
        state = (memory[107:215].reshape(2, 6, 9), np.zeros((2, 6, 9)))
    elif name == "state[1]":
        state = (np.zeros((2, 6, 9)), memory[1:109].reshape(2, 6, 9))
    elif name == "lengths":
        lengths = memory.view(np.int64)[:6]
    return out, x, state, lengths


@pytest.mark.parametrize("name", ["x", "state[0]", "state[1]", "lengths"])
def test_an_out_that_overlaps_an_input_is_refused(default_lstm, name):
    out, x, state, lengths = overlapping(default_lstm, name)
    with pytest.raises(ValueError, match="out: overlaps") as error:
        default_lstm(x, state, lengths=lengths, out=out)
    assert name in str(error.value)
    assert not out.any()


@pytest.mark.parametrize("cast", ["reversed", "int32", "lengths"])
def test_an_out_that_overlaps_what_was_cast_is_refused(default_lstm, cast):
    """The caller's own array counts, not the copy that the kernels would read."""
    out = np.zeros((2, 6, 9), "float32")
    x, lengths = np.zeros((2, 6, 5)), None
    if cast == "reversed":
        x = out[:, :, 4::-1]
    elif cast == "int32":
        x = out.view("int32")[:, :, :5]
    else:
        lengths = out.view("int32").ravel()[:6]
    with pytest.raises(ValueError, match="out: overlaps"):
        default_lstm(x, lengths=lengths, out=out)


@pytest.mark.parametrize("name", ["shape", "dtype", "batch_first", "hidden_size", "backend"])
def test_what_kernels_trust_cannot_be_set(default_lstm, name):
    with pytest.raises(AttributeError):
        setattr(default_lstm, name, getattr(default_lstm, name))


@pytest.mark.parametrize("name", ["in_features", "out_features", "activation", "dtype"])
def test_what_kernels_trust_of_a_dense_layer_cannot_be_set(name):
    dense = lk.Dense(2, 3)
    with pytest.raises(AttributeError):
        setattr(dense, name, getattr(dense, name))


def test_lengths_that_change_after_the_check_do_no_harm():
    given = np.array([1, 2])
    assert not np.shares_memory(checks.lengths(given, 2, 2), given)


def test_a_mask_is_refused_rather_than_forgotten(default_lstm):
    with pytest.raises(TypeError, match="x: expected an array without a mask"):
        default_lstm(np.ma.masked_equal(np.zeros((2, 6, 5)), 1))


@pytest.mark.parametrize("dtype", [None, "float16", "bogus", int])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype: expected float32 or float64, got"):
        lk.LSTM(1, 2, dtype=dtype)


def test_an_out_that_overlaps_a_parameter_is_refused():
    lstm = lk.LSTM(1, 4, bias=False, seed=1)
    parameter = lstm.state_dict()["weight_hh_l0"].view()
    try:
        parameter.flags.writeable = True
    except ValueError:
        return  # cannot even be tried
    with pytest.raises(ValueError, match="out: overlaps weight_hh_l0"):
        lstm(np.zeros((4, 1)), out=parameter[:4])


def test_an_out_beside_the_input_is_taken(two_layers, random):
    memory = np.zeros(1000, two_layers.dtype)
    x, out = memory[:90].reshape(6, 3, 5), memory[90:252].reshape(6, 3, 9)
    x[...] = normal(random, (6, 3, 5), two_layers.dtype.name)
    assert_same_answer(two_layers(x, out=out), two_layers(x.copy()))
