"""Makes tests/formats/goldens/pickles: pickles of every class that can be pickled, and what the networks answered.

Made at commit 1b66028, when these classes lay in other modules. Run it again only to add what later versions must load:

    python tests/formats/goldens/make_pickles.py FOLDER

answers.npz holds x (T, B, I) and the answer of each network to it, under the network's name. The LSTM named "lstm" is
batch_first, so it got x as (B, T, I). The cell got the first step. For "stream" and "pool" see test_pickles.py.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import torch

import lstmkernel as lk
import lstmkernel.torch

FOLDER = Path(sys.argv[1])
NUMPY = {"backend": "numpy"}

#: Protocol 4 is read by every version of Python that the package supports.
PROTOCOL = 4


def write(name, value):
    (FOLDER / f"{name}.pkl").write_bytes(pickle.dumps(value, PROTOCOL))


FOLDER.mkdir(parents=True, exist_ok=True)
x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("float32")
head = lk.Dense(4, 3, "tanh", **NUMPY, seed=7)
networks = {
    "lstm": lk.LSTM(3, 4, 2, bidirectional=True, batch_first=True, num_threads=1, **NUMPY, seed=1),
    "lstm_float64": lk.LSTM(3, 5, proj_size=2, dtype="float64", **NUMPY, seed=2),
    "variant": lk.LSTM(
        *(3, 4), variant=lk.Variant(peephole=True, cell_clip=2.0), initial_state=True, reverse=True, **NUMPY, seed=3
    ),
    "cell": lk.LSTMCell(3, 4, **NUMPY, seed=4),
    "dense": lk.Dense(3, 2, "softmax", **NUMPY, seed=5),
    "stack": lk.Stack([lk.LSTM(3, 4, **NUMPY, seed=6), head], skip=0.5),
}
for name, network in networks.items():
    write(name, network)
answers = {
    "lstm": networks["lstm"](x.swapaxes(0, 1))[0],
    "cell": networks["cell"](x[0])[0],
    "dense": networks["dense"](x),
    **{name: networks[name](x)[0] for name in ("lstm_float64", "variant", "stack")},
}
np.savez(FOLDER / "answers.npz", x=x, **answers)

write("plain_variant", lk.Variant(coupled="input", activations=("sigmoid", ("elu", 0.5), "relu")))
write("trace", lk.trace(networks["lstm_float64"], x.astype("float64")))
write("flow", lk.gradient_flow(lk.LSTM(3, 4, **NUMPY, seed=8), x))

lstm = lk.LSTM(3, 4, 2, **NUMPY, seed=9)
stream = lstm.stream(2)
stream(x)
write("stream", stream)
pool = lstm.pool(4)
pool.step(pool.open(2), x[0])
write("pool", pool)

for name in ("LSTM", "LSTMCell"):
    torch.manual_seed(0)
    torch.save(getattr(lstmkernel.torch, name)(3, 4), FOLDER / f"torch_{name.lower()}.pt")
