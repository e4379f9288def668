"""What an LSTM can, a Stack can: out=, compile, config, the layers by place."""

import copy
import pickle

import numpy as np
import pytest
from helpers import assert_same_bits, normal, random_state
from networks import make, with_head

import lstmkernel as lk
from lstmkernel.model import Model


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_a_stack_has_all_that_an_lstm_has():
    of_its_shape = {"bias", "bidirectional", "expects", "hidden_size", "initial_state", "num_layers", "proj_size"}
    of_its_shape |= {"reverse", "shape", "variant"}
    assert public(lk.LSTM) - of_its_shape <= public(lk.Stack)


@pytest.mark.parametrize("cls", [lk.LSTM, lk.Stack])
def test_what_models_have_in_common_is_their_own(cls):
    """Model has the names and their types; each class does the work."""
    without = [name for name in public(Model) | {"__call__"} if _raises_not_implemented(cls, name)]
    assert not without


def _raises_not_implemented(cls, name):
    member = getattr(cls, name)
    function = member.fget if isinstance(member, property) else member
    return "NotImplementedError" in function.__code__.co_names


def test_the_layers_by_place():
    lstm, head = lk.LSTM(2, 3, seed=0), lk.Dense(3, 1, seed=0)
    net = lk.Stack([lstm, head])
    assert len(net) == 2
    assert list(net) == [lstm, head]
    assert (net[0], net[-1], net[:1]) == (lstm, head, (lstm,))
    with pytest.raises(IndexError):
        net[2]


@pytest.mark.parametrize(
    "net", [make("plain"), with_head(make("plain")), lk.Stack([lk.Dense(4, 2), make("plain", input_size=2)])]
)
def test_in_features(net):
    assert net.in_features == net.input_size == (4 if isinstance(net, lk.Stack) and isinstance(net[0], lk.Dense) else 5)


def test_the_bound_on_threads():
    def stack(*bounds):
        return lk.Stack([*(lk.LSTM(2, 2, num_threads=bound, seed=0) for bound in bounds), lk.Dense(2, 1)])

    assert stack(1, 3).num_threads == 3
    assert stack(1, None).num_threads is None
    assert lk.Stack([lk.Dense(2, 1)]).num_threads is None


# ---------------------------------------------------------------- out=

OUT = {
    "an LSTM on top": lambda: lk.Stack([lk.Dense(5, 5, seed=0), make("plain")]),
    "a head on top": lambda: with_head(make("plain")),
    "batch first": lambda: with_head(make("batch first", input_size=5)),
    "a skip": lambda: lk.Stack([make("plain", hidden_size=4), lk.Dense(4, 4, seed=0)], skip=0.5),
    "one layer twice": lambda: lk.Stack([make("plain", hidden_size=5)] * 2),
}


@pytest.mark.parametrize("kind", OUT)
def test_out_is_written_to(kind, random):
    net, x = OUT[kind](), normal(random, (7, 3, 5), "float32")
    for lengths in (None, [3] * x.shape[1 - net.batch_first]):
        expected, _ = net(x, lengths=lengths)
        out = np.full_like(expected, np.nan)
        for _ in range(2):  # the second call may be prepared
            got, _ = net(x, lengths=lengths, out=out)
            assert got is out
            assert_same_bits(out, expected)


@pytest.mark.parametrize("kind", ["a head on top", "an LSTM on top"])
def test_an_unfit_out_is_refused(kind, random):
    net, x = OUT[kind](), normal(random, (7, 3, 5), "float32")
    fits = np.empty((7, 3, net.out_features), "f")
    with pytest.raises(ValueError, match="out: expected shape"):
        net(x, out=fits[:6])
    with pytest.raises(TypeError, match="out: expected dtype float32"):
        net(x, out=fits.astype("d"))
    with pytest.raises(ValueError, match="C-contiguous"):
        net(x, out=np.asfortranarray(fits))
    room = np.zeros(7 * 3 * 9, "f")
    with pytest.raises(ValueError, match="out: overlaps x"):
        net(room[:105].reshape(7, 3, 5), out=room[: fits.size].reshape(fits.shape))
    h, c = random_state(random, make("plain"), 3)
    out = np.zeros((7, 3, net.out_features), "f")
    with pytest.raises(ValueError, match=r"out: overlaps state\[0\]"):
        net(x, [(out.reshape(-1)[: h.size].reshape(h.shape), c)], out=out)
    with pytest.raises(ValueError, match="x: expected shape"):
        net(x[0, 0], out=fits)


# ---------------------------------------------------------------- config


@pytest.mark.parametrize("kind", OUT)
def test_config_and_parameters_make_the_same_stack(kind, random):
    net, x = OUT[kind](), normal(random, (7, 3, 5), "float32")
    again = lk.Stack.from_config(net.config(), net.state_dict())
    assert repr(again) == repr(net)
    assert again.config() == net.config()
    assert_same_bits(again(x)[0], net(x)[0])


def test_a_config_that_is_none():
    net = with_head(make("plain"))
    config, named = net.config(), net.state_dict()
    with pytest.raises(ValueError, match=r"layers\[0\]: expected type LSTM or Dense, got 'GRU'"):
        lk.Stack.from_config({**config, "layers": [{**config["layers"][0], "type": "GRU"}]}, named)
    with pytest.raises(ValueError, match="superfluous more"):
        lk.Stack.from_config(config, {**named, "more": named["1.bias"]})
    with pytest.raises(ValueError, match=r"missing bias"):
        lk.Stack.from_config(config, {name: value for name, value in named.items() if name != "1.bias"})


# ---------------------------------------------------------------- compile


@pytest.fixture
def compiled(monkeypatch):
    """compile takes the kernels that there are: how it chooses is tested elsewhere."""
    calls = []

    def compile_(self, batch_size=1, steps=None, num_threads=None, **more):
        calls.append((self.input_size, batch_size, steps, num_threads, more))
        plan = lk.plan.Plan(repr(self), batch_size, steps, "calls", 1, "a cpu", self.backend, self.backend, (), 0.0)
        return self._copy(_plan=plan)

    monkeypatch.setattr(lk.LSTM, "compile", compile_)
    return calls


def test_compile_compiles_every_lstm(compiled, random):
    net = lk.Stack([lk.LSTM(3, 4, seed=0), lk.Dense(4, 5, "relu", seed=0), lk.LSTM(5, 2, seed=0)], skip=0.5)
    assert net.plan is None
    fast = net.compile(8, 64, 2, stream=True)
    more = {"stream": True, "refresh": False}
    assert compiled == [(3, 8, 64, 2, more), (5, 8, 64, 2, more)]
    x = normal(random, (6, 8, 3), "float32")
    assert_same_bits(fast(x)[0], net(x)[0])
    assert len(fast.plan) == 2
    assert str(fast.plan).count("a cpu") == 2
    assert "LSTM(3, 4" in str(fast.plan)
    assert "LSTM(5, 2" in str(fast.plan)


def test_a_compiled_stack_has_weights_of_its_own(compiled, random):
    net = with_head(make("plain"))
    fast = net.compile()
    x = normal(random, (4, 2, 5), "float32")
    before, _ = net(x)
    fast.load_state_dict({name: value + 1 for name, value in net.state_dict().items()})
    assert_same_bits(net(x)[0], before)
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert_same_bits(again(x)[0], fast(x)[0])


def test_compile_compiles_a_cell(compiled, random):
    cell = lk.LSTMCell(3, 4, seed=0)
    fast = cell.compile(8)
    assert compiled == [(3, 8, 1, None, {})]
    assert (cell.plan, fast.plan.batch_size, fast.in_features) == (None, 8, 3)
    x = normal(random, (8, 3), "float32")
    assert_same_bits(fast(x)[0], cell(x)[0])
