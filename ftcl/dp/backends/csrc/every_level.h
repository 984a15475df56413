/* Includes LEVEL_FILE for every instruction set that a machine of this architecture may have, with its LEVEL,
   LEVEL_NAME, VECTOR_BYTES and HAS_FMA. */

#if defined(__x86_64__)
#include <immintrin.h>
#define FOR_EVERY_LEVEL(name) {name##_baseline, name##_avx2, name##_avx512}
#else
#define FOR_EVERY_LEVEL(name) {name##_baseline}
#endif

#define LEVEL 0
#define LEVEL_NAME baseline
#define VECTOR_BYTES 16
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define HAS_FMA 1
#else
#define HAS_FMA 0
#endif
#include LEVEL_FILE
#undef LEVEL
#undef LEVEL_NAME
#undef VECTOR_BYTES
#undef HAS_FMA

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
#include LEVEL_FILE
#undef LEVEL
#undef LEVEL_NAME
#undef VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
#define LEVEL 2
#define LEVEL_NAME avx512
#define VECTOR_BYTES 64
#include LEVEL_FILE
#undef LEVEL
#undef LEVEL_NAME
#undef VECTOR_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#undef HAS_FMA
#endif
