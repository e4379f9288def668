/* sanitized_lstm.c - layer_forward and lstm_forward, as sanitized.c has the other kernels: every instruction set and
 * dtype, every tail, arrays of exactly their size, against the definition. */
#include "example.h"

/* One layer as a whole. */
static void run_whole(const example *e, const lk_layer *layer, int table)
{
    const sizes *s = &e->s;
    buffers b = open_buffers(e, s->H % 3, s->B % 2, s->B, tables[table]->itemsize);
    void *work = take_work(lk_workspace(tables[table], layer, s->T, s->B));
    lk_layer_forward(tables[table], layer, s->T, s->B, b.x.memory, b.x.step, b.x.row, e->lengths, s->reverse,
                     b.h.memory, b.c.memory, b.out.memory, b.out.step, b.out.row, work);
    drop_work(work);
    close_buffers(&b, e, table);
}

/* And in two chunks, of which the second goes on from the states that the first one left. */
static void run_in_two_chunks(const example *e, const lk_layer *layer, int table)
{
    const sizes *s = &e->s;
    const lk_kernels *kernels = tables[table];
    const int64_t itemsize = kernels->itemsize, half = s->T / 2;
    buffers b = open_buffers(e, 1, s->H % 2, s->B, itemsize);
    for (int n = 0; n < 2; n++) {
        const int later = n != s->reverse;
        const int64_t from = later ? half : 0, T = later ? s->T - half : half;
        void *work = take_work(lk_workspace(kernels, layer, T, s->B));
        lk_team alone = {.size = 1};
        const lk_task task = {.T = T,
                              .B = s->B,
                              .x = (char *)b.x.memory + from * b.x.step * itemsize,
                              .x_step = b.x.step,
                              .x_row = b.x.row,
                              .lengths = e->lengths,
                              .from = from,
                              .reverse = s->reverse,
                              .h = b.h.memory,
                              .c = b.c.memory,
                              .out = (char *)b.out.memory + from * b.out.step * itemsize,
                              .out_step = b.out.step,
                              .out_row = b.out.row,
                              .work = work,
                              .own_work = work,
                              .team = &alone};
        (layer->variant ? kernels->variant_forward : kernels->layer_forward)(layer, &task);
        drop_work(work);
    }
    close_buffers(&b, e, table);
}

static void check_one(sizes s, int64_t variant)
{
    example e = make_example(s, variant);
    for (int i = 0; i < table_count; i++) {
        if (is_left_out(tables[i], s.H))
            continue;
        const lk_layer layer = pack_layer(&e.layers[0], tables[i]);
        run_whole(&e, &layer, i);
        run_in_two_chunks(&e, &layer, i);
        drop_packed(&layer);
    }
    drop_example(&e);
}

static void check_layer(int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, int ragged, int reverse)
{
    check_one((sizes){T, B, I, H, P, 1, 1, ragged, reverse}, PLAIN);
}

/* As one call, or, one layer of two directions, as one for each of `parts` parts of time. */
static void run_lstm(const example *e, const lk_layer *layers, int64_t parts, int threads, int table)
{
    const sizes *s = &e->s;
    const int64_t state_rows = s->B + s->T % 2;
    buffers b = open_buffers(e, s->H % 3, s->B % 2, state_rows, tables[table]->itemsize);
    uint8_t *reset = s->H % 2 ? take(s->D * s->T * s->B, 1) : NULL; /* nowhere */
    void *between = s->D == 2 && s->L > 1 ? take(s->T * s->B * 2 * e->R, tables[table]->itemsize) : NULL;
    for (int64_t part = 0; part < parts; part++) {
        const lk_call call = {tables[table],
                              layers,
                              s->L,
                              s->D,
                              s->T,
                              s->B,
                              b.x.step,
                              b.x.row,
                              b.out.step,
                              b.out.row,
                              state_rows,
                              s->T * part / parts,
                              s->T * (part + 1) / parts,
                              threads,
                              s->reverse,
                              NULL};
        void *work = take_work(lk_lstm_workspace(&call));
        lk_lstm_forward(&call, b.x.memory, e->lengths, reset, b.h.memory, b.c.memory, b.out.memory, between, work);
        drop_work(work);
    }
    free(reset);
    free(between);
    close_buffers(&b, e, table);
}

/* The steps that rows have, to or from an array of those alone. `begins`: each row's first one. */
static void move_steps(window *w, const int64_t *lengths, const int64_t *begins, char *steps, int to_steps)
{
    const int64_t size = w->width * w->itemsize;
    for (int64_t b = 0; b < w->B; b++)
        for (int64_t t = 0; t < lengths[b]; t++) {
            char *ours = (char *)w->memory + (t * w->B + b) * size, *theirs = steps + (begins[b] + t) * size;
            memcpy(to_steps ? theirs : ours, to_steps ? ours : theirs, (size_t)size);
        }
}

/* Rows one after the other, the last one first, in arrays of exactly their steps. */
static void run_ragged(const example *e, const lk_layer *layers, int threads, int table)
{
    const sizes *s = &e->s;
    const int64_t B = s->B, I = s->I, width = s->D * e->R, itemsize = tables[table]->itemsize;
    buffers b = open_buffers(e, 0, 0, B, itemsize);
    int64_t *begins = take(B, sizeof *begins), steps = 0;
    for (int64_t r = B - 1; r >= 0; r--) {
        begins[r] = steps;
        steps += e->lengths[r];
    }
    char *x = take(steps * I, itemsize), *out = take(steps * width, itemsize);
    void *between = s->D == 2 && s->L > 1 ? take(s->T * B * width, itemsize) : NULL;
    const lk_call call = {tables[table], layers, s->L, s->D, s->T, B,       I,          0,
                          width,         0,      B,    0,    s->T, threads, s->reverse, begins};
    void *work = take_work(lk_lstm_workspace(&call));
    move_steps(&b.x, e->lengths, begins, x, 1);
    lk_lstm_forward(&call, x, e->lengths, NULL, b.h.memory, b.c.memory, out, between, work);
    memset(b.out.memory, 0, (size_t)(reals_of(&b.out) * itemsize));
    move_steps(&b.out, e->lengths, begins, out, 0);
    void *all[] = {begins, x, out, between};
    for (int n = 0; n < 4; n++)
        free(all[n]);
    drop_work(work);
    close_buffers(&b, e, table);
}

/* Rows [L][B] of a window to or from some rows of `states` [L][2 B]. */
static void move_states(window *w, char *states, const int64_t *rows, int to_states)
{
    const int64_t size = w->width * w->itemsize;
    for (int64_t n = 0; n < w->T * w->B; n++) {
        char *ours = (char *)w->memory + n * size, *theirs = states + (n / w->B * 2 * w->B + rows[n % w->B]) * size;
        memcpy(to_states ? theirs : ours, to_states ? ours : theirs, (size_t)size);
    }
}

/* Some steps at a time: each call reads the states that the one before wrote, in the other half of the rows, in another
 * order. */
static void run_chunks(const example *e, const lk_layer *layers, int64_t steps, int threads, int table)
{
    const sizes *s = &e->s;
    const int64_t B = s->B, I = s->I, R = e->R, itemsize = tables[table]->itemsize;
    buffers b = open_buffers(e, 0, 0, B, itemsize);
    int64_t *rows[2] = {take(B, sizeof *rows[0]), take(B, sizeof *rows[0])};
    for (int64_t r = 0; r < B; r++) {
        rows[0][r] = r;
        rows[1][r] = 2 * B - 1 - r;
    }
    char *h = take(s->L * 2 * B * R, itemsize), *c = take(s->L * 2 * B * s->H, itemsize);
    move_states(&b.h, h, rows[0], 1);
    move_states(&b.c, c, rows[0], 1);
    int side = 0;
    for (int64_t t = 0; t < s->T; t += steps, side = 1 - side) {
        const int64_t T = s->T - t < steps ? s->T - t : steps;
        const lk_call call = {tables[table], layers, s->L, 1, T, B, B * I, I, B * R, R, 2 * B, 0, T, threads, 0, NULL};
        void *work = take_work(lk_lstm_workspace(&call));
        const lk_stream stream = {call, rows[side], rows[1 - side], h, c, work};
        lk_advance(&stream, (char *)b.x.memory + t * B * I * itemsize, (char *)b.out.memory + t * B * R * itemsize);
        drop_work(work);
    }
    move_states(&b.h, h, rows[side], 0);
    move_states(&b.c, c, rows[side], 0);
    void *all[] = {h, c, rows[0], rows[1]};
    for (int n = 0; n < 4; n++)
        free(all[n]);
    close_buffers(&b, e, table);
}

/* Built with a layer's sizes: its kernels instead of those of the same vectors. */
#ifdef LK_HIDDEN_SIZE
extern const lk_kernels lk_specialised;

static int is_run(const lk_kernels *kernels)
{
    return kernels->lanes == lk_specialised.lanes && kernels->weight_size == lk_specialised.weight_size;
}

static void specialise(lk_layer *layers, sizes s)
{
    for (int64_t n = 0; n < s.L * s.D; n++)
        layers[n].specialised = &lk_specialised;
}
#else
static int is_run(const lk_kernels *kernels)
{
    (void)kernels;
    return 1;
}
static void specialise(lk_layer *layers, sizes s) { (void)layers, (void)s; }
#endif

static void check_stack(sizes s, int64_t variant)
{
    example e = make_example(s, variant);
    for (int i = 0; i < table_count; i++) {
        lk_layer layers[2 * MOST_LAYERS];
        if (!is_run(tables[i]) || is_left_out(tables[i], s.H))
            continue;
        for (int64_t n = 0; n < s.L * s.D; n++)
            layers[n] = pack_layer(&e.layers[n], tables[i]);
        specialise(layers, s);
        run_lstm(&e, layers, 1, 1, i);
        run_lstm(&e, layers, 1, 3, i);
        if (s.D == 2 && s.L == 1)
            run_lstm(&e, layers, 3, 2, i);
        if (s.ragged) {
            run_ragged(&e, layers, 1, i);
            run_ragged(&e, layers, 3, i);
        }
        if (s.D == 1 && !s.ragged && !s.reverse) {
            run_chunks(&e, layers, 1, 1 + s.H % 2, i);
            run_chunks(&e, layers, 1 + s.T / 2, 1 + s.H % 2, i);
        }
        for (int64_t n = 0; n < s.L * s.D; n++)
            drop_packed(&layers[n]);
    }
    drop_example(&e);
}

static void check_lstm(sizes s) { check_stack(s, PLAIN); }

/* ---------------------------------------------------------------- shapes */

#ifdef LK_HIDDEN_SIZE
static void all(void)
{
    const int64_t I = LK_INPUT_SIZE, H = LK_HIDDEN_SIZE, P = LK_PROJ_SIZE;
    const int64_t times[] = {0, 1, 5, 63, 64, 200}, rows[] = {1, 3, 40};
    check_layer(5, 3, I, H, P, 1, 1);       /* on general kernels first */
    for (int64_t n = 0; n < 6 * 3 * 4; n++) /* both directions, full and ragged */
        check_lstm((sizes){times[n % 6], rows[n / 6 % 3], I, H, P, 1, 1 + n / 18 % 2, n / 36, 0});
}
#else
/* Every tail of units and rows; the rest of the shape changes with them. */
static void small_layers(void)
{
    for (int64_t H = 1; H <= 33; H++)
        for (int64_t B = 1; B <= 13; B++) {
            const int64_t n = H * 13 + B, projections[] = {0, 0, 1, (H + 1) / 2, H};
            check_layer(1 + n % 5, B, 1 + n % 9, H, projections[n % 5], n / 2 % 2, n / 3 % 2);
        }
}

static void variants(void)
{
    for (int64_t n = 0; n < 84; n++) { /* every tail of units, every activation with every coupling */
        const int64_t H = 1 + n % 35, P = n % 3 ? 0 : (H + 1) / 2;
        check_one((sizes){1 + n % 5, 1 + n % 13, 1 + n % 9, H, P, 1, 1, n / 2 % 2, n / 3 % 2}, n);
        if (n % 4 == 0)
            check_stack(
                (sizes){1 + n % 6, 1 + n % 11, 1 + n % 5, H, P, 1 + n % 3, 1 + n / 4 % 2, n / 8 % 2, n / 4 % 4 == 0},
                n);
    }
    check_one((sizes){3, 100, 4, 20, 0, 1, 1, 1, 1}, 1);
    check_one((sizes){2, 30, 9, 257, 0, 1, 1, 0, 0}, 5);
}

static void large_layers(void)
{
    for (int ragged = 0; ragged <= 1; ragged++) {
        const int64_t rows[] = {70, 97, 100, 130}, units[] = {1, 5, 16, 17, 20, 48, 65};
        for (int64_t n = 0; n < 4 * 7; n++) /* lanes that are rows, several groups */
            check_layer(1 + n % 4, rows[n % 4], 1 + n % 20, units[n % 7], n % 5 ? 0 : 1, ragged, n % 2);
        check_layer(4200, 1, 1, 1, 0, ragged, 0); /* more steps than a chunk has, */
        check_layer(60, 40, 2, 9, 4, ragged, 1);
        check_layer(40, 3, 5, 33, 0, ragged, 1);
        check_layer(2, 30, 9, 257, 0, ragged, 0); /* weights that are prefetched, */
        check_layer(2, 97, 2, 700, 1, ragged, 1); /* so many units that a group has fewer rows */
        check_layer(3, 1, 65, 130, 0, ragged, 0);
        check_layer(3, 2, 20, 40, 39, ragged, 0);
    }
    check_layer(3, 4, 2, 5, 0, 1, 0);
    check_layer(0, 3, 2, 5, 0, 0, 0);
    check_layer(3, 0, 2, 5, 0, 0, 1);
}

static void stacks(void)
{
    for (int64_t n = 0; n < 48; n++) { /* every number of layers and directions, full and ragged */
        const int64_t H = 1 + n * 5 % 37, P = n % 5 ? 0 : (H + 1) / 2;
        check_lstm((sizes){1 + n % 6, 1 + n * 3 % 13, 1 + n % 5, H, P, 1 + n % 3, 1 + n / 3 % 2, n / 6 % 2, 0});
    }
    check_lstm((sizes){5, 70, 4, 20, 0, 2, 2, 1, 0});
    check_lstm((sizes){70, 13, 4, 20, 0, 2, 1, 1, 1});
    check_lstm((sizes){70, 3, 4, 20, 0, 3, 1, 1, 0});
    check_lstm((sizes){90, 97, 2, 33, 0, 2, 1, 1, 0}); /* several chunks, and in double groups of rows */
    check_lstm((sizes){5, 2, 100, 150, 0, 1, 1, 0, 0});
    check_lstm((sizes){0, 3, 2, 5, 0, 2, 2, 0, 0});
    check_lstm((sizes){0, 3, 2, 5, 0, 2, 1, 0, 0});
    check_lstm((sizes){3, 0, 2, 5, 0, 2, 2, 0, 0});
    check_lstm((sizes){3, 0, 2, 5, 0, 2, 1, 0, 0});
}

static void all(void)
{
    small_layers();
    large_layers();
    variants();
    stacks();
}
#endif

int main(void)
{
    find_tables();
    all();
    return 0;
}
