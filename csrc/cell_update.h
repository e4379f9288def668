/* cell_update.h - the four moves of the cell, on pre-activations that are in registers. */

/* One block of units of one row: z holds i, f, g, o before activation. Returns c_t and sets *h to h_t. Where two activations
 * meet, their quotients share a division: i * g and o * tanh(c_t). A product of denominators that overflows makes the
 * quotient 0, which is what it rounds to. */
INLINE vec cell(const vec z[4], vec c, vec *h)
{
    enum { I, F, G, O };
    const vec v[4] = {sigmoid_argument(z[I]), sigmoid_argument(z[F]), tanh_argument(z[G]), sigmoid_argument(z[O])};
    vec s[4], m[4];
    exp_parts(4, v, s, m);
    const vec kept = v_div(c, sigmoid_denominator(s[F], m[F])); /* 1 forget: what stays of the cell state, f * c */
    const vec write = v_mul(sigmoid_denominator(s[I], m[I]), tanh_denominator(s[G], m[G]));
    const vec written = v_div(tanh_numerator(s[G], m[G], z[G]), write); /* 2 input: what to write, i * g */
    const vec c_t = v_add(kept, written);                               /* 3 update: additive */
    const vec v_c = tanh_argument(c_t);
    vec s_c, m_c;
    exp_parts(1, &v_c, &s_c, &m_c);
    const vec report = v_mul(sigmoid_denominator(s[O], m[O]), tanh_denominator(s_c, m_c));
    *h = v_div(tanh_numerator(s_c, m_c, c_t), report); /* 4 output: what to report, o * tanh(c_t) */
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
