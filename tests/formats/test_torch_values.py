"""Values of programs beside the weights in ``.pt`` files: passed over and told; nothing of them is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import pathlib
import pickle
import time
import warnings

import numpy as np
import pytest
from helpers import assert_same_bits

import lstmkernel as lk

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self):
        self.rate = 0.1


class Slots:
    __slots__ = ("a",)

    def __init__(self):
        self.a = 1


class Listed(list):
    pass


class Named(dict):
    pass


class Reduced:
    def __reduce__(self):
        return Reduced, (), {"state": 1}, iter([1, 2]), iter([("a", 1)])


class ByName:
    def __new__(cls, *, a=0):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}


def optimizer():
    module = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    adam.step()
    return adam.state_dict()


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


BESIDE = {
    "a Namespace": lambda: argparse.Namespace(hidden=5),
    "a number of NumPy": lambda: np.float64(0.25),
    "a number and a bool of NumPy": lambda: [np.int32(3), np.bool_(True), np.datetime64("2020-01-01")],
    "an array": lambda: np.arange(6.0).reshape(2, 3),
    "an array of texts": lambda: np.array(["a", "bc"]),
    "an array of objects": lambda: np.array([None, {}], dtype=object),
    "a structured array": lambda: np.zeros(2, [("a", "f4"), ("b", "i8")]),
    "a random state": lambda: [np.random.get_state(), torch.get_rng_state()],
    "sets": lambda: [{1, 2}, frozenset("ab")],
    "bytes": lambda: [b"abc", bytearray(b"x" * 300), b""],
    "dates": lambda: [datetime.datetime(2020, 1, 1), datetime.timedelta(3), datetime.UTC],
    "a path": lambda: [pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("c")],
    "an enum": lambda: Colour.RED,
    "objects": lambda: [Plain(), Slots(), Listed([1]), Named(a=1), Reduced(), ByName()],
    "classes and functions": lambda: [Plain, len, torch.nn.LSTM, torch.relu],
    "a version": lambda: torch.torch_version.TorchVersion("2.6.0"),
    "collections": lambda: [
        *(collections.Counter("aab"), collections.defaultdict(list, a=[1]), collections.deque([1, 2])),
        collections.OrderedDict(a=1),
    ],
    "keys of any kind": lambda: {(1, 2): 1, None: 2, 0.5: 3, 1 << 40: 4, -(1 << 200): 5, b"a": 6, True: 7, "a.b": 8},
    "numbers": lambda: [1 << 3000, -1, 2.5, 1j, range(3), slice(1, 2), ...],
    "an optimizer": optimizer,
    "a module": lambda: torch.nn.Linear(2, 2),
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a quantized tensor": quantized,
    "a float8 tensor": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "other dtypes": lambda: [
        torch.ones(3, dtype=getattr(torch, dtype)) for dtype in ("uint16", "uint64", "complex64", "bool", "bfloat16")
    ],
    "a meta tensor": lambda: torch.ones(3, device="meta"),
    "a tensor with attributes": lambda: attributed(torch.ones(3)),
    "a storage": lambda: torch.ones(3).untyped_storage(),
    "a generator's dtype and layout": lambda: [torch.float16, torch.strided, torch.device("cpu"), torch.Size([1])],
    "deep lists": lambda: nested(25),
    "a container in itself": lambda: itself(),
    "strings of any kind": lambda: ["ü" * 300, "\ud800", "a\nb", ""],
}  # fmt: skip


def attributed(tensor):
    tensor.label = "x"
    return tensor


def nested(depth):
    return [nested(depth - 1)] if depth else [1]


def itself():
    found = [1]
    found.append(found)
    return found


def saved(value, path, how, protocol):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "bare":
            path.write_bytes(pickle.dumps(value, protocol))
        else:
            torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=how == "zip")


@pytest.mark.parametrize("how", ["zip", "old"])
@pytest.mark.parametrize("what", BESIDE)
def test_what_is_beside_the_weights(what, how, tmp_path):
    module, path = torch.nn.LSTM(4, 5), tmp_path / "net.pt"
    for protocol in (2, 4):
        saved(
            {"before": BESIDE[what](), "state_dict": module.state_dict(), "after": BESIDE[what]()}, path, how, protocol
        )
        found = lk.inspect(path)
        assert "state_dict" in [network.prefix for network in found.networks]
        assert any("before" in note for note in found.notes) or any("before" in t.name for t in found.tensors)
        repr(found)
        lstm = lk.load(path, prefix="state_dict")
        for name, value in module.state_dict().items():
            assert_same_bits(lstm.state_dict()[name], value.numpy(), name)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_of_numpy_are_weights(protocol, tmp_path):
    module = torch.nn.LSTM(4, 5)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    weights["weight_ih_l0"] = np.asfortranarray(weights["weight_ih_l0"])
    weights["bias_ih_l0"] = weights["bias_ih_l0"].astype(">f4")
    for how in ("zip", "bare") if protocol >= 2 else ("zip",):
        saved({"epoch": 3, "net": weights}, tmp_path / "net.pt", how, protocol)
        lstm = lk.load(tmp_path / "net.pt", prefix="net")
        for name, value in module.state_dict().items():
            assert_same_bits(lstm.state_dict()[name], value.numpy(), name)


@pytest.mark.parametrize("how", ["zip", "old"])
def test_kinds_of_tensors(how, tmp_path):
    module = torch.nn.LSTM(4, 5)
    state = dict(module.named_parameters())
    state["bias_ih_l0"] = attributed(state["bias_ih_l0"].detach())
    state["bias_hh_l0"].label = "a Parameter with attributes"
    saved(state, tmp_path / "net.pt", how, 2)
    for name, value in lk.load(tmp_path / "net.pt").state_dict().items():
        assert_same_bits(value, module.state_dict()[name].numpy(), name)


def test_a_vocabulary_of_many_words(tmp_path):
    words = {f"word{number}": number for number in range(200_000)}
    torch.save({"vocabulary": words, "net": torch.nn.LSTM(300, 200).state_dict()}, tmp_path / "net.pt")
    start = time.monotonic()
    assert lk.load(tmp_path / "net.pt", prefix="net").input_size == 300
    assert time.monotonic() - start < 30


WEIGHTS_OF_PROGRAMS = {
    "sparse": (lambda w: w.to_sparse(), "weight_ih_l0: expected numbers in the file, got torch._utils._rebuild_sparse"),
    "float8": (lambda w: w.to(torch.float8_e4m3fn), "weight_ih_l0: expected .*float8"),
    "complex": (lambda w: w.to(torch.complex64), "weight_ih_l0: expected floating-point numbers, got complex64"),
    "meta": (lambda w: w.to("meta"), "weight_ih_l0: expected numbers in the file, got torch._utils._rebuild_meta"),
    "a text": (lambda w: "lost", "missing weight_ih_l0"),
}


@pytest.mark.parametrize("what", WEIGHTS_OF_PROGRAMS)
def test_a_weight_that_only_a_program_can_make_is_refused(what, tmp_path):
    change, message = WEIGHTS_OF_PROGRAMS[what]
    state = torch.nn.LSTM(4, 5).state_dict()
    torch.save({"rnn": {**state, "weight_ih_l0": change(state["weight_ih_l0"])}}, tmp_path / "net.pt")
    with pytest.raises(lk.FormatError, match=message):
        lk.load(tmp_path / "net.pt", prefix="rnn")
    assert not lk.inspect(tmp_path / "net.pt").networks
    if what != "a text":
        with pytest.raises(ValueError, match="weight_ih_l0: expected"):
            lk.from_torch({**state, "weight_ih_l0": change(state["weight_ih_l0"])})


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 5)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda: Model(), r"test_torch_values\.Model"),
        (lambda: {"model": Model()}, r"model \(.*Model\)"),
        (lambda: {"net": Named(torch.nn.LSTM(4, 5).state_dict())}, r"net \(.*Named\)"),
        (lambda: argparse.Namespace(weights=torch.nn.LSTM(4, 5).state_dict()), r"argparse\.Namespace"),
    ],
)
def test_weights_in_an_object_of_a_program_are_refused_by_its_name(value, named, tmp_path):
    saved(value(), tmp_path / "net.pt", "zip", 2)
    with pytest.raises(lk.FormatError, match=rf"there are tensors in {named}.*torch\.save\(model\.state_dict"):
        lk.load(tmp_path / "net.pt")
    assert any("tensors in an object of a program" in note for note in lk.inspect(tmp_path / "net.pt").notes)


def test_masked_arrays_are_refused():
    state = {name: value.numpy() for name, value in torch.nn.LSTM(4, 5).state_dict().items()}
    state["bias_ih_l0"] = np.ma.masked_less(state["bias_ih_l0"], 0)
    with pytest.raises(TypeError, match="bias_ih_l0: expected an array, got a masked array"):
        lk.from_torch(state)
