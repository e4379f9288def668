"""lk.save(net, "m.onnx"): what ONNX Runtime makes of it, and what comes back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import assert_close

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_models import close, numbers, run  # noqa: E402

NETS = {
    "plain": lambda **o: lk.LSTM(5, 7, seed=1, **o),
    "no bias": lambda **o: lk.LSTM(5, 7, bias=False, seed=1, **o),
    "both ways, layers, batch first": lambda **o: lk.LSTM(5, 7, 3, bidirectional=True, batch_first=True, seed=1, **o),
    "reverse": lambda **o: lk.LSTM(5, 7, 2, reverse=True, seed=1, **o),
    "variant": lambda **o: lk.LSTM(
        5,
        7,
        seed=1,
        variant=lk.Variant(peephole=True, coupled="forget", activations=("sigmoid", ("elu", 0.5), "relu")),
        **o,
    ),
    "initial state": lambda **o: lk.LSTM(5, 7, 2, initial_state=True, seed=1, **o),
    "initial states in a Stack": lambda **o: lk.Stack(
        [
            lk.LSTM(5, 7, bidirectional=True, batch_first=True, initial_state=True, seed=1, **o),
            lk.LSTM(14, 4, batch_first=True, seed=2, **o),
            lk.LSTM(4, 4, batch_first=True, reverse=True, initial_state=True, seed=3, **o),
        ]
    ),
    "linear": lambda **o: lk.LSTM(5, 7, seed=1, variant=lk.Variant(activations=("sigmoid", "linear", "tanh")), **o),
    "clip": lambda **o: lk.LSTM(5, 7, bias=False, seed=1, variant=lk.Variant(gate_clip=0.1), **o),
    "two activations": lambda **o: lk.LSTM(
        5,
        7,
        bidirectional=True,
        seed=1,
        **o,
        variant=lk.Variant(activations=("sigmoid", "tanh", "tanh", ("hard_sigmoid", 0.25, 0.5), "softsign", "relu")),
    ),
    "Stack": lambda **o: lk.Stack(
        [
            lk.LSTM(5, 7, seed=1, **o),
            lk.LSTM(7, 7, seed=2, **o),
            lk.Dense(7, 4, "relu", seed=3, **o),
            lk.LSTM(4, 3, bidirectional=True, seed=4, **o),
            lk.Dense(6, 2, "sigmoid", seed=5, bias=False, **o),
        ]
    ),
    "classifier": lambda **o: lk.Stack(
        [lk.LSTM(5, 7, seed=1, batch_first=True, **o), lk.Dense(7, 4, "softmax", seed=2, **o)]
    ),
    "Dense first": lambda **o: lk.Stack(
        [lk.Dense(5, 4, "tanh", seed=1, **o), lk.LSTM(4, 3, seed=2, batch_first=True, **o)]
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("steps", [(1, 1), (6, 3)], ids=str)
def test_what_is_saved_runs_in_onnxruntime(tmp_path, name, steps):
    net = NETS[name]()
    path = tmp_path / "net.onnx"
    lk.save(net, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    x = numbers(*steps, 5).swapaxes(*((0, 1) if net.batch_first else (0, 0)))
    lstms = [net] if isinstance(net, lk.LSTM) else [layer for layer in net.layers if isinstance(layer, lk.LSTM)]
    states = [
        [numbers(lstm.num_layers * lstm.shape.directions, steps[1], lstm.hidden_size, seed=seed) for seed in (1, 2)]
        for lstm in lstms
    ]
    data = path.read_bytes()
    inputs = [info.name for info in onnx.load(path).graph.input]
    for given in (None, states):
        out, last = net(x, given[0] if given and isinstance(net, lk.LSTM) else given)
        last = [last] if isinstance(net, lk.LSTM) else last
        flat = [part for pair in given or [] for part in pair]
        expected = run(data, x, *flat, names=inputs)
        for got, part in zip([out, *itertools.chain(*last)], expected, strict=True):
            close(got, part)


def test_a_trained_model_on_real_speech(data, tmp_path):
    """Silero's LSTM, its input 1874 steps of real features."""
    lstm = lk.load(data / "silero" / "silero_vad_16k.safetensors", prefix="lstm_cell")
    x = np.load(data / "silero" / "speech_features.npy")[:, None]
    lk.save(lstm, tmp_path / "net.onnx")
    out, state = lstm(x)
    for got, expected in zip((out, *state), run((tmp_path / "net.onnx").read_bytes(), x, names=["x"]), strict=True):
        close(got, expected)


def test_an_initial_state_of_zeros_and_others_by_layers_and_of_h_or_c_alone(tmp_path):
    lstm = lk.LSTM(5, 7, 2, initial_state=True, seed=1)
    weights = lstm.state_dict()
    for h, c in (([0, 1], [0, 1]), ([1, 0], [0, 0]), ([0, 0], [0, 1])):
        states = {"h_0": numbers(2, 7) * np.array(h)[:, None], "c_0": numbers(2, 7, seed=1) * np.array(c)[:, None]}
        lstm.load_state_dict({**weights, **states})
        lk.save(lstm, tmp_path / "net.onnx")
        again = lk.load(tmp_path / "net.onnx")
        x = numbers(6, 3, 5)
        out, state = again(x)
        for got, expected in zip((out, *state), run((tmp_path / "net.onnx").read_bytes(), x, names=["x"]), strict=True):
            close(got, expected)
        assert all((again.state_dict()[name] == value).all() for name, value in states.items())


def test_float64_in_onnxs_own_evaluator(tmp_path):
    """ONNX Runtime has the operator in float32 only."""
    reference = pytest.importorskip("onnx.reference")
    lstm = lk.LSTM(5, 7, 2, dtype="float64", seed=1)
    lk.save(lstm, tmp_path / "net.onnx")
    x, state = numbers(6, 3, 5).astype("f8"), (numbers(2, 3, 7).astype("f8"), numbers(2, 3, 7, seed=1).astype("f8"))
    out, last = lstm(x, state)
    given = {"x": x, "h_0": state[0], "c_0": state[1]}
    answers = reference.ReferenceEvaluator(str(tmp_path / "net.onnx")).run(None, given)
    for got, expected in zip((out, *last), answers, strict=True):
        assert_close(got, expected, "float64")


@pytest.mark.parametrize("name", NETS)
def test_what_is_saved_loads_again_bit_for_bit(tmp_path, name, dtype):
    net = NETS[name](dtype=dtype)
    lk.save(net, tmp_path / "net.onnx")
    again = lk.load(tmp_path / "net.onnx")
    if name not in ("linear", "clip"):  # said in ONNX's words: Affine(1, 0), and 0.1 as a float32
        assert repr(again) == repr(net)
    for key, value in net.state_dict().items():
        assert again.state_dict()[key].tobytes() == value.tobytes(), key


def test_from_pytorch_to_onnx_and_back(tmp_path):
    torch = pytest.importorskip("torch")
    there = torch.nn.LSTM(5, 7, 2, bidirectional=True)
    lk.save(lk.from_torch(there), tmp_path / "net.onnx")
    back = torch.nn.LSTM(5, 7, 2, bidirectional=True)
    arrays = lk.load(tmp_path / "net.onnx").state_dict()
    back.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
    for name, value in there.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lk.LSTM(2, 4, proj_size=3), "proj_size: expected 0"),
        (lk.LSTM(2, 4, variant=lk.Variant(cell_clip=1)), "cell_clip"),
        (lk.LSTM(2, 4, variant=lk.Variant(coupled="input")), "coupled"),
        (lk.Stack([lk.LSTM(2, 4), lk.Dense(4, 1)], skip=1), "skip: expected 0"),
        (lk.LSTMCell(2, 4), "expected an LSTM or a Stack with one"),
        (lk.Dense(2, 4), "expected an LSTM or a Stack with one"),
    ],
    ids=["projection", "cell clip", "coupled input", "skip", "cell", "head alone"],
)
def test_what_the_operator_cannot_say_is_not_saved(tmp_path, net, message):
    with pytest.raises(ValueError, match=message):
        lk.save(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- without inputs for states


def said_by_onnxruntime(path, capfd, x=None):
    """What ONNX Runtime prints while it loads and runs a model, and the outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2  # its default, which onnx_models changes
    capfd.readouterr()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": x})
    return "".join(capfd.readouterr()), outputs, [info.name for info in session.get_inputs()]


@pytest.mark.parametrize("name", NETS)
def test_a_model_without_state_inputs(tmp_path, capfd, name):
    net, path = NETS[name](), tmp_path / "net.onnx"
    x = numbers(6, 3, 5).swapaxes(*((0, 1) if net.batch_first else (0, 0)))
    lk.save(net, path, state_inputs=False)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    said, (out, *states), inputs = said_by_onnxruntime(path, capfd, x)
    assert said == ""
    assert inputs == ["x"]
    expected, last = net(x)
    last = [last] if isinstance(net, lk.LSTM) else last
    for got, part in zip([out, *states], [expected, *itertools.chain(*last)], strict=True):
        close(got, part)
    again = lk.load(path)
    for key, value in net.state_dict().items():
        assert again.state_dict()[key].tobytes() == value.tobytes(), key


def test_with_state_inputs_it_warns(tmp_path, capfd):
    """If this fails, ONNX Runtime no longer warns, and what the documentation says can go."""
    lk.save(lk.LSTM(5, 7, seed=1), tmp_path / "net.onnx")
    said, _, _ = said_by_onnxruntime(tmp_path / "net.onnx", capfd, numbers(6, 3, 5))
    assert said.count("appears in graph inputs") == 2


def test_state_inputs_are_for_onnx(tmp_path):
    with pytest.raises(ValueError, match=r"state_inputs: expected True for .*, since only an ONNX model has inputs"):
        lk.save(lk.LSTM(5, 7, seed=1), tmp_path / "net.safetensors", state_inputs=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [(17, 33), (19, 8), (17, 19)])
def test_sizes_that_stand_for_time_and_batch(tmp_path, sizes):
    """The reader follows arrays of 17 steps and 19 rows, and then of 19 and 17: a width may be the same number."""
    lstm = lk.LSTM(*sizes, 2, seed=0)
    lk.save(lstm, tmp_path / "net.onnx")
    assert repr(lk.load(tmp_path / "net.onnx")) == repr(lstm)
