"""Configurations in Keras's files that lie, or speak of what has no match here: refused by name, nothing left out."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from fuzz_targets import keras_config_target, keras_hdf5, rezipped
from hostile import refused_in_little_memory

import lstmkernel as lk

h5py = pytest.importorskip("h5py")
from keras_changes import changed, reconfigured, refusal, replaced  # noqa: E402


@pytest.fixture
def path(tmp_path):
    """A small model of Keras 2, good so far: an LSTM and a Dense."""
    path = tmp_path / "model.h5"
    path.write_bytes(keras_hdf5())
    return path


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
        ({"time_major": True}, "expected time_major=False, got True"),
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
        ({"class_name": "RNN"}, "layer 'lstm' (RNN): cell: expected a JSON object, got None"),
        ({"class_name": None}, "layer 0: expected a class_name, got None"),
        ({"module": "os", "class_name": "system"}, "layer 'lstm' (os:system): expected LSTM"),
        ({"module": "kerasevil.layers"}, "layer 'lstm' (kerasevil.layers:LSTM): expected LSTM"),
        ({"registered_name": "mine>LSTM"}, "layer 'lstm' (mine>LSTM:LSTM): expected LSTM"),
        ({"module": None, "registered_name": "LSTM"}, "layer 'lstm' (LSTM:LSTM): expected LSTM"),
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
    with pytest.warns(
        RuntimeWarning, match=r"return_sequences=False: Keras's answer is net\.last\(x\); net\(x\) gives every"
    ):
        net = lk.load(path)
    assert net.layers[1].activation == "softmax"


@pytest.mark.parametrize("kind", ["Softmax", "Activation"])
def test_an_activation_without_a_linear_dense_below(path, kind):
    top = behind(kind, activation="relu")
    reconfigured(path, lambda _, layers: layers.insert(0, top))
    assert f"layer 'top' ({kind}): expected a linear Dense right below it, got none" in refusal(path)
    reconfigured(path, lambda _, layers: layers.insert(1, layers.pop(0)))
    assert "right below it, got layer 'lstm' (LSTM); prefix= loads one of these: 'lstm', 'dense'" in refusal(path)
    reconfigured(path, lambda _, layers: layers.append(layers.pop(1)))
    reconfigured(path, lambda _, layers: layers[1]["config"].update(activation="tanh"))
    assert "expected a linear Dense right below it, got layer 'dense' (Dense) with tanh" in refusal(path)


WITHOUT_MATCH = ["BatchNormalization", "LayerNormalization", "Embedding", "Flatten", "Reshape", "Conv1D"]
WITHOUT_MATCH += ["GRU", "ReLU", "LeakyReLU", "GlobalAveragePooling1D", "Rescaling", "Permute", "Lambda"]


@pytest.mark.parametrize("kind", WITHOUT_MATCH)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_layer_that_would_be_left_out(path, kind, place):
    reconfigured(path, lambda _, layers: layers.insert(place, behind(kind)))
    assert f"layer 'top' ({kind}): expected LSTM, Bidirectional, RNN of LSTMCells, Dense" in refusal(path)


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
        (two_ways("mul"), "concat, sum or ave, got mul; prefix='lstm.forward' and prefix='lstm.backward' load"),
        (two_ways(None), "expected merge_mode concat, sum or ave, got None; prefix='lstm.forward' and prefix="),
        (two_ways(3), "expected merge_mode concat, sum or ave, got 3"),
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
    assert "expected return_sequences=True below layer 'dense' (LSTM), got False" in refusal(path)


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
    assert "model_weights/lstm: HDF5: expected at most" in refused_in_little_memory(path, good)


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
    assert "layer 'drop' (Dropout): expected a call without training, got training = True" in refusal(path)


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
        (
            lambda config, _: config.update(output_layers=["lstm", 0, 0]),
            "layer 'dense' (Dense) does not lead to the output",
        ),
        (
            lambda config, _: config.update(output_layers=["none", 0, 0]),
            "expected a layer of the name 'none', got none",
        ),
        (lambda _, layers: layers[1].update(inbound_nodes=layers[2]["inbound_nodes"]), "feeds itself"),
        (lambda _, layers: layers[1]["inbound_nodes"].append({}), "expected to be called once, got 2 calls"),
        (lambda _, layers: layers[1].update(inbound_nodes=3), "expected inbound_nodes, got 3"),
        (lambda _, layers: layers[1].update(inbound_nodes=[{"args": [3]}]), "expected a tensor as its argument, got 3"),
        (lambda _, layers: layers[1].update(inbound_nodes=[{"args": 3}]), "expected a list of arguments, got 3"),
        (
            lambda _, layers: layers[1]["inbound_nodes"][0].update(kwargs={"mask": 3}),
            "expected a call without mask, got mask = 3",
        ),
        (
            lambda _, layers: layers[1]["inbound_nodes"][0].update(kwargs={"training": True}),
            "layer 'lstm' (LSTM): expected a call without training, got training = True",
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


# ---------------------------------------------------------------- masks


def masked(path, *below, top=()):
    """With these layers below the LSTM and above it, if they can be loaded at all; the warnings of prefix="lstm"."""
    reconfigured(path, lambda _, layers: layers.__setitem__(slice(0, 0), below))
    reconfigured(path, lambda _, layers: layers.extend(top))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = lk.load(path, prefix="lstm")
    return net, " ".join(str(warning.message) for warning in caught)


def named(kind, name, **options):
    return {"class_name": kind, "config": {"name": name, **options}}


EMBEDDING = named("Embedding", "words", mask_zero=True)
MASKING = named("Masking", "masking", mask_value=-1.0)


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ([EMBEDDING], "layer 'words' (Embedding) skips steps where its index is 0, so give mask=(indices != 0)"),
        ([MASKING], "where all of x is -1.0, so give mask=(x != -1.0).any(-1)"),
        ([EMBEDDING, named("Dropout", "a"), named("Dense", "b")], "give mask="),
        ([EMBEDDING, named("BatchNormalization", "a"), named("mine:Layer", "b")], "give mask="),
        ([EMBEDDING, named("GRU", "a", return_sequences=True)], "give mask="),
        ([EMBEDDING, named("Bidirectional", "a", layer=named("GRU", "b", return_sequences=True))], "give mask="),
        ([EMBEDDING, named("TimeDistributed", "a", layer=named("Dense", "b"))], "give mask="),
        ([named("Sequential", "a", layers=[EMBEDDING])], "give mask="),
        ([named("Sequential", "a", layers=[named("Sequential", "a", layers=[MASKING])])], "give mask="),
    ],
)
def test_a_mask_reaches_the_lstm(path, below, words):
    net, warned = masked(path, *below)
    assert "the LSTM expects a mask" in warned
    assert words in warned
    assert net.expects == "mask"
    contents = lk.inspect(path)
    assert any("the LSTM expects a mask" in note for note in contents.notes)
    assert ("lstm", "LSTM 1 -> 1, expects mask") in contents.networks


@pytest.mark.parametrize(
    "below",
    [
        [],
        [named("Embedding", "words", mask_zero=False)],
        [EMBEDDING, named("GRU", "a", return_sequences=False)],
        [EMBEDDING, named("Conv1D", "a")],
        [EMBEDDING, named("Bidirectional", "a", layer=named("LSTM", "b", return_sequences=False))],
        [EMBEDDING, named("GlobalAveragePooling1D", "a"), named("RepeatVector", "b")],
    ],
)
def test_no_mask_reaches_the_lstm(path, below):
    net, warned = masked(path, *below, top=[MASKING])
    assert not warned
    assert net.expects is None


def test_a_mask_that_begins_between_two_lstms(path):
    """A Stack hands one mask to all of its LSTMs."""

    def change(_, layers):
        layers[1:] = [named("Masking", "masking"), named("LSTM", "dense", units=1)]

    reconfigured(path, change)
    for name in ("recurrent_kernel:0", "kernel:0"):
        replaced(path, f"model_weights/dense/{name}", np.full((1, 4), 0.5, "f4")) if name == "kernel:0" else changed(
            path, lambda h5: h5["model_weights/dense"].__setitem__("recurrent_kernel:0", np.full((1, 4), 0.5, "f4"))
        )
    replaced(path, "model_weights/dense/bias:0", np.full(4, 0.5, "f4"))
    changed(
        path,
        lambda h5: h5["model_weights/dense"].attrs.__setitem__(
            "weight_names", [b"kernel:0", b"recurrent_kernel:0", b"bias:0"]
        ),
    )
    message = refusal(path)
    assert "layer 'dense' (LSTM): a mask reaches it, but not layer 'lstm' (LSTM)" in message
    assert "prefix= loads one of these: 'lstm', 'dense'" in message


@pytest.mark.parametrize(
    ("mask", "expects"),
    [
        ({"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}, "mask"),
        (None, None),
    ],
)
def test_a_mask_in_a_call(path, mask, expects):
    functional(path, lambda _, layers: layers[1]["inbound_nodes"][0].update(kwargs={"mask": mask}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if expects else "error")
        assert lk.load(path).layers[0].expects == expects
        assert lk.load(path, prefix="lstm").expects == expects


# ---------------------------------------------------------------- weights alone, and from before Keras 2.3


def alone(path, version, *, kinds=("lstm",)):
    """Weights alone of Keras 2: an LSTM or a CuDNNLSTM, each of one unit, and a Dense."""
    with h5py.File(path, "w") as h5:
        h5.attrs["keras_version"] = version
        h5.attrs["layer_names"] = [kind.encode() for kind in (*kinds, "dense")]
        for kind in kinds:
            shapes = {"kernel:0": (1, 4), "recurrent_kernel:0": (1, 4), "bias:0": (8 if kind == "cudnn" else 4,)}
            write_layer(h5, kind, shapes)
        write_layer(h5, "dense", {"kernel:0": (1, 1), "bias:0": (1,)})


def write_layer(h5, name, shapes):
    group = h5.create_group(name)
    group.attrs["weight_names"] = [own.encode() for own in shapes]
    for own, shape in shapes.items():
        group[own] = np.full(shape, 0.5, "f4")


HARD = lk.Variant(activations=(("hard_sigmoid", 0.2, 0.5), "tanh", "tanh"))


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_which_activation_the_gates_had(path):
    alone(path, "2.2.4-tf")
    message = refusal(path)
    assert "layer 'lstm' (LSTM): weights alone of Keras 2.2: the file does not say which activation" in message
    assert "recurrent_activation='hard_sigmoid', that of Keras itself, or recurrent_activation='sigmoid'" in message
    assert lk.load(path, recurrent_activation="hard_sigmoid").layers[0].variant == HARD
    assert lk.load(path, recurrent_activation="sigmoid").layers[0].variant is None
    assert lk.load(path, prefix="lstm", recurrent_activation="sigmoid").variant is None
    assert isinstance(lk.load(path, prefix="dense"), lk.Dense)
    contents = lk.inspect(path)
    assert [network.prefix for network in contents.networks] == ["dense"]
    assert any("recurrent_activation='hard_sigmoid'" in note for note in contents.notes)


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_cudnn_leaves_no_doubt(path):
    alone(path, "2.1.6", kinds=("cudnn",))
    assert lk.load(path).layers[0].variant is None
    assert lk.load(path, prefix="cudnn").hidden_size == 1
    alone(path, "2.1.6", kinds=("cudnn", "lstm"))
    assert "layer 'lstm' (LSTM): weights alone of Keras 2.1" in refusal(path)
    net = lk.load(path, recurrent_activation="hard_sigmoid")
    assert [layer.variant for layer in net.layers[:2]] == [None, HARD]


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_later_weights_may_have_had_another_one_too(path):
    alone(path, "2.15.0")
    assert lk.load(path).layers[0].variant is None
    assert lk.load(path, recurrent_activation="hard_sigmoid").layers[0].variant == HARD


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_a_choice_that_the_file_contradicts(path, tmp_path):
    reconfigured(path, lambda _, layers: layers[0]["config"].update(recurrent_activation="sigmoid"))
    assert lk.load(path, recurrent_activation="sigmoid")
    refused = refusal(path, recurrent_activation="hard_sigmoid")
    assert "recurrent_activation: expected 'sigmoid', as the file says, got 'hard_sigmoid'" in refused
    refused = refusal(path, prefix="dense", recurrent_activation="sigmoid")
    assert "recurrent_activation: expected None without an LSTM, got 'sigmoid'" in refused
    alone(path, "2.1.6", kinds=("cudnn",))
    assert "expected 'sigmoid', as the file says" in refusal(path, recurrent_activation="hard_sigmoid")
    with pytest.raises(ValueError, match="recurrent_activation: expected 'sigmoid' or 'hard_sigmoid', got 'tanh'"):
        lk.load(path, recurrent_activation="tanh")
    lk.save(lk.LSTM(1, 1), tmp_path / "net.safetensors")
    with pytest.raises(lk.FormatError, match="recurrent_activation: expected a file of Keras, got safetensors"):
        lk.load(tmp_path / "net.safetensors", recurrent_activation="sigmoid")


def test_a_chain_of_weights_alone_is_told(path):
    alone(path, "2.15.0", kinds=("lstm", "cudnn"))
    with pytest.warns(RuntimeWarning) as caught:
        lk.load(path)
    told = "taken for a chain: layer 'lstm' (LSTM), then layer 'cudnn' (LSTM), then layer 'dense' (Dense), and nothing "
    assert told + "between them" in str(caught[0].message)
    assert "choose one layer with prefix=" in str(caught[0].message)


# ---------------------------------------------------------------- what else there is, and the way out


WAYS = re.compile(r"prefix= loads one of these: ((?:'[^']*'(?:, )?)+)")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (named("GRU", "top"), "lstmkernel runs LSTMs"),
        (named("SimpleRNN", "top"), "lstmkernel runs LSTMs"),
        (named("ConvLSTM2D", "top"), "an LSTM of convolutions; lstmkernel runs LSTMs"),
        (named("RNN", "top", cell=named("GRUCell", "cell")), "expected weights of 1 cells, got 0"),
        (named("Bidirectional", "top", layer=named("GRU", "b")), "expected an LSTM inside, got layer 'b' (GRU)"),
        (named("PruneLowMagnitude", "top", layer=named("LSTM", "b")), "tfmot.sparsity.keras.strip_pruning(model)"),
        (named("QuantizeWrapperV2", "top"), "quantized: save the model before it is quantized"),
        (named("Dense", "top", dtype={"class_name": "QuantizedDTypePolicy"}), "save before model.quantize()"),
        (named("MultiHeadAttention", "top"), "expected LSTM, Bidirectional"),
    ],
)
def test_ways_out(path, layer, words):
    """What is named as a way out loads."""
    changed(path, lambda h5: h5.create_group("model_weights/top"))
    reconfigured(path, lambda _, layers: layers.append(layer))
    message = refusal(path)
    assert words in message
    ways = re.findall(r"'([^']*)'", WAYS.search(message)[1])
    assert ways == ["lstm", "dense"]
    for way in ways:
        assert lk.load(path, prefix=way)
    assert [network.prefix for network in lk.inspect(path).networks] == ways


def test_no_way_out_where_there_is_none(path):
    reconfigured(path, lambda _, layers: layers.__setitem__(slice(None), [named("GRU", "lstm")]))
    assert "prefix=" not in refusal(path)


def test_a_prefix_of_nothing(path):
    assert "prefix 'rnn': no such layer; prefix= loads one of these: 'lstm', 'dense'" in refusal(path, prefix="rnn")


def test_one_unknown_layer_does_not_lock_the_others(path):
    """A class of somebody's own, wherever it is."""
    reconfigured(path, lambda _, layers: layers.append({**named("Attention", "top"), "module": "mine.layers"}))
    assert "layer 'top' (mine.layers:Attention): expected LSTM" in refusal(path)
    assert lk.load(path, prefix="lstm").hidden_size == 1


def test_models_in_models_without_end(path):
    def change(config, layers):
        inner = named("Sequential", "a", layers=[named("LSTM", "b")])
        for _ in range(12):
            inner = named("Sequential", "a", layers=[inner])
        layers.append(inner)

    reconfigured(path, change)
    assert "expected models within models 8 deep at most" in refusal(path)


def test_very_many_layers(path):
    """The time is that of reading them, also for the way out."""
    target = keras_config_target()
    model = json.loads(target.payload)
    layers = [named("GRU", f"gru{i}") for i in range(4000)]
    model = {"class_name": "Sequential", "config": {"layers": [*model["config"]["layers"], *layers]}}
    path.write_bytes(target.wrap(json.dumps(model).encode()))
    assert "layer 'gru0' (GRU)" in refusal(path)
    assert len(lk.inspect(path).networks) == 2


# ---------------------------------------------------------------- states as outputs, several cells in one group


def test_states_among_the_outputs(path):
    """Model(x, [h, c]) of a layer with return_state=True: an encoder."""

    def change(config, layers):
        layers.pop()
        config["output_layers"] = [["lstm", 0, 1], ["lstm", 0, 2]]

    functional(path, change)
    with pytest.warns(RuntimeWarning, match="among Keras's outputs are states .state 1 of 'lstm', state 2 of 'lstm'."):
        assert isinstance(lk.load(path), lk.LSTM)


def test_states_as_the_output_of_a_model_in_the_model(path):
    target = keras_config_target()
    model = json.loads(target.payload)
    inner = json.loads(target.payload)
    inner["config"]["name"] = "inner"
    inner["config"]["output_layers"] = ["lstm", 0, 1]
    inner["config"]["layers"].pop()
    inner["inbound_nodes"] = model["config"]["layers"][1]["inbound_nodes"]
    dense = json.loads(json.dumps(model["config"]["layers"][2]).replace('"lstm"', '"inner"'))
    model["config"]["layers"][1:] = [inner, dense]
    path.write_bytes(target.wrap(json.dumps(model).encode()))
    assert "model 'inner': expected its output to be that of a layer, got state 1 of 'lstm'" in refusal(path)


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        ("{}/stacked_rnn_cells/lstm_cell{}", "Stack"),
        ("{}/{}ward_lstm/lstm_cell", "LSTM"),
        ("lstm{1}/lstm_cell", None),
    ],
)
def test_two_cells_in_one_group(path, inside, kind):
    """An RNN of two cells, two directions, or a model with two LSTMs: the shapes fit all of them."""
    ends = ("for", "back") if "ward" in inside else ("", "_1")
    with h5py.File(path, "w") as h5:
        h5.attrs["keras_version"], h5.attrs["layer_names"] = "2.15.0", [b"top"]
        shapes = {"kernel:0": (1, 4), "recurrent_kernel:0": (1, 4), "bias:0": (4,)}
        write_layer(
            h5,
            "top",
            {f"{inside.format('top', end)}/{own}": shape for end in ends for own, shape in shapes.items()},
        )
    if kind is None:
        assert "layer 'top' (of unknown class): expected LSTM" in refusal(path)
    else:
        net = lk.load(path)
        assert type(net).__name__ == kind
        assert getattr(net, "bidirectional", None) in ((True,) if kind == "LSTM" else (None,))
