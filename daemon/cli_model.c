/* ct2mr model: what a model file says of itself, and whether it can be used here. */
#include "daemon/cli.h"

#include "gpu/graph_passes.h"
#include "gpu/net.h"
#include "gpu/network.h"
#include "gpu/verify.h"

#include <getopt.h>
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

/* ---- show ---------------------------------------------------------------------------------- */

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

static void print_show(const ModelInfo *info, const Graph *graph, const Graph *fast)
{
    (void)printf("name         %s\ndigest       %s\n", info->name, info->digest);
    if (info->label[0] != '\0')
        (void)printf("label        %s\n", info->label);
    (void)printf("network      %s, width %d, %s, %lld parameters, %.2f GMAC per slice\n",
                 network_name(info->arch), info->width, activation_name(info->activation),
                 (long long)info->n_parameters, (double)graph_macs(graph) * 1e-9);
    (void)printf("target       %s\ninput        %d x %d at %g mm, %s pose, %s mask\n", info->target,
                 info->grid_pixels, info->grid_pixels, info->grid_spacing_mm, pose_name(info->pose),
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
    if (info->body_part[0] != '\0')
        (void)printf("envelope     body_part %s\n", info->body_part);
    for (int i = 0; i < N_RANGES; i++) {
        NamedRange r = range_at(info, i);
        if (r.range->present)
            (void)printf("envelope     %s %g to %g\n", r.name, r.range->low, r.range->high);
    }
    if (info->training[0] != '\0')
        (void)printf("training     %s\n", info->training);
    if (info->licence[0] != '\0')
        (void)printf("licence      %s\n", info->licence);
    (void)printf("\nlayer     in                 out                GMAC\n");
    for (int32_t i = 0; i < graph->n_stages; i++) {
        const Stage *stage = &graph->stages[i];
        const Value *in = &graph->values[stage->input], *out = &graph->values[stage->output];
        (void)printf("%-9s %5d x %4d x %4d %5d x %4d x %4d %7.3f\n", stage->name, in->c, in->h,
                     in->w, out->c, out->h, out->w, layer_gmac(graph, stage));
    }
    print_rewritten(graph, fast);
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

static void add_metadata(cJSON *json, const ModelInfo *info)
{
    (void)cJSON_AddStringToObject(json, "name", info->name);
    (void)cJSON_AddStringToObject(json, "digest", info->digest);
    (void)cJSON_AddStringToObject(json, "label", info->label);
    (void)cJSON_AddStringToObject(json, "arch", network_name(info->arch));
    (void)cJSON_AddNumberToObject(json, "width", info->width);
    (void)cJSON_AddNumberToObject(json, "n_parameters", (double)info->n_parameters);
    (void)cJSON_AddStringToObject(json, "activation", activation_name(info->activation));
    (void)cJSON_AddStringToObject(json, "target", info->target);
    (void)cJSON_AddStringToObject(json, "pose", pose_name(info->pose));
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
    if (info->training[0] != '\0') /* was checked to be JSON when the file was read */
        (void)cJSON_AddItemToObject(json, "training", cJSON_Parse(info->training));
}

static void add_shape(cJSON *json, const char *key, const Value *v)
{
    cJSON *array = cJSON_AddArrayToObject(json, key);
    const int32_t dims[3] = {v->c, v->h, v->w};
    for (int i = 0; i < 3; i++)
        (void)cJSON_AddItemToArray(array, cJSON_CreateNumber(dims[i]));
}

static void add_precisions(cJSON *json, unsigned precisions)
{
    cJSON *list = cJSON_AddArrayToObject(json, "precisions");
    for (int p = PRECISION_F32; p <= PRECISION_F16; p++)
        if ((precisions & 1u << p) != 0)
            (void)cJSON_AddItemToArray(list, cJSON_CreateString(precision_name((Precision)p)));
}

static void print_show_json(const ModelInfo *info, const Graph *graph, const Graph *fast)
{
    cJSON *json = cJSON_CreateObject();
    add_metadata(json, info);
    add_precisions(json, info->precisions);
    (void)cJSON_AddNumberToObject(json, "gmac_per_slice", (double)graph_macs(graph) * 1e-9);
    (void)cJSON_AddNumberToObject(json, "gmac_rewritten", (double)graph_macs(fast) * 1e-9);
    (void)cJSON_AddNumberToObject(json, "arena_bytes", (double)fast->arena_bytes);
    cJSON *layers = cJSON_AddArrayToObject(json, "layers");
    for (int32_t i = 0; i < graph->n_stages; i++) {
        const Stage *stage = &graph->stages[i];
        cJSON *layer = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(layer, "name", stage->name);
        add_shape(layer, "in", &graph->values[stage->input]);
        add_shape(layer, "out", &graph->values[stage->output]);
        (void)cJSON_AddNumberToObject(layer, "gmac", layer_gmac(graph, stage));
        (void)cJSON_AddItemToArray(layers, layer);
    }
    cli_print_json(json);
}

static int show(const Model *model, bool json)
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
        print_show_json(info, graph, fast);
    else if (status == ST_OK)
        print_show(info, graph, fast);
    free(graph);
    free(fast);
    return status == ST_OK ? CLI_OK : cli_fail(&err, json);
}

/* ---- verify -------------------------------------------------------------------------------- */

static int verify(const Model *model, bool json)
{
    const ModelInfo *info = model_info(model);
    const char *backend = net_backend_name(0);
    Err err = {0};
    double difference;
    int32_t n_tensors = 0;
    if (model_verify(model, backend, &difference, &err) != ST_OK) {
        (void)cli_fail(&err, json);
        return CLI_NEGATIVE;
    }
    while (model_tensor_name(model, n_tensors) != NULL)
        n_tensors++;
    if (!json) {
        (void)printf("%s: good; %d tensors, backends ref and %s differ by at most %.2g\n",
                     info->name, n_tensors, backend, difference);
        return CLI_OK;
    }
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddTrueToObject(object, "ok");
    (void)cJSON_AddStringToObject(object, "name", info->name);
    (void)cJSON_AddStringToObject(object, "digest", info->digest);
    (void)cJSON_AddNumberToObject(object, "n_tensors", n_tensors);
    (void)cJSON_AddStringToObject(object, "backend", backend);
    (void)cJSON_AddNumberToObject(object, "max_difference", difference);
    (void)cJSON_AddNumberToObject(object, "tolerance", VERIFY_TOLERANCE);
    cli_print_json(object);
    return CLI_OK;
}

int cli_model(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool json = false;
    if (argc > 1 && strcmp(argv[1], "calibrate") == 0)
        return cli_model_calibrate(argc - 1, argv + 1);
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'j')
            return cli_usage("model", "unknown option");
        json = true;
    }
    if (optind + 2 != argc)
        return cli_usage("model", "say show or verify, and one file");
    const char *verb = argv[optind], *path = argv[optind + 1];
    bool is_show = strcmp(verb, "show") == 0;
    if (!is_show && strcmp(verb, "verify") != 0)
        return cli_usage("model", "unknown verb: show, verify or calibrate");
    Err err = {0};
    Model *model;
    if (model_open(path, &model, &err) != ST_OK) {
        int code = cli_fail(&err, json);
        return is_show ? code : CLI_NEGATIVE;
    }
    int code = is_show ? show(model, json) : verify(model, json);
    model_close(model);
    return code;
}
