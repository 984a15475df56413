/* Entry point of the CPU backend: one call solves a batch, on several threads if that pays.

   The kernels are compiled for every instruction set that the machine might have, and the best one that it
   does have is taken when they are called: the library works on any machine of its architecture. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "large_pages.h"
#include "request.h"
#include "team.h"

#define LANES 16
#define CACHE_SIZE (4 << 20) /* bytes of weights that a thread has at hand at a time */
/* Cells per thread below which starting one costs more than it saves. */
#define CELLS_PER_THREAD (32 << 10)
#define HARD_CELLS_PER_THREAD (128 << 10)

#define LEVEL_FILE "level.h"
#include "every_level.h"

typedef unsigned solve_function(const struct request *q, int64_t index, char *scratch);
typedef size_t size_function(const struct request *q);

/* By float64, hard and level. */
static solve_function *const solve_functions[2][2][3] = {
    {FOR_EVERY_LEVEL(solve_soft_32), FOR_EVERY_LEVEL(solve_hard_32)},
    {FOR_EVERY_LEVEL(solve_soft_64), FOR_EVERY_LEVEL(solve_hard_64)},
};
static size_function *const size_functions[2][2][3] = {
    {FOR_EVERY_LEVEL(soft_scratch_size_32), FOR_EVERY_LEVEL(hard_scratch_size_32)},
    {FOR_EVERY_LEVEL(soft_scratch_size_64), FOR_EVERY_LEVEL(hard_scratch_size_64)},
};

/* The best instruction set of this machine, an `enum level`. */
__attribute__((visibility("default"))) int64_t ftcl_dp_level(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
    return BASELINE;
}

struct job {
    const struct request *request;
    solve_function *solve;
};

static unsigned solve_item(const void *context, int64_t item, char *scratch) {
    const struct job *job = context;
    return job->solve(job->request, item, scratch);
}

/* Solve a batch; the sum of the `enum status` bits that hold. */
__attribute__((visibility("default"))) int64_t ftcl_dp_solve(const struct request *q) {
    const int64_t best = ftcl_dp_level(), level = q->level < 0 ? best : q->level;
    if (level > best) return NO_SUCH_LEVEL;
    if (q->num_items == 0) return 0;
    const int64_t num_cells = q->num_items * q->num_rows * q->num_columns;
    if (q->wants) {
        const size_t gradient_size = (size_t)num_cells * (q->is_float64 ? 8 : 4);
        use_large_pages(q->gradient[0], gradient_size);
        if (q->recurrence == FSD) use_large_pages(q->gradient[1], gradient_size);
    }
    int64_t num_threads = num_cells / (q->is_hard ? HARD_CELLS_PER_THREAD : CELLS_PER_THREAD);
    if (num_threads > q->num_threads) num_threads = q->num_threads;
    const struct job job = {q, solve_functions[q->is_float64 != 0][q->is_hard != 0][level]};
    const size_t scratch_size = size_functions[q->is_float64 != 0][q->is_hard != 0][level](q);
    return run_team(solve_item, &job, q->num_items, num_threads, scratch_size);
}
