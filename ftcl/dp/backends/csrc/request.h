/* What one call asks for; the Python side packs the same fields in the same order. */
#ifndef FTCL_REQUEST_H
#define FTCL_REQUEST_H

#include <stdint.h>

enum recurrence { SOFT_DTW, SMOOTH_DTW, FSD, LCS };
enum wants { VALUE, TABLE_GRADIENTS, GAMMA_GRADIENT };
enum direction { DIAGONAL, UP, LEFT };
enum level { BASELINE, AVX2, AVX512 };

/* Bits of the result of a call: table k holds NaN or infinity; a table divided by gamma leaves the range of
   the float32 kernels, so that the call has to be made again in float64; there was no memory. */
enum status { NOT_FINITE = 1, OUT_OF_RANGE = 4, NO_MEMORY = 8, NO_SUCH_LEVEL = 16 };

struct request {
    int64_t recurrence, is_float64, is_hard, wants, level, num_threads;
    int64_t num_items, num_rows, num_columns, bandwidth; /* bandwidth < 0: none */
    int64_t item_stride[2], row_stride[2];               /* in elements; columns are adjacent */
    const void *table[2];
    const int64_t *lengths; /* (B, 2) or NULL */
    const double *gamma_B;  /* NULL: `gamma` for all items */
    const double *threshold_B;
    void *value, *gradient[2], *gamma_gradient; /* contiguous */
    double gamma, threshold;
};

#endif
