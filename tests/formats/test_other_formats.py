"""Files of formats that lstmkernel does not read: each is named, and the way out that the error names works."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_targets import SMALL, keras_config_target, written, zipped

import lstmkernel as lk
from lstmkernel.formats import formats
from lstmkernel.formats.others import files as others


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(place, value):
    """A field of a protobuf message: an integer, or bytes."""
    if isinstance(value, int):
        return varint(place << 3) + varint(value)
    return varint(place << 3 | 2) + varint(len(value)) + value


NODE = field(1, b"x") + field(2, b"Placeholder")
OPERATORS = field(1, field(1, b"Placeholder"))
GOOD = written(lambda path: lk.save(lk.LSTM(1, 2, seed=0), path), ".safetensors")


def core_ml(network=500, described=b"\x0a\x07\x0a\x05input"):
    return field(1, 4) + field(2, described) + field(network, b"")


def saved_model(info):
    return field(1, 1) + field(2, field(1, info) + field(2, field(1, NODE)))


def tar(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        about = tarfile.TarInfo("model.safetensors")
        about.size = len(content)
        made.addfile(about, io.BytesIO(content))
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, **lk.LSTM(1, 2, seed=0).state_dict())
    return file.getvalue()


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


TRAINED_TF = "model.save('model.keras')"
FILES = {
    "empty": (b"", "an empty file, 0 bytes; copy or download it again"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
        "a Git LFS pointer.*git lfs pull",
    ),
    "HTML": (b"\n<!DOCTYPE html>\n<html><head></head></html>", "a web page; download the file itself"),
    "HTML in capitals": (b"<HTML><BODY>404</BODY></HTML>", "a web page"),
    "Core ML": (core_ml(), "a Core ML model; save it where it was trained"),
    "Core ML, an ML program": (core_ml(502, field(10, field(1, b"out"))), "a Core ML model"),
    "Core ML, a pipeline": (core_ml(202, field(100, field(1, b"words"))), "a Core ML model"),
    "SavedModel": (saved_model(field(4, b"serve") + field(5, b"2.21.0")), "a TensorFlow SavedModel; .*tf2onnx.convert"),
    "SavedModel with operators": (saved_model(field(1, OPERATORS) + field(5, b"2.21.0")), "a TensorFlow SavedModel"),
    "a long SavedModel": (saved_model(field(1, OPERATORS * 5000) + field(5, b"2.21.0")), "a TensorFlow SavedModel"),
    "a frozen graph": (
        field(1, NODE) + field(1, NODE),
        "a graph of TensorFlow 1; " + re.escape("save the model in Keras"),
    ),
    "a MetaGraph": (field(1, field(1, OPERATORS) + field(5, b"1.15.0")), "a part of a TensorFlow checkpoint"),
    "a checkpoint's list": (b'model_checkpoint_path: "ckpt-1"\n', "a part of a TensorFlow checkpoint"),
    "a checkpoint's index": (bytes(100) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "a part of a TensorFlow checkpoint"),
    "TensorFlow Lite": (
        struct.pack("<I", 28) + b"TFL3" + bytes(56),
        "a TensorFlow Lite model; load the model that it was",
    ),
    "ONNX Runtime": (struct.pack("<I", 28) + b"ORTM" + bytes(56), "ONNX Runtime's own format; load the .onnx file"),
    "ExecuTorch": (struct.pack("<I", 28) + b"ET12" + bytes(56), "an ExecuTorch program; save the module's state_dict"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(16), "a GGUF file"),
    "TensorRT": (b"ftrt" + bytes(16), "a TensorRT engine"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="lstm" version="11">\n</net>', "an OpenVINO model"),
    "XML": (b'<?xml version="1.0"?>\n<rss></rss>', "an XML file"),
    "TensorFlow.js": (
        b'{"format": "layers-model", "modelTopology": {}, "weightsManifest": []}',
        "a TensorFlow.js model",
    ),
    "a Keras architecture": (
        json.dumps({"class_name": "Sequential", "config": {}}).encode(),
        "architecture without its w",
    ),
    "an index of shards": (
        json.dumps({"metadata": {}, "weight_map": {"a": "b"}}).encode(),
        "the index of weights in several",
    ),
    "scikit-learn": (
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x1csklearn.linear_model._logistic",
        "scikit-learn",
    ),
    "npy": (npy(), r"one NumPy array without a name; give lstmkernel\.from_torch a dict"),
    "npz": (npz(), r"NumPy arrays \(\.npz\); if they have PyTorch's names"),
    "gzip": (gzip.compress(GOOD), "a gzip file; unpack it"),
    "bzip2": (bz2.compress(GOOD), "a bzip2 file; unpack it"),
    "xz": (lzma.compress(GOOD), "an xz file; unpack it"),
    "tar": (tar(GOOD), "a tar archive; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "a 7z archive"),
    "a zip of SavedModel": (zipped({"m/saved_model.pb": b"\x08\x01"}), "a zip of a TensorFlow SavedModel"),
    "a zip of Core ML": (
        zipped({"m.mlpackage/Data/com.apple.CoreML/model.mlmodel": b"\x08"}),
        "a zip of a Core ML model",
    ),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(90), "a MATLAB file; .*exportONNXNetwork"),
    "sound": (b"RIFF" + bytes(4) + b"WAVEfmt " + bytes(20), "a sound file; give it to lstmkernel run"),
    "text": (b"Not found: the model has moved.\n", "text that begins with 'Not found: the model has moved.'; save it"),
}


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".h5", ".safetensors", ".json", ".nam", ".bin", ""])
@pytest.mark.parametrize("what", FILES)
def test_content_says_what_it_is_whatever_its_name(tmp_path, what, suffix):
    content, words = FILES[what]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    for door in (lk.load, lk.inspect):
        with pytest.raises(lk.FormatError, match=words) as error:
            door(path)
        assert str(error.value).startswith(f"{path}: expected one of safetensors")
        assert "opset" not in str(error.value)


def test_a_checkpoints_data_by_its_name_and_openvinos_by_the_model_beside_it(tmp_path):
    data, weights = tmp_path / "ckpt.data-00000-of-00001", tmp_path / "model.bin"
    for path in (data, weights):
        path.write_bytes(bytes(range(256)))
    with pytest.raises(lk.FormatError, match="a part of a TensorFlow checkpoint"):
        lk.load(data)
    with pytest.raises(lk.FormatError, match=r"got a file that begins with b'"):
        lk.load(weights)
    (tmp_path / "model.xml").write_bytes(FILES["OpenVINO"][0])
    with pytest.raises(lk.FormatError, match="an OpenVINO model"):
        lk.load(weights)


def test_no_file_that_loads_is_taken_for_another():
    """The good files of every format, which the fuzzer has."""
    from fuzz_targets import targets

    for target in targets():
        head = target.wrap(target.payload)
        assert others.recognised(__file__, head) is None, target.name


# ---------------------------------------------------------------- folders


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(b"\x08\x01")
    return tmp_path / "model"


FOLDERS = {
    "SavedModel": (["saved_model.pb", "variables/variables.index"], "a TensorFlow SavedModel; "),
    "Core ML": (["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"], "a Core ML model; "),
    "TorchScript or .pt": (["data.pkl", "constants.pkl", "data/0"], "an unpacked .pt file; "),
    "Keras": (["config.json", "metadata.json", "model.weights.h5"], "an unpacked .keras file; "),
    "a checkpoint": (["checkpoint", "ckpt-1.index"], "a folder of a TensorFlow checkpoint; "),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_that_is_a_model(tmp_path, what):
    names, words = FOLDERS[what]
    path = folder_of(tmp_path, *names)
    for door in (lk.load, lk.inspect):
        with pytest.raises(lk.FormatError, match=words):
            door(path)


def test_a_folder_with_models_in_it(tmp_path):
    path = folder_of(tmp_path, "b.onnx", "readme.md", "a.SAFETENSORS")
    with pytest.raises(
        IsADirectoryError, match=r"is a directory; files in it that may be models: a.SAFETENSORS, b.onnx"
    ):
        lk.load(path)
    with pytest.raises(IsADirectoryError, match=r"is a directory$"):
        lk.load(folder_of(tmp_path / "other", "readme.md"))


# ---------------------------------------------------------------- the ways out


def refusal(path):
    with pytest.raises(lk.FormatError) as error:
        lk.load(path)
    return str(error.value)


@pytest.mark.parametrize("what", ["gzip", "bzip2", "xz", "tar"])
def test_what_is_packed_can_be_unpacked(tmp_path, what):
    path = tmp_path / "packed"
    path.write_bytes(FILES[what][0])
    assert "unpack it and load the model inside" in refusal(path)
    content = {"gzip": gzip.decompress, "bzip2": bz2.decompress, "xz": lzma.decompress}.get(what, bytes)(
        path.read_bytes()
    )
    if what == "tar":
        with tarfile.open(path) as packed:
            content = packed.extractfile("model.safetensors").read()
    (tmp_path / "model").write_bytes(content)
    assert isinstance(lk.load(tmp_path / "model"), lk.LSTM)


def test_arrays_of_numpy(tmp_path):
    path, lstm = tmp_path / "lstm.npz", lk.LSTM(1, 2, seed=0)
    path.write_bytes(npz())
    assert "lstmkernel.from_torch(dict(numpy.load(path)))" in refusal(path)
    for name, value in lk.from_torch(dict(np.load(path))).state_dict().items():
        assert (value == lstm.state_dict()[name]).all()


def test_an_unpacked_pt_can_be_packed(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.LSTM(1, 2).state_dict(), tmp_path / "lstm.pt")
    with zipfile.ZipFile(tmp_path / "lstm.pt") as packed:
        packed.extractall(tmp_path)
    assert "python -m zipfile -c model.pt FOLDER" in refusal(tmp_path / "lstm")
    subprocess.run([sys.executable, "-m", "zipfile", "-c", "model.pt", "lstm"], cwd=tmp_path, check=True)
    assert isinstance(lk.load(tmp_path / "model.pt"), lk.LSTM)


def test_an_unpacked_keras_can_be_packed(tmp_path):
    pytest.importorskip("h5py")
    target = keras_config_target()
    with zipfile.ZipFile(io.BytesIO(target.wrap(target.payload))) as packed:
        packed.extractall(tmp_path / "folder")
    command = re.search(r"in the folder: python (-m zipfile .*)", refusal(tmp_path / "folder"))
    subprocess.run([sys.executable, *command[1].split()], cwd=tmp_path / "folder", check=True)
    assert isinstance(lk.load(tmp_path / "folder" / "model.keras"), lk.Stack)


@pytest.mark.slow
def test_a_program_of_torch_export(tmp_path):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(torch.nn.LSTM(2, 3), (torch.zeros(4, 1, 2),)), tmp_path / "old.pt2")
    assert "torch.save(dict(torch.export.load(old).state_dict), new)" in refusal(tmp_path / "old.pt2")
    torch.save(dict(torch.export.load(tmp_path / "old.pt2").state_dict), tmp_path / "new.pt")
    assert isinstance(lk.load(tmp_path / "new.pt"), lk.LSTM)


#: The ways out that need a program which is not here, or a person: they were walked by hand, or say where to look.
NOT_WALKED = {
    "save it where it was trained",
    "save the model in Keras",
    "load the .onnx file that it was converted from",
    "load the .onnx file that it was built from",
    "load the model that it was converted from",
    "load it into the model that it belongs to",
    "load the file that has the LSTM's tensors",
    "fetch the file: git lfs pull",
    "download the file itself",
    "copy or download it again",
    "there is no LSTM in such files",
    "export the network there: exportONNXNetwork",
    "give it to lstmkernel run",
    "save both: model.save",
    "save the module's state_dict",
    "nothing in a file is executed",
}
WALKED = {
    "unpack it",
    "if they have PyTorch's names",
    "give lstmkernel.from_torch a dict",
    "in PyTorch, torch.save(dict(",
}


@pytest.mark.parametrize("what", FILES)
def test_every_way_out_is_walked_above_or_known(tmp_path, what):
    path = tmp_path / "model"
    path.write_bytes(FILES[what][0])
    assert any(f"; {way}" in refusal(path) for way in NOT_WALKED | WALKED), refusal(path)


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("what", [None, 3, 1.5, ["a.pt"], object], ids=repr)
def test_what_is_no_path(what):
    for door in (lk.load, lk.inspect, lambda path: lk.save(lk.LSTM(1, 2), path)):
        with pytest.raises(TypeError, match=r"path: expected a path, a str or an os.PathLike, got"):
            door(what)


def test_an_open_file_is_no_path(tmp_path):
    with (tmp_path / "a.pt").open("wb") as file, pytest.raises(TypeError, match=r"got BufferedWriter; give its name"):
        lk.load(file)


def test_paths_of_bytes(tmp_path):
    class Place:
        def __fspath__(self):
            return bytes(tmp_path / "net.safetensors")

    for path in (bytes(tmp_path / "net.safetensors"), Place(), Path(tmp_path / "net.safetensors")):
        lk.save(SMALL, path)
        assert isinstance(lk.load(path), lk.Stack)
        assert lk.inspect(path).networks
    (tmp_path / "net.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors: no such file"):
        lk.load(bytes(tmp_path / "net.safetensors"))


def test_every_format_says_its_name_in_the_error(tmp_path):
    path = tmp_path / "unknown"
    path.write_bytes(bytes([200, 1, 7, 255]))
    with pytest.raises(lk.FormatError) as error:
        lk.load(path)
    assert all(each.NAME in str(error.value) for each in formats())


@pytest.mark.parametrize("suffix", ["", ".pt", ".onnx"])
def test_files_of_a_byte_or_of_the_beginning_of_a_signature(tmp_path, suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnx")
    path = tmp_path / f"file{suffix}"
    signatures = [bytes(at) + magic for at, magic in others._SIGNATURES]
    beginnings = {signature[:size] for signature in signatures for size in range(len(signature) + 1)}
    for content in (*(bytes([byte]) for byte in range(256)), *sorted(beginnings)):
        path.write_bytes(content)
        for door in (lk.load, lk.inspect):
            with pytest.raises(lk.FormatError):
                door(path)
