"""compare --precision: kernels of fewer bits beside the others, with the numbers that ``quantize`` gives."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import assert_same_answer, normal, usable

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.cli import main
from lstmkernel.workbench import narrow
from lstmkernel.workbench.roofline import probes, roofline

OURS = "c" if any(name.startswith("c:") for name in usable()) else "numba"


@pytest.mark.parametrize("choice", narrow.CHOICES)
@pytest.mark.parametrize("proj_size", [0, 5])
def test_the_numbers_of_quantize(random, monkeypatch, choice, proj_size):
    if OURS == "numba" and backends.get("numba").pack_int8_layer is None and choice != "float16":
        pytest.skip("no kernels for 8-bit weights")
    monkeypatch.setattr("lstmkernel.backends.registry._registered", {})
    made = narrow.backend(OURS, choice)
    backends.register(made)
    wide = lk.LSTM(3, 20, 2, proj_size=proj_size, backend=made.name, seed=0)
    precision = narrow.CHOICES[choice]
    arguments = ("float16",) if choice == "float16" else ("int8", precision.activations)
    expected = lk.LSTM(3, 20, 2, proj_size=proj_size, backend=OURS, seed=0).quantize(*arguments)
    x = normal(random, (4, 3, 3), "float32")
    assert_same_answer(wide(x), expected(x))


def test_they_stand_beside_the_others(capsys):
    asked = ["--shape", "2,3,4,40", "--backend", OURS, "--seconds", "0.1", "--kernel", "layer_forward"]
    assert main(["compare", *asked, "--precision", "float16", "--precision", "int8", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    name = backends.get(OURS).name
    errors = {result["backend"]: result["error"] for result in results}
    assert errors[name] < 1 < errors[f"{name} float16"] < errors[f"{name} int8"]
    assert all(result["agrees"] for result in results)


@pytest.mark.slow
def test_they_are_held_against_bounds_of_their_own(capsys):
    if OURS != "c" or shutil.which("cc") is None:
        pytest.skip("needs the C kernels and a C compiler")
    asked = ["--shape", "1,30,64,256", "--backend", "c", "--seconds", "0.2", "--kernel", "layer_forward", "--roofline"]
    precisions = [text for choice in narrow.CHOICES for text in ("--precision", choice)]
    assert main(["compare", *asked, *precisions, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    known = ["float16", *(choice for choice in ("int8", "int8/int8") if backends.int8_kernels() in probes.INTEGERS)]
    measured = found["peaks"]["precisions"]
    assert list(measured) == known
    assert measured["float16"] == {"operations_per_second": found["peaks"]["flops_per_second"], "weight_bytes": 2}
    for result in found["results"]:
        if result["precision"] in ("float32", *known):
            assert 0 < result["reached"] < 1.2, result
        else:
            assert result["reached"] is None, result


@pytest.mark.parametrize(("kernels", "measured"), [("avx2", True), ("generic", False), (None, False)])
def test_products_whose_speed_is_the_compilers_have_no_peak(monkeypatch, kernels, measured):
    made = []
    monkeypatch.setattr(backends, "int8_kernels", lambda: kernels)
    monkeypatch.setattr(roofline, "DotProbe", lambda *of: made.append(of) or SimpleNamespace(operations="measure"))
    floats = SimpleNamespace(flops="multiply-adds")
    assert roofline.products_of(floats, narrow.CHOICES["float16"]) == "multiply-adds"
    for choice in ("int8", "int8/int8"):
        assert roofline.products_of(floats, narrow.CHOICES[choice]) == ("measure" if measured else None)
    assert made == ([("avx2", 16), ("avx2", 8)] if measured else [])


def test_the_table_says_so(capsys):
    asked = ["--shape", "2,3,4,40", "--backend", OURS, "--seconds", "0.1", "--kernel", "layer_forward"]
    assert main(["compare", *asked, "--precision", "float16"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "agrees with the float64 reference, apart from weights of fewer bits" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dtype", "float64"], "--precision: expected --dtype float32"),
        (["--kernel", "activation"], "--precision: changes layer_forward and whole networks"),
    ],
)
def test_where_it_has_no_meaning(capsys, more, said):
    assert main(["compare", "--precision", "int8", "--backend", OURS, *more]) == 2
    assert said in capsys.readouterr().err


def test_a_backend_without_such_kernels(monkeypatch):
    without = backends.get("numpy")._replace(name="plain", pack_int8_layer=None)
    monkeypatch.setattr("lstmkernel.backends.registry._registered", {"plain": without})
    with pytest.raises(lk.BackendError, match="--precision int8: backend 'plain' has no kernels for 8-bit weights"):
        narrow.backend("plain", "int8")
    assert np.dtype("float16").name in narrow.CHOICES
