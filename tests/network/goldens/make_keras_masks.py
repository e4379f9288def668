"""Makes keras_masks.npz: what Keras 3 gives for a mask with padding on either side, holes, and a row without any step.

Run once, where Keras is (the tests need none of it); the weights are written under PyTorch's names:

    python -m venv /tmp/keras && /tmp/keras/bin/pip install keras==3.15.1 jax
    KERAS_BACKEND=jax /tmp/keras/bin/python tests/network/goldens/make_keras_masks.py
"""

from pathlib import Path

import keras
import numpy as np

B, T, I, H = 6, 7, 3, 4
random = np.random.default_rng(0)
x = random.normal(size=(B, T, I)).astype("float32")
mask = random.random((B, T)) < 0.6
mask[0, :3] = mask[1, 4:] = mask[2] = False
mask[3] = True
kept = {"x": x, "mask": mask}


def as_pytorch(layer, ending):
    w_ih, w_hh, bias = layer.get_weights()
    return {f"weight_ih_l0{ending}": w_ih.T, f"weight_hh_l0{ending}": w_hh.T, f"bias_ih_l0{ending}": bias}


def keep(name, layer, parts):
    layer.build((B, T, I))
    layer.set_weights([random.normal(0, 0.7, each.shape) for each in layer.get_weights()])
    out, *states = layer(x, mask=mask)
    kept.update({f"{name}.out": np.asarray(out), f"{name}.states": np.stack([np.asarray(each) for each in states])})
    for part, ending in parts(layer):
        kept.update({f"{name}.{weight}": value for weight, value in as_pytorch(part, ending).items()})


options = {"return_sequences": True, "return_state": True}
keep("one", keras.layers.LSTM(H, **options), lambda layer: [(layer, "")])
both = keras.layers.Bidirectional(keras.layers.LSTM(H, **options))
keep("both", both, lambda layer: [(layer.forward_layer, ""), (layer.backward_layer, "_reverse")])
back = keras.layers.LSTM(H, go_backwards=True, **options)  # gives its output in the order in which it runs
keep("back", back, lambda layer: [(layer, "")])
np.savez_compressed(Path(__file__).parent / "keras_masks.npz", **kept)
