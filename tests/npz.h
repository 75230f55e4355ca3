/* Arrays of a NumPy .npz file (a zip of .npy files), of float32, float64 or uint8, as doubles. */
#ifndef CT2MR_TESTS_NPZ_H
#define CT2MR_TESTS_NPZ_H

#include <stdbool.h>
#include <stddef.h>

typedef struct NpzArray {
    int n_dims;
    size_t dims[4], n;
    double *data; /* malloc'ed */
} NpzArray;

/* The array of that name ("up4.weight"); false if the file has none. A file that cannot be read
** fails the test. */
bool npz_find(const char *path, const char *name, NpzArray *ret);
/* The same; the test fails if there is none. */
NpzArray npz_read(const char *path, const char *name);

#endif
