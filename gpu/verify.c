/* A model file's self-test. See verify.h.
**
** The slice is small, so that the reference backend needs a second or two for the largest network,
** and not square, so that exchanged sides would show. */
#include "gpu/verify.h"

#include "gpu/golden.h"
#include "gpu/metrics.h"
#include "gpu/net.h"
#include "gpu/network.h"

#include <math.h>
#include <stdlib.h>

enum { HEIGHT = 96, WIDTH = 64, PIXELS = HEIGHT * WIDTH };

static Status check_tensors(const Model *model, Err *err)
{
    Graph *graph = malloc(sizeof *graph);
    if (graph == NULL)
        return err_set(err, ST_NO_MEMORY, "the network's table");
    Status status = network_build(model_info(model), HEIGHT, WIDTH, graph, err);
    if (status == ST_OK)
        status = graph_check_model(graph, model, err);
    const char *name;
    for (int32_t i = 0; status == ST_OK && (name = model_tensor_name(model, i)) != NULL; i++)
        if (!graph_reads_tensor(graph, name))
            status = err_set(err, ST_MODEL_FORMAT, "tensor %s is none of this network's", name);
    free(graph);
    return status;
}

static Status run(const Model *model, const char *backend, Precision precision, const float *x,
                  float *ret_y, Err *err)
{
    const NetOptions options = {.backend = backend,
                                .batch = 1,
                                .height = HEIGHT,
                                .width = WIDTH,
                                .threads = 1,
                                .precision = precision_name(precision)};
    Net *net;
    TRY(net_open(model, &options, &net, err));
    Status status = net_run(net, x, 1, ret_y, err);
    net_close(net);
    return status;
}

static Status compare(const float *ref, const float *other, const char *backend,
                      double *ret_difference, Err *err)
{
    double largest = 0, scale = 1;
    bool is_one_value = true;
    for (int i = 0; i < PIXELS; i++) {
        if (!isfinite(ref[i]))
            return err_set(err, ST_MODEL_UNFIT,
                           "the synthetic slice comes out with values that are no numbers: the "
                           "weights are too large");
        if (!isfinite(other[i]))
            return err_set(err, ST_BACKEND, "backend %s gives values that are no numbers", backend);
        is_one_value = is_one_value && ref[i] == ref[0];
        largest = fmax(largest, fabs((double)ref[i] - (double)other[i]));
        scale = fmax(scale, fabs((double)ref[i]));
    }
    if (is_one_value)
        return err_set(err, ST_MODEL_UNFIT,
                       "the synthetic slice comes out as one value everywhere: the weights are 0, "
                       "or hold no picture");
    if (largest > VERIFY_TOLERANCE * scale)
        return err_set(err, ST_BACKEND, "backend %s differs from ref by %.3g, %.1e allowed",
                       backend, largest, VERIFY_TOLERANCE * scale);
    *ret_difference = largest;
    return ST_OK;
}

Status model_verify_precision(const Model *model, const char *backend, Precision precision,
                              Err *err)
{
    float *x = calloc(5 * PIXELS, sizeof *x); /* input, then two outputs */
    if (x == NULL)
        return err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    float *f32 = x + 3 * PIXELS, *other = x + 4 * PIXELS;
    golden_slice(HEIGHT, WIDTH, x);
    Status status = run(model, backend, PRECISION_F32, x, f32, err);
    if (status == ST_OK)
        status = run(model, backend, precision, x, other, err);
    double db = status == ST_OK ? metric_psnr_db(metric_mse(f32, other, PIXELS)) : 0;
    free(x);
    TRY(status);
    return db >= VERIFY_PSNR_DB
               ? ST_OK
               : err_set(err, ST_BACKEND,
                         "a synthetic slice in %s is %.1f dB near the one in f32, %.0f wanted: "
                         "calibrate with CT slices like those the model will see",
                         precision_name(precision), db, VERIFY_PSNR_DB);
}

/* Those that the model allows and this machine has. */
static Status check_precisions(const Model *model, const char *backend, Err *err)
{
    for (int p = PRECISION_BF16; p <= PRECISION_INT8; p++)
        if ((model_info(model)->precisions & 1u << p) != 0 && net_has(backend, (Precision)p))
            TRY(model_verify_precision(model, backend, (Precision)p, err));
    return ST_OK;
}

Status model_verify(const Model *model, const char *backend, double *ret_difference, Err *err)
{
    TRY(check_tensors(model, err));
    float *x = calloc(5 * PIXELS, sizeof *x); /* input, then two outputs */
    if (x == NULL)
        return err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    float *ref = x + 3 * PIXELS, *other = x + 4 * PIXELS;
    golden_slice(HEIGHT, WIDTH, x);
    Status status = run(model, "ref", PRECISION_F32, x, ref, err);
    if (status == ST_OK)
        status = run(model, backend, PRECISION_F32, x, other, err);
    if (status == ST_OK)
        status = compare(ref, other, backend, ret_difference, err);
    if (status == ST_OK)
        status = check_precisions(model, backend, err);
    free(x);
    return status;
}
