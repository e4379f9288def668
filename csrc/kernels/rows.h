/* rows.h - rows of a batch that run through time together: how many, which, and where their steps lie in the caller's arrays.
 *
 * Rows of unequal length are sorted longest first, so that the active ones are always the first of the group. */
#ifndef LK_ROWS_H
#define LK_ROWS_H
#include "run/dispatch.h"
#include "kernels/input_product.h"

enum {
    MOST_GROUP_ROWS = 96,
    GROUP_Z_BYTES = 1 << 20,   /* of z for one step: wide layers take fewer rows a group, and the workspace stays small */
    CHUNK_BYTES = 1 << 18,     /* of z for a chunk of several steps: stays in L2 (512 KiB and more on most CPUs), */
    CHUNK_ROWS = 96,           /* unless that were fewer rows than W_ih should be read for, */
    MOST_CHUNK_BYTES = 1 << 21, /* within reason */
    L1_BYTES = 48 << 10
};

typedef struct {
    const lk_layer *layer;
    int turned;                        /* lanes are rows: transposed.h */
    int64_t c_stride, h_stride;        /* padded widths of a row */
    int64_t z_stride;
    int64_t rows, steps;               /* of a group; of a chunk of time */
    block_range units, outputs;        /* this thread's blocks: of the cell; of the projection */
    int64_t row[MOST_GROUP_ROWS];      /* each row's place in the batch */
    int64_t length[MOST_GROUP_ROWS];   /* and its number of steps */
    const real **x;                    /* one pointer for each row of z */
    real *z, *c, *h, *h_next, *hidden; /* hidden: o * tanh(c), where a projection makes h of it */
    real *z_now;                       /* z of the step at hand */
    const real *c_before;              /* record.h: c stays, and goes on elsewhere, */
    real *gates;                       /* and i, f, g, o stay */
    real *reported;                    /* where the cell writes: hidden or h_next */
    int backwards;                     /* every other step */
} group;

/* Whether a step costs less with lanes over rows: in cycles, of FMAs and of the cell update for whole vectors, and of turning
 * every element of x and h. The products take some 14% longer where L1 does not hold a block's weights and the states. */
static int worth_turning(const lk_layer *layer, int64_t rows)
{
    if (proj_size(layer))
        return 0;
    const int64_t I = input_size(layer), H = hidden_size(layer), vector = 2 * (I + H) + 46;
    const int64_t near = (I + H) * (QUAD + TILE_ROWS * LANES) * (int64_t)sizeof(real) <= L1_BYTES;
    const int64_t as_units = rows * blocks_of(H) * vector;
    const int64_t as_rows = divide_up(rows, LANES) * H * vector + rows * (I + H) / 3;
    return (near ? as_rows : as_rows + as_rows / 7) < as_units;
}

/* Rows of a group, and of a chunk's z, where a row of z has so many bytes. */
INLINE int64_t most_rows(int64_t z_bytes) { return larger(1, smaller(MOST_GROUP_ROWS, GROUP_Z_BYTES / z_bytes)); }
INLINE int64_t most_z_rows(int64_t z_bytes)
{
    return larger(CHUNK_BYTES / z_bytes, smaller(CHUNK_ROWS, MOST_CHUNK_BYTES / z_bytes));
}

/* Sizes of a group and of a chunk; the same for every call with this layer, T and B. `never_turned`: several threads
 * share it, or it is no plain LSTM. */
INLINE void plan_group(group *plan, const lk_layer *layer, int64_t T, int64_t B, int never_turned)
{
    plan->layer = layer;
    plan->c_stride = blocks_of(hidden_size(layer)) * LANES;
    plan->h_stride = blocks_of(output_size(layer)) * LANES;
    plan->z_stride = 4 * plan->c_stride;
    plan->turned = !never_turned && worth_turning(layer, B);
    if (plan->turned) {
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

/* Elements of z, c, h, h_next and hidden; of x, h, h_next and c where the group is turned. */
INLINE int64_t group_reals(const group *plan)
{
    if (plan->turned)
        return whole_lines(plan->rows * (input_size(plan->layer) + 3 * hidden_size(plan->layer)));
    return whole_lines(plan->rows * (plan->steps * plan->z_stride + 2 * plan->c_stride + 2 * plan->h_stride));
}

/* A thread's bytes: a group, turned or not, then the pointers to its rows of x. Enough for fewer steps and fewer rows, too,
 * which may be grouped in another way. */
static int64_t workspace(const lk_layer *layer, int64_t T, int64_t B)
{
    const int64_t c_stride = blocks_of(hidden_size(layer)) * LANES, h_stride = blocks_of(output_size(layer)) * LANES;
    const int64_t z_bytes = 4 * c_stride * (int64_t)sizeof(real);
    const int64_t rows = smaller(B, most_rows(z_bytes)), turned_rows = smaller(divide_up(B, LANES), TILE_ROWS) * LANES;
    const int64_t z_rows = larger(rows, smaller(T * rows, most_z_rows(z_bytes)));
    const int64_t reals = larger(z_rows * 4 * c_stride + rows * 2 * (c_stride + h_stride),
                                 turned_rows * (input_size(layer) + 3 * hidden_size(layer)));
    const int64_t pointers = larger(z_rows, turned_rows) * (int64_t)sizeof(real *);
    return divide_up(whole_lines(reals) * (int64_t)sizeof(real) + pointers, 64) * 64;
}

/* Threads that share a layer share the group in the first one's workspace; each has pointers of its own. */
INLINE void lay_out(group *plan, const lk_span *a)
{
    plan->z = a->work;
    plan->c = plan->z + plan->rows * plan->steps * plan->z_stride;
    plan->h = plan->c + plan->rows * plan->c_stride;
    plan->h_next = plan->h + plan->rows * plan->h_stride;
    plan->hidden = plan->h_next + plan->rows * plan->h_stride;
    char *own = (char *)a->work + a->rank * workspace(plan->layer, a->T, a->B);
    plan->x = (const real **)(void *)((real *)(void *)own + group_reals(plan));
}

/* This thread's share of so many blocks. */
INLINE block_range share_of(int64_t blocks, const lk_span *a)
{
    return (block_range){blocks * a->rank / a->size, blocks * (a->rank + 1) / a->size};
}

INLINE void copy_reals(real *to, const real *from, int64_t n) { memcpy(to, from, (size_t)n * sizeof(real)); }
INLINE void clear_reals(real *to, int64_t n) { memset(to, 0, (size_t)n * sizeof(real)); }

/* Rows b0 .. b0 + n - 1 of the batch enter the group, longest first (insertion sort: few rows, stable). */
static void choose_rows(group *g, int64_t b0, int64_t n, const lk_span *a)
{
    for (int64_t r = 0; r < n; r++) {
        const int64_t length = a->lengths ? larger(0, smaller(a->lengths[b0 + r] - a->from, a->T)) : a->T;
        int64_t place = r;
        for (; place > 0 && g->length[place - 1] < length; place--) {
            g->length[place] = g->length[place - 1];
            g->row[place] = g->row[place - 1];
        }
        g->length[place] = length;
        g->row[place] = b0 + r;
    }
}

/* When row r of the group takes its step s, and where its input and its output of that step are. */
INLINE int64_t time_of(const group *g, int64_t r, int64_t s, const lk_span *a)
{
    return a->reverse ? g->length[r] - 1 - s : s;
}
INLINE const real *x_of(const group *g, int64_t r, int64_t s, const lk_span *a)
{
    return (const real *)a->x + time_of(g, r, s, a) * a->x_step + g->row[r] * a->x_row;
}
INLINE real *out_of(const group *g, int64_t r, int64_t s, const lk_span *a)
{
    return (real *)a->out + time_of(g, r, s, a) * a->out_step + g->row[r] * a->out_row;
}

/* Its states in the caller's arrays: at rows that `places`, a->read or a->write, says. */
INLINE int64_t state_row(const group *g, int64_t r, const int64_t *places) { return places ? places[g->row[r]] : g->row[r]; }
INLINE real *h_of(const group *g, int64_t r, const int64_t *places, const lk_span *a)
{
    return (real *)a->h + state_row(g, r, places) * output_size(g->layer);
}
INLINE real *c_of(const group *g, int64_t r, const int64_t *places, const lk_span *a)
{
    return (real *)a->c + state_row(g, r, places) * hidden_size(g->layer);
}

/* Whether its state is to be zero before its step s. */
INLINE int starts_anew(const group *g, int64_t r, int64_t s, const lk_span *a)
{
    return a->reset && a->reset[time_of(g, r, s, a) * a->reset_step + g->row[r]];
}

/* Zeros in out where a row has no steps. */
static void clear_past_ends(const group *g, int64_t n, const lk_span *a)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t t = g->length[r]; t < a->T; t++)
            clear_reals((real *)a->out + t * a->out_step + g->row[r] * a->out_row, output_size(g->layer));
}

/* How many of `active` rows have a step s. */
INLINE int64_t still_active(const group *g, int64_t active, int64_t s)
{
    while (active > 0 && g->length[active - 1] <= s)
        active--;
    return active;
}

/* Pointers to the active rows of x at steps s0 .. s1 - 1, one step after the other. Returns how many. */
static int64_t choose_inputs(group *g, int64_t s0, int64_t s1, int64_t active, const lk_span *a)
{
    int64_t z_rows = 0;
    for (int64_t s = s0; s < s1; s++) {
        active = still_active(g, active, s);
        for (int64_t r = 0; r < active; r++)
            g->x[z_rows++] = x_of(g, r, s, a);
    }
    return z_rows;
}

#endif
