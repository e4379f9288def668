"""An exception at any place where Python handles signals: what was interrupted has changed nothing."""

import dis
import gc
import sys
from pathlib import Path

import pytest
from helpers import sampled
from operations import KINDS, check, operations

import lstmkernel as lk

PACKAGE = str(Path(lk.__file__).parent)

#: Python looks for signals when a function begins, after a call of what is written in C, and where a loop's body ends.
SIGNALS_COME_AFTER = ("RESUME", "CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "POP_JUMP_BACKWARD")


class Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest would take for the user's."""


def interrupted(act, place):
    """Run it, and raise Interrupt at the place-th instruction of lstmkernel at which a signal can come."""
    seen, last = 0, {}

    def trace(frame, event, _):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            last[frame] = "RESUME"
            if not frame.f_code.co_name.startswith("__"):  # Python calls it without C
                last[frame.f_back] = ""
        if event == "opcode":
            comes = last[frame].startswith(SIGNALS_COME_AFTER)
            last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if comes and not last[frame].startswith("RESUME"):
                seen += 1
                if seen == place:
                    raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return None


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # files that close
@pytest.mark.parametrize("kind", sampled(KINDS, "Dense"))
def test_what_is_interrupted_has_changed_nothing(kind, tmp_path):
    for name, make in operations(kind, "auto", tmp_path).items():
        check(name, make, interrupted)
    gc.collect()  # the warnings of files that were just opened come here, not in another test


@pytest.mark.parametrize(
    "name",
    [
        *("load_state_dict", "chunk with out", "chunk of a new length", "set state", "reset", "step"),
        *("open", "close", "reset of streams", "fork", "open with a state", "set state of streams", "chunk of streams"),
    ],
)
def test_the_quick_ones_of_them(name, tmp_path):
    check(name, operations("LSTM", "auto", tmp_path)[name], interrupted)
