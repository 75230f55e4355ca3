/* See intensity.h.
**
** Measured on 225 CTs (a few heads cut, turned, smoothed, with noise to 160 HU, plates and
** pads) and a simulated one: air 0.25 to 0.71 of the voxels; fat 0.038 to 0.33 and soft tissue
** 0.48 to 0.95 of the others. Of MR with 1024 subtracted, at any scale, soft tissue is at most
** 0.43 of the others; of MR padded with -1024 fat is 0.
**
** A CT in another unit, or stored too high, is known by the peak of its soft tissue: of what is
** further from air than half of some distance, 0.61 lies within 0.98 to 1.08 of that distance (0.36
** under noise of 80 HU); of MR 0.14 to 0.26, whole, skull-stripped or simulated.
**
** Of what is not 0: a CT cut by a window has 0.07 to 0.31 at the largest value, of MR next to
** nothing. A CT cut at 0 alone has 0.54 at 15 to 60 (brain), 0.06 at 100 to 300, 0.23 above, and
** most of the volume is exactly 0; an MR that shares the first three (simulated, with noise) has
** no 0. */
#include "pipeline/intensity.h"

#include <math.h>
#include <stdlib.h>

static const double AIR_MIN = 0.05, AIR_MAX = 0.98, FAT_MIN = 0.02, SOFT_MIN = 0.45; /* of a CT */
static const double NEGATIVE_MAX = 0.02, PEAK_MAX = 0.45;                            /* of an MR */
enum { PEAK_LEAST = 50, LEVELS = 1 << 16 };
static const double AT_LARGEST_MAX = 0.05, ZERO_MIN = 0.3; /* of a CT that was cut */
static const double BRAIN_MIN = 0.35, BETWEEN_MAX = 0.2, BONE_MIN = 0.08;

const char *modality_name(Modality modality)
{
    return modality == MODALITY_CT ? "CT" : modality == MODALITY_MR ? "MR" : "";
}

/* A CT without what is below 0, or of a window. */
static bool is_cut_ct(const int16_t *v, size_t n, double scale)
{
    size_t zero = 0, brain = 0, between = 0, bone = 0, at_largest = 0;
    int16_t largest = INT16_MIN;
    for (size_t i = 0; i < n; i++) {
        double x = v[i] / scale;
        zero += v[i] == 0;
        brain += x >= 15 && x <= 60;
        between += x > 100 && x < 300;
        bone += x >= 300;
        if (v[i] > largest) {
            largest = v[i];
            at_largest = 0;
        }
        at_largest += v[i] == largest;
    }
    double other = (double)(n - zero);
    if (other > 0 && (double)at_largest > AT_LARGEST_MAX * other)
        return true;
    return other > 0 && (double)zero >= ZERO_MIN * (double)n &&
           (double)brain >= BRAIN_MIN * other && (double)between <= BETWEEN_MAX * other &&
           (double)bone >= BONE_MIN * other;
}

/* Whether soft tissue makes a peak as narrow as a CT's, wherever air is and whatever the unit. */
static bool has_ct_peak(const int16_t *v, size_t n)
{
    size_t *below = calloc(LEVELS + 1, sizeof *below); /* [level]: voxels of lower ones */
    if (below == NULL)
        return true; /* not clearly an MR */
    for (size_t i = 0; i < n; i++)
        below[v[i] - INT16_MIN + 1]++;
    int air = 0, largest = 0;
    for (int level = 1; level <= LEVELS; level++) {
        if (below[level] > 0)
            largest = level - 1;
        below[level] += below[level - 1];
        air = 100 * below[level] <= n ? level : air;
    }
    bool found = false;
    for (int d = PEAK_LEAST; air + d <= largest && !found; d++) {
        int first = air + (int)(0.98 * d), end = air + (int)(1.08 * d);
        double tissue = (double)(n - below[air + d / 2]);
        if (tissue < AIR_MIN * (double)n)
            break;
        found = (double)(below[end < LEVELS ? end : LEVELS] - below[first]) > PEAK_MAX * tissue;
    }
    free(below);
    return found;
}

Modality modality_of(const int16_t *v, size_t n, double scale)
{
    size_t air = 0, fat = 0, soft = 0;
    double below = 0, sum = 0; /* by size, not by number: an MR resampled rings around 0 */
    for (size_t i = 0; i < n; i++) {
        double x = v[i] / scale;
        air += x <= -500;
        fat += x >= -200 && x <= -20;
        soft += x >= -150 && x <= 150;
        below += x < 0 ? -x : 0;
        sum += fabs(x);
    }
    double other = (double)(n - air);
    if ((double)air >= AIR_MIN * (double)n && (double)air <= AIR_MAX * (double)n &&
        (double)fat >= FAT_MIN * other && (double)soft >= SOFT_MIN * other)
        return MODALITY_CT;
    if (below > NEGATIVE_MAX * sum || has_ct_peak(v, n) || is_cut_ct(v, n, scale))
        return MODALITY_UNKNOWN;
    return MODALITY_MR;
}

double mr_scale(double largest, bool is_whole)
{
    return largest > INT16_MAX || (largest > 0 && largest < 255 && !is_whole) ? 4095 / largest : 1;
}
