/* A slice through the CPU backend, operation by operation, for the self-test. Conversions are part
** of the operation that they prepare. See dnnl_int.h. */
#include "gpu/dnnl_int.h"

#include "gpu/half.h"

#include <stdlib.h>

static float get(const void *data, size_t i, dnnl_data_type_t type)
{
    switch (type) {
    case dnnl_bf16:
        return f32_from_bf16(((const uint16_t *)data)[i]);
    case dnnl_u8:
        return (float)((const uint8_t *)data)[i];
    case dnnl_s8:
        return (float)((const int8_t *)data)[i];
    default:
        return ((const float *)data)[i];
    }
}

/* As stored, [h][w][c] or nChw16c -> (c, h, w). */
static void read_value(const Dnnl *d, int32_t index, const unsigned char *values, float *ret)
{
    enum { BLOCK = 16 };
    const Value *v = &d->graph->values[index];
    const ValueType *t = &d->types[index];
    size_t c = (size_t)v->c, plane = (size_t)v->h * (size_t)v->w;
    size_t group = t->blocked ? BLOCK : c;
    for (size_t i = 0; i < c; i++)
        for (size_t p = 0; p < plane; p++)
            *ret++ = t->scale * get(values + v->offset_bytes,
                                    (i / group * plane + p) * group + i % group, t->type);
}

static Status run_step(const Dnnl *d, int32_t i, Err *err)
{
    const Worker *worker = &d->workers[0];
    int before = dnnl_team_enter(&d->team);
    dnnl_status_t s = dnnl_run_step(d, worker, i);
    if (s == dnnl_success)
        s = dnnl_stream_wait(worker->stream);
    dnnl_team_leave(&d->team, before);
    return dnnl_check(s, &d->graph->ops[i], "running", err);
}

static Steps steps_of(const ValueType *t)
{
    if (t->type == dnnl_u8)
        return (Steps){t->scale, 0, 255 * t->scale};
    if (t->type == dnnl_s8)
        return (Steps){t->scale, -128 * t->scale, 127 * t->scale};
    return (Steps){0};
}

/* The value and how operation i of d->graph made it; -1: the input came in. */
static Status show_value(const Dnnl *d, int32_t value, float *memory, int32_t i, int32_t op,
                         BackendShow *show, void *context, Err *err)
{
    ShownValue shown = {.y = memory, .steps = steps_of(&d->types[value]), .weights = PRECISION_F32};
    if (i >= 0) {
        const Op *done = &d->graph->ops[i];
        const ValueType *x = &d->types[done->input];
        shown.weights = x->type == dnnl_u8     ? PRECISION_INT8
                        : x->type == dnnl_bf16 ? PRECISION_BF16
                                               : PRECISION_F32;
        shown.inputs[0] = steps_of(x);
        if (done->second >= 0)
            shown.inputs[1] = steps_of(&d->types[done->second]);
    }
    read_value(d, value, d->workers[0].values, memory);
    return show(context, op, &shown, err);
}

Status dnnl_run_shown(void *state, const NetFeed *feed, BackendShow *show, void *context, Err *err)
{
    Dnnl *d = state;
    const Graph *graph = d->graph;
    int64_t most = 0;
    for (int32_t v = 0; v < graph->n_values; v++)
        most = graph_value_elements(&graph->values[v]) > most
                   ? graph_value_elements(&graph->values[v])
                   : most;
    float *memory = malloc((size_t)most * sizeof *memory);
    if (memory == NULL)
        return err_set(err, ST_NO_MEMORY, "a slice for the self-test");
    feed->fill(feed->context, 0, d->workers[0].x);
    dnnl_interleave(d, d->workers[0].x, graph->input, d->workers[0].values);
    Status status = show_value(d, graph->input, memory, -1, -1, show, context, err);
    for (int32_t i = 0, op = 0; status == ST_OK && i < graph->n_ops; i++) {
        status = run_step(d, i, err);
        if (status == ST_OK && graph->ops[i].kind != OP_CONVERT)
            status = show_value(d, graph->ops[i].output, memory, i, op++, show, context, err);
    }
    free(memory);
    return status;
}
