/* oneDNN's convolutions in training. See train_dnnl_int.h.
**
** Values are (n, h, w, c); weights are in whatever layout a primitive asks for, and reordered from
** and to the parameter's own when they change. A head's 1x1 to its taps reads the parameter
** (1, c, k, k) as (k k, c, 1, 1): a matter of strides. */
#include "gpu/train_dnnl_int.h"

#include <string.h>

static dnnl_data_type_t type_of(const TrainValue *v)
{
    return v->element_bytes == 4 ? dnnl_f32 : dnnl_bf16;
}

static dnnl_status_t value_desc(const TrainNet *net, const TrainValue *v, dnnl_memory_desc_t *ret)
{
    const dnnl_dims_t dims = {net->batch, v->c, v->h, v->w};
    return dnnl_memory_desc_init_by_tag(ret, 4, dims, type_of(v), dnnl_nhwc);
}

typedef struct Shape { /* of a convolution as oneDNN is asked for it */
    dnnl_dims_t weights, plain_strides;
    dnnl_dims_t strides, low, high;
} Shape;

static Shape shape_of(const TrainStep *step, const TrainValue *in, const TrainValue *out)
{
    int32_t k = step->taps ? 1 : step->kernel;
    int32_t beyond_h = (out->h - 1) * step->stride + k - in->h - k / 2;
    int32_t beyond_w = (out->w - 1) * step->stride + k - in->w - k / 2;
    Shape s = {.weights = {out->c, in->c, k, k},
               .plain_strides = {(dnnl_dim_t)in->c * k * k, k * k, k, 1},
               .strides = {step->stride, step->stride},
               .low = {k / 2, k / 2},
               .high = {beyond_h > 0 ? beyond_h : 0, beyond_w > 0 ? beyond_w : 0}};
    if (step->taps) {
        s.plain_strides[0] = 1;
        s.plain_strides[1] = out->c;
    }
    return s;
}

static dnnl_status_t plain_desc(const Shape *shape, dnnl_memory_desc_t *ret)
{
    return dnnl_memory_desc_init_by_strides(ret, 4, shape->weights, dnnl_f32, shape->plain_strides);
}

/* ---- primitives ---------------------------------------------------------------------------- */

/* The first implementation that oneDNN offers whose name does not hold `without` ("": any). */
static dnnl_status_t make_desc(const TrainDnnl *d, const_dnnl_op_desc_t desc,
                               const_dnnl_primitive_desc_t hint, const char *without,
                               dnnl_primitive_desc_t *ret)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_iterator_t all = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attributes);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_iterator_create(&all, desc, attributes, d->engine, hint);
    for (; s == dnnl_success; s = dnnl_primitive_desc_iterator_next(all)) {
        const char *name = NULL;
        dnnl_primitive_desc_t one = dnnl_primitive_desc_iterator_fetch(all);
        s = dnnl_primitive_desc_query(one, dnnl_query_impl_info_str, 0, &name);
        if (s == dnnl_success && (without[0] == '\0' || strstr(name, without) == NULL)) {
            *ret = one;
            break;
        }
        (void)dnnl_primitive_desc_destroy(one);
    }
    (void)dnnl_primitive_desc_iterator_destroy(all);
    (void)dnnl_primitive_attr_destroy(attributes);
    return s == dnnl_iterator_ends ? dnnl_unimplemented : s;
}

static dnnl_status_t make_call(TrainDnnl *d, const_dnnl_op_desc_t desc,
                               const_dnnl_primitive_desc_t hint, const char *without, Call *ret)
{
    dnnl_status_t s = make_desc(d, desc, hint, without, &ret->desc);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&ret->primitive, ret->desc);
    if (s != dnnl_success)
        return s;
    size_t bytes = dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(ret->desc, dnnl_query_scratchpad_md, 0));
    d->scratch_bytes = bytes > d->scratch_bytes ? bytes : d->scratch_bytes;
    return dnnl_success;
}

/* In part of the name of an implementation whose gradient of these weights is wrong, or "". oneDNN
** 2.6's 1x1 for AVX-512 copies a strided image's pixels in blocks of 16 channels first; with fewer
** it reads what was never written (not in every run: it depends on threads and memory). */
static const char *wrong_back_weights(const TrainStep *step, const Shape *shape)
{
    bool strided = step->stride > 1 && shape->weights[2] == 1 && shape->weights[3] == 1;
    return strided && shape->weights[1] % 16 != 0 ? "1x1" : "";
}

typedef struct Descs {
    dnnl_memory_desc_t x, y, weights, gradient, bias;
    bool has_bias;
} Descs;

static dnnl_status_t make_descs(const TrainNet *net, const TrainDnnl *d, const TrainStep *step,
                                const Shape *shape, Descs *ret)
{
    const TrainValue *in = &d->steps->values[step->input], *out = &d->steps->values[step->output];
    const dnnl_dims_t bias = {out->c};
    dnnl_status_t s = value_desc(net, in, &ret->x);
    ret->has_bias = !step->taps && net->of_op[step->op].bias != NULL;
    if (s == dnnl_success)
        s = value_desc(net, out, &ret->y);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&ret->weights, 4, shape->weights, type_of(in),
                                         dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&ret->gradient, 4, shape->weights, dnnl_f32,
                                         dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&ret->bias, 1, bias, dnnl_f32, dnnl_a);
    return s;
}

static dnnl_status_t make_primitives(const TrainNet *net, TrainDnnl *d, const TrainStep *step,
                                     ConvStep *conv)
{
    const Shape shape =
        shape_of(step, &d->steps->values[step->input], &d->steps->values[step->output]);
    dnnl_convolution_desc_t desc;
    Descs m;
    dnnl_status_t s = make_descs(net, d, step, &shape, &m);
    const dnnl_memory_desc_t *bias = m.has_bias ? &m.bias : NULL;
    if (s == dnnl_success)
        s = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training,
                                               dnnl_convolution_direct, &m.x, &m.weights, bias,
                                               &m.y, shape.strides, shape.low, shape.high);
    if (s == dnnl_success)
        s = make_call(d, &desc, NULL, "", &conv->forward);
    if (s == dnnl_success)
        s = dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &m.x,
                                                     &m.weights, &m.y, shape.strides, shape.low,
                                                     shape.high);
    if (s == dnnl_success)
        s = make_call(d, &desc, conv->forward.desc, "", &conv->back_data);
    if (s != dnnl_success || net->frozen)
        return s;
    s = dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &m.x,
                                                    &m.gradient, bias, &m.y, shape.strides,
                                                    shape.low, shape.high);
    if (s == dnnl_success)
        s = make_call(d, &desc, conv->forward.desc, wrong_back_weights(step, &shape),
                      &conv->back_weights);
    if (s != dnnl_success)
        return s;
    size_t bytes = dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(conv->back_weights.desc, dnnl_query_diff_weights_md, 0));
    d->gradient_bytes = bytes > d->gradient_bytes ? bytes : d->gradient_bytes;
    return s;
}

Status train_dnnl_make_convs(const TrainNet *net, TrainDnnl *d, Err *err)
{
    for (int32_t i = 0; i < d->steps->n_steps; i++) {
        const TrainStep *step = &d->steps->steps[i];
        if (step->kind == STEP_CONV)
            TRY(train_dnnl_check(make_primitives(net, d, step, &d->convs[i]),
                                 net->graph->ops[step->op].name, "making a convolution", err));
    }
    return ST_OK;
}

/* ---- arguments ----------------------------------------------------------------------------- */

static dnnl_status_t add_arg(const TrainDnnl *d, Call *call, int kind,
                             const dnnl_memory_desc_t *desc, void *data)
{
    dnnl_memory_t memory;
    dnnl_status_t s = dnnl_memory_create(&memory, desc, d->engine, data);
    if (s == dnnl_success)
        call->args[call->n++] = (dnnl_exec_arg_t){kind, memory};
    return s;
}

/* The argument of that kind, with the layout that the primitive says, and the scratchpad. */
static dnnl_status_t bind(const TrainDnnl *d, Call *call, int kind, dnnl_query_t query, void *data)
{
    return add_arg(d, call, kind, dnnl_primitive_desc_query_md(call->desc, query, 0), data);
}

static dnnl_status_t bind_scratch(const TrainDnnl *d, Call *call)
{
    return bind(d, call, DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md, d->scratch);
}

static dnnl_status_t make_reorder(TrainDnnl *d, const dnnl_memory_desc_t *from, void *source,
                                  const dnnl_memory_desc_t *to, void *target, Call *ret)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(&attributes);
    if (s == dnnl_success)
        s = dnnl_reorder_primitive_desc_create(&ret->desc, from, d->engine, to, d->engine,
                                               attributes);
    (void)dnnl_primitive_attr_destroy(attributes);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&ret->primitive, ret->desc);
    if (s == dnnl_success)
        s = add_arg(d, ret, DNNL_ARG_FROM, from, source);
    if (s == dnnl_success)
        s = add_arg(d, ret, DNNL_ARG_TO, to, target);
    return s;
}

/* Weights as `call` wants them: the parameter itself, or memory of their own and a reorder. */
static Status bind_weights(const TrainNet *net, TrainDnnl *d, const TrainStep *step, Call *call,
                           Call *lay, Err *err)
{
    const TrainParameter *p = net->of_op[step->op].weight;
    const Shape shape =
        shape_of(step, &d->steps->values[step->input], &d->steps->values[step->output]);
    const dnnl_memory_desc_t *wanted =
        dnnl_primitive_desc_query_md(call->desc, dnnl_query_weights_md, 0);
    dnnl_memory_desc_t plain;
    void *data = p->value;
    dnnl_status_t s = plain_desc(&shape, &plain);
    if (s == dnnl_success && !dnnl_memory_desc_equal(&plain, wanted)) {
        data = arena_alloc(&d->weights, dnnl_memory_desc_get_size(wanted), 1, err);
        if (data == NULL)
            return ST_LIMIT;
        s = make_reorder(d, &plain, p->value, wanted, data, lay);
    }
    if (s == dnnl_success)
        s = add_arg(d, call, DNNL_ARG_WEIGHTS, wanted, data);
    return train_dnnl_check(s, p->name, "laying out weights", err);
}

static dnnl_status_t bind_back_weights(const TrainNet *net, TrainDnnl *d, const TrainStep *step,
                                       ConvStep *conv, void *x, void *dy)
{
    Call *call = &conv->back_weights;
    const TrainParameter *p = net->of_op[step->op].weight, *bias = net->of_op[step->op].bias;
    const Shape shape =
        shape_of(step, &d->steps->values[step->input], &d->steps->values[step->output]);
    const dnnl_memory_desc_t *wanted =
        dnnl_primitive_desc_query_md(call->desc, dnnl_query_diff_weights_md, 0);
    dnnl_memory_desc_t plain;
    dnnl_status_t s = plain_desc(&shape, &plain);
    bool same = s == dnnl_success && dnnl_memory_desc_equal(&plain, wanted);
    void *data = same ? p->gradient : d->gradient;
    if (s == dnnl_success && !same)
        s = make_reorder(d, wanted, data, &plain, p->gradient, &conv->take_gradient);
    if (s == dnnl_success)
        s = bind(d, call, DNNL_ARG_SRC, dnnl_query_src_md, x);
    if (s == dnnl_success)
        s = bind(d, call, DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, dy);
    if (s == dnnl_success)
        s = add_arg(d, call, DNNL_ARG_DIFF_WEIGHTS, wanted, data);
    if (s == dnnl_success && !step->taps && bias != NULL) {
        const dnnl_memory_desc_t *desc =
            dnnl_primitive_desc_query_md(call->desc, dnnl_query_diff_weights_md, 1);
        s = add_arg(d, call, DNNL_ARG_DIFF_BIAS, desc, bias->gradient);
    }
    return s == dnnl_success ? bind_scratch(d, call) : s;
}

static dnnl_status_t bind_conv(const TrainNet *net, TrainDnnl *d, const TrainStep *step,
                               ConvStep *conv)
{
    const TrainSteps *steps = d->steps;
    const TrainValue *in = &steps->values[step->input], *out = &steps->values[step->output];
    const TrainParameter *bias = step->taps ? NULL : net->of_op[step->op].bias;
    void *x = train_dnnl_piece(d, in->piece), *dy = train_dnnl_piece(d, out->parts[0]);
    dnnl_status_t s = bind(d, &conv->forward, DNNL_ARG_SRC, dnnl_query_src_md, x);
    if (s == dnnl_success)
        s = bind(d, &conv->forward, DNNL_ARG_DST, dnnl_query_dst_md,
                 train_dnnl_piece(d, out->piece));
    if (s == dnnl_success && bias != NULL)
        s = add_arg(d, &conv->forward, DNNL_ARG_BIAS,
                    dnnl_primitive_desc_query_md(conv->forward.desc, dnnl_query_weights_md, 1),
                    bias->value);
    if (s == dnnl_success)
        s = bind_scratch(d, &conv->forward);
    if (s == dnnl_success)
        s = bind(d, &conv->back_data, DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, dy);
    if (s == dnnl_success)
        s = bind(d, &conv->back_data, DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md,
                 train_dnnl_piece(d, step->d_input));
    if (s == dnnl_success)
        s = bind_scratch(d, &conv->back_data);
    if (s == dnnl_success && !net->frozen)
        s = bind_back_weights(net, d, step, conv, x, dy);
    return s;
}

Status train_dnnl_bind_convs(const TrainNet *net, TrainDnnl *d, Err *err)
{
    for (int32_t i = 0; i < d->steps->n_steps; i++) {
        const TrainStep *step = &d->steps->steps[i];
        ConvStep *conv = &d->convs[i];
        if (step->kind != STEP_CONV)
            continue;
        const char *name = net->graph->ops[step->op].name;
        TRY(train_dnnl_check(bind_conv(net, d, step, conv), name, "binding memory", err));
        TRY(bind_weights(net, d, step, &conv->forward, &conv->lay_forward, err));
        TRY(bind_weights(net, d, step, &conv->back_data, &conv->lay_back, err));
    }
    return ST_OK;
}

static void destroy_call(Call *call)
{
    for (int k = 0; k < call->n; k++)
        (void)dnnl_memory_destroy(call->args[k].memory);
    (void)dnnl_primitive_destroy(call->primitive);
    (void)dnnl_primitive_desc_destroy(call->desc);
}

void train_dnnl_destroy_convs(TrainDnnl *d)
{
    for (int32_t i = 0; d->convs != NULL && i < d->steps->n_steps; i++) {
        ConvStep *c = &d->convs[i];
        Call *const calls[] = {&c->forward,     &c->back_data, &c->back_weights,
                               &c->lay_forward, &c->lay_back,  &c->take_gradient};
        for (size_t k = 0; k < sizeof calls / sizeof calls[0]; k++)
            destroy_call(calls[k]);
    }
}
