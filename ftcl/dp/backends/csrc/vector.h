/* Vectors of WIDTH floats of BITS bits, and the few operations on them that the kernels need.

   Included once for every pair of LEVEL (instruction set) and BITS (32 or 64). C has no generic maximum or
   selection of vectors; on x86 they are intrinsics, elsewhere compilers recognise the bit patterns. */

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define FN(name) PASTE(PASTE(name, BITS), LEVEL_NAME)

#if BITS == 32
#define REAL float
#define INT int32_t
#define UINT uint32_t
#define MANTISSA_BITS 23
#define BIAS 127
#define EXP2_TERMS 7
#define LOG2_TERMS 5
#define ROUND_SHIFT 0x1.8p23f   /* x + ROUND_SHIFT has no fractional bits left */
#define HIGH_HALF (-0x1000)     /* keeps the upper 12 bits of a mantissa */
#else
#define REAL double
#define INT int64_t
#define UINT uint64_t
#define MANTISSA_BITS 52
#define BIAS 1023
#define EXP2_TERMS 13
#define LOG2_TERMS 11
#define ROUND_SHIFT 0x1.8p52
#define HIGH_HALF (-0x8000000LL)
#endif

#define VREAL FN(vreal)
#define VINT FN(vint)
#define VREAL_ANYWHERE FN(vreal_anywhere)
#define BIT_PATTERN FN(bit_pattern)
typedef REAL VREAL __attribute__((vector_size(WIDTH * BITS / 8)));
typedef INT VINT __attribute__((vector_size(WIDTH * BITS / 8)));
typedef REAL VREAL_ANYWHERE __attribute__((vector_size(WIDTH * BITS / 8), aligned(BITS / 8), may_alias));
typedef INT BIT_PATTERN __attribute__((may_alias));
#define VBYTE FN(vbyte)
typedef int8_t VBYTE __attribute__((vector_size(WIDTH)));

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE /* GCC before 12 */
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (VINT){__VA_ARGS__})
#endif

#if WIDTH == 16
#define NEXT_LANE 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#define PREVIOUS_LANE 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#define ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define IOTA 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif WIDTH == 8
#define NEXT_LANE 1, 2, 3, 4, 5, 6, 7, 8
#define PREVIOUS_LANE 7, 8, 9, 10, 11, 12, 13, 14
#define ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define IOTA 0, 1, 2, 3, 4, 5, 6, 7
#elif WIDTH == 4
#define NEXT_LANE 1, 2, 3, 4
#define PREVIOUS_LANE 3, 4, 5, 6
#define ZIP_LOW 0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#define IOTA 0, 1, 2, 3
#else
#define NEXT_LANE 1, 2
#define PREVIOUS_LANE 1, 2
#define ZIP_LOW 0, 2
#define ZIP_HIGH 1, 3
#define IOTA 0, 1
#endif

#define INLINE static inline __attribute__((always_inline))

/* fma() where the machine has it: -ffp-contract lets compilers fuse this expression. */
#define FMA(a, b, c) ((a) * (b) + (c))

INLINE VREAL FN(splat)(REAL x) { return x - (VREAL){0}; }
INLINE VINT FN(splat_int)(INT x) { return x - (VINT){0}; }
INLINE VREAL FN(load)(const REAL *p) { return *(const VREAL_ANYWHERE *)p; }
INLINE void FN(store)(REAL *p, VREAL x) { *(VREAL_ANYWHERE *)p = x; }

#if LEVEL == 2 && BITS == 32
#define MASK __mmask16
INLINE MASK FN(greater)(VREAL a, VREAL b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
INLINE MASK FN(greater_int)(VINT a, VINT b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
INLINE VREAL FN(select)(MASK m, VREAL a, VREAL b) {
    return (VREAL)_mm512_mask_mov_ps((__m512)b, m, (__m512)a);
}
INLINE VINT FN(select_int)(MASK m, VINT a, VINT b) {
    return (VINT)_mm512_mask_mov_epi32((__m512i)b, m, (__m512i)a);
}
INLINE VREAL FN(max)(VREAL a, VREAL b) { return (VREAL)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE VREAL FN(min)(VREAL a, VREAL b) { return (VREAL)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE VINT FN(max_int)(VINT a, VINT b) { return (VINT)_mm512_max_epi32((__m512i)a, (__m512i)b); }
INLINE VINT FN(min_int)(VINT a, VINT b) { return (VINT)_mm512_min_epi32((__m512i)a, (__m512i)b); }
#elif LEVEL == 2
#define MASK __mmask8
INLINE MASK FN(greater)(VREAL a, VREAL b) { return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_GT_OQ); }
INLINE MASK FN(greater_int)(VINT a, VINT b) { return _mm512_cmpgt_epi64_mask((__m512i)a, (__m512i)b); }
INLINE VREAL FN(select)(MASK m, VREAL a, VREAL b) {
    return (VREAL)_mm512_mask_mov_pd((__m512d)b, m, (__m512d)a);
}
INLINE VINT FN(select_int)(MASK m, VINT a, VINT b) {
    return (VINT)_mm512_mask_mov_epi64((__m512i)b, m, (__m512i)a);
}
INLINE VREAL FN(max)(VREAL a, VREAL b) { return (VREAL)_mm512_max_pd((__m512d)a, (__m512d)b); }
INLINE VREAL FN(min)(VREAL a, VREAL b) { return (VREAL)_mm512_min_pd((__m512d)a, (__m512d)b); }
#else
#define MASK VINT
INLINE MASK FN(greater)(VREAL a, VREAL b) { return (MASK)(a > b); }
INLINE MASK FN(greater_int)(VINT a, VINT b) { return a > b; }
INLINE VINT FN(select_int)(MASK m, VINT a, VINT b) { return (a & m) | (b & ~m); }
INLINE VREAL FN(select)(MASK m, VREAL a, VREAL b) { return (VREAL)FN(select_int)(m, (VINT)a, (VINT)b); }
#if LEVEL == 1 && BITS == 32
INLINE VREAL FN(max)(VREAL a, VREAL b) { return (VREAL)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE VREAL FN(min)(VREAL a, VREAL b) { return (VREAL)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE VINT FN(max_int)(VINT a, VINT b) { return (VINT)_mm256_max_epi32((__m256i)a, (__m256i)b); }
INLINE VINT FN(min_int)(VINT a, VINT b) { return (VINT)_mm256_min_epi32((__m256i)a, (__m256i)b); }
#elif LEVEL == 1
INLINE VREAL FN(max)(VREAL a, VREAL b) { return (VREAL)_mm256_max_pd((__m256d)a, (__m256d)b); }
INLINE VREAL FN(min)(VREAL a, VREAL b) { return (VREAL)_mm256_min_pd((__m256d)a, (__m256d)b); }
#else
INLINE VREAL FN(max)(VREAL a, VREAL b) { return FN(select)(FN(greater)(a, b), a, b); }
INLINE VREAL FN(min)(VREAL a, VREAL b) { return FN(select)(FN(greater)(b, a), a, b); }
#if BITS == 32
INLINE VINT FN(max_int)(VINT a, VINT b) { return FN(select_int)(a > b, a, b); }
INLINE VINT FN(min_int)(VINT a, VINT b) { return FN(select_int)(b > a, a, b); }
#endif
#endif
#endif

/* Exponents: integers beside float32 mantissas; beside float64 ones whole numbers in float64, whose range has
   no end worth guarding and whose maximum every instruction set has. */
#define EXPONENT FN(exponent)
#define VEXPONENT FN(vexponent)
#if BITS == 32
typedef int32_t EXPONENT;
typedef VINT VEXPONENT;
#define MAX_EXPONENT FN(max_int)
#define MIN_EXPONENT FN(min_int)
#define SELECT_EXPONENT FN(select_int)
#define SPLAT_EXPONENT FN(splat_int)
#define TO_REAL(e) __builtin_convertvector(e, VREAL)
#define NEVER (1 << 30) /* exponent of a border: no sum along a path comes near */
INLINE void FN(store_exponent)(EXPONENT *p, VEXPONENT e) { FN(store)((REAL *)p, (VREAL)e); }
/* 2^(e - top) for e <= top, and exactly 0 where that is no normal number. */
INLINE VREAL FN(power_of_two)(VEXPONENT e, VEXPONENT top) {
    return (VREAL)(FN(max_int)(e - (top - BIAS), (VINT){0}) << MANTISSA_BITS);
}
INLINE VEXPONENT FN(exponent_of)(VREAL x) { return ((VINT)x >> MANTISSA_BITS) - BIAS; }
#else
typedef double EXPONENT;
typedef VREAL VEXPONENT;
#define MAX_EXPONENT FN(max)
#define MIN_EXPONENT FN(min)
#define SELECT_EXPONENT FN(select)
#define SPLAT_EXPONENT FN(splat)
#define TO_REAL(e) (e)
#define NEVER 1e300 /* likewise */
INLINE void FN(store_exponent)(EXPONENT *p, VEXPONENT e) { FN(store)(p, e); }
INLINE VREAL FN(power_of_two)(VEXPONENT e, VEXPONENT top) {
    return (VREAL)((VINT)(FN(max)(e - top, FN(splat)(-BIAS)) + (ROUND_SHIFT + BIAS)) << MANTISSA_BITS);
}
INLINE VEXPONENT FN(exponent_of)(VREAL x) {
    const VINT two_to_52 = (VINT)FN(splat)(0x1p52);
    return (VREAL)(((VINT)x >> MANTISSA_BITS) | two_to_52) - (0x1p52 + BIAS);
}
#endif

/* x = whole + fraction with |fraction| <= 1/2, for |x| < 2^(MANTISSA_BITS - 1). */
INLINE VEXPONENT FN(round)(VREAL shifted) {
#if BITS == 32
    return (VINT)shifted - (VINT)FN(splat)(ROUND_SHIFT);
#else
    return shifted - ROUND_SHIFT;
#endif
}

/* 2^x for |x| <= 1/2. */
INLINE VREAL FN(exp2_fraction)(VREAL x) {
    static const REAL coefficient[] = {
        1.0,
        0.6931471805599453,
        0.2402265069591007,
        0.05550410866482158,
        0.009618129107628477,
        0.0013333558146428443,
        0.00015403530393381608,
        1.525273380405984e-05,
        1.3215486790144307e-06,
        1.0178086009239699e-07,
        7.0549116208011225e-09,
        4.4455382718708104e-10,
        2.5678435993488196e-11,
        1.3691488853904124e-12,
    }; /* log(2)^k / k! */
    VREAL y = FN(splat)(coefficient[EXP2_TERMS]);
#pragma GCC unroll 16
    for (int k = EXP2_TERMS - 1; k >= 0; k--) y = FMA(y, x, coefficient[k]);
    return y;
}

/* -p log2(p), and 0 for p = 0. */
INLINE VREAL FN(entropy)(VREAL p) {
    const VINT sqrt_half = (VINT)FN(splat)((REAL)0.70710678118654752);
    const VINT bits = (VINT)FN(max)(p, FN(splat)(BITS == 32 ? (REAL)0x1p-126 : (REAL)0x1p-1022));
    const VINT exponent = (bits - sqrt_half) >> MANTISSA_BITS;
    const VREAL mantissa = (VREAL)(bits - (exponent << MANTISSA_BITS));
    const VREAL s = (mantissa - 1) / (mantissa + 1);
    const VREAL square = s * s;
    VREAL series = FN(splat)((REAL)(1.0 / (2 * LOG2_TERMS + 1)));
#pragma GCC unroll 16
    for (int k = LOG2_TERMS - 1; k >= 0; k--) series = FMA(series, square, (REAL)(1.0 / (2 * k + 1)));
    const REAL two_over_log2 = (REAL)2.8853900817779268;
    return -p * FMA(series * s, two_over_log2, __builtin_convertvector(exponent, VREAL));
}

/* One division of a table by gamma log(2), held in parts: without the low ones a small gamma would cost as
   many digits as the quotient has before its point. */
#define SCALE FN(scale)
typedef struct {
    VREAL high, low, lowest;
} SCALE;

INLINE SCALE FN(make_scale)(double scale) {
#if HAS_FMA
    const REAL high = (REAL)scale;
    const REAL low = (REAL)(scale - high);
    return (SCALE){FN(splat)(high), FN(splat)(low), {0}};
#else
    const VREAL rounded = FN(splat)((REAL)scale);
    const VREAL high = (VREAL)((VINT)rounded & HIGH_HALF);
    const VREAL low = rounded - high;
    return (SCALE){high, low, FN(splat)((REAL)(scale - (REAL)scale))};
#endif
}

/* x * scale = whole + fraction, |fraction| <= 1/2. */
INLINE VEXPONENT FN(scale_and_split)(VREAL x, SCALE scale, VREAL *fraction) {
#if HAS_FMA
    const VEXPONENT whole = FN(round)(FMA(x, scale.high, ROUND_SHIFT));
    *fraction = FMA(x, scale.low, FMA(x, scale.high, -TO_REAL(whole)));
#else
    const VREAL x_high = (VREAL)((VINT)x & HIGH_HALF), x_low = x - x_high;
    const VREAL rest = (x_high * scale.low + x_low * scale.high) + (x_low * scale.low + x * scale.lowest);
    const VEXPONENT whole = FN(round)((x_high * scale.high + rest) + ROUND_SHIFT);
    *fraction = (x_high * scale.high - TO_REAL(whole)) + rest;
#endif
#if BITS == 64
    /* Beyond 2^51 the shift no longer rounds to a whole number; what is left is below the precision. */
    *fraction = FN(max)(FN(min)(*fraction, FN(splat)(0.5)), FN(splat)(-0.5));
#endif
    return whole;
}

/* Rows v[0..WIDTH) become columns. */
INLINE void FN(transpose)(VREAL v[WIDTH]) {
#pragma GCC unroll 4
    for (int stage = 1; stage < WIDTH; stage *= 2) {
        VREAL zipped[WIDTH];
#pragma GCC unroll 8
        for (int i = 0; i < WIDTH / 2; i++) {
            zipped[2 * i] = SHUFFLE(v[i], v[i + WIDTH / 2], ZIP_LOW);
            zipped[2 * i + 1] = SHUFFLE(v[i], v[i + WIDTH / 2], ZIP_HIGH);
        }
#pragma GCC unroll 16
        for (int i = 0; i < WIDTH; i++) v[i] = zipped[i];
    }
}
