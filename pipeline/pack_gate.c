/* What a pair must not be: two heads, a CT in the place of an MR, or images of another case. See
** pack.h. */
#include "pipeline/pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AIR_HU (-500.0f) /* MR has no such values; of a CT a quarter is air */
#define AIR_FRAC 0.05
#define CT_CORRELATION 0.9
#define SOFT_CORRELATION 0.8
enum { CORRELATED_MIN = 100 }; /* voxels */

/* One patient in two machines: sizes agree within the scanners' errors. */
#define PAIR_OVERLAP_MIN 0.60
#define PAIR_COST_MAX 0.40
#define PAIR_COST_MIN 0.01 /* MR simulated from nothing but tissue: 0.019 (PD) to 0.079 (T2) */
#define PAIR_SCALE_MIN 0.90
#define PAIR_SCALE_MAX 1.12

#define ODD_RATIO 2.0
enum { ODD_MIN_CASES = 4 };

/* SplitMix64's output function. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t pack_content(const float *values, size_t n)
{
    uint64_t sum = mix(n);
    for (size_t i = 0; i < n; i++) {
        float v = values[i] + 0.0f; /* -0 and 0 are one value */
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        sum += mix(bits);
    }
    return sum;
}

uint64_t pack_content_hu(const int16_t *hu, size_t n)
{
    uint64_t sum = mix(n);
    for (size_t i = 0; i < n; i++)
        sum += mix((uint16_t)hu[i]);
    return sum;
}

/* At most two values: air, and what is outside a round field of view: a slice of many heads. */
static bool is_plain(const int16_t *hu, size_t n)
{
    size_t i = 1, k;
    while (i < n && hu[i] == hu[0])
        i++;
    for (k = i; k < n && (hu[k] == hu[0] || hu[k] == hu[i]);)
        k++;
    return k >= n;
}

void pack_sketch(const int16_t *hu, size_t pixels, int32_t n, uint64_t ret[PACK_SKETCH])
{
    memset(ret, 0xff, PACK_SKETCH * sizeof *ret);
    for (int32_t k = 0; k < n; k++, hu += pixels) {
        if (is_plain(hu, pixels))
            continue;
        uint64_t content = pack_content_hu(hu, pixels);
        int at = PACK_SKETCH;
        while (at > 0 && ret[at - 1] > content)
            at--;
        if (at == PACK_SKETCH)
            continue;
        memmove(ret + at + 1, ret + at, (size_t)(PACK_SKETCH - 1 - at) * sizeof *ret);
        ret[at] = content;
    }
}

static bool share_slices(const uint64_t *a, const uint64_t *b)
{
    for (int i = 0, j = 0; i < PACK_SKETCH && j < PACK_SKETCH && a[i] < UINT64_MAX;) {
        if (a[i] == b[j])
            return true;
        if (a[i] < b[j])
            i++;
        else
            j++;
    }
    return false;
}

/* ---- two heads ------------------------------------------------------------------------------- */

Status pack_registration_gate(const RegResult *r, Err *err)
{
    if (!(r->overlap_frac >= PAIR_OVERLAP_MIN))
        return err_set(err, ST_REG_QUALITY, "CT and MR: overlap %.2f, at least %.2f needed",
                       r->overlap_frac, PAIR_OVERLAP_MIN);
    if (!(r->cost <= PAIR_COST_MAX))
        return err_set(err, ST_REG_QUALITY, "CT and MR: cost %.3f, at most %.2f accepted", r->cost,
                       PAIR_COST_MAX);
    if (r->cost < PAIR_COST_MIN)
        return err_set(err, ST_PACK_CASE,
                       "the MR is a CT: it follows from this one to a cost of %.3f (an MR: %.2f)",
                       r->cost, PAIR_COST_MIN);
    if (!(r->scale_min >= PAIR_SCALE_MIN && r->scale_max <= PAIR_SCALE_MAX))
        return err_set(err, ST_REG_QUALITY,
                       "CT and MR: scales %.3f to %.3f, one patient has %.2f to %.2f", r->scale_min,
                       r->scale_max, PAIR_SCALE_MIN, PAIR_SCALE_MAX);
    return ST_OK;
}

/* ---- a CT in the MR's place ------------------------------------------------------------------ */

Status pack_mr_gate(const float *values, size_t n, Err *err)
{
    size_t air = 0;
    for (size_t i = 0; i < n; i++)
        air += values[i] <= AIR_HU;
    double frac = (double)air / (double)n;
    return frac < AIR_FRAC ? ST_OK
                           : err_set(err, ST_PACK_CASE,
                                     "the MR is a CT: %.0f %% of it is at %g or less, as air in HU",
                                     100 * frac, (double)AIR_HU);
}

/* One value all over; what is no number counts as one. */
static bool is_blank(const float *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (v[i] < v[0] || v[i] > v[0] || isnan(v[i]) != isnan(v[0]))
            return false;
    return true;
}

Status pack_mr_slices_gate(const VolumeF32 *mr, Err *err)
{
    const size_t n = (size_t)mr->grid.nx * (size_t)mr->grid.ny;
    int32_t last = -1; /* with something in it */
    for (int32_t z = 0; z < mr->grid.nz; z++) {
        const float *v = mr->v + (size_t)z * n;
        if (is_blank(v, n))
            continue;
        if (last >= 0 && last < z - 1)
            return err_set(err, ST_PACK_CASE,
                           "the MR is blank between slices %d and %d (the first is 0)", last, z);
        if (last >= 0 && memcmp(v, v - n, n * sizeof *v) == 0)
            return err_set(err, ST_PACK_CASE,
                           "slices %d and %d of the MR (the first is 0) are one and the same", last,
                           z);
        last = z;
    }
    return ST_OK;
}

double pack_correlation(const int16_t *hu, const float *mr, const uint8_t *mask, size_t n,
                        int16_t low_hu, int16_t high_hu)
{
    double count = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        if (mask[i] == 0 || hu[i] < low_hu || hu[i] > high_hu)
            continue;
        double a = hu[i], b = (double)mr[i];
        count++;
        x += a, y += b, xx += a * a, yy += b * b, xy += a * b;
    }
    if (count < CORRELATED_MIN)
        return 0;
    double var_x = xx - x * x / count, var_y = yy - y * y / count;
    return var_x > 0 && var_y > 0 ? (xy - x * y / count) / sqrt(var_x * var_y) : 0;
}

/* In any window, bright or dark: of a windowed CT soft tissue is what is left of the HU. */
Status pack_pair_gate(const int16_t *hu, const float *mr, const uint8_t *mask, size_t n, Err *err)
{
    const struct {
        int16_t low_hu, high_hu;
        double most;
    } parts[] = {{INT16_MIN, INT16_MAX, CT_CORRELATION}, {1, 79, SOFT_CORRELATION}};
    for (int i = 0; i < 2; i++) {
        double r = pack_correlation(hu, mr, mask, n, parts[i].low_hu, parts[i].high_hu);
        if (fabs(r) >= parts[i].most)
            return err_set(err, ST_PACK_CASE,
                           "the MR is a CT: inside the mask it follows the CT's HU%s (correlation "
                           "%.3f; an MR's is within -%.1f and %.1f)",
                           i > 0 ? " in soft tissue" : "", r, parts[i].most, parts[i].most);
    }
    return ST_OK;
}

/* ---- images that are another case's ---------------------------------------------------------- */

Status pack_seen_check(const PackSeen *seen, const PackFacts *facts, Err *err)
{
    for (int32_t i = 0; seen != NULL && i < seen->n; i++) {
        const PackSeenCase *c = &seen->cases[i];
        bool same_ct = c->ct == facts->ct_content, same_mr = c->mr == facts->mr_content;
        if (same_ct || same_mr)
            return err_set(err, ST_PACK_CASE, "its %s that of %s %d: one head in two cases",
                           same_ct && same_mr ? "CT and MR are"
                           : same_ct          ? "CT is"
                                              : "MR is",
                           seen->unit != NULL ? seen->unit : "case", c->number);
        if (facts->patient[0] != '\0' && strcmp(c->patient, facts->patient) == 0)
            return err_set(err, ST_SERIES_PATIENT,
                           "its patient is that of %s %d: one head in two cases, which are split; "
                           "--any-patient packs both",
                           seen->unit != NULL ? seen->unit : "case", c->number);
        if (share_slices(c->sketch, facts->ct_sketch))
            return err_set(err, ST_PACK_CASE,
                           "its CT has slices of that of %s %d: one head in two cases",
                           seen->unit != NULL ? seen->unit : "case", c->number);
    }
    return ST_OK;
}

Status pack_seen_add(PackSeen *seen, int32_t number, const PackFacts *facts, Err *err)
{
    if (seen->n == seen->room) {
        int32_t room = 2 * seen->room + 16;
        PackSeenCase *grown = reallocarray(seen->cases, (size_t)room, sizeof *grown);
        if (grown == NULL)
            return err_set(err, ST_NO_MEMORY, "a list of %d cases", room);
        seen->cases = grown;
        seen->room = room;
    }
    PackSeenCase *c = &seen->cases[seen->n++];
    *c = (PackSeenCase){.number = number,
                        .ct = facts->ct_content,
                        .mr = facts->mr_content,
                        .cost = facts->pair.cost};
    memcpy(c->sketch, facts->ct_sketch, sizeof c->sketch);
    memcpy(c->id, facts->id, sizeof c->id);
    memcpy(c->patient, facts->patient, sizeof c->patient);
    return ST_OK;
}

static int compare_costs(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

Status pack_seen_odd(const PackSeen *seen, bool *ret_odd, Err *err)
{
    const int32_t n = seen->n;
    double *sorted = calloc((size_t)n + 1, sizeof *sorted);
    if (sorted == NULL)
        return err_set(err, ST_NO_MEMORY, "costs of %d cases", n);
    for (int32_t i = 0; i < n; i++)
        sorted[i] = seen->cases[i].cost;
    qsort(sorted, (size_t)n, sizeof *sorted, compare_costs);
    /* What lies so far above the median of the others comes after it in the row: so the median of
    ** the n - 1 others is that of the row without its last. */
    double most =
        n < ODD_MIN_CASES ? HUGE_VAL : ODD_RATIO * (sorted[(n - 2) / 2] + sorted[(n - 1) / 2]) / 2;
    for (int32_t i = 0; i < n; i++)
        ret_odd[i] = seen->cases[i].cost > most;
    free(sorted);
    return ST_OK;
}

void pack_seen_free(PackSeen *seen)
{
    free(seen->cases);
    *seen = (PackSeen){0};
}
