"""``compare --asm``: the hot loops of a disassembly, and the counts of their instructions."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from helpers import ROOT, usable

import lstmkernel as lk
from lstmkernel import backends
from lstmkernel.cli import main
from lstmkernel.engine.precision import plain
from lstmkernel.workbench import assembly, machine_code, narrow, one_thread
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
    2000:\tvaddps (%rax),%zmm1,%zmm2
    2004:\tjne    2000 <sweep.cold>

0000000000003000 <other>:
    3000:\tvfmadd231ps %ymm1,%ymm2,%ymm3
    3004:\tjne    3000 <other>
"""


def test_the_innermost_loop_that_computes_most_for_each_load():
    (loop,) = assembly.hot_loops(LISTING, ("sweep",))
    assert str(loop).splitlines() == [
        "sweep: 9 instructions, 2 FMAs, 1 other operations, 3 loads, 2 stores, 2 on the stack",
        *(f"    {name:<14} {operands}" for name, operands in [each[1:] for each in loop.instructions]),
    ]
    assert [hex(each.address) for each in loop.instructions][::8] == ["0x1010", "0x1030"]


def test_only_what_was_asked_for():
    assert [loop.function for loop in assembly.hot_loops(LISTING, ("other", "sweep"))] == ["other", "sweep"]
    assert assembly.hot_loops(LISTING, ("none",)) == []
    assert len(assembly.hot_loops(LISTING, ("",))) == 1


def test_a_loop_of_calls_is_shown_where_there_is_no_other():
    calls = "    100:\tvmulss %xmm1,%xmm2,%xmm3\n    104:\tcall   0 <expf>\n    108:\tjne    100 <f>"
    loads = "    200:\tvmulss (%rax),%xmm2,%xmm3\n    204:\tjne    200 <f>"
    (loop,) = assembly.hot_loops(f"0 <f>:\n{calls}\n{loads}", ("f",))
    assert loop.instructions[0].address == 0x200
    (loop,) = assembly.hot_loops(f"0 <f>:\n{calls}", ("f",))
    assert loop.instructions[0].address == 0x100


def test_a_long_loop_is_cut():
    many = "\n".join(f"    {address:x}:\tvaddps %ymm1,%ymm2,%ymm3" for address in range(0x100, 0x200))
    (loop,) = assembly.hot_loops(f"0 <f>:\n{many}\n    200:\tjne    100 <f>", ("f",))
    lines = str(loop).splitlines()
    assert len(lines) == 66
    assert lines[-1] == "    ... and 193 more"


def loop_of(*instructions):
    """The hot loop of a function of those instructions."""
    lines = [f"    {0x100 + 4 * i:x}:\t{text}" for i, text in enumerate([*instructions, "jne    100 <f>"])]
    loops = assembly.hot_loops("\n".join(["0000000000000100 <f>:", *lines]), ("f",))
    return str(loops[0]).splitlines()[0].partition("instructions, ")[2] if loops else None


@pytest.mark.parametrize(
    ("instructions", "counts"),
    [
        (
            ["vpdpbusd (%rax),%zmm1,%zmm2", "{vex} vpdpbusd %ymm0,%ymm1,%ymm2"],
            "2 dot products, 0 other operations, 1 loads",
        ),
        (
            ["vpmaddubsw %ymm0,%ymm1,%ymm2", "vpmaddwd %ymm0,%ymm1,%ymm2", "vpaddd %ymm0,%ymm1,%ymm2"],
            "2 dot products, 1 other",
        ),
        (["sdot\tv0.4s, v1.16b, v2.16b", "smlal2\tv0.4s, v1.8h, v2.8h"], "2 dot products, 0 other"),
        (["smull\tv0.4s, v1.4h, v2.4h", "addp\tv0.4s, v0.4s, v1.4s", "add\tv0.4s, v0.4s, v1.4s"], "3 other"),
        (["pmuludq %xmm1,%xmm2", "paddd  %xmm2,%xmm3"], "2 other operations"),
    ],
)
def test_arithmetic_with_integers_is_counted(instructions, counts):
    assert loop_of(*instructions).startswith(f"0 FMAs, {counts}")


@pytest.mark.parametrize("instruction", ["vpaddq %zmm1,%zmm2,%zmm3", "vpmuludq %zmm1,%zmm2,%zmm3", "add x0, x0, #0x10"])
def test_addresses_are_not_arithmetic(instruction):
    assert loop_of(instruction) is None


def test_a_loop_with_dot_products_comes_first():
    """Numba's code is one function, and other loops have more arithmetic for each load."""
    others = "\n".join(f"    {address:x}:\tvfmadd231ps %zmm1,%zmm2,%zmm3" for address in range(0x200, 0x210))
    dots = "    300:\tvpdpbusd (%rax),%zmm1,%zmm2\n    304:\tjne    300 <f>"
    (loop,) = assembly.hot_loops(f"0 <f>:\n{others}\n    210:\tjne    200 <f>\n{dots}", ("f",))
    assert loop.dot_products == 1


#: Two files have a function of the same name; functions that others may call come after all files.
SYMBOLS = """
SYMBOL TABLE:
0000000000000000 l    df *ABS*\t0000000000000000              avx2_f32.c
0000000000001000 l     F .text\t0000000000000010              sweep
0000000000009000 l     O .data\t0000000000000010              numbers
0000000000000000 l    df *ABS*\t0000000000000000              avx2_i8a8.c
0000000000002000 l     F .text\t0000000000000010              sweep
0000000000002040 l     F .text\t0000000000000010              sweep.part.0
0000000000000000 l    df *ABS*\t0000000000000000
0000000000003000 l     F .text\t0000000000000010              of_the_linker
0000000000004000 g     F .text\t0000000000000010              lk_find
"""


def test_functions_go_by_the_file_that_they_are_from():
    files = machine_code.files_of(SYMBOLS)
    assert (files["avx2_f32.c"], files["avx2_i8a8.c"]) == ({0x1000}, {0x2000, 0x2040})
    assert files[""] == {0x3000}
    listing = "0000000000001000 <sweep>:\n    1000:\tret\n\n0000000000002000 <sweep>:\n    2000:\tnop"
    assert machine_code.functions_at(listing, files["avx2_i8a8.c"]).split() == [
        "0000000000002000",
        "<sweep>:",
        "2000:",
        "nop",
    ]


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
    assert main([*quick, "--asm", "--specialise", "--precision", "float16"]) == 0
    shown = capsys.readouterr().out
    assert f"layer_forward, {backends.get(own).name} float16, input_product: " in shown
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


@pytest.mark.slow
@needs_objdump
@pytest.mark.parametrize("choice", ["float32", "int8", "int8/int8"])
def test_numbas_tiles_keep_their_sums_in_registers(choice):
    """LLVM would load the weights of several gates at once, and would have no registers left for the sums."""
    pytest.importorskip("numba")
    from lstmkernel.backends.numba.target import DOT, HAS_FMA, TILE_ROWS

    if choice == "float32":
        if not HAS_FMA:
            pytest.skip("a product has two instructions")
        precision, sums, products = plain(np.dtype("float32")), 4 * TILE_ROWS, "fmas"
        check.failure("layer_forward", backends.get("numba"), np.dtype("float32"))  # compiles it
    else:
        precision = narrow.CHOICES[choice]
        dot = DOT[8 * np.dtype(precision.activations).itemsize]
        if dot.instruction != "vpdpbusd":
            pytest.skip("a product has several instructions")
        sums, products = 4 * dot.rows * dot.planes, "dot_products"
        lk.LSTM(3, 5, backend="numba").quantize("int8", precision.activations)(np.ones((2, 7, 3), "float32"))
    listing = machine_code.of_numba("layer_forward", precision)
    tiles = [loop for loop in assembly.inner_loops(listing, ("",)) if getattr(loop, products) == sums]
    tiles = [loop for loop in tiles if loop.arithmetic == sums]
    assert len(tiles) > 1
    assert not [str(loop) for loop in tiles if any(each.on_stack for each in loop.instructions)]


def test_a_matrix_product_comes_before_a_polynomial():
    fma, multiplication = "vfmadd231ps %zmm1,%zmm2,%zmm3", "vmulps %zmm1,%zmm2,%zmm3"
    load = "vmovups (%rax),%zmm1"

    def loop(at, *instructions):
        lines = [f"    {at + 4 * place:x}:\t{each}" for place, each in enumerate(instructions)]
        return [*lines, f"    {at + 4 * len(lines):x}:\tjne    {at:x} <run>"]

    product, polynomial = [load] + 4 * [fma], [load] + 5 * [fma] + 6 * [multiplication]
    lines = ["0000000000001000 <run>:", *loop(0x1000, *polynomial), *loop(0x2000, *product)]
    (found,) = assembly.hot_loops("\n".join(lines), ("",))
    assert (found.fmas, found.arithmetic) == (4, 4)


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
    (loop,) = assembly.hot_loops(listing, assembly.functions_of(listing, "cell_update"))
    assert loop.function == "helper"
    assert assembly.functions_of(listing, "gate_matmul") == ("",)
    assert assembly.hot_loops_of_own("cell_update", "mine.py", b"").endswith("it has no machine code of its own")


#: What multiplies in the hot loops of the 8-bit kernels, by the names of csrc/tables; "" means any.
PRODUCTS = {
    "avx512_vnni": "vpdpbusd",
    "avx512": "vpmaddwd",
    "avx2_vnni": "vpdpbusd",
    "avx2": "vpmadd",
    "neon_dotprod": "sdot",
    "neon": "smull",
    "generic": "",
}


@needs_objdump
@pytest.mark.parametrize("choice", narrow.CHOICES)
@pytest.mark.parametrize("name", [name for name in usable() if name.startswith("c:")])
def test_kernels_of_fewer_bits_have_hot_loops(name, choice):
    from lstmkernel.backends.c import calls

    precision = narrow.CHOICES[choice]
    if precision.is_int8 and backends.get(name).pack_int8_layer is None:
        pytest.skip("no kernels for 8-bit weights")
    shown = assembly.hot_loops_of("layer_forward", narrow.name_of(name, choice), np.dtype("float32"), (1, 1, 0))
    heads = [line for line in shown.splitlines() if not line.startswith(" ")]
    functions = ["inputs_product", "step_rows", "step_row"] if precision.is_int8 else ["input_product", "step_rows"]
    for function, head in zip(functions, heads, strict=False):
        assert head.startswith(f"layer_forward, {name} {choice}, {function}: "), shown
    if precision.is_int8:
        table = calls.source(name.removeprefix("c:"), precision.activations).rpartition("_")[0]
        assert PRODUCTS[table] in shown
        assert (" dot products, " in heads[0]) == (table not in ("neon", "generic"))
    elif backends.get(name).takes_float16 and "avx" in name:
        assert "vcvtph2ps" in shown


@needs_objdump
def test_numbas_kernels_of_fewer_bits(monkeypatch):
    """Only which of them are looked for: to compile them takes a minute."""
    jit_cache = pytest.importorskip("lstmkernel.backends.numba.jit_cache")
    asked = []
    monkeypatch.setattr(jit_cache.DiskCache, "content", lambda cache: asked.append(cache._kernel))
    for choice in narrow.CHOICES:
        shown = assembly.hot_loops_of("layer_forward", narrow.name_of("numba", choice), np.dtype("float32"), (1, 1, 0))
        assert shown == f"layer_forward, numba {choice}: its machine code is not in the cache; see lstmkernel cache"
    assert asked == ["layer_forward-float32", "i8a16_forward-float32", "i8a8_forward-float32"]


@needs_objdump
def test_a_stripped_library(monkeypatch):
    name = next(name for name in usable() if name.startswith("c:"))
    monkeypatch.setattr(machine_code, "_of_library", lambda path: ("", {}))
    shown = assembly.hot_loops_of("layer_forward", name, np.dtype("float32"), (1, 1, 0))
    assert re.match(
        rf"layer_forward, {name}: the C library does not say which of its functions are from \w+_f32.c", shown
    )


def test_without_objdump(monkeypatch, capsys):
    for variable in one_thread.VARIABLES:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["compare", "--asm"]) == 2
    assert "--asm needs the program objdump" in capsys.readouterr().err
