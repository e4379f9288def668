"""Readers for untrusted files: sizes are checked before memory is taken, and nothing is executed."""
