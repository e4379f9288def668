/* rows.h - the rows of a row group: which of the batch they are, and where their steps lie in the caller's arrays.
 *
 * Rows of unequal length are sorted longest first, so that the active ones are always the first of the group. */
#ifndef LK_ROWS_H
#define LK_ROWS_H
#include "kernels/layout.h"

INLINE void copy_reals(real *to, const real *from, int64_t n) { memcpy(to, from, (size_t)n * sizeof(real)); }
INLINE void clear_reals(real *to, int64_t n) { memset(to, 0, (size_t)n * sizeof(real)); }
INLINE void copy_columns(real *to, const real *from, range columns)
{
    copy_reals(to + columns.from, from + columns.from, larger(0, columns.to - columns.from));
}
/* Rows that begin anywhere lie far apart, and are too many for a CPU to foresee where each goes on. Fetch what will be
 * written next. */
INLINE void fetch_columns(const real *to, range columns)
{
    for (int64_t column = columns.from; column < columns.to; column += LINE)
        __builtin_prefetch(to + column, 1);
}

/* Put rows b0 .. b0 + n - 1 of the batch into the group, longest first. The rows are few, so an insertion sort does. It
 * is stable. */
static void choose_rows(row_group *group, int64_t b0, int64_t n, const lk_task *task)
{
    for (int64_t r = 0; r < n; r++) {
        const int64_t length =
            task->lengths ? larger(0, smaller(task->lengths[b0 + r] - task->from, task->T)) : task->T;
        int64_t place = r;
        for (; place > 0 && group->length[place - 1] < length; place--) {
            group->length[place] = group->length[place - 1];
            group->row[place] = group->row[place - 1];
        }
        group->length[place] = length;
        group->row[place] = b0 + r;
    }
}

/* The time at which a row takes its step s. Each row counts steps from its own beginning. length: its number of
 * steps. */
INLINE int64_t time_of(int64_t s, int64_t length, int reverse) { return reverse ? length - 1 - s : s; }

/* Where the first step of a row of the batch is: `row_distance` after that of the row before it or, if the rows do not
 * lie so, `step_distance` times the row's place in `begins`. */
INLINE int64_t first_step(int64_t row, int64_t row_distance, int64_t step_distance, const int64_t *begins)
{
    return begins ? begins[row] * step_distance : row * row_distance;
}

/* Where the input and the output of row r of the group at its step s are. */
INLINE const real *x_of(const row_group *group, int64_t r, int64_t s, const lk_task *task)
{
    return (const real *)task->x + time_of(s, group->length[r], task->reverse) * task->x_step
           + first_step(group->row[r], task->x_row, task->x_step, task->x_begins);
}
INLINE real *out_of(const row_group *group, int64_t r, int64_t s, const lk_task *task)
{
    return (real *)task->out + time_of(s, group->length[r], task->reverse) * task->out_step
           + first_step(group->row[r], task->out_row, task->out_step, task->out_begins);
}

/* Where the states of row r of the group are in the caller's arrays: in the row that `places` names (task->read or
 * task->write), or in its own if that is NULL. */
INLINE int64_t state_row(const row_group *group, int64_t r, const int64_t *places)
{
    return places ? places[group->row[r]] : group->row[r];
}
INLINE real *h_of(const row_group *group, int64_t r, const int64_t *places, const lk_task *task)
{
    return (real *)task->h + state_row(group, r, places) * output_size(group->layer);
}
INLINE real *c_of(const row_group *group, int64_t r, const int64_t *places, const lk_task *task)
{
    return (real *)task->c + state_row(group, r, places) * hidden_size(group->layer);
}

/* Whether the states of row r of the group become zero before its step s. */
INLINE int starts_anew(const row_group *group, int64_t r, int64_t s, const lk_task *task)
{
    return task->reset && task->reset[time_of(s, group->length[r], task->reverse) * task->reset_step + group->row[r]];
}

/* Write zeros to out where a row has no steps. Where rows begin anywhere, other rows are there; and where all steps of a
 * row have one place, its last output is. */
static void clear_past_ends(const row_group *group, int64_t n, const lk_task *task)
{
    if (task->out_begins || task->out_step == 0)
        return;
    for (int64_t r = 0; r < n; r++)
        for (int64_t t = group->length[r]; t < task->T; t++)
            clear_reals((real *)task->out + t * task->out_step + group->row[r] * task->out_row,
                        output_size(group->layer));
}

/* How many of `active` rows have a step s. */
INLINE int64_t still_active(const row_group *group, int64_t active, int64_t s)
{
    while (active > 0 && group->length[active - 1] <= s)
        active--;
    return active;
}

/* Pointers to the active rows of x at steps s0 .. s1 - 1, one step after the other. Returns how many. */
static int64_t choose_inputs(row_group *group, int64_t s0, int64_t s1, int64_t active, const lk_task *task)
{
    int64_t z_rows = 0;
    for (int64_t s = s0; s < s1; s++) {
        active = still_active(group, active, s);
        for (int64_t r = 0; r < active; r++) {
            group->x[z_rows] = x_of(group, r, s, task);
            if (task->x_begins)
                __builtin_prefetch(group->x[z_rows]);
            z_rows++;
        }
    }
    return z_rows;
}

#endif
