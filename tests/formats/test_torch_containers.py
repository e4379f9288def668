"""PyTorch's other files: from before 1.6, TorchScript's, pickles alone, the first tar."""

from __future__ import annotations

import io
import pickle
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
from fuzz_targets import old_torch_target, rezipped, torchscript_target
from helpers import assert_close, assert_same_bits, in_one_storage, normal
from hostile import assert_refused_wherever_cut, assert_survives_changed_bytes

import lstmkernel as lk

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*deprecated")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


def save_old(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def assert_same_weights(lstm, module):
    for name, value in module.state_dict().items():
        assert_same_bits(lstm.state_dict()[name], value.float().numpy(), name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_file_from_before_1_6(dtype, tmp_path):
    module = torch.nn.LSTM(4, 5, 2).to(dtype)
    save_old({"epoch": 3, "net": module.state_dict(), "step": torch.tensor(3)}, tmp_path / "net.pt")
    found = lk.inspect(tmp_path / "net.pt")
    assert ("net", "LSTM 4 -> 5, 2 layers") in found.networks
    assert "written by PyTorch before 1.6" in found.notes
    lstm = lk.load(tmp_path / "net.pt", prefix="net")
    assert lstm.dtype == (np.float64 if dtype is torch.float64 else np.float32)
    assert_same_weights(lk.load(tmp_path / "net.pt", prefix="net", dtype="float32"), module)


def test_views_that_share_a_storage(tmp_path):
    """As the first versions described them, too: a storage that is a part of another one."""
    module = torch.nn.LSTM(4, 5)
    views = in_one_storage(module.state_dict())
    save_old({"net": views, "step": torch.arange(9)[2:4]}, tmp_path / "net.pt")
    assert_same_weights(lk.load(tmp_path / "net.pt", prefix="net"), module)
    data = (tmp_path / "net.pt").read_bytes()
    # ("storage", class, key, device, size, None): in place of None, a part from element 0 on.
    elements = sum(value.numel() for value in views.values())
    size = b"K" + bytes([elements]) if elements < 256 else b"M" + elements.to_bytes(2, "little")
    assert size + b"Nt" in data
    part = data.replace(size + b"Nt", size + b"(X\1\0\0\0vK\0" + size + b"tt", 1)
    (tmp_path / "net.pt").write_bytes(part)
    assert_same_weights(lk.load(tmp_path / "net.pt", prefix="net"), module)


def test_what_is_wrong_with_a_file_from_before_1_6(tmp_path):
    path = tmp_path / "net.pt"
    save_old(torch.nn.LSTM(1, 1).state_dict(), path)
    good = path.read_bytes()
    wrong = {
        "expected version 1001": good.replace(b"M\xe9\x03.", b"M\xe8\x03.", 1),
        "as the pickle's storages need": good + b"\0",
        "expected 4 elements, got 5": good[:-24] + b"\5" + good[-23:],
    }
    for message, data in wrong.items():
        path.write_bytes(data)
        with pytest.raises(lk.FormatError, match=message):
            lk.load(path)


def test_the_first_tar_is_refused_with_a_way_out(tmp_path):
    with tarfile.open(tmp_path / "net.pt", "w") as tar:
        tar.addfile(tarfile.TarInfo("sys_info"), io.BytesIO())
    with pytest.raises(lk.FormatError, match=r"a tar, as PyTorch before 0\.1\.10.*weights_only=False"):
        lk.load(tmp_path / "net.pt")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_alone(protocol, tmp_path):
    """As pickle writes a state_dict, each storage as a file of its own."""
    module = torch.nn.LSTM(4, 5).bfloat16()
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"epoch": 3, "net": module.state_dict()}, protocol))
    assert_same_weights(lk.load(tmp_path / "net.pkl", prefix="net"), module)
    assert "a pickle, not of torch.save" in lk.inspect(tmp_path / "net.pkl").notes


# ---------------------------------------------------------------- TorchScript


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
        self.fc = torch.nn.Linear(10, 3)

    def forward(self, x):
        return self.fc(self.rnn(x)[0])


def scripted(how, path):
    module = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, torch.ones(2, 3, 4))
        made.save(str(path))
    return module


@pytest.mark.parametrize("how", ["script", "trace"])
def test_the_weights_of_torchscript(how, tmp_path):
    module = scripted(how, tmp_path / "net.pt")
    found = lk.inspect(tmp_path / "net.pt")
    assert {tensor.name for tensor in found.tensors} == set(module.state_dict())
    assert any("TorchScript, a program" in note for note in found.notes)
    lstm = lk.load(tmp_path / "net.pt", prefix="rnn", batch_first=True)
    assert_same_weights(lstm, module.rnn)
    net = lk.load(tmp_path / "net.pt", prefix=["rnn", "fc"], batch_first=True)
    x = normal(np.random.default_rng(1), (2, 6, 4), "float32")
    with torch.no_grad():
        assert_close(net(x)[0], module(torch.tensor(x)).numpy(), "float32")
    with pytest.warns(RuntimeWarning, match="taken for a chain"):
        lk.load(tmp_path / "net.pt")


def test_frozen_torchscript_has_no_names(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(Model().eval())).save(str(tmp_path / "net.pt"))
    with pytest.raises(lk.FormatError, match=r"got constants, as torch\.jit\.freeze makes them"):
        lk.load(tmp_path / "net.pt")


def test_the_code_of_torchscript_is_not_read(tmp_path):
    scripted("script", tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt") as file:
        code = {name: b"import os\nos.abort()" for name in file.namelist() if "/code/" in name}
    assert code
    (tmp_path / "net.pt").write_bytes(rezipped((tmp_path / "net.pt").read_bytes(), code))
    assert lk.load(tmp_path / "net.pt", prefix="rnn").num_layers == 2


# ---------------------------------------------------------------- broken


@pytest.mark.slow
@pytest.mark.parametrize("make", [old_torch_target, torchscript_target])
def test_cut_anywhere_or_changed(make, tmp_path):
    target = make()
    assert_refused_wherever_cut(target, tmp_path)
    assert_survives_changed_bytes(target, tmp_path)
