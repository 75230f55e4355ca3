/* The CPU backend's own loops: copies between convolutions, and the operations that passes leave
** out only for tests. Values are [h][w][c]. See dnnl_int.h. */
#include "gpu/dnnl_int.h"

#include "gpu/half.h"

#include <math.h>
#include <string.h>

static size_t count(const Value *v)
{
    return (size_t)graph_value_elements(v);
}

static float get(const unsigned char *data, size_t i, dnnl_data_type_t type)
{
    if (type == dnnl_bf16)
        return f32_from_bf16(((const uint16_t *)(const void *)data)[i]);
    return ((const float *)(const void *)data)[i];
}

static void put(unsigned char *data, size_t i, dnnl_data_type_t type, float value)
{
    if (type == dnnl_bf16)
        ((uint16_t *)(void *)data)[i] = bf16_from_f32(value);
    else
        ((float *)(void *)data)[i] = value;
}

void dnnl_interleave(const Dnnl *d, const float *x, int32_t value, unsigned char *values)
{
    const Value *v = &d->graph->values[value];
    size_t c = (size_t)v->c, plane = (size_t)v->h * (size_t)v->w;
    unsigned char *y = values + v->offset_bytes;
    if (d->types[value].type == dnnl_bf16) {
        for (size_t p = 0; p < plane; p++)
            for (size_t i = 0; i < c; i++)
                ((uint16_t *)(void *)y)[p * c + i] = bf16_from_f32(x[i * plane + p]);
        return;
    }
    for (size_t p = 0; p < plane; p++)
        for (size_t i = 0; i < c; i++)
            ((float *)(void *)y)[p * c + i] = x[i * plane + p];
}

/* y[oy][ox][at .. at + c) = x[oy / shrink][ox / shrink][0 .. c); at in bytes of a pixel of y. */
static void copy_channels(const unsigned char *x, const Value *in, unsigned char *y,
                          const Value *out, size_t at)
{
    int32_t shrink = out->h / in->h;
    size_t in_bytes = (size_t)in->c * (size_t)in->element_bytes;
    size_t out_bytes = (size_t)out->c * (size_t)out->element_bytes;
    for (int32_t oy = 0; oy < out->h; oy++) {
        const unsigned char *row = x + (size_t)(oy / shrink) * (size_t)in->w * in_bytes;
        unsigned char *to = y + (size_t)oy * (size_t)out->w * out_bytes + at;
        for (int32_t ox = 0; ox < out->w; ox++, to += out_bytes)
            memcpy(to, row + (size_t)(ox / shrink) * in_bytes, in_bytes);
    }
}

static void shuffle(const float *x, const Value *in, float *y)
{
    for (int32_t iy = 0; iy < in->h; iy++)
        for (int32_t a = 0; a < 2; a++)
            for (int32_t ix = 0; ix < in->w; ix++, y += 2) {
                const float *phases = x + ((size_t)iy * (size_t)in->w + (size_t)ix) * 4;
                y[0] = phases[2 * a];
                y[1] = phases[2 * a + 1];
            }
}

static void norm(const OpTensors *t, const unsigned char *x, const Value *v, dnnl_data_type_t type,
                 unsigned char *y)
{
    size_t c = (size_t)v->c, pixels = (size_t)v->h * (size_t)v->w;
    for (size_t k = 0; k < c; k++) {
        double scale =
            (double)t->gamma[k] / sqrt((double)t->variance[k] + GRAPH_BATCH_NORM_EPSILON);
        double shift = (double)t->beta[k] - (double)t->mean[k] * scale;
        for (size_t p = 0; p < pixels; p++)
            put(y, p * c + k, type, (float)((double)get(x, p * c + k, type) * scale + shift));
    }
}

static void sigmoid(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = 1.0f / (1.0f + expf(-x[i]));
}

void dnnl_run_own(const Dnnl *d, int32_t i, unsigned char *values)
{
    const Graph *graph = d->graph;
    const Op *op = &graph->ops[i];
    const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
    const Value *second = op->second >= 0 ? &graph->values[op->second] : NULL;
    dnnl_data_type_t type = d->types[op->input].type, to = d->types[op->output].type;
    const unsigned char *x = values + in->offset_bytes;
    unsigned char *y = values + out->offset_bytes;
    size_t n = count(out);
    switch (op->kind) {
    case OP_UP2:
        copy_channels(x, in, y, out, 0);
        break;
    case OP_CONCAT:
        copy_channels(x, in, y, out, 0);
        copy_channels(values + second->offset_bytes, second, y, out,
                      (size_t)in->c * (size_t)in->element_bytes);
        break;
    case OP_SHUFFLE:
        shuffle((const float *)(const void *)x, in, (float *)(void *)y);
        break;
    case OP_SIGMOID:
        sigmoid((const float *)(const void *)x, n, (float *)(void *)y);
        break;
    case OP_NORM:
        norm(&d->steps[i].norm, x, in, type, y);
        break;
    case OP_RELU:
        for (size_t k = 0; k < n; k++)
            put(y, k, to, fmaxf(get(x, k, type), 0));
        break;
    case OP_ADD:
        for (size_t k = 0; k < n; k++)
            put(y, k, to, get(x, k, type) + get(values + second->offset_bytes, k, type));
        break;
    case OP_CONV:
    case OP_MAXPOOL:
    case OP_CONVERT: /* have a primitive each */
        ASSERT(op->kind != OP_CONV && op->kind != OP_MAXPOOL && op->kind != OP_CONVERT);
    }
}
