"""Files of other kinds, told by their content: each with its name, and the way to a file that lstmkernel reads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from lstmkernel.formats.others import protobufs
from lstmkernel.formats.pytorch.containers import is_oldest
from lstmkernel.formats.untrusted import archive


class Other(NamedTuple):
    """What a file is, and what to do."""

    what: str
    way_out: str


TRAINED = "save it where it was trained: as .onnx, from Keras as .keras, or from PyTorch its state_dict as .pt"
KERAS = "save the model in Keras, model.save('model.keras')"
PACKED = "unpack it and load the model inside"

SAVED_MODEL = Other(
    "a TensorFlow SavedModel",
    f"{KERAS}, or convert the folder: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
)
TENSORFLOW_GRAPH = Other("a graph of TensorFlow 1", f"{KERAS}, where the graph was made")
CHECKPOINT = Other("a part of a TensorFlow checkpoint", f"load it into the model that it belongs to, and {KERAS}")
CORE_ML = Other("a Core ML model", TRAINED)
TFLITE = Other(
    "a TensorFlow Lite model",
    "load the model that it was converted from: save that in Keras, model.save('model.keras')",
)
OPENVINO = Other("an OpenVINO model", "load the model that it was converted from: an .onnx, .keras or .pt file")
_LFS_BEGINNING = b"version https://git-lfs.github.com/spec/"
LFS = Other("a Git LFS pointer, which stands for the file itself", "fetch the file: git lfs pull")
WEB_PAGE = Other("a web page", "download the file itself: on GitHub and Hugging Face that is its raw or download link")
EXPORTED = Other(
    "a program of torch.export",
    "in PyTorch, torch.save(dict(torch.export.load(old).state_dict), new) saves its weights",
)

_PROTOBUFS = {
    "Core ML": CORE_ML,
    "SavedModel": SAVED_MODEL,
    "GraphDef": TENSORFLOW_GRAPH,
    "MetaGraphDef": CHECKPOINT,
}

#: By the bytes that a file has at a place.
_SIGNATURES = {
    (0, _LFS_BEGINNING): LFS,
    (0, b"model_checkpoint_path:"): CHECKPOINT,
    (4, b"TFL3"): TFLITE,
    (4, b"ORTM"): Other("a model in ONNX Runtime's own format", "load the .onnx file that it was converted from"),
    (4, b"ET12"): Other("an ExecuTorch program", "save the module's state_dict: torch.save(model.state_dict(), new)"),
    (0, b"GGUF"): Other("a GGUF file of a language model", "there is no LSTM in such files"),
    (0, b"ftrt"): Other("a TensorRT engine", "load the .onnx file that it was built from"),
    (0, b"\x93NUMPY"): Other(
        "one NumPy array without a name",
        "give lstmkernel.from_torch a dict of all the arrays under PyTorch's names (weight_ih_l0, ...)",
    ),
    (0, b"MATLAB 5.0 MAT-file"): Other("a MATLAB file", "export the network there: exportONNXNetwork(net, 'net.onnx')"),
    (0, b"\x1f\x8b"): Other("a gzip file", PACKED),
    (0, b"BZh"): Other("a bzip2 file", PACKED),
    (0, b"\xfd7zXZ\0"): Other("an xz file", PACKED),
    (0, b"\x28\xb5\x2f\xfd"): Other("a zstd file", PACKED),
    (0, b"7z\xbc\xaf\x27\x1c"): Other("a 7z archive", PACKED),
    (0, b"Rar!"): Other("a RAR archive", PACKED),
    (257, b"ustar"): Other("a tar archive", PACKED),
    (8, b"WAVEfmt"): Other("a sound file", "give it to lstmkernel run --weights MODEL"),
    (0, b"\x89PNG"): Other("a picture", TRAINED),
    (0, b"%PDF"): Other("a PDF document", TRAINED),
}

#: What a zip has among its members' names.
_MEMBERS: dict[str, Other] = {
    r"\.npy$": Other(
        "NumPy arrays (.npz)",
        "if they have PyTorch's names (weight_ih_l0, ...), lstmkernel.from_torch(dict(numpy.load(path)))",
    ),
    r"(^|/)saved_model\.pb$": SAVED_MODEL._replace(what="a zip of a TensorFlow SavedModel"),
    r"\.mlmodel$": CORE_ML._replace(what="a zip of a Core ML model"),
    r"(^|/)(archive_format|serialized_exported_program\.json)$": EXPORTED,
}

#: What the beginning of a JSON file has.
_JSON = {
    rb'"weight_map"\s*:': Other(
        "the index of weights in several files", "load the file that has the LSTM's tensors: the index names it"
    ),
    rb'"modelTopology"\s*:': Other("a TensorFlow.js model", TRAINED),
    rb'"class_name"\s*:\s*"(Sequential|Functional|Model)"': Other(
        "a Keras model's architecture without its weights", "save both: model.save('model.keras')"
    ),
}

_TABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # ends an index of a TensorFlow checkpoint


def recognised(path: str, head: bytes) -> Other | None:
    """What a file of another kind is; None if it may be of a format that lstmkernel reads."""
    return next(filter(None, (find(path, head) for find in _FINDERS)), None)


def stand_in(head: bytes) -> Other | None:
    """What a download may give in place of a file of any kind."""
    found = LFS if head.startswith(_LFS_BEGINNING) else _markup("", head)
    return found if found in (LFS, WEB_PAGE) else None


def text(head: bytes) -> Other | None:
    """A file of plain text, which no format recognised; JSON is left to the formats that are JSON."""
    try:
        words = head.decode("utf-8")
    except UnicodeDecodeError:
        return None
    line = next((line for line in words.splitlines() if line.strip()), "")
    if not line or line.lstrip()[0] in "[{" or any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in words):
        return None
    return Other(f"text that begins with {line[:40]!r}", TRAINED)


def _empty(path: str, head: bytes) -> Other | None:
    return None if head else Other("an empty file, 0 bytes", "copy or download it again")


def _signature(path: str, head: bytes) -> Other | None:
    if is_oldest(head):  # a tar of PyTorch, whose reader knows more to say
        return None
    return next((other for (at, magic), other in _SIGNATURES.items() if head.startswith(magic, at)), None)


def _markup(path: str, head: bytes) -> Other | None:
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:2000].lower()
    if begin.startswith((b"<!doctype html", b"<html", b"<head")):
        return WEB_PAGE
    if begin.startswith(b"<?xml") or begin.startswith(b"<net"):
        return OPENVINO if b"<net " in begin else Other("an XML file", TRAINED)
    return None


def _protobuf(path: str, head: bytes) -> Other | None:
    return _PROTOBUFS.get(protobufs.kind(head) or "")


def _zip(path: str, head: bytes) -> Other | None:
    if not head.startswith(archive.MAGIC):
        return None
    names = archive.names(path)
    if any(name.endswith("/data.pkl") for name in names):
        return None
    return next((other for sign, other in _MEMBERS.items() if any(re.search(sign, name) for name in names)), None)


def _json(path: str, head: bytes) -> Other | None:
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return None
    return next((other for sign, other in _JSON.items() if re.search(sign, head[:4096])), None)


def _pickle(path: str, head: bytes) -> Other | None:
    """Pickles are read as PyTorch's; those of scikit-learn are not even near."""
    if head[:1] == b"\x80" and re.search(rb"sklearn\.|joblib\.numpy_pickle", head[:4096]):
        return Other("a pickle of scikit-learn or joblib", "nothing in a file is executed; " + TRAINED)
    return None


def _checkpoint(path: str, head: bytes) -> Other | None:
    if re.search(r"\.data-\d{5}-of-\d{5}$", path):
        return CHECKPOINT
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
        return CHECKPOINT if file.read(8) == _TABLE_MAGIC else None


def _beside_xml(path: str, head: bytes) -> Other | None:
    """The weights of an OpenVINO model have no sign of their own, but the model beside them has."""
    xml = os.path.splitext(path)[0] + ".xml"
    if not path.endswith(".bin") or head.startswith(archive.MAGIC) or not os.path.isfile(xml):
        return None
    with open(xml, "rb") as file:
        return _markup(xml, file.read(2000))


_FINDERS: tuple[Callable[[str, bytes], Other | None], ...] = (
    _empty,
    _signature,
    _markup,
    _zip,
    _json,
    _pickle,
    _protobuf,
    _checkpoint,
    _beside_xml,
)
