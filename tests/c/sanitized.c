/* sanitized.c - each kernel alone, of every usable instruction set and both dtypes, over shapes that meet every
 * tail, on arrays of exactly their size, against the definition in double. For tests/c/sanitize.sh: AddressSanitizer
 * sees one element read or written too far, UndefinedBehaviorSanitizer what C leaves undefined. */
#include "reference.h"
#include "tables.h"
#include "caller_arrays.h"

static void check_activation(int activation, int64_t N)
{
    snprintf(shape, sizeof shape, "activation %d of %d", activation, (int)N);
    double *x = draw(N, 8), *expected = take(N, sizeof *expected);
    for (int64_t n = 0; n < N; n++)
        expected[n] = activated(activation, x[n]);
    for (int i = 0; i < table_count; i++) {
        void *from = converted(x, N, tables[i]->itemsize);
        window y = filled(1, N, NULL, tables[i]->itemsize);
        lk_activation(tables[i], activation, N, from, y.memory);
        close_window(&y, expected, named("y", i));
        free(from);
    }
    free(x);
    free(expected);
}

static void softmax_of(double *y, int64_t n)
{
    double largest = y[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        largest = fmax(largest, y[i]);
    for (int64_t i = 0; i < n; i++)
        sum += y[i] = exp(y[i] - largest);
    for (int64_t i = 0; i < n; i++)
        y[i] /= sum;
}

/* y[n][o] = activation(x[n] . w[o] + bias[o]) */
static double *products(int activation, int64_t N, int64_t K, int64_t O, const double *x, const double *w,
                        const double *bias)
{
    double *y = take(N * O, sizeof *y);
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++)
            y[n * O + o] = activated(activation, bias[o] + dot(x + n * K, w + o * K, K));
    if (activation == LK_SOFTMAX)
        for (int64_t n = 0; n < N; n++)
            softmax_of(y + n * O, O);
    return y;
}

static void check_dense(int activation, int64_t N, int64_t K, int64_t O)
{
    const int64_t gap = N % 3;
    snprintf(shape, sizeof shape, "dense_forward N%d K%d O%d activation %d", (int)N, (int)K, (int)O, activation);
    double *x = draw(N * K, 1), *w = draw_matrix(O * K, scale_for(K)), *bias = draw(O, 1);
    double *expected = products(activation, N, K, O, x, w, bias);
    for (int i = 0; i < table_count; i++) {
        const lk_kernels *kernels = tables[i];
        if (is_left_out(kernels, O))
            continue;
        const lk_dense dense = {K, O, activation, pack_rows(w, O, K, kernels, kernels->weight_size),
                                pack_rows(bias, O, 1, kernels, kernels->itemsize)};
        window from = open_window(1, N, K, gap, 0, kernels->itemsize),
               y = open_window(1, N, O, gap, 0, kernels->itemsize);
        fill_window(&from, x);
        lk_dense_forward(kernels, &dense, N, from.memory, from.row, y.memory, y.row);
        close_window(&y, expected, named("y", i));
        close_window(&from, x, named("x", i));
        free((void *)dense.w);
        free((void *)dense.bias);
    }
    void *all[] = {x, w, bias, expected};
    for (int n = 0; n < 4; n++)
        free(all[n]);
}

/* z [N][4][H] of packed gates; z is freed. */
static void check_gates(void *z, int64_t N, int64_t H, const double *expected, int table)
{
    const lk_kernels *kernels = tables[table];
    const int64_t lanes = kernels->lanes, blocks = (H + lanes - 1) / lanes;
    window plain = filled(N, 4 * H, NULL, kernels->itemsize);
    for (int64_t n = 0; n < N; n++)
        for (int64_t gate = 0; gate < 4; gate++)
            for (int64_t unit = 0; unit < H; unit++) {
                const int64_t place = ((n * blocks + unit / lanes) * 4 + gate) * lanes + unit % lanes;
                put(plain.memory, (n * 4 + gate) * H + unit, get(z, place, kernels->itemsize), kernels->itemsize);
            }
    free(z);
    close_window(&plain, expected, named("z", table));
}

static void check_gate_matmul(int64_t N, int64_t I, int64_t H)
{
    snprintf(shape, sizeof shape, "gate_matmul N%d I%d H%d", (int)N, (int)I, (int)H);
    plain_layer plain = draw_layer(I, H, 0);
    double *x = draw(N * I, 1), *expected = products(LK_LINEAR, N, I, 4 * H, x, plain.w_ih, plain.bias);
    for (int i = 0; i < table_count; i++) {
        const lk_kernels *kernels = tables[i];
        if (is_left_out(kernels, H))
            continue;
        const lk_layer layer = pack_layer(&plain, kernels);
        window from = open_window(1, N, I, H % 3, 0, kernels->itemsize);
        fill_window(&from, x);
        void *z = take(N * ((H + kernels->lanes - 1) / kernels->lanes) * 4 * kernels->lanes, kernels->itemsize);
        lk_gate_matmul(kernels, &layer, N, from.memory, from.row, z);
        check_gates(z, N, H, expected, i);
        close_window(&from, x, named("x", i));
        drop_packed(&layer);
    }
    free(x);
    free(expected);
    drop_layer(&plain);
}

static void check_cell_update(int64_t N, int64_t H)
{
    snprintf(shape, sizeof shape, "cell_update N%d H%d", (int)N, (int)H);
    double *z = draw(4 * N * H, 4), *c_0 = draw(N * H, 2);
    double *c_1 = take(N * H, sizeof *c_1), *h_1 = take(N * H, sizeof *h_1);
    for (int64_t n = 0; n < N * H; n++) {
        const double *gates = z + n / H * 4 * H + n % H;
        c_1[n] = c_0[n];
        h_1[n] = cell_of((double[]){gates[0], gates[H], gates[2 * H], gates[3 * H]}, &c_1[n]);
    }
    for (int i = 0; i < table_count; i++) {
        const lk_kernels *kernels = tables[i];
        const int64_t row = (H + kernels->lanes - 1) / kernels->lanes * 4 * kernels->lanes;
        char *packed = take(N * row, kernels->itemsize);
        for (int64_t n = 0; n < N; n++) {
            void *gates = pack_gates(z + n * 4 * H, H, 1, kernels, kernels->itemsize);
            memcpy(packed + n * row * kernels->itemsize, gates, (size_t)(row * kernels->itemsize));
            free(gates);
        }
        window c = filled(N, H, c_0, kernels->itemsize), h = filled(N, H, NULL, kernels->itemsize);
        lk_cell_update(kernels, N, H, packed, c.memory, h.memory);
        close_window(&c, c_1, named("c", i));
        close_window(&h, h_1, named("h", i));
        free(packed);
    }
    void *all[] = {z, c_0, c_1, h_1};
    for (int n = 0; n < 4; n++)
        free(all[n]);
}

/* ---------------------------------------------------------------- shapes */

/* Every tail of a vector of up to 16 lanes, of tiles of up to 6 rows; then whole blocks and more. */
static void check_all(int64_t H)
{
    for (int activation = LK_LINEAR; activation <= LK_RELU; activation++) {
        check_activation(activation, H);
        check_dense(activation, 1 + H % 13, 1 + H % 7, H);
    }
    check_dense(LK_SOFTMAX, 1 + H % 13, 1 + H % 7, H);
    for (int64_t N = 1; N <= 13; N++) {
        check_gate_matmul(N, 1 + (N + H) % 9, H);
        check_cell_update(N, H);
        check_dense(LK_LINEAR, N, 1 + (N + H) % 9, 2 * H + N % 4);
    }
}

int main(void)
{
    static const int64_t WIDE[] = {40, 47, 48, 49, 63, 64, 65, 128, 129};
    find_tables();
    check_activation(LK_TANH, 0);
    for (int64_t H = 1; H <= 33; H++)
        check_all(H);
    for (size_t n = 0; n < sizeof WIDE / sizeof *WIDE; n++)
        check_all(WIDE[n]);
    for (int64_t N = 95; N <= 97; N++) /* around the rows that gate_matmul takes at once */
        check_gate_matmul(N, 3, 17);
    check_gate_matmul(30, 300, 257); /* weights that are prefetched: the next block's, of which the last one has none */
    check_dense(LK_TANH, 30, 300, 1030);
    return 0;
}
