/* Entry point of the CPU backend: one call solves a batch, on several threads if that pays.

   The kernels are compiled for every instruction set that the machine might have, and the best one that it
   does have is taken when they are called: the library works on any machine of its architecture. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define LAST_LEVEL AVX512
#else
#define LAST_LEVEL BASELINE
#endif

#define LANES 16
#define CACHE_SIZE (4 << 20) /* bytes of weights that a thread has at hand at a time */
#define MAX_THREADS 256
/* Cells per thread below which starting one costs more than it saves. */
#define CELLS_PER_THREAD 16384

typedef unsigned solve_function(const struct request *q, int64_t index, char *scratch);
typedef size_t size_function(const struct request *q);
struct kernels {
    solve_function *solve;
    size_function *scratch_size;
};

#define LEVEL 0
#define LEVEL_NAME baseline
#define VECTOR_BYTES 16
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define HAS_FMA 1
#else
#define HAS_FMA 0
#endif
#include "level.h"

#if LAST_LEVEL >= 1
#endif
#if defined(__x86_64__)
#define HAS_FMA 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define LEVEL 1
#define LEVEL_NAME avx2
#define VECTOR_BYTES 32
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
#define HAS_FMA 1
#define LEVEL 2
#define LEVEL_NAME avx512
#define VECTOR_BYTES 64
#include "level.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#define KERNELS(bits, level)                                                                    \
    {                                                                                           \
        {solve_soft_##bits##_##level, soft_scratch_size_##bits##_##level},                      \
        {solve_hard_##bits##_##level, hard_scratch_size_##bits##_##level},                      \
    }
static const struct kernels all_kernels[][2][2] = {
    {KERNELS(32, baseline), KERNELS(64, baseline)},
#if defined(__x86_64__)
    {KERNELS(32, avx2), KERNELS(64, avx2)},
    {KERNELS(32, avx512), KERNELS(64, avx512)},
#endif
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

struct team {
    const struct request *request;
    solve_function *solve;
    char *scratch;
    size_t scratch_size;
    atomic_llong next_item, next_worker;
    atomic_uint status;
};

static void *work(void *argument) {
    struct team *team = argument;
    char *scratch = team->scratch + (size_t)atomic_fetch_add(&team->next_worker, 1) * team->scratch_size;
    unsigned status = 0;
    for (;;) {
        const int64_t item = atomic_fetch_add(&team->next_item, 1);
        if (item >= team->request->num_items) break;
        status |= team->solve(team->request, item, scratch);
    }
    atomic_fetch_or(&team->status, status);
    return NULL;
}

/* Solve a batch; the sum of the `enum status` bits that hold. */
__attribute__((visibility("default"))) int64_t ftcl_dp_solve(const struct request *q) {
    const int64_t best = ftcl_dp_level(), level = q->level < 0 ? best : q->level;
    if (level > best) return NO_SUCH_LEVEL;
    if (q->num_items == 0) return 0;
    const struct kernels kernels = all_kernels[level][q->is_float64 != 0][q->is_hard != 0];

    int64_t num_threads = q->num_items * q->num_rows * q->num_columns / CELLS_PER_THREAD;
    if (num_threads > q->num_threads) num_threads = q->num_threads;
    if (num_threads > q->num_items) num_threads = q->num_items;
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    if (num_threads < 1) num_threads = 1;

    const size_t scratch_size = (kernels.scratch_size(q) + 127) / 64 * 64;
    struct team team = {.request = q, .solve = kernels.solve, .scratch_size = scratch_size};
    void *memory = malloc((size_t)num_threads * scratch_size + 64);
    if (memory == NULL) return NO_MEMORY;
    team.scratch = (char *)(((uintptr_t)memory + 63) / 64 * 64);

    pthread_t threads[MAX_THREADS];
    int64_t started = 0;
    while (started < num_threads - 1 && pthread_create(&threads[started], NULL, work, &team) == 0) started++;
    work(&team); /* takes over what a thread that could not be started would have done */
    for (int64_t k = 0; k < started; k++) pthread_join(threads[k], NULL);
    free(memory);
    return atomic_load(&team.status);
}
