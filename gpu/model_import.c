/* See model_import.h. */
#include "gpu/model_import.h"

#include "gpu/model_int.h"
#include "gpu/train_init.h"
#include "gpu/trained_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, SEED = 1, MAX_VALUES = 24, N_LAYERS = 4, MAX_BLOCKS = 64 };

typedef struct Import {
    const ModelImport *options;
    Model *from;
    ModelInfo info; /* arch, width */
    bool encoder_only;
    Graph *graph;
    OpTensors *held; /* of the graph's operations */
    NewTensor *tensors;
    float **values; /* of tensors */
    char (*names)[GRAPH_NAME_SIZE + 16];
    int n_tensors;
    cJSON *metadata;
} Import;

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_count(const char *name)
{
    const char *leaf = strrchr(name, '.');
    return leaf != NULL && strcmp(leaf, ".num_batches_tracked") == 0;
}

static bool is_decoder(const char *name)
{
    return begins(name, "ucenter.") || begins(name, "up");
}

/* Looks like a tensor of a network of ours. */
static bool is_part(const char *name)
{
    static const char *const PARTS[] = {"conv1.", "bn1.", "layer", "ucenter.", "up",
                                        "enc.",   "dec.", "out.",  NULL};
    int k = 0;
    while (PARTS[k] != NULL && !begins(name, PARTS[k]))
        k++;
    return PARTS[k] != NULL && !is_count(name);
}

/* ---- which network ------------------------------------------------------------------------- */

/* Blocks of layer1 to layer4, counted; MAX_BLOCKS means too many. */
static void count_blocks(const Model *from, int ret[N_LAYERS])
{
    char name[64];
    for (int k = 0; k < N_LAYERS; k++)
        for (ret[k] = 0; ret[k] < MAX_BLOCKS; ret[k]++) {
            (void)snprintf(name, sizeof name, "layer%d.%d.conv1.weight", k + 1, ret[k]);
            if (model_tensor(from, name) == NULL)
                break;
        }
}

static Status guess_arch(const Model *from, ModelArch *ret, Err *err)
{
    static const struct {
        bool bottleneck;
        int n[N_LAYERS];
        ModelArch arch;
    } KINDS[] = {{false, {3, 4, 6, 3}, ARCH_DRUNET34},
                 {true, {3, 4, 6, 3}, ARCH_DRUNET50},
                 {true, {3, 4, 23, 3}, ARCH_DRUNET101}};
    int n[N_LAYERS];
    if (model_tensor(from, "enc.0.0.weight") != NULL) {
        *ret = ARCH_UNET;
        return ST_OK;
    }
    const char *first = model_tensor_name(from, 0);
    if (first != NULL && begins(first, "module."))
        return err_set(err, ST_MODEL_FORMAT,
                       "tensors are named module.*: save the state_dict of model.module");
    if (model_tensor(from, "conv1.weight") == NULL)
        return err_set(err, ST_MODEL_FORMAT,
                       "there is no tensor conv1.weight (DRUNet, torchvision's ResNet) and no "
                       "enc.0.0.weight (U-Net)");
    count_blocks(from, n);
    bool bottleneck = model_tensor(from, "layer1.0.conv3.weight") != NULL;
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (KINDS[i].bottleneck == bottleneck && memcmp(KINDS[i].n, n, sizeof n) == 0) {
            *ret = KINDS[i].arch;
            return ST_OK;
        }
    return err_set(err, ST_MODEL_FORMAT,
                   "layer1 to layer4 have %d, %d, %d, %d %s blocks; DRUNet-34 has 3, 4, 6, 3 basic "
                   "ones, -50 the same and -101 3, 4, 23, 3 bottlenecks",
                   n[0], n[1], n[2], n[3], bottleneck ? "bottleneck" : "basic");
}

static Status check_dtypes(const Model *from, Err *err)
{
    const char *name;
    for (int32_t i = 0; (name = model_tensor_name(from, i)) != NULL; i++)
        if (is_part(name) && model_tensor(from, name) == NULL)
            return err_set(err, ST_MODEL_FORMAT,
                           "tensor %s is none of F32, F16, BF16 with up to 4 dimensions", name);
    return ST_OK;
}

static Status find_network(Import *m, Err *err)
{
    const char *arch = m->options->arch;
    if (arch == NULL)
        TRY(guess_arch(m->from, &m->info.arch, err));
    else if (!network_from_name(arch, &m->info.arch))
        return err_set(err, ST_MODEL_FORMAT,
                       "arch is none of drunet-34, drunet-50, drunet-101, unet");
    const char *stem = m->info.arch == ARCH_UNET ? "enc.0.0.weight" : "conv1.weight";
    const Tensor *tensor = model_tensor(m->from, stem);
    if (tensor == NULL)
        return err_set(err, ST_MODEL_FORMAT, "tensor %s is missing", stem);
    m->info.width = m->options->width;
    if (m->info.width == 0 && tensor->dims[0] <= NETWORK_MAX_WIDTH)
        m->info.width = (int32_t)tensor->dims[0];
    m->encoder_only = m->info.arch != ARCH_UNET;
    const char *name;
    for (int32_t i = 0; (name = model_tensor_name(m->from, i)) != NULL; i++)
        m->encoder_only = m->encoder_only && !is_decoder(name);
    return network_build(&m->info, SIDE, SIDE, m->graph, err);
}

/* What belongs to no operation is left out, unless it looks like a part of the network: then the
** network is another one. */
static Status check_others(const Import *m, Err *err)
{
    const char *name;
    for (int32_t i = 0; (name = model_tensor_name(m->from, i)) != NULL; i++) {
        if (graph_reads_tensor(m->graph, name))
            continue;
        if (is_part(name))
            return err_set(err, ST_MODEL_FORMAT, "tensor %s is none of %s's of width %d", name,
                           network_name(m->info.arch), m->info.width);
        if (m->options->left_out != NULL)
            m->options->left_out(m->options->context, name);
    }
    return ST_OK;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static void add(Import *m, const Op *op, const char *leaf, float *values, int32_t n_dims,
                const int64_t dims[4])
{
    char *name = m->names[m->n_tensors];
    (void)snprintf(name, sizeof m->names[0], "%s.%s", op->name, leaf);
    m->values[m->n_tensors] = values;
    NewTensor *tensor = &m->tensors[m->n_tensors++];
    *tensor = (NewTensor){.name = name, .n_dims = n_dims, .values = values};
    memcpy(tensor->dims, dims, sizeof tensor->dims);
}

static void add_op(Import *m, const Op *op, const OpTensors *t)
{
    const int64_t c_out = m->graph->values[op->output].c, k = op->kernel;
    const int64_t four[4] = {c_out, m->graph->values[op->input].c, k, k}, one[4] = {c_out};
    if (op->kind == OP_CONV) {
        add(m, op, "weight", t->weight, 4, four);
        if (op->has_bias)
            add(m, op, "bias", t->bias, 1, one);
    } else {
        add(m, op, "weight", t->gamma, 1, one);
        add(m, op, "bias", t->beta, 1, one);
        add(m, op, "running_mean", t->mean, 1, one);
        add(m, op, "running_var", t->variance, 1, one);
    }
}

/* Room for an operation's tensors that come from no file. */
static Status make_tensors(const Graph *graph, const Op *op, OpTensors *ret, Err *err)
{
    size_t c = (size_t)graph->values[op->output].c;
    size_t n_weight = op->kind == OP_CONV ? (size_t)(op->kernel * op->kernel) *
                                                (size_t)graph->values[op->input].c * c
                                          : 0;
    float *memory = calloc(n_weight + 4 * c, sizeof *memory);
    if (memory == NULL)
        return err_set(err, ST_NO_MEMORY, "tensors of %s", op->name);
    *ret = (OpTensors){.memory = memory, .weight = memory, .bias = memory + n_weight};
    if (op->kind == OP_NORM)
        *ret = (OpTensors){.memory = memory,
                           .gamma = memory,
                           .beta = memory + c,
                           .mean = memory + 2 * c,
                           .variance = memory + 3 * c};
    return ST_OK;
}

static Status take_tensors(Import *m, ModelImportResult *ret, Err *err)
{
    for (int32_t i = 0; i < m->graph->n_ops; i++) {
        const Op *op = &m->graph->ops[i];
        if (op->kind != OP_CONV && op->kind != OP_NORM)
            continue;
        bool made = m->encoder_only && is_decoder(op->name);
        int first = m->n_tensors;
        TRY(made ? make_tensors(m->graph, op, &m->held[i], err)
                 : graph_read_tensors(m->graph, op, m->from, &m->held[i], err));
        add_op(m, op, &m->held[i]);
        *(made ? &ret->n_made : &ret->n_read) += m->n_tensors - first;
        for (int k = first; made && k < m->n_tensors; k++) {
            const NewTensor *t = &m->tensors[k];
            train_init_values(t->name, t->n_dims, t->dims, SEED, k, m->values[k]);
        }
    }
    return ST_OK;
}

/* ---- metadata ------------------------------------------------------------------------------ */

static const char *given(const Import *m, const char *key)
{
    for (int i = 0; i < m->options->n_values; i++)
        if (strcmp(m->options->values[i].key, key) == 0)
            return m->options->values[i].value;
    return model_metadata(m->from, key);
}

static Status set(Import *m, const char *key, const char *value, Err *err)
{
    return value == NULL || cJSON_AddStringToObject(m->metadata, key, value) != NULL
               ? ST_OK
               : err_set(err, ST_NO_MEMORY, "metadata %s", key);
}

/* All that is missing in one message. */
static Status check_needed(const Import *m, Err *err)
{
    static const char *const NEEDED[] = {"target", "pose", "grid", "window", "activation", "mask"};
    char missing[128] = "";
    for (size_t i = 0; i < sizeof NEEDED / sizeof NEEDED[0]; i++)
        if (given(m, NEEDED[i]) == NULL)
            (void)snprintf(missing + strlen(missing), sizeof missing - strlen(missing), "%s%s",
                           missing[0] != '\0' ? ", " : "", NEEDED[i]);
    return missing[0] == '\0'
               ? ST_OK
               : err_set(err, ST_USAGE, "the file does not say and nobody gave: %s", missing);
}

/* Are the values that were given such as a model file may have? Asked with good ones beside them,
** so that what is refused is theirs. */
static Status check_values(const ModelImport *options, Err *err)
{
    static const MetadataValue GOOD[] = {{"format", "ct2mr-model-1"},
                                         {"arch", "drunet-34"},
                                         {"width", "16"},
                                         {"target", "T1"},
                                         {"pose", "reference"},
                                         {"grid", "{\"pixels\":32,\"spacing_mm\":1}"},
                                         {"activation", "linear"},
                                         {"window", "{\"level_hu\":40,\"width_hu\":80}"},
                                         {"mask", "head"},
                                         {"mean", "[0,0,0]"},
                                         {"std", "[1,1,1]"}};
    ModelInfo info;
    Err why = {0};
    cJSON *metadata = cJSON_CreateObject();
    for (int i = 0; i < options->n_values; i++)
        (void)cJSON_AddStringToObject(metadata, options->values[i].key, options->values[i].value);
    for (size_t i = 0; i < sizeof GOOD / sizeof GOOD[0]; i++)
        if (cJSON_GetObjectItemCaseSensitive(metadata, GOOD[i].key) == NULL)
            (void)cJSON_AddStringToObject(metadata, GOOD[i].key, GOOD[i].value);
    Status status = model_metadata_parse(metadata, &info, &why);
    cJSON_Delete(metadata);
    return status == ST_MODEL_FORMAT ? err_set(err, ST_USAGE, "what was given for %s", why.msg)
           : status != ST_OK         ? err_set(err, status, "%s", why.msg)
                                     : ST_OK;
}

static Status make_metadata(Import *m, Err *err)
{
    static const char *const TAKEN[] = {"target",   "pose",       "axes",    "grid",
                                        "window",   "activation", "mask",    "interpolation",
                                        "envelope", "label",      "licence", TRAINED_CASES_KEY};
    static const char *const MEAN = "[0.485,0.456,0.406]", *const STD = "[0.229,0.224,0.225]";
    char width[16], untrained[160];
    ModelInfo info;
    (void)snprintf(width, sizeof width, "%d", m->info.width);
    (void)snprintf(untrained, sizeof untrained, "{\"untrained\":\"decoder\",\"encoder\":\"%s\"}",
                   model_info(m->from)->digest);
    TRY(set(m, "format", "ct2mr-model-1", err));
    TRY(set(m, "arch", network_name(m->info.arch), err));
    TRY(set(m, "width", width, err));
    for (size_t i = 0; i < sizeof TAKEN / sizeof TAKEN[0]; i++)
        TRY(set(m, TAKEN[i], given(m, TAKEN[i]), err));
    TRY(set(m, "mean", given(m, "mean") != NULL ? given(m, "mean") : MEAN, err));
    TRY(set(m, "std", given(m, "std") != NULL ? given(m, "std") : STD, err));
    TRY(set(m, "training", m->encoder_only ? untrained : given(m, "training"), err));
    TRY(set(m, "imported_from", model_info(m->from)->digest, err));
    return model_metadata_parse(m->metadata, &info, err);
}

/* ---- all ----------------------------------------------------------------------------------- */

static Status write_model(const Import *m, const char *to, Err *err)
{
    MetadataValue values[MAX_VALUES];
    int n = 0;
    for (const cJSON *item = m->metadata->child; item != NULL; item = item->next) {
        ASSERT(n < MAX_VALUES);
        values[n++] = (MetadataValue){item->string, item->valuestring};
    }
    return model_write_new(to, values, n, m->tensors, m->n_tensors, m->options->f16, err);
}

static Status run(Import *m, const char *to, ModelImportResult *ret, Err *err)
{
    enum { MAX_TENSORS = 4 * GRAPH_MAX_OPS };
    m->graph = malloc(sizeof *m->graph);
    m->held = calloc(GRAPH_MAX_OPS, sizeof *m->held);
    m->tensors = calloc(MAX_TENSORS, sizeof *m->tensors);
    m->values = calloc(MAX_TENSORS, sizeof *m->values);
    m->names = calloc(MAX_TENSORS, sizeof *m->names);
    m->metadata = cJSON_CreateObject();
    if (m->graph == NULL || m->held == NULL || m->tensors == NULL || m->values == NULL ||
        m->names == NULL || m->metadata == NULL)
        return err_set(err, ST_NO_MEMORY, "importing a model");
    TRY(check_values(m->options, err));
    TRY(check_needed(m, err));
    TRY(check_dtypes(m->from, err));
    TRY(find_network(m, err));
    TRY(check_others(m, err));
    TRY(make_metadata(m, err));
    ret->was_calibrated = model_metadata(m->from, "calibration") != NULL;
    ret->arch = m->info.arch;
    ret->width = m->info.width;
    TRY(take_tensors(m, ret, err));
    return write_model(m, to, err);
}

Status model_import(const char *from, const ModelImport *import, const char *to,
                    ModelImportResult *ret, Err *err)
{
    Import m = {.options = import};
    ModelImportResult result = {0};
    TRY(model_open_tensors(from, &m.from, err));
    Status status = run(&m, to, &result, err);
    if (status == ST_MODEL_FORMAT)
        status = err_wrap(err, "%s", from);
    for (int32_t i = 0; m.held != NULL && i < GRAPH_MAX_OPS; i++)
        graph_tensors_free(&m.held[i]);
    model_close(m.from);
    free(m.graph);
    free(m.held);
    free(m.tensors);
    free(m.values);
    free(m.names);
    cJSON_Delete(m.metadata);
    if (status == ST_OK)
        *ret = result;
    return status;
}
