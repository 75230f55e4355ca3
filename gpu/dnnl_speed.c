/* How fast bf16 is on this processor. See dnnl_int.h. Processors that have the instructions differ:
** one convolution took 0.45 of f32's time on an EPYC 9004 and 1.8 times f32's on a Xeon of the
** fifth generation (oneDNN 2.6). In processor time of the thread, the least of some rounds, the two
** in turn, so that other load does not decide. */
#include "gpu/dnnl_int.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 128, SIDE = 28, ROUNDS = 8 };

typedef struct Trial { /* a 3x3 convolution of zeros, which cost what other numbers do */
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[3]; /* source, weights, destination */
} Trial;

static dnnl_status_t make_memory(dnnl_engine_t engine, const dnnl_memory_desc_t *desc,
                                 dnnl_memory_t *ret)
{
    void *data = NULL;
    dnnl_status_t s = dnnl_memory_create(ret, desc, engine, DNNL_MEMORY_ALLOCATE);
    if (s == dnnl_success)
        s = dnnl_memory_get_data_handle(*ret, &data);
    if (s == dnnl_success)
        memset(data, 0, dnnl_memory_desc_get_size(desc));
    return s;
}

static dnnl_status_t open_trial(dnnl_engine_t engine, dnnl_data_type_t type, Trial *ret)
{
    const dnnl_dims_t image = {1, CHANNELS, SIDE, SIDE}, kernel = {CHANNELS, CHANNELS, 3, 3};
    const dnnl_dims_t ones = {1, 1};
    static const dnnl_query_t QUERIES[3] = {dnnl_query_src_md, dnnl_query_weights_md,
                                            dnnl_query_dst_md};
    dnnl_memory_desc_t x, w;
    dnnl_convolution_desc_t desc;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&x, 4, image, type, dnnl_nhwc);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&w, 4, kernel, type, dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference,
                                               dnnl_convolution_direct, &x, &w, NULL, &x, ones,
                                               ones, ones);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(&ret->desc, &desc, NULL, engine, NULL);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&ret->primitive, ret->desc);
    for (int i = 0; s == dnnl_success && i < 3; i++)
        s = make_memory(engine, dnnl_primitive_desc_query_md(ret->desc, QUERIES[i], 0),
                        &ret->memory[i]);
    return s;
}

static void close_trial(Trial *trial)
{
    for (int i = 0; i < 3; i++)
        (void)dnnl_memory_destroy(trial->memory[i]);
    (void)dnnl_primitive_destroy(trial->primitive);
    (void)dnnl_primitive_desc_destroy(trial->desc);
}

static dnnl_status_t run_trial(dnnl_stream_t stream, const Trial *trial, double *best_s)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, trial->memory[0]},
                                    {DNNL_ARG_WEIGHTS, trial->memory[1]},
                                    {DNNL_ARG_DST, trial->memory[2]}};
    double start = clock_thread_s();
    dnnl_status_t s = dnnl_primitive_execute(trial->primitive, stream, 3, args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    *best_s = fmin(*best_s, clock_thread_s() - start);
    return s;
}

static dnnl_status_t measure(dnnl_engine_t engine, dnnl_stream_t stream, double ret_s[2])
{
    static const dnnl_data_type_t TYPES[2] = {dnnl_f32, dnnl_bf16};
    Trial trials[2] = {{0}};
    dnnl_status_t s = dnnl_success;
    for (int t = 0; s == dnnl_success && t < 2; t++)
        s = open_trial(engine, TYPES[t], &trials[t]);
    for (int round = 0; s == dnnl_success && round < ROUNDS; round++)
        for (int t = 0; s == dnnl_success && t < 2; t++)
            s = run_trial(stream, &trials[t], &ret_s[t]);
    for (int t = 0; t < 2; t++)
        close_trial(&trials[t]);
    return s;
}

bool dnnl_bf16_is_faster(void)
{
    double seconds[2] = {(double)INFINITY, (double)INFINITY};
    dnnl_engine_t engine = NULL;
    dnnl_stream_t stream = NULL;
    DnnlTeam team;
    if (dnnl_team_find(1, &team, NULL) != ST_OK)
        return false;
    int before = dnnl_team_enter(&team);
    dnnl_status_t s = dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (s == dnnl_success)
        s = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    if (s == dnnl_success)
        s = measure(engine, stream, seconds);
    (void)dnnl_stream_destroy(stream);
    (void)dnnl_engine_destroy(engine);
    dnnl_team_leave(&team, before);
    return s == dnnl_success && seconds[1] < seconds[0];
}
