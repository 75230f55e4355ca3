/* See cuda_emulator.h. */
#include "tests/cuda_emulator.h"

#include "gpu/cuda_api.h"
#include "gpu/gpu_catalog.h"
#include "tests/cuda_emulator_kernels.h"
#include "tests/cuda_emulator_plans.h"
#include "tests/cuda_interpreter.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPOILED 1.25f
enum { MAX_PIECES = 64, MAX_BOUND = 8, PIECE_ALIGN = 256, MAX_OBJECTS = 1024, MAX_STREAMS = 256 };

static void restart(void);
static void remains(int64_t *ret_pinned, int64_t *ret_device);

/* Found by the tests with dlsym(). */
extern CudaEmulator cuda_emulator;
__attribute__((visibility("default")))
CudaEmulator cuda_emulator = {.card = 2,
                              .n_gpus = 1,
                              .restart = restart,
                              .remains = remains,
                              .plan = emulated_plan,
                              .reload = emulated_reload,
                              .plan_networks = emulated_networks};
static CudaEmulator *const emulator = &cuda_emulator;

typedef struct Piece {
    unsigned char *base;
    size_t size_bytes;
    bool pinned, weights;
} Piece;

typedef struct FakeEvent { /* numbers of records: asked for, and done */
    int asked, done;
} FakeEvent;

typedef enum CommandKind { SET, KERNEL, PLAN, TO_DEVICE, TO_HOST, RECORD, WAIT, RUN } CommandKind;

typedef struct Recording Recording;

typedef struct Command { /* waits in a stream, or is recorded while one is captured */
    CommandKind kind;
    void *at; /* SET, PLAN (workspace), TO_DEVICE, TO_HOST: written */
    const void *from;
    int byte;
    size_t size_bytes;
    KernelCall call;
    cudnnBackendDescriptor_t plan;
    int n;
    int64_t uids[MAX_BOUND];
    void *pointers[MAX_BOUND];
    FakeEvent *event;
    int number; /* of the record that is waited for or done */
    const Recording *recording;
} Command;

struct Recording {
    Command *commands;
    int n;
};

typedef struct FakeStream {
    Command *commands; /* begun..n-1 have not been done */
    int begun, n;
} FakeStream;

/* The device there is one of. */
static Piece pieces[MAX_PIECES];
static Recording *recording; /* NULL: nothing is captured */
static FakeStream *streams[MAX_STREAMS];
static uint64_t dice = 1;          /* of the order */
static void *objects[MAX_OBJECTS]; /* streams, ...: a lost device's are never freed, but no leak */

static void complain(const char *what)
{
    if (emulator->complaint[0] == '\0')
        (void)snprintf(emulator->complaint, sizeof emulator->complaint, "%.255s", what);
}

static void restart(void)
{
    for (int i = 0; i < MAX_STREAMS; i++)
        if (streams[i] != NULL)
            streams[i]->begun = streams[i]->n = 0;
    recording = NULL;
    emulator->broken = emulator->n_allocs = emulator->n_works = emulator->n_records = 0;
    emulator->n_uploads = emulator->n_graph_runs = emulator->n_plans_run = 0;
}

/* What a captured stream forbids. */
static cudaError_t state(void)
{
    if (recording != NULL)
        complain("a call that is not allowed while a stream is captured");
    return emulator->broken ? cudaErrorIllegalAddress : cudaSuccess;
}

/* A stream, event, graph or handle; where they hold nothing, so that a double free is seen. */
static void *new_object(size_t size_bytes)
{
    int i = 0;
    while (i < MAX_OBJECTS && objects[i] != NULL)
        i++;
    ASSERT(i < MAX_OBJECTS);
    objects[i] = calloc(1, size_bytes);
    ASSERT(objects[i] != NULL);
    emulator->n_live++;
    return objects[i];
}

static void free_object(void *object)
{
    int i = 0;
    while (i < MAX_OBJECTS && objects[i] != object)
        i++;
    if (i == MAX_OBJECTS || object == NULL) {
        complain("something is freed that was not made");
        return;
    }
    objects[i] = NULL;
    emulator->n_live--;
    free(object);
}

/* ---- memory -------------------------------------------------------------------------------- */

static bool is_in(const void *at, size_t size_bytes, bool pinned)
{
    const unsigned char *p = at;
    for (int i = 0; i < MAX_PIECES; i++)
        if (pieces[i].base != NULL && pieces[i].pinned == pinned && p >= pieces[i].base &&
            p + size_bytes <= pieces[i].base + pieces[i].size_bytes)
            return true;
    return false;
}

static bool is_device(const void *at, size_t size_bytes)
{
    return is_in(at, size_bytes, false);
}

static cudaError_t new_piece(void **ret, size_t size_bytes, bool pinned)
{
    int i = 0;
    emulator->n_allocs++;
    if (state() != cudaSuccess)
        return state();
    if (emulator->n_allocs == emulator->fail_alloc ||
        (!pinned && emulator->memory_bytes > 0 &&
         emulator->live_bytes + (int64_t)size_bytes > emulator->memory_bytes))
        return cudaErrorMemoryAllocation;
    while (i < MAX_PIECES && pieces[i].base != NULL)
        i++;
    void *memory = NULL;
    if (i == MAX_PIECES || posix_memalign(&memory, PIECE_ALIGN, size_bytes) != 0)
        return cudaErrorMemoryAllocation;
    memset(memory, 0xff, size_bytes); /* NaN, as halves and as floats */
    pieces[i] = (Piece){memory, size_bytes, pinned, false};
    emulator->n_live++;
    if (!pinned)
        emulator->live_bytes += (int64_t)size_bytes;
    if (emulator->live_bytes > emulator->peak_bytes)
        emulator->peak_bytes = emulator->live_bytes;
    *ret = memory;
    return cudaSuccess;
}

static void drop_piece(void *memory, bool pinned)
{
    for (int i = 0; i < MAX_PIECES; i++)
        if (pieces[i].base == memory && pieces[i].pinned == pinned) {
            free(memory);
            emulator->n_live--;
            if (!pinned)
                emulator->live_bytes -= (int64_t)pieces[i].size_bytes;
            pieces[i] = (Piece){0};
            return;
        }
    complain("memory is freed that was not allocated");
}

/* The weights are in the piece that uploads from other than pinned memory go to. */
static void remains(int64_t *ret_pinned, int64_t *ret_device)
{
    *ret_pinned = *ret_device = 0;
    for (int i = 0; i < MAX_PIECES; i++)
        for (size_t k = 0; pieces[i].base != NULL && !pieces[i].weights && k < pieces[i].size_bytes;
             k++)
            if (pieces[i].base[k] != 0)
                ++*(pieces[i].pinned ? ret_pinned : ret_device);
}

static void mark_weights(const void *at)
{
    const unsigned char *p = at;
    for (int i = 0; i < MAX_PIECES; i++)
        if (pieces[i].base != NULL && !pieces[i].pinned && p >= pieces[i].base &&
            p < pieces[i].base + pieces[i].size_bytes)
            pieces[i].weights = true;
}

static cudaError_t alloc(void **ret, size_t size_bytes)
{
    return new_piece(ret, size_bytes, false);
}

static cudaError_t alloc_pinned(void **ret, size_t size_bytes)
{
    return new_piece(ret, size_bytes, true);
}

/* ---- devices, streams, events -------------------------------------------------------------- */

/* For programs that are started by a test. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("CT2MR_EMULATED_GPUS");
    if (text != NULL && text[0] >= '0' && text[0] <= '9')
        emulator->n_gpus = text[0] - '0';
    text =
        getenv("CT2MR_EMULATED_FAULT"); /* a file that is there: the first convolution is wrong */
    if (text != NULL && access(text, F_OK) == 0) {
        emulator->spoil_upload = 1;
        emulator->spoil_c = 8;
        emulator->spoil_taps = 49;
    }
}

static cudaError_t count(int *ret)
{
    *ret = emulator->no_driver ? 0 : emulator->n_gpus;
    return emulator->no_driver ? cudaErrorInsufficientDriver : state();
}

static cudaError_t describe(int index, CudaDevice *ret)
{
    const GpuCard *card = gpu_catalog_card(emulator->card);
    (void)snprintf(ret->name, sizeof ret->name, "%s", card->name);
    ret->compute = card->compute;
    ret->driver = 13000;
    ret->memory_bytes = card->memory_bytes;
    return index >= 0 && index < emulator->n_gpus ? state() : cudaErrorInvalidDevice;
}

static cudaError_t use(int index)
{
    if (index < 0 || index >= emulator->n_gpus)
        return cudaErrorInvalidDevice;
    emulator->used = index;
    return state();
}

static cudaError_t stream_new(cudaStream_t *ret)
{
    int i = 0;
    while (i < MAX_STREAMS && streams[i] != NULL)
        i++;
    ASSERT(i < MAX_STREAMS);
    streams[i] = new_object(sizeof(FakeStream));
    *ret = (cudaStream_t)(void *)streams[i];
    return state();
}

static void stream_free(cudaStream_t stream)
{
    FakeStream *fake = (FakeStream *)(void *)stream;
    if (fake->begun < fake->n)
        complain("a stream is freed that has work to do");
    for (int i = 0; i < MAX_STREAMS; i++)
        if (streams[i] == fake)
            streams[i] = NULL;
    free(fake->commands);
    free_object(fake);
}

static cudaError_t event_new(cudaEvent_t *ret)
{
    *ret = new_object(sizeof(FakeEvent));
    return state();
}

static void event_free(cudaEvent_t event)
{
    free_object(event);
}

/* ---- work ---------------------------------------------------------------------------------- */

static bool work_fails(void)
{
    emulator->n_works++;
    if (emulator->fail_work > 0 && emulator->n_works >= emulator->fail_work)
        emulator->broken = 1;
    return emulator->broken != 0;
}

static cudaError_t do_kernel(const KernelCall *call)
{
    if (work_fails())
        return cudaErrorIllegalAddress;
    if (!emulated_kernel_fits(call, is_device)) {
        complain("a kernel reaches beyond the device's memory");
        return cudaErrorIllegalAddress;
    }
    cudaError_t error = kernel_launch(call, NULL);
    if (emulator->n_works == emulator->spoil_work)
        emulated_kernel_spoil(call, SPOILED);
    return error;
}

static char *plan_text(cudnnBackendDescriptor_t plan)
{
    int64_t n = 0;
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
    if (cudnnBackendGetAttribute(plan, name, CUDNN_TYPE_CHAR, 0, &n, NULL) != CUDNN_STATUS_SUCCESS)
        return NULL;
    char *json = calloc(1, (size_t)n + 1);
    if (json != NULL)
        (void)cudnnBackendGetAttribute(plan, name, CUDNN_TYPE_CHAR, n, &n, json);
    return json;
}

static cudnnStatus_t do_plan(const Command *c)
{
    PlanBinding binding = {c->n, c->uids, c->pointers, is_device, 1, emulator->same_from};
    int64_t workspace = 0, n = 0;
    Err err = {0};
    if (work_fails())
        return CUDNN_STATUS_EXECUTION_FAILED;
    if (emulator->n_works == emulator->spoil_work)
        binding.factor = SPOILED;
    emulator->n_plans_run++;
    (void)cudnnBackendGetAttribute(c->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                   CUDNN_TYPE_INT64, 1, &n, &workspace);
    if (workspace > 0 && !is_device(c->at, (size_t)workspace)) {
        complain("a plan's workspace is too small");
        return CUDNN_STATUS_EXECUTION_FAILED;
    }
    if (workspace > 0)
        memset(c->at, 0xa5, (size_t)workspace);
    char *json = plan_text(c->plan);
    Status status = json == NULL ? ST_BACKEND : plan_interpret(json, &binding, &err);
    free(json);
    if (status != ST_OK)
        complain(err.msg);
    return status == ST_OK ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

static cudaError_t do_set(void *at, int byte, size_t size_bytes)
{
    if (!is_device(at, size_bytes)) {
        complain("a fill reaches beyond the device's memory");
        return cudaErrorIllegalAddress;
    }
    memset(at, byte, size_bytes);
    return cudaSuccess;
}

static void append(Command **commands, int *n, const Command *command)
{
    *commands = realloc(*commands, (size_t)(*n + 1) * sizeof **commands);
    ASSERT(*commands != NULL);
    (*commands)[(*n)++] = *command;
}

static cudaError_t enqueue(const Command *command, cudaStream_t stream)
{
    FakeStream *fake = (FakeStream *)(void *)stream;
    if (recording != NULL && command->kind <= PLAN) {
        append(&recording->commands, &recording->n, command);
        return cudaSuccess;
    }
    if (state() == cudaSuccess)
        append(&fake->commands, &fake->n, command);
    return state();
}

static cudaError_t set(void *at, int byte, size_t size_bytes, cudaStream_t stream)
{
    const Command command = {.kind = SET, .at = at, .byte = byte, .size_bytes = size_bytes};
    return enqueue(&command, stream);
}

static cudaError_t kernel(const KernelCall *call, cudaStream_t stream)
{
    const Command command = {.kind = KERNEL, .call = *call};
    return enqueue(&command, stream);
}

static cudaError_t to_device(void *device, const void *host, size_t size_bytes, cudaStream_t stream)
{
    const Command command = {
        .kind = TO_DEVICE, .at = device, .from = host, .size_bytes = size_bytes};
    return enqueue(&command, stream);
}

static cudaError_t to_host(void *host, const void *device, size_t size_bytes, cudaStream_t stream)
{
    const Command command = {.kind = TO_HOST, .at = host, .from = device, .size_bytes = size_bytes};
    return enqueue(&command, stream);
}

static cudnnStatus_t dnn_execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, int n,
                                 const int64_t *uids, void *const *pointers, void *workspace)
{
    Command command = {.kind = PLAN, .plan = plan, .n = n, .at = workspace};
    ASSERT(n <= MAX_BOUND);
    memcpy(command.uids, uids, (size_t)n * sizeof *uids);
    memcpy(command.pointers, pointers, (size_t)n * sizeof *pointers);
    return enqueue(&command, *(cudaStream_t *)(void *)handle) == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : CUDNN_STATUS_EXECUTION_FAILED;
}

static cudaError_t event_record(cudaEvent_t event, cudaStream_t stream)
{
    FakeEvent *fake = (FakeEvent *)(void *)event;
    bool hangs = ++emulator->n_records >= emulator->hang_event && emulator->hang_event > 0;
    const Command command = {
        .kind = RECORD, .event = fake, .number = hangs ? fake->asked : fake->asked + 1};
    fake->asked++;
    return enqueue(&command, stream);
}

static cudaError_t stream_wait(cudaStream_t stream, cudaEvent_t event)
{
    FakeEvent *fake = (FakeEvent *)(void *)event;
    const Command command = {.kind = WAIT, .event = fake, .number = fake->asked};
    return emulator->ignore_waits ? state() : enqueue(&command, stream);
}

/* ---- captured graphs ----------------------------------------------------------------------- */

static cudaError_t capture_begin(cudaStream_t stream)
{
    (void)stream;
    if (state() != cudaSuccess || emulator->no_capture)
        return cudaErrorStreamCaptureUnsupported;
    recording = new_object(sizeof *recording);
    return cudaSuccess;
}

static cudaError_t capture_end(cudaStream_t stream, cudaGraphExec_t *ret)
{
    (void)stream;
    *ret = (cudaGraphExec_t)(void *)recording;
    recording = NULL;
    return cudaSuccess;
}

static cudaError_t graph_run(cudaGraphExec_t graph, cudaStream_t stream)
{
    const Command command = {.kind = RUN, .recording = (const Recording *)(void *)graph};
    emulator->n_graph_runs++;
    return emulator->idle_graphs != 0 ? cudaSuccess : enqueue(&command, stream);
}

static void graph_free(cudaGraphExec_t graph)
{
    Recording *r = (Recording *)(void *)graph;
    free(r->commands);
    free_object(r);
}

/* ---- copies -------------------------------------------------------------------------------- */

/* As if the weights had been laid out (c_out, c_in, k, k): the classic mistake; of a 1x1
** convolution, where that is the same, (c_in, c_out). */
static void spoil_layout(uint16_t *weights, size_t size_bytes)
{
    size_t c = (size_t)emulator->spoil_c, taps = (size_t)emulator->spoil_taps;
    size_t n = size_bytes / sizeof *weights;
    uint16_t *copy = malloc(size_bytes);
    ASSERT(copy != NULL && c * taps > 0 && n % (c * taps) == 0);
    memcpy(copy, weights, size_bytes);
    for (size_t o = 0; o < n / (c * taps); o++)
        for (size_t i = 0; i < c; i++)
            for (size_t t = 0; t < taps; t++)
                weights[taps > 1 ? (o * c + i) * taps + t : i * (n / c) + o] =
                    copy[(o * taps + t) * c + i];
    free(copy);
}

/* Rows 0 and 2 of each kernel (3, 3, c_in). */
static void exchange_rows(uint16_t *weights, size_t size_bytes)
{
    size_t row = 3 * (size_t)emulator->spoil_c;
    ASSERT(emulator->spoil_taps == 9 && size_bytes % (3 * row * sizeof *weights) == 0);
    for (uint16_t *w = weights; w < weights + size_bytes / sizeof *weights; w += 3 * row)
        for (size_t k = 0; k < row; k++) {
            uint16_t first = w[k];
            w[k] = w[2 * row + k];
            w[2 * row + k] = first;
        }
}

static void spoil(uint16_t *weights, size_t size_bytes)
{
    if (emulator->spoil_rows)
        exchange_rows(weights, size_bytes);
    else
        spoil_layout(weights, size_bytes);
}

static cudaError_t do_to_device(void *device, const void *host, size_t size_bytes)
{
    if (!is_device(device, size_bytes)) {
        complain("a copy reaches beyond the device's memory");
        return cudaErrorIllegalAddress;
    }
    memcpy(device, host, size_bytes);
    if (is_in(host, size_bytes, true)) /* slices; weights are not pinned */
        return cudaSuccess;
    mark_weights(device);
    if (++emulator->n_uploads == emulator->spoil_upload)
        spoil(device, size_bytes);
    return cudaSuccess;
}

static cudaError_t do_to_host(void *host, const void *device, size_t size_bytes)
{
    if (!is_device(device, size_bytes) || !is_in(host, size_bytes, true)) {
        complain("a copy from the device reaches beyond memory, or is not to pinned memory");
        return cudaErrorIllegalAddress;
    }
    memcpy(host, device, size_bytes);
    return cudaSuccess;
}

/* ---- doing it ------------------------------------------------------------------------------ */

static cudaError_t do_command(const Command *c)
{
    switch (c->kind) {
    case SET:
        return do_set(c->at, c->byte, c->size_bytes);
    case KERNEL:
        return do_kernel(&c->call);
    case PLAN:
        return do_plan(c) == CUDNN_STATUS_SUCCESS ? cudaSuccess : cudaErrorIllegalAddress;
    case TO_DEVICE:
        return do_to_device(c->at, c->from, c->size_bytes);
    case TO_HOST:
        return do_to_host(c->at, c->from, c->size_bytes);
    case RECORD:
        c->event->done = c->number;
        return cudaSuccess;
    case WAIT:
        return cudaSuccess;
    case RUN:
        break;
    }
    for (int i = 0; i < c->recording->n; i++)
        if (do_command(&c->recording->commands[i]) != cudaSuccess)
            return cudaErrorIllegalAddress;
    return cudaSuccess;
}

static bool is_ready(const FakeStream *stream)
{
    const Command *c = &stream->commands[stream->begun];
    return stream->begun < stream->n && (c->kind != WAIT || c->event->done >= c->number);
}

/* One command of one stream that may go on, in the order to be tried; false if none may. */
static bool do_one(void)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u; /* Knuth, MMIX */
    int first = (int)(dice >> 33) % MAX_STREAMS;
    for (int k = 0; k < MAX_STREAMS; k++) {
        int i = emulator->order == ORDER_OLDEST   ? k
                : emulator->order == ORDER_NEWEST ? MAX_STREAMS - 1 - k
                                                  : (first + k) % MAX_STREAMS;
        FakeStream *stream = streams[i];
        if (stream == NULL || !is_ready(stream))
            continue;
        if (do_command(&stream->commands[stream->begun++]) != cudaSuccess)
            emulator->broken = 1;
        if (stream->begun == stream->n)
            stream->begun = stream->n = 0;
        return true;
    }
    return false;
}

/* No more is done than the host waits for: what it does too early meets work that is not done. */
static cudaError_t event_query(cudaEvent_t event)
{
    const FakeEvent *fake = (const FakeEvent *)(void *)event;
    while (state() == cudaSuccess && fake->done < fake->asked)
        if (!do_one())
            return cudaErrorNotReady;
    return state();
}

/* As cudart does, freeing waits. */
static void free_device(void *memory)
{
    while (state() == cudaSuccess && do_one())
        continue;
    drop_piece(memory, false);
}

static void free_pinned(void *memory)
{
    while (state() == cudaSuccess && do_one())
        continue;
    drop_piece(memory, true);
}

/* ---- cuDNN --------------------------------------------------------------------------------- */

static cudnnStatus_t dnn_new(cudnnHandle_t *ret)
{
    emulator->n_uploads = 0;
    *ret = new_object(sizeof(cudaStream_t));
    return state() == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_INITIALIZED;
}

static void dnn_free(cudnnHandle_t handle)
{
    free_object(handle);
}

static cudnnStatus_t dnn_stream(cudnnHandle_t handle, cudaStream_t stream)
{
    *(cudaStream_t *)(void *)handle = stream;
    return stream != NULL ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

static cudnnStatus_t dnn_profile(cudnnHandle_t handle, char ret[CUDA_PROFILE_SIZE])
{
    (void)handle;
    (void)gpu_catalog_profile(emulator->card, ret);
    return CUDNN_STATUS_SUCCESS;
}

const CudaApi *cuda_api(void)
{
    static const CudaApi API = {
        .count = count,
        .describe = describe,
        .use = use,
        .alloc = alloc,
        .alloc_pinned = alloc_pinned,
        .free = free_device,
        .free_pinned = free_pinned,
        .stream_new = stream_new,
        .stream_free = stream_free,
        .event_new = event_new,
        .event_free = event_free,
        .event_record = event_record,
        .event_query = event_query,
        .stream_wait = stream_wait,
        .to_device = to_device,
        .to_host = to_host,
        .set = set,
        .kernel = kernel,
        .capture_begin = capture_begin,
        .capture_end = capture_end,
        .graph_run = graph_run,
        .graph_free = graph_free,
        .dnn_new = dnn_new,
        .dnn_free = dnn_free,
        .dnn_stream = dnn_stream,
        .dnn_profile = dnn_profile,
        .dnn_execute = dnn_execute,
    };
    return &API;
}
