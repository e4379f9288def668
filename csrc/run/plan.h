/* plan.h - how a call is best run, by what each way is predicted to take. See plan.c. */
#ifndef LK_PLAN_H
#define LK_PLAN_H
#include "lstmkernel.h"

/* At most so many tasks. */
enum { LK_MOST_TASKS = 256 };

/* The quickest way of a recording forward pass or a backward pass: its threads, and whether they share units. */
typedef struct {
    int threads, by_units;
    double ns;
} lk_training_plan;
lk_training_plan lk_plan_training(const lk_kernels *kernels, const lk_tape *tape, int64_t I, int64_t H, int64_t R);

/* Nanoseconds of a step of one layer, on a team of so many threads for each direction. */
double lk_team_step_ns(const lk_call *call, int64_t layer, int64_t threads);

#endif
