"""What is kept on disk: whole or not at all, and read only where nobody else can have written it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings

import pytest

from lstmkernel.cli import main
from lstmkernel.host import disk_cache

CONTENT = bytes(range(256)) * 10
A, B = f"a-{'0' * 20}.so", f"b-{'1' * 20}.so"


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTMKERNEL_CACHE_DIR", str(tmp_path / "cache"))
    disk_cache._say_once.cache_clear()
    return tmp_path / "cache"


def test_kept_and_found():
    assert disk_cache.find("c", A) is None
    path = disk_cache.keep("c", A, CONTENT)
    assert disk_cache.find("c", A) == (path, CONTENT)
    assert path.read_bytes().startswith(CONTENT), "loaders read it as it is"
    disk_cache.keep("c", A, b"")
    assert disk_cache.find("c", A).content == b""


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"\x01" + whole[1:], lambda whole: b""])
def test_what_is_not_whole_is_gone(damage):
    path = disk_cache.keep("c", A, CONTENT)
    path.write_bytes(damage(path.read_bytes()))
    assert disk_cache.find("c", A) is None
    assert not path.exists()


def test_an_entry_under_another_name_or_kind_is_not_believed():
    """As after a restored backup that mixed them up. Each is right for what it was made for, and wrong for others."""
    a, b = disk_cache.keep("c", A, b"of a"), disk_cache.keep("c", B, b"of b")
    swap = a.with_suffix(".swap")
    a.rename(swap)
    b.rename(a)
    swap.rename(b)
    assert disk_cache.find("c", A) is None
    assert disk_cache.find("c", B) is None
    path = disk_cache.keep("c", A, CONTENT)
    other = path.parent.parent / "plans"
    other.mkdir(mode=0o700)
    path.rename(other / A)
    assert disk_cache.find("plans", A) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_nothing_is_waited_for():
    """A pipe in the place of an entry, which nobody writes to."""
    path = disk_cache.keep("c", A, CONTENT)
    path.unlink()
    os.mkfifo(path, 0o600)
    found = []
    thread = threading.Thread(target=lambda: found.append(disk_cache.find("c", A)), daemon=True)
    thread.start()
    thread.join(30)
    assert found == [None]
    disk_cache.keep("c", A, CONTENT)
    assert disk_cache.find("c", A).content == CONTENT


def test_a_directory_in_the_place_of_an_entry():
    path = disk_cache.keep("c", B, CONTENT).parent / A
    path.mkdir(mode=0o700)
    assert disk_cache.find("c", A) is None
    with pytest.warns(UserWarning, match="is a directory"):
        assert disk_cache.keep("c", A, CONTENT) is None
    assert path.is_dir()


@pytest.mark.skipif(not hasattr(os, "truncate"), reason="needs files with holes")
def test_a_file_of_terabytes_takes_no_memory(monkeypatch):
    monkeypatch.setattr(disk_cache, "MOST_BYTES", 1 << 20)
    path = disk_cache.keep("c", A, CONTENT)
    os.truncate(path, 1 << 40)
    assert disk_cache.find("c", A) is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX users")
def test_a_user_without_a_home(monkeypatch, tmp_path):
    """As in a container that runs under a number. Nothing is written to the folder at hand."""
    monkeypatch.delenv("LSTMKERNEL_CACHE_DIR")
    monkeypatch.setattr(disk_cache.platformdirs, "user_cache_dir", lambda *_, **__: "~/.cache/lstmkernel")
    monkeypatch.setattr(disk_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    path = disk_cache.keep("c", A, CONTENT)
    assert tmp_path in path.parents
    assert disk_cache.find("c", A).content == CONTENT


def test_a_clock_that_was_far_off(capsys):
    path = disk_cache.keep("c", A, CONTENT)
    os.utime(path, (2**40, 2**40))
    assert main(["cache"]) == 0
    assert A in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_can_write_is_not_read(mode):
    path = disk_cache.keep("c", A, CONTENT)
    path.chmod(mode)
    assert disk_cache.find("c", A) is None
    path.chmod(0o600)
    assert disk_cache.find("c", A).path == path
    for directory in (path.parent, path.parent.parent):
        directory.chmod(0o700 | (mode & 0o022))
        assert disk_cache.find("c", A) is None
        directory.chmod(0o700)
    path.parent.chmod(0o700 | (mode & 0o022))
    with pytest.warns(UserWarning, match="not this user's alone"):
        assert disk_cache.keep("c", B, CONTENT) is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_another_users_is_not_read(monkeypatch):
    disk_cache.keep("c", A, CONTENT)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert disk_cache.find("c", A) is None
    with pytest.warns(UserWarning, match="belongs to another user"):
        assert disk_cache.keep("c", A, CONTENT) is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_links_are_not_followed(directory):
    path = disk_cache.keep("c", A, CONTENT)
    (directory / "c" / B).symlink_to(path)
    assert disk_cache.find("c", B) is None
    path.unlink()
    assert list(disk_cache.entries()) == []


def test_whatever_the_umask_says(directory):
    before = os.umask(0)
    try:
        assert disk_cache.find("c", disk_cache.keep("c", A, CONTENT).name)
        assert {path.stat().st_mode & 0o777 for path in (directory, directory / "c")} == {0o700}
    finally:
        os.umask(before)


def test_no_room_is_said_once(directory):
    directory.write_text("a file where the directory should be")
    with pytest.warns(UserWarning, match=r"keeps no compiled code in .*cache: .*cache is not a directory"):
        assert disk_cache.keep("c", A, CONTENT) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert disk_cache.keep("c", B, CONTENT) is None
    assert disk_cache.find("c", A) is None
    assert list(disk_cache.entries()) == []


FULL = """
import resource, sys, warnings
from lstmkernel.host import disk_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # as if the disk had no more room
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    kept = [disk_cache.keep("c", f"{letter}-{'0' * 20}.so", bytes(20_000)) for letter in "ab"]
    small = disk_cache.keep("c", f"c-{'0' * 20}.so", b"room for this")
print(kept, small is not None, len(said), [entry.size for entry in disk_cache.entries()])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_disk_that_fills_up_is_said_once():
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["[None,", "None]", "True", "1", f"[{len('room for this') + 32}]"]


KILLED = """
import os, signal
from lstmkernel.host import disk_cache
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
disk_cache.keep("c", "a-00000000000000000000.so", b"all but its name")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_process_that_was_killed_leaves_no_entry():
    assert subprocess.run([sys.executable, "-c", KILLED], timeout=60, check=False).returncode < 0
    (left,) = disk_cache.entries()
    assert left.path.name.endswith(".unfinished")
    assert disk_cache.find("c", A) is None
    disk_cache.keep("c", A, CONTENT)
    assert disk_cache.find("c", A).content == CONTENT
    assert disk_cache.clear() == 2


def test_many_processes_at_once():
    program = """
import sys
from lstmkernel.host import disk_cache
for i in range(200):
    disk_cache.keep("c", "a.so", bytes([i]) * 100000)
    found = disk_cache.find("c", "a.so")
    assert found, i
    assert len(set(found.content)) == 1, i
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4


def test_forget_earlier_versions():
    old, new, other = (f"{name}-{'0' * 20}.bin" for name in ("k-1", "k-2", "other"))
    for name in (old, new, other):
        disk_cache.keep("numba", name, CONTENT)
    disk_cache.forget("numba", "k-*.bin", but=new)
    assert [entry.path.name for entry in disk_cache.entries()] == [new, other]


def test_listed_and_cleared(directory, capsys):
    assert main(["cache"]) == 0
    assert "0 files, 0B" in capsys.readouterr().out
    disk_cache.keep("c", A, CONTENT)
    disk_cache.keep("plans", f"p-{'a' * 20}.json", b"{}")
    (directory / "c" / f"{B}.123abc.unfinished").write_bytes(b"of a killed process")
    (directory / "c" / "main.c").write_text("somebody else's")
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert A in shown
    assert "3 files" in shown
    assert main(["cache", "--json"]) == 0
    assert '"kind": "plans"' in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "3 of 3 files removed" in capsys.readouterr().out
    assert list(disk_cache.entries()) == []
    assert (directory / "c" / "main.c").exists()
