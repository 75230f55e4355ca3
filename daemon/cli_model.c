/* ct2mr model verify: whether a model file can be used here. The other verbs have files of their
** own. */
#include "daemon/cli.h"

#include "daemon/cli_int.h"
#include "gpu/net.h"
#include "gpu/verify.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* digest: what it should be; NULL: anything. */
static Status check(const Model *model, const char *digest, const char *backend,
                    double *ret_difference, Err *err)
{
    const ModelInfo *info = model_info(model);
    if (digest != NULL && strcasecmp(digest, info->digest) != 0)
        return err_set(err, ST_MODEL_UNFIT, "%s is another file: its SHA-256 is %s", info->name,
                       info->digest);
    if (info->untrained) /* what random weights give says nothing of a backend */
        return err_set(err, ST_MODEL_UNFIT,
                       "%s can be read, but is NOT TRAINED: its decoder is random", info->name);
    return model_verify(model, backend, ret_difference, err);
}

static int verify(const Model *model, const char *digest, bool json)
{
    const ModelInfo *info = model_info(model);
    const char *backend = net_backend_name(0);
    Err err = {0};
    double difference;
    int32_t n_tensors = 0;
    char unproven[MODEL_UNPROVEN_SIZE];
    if (check(model, digest, backend, &difference, &err) != ST_OK) {
        (void)cli_fail(&err, json);
        return CLI_NEGATIVE;
    }
    while (model_tensor_name(model, n_tensors) != NULL)
        n_tensors++;
    (void)model_unproven_text(info, unproven);
    if (!json) {
        (void)printf("%s: good; %d tensors, backends ref and %s differ by at most %.2g\n"
                     "SHA-256 %s\n",
                     info->name, n_tensors, backend, difference, info->digest);
        if (info->unproven != 0)
            (void)printf("note: %s\n", unproven);
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
    (void)cJSON_AddStringToObject(object, "notice", unproven);
    cli_print_json(object);
    return CLI_OK;
}

int cli_model(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"digest", required_argument, NULL, 'd'},
                                            {"layers", no_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    const char *digest = NULL;
    bool json = false, layers = false;
    if (argc > 1 && strcmp(argv[1], "calibrate") == 0)
        return cli_model_calibrate(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "import") == 0)
        return cli_model_import(argc - 1, argv + 1);
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd' && (strlen(optarg) != 64 || strspn(optarg, "0123456789abcdefABCDEF") != 64))
            return cli_usage("model", "--digest wants a SHA-256: 64 hexadecimal digits");
        if (c == 'd')
            digest = optarg;
        else if (c == 'j')
            json = true;
        else if (c == 'l')
            layers = true;
        else
            return cli_usage("model", "unknown option");
    }
    if (optind + 2 != argc)
        return cli_usage("model", "say show or verify, and one file");
    const char *verb = argv[optind], *path = argv[optind + 1];
    bool is_show = strcmp(verb, "show") == 0;
    if (!is_show && strcmp(verb, "verify") != 0)
        return cli_usage("model", "unknown verb: show, verify, calibrate or import");
    if (is_show && digest != NULL)
        return cli_usage("model", "--digest is for verify");
    if (!is_show && layers)
        return cli_usage("model", "--layers is for show");
    Err err = {0};
    Model *model;
    if (model_open(path, &model, &err) != ST_OK) {
        int code = cli_fail(&err, json);
        return is_show ? code : CLI_NEGATIVE;
    }
    int code = is_show ? cli_model_show(model, layers, json) : verify(model, digest, json);
    model_close(model);
    return code;
}
