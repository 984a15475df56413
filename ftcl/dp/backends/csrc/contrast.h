/* What one call about the contrast of pairs asks for; the Python side packs the same fields in the same order.

   Of 2B sequences the first B are the first members of the pairs, the last B the second ones. A pair is compared
   by L rows of both, over one or two ranges of channels. Strides are in elements. */
#ifndef FTCL_CONTRAST_H
#define FTCL_CONTRAST_H

#include <stdint.h>

/* Results of a call besides 0: one of the chosen is no row; and what `enum status` has of the same name. */
enum contrast_status { NOT_A_ROW = 32 };

struct contrast {
    int64_t level, num_threads;
    int64_t num_pairs, num_steps, num_rows, num_ranges, range_end[2];
    int64_t item_stride, row_stride, channel_stride;
    const float *rows;
    const int64_t *chosen;  /* (2B, L), in [0, num_steps); NULL: the first L rows */
    float *similarity;      /* (ranges, B, L, L) */
    float *reciprocal_norm; /* (ranges, 2B, L) */
    /* The rest is asked of by the gradient alone. */
    const float *unit[2]; /* (B, L, L) each: derivatives of a pair's value to its similarities */
    const float *scale_B; /* derivative of the result to a pair's value */
    int64_t to_item_stride, to_row_stride, to_channel_stride;
    float *gradient; /* of all rows; each sequence takes up one piece of memory */
};

#endif
