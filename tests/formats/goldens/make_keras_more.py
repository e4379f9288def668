"""Adds to tests/formats/goldens/keras: models in models, RNNs of cells, two directions that are added, masks.

Run once, where Keras is, with any backend; make_keras.py says how to install it. It writes more.zip and more.npz, which
hold <model>.x, <model>.y and, for masks, <model>.mask. Keras 2 is written only where tf_keras is installed.
"""

import io
import os
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras as keras_3
import numpy as np

GOLDENS = Path(__file__).parent / "keras"
FOLDER = Path(tempfile.mkdtemp())
B, T, I = 2, 5, 3

answers = {}


def filled(model, seed):
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def keep(name, model, *suffixes, x=None):
    random = np.random.default_rng(len(answers))
    answers[f"{name}.x"] = x = random.normal(size=(B, T, I)).astype("float32") if x is None else x
    answers[f"{name}.y"] = np.asarray(model.predict(x, verbose=0), "float32")
    for suffix in suffixes:
        (model.save_weights if "weights" in suffix else model.save)(FOLDER / f"{name}{suffix}")


def cells(keras):
    """An RNN of two cells, backwards; one of one cell; and one in each direction."""
    layers = keras.layers
    inside = [
        layers.RNN([layers.LSTMCell(4), layers.LSTMCell(3)], return_sequences=True, go_backwards=True, name="two"),
        layers.RNN(layers.LSTMCell(2), return_sequences=True, go_backwards=True, name="one"),
        layers.Bidirectional(layers.RNN(layers.LSTMCell(2), return_sequences=True), name="both"),
    ]
    return filled(keras.Sequential([keras.Input((None, I)), *inside]), 1)


def nested(keras):
    """A Sequential and a functional model within a functional one; names occur twice."""
    layers = keras.layers
    lower = keras.Sequential(
        [
            keras.Input((None, I)),
            layers.LSTM(4, return_sequences=True, name="lstm"),
            layers.LSTM(3, return_sequences=True, name="lstm_1"),
        ],
        name="lower",
    )
    x = keras.Input((None, 3), name="given")
    y = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="lstm")(x)
    upper = keras.Model(x, layers.Dense(2, "tanh", name="dense")(y), name="upper")
    x = keras.Input((None, I), name="x")
    return filled(keras.Model(x, layers.Dense(1, name="dense")(upper(lower(x)))), 2)


def merged(keras, mode, last=False):
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(4, return_sequences=not last), merge_mode=mode, name="both")
    return filled(
        keras.Sequential([keras.Input((None, I)), both, *([] if last else [layers.Dense(2, name="dense")])]), 3
    )


def masked(keras, functional):
    """A Masking through Dense, Dropout, both directions and an LSTM; the last one hands on one output."""
    layers = keras.layers
    inside = [
        layers.Masking(mask_value=0.5),
        layers.Dense(4),
        layers.Dropout(0.1),
        layers.LSTM(3, return_sequences=True, name="first"),
        layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both"),
        layers.LSTM(2, name="last"),
    ]
    if not functional:
        return filled(keras.Sequential([keras.Input((None, I)), *inside]), 4)
    x = y = keras.Input((None, I))
    for layer in inside:
        y = layer(y)
    return filled(keras.Model(x, y), 4)


def called_with_a_mask(keras):
    x, mask = keras.Input((None, I), name="x"), keras.Input((None,), dtype="bool", name="given_mask")
    y = keras.layers.LSTM(3, return_sequences=True, name="lstm")(x, mask=mask)
    return filled(keras.Model([x, mask], keras.layers.Dense(2, name="dense")(y)), 5)


def x_with_gaps():
    """Steps of 0.5 alone at the start, in the middle and at the end."""
    x = np.random.default_rng(9).normal(size=(B, T, I)).astype("float32")
    x[0, :2] = x[0, 3] = x[1, 4] = 0.5
    return x


def of(keras, end):
    keep(f"cells_{end}", cells(keras), ".h5", *([".keras", ".weights.h5"] if end == 3 else []))
    keep(f"nested_{end}", nested(keras), ".h5", ".keras")
    x = x_with_gaps()
    for functional in (False, True):
        name = f"masked_{'functional' if functional else 'sequential'}_{end}"
        keep(name, masked(keras, functional), ".h5", ".keras", x=x)
        answers[f"{name}.mask"] = (x != 0.5).any(-1)
    if end == 2:
        return
    for mode in ("sum", "ave"):
        keep(f"{mode}_3", merged(keras, mode), ".keras")
        keep(f"last_{mode}_3", merged(keras, mode, last=True), ".keras")
    keep("mul_3", merged(keras, "mul"), ".keras")
    model, mask = called_with_a_mask(keras), (x != 0.5).any(-1)
    answers.update({"called_3.x": x, "called_3.mask": mask, "called_3.y": model.predict([x, mask], verbose=0)})
    model.save(FOLDER / "called_3.keras")


def program():
    """A subclassed model: how it connects its layers is in its program."""

    class Program(keras_3.Model):
        def __init__(self):
            super().__init__()
            self.rnn = keras_3.layers.LSTM(4, return_sequences=True)
            self.head = keras_3.layers.Dense(2)

        def call(self, x):
            return self.head(self.rnn(x))

    model = Program()
    model(np.zeros((B, T, I), "float32"))
    filled(model, 6).save(FOLDER / "program_3.keras")


def main():
    of(keras_3, 3)
    program()
    try:
        import tf_keras
    except ImportError:
        print("no tf_keras: nothing of Keras 2")
    else:
        of(tf_keras, 2)
    np.savez_compressed(GOLDENS / "more.npz", **answers)
    with zipfile.ZipFile(GOLDENS / "more.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as files:
        for path in sorted(FOLDER.iterdir()):
            files.writestr(path.name, slim(path))


def slim(path):
    """A .keras file without compression, since it lies in a zip file that compresses better."""
    if path.suffix != ".keras":
        return path.read_bytes()
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return made.getvalue()


if __name__ == "__main__":
    main()
