"""Makes tests/goldens/keras: models as Keras 3 and Keras 2 save them (files.zip), and what they answered (answers.npz).

Run once, where Keras is (the tests need none of it):

    python -m venv /tmp/keras && /tmp/keras/bin/pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0 keras==3.15.1
    /tmp/keras/bin/python tests/formats/goldens/make_keras.py

answers.npz holds <model>.x, (B, T, I), and <model>.y, the model's own answer. tf_keras is Keras 2 under another name.
"""

import tempfile
import zipfile
from pathlib import Path

import keras as keras_3
import numpy as np
import tf_keras as keras_2
from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM

GOLDENS = Path(__file__).parent / "keras"
FOLDER = Path(tempfile.mkdtemp())
B, T, I = 2, 6, 3

answers = {}


def filled(model, seed, scale=0.5):
    """Every weight of its own, so that no gate, direction or bias can be taken for another."""
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, scale, weight.shape) for weight in model.get_weights()])
    return model


def keep(name, model, *suffixes, weights=()):
    x = np.random.default_rng(len(answers)).normal(size=(B, T, I)).astype("float32")
    answers[f"{name}.x"], answers[f"{name}.y"] = x, np.asarray(model.predict(x, verbose=0), "float32")
    for suffix in suffixes:
        model.save(FOLDER / f"{name}{suffix}")
    for suffix in weights:
        model.save_weights(FOLDER / f"{name}{suffix}")


def trained(model):
    """Moments of the optimizer come into the file, as large as the weights."""
    model.compile("adam", "mse")
    random = np.random.default_rng(0)
    x = random.normal(size=(B, T, I))
    model.fit(x, np.zeros_like(model.predict(x, verbose=0)), verbose=0)
    return model


def whole(keras):
    """Every kind of layer that can be loaded."""
    layers = keras.layers
    inside = [
        layers.LSTM(4, return_sequences=True, name="first"),
        layers.Dropout(0.1),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both"),
        layers.TimeDistributed(layers.Dense(4, activation="tanh"), name="every_step"),
        layers.LSTM(2, return_sequences=True, use_bias=False, unit_forget_bias=False),
        layers.Dense(1, activation="sigmoid", use_bias=False),
    ]
    return trained(filled(keras.Sequential([keras.Input((None, I)), *inside]), 1))


def last(keras):
    """A functional model, as people write them: the last output, and a head on it."""
    layers = keras.layers
    x = keras.Input((None, I))
    y = layers.LSTM(4, return_sequences=True)(x)
    y = layers.LSTM(3)(layers.Dropout(0.2)(y))
    return filled(keras.Model(x, layers.Dense(2)(y)), 2)


def sequential(keras, *inside, seed):
    return filled(keras.Sequential([keras.Input((None, I)), *inside]), seed)


def backwards(keras):
    layers = keras.layers
    return sequential(
        keras,
        layers.LSTM(3, return_sequences=True),
        layers.LSTM(4, return_sequences=True, go_backwards=True),
        layers.LSTM(2, return_sequences=True),
        layers.LSTM(3, return_sequences=True, go_backwards=True),
        layers.LSTM(2, return_sequences=True, go_backwards=True),
        seed=3,
    )


def activations(keras):
    layers = keras.layers
    inside = [
        layers.LSTM(3, return_sequences=True, activation="linear", recurrent_activation="sigmoid"),
        layers.LSTM(4, return_sequences=True, activation="relu"),
        layers.Bidirectional(
            layers.LSTM(3, return_sequences=True, activation="softsign", recurrent_activation="hard_sigmoid")
        ),
        layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid"),
        layers.Dense(4, activation="relu"),
    ]
    return filled(keras.Sequential([keras.Input((None, I)), *inside]), 4, scale=0.9)


def cudnn():
    """CuDNNLSTM runs on a GPU only, so Keras's own conversion to LSTM gives the answer."""
    layers = keras_2.layers
    model = sequential(keras_2, CuDNNLSTM(4, return_sequences=True), layers.Dense(2), seed=5)
    model.save(FOLDER / "cudnn.h5")
    model.save_weights(FOLDER / "cudnn_weights.h5")
    twin = sequential(keras_2, layers.LSTM(4, return_sequences=True), layers.Dense(2), seed=6)
    twin.load_weights(FOLDER / "cudnn_weights.h5")
    keep("cudnn", twin)


def half():
    """Keras computes in bfloat16 where weights are; here they are widened, so a float32 twin gives the answer."""
    layers = keras_3.layers
    options = {"recurrent_initializer": "zeros", "return_sequences": True}
    model = sequential(keras_3, layers.LSTM(2, dtype="bfloat16", **options), seed=8)
    model.save(FOLDER / "bfloat16_3.keras")
    twin = sequential(keras_3, layers.LSTM(2, **options), seed=9)
    twin.set_weights([np.asarray(weight, "float32") for weight in model.get_weights()])
    keep("bfloat16_3", twin)


def classifier(keras):
    layers = keras.layers
    return sequential(keras, layers.LSTM(4), layers.Dense(5, activation="softmax"), seed=11)


def activation_layers(keras):
    """Activations as layers of their own, also in a wrapper; the last axis by its number."""
    layers = keras.layers
    inside = [
        layers.LSTM(4, return_sequences=True),
        layers.Activation("linear"),
        layers.Dense(4),
        layers.Activation("relu"),
        layers.TimeDistributed(layers.Dense(3)),
        layers.Dropout(0.1),
        layers.TimeDistributed(layers.Activation("tanh")),
        layers.Dense(5, use_bias=False),
        layers.Softmax(axis=2),
    ]
    return sequential(keras, *inside, seed=12)


def masked():
    """Rows that end early, in zeros that the mask hides: after 6 and after 4 steps."""
    layers = keras_3.layers
    model = sequential(keras_3, layers.Masking(), layers.LSTM(3, return_sequences=True), layers.LSTM(2), seed=10)
    x = np.random.default_rng(len(answers)).normal(size=(B, T, I)).astype("float32")
    x[1, 4:] = 0
    answers["masked_3.x"], answers["masked_3.y"] = x, model.predict(x, verbose=0)
    model.save(FOLDER / "masked_3.keras")


def main():
    keep("whole_3", whole(keras_3), ".keras", ".h5", weights=[".weights.h5"])
    keep("whole_2", whole(keras_2), ".keras", ".h5")
    keep("last_3", last(keras_3), ".keras", weights=[".weights.h5"])
    keep("last_2", last(keras_2), ".h5", weights=["_weights.h5"])
    keep("backwards_3", backwards(keras_3), ".keras")
    keep("activations_3", activations(keras_3), ".keras")
    keep("activations_2", activations(keras_2), ".h5")
    cudnn()
    layers = keras_3.layers
    both = layers.Bidirectional(layers.LSTM(3))
    keep("last_of_both_3", sequential(keras_3, both, seed=7), ".keras")
    half()
    masked()
    keep("classifier_3", classifier(keras_3), ".keras")
    keep("classifier_2", classifier(keras_2), ".h5")
    keep("activation_layers_3", activation_layers(keras_3), ".keras")
    keep("activation_layers_2", activation_layers(keras_2), ".h5")
    sequential(keras_3, layers.GRU(2), layers.Lambda(lambda x: x + 1), seed=9).save(FOLDER / "refused_3.keras")
    GOLDENS.mkdir(exist_ok=True)
    np.savez_compressed(GOLDENS / "answers.npz", **answers)
    with zipfile.ZipFile(GOLDENS / "files.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as files:  # HDF5 is hollow
        for path in sorted(FOLDER.iterdir()):
            files.write(path, path.name)


if __name__ == "__main__":
    main()
