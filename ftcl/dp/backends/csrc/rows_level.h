/* The kernels on rows for one instruction set. */

#define BITS 32
#define WIDTH (VECTOR_BYTES / 4)
#include "vector.h"
#include "rows.h"
#include "vector_end.h"
#undef BITS
#undef WIDTH
