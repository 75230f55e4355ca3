/* Step "check": would a physicist accept these pixels? Gates on the restored MR.
**
** finite      every value is a number
** geometry    the MR's grid is the CT's, and nothing lies outside the mask
** range       an image, not a constant: mean and deviation inside the mask are plausible
** continuity  the network works slice by slice; a slice that differs from its neighbours far more
**             than those differ among themselves is a failure. d[z] = mean |mr[z+1] - mr[z]| over
**             voxels inside both; the excess is d[z] minus the median of d in a window of 9. Slices
** whose
**             common area is under a quarter of the largest are left out: towards the vertex the
**             scalp is cut ever more flatly and d rises by nature.
** Limits: DECISIONS.md "Result gate". */
#include "pipeline/steps.h"

#include "base/parallel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MEAN_MIN 0.05
#define MEAN_MAX 0.95
#define SD_MIN 0.02
#define CONTINUITY_MAX 0.10
enum { MAX_Z = 4096, MEDIAN_HALF = 4 };

typedef struct SliceSum {
    int64_t not_finite, outside, count, pairs;
    double sum, sum_sq, jump;
} SliceSum;

typedef struct Checking {
    const VolumeF32 *mr;
    const VolumeU8 *mask;
    SliceSum *slices;
} Checking;

static void sum_slice(void *context, int item)
{
    const Checking *c = context;
    size_t n = (size_t)c->mr->grid.nx * (size_t)c->mr->grid.ny, at = (size_t)item * n;
    const float *mr = c->mr->v + at;
    const uint8_t *mask = c->mask->v + at;
    bool last = item + 1 == c->mr->grid.nz;
    SliceSum s = {0};
    for (size_t i = 0; i < n; i++) {
        double v = (double)mr[i];
        if (!isfinite(v)) {
            s.not_finite++;
            continue;
        }
        if (mask[i] == 0) {
            s.outside += v != 0.0;
            continue;
        }
        s.count++;
        s.sum += v;
        s.sum_sq += v * v;
        if (!last && mask[n + i] != 0) {
            s.pairs++;
            s.jump += fabs((double)mr[n + i] - v);
        }
    }
    c->slices[item] = s;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_around(const double *d, int32_t n, int32_t at)
{
    double window[2 * MEDIAN_HALF + 1] = {0};
    int m = 0;
    for (int32_t i = at - MEDIAN_HALF; i <= at + MEDIAN_HALF; i++)
        if (i >= 0 && i < n)
            window[m++] = d[i];
    qsort(window, (size_t)m, sizeof *window, compare_double);
    return window[m / 2];
}

static void continuity(const SliceSum *slices, int32_t nz, CheckResult *ret)
{
    static _Thread_local double d[MAX_Z];
    static _Thread_local int32_t at[MAX_Z];
    int64_t most = 0;
    for (int32_t z = 0; z + 1 < nz; z++)
        most = slices[z].pairs > most ? slices[z].pairs : most;
    int32_t n = 0;
    for (int32_t z = 0; z + 1 < nz; z++) {
        if (slices[z].pairs == 0 || slices[z].pairs < most / 4)
            continue;
        d[n] = slices[z].jump / (double)slices[z].pairs;
        at[n++] = z + 1;
    }
    for (int32_t i = 0; i < n; i++) {
        double excess = d[i] - median_around(d, n, i);
        if (excess > ret->continuity_max) {
            ret->continuity_max = excess;
            ret->continuity_at = at[i];
        }
    }
}

static Status judge(const CheckResult *r, const SliceSum *total, Err *err)
{
    if (total->outside > 0)
        return err_set(err, ST_CHECK_GEOMETRY, "%lld voxels outside the mask are not 0",
                       (long long)total->outside);
    if (!(r->inside_mean >= MEAN_MIN && r->inside_mean <= MEAN_MAX && r->inside_sd >= SD_MIN))
        return err_set(err, ST_CHECK_RANGE,
                       "mean %.3f (plausible %.2f to %.2f), deviation %.3f (at least %.2f)",
                       r->inside_mean, MEAN_MIN, MEAN_MAX, r->inside_sd, SD_MIN);
    if (!(r->continuity_max <= CONTINUITY_MAX))
        return err_set(err, ST_CHECK_CONTINUITY,
                       "between slices %d and %d: %.3f above its surroundings, at most %.2f",
                       r->continuity_at, r->continuity_at + 1, r->continuity_max, CONTINUITY_MAX);
    return ST_OK;
}

Status result_check(const VolumeF32 *mr, const Grid *ct_grid, const VolumeU8 *mask, int threads,
                    CheckResult *ret, Err *err)
{
    *ret = (CheckResult){0};
    if (!grid_equal(&mr->grid, ct_grid, 0.001) || !grid_equal(&mask->grid, ct_grid, 0.001))
        return err_set(err, ST_CHECK_GEOMETRY, "the result's grid is not the CT's");
    if (mr->grid.nz > MAX_Z)
        return err_set(err, ST_LIMIT, "%d slices, at most %d", mr->grid.nz, MAX_Z);
    SliceSum *slices = calloc((size_t)mr->grid.nz, sizeof *slices);
    if (slices == NULL)
        return err_set(err, ST_NO_MEMORY, "checking %d slices", mr->grid.nz);
    Checking c = {mr, mask, slices};
    parallel_for(threads, mr->grid.nz, sum_slice, &c);
    SliceSum total = {0};
    for (int32_t z = 0; z < mr->grid.nz; z++) {
        total.not_finite += slices[z].not_finite;
        total.outside += slices[z].outside;
        total.count += slices[z].count;
        total.sum += slices[z].sum;
        total.sum_sq += slices[z].sum_sq;
    }
    if (total.count > 0) {
        ret->inside_mean = total.sum / (double)total.count;
        ret->inside_sd =
            sqrt(fmax(0, total.sum_sq / (double)total.count - ret->inside_mean * ret->inside_mean));
    }
    continuity(slices, mr->grid.nz, ret);
    free(slices);
    if (total.not_finite > 0)
        return err_set(err, ST_CHECK_FINITE, "%lld voxels are not finite",
                       (long long)total.not_finite);
    return judge(ret, &total, err);
}

Status step_check(Job *job, Err *err)
{
    Status status = result_check(&job->mr, &job->series.ct.grid, &job->mask, job->options.threads,
                                 &job->check, err);
    (void)snprintf(job->note, sizeof job->note, "mean %.3f sd %.3f continuity %.3f",
                   job->check.inside_mean, job->check.inside_sd, job->check.continuity_max);
    return status;
}
