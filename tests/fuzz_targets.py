"""One small good file of every format, for the fuzzer: the corpus, made anew rather than kept."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from hostile import Target

import lstmkernel as lk

SMALL = lk.Stack([lk.LSTM(1, 1, seed=1), lk.Dense(1, 1, seed=1)])


def written(write: Callable[[Path], object], suffix: str) -> bytes:
    """What ``write`` writes into a file of that suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{suffix}"
        write(path)
        return path.read_bytes()


def rezipped(archive: bytes, changed: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """The same zip with some members' content changed, or added at the end, checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w", method) as new:
        for name, content in {**{name: old.read(name) for name in old.namelist()}, **changed}.items():
            new.writestr(name, content)
    return file.getvalue()


def torch_pickle_target() -> Target:
    """The pickle in a small ``.pt`` file; its zip is made around it."""
    import torch

    state = {"lstm." + name: value for name, value in torch.nn.LSTM(1, 1).state_dict().items()}
    state |= {"head." + name: value for name, value in torch.nn.Linear(1, 1).state_dict().items()}
    archive = written(lambda path: torch.save(state, path), ".pt")
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        data = file.read("net/data.pkl")
    return Target("torch", ".pt", data, lambda payload: rezipped(archive, {"net/data.pkl": payload}))


def torch_json_target() -> Target:
    state = {name: value.tolist() for name, value in SMALL.layers[0].state_dict().items()}
    return Target("torch_json", ".json", json.dumps({"lstm": state, "epoch": 3}).encode())


def targets() -> list[Target]:
    """Those whose package is missing stay out."""
    found = [
        Target("safetensors", ".safetensors", written(lambda path: lk.save(SMALL, path), ".safetensors")),
        torch_json_target(),
    ]
    for package, make in (("torch", torch_pickle_target),):
        if find_spec(package):
            found.append(make())
    return found
