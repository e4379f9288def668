"""Makes tests/formats/goldens/tf2onnx: what tf2onnx makes of Keras's LSTMs in a SavedModel, and what Keras answered.

Made with Keras 3 and TensorFlow 2.21, and then, for each NAME:

    python tests/formats/goldens/make_tf2onnx.py
    python -m tf2onnx.convert --saved-model NAME --output NAME.onnx
"""

import keras
import numpy as np

LSTM, Dense, Bidirectional = keras.layers.LSTM, keras.layers.Dense, keras.layers.Bidirectional
MODELS = {
    "seq": [LSTM(4, return_sequences=True), Dense(2)],
    "last": [LSTM(4)],
    "bi": [Bidirectional(LSTM(4, return_sequences=True))],
}

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    answers = {"x": np.random.default_rng(0).normal(size=(2, 6, 3)).astype("f4")}
    for name, layers in MODELS.items():
        model = keras.Sequential([keras.Input((None, 3)), *layers])
        answers[name] = model.predict(answers["x"], verbose=0)
        model.export(name, verbose=False)
    np.savez("answers.npz", **answers)
