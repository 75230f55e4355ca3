/* ct2mr model show: the card of a model file. */
#include "daemon/cli.h"

#include "daemon/cli_int.h"
#include "gpu/graph_passes.h"
#include "gpu/net.h"
#include "gpu/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *pose_name(ModelPose pose)
{
    return pose == POSE_REFERENCE ? "reference" : "native";
}

static const char *mask_name(ModelMask mask)
{
    return mask == MASK_HEAD ? "head" : "brain";
}

static const char *activation_name(ModelActivation activation)
{
    return activation == ACTIVATION_SIGMOID ? "sigmoid" : "linear";
}

typedef struct NamedRange {
    const char *name;
    const ModelRange *range;
} NamedRange;

enum { N_RANGES = 4 };

static NamedRange range_at(const ModelInfo *info, int i)
{
    return (NamedRange[N_RANGES]){{"age_years", &info->age_years},
                                  {"slice_thickness_mm", &info->slice_thickness_mm},
                                  {"pixel_spacing_mm", &info->pixel_spacing_mm},
                                  {"kvp", &info->kvp}}[i];
}

static double layer_gmac(const Graph *graph, const Stage *stage)
{
    int64_t macs = 0; /* of the operations between the two values of the stage */
    for (int32_t i = graph->values[stage->input].first_op + 1;
         i <= graph->values[stage->output].first_op; i++)
        macs += graph_op_macs(graph, &graph->ops[i]);
    return (double)macs * 1e-9;
}

/* What the passes leave of the network. */
static void print_rewritten(const Graph *literal, const Graph *fast)
{
    (void)printf("\nliteral   %4d operations, %7.3f GMAC, %6.1f MB of values per slice\n",
                 literal->n_ops, (double)graph_macs(literal) * 1e-9,
                 (double)literal->arena_bytes * 1e-6);
    (void)printf("rewritten %4d operations, %7.3f GMAC, %6.1f MB\n", fast->n_ops,
                 (double)graph_macs(fast) * 1e-9, (double)fast->arena_bytes * 1e-6);
    for (int p = 0; p < GRAPH_PASS_COUNT; p++)
        (void)printf("  %-13s %s\n", graph_pass_name((GraphPass)p), graph_pass_text((GraphPass)p));
}

/* "TITLE  KEY.KEY value" for every leaf. The text may come from anywhere. */
static void print_leaves(const char *title, const char *prefix, const cJSON *json)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json)
    {
        char path[128], *value = NULL;
        const char *key = item->string != NULL ? item->string : "-"; /* of a list */
        (void)snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", key);
        if (cJSON_IsObject(item) || cJSON_IsArray(item)) {
            print_leaves(title, path, item);
            continue;
        }
        (void)printf("%-12s ", title);
        cli_print_text(stdout, path, 0);
        (void)printf(" ");
        if (!cJSON_IsString(item))
            value = cJSON_PrintUnformatted(item);
        cli_print_text(stdout, value != NULL ? value : cJSON_GetStringValue(item), 0);
        (void)printf("\n");
        cJSON_free(value);
    }
}

/* JSON text of the metadata, which may be damaged where nothing depends on it. */
static void print_metadata(const Model *model, const char *key)
{
    const char *text = model_metadata(model, key);
    cJSON *json = text != NULL ? cJSON_Parse(text) : NULL;
    if (json != NULL)
        print_leaves(key, "", json);
    cJSON_Delete(json);
}

static void print_provenance(const Model *model)
{
    const ModelInfo *info = model_info(model);
    if (info->untrained)
        (void)printf("NOT TRAINED  the decoder is random\n");
    if (info->training[0] != '\0')
        print_metadata(model, "training");
    else
        (void)printf("training     not stated\n");
    print_metadata(model, "calibration");
    const char *from = model_metadata(model, "imported_from");
    if (from != NULL) {
        (void)printf("imported     from the file of SHA-256 ");
        cli_print_text(stdout, from, 64);
        (void)printf("\n");
    }
    (void)printf("licence      %s\n", info->licence[0] != '\0' ? info->licence : "not stated");
}

static void print_envelope(const ModelInfo *info)
{
    int n = 0;
    if (info->body_part[0] != '\0')
        n += printf("envelope     body_part %s\n", info->body_part);
    for (int i = 0; i < N_RANGES; i++) {
        NamedRange r = range_at(info, i);
        if (r.range->present)
            n += printf("envelope     %s %g to %g\n", r.name, r.range->low, r.range->high);
    }
    if (n == 0)
        (void)printf("envelope     none: any input is accepted\n");
}

/* Every operation of the network as the paper has it. */
static void print_layers(const Graph *graph)
{
    (void)printf("\n%-28s %-8s %-6s  %-18s %-18s %10s %9s\n", "operation", "kind", "kernel", "in",
                 "out", "parameters", "GMAC");
    for (int32_t i = 0; i < graph->n_ops; i++) {
        const Op *op = &graph->ops[i];
        const Value *in = &graph->values[op->input], *out = &graph->values[op->output];
        char kernel[24] = "";
        if (op->kind == OP_CONV || op->kind == OP_MAXPOOL)
            (void)snprintf(kernel, sizeof kernel, "%d/%d", op->kernel, op->stride);
        (void)printf("%-28s %-8s %-6s %5d x %4d x %4d %5d x %4d x %4d %10lld %9.4f\n", op->name,
                     graph_kind_name(op->kind), kernel, in->c, in->h, in->w, out->c, out->h, out->w,
                     (long long)graph_op_parameters(graph, op),
                     (double)graph_op_macs(graph, op) * 1e-9);
    }
}

static void print_show(const Model *model, const Graph *graph, const Graph *fast)
{
    const ModelInfo *info = model_info(model);
    char unproven[MODEL_UNPROVEN_SIZE];
    (void)printf("name         %s\ndigest       %s\n", info->name, info->digest);
    if (info->label[0] != '\0')
        (void)printf("label        %s\n", info->label);
    (void)printf("network      %s, width %d, %s, %lld parameters, %.2f GMAC per slice\n",
                 network_name(info->arch), info->width, activation_name(info->activation),
                 (long long)info->n_parameters, (double)graph_macs(graph) * 1e-9);
    (void)printf("target       %s\ninput        %d x %d at %g mm, %s pose%s%s, %s mask\n",
                 info->target, info->grid_pixels, info->grid_pixels, info->grid_spacing_mm,
                 pose_name(info->pose), info->axes[0] != '\0' ? " to " : "", info->axes,
                 mask_name(info->mask));
    (void)printf("window       level %g HU, width %g HU\n", info->window_level_hu,
                 info->window_width_hu);
    (void)printf("normalised   mean %g %g %g, standard deviation %g %g %g\n", (double)info->mean[0],
                 (double)info->mean[1], (double)info->mean[2], (double)info->std[0],
                 (double)info->std[1], (double)info->std[2]);
    (void)printf("precisions  ");
    for (int p = PRECISION_F32; p <= PRECISION_F16; p++)
        if ((info->precisions & 1u << p) != 0)
            (void)printf(" %s", precision_name((Precision)p));
    (void)printf("\n");
    if (info->unproven != 0)
        (void)printf("NOT MEASURED %s\n", model_unproven_text(info, unproven));
    print_envelope(info);
    print_provenance(model);
    (void)printf("\nlayer     in                 out                GMAC\n");
    for (int32_t i = 0; i < graph->n_stages; i++) {
        const Stage *stage = &graph->stages[i];
        const Value *in = &graph->values[stage->input], *out = &graph->values[stage->output];
        (void)printf("%-9s %5d x %4d x %4d %5d x %4d x %4d %7.3f\n", stage->name, in->c, in->h,
                     in->w, out->c, out->h, out->w, layer_gmac(graph, stage));
    }
    print_rewritten(graph, fast);
}

static void add_shape(cJSON *json, const char *key, const Value *v)
{
    cJSON *array = cJSON_AddArrayToObject(json, key);
    const int32_t dims[3] = {v->c, v->h, v->w};
    for (int i = 0; i < 3; i++)
        (void)cJSON_AddItemToArray(array, cJSON_CreateNumber(dims[i]));
}

static cJSON *stage_json(const Graph *graph, const Stage *stage)
{
    cJSON *layer = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(layer, "name", stage->name);
    add_shape(layer, "in", &graph->values[stage->input]);
    add_shape(layer, "out", &graph->values[stage->output]);
    (void)cJSON_AddNumberToObject(layer, "gmac", layer_gmac(graph, stage));
    return layer;
}

static cJSON *operation_json(const Graph *graph, const Op *op)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "name", op->name);
    (void)cJSON_AddStringToObject(json, "kind", graph_kind_name(op->kind));
    (void)cJSON_AddNumberToObject(json, "kernel", op->kernel);
    (void)cJSON_AddNumberToObject(json, "stride", op->stride);
    add_shape(json, "in", &graph->values[op->input]);
    add_shape(json, "out", &graph->values[op->output]);
    (void)cJSON_AddNumberToObject(json, "n_parameters", (double)graph_op_parameters(graph, op));
    (void)cJSON_AddNumberToObject(json, "gmac", (double)graph_op_macs(graph, op) * 1e-9);
    return json;
}

static void add_three(cJSON *json, const char *key, const float three[3])
{
    cJSON *array = cJSON_AddArrayToObject(json, key);
    for (int i = 0; i < 3; i++)
        (void)cJSON_AddItemToArray(array, cJSON_CreateNumber((double)three[i]));
}

static void add_pair(cJSON *json, const char *key, double a, double b)
{
    cJSON *array = cJSON_AddArrayToObject(json, key);
    (void)cJSON_AddItemToArray(array, cJSON_CreateNumber(a));
    (void)cJSON_AddItemToArray(array, cJSON_CreateNumber(b));
}

static void add_json(cJSON *json, const Model *model, const char *key)
{
    const char *text = model_metadata(model, key);
    if (text != NULL)
        (void)cJSON_AddItemToObject(json, key, cJSON_Parse(text));
}

static void add_metadata(cJSON *json, const Model *model)
{
    const ModelInfo *info = model_info(model);
    (void)cJSON_AddStringToObject(json, "name", info->name);
    (void)cJSON_AddStringToObject(json, "digest", info->digest);
    (void)cJSON_AddStringToObject(json, "label", info->label);
    (void)cJSON_AddStringToObject(json, "arch", network_name(info->arch));
    (void)cJSON_AddNumberToObject(json, "width", info->width);
    (void)cJSON_AddNumberToObject(json, "n_parameters", (double)info->n_parameters);
    (void)cJSON_AddStringToObject(json, "activation", activation_name(info->activation));
    (void)cJSON_AddStringToObject(json, "target", info->target);
    (void)cJSON_AddStringToObject(json, "pose", pose_name(info->pose));
    (void)cJSON_AddStringToObject(json, "axes", info->axes);
    (void)cJSON_AddStringToObject(json, "interpolation",
                                  info->interpolation == INTERPOLATION_CUBIC ? "cubic" : "linear");
    (void)cJSON_AddStringToObject(json, "mask", mask_name(info->mask));
    (void)cJSON_AddNumberToObject(json, "grid_pixels", info->grid_pixels);
    (void)cJSON_AddNumberToObject(json, "grid_spacing_mm", info->grid_spacing_mm);
    (void)cJSON_AddNumberToObject(json, "window_level_hu", info->window_level_hu);
    (void)cJSON_AddNumberToObject(json, "window_width_hu", info->window_width_hu);
    add_three(json, "mean", info->mean);
    add_three(json, "std", info->std);
    cJSON *envelope = cJSON_AddObjectToObject(json, "envelope");
    if (info->body_part[0] != '\0')
        (void)cJSON_AddStringToObject(envelope, "body_part", info->body_part);
    for (int i = 0; i < N_RANGES; i++) {
        NamedRange r = range_at(info, i);
        if (r.range->present)
            add_pair(envelope, r.name, r.range->low, r.range->high);
    }
    (void)cJSON_AddStringToObject(json, "licence", info->licence);
    (void)cJSON_AddBoolToObject(json, "untrained", info->untrained);
    add_json(json, model, "training");
    add_json(json, model, "calibration");
    if (model_metadata(model, "imported_from") != NULL)
        (void)cJSON_AddStringToObject(json, "imported_from",
                                      model_metadata(model, "imported_from"));
}

static void add_precisions(cJSON *json, const char *key, unsigned precisions)
{
    cJSON *list = cJSON_AddArrayToObject(json, key);
    for (int p = PRECISION_F32; p <= PRECISION_F16; p++)
        if ((precisions & 1u << p) != 0)
            (void)cJSON_AddItemToArray(list, cJSON_CreateString(precision_name((Precision)p)));
}

static void print_show_json(const Model *model, const Graph *graph, const Graph *fast, bool all)
{
    cJSON *json = cJSON_CreateObject();
    add_metadata(json, model);
    add_precisions(json, "precisions", model_info(model)->precisions);
    add_precisions(json, "precisions_unproven", model_info(model)->unproven);
    (void)cJSON_AddNumberToObject(json, "gmac_per_slice", (double)graph_macs(graph) * 1e-9);
    (void)cJSON_AddNumberToObject(json, "gmac_rewritten", (double)graph_macs(fast) * 1e-9);
    (void)cJSON_AddNumberToObject(json, "arena_bytes", (double)fast->arena_bytes);
    cJSON *layers = cJSON_AddArrayToObject(json, "layers");
    for (int32_t i = 0; i < graph->n_stages; i++)
        (void)cJSON_AddItemToArray(layers, stage_json(graph, &graph->stages[i]));
    cJSON *operations = all ? cJSON_AddArrayToObject(json, "operations") : NULL;
    for (int32_t i = 0; all && i < graph->n_ops; i++)
        (void)cJSON_AddItemToArray(operations, operation_json(graph, &graph->ops[i]));
    cli_print_json(json);
}

int cli_model_show(const Model *model, bool layers, bool json)
{
    const ModelInfo *info = model_info(model);
    Err err = {0};
    Graph *graph = malloc(sizeof *graph), *fast = malloc(sizeof *fast);
    Status status = graph == NULL || fast == NULL
                        ? err_set(&err, ST_NO_MEMORY, "the network's table")
                        : network_build(info, info->grid_pixels, info->grid_pixels, graph, &err);
    if (status == ST_OK)
        status = graph_rewrite(graph, GRAPH_PASSES_ALL, fast, &err);
    if (status == ST_OK && json)
        print_show_json(model, graph, fast, layers);
    else if (status == ST_OK)
        print_show(model, graph, fast);
    if (status == ST_OK && layers && !json)
        print_layers(graph);
    free(graph);
    free(fast);
    return status == ST_OK ? CLI_OK : cli_fail(&err, json);
}
