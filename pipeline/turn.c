/* See turn.h. */
#include "pipeline/turn.h"

#include <math.h>
#include <string.h>

#define AXIAL_MIN 0.8 /* cosine between an axis of the volume and that of the patient */

static char letter_of(const Grid *grid, int axis, char positive, char negative)
{
    double along = grid->lps_from_vox.m[axis][axis] / grid_spacing_mm(grid, axis);
    return fabs(along) < AXIAL_MIN ? '\0' : along > 0 ? positive : negative;
}

bool grid_axes(const Grid *grid, char ret[3])
{
    ret[0] = letter_of(grid, 0, 'L', 'R');
    ret[1] = letter_of(grid, 1, 'P', 'A');
    ret[2] = '\0';
    return ret[0] != '\0' && ret[1] != '\0';
}

/* Which source axis goes to which patient axis: of the six assignments the one with the greatest
** sum of absolute cosines. Greedy choice axis by axis can name one source axis twice. */
static void nearest_axes(const Grid *g, const char axes[3], int ret_source[3], bool ret_flip[3])
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    double best = -1;
    for (int o = 0; o < 6; o++) {
        double sum = 0;
        for (int i = 0; i < 3; i++)
            sum += fabs(g->lps_from_vox.m[i][orders[o][i]]) / grid_spacing_mm(g, orders[o][i]);
        if (sum > best + 1e-9) {
            best = sum;
            memcpy(ret_source, orders[o], sizeof orders[o]);
        }
    }
    const bool negative[3] = {axes[0] == 'R', axes[1] == 'A', false};
    for (int i = 0; i < 3; i++)
        ret_flip[i] = (g->lps_from_vox.m[i][ret_source[i]] < 0) != negative[i];
}

Status volume_turn(const VolumeI16 *volume, const char axes[3], Arena *arena, VolumeI16 *ret,
                   Err *err)
{
    const Grid *g = &volume->grid;
    int source[3];
    bool flip[3];
    nearest_axes(g, axes, source, flip);
    int32_t n[3] = {g->nx, g->ny, g->nz};
    ptrdiff_t stride[3] = {1, g->nx, (ptrdiff_t)g->nx * g->ny}, step[3], start = 0;
    Affine src_from_dst = {{{0}}}; /* voxel index of the source from that of the result */
    for (int i = 0; i < 3; i++) {
        int s = source[i];
        src_from_dst.m[s][i] = flip[i] ? -1 : 1;
        src_from_dst.m[s][3] = flip[i] ? n[s] - 1 : 0;
        step[i] = flip[i] ? -stride[s] : stride[s];
        start += flip[i] ? (n[s] - 1) * stride[s] : 0;
    }
    VolumeI16 out = {.grid = {n[source[0]], n[source[1]], n[source[2]],
                              affine_mul(g->lps_from_vox, src_from_dst)}};
    out.v = arena_alloc(arena, grid_voxels(g), sizeof *out.v, err);
    if (out.v == NULL)
        return ST_LIMIT;
    int16_t *to = out.v;
    for (int32_t z = 0; z < out.grid.nz; z++)
        for (int32_t y = 0; y < out.grid.ny; y++)
            for (int32_t x = 0; x < out.grid.nx; x++)
                *to++ = volume->v[start + x * step[0] + y * step[1] + z * step[2]];
    *ret = out;
    return ST_OK;
}
