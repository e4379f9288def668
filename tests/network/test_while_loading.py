"""Other weights are loaded while something runs: it has all of the old weights, or all of the new ones."""

import copy
import gc
import io
import pickle
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from helpers import Watched, assert_same_bits, held_open, normal
from networks import OWN, each, make
from operations import bits, network, numbers

import lstmkernel as lk
from lstmkernel import backends

X = numbers(4, 2, 3)


def loaded(net, factor):
    """The parameters, times a factor."""
    return {name: factor * value for name, value in net.state_dict().items()}


def whole(kind, backend, factor):
    """A network with those parameters, which nobody else has."""
    net = network(kind, backend)
    net.load_state_dict(loaded(net, factor))
    return net


def pickled(net):
    return pickle.loads(pickle.dumps(net))(X)


def saved(net, tmp_path):
    lk.save(net, tmp_path / "net.safetensors")
    return lk.load(tmp_path / "net.safetensors", backend="numpy")(X)


LOOKS = {
    "call": lambda net, _: net(X),
    "call with lengths": lambda net, _: net(X, lengths=[1, 4]),
    "state_dict": lambda net, _: net.state_dict(),
    "layers": lambda net, _: [layer.state_dict() for layer in net.layers],
    "stream": lambda net, _: net.stream(2)(X),
    "pool": lambda net, _: (pool := net.pool(2)).step(pool.open(2), X[0]),
    "copy": lambda net, _: copy.copy(net)(X),
    "deepcopy": lambda net, _: copy.deepcopy(net)(X),
    "pickle": lambda net, _: pickled(net),
    "save": saved,
}


@pytest.mark.parametrize("look", LOOKS)
def test_in_the_middle_of_a_stacks_load_all_weights_are_the_old_ones(look, tmp_path):
    """The backend looks whenever it packs a layer, as a signal handler or another thread might."""
    found, numpy = [], backends.get("numpy")
    inside = False

    def looks(pack):
        def packs(*arguments):
            nonlocal inside
            if found is not None and not inside and started:
                inside = True
                found.append(bits(LOOKS[look](net, tmp_path)))
                inside = False
            return pack(*arguments)

        return packs

    started = False
    kernels = Watched("numpy", pack_layer=looks(numpy.pack_layer), pack_dense=looks(numpy.pack_dense))
    net = network("Stack", kernels.name)
    old, new = (bits(LOOKS[look](whole("Stack", kernels.name, factor), tmp_path)) for factor in (1, 2))
    started = True
    net.load_state_dict(loaded(net, 2))
    started = False
    assert len(found) == 3
    assert set(found) == {old}
    assert bits(LOOKS[look](net, tmp_path)) == new


def test_a_stack_that_fails_to_load_has_changed_nothing():
    numpy, fails = backends.get("numpy"), False

    def pack_dense(*arguments):
        if fails:
            raise MemoryError
        return numpy.pack_dense(*arguments)

    net = network("Stack", Watched("numpy", pack_dense=pack_dense).name)
    before = bits([net.state_dict(), net(X)])
    fails = True
    with pytest.raises(MemoryError):
        net.load_state_dict(loaded(net, 2))
    assert bits([net.state_dict(), net(X)]) == before


def test_a_call_goes_on_with_the_weights_it_began_with():
    inside, done, got = threading.Event(), threading.Event(), []
    net = network("Stack", held_open(inside, done))
    done.set()
    old = net(X)[0]
    net.load_state_dict(loaded(net, 1))  # prepares nothing
    inside.clear(), done.clear()
    thread = threading.Thread(target=lambda: got.append(net(X)[0]))
    thread.start()
    assert inside.wait(60)
    net.load_state_dict(loaded(net, 2))
    done.set()
    thread.join()
    assert_same_bits(got[0], old)
    assert not np.array_equal(net(X)[0], old)


def test_a_pickle_has_one_set_of_weights_whenever_others_are_loaded():
    net, old = network("Stack", "numpy"), bits(network("Stack", "numpy")(X))

    class Pickler(pickle.Pickler):
        def reducer_override(self, value):
            if isinstance(value, lk.Dense):  # the layers below are done
                net.load_state_dict(loaded(net, 2))
            return NotImplemented

    file = io.BytesIO()
    Pickler(file).dump(net)
    assert bits(pickle.loads(file.getvalue())(X)) == old


def test_layers_that_are_pickled_beside_their_stack_stay_its_layers():
    net = network("Stack", "numpy")
    for twin, first in (pickle.loads(pickle.dumps((net, net.layers[0]))), copy.deepcopy((net, net.layers[0]))):
        assert twin.layers[0] is first


@pytest.mark.parametrize("way", ["layer", "stack", "another stack"])
def test_a_stack_and_its_layers_have_the_same_weights(way):
    lstm, head = lk.LSTM(3, 5, seed=0), lk.Dense(5, 3, seed=0)
    net, other = lk.Stack([lstm, head]), lk.Stack([lstm, lk.Dense(5, 2, seed=3)])
    net(X), other(X)
    if way == "layer":
        lstm.load_state_dict(loaded(lstm, 2))
    else:
        stack = net if way == "stack" else other
        doubled = {f"0.{name}": value for name, value in loaded(lstm, 2).items()}
        stack.load_state_dict({**stack.state_dict(), **doubled})
    expected = lk.LSTM(3, 5, seed=0)
    expected.load_state_dict(loaded(expected, 2))
    assert net.layers == (lstm, head)
    assert_same_bits(lstm(X)[0], expected(X)[0])
    assert_same_bits(net(X)[0], head(expected(X)[0]))
    assert_same_bits(other(X)[0], lk.Stack([expected, lk.Dense(5, 2, seed=3)])(X)[0])


def test_a_layer_with_a_call_of_its_own_is_refused():
    class Loud(lk.LSTM):
        def __call__(self, x, state=None, **options):
            return super().__call__(2 * x, state, **options)

    with pytest.raises(TypeError, match=r"layers\[1\]: .* got Loud with a __call__ of its own"):
        lk.Stack([lk.LSTM(3, 3), Loud(3, 3)])


WAYS = {
    "Stack, call": ("Stack", lambda net: net(X)),
    "Stack, stream": ("Stack", lambda net: net.stream(2)(X)),
    "Stack, state_dict": ("Stack", lambda net: net.state_dict()),
    "Stack, pickle": ("Stack", lambda net: pickle.loads(pickle.dumps(net)).state_dict()),
    "LSTM, call": ("LSTM", lambda net: net(X)),
    "initial state, stream": ("initial state", lambda net: net.stream(2)(X)),
    "LSTM, gradients": ("LSTM", lambda net: net.backward(net.forward(X)[2], np.ones((4, 2, 5), "float32"))),
}


@pytest.mark.parametrize("way", WAYS)
def test_threads_see_old_weights_or_new_ones(way):
    kind, look = WAYS[way]
    net, known = network(kind, "auto"), {bits(look(whole(kind, "auto", factor))) for factor in (1, 2)}
    sets, end, wrong = [loaded(net, 1), loaded(net, 2)], time.monotonic() + 0.5, []

    def looks():
        while time.monotonic() < end:
            found = bits(look(net))
            if found not in known:
                wrong.append(found)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=looks) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            sets.reverse()
            net.load_state_dict(sets[0])
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


# ---------------------------------------------------------------- what a prepared call owns


def owners(weights):
    """Weak references to every array of packed weights."""
    layers = [layer for directions in weights.layers for layer in directions]
    arrays = [array for layer in layers for array in (layer.w_x, layer.w_h, layer.bias, layer.w_r) if array is not None]
    peepholes = [layer.variant.peephole for layer in layers if layer.variant is not None]
    return [weakref.ref(array) for array in (*arrays, *peepholes)]


@each("two layers", "projected", *OWN)
def test_a_prepared_call_owns_its_weights(backend, random, network):
    """It holds addresses of packed weights, and may live longer than the network."""
    lstm = make(network, backend)
    kernels, weights, shape = backends.get(backend), lstm.engine.weights, lstm.shape
    x = normal(random, (3, 2, shape.input_size), "float32")
    h, c = (np.zeros((shape.num_layers, 2, width), "float32") for width in (shape.output_size, shape.hidden_size))
    states = [np.zeros((shape.num_layers, 4, part.shape[2]), "float32") for part in (h, c)]
    out, chunk = np.empty((3, 2, shape.output_size), "float32"), np.empty((3, 2, shape.output_size), "float32")
    run = kernels.prepare(weights, 3, 2, 1)
    refs = owners(weights)
    if not shape.reverse:
        run_chunk = kernels.prepare_advance(weights, 3, *states, np.arange(2), np.arange(2, 4), 1)
    del lstm, weights
    gc.collect()
    assert all(ref() is not None for ref in refs)
    run(x, h, c, out)
    assert_same_bits(h[-1], out[0 if shape.reverse else -1])
    if not shape.reverse:
        run_chunk(kernels.address(x), kernels.address(chunk))
        assert_same_bits(chunk, out)
        del run
        gc.collect()
        assert all(ref() is not None for ref in refs)
