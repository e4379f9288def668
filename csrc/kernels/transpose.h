/* transpose.h - rows become columns, and columns rows: between rows that lie anywhere and one array of columns. */
#ifndef LK_TRANSPOSE_H
#define LK_TRANSPOSE_H
#include "kernels/tile.h"

/* rows[i][j] and columns[j * stride + i] are the same element, i in 0..count-1, j in 0..width-1: from the rows to the
 * columns or, where `back` is 1, the other way. It goes in squares of 4 by 4. Where 4 does not divide count or width,
 * the last squares overlap those before them. `back` is a constant at every call. */
INLINE void transpose_either(const int back, real *columns, int64_t stride, real *const *rows, int64_t count,
                             int64_t width)
{
    if (count < 4 || width < 4) {
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < width; j++)
                if (back)
                    rows[i][j] = columns[j * stride + i];
                else
                    columns[j * stride + i] = rows[i][j];
        return;
    }
    for (int64_t row = 0; row < count; row += 4)
        for (int64_t column = 0; column < width; column += 4) {
            const int64_t i = smaller(row, count - 4), j = smaller(column, width - 4);
            real *const at = columns + j * stride + i;
            real *const down[] = {at, at + stride, at + 2 * stride, at + 3 * stride};
            real *const across[] = {rows[i] + j, rows[i + 1] + j, rows[i + 2] + j, rows[i + 3] + j};
            if (back)
                v_transpose4(across, (const real *const *)down);
            else
                v_transpose4(down, (const real *const *)across);
        }
}

/* columns[j * stride + i] = rows[i][j], i in 0..count-1, j in 0..width-1. */
INLINE void transpose(real *columns, int64_t stride, const real *const *rows, int64_t count, int64_t width)
{
    transpose_either(0, columns, stride, (real *const *)rows, count, width); /* rows are only read */
}

/* rows[i][j] = columns[j * stride + i]. */
INLINE void transpose_back(real *const *rows, const real *columns, int64_t stride, int64_t count, int64_t width)
{
    transpose_either(1, (real *)columns, stride, rows, count, width); /* columns are only read */
}

#endif
