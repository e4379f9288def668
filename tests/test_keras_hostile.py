"""Keras's files that are broken or mean harm: each is a FormatError that says what is wrong with it."""

from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pytest
from fuzz_targets import keras_config_target, keras_hdf5, keras_hdf5_target, rezipped, zipped
from hostile import assert_refused_wherever_cut, assert_survives_changed_bytes, refused_in_little_memory

import lstmkernel as lk

h5py = pytest.importorskip("h5py")

KERNEL = "model_weights/lstm/kernel:0"


@pytest.fixture
def path(tmp_path):
    """A small model of Keras 2, good so far: an LSTM and a Dense."""
    path = tmp_path / "model.h5"
    path.write_bytes(keras_hdf5())
    return path


def refusal(path, **options) -> str:
    with pytest.raises(lk.FormatError) as refused:
        lk.load(path, **options)
    message = str(refused.value)
    assert str(path) in message
    assert len(message) < 2000
    return message.replace(str(path), "")


def changed(path, change) -> None:
    with h5py.File(path, "r+") as h5:
        change(h5)


def replaced(path, name, value=None, **options) -> None:
    """Another array under the name of one that is there."""

    def change(h5):
        del h5[name]
        if value is not None:
            h5[name] = value
        else:
            h5.create_dataset(name, **options)

    changed(path, change)


def reconfigured(path, change) -> None:
    """The model's configuration after ``change(config, layers)``."""

    def rewrite(h5):
        model = json.loads(h5.attrs["model_config"])
        change(model["config"], model["config"]["layers"])
        h5.attrs["model_config"] = json.dumps(model)

    changed(path, rewrite)


# ---------------------------------------------------------------- other files


def secret(folder):
    """A file that no other may reach, though it would fit."""
    path = folder / "secret.h5"
    path.write_bytes(keras_hdf5())
    return path


@pytest.mark.parametrize("name", [KERNEL, "model_weights/lstm", "model_weights"])
@pytest.mark.parametrize("kind", ["ExternalLink", "SoftLink"])
def test_links(path, tmp_path, name, kind):
    inside = "/kept" if kind == "SoftLink" else f"/{name}"
    arguments = [inside] if kind == "SoftLink" else [str(secret(tmp_path)), inside]

    def change(h5):
        h5.move(name, "kept")
        h5[name] = getattr(h5py, kind)(*arguments)

    changed(path, change)
    assert f"expected the object itself, got a {kind}" in refusal(path)
    if name == KERNEL:
        assert not any(tensor.name == KERNEL for tensor in lk.inspect(path).tensors)


def test_numbers_in_another_file(path, tmp_path):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(16))
    replaced(path, KERNEL, shape=(1, 4), dtype="float32", external=[(str(raw), 0, 16)])
    assert "expected numbers inside the file" in refusal(path)


def test_a_virtual_array_of_another_file(path, tmp_path):
    layout = h5py.VirtualLayout((1, 4), "float32")
    layout[:] = h5py.VirtualSource(str(secret(tmp_path)), KERNEL, (1, 4))

    def change(h5):
        del h5[KERNEL]
        h5.create_virtual_dataset(KERNEL, layout)

    changed(path, change)
    assert "expected numbers inside the file" in refusal(path)


@pytest.mark.parametrize("name", ["../../kept", "/kept", "./kernel:0", "", "kernel:0/x", "\u00e4"])
def test_names_of_weights_that_lead_elsewhere(path, name):
    def change(h5):
        h5["kept"] = h5[KERNEL][()]
        names = [name, "recurrent_kernel:0", "bias:0"]
        h5["model_weights/lstm"].attrs["weight_names"] = [name.encode() for name in names]

    changed(path, change)
    assert "not in the file" in refusal(path)


@pytest.mark.parametrize(("depth", "name", "arrays"), [(20_000, "a", 1), (20, "x" * 60_000, 200)])
def test_groups_in_groups(path, tmp_path, depth, name, arrays):
    """HDF5's own visit of so many would end the process, and each array's name repeats the whole way to it."""
    good = tmp_path / "good.h5"
    good.write_bytes(path.read_bytes())
    with h5py.File(path, "r+", libver="latest") as h5:
        group = h5["model_weights"]
        for _ in range(depth):
            group = group.create_group(name)
        for number in range(arrays):
            group[str(number)] = np.zeros(1)
    message = refused_in_little_memory(path, good)
    assert f"model_weights/{name[:50]}" in message
    assert "expected a way of at most 1000 letters to an array" in message
    assert lk.load(path)


@pytest.mark.parametrize("name", ["model_weights", "model_weights/lstm"])
def test_a_group_that_holds_itself(path, name):
    changed(path, lambda h5: h5[name].__setitem__("again", h5["model_weights"]))
    assert len(lk.inspect(path).tensors) == 5


def test_a_filter_that_is_a_plugin(path):
    replaced(path, KERNEL, data=np.zeros((1, 4), "float32"), compression="lzf")
    assert "expected one of HDF5's own filters, got b'lzf' (32000)" in refusal(path)


# ---------------------------------------------------------------- arrays that are not what they should be


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3), "float32"), r"kernel: expected shape (I, 4), got (1, 3)"),
        (np.zeros((1, 4, 1), "float32"), r"kernel: expected shape (I, 4), got (1, 4, 1)"),
        (np.zeros((0, 4), "float32"), r"kernel: expected shape (I, 4), got (0, 4)"),
        (np.float32(1), "kernel: expected shape (I, 4), got ()"),
        (np.zeros((1, 4), "int32"), "expected float16, bfloat16, float32 or float64, got int32"),
        (np.zeros((1, 4), "complex64"), "got complex64"),
        (np.zeros((1, 4), "V2"), "got void16"),
        (np.array([[b"text"] * 4]), "got bytes32"),
        (np.zeros((1, 4), [("a", "f4"), ("b", "i8")]), "got void96"),
        (h5py.Empty("f4"), "expected an array with a shape"),
    ],
)
def test_wrong_shape_or_dtype(path, array, message):
    replaced(path, KERNEL, array)
    assert message in refusal(path)


def test_a_group_or_a_type_in_place_of_an_array(path):
    changed(path, lambda h5: (h5.move(KERNEL, "kept"), h5.create_group(KERNEL)))
    assert "expected an array, got a group" in refusal(path)
    replaced(path, KERNEL, np.dtype("float32"))
    assert "expected a group or an array, got a Datatype" in refusal(path)


def test_an_array_in_place_of_a_group(path):
    replaced(path, "model_weights/lstm", np.zeros(3))
    assert "model_weights/lstm: expected a group, got an array" in refusal(path)


def test_a_missing_array(path):
    changed(path, lambda h5: h5.__delitem__(KERNEL))
    assert "/model_weights/lstm/kernel:0: not in the file" in refusal(path)


def test_a_gru_in_the_place_of_an_lstm(path):
    replaced(path, KERNEL, np.zeros((1, 3), "float32"))
    replaced(path, "model_weights/lstm/recurrent_kernel:0", np.zeros((1, 3), "float32"))
    assert "three gates, a GRU, not an LSTM" in refusal(path)
    reconfigured(path, lambda _, layers: layers[0].update(class_name="GRU"))
    assert "layer 'lstm' (GRU): expected LSTM" in refusal(path)


def test_nan_is_allowed_and_warned_of(path):
    replaced(path, KERNEL, np.full((1, 4), np.nan, "float32"))
    with pytest.warns(RuntimeWarning, match="NaN or infinite weights in 0.weight_ih_l0"):
        lk.load(path)


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (1 << 40, 1 << 20), "chunks": (1, 4)},
        {"shape": ((1 << 62), 4), "chunks": (1, 4)},
        {"shape": (1 << 22, 4)},  # never written, so not in the file
        {"data": np.zeros((1 << 22, 4), "float32"), "compression": "gzip"},
    ],
    ids=["petabytes", "overflow", "unwritten", "deflated"],
)
def test_arrays_larger_than_the_file_allows(path, tmp_path, options):
    good = tmp_path / "good.h5"
    good.write_bytes(path.read_bytes())
    replaced(path, KERNEL, **{"dtype": "float32", **options})
    assert "when unpacked" in refused_in_little_memory(path, good)


def test_max_bytes_raises_the_limit(path):
    replaced(path, KERNEL, data=np.zeros((2_200_000, 4), "float32"), compression="gzip")
    assert "give max_bytes=" in refusal(path)
    assert lk.load(path, max_bytes=1 << 30).layers[0].input_size == 2_200_000


# ---------------------------------------------------------------- configurations that lie


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 7}, "recurrent_kernel: expected shape (7, 4 * 7), got (1, 4)"),
        ({"units": 10**30}, "recurrent_kernel: expected shape (1000000"),
        ({"units": -1}, "units: expected a positive integer, got -1"),
        ({"units": True}, "units: expected a positive integer, got True"),
        ({"units": "1"}, "units: expected a positive integer, got 1"),
        ({"use_bias": False}, "expected weights kernel, recurrent_kernel, got kernel, recurrent_kernel, bias"),
        ({"activation": "gelu"}, "activation: expected one of tanh, sigmoid"),
        ({"activation": ["tanh"]}, "activation: expected one of tanh, sigmoid"),
        ({"recurrent_activation": {"class_name": "function", "registered_name": "mine"}}, "got 'mine (not a name)'"),
        ({"time_major": True}, "time_major=True is not supported"),
        ({"name": "../lstm"}, "model_weights/../lstm: not in the file"),
        ({"name": 3}, "layer 0: expected a name, got 3"),
        ({"name": "x" * 50_000}, "not in the file"),
        ({"name": "dense"}, "two layers with the name 'dense'"),
    ],
)
def test_options_of_a_layer(path, options, message):
    reconfigured(path, lambda _, layers: layers[0]["config"].update(options))
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_name": "Lambda"}, "layer 'lstm' (Lambda): expected LSTM"),
        ({"class_name": "RNN"}, "layer 'lstm' (RNN): expected LSTM"),
        ({"class_name": None}, "layer 0: expected a class_name, got None"),
        ({"module": "os", "class_name": "system"}, "expected one of Keras's own classes, got 'os': system"),
        ({"module": "kerasevil.layers"}, "expected one of Keras's own classes"),
        ({"registered_name": "mine>LSTM"}, "expected one of Keras's own classes, got 'mine>LSTM'"),
        ({"config": []}, "layer 0: config: expected a JSON object, got []"),
    ],
)
def test_classes_of_a_layer(path, change, message):
    reconfigured(path, lambda _, layers: layers[0].update(change))
    assert message in refusal(path)


def behind(kind, **options):
    """A layer to be appended."""
    return {"class_name": kind, "config": {"name": "top", **options}}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (behind("Softmax", axis=2), None),
        (behind("Softmax", axis=1), "layer 'top' (Softmax): axis: expected -1, the last one, got 1"),
        (behind("Softmax", axis=[-1]), "axis: expected -1, the last one, got [-1]"),
        (behind("Softmax", axis=None), "axis: expected -1, the last one, got None"),
        (behind("Softmax", axis="x" * 5000), "axis: expected -1, the last one, got 'xxx"),
        (behind("Softmax", axis=-2), "axis: expected -1, the last one, got -2"),
        (behind("Activation", activation="gelu"), "layer 'top' (Activation): activation: expected one of linear,"),
        (behind("Activation", activation={"class_name": "Softmax"}), "got 'Softmax (not a name)'"),
        (behind("Activation", activation=[]), "got '[] (not a name)'"),
        (behind("TimeDistributed", layer=behind("Softmax", axis=1)), None),
        (behind("TimeDistributed", layer=behind("Softmax", axis=2)), "axis: expected -1, the last one, got 2"),
        (behind("TimeDistributed", layer=behind("LSTM")), "'top' (TimeDistributed): expected a Dense inside, got"),
        (behind("TimeDistributed"), "layer 'top' (TimeDistributed): layer: expected a JSON object, got None"),
    ],
)
def test_activations_behind_a_dense(path, layer, message):
    reconfigured(path, lambda _, layers: layers.append(layer))
    if message is None:
        assert lk.load(path).layers[1].activation == "softmax"
    else:
        assert message in refusal(path)


def test_a_softmax_of_one_step(path):
    def change(_, layers):
        layers[0]["config"]["return_sequences"] = False
        layers.append(behind("Softmax", axis=1))

    reconfigured(path, change)
    assert lk.load(path).layers[1].activation == "softmax"


@pytest.mark.parametrize("kind", ["Softmax", "Activation"])
def test_an_activation_without_a_linear_dense_below(path, kind):
    top = behind(kind, activation="relu")
    reconfigured(path, lambda _, layers: layers.insert(0, top))
    assert f"layer 'top' ({kind}): expected a linear Dense right below it, got none" in refusal(path)
    reconfigured(path, lambda _, layers: layers.insert(1, layers.pop(0)))
    assert "expected a linear Dense right below it, got layer 'lstm' (LSTM); prefix=" in refusal(path)
    reconfigured(path, lambda _, layers: layers.append(layers.pop(1)))
    reconfigured(path, lambda _, layers: layers[1]["config"].update(activation="tanh"))
    assert "expected a linear Dense right below it, got layer 'dense' (Dense) with tanh" in refusal(path)


WITHOUT_MATCH = ["BatchNormalization", "LayerNormalization", "Embedding", "Flatten", "Reshape", "Conv1D"]
WITHOUT_MATCH += ["GRU", "ReLU", "LeakyReLU", "GlobalAveragePooling1D", "Rescaling", "Permute", "Sequential", "Lambda"]


@pytest.mark.parametrize("kind", WITHOUT_MATCH)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_layer_that_would_be_left_out(path, kind, place):
    reconfigured(path, lambda _, layers: layers.insert(place, behind(kind)))
    assert f"layer 'top' ({kind}): expected LSTM, Bidirectional, Dense, Activation, Softmax or Dropout" in refusal(path)


IDLE = ["Dropout", "SpatialDropout1D", "GaussianDropout", "AlphaDropout", "GaussianNoise", "ActivityRegularization"]


@pytest.mark.parametrize("kind", [*IDLE, "InputLayer"])
def test_a_layer_that_is_left_out(path, kind):
    reconfigured(path, lambda _, layers: layers.insert(1, behind(kind)))
    assert len(lk.load(path).layers) == 2


def two_ways(merge_mode="concat", backward=None, **options):
    lstm = {"class_name": "LSTM", "config": {"name": "inner", "units": 1, **options}}
    other = {} if backward is None else {"backward_layer": {"class_name": "LSTM", "config": backward}}
    return {"class_name": "Bidirectional", "config": {"name": "lstm", "layer": lstm, "merge_mode": merge_mode, **other}}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (two_ways(), "expected weights of 2 cells, got 1"),
        (two_ways("sum"), "expected merge_mode 'concat', got 'sum'"),
        (two_ways(go_backwards=True), "expected go_backwards=False inside, got True"),
        (two_ways(backward={"name": "b", "units": 1}), "expected a backward LSTM with go_backwards=True"),
        (two_ways(backward={"name": "b", "units": 2, "go_backwards": True}), "expected the same units in both"),
        (two_ways(return_sequences=False), "hands on the last state of each direction"),
    ],
)
def test_bidirectional(path, layer, message):
    reconfigured(path, lambda _, layers: layers.__setitem__(0, layer))
    assert message in refusal(path)


def test_a_sequence_that_ends_below_another_lstm(path):
    def change(_, layers):
        layers[0]["config"]["return_sequences"] = False
        layers[1] = {"class_name": "LSTM", "config": {"name": "dense", "units": 1}}

    reconfigured(path, change)
    assert "return_sequences=False below layer 'dense' (LSTM): expected a sequence" in refusal(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ('{"class_name": "Sequential" "config": {}}', "Expecting"),
        ('{"a": 1, "a": 2}', "'a'"),
        ("[]", "expected a JSON object"),
        ("[" * 100_000, ""),
        (
            '{"class_name": "Sequential", "config": {"layers": []}}',
            "a list of layers in the config of Sequential, got []",
        ),
        ('{"class_name": "Sequential", "config": {"layers": [[]]}}', "layer 0: expected a JSON object, got []"),
        ('{"class_name": "Mine", "config": {"width": 3}}', "model: expected a list of layers in the config of Mine"),
        ('{"class_name": "Mine", "config": {"layers": [{"class_name": "LSTM", "config": {"name": "b"}}]}}', "got Mine"),
    ],
)
def test_broken_configurations(path, text, message):
    if len(text) > 60_000:  # more than an attribute holds; a .keras file holds any
        path.write_bytes(keras_config_target().wrap(text.encode()))
    else:
        changed(path, lambda h5: h5.attrs.__setitem__("model_config", text))
    assert message in refusal(path)


@pytest.mark.parametrize("value", [3, np.zeros(4), ["a", "b"], np.zeros(3, "V5")])
def test_attributes_of_other_types(path, value):
    changed(path, lambda h5: h5.attrs.__setitem__("model_config", value))
    assert "attribute 'model_config': expected" in refusal(path)


def test_many_names_that_are_one_long_text(path, tmp_path):
    """Where such a text is stands in 16 bytes, length first; here every name gets those of the first."""
    good = tmp_path / "good.h5"
    good.write_bytes(path.read_bytes())
    names = np.array(["x" * 60_000] + ["y"] * 3999, dtype=h5py.string_dtype())
    changed(path, lambda h5: h5["model_weights/lstm"].attrs.create("weight_names", names))
    whole = path.read_bytes()
    at = re.search(rb"\x60\xea\0\0.{12}\x01\0\0\0", whole, re.DOTALL).start()
    path.write_bytes(whole[:at] + whole[at : at + 16] * 4000 + whole[at + 64_000 :])
    assert "attribute 'weight_names': expected at most" in refused_in_little_memory(path, good)


def test_a_dropout_that_stays_on_in_keras_2(path):
    """dropout(x, training=True): random numbers with each call."""

    def change(model, layers):
        call = [[["lstm", 0, 0, {"training": True}]]]
        layers[0]["inbound_nodes"] = [[["x", 0, 0, {"training": False, "mask": None}]]]
        layers[1]["inbound_nodes"] = [[["drop", 0, 0, {}]]]
        layers.insert(0, {"class_name": "InputLayer", "config": {"name": "x"}, "inbound_nodes": []})
        layers.append({"class_name": "Dropout", "config": {"name": "drop"}, "inbound_nodes": call})
        model["output_layers"] = [["dense", 0, 0]]

    reconfigured(path, change)
    changed(
        path, lambda h5: h5.attrs.__setitem__("model_config", h5.attrs["model_config"].replace("Sequential", "Model"))
    )
    assert "layer 'drop' (Dropout): called with training = True" in refusal(path)


@pytest.mark.parametrize("version", ["1.2.2", "4.0.0", "", "x" * 100_000])
def test_versions(path, version):
    metadata = json.dumps({"keras_version": version}).encode()
    path.write_bytes(rezipped(keras_config_target().wrap(keras_config_target().payload), {"metadata.json": metadata}))
    assert "keras_version: expected one of Keras 2 or 3" in refusal(path)


def functional(path, change):
    target = keras_config_target()
    model = json.loads(target.payload)
    change(model["config"], model["config"]["layers"])
    path.write_bytes(target.wrap(json.dumps(model).encode()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config, _: config.update(output_layers=[["lstm", 0, 0], ["dense", 0, 0]]), "expected one output"),
        (lambda config, _: config.update(output_layers=[]), "expected one output, got none"),
        (lambda config, _: config.update(output_layers=["lstm", 0, 0]), "layer 'dense' (Dense) is not on the way"),
        (lambda config, _: config.update(output_layers=["none", 0, 0]), "no layer of the name 'none'"),
        (lambda _, layers: layers[1].update(inbound_nodes=layers[2]["inbound_nodes"]), "feeds itself"),
        (lambda _, layers: layers[1]["inbound_nodes"].append({}), "expected to be called once, got 2 calls"),
        (lambda _, layers: layers[1].update(inbound_nodes=3), "expected inbound_nodes, got 3"),
        (lambda _, layers: layers[1].update(inbound_nodes=[{"args": [3]}]), "expected a tensor as its argument, got 3"),
        (lambda _, layers: layers[1].update(inbound_nodes=[{"args": 3}]), "expected a list of arguments, got 3"),
        (lambda _, layers: layers[1]["inbound_nodes"][0].update(kwargs={"mask": 3}), "called with mask = 3"),
        (
            lambda _, layers: layers[1]["inbound_nodes"][0].update(kwargs={"training": True}),
            "layer 'lstm' (LSTM): called with training = True",
        ),
        (
            lambda _, layers: layers[2]["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["lstm", 0, 1]),
            "expected the output of 'lstm', got its state 1",
        ),
    ],
)
def test_graphs(path, change, message):
    functional(path, change)
    assert message in refusal(path)


def test_a_very_long_chain(path):
    """The time is that of reading it."""

    def change(config, layers):
        last = layers.pop()
        for i in range(3000):
            node = json.loads(json.dumps(last["inbound_nodes"]).replace("lstm", f"drop{i - 1}" if i else "lstm"))
            layers.append({"class_name": "Dropout", "config": {"name": f"drop{i}"}, "inbound_nodes": node})
        last["inbound_nodes"] = json.loads(json.dumps(last["inbound_nodes"]).replace("lstm", "drop2999"))
        layers.append(last)

    functional(path, change)
    assert len(lk.load(path).layers) == 2


# ---------------------------------------------------------------- weights alone


def weights_alone(path, beside=()):
    """As Keras 3 saves the weights of an LSTM, and what else there is at the top of the file."""
    with h5py.File(path, "w") as h5:
        for number, shape in enumerate([(1, 4), (1, 4), (4,)]):
            h5[f"layers/lstm/cell/vars/{number}"] = np.full(shape, 0.5, "float32")
        for name in beside:
            h5[name] = np.zeros(1, "float32")


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_weights_of_a_program_are_no_chain(path):
    """The layers of a subclassed model lie beside each other by the names of its attributes."""
    weights_alone(path, ["head/vars/0"])
    assert "expected layers alone, got also 'head': a subclassed model is a program" in refusal(path)
    assert lk.load(path, prefix="lstm").input_size == 1
    assert "a subclassed model is a program" in " ".join(lk.inspect(path).notes)


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_what_belongs_to_training_lies_beside_the_layers(path):
    weights_alone(path, ["optimizer/vars/0", "metrics/mean/vars/0"])
    changed(path, lambda h5: h5.create_group("vars"))
    changed(path, lambda h5: h5.create_group("empty/vars"))
    assert lk.load(path).input_size == 1


# ---------------------------------------------------------------- zip


def test_members_with_the_names_of_other_places(path):
    path.write_bytes(rezipped(keras_config_target().wrap(keras_config_target().payload), {"../../evil": b"x"}))
    assert "expected relative names of members" in refusal(path)


def test_a_member_twice(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("config.json", b"{}")
    path = path.rename(path.with_suffix(".keras"))
    assert "member 'config.json' is there twice" in refusal(path)


@pytest.mark.parametrize("missing", ["metadata.json", "model.weights.h5"])
def test_a_missing_member(path, missing):
    target = keras_config_target()
    with zipfile.ZipFile(io.BytesIO(target.wrap(target.payload))) as file:
        kept = {name: file.read(name) for name in file.namelist() if name != missing}
    path.write_bytes(zipped(kept))
    assert f"missing member {missing}" in refusal(path)


def test_bombs(path, tmp_path):
    target, good = keras_config_target(), tmp_path / "good.keras"
    good.write_bytes(target.wrap(target.payload))
    path.write_bytes(rezipped(good.read_bytes(), {"model.weights.h5": bytes(1 << 28)}, zipfile.ZIP_DEFLATED))
    assert "when unpacked" in refused_in_little_memory(path, good)
    text = b'"' + b"a" * (30 << 20) + b'"'
    path.write_bytes(rezipped(good.read_bytes(), {"config.json": text}, zipfile.ZIP_DEFLATED))
    assert "config.json: expected at most" in refused_in_little_memory(path, good)


def test_arrays_in_a_compressed_archive(path, tmp_path):
    """What is allowed goes by the bytes on disk, not by what they became on the way."""
    target, good = keras_config_target(), tmp_path / "good.keras"
    good.write_bytes(target.wrap(target.payload))
    with zipfile.ZipFile(good) as file:
        weights = io.BytesIO(file.read("model.weights.h5"))
    with h5py.File(weights, "r+") as h5:
        del h5["layers/lstm/cell/vars/0"], h5["layers/lstm/cell/vars/1"]
        kernel = h5.create_dataset("layers/lstm/cell/vars/0", data=np.zeros((1 << 20, 4), "float32"))
        h5["layers/lstm/cell/vars/1"] = kernel
        h5["layers/dense/vars/2"] = kernel
    path.write_bytes(rezipped(good.read_bytes(), {"model.weights.h5": weights.getvalue()}, zipfile.ZIP_DEFLATED))
    refused_in_little_memory(path, good)


def test_a_bomb_that_says_less(path, tmp_path):
    target, good = keras_config_target(), tmp_path / "good.keras"
    good.write_bytes(target.wrap(target.payload))
    path.write_bytes(rezipped(good.read_bytes(), {"model.weights.h5": bytes(1 << 28)}, zipfile.ZIP_DEFLATED))
    declared, said = ((size).to_bytes(4, "little") for size in (1 << 28, 1000))
    path.write_bytes(path.read_bytes().replace(declared, said))
    assert "zip: model.weights.h5: " in refused_in_little_memory(path, good)


# ---------------------------------------------------------------- bytes


def test_hdf5_cut(tmp_path):
    """Anywhere in what comes first, then here and there: all of it is one comparison of sizes."""
    target = keras_hdf5_target()
    sizes = [*range(600), *range(600, len(target.payload), 97)]
    assert_refused_wherever_cut(target, tmp_path, sizes)


def test_a_configuration_cut_anywhere(tmp_path):
    assert_refused_wherever_cut(keras_config_target(), tmp_path)


def test_a_zip_cut_anywhere(tmp_path):
    target = keras_config_target()
    whole = target.wrap(target.payload)
    for size in [*range(4, 100), *range(100, len(whole), 97)]:
        path = tmp_path / "cut.keras"
        path.write_bytes(whole[:size])
        assert "is the file cut off?" in refusal(path)


def test_any_byte_of_the_configuration_changed(tmp_path):
    assert_survives_changed_bytes(keras_config_target(), tmp_path)


def test_some_bytes_of_hdf5_changed(tmp_path):
    target = keras_hdf5_target()
    assert_survives_changed_bytes(target, tmp_path, range(0, len(target.payload), 37))
