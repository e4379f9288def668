"""Keras's models beyond one chain of LSTMs: models in models, cells, two directions that are added, masks, programs.

goldens/make_keras_more.py made the files and Keras's answers.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_close

import lstmkernel as lk
from lstmkernel.formats import describe

GOLDENS = Path(__file__).parent / "goldens" / "keras"


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keras_more")
    with zipfile.ZipFile(GOLDENS / "more.zip") as files:
        files.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def answers() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDENS / "more.npz"))


def files_of(*models) -> list[str]:
    with zipfile.ZipFile(GOLDENS / "more.zip") as files:
        return [name for name in files.namelist() if name.partition(".")[0] in models]


def loaded(path, **options):
    """The network, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = lk.load(path, **options)
    return net, " ".join(str(warning.message).replace(str(path), "") for warning in caught)


def answers_of(answers, file):
    model = file.partition(".")[0]
    return tuple(answers.get(f"{model}.{part}") for part in ("x", "y", "mask"))


# ---------------------------------------------------------------- what Keras computes


CHAINS = [
    file for file in files_of("cells_3", "cells_2", "nested_3", "nested_2", "sum_3", "ave_3") if "weights" not in file
]


@pytest.mark.parametrize("file", CHAINS)
def test_every_step(saved, answers, backend, file):
    net, warned = loaded(saved / file, backend=backend)
    x, y, _ = answers_of(answers, file)
    assert_close(net(x)[0], y, "float32")
    assert not warned
    if "nested" in file:
        assert len(net.layers) == 5


@pytest.mark.filterwarnings("ignore:.*(weights alone|go_backwards=True):RuntimeWarning")
def test_cells_in_weights_alone(saved, answers):
    """Keras's default is forward, and the order of the layers is not in the file."""
    x, y, _ = answers_of(answers, "cells_3.keras")
    path = saved / "cells_3.weights.h5"
    two, one, both = (lk.load(path, prefix=name) for name in ("two", "one", "both"))
    assert len(two.layers) == 2
    assert_close(both(one(two(x[:, ::-1])[0][:, ::-1])[0])[0], y, "float32")


@pytest.mark.parametrize("file", files_of("last_sum_3", "last_ave_3"))
def test_the_last_states_of_two_directions(saved, answers, file):
    net, warned = loaded(saved / file)
    x, y, _ = answers_of(answers, file)
    _, ((h_n, _),) = net(x)
    answer = re.search(r"in the states: (.*)", warned)[1]
    assert answer == ("h_n.sum(0)" if "sum" in file else "h_n.mean(0)")
    assert_close(eval(answer, {"h_n": h_n}), y, "float32")


def test_what_cannot_be_a_stack_loads_in_two_halves(saved, answers):
    path = saved / "mul_3.keras"
    x, y, _ = answers_of(answers, "mul_3")
    with pytest.raises(lk.FormatError, match=r"got mul; prefix='both\.forward' and prefix='both\.backward' load"):
        lk.load(path)
    forward, backward = (lk.load(path, prefix=f"both.{name}") for name in ("forward", "backward"))
    assert backward.reverse
    head = lk.load(path, prefix="dense")
    assert_close(head(forward(x)[0] * backward(x)[0]), y, "float32")
    assert [network.prefix for network in lk.inspect(path).networks] == ["dense", "both.forward", "both.backward"]


@pytest.mark.parametrize("file", files_of("nested_3", "nested_2"))
def test_layers_of_a_model_in_the_model(saved, answers, file):
    x, y, _ = answers_of(answers, file)
    lower, upper, head = (lk.load(saved / file, prefix=name) for name in ("lower", "upper", "dense"))
    assert_close(head(upper(lower(x)[0])[0]), y, "float32")
    assert lk.load(saved / file, prefix="lower/lstm").hidden_size == 4
    assert lk.load(saved / file, prefix="upper/lstm").bidirectional
    names = [network.prefix for network in lk.inspect(saved / file).networks]
    assert set(names) == {"", "lower", "upper", "dense", "lower/lstm", "lower/lstm_1", "upper/lstm", "upper/dense"}


# ---------------------------------------------------------------- masks


MASKED = files_of("masked_sequential_3", "masked_functional_3", "masked_sequential_2", "masked_functional_2")


@pytest.mark.parametrize("file", MASKED)
def test_masks(saved, answers, backend, file):
    net, warned = loaded(saved / file, backend=backend)
    assert re.search(
        r"expects a mask: layer 'masking\w*' \(Masking\) skips steps where all of x is 0.5, so give", warned
    )
    assert [layer.expects for layer in net.layers if isinstance(layer, lk.LSTM)] == ["mask"] * 3
    x, y, mask = answers_of(answers, file)
    assert_close(net(x, mask=mask)[0][:, -1], y, "float32")
    with pytest.warns(RuntimeWarning, match="give mask="):
        net(x)


@pytest.mark.parametrize("file", MASKED)
def test_masks_of_one_layer(saved, file):
    """Whether by prefix or in inspect, the mask is spoken of."""
    for name in ("first", "both", "last"):
        net, warned = loaded(saved / file, prefix=name)
        assert net.expects == "mask"
        assert "expects a mask" in warned
    net, warned = loaded(saved / file, prefix=next(n for n in lk.inspect(saved / file).networks if "Dense" in n[1])[0])
    assert isinstance(net, lk.Dense | lk.Stack)
    contents = lk.inspect(saved / file)
    assert "expects mask" in contents.networks[0].description
    assert any("expects a mask" in note for note in contents.notes)


def test_a_call_with_a_mask(saved, answers):
    net, warned = loaded(saved / "called_3.keras")
    assert "the model is called with a mask of its own, so give mask=" in warned
    x, y, mask = answers_of(answers, "called_3")
    assert_close(net(x, mask=mask)[0], y, "float32")
    assert loaded(saved / "called_3.keras", prefix="lstm")[0].expects == "mask"


# ---------------------------------------------------------------- programs


def test_a_subclassed_model(saved):
    path = saved / "program_3.keras"
    with pytest.raises(
        lk.FormatError, match=r"got Program: a subclassed model is a program; prefix= loads one of these: '"
    ):
        lk.load(path)
    (rnn, warned), (head, _) = (loaded(path, prefix=network.prefix) for network in lk.inspect(path).networks)
    assert (rnn.input_size, rnn.hidden_size, head.out_features) == (3, 4, 2)
    assert "weights alone" in warned


with zipfile.ZipFile(GOLDENS / "more.zip") as every:
    EVERY = every.namelist()


@pytest.mark.parametrize("file", EVERY)
def test_whatever_inspect_lists_loads(saved, file):
    contents = lk.inspect(saved / file)
    assert contents.networks
    for prefix, description in contents.networks:
        net, _ = loaded(saved / file, prefix=prefix or None)
        assert describe.network(net) == description
