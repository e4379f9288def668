"""Changes of a Keras file, and what must come of them: the file's name and the reason, in few words."""

from __future__ import annotations

import json

import pytest

import lstmkernel as lk

h5py = pytest.importorskip("h5py")


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
