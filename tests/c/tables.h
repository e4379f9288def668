/* tables.h - the kernels of every usable instruction set, dtype and size of weights, and what is being checked, said where
 * it fails. */
#ifndef TESTS_TABLES_H
#define TESTS_TABLES_H
#include <stdio.h>
#include "run/dispatch.h"

static const lk_kernels *tables[16];
static char names[16][32];
static int table_count;

/* With -DLK_ONLY_FLOAT32, only float32 with weights of float32. */
#ifdef LK_ONLY_FLOAT32
enum { SMALLEST_WEIGHT = 4, LARGEST_WEIGHT = 4 };
#else
enum { SMALLEST_WEIGHT = 2, LARGEST_WEIGHT = 8 };
#endif

static inline void find_tables(void)
{
    for (int isa = 0; lk_isa_name(isa); isa++)
        for (int size = SMALLEST_WEIGHT; size <= LARGEST_WEIGHT; size *= 2) {
            if (!lk_find(isa, size))
                continue;
            snprintf(names[table_count], sizeof names[0], "%s, weights float%d", lk_isa_name(isa), size * 8);
            tables[table_count++] = lk_find(isa, size);
        }
}

/* The kernels for 8-bit weights, and activations of 16 bits, of every instruction set. */
static inline void find_integer_tables(void)
{
    for (int isa = 0; lk_isa_name(isa); isa++)
        if (lk_find_int8(isa, 16)) {
            snprintf(names[table_count], sizeof names[0], "%s, weights int8", lk_isa_name(isa));
            tables[table_count++] = lk_find_int8(isa, 16);
        }
}

/* Kernels for narrow weights differ from the others in how they load weights. A third of the shapes is enough for them:
 * that still has every tail. */
static inline int is_left_out(const lk_kernels *kernels, int64_t units)
{
    return kernels->weight_size < kernels->itemsize && units % 3 != 2;
}

static char shape[200]; /* of the check at hand */

static inline const char *named(const char *array, int table)
{
    static char text[1000];
    snprintf(text, sizeof text, "%s, %s: %s", names[table], shape, array);
    return text;
}

#endif
