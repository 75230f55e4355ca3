/* See slice_gate.h, "sides". What a slice and its mirror image have in common says nothing of the
** side, so it is left out: what remains is the head's asymmetry, which neighbours share. Mirrored
** it has the other sign, whichever way the head lies in the image; so both of the image's axes are
** asked. The mirror's place is each slice's own, where it is most symmetric, so that neither a move
** nor an image that is not centred matters. */
#include "pipeline/slice_gate_int.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_MM 4.0 /* either way from the middle of what is tissue */
#define SEARCH_STEP_MM 0.5
#define SECTION_MM2 4000.0 /* of tissue: less is the head's end, whose asymmetry changes fast */
#define LASTING_GAIN 2.5   /* of what lasts in both slices less is asked for: 0.1 of 0.25 */
/* Every fourth line is enough to find the place; step * n_mm is more than half of 1 mm. */
enum { SEARCH_ROWS = 4, SEARCH_PLACES = 35 };

typedef struct Sides {
    const VolumeI16 *ct;
    const bool *is_head;
    int32_t n, lines;  /* pixels of a line, which is what is mirrored; lines of a slice */
    size_t step, next; /* from pixel to pixel, from line to line */
    double n_mm, lines_mm;
    double *opposed; /* [nz - 1] */
    int32_t *axis;   /* [nz] pixel + mirrored pixel; -1: too little of a head to say */
} Sides;

typedef struct Sums {
    int64_t ab, aa, bb;
} Sums;

/* Every second pixel of a line from `first` on, clipped; step -1: backwards. What lies outside is
** air. Returns how many. */
static int32_t take(const Sides *s, const int16_t *line, int32_t first, int32_t step,
                    int32_t *restrict ret)
{
    int32_t n = (s->n + SLICE_STRIDE - 1) / SLICE_STRIDE;
    for (int32_t i = 0; i < n; i++) {
        int32_t x = first + step * i * SLICE_STRIDE;
        ret[i] = x >= 0 && x < s->n ? slice_clip(line[(size_t)x * s->step]) : -SLICE_CLIP_HU;
    }
    return n;
}

static const int16_t *line_of(const Sides *s, int z, int32_t line)
{
    return s->ct->v + (size_t)z * (size_t)s->n * (size_t)s->lines + (size_t)line * s->next;
}

/* Mean place of what is tissue along a line; -1 if that is too little. */
static double middle(const Sides *s, int z)
{
    int64_t sum = 0, count = 0;
    for (int32_t y = 0; y < s->lines; y += SLICE_STRIDE)
        for (int32_t x = 0; x < s->n; x++) {
            int32_t is_tissue = line_of(s, z, y)[(size_t)x * s->step] > SLICE_TISSUE_HU;
            sum += is_tissue * x;
            count += is_tissue;
        }
    double mm2 = (double)count * SLICE_STRIDE * s->n_mm * s->lines_mm;
    return mm2 >= SECTION_MM2 ? (double)sum / (double)count : -1;
}

static void find_axis(void *context, int z)
{
    Sides *s = context;
    int32_t row[SLICE_ROW_MAX], back[SLICE_ROW_MAX];
    double centre = s->is_head[z] ? middle(s, z) : -1;
    s->axis[z] = -1;
    if (centre < 0)
        return;
    /* the sum of two places moves by two where the place between them moves by one */
    int32_t step = (int32_t)fmax(1, floor(2 * SEARCH_STEP_MM / s->n_mm));
    int32_t n_steps = (int32_t)ceil(2 * SEARCH_MM / (s->n_mm * step));
    int32_t first = (int32_t)lrint(2 * centre) - n_steps * step, n_places = 2 * n_steps + 1;
    int64_t sum[SEARCH_PLACES] = {0}, best = INT64_MAX;
    ASSERT(n_places <= SEARCH_PLACES);
    for (int32_t y = 0; y < s->lines; y += SEARCH_ROWS) {
        const int16_t *line = line_of(s, z, y);
        int32_t n = take(s, line, 0, 1, row);
        for (int32_t k = 0; k < n_places; k++) {
            (void)take(s, line, first + k * step, -1, back);
            sum[k] += slice_sum_difference(row, back, n);
        }
    }
    for (int32_t k = 0; k < n_places; k++)
        if (sum[k] < best && first + k * step >= 0) {
            best = sum[k];
            s->axis[z] = first + k * step;
        }
}

/* Where only one of two slices has tissue something begins or ends, a bolus: not
** in `lasting`. */
static void add_products(const int32_t *restrict a, const int32_t *restrict a_back,
                         const int32_t *restrict b, const int32_t *restrict b_back, int32_t n,
                         Sums *all, Sums *lasting)
{
    Sums sum = {0}, kept = {0};
    for (int32_t x = 0; x < n; x++) {
        int64_t lasts = ((a[x] > SLICE_TISSUE_HU) == (b[x] > SLICE_TISSUE_HU)) &
                        ((a_back[x] > SLICE_TISSUE_HU) == (b_back[x] > SLICE_TISSUE_HU));
        int64_t da = a[x] - a_back[x], db = b[x] - b_back[x];
        sum.ab += da * db;
        sum.aa += da * da;
        sum.bb += db * db;
        kept.ab += lasts * da * db;
        kept.aa += lasts * da * da;
        kept.bb += lasts * db * db;
    }
    *all = (Sums){all->ab + sum.ab, all->aa + sum.aa, all->bb + sum.bb};
    *lasting = (Sums){lasting->ab + kept.ab, lasting->aa + kept.aa, lasting->bb + kept.bb};
}

static double opposed(const Sums *s)
{
    double norm = sqrt((double)s->aa) * sqrt((double)s->bb);
    return norm > 0 ? -(double)s->ab / norm : 0;
}

static void measure(void *context, int z)
{
    Sides *s = context;
    if (s->axis[z] < 0 || s->axis[z + 1] < 0)
        return;
    int32_t axis_a = s->axis[z], axis_b = s->axis[z + 1];
    int32_t shift = (int32_t)lrint(0.5 * (axis_b - axis_a)); /* brings the mirrors together */
    int32_t ra[SLICE_ROW_MAX], rb[SLICE_ROW_MAX], ma[SLICE_ROW_MAX], mb[SLICE_ROW_MAX];
    Sums all = {0}, lasting = {0};
    for (int32_t y = 0; y < s->lines; y += SLICE_STRIDE) {
        int32_t n = take(s, line_of(s, z, y), 0, 1, ra);
        (void)take(s, line_of(s, z, y), axis_a, -1, ma);
        (void)take(s, line_of(s, z + 1, y), shift, 1, rb);
        (void)take(s, line_of(s, z + 1, y), axis_b - shift, -1, mb);
        add_products(ra, ma, rb, mb, n, &all, &lasting);
    }
    s->opposed[z] = fmin(opposed(&all), LASTING_GAIN * opposed(&lasting));
}

Status slice_find_sides(const VolumeI16 *ct, const bool *is_head, int threads, SliceFit *ret,
                        Err *err)
{
    const Grid *g = &ct->grid;
    int32_t n_pairs = g->nz - 1;
    if (!slice_is_axial(g))
        return ST_OK;
    if (g->ny > SLICE_ROW_MAX)
        return err_set(err, ST_LIMIT, "slices of %d rows, at most %d", g->ny, SLICE_ROW_MAX);
    Sides s = {.ct = ct,
               .is_head = is_head,
               .opposed = calloc((size_t)n_pairs, sizeof *s.opposed),
               .axis = calloc((size_t)g->nz, sizeof *s.axis)};
    Status status = ST_OK;
    if (s.opposed == NULL || s.axis == NULL)
        status = err_set(err, ST_NO_MEMORY, "comparing %d slices", g->nz);
    for (int way = 0; way < 2 && status == ST_OK; way++) {
        s.n = way == 0 ? g->nx : g->ny;
        s.lines = way == 0 ? g->ny : g->nx;
        s.step = way == 0 ? 1 : (size_t)g->nx;
        s.next = way == 0 ? (size_t)g->nx : 1;
        s.n_mm = grid_spacing_mm(g, way);
        s.lines_mm = grid_spacing_mm(g, 1 - way);
        memset(s.opposed, 0, (size_t)n_pairs * sizeof *s.opposed);
        parallel_for(threads, g->nz, find_axis, &s);
        parallel_for(threads, n_pairs, measure, &s);
        for (int32_t z = 0; z < n_pairs; z++)
            if (s.opposed[z] > ret->sides) {
                ret->sides = s.opposed[z];
                ret->sides_after = z;
            }
    }
    free(s.axis);
    free(s.opposed);
    return status;
}
