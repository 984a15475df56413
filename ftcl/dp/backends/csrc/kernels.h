/* All recurrences for one instruction set (LEVEL, with vectors of WIDTH) and one size of numbers (BITS). */

#include "vector.h"
#include "strip.h"
#include "soft.h"
#include "solve_soft.h"
#include "hard.h"
#include "vector_end.h"
#undef from_above_exponent
