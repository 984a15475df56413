/* Cosine similarities of the rows of a pair, and their gradient. CHUNK channels at a time, so that what is read
   again is still in the cache. Included once for every LEVEL, after vector.h. */

#define BLOCK (LEVEL == 2 ? 5 : 3) /* BLOCK · BLOCK sums, and what is added to them, fit in the registers */
#define NUM_BLOCKS(rows) (((rows) + BLOCK - 1) / BLOCK)
#define NUM_SUMS ((BLOCK * BLOCK + WIDTH - 1) / WIDTH * WIDTH)
#define FOR_BLOCK(i) _Pragma("GCC unroll 5") for (int i = 0; i < BLOCK; i++)
#define FOR_GROUP(i) _Pragma("GCC unroll 2") for (int i = 0; i < GROUP; i++)
#define STEP (4 * WIDTH)
#define FOR_STEP(v) _Pragma("GCC unroll 4") for (int v = 0; v < 4; v++)

/* Lane k of the result is the sum of the lanes of v[k], which is overwritten. */
INLINE VREAL FN(sum_lanes)(VREAL v[WIDTH]) {
#pragma GCC unroll 4
    for (int half = WIDTH / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < half; i++)
            v[i] = SHUFFLE(v[i], v[i + half], ZIP_LOW) + SHUFFLE(v[i], v[i + half], ZIP_HIGH);
    }
    return v[0];
}

/* sums[i][j] += x[i] · y[j] over n channels. */
static void FN(add_products)(const float *const *x, const float *const *y, int64_t n, float *sums) {
    VREAL sum[NUM_SUMS] = {0};
    for (int64_t c = 0; c < n; c += WIDTH) {
        VREAL row[BLOCK];
        FOR_BLOCK(i) row[i] = FN(load)(x[i] + c);
        FOR_BLOCK(j) {
            const VREAL other = FN(load)(y[j] + c);
            FOR_BLOCK(i) sum[BLOCK * i + j] = FMA(row[i], other, sum[BLOCK * i + j]);
        }
    }
#pragma GCC unroll 3
    for (int k = 0; k < NUM_SUMS; k += WIDTH) FN(store)(sums + k, FN(load)(sums + k) + FN(sum_lanes)(sum + k));
}

static float FN(square)(const float *x, int64_t n) {
    VREAL sum[WIDTH] = {0};
    for (int64_t c = 0; c < n; c += STEP) {
        FOR_STEP(v) {
            const VREAL y = FN(load)(x + c + v * WIDTH);
            sum[v] = FMA(y, y, sum[v]);
        }
    }
    const VREAL sums = FN(sum_lanes)(sum);
    return sums[0] + sums[1] + sums[2] + sums[3];
}

/* out[i] = own_weight[i] x[i] + Σ terms[k].weight[i] y[terms[k].row] over n channels, for a group of rows. */
static void FN(combine)(const float *own_weight, const float *const *x, const struct term *terms, int64_t num_terms,
                        const float *const *y, int64_t n, float *const *out) {
    for (int64_t c = 0; c < n; c += STEP) {
        VREAL sum[GROUP][4];
        FOR_GROUP(i) FOR_STEP(v) sum[i][v] = own_weight[i] * FN(load)(x[i] + c + v * WIDTH);
        for (int64_t k = 0; k < num_terms; k++) {
            const float *other = y[terms[k].row] + c;
            FOR_STEP(v) {
                const VREAL z = FN(load)(other + v * WIDTH);
                FOR_GROUP(i) sum[i][v] = FMA(terms[k].weight[i], z, sum[i][v]);
            }
        }
        FOR_GROUP(i) FOR_STEP(v) FN(store)(out[i] + c + v * WIDTH, sum[i][v]);
    }
}

/* The channels [from, from + n) of a pair's rows: in place where they are adjacent and fill vectors, else copied
   and padded with zeros. The last row is repeated to fill blocks and groups. Returns n with the padding. */
static int64_t FN(find_rows)(const struct contrast *q, const struct rows_scratch *s, int64_t pair, int64_t from,
                             int64_t n) {
    const int64_t num_rows = q->num_rows, padded = (n + STEP - 1) / STEP * STEP;
    const int in_place = q->channel_stride == 1 && padded == n;
    for (int member = 0; member < 2; member++) {
        const int64_t item = pair + member * q->num_pairs;
        const float *first = q->rows + item * q->item_stride + from * q->channel_stride;
        float *copy = s->copy + member * num_rows * PITCH;
        const float **row = s->row[member];
        int64_t *offset = s->offset;
        for (int64_t i = 0; i < num_rows; i++) {
            offset[i] = chosen_row(q, item, i) * q->row_stride;
            row[i] = in_place ? first + offset[i] : copy + i * PITCH;
        }
        for (int64_t i = num_rows; i < num_rows + MAX_BLOCK; i++) row[i] = row[num_rows - 1];
        if (in_place) continue;
        /* Rows innermost: where channels are far apart, the rows of a channel are close together. */
        for (int64_t c = 0; c < n; c++)
            for (int64_t i = 0; i < num_rows; i++) copy[i * PITCH + c] = first[offset[i] + c * q->channel_stride];
        for (int64_t i = 0; i < num_rows; i++)
            memset(copy + i * PITCH + n, 0, (size_t)(padded - n) * sizeof(float));
    }
    return padded;
}

static void FN(similarity)(const struct contrast *q, const struct rows_scratch *s, int64_t pair, int range) {
    const int64_t num_rows = q->num_rows, num_blocks = NUM_BLOCKS(num_rows);
    float *similarity = q->similarity + (range * q->num_pairs + pair) * num_rows * num_rows;
    float *norm[2] = {reciprocal_norm(q, range, 0, pair), reciprocal_norm(q, range, 1, pair)};
    for (int member = 0; member < 2; member++) memset(norm[member], 0, (size_t)num_rows * sizeof(float));
    memset(s->sums, 0, (size_t)(num_blocks * num_blocks * NUM_SUMS) * sizeof(float));
    for (int64_t from = range_begin(q, range); from < q->range_end[range]; from += CHUNK) {
        const int64_t n = FN(find_rows)(q, s, pair, from, chunk_size(q, range, from));
        for (int member = 0; member < 2; member++)
            for (int64_t i = 0; i < num_rows; i++) norm[member][i] += FN(square)(s->row[member][i], n);
        for (int64_t i = 0; i < num_blocks; i++)
            for (int64_t j = 0; j < num_blocks; j++)
                FN(add_products)(s->row[0] + i * BLOCK, s->row[1] + j * BLOCK, n,
                                 s->sums + (i * num_blocks + j) * NUM_SUMS);
    }
    /* A norm counts as zero where that of ftcl.dp.cosine_similarity does. */
    for (int member = 0; member < 2; member++)
        for (int64_t i = 0; i < num_rows; i++)
            norm[member][i] = norm[member][i] < 64 * FLT_MIN ? 0 : 1 / sqrtf(norm[member][i]);
    for (int64_t i = 0; i < num_rows; i++) {
        for (int64_t j = 0; j < num_rows; j++) {
            const float *sums = s->sums + (i / BLOCK * num_blocks + j / BLOCK) * NUM_SUMS;
            similarity[i * num_rows + j] = sums[i % BLOCK * BLOCK + j % BLOCK] * norm[0][i] * norm[1][j];
        }
    }
}

/* For a derivative G of the result to the similarities: dx_i = Σ_j G_ij / (|x_i| |y_j|) y_j
   - x_i / |x_i|² Σ_j G_ij s_ij, and likewise for y_j. Most of G is zero where LCS has no match. */
static void FN(gradient)(const struct contrast *q, const struct rows_scratch *s, int64_t pair, int range) {
    const int64_t num_rows = q->num_rows;
    if (q->chosen && range == 0) clear_gradient(q, pair);
    const int is_anything = weigh_rows(q, s, pair, range);
    if (q->chosen && !is_anything) return;
    for (int64_t from = range_begin(q, range); from < q->range_end[range]; from += CHUNK) {
        const int64_t n = chunk_size(q, range, from);
        const int64_t padded = FN(find_rows)(q, s, pair, from, n);
        const int in_place = !q->chosen && q->to_channel_stride == 1 && padded == n;
        for (int member = 0; member < 2; member++) {
            const int64_t item = pair + member * q->num_pairs;
            float *first = q->gradient + item * q->to_item_stride + from * q->to_channel_stride;
            for (int64_t begin = 0; begin < num_rows; begin += GROUP) {
                const int64_t num_terms = s->num_terms[member][begin / GROUP];
                if (q->chosen && !num_terms) continue;
                float *to[GROUP], *out[GROUP];
                for (int i = 0; i < GROUP; i++) {
                    to[i] = begin + i < num_rows ? first + chosen_row(q, item, begin + i) * q->to_row_stride : NULL;
                    out[i] = in_place && to[i] ? to[i] : s->out + i * CHUNK;
                }
                if (num_terms)
                    FN(combine)(s->own_weight[member] + begin, s->row[member] + begin,
                                s->terms[member] + begin / GROUP * num_rows, num_terms, s->row[1 - member], padded, out);
                for (int i = 0; i < GROUP && to[i]; i++) {
                    if (!num_terms)
                        memset(out[i], 0, (size_t)padded * sizeof(float));
                    if (q->chosen)
                        for (int64_t c = 0; c < n; c++) to[i][c * q->to_channel_stride] += out[i][c];
                    else if (!in_place)
                        for (int64_t c = 0; c < n; c++) to[i][c * q->to_channel_stride] = out[i][c];
                }
            }
        }
    }
}
