"""``compare --asm``: the hot loops of a disassembly, and the counts of their instructions."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from helpers import ROOT, usable

from lstmkernel import backends
from lstmkernel.cli import main
from lstmkernel.workbench import assembly, one_thread
from lstmkernel.workbench.own_kernels import check, child, load

pytestmark = pytest.mark.skipif(not backends.c_is_built(), reason="the C kernels were not built")

#: An outer loop that multiplies more than its inner ones, two of those, and one of another function.
LISTING = """
0000000000001000 <sweep>:
    1000:\tvmulps (%rax),%zmm1,%zmm2
    1004:\tvmulps (%rax),%zmm1,%zmm2
    1008:\tvmulps (%rax),%zmm1,%zmm2
    1010:\tvmovups (%rax),%zmm1
    1014:\tvfmadd231ps (%rbx){1to16},%zmm1,%zmm3
    1018:\tvfmadd231ps %zmm1,%zmm4,%zmm5
    101c:\tvaddps 0x40(%rsp),%zmm6,%zmm7
    1020:\tvmovups %zmm7,(%rcx,%rdx,4)
    1024:\tvmovaps %zmm7,0x80(%rsp)
    1028:\tadd    $0x40,%rax
    102c:\tcmp    %rax,(%rdx)
    1030:\tjne    1010 <sweep+0x10>
    1034:\tvfmadd231ps (%rax),%zmm1,%zmm3
    1038:\tjne    1034 <sweep+0x34>
    103c:\tjne    1000 <sweep>
    1040:\tjmp    1000 <sweep>

0000000000002000 <sweep.cold>:
    2000:\tvfmadd231pd %zmm1,%zmm2,%zmm3
    2004:\tjne    2000 <sweep.cold>

0000000000003000 <other>:
    3000:\tvfmadd231ps %ymm1,%ymm2,%ymm3
    3004:\tjne    3000 <other>
"""


def test_the_innermost_loop_that_computes_most_for_each_load():
    (loop,) = assembly.hot_loops(LISTING, ("sweep",), "zmm", "ps")
    assert str(loop).splitlines() == [
        "sweep: 9 instructions, 2 FMAs, 1 other operations, 3 loads, 2 stores, 2 on the stack",
        *(f"    {name:<14} {operands}" for name, operands in [each[1:] for each in loop.instructions]),
    ]
    assert [hex(each.address) for each in loop.instructions][::8] == ["0x1010", "0x1030"]


def test_only_what_was_asked_for():
    assert [loop.instructions[0].address for loop in assembly.hot_loops(LISTING, ("sweep",), "", "pd")] == [0x2000]
    assert [loop.function for loop in assembly.hot_loops(LISTING, ("other", "sweep"), "", "")] == ["other", "sweep"]
    assert assembly.hot_loops(LISTING, ("other",), "zmm", "ps") == []
    assert assembly.hot_loops(LISTING, ("none",), "", "") == []
    assert len(assembly.hot_loops(LISTING, ("",), "", "ps")) == 1


def test_a_loop_of_calls_is_shown_where_there_is_no_other():
    calls = "    100:\tvmulss %xmm1,%xmm2,%xmm3\n    104:\tcall   0 <expf>\n    108:\tjne    100 <f>"
    loads = "    200:\tvmulss (%rax),%xmm2,%xmm3\n    204:\tjne    200 <f>"
    (loop,) = assembly.hot_loops(f"0 <f>:\n{calls}\n{loads}", ("f",), "", "")
    assert loop.instructions[0].address == 0x200
    (loop,) = assembly.hot_loops(f"0 <f>:\n{calls}", ("f",), "", "")
    assert loop.instructions[0].address == 0x100


def test_a_long_loop_is_cut():
    many = "\n".join(f"    {address:x}:\tvaddps %ymm1,%ymm2,%ymm3" for address in range(0x100, 0x200))
    (loop,) = assembly.hot_loops(f"0 <f>:\n{many}\n    200:\tjne    100 <f>", ("f",), "", "")
    lines = str(loop).splitlines()
    assert len(lines) == 66
    assert lines[-1] == "    ... and 193 more"


needs_objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump")


@needs_objdump
@pytest.mark.parametrize("name", [name for name in usable() if name in ("c:avx512", "c:avx2")])
def test_the_tiles_of_the_package_do_not_spill(name, dtype):
    """The loop under every product of several rows: csrc/vec_<isa>.h says how many registers it has."""
    shown = assembly.hot_loops_of("gate_matmul", name, np.dtype(dtype), (1, 1, 0)).splitlines()[0]
    fmas = {"c:avx512": 24, "c:avx2": 12}[name]
    assert shown.startswith(f"gate_matmul, {name}, input_product: ")
    assert f" {fmas} FMAs, 0 other operations, " in shown
    assert shown.endswith(" 0 stores, 0 on the stack")


@needs_objdump
@pytest.mark.parametrize("kernel", assembly.FUNCTIONS)
@pytest.mark.parametrize("name", [name for name in usable() if name.startswith("c:")])
def test_every_kernel_of_the_package_has_a_hot_loop(name, kernel):
    """A function that was renamed in C would not be found."""
    shown = assembly.hot_loops_of(kernel, name, np.dtype("float32"), (1, 1, 0))
    assert re.match(rf"{kernel}, {name}, \w+: \d+ instructions, ", shown), shown


@pytest.mark.slow
@needs_objdump
def test_compare_shows_them(capsys, monkeypatch):
    for variable in one_thread.VARIABLES:
        monkeypatch.setenv(variable, "1")
    own = "c:avx2" if backends.unavailable("c:avx2") is None else "c"
    quick = ["compare", "--seconds", "0", "--shape", "1,3,4,5", "--backend", own, "--kernel", "layer_forward"]
    assert main([*quick, "--asm", "--specialise"]) == 0
    shown = capsys.readouterr().out
    assert f"layer_forward, {backends.get(own).name}, step_rows: " in shown
    assert "special, run_row_plain: " in shown
    assert "layer_forward, numpy: it has no machine code of its own" in shown


@pytest.mark.slow
@needs_objdump
@pytest.mark.parametrize("name", ["own_kernel.c", "own_kernel.py"])
def test_a_users_own(name, dtype):
    """Whether in vectors or not: the template's products by Numba are not, which is what one wants to see."""
    pytest.importorskip("numba")
    path = str(ROOT / "examples" / name)
    own = load.load(path, code := load.library(path, np.dtype(dtype)))
    assert check.failure("gate_matmul", own.backend, np.dtype(dtype)) is None
    code = code or child.assembled(own.assembly("gate_matmul"))
    first, *loop = assembly.hot_loops_of_own("gate_matmul", name, code).splitlines()
    assert re.match(rf"gate_matmul, {name}, (gate_matmul|compiled code): \d+ instructions, ", first)
    products = [line for line in loop if re.match(r" *(vfn?madd\d+|v?mul|fml[as]|fmadd|fmul)", line)]
    assert len(products) > 1


def test_what_a_users_own_kernel_calls_is_shown():
    """A loop that calls a function, and the function's own loop; not those that it does not call."""
    listing = """
0000000000001000 <helper.constprop.0>:
    1000:\tvmulss %xmm1,%xmm2,%xmm3
    1004:\tcall   5000 <expf@plt>
    1008:\tjne    1000 <helper.constprop.0>

0000000000002000 <other>:
    2000:\tvmulss %xmm1,%xmm2,%xmm3
    2004:\tjne    2000 <other>

0000000000003000 <cell_update>:
    3000:\tcall   4000 <between@plt>
    3004:\tjne    3000 <cell_update>

0000000000004000 <between>:
    4000:\tjmp    1000 <helper.constprop.0>
"""
    assert assembly.functions_of(listing, "cell_update") == ("cell_update", "between", "helper")
    (loop,) = assembly.hot_loops(listing, assembly.functions_of(listing, "cell_update"), "", "")
    assert loop.function == "helper"
    assert assembly.functions_of(listing, "gate_matmul") == ("",)
    assert assembly.hot_loops_of_own("cell_update", "mine.py", b"").endswith("it has no machine code of its own")


def test_without_objdump(monkeypatch, capsys):
    for variable in one_thread.VARIABLES:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["compare", "--asm"]) == 2
    assert "--asm needs the program objdump" in capsys.readouterr().err
