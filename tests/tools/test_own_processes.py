"""A user's own kernels run in a process of their own: what they do to it is named, and the comparison goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import ROOT, sampled

from lstmkernel import backends
from lstmkernel.backends import BackendError
from lstmkernel.cli import main
from lstmkernel.tuning import timing
from lstmkernel.workbench import cases, compare, one_thread
from lstmkernel.workbench.own_kernels import fence, process
from lstmkernel.workbench.own_kernels.fence import Fenced, OverrunError
from lstmkernel.workbench.own_kernels.process import KernelFailed, OwnKernels

FLOAT32 = np.dtype("float32")
SMALL = cases.of_shape(compare.SMALL, FLOAT32)
needs_compiler = pytest.mark.skipif(
    not backends.c_is_built() or not (os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")),
    reason="no C compiler, or the C kernels were not built",
)

#: A right kernel, with the mistakes that the environment asks for where H is 17.
C = """
#include <math.h>
#include <stdlib.h>
#include "lstmkernel.h"
typedef REAL real;
const int64_t lanes = 8;
static real s(real x) { return 1 / (1 + (real)exp(-x)); }
int cell_update(int64_t N, int64_t H, const void *z_, void *c_, void *h_)
{
    real *z = (real *)z_, *c = c_, *h = h_;
    int64_t blocks = (H + 7) / 8;
    for (int64_t n = 0; n < N; n++)
        for (int64_t u = 0; u < H; u++) {
            const real *g = z + (n * blocks + u / 8) * 32 + u % 8;
            real *cell = c + n * H + u;
            *cell = s(g[8]) * *cell + s(g[0]) * (real)tanh(g[16]);
            h[n * H + u] = s(g[24]) * (real)tanh(*cell);
        }
    if (H == 17)
        switch (atoi(getenv("MISTAKE"))) {
            MISTAKES
        }
    return 0;
}
"""
PYTHON = """
import numpy as np
lanes = 4

def cell_update(z, c, h):
    N, H = c.shape
    i, f, g, o = (z[:, :, k].reshape(N, -1)[:, :H] for k in range(4))
    s = lambda x: 0.5 + 0.5 * np.tanh(0.5 * x)
    c[...] = s(f) * c + s(i) * np.tanh(g)
    h[...] = s(o) * np.tanh(c)
    if H == 17:
        MISTAKE
"""
AT = r"^cell_update\(N=1, H=17\) "


@pytest.fixture
def own(tmp_path):
    """``own(mistake)``: a kernel in Python with this mistake; a call may take 2 s."""
    opened = []

    def own(mistake):
        path = tmp_path / "mine.py"
        path.write_text(PYTHON.replace("MISTAKE", mistake))
        opened.append(OwnKernels(str(path), FLOAT32, 2))
        return opened[-1]

    yield own
    for each in opened:
        each.close()


#: The others are slow: each takes a process.
QUICK = ("past the end of c", "before c", "read past z", "const", "null", "exit", "loop")


def failure(kernels):
    with pytest.raises(KernelFailed) as failed:
        kernels.check("cell_update", SMALL)
    return failed.value.word, failed.value.why


#: The mistake, the word, and what is said after the sizes.
MISTAKES = {
    "past the end of c": ("c[N * H] = 1", "OVERRUN", r"wrote past the end of c \(element 17; the last one is 16\)$"),
    "before c": ("c[-1] = 1", "OVERRUN", r"wrote before the beginning of c \(element -1; the first one is 0\)$"),
    "past the end of h": ("h[N * H] = 1", "OVERRUN", r"wrote past the end of h "),
    "before h": ("h[-1] = 1", "OVERRUN", r"wrote before the beginning of h "),
    "read past z": ("h[0] += 0 * ((volatile real *)z)[blocks * 32]", "OVERRUN", r"read (or wrote )?past the end of z "),
    "read before z": (
        "h[0] += 0 * ((volatile real *)z)[-1]",
        "OVERRUN",
        r"read (or wrote )?before the beginning of z ",
    ),
    "const": ("z[3] = 1", "OVERRUN", r"(read or )?wrote z \(element 3\), which is only to be read$"),
    "null": ("*(volatile int *)8 = 1", "CRASH", "used a NULL pointer$"),
    "wild": ("*(volatile int *)0x123450000000 = 1", "CRASH", "used memory that is not its own, at address 0x12345"),
    "abort": ("abort()", "CRASH", "was ended by SIGABRT: "),
    "exit": ("exit(0)", "CRASH", "ended the process, with status 0$"),
    "loop": ("for (volatile int i = 0;; i++) ;", "HANGS", r"did not return within 2 s: an endless loop\? .*--limit 4$"),
    "wrong numbers": ("h[3] += 0.001f", "WRONG", ""),
    "status": ("return 7", "FAILED", "returned 7; 0 means success$"),
}


@pytest.fixture(scope="module")
def c_kernels(tmp_path_factory):
    """The kernel in C, compiled once."""
    path = tmp_path_factory.mktemp("own") / "mine.c"
    cases_of_switch = [f"case {i}: {code}; break;" for i, (code, _, _) in enumerate(MISTAKES.values())]
    path.write_text(C.replace("MISTAKES", "\n".join(cases_of_switch)))
    kernels = OwnKernels(str(path), FLOAT32, 2)
    yield kernels
    kernels.close()


@needs_compiler
@pytest.mark.parametrize("mistake", sampled([name for name in MISTAKES if name != "wrong numbers"], *QUICK))
def test_a_mistake_in_c_is_named(c_kernels, monkeypatch, mistake):
    _, word, said = MISTAKES[mistake]
    monkeypatch.setenv("MISTAKE", str([*MISTAKES].index(mistake)))
    c_kernels.close()  # so that the next question starts a process with this environment
    assert c_kernels.kernels == ["cell_update"]
    found, why = failure(c_kernels)
    assert found == word
    assert re.search(AT + said, why), why


@needs_compiler
def test_wrong_numbers_and_right_ones(c_kernels, monkeypatch):
    monkeypatch.setenv("MISTAKE", str([*MISTAKES].index("wrong numbers")))
    c_kernels.close()
    word, why = failure(c_kernels)
    assert word == "WRONG"
    assert re.match(r"cell_update is wrong for N=1, H=17, random gates: at \[0, 3\] it gave .*, expected", why)
    monkeypatch.setenv("MISTAKE", "-1")
    c_kernels.close()
    assert c_kernels.check("cell_update", SMALL) >= 0


@pytest.mark.parametrize(
    ("mistake", "word", "said"),
    [
        ("c[0, 17] = 1", "FAILED", r"raised IndexError: .* \(line 12\)$"),
        ("h[0, 3] += 0.001", "WRONG", r"is wrong for N=1, H=17"),
        ("import ctypes; ctypes.memset(c.ctypes.data + c.nbytes, 0, 1)", "OVERRUN", "past the end of c"),
    ],
)
def test_a_mistake_in_python_is_named(own, mistake, word, said):
    found, why = failure(own(mistake))
    assert found == word
    assert re.search(said, why), why


def test_after_a_failure_the_file_can_be_asked_again(own):
    kernels = own("while True: pass")
    case = cases.of_net("", "", "", SMALL.net, B=2, T=2)
    got = kernels.answer("cell_update", case)
    kernels.close()
    again = kernels.answer("cell_update", case)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(got, again, strict=True))
    medians = timing.medians({"mine": kernels.timer(), "other": lambda: None}, 0.01)
    assert 0 < medians["mine"] < 1


def test_what_hangs_while_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(process.child, "LOADING", 1)
    (tmp_path / "mine.py").write_text("import os\nos.kill(os.getpid(), 14)")
    with pytest.raises(BackendError, match=r"mine\.py: loading it did not return within 1 s: an endless loop\?"):
        OwnKernels(str(tmp_path / "mine.py"), FLOAT32, 3)


def test_the_comparison_goes_on(tmp_path, monkeypatch, capsys):
    """One kernel hangs, one overruns, one is right: all have a row, and nothing says that all agree."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in one_thread.VARIABLES:
        monkeypatch.setenv(name, "1")
    mistakes = {
        "hangs.py": "while True: pass",
        "over.py": "import ctypes; ctypes.memset(h.ctypes.data + h.nbytes, 0, 1)",
        "right.py": "pass",
    }
    for name, mistake in mistakes.items():
        (tmp_path / name).write_text(PYTHON.replace("MISTAKE", mistake))
    against = [f"--against={tmp_path / name}" for name in mistakes]
    command = ["compare", "--seconds", "0", "--shape", "2,3,4,5", "--backend", "numpy", "--limit", "2", *against]
    markdown = tmp_path / "table.md"
    assert main([*command, "--json", str(tmp_path / "found.json"), "--markdown", str(markdown)]) == 1
    shown = capsys.readouterr().out
    said = " ".join(shown.split())
    assert "HANGS, and not timed: hangs.py: cell_update(N=1, H=17) did not return within 2 s" in said
    assert "OVERRUN, and not timed: over.py: cell_update(N=1, H=17) " in said
    assert "Every kernel" not in said
    assert "Everything else agrees with the float64 reference." in said
    for row in (r"^ +hangs\.py +HANGS *$", r"^ +over\.py +OVERRUN *$", r" right\.py +0\.\d+ +\d"):
        assert re.search(row, shown, re.MULTILINE), row
    found = json.loads((tmp_path / "found.json").read_text())
    assert [result["backend"] for result in found["results"]] == ["numpy", "right.py"]
    assert [(one["file"], one["what"]) for one in found["wrong"]] == [("hangs.py", "HANGS"), ("over.py", "OVERRUN")]
    assert "| cell_update | 2,3,4,5 | hangs.py | HANGS |  |  |  |" in markdown.read_text()


def test_a_kernel_that_fails_in_one_case_only(tmp_path, capsys, monkeypatch):
    for name in one_thread.VARIABLES:
        monkeypatch.setenv(name, "1")
    path = tmp_path / "mine.py"
    path.write_text(PYTHON.replace("H == 17", "H == 99").replace("MISTAKE", "c[0, H] = 1"))
    shapes = ["--shape", "1,2,3,99", "--shape", "1,2,3,4"]
    command = ["compare", "--seconds", "0", "--backend", "numpy", "--against", str(path), *shapes, "--json"]
    assert main(command) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(r["problem"], r["backend"]) for r in found["results"]] == [
        *[("1,2,3,99", "numpy"), ("1,2,3,4", "numpy"), ("1,2,3,4", "mine.py")]
    ]
    (wrong,) = found["wrong"]
    assert (wrong["problem"], wrong["what"]) == ("1,2,3,99", "FAILED")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_ends_both_processes_at_once(tmp_path, end):
    """And so does the end of the first, however it comes: after that, the time limit ends the other."""
    (tmp_path / "mine.py").write_text(
        "import os\n"
        + PYTHON.replace("MISTAKE", "print(os.getpid(), file=open('pid', 'w'), flush=True); [0 for _ in iter(int, 1)]")
    )
    command = [sys.executable, "-m", "lstmkernel", "compare", "--against", str(tmp_path / "mine.py"), "--limit", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(one_thread.VARIABLES, "1")}
    running = subprocess.Popen(
        [*command, "--shape", "1,2,3,4", "--backend", "numpy"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    pid = tmp_path / "pid"
    assert wait_for(lambda: pid.exists() and pid.read_text())
    running.send_signal(end)
    _, said = running.communicate(timeout=30)
    assert (running.returncode, said) == (130 if end == signal.SIGINT else -end, b"")
    assert wait_for(lambda: not is_running(int(pid.read_text())))


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.02)
    return False


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---------------------------------------------------------------- arrays between guard pages


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("size", [0, 1, 17, 1024, 5000])
def test_an_array_touches_a_guard_page(size, at_end):
    source = np.arange(size, dtype=np.float32)
    fenced = Fenced("x", source, at_end=at_end, alignment=4)
    assert np.array_equal(fenced.array, source)
    assert (fenced.end if at_end else fenced.first) % fence.PAGE == 0
    fenced.check()
    fenced.array[...] += 1
    fenced.give_back((source,))
    assert np.array_equal(source, np.arange(size) + 1)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (-1, r"before the beginning of x \(element -1; "),
        (7, r"past the end of x \(element 7; the last one is 6\)"),
        (-300, r".*\(element -300; "),
        (300, r".*\(element 300; "),
    ],
)
def test_without_guard_pages_the_pattern_does_it(monkeypatch, at_end, place, said):
    """All around the array, as on a system that has no such pages."""
    monkeypatch.setattr(fence, "_mprotect", lambda: None)
    fenced = Fenced("x", np.zeros(7, np.float32), at_end=at_end, alignment=4)
    around = (np.ctypeslib.ctypes.c_float * 1).from_address(fenced.first + 4 * place)
    around[0] = 1
    with pytest.raises(OverrunError, match=f"^wrote {said}"):
        fenced.check()
