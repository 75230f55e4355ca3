/* A head made of ellipsoids, as a CT and as a T1-weighted MR, wherever an affine puts it: images
** with exactly known transforms. Left and right, front and back differ. */
#ifndef CT2MR_TESTS_HEAD_PHANTOM_H
#define CT2MR_TESTS_HEAD_PHANTOM_H

#include "base/affine.h"

typedef enum PhantomKind { PHANTOM_CT, PHANTOM_MR } PhantomKind;

typedef struct PhantomOptions {
    PhantomKind kind;
    Affine image_from_head; /* LPS mm, from the head's own space */
    double noise;           /* standard deviation, in the image's unit */
    bool has_table;         /* CT: a table under the head, in the image's space */
    uint64_t seed;
} PhantomOptions;

/* Uniform in [0, 1) from a running state. */
double phantom_random(uint64_t *state);
/* Rotation about the origin by up to rotation_deg per axis, scale within 1 +- scale per axis, shift
** by up to shift_mm per axis. */
Affine phantom_affine(uint64_t *state, double rotation_deg, double scale, double shift_mm);
/* A grid centred on the origin; voxel axes along x, y, z. */
Grid phantom_grid(int nx, int ny, int nz, double dx_mm, double dy_mm, double dz_mm);
/* Fills ret->v for ret->grid. */
void phantom_fill(const PhantomOptions *options, VolumeI16 *ret);
/* Trunk, arms and couch instead of a head. */
void phantom_fill_body(uint64_t seed, VolumeI16 *ret);
/* Mean and greatest distance over the head between what two transforms make of it. */
void phantom_tre(Affine found, Affine truth, Affine image_from_head, double *ret_mean_mm,
                 double *ret_max_mm);

#endif
