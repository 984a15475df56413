/* The recurrences at gamma = 0, whose maximum picks one predecessor: one byte a cell says which, and a walk
   back from the last cell is the gradient.

   The sums are made in the order of the definition, so that ties fall as they do there.
   Included once for every pair of LEVEL and BITS, after solve_soft.h. */

#define DIRECTION_STRIP(num_columns) (((num_columns) + LANES - 1) * LANES)

static size_t FN(hard_scratch_size)(const struct request *q) {
    const int64_t num_strips = (q->num_rows + LANES - 1) / LANES;
    const size_t rows = (size_t)(2 * LANES * PITCH(q->num_columns) + BORDER_SIZE(q->num_columns));
    const size_t directions = (size_t)(q->wants ? num_strips * DIRECTION_STRIP(q->num_columns) : 0);
    return rows * sizeof(REAL) + directions;
}

INLINE void FN(hard_forward)(ITEM *item, int64_t strip, int8_t *keep, const enum recurrence kind,
                             const enum wants wants, const int has_band) {
    const int64_t first_row = strip * LANES;
    FN(read_strip)(item, first_row);
    const BAND band =
        FN(band_of_strip)(first_row, item->num_rows, item->num_columns, has_band ? item->bandwidth : -1);
    const REAL border_value = kind == SOFT_DTW ? (REAL)INFINITY : 0;
    const int64_t t_begin = band.first_step;
    REAL *border = item->border;

    VREAL x[NUM_VECTORS], up[NUM_VECTORS], diagonal[NUM_VECTORS];
    FOR_VECTORS x[v] = up[v] = FN(splat)(border_value);
    FN(from_above)(up, t_begin > 0 ? border[t_begin - 1] : strip == 0 ? 0 : border_value);

    for (int64_t t0 = t_begin; t0 < band.num_steps; t0 += WIDTH) {
        VREAL cells[WIDTH][NUM_VECTORS], gaps[WIDTH][NUM_VECTORS];
        FN(rows_to_steps)(&item->rows[0], t0, cells);
        if (kind == FSD) FN(rows_to_steps)(&item->rows[1], t0, gaps);
        const int64_t t_end = t0 + WIDTH < band.num_steps ? t0 + WIDTH : band.num_steps;
        for (int64_t t = t0; t < t_end; t++) {
            FOR_VECTORS {
                diagonal[v] = up[v];
                up[v] = x[v];
            }
            FN(from_above)(up, border[t]);
            FOR_VECTORS {
                const VREAL cell = cells[t - t0][v];
                const VINT one = FN(splat_int)(UP), two = FN(splat_int)(LEFT), zero = {0};
                VREAL best;
                VINT direction;
                if (kind == LCS) {
                    const MASK is_match = FN(greater)(cell, FN(splat)(item->threshold));
                    const MASK is_left = FN(greater)(x[v], up[v]);
                    best = FN(select)(is_match, diagonal[v] + cell, FN(max)(x[v], up[v]));
                    direction = FN(select_int)(is_match, zero, FN(select_int)(is_left, two, one));
                } else if (kind == FSD) {
                    const VREAL gap = gaps[t - t0][v];
                    const VREAL from_up = gap + up[v], from_left = gap + x[v];
                    const VREAL not_left = FN(max)(from_up, diagonal[v]);
                    const MASK is_up = FN(greater)(from_up, diagonal[v]);
                    const MASK is_left = FN(greater)(from_left, not_left);
                    best = cell + FN(max)(from_left, not_left);
                    direction = FN(select_int)(is_left, two, FN(select_int)(is_up, one, zero));
                } else {
                    const VREAL not_left = FN(min)(up[v], diagonal[v]);
                    const MASK is_up = FN(greater)(diagonal[v], up[v]);
                    const MASK is_left = FN(greater)(not_left, x[v]);
                    best = cell + FN(min)(x[v], not_left);
                    direction = FN(select_int)(is_left, two, FN(select_int)(is_up, one, zero));
                }
                if (has_band || t < LANES - 1)
                    best = FN(select)(FN(is_inside)(v, t, &band, has_band), best, FN(splat)(border_value));
                x[v] = best;
                if (wants) {
                    const VBYTE bytes = __builtin_convertvector(direction, VBYTE);
                    memcpy(keep + t * LANES + v * WIDTH, &bytes, WIDTH);
                }
            }
            FN(store)(border + t - (LANES - 1), x[0]);
        }
    }
    if (has_band) {
        int64_t beyond = band.num_steps - (LANES - 1);
        for (int64_t j = beyond < 0 ? 0 : beyond; j < item->num_columns; j++) border[j] = border_value;
    }
    FOR_VECTORS item->end[v] = x[v];
}

#define HARD_FORWARD FN(hard_forward_function)
typedef void HARD_FORWARD(ITEM *item, int64_t strip, int8_t *keep);
#define DEFINE_HARD(name, kind, wants, has_band)                         \
    static void FN(name)(ITEM *item, int64_t strip, int8_t *keep) {      \
        FN(hard_forward)(item, strip, keep, kind, wants, has_band);      \
    }
DEFINE_HARD(hard_dtw_value, SOFT_DTW, VALUE, 0)
DEFINE_HARD(hard_dtw_path, SOFT_DTW, TABLE_GRADIENTS, 0)
DEFINE_HARD(hard_fsd_value, FSD, VALUE, 0)
DEFINE_HARD(hard_fsd_path, FSD, TABLE_GRADIENTS, 0)
DEFINE_HARD(hard_lcs_value, LCS, VALUE, 0)
DEFINE_HARD(hard_lcs_path, LCS, TABLE_GRADIENTS, 0)
DEFINE_HARD(hard_banded_value, SOFT_DTW, VALUE, 1)
DEFINE_HARD(hard_banded_path, SOFT_DTW, TABLE_GRADIENTS, 1)

/* Set the gradient to 1 on the path. */
static void FN(walk_back)(const struct request *q, int64_t index, const ITEM *item, const int8_t *keep) {
    const int64_t offset = index * q->num_rows * q->num_columns;
    REAL *const to = (REAL *)q->gradient[0] + offset;
    REAL *const to_gap = item->kind == FSD ? (REAL *)q->gradient[1] + offset : NULL;
    int64_t i = item->num_rows - 1, j = item->num_columns - 1;
    while (i >= 0 && j >= 0) {
        const int64_t row = i % LANES;
        const int8_t direction =
            keep[i / LANES * DIRECTION_STRIP(item->num_columns) + (j + row) * LANES + LANES - 1 - row];
        if (item->kind != LCS || direction == DIAGONAL) to[i * q->num_columns + j] = 1;
        if (to_gap && direction != DIAGONAL) to_gap[i * q->num_columns + j] = 1;
        i -= direction != LEFT;
        j -= direction != UP;
    }
}

static unsigned FN(solve_hard)(const struct request *q, int64_t index, char *scratch) {
    static HARD_FORWARD *const forwards[][2] = {{FN(hard_dtw_value), FN(hard_dtw_path)},
                                                {FN(hard_dtw_value), FN(hard_dtw_path)},
                                                {FN(hard_fsd_value), FN(hard_fsd_path)},
                                                {FN(hard_lcs_value), FN(hard_lcs_path)},
                                                {FN(hard_banded_value), FN(hard_banded_path)}};
    const enum recurrence kind = (enum recurrence)q->recurrence;
    const int is_minimum = kind == SOFT_DTW || kind == SMOOTH_DTW;
    const int has_band = kind == SOFT_DTW && q->bandwidth >= 0;
    HARD_FORWARD *const forward = forwards[has_band ? LCS + 1 : kind][q->wants > 0];
    REAL *room = (REAL *)scratch;
    ITEM item = FN(begin_item)(q, index, &room);
    for (int64_t j = -FRONT; j < item.num_columns + BACK; j++)
        item.border[j] = is_minimum ? (REAL)INFINITY : 0;
    int8_t *const keep = (int8_t *)room;

    const int64_t num_strips = (item.num_rows + LANES - 1) / LANES;
    for (int64_t strip = 0; strip < num_strips; strip++)
        forward(&item, strip, keep + strip * DIRECTION_STRIP(item.num_columns));
    REAL x[LANES];
    memcpy(x, item.end, sizeof x);
    const REAL value = x[LANES - 1 - (item.num_rows - 1) % LANES];
    ((REAL *)q->value)[index] = value;
    if (q->wants) {
        FN(zero_gradients)(q, index, 0);
        if (!is_minimum || value < (REAL)INFINITY) FN(walk_back)(q, index, &item, keep);
        if (q->wants == GAMMA_GRADIENT) ((REAL *)q->gamma_gradient)[index] = 0;
    }
    for (int64_t k = 0; k < item.num_tables; k++)
        if (item.rows[k].largest >= (UINT)(2 * BIAS + 1) << MANTISSA_BITS) return NOT_FINITE;
    return 0;
}
