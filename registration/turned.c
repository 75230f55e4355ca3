/* See turned_int.h. */
#include "registration/turned_int.h"

#include <math.h>

enum { FROM_RESULT = 15, FROM_HEADER = 7, TURNED = FROM_RESULT + FROM_HEADER };
enum { TURNED_SCALED = 10, TURNED_AFFINE = 5, TURNED_4MM = 2 };
#define STIFFNESS_8MM 0.15
#define STIFFNESS_4MM 0.05
#define SAME_MM 40.0 /* mean distance; closer has come back to the result */

#define S60 0.8660254037844386

static Affine about_z(double cosine, double sine)
{
    return (Affine){{{cosine, -sine, 0, 0}, {sine, cosine, 0, 0}, {0, 0, 1, 0}}};
}

static Affine about_x(double cosine, double sine)
{
    return (Affine){{{1, 0, 0, 0}, {0, cosine, -sine, 0}, {0, sine, cosine, 0}}};
}

static Affine about_y(double cosine, double sine)
{
    return (Affine){{{cosine, 0, sine, 0}, {0, 1, 0, 0}, {-sine, 0, cosine, 0}}};
}

/* What the result may be off by: about the body's axis 60 to 180 degrees either way; upside down,
** seen from front and from back; 90 degrees about the other axes. */
static Affine turn(int number)
{
    static const double cosine[] = {0.5, 0, -0.5, -S60, -1, -S60, -0.5, 0, 0.5};
    static const double sine[] = {S60, 1, S60, 0.5, 0, -0.5, -S60, -1, -S60};
    static Affine (*const others[])(double, double) = {about_x, about_y};
    if (number < 9)
        return about_z(cosine[number], sine[number]);
    int n = number - 9;
    return n < 2 ? others[n](-1, 0) : others[n % 2](0, n < 4 ? 1 : -1);
}

/* What a header may be off by, if the result is too far off to say: backwards with the chin down,
** level, up; sideways; upside down. */
static Affine facing(int number)
{
    static const double sine[] = {-0.5, 0, 0.5}, cosine[] = {S60, 1, S60};
    if (number < 3)
        return affine_mul(about_x(cosine[number], sine[number]), about_z(-1, 0));
    if (number < 5)
        return about_z(0, number == 3 ? 1 : -1);
    return number == 5 ? about_x(-1, 0) : about_y(-1, 0);
}

/* t with its shift such that `from` goes to `to`. */
static Affine with_centre(Affine t, Vec3 from, Vec3 to)
{
    Vec3 d = vec3_sub(to, affine_apply(t, from));
    t.m[0][3] += d.x;
    t.m[1][3] += d.y;
    t.m[2][3] += d.z;
    return t;
}

/* Those that are still another answer come first; how many. */
static int keep_others(const MetricLevel *level, const Start *best, int n, Start *start)
{
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (start[i].cost < METRIC_REJECTED &&
            starts_distance_mm(level, start[i].moving_from_fixed, best->moving_from_fixed) >
                SAME_MM)
            start[kept++] = start[i];
    return kept;
}

Status turned_compare(const MetricLevel *level, const Image *moving, const Start *best, int dof,
                      int threads, Arena *arena, double *ret_nats, Err *err)
{
    Start start[TURNED];
    const MetricLevel *middle = &level[PYRAMID_4MM];
    const OptimizeOptions move = {3, 6, threads, 0};
    const OptimizeOptions scale = {dof < 7 ? dof : 7, 15, threads, STIFFNESS_8MM};
    const OptimizeOptions affine = {dof, 20, threads, STIFFNESS_8MM};
    const OptimizeOptions at_4mm = {dof, 20, threads, STIFFNESS_4MM};
    const Vec3 centre = level->centre_lps;
    for (int i = 0; i < FROM_RESULT; i++)
        start[i].moving_from_fixed =
            affine_mul(best->moving_from_fixed, with_centre(turn(i), centre, centre));
    for (int i = 0; i < FROM_HEADER; i++)
        start[FROM_RESULT + i].moving_from_fixed =
            with_centre(facing(i), centre, moving->head.centroid_lps);
    starts_place(level, dof, threads, TURNED, start);
    TRY(starts_refine(level, moving, &move, START_BY_CORRELATION_RATIO, TURNED, arena, start, err));
    TRY(starts_refine(level, moving, &scale, START_BY_CORRELATION_RATIO, TURNED_SCALED, arena,
                      start, err));
    TRY(starts_refine(level, moving, &affine, START_BY_CORRELATION_RATIO, TURNED_AFFINE, arena,
                      start, err));
    *ret_nats = HUGE_VAL;
    int n = keep_others(level, best, TURNED_AFFINE, start);
    if (n == 0)
        return ST_OK;
    n = n < TURNED_4MM ? n : TURNED_4MM;
    TRY(starts_refine(middle, moving, &at_4mm, START_BY_CORRELATION_RATIO, n, arena, start, err));
    TRY(starts_refine(middle, moving, &at_4mm, START_BY_MUTUAL_INFORMATION, n, arena, start, err));
    if (keep_others(level, best, n, start) > 0)
        *ret_nats = start[0].cost - best->cost;
    return ST_OK;
}
