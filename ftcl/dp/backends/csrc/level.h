/* All recurrences for one instruction set, in float32 and float64. */

#define BITS 32
#define WIDTH (VECTOR_BYTES / 4)
#include "kernels.h"
#undef BITS
#undef WIDTH

#define BITS 64
#define WIDTH (VECTOR_BYTES / 8)
#include "kernels.h"
#undef BITS
#undef WIDTH
