"""Several layers in a file that does not say how they are connected: with a word, or refused; never silently."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from helpers import assert_same_bits

import lstmkernel as lk
from lstmkernel.cli import main

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


def state(**layers):
    return {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}


def lstm(I=8, H=8, **options):
    return torch.nn.LSTM(I, H, **options)


def dotted(tree):
    """A checkpoint as one level of names."""
    found = {}
    for name, value in tree.items():
        found |= {f"{name}.{k}": v for k, v in dotted(value).items()} if isinstance(value, dict) else {name: value}
    return found


def files(tree, folder):
    """The same tensors in every format that can hold them."""
    from safetensors.torch import save_file

    flat = dotted(tree)
    torch.save(tree, folder / "net.pt")
    torch.save(flat, folder / "flat.pt")
    torch.save(tree, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file({name: value.contiguous() for name, value in flat.items()}, folder / "net.safetensors")
    (folder / "net.json").write_text(json.dumps({name: value.tolist() for name, value in flat.items()}))
    return [folder / name for name in ("net.pt", "flat.pt", "old.pt", "net.safetensors", "net.json")]


CHAINS = {
    "an LSTM and a head": (state(rnn=lstm(), head=torch.nn.Linear(8, 3)), ["rnn", "head"]),
    "numbered": (state(lstm1=lstm(3), lstm2=lstm()), ["lstm1", "lstm2"]),
    "numbered, of one shape": (state(**{"rnns.0": lstm(), "rnns.1": lstm()}), None),
    "a head without bias that can be no Embedding": (
        state(rnn=lstm(3), head=torch.nn.Linear(8, 5, bias=False)),
        ["rnn", "head"],
    ),
    "a cell and a head": (state(cell=torch.nn.LSTMCell(3, 4), out=torch.nn.Linear(4, 2)), ["cell", "out"]),
    "names at two levels": ({**lstm(3, 4).state_dict(), **state(head=torch.nn.Linear(4, 2))}, [".", "head"]),
}


@pytest.mark.parametrize("what", CHAINS)
def test_a_chain_is_told_and_the_way_to_say_it_works(what, tmp_path):
    tree, order = CHAINS[what]
    for path in files(tree, tmp_path):
        if order is None and path.suffix == ".safetensors":  # has no order, and the widths allow two
            with pytest.raises(lk.FormatError, match="one order of the layers"):
                lk.load(path)
            continue
        with pytest.warns(RuntimeWarning, match=rf"{path}: taken for a chain") as caught:
            net = lk.load(path)
        assert caught[0].filename == __file__
        assert "taken for a chain" in "".join(lk.inspect(path).notes)
        said = json.loads(re.search(r"prefix=(\[.*?\]) says", str(caught[0].message))[1].replace("'", '"'))
        assert order is None or said == order
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*taken for a Linear without bias")
            again = lk.load(path, prefix=said)  # any other warning is an error
        for name, value in net.state_dict().items():
            assert_same_bits(again.state_dict()[name], value, name)
        single = re.search(r"prefix='(.*?)' loads one", str(caught[0].message))[1]
        assert isinstance(lk.load(path, prefix=single), lk.LSTM)


def moved(module):
    return {name: value * 0.9 for name, value in module.state_dict().items()}


REFUSED = {
    "a model and its average": ({"model": lstm().state_dict(), "ema": moved(lstm())}, "'ema' in it"),
    "state_dict and ema_state_dict": ({"state_dict": moved(lstm()), "ema_state_dict": moved(lstm())}, "'ema' in it"),
    "an average of two layers": ({"model": lstm().state_dict(), "model_ema": moved(lstm(num_layers=2))}, "'ema' in it"),
    "a teacher": ({"student": moved(lstm()), "teacher": moved(lstm(8, 8, num_layers=2))}, "'(student|teacher)' in it"),
    "twins": (state(left=lstm(), right=lstm()), "two of the same names and shapes: 'left' and 'right'"),
    "twins with heads": (
        {"a": state(rnn=lstm(), head=torch.nn.Linear(8, 8)), "b": state(rnn=lstm(), head=torch.nn.Linear(8, 8))},
        "got",
    ),
    "twins of two layers": (
        {"a": state(l0=lstm(), l1=lstm()), "b": state(l0=lstm(), l1=lstm())},
        "two of the same names and shapes: 'a' and 'b'",
    ),
    "an autoencoder": (state(encoder=lstm(8, 4), decoder=lstm(4, 8)), "an encoder and a decoder"),
    "an autoencoder with a head": (
        state(**{"net.encoder": lstm(8, 4), "net.decoder.rnn": lstm(4, 8), "net.decoder.out": torch.nn.Linear(8, 8)}),
        "an encoder and a decoder",
    ),
    "an Embedding that fits behind": (state(rnn=lstm(), tokens=torch.nn.Embedding(20, 8)), "tokens"),
    "an Embedding by another name": (state(rnn=lstm(), lookup=torch.nn.Embedding(20, 8)), "can be an Embedding"),
    "an Embedding whose name tells": (state(rnn=lstm(4), emb=torch.nn.Embedding(20, 8)), "emb"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_hardly_a_chain_is_refused_and_parts_can_be_chosen(what, tmp_path):
    tree, why = REFUSED[what]
    for path in files(tree, tmp_path):
        with pytest.raises(lk.FormatError, match=why) as error:
            lk.load(path)
        assert "prefix=" in str(error.value)
        networks = lk.inspect(path).networks
        assert networks
        assert "" not in [network.prefix for network in networks]
        for network in networks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                lk.load(path, prefix=network.prefix)
        assert main(["convert", str(path), str(tmp_path / "out.safetensors")]) != 0
    with pytest.raises(ValueError, match="prefix="):
        lk.from_torch(dotted(tree))


def test_a_single_layer_and_what_save_wrote_give_no_warning(tmp_path):
    torch.save(state(rnn=lstm()), tmp_path / "net.pt")
    lk.load(tmp_path / "net.pt")
    stack = lk.Stack([lk.LSTM(3, 4, reverse=True), lk.LSTM(4, 4), lk.Dense(4, 4, "relu", bias=False)])
    lk.save(stack, tmp_path / "net.safetensors")
    assert not any("taken for" in note for note in lk.inspect(tmp_path / "net.safetensors").notes)
    assert len(lk.load(tmp_path / "net.safetensors").layers) == 3
    first, *_, last = (lk.load(tmp_path / "net.safetensors", prefix=str(place)) for place in range(3))
    assert first.shape.reverse
    assert last.activation == "relu"
    some = lk.load(tmp_path / "net.safetensors", prefix=["1", "2"])
    assert some.layers[1].activation == "relu"
    with pytest.raises(lk.FormatError, match="expected the number of a layer, 0 to 2"):
        lk.load(tmp_path / "net.safetensors", prefix="3")


@pytest.mark.filterwarnings("default")
def test_convert_says_what_it_assumed(tmp_path, capsys):
    torch.save(CHAINS["an LSTM and a head"][0], tmp_path / "net.pt")
    assert main(["convert", str(tmp_path / "net.pt"), str(tmp_path / "out.safetensors")]) == 0
    assert "warning" in (err := capsys.readouterr().err)
    assert "taken for a chain" in err
    options = ["--prefix", "rnn", "--prefix", "head"]
    assert main(["convert", str(tmp_path / "net.pt"), str(tmp_path / "out.safetensors"), *options]) == 0
    assert "taken for a chain" not in capsys.readouterr().err


def test_a_matrix_alone_is_a_linear_with_a_word_and_no_embedding(tmp_path):
    tree = state(rnn=lstm(), out=torch.nn.Linear(8, 3), low=torch.nn.Linear(8, 3, bias=False))
    torch.save({**tree, **state(emb=torch.nn.Embedding(9, 8))}, tmp_path / "net.pt")
    assert isinstance(lk.load(tmp_path / "net.pt", prefix="out"), lk.Dense)
    with pytest.warns(RuntimeWarning, match=r"low\.weight: taken for a Linear without bias; an Embedding looks"):
        lk.load(tmp_path / "net.pt", prefix="low")
    with pytest.raises(lk.FormatError, match=r"emb\.weight: expected a Linear, got what its name says"):
        lk.load(tmp_path / "net.pt", prefix="emb")


def test_a_dot_at_the_end_takes_only_what_is_there(tmp_path):
    tree = {**lstm(3, 4).state_dict(), **state(head=torch.nn.Linear(4, 2))}
    torch.save({"net": tree}, tmp_path / "net.pt")
    assert isinstance(lk.load(tmp_path / "net.pt", prefix="net."), lk.LSTM)
    prefixes = [network.prefix for network in lk.inspect(tmp_path / "net.pt").networks]
    assert prefixes == ["", "net", "net.", "net.head"]


@pytest.mark.parametrize("name", [".a.weight", ".weight", "..weight", "a..b.weight", "weight", ".weight_ih_l0", "..a"])
def test_names_with_empty_parts_end_soon(name, tmp_path):
    for path in files({name: torch.zeros(1, 1)}, tmp_path):
        for network in lk.inspect(path).networks:
            assert network.description.startswith("no LSTM")
        with pytest.raises(lk.FormatError):
            lk.load(path)
    good = {f"{name.removesuffix('weight')}{key}": value for key, value in lstm(3, 4).state_dict().items()}
    for path in files(good, tmp_path):
        for network in lk.inspect(path).networks:
            if not network.description.startswith("no LSTM"):
                assert lk.load(path, prefix=network.prefix).input_size == 3


# ---------------------------------------------------------------- options of load


def test_options_for_what_a_file_cannot_say(tmp_path):
    module = lstm(3, 4)
    for path in files(state(rnn=module), tmp_path):
        net = lk.load(path, variant=lk.Variant(cell_clip=1), reverse=True)
        expected = lk.LSTM(3, 4, variant=lk.Variant(cell_clip=1), reverse=True)
        expected.load_state_dict({name: value.numpy() for name, value in module.state_dict().items()})
        x = np.random.default_rng(0).standard_normal((5, 2, 3), "f")
        assert_same_bits(net(x)[0], expected(x)[0], "out")
        with pytest.raises(TypeError, match="variant: expected a Variant"):
            lk.load(path, variant="peephole")
    torch.save(state(rnn=lstm(3, 4, bidirectional=True)), tmp_path / "two.pt")
    with pytest.raises(lk.FormatError, match="reverse: expected False with bidirectional"):
        lk.load(tmp_path / "two.pt", reverse=True)


def test_weights_of_peepholes_load_with_the_variant(tmp_path):
    peephole = lk.LSTM(3, 4, variant=lk.Variant(peephole=True))
    torch.save({name: torch.tensor(value) for name, value in peephole.state_dict().items()}, tmp_path / "net.pt")
    with pytest.raises(lk.FormatError, match="superfluous weight_peephole_l0"):
        lk.load(tmp_path / "net.pt")
    found = lk.inspect(tmp_path / "net.pt")
    assert not found.networks
    assert any("no LSTM that can be loaded: " in note for note in found.notes)
    assert lk.load(tmp_path / "net.pt", variant=lk.Variant(peephole=True)).shape == peephole.shape


def test_options_that_a_file_contradicts_are_refused(tmp_path):
    lk.save(lk.LSTM(3, 4, reverse=True), tmp_path / "net.safetensors")
    assert lk.load(tmp_path / "net.safetensors", reverse=True).shape.reverse
    with pytest.raises(lk.FormatError, match="reverse: expected True, as the file says, got False"):
        lk.load(tmp_path / "net.safetensors", reverse=False)
    with pytest.raises(lk.FormatError, match=r"variant: expected .*, as the file says, got Variant\(peephole"):
        lk.load(tmp_path / "net.safetensors", variant=lk.Variant(peephole=True))
    lk.load(tmp_path / "net.safetensors", variant=lk.Variant())


def test_parts_in_their_order_from_any_format(tmp_path):
    """A CRNN: LSTM, Linear, LSTM."""
    tree = {"rnn.0.rnn": lstm(3, 4), "rnn.0.fc": torch.nn.Linear(4, 5), "rnn.1.rnn": lstm(5, 4).double()}
    order = list(tree)
    for path in files(state(**tree), tmp_path):
        net = lk.load(path, prefix=order)
        assert [type(layer) for layer in net.layers] == [lk.LSTM, lk.Dense, lk.LSTM]
        assert net.dtype == np.float32
        with pytest.raises(lk.FormatError, match=r"layers\[1\]: expected input width 4"):
            lk.load(path, prefix=order[::2])
        assert isinstance(lk.load(path, prefix=order[:1]), lk.LSTM)
        for wrong, error in (([], ValueError), ([3], TypeError), (3, TypeError)):
            with pytest.raises(error):
                lk.load(path, prefix=wrong)
    assert len(lk.from_torch(state(**tree), prefix=order).layers) == 3
    assert isinstance(lk.from_torch(state(**tree), prefix="rnn.0.fc"), lk.Dense)


def test_paths_can_be_bytes(tmp_path):
    path = bytes(tmp_path / "net.safetensors")
    lk.save(lk.LSTM(3, 4), path)
    assert lk.load(path).input_size == 3
    assert lk.inspect(path).tensors
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        lk.load(path.replace(b"net.safetensors", b"nothing.pt"))
