/* gate_matmul.h - pre-activations of all gates from the inputs of many rows: z = x W_ih^T + bias. */

typedef struct {
    const lk_layer *layer;
    const real *const *x; /* a pointer to each row, [I] */
    real *z;              /* [N][blocks][4][LANES] */
    int64_t z_row;
} gate_matmul_job;

INLINE void gate_matmul_tile(const int rows, const int panels, int64_t row, int64_t block, int64_t from,
                             int64_t to, const void *job_)
{
    const gate_matmul_job *job = job_;
    const int64_t I = job->layer->input_size;
    const real *bias = (const real *)job->layer->bias + block * QUAD;
    real *z = job->z + row * job->z_row + block * QUAD;
    vec acc[MOST_TILE_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            for (int g = 0; g < 4; g++) {
                const int64_t offset = p * QUAD + g * LANES;
                acc[r * panels + p][g] = v_load(from == 0 ? bias + offset : z + r * job->z_row + offset);
            }
    accumulate(rows, panels, acc, job->x + row, from, to, (const real *)job->layer->w_x + block * I * QUAD, I * QUAD);
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            for (int g = 0; g < 4; g++)
                v_store(z + r * job->z_row + p * QUAD + g * LANES, acc[r * panels + p][g]);
}

INLINE int64_t blocks_of(int64_t units) { return (units + LANES - 1) / LANES; }

/* x: N row pointers. */
SEPARATE void input_product(const lk_layer *layer, int64_t N, const real *const *x, real *z)
{
    const int64_t blocks = blocks_of(layer->hidden_size);
    const gate_matmul_job job = {layer, x, z, blocks * QUAD};
    sweep(N, blocks, layer->input_size, SLICE, gate_matmul_tile, &job);
}

static int gate_matmul(const lk_layer *layer, int64_t N, const void *x, int64_t x_row, void *z)
{
    enum { SLAB = 96 };
    const real *rows[SLAB];
    const int64_t z_row = blocks_of(layer->hidden_size) * QUAD;
    for (int64_t n0 = 0; n0 < N; n0 += SLAB) {
        const int64_t n = N - n0 < SLAB ? N - n0 : SLAB;
        for (int64_t r = 0; r < n; r++)
            rows[r] = (const real *)x + (n0 + r) * x_row;
        input_product(layer, n, rows, (real *)z + n0 * z_row);
    }
    return LK_OK;
}
