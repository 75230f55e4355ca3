/* A slice that is the same on every machine, for self-tests. Thread: pure function. */
#ifndef CT2MR_GPU_GOLDEN_H
#define CT2MR_GPU_GOLDEN_H

#include <stdint.h>

/* ret: (3, height, width). Smooth shapes and noise, spread like normalised CT (a head's windowed
** values, less the mean, over the standard deviation: about -2 to 3). */
void golden_slice(int32_t height, int32_t width, float *ret);

#endif
