"""What is kept on disk: whole or not at all, and read only where nobody else can have written it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from lstmkernel import cache
from lstmkernel.cli import main

CONTENT = bytes(range(256)) * 10


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "cache"))
    cache._say_once.cache_clear()
    return tmp_path / "cache"


def test_kept_and_found():
    assert cache.find("c", "a.so") is None
    path = cache.keep("c", "a.so", CONTENT)
    assert cache.find("c", "a.so") == path
    assert cache.content(path) == CONTENT
    assert path.read_bytes().startswith(CONTENT), "loaders read it as it is"
    cache.keep("c", "a.so", b"")
    assert cache.content(cache.find("c", "a.so")) == b""


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"\x01" + whole[1:], lambda whole: b""])
def test_what_is_not_whole_is_gone(damage):
    path = cache.keep("c", "a.so", CONTENT)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.find("c", "a.so") is None
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_can_write_is_not_read(mode):
    path = cache.keep("c", "a.so", CONTENT)
    path.chmod(mode)
    assert cache.find("c", "a.so") is None
    path.chmod(0o600)
    assert cache.find("c", "a.so") == path
    path.parent.chmod(0o700 | (mode & 0o022))
    assert cache.find("c", "a.so") is None
    with pytest.warns(UserWarning, match="not this user's alone"):
        assert cache.keep("c", "b.so", CONTENT) is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_another_users_is_not_read(monkeypatch):
    cache.keep("c", "a.so", CONTENT)
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert cache.find("c", "a.so") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_links_are_not_followed(directory):
    path = cache.keep("c", "a.so", CONTENT)
    (directory / "c" / "b.so").symlink_to(path)
    assert cache.find("c", "b.so") is None


def test_whatever_the_umask_says():
    before = os.umask(0)
    try:
        assert cache.find("c", cache.keep("c", "a.so", CONTENT).name)
    finally:
        os.umask(before)


def test_no_room_is_said_once(directory):
    directory.write_text("a file where the directory should be")
    with pytest.warns(UserWarning, match=r"keeps no compiled code in .*cache: Not a directory"):
        assert cache.keep("c", "a.so", CONTENT) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.keep("c", "b.so", CONTENT) is None
    assert cache.find("c", "a.so") is None
    assert list(cache.entries()) == []


def test_many_processes_at_once():
    program = """
import sys
from lstmkernel import cache
for i in range(200):
    cache.keep("c", "a.so", bytes([i]) * 100000)
    found = cache.find("c", "a.so")
    assert found, i
    assert len(set(cache.content(found))) == 1, i
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4


def test_forget_earlier_versions():
    for name in ("k-1.bin", "k-2.bin", "other-1.bin"):
        cache.keep("numba", name, CONTENT)
    cache.forget("numba", "k-*.bin", but="k-2.bin")
    assert [entry.path.name for entry in cache.entries()] == ["k-2.bin", "other-1.bin"]


def test_listed_and_cleared(directory, capsys):
    assert main(["cache"]) == 0
    assert "0 files, 0B" in capsys.readouterr().out
    cache.keep("c", "a.so", CONTENT)
    cache.keep("plans", "p.json", b"{}")
    (directory / "c" / "b.so.123.unfinished").write_bytes(b"of a killed process")
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "a.so" in shown
    assert "3 files" in shown
    assert main(["cache", "--json"]) == 0
    assert '"kind": "plans"' in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "3 of 3 files removed" in capsys.readouterr().out
    assert list(cache.entries()) == []
