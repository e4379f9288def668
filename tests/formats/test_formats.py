"""Weights in and out: PyTorch's modules and state_dicts, safetensors files, and all that is refused."""

import json
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import DATA, assert_close_answer, assert_same_bits, normal, run_python, torch_twin
from hostile import Target, assert_refused_wherever_cut, assert_survives_changed_bytes
from safetensors.numpy import load_file, save_file

import lstmkernel as lk

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

CONFIGURATIONS = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "projection": {"num_layers": 2, "proj_size": 2},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "all": {"num_layers": 2, "bidirectional": True, "proj_size": 3, "bias": False, "batch_first": True},
}
every_configuration = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def torch_lstm(dtype=torch.float32, **options):
    torch.manual_seed(3)
    return torch.nn.LSTM(4, 5, **options, dtype=dtype).requires_grad_(False)


def answer_of(module, x):
    out, (h, c) = module(torch.tensor(x))
    return out.numpy(), (h.numpy(), c.numpy())


def assert_same_parameters(got, expected):
    assert list(got) == list(expected)
    for name, value in got.items():
        assert_same_bits(value, np.asarray(expected[name]), name)


# ---------------------------------------------------------------- PyTorch


@every_configuration
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_a_module(options, dtype, backend):
    module = torch_lstm(dtype, **options)
    lstm = lk.from_torch(module, backend=backend)
    assert isinstance(lstm, lk.LSTM)
    assert lstm.backend == backend
    assert {name: getattr(lstm, name) for name in options if name != "bias"} == {
        name: value for name, value in options.items() if name != "bias"
    }
    assert_same_parameters(lstm.state_dict(), module.state_dict())
    x = normal(np.random.default_rng(1), (3, 2, 4), lstm.dtype.name)
    assert_close_answer(lstm(x), answer_of(module.double(), x.astype("float64")), lstm.dtype.name)


@every_configuration
def test_from_a_state_dict(options):
    module = torch_lstm(**options)
    arrays = {name: value.numpy() for name, value in module.state_dict().items()}
    for source in (module.state_dict(), arrays):
        lstm = lk.from_torch(source, batch_first=options.get("batch_first", False))
        assert_same_parameters(lstm.state_dict(), module.state_dict())
        assert lstm.shape == lk.from_torch(module).shape


def test_a_module_in_training_with_gradients():
    module = torch.nn.LSTM(4, 5)
    assert_same_parameters(lk.from_torch(module).state_dict(), {k: v.detach() for k, v in module.state_dict().items()})
    named = dict(module.named_parameters())
    assert_same_parameters(lk.from_torch(named).state_dict(), {name: value.detach() for name, value in named.items()})


class Model(torch.nn.Module):
    """Two LSTMs, one of them nested, beside other layers."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(2, 4)
        self.encoder = torch.nn.ModuleDict({"rnn": torch_lstm(num_layers=2, batch_first=True)})
        self.decoder = torch_lstm(bidirectional=True)
        self.gru = torch.nn.GRU(4, 5)


@pytest.mark.parametrize("dot", ["", "."])
def test_a_prefix_picks_one_of_several(dot):
    model = Model()
    encoder = lk.from_torch(model, prefix=f"encoder.rnn{dot}")
    assert_same_parameters(encoder.state_dict(), model.encoder["rnn"].state_dict())
    assert encoder.batch_first
    decoder = lk.from_torch(model.state_dict(), prefix=f"decoder{dot}")
    assert_same_parameters(decoder.state_dict(), model.decoder.state_dict())
    assert not decoder.batch_first


def test_a_lone_lstm_in_a_model_needs_no_prefix():
    model = torch.nn.ModuleDict({"lstm": torch_lstm(batch_first=True)})
    lstm = lk.from_torch(model)
    assert_same_parameters(lstm.state_dict(), model["lstm"].state_dict())
    assert lstm.batch_first  # the module's own


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (None, "encoder.rnn.*decoder"),
        ("nothing", "prefix 'nothing.*encoder.rnn.*decoder"),
        ("enc", "prefix 'enc.*encoder.rnn"),
        ("gru", "GRU"),
    ],
)
def test_a_wrong_prefix_is_refused_and_the_right_ones_named(prefix, message):
    with pytest.raises(ValueError, match=message):
        lk.from_torch(Model().state_dict(), prefix=prefix)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", [None, "cell"])
def test_a_cells_names_are_an_lstm_of_one_layer(bias, prefix):
    cell = torch.nn.LSTMCell(4, 5, bias=bias).requires_grad_(False)
    source = torch.nn.ModuleDict({"cell": cell, "head": torch.nn.Linear(5, 1)}) if prefix else cell
    lstm = lk.from_torch(source, prefix=prefix)
    x = normal(np.random.default_rng(1), (2, 4), "float32")
    h, c = (part.numpy() for part in cell.double()(torch.tensor(x, dtype=torch.float64)))
    assert_close_answer(lstm(x[None]), (h[None], (h[None], c[None])), "float32")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    module = torch_lstm(dtype)
    lstm = lk.from_torch(module)
    assert lstm.dtype == np.float32
    assert_same_parameters(lstm.state_dict(), {name: value.float() for name, value in module.state_dict().items()})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_options_are_the_models(dtype):
    lstm = lk.from_torch(torch_lstm(), dtype=dtype, backend="numpy", batch_first=True, num_threads=2)
    assert (lstm.dtype.name, lstm.backend, lstm.batch_first, lstm.num_threads) == (dtype, "numpy", True, 2)
    with pytest.raises(TypeError, match=r"unexpected keyword argument .hidden"):
        lk.from_torch(torch_lstm(), hidden=3)


@pytest.mark.parametrize("source", [None, 3, "path", [("weight_ih_l0", 1)], torch.ones(1)])
def test_what_is_no_model_is_refused(source):
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, a list of them, or a state_dict|modules"):
        lk.from_torch(source)


# ---------------------------------------------------------------- refused by name


def parameters(**changed):
    named = {name: value.numpy() for name, value in torch_lstm(num_layers=2).state_dict().items()}
    named.update(changed)
    return {name: value for name, value in named.items() if value is not None}


GRU = {name: value.numpy() for name, value in torch.nn.GRU(4, 5).requires_grad_(False).state_dict().items()}
RNN = {name: value.numpy() for name, value in torch.nn.RNN(4, 5).requires_grad_(False).state_dict().items()}
REFUSED = {
    "nothing": ({}, "no LSTM"),
    "no LSTM": ({"fc.weight": np.ones((2, 2), "f")}, "no LSTM.*fc.weight"),
    "missing at the start": (parameters(weight_ih_l0=None), "missing weight_ih_l0"),
    "missing recurrent": (parameters(weight_hh_l0=None), "missing weight_hh_l0"),
    "missing above": (parameters(weight_hh_l1=None), "missing weight_hh_l1"),
    "missing bias": (parameters(bias_hh_l1=None), "missing bias_hh_l1"),
    "a bias of one kind": (parameters(bias_ih_l0=None), "superfluous bias_hh_l0"),
    "a layer skipped": (parameters(weight_ih_l3=np.ones((20, 5), "f")), "missing .*weight_hh_l2"),
    "half a direction": (parameters(weight_ih_l0_reverse=np.ones((20, 4), "f")), "missing .*weight_hh_l0_reverse"),
    "superfluous": (parameters(weight_xx_l0=np.ones(1, "f")), "weight_xx_l0"),
    "misshapen input": (
        parameters(weight_ih_l1=np.ones((20, 6), "f")),
        r"weight_ih_l1: expected .*\(20, 5\).*\(20, 6\)",
    ),
    "misshapen rows": (parameters(weight_ih_l0=np.ones((19, 4), "f")), r"weight_ih_l0: expected shape \(20, 4\)"),
    "misshapen recurrent": (parameters(weight_hh_l0=np.ones((20, 6), "f")), r"weight_hh_l0: expected .*\(20, 6\)"),
    "a vector": (parameters(weight_hh_l0=np.ones(20, "f")), r"weight_hh_l0: expected a matrix, got shape \(20,\)"),
    "empty": (parameters(weight_ih_l0=np.ones((20, 0), "f")), r"weight_ih_l0: expected a matrix, got shape \(20, 0\)"),
    "misshapen bias": (parameters(bias_ih_l1=np.ones(21, "f")), r"bias_ih_l1: expected shape \(20,\), got \(21,\)"),
    "a projection too wide": (
        parameters(weight_hr_l0=np.ones((5, 5), "f")),
        "proj_size: expected less than hidden_size = 5, got 5",
    ),
    "GRU": (GRU, r"weight_hh_l0: expected shape \(4H, H\), got \(15, 5\).*GRU"),
    "RNN": (RNN, r"weight_hh_l0: expected shape \(4H, H\).*got \(5, 5\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_from_a_mapping(what):
    mapping, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        lk.from_torch(mapping)


@pytest.mark.parametrize("what", REFUSED)
def test_refused_from_a_file_that_is_named(what, tmp_path):
    mapping, message = REFUSED[what]
    path = tmp_path / "wrong.safetensors"
    save_file(mapping, path)
    with pytest.raises(ValueError, match=message) as error:
        lk.load(path)
    assert str(path) in str(error.value)


def test_integers_in_a_file_are_refused_and_the_file_named(tmp_path):
    path = tmp_path / "integers.safetensors"
    save_file(parameters(bias_ih_l0=np.ones(20, "int32")), path)
    with pytest.raises(ValueError, match="bias_ih_l0: expected floating-point numbers, got int32") as error:
        lk.load(path)
    assert str(path) in str(error.value)


def test_the_rest_of_a_large_model_is_not_read(tmp_path):
    """Nor need it be of a dtype that NumPy has."""
    module, path = torch_lstm(), tmp_path / "model.safetensors"
    tensors = {f"encoder.{name}": value for name, value in module.state_dict().items()}
    safetensors_torch.save_file({**tensors, "head.weight": torch.ones(3, dtype=torch.bfloat16)}, path)
    assert_same_parameters(lk.load(path, prefix="encoder").state_dict(), module.state_dict())


def test_bfloat16_weights_in_a_file_are_widened(tmp_path):
    path, module = tmp_path / "model.safetensors", torch_lstm(torch.bfloat16)
    safetensors_torch.save_file(module.state_dict(), path)
    lstm = lk.load(path)
    assert lstm.dtype == np.float32
    assert_same_parameters(lstm.state_dict(), {name: value.float() for name, value in module.state_dict().items()})
    safetensors_torch.save_file(module.to(torch.float8_e4m3fn).state_dict(), path)
    with pytest.raises(lk.FormatError, match=r"model\.safetensors: \w+_l0: expected floating-point.*, got F8_E4M3"):
        lk.load(path)


def test_many_threads_may_save_to_one_path(tmp_path):
    path, lstm = tmp_path / "net.safetensors", lk.LSTM(2, 3, seed=1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: lk.save(lstm, path), range(60)))
    assert_same_parameters(lk.load(path).state_dict(), lstm.state_dict())
    assert os.listdir(tmp_path) == ["net.safetensors"]


COUNTLESS_LAYERS = """
import resource, numpy as np, lstmkernel as lk
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
weights = {name: np.ones((4, 1), "f") for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l99999999999")}
try:
    lk.from_torch(weights)
except (ValueError, MemoryError) as error:
    print(type(error).__name__, str(error)[:1000])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on memory")
def test_a_name_that_speaks_of_countless_layers_is_refused_at_once():
    assert run_python(COUNTLESS_LAYERS, timeout=20).stdout.startswith("ValueError")


# ---------------------------------------------------------------- files


def networks():
    lstm = lk.LSTM(4, 6, 2, bidirectional=True, proj_size=2, batch_first=True, seed=1)
    return {
        **{f"LSTM {name}": lk.LSTM(4, 5, **options, seed=1) for name, options in CONFIGURATIONS.items()},
        "LSTM float64": lk.LSTM(4, 5, dtype="float64", seed=1),
        "LSTMCell": lk.LSTMCell(4, 5, bias=False, dtype="float64", seed=1),
        "Dense": lk.Dense(4, 5, "sigmoid", bias=False, seed=1),
        "Stack": lk.Stack([lstm, lk.Dense(4, 3, "tanh", seed=1), lk.LSTM(3, 2, batch_first=True, seed=1)]),
        "Classifier": lk.Stack([lk.LSTM(4, 6, seed=1), lk.Dense(6, 3, "softmax", seed=1)]),
        "Stack of twelve": lk.Stack([lk.Dense(4, 4, "relu", seed=i) for i in range(12)]),
    }


def test_what_save_wrote_in_words(tmp_path):
    said = {
        "LSTM plain": "LSTM 4 -> 5",
        "LSTM all": "LSTM 4 -> 5, 2 layers, projected to 3, both directions, no bias",
        "LSTMCell": "LSTMCell 4 -> 5, no bias",
        "Dense": "Dense 4 -> 5, sigmoid, no bias",
        "Stack": "LSTM 4 -> 6, 2 layers, projected to 2, both directions, then Dense 4 -> 3, tanh, then LSTM 3 -> 2",
        "Classifier": "LSTM 4 -> 6, then Dense 6 -> 3, softmax",
    }
    for kind, words in said.items():
        lk.save(networks()[kind], tmp_path / "net")
        found = lk.inspect(tmp_path / "net")
        assert found.networks[0] == ("", words)
        assert found.notes == ["written by lstmkernel.save"]


def without_place(config):
    return {name: value for name, value in config.items() if name not in ("backend", "num_threads")}


@pytest.mark.parametrize("kind", networks())
def test_saved_and_loaded(kind, tmp_path):
    net, path = networks()[kind], tmp_path / "net.safetensors"
    lk.save(net, path)
    again = lk.load(str(path))
    assert type(again) is type(net)
    assert_same_parameters(again.state_dict(), net.state_dict())
    layers = zip(getattr(net, "layers", [net]), getattr(again, "layers", [again]), strict=True)
    assert all(without_place(a.config()) == without_place(b.config()) for a, b in layers)
    x = normal(np.random.default_rng(1), (3, 4), "float32")
    assert repr(again) == repr(net)
    for got, expected in zip(arrays(again(x)), arrays(net(x)), strict=True):
        assert_same_bits(got, expected)
    assert os.listdir(tmp_path) == ["net.safetensors"]


def arrays(result):
    return [result] if isinstance(result, np.ndarray) else [a for part in result for a in arrays(part)]


@pytest.mark.parametrize("kind", ["LSTM plain", "LSTMCell", "Dense", "Stack"])
@pytest.mark.parametrize("backend_option", ["numpy", "auto"])
def test_loaded_onto_another_backend_and_dtype(kind, backend_option, tmp_path):
    lk.save(networks()[kind], tmp_path / "net")
    net = lk.load(tmp_path / "net", backend=backend_option, dtype="float64")
    if backend_option == "numpy":
        assert net.backend == "numpy"
    assert all(value.dtype == np.float64 for value in net.state_dict().values())


@pytest.mark.parametrize("kind", ["LSTM plain", "LSTMCell", "Dense", "Stack"])
@pytest.mark.parametrize("option", [{"num_threads": 1}, {"batch_first": True}])
def test_options_of_an_lstm_load_every_kind(kind, option, tmp_path):
    """Layers that have no such option are not concerned."""
    lk.save(networks()[kind], tmp_path / "net")
    net = lk.load(tmp_path / "net", **option)
    for layer in getattr(net, "layers", [net]):
        if isinstance(layer, lk.LSTM):
            assert {name: layer.config()[name] for name in option} == option


@pytest.mark.parametrize("kind", ["LSTM plain", "LSTMCell", "Dense", "Stack"])
def test_an_unknown_option_is_a_type_error_that_names_it(kind, tmp_path):
    lk.save(networks()[kind], tmp_path / "net")
    with pytest.raises(TypeError, match="hidden"):
        lk.load(tmp_path / "net", hidden=3)


@every_configuration
def test_a_file_that_pytorch_saved(options, tmp_path):
    module, path = torch_lstm(**options), tmp_path / "torch.safetensors"
    safetensors_torch.save_file(module.state_dict(), path)
    lstm = lk.load(path, batch_first=options.get("batch_first", False))
    assert lstm.dtype == np.float32
    assert lstm.shape == lk.from_torch(module).shape
    assert_same_parameters(
        {name: lstm.state_dict()[name] for name in sorted(module.state_dict())},
        dict(sorted(module.state_dict().items())),
    )


@every_configuration
def test_a_file_that_pytorch_can_load(options, tmp_path):
    lstm, path = lk.LSTM(4, 5, **options, seed=1), tmp_path / "net.safetensors"
    lk.save(lstm, path)
    module = torch_lstm(**options)
    module.load_state_dict(safetensors_torch.load_file(path), strict=True)
    x = normal(np.random.default_rng(1), (3, 2, 4), "float32")
    assert_close_answer(lstm(x), answer_of(torch_twin(lstm), x.astype("float64")), "float32")
    assert_same_parameters(lstm.state_dict(), module.state_dict())


def test_one_of_several_in_a_file(tmp_path):
    model, path = Model(), tmp_path / "model.safetensors"
    safetensors_torch.save_file(model.state_dict(), path)
    lstm = lk.load(path, prefix="decoder", dtype="float64")
    assert lstm.bidirectional
    assert lstm.dtype == np.float64
    for prefix in (None, "nothing", "gru"):
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            lk.load(path, prefix=prefix)


def test_half_precision_in_a_file(tmp_path):
    safetensors_torch.save_file(torch_lstm(torch.float16).state_dict(), tmp_path / "half.safetensors")
    lstm = lk.load(tmp_path / "half.safetensors")
    assert lstm.dtype == np.float32
    assert np.array_equal(lstm.state_dict()["weight_hh_l0"], torch_lstm(torch.float16).weight_hh_l0.numpy())


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        lk.load(tmp_path / "nowhere.safetensors")
    with pytest.raises((FileNotFoundError, IsADirectoryError), match=tmp_path.name):
        lk.load(tmp_path)


# ---------------------------------------------------------------- broken files


def test_a_file_cut_anywhere_is_refused(tmp_path):
    lk.save(lk.LSTM(1, 1, seed=1), tmp_path / "net.safetensors")
    target = Target("safetensors", ".safetensors", (tmp_path / "net.safetensors").read_bytes())
    assert_refused_wherever_cut(target, tmp_path)


def test_a_header_with_any_byte_changed_never_crashes(tmp_path):
    lk.save(lk.LSTM(1, 1, seed=1), tmp_path / "net.safetensors")
    target = Target("safetensors", ".safetensors", (tmp_path / "net.safetensors").read_bytes())
    end_of_header = 8 + struct.unpack("<Q", target.payload[:8])[0]
    assert_survives_changed_bytes(target, tmp_path, range(end_of_header))


METADATA = {
    "empty": "",
    "no JSON": "not json",
    "null": "null",
    "a number": "3",
    "no layers": "[]",
    "no type": "{}",
    "a list of lists": "[[]]",
    "a string": '"LSTM"',
    "no sizes": '{"type": "LSTM"}',
    "a type that is a list": '{"type": []}',
    "an unknown type": '{"type": "GRU", "input_size": 1}',
    "a size that is a string": '{"type": "LSTM", "input_size": "1"}',
    "a cell in a stack": '[{"type": "LSTMCell", "input_size": 1, "hidden_size": 1, "bias": true, "dtype": "float32"}]',
    "lists without end": "[" * 100_000,
    "objects without end": '{"a":' * 100_000,
}


@pytest.mark.parametrize("what", METADATA)
def test_spoiled_metadata_is_a_value_error(what, tmp_path):
    path = tmp_path / "net.safetensors"
    cell = {f"{prefix}{name}": v for name, v in lk.LSTMCell(1, 1).state_dict().items() for prefix in ("", "0.")}
    save_file(cell, path, {"lstmkernel": METADATA[what]})
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        lk.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": 2},
        {"hidden_size": 2**62},
        {"hidden_size": -1},
        {"hidden_size": 1.5},
        {"proj_size": 7},
        {"dtype": "float16"},
        {"dtype": "nonsense"},
        {"dtype": 3},
        {"num_layers": 2},
        {"surprise": 1},
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_the_tensors(change, tmp_path):
    path = tmp_path / "net.safetensors"
    lstm = lk.LSTM(1, 1)
    description = {"type": "LSTM", **without_place(lstm.config()), **change}
    save_file(lstm.state_dict(), path, {"lstmkernel": json.dumps(description)})
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        lk.load(path)


@pytest.mark.parametrize("name", ["1.surprise", "7.weight", "surprise"])
def test_a_superfluous_tensor_in_a_stacks_file_is_refused_by_name(name, tmp_path):
    path = tmp_path / "net.safetensors"
    lk.save(networks()["Stack"], path)
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file({**load_file(path), name: np.ones(1, "f")}, path, metadata)
    with pytest.raises(ValueError, match=f"superfluous .*{name.removeprefix('1.')}"):
        lk.load(path)


def bad_files():
    manifest = DATA / "bad_safetensors" / "MANIFEST.json"
    return json.loads(manifest.read_text()) if manifest.exists() else [{"file": "", "upstream_says": "absent"}]


@pytest.mark.parametrize("entry", bad_files(), ids=lambda entry: entry["file"])
def test_files_that_others_broke(entry, data):
    """Refused, each one: those that upstream can load hold no LSTM."""
    path = data / "bad_safetensors" / entry["file"]
    loads = entry["upstream_says"] == "must load"
    with pytest.raises(ValueError, match="no LSTM" if loads else "not a safetensors file|an empty file") as error:
        lk.load(path)
    assert entry["file"] in str(error.value)


# ---------------------------------------------------------------- a save that fails


@pytest.mark.parametrize("exception", [OSError("disk full"), KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("culprit", ["write", "os.replace"])
def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, culprit, exception):
    from lstmkernel.formats import safetensors

    path = tmp_path / "net.safetensors"
    lk.save(lk.LSTM(2, 3, seed=1), path)
    before, replacing = path.read_bytes(), safetensors.replacing

    @contextmanager
    def half_written(name):
        with replacing(name) as file:
            yield file
            file.truncate(100)
            raise exception

    def fail(*_):
        raise exception

    with monkeypatch.context() as patched:
        if culprit == "write":
            patched.setattr(safetensors, "replacing", half_written)
        else:
            patched.setattr(os, "replace", fail)
        with pytest.raises(type(exception)):
            lk.save(lk.LSTM(2, 3, seed=2), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_saving_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OSError, match="no such folder"):
        lk.save(lk.LSTM(2, 3), tmp_path / "no such folder" / "net.safetensors")


@pytest.mark.parametrize("net", [None, 3, "LSTM", {"weight": np.ones(1)}], ids=repr)
def test_what_is_no_network_cannot_be_saved(net, tmp_path):
    with pytest.raises(TypeError):
        lk.save(net, tmp_path / "net.safetensors")
    assert os.listdir(tmp_path) == []
