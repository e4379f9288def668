"""``.pt`` files: real ones of PyTorch's own saver, and those that only pretend to hold weights."""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from fuzz_targets import rezipped, torch_pickle_target
from helpers import assert_close, assert_close_answer, assert_same_bits, in_one_storage, normal, run_python
from hostile import (
    Target,
    assert_refused_wherever_cut,
    assert_survives_changed_bytes,
    refused_in_little_memory,
)

import lstmkernel as lk

torch = pytest.importorskip("torch")

CONFIGURATIONS = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "projection": {"num_layers": 2, "proj_size": 2},
    "no bias": {"bias": False},
    "float64": {"dtype": torch.float64},
    "all": {"num_layers": 2, "bidirectional": True, "proj_size": 3, "bias": False},
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def torch_answer(module, x):
    with torch.no_grad():
        out, (h, c) = module.double()(torch.tensor(x, dtype=torch.float64))
    return out.numpy(), (h.numpy(), c.numpy())


def assert_runs_as(lstm, module):
    x = normal(np.random.default_rng(1), (7, 3, module.input_size), lstm.dtype.name)
    assert_close_answer(lstm(x), torch_answer(module, x), lstm.dtype.name)


# ---------------------------------------------------------------- what PyTorch saved


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_state_dict(options, path):
    module = torch.nn.LSTM(4, 5, **options)
    torch.save(module.state_dict(), path)
    lstm = lk.load(path)
    assert lstm.shape == lk.from_torch(module).shape
    for name, value in module.state_dict().items():
        assert_same_bits(lstm.state_dict()[name], value.numpy(), name)
    assert_runs_as(lstm, module)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(protocol, path):
    module = torch.nn.LSTM(4, 5)
    torch.save(module.state_dict(), path, pickle_protocol=protocol)
    assert_runs_as(lk.load(path), module)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype, path):
    module = torch.nn.LSTM(4, 5).to(dtype)
    torch.save(module.state_dict(), path)
    assert lk.inspect(path).tensors[0].dtype == str(dtype).removeprefix("torch.")
    lstm = lk.load(path)
    assert lstm.dtype == np.float32
    for name, value in module.state_dict().items():
        assert_same_bits(lstm.state_dict()[name], value.float().numpy(), name)
    assert_runs_as(lstm, module)


def test_views_that_share_a_storage_in_any_order(path):
    """As cuDNN lays weights out, and transposed, and with steps between elements."""
    module = torch.nn.LSTM(4, 5)
    state = module.state_dict()
    views = in_one_storage(state)
    views["weight_ih_l0"] = state["weight_ih_l0"].T.contiguous().T
    views["bias_ih_l0"] = torch.stack([state["bias_ih_l0"], torch.ones(20)], dim=1)[:, 0]
    torch.save(views, path)
    assert_runs_as(lk.load(path), module)


def test_parameters_and_other_values_in_a_checkpoint(path):
    model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(4, 5), "fc": torch.nn.Linear(5, 2)})
    optimizer = torch.optim.Adam(model.parameters())
    model["fc"](model["rnn"](torch.ones(2, 1, 4))[0]).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "best": 0.25,
        "model_state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "named": dict(model["rnn"].named_parameters()),
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
    }
    torch.save(checkpoint, path)
    found = lk.inspect(path)
    assert ("model_state_dict", "LSTM 4 -> 5, then Linear 5 -> 2") in found.networks
    assert ("model_state_dict.rnn", "LSTM 4 -> 5") in found.networks
    assert "epoch" in found.notes[0]
    with pytest.warns(RuntimeWarning, match="taken for a chain"):
        net = lk.load(path, prefix="model_state_dict")
    assert [type(layer) for layer in net.layers] == [lk.LSTM, lk.Dense]
    for prefix in ("model_state_dict.rnn", "named"):
        assert_runs_as(lk.load(path, prefix=prefix), model["rnn"])
    with pytest.raises(
        lk.FormatError,
        match=r"weights.pt: expected one LSTM, or LSTMs and a last Linear, got also optimizer.*'model_state_dict.rnn'",
    ):
        lk.load(path)


class Model(torch.nn.Module):
    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


def test_a_chain_with_a_head_is_a_stack(path):
    model = Model(
        first=torch.nn.LSTM(3, 4, bidirectional=True),
        second=torch.nn.LSTM(8, 8, 2),
        head=torch.nn.Linear(8, 2),
    )
    torch.save(torch.nn.DataParallel(model).state_dict(), path)
    net = lk.load(path, prefix=["module.first", "module.second", "module.head"])
    x = normal(np.random.default_rng(1), (6, 2, 3), "float32")
    with torch.no_grad():
        expected = model.double()(torch.tensor(x, dtype=torch.float64)).numpy()
    assert_close(net(x)[0], expected, "float32")


@pytest.mark.parametrize("bias", [True, False])
def test_a_cell(bias, path):
    cell = torch.nn.LSTMCell(4, 5, bias=bias)
    torch.save({"cell." + name: value for name, value in cell.state_dict().items()}, path)
    x = normal(np.random.default_rng(1), (2, 4), "float32")
    with torch.no_grad():
        h, c = (part.numpy() for part in cell.double()(torch.tensor(x, dtype=torch.float64)))
    assert_close_answer(lk.load(path)(x[None]), (h[None], (h[None], c[None])), "float32")


def test_a_file_that_was_zipped_anew_by_another_program(path):
    module = torch.nn.LSTM(4, 5)
    torch.save(module.state_dict(), path)
    path.write_bytes(rezipped(path.read_bytes(), {}, zipfile.ZIP_DEFLATED))
    assert_runs_as(lk.load(path), module)


def test_big_endian(path):
    module = torch.nn.LSTM(4, 5)
    torch.save(module.state_dict(), path)
    with zipfile.ZipFile(path) as file:
        changed = {
            n: np.frombuffer(file.read(n), "<f4").astype(">f4").tobytes() for n in file.namelist() if "/data/" in n
        }
    path.write_bytes(rezipped(path.read_bytes(), {**changed, "weights/byteorder": b"big"}))
    assert_runs_as(lk.load(path), module)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import lstmkernel as lk
print(lk.load(sys.argv[1]).input_size, lk.inspect(sys.argv[1]).networks[0].description)
"""


def test_pytorch_is_not_needed(path):
    torch.save(torch.nn.LSTM(4, 5).state_dict(), path)
    assert run_python(WITHOUT_TORCH, str(path)).stdout == "4 LSTM 4 -> 5\n"


# ---------------------------------------------------------------- refused, with the way out


def test_a_whole_module_is_refused(path):
    torch.save(torch.nn.LSTM(4, 5), path)
    with pytest.raises(
        lk.FormatError, match=r"tensors in torch\.nn\.modules\.rnn\.LSTM.*torch\.save\(model\.state_dict"
    ):
        lk.load(path)


def test_a_tensor_that_is_to_be_negated_yet_is_refused(path):
    """What is stored are the numbers without their minus, and beside them that it is there."""
    weights = torch.nn.LSTM(4, 5).state_dict()
    torch.save({**weights, "weight_ih_l0": torch._neg_view(weights["weight_ih_l0"])}, path)
    with pytest.raises(
        lk.FormatError, match=r"weight_ih_l0: expected numbers in the file, got a tensor whose.*negated"
    ):
        lk.load(path)


@pytest.mark.parametrize("kind", [torch.nn.GRU, torch.nn.RNN])
def test_another_recurrent_network_is_refused(kind, path):
    torch.save(kind(4, 5).state_dict(), path)
    with pytest.raises(lk.FormatError, match=r"weights.pt: weight_hh_l0: expected shape \(4H, H\)"):
        lk.load(path)


# ---------------------------------------------------------------- hostile pickles


def zipped(data: bytes, **members: bytes) -> bytes:
    """As torch.save lays it out: data.pkl, one storage of 8 float32 "0", what else is said."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {"data.pkl": data, "data/0": bytes(32), "version": b"3\n", **members}.items():
            archive.writestr(f"weights/{name}", content)
    return file.getvalue()


class Storage:
    """Pickled as torch.save pickles one."""

    def __init__(self, key="0", kind="FloatStorage", elements=8, tag="storage"):
        self.description = (tag, getattr(torch, kind), key, "cpu", elements)


class Tensor:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.description if isinstance(value, Storage) else None


def pickled(value, protocol=2) -> bytes:
    file = io.BytesIO()
    Pickler(file, protocol).dump(value)
    return file.getvalue()


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


STORAGE = Storage()
WEIGHTS = {"a": Tensor(STORAGE, 0, (4, 1), (1, 1)), "b": Tensor(STORAGE, 0, (4, 1), (1, 1))}
HOSTILE = {
    "a name cut off": (b"cos\nsys", "expected a line at byte"),
    "a call of no name": (b"\x80\x02K\x01)R.", "call of int"),
    "arguments that are none": (b"\x80\x02ctorch\nSize\nK\x01R.", "expected arguments, got int"),
    "attributes of a list": (b"\x80\x02]}b.", "expected an object to give attributes to, got list"),
    "items of a list": (b"\x80\x02]K\x01K\x02s.", "expected a dict to set items of, got list"),
    "appended to a dict": (b"\x80\x02}K\x01a.", "expected a list to append to, got Dict"),
    "an odd number of items": (b"\x80\x02}(K\x01u.", "a value for each key"),
    "an empty stack": (b"\x80\x02.", "one value at the end, got 0"),
    "two values": (b"\x80\x02NN.", "one value at the end, got 2"),
    "nothing to pop": (b"\x80\x02s.", "SETITEM at byte 2"),
    "no mark": (b"\x80\x02t.", "TUPLE at byte 2"),
    "no memo": (b"\x80\x02h\x05.", "memo: expected an entry 5"),
    "no end": (b"\x80\x02}", "expected STOP, got the end at byte 3"),
    "nothing": (b"", "expected STOP, got the end at byte 0"),
    "bytes behind the end": (b"\x80\x02}.}", "expected its end at byte 4, got it at 3"),
    "an unknown opcode": (b"\x80\x02\xff.", "unknown"),
    "a persistent id that is no storage": (pickled(Storage(tag="other")), "expected a storage as"),
    "a storage that is not there": (pickled({"a": Tensor(Storage("7"), 0, (4,), (1,))}), "a: storage '7' is not in"),
    "a key that leaves the folder": (pickled({"a": Tensor(Storage("../version"), 0, (1,), (1,))}), "is not in the zip"),
    "a storage that is longer": (
        pickled({"a": Tensor(Storage(elements=9), 0, (4,), (1,))}),
        "a storage of 9 float32, got 32",
    ),
    "a storage of petabytes": (
        pickled({"a": Tensor(Storage(elements=1 << 50), 0, (1 << 50,), (1,))}),
        "expected a number of",
    ),
    "a negative storage": (
        pickled({"a": Tensor(Storage(elements=-8), 0, (0,), (1,))}),
        "expected a number of elements, got -8",
    ),
    "another kind of storage": (
        pickled({"a": Tensor(Storage(kind="DoubleStorage"), 0, (4,), (1,))}),
        "8 float64, got 32",
    ),
    "a shape beyond": (pickled(Tensor(STORAGE, 0, (9,), (1,))), r"within its 8 elements, got shape \(9,\)"),
    "strides beyond": (pickled(Tensor(STORAGE, 0, (2, 2), (7, 1))), "within its 8 elements"),
    "an offset beyond": (pickled(Tensor(STORAGE, 8, (1,), (1,))), "within its 8 elements"),
    "an endless shape of one element": (pickled(Tensor(STORAGE, 0, (1 << 40,), (0,))), "within its 8 elements"),
    "sizes that overflow": (pickled(Tensor(STORAGE, 0, (1 << 32, 1 << 32), (1, 1))), "within its 8 elements"),
    "a negative size": (pickled(Tensor(STORAGE, 0, (-1,), (1,))), "sizes of at least 0"),
    "a negative stride": (pickled(Tensor(STORAGE, 7, (8,), (-1,))), "sizes of at least 0"),
    "a negative offset": (pickled(Tensor(STORAGE, -1, (1,), (1,))), "sizes of at least 0"),
    "a size that is none": (pickled(Tensor(STORAGE, 0, (1.0,), (1,))), "sizes of at least 0"),
    "a size that is a bool": (pickled(Tensor(STORAGE, 0, (True,), (1,))), "sizes of at least 0"),
    "a stride too few": (pickled(Tensor(STORAGE, 0, (1, 1), (1,))), "a stride for each"),
    "many dimensions": (pickled(Tensor(STORAGE, 0, (1,) * 40, (1,) * 40)), "at most 32 sizes"),
    "a tensor of no storage": (pickled(Tensor("0", 0, (1,), (1,))), "a tensor of a storage"),
    "a name twice": (pickled({"a.b": WEIGHTS["a"], "a": {"b": WEIGHTS["b"]}}), "a.b: the name is there twice"),
    "no weights": (pickled({"epoch": 3}), "no LSTM.*got nothing"),
}


#: Calls and classes: what they would make stands beside the weights, and is passed over.
PASSED_OVER = {
    "eval": (pickled(Calls(eval, "1 + 1")), r"a \(\w+.eval\)"),
    "system": (pickled(Calls(__import__("os").system, "touch pwned")), r"\.system"),
    "getattr": (pickled(Calls(getattr, "", "upper"), 4), "builtins.getattr"),
    "an import by hand": (b"cos\nsystem\n(S'touch pwned'\ntR.", "os.system"),
    "a string with escapes, which Python warns of": (b"S'\\ '\n.", "a"),
    "a name with escapes": (b"c\\ o\\x73\nsystem\n.", r"a \(\\ "),
    "an instance by hand": (b"(S'touch pwned'\nios\nsystem\n.", "os.system"),
    "an object by hand": (b"(cos\nsystem\nS'touch pwned'\no.", "os.system"),
    "an object": (b"\x80\x02ctorch\nSize\n)\x81.", "torch.Size"),
    "an object with arguments by name": (b"\x80\x04ctorch\nSize\n)}\x92}b.", "torch.Size"),
    "an extension": (b"\x80\x02\x82\x01.", "extension 1 of copyreg"),
    "a name that is called": (b"\x80\x02ctorch\nfloat32\n)R.", "torch.float32"),
    "a storage that is called": (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
    "attributes of what a call gives": (pickled(Calls(eval, "1"))[:-1] + b"}X\1\0\0\0aK\1sb.", "eval"),
    "a key that is a tuple": (b"\x80\x02})K\x01s.", "a.a tuple"),
    "a key that is a list of itself": (b"\x80\x02}]q\x00h\x00aK\x01s.", "a.a list"),
    "keys of any size": (b"\x80\x02}(\x8a\xfe" + b"\x7f" * 254 + b"K\x01NK\x01G" + bytes(8) + b"K\x01u.", "a.None"),
    "a container in itself": (b"\x80\x02]q\x00h\x00a.", ""),
    "containers without end": (b"\x80\x02" + b"]" * 900 + b"a" * 899 + b".", ""),
    "a set": (b"\x80\x04\x8f(K\x01K\x02\x90.", r"a \(a set\)"),
}


@pytest.mark.parametrize("what", PASSED_OVER)
def test_what_a_program_would_make_is_passed_over_and_nothing_is_executed(what, path, tmp_path, monkeypatch):
    data, note = PASSED_OVER[what]
    monkeypatch.chdir(tmp_path)
    head = data[:2] if data.startswith(b"\x80") else b""
    beside = b"}X\1\0\0\0a" + data[len(head) : -1] + b"s."
    path.write_bytes(zipped(head + beside))
    with pytest.raises(lk.FormatError, match="no LSTM"):
        lk.load(path)
    assert re.search(note, "".join(lk.inspect(path).notes))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_pickle_is_refused_and_nothing_is_executed(what, path, tmp_path, monkeypatch):
    data, message = HOSTILE[what]
    monkeypatch.chdir(tmp_path)
    path.write_bytes(zipped(data))
    for door in (lk.load, lk.inspect):
        if what == "no weights" and door is lk.inspect:
            continue
        with pytest.raises(lk.FormatError, match=message) as error:
            door(path)
        assert str(path) in str(error.value)
    assert not (tmp_path / "pwned").exists()


def test_containers_that_double_at_each_level_end_soon(path):
    """A tuple of a tuple twice, 30 times over: a billion values, in a hundred bytes."""
    path.write_bytes(zipped(b"\x80\x02K\x01" + b"q\x00h\x00\x86" * 30 + b"."))
    with pytest.raises(lk.FormatError, match="no LSTM"):
        lk.load(path)


# ---------------------------------------------------------------- hostile zips


def test_members_of_a_good_zip_that_are_not_as_they_should_be(path):
    good = torch_pickle_target()
    members = {
        "version": (b"99", "version: expected 1 to 10, got '99'"),
        "byteorder": (b"middle", "byteorder: expected little or big, got 'middle'"),
        "data/0": (b"1234567", "expected a storage of .* float32, got 7 bytes"),
        "../../evil": (b"", r"without '\.\.'"),
        "more/data.pkl": (b"", "one data.pkl in one folder, got 2"),
    }
    for name, (content, message) in members.items():
        path.write_bytes(rezipped(good.wrap(good.payload), {f"net/{name}": content}))
        with pytest.raises(lk.FormatError, match=message) as error:
            lk.load(path)
        assert str(path) in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(path):
    good = torch_pickle_target()
    path.write_bytes(good.wrap(good.payload))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("net/data/0", b"1234")
    with pytest.raises(lk.FormatError, match="'net/data/0' is there twice"):
        lk.load(path)


def test_a_changed_weight_is_found_by_the_checksum(path):
    torch.save(torch.nn.LSTM(4, 5).state_dict(), path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        data[file.getinfo("weights/data/0").header_offset + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(lk.FormatError, match="CRC"):
        lk.load(path)


@pytest.mark.slow
def test_cut_anywhere_or_changed(tmp_path):
    target = torch_pickle_target()
    assert_refused_wherever_cut(target, tmp_path)
    assert_survives_changed_bytes(target, tmp_path)
    torch.save(torch.nn.LSTM(1, 1).state_dict(), tmp_path / "small.pt")
    whole = Target("zip", ".pt", (tmp_path / "small.pt").read_bytes())
    assert_survives_changed_bytes(whole, tmp_path, range(0, len(whole.payload), 3))
    for size in range(len(whole.payload)):
        (tmp_path / "cut.pt").write_bytes(whole.payload[:size])
        with pytest.raises(lk.FormatError, match=r"cut\.pt"):
            lk.load(tmp_path / "cut.pt")


def deflated(data: bytes, **members: bytes) -> bytes:
    return rezipped(zipped(data, **members), {}, zipfile.ZIP_DEFLATED)


def many_members() -> bytes:
    return zipped(b"", **{f"data/{i}": b"" for i in range(40_000)})


LSTM_OF_ZEROS = {
    name: Tensor(Storage(elements=1 << 26), 0, shape, (1,) * len(shape))
    for name, shape in {"weight_ih_l0": (4, 1), "weight_hh_l0": (4, 1)}.items()
}
#: Each asks for far more memory than it has bytes.
BOMBS = {
    "zeros": (lambda: deflated(pickled(LSTM_OF_ZEROS), **{"data/0": bytes(1 << 28)}), "max_bytes="),
    "a pickle of zeros": (lambda: deflated(bytes(1 << 27)), "max_bytes="),
    "a pickle of lists": (lambda: zipped(b"\x80\x02" + b"]" * (12 << 20)), "pickle: its values: expected at most"),
    "dicts in the memo": (lambda: zipped(b"\x80\x04" + b"}\x94" * (1 << 20)), "pickle: its values: expected at most"),
    "marks": (lambda: zipped(b"\x80\x02" + b"(" * (1 << 20)), "pickle: its values: expected at most"),
    "a memo far away": (lambda: zipped(b"\x80\x02}r\xff\xff\xff\x7f" + b"\x8e" + b"\xff" * 8), "pickle"),
    "an endless string": (lambda: zipped(b"\x80\x02X\xff\xff\xff\x7f"), "pickle: expected"),
    "many members": (many_members, "directory"),
    "one storage many times": (
        lambda: zipped(
            pickled({f"weight_ih_l{i}": Tensor(Storage(elements=1 << 18), 0, (1 << 18, 1), (1, 1)) for i in range(900)}
            | {f"weight_hh_l{i}": Tensor(Storage(elements=1 << 18), 0, (1 << 9, 1 << 9), (1, 1)) for i in range(900)}),
            **{"data/0": bytes(1 << 20)},
        ),
        "share storages|expected shape",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_in_little_memory(what, path, tmp_path):
    make, message = BOMBS[what]
    path.write_bytes(make())
    torch.save(torch.nn.LSTM(1, 1).state_dict(), tmp_path / "good.pt")
    said = refused_in_little_memory(path, tmp_path / "good.pt")
    assert re.search(message, said), said


def test_the_limit_can_be_raised(path):
    module = torch.nn.LSTM(1, 1200)
    torch.save({name: torch.zeros_like(value) for name, value in module.state_dict().items()}, path)
    path.write_bytes(rezipped(path.read_bytes(), {}, zipfile.ZIP_DEFLATED))
    with pytest.raises(lk.FormatError, match="when unpacked"):
        lk.load(path, max_bytes=1 << 20)
    with pytest.raises(lk.FormatError, match="when unpacked"):
        lk.inspect(path, max_bytes=1 << 20)
    lk.load(path, max_bytes=1 << 28)


def test_a_list_that_doubles_at_each_level_is_not_written_out(path):
    """As the last argument of the call that makes a tensor: its flags."""
    doubled = [1]
    for _ in range(40):
        doubled = [doubled, doubled]
    tensor = Calls(torch._utils._rebuild_tensor_v2, STORAGE, 0, (4, 1), (1, 1), False, OrderedDict(), doubled)
    path.write_bytes(zipped(pickled({"weight_ih_l0": tensor})))
    assert not lk.inspect(path).networks
    assert any("no LSTM that can be loaded" in note for note in lk.inspect(path).notes)
    with pytest.raises(lk.FormatError, match="weight_ih_l0: expected numbers in the file"):
        lk.load(path)


@pytest.mark.parametrize("stride", [1 << 62, 1 << 70, 1 << 1000])
def test_a_stride_along_one_element_may_be_anything(stride, path):
    state = {
        "weight_ih_l0": Tensor(STORAGE, 0, (4, 1), (1, stride)),
        "weight_hh_l0": Tensor(STORAGE, 0, (4, 1), (1, stride)),
    }
    path.write_bytes(zipped(pickled(state)))
    assert lk.load(path).input_size == 1
    state["weight_hh_l0"] = Tensor(STORAGE, 0, (0, 1 << 70), (1, stride))
    path.write_bytes(zipped(pickled(state)))
    with pytest.raises(lk.FormatError, match="within its 8 elements"):
        lk.load(path)
