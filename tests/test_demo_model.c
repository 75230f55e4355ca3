/* etc/models: the demonstration model on the fixed simulated slices that it was never trained
** on. */
#include "tests/test.h"

#include "gpu/metrics.h"
#include "gpu/net.h"
#include "tests/npz.h"

enum { SIDE = 256, PIXELS = SIDE * SIDE };

/* What etc/models/README.md says of it, with room for another processor's last bits. */
static const double PSNR_DB = 30.25, SSIM = 0.915;

TEST(demo_model_score, "the demonstration model is as good on val.npz as its card says")
{
    const char *path = test_shared("models/val.npz");
    NpzArray ct = npz_read(path, "ct"), mr = npz_read(path, "mr");
    const NetOptions options = {
        .backend = "cpu", .batch = 1, .height = SIDE, .width = SIDE, .precision = "f32"};
    size_t n = ct.dims[0];
    CHECK(ct.n == n * PIXELS && mr.n == ct.n);
    float *x = malloc(3 * ct.n * sizeof *x), *y = malloc(ct.n * sizeof *y), want[PIXELS];
    CHECK(x != NULL && y != NULL);
    Err err = {0};
    Model *model;
    Net *net;
    CHECK_OK(model_open("etc/models/demo-t1-w16.safetensors", &model, &err), &err);
    const ModelInfo *info = model_info(model);
    for (size_t i = 0; i < 3 * ct.n; i++) {
        size_t slice = i / (3 * PIXELS), channel = i / PIXELS % 3;
        float value = (float)(ct.data[slice * PIXELS + i % PIXELS] / 255);
        x[i] = (value - info->mean[channel]) / info->std[channel];
    }
    CHECK_OK(net_open(model, &options, &net, &err), &err);
    CHECK_OK(net_run(net, x, (int32_t)n, y, &err), &err);
    double psnr_db = 0, ssim = 0, one;
    for (size_t k = 0; k < n; k++) {
        float *got = y + k * PIXELS;
        for (size_t i = 0; i < PIXELS; i++) {
            got[i] = rintf(got[i] * 255) / 255;
            want[i] = (float)(mr.data[k * PIXELS + i] / 255);
        }
        psnr_db += metric_psnr_db(metric_mse(want, got, PIXELS)) / (double)n;
        CHECK_OK(metric_ssim(want, got, SIDE, SIDE, &one, &err), &err);
        ssim += one / (double)n;
    }
    printf("# PSNR %.2f dB, SSIM %.4f\n", psnr_db, ssim);
    CHECK(psnr_db >= PSNR_DB);
    CHECK(ssim >= SSIM);
    net_close(net);
    model_close(model);
    free(x);
    free(y);
    free(ct.data);
    free(mr.data);
}
