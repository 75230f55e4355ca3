/* See cuda_interpreter.h. Written from cuDNN's documentation of the operations, not from the
** backend: the two must not share a mistake. */
#include "tests/cuda_interpreter.h"

#include "gpu/half.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BACK_DATA "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR"
#define BACK_FILTER "CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR"

enum { MAX_TENSORS = 16 };

typedef struct Tensor4 { /* (n, c, h, w) */
    const char *name;
    int64_t dims[4], strides[4];
    bool half, is_virtual, written;
    void *memory; /* bound, or malloc'ed floats if virtual */
    size_t bytes;
} Tensor4;

typedef struct Machine {
    Tensor4 t[MAX_TENSORS];
    int n;
    Err *err;
} Machine;

#define REFUSE(m, ...) err_set((m)->err, ST_BACKEND, __VA_ARGS__)

static const char *text(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static double number(const cJSON *object, const char *key, double otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static bool integers(const cJSON *object, const char *key, int64_t *ret, int n)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, key);
    for (int i = 0; i < n; i++)
        ret[i] = (int64_t)(cJSON_IsArray(list) && cJSON_GetArraySize(list) == n
                               ? cJSON_GetArrayItem(list, i)->valuedouble
                               : 0);
    return cJSON_IsArray(list) && cJSON_GetArraySize(list) == n;
}

static int64_t offset(const Tensor4 *t, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return n * t->strides[0] + c * t->strides[1] + h * t->strides[2] + w * t->strides[3];
}

static float load(const Tensor4 *t, int64_t at)
{
    return t->half ? f32_from_f16(((const uint16_t *)t->memory)[at])
                   : ((const float *)t->memory)[at];
}

static void store(Tensor4 *t, int64_t at, float v)
{
    if (t->half)
        ((uint16_t *)t->memory)[at] = f16_from_f32(v);
    else
        ((float *)t->memory)[at] = v;
}

static Tensor4 *find(Machine *m, const char *name)
{
    for (int i = 0; i < m->n; i++)
        if (name[0] != '\0' && strcmp(m->t[i].name, name) == 0)
            return &m->t[i];
    return NULL;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static Status bind(Machine *m, Tensor4 *t, const cJSON *json, const PlanBinding *binding)
{
    int hits = 0;
    for (int i = 0; i < binding->n; i++)
        if (strtoll(t->name, NULL, 10) == binding->uids[i]) {
            t->memory = binding->pointers[i];
            hits++;
        }
    if (hits != 1)
        return REFUSE(m, "tensor %s is bound %d times", t->name, hits);
    if ((uintptr_t)t->memory % (uintptr_t)number(json, "ptrAlignment", 1) != 0)
        return REFUSE(m, "tensor %s is not aligned", t->name);
    if (!binding->is_memory(t->memory, t->bytes))
        return REFUSE(m, "tensor %s: %zu bytes are not all memory of the device", t->name,
                      t->bytes);
    return ST_OK;
}

static Status add_tensor(Machine *m, const cJSON *json, const PlanBinding *binding)
{
    const char *type = text(json, "dataType");
    const cJSON *is_virtual = cJSON_GetObjectItemCaseSensitive(json, "isVirtual");
    if (m->n == MAX_TENSORS || find(m, text(json, "name")) != NULL)
        return REFUSE(m, "too many tensors, or one twice");
    Tensor4 *t = &m->t[m->n];
    t->name = text(json, "name");
    t->half = strcmp(type, "CUDNN_DATA_HALF") == 0;
    t->is_virtual = cJSON_IsTrue(is_virtual);
    if ((!t->half && strcmp(type, "CUDNN_DATA_FLOAT") != 0) || !integers(json, "dim", t->dims, 4) ||
        !integers(json, "stride", t->strides, 4) || number(json, "vectCount", 0) != 1 ||
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "isByValue")) ||
        strcmp(text(json, "reordering"), "CUDNN_TENSOR_REORDERING_NONE") != 0)
        return REFUSE(m, "tensor %s: type, dims or layout is not known", t->name);
    int64_t last = 0;
    for (int d = 0; d < 4; d++)
        last += (t->dims[d] - 1) * t->strides[d];
    t->bytes = (size_t)(last + 1) * (t->half ? 2 : 4);
    if (!t->is_virtual)
        TRY(bind(m, t, json, binding));
    else if ((t->memory = malloc(t->bytes)) == NULL)
        return REFUSE(m, "memory of the interpreter");
    else
        memset(t->memory, 0xff, t->bytes); /* NaN until written */
    m->n++;
    return ST_OK;
}

/* The name of the tensor that an operation writes. */
static const char *output_key(const cJSON *node)
{
    const char *kind = text(node, "operation");
    if (strcmp(kind, BACK_DATA) == 0)
        return text(node, "dX");
    return text(node, strcmp(kind, BACK_FILTER) == 0 ? "dW" : "Y");
}

/* Outputs begin as NaN; an output that shares memory with an input is refused. */
static Status prepare_outputs(Machine *m, const cJSON *nodes)
{
    const cJSON *node;
    cJSON_ArrayForEach(node, nodes)
    {
        Tensor4 *y = find(m, output_key(node));
        if (y == NULL)
            return REFUSE(m, "an operation without output");
        for (int i = 0; i < m->n; i++) {
            const char *a = y->memory, *b = m->t[i].memory;
            if (&m->t[i] != y && a < b + m->t[i].bytes && b < a + y->bytes)
                return REFUSE(m, "tensor %s overlaps %s", y->name, m->t[i].name);
        }
        memset(y->memory, 0xff, y->bytes);
    }
    return ST_OK;
}

/* ---- operations ---------------------------------------------------------------------------- */

typedef struct Window {
    int64_t pad[2], stride[2];
} Window;

static void convolve(const Window *o, const Tensor4 *x, const Tensor4 *w, Tensor4 *y,
                     const float *xf, const float *wf)
{
    int64_t c_in = w->dims[1], kh = w->dims[2], kw = w->dims[3];
    for (int64_t n = 0; n < y->dims[0]; n++)
        for (int64_t p = 0; p < y->dims[2]; p++)
            for (int64_t q = 0; q < y->dims[3]; q++)
                for (int64_t k = 0; k < y->dims[1]; k++) {
                    float sum = 0;
                    for (int64_t r = 0; r < kh; r++)
                        for (int64_t s = 0; s < kw; s++) {
                            int64_t ih = p * o->stride[0] - o->pad[0] + r;
                            int64_t iw = q * o->stride[1] - o->pad[1] + s;
                            if (ih < 0 || iw < 0 || ih >= x->dims[2] || iw >= x->dims[3])
                                continue;
                            const float *a = xf + ((n * x->dims[2] + ih) * x->dims[3] + iw) * c_in;
                            const float *b = wf + ((k * kh + r) * kw + s) * c_in;
                            for (int64_t c = 0; c < c_in; c++)
                                sum += a[c] * b[c];
                        }
                    store(y, offset(y, n, k, p, q), sum);
                }
}

/* From each output's gradient: adds to xf (for_inputs) what the inputs get, or to wf what the
** weights get; the other of the two is read. */
static void convolve_back(const Window *o, const Tensor4 *x, const Tensor4 *w, const Tensor4 *y,
                          float *xf, float *wf, const float *dy, bool for_inputs)
{
    int64_t c_in = w->dims[1], c_out = w->dims[0];
    for (int64_t n = 0; n < y->dims[0]; n++)
        for (int64_t p = 0; p < y->dims[2]; p++)
            for (int64_t q = 0; q < y->dims[3]; q++, dy += c_out)
                for (int64_t r = 0; r < w->dims[2]; r++)
                    for (int64_t s = 0; s < w->dims[3]; s++) {
                        int64_t ih = p * o->stride[0] - o->pad[0] + r;
                        int64_t iw = q * o->stride[1] - o->pad[1] + s;
                        if (ih < 0 || iw < 0 || ih >= x->dims[2] || iw >= x->dims[3])
                            continue;
                        float *a = xf + ((n * x->dims[2] + ih) * x->dims[3] + iw) * c_in;
                        for (int64_t k = 0; k < c_out; k++) {
                            float *b = wf + ((k * w->dims[2] + r) * w->dims[3] + s) * c_in;
                            float *to = for_inputs ? a : b;
                            const float *from = for_inputs ? b : a;
                            for (int64_t c = 0; c < c_in; c++)
                                to[c] += dy[k] * from[c];
                        }
                    }
}

/* The tensor as floats (n, h, w, c), whatever its strides say. */
static float *dense(const Tensor4 *t)
{
    float *v = malloc((size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]) * sizeof *v);
    float *at = v;
    for (int64_t n = 0; v != NULL && n < t->dims[0]; n++)
        for (int64_t h = 0; h < t->dims[2]; h++)
            for (int64_t w = 0; w < t->dims[3]; w++)
                for (int64_t c = 0; c < t->dims[1]; c++)
                    *at++ = load(t, offset(t, n, c, h, w));
    return v;
}

static float *zeros(const Tensor4 *t)
{
    return calloc((size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]), sizeof(float));
}

/* Floats (n, h, w, c) to the tensor. */
static void store_dense(Tensor4 *t, const float *v)
{
    for (int64_t n = 0; n < t->dims[0]; n++)
        for (int64_t h = 0; h < t->dims[2]; h++)
            for (int64_t w = 0; w < t->dims[3]; w++)
                for (int64_t c = 0; c < t->dims[1]; c++)
                    store(t, offset(t, n, c, h, w), *v++);
}

/* One of x, w and y is written; the other two are read. */
static Status run_conv(Machine *m, const cJSON *node, Tensor4 *x, Tensor4 *w, Tensor4 *y)
{
    Window o;
    int64_t dilation[2];
    if (strcmp(text(node, "mode"), "CUDNN_CROSS_CORRELATION") != 0 ||
        strcmp(text(node, "mathPrec"), "CUDNN_DATA_FLOAT") != 0 || number(node, "alpha", 0) != 1 ||
        number(node, "beta", 1) != 0 || !integers(node, "pad", o.pad, 2) ||
        !integers(node, "stride", o.stride, 2) || !integers(node, "dilation", dilation, 2) ||
        dilation[0] != 1 || dilation[1] != 1)
        return REFUSE(m, "a convolution of another kind");
    bool fits = x->dims[0] == y->dims[0] && x->dims[1] == w->dims[1] && w->dims[0] == y->dims[1];
    for (int d = 0; d < 2 && fits; d++)
        fits = y->dims[2 + d] == (x->dims[2 + d] + 2 * o.pad[d] - w->dims[2 + d]) / o.stride[d] + 1;
    if (!fits)
        return REFUSE(m, "a convolution's shapes do not fit");
    const char *kind = text(node, "operation");
    bool data = strcmp(kind, BACK_DATA) == 0, filter = strcmp(kind, BACK_FILTER) == 0;
    float *xf = data ? zeros(x) : dense(x), *wf = filter ? zeros(w) : dense(w);
    float *yf = dense(y);
    bool good = xf != NULL && wf != NULL && yf != NULL;
    if (good && (data || filter)) {
        convolve_back(&o, x, w, y, xf, wf, yf, data);
        store_dense(data ? x : w, data ? xf : wf);
    } else if (good) {
        convolve(&o, x, w, y, xf, wf);
    }
    free(xf);
    free(wf);
    free(yf);
    return good ? ST_OK : REFUSE(m, "memory of the interpreter");
}

static Status run_pointwise(Machine *m, const cJSON *node, const Tensor4 *x, const Tensor4 *b,
                            Tensor4 *y)
{
    bool add = strcmp(text(node, "pointwiseMode"), "CUDNN_POINTWISE_ADD") == 0;
    bool relu = strcmp(text(node, "pointwiseMode"), "CUDNN_POINTWISE_RELU_FWD") == 0;
    if ((!add && !relu) || add != (b != NULL) || number(node, "alpha1", 0) != 1 ||
        number(node, "alpha2", 0) != 1 || strcmp(text(node, "mathPrec"), "CUDNN_DATA_FLOAT") != 0 ||
        (relu && (number(node, "lowerClip", 1) != 0 || number(node, "lowerClipSlope", 1) != 0 ||
                  number(node, "upperClip", 0) < 1e30)))
        return REFUSE(m, "a pointwise operation of another kind");
    for (int d = 0; d < 4; d++)
        if (x->dims[d] != y->dims[d] || (b != NULL && b->dims[d] != 1 && b->dims[d] != y->dims[d]))
            return REFUSE(m, "a pointwise operation's shapes do not fit");
    for (int64_t n = 0; n < y->dims[0]; n++)
        for (int64_t h = 0; h < y->dims[2]; h++)
            for (int64_t w = 0; w < y->dims[3]; w++)
                for (int64_t c = 0; c < y->dims[1]; c++) {
                    float v = load(x, offset(x, n, c, h, w));
                    if (add)
                        v += load(b, offset(b, b->dims[0] > 1 ? n : 0, b->dims[1] > 1 ? c : 0,
                                            b->dims[2] > 1 ? h : 0, b->dims[3] > 1 ? w : 0));
                    else if (v < 0)
                        v = 0;
                    store(y, offset(y, n, c, h, w), v);
                }
    return ST_OK;
}

static Status run_node(Machine *m, const cJSON *node)
{
    const char *kind = text(node, "operation");
    bool data = strcmp(kind, BACK_DATA) == 0, filter = strcmp(kind, BACK_FILTER) == 0;
    Tensor4 *y = find(m, text(node, data || filter ? "dY" : "Y"));
    Tensor4 *x = find(m, text(node, data ? "dX" : "X"));
    Tensor4 *w = find(m, text(node, filter ? "dW" : "W"));
    const Tensor4 *b = find(m, text(node, "B"));
    if (x == NULL || y == NULL || (x->is_virtual && !x->written))
        return REFUSE(m, "an operation reads what is not there");
    if (data || filter)
        return w != NULL ? run_conv(m, node, x, w, y) : REFUSE(m, "a gradient without weights");
    y->written = true;
    if (strcmp(kind, "CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR") == 0)
        return run_pointwise(m, node, x, b, y);
    if (strcmp(kind, "CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR") == 0 && w != NULL)
        return run_conv(m, node, x, w, y);
    return REFUSE(m, "operation %s is not known", kind);
}

/* Multiplies what the last operation wrote, and repeats an image of it. */
static void spoil(Machine *m, const cJSON *nodes, float factor, int64_t same_from)
{
    const cJSON *last = cJSON_GetArrayItem(nodes, cJSON_GetArraySize(nodes) - 1);
    Tensor4 *y = find(m, output_key(last));
    float *v = y != NULL ? dense(y) : NULL;
    ASSERT(v != NULL);
    for (int64_t i = 0; i < y->dims[0] * y->dims[1] * y->dims[2] * y->dims[3]; i++)
        v[i] *= factor;
    const int64_t image = y->dims[1] * y->dims[2] * y->dims[3];
    for (int64_t n = same_from; same_from > 0 && n < y->dims[0]; n++)
        memcpy(v + n * image, v + (same_from - 1) * image, (size_t)image * sizeof *v);
    store_dense(y, v);
    free(v);
}

Status plan_interpret(const char *json, const PlanBinding *binding, Err *err)
{
    Machine m = {.err = err};
    cJSON *root = cJSON_Parse(json);
    const cJSON *graph = cJSON_GetObjectItemCaseSensitive(root, "operationGraph"), *item;
    const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(graph, "nodes");
    Status status = ST_OK;
    int n_bound = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(graph, "tensors"))
    {
        if (status == ST_OK)
            status = add_tensor(&m, item, binding);
    }
    for (int i = 0; i < m.n; i++)
        n_bound += !m.t[i].is_virtual;
    if (status == ST_OK && (n_bound != binding->n || cJSON_GetArraySize(nodes) < 1))
        status = REFUSE(&m, "%d tensors are bound, the plan has %d", binding->n, n_bound);
    if (status == ST_OK)
        status = prepare_outputs(&m, nodes);
    cJSON_ArrayForEach(item, nodes)
    {
        if (status == ST_OK)
            status = run_node(&m, item);
    }
    if (status == ST_OK && (binding->factor < 1 || binding->factor > 1 || binding->same_from > 0))
        spoil(&m, nodes, binding->factor, binding->same_from);
    for (int i = 0; i < m.n; i++)
        if (m.t[i].is_virtual)
            free(m.t[i].memory);
    cJSON_Delete(root);
    return status;
}
