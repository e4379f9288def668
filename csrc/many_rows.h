/* many_rows.h - a step of many rows of a layer of few units: the lanes of a vector are rows instead of units.
 *
 * 20 units fill two vectors of 16 to 63%, and the rest is computed in vain; 96 rows fill six whole ones. So the states and the
 * inputs of a group are turned, [H][stride] and [I][stride] instead of [rows][...], a tile is one unit's four gates by up to
 * TILE_ROWS vectors of rows, and weights are what is broadcast: each one straight from the packed [block][K][4][LANES], which
 * is in L1, for units are few. Every sum has the terms and the order that it has in step_tile, so the bits are the same.
 *
 * Bound: vectors * 4 FMAs for each input, against `vectors` loads and 4 broadcasts. */

/* Columns become rows: to[j * to_stride + i] = from[i][j], i in 0..rows-1, j in 0..columns-1. By squares of 4, which
 * compilers turn into shuffles of vectors (0.6 cycles an element, one by one it is 1). */
INLINE void turn(real *to, int64_t to_stride, const real *const *from, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t j = 0; j < columns; j += 4) {
            if (i + 4 <= rows && j + 4 <= columns) {
                real square[4][4];
                for (int a = 0; a < 4; a++)
                    for (int b = 0; b < 4; b++)
                        square[b][a] = from[i + a][j + b];
                for (int b = 0; b < 4; b++)
                    for (int a = 0; a < 4; a++)
                        to[(j + b) * to_stride + i + a] = square[b][a];
                continue;
            }
            for (int64_t a = i; a < smaller(i + 4, rows); a++)
                for (int64_t b = j; b < smaller(j + 4, columns); b++)
                    to[b * to_stride + a] = from[a][b];
        }
}

/* The other way: to[i][j] = from[j * from_stride + i]. */
INLINE void turn_back(real *const *to, const real *from, int64_t from_stride, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t j = 0; j < columns; j += 4) {
            if (i + 4 <= rows && j + 4 <= columns) {
                real square[4][4];
                for (int b = 0; b < 4; b++)
                    for (int a = 0; a < 4; a++)
                        square[a][b] = from[(j + b) * from_stride + i + a];
                for (int a = 0; a < 4; a++)
                    for (int b = 0; b < 4; b++)
                        to[i + a][j + b] = square[a][b];
                continue;
            }
            for (int64_t a = i; a < smaller(i + 4, rows); a++)
                for (int64_t b = j; b < smaller(j + 4, columns); b++)
                    to[a][b] = from[b * from_stride + a];
        }
}

/* A group of rows, turned: element (row, j) at [j * stride + row]. */
typedef struct {
    const lk_layer *layer;
    int64_t stride;
    real *x, *h, *h_next, *c;
} crowd;

/* sums[v][g] += sum over k of x[k][v] * the unit's weights w[k][g]; every `skip`-th k of K. */
INLINE void accumulate_unit(const int vectors, vec sums[][4], const real *x, int64_t stride, int64_t K, int skip,
                            const real *w)
{
    for (int64_t k = 0; k < K; k += skip, x += skip * stride, w += skip * QUAD) {
        vec xk[MOST_TILE_ROWS];
        for (int v = 0; v < vectors; v++)
            xk[v] = v_load(x + v * LANES);
        for (int g = 0; g < 4; g++) {
            const vec wk = v_splat(w[g * LANES]);
            for (int v = 0; v < vectors; v++)
                sums[v][g] = v_fma(wk, xk[v], sums[v][g]);
        }
    }
}

INLINE void unit_tile(const int vectors, int64_t unit, const crowd *g)
{
    const lk_layer *layer = g->layer;
    const int64_t I = layer->input_size, H = layer->hidden_size, block = unit / LANES, lane = unit % LANES;
    const real *bias = (const real *)layer->bias + block * QUAD + lane;
    const real *w_h = (const real *)layer->w_h + block * H * QUAD + lane;
    vec sums[MOST_TILE_ROWS][4];
    for (int v = 0; v < vectors; v++)
        for (int gate = 0; gate < 4; gate++)
            sums[v][gate] = v_splat(bias[gate * LANES]);
    accumulate_unit(vectors, sums, g->x, g->stride, I, 1, (const real *)layer->w_x + block * I * QUAD + lane);
    if (H <= FEW_UNITS) { /* the odd k have a sum of their own, as in small_step_tile */
        vec odd[MOST_TILE_ROWS][4];
        for (int v = 0; v < vectors; v++)
            for (int gate = 0; gate < 4; gate++)
                odd[v][gate] = v_splat(0);
        accumulate_unit(vectors, sums, g->h, g->stride, H, 2, w_h);
        accumulate_unit(vectors, odd, g->h + g->stride, g->stride, H - 1, 2, w_h + QUAD);
        for (int v = 0; v < vectors; v++)
            for (int gate = 0; gate < 4; gate++)
                sums[v][gate] = v_add(sums[v][gate], odd[v][gate]);
    } else {
        accumulate_unit(vectors, sums, g->h, g->stride, H, 1, w_h);
    }
    UNROLLED
    for (int v = 0; v < vectors; v++) {
        const int64_t at = unit * g->stride + v * LANES;
        vec h_t;
        v_store(g->c + at, cell(sums[v], v_load(g->c + at), &h_t));
        v_store(g->h_next + at, h_t);
    }
}

/* One step of the first `vectors` vectors of rows: h becomes h_t. */
SEPARATE void crowd_step(crowd *g, int64_t vectors)
{
    for (int64_t unit = 0; unit < g->layer->hidden_size; unit++)
        switch (vectors) {
        case 1: unit_tile(1, unit, g); break;
        case 2: if (TILE_ROWS >= 2) unit_tile(2, unit, g); break;
        case 3: if (TILE_ROWS >= 3) unit_tile(3, unit, g); break;
        case 4: if (TILE_ROWS >= 4) unit_tile(4, unit, g); break;
        case 5: if (TILE_ROWS >= 5) unit_tile(5, unit, g); break;
        case 6: if (TILE_ROWS >= 6) unit_tile(6, unit, g); break;
        }
    real *h = g->h;
    g->h = g->h_next;
    g->h_next = h;
}

/* A row's h and c, of which the group has a column each. */
INLINE void take_column(real *to, const real *column, int64_t stride, int64_t H)
{
    for (int64_t unit = 0; unit < H; unit++)
        to[unit] = column[unit * stride];
}

/* n rows over all their steps; never shared by threads. */
static void run_turned_group(group *group, int64_t n, const lk_span *a)
{
    const int64_t I = group->layer->input_size, H = group->layer->hidden_size, stride = group->rows;
    real *const x = group->z, *const h = x + I * stride;
    crowd g = {group->layer, stride, x, h, h + H * stride, h + 2 * H * stride};
    clear_reals(x, (I + 3 * H) * stride); /* lanes without a row: computed, never read */
    const real **rows = group->x;
    for (int64_t r = 0; r < n; r++)
        rows[r] = h_of(group, r, a);
    turn(g.h, stride, rows, n, H);
    for (int64_t r = 0; r < n; r++)
        rows[r] = c_of(group, r, a);
    turn(g.c, stride, rows, n, H);
    int64_t active = still_active(group, n, 0);
    for (int64_t s = 0; active > 0; s++) {
        choose_inputs(group, s, s + 1, active, a);
        turn(g.x, stride, rows, active, I);
        crowd_step(&g, divide_up(active, LANES));
        real *out[MOST_GROUP_ROWS];
        for (int64_t r = 0; r < active; r++)
            out[r] = out_of(group, r, s, a);
        turn_back(out, g.h, stride, active, H);
        for (; active > 0 && group->length[active - 1] == s + 1; active--) {
            take_column(h_of(group, active - 1, a), g.h + active - 1, stride, H);
            take_column(c_of(group, active - 1, a), g.c + active - 1, stride, H);
        }
    }
}
