/* Affine transforms of 3-D space and voxel grids.
**
** Affine is the upper 3x4 part of a homogeneous matrix, row-major, mm unless said otherwise.
** Names read as dst_from_src and compose by reading: a_from_c = affine_mul(a_from_b, b_from_c).
** Spaces: _lps patient coordinates in mm (DICOM: x to the patient's left, y to posterior, z to
** head), _vox continuous voxel index, centre of a voxel = integer.
**
** Thread: pure functions. */
#ifndef CT2MR_BASE_AFFINE_H
#define CT2MR_BASE_AFFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Vec3 {
    double x, y, z;
} Vec3;

typedef struct Affine {
    double m[3][4];
} Affine;

Affine affine_identity(void);
Affine affine_mul(Affine a_from_b, Affine b_from_c);
/* False if singular (|det| < 1e-12); *ret is written on success only. */
bool affine_inverse(Affine a, Affine *ret);
Vec3 affine_apply(Affine a, Vec3 p);
double affine_det(Affine a); /* of the linear part */

Vec3 vec3_sub(Vec3 a, Vec3 b);
Vec3 vec3_cross(Vec3 a, Vec3 b);
double vec3_dot(Vec3 a, Vec3 b);
double vec3_norm(Vec3 a);

/* A regular grid of nx * ny * nz voxels, memory order [z][y][x]. */
typedef struct Grid {
    int32_t nx, ny, nz;
    Affine lps_from_vox;
} Grid;

size_t grid_voxels(const Grid *grid);
/* Length in mm of a step along voxel axis 0, 1 or 2. */
double grid_spacing_mm(const Grid *grid, int axis);
/* Same size, and corners no more than tolerance_mm apart. */
bool grid_equal(const Grid *a, const Grid *b, double tolerance_mm);

/* Volumes: a grid and its voxels (owned by whoever made them, usually an arena). */
typedef struct VolumeI16 {
    Grid grid;
    int16_t *v; /* [nz][ny][nx], HU for a CT */
} VolumeI16;

typedef struct VolumeF32 {
    Grid grid;
    float *v; /* [nz][ny][nx] */
} VolumeF32;

typedef struct VolumeU8 {
    Grid grid;
    uint8_t *v; /* [nz][ny][nx], a mask: 0 outside, 1 inside */
} VolumeU8;

#ifdef __cplusplus
}
#endif
#endif
