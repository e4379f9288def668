"""HDF5 from an untrusted file, as Keras writes it: a reader of its own, in which no library can crash or loop.

Keras saves with h5py's defaults, which is HDF5's oldest layout: a first block of version 0, groups as B-trees of names,
arrays in one piece, texts as attributes. That is what these modules read; arrays in chunks, behind deflate and shuffle,
too, since h5py and h5repack write them if asked. Everything else is refused in words. libhdf5 itself can be crashed and
made to loop for ever by a changed byte, which no check beside it can rule out.
"""

from lstmkernel.formats.untrusted.hdf5.arrays import StoredArray
from lstmkernel.formats.untrusted.hdf5.blocks import SIGNATURE
from lstmkernel.formats.untrusted.hdf5.reader import Group, HDF5Reader

__all__ = ["SIGNATURE", "Group", "HDF5Reader", "StoredArray"]
