"""Everything but ``backend="numba"`` works where Numba and LLVM are not installed."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT

import lstmkernel as lk
from lstmkernel import backends

#: What an environment without Numba lacks.
LACKING = re.compile(r"numba|llvmlite", re.IGNORECASE)

#: At the start of every program here: otherwise it would test nothing.
LACKS_IT = """
import importlib.util, warnings
import numpy as np
import lstmkernel as lk
assert not [name for name in ("numba", "llvmlite") if importlib.util.find_spec(name)]
x = np.random.default_rng(0).normal(size=(12, 2, 3)).astype("float32")
"""

#: As in an install from sources on a machine without a compiler.
LACKS_C = """
import sys
sys.modules["lstmkernel.backends.c._kernels"] = None
"""

README = (ROOT / "README.md").read_text()

needs_c = pytest.mark.skipif(not backends.c_is_built(), reason="the C kernels were not built")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for a child process with all packages of this one but Numba and LLVM: links to what is installed."""
    folder = tmp_path_factory.mktemp("site")
    installed = [Path(path) for path in (*site.getsitepackages(), site.getusersitepackages()) if Path(path).is_dir()]
    for path in (path for packages in installed for path in packages.iterdir()):
        if not LACKING.match(path.name) and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    mine = Path(lk.__file__).parent.parent
    paths = [folder] if mine in installed else [folder, mine]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def run(environment: dict[str, str], *arguments: str) -> str:
    """What a child process with this environment prints. -S: the packages that are installed beside it are left out."""
    done = subprocess.run(
        [sys.executable, "-S", *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@needs_c
def test_networks_and_what_they_do(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
import pickle, sys
warnings.simplefilter("error")
lstm = lk.LSTM(3, 5, 2, bidirectional=True, seed=0)
assert lstm.backend.startswith("c:")
out, state = lstm(x, lengths=[12, 7])
net = lk.Stack([lstm, lk.Dense(10, 1, "sigmoid", seed=0)])
path = sys.argv[1] + "/net.safetensors"
lk.save(net, path)
assert np.array_equal(lk.load(path)(x)[0], net(x)[0])
assert np.array_equal(pickle.loads(pickle.dumps(net))(x)[0], net(x)[0])
single = lk.LSTM(3, 5, seed=0)
stream, pool, window = single.stream(2), single.pool(2), single.window(4, 2)
stream(x), pool.step(pool.open(2), x[0]), window.step(x[0])
single.windows(x[:, 0], 4), single.ragged(x[:, 0], [0, 5, 12]), single.last(x), single.quantize("float16")(x)
out, _, tape = single.forward(x)
single.backward(tape, out)
lk.LSTMCell(3, 4, seed=0)(x[0])
lk.trace(single, x), lk.gradient_flow(single, x), lk.inspect(path)
assert lk.warmup() >= 0
"""
    run(environment, "-c", LACKS_IT + code, str(tmp_path))


@needs_c
@pytest.mark.slow
def test_compile_leaves_numba_out(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
fast = lk.LSTM(3, 5, seed=0).compile(batch_size=2, steps=12)
reasons = {each.name: each.note for each in fast.plan.contenders}
assert "numba" not in reasons, reasons
assert np.array_equal(fast(x)[0], lk.LSTM(3, 5, seed=0)(x)[0])
"""
    run({**environment, "LSTMKERNEL_CACHE_DIR": str(tmp_path)}, "-c", LACKS_IT + code)


def test_torch(environment: dict[str, str]) -> None:
    pytest.importorskip("torch")
    code = """
import torch
import lstmkernel.torch
layer = lstmkernel.torch.LSTM(3, 5)
layer(torch.from_numpy(x))[0].sum().backward()
model = torch.nn.Sequential(torch.nn.LSTM(3, 5))
lstmkernel.torch.accelerate(model)
lk.from_torch(torch.nn.LSTM(3, 5))(x)
"""
    run(environment, "-c", LACKS_IT + code)


@needs_c
def test_the_command_line(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
import os, sys
from lstmkernel import cli
os.chdir(sys.argv[1])
lk.save(lk.LSTM(3, 5, seed=0), "a.safetensors")
np.save("x.npy", x)
for line in ("info", "info a.safetensors", "convert a.safetensors b.safetensors",
             "run --weights a.safetensors x.npy -o y.npy", "compare --shape 1,4,3,5 --seconds 0.05",
             "cache", "explain", "threads --help"):
    try:
        status = cli.main(line.split())
    except SystemExit as end:
        status = end.code
    assert status == 0, line
"""
    shown = run({**environment, "LSTMKERNEL_CACHE_DIR": str(tmp_path)}, "-c", LACKS_IT + code, str(tmp_path))
    assert "the package numba is not installed" in shown


def test_numba_by_name_is_refused_with_the_way_out(environment: dict[str, str]) -> None:
    code = """
for call in (lambda: lk.LSTM(3, 5, backend="numba"), lambda: lk.warmup("numba")):
    try:
        call()
    except lk.BackendError as error:
        assert "pip install numba" in str(error)
    else:
        raise AssertionError("not refused")
"""
    run(environment, "-c", LACKS_IT + code)


def test_half_an_install_is_none() -> None:
    """numba without llvmlite, which ``pip install --no-deps numba`` gives."""
    code = """
import sys
sys.modules["llvmlite"] = None
import lstmkernel as lk
assert "llvmlite is not installed" in lk.info()["backends"]["numba"]
"""
    pytest.importorskip("numba")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_numpy_is_what_is_left_without_c(environment: dict[str, str]) -> None:
    code = """
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    lstm = lk.LSTM(3, 5, seed=0)
    assert lk.info()["default"] == lstm.backend == "numpy"
lstm(x)
(warning,) = said
assert "runs on NumPy" in str(warning.message) and "install a C compiler" in str(warning.message)
"""
    run(environment, "-c", LACKS_C + LACKS_IT + code)


# ---------------------------------------------------------------- what pip installs


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_readme_lists_what_is_needed_without_numba() -> None:
    """Its way for systems that have no wheel of llvmlite."""
    needed = {re.split(r"[<>=;]", line)[0] for line in project()["dependencies"]} - {"numba"}
    (listed,) = re.findall(r"^pip install --no-deps lstmkernel && pip install (.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert set(listed.split()) == needed


@pytest.mark.parametrize(
    ("machine", "installed"),
    [
        ("linux x86_64 CPython", True),
        ("linux aarch64 CPython", True),
        ("darwin arm64 CPython", True),
        ("win32 AMD64 CPython", True),
        ("darwin x86_64 CPython", False),
        ("linux riscv64 CPython", False),
        ("linux x86_64 PyPy", False),
    ],
)
def test_pip_installs_numba_where_llvm_has_wheels(machine: str, installed: bool) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    (line,) = [line for line in project()["dependencies"] if line.startswith("numba")]
    names = ("sys_platform", "platform_machine", "platform_python_implementation")
    marker = requirements.Requirement(line).marker
    assert marker.evaluate(dict(zip(names, machine.split(), strict=True))) == installed


def test_no_extra_that_users_install_pins_a_version() -> None:
    extras = project()["optional-dependencies"]
    assert not [line for lines in extras.values() for line in lines if "==" in line]
