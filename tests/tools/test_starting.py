"""Ctrl-C while the command line is imported: exit status 130, and no traceback. Other programs keep their own ways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of Unix")

#: As a first module, in place of one that lstmkernel imports: it waits for the signal.
WAITS = """
import sys, time
try:
    print("importing", flush=True)
    time.sleep(60)
finally:
    print("was interrupted", flush=True)
"""


def interrupted(tmp_path: Path, command: list[str]) -> tuple[int, str, str]:
    """Ctrl-C while NumPy is imported."""
    (tmp_path / "numpy.py").write_text(WAITS)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


SCRIPT = Path(sysconfig.get_path("scripts"), "lstmkernel")
COMMANDS = [[sys.executable, "-m", "lstmkernel", "info"], [sys.executable, str(SCRIPT), "info"]]


@pytest.mark.parametrize("command", COMMANDS, ids=["module", "script"])
def test_ctrl_c_while_importing(tmp_path, command):
    if command[1] == str(SCRIPT) and not SCRIPT.exists():
        pytest.skip("lstmkernel was not installed with its script")
    assert interrupted(tmp_path, command) == (130, "", "")


@pytest.mark.parametrize("name", ["-c", "program.py"])
def test_another_program_sees_the_exception(tmp_path, name):
    code = "import lstmkernel"
    (tmp_path / "program.py").write_text(code)
    command = [sys.executable, *(["-c", code] if name == "-c" else [str(tmp_path / name)])]
    _, out, err = interrupted(tmp_path, command)
    assert out == "was interrupted\n"
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_after_that_ctrl_c_is_an_exception_again():
    """The command line turns it into a status, after it has tidied up."""
    code = "import sys; sys.argv = ['lstmkernel', 'info']\nimport signal, lstmkernel.cli\n"
    code += "assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler\n"
    code += "assert lstmkernel.cli.main() == 0\n"
    code += "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_signal_that_is_ignored_stays_so():
    """As in the background of a shell without job control."""
    code = "import sys, signal; sys.argv = ['lstmkernel']; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "import lstmkernel\nassert signal.getsignal(signal.SIGINT) == signal.SIG_IGN\n"
    subprocess.run([sys.executable, "-c", code], check=True)
