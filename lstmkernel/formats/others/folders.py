"""Folders that are models: what each is, and the way to a file that lstmkernel reads."""

from __future__ import annotations

import os

from lstmkernel.formats.others.files import CHECKPOINT, CORE_ML, SAVED_MODEL, Other

UNPACKED_PT = Other("an unpacked .pt file", "pack it again: python -m zipfile -c model.pt FOLDER")
UNPACKED_KERAS = Other(
    "an unpacked .keras file",
    "pack it again, in the folder: python -m zipfile -c model.keras config.json metadata.json model.weights.h5",
)

#: How many files of a folder are named.
MOST_NAMED = 6


def recognised(path: str) -> Other | None:
    """What a folder is, if it is a model."""
    found = set(os.listdir(path))
    if "saved_model.pb" in found:
        return SAVED_MODEL
    if path.rstrip("/").endswith(".mlpackage") or {"Manifest.json", "Data"} <= found:
        return CORE_ML
    if "data.pkl" in found:
        return UNPACKED_PT
    if {"config.json", "model.weights.h5"} <= found:
        return UNPACKED_KERAS
    if "checkpoint" in found or any(name.endswith(".index") for name in found):
        return CHECKPOINT._replace(what="a folder of a TensorFlow checkpoint")
    return None


def loadable(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """The names of files in a folder that may be models."""
    found = [name for name in sorted(os.listdir(path)) if name.lower().endswith(suffixes)]
    return found[:MOST_NAMED]
