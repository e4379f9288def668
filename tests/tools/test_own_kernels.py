"""``lstmkernel compare`` with a user's own kernels, with one kernel alone, with kernels for the shapes' sizes.

test_own_processes.py has kernels that crash, hang, or write where they must not.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, usable

from lstmkernel import backends
from lstmkernel.backends import BackendError
from lstmkernel.cli import main
from lstmkernel.workbench import one_thread
from lstmkernel.workbench.own_kernels import check, load

EXAMPLES = ROOT / "examples"
NAMES = ["own_kernel.c", "own_kernel.py"]
C = (EXAMPLES / "own_kernel.c").read_text()
PYTHON = (EXAMPLES / "own_kernel.py").read_text()

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not backends.c_is_built(), reason="the C kernels were not built")
QUICK = ["--seconds", "0", "--shape", "2,3,4,5"]


@pytest.fixture(autouse=True)
def plain_output(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in one_thread.VARIABLES:
        monkeypatch.setenv(name, "1")


@pytest.fixture
def file(tmp_path):
    """``file(name, text)``: the path of a file with that text."""

    def file(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return file


def loaded(path, dtype="float32"):
    """In this process."""
    return load.load(path, load.library(path, np.dtype(dtype)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", load.OWN)
def test_the_templates_are_right(name, kernel, dtype):
    own = loaded(str(EXAMPLES / name), dtype)
    assert own.backend.name == name
    assert own.kernels == [*load.OWN]
    assert check.failure(kernel, own.backend, np.dtype(dtype)) is None


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 4, 24])
def test_lanes_are_the_files_own_choice(file, lanes):
    own = loaded(file("k.py", PYTHON.replace("lanes = 16", f"lanes = {lanes}")))
    for kernel in load.OWN:
        assert check.failure(kernel, own.backend, np.dtype("float32")) is None


#: What one may get wrong, and what the check then says.
WRONG = {
    "sum": ("own_kernel.c", "z[j] += x[k] * w[j];", "z[j] += x[k] * w[j] * (real)1.0001;", "gate_matmul"),
    "tail": (
        "own_kernel.c",
        "H - unit : LANES, c + unit, h + unit);",
        "H - unit - 1 : LANES, c + unit, h + unit);",
        "cell",
    ),
    "reverse": ("own_kernel.c", "length - 1 - s : s", "T - 1 - s : s", "layer_forward"),
    "lengths": ("own_kernel.py", "if s >= lengths[b]:", "if s > lengths[b]:", "layer_forward"),
    "gates": ("own_kernel.py", "sigmoid(z[1, u]) * c", "sigmoid(z[0, u]) * c", "cell_update"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_found(file, mistake):
    name, right, wrong, kernel = WRONG[mistake]
    text = {"own_kernel.c": C, "own_kernel.py": PYTHON}[name]
    assert right in text
    own = loaded(file(name, text.replace(right, wrong)))
    (whole,) = (each for each in load.OWN if each.startswith(kernel))
    failure = check.failure(whole, own.backend, np.dtype("float32"))
    assert re.match(rf"{whole} is wrong for .*: at \[.*\] it gave .*, expected", failure)


@pytest.mark.slow
def test_compared_with_the_others(capsys):
    assert main(["compare", *QUICK, *(f"--against={EXAMPLES / name}" for name in NAMES)]) == 0
    shown = capsys.readouterr().out
    for name in [*NAMES, *usable()]:
        assert shown.count(f" {name} ") >= len(load.OWN), name
    assert "network" not in shown.split("1 thread each")[0]


def test_only_what_the_file_has(capsys, file):
    path = file("mine.py", PYTHON.replace("def gate_matmul", "def other").replace("def layer_forward", "def another"))
    assert main(["compare", *QUICK, "--against", path]) == 0
    shown = capsys.readouterr().out
    assert "cell_update" in shown
    assert "gate_matmul" not in shown


def test_a_wrong_one_is_not_timed(capsys, file):
    path = file("mine.c", C.replace("z[j] += ", "z[j] -= "))
    assert main(["compare", *QUICK, "--against", path, "--kernel", "gate_matmul", "--kernel", "cell_update"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG, and not timed: mine.c: gate_matmul is wrong for N=" in " ".join(shown.split())
    assert "Everything else agrees" in shown
    assert re.findall(r"^ +mine\.c +(WRONG|\S+ +\S+ us)", shown, re.MULTILINE)[0] == "WRONG", "it keeps its row"
    assert len(re.findall(r"^ +mine\.c +\S+ +\S+ [un]s ", shown, re.MULTILINE)) == 1, "its cell_update is timed"


def test_one_kernel_alone(capsys):
    assert main(["compare", *QUICK, "--kernel", "dense_forward"]) == 0
    shown = capsys.readouterr().out
    assert "dense_forward" in shown
    assert "cell_update" not in shown
    assert main(["compare", *QUICK, "--kernel", "dense_forward", "--json"]) == 0
    assert {result["work"] for result in json.loads(capsys.readouterr().out)["results"]} == {"dense_forward"}


def test_a_picture(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    path = tmp_path / "times.png"
    assert main(["compare", *QUICK, "--kernel", "cell_update", "--kernel", "gate_matmul", "--png", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_without_matplotlib_nothing_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "times.png"
    assert main(["compare", *QUICK, "--png", str(path)]) == 2
    assert "--png: needs matplotlib; pip install 'lstmkernel[plot]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_specialised_kernels_take_part(capsys, tmp_path):
    path = tmp_path / "table.md"
    assert main(["compare", "--seconds", "0", "--shape", "1,3,4,5,2", "--specialise", "--markdown", str(path)]) == 0
    isa = next(name for name in usable() if name.startswith("c:"))
    assert f"{isa} special" in capsys.readouterr().out
    lines = path.read_text().splitlines()
    assert lines[0] == "| what | shape | backend | error | time | GFLOP/s | xNumPy |"
    assert sum(f"| {isa} special |" in line for line in lines) == 2  # layer_forward and network
    assert any("Bit-identical everywhere" in line for line in lines)


def test_every_wrong_kernel_is_named(capsys, file):
    path = file("mine.c", C.replace("z[j] += ", "z[j] -= ").replace("sigmoid(z[F + u]) * c", "sigmoid(z[I + u]) * c"))
    assert main(["compare", *QUICK, "--against", path]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{kernel} is wrong for" in shown for kernel in load.OWN)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "1/k.py", "--against", "2/k.py"], "two files are called k.py"),
        (["--against", "1/k.py", "--kernel", "activation"], "k.py has no activation"),
        (["--specialise", "--kernel", "activation"], "changes layer_forward and whole networks"),
        (["--asm", "--json"], "--asm: goes with a table"),
    ],
)
def test_what_would_do_nothing_is_refused(capsys, tmp_path, monkeypatch, arguments, message):
    for place in ("1", "2"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "k.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *QUICK, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.c", C.replace("LANES = 16", "LANES = sixteen"), r"a\.c:\d+:.*sixteen.* undeclared"),
        ("a.c", "const int64_t lanes;", r"a\.c:1:\d+: error"),
        ("a.c", "#include <stdint.h>\nconst int64_t lanes = 4;", r"a\.c: expected a function named gate_matmul"),
        ("a.c", C.replace("int64_t lanes", "int64_t width"), "lanes, the units of a block, as an integer .* got None"),
        ("a.c", C.replace("const int64_t lanes = 16", "const int64_t lanes = 0"), "at least 1, got 0"),
        ("a.py", "def gate_matmul(:", r"SyntaxError: invalid syntax \(a\.py, line 1\)"),
        ("a.py", "lanes = 4", "expected a function named"),
        ("a.py", PYTHON.replace("lanes = 16", "lanes = True"), "at least 1, got True"),
        ("a.py", "import sys; sys.exit(0)", "SystemExit: 0"),
        ("a.py", "lanes = 4\n\nwidth = sixteen", r"NameError: name 'sixteen' is not defined \(line 3\)"),
        ("a.txt", "", r"a\.txt: expected a \.c or a \.py file"),
    ],
)
def test_what_does_not_compile_says_where(capsys, file, name, text, message):
    assert main(["compare", *QUICK, "--against", file(name, text)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_file_that_is_not_there(capsys):
    assert main(["compare", *QUICK, "--against", "/no/kernel.c"]) == 2
    assert "/no/kernel.c: No such file" in capsys.readouterr().err


def test_warnings_are_shown(capsys, file):
    loaded(file("a.c", C + "static int never(void) { return 1; }\n"))
    assert "never" in capsys.readouterr().err


def test_numbas_own_words(file):
    text = PYTHON.replace("z[n, block] = bias[block]", "z[n, block] = bias[block].biased")
    own = loaded(file("a.py", text))
    with pytest.raises(BackendError, match=r'(?s)a\.py: gate_matmul: .*biased.*File ".*a\.py", line \d+'):
        check.failure("gate_matmul", own.backend, np.dtype("float32"))


def test_the_templates_arguments_are_the_contracts():
    """As csrc/lstmkernel.h has them, without the table of kernels."""
    header = (ROOT / "csrc" / "lstmkernel.h").read_text()
    for kernel in load.OWN:
        (declared,) = re.findall(rf"int lk_{kernel}\((.*?)\);", header, re.DOTALL)
        (written,) = re.findall(rf"^int {kernel}\((.*?)\)$", C, re.DOTALL | re.MULTILINE)
        plain = re.sub(r"\b(\w+?)_\b", r"\1", written)  # x_ is the template's name for x
        assert " ".join(plain.split()) == " ".join(declared.replace("const lk_kernels *kernels, ", "").split())
    assert Path(EXAMPLES / "own_kernel.py").exists()
