/* A table is worked off in strips of LANES rows. Within a strip, step t takes the anti-diagonal of cells
   (row, column = t - row): a lane per row, so that all lanes of a step are independent. Lane LANES - 1 is the
   first row of the strip and lane 0 the last: a store of the vector that starts at lane 0 then puts the last
   row's value in its place of the border row, and what it spills behind is overwritten by later steps.

   Included once for every pair of LEVEL and BITS, after vector.h. */

#define NUM_VECTORS (LANES / WIDTH)
#define FOR_VECTORS _Pragma("GCC unroll 16") for (int v = 0; v < NUM_VECTORS; v++)

/* Room in front of and behind each row for the lanes that have not begun or are past the end. */
#define FRONT (2 * LANES)
#define BACK (3 * LANES)

#define ROWS FN(rows)
typedef struct {
    REAL *cells; /* LANES rows of `pitch`, of which the first FRONT are padding */
    int64_t pitch;
    UINT largest; /* bit pattern of the largest magnitude seen */
} ROWS;

/* Copy rows, the first `num_rows` of a strip, between zeros; take note of the largest magnitude. */
static void FN(read_rows)(ROWS *rows, const REAL *source, int64_t stride, int64_t num_rows,
                          int64_t num_columns) {
    UINT largest = rows->largest;
    for (int64_t row = 0; row < LANES; row++) {
        REAL *restrict to = rows->cells + row * rows->pitch;
        if (row >= num_rows) {
            memset(to, 0, (size_t)rows->pitch * sizeof(REAL));
            continue;
        }
        const BIT_PATTERN *restrict from = (const BIT_PATTERN *)(source + row * stride);
        BIT_PATTERN *restrict bits = (BIT_PATTERN *)to;
        memset(to, 0, FRONT * sizeof(REAL));
        for (int64_t j = 0; j < num_columns; j++) {
            const UINT magnitude = (UINT)from[j] & ((UINT)-1 >> 1);
            largest = magnitude > largest ? magnitude : largest;
            bits[FRONT + j] = from[j];
        }
        memset(to + FRONT + num_columns, 0, BACK * sizeof(REAL));
    }
    rows->largest = largest;
}

/* Copy rows to the gradient, with zeros in its remaining columns. */
static void FN(write_rows)(const ROWS *rows, REAL *target, int64_t num_rows, int64_t num_columns,
                           int64_t width) {
    for (int64_t row = 0; row < num_rows; row++) {
        REAL *to = target + row * width;
        memcpy(to, rows->cells + row * rows->pitch + FRONT, (size_t)num_columns * sizeof(REAL));
        memset(to + num_columns, 0, (size_t)(width - num_columns) * sizeof(REAL));
    }
}

/* Cells of steps [t, t + WIDTH): one vector per step and group of lanes. */
INLINE void FN(rows_to_steps)(const ROWS *rows, int64_t t, VREAL steps[WIDTH][NUM_VECTORS]) {
    FOR_VECTORS {
        VREAL block[WIDTH];
#pragma GCC unroll 16
        for (int w = 0; w < WIDTH; w++) {
            const int64_t row = LANES - 1 - (v * WIDTH + w);
            block[w] = FN(load)(rows->cells + row * rows->pitch + FRONT + t - row);
        }
        FN(transpose)(block);
#pragma GCC unroll 16
        for (int w = 0; w < WIDTH; w++) steps[w][v] = block[w];
    }
}

INLINE void FN(steps_to_rows)(ROWS *rows, int64_t t, VREAL steps[WIDTH][NUM_VECTORS]) {
    FOR_VECTORS {
        VREAL block[WIDTH];
#pragma GCC unroll 16
        for (int w = 0; w < WIDTH; w++) block[w] = steps[w][v];
        FN(transpose)(block);
#pragma GCC unroll 16
        for (int w = 0; w < WIDTH; w++) {
            const int64_t row = LANES - 1 - (v * WIDTH + w);
            FN(store)(rows->cells + row * rows->pitch + FRONT + t - row, block[w]);
        }
    }
}

/* Each lane takes the value of the row above it; the first row takes `border`. */
INLINE void FN(from_above)(VREAL x[NUM_VECTORS], REAL border) {
    FOR_VECTORS x[v] = SHUFFLE(x[v], v + 1 < NUM_VECTORS ? x[v + 1] : FN(splat)(border), NEXT_LANE);
}

/* Each lane takes the value of the row below it; the last row takes `border`. */
INLINE void FN(from_below)(VREAL x[NUM_VECTORS], REAL border) {
#pragma GCC unroll 16
    for (int v = NUM_VECTORS - 1; v >= 0; v--)
        x[v] = SHUFFLE(v > 0 ? x[v - 1] : FN(splat)(border), x[v], PREVIOUS_LANE);
}

#if BITS == 32
INLINE void FN(from_above_exponent)(VEXPONENT x[NUM_VECTORS], EXPONENT border) {
    FOR_VECTORS x[v] = SHUFFLE(x[v], v + 1 < NUM_VECTORS ? x[v + 1] : FN(splat_int)(border), NEXT_LANE);
}
#else
#define from_above_exponent from_above
#endif

/* The row of each lane within its strip. */
INLINE VINT FN(row_of_lane)(int v) { return (LANES - 1 - v * WIDTH) - (VINT){IOTA}; }

/* The band of an item, and the steps of a strip that touch it. */
#define BAND FN(band)
typedef struct {
    int64_t first_step, num_steps; /* one past the last step */
    VINT first[NUM_VECTORS], last[NUM_VECTORS]; /* columns of each lane */
} BAND;

/* Columns of a row that are inside: |row (M - 1) - column rise| <= bandwidth rise, rise = max(N - 1, 1). */
INLINE void FN(band_of_row)(int64_t row, int64_t num_rows, int64_t num_columns, int64_t bandwidth,
                            int64_t *first, int64_t *last) {
    const int64_t rise = num_rows > 1 ? num_rows - 1 : 1;
    const int64_t run = row * (num_columns - 1);
    if (bandwidth < 0 || bandwidth >= num_columns) bandwidth = num_columns;
    const int64_t lowest = run - bandwidth * rise;
    *first = lowest > 0 ? (lowest + rise - 1) / rise : 0;
    *last = (run + bandwidth * rise) / rise;
    if (*last > num_columns - 1) *last = num_columns - 1;
}

INLINE BAND FN(band_of_strip)(int64_t first_row, int64_t num_rows, int64_t num_columns,
                              int64_t bandwidth) {
    const int64_t rows_here = num_rows - first_row < LANES ? num_rows - first_row : LANES;
    const int is_last = first_row + rows_here == num_rows;
    BAND band = {.first_step = 0, .num_steps = num_columns + rows_here - 1};
    if (bandwidth < 0) return band;
    INT first[LANES], last[LANES];
    for (int64_t lane = 0; lane < LANES; lane++) {
        const int64_t row = first_row + LANES - 1 - lane;
        int64_t from = 0, to = -1;
        if (row < num_rows) FN(band_of_row)(row, num_rows, num_columns, bandwidth, &from, &to);
        first[lane] = (INT)from;
        last[lane] = (INT)to;
    }
    memcpy(band.first, first, sizeof first);
    memcpy(band.last, last, sizeof last);
    band.first_step = first[LANES - 1] / WIDTH * WIDTH;
    if (!is_last) band.num_steps = (int64_t)last[0] + LANES;
    if (band.num_steps < band.first_step) band.num_steps = band.first_step;
    return band;
}
