"""Simple, slow kernels for lstmkernel in Python with Numba. Make them faster, and compare them with the others:

    lstmkernel compare --against examples/own_kernel.py --shape silero_block

Delete the kernels that you do not write. Arrays are NumPy's. docs/write_a_kernel.md explains them.
"""

import math

import numba

#: The units of a block. You choose this number. Packed weights and gates are [blocks, K, 4, lanes].
lanes = 16


@numba.njit(nogil=True)
def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@numba.njit(nogil=True)
def update_block(z, units, c, h):
    """The four moves of the cell for the first units of a block: z (4, lanes) in the order i, f, g, o."""
    for u in range(units):
        c[u] = sigmoid(z[1, u]) * c[u] + sigmoid(z[0, u]) * math.tanh(z[2, u])
        h[u] = sigmoid(z[3, u]) * math.tanh(c[u])


@numba.njit(nogil=True, fastmath={"contract"})
def accumulate(z, x, w):
    """z (4, lanes) += x (K,) w (K, 4, lanes)."""
    for k in range(len(x)):
        for gate in range(4):
            for u in range(lanes):
                z[gate, u] += x[k] * w[k, gate, u]


@numba.njit(nogil=True)
def gate_matmul(x, w_x, bias, z):
    """z (N, blocks, 4, lanes) = x (N, I) w_x (blocks, I, 4, lanes) + bias (blocks, 4, lanes)."""
    for n in range(len(x)):
        for block in range(len(bias)):
            z[n, block] = bias[block]
            accumulate(z[n, block], x[n], w_x[block])


@numba.njit(nogil=True)
def cell_update(z, c, h):
    """c (N, H) in place and h (N, H), from the gates z (N, blocks, 4, lanes)."""
    N, H = c.shape
    for n in range(N):
        for block in range(z.shape[1]):
            unit = block * lanes
            update_block(z[n, block], min(lanes, H - unit), c[n, unit:], h[n, unit:])


@numba.njit(nogil=True)
def layer_forward(x, w_x, w_h, bias, lengths, reverse, h, c, out):
    """All steps of x (T, B, I); h and c (B, H) are updated, out (T, B, H) is written, 0 past a row's length."""
    T, B, _ = x.shape
    H = h.shape[1]
    h_next = h[0].copy()
    for b in range(B):
        for s in range(T):
            if s >= lengths[b]:
                out[s, b] = 0
                continue
            t = lengths[b] - 1 - s if reverse else s
            for block in range(len(bias)):
                unit = block * lanes
                z = bias[block].copy()
                accumulate(z, x[t, b], w_x[block])
                accumulate(z, h[b], w_h[block])
                update_block(z, min(lanes, H - unit), c[b, unit:], h_next[unit:])
            h[b] = h_next
            out[t, b] = h_next
