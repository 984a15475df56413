/* Undoes the definitions of vector.h that differ the next time. */

#undef REAL
#undef INT
#undef UINT
#undef MANTISSA_BITS
#undef BIAS
#undef EXP2_TERMS
#undef LOG2_TERMS
#undef ROUND_SHIFT
#undef HIGH_HALF
#undef NEXT_LANE
#undef PREVIOUS_LANE
#undef ZIP_LOW
#undef ZIP_HIGH
#undef IOTA
#undef MASK
#undef MAX_EXPONENT
#undef MIN_EXPONENT
#undef SELECT_EXPONENT
#undef SPLAT_EXPONENT
#undef TO_REAL
#undef NEVER
