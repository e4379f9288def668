"""ONNX models whose weights are integers: ONNX Runtime's DynamicQuantizeLSTM, and LSTMs behind DequantizeLinear."""

import warnings

import numpy as np
import pytest
from helpers import assert_same_answer, assert_same_bits, normal
from networks import NETWORKS, each, make, mixed, with_head, without
from onnx_models import model_of, numbers, run, saved

import lstmkernel as lk

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

DYNAMIC, QDQ = "DynamicQuantizeLSTM rounds the activations", "integers behind DequantizeLinear, and stay such"

#: From ONNX's order of gates i, o, f, c to PyTorch's.
GATES = [0, 2, 3, 1]


def and_told(read, *given, **options):
    """What is read, and the warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        return read(*given, **options), [str(each.message) for each in told]


def exact(net):
    """The float32 network with the same weights."""
    return lk.LSTM.from_config({**net.config(), "precision": None, "activations": None}, net.state_dict())


def dynamic(folder, net, **options):
    """The network as onnxruntime quantizes it: a path."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    lk.save(net, folder / "whole.onnx", state_inputs=False)
    quantization.quantize_dynamic(folder / "whole.onnx", folder / "dynamic.onnx", **options)
    return folder / "dynamic.onnx"


def constants(path):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def changed(path, change):
    """The file with other constants."""
    model = onnx.load(path)
    named = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    change(named)
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in named.items())
    onnx.save(model, path)
    return path


def shifted(named, by=128):
    """The same integers as uint8."""
    for name in named:
        if name.endswith(("_quantized", "_zero_point")):
            named[name] = (named[name].astype(np.int16) + by).astype(np.uint8)


# ---------------------------------------------------------------- DynamicQuantizeLSTM


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
@each("plain", "two layers", "two directions")
def test_integers_and_scales_as_they_are(tmp_path, random, network, per_channel, unsigned):
    lstm = make(network)
    path = dynamic(tmp_path, lstm, per_channel=per_channel)
    theirs = constants(path)
    if unsigned:
        changed(path, shifted)
    loaded, told = and_told(lk.load, path)
    assert len(told) == 1
    assert DYNAMIC in told[0]
    assert (loaded.precision, loaded.activations, loaded.shape) == ("int8", "int16", lstm.shape)
    H = lstm.hidden_size
    for name, letter in (("weight_ih", "W"), ("weight_hh", "R")):
        for layer in range(lstm.num_layers):
            for d in range(lstm.shape.directions):
                full = name + lstm.shape.suffix(layer, d)
                values = theirs[f"layer{layer}.{letter}_quantized"][d].T
                scale = np.broadcast_to(
                    theirs[f"layer{layer}.{letter}_scale"].reshape(lstm.shape.directions, -1)[d], 4 * H
                )
                expected = values.reshape(4, H, -1)[GATES].reshape(4 * H, -1)
                assert_same_bits(loaded.stored()[full], expected, full)
                assert_same_bits(loaded.stored()[f"{full}_scale"], scale.reshape(4, H)[GATES].ravel(), full)


@pytest.mark.parametrize("per_channel", [False, True])
@each("plain", "two layers", "two directions", "wide")
def test_as_near_to_onnxruntime_as_it_is_to_its_own_weights(tmp_path, random, network, per_channel):
    """With these weights in float32, 16 bits of activations change the output by 1e-4 at most, ONNX Runtime's 8 by
    more.
    """
    path = dynamic(tmp_path, make(network), per_channel=per_channel)
    net, _ = and_told(lk.load, path)
    x = normal(random, (9, 3, net.input_size), "float32")
    ours, right, theirs = net(x)[0], exact(net)(x)[0], run(onnx.load(path), x)[0]
    their_error = np.abs(theirs - right).max()
    assert np.abs(ours - right).max() < 1e-4
    assert 1e-4 < their_error < 0.05
    assert np.abs(ours - theirs).max() < their_error + 1e-4


def test_inspect_and_one_of_several(tmp_path):
    path = dynamic(tmp_path, make("two layers"))
    found = lk.inspect(path)
    assert found.networks[0].description == "LSTM 5 -> 9, 2 layers, int8 weights"
    assert any(DYNAMIC in note for note in found.notes)
    assert and_told(lk.load, path, prefix=found.networks[2].prefix)[0].input_size == 9


def test_a_variant_becomes_float32(tmp_path, random):
    """int8 has no variants here."""
    path = dynamic(tmp_path, make("plain"))
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if node.op_type == "DynamicQuantizeLSTM")
    node.attribute.append(helper.make_attribute("clip", 0.5))
    onnx.save(model, path)
    net = lk.load(path)
    assert (net.precision, net.variant) == ("float32", lk.Variant(gate_clip=0.5))
    x = normal(random, (5, 2, 5), "float32")
    np.testing.assert_allclose(net(x)[0], run(model, x)[0], atol=0.02)


def test_minus_128_becomes_127_with_a_word(tmp_path):
    def change(named):
        named["layer0.W_quantized"] = named["layer0.W_quantized"].copy()
        named["layer0.W_quantized"][0, 2, 7] = -128

    net, told = and_told(lk.load, changed(dynamic(tmp_path, make("plain")), change))
    assert any("the integer -128: they become -127" in each for each in told)
    assert net.stored()["weight_ih_l0"][7, 2] == -127


def update(name, value):
    return lambda named: named.update({name: value(named[name])})


#: Of a model whose LSTM has 9 units: what is changed, and what is said.
WRONG = {
    "a zero point": (
        update("layer0.W_zero_point", lambda z: z + np.int8(100)),
        "W_zero_point: .*weight_type=QuantType.QInt8",
    ),
    "another scale": (update("layer0.R_scale", lambda s: s[:0]), r"R_scale: expected float32 \(1,\) or \(1, 36\), got"),
    "a wide scale": (update("layer0.W_scale", lambda s: s.astype("f8")), "W_scale: expected float32"),
    "another shape": (update("layer0.W_quantized", lambda w: w[0]), "W: expected constants, int8 or uint8, of 3"),
    "numbers": (update("layer0.W_quantized", lambda w: w.astype("f4")), "W: expected constants, int8 or uint8"),
    "not transposed": (
        update("layer0.R_quantized", lambda r: r.swapaxes(1, 2)),
        "R_scale|R: expected shape|hidden_size",
    ),
    "zero points of numbers": (
        update("layer0.R_zero_point", lambda z: z.astype("f4")),
        "R_zero_point: expected integers",
    ),
    "too many zero points": (
        update("layer0.R_zero_point", lambda z: np.zeros(3, "i1")),
        "R_zero_point: expected integers",
    ),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(tmp_path, change, words):
    path = changed(dynamic(tmp_path, make("plain")), change)
    with pytest.raises(lk.FormatError, match=words):
        and_told(lk.load, path)
    assert any("cannot be loaded" in note for note in lk.inspect(path).notes)


def test_a_zero_point_that_leaves_symmetric_integers(tmp_path, random):
    """What is left is what counts."""
    path = dynamic(tmp_path, make("plain"))
    expected, _ = and_told(lk.load, path)

    def change(named):
        named["layer0.R_quantized"] = (named["layer0.R_quantized"] // 2 + 9).astype("i1")
        named["layer0.R_zero_point"] = np.array([9], "i1")

    net, _ = and_told(lk.load, changed(path, change))
    assert_same_bits(net.stored()["weight_hh_l0"], expected.stored()["weight_hh_l0"] // 2)


# ---------------------------------------------------------------- DequantizeLinear


def qdq(change=None, before=(), **attributes):
    """An LSTM of 3 inputs and 4 units, W and R behind DequantizeLinear with a scale for each row."""
    rng = np.random.default_rng(1)
    named = {
        f"{letter}_q": rng.integers(-127, 128, shape).astype("i1")
        for letter, shape in (("W", (1, 16, 3)), ("R", (1, 16, 4)))
    }
    named |= {f"{letter}_s": rng.uniform(1e-3, 5e-3, 16).astype("f4") for letter in "WR"}
    named |= {f"{letter}_z": np.zeros(16, "i1") for letter in "WR"}
    named["B"] = numbers(1, 32)
    if change:
        change(named)
    nodes = [helper.make_node("DequantizeLinear", [f"{k}_q", f"{k}_s", f"{k}_z"], [k], axis=1) for k in "WR"]
    nodes += [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y", "Y_h", "Y_c"], name="rnn", hidden_size=4, **attributes)
    ]
    return model_of(nodes, named), named


def test_behind_dequantize_linear(tmp_path, random):
    model, named = qdq()
    net, told = and_told(lk.load, saved(model, tmp_path))
    assert len(told) == 1
    assert QDQ in told[0]
    assert repr(net).endswith(".quantize('int8', activations='int16')")
    assert_same_bits(net.stored()["weight_ih_l0"], named["W_q"].reshape(4, 4, 3)[GATES].reshape(16, 3))
    assert_same_bits(net.stored()["weight_hh_l0_scale"], named["R_s"].reshape(4, 4)[GATES].ravel())
    x = normal(random, (6, 2, 3), "float32")
    theirs = run(model, x)[0].reshape(6, 2, 4)
    np.testing.assert_allclose(exact(net)(x)[0], theirs, atol=1e-6)
    assert np.abs(net(x)[0] - theirs).max() < 1e-4
    assert "int8 weights" in str(lk.inspect(tmp_path / "model.onnx"))


def one_scale(named):
    for letter in "WR":
        named[f"{letter}_s"], named[f"{letter}_z"] = np.float32(0.004), np.int8(0)


def unsigned(named):
    for letter in "WR":
        named[f"{letter}_q"] = (named[f"{letter}_q"].astype("i2") + 128).astype("u1")
        named[f"{letter}_z"] = np.full(16, 128, "u1")


@pytest.mark.parametrize("change", [one_scale, unsigned])
def test_other_ways_to_say_the_same_integers(tmp_path, random, change):
    model, _ = qdq(change)
    net, _ = and_told(lk.load, saved(model, tmp_path))
    assert net.precision == "int8"
    assert_same_bits(
        net.stored()["weight_hh_l0"], and_told(lk.load, saved(qdq()[0], tmp_path))[0].stored()["weight_hh_l0"]
    )
    x = normal(random, (6, 2, 3), "float32")
    np.testing.assert_allclose(exact(net)(x)[0], run(model, x)[0].reshape(6, 2, 4), atol=1e-6)


def spoil(name, value, place=(0,)):
    def change(named):
        named[name] = named[name].copy()
        named[name][place] = value

    return change


def test_integers_are_followed_where_they_only_move(tmp_path, random):
    """Two directions, each behind its own DequantizeLinear and in other places than an LSTM has them."""
    rng = np.random.default_rng(2)
    named, nodes = {"B": numbers(2, 32)}, []
    for letter, width in (("W", 3), ("R", 4)):
        for d in "fb":
            named[f"{letter}{d}_q"] = rng.integers(-127, 128, (width, 16)).astype("i1")
            named[f"{letter}{d}_s"] = rng.uniform(1e-3, 5e-3, 16).astype("f4")
            nodes.append(
                helper.make_node("DequantizeLinear", [f"{letter}{d}_q", f"{letter}{d}_s"], [f"{letter}{d}"], axis=-1)
            )
            nodes.append(helper.make_node("Transpose", [f"{letter}{d}"], [f"{letter}{d}_t"], perm=[1, 0]))
            nodes.append(helper.make_node("Unsqueeze", [f"{letter}{d}_t", "first"], [f"{letter}{d}_u"]))
        nodes.append(helper.make_node("Concat", [f"{letter}f_u", f"{letter}b_u"], [letter], axis=0))
    named["first"] = np.array([0])
    nodes.append(
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y", "", ""], hidden_size=4, direction="bidirectional")
    )
    net, _ = and_told(lk.load, saved(model := model_of(nodes, named), tmp_path))
    assert net.precision == "int8"
    for d, end in (("f", ""), ("b", "_reverse")):
        expected = named[f"R{d}_q"].T.reshape(4, 4, 4)[GATES].reshape(16, 4)
        assert_same_bits(net.stored()[f"weight_hh_l0{end}"], expected)
        assert_same_bits(net.stored()[f"weight_ih_l0{end}_scale"], named[f"W{d}_s"].reshape(4, 4)[GATES].ravel())
    x = normal(random, (6, 2, 3), "float32")
    theirs = run(model, x)[0].transpose(0, 2, 1, 3).reshape(6, 2, 8)
    np.testing.assert_allclose(exact(net)(x)[0], theirs, atol=1e-6)


#: What int8 cannot say here: the numbers stay as they are in the model.
AS_NUMBERS = {
    "a zero point": (lambda named: (spoil("W_z", 5)(named), spoil("W_q", -124, (0, 0, 1))(named)), {}),
    "-128": (spoil("R_q", -128, (0, 3, 2)), {}),
    "a scale below zero": (spoil("R_s", -0.002), {}),
    "a variant": (None, {"clip": 0.5}),
}


@pytest.mark.parametrize(("change", "attributes"), AS_NUMBERS.values(), ids=AS_NUMBERS)
def test_what_no_integers_say_is_float32_and_exact(tmp_path, random, change, attributes):
    model, _ = qdq(change, **attributes)
    net, told = and_told(lk.load, saved(model, tmp_path))
    assert (net.precision, told) == ("float32", [])
    x = normal(random, (6, 2, 3), "float32")
    np.testing.assert_allclose(net(x)[0], run(model, x)[0].reshape(6, 2, 4), atol=2e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n.update(W_s=np.ones(15, "f4")), "scale for each place of axis 1"),
        (lambda n: n.update(W_s=np.ones((4, 4), "f4")), "a float32 scale"),
        (lambda n: n.update(W_s=np.ones(16, "f8")), "a float32 scale"),
        (lambda n: n.update(W_z=np.zeros(3, "i1")), "as many zero points as scales"),
        (lambda n: n.update(W_q=np.ones((1, 16, 3), "f4")), "integers"),
    ],
)
def test_a_dequantize_linear_that_is_wrong(tmp_path, change, words):
    with pytest.raises(lk.FormatError, match=f"DequantizeLinear node 'W': expected .*{words}"):
        lk.load(saved(qdq(change)[0], tmp_path))


def test_infinite_scales_are_told(tmp_path):
    net, told = and_told(lk.load, saved(qdq(spoil("W_s", np.inf))[0], tmp_path))
    assert net.precision == "float32"
    assert any("NaN or infinite weights" in each for each in told)


def test_numbers_of_int8_in_a_field(tmp_path):
    """int32_data, which may hold more than 8 bits."""
    model, named = qdq()
    expected = and_told(lk.load, saved(model, tmp_path))[0].stored()["weight_ih_l0"]
    (tensor,) = (each for each in model.graph.initializer if each.name == "W_q")
    tensor.ClearField("raw_data")
    tensor.int32_data.extend(map(int, named["W_q"].ravel()))
    assert_same_bits(and_told(lk.load, saved(model, tmp_path))[0].stored()["weight_ih_l0"], expected)
    tensor.int32_data[5] = 300
    with pytest.raises(lk.FormatError, match=r"W_q: expected numbers of int8, got -\d+\.\.300"):
        lk.load(saved(model, tmp_path))


# ---------------------------------------------------------------- what save writes


@pytest.mark.parametrize("activations", ["int16", "int8"])
@each(*without("variant", {name: NETWORKS[name] for name in without("proj_size", NETWORKS)}))
def test_the_same_network_comes_back(tmp_path, random, network, activations):
    net = make(network).quantize("int8", activations)
    path = tmp_path / "net.onnx"
    lk.save(net, path)
    loaded, told = and_told(lk.load, path)
    assert told == []
    assert repr(loaded) == repr(net)
    for name, value in net.stored().items():
        assert_same_bits(loaded.stored()[name], value, name)
    x = normal(random, (4, 3, net.input_size), "float32")
    assert_same_answer(loaded(x), net(x))


@each("plain", "two layers", "two directions", "batch first, two directions", "reverse", "learned state", "wide")
def test_every_runtime_has_the_rounded_weights(tmp_path, random, network):
    """The model is that of the float32 network with the rounded weights; 16-bit activations are near it, 8-bit less."""
    net = make(network).quantize("int8")
    path = tmp_path / "net.onnx"
    lk.save(net, path, state_inputs=False)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert TensorProto.INT8 in {tensor.data_type for tensor in model.graph.initializer}
    assert {entry.domain for entry in model.opset_import} == {""}
    x = normal(random, (7, 2, net.input_size), "float32")
    theirs = run(model, x)[0]
    np.testing.assert_allclose(theirs, exact(net)(x)[0], atol=1e-5)
    assert np.abs(theirs - net(x)[0]).max() < 1e-4


def test_a_stack_and_its_bytes(tmp_path, random):
    net = with_head(lk.LSTM(100, 100, seed=0))
    for name, each_net in (("wide", net), ("narrow", net.quantize("int8"))):
        lk.save(each_net, tmp_path / f"{name}.onnx")
    assert (tmp_path / "narrow.onnx").stat().st_size < 0.3 * (tmp_path / "wide.onnx").stat().st_size
    loaded, told = and_told(lk.load, tmp_path / "narrow.onnx")
    assert told == []
    assert repr(loaded) == repr(net.quantize("int8"))
    x = normal(random, (3, 2, 100), "float32")
    assert_same_bits(loaded(x)[0], net.quantize("int8")(x)[0])


@pytest.mark.parametrize("more", [{}, {"bidirectional": True}, {"batch_first": True, "initial_state": True}])
@pytest.mark.parametrize(
    "names", [("int8", "float32", "int16"), ("int8", "int16", "int8"), ("float32", "int16", "int16")]
)
def test_a_precision_for_each_layer_comes_back(tmp_path, random, more, names):
    """An LSTM alone, and in a Stack beside one whose layers are alike."""
    lstm = mixed(lk.LSTM(5, 9, 3, seed=2, **more), *names)
    other = lk.LSTM(lstm.out_features, 7, batch_first=lstm.batch_first, seed=1).quantize("int8", "int8")
    x = normal(random, (7, 2, 5), "float32")
    for net in (lstm, lk.Stack([lstm, lk.Dense(lstm.out_features, lstm.out_features, seed=0), other])):
        path = tmp_path / "net.onnx"
        lk.save(net, path, state_inputs=False)
        loaded, told = and_told(lk.load, path)
        assert (repr(loaded), told) == (repr(net), [])
        assert_same_bits(loaded(x)[0], net(x)[0])
        words = "weights int8 float32 int8 by layer" if names[1] == "float32" else "int8"
        assert words in str(lk.inspect(path))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert np.abs(run(model, x)[0] - net(x)[0]).max() < 0.02


def test_float16_layers_become_float32_in_onnx(tmp_path, random):
    net = mixed(lk.LSTM(5, 9, 3, seed=2), "int8", "float16", "int16")
    lk.save(net, tmp_path / "net.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    assert TensorProto.FLOAT16 not in {each.data_type for each in onnx.load(tmp_path / "net.onnx").graph.initializer}
    loaded, told = and_told(lk.load, tmp_path / "net.onnx")
    assert told == []
    assert loaded.config()["precision"] == ["int8", "float32", "int8"]
    assert loaded.config()["activations"] == ["int8", None, "int16"]
    x = normal(random, (7, 2, 5), "float32")
    assert_same_answer(loaded(x), net(x))


def test_one_layer_of_several_in_its_activations(tmp_path):
    """By the node's name."""
    lk.save(mixed(lk.LSTM(5, 9, 3, seed=2), "float32", "int16", "int8"), tmp_path / "net.onnx")
    for prefix, expected in (("layer0", "float32"), ("layer1", "int16"), ("layer2", "int8")):
        assert lk.load(tmp_path / "net.onnx", prefix=prefix).activations == expected


@each("plain", "two layers", "two directions", "without bias", "batch first, two directions", "reverse", "wide")
def test_onnxruntimes_own_operator(tmp_path, random, network):
    """As near to the float32 network with the rounded weights as 8-bit activations are."""
    net = make(network).quantize("int8")
    path = tmp_path / "net.onnx"
    lk.save(net, path, state_inputs=False, dynamic=True)
    model = onnx.load(path)
    assert "DynamicQuantizeLSTM" in {node.op_type for node in model.graph.node}
    loaded, told = and_told(lk.load, path)
    assert (repr(loaded), told) == (repr(net), [])
    x = normal(random, (7, 3, net.input_size), "float32")
    assert_same_answer(loaded(x), net(x))
    assert np.abs(run(model, x)[0] - exact(net)(x)[0]).max() < 0.05


def test_where_onnxruntimes_own_operator_cannot_be(tmp_path):
    with pytest.raises(
        ValueError, match=r"dynamic: expected LSTMs that quantize\('int8'\) made, .* got float32; leave"
    ):
        lk.save(make("plain"), tmp_path / "net.onnx", dynamic=True)
    with pytest.raises(
        ValueError, match=r"dynamic: .*all of whose layers have 8-bit weights, got int8, float32; leave"
    ):
        lk.save(mixed(make("two layers"), "int8", "float32"), tmp_path / "net.onnx", dynamic=True)
    lk.save(mixed(make("two layers"), "int8", "int16"), tmp_path / "net.onnx", dynamic=True)
    assert and_told(lk.load, tmp_path / "net.onnx")[0].config()["activations"] == ["int8", "int16"]
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(ValueError, match="dynamic: expected False for"):
        lk.save(make("plain").quantize("int8"), tmp_path / "net.safetensors", dynamic=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kept",
    [
        '{"activations": "int4"}',
        '{"activations": ["int8"]}',
        '{"activations": 3}',
        '{"activations": {"layer0": "int4"}}',
        '{"activations": {"layer0": ["int8"]}}',
    ],
)
def test_activations_that_there_are_not(tmp_path, kept):
    lk.save(make("plain").quantize("int8"), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    helper.set_model_props(model, {"lstmkernel": kept})
    with pytest.raises(lk.FormatError, match="activations: expected 'int16' or 'int8'"):
        lk.load(saved(model, tmp_path))
