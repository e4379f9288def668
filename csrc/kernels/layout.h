/* layout.h - how many rows run through time together, how many steps make a chunk, and where both lie in the workspace.
 *
 * A row group is rows of a batch that run through all steps together. A chunk of it is some of these steps, whose z
 * is made by one matrix product. In layers of few units, the lanes of a vector are rows instead of units
 * (transposed.h). */
#ifndef LK_LAYOUT_H
#define LK_LAYOUT_H
#include "kernels/input_product.h"
#include "kernels/team.h"
#include "run/cost.h"
#ifdef LK_I8
#include "kernels/quantized.h"
#endif

/* A group has at most MOST_GROUP_ROWS rows, and fewer where z of one step would be more than GROUP_Z_BYTES, so that
 * the workspace of wide layers stays small. A chunk has as many rows of z as CHUNK_BYTES hold. In wide layers it has
 * at least CHUNK_ROWS, because W_ih is read once for each chunk, but never more than MOST_CHUNK_BYTES hold. */
enum { MOST_GROUP_ROWS = 96, GROUP_Z_BYTES = 1 << 20, MOST_CHUNK_BYTES = 1 << 21 };

/* A row group. Each thread of a team has this struct for itself; the rows and their states are the same.
 *   rows, steps        of a whole group, and of a whole chunk
 *   transposed         lanes are rows
 *   units, outputs     the part at hand: blocks of units; of the projection's outputs
 *   row, length        each row's place in the batch, and its number of steps
 *   x                  a pointer to the input of each row of z
 *   z, z_now           of the chunk; of the step at hand
 *   c, h, h_next       [rows][c_stride] and [rows][h_stride]; h_next becomes h after each step
 *   hidden             [rows][c_stride]: o * tanh(c), from which a projection makes h
 *   reported           where the cell writes o * tanh(c): hidden or, without a projection, h_next
 *   backwards          1 in every other step: blocks are taken last to first (sweep_row)
 *   c_before, gates    record.h: c of the step before, and where i, f, g, o of this one go
 *   integers           integer_step.h: what this thread multiplies in the phase at hand */
typedef struct {
    const lk_layer *layer;
    int64_t rows, steps;
    int64_t c_stride, h_stride, z_stride;
    int transposed;
    range units, outputs;
    int64_t row[MOST_GROUP_ROWS], length[MOST_GROUP_ROWS];
    const real **x;
    real *z, *z_now;
    real *c, *h, *h_next, *hidden, *reported;
    int backwards;
    const real *c_before;
    real *gates;
#ifdef LK_I8
    integer_rows integers;
#endif
} row_group;

/* Whether a step costs less with lanes that are rows, by the cycles of cost.h. */
static int worth_transposing(const lk_layer *layer, int64_t rows)
{
    if (proj_size(layer))
        return 0;
    const int64_t I = input_size(layer), H = hidden_size(layer), vector = VECTOR_CYCLES * (I + H) + CELL_CYCLES;
    const int64_t near = (I + H) * (BLOCK_SIZE + TILE_ROWS * LANES) * (int64_t)sizeof(real) <= L1_BYTES;
    const int64_t as_units = rows * blocks_of(H) * vector;
    const int64_t as_rows = divide_up(rows, LANES) * H * vector + rows * (I + H) / TRANSPOSED_PER_CYCLE;
    return (near ? as_rows : as_rows + as_rows / FAR_PARTS) < as_units;
}

/* The most rows of a group, and of the z of a chunk. z_bytes: the bytes of one row of z. */
INLINE int64_t most_rows(int64_t z_bytes) { return larger(1, smaller(MOST_GROUP_ROWS, GROUP_Z_BYTES / z_bytes)); }
INLINE int64_t most_z_rows(int64_t z_bytes)
{
    return larger(CHUNK_BYTES / z_bytes, smaller(CHUNK_ROWS, MOST_CHUNK_BYTES / z_bytes));
}

/* Padded widths of a row. */
INLINE void set_strides(row_group *group, const lk_layer *layer)
{
    group->layer = layer;
    group->c_stride = blocks_of(hidden_size(layer)) * LANES;
    group->h_stride = blocks_of(output_size(layer)) * LANES;
    group->z_stride = 4 * group->c_stride;
}

/* Sizes of a group and of a chunk: the same for every call with this layer, T and B. can_transpose: one thread has
 * the group, and it is a plain LSTM. */
INLINE void plan_group(row_group *plan, const lk_layer *layer, int64_t T, int64_t B, int can_transpose)
{
    set_strides(plan, layer);
    plan->transposed = can_transpose && worth_transposing(layer, B);
    if (plan->transposed) {
        const int64_t vectors = divide_up(B, LANES);
        plan->rows = divide_up(vectors, divide_up(vectors, TILE_ROWS)) * LANES;
        plan->steps = 1;
        return;
    }
    const int64_t z_bytes = plan->z_stride * (int64_t)sizeof(real);
    const int64_t groups = larger(1, divide_up(B, most_rows(z_bytes)));
    plan->rows = larger(1, divide_up(B, groups));
    plan->steps = larger(1, smaller(T, most_z_rows(z_bytes) / plan->rows));
}

INLINE int64_t whole_lines(int64_t reals) { return divide_up(reals, LINE) * LINE; }

/* How many elements a group takes: z, c, h, h_next and hidden or, if it is transposed, x, h, h_next and c. */
INLINE int64_t group_reals(const row_group *plan)
{
    if (plan->transposed)
        return whole_lines(plan->rows * (input_size(plan->layer) + 3 * hidden_size(plan->layer)));
    return whole_lines(plan->rows * (plan->steps * plan->z_stride + 2 * plan->c_stride + 2 * plan->h_stride));
}

/* Bytes of the integers that a thread makes: of z_rows rows of x, of `rows` rows of h, or of o * tanh(c). */
INLINE int64_t integer_bytes(const lk_layer *layer, int64_t z_rows, int64_t rows)
{
#ifdef LK_I8
    const int64_t of_h = rows * integer_row_bytes(hidden_size(layer)); /* h is never wider than c */
    const int64_t values = larger(z_rows * integer_row_bytes(input_size(layer)), of_h);
    return divide_up(values + larger(z_rows, rows) * (int64_t)sizeof(real), 64) * 64 + 64;
#else
    (void)layer, (void)z_rows, (void)rows;
    return 0;
#endif
}

/* The bytes of one thread's workspace: a group, transposed or not, the pointers to its rows of x, integers. They are also
 * enough for fewer steps and fewer rows, which may be grouped in another way. */
static int64_t workspace(const lk_layer *layer, int64_t T, int64_t B)
{
    const int64_t c_stride = blocks_of(hidden_size(layer)) * LANES, h_stride = blocks_of(output_size(layer)) * LANES;
    const int64_t z_bytes = 4 * c_stride * (int64_t)sizeof(real);
    const int64_t rows = smaller(B, most_rows(z_bytes)),
                  transposed_rows = smaller(divide_up(B, LANES), TILE_ROWS) * LANES;
    const int64_t z_rows = larger(rows, smaller(T * rows, most_z_rows(z_bytes)));
    const int64_t reals = larger(z_rows * 4 * c_stride + rows * 2 * (c_stride + h_stride),
                                 transposed_rows * (input_size(layer) + 3 * hidden_size(layer)));
    const int64_t pointers = larger(z_rows, transposed_rows) * (int64_t)sizeof(real *);
    return divide_up(whole_lines(reals) * (int64_t)sizeof(real) + pointers, 64) * 64
           + integer_bytes(layer, z_rows, rows);
}

/* The group of a team lies in the workspace that its threads have in common. Each thread has pointers of its own. */
INLINE void lay_out(row_group *plan, const lk_task *task)
{
    plan->z = task->work;
    plan->c = plan->z + plan->rows * plan->steps * plan->z_stride;
    plan->h = plan->c + plan->rows * plan->c_stride;
    plan->h_next = plan->h + plan->rows * plan->h_stride;
    plan->hidden = plan->h_next + plan->rows * plan->h_stride;
    plan->x = (const real **)(void *)((real *)task->own_work + group_reals(plan));
#ifdef LK_I8
    const int64_t z_rows = plan->rows * plan->steps;
    plan->integers.amplitude = (real *)(void *)(plan->x + z_rows);
    plan->integers.values = (uint8_t *)(plan->integers.amplitude + z_rows);
#endif
}

#endif
