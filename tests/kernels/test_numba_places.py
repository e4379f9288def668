"""Compiled functions of Numba's take an array, an address or None where they need a place in memory."""

import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import int64

from lstmkernel.backends.numba.compiled import compiled
from lstmkernel.backends.numba.memory import pointer


@pytest.fixture(scope="module")
def address_in_compiled_code():
    def kernel(x, to):
        pointer(to, int64)[0] = x

    function = compiled("test_places", kernel)

    def address(place):
        found = np.zeros(1, np.int64)
        function(place, found.ctypes.data)
        return found[0]

    return address


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_an_array_is_the_address_of_its_first_number(address_in_compiled_code, dtype):
    numbers = np.zeros((3, 4), dtype)
    for array in (numbers, numbers[1:], numbers[:, 2], numbers[::-1], np.empty(0, dtype), numbers[0, 0, None]):
        assert address_in_compiled_code(array) == array.ctypes.data


def test_so_is_an_array_of_another_class(address_in_compiled_code, tmp_path):
    mapped = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(5,))
    for array in (mapped, mapped[2:], np.zeros(3).view(np.recarray)):
        assert address_in_compiled_code(array) == array.ctypes.data


@pytest.mark.parametrize("address", [0, 1, 2**30, 2**31, 2**47 - 1, 2**62])
def test_an_integer_is_an_address(address_in_compiled_code, address):
    assert address_in_compiled_code(address) == address


def test_none_is_address_0(address_in_compiled_code):
    assert address_in_compiled_code(None) == 0


def test_too_large_an_integer_raises(address_in_compiled_code):
    with pytest.raises(OverflowError):
        address_in_compiled_code(2**64)


def test_an_array_is_held_no_longer_than_the_call(address_in_compiled_code):
    array = np.zeros(3)
    before = sys.getrefcount(array)
    for _ in range(10):
        address_in_compiled_code(array)
    assert sys.getrefcount(array) == before
