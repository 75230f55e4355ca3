/* Sampling the slices of a case along a move (augment_int.h). Beyond the picture is air outside the
** mask; beyond the first and last slice, those. Weights of 0 and 1 are exact, so that quarter turns
** and flips copy. */
#include "gpu/augment_int.h"

#include <math.h>

enum { AIR_HU = -1024 };

typedef struct Sum {
    float hu, mask, mr;
} Sum;

/* Uniform cubic B-spline: weights of the four knots from `first` on. */
typedef struct Spline {
    int first;
    double w[4];
} Spline;

static Spline spline_at(int32_t i, int32_t pixels)
{
    double u = (double)i * ELASTIC_INTERVALS / (double)pixels, f = u - floor(u), g = 1 - f;
    return (Spline){(int)floor(u),
                    {g * g * g / 6, (3 * f * f * f - 6 * f * f + 4) / 6,
                     (3 * g * g * g - 6 * g * g + 4) / 6, f * f * f / 6}};
}

/* The knots of row y: the spline along y done. */
static void knots_of_row(const AugmentMove *move, int32_t y, int32_t pixels,
                         double ret[2][ELASTIC_KNOTS])
{
    Spline s = spline_at(y, pixels);
    for (int axis = 0; axis < 2; axis++)
        for (int k = 0; k < ELASTIC_KNOTS; k++) {
            double sum = 0;
            for (int t = 0; t < 4; t++)
                sum += s.w[t] * move->knots[axis][(s.first + t) * ELASTIC_KNOTS + k];
            ret[axis][k] = sum;
        }
}

static double along_row(const double knots[ELASTIC_KNOTS], const Spline *s)
{
    return s->w[0] * knots[s->first] + s->w[1] * knots[s->first + 1] +
           s->w[2] * knots[s->first + 2] + s->w[3] * knots[s->first + 3];
}

typedef struct Plane { /* of one slice */
    const int16_t *hu;
    const uint8_t *mask;
    const uint16_t *mr;
    int32_t pixels;
} Plane;

static void add_inside(const Plane *plane, int32_t at, float weight, Sum *sum)
{
    sum->hu += weight * (float)plane->hu[at];
    sum->mask += weight * (float)plane->mask[at];
    sum->mr += weight * (float)plane->mr[at];
}

/* Adds `weight` times the pixel (x, y), which may lie outside. */
static void add_pixel(const Plane *plane, int32_t x, int32_t y, float weight, Sum *sum)
{
    if (x >= 0 && y >= 0 && x < plane->pixels && y < plane->pixels)
        add_inside(plane, y * plane->pixels + x, weight, sum);
    else
        sum->hu += weight * AIR_HU;
}

static void add_plane(const Plane *plane, double x, double y, float weight, Sum *sum)
{
    if (!(x > -1 && y > -1 && x < plane->pixels && y < plane->pixels)) {
        sum->hu += weight * AIR_HU;
        return;
    }
    int32_t left = (int32_t)(x + 1) - 1, top = (int32_t)(y + 1) - 1; /* floor of x > -1 */
    float fx = (float)(x - left), fy = (float)(y - top);
    const float w[4] = {weight * (1 - fx) * (1 - fy), weight * fx * (1 - fy),
                        weight * (1 - fx) * fy, weight * fx * fy};
    if (left >= 0 && top >= 0 && left + 1 < plane->pixels && top + 1 < plane->pixels) {
        int32_t at = top * plane->pixels + left;
        add_inside(plane, at, w[0], sum);
        add_inside(plane, at + 1, w[1], sum);
        add_inside(plane, at + plane->pixels, w[2], sum);
        add_inside(plane, at + plane->pixels + 1, w[3], sum);
    } else {
        for (int k = 0; k < 4; k++)
            add_pixel(plane, left + k % 2, top + k / 2, w[k], sum);
    }
}

static Plane plane_of(const Pack *pack, int32_t slice, int32_t pixels)
{
    return (Plane){pack_hu(pack, slice), pack_mask(pack, slice), pack_mr(pack, slice), pixels};
}

/* z counts slices of the case from its first. */
static void add_point(const Pack *pack, const PackCase *c, int32_t pixels, double x, double y,
                      double z, float weight, Sum *sum)
{
    z = z < 0 ? 0 : z > c->n_slices - 1 ? c->n_slices - 1 : z;
    int32_t below = (int32_t)z;
    float f = (float)(z - below);
    Plane plane = plane_of(pack, c->first_slice + below, pixels);
    add_plane(&plane, x, y, weight * (1 - f), sum);
    if (f > 0) {
        plane = plane_of(pack, c->first_slice + below + 1, pixels);
        add_plane(&plane, x, y, weight * f, sum);
    }
}

void augment_sample(AugmentWork *work, const Pack *pack, const PackCase *c, int32_t slice,
                    const AugmentMove *move)
{
    const int32_t pixels = work->pixels;
    const double centre = 0.5 * (pixels - 1), middle = 0.5 * (move->thickness - 1);
    const float weight = 1 / (float)move->thickness;
    double knots[2][ELASTIC_KNOTS];
    for (int32_t row = 0; row < pixels; row++) {
        if (move->is_elastic)
            knots_of_row(move, row, pixels, knots);
        for (int32_t column = 0; column < pixels; column++) {
            double x = column - centre, y = row - centre;
            if (move->is_elastic) {
                Spline s = spline_at(column, pixels);
                x += along_row(knots[0], &s);
                y += along_row(knots[1], &s);
            }
            double sx = move->m[0][0] * x + move->m[0][1] * y + move->shift[0] + centre;
            double sy = move->m[1][0] * x + move->m[1][1] * y + move->shift[1] + centre;
            double sz = slice - c->first_slice + move->tilt[0] * x + move->tilt[1] * y - middle;
            Sum sum = {0};
            for (int k = 0; k < move->thickness; k++)
                add_point(pack, c, pixels, sx, sy, sz + k, weight, &sum);
            int32_t at = row * pixels + column;
            work->value[at] = sum.hu;
            work->mask[at] = sum.mask >= 0.5f;
            work->mr[at] = sum.mask >= 0.5f ? sum.mr * (1 / 65535.0f) : 0;
        }
    }
}
