"""state_dicts as JSON: PyTorch's numbers, and texts that only begin as such."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fuzz_targets import torch_json_target
from helpers import assert_close, assert_close_answer, normal
from hostile import assert_refused_wherever_cut, assert_survives_changed_bytes, refused_in_little_memory

import lstmkernel as lk


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights"  # the name does not say what it is


def listed(lstm):
    return {name: value.tolist() for name, value in lstm.state_dict().items()}


GOOD = listed(lk.LSTM(2, 3, seed=1))


def taken_apart(names):
    """{"a.b": 1} as {"a": {"b": 1}}."""
    whole = {}
    for name, value in names.items():
        *places, last = name.split(".")
        inner = whole
        for place in places:
            inner = inner.setdefault(place, {})
        inner[last] = value
    return whole


# ---------------------------------------------------------------- what PyTorch holds


@pytest.mark.parametrize("form", [dict, taken_apart], ids=["flat", "taken apart"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}, {"bias": False}])
def test_pytorchs_numbers(form, options, path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    module = torch.nn.LSTM(4, 5, **options)
    state = {f"encoder.rnn.{name}": value.tolist() for name, value in module.state_dict().items()}
    path.write_text(json.dumps(form(state) | {"epoch": 3, "name": "best"}))
    lstm = lk.load(path)
    assert lstm.dtype == np.float32
    x = normal(np.random.default_rng(1), (7, 3, 4), "float32")
    with torch.no_grad():
        out, (h, c) = module.double()(torch.tensor(x, dtype=torch.float64))
    assert_close_answer(lstm(x), (out.numpy(), (h.numpy(), c.numpy())), "float32")
    assert lk.load(path, dtype="float64", prefix="encoder.rnn").dtype == np.float64


def test_a_network_of_rtneural(data, backend):
    """Two LSTMs, one of three layers, and a Linear."""
    with pytest.warns(RuntimeWarning, match=r"taken for a chain.*prefix=\['lstm', 'lstm2', 'dense'\]"):
        net = lk.load(data / "rtneural" / "lstm_torch.json", backend=backend)
    assert [type(layer) for layer in net.layers] == [lk.LSTM, lk.LSTM, lk.Dense]
    x, y = (np.loadtxt(data / "rtneural" / f"lstm_torch_{side}_python.csv", ndmin=2).reshape(-1, 1) for side in "xy")
    assert_close(net(x.astype("f4"))[0], y, "float32")


def test_inspect(path):
    path.write_text(json.dumps({"lstm": GOOD, "epoch": 3}))
    found = lk.inspect(path)
    assert ("lstm.weight_ih_l0", (12, 2), "float64") in found.tensors
    assert found.networks == [("", "LSTM 2 -> 3"), ("lstm", "LSTM 2 -> 3")]
    assert found.notes[0] == "not tensors: epoch"


def test_nan_loads_with_a_warning(path):
    path.write_text(json.dumps({**GOOD, "bias_hh_l0": [float("nan")] * 12}))
    with pytest.warns(RuntimeWarning, match="weights: NaN or infinite weights in bias_hh_l0"):
        lk.load(path)


# ---------------------------------------------------------------- refused


def changed(**values):
    return json.dumps({name: value for name, value in {**GOOD, **values}.items() if value is not None})


REFUSED = {
    "a comma missing": (changed().replace(", ", " ", 1), "not JSON: Expecting ',' delimiter"),
    "a key twice": (changed()[:-1] + ', "bias_ih_l0": []}', "JSON: key 'bias_ih_l0' is there twice"),
    "a name twice": (changed(**{"a.weight": [1], "a": {"weight": [1]}}), "a.weight: the name is there twice"),
    "nested lists": ("{" + '"weight": ' + "[" * 100_000, "nests too deeply"),
    "nested objects": ('{"a": ' * 40 + "{}" + "}" * 40, "at most 32 objects in each other"),
    "no UTF-8": (b'{"\xff": 1}', "expected UTF-8, got byte 0xff at 2"),
    "nothing in it": ("{}", "no LSTM: expected names such as weight_ih_l0, got nothing"),
    "text behind it": (changed() + "{}", "not JSON: Extra data"),
    "strings": (changed(bias_ih_l0=["1.5"] * 12), "bias_ih_l0: expected numbers in lists, got str"),
    "booleans": (changed(bias_ih_l0=[True] * 12), "bias_ih_l0: expected numbers in lists, got bool"),
    "nulls": (changed(bias_ih_l0=[[None]]), "bias_ih_l0: expected numbers in lists, got NoneType"),
    "objects": (changed(bias_ih_l0=[{}]), "bias_ih_l0: expected numbers in lists, got dict"),
    "ragged": (changed(weight_ih_l0=[[1, 2], [3]]), "weight_ih_l0: expected numbers in lists of equal lengths"),
    "beyond float64": (changed(bias_ih_l0=[10**400] * 12), "bias_ih_l0: expected numbers that fit float64"),
    "digits without end": (
        changed(bias_ih_l0=[0]).replace("[0]", f"[{'9' * 5000}]"),
        "weights: Exceeds the limit|fit float64",
    ),
    "a number for a list": (changed(weight_ih_l0=3), "missing weight_ih_l0"),
    "a bias missing": (changed(bias_hh_l0=None), "missing bias_hh_l0"),
    "a wrong shape": (changed(bias_hh_l0=[1] * 11), r"bias_hh_l0: expected shape \(12,\), got \(11,\)"),
    "one too many": (changed(weight_xx_l0=[1]), "weight_xx_l0"),
    "an RNN": (changed(weight_hh_l0=[[1] * 3] * 3), r"weight_hh_l0: .* one gate, an RNN, not an LSTM"),
    "a GRU": (changed(weight_hh_l0=[[1] * 3] * 9), r"weight_hh_l0: .* three gates, a GRU, not an LSTM"),
    "half of a weight norm": (
        changed(weight_hh_l0_g=[[1]]),
        "weight_hh_l0: expected the weight itself.*weight_hh_l0_g",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what, path):
    text, message = REFUSED[what]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(lk.FormatError, match=message) as error:
        lk.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_list_is_no_state_dict(tmp_path):
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(lk.FormatError, match=r"list\.json: JSON: expected an object of weights by name, got list"):
        lk.load(tmp_path / "list.json")


@pytest.mark.slow
def test_cut_or_changed_anywhere(tmp_path):
    target = torch_json_target()
    assert_refused_wherever_cut(target, tmp_path)
    assert_survives_changed_bytes(target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        lambda: '{"weight": [' + "[]," * 8_000_000 + "[]]}",
        lambda: '{"weight": [' + "{}," * 8_000_000 + "{}]}",
        lambda: "{" + ",".join(f'"{i}":0' for i in range(2_000_000)) + "}",
        lambda: '{"' + "a" * 20_000_000 + '": 0}',
    ],
    ids=["lists", "objects", "keys", "a long key"],
)
def test_memory_stays_small(text, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(GOOD))
    bad.write_text(text())
    refused_in_little_memory(bad, good)
