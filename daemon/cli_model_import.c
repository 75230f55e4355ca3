/* ct2mr model import: a file of PyTorch tensors becomes a model file, which is then verified.
**
** JSON: {"file", "arch", "width", "n_read", "n_made", "left_out": [NAME...],
** "calibration_left_out", "untrained",
** "max_difference" (of backends; not of an untrained model)}. */
#include "daemon/cli.h"

#include "base/files.h"
#include "gpu/model_import.h"
#include "gpu/net.h"
#include "gpu/verify.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_VALUES = 16, VALUE_SIZE = 1100 };

typedef struct Arguments {
    ModelImport import;
    MetadataValue values[MAX_VALUES];
    char texts[MAX_VALUES][VALUE_SIZE]; /* what values point to */
    const char *from, *out;
    cJSON *left_out;
    int n_counts; /* num_batches_tracked among what is left out */
    bool json, overwrite;
} Arguments;

/* ---- options ------------------------------------------------------------------------------- */

/* n numbers with `separator` between them. */
static bool parse_numbers(const char *text, char separator, int n, double *ret)
{
    for (int i = 0; i < n; i++) {
        char *end;
        ret[i] = strtod(text, &end);
        if (end == text || !isfinite(ret[i]) || *end != (i + 1 < n ? separator : '\0'))
            return false;
        text = end + 1;
    }
    return true;
}

static char *new_value(Arguments *a, const char *key)
{
    int i = a->import.n_values++;
    ASSERT(i < MAX_VALUES);
    a->values[i] = (MetadataValue){key, a->texts[i]};
    return a->texts[i];
}

static bool set_text(Arguments *a, const char *key, const char *value)
{
    return snprintf(new_value(a, key), VALUE_SIZE, "%s", value) < VALUE_SIZE;
}

static bool set_grid(Arguments *a, const char *text)
{
    double x[2];
    if (!parse_numbers(text, 'x', 2, x))
        return false;
    (void)snprintf(new_value(a, "grid"), VALUE_SIZE, "{\"pixels\":%.17g,\"spacing_mm\":%.17g}",
                   x[0], x[1]);
    return true;
}

static bool set_window(Arguments *a, const char *text)
{
    double x[2];
    if (!parse_numbers(text, ',', 2, x))
        return false;
    (void)snprintf(new_value(a, "window"), VALUE_SIZE, "{\"level_hu\":%.17g,\"width_hu\":%.17g}",
                   x[0], x[1]);
    return true;
}

static bool set_three(Arguments *a, const char *key, const char *text)
{
    double x[3];
    if (!parse_numbers(text, ',', 3, x))
        return false;
    (void)snprintf(new_value(a, key), VALUE_SIZE, "[%.17g,%.17g,%.17g]", x[0], x[1], x[2]);
    return true;
}

static const struct option OPTIONS[] = {{"out", required_argument, NULL, 'o'},
                                        {"arch", required_argument, NULL, 'a'},
                                        {"width", required_argument, NULL, 'w'},
                                        {"target", required_argument, NULL, 't'},
                                        {"pose", required_argument, NULL, 'p'},
                                        {"axes", required_argument, NULL, 'x'},
                                        {"mask", required_argument, NULL, 'm'},
                                        {"grid", required_argument, NULL, 'g'},
                                        {"window", required_argument, NULL, 'h'},
                                        {"mean", required_argument, NULL, 'e'},
                                        {"std", required_argument, NULL, 's'},
                                        {"envelope", required_argument, NULL, 'v'},
                                        {"interpolation", required_argument, NULL, 'n'},
                                        {"activation", required_argument, NULL, 'c'},
                                        {"label", required_argument, NULL, 'l'},
                                        {"licence", required_argument, NULL, 'i'},
                                        {"f16", no_argument, NULL, 'f'},
                                        {"overwrite", no_argument, NULL, 'r'},
                                        {"json", no_argument, NULL, 'j'},
                                        {NULL, 0, NULL, 0}};

/* An option whose value goes into the metadata. */
static bool take_metadata(Arguments *a, int c, const char *key, const char *value)
{
    switch (c) {
    case 'g':
        return set_grid(a, value);
    case 'h':
        return set_window(a, value);
    case 'e':
    case 's':
        return set_three(a, key, value);
    default:
        return set_text(a, key, value);
    }
}

/* NULL: the option has that value, or is none of those with a few. Else those that it may have. */
static const char *other_values(const char *name, const char *value)
{
    static const struct {
        const char *name, *all, *values[5];
    } FEW[] = {{"target", "T1, T2", {"T1", "T2"}},
               {"interpolation", "linear, cubic", {"linear", "cubic"}},
               {"pose", "reference, native", {"reference", "native"}},
               {"axes", "LP, LA, RP, RA", {"LP", "LA", "RP", "RA"}},
               {"mask", "head, brain", {"head", "brain"}},
               {"activation", "linear, sigmoid", {"linear", "sigmoid"}},
               {"arch",
                "drunet-34, drunet-50, drunet-101, unet",
                {"drunet-34", "drunet-50", "drunet-101", "unet"}}};
    for (size_t i = 0; i < sizeof FEW / sizeof FEW[0]; i++) {
        if (strcmp(FEW[i].name, name) != 0)
            continue;
        for (int k = 0; FEW[i].values[k] != NULL; k++)
            if (strcmp(FEW[i].values[k], value) == 0)
                return NULL;
        return FEW[i].all;
    }
    return NULL;
}

static bool take_option(Arguments *a, int c, const char *key, const char *value)
{
    int64_t width;
    switch (c) {
    case 'o':
        a->out = value;
        return true;
    case 'a':
        a->import.arch = value;
        return true;
    case 'w':
        if (!cli_parse_int(value, 1, NETWORK_MAX_WIDTH, &width))
            return false;
        a->import.width = (int32_t)width;
        return true;
    case 'f':
        a->import.f16 = true;
        return true;
    case 'r':
        a->overwrite = true;
        return true;
    case 'j':
        a->json = true;
        return true;
    default:
        return take_metadata(a, c, key, value);
    }
}

/* CLI_OK, or what the command ends with. */
static int parse(int argc, char **argv, Arguments *ret)
{
    bool seen[sizeof OPTIONS / sizeof OPTIONS[0]] = {false};
    int index = -1;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", OPTIONS, &index)) != -1;) {
        if (c == '?')
            return cli_usage("model", "import: unknown option or missing value");
        if (seen[index])
            return cli_usage("model", "import: --%s is given twice", OPTIONS[index].name);
        seen[index] = true;
        const char *others = other_values(OPTIONS[index].name, optarg);
        if (others != NULL)
            return cli_usage("model", "import: --%s is none of %s", OPTIONS[index].name, others);
        if (!take_option(ret, c, OPTIONS[index].name, optarg))
            return cli_usage("model", "import: --%s cannot be understood", OPTIONS[index].name);
    }
    if (optind + 1 != argc || ret->out == NULL)
        return cli_usage("model", "import needs --out MODEL and one file");
    ret->from = argv[optind];
    if (cli_same_file(ret->out, ret->from))
        return cli_usage("model", "import: --out is the file to be read");
    if (!ret->overwrite && access(ret->out, F_OK) == 0)
        return cli_usage("model", "import: %.200s exists: --overwrite replaces it", ret->out);
    return CLI_OK;
}

/* ---- the command --------------------------------------------------------------------------- */

static void left_out(void *context, const char *name)
{
    Arguments *a = context;
    const char *leaf = strrchr(name, '.');
    if (leaf != NULL && strcmp(leaf, ".num_batches_tracked") == 0)
        a->n_counts++;
    (void)cJSON_AddItemToArray(a->left_out, cJSON_CreateString(name));
}

static void report(const Arguments *a, const ModelImportResult *r, double difference)
{
    (void)printf("%s of width %d: %d tensors\n", network_name(r->arch), r->width, r->n_read);
    const cJSON *item;
    cJSON_ArrayForEach(item, a->left_out)
    {
        if (strstr(item->valuestring, ".num_batches_tracked") == NULL)
            (void)printf("left out: %s\n", item->valuestring);
    }
    if (a->n_counts > 0)
        (void)printf("left out: num_batches_tracked of %d batch norms\n", a->n_counts);
    if (r->was_calibrated)
        (void)printf("left out: its calibration; only f32 is used until `ct2mr model calibrate` "
                     "has measured anew\n");
    if (r->n_made > 0)
        (void)printf("NOT TRAINED: the file holds an encoder only; %d tensors of the decoder were "
                     "made at random\n",
                     r->n_made);
    else
        (void)printf("backends ref and %s differ by at most %.2g\n", net_backend_name(0),
                     difference);
    (void)printf("written: %s\n", a->out);
}

static void report_json(Arguments *a, const ModelImportResult *r, double difference)
{
    cJSON *json = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(json, "file", a->out);
    (void)cJSON_AddStringToObject(json, "arch", network_name(r->arch));
    (void)cJSON_AddNumberToObject(json, "width", r->width);
    (void)cJSON_AddNumberToObject(json, "n_read", r->n_read);
    (void)cJSON_AddNumberToObject(json, "n_made", r->n_made);
    (void)cJSON_AddItemToObject(json, "left_out", a->left_out);
    a->left_out = NULL;
    (void)cJSON_AddBoolToObject(json, "calibration_left_out", r->was_calibrated);
    (void)cJSON_AddBoolToObject(json, "untrained", r->n_made > 0);
    if (r->n_made == 0)
        (void)cJSON_AddNumberToObject(json, "max_difference", difference);
    cli_print_json(json);
}

static Status verify(const char *path, double *ret_difference, Err *err)
{
    Model *model;
    TRY(model_open(path, &model, err));
    Status status = model_verify(model, net_backend_name(0), ret_difference, err);
    model_close(model);
    return status;
}

/* Under another name until it has been verified. With a random decoder outputs can be of any size,
** and their differences say nothing: such a model is not run here. */
static Status import(const Arguments *a, ModelImportResult *ret, double *ret_difference, Err *err)
{
    char part[PATH_SIZE];
    TRY(file_check_target(a->out, err));
    TRY(file_beside(a->out, part, err));
    Status status = model_import(a->from, &a->import, part, ret, err);
    if (status == ST_OK && ret->n_made == 0)
        status = verify(part, ret_difference, err);
    if (status == ST_OK && rename(part, a->out) != 0)
        status = err_sys(err, errno, "renaming %s", part);
    if (status != ST_OK)
        (void)unlink(part);
    return status;
}

int cli_model_import(int argc, char **argv)
{
    static Arguments a; /* too large for the stack */
    a = (Arguments){.left_out = cJSON_CreateArray()};
    a.import.values = a.values;
    a.import.left_out = left_out;
    a.import.context = &a;
    int code = parse(argc, argv, &a);
    ModelImportResult result;
    double difference = 0;
    Err err = {0};
    if (code == CLI_OK && import(&a, &result, &difference, &err) != ST_OK)
        code = cli_fail(&err, a.json);
    else if (code == CLI_OK && a.json)
        report_json(&a, &result, difference);
    else if (code == CLI_OK)
        report(&a, &result, difference);
    cJSON_Delete(a.left_out);
    return code;
}
