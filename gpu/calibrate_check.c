/* Are slices what a model computes in service? See calibrate.h. */
#include "gpu/calibrate.h"

#include <math.h>
#include <stdlib.h>

#define HEAD_MIN_FRAC 0.001 /* of the vertex; a blank slice flatters the mean */
#define NEIGHBOUR_MIN 0.4   /* a real head 0.70 and more, with noise of 30 HU 0.59, noise 0 */
#define DEVIATION_MIN 0.002 /* of the window; a blank slice's is rounding, which may correlate */
#define RANGE_ROOM 0.01     /* of the window; normalised in half precision it is off by 0.002 */

/* Pearson's correlation of a pixel with its right neighbour. */
static double neighbour_correlation(const double *v, int32_t height, int32_t width)
{
    double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (int32_t row = 0; row < height; row++)
        for (int32_t column = 0; column + 1 < width; column++) {
            double a = v[(size_t)row * (size_t)width + (size_t)column];
            double b = v[(size_t)row * (size_t)width + (size_t)column + 1];
            n++;
            x += a, y += b, xx += a * a, yy += b * b, xy += a * b;
        }
    double var_x = xx - x * x / n, var_y = yy - y * y / n;
    bool is_picture = fmin(var_x, var_y) > n * DEVIATION_MIN * DEVIATION_MIN;
    return is_picture ? (xy - x * y / n) / sqrt(var_x * var_y) : 0;
}

static Status check_slice(const ModelInfo *model, const CalibrateData *data, int32_t slice,
                          const float *x, double *v, Err *err)
{
    size_t n = (size_t)data->height * (size_t)data->width, inside = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = (double)x[i] * (double)model->std[0] + (double)model->mean[0];
        for (int c = 0; c < 3; c++) {
            double w =
                (double)x[(size_t)c * n + i] * (double)model->std[c] + (double)model->mean[c];
            if (!(w >= -RANGE_ROOM && w <= 1 + RANGE_ROOM) || fabs(w - v[i]) > RANGE_ROOM)
                return err_set(err, ST_UNSUPPORTED,
                               "slice %d (the first is 0) is no windowed CT: a value of %.3f in "
                               "channel %d, where all three hold one picture of 0..1 normalised by "
                               "the model's mean and deviation",
                               slice, w, c);
        }
        inside += v[i] > RANGE_ROOM;
    }
    double frac = (double)inside / (double)n;
    if (frac < HEAD_MIN_FRAC)
        return err_set(err, ST_UNSUPPORTED,
                       "slice %d (the first is 0) holds no head: %.2f %% of it is above the "
                       "window's floor, at least %.1f %% needed",
                       slice, 100 * frac, 100 * HEAD_MIN_FRAC);
    double r = neighbour_correlation(v, data->height, data->width);
    return r >= NEIGHBOUR_MIN ? ST_OK
                              : err_set(err, ST_UNSUPPORTED,
                                        "slice %d (the first is 0) is noise or blank: neighbouring "
                                        "pixels correlate by %.2f, at least %.1f needed",
                                        slice, r, NEIGHBOUR_MIN);
}

Status calibrate_check(const ModelInfo *model, const CalibrateData *data, Err *err)
{
    if (model->untrained)
        return err_set(err, ST_MODEL_UNFIT, "%s is NOT TRAINED: its decoder is random",
                       model->name);
    if (data->n > 0 && (data->height != model->grid_pixels || data->width != model->grid_pixels))
        return err_set(
            err, ST_UNSUPPORTED,
            "slices of %d x %d pixels: this model computes %d x %d, where its values and "
            "their errors are others",
            data->height, data->width, model->grid_pixels, model->grid_pixels);
    size_t n = (size_t)data->height * (size_t)data->width;
    float *x = malloc(3 * n * sizeof *x + 1);
    double *v = malloc(n * sizeof *v + 1);
    Status status = data->n < 1 || n == 0    ? err_set(err, ST_LIMIT, "no slices to calibrate with")
                    : x == NULL || v == NULL ? err_set(err, ST_NO_MEMORY, "a slice")
                                             : ST_OK;
    for (int32_t i = 0; i < data->n && status == ST_OK; i++) {
        data->fill(data->context, i, x);
        status = check_slice(model, data, i, x, v, err);
    }
    free(x);
    free(v);
    return status;
}
