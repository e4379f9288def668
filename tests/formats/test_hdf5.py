"""The reader of HDF5: what h5py writes comes back, and blocks that lie are refused without memory, loops or crashes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from fuzz_targets import keras_hdf5

from lstmkernel.formats.untrusted.hdf5 import HDF5Reader

h5py = pytest.importorskip("h5py")
from hostile import refused_in_little_memory, refused_or_loaded  # noqa: E402
from keras_changes import refusal  # noqa: E402


def read(data: bytes) -> HDF5Reader:
    return HDF5Reader(io.BytesIO(data), len(data), len(data))


def written(write, **options) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        write(h5)
    return file.getvalue()


# ---------------------------------------------------------------- what h5py writes


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (3, 4)},
        {"chunks": (7, 5), "compression": "gzip"},
        {"chunks": (2, 2), "shuffle": True},
        {"chunks": True, "compression": "gzip", "shuffle": True, "maxshape": (None, None)},
    ],
    ids=["whole", "chunks", "deflated", "shuffled", "both"],
)
def test_arrays(random, dtype, options):
    values = random.normal(size=(17, 13)).astype(dtype)
    reader = read(written(lambda h5: h5.create_dataset("a/b", data=values, **options)))
    found = reader.read(reader.dataset(reader.root, "a/b"))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(found, values)
    assert reader.tensors(reader.root) == [("a/b", (17, 13), found.dtype.name)]


def test_a_tree_of_many_chunks(random):
    values = random.normal(size=(500, 30)).astype("f4")
    reader = read(written(lambda h5: h5.create_dataset("a", data=values, chunks=(3, 7), compression="gzip")))
    assert np.array_equal(reader.read(reader.dataset(reader.root, "a")), values)


def test_groups_of_many_names():
    def write(h5):
        for i in range(400):
            h5[f"g/name{i}/x"] = np.full(2, i, "f4")

    reader = read(written(write))
    group = reader.group(reader.root, "g")
    assert list(group.links) == sorted(f"name{i}" for i in range(400))
    assert all(reader.read(reader.dataset(group, f"name{i}/x"))[1] == i for i in range(400))


def test_texts():
    names = [f"n{i}" * (i % 7) for i in range(500)]

    def write(h5):
        h5.attrs["text"], h5.attrs["fixed"] = "ä" * 500, np.bytes_("short")
        h5.attrs["names"] = np.array(names, dtype=h5py.string_dtype())
        h5.attrs["of_bytes"] = [b"abc", b"de"]
        h5.attrs["split0"], h5.attrs["split1"] = [b"a"], [b"b", b"c"]
        for i in range(60):
            h5.attrs[f"more{i}"] = f"{i}"
        h5.attrs["none"] = np.array([], "f4")

    reader = read(written(write))
    assert reader.text(reader.root, "text") == "ä" * 500
    assert reader.text(reader.root, "fixed") == "short"
    assert reader.text(reader.root, "more59") == "59"
    assert reader.text(reader.root, "absent") is None
    assert reader.texts(reader.root, "names") == names
    assert reader.texts(reader.root, "of_bytes") == ["abc", "de"]
    assert reader.texts(reader.root, "split") == ["a", "b", "c"]
    assert reader.texts(reader.root, "none") == []


# ---------------------------------------------------------------- what Keras does not write


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"libver": "latest"}, "first block of version 0 or 1, got version 3: a newer layout; save the model again"),
        ({"libver": "v108"}, "a newer layout; save the model again with Keras"),
        ({"userblock_size": 512}, "not HDF5"),
        ({"track_order": True}, "got version 2: a newer layout; save the model again with Keras"),
    ],
)
def test_other_layouts(options, message):
    with pytest.raises(ValueError, match=message):
        read(written(lambda h5: h5.create_dataset("a", data=np.zeros(3, "f4")), **options))


def test_arrays_that_were_never_written():
    for options in ({}, {"chunks": (2,)}):
        reader = read(written(lambda h5, options=options: h5.create_dataset("a", (4,), "f4", **options)))
        with pytest.raises(ValueError, match=r"a: expected .* never written"):
            reader.read(reader.dataset(reader.root, "a"))


# ---------------------------------------------------------------- blocks that lie


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(keras_hdf5())
    return path


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize("size", [2**64 - 1, 2**64 - 8, 2**64 - 16, 2**63, 1 << 40])
@pytest.mark.parametrize("which", ["heap", "first", "second"])
def test_sizes_of_texts_in_the_heap(path, which, size):
    """libhdf5 reads an object of 2^64 - 16 bytes for ever."""
    data = path.read_bytes()
    heap = data.find(b"GCOL")
    (length,) = struct.unpack_from("<Q", data, heap + 24)
    at = {"heap": heap + 8, "first": heap + 24, "second": heap + 16 + 16 + -(-length // 8) * 8 + 8}[which]
    path.write_bytes(patched(data, at, struct.pack("<Q", size)))
    assert "HDF5: heap: expected" in refusal(path)


@pytest.mark.parametrize("length", [400 << 20, 0xFFFF0000])
def test_a_text_that_says_it_is_longer(path, tmp_path, length):
    """libhdf5 takes the memory that is said."""
    good, data = tmp_path / "good.h5", path.read_bytes()
    good.write_bytes(data)
    heap = struct.pack("<Q", data.find(b"GCOL"))
    path.write_bytes(patched(data, data.find(heap) - 4, struct.pack("<I", length)))
    assert "HDF5: expected at most" in refused_in_little_memory(path, good)


def test_a_chunk_of_two_bytes():
    def write(h5):
        array = h5.create_dataset("a", (2, 3), "f4", chunks=(2, 3), compression="gzip")
        array.id.write_direct_chunk((0, 0), b"ab")

    reader = read(written(write))
    with pytest.raises(ValueError, match="a: deflate: "):
        reader.read(reader.dataset(reader.root, "a"))


def test_a_chunk_that_unpacks_to_more():
    def write(h5):
        array = h5.create_dataset("a", (2, 3), "f4", chunks=(2, 3), compression="gzip")
        array.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 24)))

    reader = read(written(write))
    with pytest.raises(ValueError, match="a: expected chunks of 24 bytes, got 25"):
        reader.read(reader.dataset(reader.root, "a"))


@pytest.mark.parametrize("signature", [b"TREE", b"SNOD", b"HEAP", b"GCOL"])
def test_blocks_without_their_signature(path, signature):
    data = path.read_bytes()
    path.write_bytes(data.replace(signature, b"none"))
    assert f"expected {signature!r} at " in refusal(path)


def test_a_tree_that_holds_itself(path):
    data = path.read_bytes()
    at = data.find(b"TREE")
    (count,) = struct.unpack_from("<H", data, at + 6)
    assert count >= 1
    for level in (b"\0", b"\1", b"\xff"):
        looped = patched(patched(data, at + 5, level), at + 32, struct.pack("<Q", at))
        path.write_bytes(looped)
        assert "HDF5: group's" in refusal(path)


def test_a_header_that_goes_on_in_itself(path):
    """A continuation that names its own block, over and over."""
    header = struct.pack("<BBHIIxxxx", 1, 0, 0xFFFF, 1, 24) + struct.pack("<HHBxxx", 0x10, 16, 0)
    data = path.read_bytes()
    whole = data + header + struct.pack("<QQ", len(data) + 16, 24)
    whole = patched(patched(whole, 40, struct.pack("<Q", len(whole))), 64, struct.pack("<Q", len(data)))
    path.write_bytes(whole)
    assert "HDF5: expected one list of names, got 0" in refusal(path)


def test_every_byte_of_the_blocks_changed(path, random):
    """Each of the places that are not zero, to several values: a network or a FormatError."""
    data = path.read_bytes()
    for at in [at for at in range(len(data)) if data[at]][::7]:
        path.write_bytes(patched(data, at, bytes([data[at] ^ int(random.integers(1, 256))])))
        refused_or_loaded(path)
