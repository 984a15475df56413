/* The two ends of the contrast of pairs that deal with rows: similarities of chosen rows, and the gradient to the
   rows from that to the similarities. What lies between is `ftcl_dp_solve`. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "contrast.h"
#include "large_pages.h"
#include "request.h"
#include "team.h"

/* Channels at a time: FTCL's 60 rows of a pair then fit in the second cache. A multiple of every step. */
#define CHUNK 2048
/* Copied rows lie apart by an odd number of cache lines, so that they share the sets of the cache. */
#define PITCH (CHUNK + 16)
#define MAX_BLOCK 5
#define GROUP 2 /* rows whose gradient is computed at a time */
/* Work per thread below which starting one costs more than it saves. */
#define PRODUCTS_PER_THREAD (1 << 22)
#define CHANNELS_PER_THREAD (1 << 18)

/* Part of the gradient to a group of rows: multiples of a row of the other sequence. */
struct term {
    int32_t row;
    float weight[GROUP];
};

struct rows_scratch {
    const float **row[2]; /* of the members of the pair, over a chunk of channels */
    int64_t *offset;
    float *copy, *sums, *out;
    float *own_weight[2];
    struct term *terms[2]; /* (groups, L), of which each group has the first num_terms[member][group] */
    int64_t *num_terms[2];
};

static int64_t chosen_row(const struct contrast *q, int64_t item, int64_t i) {
    return q->chosen ? q->chosen[item * q->num_rows + i] : i;
}

static float *reciprocal_norm(const struct contrast *q, int range, int member, int64_t pair) {
    return q->reciprocal_norm + ((2 * range + member) * q->num_pairs + pair) * q->num_rows;
}

static int64_t range_begin(const struct contrast *q, int range) { return range ? q->range_end[range - 1] : 0; }

static int64_t chunk_size(const struct contrast *q, int range, int64_t from) {
    const int64_t rest = q->range_end[range] - from;
    return rest < CHUNK ? rest : CHUNK;
}

static void clear_gradient(const struct contrast *q, int64_t pair) {
    for (int member = 0; member < 2; member++)
        memset(q->gradient + (pair + member * q->num_pairs) * q->to_item_stride, 0,
               (size_t)(q->num_steps * q->range_end[q->num_ranges - 1]) * sizeof(float));
}

/* What the gradient of each row is made of; returns whether there is any. */
static int weigh_rows(const struct contrast *q, const struct rows_scratch *s, int64_t pair, int range) {
    const int64_t num_rows = q->num_rows, num_cells = num_rows * num_rows;
    const float *similarity = q->similarity + (range * q->num_pairs + pair) * num_cells;
    const float *unit = q->unit[range] + pair * num_cells;
    int64_t num_all_terms = 0;
    for (int member = 0; member < 2; member++) {
        const float *own_norm = reciprocal_norm(q, range, member, pair);
        const float *other_norm = reciprocal_norm(q, range, 1 - member, pair);
        const int64_t row_stride = member ? 1 : num_rows, other_stride = member ? num_rows : 1;
        float *own_weight = s->own_weight[member];
        memset(own_weight, 0, (size_t)(num_rows + GROUP) * sizeof(float));
        for (int64_t begin = 0; begin < num_rows; begin += GROUP) {
            struct term *first = s->terms[member] + begin / GROUP * num_rows, *next = first;
            for (int64_t other = 0; other < num_rows; other++) {
                struct term term = {(int32_t)other, {0}};
                int is_zero = 1;
                for (int i = 0; i < GROUP && begin + i < num_rows; i++) {
                    const int64_t cell = (begin + i) * row_stride + other * other_stride;
                    if (unit[cell] == 0) continue;
                    const float g = q->scale_B[pair] * unit[cell], norm = own_norm[begin + i];
                    own_weight[begin + i] -= g * similarity[cell] * norm * norm;
                    term.weight[i] = g * norm * other_norm[other];
                    is_zero = 0;
                }
                if (!is_zero) *next++ = term;
            }
            s->num_terms[member][begin / GROUP] = next - first;
            num_all_terms += next - first;
        }
    }
    return num_all_terms > 0;
}

#define LEVEL_FILE "rows_level.h"
#include "every_level.h"

typedef void rows_function(const struct contrast *q, const struct rows_scratch *s, int64_t pair, int range);
static rows_function *const similarity_at[] = FOR_EVERY_LEVEL(similarity_32);
static rows_function *const gradient_at[] = FOR_EVERY_LEVEL(gradient_32);

static void *take(char *scratch, size_t *used, size_t bytes) {
    void *taken = scratch ? scratch + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return taken;
}

/* Divide up a thread's scratch memory; returns how much it takes, for which it need not be there. */
static size_t lay_out(struct rows_scratch *s, int64_t num_rows, char *scratch) {
    const size_t n = (size_t)num_rows, in_blocks = n + MAX_BLOCK, num_groups = (n + GROUP - 1) / GROUP;
    size_t used = 0;
    for (int member = 0; member < 2; member++) {
        s->row[member] = take(scratch, &used, in_blocks * sizeof(float *));
        s->own_weight[member] = take(scratch, &used, (n + GROUP) * sizeof(float));
        s->terms[member] = take(scratch, &used, num_groups * n * sizeof(struct term));
        s->num_terms[member] = take(scratch, &used, num_groups * sizeof(int64_t));
    }
    s->offset = take(scratch, &used, n * sizeof(int64_t));
    s->copy = take(scratch, &used, 2 * n * PITCH * sizeof(float));
    s->sums = take(scratch, &used, 2 * in_blocks * in_blocks * sizeof(float));
    s->out = take(scratch, &used, GROUP * CHUNK * sizeof(float));
    return used;
}

int64_t ftcl_dp_level(void);

struct job {
    const struct contrast *contrast;
    rows_function *function;
};

static unsigned do_pair(const void *context, int64_t pair, char *scratch) {
    const struct job *job = context;
    struct rows_scratch s;
    lay_out(&s, job->contrast->num_rows, scratch);
    for (int range = 0; range < job->contrast->num_ranges; range++) job->function(job->contrast, &s, pair, range);
    return 0;
}

static int64_t run(const struct contrast *q, rows_function *const *function_at, int64_t max_threads) {
    const int64_t best = ftcl_dp_level(), level = q->level < 0 ? best : q->level;
    if (level > best) return NO_SUCH_LEVEL;
    const int64_t num_chosen = q->chosen ? 2 * q->num_pairs * q->num_rows : 0;
    for (int64_t i = 0; i < num_chosen; i++)
        if (q->chosen[i] < 0 || q->chosen[i] >= q->num_steps) return NOT_A_ROW;
    struct rows_scratch s;
    const struct job job = {q, function_at[level]};
    if (max_threads > q->num_threads) max_threads = q->num_threads;
    return run_team(do_pair, &job, q->num_pairs, max_threads, lay_out(&s, q->num_rows, NULL));
}

/* Fill in similarities and reciprocal norms; 0 or an `enum contrast_status`. */
__attribute__((visibility("default"))) int64_t ftcl_contrast_similarity(const struct contrast *q) {
    const int64_t num_products = q->num_pairs * q->num_rows * q->num_rows * q->range_end[q->num_ranges - 1];
    return run(q, similarity_at, num_products / PRODUCTS_PER_THREAD);
}

/* Write the gradient to the rows; 0 or an `enum contrast_status`. */
__attribute__((visibility("default"))) int64_t ftcl_contrast_gradient(const struct contrast *q) {
    const int64_t num_items = 2 * q->num_pairs, num_channels = q->range_end[q->num_ranges - 1];
    use_large_pages(q->gradient, (size_t)(num_items * q->num_steps * num_channels) * sizeof(float));
    return run(q, gradient_at, num_items * q->num_rows * num_channels / CHANNELS_PER_THREAD);
}
