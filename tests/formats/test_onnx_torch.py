"""What PyTorch's exporters write, against ONNX Runtime's answer."""

from __future__ import annotations

import numpy as np
import pytest

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_models import COMPILED, close, dynamo, numbers, run, saved, torch_net, torchscript  # noqa: E402


def with_head(torch, net, x):
    return torch.sigmoid(net.head(net.lstm(x)[0]))


def classifier(torch, net, x):
    return torch.softmax(net.head(net.lstm(x)[0]), -1)


def plain(torch, net, x):
    out, (h, c) = net.lstm(x)
    return out, h, c


SHAPES = [
    {},
    {"bias": False},
    {"layers": 2},
    {"bidirectional": True},
    {"layers": 3, "bidirectional": True},
    {"layers": 2, "batch_first": True},
    {"bidirectional": True, "batch_first": True, "bias": False},
]
EXPORTERS = {
    "torchscript": lambda net, x: torchscript(net, x, x={0: "a", 1: "b"}),
    "torchscript, sizes fixed": torchscript,
    "torchscript, unfolded": lambda net, x: torchscript(net, x, folding=False, x={0: "a", 1: "b"}),
    "dynamo": lambda net, x: dynamo(net, x, dynamic=[(0,) if net.lstm.batch_first else (1,)]),
    "dynamo, sizes fixed": dynamo,
}


def marked(exporters):
    """PyTorch's newer exporter takes seconds for each model."""
    return [pytest.param(name, marks=[pytest.mark.slow] if "dynamo" in name else []) for name in exporters]


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("exporter", marked(EXPORTERS))
def test_what_pytorch_exports(tmp_path, exporter, options, backend):
    """The whole LSTM is one LSTM here; with a head, a Stack; in each case PyTorch's answer as ONNX Runtime gives it."""
    x = numbers(4, 2, 5)
    model = EXPORTERS[exporter](torch_net(plain, **options), x)
    lstm = lk.load(saved(model, tmp_path), backend=backend)
    assert isinstance(lstm, lk.LSTM)
    assert lstm.num_layers == options.get("layers", 1)
    assert lstm.batch_first == options.get("batch_first", False)
    out, (h, c) = lstm(x)
    for got, expected in zip((out, h, c), run(model, x), strict=True):
        close(got, expected)

    for forward, activation in ((with_head, "sigmoid"), (classifier, "softmax")):
        model = EXPORTERS[exporter](torch_net(forward, **options), x)
        stack = lk.load(saved(model, tmp_path), backend=backend)
        assert [type(layer) for layer in stack.layers] == [lk.LSTM, lk.Dense]
        assert stack.layers[1].activation == activation
        close(stack(x)[0], run(model, x)[0])


@pytest.mark.parametrize("options", SHAPES[:5], ids=str)
@pytest.mark.parametrize("dynamic", [True, False], ids=["open", "fixed"])
@pytest.mark.parametrize("exporter", marked(["torchscript", "dynamo"]))
def test_states_that_are_inputs_are_the_callers(tmp_path, exporter, dynamic, options):
    def forward(torch, net, x, h, c):
        out, (h, c) = net.lstm(x, (h, c))
        return out, h, c

    states = options.get("layers", 1) * (2 if options.get("bidirectional") else 1)
    inputs = numbers(4, 2, 5), numbers(states, 2, 7), numbers(states, 2, 7, seed=1)
    if exporter == "torchscript":
        axes = {"x": {0: "a", 1: "b"}, "h": {1: "b"}, "c": {1: "b"}} if dynamic else {}
        model = torchscript(torch_net(forward, **options), *inputs, **axes)
    else:
        model = dynamo(torch_net(forward, **options), *inputs, dynamic=[(1,)] * 3 if dynamic else [])
    lstm = lk.load(saved(model, tmp_path))
    out, (h, c) = lstm(inputs[0], inputs[1:])
    for got, expected in zip((out, h, c), run(model, *inputs), strict=True):
        close(got, expected)


@pytest.mark.parametrize("options", SHAPES[:6], ids=str)
@pytest.mark.filterwarnings("ignore")  # PyTorch has no shapes for them
def test_packed_sequences_have_lengths(tmp_path, options):
    """Past a row's end ONNX Runtime has the head's bias, a Stack has zeros."""

    def forward(torch, net, x, lengths):
        batch_first = net.lstm.batch_first
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first)
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(net.lstm(packed)[0], batch_first=batch_first)
        return net.head(out)

    lengths = np.array([6, 4, 1])
    x = numbers(3, 6, 5) if options.get("batch_first") else numbers(6, 3, 5)
    model = torchscript(torch_net(forward, **options), x, lengths, x={0: "a", 1: "b"})
    stack = lk.load(saved(model, tmp_path))
    within = np.arange(6)[:, None] < lengths
    within = within.T if options.get("batch_first") else within
    out = stack(x, lengths=lengths)[0]
    close(out[within], run(model, x, lengths)[0][within])
    assert not out[~within].any()


LEARNED = {
    "expand": lambda torch, first, rows: first.expand(-1, rows, -1).contiguous(),
    "repeat": lambda torch, first, rows: first.repeat(1, rows, 1),
    "full": lambda torch, first, rows: torch.full((len(first), rows, 7), 0.3),
}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("how", LEARNED)
@pytest.mark.parametrize("exporter", marked(EXPORTERS))
def test_a_learned_first_state_is_the_initial_state(tmp_path, exporter, how, layers):
    def forward(torch, net, x):
        repeated = [LEARNED[how](torch, torch.from_numpy(first), x.shape[1]) for first in states]
        return net.lstm(x, repeated)[0]

    states = numbers(layers, 1, 7), numbers(layers, 1, 7, seed=1)
    x = numbers(4, 2, 5)
    model = EXPORTERS[exporter](torch_net(forward, layers=layers), x)
    lstm = lk.load(saved(model, tmp_path))
    assert isinstance(lstm, lk.LSTM)
    assert lstm.initial_state
    close(lstm(x)[0], run(model, x)[0])
    if "fixed" not in exporter:
        close(lstm(numbers(4, 5, 5))[0], run(model, numbers(4, 5, 5))[0])


HEADS_ON_ONE_STEP = {
    "the last output": lambda torch, net, x: net.head(net.lstm(x)[0][-1]),
    "the first output": lambda torch, net, x: net.head(net.lstm(x)[0][0]),
    "the last state": lambda torch, net, x: net.head(net.lstm(x)[1][0][-1]),
}


@pytest.mark.parametrize("where", HEADS_ON_ONE_STEP)
@pytest.mark.parametrize("exporter", marked(["torchscript", "dynamo"]))
def test_a_head_on_one_step(tmp_path, exporter, where):
    """The Stack runs it at every step, which holds that one."""
    x = numbers(4, 2, 5)
    model = EXPORTERS[exporter](torch_net(HEADS_ON_ONE_STEP[where], layers=2), x)
    with pytest.warns(RuntimeWarning, match="a part of the output" if "first" in where else r"net\.last\(x\)"):
        stack = lk.load(saved(model, tmp_path))
    close(stack(x)[0][0 if "first" in where else -1], run(model, x)[0])
    if "last" in where:
        close(stack.last(x), run(model, x)[0])


REFUSED = {
    "a head on both ends": (
        lambda torch, net, x: net.head(net.lstm(x)[1][0].swapaxes(0, 1).flatten(1)),
        {"bidirectional": True},
        "each whole and in order",
    ),
    "directions the other way round": (
        lambda torch, net, x: net.head(torch.roll(net.lstm(x)[0], 7, 2)),
        {"bidirectional": True},
        "each whole and in order",
    ),
    "a skip": (lambda torch, net, x: net.head(net.lstm(x)[0]) + x[..., :3], {}, "Add node"),
    "log_softmax": (
        lambda torch, net, x: torch.log_softmax(net.head(net.lstm(x)[0]), -1),
        {},
        "LogSoftmax node '.*': expected .* without its LogSoftmax and apply that",
    ),
    "a softmax over the batch": (
        lambda torch, net, x: torch.softmax(net.head(net.lstm(x)[0]), 1),
        {},
        "Softmax node .* axis: expected -1 or 2, the last one, got 1",
    ),
    "a softmax of h": (lambda torch, net, x: torch.softmax(net.lstm(x)[0], -1), {}, "Softmax node"),
    "two outputs of two layers": (
        lambda torch, net, x: (lambda out: (out, net.head(out)))(net.lstm(x)[0]),
        {},
        "graph output",
    ),
    "an activation of h": (lambda torch, net, x: torch.relu(net.lstm(x)[0]), {}, "Relu node"),
    "first states that differ from row to row": (
        lambda torch, net, x: net.lstm(x, (torch.eye(2, 7)[None], torch.zeros(1, 2, 7)))[0],
        {},
        "initial_h: expected constants that are the same for every row",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("exporter", marked(["torchscript, sizes fixed", "dynamo, sizes fixed"]))
def test_what_a_stack_cannot_say_is_refused_by_name(tmp_path, exporter, what):
    forward, options, message = REFUSED[what]
    model = EXPORTERS[exporter](torch_net(forward, **options), numbers(4, 2, 5))
    with pytest.raises(lk.FormatError, match=message):
        lk.load(saved(model, tmp_path))


@pytest.mark.slow
def test_pytorchs_broken_export_of_a_projection_is_refused(tmp_path):
    """It drops the projection, but not the width of c_0 (PyTorch 2.13)."""
    model = dynamo(torch_net(plain, proj_size=3), numbers(4, 2, 5))
    with pytest.raises(lk.FormatError, match=r"initial_c: expected .* shape \(1, 2, 3\), got float32 \(1, 2, 7\)"):
        lk.load(saved(model, tmp_path))


def test_an_lstm_by_the_name_of_its_module(tmp_path):
    def forward(torch, net, x):
        return torch.log_softmax(net.head(net.lstm(torch.exp(x))[0]), -1)

    net = torch_net(forward, layers=2, bidirectional=True)
    path = saved(torchscript(net, numbers(4, 2, 5), x={0: "a", 1: "b"}), tmp_path)
    with pytest.raises(lk.FormatError, match=r"Exp node '/Exp'.*prefix="):
        lk.load(path)
    lstm = lk.load(path, prefix="lstm")
    assert lstm.num_layers == 2
    for name, value in net.lstm.state_dict().items():
        assert (lstm.state_dict()[name] == value.numpy()).all(), name
    assert lk.load(path, prefix="/lstm/LSTM_1").input_size == 14
    with pytest.raises(lk.FormatError, match="'/lstm/LSTM', '/lstm/LSTM_1'"):
        lk.load(path, prefix="head")
    assert [network.prefix for network in lk.inspect(path).networks] == ["lstm", "/lstm/LSTM", "/lstm/LSTM_1"]
    assert not any("rows first" in note for note in lk.inspect(path).notes)


def test_the_layers_of_a_module_whose_output_is_pooled(tmp_path):
    """The usual classifier, with the batch that it was exported with: by the name that the error advises."""
    net = torch_net(lambda torch, net, x: net.head(net.lstm(x)[0].mean(1)), layers=3, batch_first=True)
    path, x = saved(torchscript(net, numbers(4, 9, 5)), tmp_path), numbers(4, 9, 5)
    with pytest.raises(
        lk.FormatError, match=r"choose an LSTM alone with prefix='lstm' or .*several in a row with a list"
    ):
        lk.load(path)
    with pytest.warns(RuntimeWarning, match=r"the model has the rows first, \(B, T, I\). batch_first=True"):
        assert not lk.load(path, prefix="lstm").batch_first
    assert any("rows first" in note for note in lk.inspect(path).notes)
    lstm = lk.load(path, prefix="lstm", batch_first=True)
    expected = net.lstm(pytest.importorskip("torch").tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(lstm(x)[0], expected, atol=1e-5)
