"""Blocks that are written while the next one is computed."""

import threading

import numpy as np
import pytest

from lstmkernel.workbench.blockwise.behind import written_behind


class Notes:
    """A sink that notes its blocks, fails at one of them, and waits until it may go on."""

    def __init__(self, fails_at=None):
        self.fails_at, self.noted, self.go_on = fails_at, [], threading.Event()
        self.go_on.set()

    def write(self, index, block):
        assert self.go_on.wait(10)
        if len(self.noted) == self.fails_at:
            raise OSError("no space left")
        self.noted.append((index, int(block[0])))


def write_three(behind):
    for number in range(3):
        behind.write((slice(number, number + 1),), np.array([number]))


def test_all_blocks_in_order():
    notes = Notes()
    with written_behind(notes) as behind:
        write_three(behind)
    assert notes.noted == [((slice(number, number + 1),), number) for number in range(3)]


def test_the_caller_goes_on_meanwhile():
    notes = Notes()
    notes.go_on.clear()
    with written_behind(notes) as behind:
        behind.write((), np.zeros(1))
        assert not notes.noted
        notes.go_on.set()
    assert len(notes.noted) == 1


@pytest.mark.parametrize("block", [0, 1, 2])
def test_an_error_of_writing_is_raised(block):
    notes = Notes(fails_at=block)
    with pytest.raises(OSError, match="no space left"), written_behind(notes) as behind:
        write_three(behind)
    assert len(notes.noted) == block


def test_an_error_of_the_caller_comes_first():
    def caller():
        with written_behind(Notes(fails_at=0)) as behind:
            behind.write((), np.zeros(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        caller()
