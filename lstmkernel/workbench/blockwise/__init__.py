"""Run a network over files that may be larger than memory, block by block, as ``lstmkernel run`` does.

``kinds.py`` says what a file is; ``arrays.py`` reads and writes NumPy's files, ``tables.py`` those of Parquet and
Arrow; ``behind.py`` writes while the next block is computed; ``cut.py`` decides which blocks a run takes; ``grid.py``
runs over rows of equal length, ``ragged.py`` over rows of unequal length.
"""
