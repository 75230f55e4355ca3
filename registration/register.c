/* Multi-start affine registration. See register.h.
**
** The head is found in both images. 175 rotations about the heads' centroids (15 degree steps;
** pitch to +-45, else +-30) are placed and then moved at 8 mm; the best few go on with more degrees
** of freedom and finer images. The number of starts kept at each stage: 175 -> 40 -> 16 -> 8 -> 1.
** The correlation ratio moves them, mutual information says which are the best: a cut head in a
** shell is explained better by the correlation ratio where it is shrunken into the reference's.
** Samples: the box around the fixed head; dense things outside the head (table, head rest, what is
** below the chin) are left out. */
#include "registration/register.h"

#include "base/clock.h"
#include "base/parallel.h"
#include "registration/bias.h"
#include "registration/optimize.h"
#include "registration/samples_int.h"
#include "registration/starts_int.h"
#include "registration/turned_int.h"

#include <math.h>

enum { PITCHES = 7, TURNS = 5, STARTS = PITCHES * TURNS * TURNS };
enum { STARTS_SCALED = 40, STARTS_AFFINE = 16, STARTS_4MM = 6 };
enum { STARTS_MUTUAL = 4 };
enum { BACK_STEPS = 30, BIAS_ROUNDS = 2, MUTUAL_STEPS = 30 };
#define STIFFNESS_8MM 0.15
#define STIFFNESS_4MM 0.05
#define STIFFNESS_MUTUAL 0.005
#define STIFFNESS_FINE 0.02 /* at 10 % scale it moves the result by about 0.01 mm */

/* Rotations by multiples of 15 degrees about x (pitch, to 45), y and z (to 30). Roots, not libm's
** sine: same bits anywhere. */
static void starts_make(Vec3 fixed_centre, Vec3 moving_centre, Start start[STARTS])
{
    const double s15 = (sqrt(6.0) - sqrt(2.0)) / 4, c15 = (sqrt(6.0) + sqrt(2.0)) / 4;
    const double s30 = 0.5, c30 = sqrt(0.75), s45 = sqrt(0.5);
    const double sine[PITCHES] = {-s45, -s30, -s15, 0, s15, s30, s45};
    const double cosine[PITCHES] = {s45, c30, c15, 1, c15, c30, s45};
    int n = 0;
    for (int a = 0; a < PITCHES; a++)
        for (int b = 1; b <= TURNS; b++)
            for (int c = 1; c <= TURNS; c++) {
                Affine x = {
                    {{1, 0, 0, 0}, {0, cosine[a], -sine[a], 0}, {0, sine[a], cosine[a], 0}}};
                Affine y = {
                    {{cosine[b], 0, sine[b], 0}, {0, 1, 0, 0}, {-sine[b], 0, cosine[b], 0}}};
                Affine z = {
                    {{cosine[c], -sine[c], 0, 0}, {sine[c], cosine[c], 0, 0}, {0, 0, 1, 0}}};
                Affine t = affine_mul(affine_mul(x, y), z);
                Vec3 d = vec3_sub(moving_centre, affine_apply(t, fixed_centre));
                t.m[0][3] = d.x;
                t.m[1][3] = d.y;
                t.m[2][3] = d.z;
                start[n++] = (Start){.moving_from_fixed = t};
            }
}

/* Least and greatest singular value of the linear part: roots of the eigenvalues of L'L, by Jacobi
** rotations. */
static void scales_of(Affine t, double *ret_min, double *ret_max)
{
    enum { SWEEPS = 12 };
    double a[3][3];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            a[i][j] = t.m[0][i] * t.m[0][j] + t.m[1][i] * t.m[1][j] + t.m[2][i] * t.m[2][j];
    for (int n = 0; n < SWEEPS * 3; n++) {
        int p = n % 3, q = (p + 1) % 3;
        if (fabs(a[p][q]) < 1e-15)
            continue;
        double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        double u = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
        double c = 1 / sqrt(u * u + 1), s = u * c;
        for (int i = 0; i < 3; i++) {
            double ip = a[i][p], iq = a[i][q];
            a[i][p] = c * ip - s * iq;
            a[i][q] = s * ip + c * iq;
        }
        for (int i = 0; i < 3; i++) {
            double pi = a[p][i], qi = a[q][i];
            a[p][i] = c * pi - s * qi;
            a[q][i] = s * pi + c * qi;
        }
    }
    *ret_min = sqrt(fmax(0, fmin(a[0][0], fmin(a[1][1], a[2][2]))));
    *ret_max = sqrt(fmax(0, fmax(a[0][0], fmax(a[1][1], a[2][2]))));
}

/* An MR's last steps: its brightness is evened out, then mutual information, which sees more than
** the correlation ratio where one intensity of one image is two in the other. */
static Status polish_mr(MetricLevel *level, const Image *moving, OptimizeOptions options,
                        Arena *arena, Affine *moving_from_fixed, MetricCost *ret, Err *err)
{
    Mutual mutual;
    VolumeF32 image = level->moving;
    for (int n = 0; n < BIAS_ROUNDS; n++) {
        bias_correct(level, *moving_from_fixed, ret, options.threads, &image);
        metric_cost(level, *moving_from_fixed, options.threads, ret);
    }
    TRY(mutual_open(level, moving->low, moving->high, arena, &mutual, err));
    options.max_steps = MUTUAL_STEPS;
    options.stiffness = STIFFNESS_MUTUAL;
    (void)optimize_mutual(&mutual, &options, moving_from_fixed);
    metric_cost(level, *moving_from_fixed, options.threads, ret);
    return ST_OK;
}

/* The other way round: the moving image is binned, the fixed one explained, from where the result
** says it is; by the correlation ratio, which from a wrong result goes another way, then by mutual
** information, which is as good in this direction as in the other (the correlation ratio is not:
** right results were up to 11 mm apart by it). Mean over the fixed head of how far there
** and back is from where it began; HUGE_VAL where the way back does not overlap. */
static Status inverse_distance_mm(const Image *fixed, const Image *moving, Affine moving_from_fixed,
                                  int threads, Arena *arena, const MetricLevel *head, double *ret,
                                  Err *err)
{
    Affine fixed_from_moving;
    MetricLevel level[PYRAMID_4MM + 1];
    Mutual mutual;
    const OptimizeOptions options = {12, BACK_STEPS, threads, STIFFNESS_4MM};
    *ret = HUGE_VAL;
    if (!affine_inverse(moving_from_fixed, &fixed_from_moving))
        return ST_OK;
    for (int l = PYRAMID_8MM; l <= PYRAMID_4MM; l++) {
        TRY(samples_prepare(moving, fixed, l, arena, &level[l], err));
        if (optimize_affine(&level[l], &options, &fixed_from_moving) >= METRIC_REJECTED)
            return ST_OK;
    }
    for (int l = PYRAMID_8MM; l <= PYRAMID_4MM; l++) {
        TRY(mutual_open(&level[l], fixed->low, fixed->high, arena, &mutual, err));
        (void)optimize_mutual(&mutual, &options, &fixed_from_moving);
    }
    *ret = starts_distance_mm(head, affine_mul(fixed_from_moving, moving_from_fixed),
                              affine_identity());
    return ST_OK;
}

static Status run_search(MetricLevel level[PYRAMID_LEVELS], const Image *moving, int dof,
                         int threads, Arena *arena, RegResult *ret, Err *err)
{
    Start start[STARTS];
    starts_make(level->centre_lps, moving->head.centroid_lps, start);
    const MetricLevel *finest = &level[PYRAMID_FINE];
    const OptimizeOptions last = {dof, 12, threads, STIFFNESS_FINE};
    starts_place(level, dof, threads, STARTS, start);
    const MetricLevel *middle = &level[PYRAMID_4MM];
    const OptimizeOptions move = {3, 6, threads, 0};
    const OptimizeOptions scale = {dof < 7 ? dof : 7, 15, threads, STIFFNESS_8MM};
    const OptimizeOptions affine = {dof, 20, threads, STIFFNESS_8MM};
    const OptimizeOptions at_4mm = {dof, 20, threads, STIFFNESS_4MM};
    TRY(starts_refine(level, moving, &move, START_BY_CORRELATION_RATIO, STARTS, arena, start, err));
    TRY(starts_refine(level, moving, &scale, START_BY_CORRELATION_RATIO, STARTS_SCALED, arena,
                      start, err));
    TRY(starts_refine(level, moving, &affine, START_BY_CORRELATION_RATIO, STARTS_AFFINE, arena,
                      start, err));
    TRY(starts_refine(middle, moving, &at_4mm, START_BY_CORRELATION_RATIO, STARTS_4MM, arena, start,
                      err));
    TRY(starts_refine(middle, moving, &at_4mm, START_BY_MUTUAL_INFORMATION, STARTS_MUTUAL, arena,
                      start, err));
    if (start[0].cost >= METRIC_REJECTED)
        return err_set(err, ST_REG_OVERLAP, "no starting position overlaps");
    TRY(turned_compare(level, moving, &start[0], dof, threads, arena, &ret->turned_nats, err));
    ret->runner_up_mm =
        starts_distance_mm(level, start[0].moving_from_fixed, start[1].moving_from_fixed);
    (void)optimize_affine(finest, &last, &start[0].moving_from_fixed);
    MetricCost at;
    optimize_polish(finest, &last, &start[0].moving_from_fixed, &at);
    if (at.cost >= METRIC_REJECTED)
        return err_set(err, ST_REG_OVERLAP, "the result does not overlap");
    if (moving->modality == REG_MR)
        TRY(polish_mr(&level[PYRAMID_FINE], moving, last, arena, &start[0].moving_from_fixed, &at,
                      err));
    ret->moving_from_fixed = start[0].moving_from_fixed;
    ret->cost = at.cost;
    ret->overlap_frac = at.overlap_frac;
    return ST_OK;
}

static Status register_in(const VolumeI16 *fixed, const VolumeI16 *moving,
                          const RegOptions *options, Arena *arena, RegResult *ret, Err *err)
{
    Image f, m;
    MetricLevel level[PYRAMID_LEVELS];
    RegResult result = {.seconds = -clock_monotonic_s()};
    int threads = options->threads > 0 ? options->threads : parallel_processors();
    if (options->dof != 6 && options->dof != 7 && options->dof != 9 && options->dof != 12)
        return err_set(err, ST_USAGE, "%d degrees of freedom; 6, 7, 9 or 12", options->dof);
    if (image_prepare(fixed, options->fixed_modality, threads, arena, &f, err) != ST_OK)
        return err_wrap(err, "fixed image");
    if (image_prepare(moving, options->moving_modality, threads, arena, &m, err) != ST_OK)
        return err_wrap(err, "moving image");
    if (options->moving_modality == REG_CT)
        image_blank_others(&m);
    for (int l = 0; l < PYRAMID_LEVELS; l++)
        TRY(samples_prepare(&f, &m, l, arena, &level[l], err));
    TRY(run_search(level, &m, options->dof, threads, arena, &result, err));
    if (options->fixed_modality == REG_CT)
        image_blank_others(&f); /* on the way back it is the one explained */
    TRY(inverse_distance_mm(&f, &m, result.moving_from_fixed, threads, arena, &level[PYRAMID_8MM],
                            &result.inverse_mm, err));
    result.score_mm =
        sqrt(result.inverse_mm * result.inverse_mm + result.runner_up_mm * result.runner_up_mm);
    result.determinant = affine_det(result.moving_from_fixed);
    scales_of(result.moving_from_fixed, &result.scale_min, &result.scale_max);
    result.seconds += clock_monotonic_s();
    *ret = result;
    return ST_OK;
}

Status reg_affine(const VolumeI16 *fixed, const VolumeI16 *moving, const RegOptions *options,
                  RegResult *ret, Arena *scratch, Err *err)
{
    size_t mark = arena_mark(scratch);
    Status status = register_in(fixed, moving, options, scratch, ret, err);
    arena_reset(scratch, mark);
    return status;
}
