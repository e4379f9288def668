"""The Numba kernels: csrc written once more, function for function, over the same vector operations.

They run where no C compiler did, are compiled for this very CPU, and are bit-identical to C. They show that Python can
be as fast as C. Arguments were checked above; kernels trust them.

A module has the name and the place of the header or file in csrc that it mirrors:

    vec/operations.py    vec/generic.h, which documents each operation. vec/tail.py, vec/shuffle.py: as in C
    vec/dot.py           vec/dot_generic.h and its neighbours
    kernels/NAME.py      kernels/NAME.h
    run/NAME.py          run/NAME.c or run/NAME.h
    structs.py           the structs of lstmkernel.h
    frames.py            run/dispatch.c: the kernels as Python calls them
    target.py            run/cpu.c and the sizes in vec/<isa>.h: what this CPU has
    backend.py           lstmkernel/backends/c/calls.py, its neighbour

What C has by itself, Numba needs modules for: jit.py (how functions are compiled), jit_cache.py (compiled code on
disk), memory.py (pointers), arrays.py (addresses of NumPy arrays), vec/registers.py (a register tile as a value),
weights.py (packed weights as structs), run/atomics.py, and run/board.py (what threads know of each other). run/job.py
and run/threads.py are the machine code and the Python of run/threads.c. C alone has kernels/sizes.h.
"""
