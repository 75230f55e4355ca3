/* oneDNN's primitives for the operations of a graph, and their weights. See dnnl_int.h.
**
** Batch norm is folded into weights and bias, the residual sum and ReLU are done by the convolution
** itself. Values are [h][w][c] (measured faster than oneDNN's blocked layouts here), weights in
** the layout that each primitive asks for.
**
** int8 (oneDNN developer guide, "Int8 inference"): with source scale sx, weight scales sw[o] and
** destination scale sy, dst = sx sw[o] / sy * (sum of products + bias / (sx sw[o])) + sr / sy *
** residual. */
#include "gpu/dnnl_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t weights_bytes(const Step *step)
{
    return dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_weights_md, 0));
}

dnnl_status_t dnnl_value_desc(const Dnnl *d, int32_t value, dnnl_memory_desc_t *ret)
{
    const Value *v = &d->graph->values[value];
    const dnnl_dims_t dims = {1, v->c, v->h, v->w};
    return dnnl_memory_desc_init_by_tag(ret, 4, dims, d->types[value].type,
                                        d->types[value].blocked ? dnnl_nChw16c : dnnl_nhwc);
}

static bool is_int8(const Dnnl *d, const Op *op)
{
    return d->types[op->input].type == dnnl_u8;
}

/* ---- primitives ---------------------------------------------------------------------------- */

static dnnl_status_t add_post_ops(const Dnnl *d, const Op *op, dnnl_post_ops_t post)
{
    dnnl_status_t s = dnnl_success;
    if (op->kind == OP_CONV && op->second >= 0) { /* the output's memory holds the residual */
        const ValueType *residual = &d->types[op->second], *to = &d->types[op->output];
        s = dnnl_post_ops_append_sum_v2(post, residual->scale / to->scale, residual->type);
    }
    if (s == dnnl_success && op->kind == OP_CONV && op->relu)
        s = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    return s;
}

/* output_scales: one per output channel, or NULL. */
static dnnl_status_t make_attributes(const Dnnl *d, const Op *op, const float *output_scales,
                                     dnnl_primitive_attr_t *ret)
{
    dnnl_post_ops_t post = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(ret);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(*ret, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && output_scales != NULL)
        s = dnnl_primitive_attr_set_output_scales(*ret, d->graph->values[op->output].c, 1 << 1,
                                                  output_scales);
    if (s == dnnl_success)
        s = dnnl_post_ops_create(&post);
    if (s == dnnl_success)
        s = add_post_ops(d, op, post);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_post_ops(*ret, post);
    (void)dnnl_post_ops_destroy(post);
    return s;
}

static dnnl_status_t make_pool(const Dnnl *d, const Op *op, dnnl_primitive_attr_t attributes,
                               dnnl_primitive_desc_t *ret)
{
    const dnnl_dims_t strides = {op->stride, op->stride}, kernel = {op->kernel, op->kernel};
    const dnnl_dims_t low = {(op->kernel - 1) / 2, (op->kernel - 1) / 2}, high = {0, 0};
    dnnl_memory_desc_t src, dst;
    dnnl_pooling_desc_t desc;
    dnnl_status_t s = dnnl_value_desc(d, op->input, &src);
    if (s == dnnl_success)
        s = dnnl_value_desc(d, op->output, &dst);
    if (s == dnnl_success)
        s = dnnl_pooling_forward_desc_init(&desc, dnnl_forward_inference, dnnl_pooling_max, &src,
                                           &dst, strides, kernel, low, high);
    return s == dnnl_success ? dnnl_primitive_desc_create(ret, &desc, attributes, d->engine, NULL)
                             : s;
}

/* What oneDNN's implementations of a way have in their names; it offers them in its own order. */
static const char *const WAY_NAMES[WAY_COUNT] = {"", "wino_2x3", "wino_4x3"};

static dnnl_status_t make_conv_desc(const Dnnl *d, const dnnl_convolution_desc_t *desc,
                                    WinogradWay way, dnnl_primitive_attr_t attributes,
                                    dnnl_primitive_desc_t *ret)
{
    dnnl_primitive_desc_iterator_t all = NULL;
    dnnl_status_t s = dnnl_primitive_desc_iterator_create(&all, desc, attributes, d->engine, NULL);
    for (; s == dnnl_success; s = dnnl_primitive_desc_iterator_next(all)) {
        const char *name = NULL;
        dnnl_primitive_desc_t one = dnnl_primitive_desc_iterator_fetch(all);
        s = dnnl_primitive_desc_query(one, dnnl_query_impl_info_str, 0, &name);
        if (s == dnnl_success && strstr(name, WAY_NAMES[way]) != NULL) {
            *ret = one;
            break;
        }
        (void)dnnl_primitive_desc_destroy(one);
    }
    (void)dnnl_primitive_desc_iterator_destroy(all);
    return s == dnnl_iterator_ends ? dnnl_unimplemented : s;
}

static dnnl_status_t make_conv(const Dnnl *d, const Op *op, dnnl_primitive_attr_t attributes,
                               dnnl_primitive_desc_t *ret)
{
    WinogradWay way = winograd_way(&d->winograd, d->graph, op);
    dnnl_alg_kind_t algorithm =
        way == WAY_DIRECT ? dnnl_convolution_direct : dnnl_convolution_winograd;
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    int32_t k = graph_conv_kernel(op);
    const dnnl_dims_t w_dims = {out->c, in->c, k, k}, b_dims = {out->c};
    const dnnl_dims_t strides = {op->stride, op->stride}, low = {k / 2, k / 2};
    /* What the last window needs beyond the end; sides are even, so the same for h and w. */
    int32_t beyond = (out->h - 1) * op->stride + k - in->h - k / 2, high = beyond > 0 ? beyond : 0;
    const dnnl_dims_t highs = {high, high};
    dnnl_data_type_t weight_type = is_int8(d, op) ? dnnl_s8 : d->types[op->input].type;
    dnnl_memory_desc_t src, weights, bias, dst;
    dnnl_convolution_desc_t desc;
    dnnl_status_t s = dnnl_value_desc(d, op->input, &src);
    if (s == dnnl_success)
        s = dnnl_value_desc(d, op->output, &dst);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&weights, 4, w_dims, weight_type, dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&bias, 1, b_dims, dnnl_f32, dnnl_a);
    if (s == dnnl_success)
        s = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, algorithm, &src,
                                               &weights, &bias, &dst, strides, low, highs);
    return s == dnnl_success ? make_conv_desc(d, &desc, way, attributes, ret) : s;
}

static dnnl_status_t make_conversion(const Dnnl *d, const Op *op, dnnl_primitive_attr_t attributes,
                                     dnnl_primitive_desc_t *ret)
{
    float scale = d->types[op->input].scale / d->types[op->output].scale;
    dnnl_memory_desc_t from, to;
    dnnl_status_t s = dnnl_value_desc(d, op->input, &from);
    if (s == dnnl_success)
        s = dnnl_value_desc(d, op->output, &to);
    if (s == dnnl_success && scale != 1.0f)
        s = dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &scale);
    return s == dnnl_success ? dnnl_reorder_primitive_desc_create(ret, &from, d->engine, &to,
                                                                  d->engine, attributes)
                             : s;
}

static Status make_primitive(Dnnl *d, const Op *op, const float *output_scales, Step *step,
                             Err *err)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t s = make_attributes(d, op, output_scales, &attributes);
    if (s == dnnl_success)
        s = op->kind == OP_MAXPOOL   ? make_pool(d, op, attributes, &step->desc)
            : op->kind == OP_CONVERT ? make_conversion(d, op, attributes, &step->desc)
                                     : make_conv(d, op, attributes, &step->desc);
    (void)dnnl_primitive_attr_destroy(attributes);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&step->primitive, step->desc);
    TRY(dnnl_check(s, op, "making the primitive", err));
    size_t bytes = dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_scratchpad_md, 0));
    d->scratch_bytes = bytes > d->scratch_bytes ? bytes : d->scratch_bytes;
    return ST_OK;
}

/* ---- weights ------------------------------------------------------------------------------- */

typedef struct Plain {        /* weights of one convolution on their way; room for the largest */
    float *w, *bias, *scales; /* (c_out, c_in, k, k), (c_out), (c_out) */
    int8_t *w_s8;
} Plain;

static size_t weight_count(const Graph *graph, const Op *op)
{
    size_t k = (size_t)graph_conv_kernel(op);
    return (size_t)graph->values[op->output].c * (size_t)graph->values[op->input].c * k * k;
}

/* Weights to s8 with a scale per output channel; bias and scales as the primitive wants them. */
static void quantize(const Dnnl *d, const Op *op, Plain *p)
{
    size_t c_out = (size_t)d->graph->values[op->output].c;
    size_t n = weight_count(d->graph, op) / c_out;
    float sx = d->types[op->input].scale, sy = d->types[op->output].scale;
    for (size_t o = 0; o < c_out; o++) {
        const float *w = p->w + o * n;
        float largest = 0;
        for (size_t i = 0; i < n; i++)
            largest = fmaxf(largest, fabsf(w[i]));
        float sw = largest > 0 ? largest / 127.0f : 1.0f;
        for (size_t i = 0; i < n; i++)
            p->w_s8[o * n + i] = (int8_t)lrintf(w[i] / sw);
        p->bias[o] /= sx * sw;
        p->scales[o] = sx * sw / sy;
    }
}

/* Plain (c_out, c_in, k, k) weights into the layout and type of the primitive. */
static Status reorder_weights(const Dnnl *d, const Op *op, const Step *step, void *plain,
                              dnnl_data_type_t type, Err *err)
{
    const Value *in = &d->graph->values[op->input], *out = &d->graph->values[op->output];
    int32_t k = graph_conv_kernel(op);
    const dnnl_dims_t dims = {out->c, in->c, k, k};
    const dnnl_memory_desc_t *to =
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_weights_md, 0);
    dnnl_memory_desc_t from;
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_stream_t stream = d->workers[0].stream;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&from, 4, dims, type, dnnl_oihw);
    if (s == dnnl_success)
        s = dnnl_memory_create(&source, &from, d->engine, plain);
    if (s == dnnl_success)
        s = dnnl_reorder_primitive_desc_create(&desc, &from, d->engine, to, d->engine, NULL);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&reorder, desc);
    if (s == dnnl_success) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, step->weights}};
        s = dnnl_primitive_execute(reorder, stream, 2, args);
    }
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    (void)dnnl_primitive_destroy(reorder);
    (void)dnnl_primitive_desc_destroy(desc);
    (void)dnnl_memory_destroy(source);
    return dnnl_check(s, op, "laying out weights", err);
}

/* The convolution's primitive and weights: int8 scales must be known before it is made. */
static Status load_conv(Dnnl *d, const Op *op, Step *step, const Model *model, Plain *plain,
                        Err *err)
{
    size_t c_out = (size_t)d->graph->values[op->output].c;
    bool int8 = is_int8(d, op);
    OpTensors tensors;
    TRY(graph_read_tensors(d->graph, op, model, &tensors, err));
    Status status = graph_fold(d->graph, op, &tensors, plain->w, plain->bias, err);
    graph_tensors_free(&tensors);
    TRY(status);
    if (int8)
        quantize(d, op, plain);
    TRY(make_primitive(d, op, int8 ? plain->scales : NULL, step, err));
    void *laid_out = arena_alloc(&d->weights, weights_bytes(step), 1, err);
    float *bias = arena_alloc(&d->weights, c_out, sizeof *bias, err);
    if (laid_out == NULL || bias == NULL)
        return ST_LIMIT;
    memcpy(bias, plain->bias, c_out * sizeof *bias);
    const dnnl_memory_desc_t *desc =
        dnnl_primitive_desc_query_md(step->desc, dnnl_query_weights_md, 0);
    const dnnl_dims_t bias_dims = {(dnnl_dim_t)c_out};
    dnnl_memory_desc_t bias_desc;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&bias_desc, 1, bias_dims, dnnl_f32, dnnl_a);
    if (s == dnnl_success)
        s = dnnl_memory_create(&step->weights, desc, d->engine, laid_out);
    if (s == dnnl_success)
        s = dnnl_memory_create(&step->bias, &bias_desc, d->engine, bias);
    TRY(dnnl_check(s, op, "memory for weights", err));
    return int8 ? reorder_weights(d, op, step, plain->w_s8, dnnl_s8, err)
                : reorder_weights(d, op, step, plain->w, dnnl_f32, err);
}

static Status load_op(Dnnl *d, int32_t i, const Model *model, Plain *plain, Err *err)
{
    const Op *op = &d->graph->ops[i];
    Step *step = &d->steps[i];
    if (op->kind == OP_CONV)
        return load_conv(d, op, step, model, plain, err);
    if (op->kind == OP_MAXPOOL || op->kind == OP_CONVERT)
        return make_primitive(d, op, NULL, step, err);
    if (op->kind == OP_NORM)
        return graph_read_tensors(d->graph, op, model, &step->norm, err);
    return ST_OK;
}

Status dnnl_make_steps(Dnnl *d, const Model *model, Err *err)
{
    const Graph *graph = d->graph;
    size_t total = 0, largest = 1, most = 1;
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        if (op->kind != OP_CONV)
            continue;
        size_t n = weight_count(graph, op), c_out = (size_t)graph->values[op->output].c;
        largest = n > largest ? n : largest;
        most = c_out > most ? c_out : most;
        /* Blocked layouts round channels up, to at most 64 of them at a time; Winograd's weights
        ** are of tiles, of at most 6 x 6. */
        size_t k = (size_t)graph_conv_kernel(op), c_in = (size_t)graph->values[op->input].c;
        size_t taps =
            winograd_way(&d->winograd, graph, op) != WAY_DIRECT ? (k + 3) * (k + 3) : k * k;
        total += 4 * (c_out + 64) * (c_in + 64) * taps + 8 * c_out + 256;
    }
    TRY(arena_open(total, &d->weights, err)); /* address space: pages come when written */
    Plain plain = {malloc(largest * sizeof(float)), malloc(most * sizeof(float)),
                   malloc(most * sizeof(float)), malloc(largest)};
    Status status = ST_OK;
    if (plain.w == NULL || plain.bias == NULL || plain.scales == NULL || plain.w_s8 == NULL)
        status = err_set(err, ST_NO_MEMORY, "laying out weights");
    for (int32_t i = 0; status == ST_OK && i < graph->n_ops; i++)
        status = load_op(d, i, model, &plain, err);
    free(plain.w);
    free(plain.bias);
    free(plain.scales);
    free(plain.w_s8);
    return status;
}

Status dnnl_weigh_conv(const Graph *one, const WinogradChoice *choice, bool *ret_has,
                       size_t *ret_weights_bytes, size_t *ret_scratch_bytes, Err *err)
{
    Dnnl *d = calloc(1, sizeof *d);
    Graph *graph = malloc(sizeof *graph);
    Err why = {0};
    Status status =
        d == NULL || graph == NULL ? err_set(&why, ST_NO_MEMORY, "the network's table") : ST_OK;
    if (status == ST_OK) {
        d->graph = graph;
        d->winograd = *choice;
        status = dnnl_check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), NULL, "the engine", &why);
    }
    if (status == ST_OK)
        status = dnnl_choose_types(d, one, NULL, &why);
    for (int32_t i = 0; status == ST_OK && i < graph->n_ops; i++)
        if (graph->ops[i].kind == OP_CONV) {
            status = make_primitive(d, &graph->ops[i], NULL, &d->steps[i], &why);
            *ret_weights_bytes = status == ST_OK ? weights_bytes(&d->steps[i]) : 0;
        }
    *ret_has = status == ST_OK;
    if (d != NULL) {
        *ret_scratch_bytes = d->scratch_bytes;
        dnnl_destroy_steps(d);
        (void)dnnl_engine_destroy(d->engine);
    }
    free(graph);
    free(d);
    if (status == ST_OK || status == ST_BACKEND) /* BACKEND: oneDNN does not have it */
        return ST_OK;
    return err_set(err, status, "%s", why.msg);
}

void dnnl_destroy_steps(Dnnl *d)
{
    for (int32_t i = 0; i < GRAPH_MAX_OPS; i++) {
        (void)dnnl_memory_destroy(d->steps[i].weights);
        (void)dnnl_memory_destroy(d->steps[i].bias);
        (void)dnnl_primitive_destroy(d->steps[i].primitive);
        (void)dnnl_primitive_desc_destroy(d->steps[i].desc);
        graph_tensors_free(&d->steps[i].norm);
    }
    arena_close(&d->weights);
}
