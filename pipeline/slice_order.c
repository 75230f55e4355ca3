/* See slice_gate.h, "order". Each slice is thinned out to some 128 x 128 pixels, so that every two
** can be compared. */
#include "pipeline/slice_gate_int.h"

#include "base/hot.h"
#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>

enum { THIN_MAX = 128 };
enum { RUN_MIN = 3 };           /* of two is "exchange" */
enum { RUN_MAX_SIDEWAYS = 12 }; /* both ends of a head cut from side to side are alike */

typedef struct Apart {
    double all_hu, tissue_hu; /* |a - b|, and over what is tissue in both */
} Apart;

typedef struct Order {
    const VolumeI16 *ct;
    const bool *is_head;
    int32_t nx, ny, step_x, step_y; /* thinned out */
    int16_t *thin;                  /* [nz][ny][nx], clipped */
    int32_t most;                   /* slices of a run */
    Apart *apart;                   /* [nz][nz], for a < b */
} Order;

static void take_slice(void *context, int z)
{
    Order *o = context;
    const Grid *g = &o->ct->grid;
    const int16_t *v = o->ct->v + (size_t)z * (size_t)g->nx * (size_t)g->ny;
    int16_t *to = o->thin + (size_t)z * (size_t)o->nx * (size_t)o->ny;
    for (int32_t y = 0; y < o->ny; y++)
        for (int32_t x = 0; x < o->nx; x++)
            *to++ = (int16_t)slice_clip(
                v[(size_t)(y * o->step_y) * (size_t)g->nx + (size_t)(x * o->step_x)]);
}

/* Sums over at most THIN_MAX^2 differences of at most 1000. */
HOT_CLONES
static int32_t sum_apart(const int16_t *restrict a, const int16_t *restrict b, int32_t n,
                         int32_t *restrict ret_tissue, int32_t *restrict ret_both)
{
    int32_t sum = 0, tissue = 0, both = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t apart = abs(a[i] - b[i]);
        int32_t is_both = (a[i] > SLICE_TISSUE_HU) & (b[i] > SLICE_TISSUE_HU);
        sum += apart;
        tissue += is_both ? apart : 0;
        both += is_both;
    }
    *ret_tissue = tissue;
    *ret_both = both;
    return sum;
}

static void compare(void *context, int z)
{
    Order *o = context;
    int32_t n = o->nx * o->ny, nz = o->ct->grid.nz;
    for (int32_t k = z + 1; k < nz && k <= z + o->most && o->is_head[z]; k++) {
        if (!o->is_head[k])
            continue;
        int32_t tissue, both;
        Apart *to = &o->apart[(size_t)z * (size_t)nz + (size_t)k];
        to->all_hu = (double)sum_apart(o->thin + (size_t)z * (size_t)n,
                                       o->thin + (size_t)k * (size_t)n, n, &tissue, &both) /
                     (double)n;
        to->tissue_hu = (double)tissue / (both > 0 ? both : 1);
    }
}

static void add(Apart *sum, const Apart *a)
{
    sum->all_hu += a->all_hu;
    sum->tissue_hu += a->tissue_hu;
}

/* How much better the run [first, last] fits the other way round: in all, and in the tissue alone,
** as a ring or a frame may well come and go twice. */
static double gain(const Order *o, int32_t first, int32_t last, double least_hu)
{
    size_t nz = (size_t)o->ct->grid.nz, a = (size_t)first, b = (size_t)last;
    Apart now = {0}, then = {0};
    if (!o->is_head[a] || !o->is_head[b])
        return 0;
    if (first > 0 && o->is_head[a - 1]) {
        add(&now, &o->apart[(a - 1) * nz + a]);
        add(&then, &o->apart[(a - 1) * nz + b]);
    }
    if (b + 1 < nz && o->is_head[b + 1]) {
        add(&now, &o->apart[b * nz + b + 1]);
        add(&then, &o->apart[a * nz + b + 1]);
    }
    return fmin(now.all_hu / fmax(then.all_hu, least_hu),
                now.tissue_hu / fmax(then.tissue_hu, least_hu));
}

Status slice_find_order(const VolumeI16 *ct, const bool *is_head, double least_hu, int threads,
                        SliceFit *ret, Err *err)
{
    const Grid *g = &ct->grid;
    size_t nz = (size_t)g->nz;
    Order o = {.ct = ct,
               .is_head = is_head,
               .step_x = (g->nx + THIN_MAX - 1) / THIN_MAX,
               .step_y = (g->ny + THIN_MAX - 1) / THIN_MAX};
    o.most = slice_is_axial(g) ? g->nz : RUN_MAX_SIDEWAYS;
    o.nx = (g->nx + o.step_x - 1) / o.step_x;
    o.ny = (g->ny + o.step_y - 1) / o.step_y;
    o.thin = malloc(nz * (size_t)o.nx * (size_t)o.ny * sizeof *o.thin);
    o.apart = calloc(nz * nz, sizeof *o.apart);
    Status status = ST_OK;
    if (o.thin == NULL || o.apart == NULL) {
        status = err_set(err, ST_NO_MEMORY, "comparing %d slices", g->nz);
    } else {
        parallel_for(threads, g->nz, take_slice, &o);
        parallel_for(threads, g->nz, compare, &o);
        for (int32_t first = 0; first < g->nz; first++)
            for (int32_t last = first + RUN_MIN - 1; last < g->nz && last < first + o.most;
                 last++) {
                double ratio = gain(&o, first, last, least_hu);
                if (ratio > ret->order) {
                    ret->order = ratio;
                    ret->order_first = first;
                    ret->order_last = last;
                }
            }
    }
    free(o.apart);
    free(o.thin);
    return status;
}
