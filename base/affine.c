/* Affine transforms and grids. See affine.h. */
#include "base/affine.h"

#include <math.h>

Affine affine_identity(void)
{
    return (Affine){{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}};
}

Affine affine_mul(Affine a, Affine b)
{
    Affine r;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            r.m[i][j] = a.m[i][0] * b.m[0][j] + a.m[i][1] * b.m[1][j] + a.m[i][2] * b.m[2][j] +
                        (j == 3 ? a.m[i][3] : 0.0);
    return r;
}

double affine_det(Affine a)
{
    return a.m[0][0] * (a.m[1][1] * a.m[2][2] - a.m[1][2] * a.m[2][1]) -
           a.m[0][1] * (a.m[1][0] * a.m[2][2] - a.m[1][2] * a.m[2][0]) +
           a.m[0][2] * (a.m[1][0] * a.m[2][1] - a.m[1][1] * a.m[2][0]);
}

bool affine_inverse(Affine a, Affine *ret)
{
    double det = affine_det(a);
    if (!(fabs(det) >= 1e-12)) /* also refuses NaN */
        return false;
    Affine r;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            int p = (j + 1) % 3, q = (j + 2) % 3, s = (i + 1) % 3, t = (i + 2) % 3;
            r.m[i][j] = (a.m[p][s] * a.m[q][t] - a.m[p][t] * a.m[q][s]) / det;
        }
    }
    for (int i = 0; i < 3; i++)
        r.m[i][3] = -(r.m[i][0] * a.m[0][3] + r.m[i][1] * a.m[1][3] + r.m[i][2] * a.m[2][3]);
    *ret = r;
    return true;
}

Vec3 affine_apply(Affine a, Vec3 p)
{
    return (Vec3){a.m[0][0] * p.x + a.m[0][1] * p.y + a.m[0][2] * p.z + a.m[0][3],
                  a.m[1][0] * p.x + a.m[1][1] * p.y + a.m[1][2] * p.z + a.m[1][3],
                  a.m[2][0] * p.x + a.m[2][1] * p.y + a.m[2][2] * p.z + a.m[2][3]};
}

Vec3 vec3_sub(Vec3 a, Vec3 b)
{
    return (Vec3){a.x - b.x, a.y - b.y, a.z - b.z};
}

Vec3 vec3_cross(Vec3 a, Vec3 b)
{
    return (Vec3){a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

double vec3_dot(Vec3 a, Vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

double vec3_norm(Vec3 a)
{
    return sqrt(vec3_dot(a, a));
}

size_t grid_voxels(const Grid *grid)
{
    return (size_t)grid->nx * (size_t)grid->ny * (size_t)grid->nz;
}

double grid_spacing_mm(const Grid *grid, int axis)
{
    const double(*m)[4] = grid->lps_from_vox.m;
    return vec3_norm((Vec3){m[0][axis], m[1][axis], m[2][axis]});
}

bool grid_equal(const Grid *a, const Grid *b, double tolerance_mm)
{
    if (a->nx != b->nx || a->ny != b->ny || a->nz != b->nz)
        return false;
    for (int corner = 0; corner < 8; corner++) {
        Vec3 vox = {(corner & 1) ? a->nx - 1 : 0, (corner & 2) ? a->ny - 1 : 0,
                    (corner & 4) ? a->nz - 1 : 0};
        Vec3 d = vec3_sub(affine_apply(a->lps_from_vox, vox), affine_apply(b->lps_from_vox, vox));
        if (!(vec3_norm(d) <= tolerance_mm))
            return false;
    }
    return true;
}
