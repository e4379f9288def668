"""What kind of file the input is, by its content, and which names of the output fit."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lstmkernel.formats.others.files import stand_in

NPY, NPZ, RAW, PARQUET, ARROW, SOUND = "npy", "npz", "raw", "parquet", "arrow", "sound"

ARRAYS, TABLES = (NPY, NPZ, RAW), (PARQUET, ARROW)

_SUFFIXES = {".npy": NPY, ".npz": NPZ, ".parquet": PARQUET, ".pq": PARQUET, ".arrow": ARROW, ".feather": ARROW}
_SOUNDS = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf"),
    *(".w64", ".rf64", ".voc", ".svx", ".ircam", ".mat4", ".mat5", ".paf", ".nist", ".sph", ".sd2"),
)
_TEXTS = (".csv", ".tsv", ".txt")
_FROM_TEXT = (
    "from text, make an array first: numpy.save('x.npy', numpy.loadtxt('x.csv', delimiter=',', ndmin=2)), with "
    "skiprows=1 if the first line has names"
)
_NETWORKS = (".nam", ".json", ".pt", ".pth", ".safetensors", ".onnx", ".keras", ".h5")
_BEGINNINGS = {
    **{b"\x93NUMPY": NPY, b"PK\3\4": NPZ, b"PK\5\6": NPZ, b"PAR1": PARQUET, b"ARROW1": ARROW},
    **{b"RIFF": SOUND, b"RF64": SOUND, b"fLaC": SOUND, b"OggS": SOUND, b"FORM": SOUND, b"ID3": SOUND},
}


def _way_out(suffix: str) -> str:
    if suffix in _TEXTS:
        return _FROM_TEXT
    if suffix in _NETWORKS:
        return "a network goes behind --weights"
    return "for numbers without a header, say --raw DTYPE,SHAPE"


def is_network(path: str) -> bool:
    """Whether a file of this name is taken for a network, and not for an input."""
    return _suffix(path) in _NETWORKS


def of_input(path: str) -> str:
    """NPY, NPZ, PARQUET, ARROW or SOUND: by the file's first bytes, else by its name. Fails as ``open`` does."""
    with open(path, "rb") as file:
        head = file.read(2048)
    if other := stand_in(head):
        raise ValueError(f"{path}: expected numbers, got {other.what}; {other.way_out}")
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    suffix = _suffix(path)
    if suffix == ".raw":
        raise ValueError(
            f"{path}: expected a file that says what it contains; for numbers without a header, say --raw DTYPE,SHAPE, "
            "for example --raw float32,50,40"
        )
    if suffix in _SOUNDS:
        return SOUND
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{path}: expected an array (.npy, .npz), a table (.parquet, .arrow) or a sound file (.wav, .flac, ...); "
            + _way_out(suffix)
        )
    return _SUFFIXES[suffix]


def of_output(path: str, what: str, fitting: Sequence[str]) -> str:
    """The kind that the name asks for. ValueError if it is not among ``fitting``, kinds that can hold ``what``."""
    suffix = _suffix(path)
    kind = _SUFFIXES.get(suffix)
    if kind is None or kind not in fitting:
        names = [name for name, kind in _SUFFIXES.items() if kind in fitting]
        got = suffix or "a name without one"
        raise ValueError(f"{path}: expected a suffix of {', '.join(names)} for {what}, got {got}")
    return kind


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
