"""Every public operation that reads or changes something, small: for tests that make each one fail at every place."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lstmkernel as lk


class Operation(NamedTuple):
    """``act`` does it. ``look`` gives all that the caller can see of the objects that it may change."""

    act: Callable[[], Any]
    look: Callable[[], bytes]


def bits(value: Any) -> bytes:
    """Everything in it, also arrays in tuples, lists and dicts."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return b"".join(map(bits, value))
    if isinstance(value, lk.Stream | lk.Pool):
        return bits_of_states(value)
    if isinstance(value, lk.LSTM | lk.LSTMCell | lk.Dense | lk.Stack):
        return bits(value.state_dict())
    return value if isinstance(value, bytes) else repr(value).encode()


def bits_of_states(keeper: lk.Stream | lk.Pool) -> bytes:
    """Of a stream its states; of a pool its ids, and what its streams would answer next."""
    if isinstance(keeper, lk.Stream):
        return bits(keeper.state)
    ids, twin = keeper.ids, copy.deepcopy(keeper)
    return bits([ids, twin.step(ids, np.ones((len(ids), 3), "float32"))])


def numbers(*shape: int) -> np.ndarray:
    """The same ones at every call."""
    return np.random.default_rng(len(shape)).standard_normal(shape).astype("float32")


def network(kind: str, backend: str) -> Any:
    options: dict[str, Any] = {"backend": backend, "seed": 1}
    if kind == "LSTM":
        return lk.LSTM(3, 5, 2, **options)
    if kind == "initial state":
        return lk.LSTM(3, 5, initial_state=True, **options)
    if kind == "two directions":
        return lk.LSTM(3, 5, bidirectional=True, batch_first=True, **options)
    if kind == "LSTMCell":
        return lk.LSTMCell(3, 5, **options)
    if kind == "Dense":
        return lk.Dense(3, 5, "tanh", **options)
    above = [lk.LSTM(5, 4, initial_state=True, **options), lk.Dense(4, 3, "softmax", **options)]
    return lk.Stack([lk.LSTM(3, 5, **options), *above], skip=0.5)


KINDS = ("LSTM", "initial state", "two directions", "LSTMCell", "Dense", "Stack")
#: Those that run forwards over a sequence.
FORWARDS = ("LSTM", "initial state", "Stack")


def looking_at(net: Any) -> Callable[[], bytes]:
    """Its weights, and what it answers: by the calls that were prepared, and by the others."""
    x = numbers(4, 3) if isinstance(net, lk.LSTMCell) else numbers(2, 4, 3)
    net(x)
    return lambda: bits([net.state_dict(), net(x), net(x.tolist())])


def of_networks(kind: str, backend: str, folder: Path) -> dict[str, Callable[[], Operation]]:
    """What a network does."""
    x = numbers(4, 3) if kind == "LSTMCell" else numbers(2, 4, 3)

    def of(act: Callable[[Any], Any]) -> Callable[[], Operation]:
        def make() -> Operation:
            net = network(kind, backend)
            return Operation(lambda: act(net), looking_at(net))

        return make

    def saved() -> Operation:
        path = folder / "net.safetensors"
        net, twice = network(kind, backend), network(kind, backend)
        twice.load_state_dict({name: 2 * value for name, value in net.state_dict().items()})
        lk.save(net, path)
        return Operation(lambda: lk.save(twice, path), lambda: path.read_bytes() + bits(sorted(folder.iterdir())))

    lk.save(network(kind, backend), folder / "loaded.safetensors")
    doubled = {name: 2 * value for name, value in network(kind, backend).state_dict().items()}
    found = {
        "made": lambda: Operation(lambda: network(kind, backend), lambda: b""),
        "call": of(lambda net: net(x)),
        "call of a new shape": of(lambda net: net(x[:1])),
        "call with a list": of(lambda net: net(x.tolist())),
        "load_state_dict": of(lambda net: net.load_state_dict(doubled)),
        "copy": of(copy.copy),
        "deepcopy": of(copy.deepcopy),
        "pickle": of(lambda net: pickle.loads(pickle.dumps(net))),
        "save": saved,
        "load": lambda: Operation(lambda: lk.load(folder / "loaded.safetensors", backend=backend), lambda: b""),
    }
    if kind not in ("LSTMCell", "Dense"):
        found |= {
            "call with lengths": of(lambda net: net(x, lengths=[2, 1] if net.batch_first else [2, 0, 1, 2])),
            "call with a mask": of(lambda net: net(x, mask=x[..., 0] > 0)),
        }
    if kind in FORWARDS:
        found["call with reset"] = of(lambda net: net(x, reset=x[..., 0] > 0))
        found["stream"] = of(lambda net: net.stream(4))
        found["pool"] = of(lambda net: net.pool(4))
    if kind in ("LSTM", "initial state", "two directions"):
        out = np.empty((2, 4, 10 if kind == "two directions" else 5), "float32")
        found["call with out"] = of(lambda net: net(x, out=out))
        found["gradients"] = of(lambda net: net.backward(net.forward(x)[2], out))
        found["gradients of checkpoints"] = of(lambda net: net.backward(net.forward(x, checkpoint_every=1)[2], out))
    return found


def of_streams(kind: str, backend: str) -> dict[str, Callable[[], Operation]]:
    net = network(kind, backend)
    state = net(numbers(2, 2, 3))[1]
    x, chunk, out = numbers(2, 3), numbers(4, 2, 3), np.empty((2, net.out_features), "float32")
    long_out = np.empty((4, 2, net.out_features), "float32")

    def of(act: Callable[[lk.Stream], Any]) -> Callable[[], Operation]:
        def make() -> Operation:
            stream = net.stream(2)
            stream.step(x)
            stream(chunk[:2])
            return Operation(lambda: act(stream), lambda: bits(stream))

        return make

    def set_state(stream: lk.Stream) -> None:
        stream.state = state

    return {
        "step": of(lambda stream: stream.step(x, out)),
        "step with a list": of(lambda stream: stream.step(x.tolist())),
        "chunk": of(lambda stream: stream(chunk[:2])),
        "chunk of a new length": of(lambda stream: stream(chunk)),
        "chunk with out": of(lambda stream: stream(chunk[:2], long_out[:2])),
        "chunk of a new length with out": of(lambda stream: stream(chunk, long_out)),
        "state": of(lambda stream: stream.state),
        "set state": of(set_state),
        "reset": of(lambda stream: stream.reset()),
        "reset of a row": of(lambda stream: stream.reset([True, False])),
        "copy of a stream": of(copy.deepcopy),
    }


def of_pools(kind: str, backend: str) -> dict[str, Callable[[], Operation]]:
    net, x, chunk = network(kind, backend), numbers(3, 3), numbers(2, 2, 3)
    state = net(chunk)[1]

    def of(act: Callable[[lk.Pool], Any]) -> Callable[[], Operation]:
        def make() -> Operation:
            pool = net.pool(5)
            pool.step(pool.open(3), x)
            pool.step([1, 0], x[:2])
            return Operation(lambda: act(pool), lambda: bits(pool))

        return make

    return {
        "step of known streams": of(lambda pool: pool.step(np.arange(3), x)),
        "step of other streams": of(lambda pool: pool.step([2], x[:1])),
        "chunk of streams": of(lambda pool: pool([2, 0], chunk)),
        "open": of(lambda pool: pool.open(2)),
        "open with a state": of(lambda pool: pool.open(2, state)),
        "fork": of(lambda pool: pool.fork([1, 1])),
        "state of streams": of(lambda pool: pool.state([2, 0])),
        "set state of streams": of(lambda pool: pool.set_state([2, 0], state)),
        "close": of(lambda pool: pool.close([0, 2])),
        "reset of streams": of(lambda pool: pool.reset([1, 2])),
        "copy of a pool": of(copy.deepcopy),
    }


def operations(kind: str, backend: str, folder: Path) -> dict[str, Callable[[], Operation]]:
    """By name, a function that makes one on objects of its own."""
    found = of_networks(kind, backend, folder)
    if kind in FORWARDS:
        found |= of_streams(kind, backend) | of_pools(kind, backend)
    return found


#: These change nothing that anybody holds, and have many places: a sample of them is enough.
WITHOUT_CHANGE = (
    *("made", "load", "copy", "deepcopy", "pickle", "gradients", "gradients of checkpoints", "stream", "pool"),
    *("copy of a stream", "copy of a pool", "call with a mask"),
)
#: These may have been done whole when they raise: what comes after the change can fail, too.
MAY_BE_DONE = ("load_state_dict", "save")


#: Runs ``act`` and makes its n-th place fail. True if ``act`` has raised, None if there are less than n places.
Attempt = Callable[[Callable[[], Any], int], bool | None]


def places(name: str) -> Iterator[int]:
    return count(1, 17 if name in WITHOUT_CHANGE else 1)


def check(name: str, make: Callable[[], Operation], attempt: Attempt) -> None:
    """An operation fails at its first place, at its second, and so on."""
    at = checker(name, make, attempt)
    for place in places(name):
        if not at(place):
            return


def checker(name: str, make: Callable[[], Operation], attempt: Attempt) -> Callable[[int], bool]:
    """A function that lets one place fail: False if there are no more.

    After the operation has raised nothing may be different, and the next call does what it should.
    """
    usual = make()
    before = usual.look()
    result = bits(usual.act())
    after = usual.look()

    def at(place: int) -> bool:
        operation = make()
        assert operation.look() == before
        raised = attempt(operation.act, place)
        if raised is None:
            return False
        now = operation.look()
        if raised and now == before:
            assert bits(operation.act()) == result, f"{name}, place {place}: the next call answers otherwise"
            now = operation.look()
        elif raised:
            assert name in MAY_BE_DONE, f"{name}, place {place}: it raised, but has changed something"
        assert now == after, f"{name}, place {place}: half of it is done"
        return True

    return at
