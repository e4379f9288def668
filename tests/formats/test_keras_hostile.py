"""Keras's files that are broken or mean harm: each is a FormatError that says what is wrong with it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from fuzz_targets import keras_config_target, keras_hdf5, keras_hdf5_target, rezipped, zipped
from hostile import assert_refused_wherever_cut, assert_survives_changed_bytes, refused_in_little_memory

import lstmkernel as lk

h5py = pytest.importorskip("h5py")
from keras_changes import changed, reconfigured, refusal, replaced  # noqa: E402

KERNEL = "model_weights/lstm/kernel:0"


@pytest.fixture
def path(tmp_path):
    """A small model of Keras 2, good so far: an LSTM and a Dense."""
    path = tmp_path / "model.h5"
    path.write_bytes(keras_hdf5())
    return path


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
    expected = {"SoftLink": "expected the object itself, got a link", "ExternalLink": "newer links, such as to other"}
    assert expected[kind] in refusal(path)
    if kind == "SoftLink" and name == KERNEL:
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
    assert "HDF5: layout: expected version 3, got 4" in refusal(path)


@pytest.mark.parametrize("name", ["../../kept", "/kept", "./kernel:0", "", "kernel:0/x", "\u00e4"])
def test_names_of_weights_that_lead_elsewhere(path, name):
    def change(h5):
        h5["kept"] = h5[KERNEL][()]
        names = [name, "recurrent_kernel:0", "bias:0"]
        h5["model_weights/lstm"].attrs["weight_names"] = [name.encode() for name in names]

    changed(path, change)
    assert "not in the file" in refusal(path)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "name", "arrays"), [(20_000, "a", 1), (20, "x" * 60_000, 200)])
def test_groups_in_groups(path, tmp_path, depth, name, arrays):
    """HDF5's own visit of so many would end the process, and each array's name repeats the whole way to it."""
    good = tmp_path / "good.h5"
    good.write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as h5:
        group = h5["model_weights"]
        for _ in range(depth):
            group = group.create_group(name)
        for number in range(arrays):
            group[str(number)] = np.zeros(1)
    message = refused_in_little_memory(path, good)
    assert f"model_weights/{name[:50]}" in message
    if depth > 20:
        assert "expected a path of at most 1000 letters to an array" in message
        assert lk.load(path)
    else:
        assert "expected names of 1 to 1000 letters" in message


@pytest.mark.parametrize("name", ["model_weights", "model_weights/lstm"])
def test_a_group_that_holds_itself(path, name):
    changed(path, lambda h5: h5[name].__setitem__("again", h5["model_weights"]))
    assert len(lk.inspect(path).tensors) == 5


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"compression": "lzf"}, "got lzf (32000)"),
        ({"fletcher32": True}, "got Fletcher-32 (3)"),
        ({"scaleoffset": 2}, "got scale-offset (6)"),
    ],
)
def test_filters(path, options, got):
    """One may be a plug-in, which is code; and libhdf5 crashes on a wrong checksum of two bytes."""
    replaced(path, KERNEL, data=np.zeros((1, 4), "float32"), **options)
    assert "filters: expected none, or deflate and shuffle, " + got in refusal(path)


# ---------------------------------------------------------------- arrays that are not what they should be


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3), "float32"), r"kernel: expected shape (I, 4), got (1, 3)"),
        (np.zeros((1, 4, 1), "float32"), r"kernel: expected shape (I, 4), got (1, 4, 1)"),
        (np.zeros((0, 4), "float32"), r"kernel: expected shape (I, 4), got (0, 4)"),
        (np.float32(1), "kernel: expected shape (I, 4), got ()"),
        (np.zeros((1, 4), "int32"), "expected float16, bfloat16, float32 or float64, got int32"),
        (np.zeros((1, 4), "complex64"), "got a compound of 8 bytes"),
        (np.zeros((1, 4), "V2"), "got void16"),
        (np.array([[b"text"] * 4]), "got text of 4 bytes"),
        (np.zeros((1, 4), [("a", "f4"), ("b", "i8")]), "got a compound of 12 bytes"),
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
    assert "expected a group or an array, got neither" in refusal(path)


def test_an_array_in_place_of_a_group(path):
    replaced(path, "model_weights/lstm", np.zeros(3))
    assert "model_weights/lstm: expected a group, got an array" in refusal(path)


def test_a_missing_array(path):
    changed(path, lambda h5: h5.__delitem__(KERNEL))
    assert "model_weights/lstm/kernel:0: not in the file" in refusal(path)


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
    assert "expected layers alone, got also 'head': the model is subclassed" in refusal(path)
    assert lk.load(path, prefix="lstm").input_size == 1
    assert "the model is subclassed" in " ".join(lk.inspect(path).notes)


@pytest.mark.filterwarnings("ignore:.*weights alone:RuntimeWarning")
def test_weights_of_a_model_in_the_model(path):
    """How it is connected is not in the file, but its layers are."""
    weights_alone(path)
    changed(path, lambda h5: h5.copy("layers/lstm", h5.require_group("layers/sequential/layers"), "lstm"))
    changed(path, lambda h5: h5.copy("layers/sequential", h5.require_group("layers/functional/layers"), "sequential"))
    assert "layer 'functional' (functional): expected LSTM" in refusal(path)
    names = ["lstm", "sequential/lstm", "functional/sequential/lstm"]
    assert sorted(network.prefix for network in lk.inspect(path).networks) == sorted(names)
    for name in names:
        assert lk.load(path, prefix=name).input_size == 1


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_bomb_that_says_less(path, tmp_path):
    target, good = keras_config_target(), tmp_path / "good.keras"
    good.write_bytes(target.wrap(target.payload))
    path.write_bytes(rezipped(good.read_bytes(), {"model.weights.h5": bytes(1 << 28)}, zipfile.ZIP_DEFLATED))
    declared, said = ((size).to_bytes(4, "little") for size in (1 << 28, 1000))
    path.write_bytes(path.read_bytes().replace(declared, said))
    assert "zip: model.weights.h5: " in refused_in_little_memory(path, good)


# ---------------------------------------------------------------- bytes


@pytest.mark.slow
def test_hdf5_cut(tmp_path):
    """Anywhere in what comes first, then here and there: all of it is one comparison of sizes."""
    target = keras_hdf5_target()
    sizes = [*range(600), *range(600, len(target.payload), 97)]
    assert_refused_wherever_cut(target, tmp_path, sizes)


@pytest.mark.slow
def test_a_configuration_cut_anywhere(tmp_path):
    assert_refused_wherever_cut(keras_config_target(), tmp_path)


def test_a_zip_cut_anywhere(tmp_path):
    target = keras_config_target()
    whole = target.wrap(target.payload)
    for size in [*range(4, 100), *range(100, len(whole), 97)]:
        path = tmp_path / "cut.keras"
        path.write_bytes(whole[:size])
        assert "is the file cut off?" in refusal(path)


@pytest.mark.slow
def test_any_byte_of_the_configuration_changed(tmp_path):
    assert_survives_changed_bytes(keras_config_target(), tmp_path)


@pytest.mark.slow
def test_some_bytes_of_hdf5_changed(tmp_path):
    target = keras_hdf5_target()
    assert_survives_changed_bytes(target, tmp_path, range(0, len(target.payload), 37))
