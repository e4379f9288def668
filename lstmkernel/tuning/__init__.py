"""Which backend is the fastest for one network on this machine: the contest, and what it measures with."""
