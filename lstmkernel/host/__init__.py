"""The machine: cores, CPU, files, the cache on disk, the terminal."""
