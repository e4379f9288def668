/* cell_update.h - the four moves of the cell, on pre-activations that are in registers. */

/* One block of units of one row: z holds i, f, g, o before activation. Returns c_t and sets *h to h_t. */
INLINE vec cell(const vec z[4], vec c, vec *h)
{
    vec f = v_sigmoid(z[1]);                /* 1 forget: what to wipe from the cell state */
    vec i = v_sigmoid(z[0]);                /* 2 input: what to write, */
    vec g = v_tanh(z[2]);                   /*   and the candidate */
    vec c_t = v_fma(f, c, v_mul(i, g));     /* 3 update: additive */
    *h = v_mul(v_sigmoid(z[3]), v_tanh(c_t)); /* 4 output: what to report */
    return c_t;
}

static int cell_update(int64_t N, int64_t H, const void *z_, void *c_, void *h_)
{
    const real *z = z_;
    real *c = c_, *h = h_;
    for (int64_t n = 0; n < N; n++, c += H, h += H)
        for (int64_t unit = 0; unit < H; unit += LANES, z += QUAD) {
            const vec gates[4] = {v_load(z), v_load(z + LANES), v_load(z + 2 * LANES), v_load(z + 3 * LANES)};
            vec h_t;
            vec c_t = cell(gates, v_load_n(c + unit, H - unit), &h_t);
            v_store_n(c + unit, c_t, H - unit);
            v_store_n(h + unit, h_t, H - unit);
        }
    return LK_OK;
}
