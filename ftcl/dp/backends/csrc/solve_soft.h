/* One item of a smooth problem: strips down the table and back up.

   Weights take three to four numbers a cell. So that they stay in the cache, only those of a group of strips
   are there at a time: the way down keeps the border row above each group, and the way back up fills each
   group once more, except for the last one, which is still there.

   Included once for every pair of LEVEL and BITS, after soft.h. */

#define FORWARD FN(forward_function)
#define BACKWARD FN(backward_function)
typedef void FORWARD(ITEM *item, int64_t strip, REAL *keep);
typedef void BACKWARD(ITEM *item, int64_t strip, const REAL *keep);

#define DEFINE_FORWARD(name, kind, wants, has_band)                      \
    static void FN(name)(ITEM *item, int64_t strip, REAL *keep) {        \
        FN(forward)(item, strip, keep, kind, wants, has_band);           \
    }
#define DEFINE_BACKWARD(name, kind, wants)                               \
    static void FN(name)(ITEM *item, int64_t strip, const REAL *keep) {  \
        FN(backward)(item, strip, keep, kind, wants);                    \
    }
#define DEFINE_FORWARDS(name, kind, has_band)                            \
    DEFINE_FORWARD(PASTE(name, value), kind, VALUE, has_band)            \
    DEFINE_FORWARD(PASTE(name, tables), kind, TABLE_GRADIENTS, has_band) \
    DEFINE_FORWARD(PASTE(name, gamma), kind, GAMMA_GRADIENT, has_band)
#define DEFINE_BACKWARDS(name, kind)                                     \
    DEFINE_BACKWARD(PASTE(name, tables), kind, TABLE_GRADIENTS)          \
    DEFINE_BACKWARD(PASTE(name, gamma), kind, GAMMA_GRADIENT)
#define FORWARDS(name) {FN(PASTE(name, value)), FN(PASTE(name, tables)), FN(PASTE(name, gamma))}
#define BACKWARDS(name) {NULL, FN(PASTE(name, tables)), FN(PASTE(name, gamma))}

DEFINE_FORWARDS(soft_dtw, SOFT_DTW, 0)
DEFINE_FORWARDS(smooth_dtw, SMOOTH_DTW, 0)
DEFINE_FORWARDS(fsd, FSD, 0)
DEFINE_FORWARDS(lcs, LCS, 0)
DEFINE_FORWARDS(banded, SOFT_DTW, 1)
DEFINE_BACKWARDS(back_dtw, SOFT_DTW) /* smooth_dtw's differs in nothing but the weights */
DEFINE_BACKWARDS(back_fsd, FSD)
DEFINE_BACKWARDS(back_lcs, LCS)

static int64_t FN(strip_size)(const struct request *q) {
    return (q->num_columns + LANES - 1) * NUM_PLANES(q->wants) * LANES;
}

static int64_t FN(strips_per_group)(const struct request *q) {
    const int64_t strips = CACHE_SIZE / (FN(strip_size)(q) * (int64_t)sizeof(REAL));
    const int64_t most = (q->num_rows + LANES - 1) / LANES;
    return strips < 1 ? 1 : strips < most ? strips : most;
}

static size_t FN(soft_scratch_size)(const struct request *q) {
    const int64_t border = BORDER_SIZE(q->num_columns);
    const int64_t num_strips = (q->num_rows + LANES - 1) / LANES;
    const int64_t per_group = FN(strips_per_group)(q), groups = (num_strips + per_group - 1) / per_group;
    int64_t size = 2 * LANES * PITCH(q->num_columns) + 3 * border;
    if (q->wants) size += per_group * FN(strip_size)(q) + 2 * groups * border;
    return (size_t)size * sizeof(REAL);
}

static void FN(zero_gradients)(const struct request *q, int64_t index, int64_t first_row) {
    const int64_t cells = q->num_rows * q->num_columns, done = first_row * q->num_columns;
    for (int k = 0; k < (q->recurrence == FSD ? 2 : 1); k++)
        memset((REAL *)q->gradient[k] + index * cells + done, 0, (size_t)(cells - done) * sizeof(REAL));
}

/* NOT_FINITE or OUT_OF_RANGE if a cell is not what the kernels can compute with. */
static unsigned FN(check_range)(const ITEM *item, double scale) {
    double largest = 0;
    for (int64_t k = 0; k < item->num_tables; k++) {
        REAL magnitude;
        memcpy(&magnitude, &item->rows[k].largest, sizeof magnitude);
        if (item->rows[k].largest >= (UINT)(2 * BIAS + 1) << MANTISSA_BITS) return NOT_FINITE;
        largest += (double)magnitude * scale;
    }
#if BITS == 32
    if (largest >= 0x1p22 || largest * (double)(item->num_rows + item->num_columns) >= 0x1p28)
        return OUT_OF_RANGE;
#endif
    return 0;
}

/* What fills the strips of an item and takes its gradient back up, and the memory for that. */
#define SWEEP FN(sweep)
typedef struct {
    FORWARD *const *forward; /* by wants */
    BACKWARD *backward;
    int64_t num_strips, per_group, strip_size;
    REAL *keep;        /* weights of one group of strips */
    REAL *checkpoints; /* the border above each group */
    REAL *border;      /* the current one, its exponents behind it */
    int64_t border_size; /* of both */
} SWEEP;

static void FN(fill_group)(ITEM *item, const SWEEP *sweep, int64_t group, enum wants wants) {
    const int64_t begin = group * sweep->per_group;
    for (int64_t k = 0; k < sweep->per_group && begin + k < sweep->num_strips; k++)
        sweep->forward[wants](item, begin + k, sweep->keep + k * sweep->strip_size);
}

static void FN(copy)(REAL *to, const REAL *from, int64_t size) {
    memcpy(to, from, (size_t)size * sizeof(REAL));
}

static void FN(sweep_down)(ITEM *item, const SWEEP *sweep, int64_t last_group, enum wants wants) {
    for (int64_t group = 0; group <= last_group; group++) {
        REAL *const checkpoint = sweep->checkpoints + group * sweep->border_size;
        if (wants) FN(copy)(checkpoint, sweep->border, sweep->border_size);
        FN(fill_group)(item, sweep, group, group < last_group ? VALUE : wants);
    }
}

static void FN(sweep_up)(ITEM *item, const SWEEP *sweep, int64_t last_group, const struct request *q,
                         int64_t index) {
    for (int64_t group = last_group; group >= 0; group--) {
        if (group < last_group) {
            FN(copy)(sweep->border, sweep->checkpoints + group * sweep->border_size, sweep->border_size);
            FN(fill_group)(item, sweep, group, (enum wants)q->wants);
        }
        for (int64_t k = sweep->per_group - 1; k >= 0; k--) {
            const int64_t strip = group * sweep->per_group + k, first_row = strip * LANES;
            if (strip >= sweep->num_strips) continue;
            sweep->backward(item, strip, sweep->keep + k * sweep->strip_size);
            const int64_t offset = (index * q->num_rows + first_row) * q->num_columns;
            for (int64_t table = 0; table < item->num_tables; table++)
                FN(write_rows)(&item->rows[table], (REAL *)q->gradient[table] + offset,
                               FN(rows_of_strip)(item, first_row), item->num_columns, q->num_columns);
        }
    }
    FN(zero_gradients)(q, index, item->num_rows);
}

/* The logarithm to base 2 that the last cell stands for. */
static double FN(end_value)(const ITEM *item) {
    REAL x[LANES];
    EXPONENT e[LANES];
    memcpy(x, item->end, sizeof x);
    memcpy(e, item->end_exponent, sizeof e);
    const int64_t lane = LANES - 1 - (item->num_rows - 1) % LANES;
    return (double)e[lane] + (item->kind == SMOOTH_DTW ? (double)x[lane] : log2((double)x[lane]));
}

static unsigned FN(solve_soft)(const struct request *q, int64_t index, char *scratch) {
    static FORWARD *const forwards[][3] = {FORWARDS(soft_dtw), FORWARDS(smooth_dtw), FORWARDS(fsd),
                                           FORWARDS(lcs), FORWARDS(banded)};
    static BACKWARD *const backwards[][3] = {BACKWARDS(back_dtw), BACKWARDS(back_dtw), BACKWARDS(back_fsd),
                                             BACKWARDS(back_lcs)};
    const double log_2 = 0.69314718055994530942;
    const double gamma = q->gamma_B ? q->gamma_B[index] : q->gamma;
    const double scale = 1 / (gamma * log_2);
    const enum wants wants = (enum wants)q->wants;

    REAL *room = (REAL *)scratch;
    ITEM item = FN(begin_item)(q, index, &room);
    const enum recurrence kind = item.kind;
    item.scale = FN(make_scale)(kind == SOFT_DTW ? -scale : scale);
    const int64_t border_size = BORDER_SIZE(q->num_columns);
    item.border_exponent = (EXPONENT *)room + FRONT;
    item.below = room + border_size + FRONT;
    room += 2 * border_size;
    for (int64_t j = -FRONT; j < item.num_columns + BACK; j++) {
        item.border[j] = FN(border_value)(kind);
        item.border_exponent[j] = FN(border_exponent_of)(kind);
        item.below[j] = 0;
    }

    const int has_band = kind == SOFT_DTW && q->bandwidth >= 0;
    SWEEP sweep = {.forward = forwards[has_band ? LCS + 1 : kind],
                   .backward = backwards[kind][wants],
                   .num_strips = (item.num_rows + LANES - 1) / LANES,
                   .per_group = FN(strips_per_group)(q),
                   .strip_size = FN(strip_size)(q),
                   .keep = room,
                   .border = item.border - FRONT,
                   .border_size = 2 * border_size};
    sweep.checkpoints = room + sweep.per_group * sweep.strip_size;
    const int64_t last_group = (sweep.num_strips - 1) / sweep.per_group;

    FN(sweep_down)(&item, &sweep, last_group, wants);
    const double end = FN(end_value)(&item);
    const int is_unreachable = kind == SOFT_DTW && end < -NEVER / 2;
    const double value = is_unreachable ? INFINITY : (kind == SOFT_DTW ? -end : end) * gamma * log_2;
    ((REAL *)q->value)[index] = (REAL)value;
    if (wants && is_unreachable) FN(zero_gradients)(q, index, 0);
    else if (wants) FN(sweep_up)(&item, &sweep, last_group, q, index);
    if (wants == GAMMA_GRADIENT) {
        const double unit = kind == SOFT_DTW ? -log_2 : kind == SMOOTH_DTW ? log_2 * log_2 : log_2;
        ((REAL *)q->gamma_gradient)[index] = (REAL)(item.gamma_sum * unit);
    }
    return FN(check_range)(&item, scale);
}
