/* See cuda_emulator_kernels.h. */
#include "tests/cuda_emulator_kernels.h"

#include "gpu/half.h"

typedef struct Fit {
    const KernelCall *k;
    bool (*is_device)(const void *at, size_t size_bytes);
} Fit;

/* Bytes of n slices of h x w with c channels of that size. */
static size_t area(const KernelCall *k, int32_t c, size_t bytes)
{
    return (size_t)k->n * (size_t)k->h * (size_t)k->w * (size_t)c * bytes;
}

static bool has(const Fit *f, const void *at, size_t size_bytes)
{
    return f->is_device(at, size_bytes);
}

static bool may(const Fit *f, const void *at, size_t size_bytes) /* NULL is fine */
{
    return at == NULL || f->is_device(at, size_bytes);
}

static bool has_count(const Fit *f)
{
    return has(f, f->k->count, sizeof *f->k->count);
}

static bool fits_inference(const Fit *f)
{
    const KernelCall *k = f->k;
    switch (k->kind) {
    case KERNEL_PACK:
        return has(f, k->a, area(k, k->c, 4)) && has(f, k->y, area(k, 8, 2));
    case KERNEL_MAXPOOL:
        return has(f, k->a, area(k, k->c, 2)) && has(f, k->y, area(k, k->c, 2) / 4);
    case KERNEL_CONCAT:
        return has(f, k->a, area(k, k->c, 2) / (k->doubles ? 4 : 1)) &&
               (k->c2 == 0 || has(f, k->b, area(k, k->c2, 2))) &&
               has(f, k->y, area(k, k->c + k->c2, 2));
    default:
        return k->kind == KERNEL_UNPACK && has(f, k->a, area(k, k->c, 2)) &&
               has(f, k->y, area(k, k->c2, k->shuffle ? 16 : 4)) && has_count(f);
    }
}

/* The largest number of a parameter that the strides reach. */
static size_t parameter_bytes(const KernelCall *k)
{
    int64_t last = (int64_t)(k->n - 1) * k->stride_o + (int64_t)(k->c - 1) * k->stride_i +
                   (int64_t)k->side * k->side - 1;
    return (size_t)(last + 1) * sizeof(float);
}

static bool fits_numbers(const Fit *f)
{
    const KernelCall *k = f->k;
    size_t halves = (size_t)k->h * (size_t)k->side * (size_t)k->side * (size_t)k->w * 2;
    size_t floats = (size_t)k->n * sizeof(float);
    switch (k->kind) {
    case KERNEL_CAST_WEIGHTS:
        return has(f, k->a, parameter_bytes(k)) && has(f, k->y, halves);
    case KERNEL_TAKE_WEIGHTS:
        return has(f, k->a, halves) && has(f, k->y, parameter_bytes(k)) && has_count(f);
    case KERNEL_LOSS_GRADIENT:
        return has(f, k->a, area(k, k->c2, 4)) &&
               has(f, k->y, k->wide ? area(k, 1, 4) : area(k, k->c, 2));
    default:
        return k->kind == KERNEL_SCALE && has(f, k->a, floats) && has(f, k->y, floats) &&
               has_count(f);
    }
}

static bool fits_sums(const Fit *f)
{
    const KernelCall *k = f->k;
    size_t columns = (size_t)k->c * (k->kind == KERNEL_COLUMNS ? 1 : 2), pixels = area(k, 1, 1);
    size_t rows = (pixels + SUM_PIXELS - 1) / SUM_PIXELS;
    if (k->kind == KERNEL_SUM_ROWS) {
        size_t n = (size_t)k->n, c = (size_t)k->c * sizeof(float);
        return has(f, k->a, n * c) && has(f, k->y, (n + SUM_ROWS - 1) / SUM_ROWS * c);
    }
    return has(f, k->a, area(k, k->c, 2)) && has(f, k->y, rows * columns * sizeof(float)) &&
           (k->kind != KERNEL_PRODUCTS ||
            (has(f, k->b, area(k, k->c, 2)) && has(f, k->norm.mean, (size_t)k->c * 4)));
}

static bool fits_norm(const Fit *f)
{
    const KernelCall *k = f->k;
    const KernelNorm *norm = &k->norm;
    size_t row = (size_t)k->c * sizeof(float), values = area(k, k->c, 2);
    bool used = has(f, norm->mean, row) && has(f, norm->scale, row);
    switch (k->kind) {
    case KERNEL_NORM_STATISTICS:
        return used && has(f, norm->inverse_sd, row) && has(f, norm->gamma, row) &&
               has(f, norm->running_mean, row) && has(f, norm->running_variance, row) &&
               may(f, k->a, 2 * row) && (k->a == NULL || has(f, k->b, values));
    case KERNEL_NORM_APPLY:
        return used && has(f, norm->beta, row) && has(f, k->a, values) && has(f, k->y, values) &&
               may(f, k->b, k->doubles ? values / 4 : values);
    case KERNEL_NORM_GRADIENTS:
        return used && has(f, norm->inverse_sd, row) && has(f, norm->dgamma, row) &&
               has(f, norm->dbeta, row) && has(f, norm->k0, row) && has(f, norm->k2, row) &&
               has(f, k->a, 2 * row) && has_count(f);
    default:
        return k->kind == KERNEL_NORM_BACK && used && has(f, k->a, values) &&
               has(f, k->y, values) && may(f, norm->k0, row) && may(f, norm->k2, row) &&
               (norm->k0 == NULL || has(f, k->b, values));
    }
}

static bool fits_shapes(const Fit *f)
{
    const KernelCall *k = f->k;
    size_t values = area(k, k->c, 2), pixels = area(k, 1, 1);
    switch (k->kind) {
    case KERNEL_POINT:
        return has(f, k->a, values) && may(f, k->b, values) && may(f, k->gate, values) &&
               has(f, k->y, values) && may(f, k->y2, values);
    case KERNEL_POOL:
        return has(f, k->a, values) && has(f, k->y, values / 4) && has(f, k->y2, values / 8);
    case KERNEL_POOL_BACK:
        return has(f, k->a, values / 4) && has(f, k->b, values / 8) && has(f, k->y, values);
    case KERNEL_TAKE:
        return has(f, k->a, area(k, k->c2, k->doubles ? 8 : 2)) && has(f, k->y, values) &&
               k->offset % 8 == 0 && k->offset + k->c <= k->c2;
    case KERNEL_TAPS:
        return has(f, k->a, k->doubles ? values / 4 : values) && may(f, k->b, 4) &&
               has(f, k->y, 4 * pixels);
    default:
        return k->kind == KERNEL_TAPS_BACK && has(f, k->a, 4 * pixels) &&
               has(f, k->y, k->doubles ? values / 4 : values);
    }
}

bool emulated_kernel_fits(const KernelCall *call,
                          bool (*is_device)(const void *at, size_t size_bytes))
{
    const Fit f = {call, is_device};
    if (call->kind <= KERNEL_UNPACK)
        return fits_inference(&f);
    if (call->kind <= KERNEL_SCALE)
        return fits_numbers(&f);
    if (call->kind <= KERNEL_SUM_ROWS)
        return fits_sums(&f);
    return call->kind <= KERNEL_NORM_BACK ? fits_norm(&f) : fits_shapes(&f);
}

/* ---- a planted fault ----------------------------------------------------------------------- */

static void spoil_floats(float *at, size_t n, float factor)
{
    for (size_t i = 0; at != NULL && i < n; i++)
        at[i] *= factor;
}

static void spoil_halves(void *at, size_t n, float factor)
{
    uint16_t *half = at;
    for (size_t i = 0; half != NULL && i < n; i++)
        half[i] = f16_from_f32(factor * f32_from_f16(half[i]));
}

/* By kind; the numbers are those of the fits_ functions above. */
void emulated_kernel_spoil(const KernelCall *k, float factor)
{
    size_t values = area(k, k->c, 1), pixels = area(k, 1, 1), c = (size_t)k->c;
    size_t rows = (pixels + SUM_PIXELS - 1) / SUM_PIXELS;
    switch (k->kind) {
    case KERNEL_PACK:
        spoil_halves(k->y, 8 * pixels, factor);
        break;
    case KERNEL_MAXPOOL:
    case KERNEL_POOL:
        spoil_halves(k->y, values / 4, factor);
        break;
    case KERNEL_CONCAT:
        spoil_halves(k->y, area(k, k->c + k->c2, 1), factor);
        break;
    case KERNEL_UNPACK:
        spoil_floats(k->y, area(k, k->c2, k->shuffle ? 4 : 1), factor);
        break;
    case KERNEL_CAST_WEIGHTS:
        spoil_halves(k->y, (size_t)k->h * (size_t)k->side * (size_t)k->side * (size_t)k->w, factor);
        break;
    case KERNEL_TAKE_WEIGHTS:
        spoil_floats(k->y, parameter_bytes(k) / sizeof(float), factor);
        break;
    case KERNEL_LOSS_GRADIENT:
        if (k->wide)
            spoil_floats(k->y, pixels, factor);
        else
            spoil_halves(k->y, values, factor);
        break;
    case KERNEL_SCALE:
        spoil_floats(k->y, (size_t)k->n, factor);
        break;
    case KERNEL_MOMENTS:
    case KERNEL_PRODUCTS:
        spoil_floats(k->y, 2 * rows * c, factor);
        break;
    case KERNEL_COLUMNS:
        spoil_floats(k->y, rows * c, factor);
        break;
    case KERNEL_SUM_ROWS:
        spoil_floats(k->y, ((size_t)k->n + SUM_ROWS - 1) / SUM_ROWS * c, factor);
        break;
    case KERNEL_NORM_STATISTICS:
        spoil_floats(k->norm.scale, c, factor);
        break;
    case KERNEL_NORM_GRADIENTS:
        spoil_floats(k->norm.k0, c, factor);
        spoil_floats(k->norm.dgamma, c, factor);
        break;
    case KERNEL_TAPS:
        spoil_floats(k->y, pixels, factor);
        break;
    case KERNEL_TAPS_BACK:
        spoil_halves(k->y, k->doubles ? values / 4 : values, factor);
        break;
    case KERNEL_POINT:
        spoil_halves(k->y2, k->y2 != k->y ? values : 0, factor);
        spoil_halves(k->y, values, factor);
        break;
    case KERNEL_NORM_APPLY:
    case KERNEL_NORM_BACK:
    case KERNEL_POOL_BACK:
    case KERNEL_TAKE:
        spoil_halves(k->y, values, factor);
        break;
    }
}
