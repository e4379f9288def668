"""Memory of large arrays that is used again: by later arrays of about the same size, never by two at a time."""

import gc
import threading

import numpy as np
import pytest

from lstmkernel.backends import reuse
from lstmkernel.backends.reuse import LEAST_BYTES, copied, empty_reused


@pytest.fixture(autouse=True)
def nothing_spare(monkeypatch):
    """Where nothing may wait, the end of one array gives back all that waits."""
    gc.collect()
    with monkeypatch.context() as patched:
        patched.setattr(reuse, "MOST_SPARE", 0)
        empty_reused((2 * LEAST_BYTES,), np.uint8)


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_the_same_size_comes_again():
    first = empty_reused((1000, 100), "float64")
    place, other = address(first), empty_reused((1000, 100), "float64")
    assert not np.shares_memory(first, other)
    view = first[3:, 5:]
    del first
    assert address(empty_reused((1000, 100), "float64")) != place  # the view still reads it
    del view
    assert address(empty_reused((1000, 100), "float64")) == place


@pytest.mark.parametrize("rows", [900, 1000, 1023])
def test_memory_of_about_the_size_comes_again(rows):
    """The sentences of a batch are rarely as long as those of the batch before."""
    array = empty_reused((rows, 512), "float32")
    place = address(array)
    del array
    again = empty_reused((rows - 1, 512), "float32")
    assert again.shape == (rows - 1, 512)
    assert address(again) == place


def test_what_waits_is_bounded_and_sizes_out_of_use_go(monkeypatch):
    monkeypatch.setattr(reuse, "MOST_SPARE", 10 * LEAST_BYTES)
    for size in range(1, 10):
        empty_reused((size * LEAST_BYTES,), np.uint8)
        assert sum(spare for spare, _ in reuse._spare.values()) <= 10 * LEAST_BYTES
    newest = empty_reused((9 * LEAST_BYTES,), np.uint8)
    assert not reuse._spare, "it had not waited: older sizes were in its way"
    del newest


def test_more_than_may_wait_is_given_back(monkeypatch):
    monkeypatch.setattr(reuse, "MOST_SPARE", LEAST_BYTES)
    empty_reused((2 * LEAST_BYTES,), np.uint8)
    assert not reuse._spare


def test_a_copy_is_one():
    array = np.arange(200_000, dtype="float32").reshape(2, -1)[:, ::2]
    copy = copied(array)
    assert np.array_equal(copy, array)
    assert not np.shares_memory(copy, array)


def test_threads_never_get_the_same_memory():
    failures = []

    def work(number):
        for turn in range(200):
            arrays = [empty_reused((LEAST_BYTES // 8 + turn,), "float64") for _ in range(3)]
            for i, array in enumerate(arrays):
                array[:] = 10 * number + i
            failures.extend((number, turn) for i, array in enumerate(arrays) if not (array == 10 * number + i).all())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
