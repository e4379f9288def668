"""What differs on Windows, as far as other systems show it. tests/install/windows.sh runs the kernels there."""

from __future__ import annotations

import ctypes
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import setuptools
from helpers import ROOT

from lstmkernel.backends import BackendError
from lstmkernel.host import compile_c, cores, disk_cache, files
from lstmkernel.workbench import one_thread
from lstmkernel.workbench.own_kernels import process

#: Takes away what Windows lacks, after other packages have found it. Then imports everything, and runs a network.
LACKING = """
import logging, mmap, multiprocessing.connection, os, random, signal, subprocess, sys, tempfile
import numpy, platformdirs, rich.console, rich.progress, safetensors.numpy
platformdirs.user_cache_dir()
for name in ("register_at_fork", "sched_getaffinity", "sched_setaffinity", "geteuid", "getuid", "fork", "fchmod"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    delattr(os, name)
for name in ("SIGALRM", "SIGBUS", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
for name in ("MAP_PRIVATE", "MAP_SHARED", "MAP_ANONYMOUS", "MADV_HUGEPAGE", "PROT_READ"):
    if hasattr(mmap, name):
        delattr(mmap, name)
sys.modules |= dict.fromkeys(("fcntl", "resource", "termios", "pwd", "grp"))

import lstmkernel as lk
from lstmkernel.cli import main

for network in (lk.LSTM(3, 4, seed=0), lk.LSTM(300, 300, seed=0, backend="numpy")):  # the second fills a huge page
    out, _ = network(numpy.ones((5, 2, network.input_size), "f"))
    assert out.shape == (5, 2, network.hidden_size)
assert main(["info"]) == 0
assert main(["cache"]) == 0
print("all is there")
"""


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler is called as on Windows."""
    monkeypatch.setattr(compile_c, "_posix", lambda: False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The words with which a compiler is called to make a library."""

    def called(CC: str) -> list[str]:
        calls: list[list[str]] = []

        def run(words: list[str], **_: Any) -> SimpleNamespace:
            calls.append(words)
            return SimpleNamespace(returncode=1, stderr="")

        monkeypatch.setenv("CC", CC)
        monkeypatch.setattr(shutil, "which", lambda name: name)
        monkeypatch.setattr(subprocess, "run", run)
        with pytest.raises(compile_c.CompileError):
            compile_c.library(Path("a.c"), ["-O3"])
        return calls[0]

    return called


def test_nothing_of_posix_is_needed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LSTMKERNEL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", LACKING], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("all is there\n")


# ---------------------------------------------------------------- cores


def test_the_mask_of_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(process: ctypes.c_void_p, ours: Any, machines: Any) -> int:
        assert process.value == ctypes.c_void_p(-1).value
        ours._obj.value, machines._obj.value = 0b1011, 0b1111
        return 1

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores, "_cgroup_limit", lambda: 64)
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: SimpleNamespace(GetProcessAffinityMask=get), raising=False)
    assert cores.available() == 3


def test_without_any_affinity_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores, "_cgroup_limit", lambda: 64)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    refused = SimpleNamespace(GetProcessAffinityMask=lambda *_: 0)
    for library in (None, refused):
        if library:
            monkeypatch.setattr(ctypes, "WinDLL", lambda name: refused, raising=False)
        assert cores.available() == 6


# ---------------------------------------------------------------- a compiler at run time


def test_vectors_on_the_stack_need_not_be_aligned(windows: None, command: Callable[[str], list[str]]) -> None:
    words = command("gcc")
    assert words[:4] == ["gcc", "-O3", *compile_c.SHARED_ON_WINDOWS]
    assert compile_c.UNALIGNED in words
    assert not {"-fPIC", "-lm"} & set(words)
    build = (ROOT / "csrc/build.py").read_text()
    assert {compile_c.UNALIGNED, *compile_c.SHARED_ON_WINDOWS[1:]} <= set(re.findall(r'"(-[^"]*)"', build))


def test_clang_aligns_the_stack(windows: None, command: Callable[[str], list[str]]) -> None:
    words = command(r'"C:\Program Files\LLVM\clang.exe" --target=x86_64-w64-mingw32')
    assert words[:2] == [r"C:\Program Files\LLVM\clang.exe", "--target=x86_64-w64-mingw32"]
    assert compile_c.UNALIGNED not in words


def test_elsewhere_nothing_of_that(command: Callable[[str], list[str]]) -> None:
    words = command("gcc -m64")
    assert words[:-2] == ["gcc", "-m64", "-O3", *compile_c.SHARED, "a.c", "-o"]
    assert words[-1] == "-lm"


def test_a_library_in_use_is_not_removed(windows: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def in_use(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with monkeypatch.context() as patch, compile_c.as_file(b"code") as path:
        patch.setattr(os, "unlink", in_use)
        assert path.suffix, "without one, Windows looks for code.dll"
    monkeypatch.undo()
    with compile_c.as_file(b"code") as path:
        pass
    assert not path.exists()


# ---------------------------------------------------------------- files that somebody has open


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Access is denied", source, None, target)

    monkeypatch.setattr(os, "replace", refuse)


def test_the_error_names_the_file_that_is_open(in_use: None, tmp_path: Path) -> None:
    path = str(tmp_path / "model.safetensors")
    with pytest.raises(PermissionError) as raised, files.replacing(path) as file:
        file.write(b"weights")
    assert (raised.value.filename, raised.value.filename2) == (path, None)
    assert not list(tmp_path.iterdir())


def test_another_process_has_kept_it_already(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "cache"))
    disk_cache._say_once.cache_clear()
    name = f"a-{'0' * 20}.so"
    path = disk_cache.keep("c", name, b"code")
    request.getfixturevalue("in_use")
    assert disk_cache.keep("c", name, b"code") == path
    assert not recwarn.list
    with pytest.warns(UserWarning, match="Access is denied"):
        assert disk_cache.keep("c", name.replace("a-", "b-"), b"code") is None


def test_external_data_in_another_case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real path has the case of the disk; a model may name the file in another one."""
    pytest.importorskip("onnx")
    from lstmkernel.formats.onnx.tensors import TensorReader

    (tmp_path / "model.onnx").write_bytes(b"")
    reader = TensorReader(str(tmp_path / "model.onnx"))
    monkeypatch.setattr(os.path, "realpath", lambda path: str(path).replace("weights", "Weights"))
    with pytest.raises(ValueError, match="got a link"):
        reader._beside("w", "weights.bin")
    monkeypatch.setattr(os.path, "normcase", lambda path: path.lower())
    assert reader._beside("w", "weights.bin") == str(tmp_path / "weights.bin")


# ---------------------------------------------------------------- processes


def test_the_command_waits_for_the_process_that_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in one_thread.VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def run(words: list[str], env: dict[str, str], check: bool) -> SimpleNamespace:
        assert (words[0], env["OMP_NUM_THREADS"]) == (sys.executable, "1")
        return SimpleNamespace(returncode=7)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", run)
        patch.setattr(os, "execve", lambda *_: pytest.fail("this process would have ended"))
        patch.setattr(os, "name", "nt")
        with pytest.raises(SystemExit) as ended:
            one_thread.ensure()
    assert ended.value.code == 7


def test_own_kernels_say_what_they_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(process.signal, "setitimer")
    with pytest.raises(BackendError, match=r"own\.c: .*Windows.*Linux or macOS"):
        process.OwnKernels(str(tmp_path / "own.c"), None, 1.0)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the build


def test_the_build_takes_gcc_and_the_library_of_every_python(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    build_ext = given["cmdclass"]["build_ext"]
    monkeypatch.setitem(build_ext.finalize_options.__globals__, "WINDOWS", True)
    for chosen, taken in ((None, "mingw32"), ("unix", "unix")):
        build = build_ext(setuptools.Distribution())
        build.compiler = chosen
        build.finalize_options()
        assert build.compiler == taken
    monkeypatch.setattr(build_ext.__mro__[1], "get_libraries", lambda self, ext: ["m", "python313"])
    assert build.get_libraries(SimpleNamespace(py_limited_api=True)) == ["m", "python3"]
    assert build.get_libraries(SimpleNamespace(py_limited_api=False)) == ["m", "python313"]
