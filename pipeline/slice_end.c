/* See slice_gate.h, "end". A slice is looked at in blocks of about 2 mm, which noise does not move
** over a threshold. Solid is what holds a square of 24 mm: couches, shells, frames and most boards
** do not. */
#include "pipeline/slice_gate_int.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_MM 2.0
#define SOLID_MM 24.0
#define BONE_HU 250
#define BONE_MIN_MM2 100.0 /* a head's section has bone; a board or a bolus does not */
#define GONE_FRAC 0.5      /* of the solid */
#define PLATE_MM 15.0      /* a plate is thinner, along the slices' normal */

typedef struct Blocks {
    const VolumeI16 *ct;
    int32_t bx, by, nx, ny;  /* pixels a block, blocks a slice */
    int32_t side_x, side_y;  /* blocks that SOLID_MM has */
    uint8_t *tissue, *solid; /* [nz][ny][nx] */
    int64_t *n_solid, *n_bone;
    int32_t *sum; /* [nz][(ny + 1)][(nx + 1)] */
} Blocks;

static int64_t sum_block(const int16_t *at, size_t stride, int32_t bx, int32_t by)
{
    int64_t sum = 0;
    for (int32_t y = 0; y < by; y++)
        for (int32_t x = 0; x < bx; x++)
            sum += at[(size_t)y * stride + (size_t)x];
    return sum;
}

/* Integral image: ret[y][x] counts what is set in the rows before y and the columns before x. */
static void integrate(const uint8_t *set, int32_t nx, int32_t ny, int32_t *ret)
{
    size_t row = (size_t)nx + 1;
    memset(ret, 0, row * sizeof *ret);
    for (int32_t y = 0; y < ny; y++) {
        int32_t *to = ret + (size_t)(y + 1) * row, sum = 0;
        to[0] = 0;
        for (int32_t x = 0; x < nx; x++) {
            sum += set[(size_t)y * (size_t)nx + (size_t)x];
            to[x + 1] = to[(ptrdiff_t)x + 1 - (ptrdiff_t)row] + sum;
        }
    }
}

static int32_t count_in(const int32_t *integral, int32_t nx, int32_t x0, int32_t x1, int32_t y0,
                        int32_t y1)
{
    size_t row = (size_t)nx + 1, low = (size_t)y0 * row, high = (size_t)y1 * row;
    return integral[high + (size_t)x1] - integral[high + (size_t)x0] - integral[low + (size_t)x1] +
           integral[low + (size_t)x0];
}

/* Opening by a square: first the squares' corners that fit, then all that such a square covers. */
static int64_t find_solid(const Blocks *b, const uint8_t *tissue, uint8_t *solid, int32_t *sum)
{
    int64_t n = 0;
    integrate(tissue, b->nx, b->ny, sum);
    for (int32_t y = 0; y < b->ny; y++)
        for (int32_t x = 0; x < b->nx; x++)
            solid[(size_t)y * (size_t)b->nx + (size_t)x] =
                x + b->side_x <= b->nx && y + b->side_y <= b->ny &&
                count_in(sum, b->nx, x, x + b->side_x, y, y + b->side_y) == b->side_x * b->side_y;
    integrate(solid, b->nx, b->ny, sum);
    for (int32_t y = 0; y < b->ny; y++)
        for (int32_t x = 0; x < b->nx; x++) {
            int32_t x0 = x - b->side_x + 1, y0 = y - b->side_y + 1;
            uint8_t is = count_in(sum, b->nx, x0 > 0 ? x0 : 0, x + 1, y0 > 0 ? y0 : 0, y + 1) > 0;
            solid[(size_t)y * (size_t)b->nx + (size_t)x] = is;
            n += is;
        }
    return n;
}

static void look(void *context, int z)
{
    Blocks *b = context;
    const Grid *g = &b->ct->grid;
    size_t n = (size_t)b->nx * (size_t)b->ny, at = (size_t)z * n, nx = (size_t)g->nx;
    const int16_t *v = b->ct->v + (size_t)z * nx * (size_t)g->ny;
    uint8_t *tissue = b->tissue + at, *solid = b->solid + at;
    int64_t pixels = (int64_t)b->bx * b->by;
    for (int32_t y = 0, i = 0; y < b->ny; y++)
        for (int32_t x = 0; x < b->nx; x++, i++)
            tissue[i] = sum_block(v + (size_t)(y * b->by) * nx + (size_t)(x * b->bx), nx, b->bx,
                                  b->by) > SLICE_TISSUE_HU * pixels;
    b->n_solid[z] =
        find_solid(b, tissue, solid, b->sum + (size_t)z * (n + (size_t)b->nx + (size_t)b->ny + 1));
    for (int32_t y = 0, i = 0; y < b->ny; y++)
        for (int32_t x = 0; x < b->nx; x++, i++)
            if (solid[i] != 0)
                b->n_bone[z] += sum_block(v + (size_t)(y * b->by) * nx + (size_t)(x * b->bx), nx,
                                          b->bx, b->by) > BONE_HU * pixels;
}

/* Blocks of the solid in slice z for which another slice has no tissue. */
static int64_t count_gone(const Blocks *b, int32_t z, int32_t other)
{
    size_t n = (size_t)b->nx * (size_t)b->ny;
    const uint8_t *solid = b->solid + (size_t)z * n, *tissue = b->tissue + (size_t)other * n;
    int64_t gone = 0;
    for (size_t i = 0; i < n; i++)
        gone += solid[i] != 0 && tissue[i] == 0;
    return gone;
}

/* How many blocks of a head's section in slice z are gone in the slice beside; 0 if most are still
** there, or if the section is but a plate: most of it is gone on its other side, too. */
static int64_t lost_blocks(const Blocks *b, int32_t z, int32_t beside, int32_t plate, bool is_head)
{
    double most = GONE_FRAC * (double)b->n_solid[z];
    int32_t behind = z + (z - beside) * plate, last = b->ct->grid.nz - 1;
    behind = behind < 0 ? 0 : behind > last ? last : behind;
    int64_t gone = is_head ? count_gone(b, z, beside) : 0;
    if (gone == 0 || (double)gone < most)
        return 0;
    if (behind != z && (double)count_gone(b, z, behind) >= most)
        return 0;
    return gone;
}

static int32_t at_least_one(double v)
{
    return v < 1 ? 1 : (int32_t)lrint(v);
}

Status slice_find_end(const VolumeI16 *ct, int threads, bool *ret_is_head, SliceFit *ret, Err *err)
{
    const Grid *g = &ct->grid;
    double x_mm = grid_spacing_mm(g, 0), y_mm = grid_spacing_mm(g, 1);
    Blocks b = {.ct = ct, .bx = at_least_one(BLOCK_MM / x_mm), .by = at_least_one(BLOCK_MM / y_mm)};
    b.nx = g->nx / b.bx;
    b.ny = g->ny / b.by;
    b.side_x = at_least_one(SOLID_MM / (b.bx * x_mm));
    b.side_y = at_least_one(SOLID_MM / (b.by * y_mm));
    size_t n = (size_t)b.nx * (size_t)b.ny, nz = (size_t)g->nz;
    size_t n_sum = n + (size_t)b.nx + (size_t)b.ny + 1;
    b.tissue = calloc(nz, 2 * n + 1);
    b.n_solid = calloc(nz, 2 * sizeof *b.n_solid);
    b.sum = calloc(nz, n_sum * sizeof *b.sum);
    Status status = ST_OK;
    if (b.tissue == NULL || b.n_solid == NULL || b.sum == NULL) {
        status = err_set(err, ST_NO_MEMORY, "comparing %d slices", g->nz);
    } else {
        b.solid = b.tissue + nz * n;
        b.n_bone = b.n_solid + nz;
        parallel_for(threads, g->nz, look, &b);
        double block_mm2 = b.bx * x_mm * b.by * y_mm, gap_mm = grid_spacing_mm(g, 2);
        for (int32_t z = 0; z < g->nz; z++)
            ret_is_head[z] = (double)b.n_bone[z] * block_mm2 >= BONE_MIN_MM2;
        int32_t plate = at_least_one(ceil(PLATE_MM / gap_mm));
        for (int32_t z = 0; z + 1 < g->nz; z++) {
            int64_t lost = lost_blocks(&b, z, z + 1, plate, ret_is_head[z]);
            int64_t gained = lost_blocks(&b, z + 1, z, plate, ret_is_head[z + 1]);
            double mm = (double)(lost > gained ? lost : gained) * block_mm2 / gap_mm;
            if (mm > ret->end_mm) {
                ret->end_mm = mm;
                ret->end_after = z;
            }
        }
    }
    free(b.sum);
    free(b.n_solid);
    free(b.tissue);
    return status;
}
