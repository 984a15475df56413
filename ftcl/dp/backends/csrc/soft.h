/* The smooth recurrences of one item, forwards and backwards.

   In units of gamma log(2), a cell whose value is r holds A = 2^-r (soft_dtw) or 2^r (fsd, lcs). The smooth
   maximum is then a plain sum, A = 2^(cell) (A_diagonal + A_up + A_left), and the only exponential is that of
   the cell itself. A number with the range of these A is held as mantissa and exponent; the exponent is
   exact, so that no digit is lost however small gamma is. smooth_dtw is no such sum: it holds r itself, as a
   whole number and a fraction. A border that no path may cross has an exponent so far away that what comes
   from it is exactly 0.

   The derivatives of a cell to its three predecessors are kept in the order of the steps, and the adjoint
   then passes each cell's gradient on to them, in the opposite order.

   Included once for every pair of LEVEL and BITS, after strip.h. */

#define ITEM FN(item)
typedef struct {
    enum recurrence kind;
    int64_t num_rows, num_columns, bandwidth, num_tables;
    SCALE scale;
    REAL threshold;
    ROWS rows[2];
    const REAL *table[2];
    int64_t stride[2];
    /* The row above the strip, then its last row; column 0 comes after padding. */
    REAL *border;
    EXPONENT *border_exponent;
    /* Gradient that the strip below passes up, likewise. */
    REAL *below;
    VREAL end[NUM_VECTORS]; /* state of the lanes after the last step */
    VEXPONENT end_exponent[NUM_VECTORS];
    double gamma_sum;
} ITEM;

#define BORDER_SIZE(num_columns) (FRONT + (num_columns) + BACK)
/* Rows lie apart by an odd number of cache lines, so that they share the sets of the cache. */
#define PITCH(num_columns) ((BORDER_SIZE(num_columns) + 15) / 16 * 16 | 16)

/* An item of a problem, its rows and border in the room given, which is moved on behind them. */
static ITEM FN(begin_item)(const struct request *q, int64_t index, REAL **room) {
    const enum recurrence kind = (enum recurrence)q->recurrence;
    ITEM item = {.kind = kind,
                 .num_rows = q->lengths ? q->lengths[2 * index] : q->num_rows,
                 .num_columns = q->lengths ? q->lengths[2 * index + 1] : q->num_columns,
                 .bandwidth = q->bandwidth,
                 .num_tables = kind == FSD ? 2 : 1,
                 .threshold = (REAL)(q->threshold_B ? q->threshold_B[index] : q->threshold)};
    for (int64_t k = 0; k < item.num_tables; k++) {
        item.rows[k] = (ROWS){.cells = *room, .pitch = PITCH(q->num_columns)};
        item.table[k] = (const REAL *)q->table[k] + index * q->item_stride[k];
        item.stride[k] = q->row_stride[k];
        *room += LANES * item.rows[k].pitch;
    }
    item.border = *room + FRONT;
    *room += BORDER_SIZE(q->num_columns);
    return item;
}

static int64_t FN(rows_of_strip)(const ITEM *item, int64_t first_row) {
    return item->num_rows - first_row < LANES ? item->num_rows - first_row : LANES;
}

static void FN(read_strip)(ITEM *item, int64_t first_row) {
    for (int64_t k = 0; k < item->num_tables; k++)
        FN(read_rows)(&item->rows[k], item->table[k] + first_row * item->stride[k], item->stride[k],
                      FN(rows_of_strip)(item, first_row), item->num_columns);
}

INLINE REAL FN(border_value)(enum recurrence kind) { return kind == SMOOTH_DTW ? 0 : 1; }
INLINE EXPONENT FN(border_exponent_of)(enum recurrence kind) {
    return kind == SOFT_DTW ? -NEVER : kind == SMOOTH_DTW ? NEVER : 0;
}

/* One cell per lane, in and out: mantissa (or fraction) and exponent (or whole number). */
#define CELLS FN(cells)
typedef struct {
    VREAL x;
    VEXPONENT e;
} CELLS;

/* A step's cells, scaled: 2^fraction or the fraction itself, and the whole part. */
#define SCALED CELLS

#define WEIGHTS FN(weights)
typedef struct {
    VREAL diagonal, up, left;
    VREAL gamma; /* what times the cell's gradient adds to that of gamma */
} WEIGHTS;

/* x 2^e with a mantissa in [1, 2); x is positive and normal. */
INLINE CELLS FN(normalised)(VREAL x, VEXPONENT e) {
    const VINT one = (VINT)FN(splat)(1), mantissa = FN(splat_int)(((INT)1 << MANTISSA_BITS) - 1);
    return (CELLS){(VREAL)(((VINT)x & mantissa) | one), e + FN(exponent_of)(x)};
}

/* soft_dtw and fsd: the sum of three. */
INLINE CELLS FN(sum_cell)(CELLS diagonal, CELLS up, CELLS left, SCALED cell, WEIGHTS *w, enum wants wants) {
    const VEXPONENT top = MAX_EXPONENT(MAX_EXPONENT(diagonal.e, up.e), left.e);
    const VREAL a_diagonal = diagonal.x * FN(power_of_two)(diagonal.e, top);
    const VREAL a_up = up.x * FN(power_of_two)(up.e, top);
    const VREAL a_left = left.x * FN(power_of_two)(left.e, top);
    const VREAL sum = a_diagonal + a_up + a_left;
    if (wants) {
        const VREAL share = 1 / sum;
        w->diagonal = a_diagonal * share, w->up = a_up * share, w->left = a_left * share;
    }
    if (wants == GAMMA_GRADIENT)
        w->gamma = FN(entropy)(w->diagonal) + FN(entropy)(w->up) + FN(entropy)(w->left);
    return FN(normalised)(sum * cell.x, top + cell.e);
}

/* lcs: the sum of two where nothing matches, the diagonal alone where something does. */
INLINE CELLS FN(lcs_cell)(CELLS diagonal, CELLS up, CELLS left, SCALED cell, MASK is_match, WEIGHTS *w,
                          enum wants wants) {
    const VREAL zero = {0};
    const VEXPONENT top = MAX_EXPONENT(up.e, left.e);
    const VREAL a_up = up.x * FN(power_of_two)(up.e, top);
    const VREAL a_left = left.x * FN(power_of_two)(left.e, top);
    const VREAL sum = a_up + a_left;
    if (wants) {
        const VREAL share = FN(select)(is_match, zero, 1 / sum);
        w->diagonal = FN(select)(is_match, FN(splat)(1), zero);
        w->up = a_up * share, w->left = a_left * share;
    }
    if (wants == GAMMA_GRADIENT) w->gamma = FN(entropy)(w->up) + FN(entropy)(w->left);
    return FN(normalised)(FN(select)(is_match, diagonal.x * cell.x, sum),
                          SELECT_EXPONENT(is_match, diagonal.e + cell.e, top));
}

INLINE VREAL FN(exp2_of_minus)(VREAL z) {
    const VEXPONENT whole = FN(round)(ROUND_SHIFT - z);
    return FN(exp2_fraction)(-z - TO_REAL(whole)) * FN(power_of_two)(whole, (VEXPONENT){0});
}

/* smooth_dtw: the mean of three under their own softmin. */
INLINE CELLS FN(mean_cell)(CELLS diagonal, CELLS up, CELLS left, SCALED cell, WEIGHTS *w,
                           enum wants wants) {
    const VEXPONENT base = MIN_EXPONENT(MIN_EXPONENT(diagonal.e, up.e), left.e);
    VREAL z[3] = {diagonal.x + TO_REAL(diagonal.e - base), up.x + TO_REAL(up.e - base),
                  left.x + TO_REAL(left.e - base)};
    const VREAL least = FN(min)(FN(min)(z[0], z[1]), z[2]);
    VREAL p[3], sum = {0}, mean = {0};
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++) {
        /* A border is far away but not infinitely so: its weight is 0, and 0 times this is 0 too. */
        z[k] = FN(min)(z[k] - least, FN(splat)(BIAS + 1));
        p[k] = FN(exp2_of_minus)(z[k]);
        sum += p[k];
    }
    const VREAL share = 1 / sum;
#pragma GCC unroll 3
    for (int k = 0; k < 3; k++) {
        p[k] *= share;
        mean = FMA(p[k], z[k], mean);
    }
    if (wants) {
        const REAL log_2 = (REAL)0.6931471805599453;
        w->diagonal = p[0] - p[0] * ((z[0] - mean) * log_2);
        w->up = p[1] - p[1] * ((z[1] - mean) * log_2);
        w->left = p[2] - p[2] * ((z[2] - mean) * log_2);
    }
    if (wants == GAMMA_GRADIENT) {
        VREAL variance = {0};
#pragma GCC unroll 3
        for (int k = 0; k < 3; k++) variance += p[k] * ((z[k] - mean) * (z[k] - mean));
        w->gamma = variance;
    }
    const VREAL x = least + mean + cell.x;
    const VEXPONENT whole = FN(round)(x + ROUND_SHIFT);
    return (CELLS){x - TO_REAL(whole), base + whole + cell.e};
}

/* Lanes that are on a cell of the table, and of the band if there is one. */
INLINE MASK FN(is_inside)(int v, int64_t t, const BAND *band, int has_band) {
    const VINT column = (INT)t - FN(row_of_lane)(v);
    if (!has_band) return FN(greater_int)(column, FN(splat_int)(-1));
    return FN(greater_int)(column, band->first[v] - 1) & FN(greater_int)(band->last[v] + 1, column);
}

#define NUM_PLANES(wants) ((wants) == GAMMA_GRADIENT ? 4 : 3)

/* Fill a strip. `keep`: the weights of its cells, NUM_PLANES vectors of LANES a step. */
INLINE void FN(forward)(ITEM *item, int64_t strip, REAL *keep, const enum recurrence kind,
                        const enum wants wants, const int has_band) {
    const int64_t first_row = strip * LANES;
    FN(read_strip)(item, first_row);
    const BAND band =
        FN(band_of_strip)(first_row, item->num_rows, item->num_columns, has_band ? item->bandwidth : -1);
    const REAL border_value = FN(border_value)(kind);
    const EXPONENT border_exponent = FN(border_exponent_of)(kind);
    const SCALE scale = item->scale;
    REAL *border = item->border;
    EXPONENT *border_e = item->border_exponent;

    VREAL x[NUM_VECTORS], up_x[NUM_VECTORS], diagonal_x[NUM_VECTORS];
    VEXPONENT e[NUM_VECTORS], up_e[NUM_VECTORS], diagonal_e[NUM_VECTORS];
    FOR_VECTORS {
        x[v] = up_x[v] = FN(splat)(border_value);
        e[v] = up_e[v] = SPLAT_EXPONENT(border_exponent);
    }
    /* The cell before the first one of the row above. */
    const int64_t t_begin = band.first_step;
    FN(from_above)(up_x, t_begin > 0 ? border[t_begin - 1] : border_value);
    FN(from_above_exponent)(up_e, t_begin > 0 ? border_e[t_begin - 1] : strip == 0 ? 0 : border_exponent);

    for (int64_t t0 = t_begin; t0 < band.num_steps; t0 += WIDTH) {
        VREAL cells[WIDTH][NUM_VECTORS], gaps[WIDTH][NUM_VECTORS];
        FN(rows_to_steps)(&item->rows[0], t0, cells);
        if (kind == FSD) FN(rows_to_steps)(&item->rows[1], t0, gaps);
        const int64_t t_end = t0 + WIDTH < band.num_steps ? t0 + WIDTH : band.num_steps;
        for (int64_t t = t0; t < t_end; t++) {
            FOR_VECTORS {
                diagonal_x[v] = up_x[v], diagonal_e[v] = up_e[v];
                up_x[v] = x[v], up_e[v] = e[v];
            }
            FN(from_above)(up_x, border[t]);
            FN(from_above_exponent)(up_e, border_e[t]);
            FOR_VECTORS {
                const CELLS diagonal = {diagonal_x[v], diagonal_e[v]};
                CELLS up = {up_x[v], up_e[v]}, left = {x[v], e[v]}, out;
                WEIGHTS w;
                SCALED cell;
                VREAL fraction;
                if (kind == LCS) {
                    const VREAL zero = {0};
                    const MASK is_match = FN(greater)(cells[t - t0][v], FN(splat)(item->threshold));
                    const VREAL matched = FN(select)(is_match, cells[t - t0][v], zero);
                    cell.e = FN(scale_and_split)(matched, scale, &fraction);
                    cell.x = FN(exp2_fraction)(fraction);
                    out = FN(lcs_cell)(diagonal, up, left, cell, is_match, &w, wants);
                } else if (kind == SMOOTH_DTW) {
                    cell.e = FN(scale_and_split)(cells[t - t0][v], scale, &cell.x);
                    out = FN(mean_cell)(diagonal, up, left, cell, &w, wants);
                } else {
                    if (kind == FSD) {
                        const VEXPONENT whole = FN(scale_and_split)(gaps[t - t0][v], scale, &fraction);
                        const VREAL gap = FN(exp2_fraction)(fraction);
                        up.x *= gap, up.e += whole;
                        left.x *= gap, left.e += whole;
                    }
                    cell.e = FN(scale_and_split)(cells[t - t0][v], scale, &fraction);
                    cell.x = FN(exp2_fraction)(fraction);
                    out = FN(sum_cell)(diagonal, up, left, cell, &w, wants);
                }
                if (has_band || t < LANES - 1) {
                    const MASK inside = FN(is_inside)(v, t, &band, has_band);
                    const VREAL zero = {0};
                    out.x = FN(select)(inside, out.x, FN(splat)(border_value));
                    out.e = SELECT_EXPONENT(inside, out.e, SPLAT_EXPONENT(border_exponent));
                    if (wants == GAMMA_GRADIENT) w.gamma = FN(select)(inside, w.gamma, zero);
                }
                x[v] = out.x, e[v] = out.e;
                if (wants) {
                    REAL *to = keep + (t - t_begin) * NUM_PLANES(wants) * LANES + v * WIDTH;
                    FN(store)(to, w.diagonal);
                    FN(store)(to + LANES, w.up);
                    FN(store)(to + 2 * LANES, w.left);
                    if (wants == GAMMA_GRADIENT) FN(store)(to + 3 * LANES, w.gamma);
                }
            }
            FN(store)(border + t - (LANES - 1), x[0]);
            FN(store_exponent)(border_e + t - (LANES - 1), e[0]);
        }
    }
    if (has_band) {
        int64_t beyond = band.num_steps - (LANES - 1);
        for (int64_t j = beyond < 0 ? 0 : beyond; j < item->num_columns; j++)
            border[j] = border_value, border_e[j] = border_exponent;
    }
    FOR_VECTORS item->end[v] = x[v], item->end_exponent[v] = e[v];
}

/* Pass the gradient through a strip, whose rows it overwrites. */
INLINE void FN(backward)(ITEM *item, int64_t strip, const REAL *keep, const enum recurrence kind,
                         const enum wants wants) {
    const int64_t first_row = strip * LANES;
    const BAND band = FN(band_of_strip)(first_row, item->num_rows, item->num_columns, item->bandwidth);
    const int64_t t_begin = band.first_step;
    REAL *below = item->below;
    VREAL from_right[NUM_VECTORS], from_below[NUM_VECTORS], from_corner[NUM_VECTORS];
    VREAL gamma_sum[NUM_VECTORS];
    FOR_VECTORS from_right[v] = from_below[v] = from_corner[v] = gamma_sum[v] = (VREAL){0};
    if (first_row + LANES >= item->num_rows) { /* the last cell of the table */
        const VINT last_row = FN(splat_int)((INT)(item->num_rows - 1 - first_row));
        FOR_VECTORS from_right[v] = (VREAL)((FN(row_of_lane)(v) == last_row) & (VINT)FN(splat)(1));
    }
    if (item->bandwidth >= 0)
        for (int k = 0; k < item->num_tables; k++)
            memset(item->rows[k].cells, 0, (size_t)(LANES * item->rows[k].pitch) * sizeof(REAL));

    const int64_t num_blocks = (band.num_steps - t_begin + WIDTH - 1) / WIDTH;
    for (int64_t t0 = t_begin + (num_blocks - 1) * WIDTH; t0 >= t_begin; t0 -= WIDTH) {
        VREAL gradient[WIDTH][NUM_VECTORS], gap_gradient[WIDTH][NUM_VECTORS];
        const int64_t t_end = t0 + WIDTH < band.num_steps ? t0 + WIDTH : band.num_steps;
        for (int64_t t = t_end; t < t0 + WIDTH; t++)
            FOR_VECTORS gradient[t - t0][v] = gap_gradient[t - t0][v] = (VREAL){0};
        for (int64_t t = t_end - 1; t >= t0; t--) {
            const REAL *from = keep + (t - t_begin) * NUM_PLANES(wants) * LANES;
            FN(from_below)(from_below, below[t - (LANES - 1)]);
            FOR_VECTORS {
                const VREAL here = from_right[v] + from_below[v];
                const VREAL to_diagonal = here * FN(load)(from + v * WIDTH);
                const VREAL to_up = here * FN(load)(from + LANES + v * WIDTH);
                const VREAL to_left = here * FN(load)(from + 2 * LANES + v * WIDTH);
                if (wants == GAMMA_GRADIENT) gamma_sum[v] += here * FN(load)(from + 3 * LANES + v * WIDTH);
                gradient[t - t0][v] = kind == LCS ? to_diagonal : here;
                if (kind == FSD) gap_gradient[t - t0][v] = to_up + to_left;
                /* What the cell passes to the left meets what the one below that passes up: both reach the
                   row above one step later. */
                from_below[v] = to_up + from_corner[v];
                from_corner[v] = to_diagonal;
                from_right[v] = to_left;
            }
            FN(store)(below + t - (WIDTH - 1), from_below[NUM_VECTORS - 1]);
        }
        FN(steps_to_rows)(&item->rows[0], t0, gradient);
        if (kind == FSD) FN(steps_to_rows)(&item->rows[1], t0, gap_gradient);
        if (wants == GAMMA_GRADIENT) FOR_VECTORS {
            for (int w = 0; w < WIDTH; w++) item->gamma_sum += gamma_sum[v][w];
            gamma_sum[v] = (VREAL){0};
        }
    }
    if (item->bandwidth >= 0) { /* columns that no step came to */
        FN(store)(below + t_begin - 1 - (WIDTH - 1), from_corner[NUM_VECTORS - 1]);
        for (int64_t j = 0; j < t_begin - 1; j++) below[j] = 0;
        for (int64_t j = band.num_steps; j < item->num_columns; j++) below[j] = 0;
    }
}
