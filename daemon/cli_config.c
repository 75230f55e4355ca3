/* `ct2mr config check|options|example`.
**
** JSON of check: {"valid": true, "destinations": N, "warnings": [TEXT]}, or cli_fail()'s object.
** JSON of options: an array of {"key", "type", "default", "min", "max", "unit", "values",
** "reloadable", "text"}; min and max only for integers, unit and values only where there are some.
*/
#include "daemon/cli_int.h"
#include "daemon/config_options.h"
#include "pipeline/volume_io.h"

#include <string.h>
#include <unistd.h>

enum { WARNING_SIZE = 1200 };
#define ARENA_BYTES ((size_t)4 << 30) /* address space; memory is taken as it is touched */

/* The index-th thing that is allowed but will not work here and now; false when there is no such.
 */
static bool warning(const Config *config, int index, char ret[WARNING_SIZE])
{
    const char *const keys[] = {"model.path", "align.reference"};
    const char *const paths[] = {config->model_path, config->align_reference};
    for (int i = 0; i < 2; i++)
        if (access(paths[i], R_OK) != 0 && index-- == 0) {
            (void)snprintf(ret, WARNING_SIZE, "%s: %s cannot be read", keys[i], paths[i]);
            return true;
        }
    if (config->n_destinations == 0 && index == 0) {
        (void)snprintf(ret, WARNING_SIZE, "no destinations: results stay in the spool");
        return true;
    }
    return false;
}

/* A reference that no job could use. One that is not here may be there where the file is meant for:
** a warning says so. */
static Status check_reference(const char *path, Err *err)
{
    Arena arena = {0};
    VolumeI16 reference;
    char digest[DIGEST_HEX_SIZE];
    if (access(path, R_OK) != 0)
        return ST_OK;
    Status status = arena_open(ARENA_BYTES, &arena, err);
    if (status == ST_OK)
        status = reference_read(path, "", &arena, &reference, digest, err);
    arena_close(&arena);
    return status;
}

static int check(const CliOptions *options, const char *path)
{
    Config config;
    Err err = {0};
    char text[WARNING_SIZE];
    if (cli_load_config(path, &config, &err) != ST_OK ||
        check_reference(config.align_reference, &err) != ST_OK)
        return cli_fail(&err, options->json);
    if (options->json) {
        cJSON *object = cJSON_CreateObject();
        (void)cJSON_AddTrueToObject(object, "valid");
        (void)cJSON_AddNumberToObject(object, "destinations", config.n_destinations);
        cJSON *warnings = cJSON_AddArrayToObject(object, "warnings");
        for (int i = 0; warning(&config, i, text); i++)
            (void)cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
        cli_print_json(object);
        return CLI_OK;
    }
    for (int i = 0; warning(&config, i, text); i++)
        (void)fprintf(stderr, "warning: %s\n", text);
    (void)printf("valid, %d destination%s\n", config.n_destinations,
                 config.n_destinations == 1 ? "" : "s");
    return CLI_OK;
}

static cJSON *option_json(const Option *option)
{
    static const char *const kinds[] = {[OPTION_STRING] = "text",
                                        [OPTION_INT] = "integer",
                                        [OPTION_BOOL] = "boolean",
                                        [OPTION_ENUM] = "choice",
                                        [OPTION_LIST] = "list"};
    cJSON *row = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(row, "key", option->key);
    (void)cJSON_AddStringToObject(row, "type", kinds[option->kind]);
    if (option->kind == OPTION_INT) {
        (void)cJSON_AddNumberToObject(row, "default", option->default_int);
        (void)cJSON_AddNumberToObject(row, "min", option->min);
        (void)cJSON_AddNumberToObject(row, "max", option->max);
    } else if (option->kind == OPTION_BOOL) {
        (void)cJSON_AddBoolToObject(row, "default", option->default_int);
    } else if (option->kind == OPTION_LIST) {
        (void)cJSON_AddArrayToObject(row, "default");
    } else {
        (void)cJSON_AddStringToObject(row, "default", option->default_text);
    }
    if (option->unit[0] != '\0')
        (void)cJSON_AddStringToObject(row, "unit", option->unit);
    if (option->values[0] != '\0')
        (void)cJSON_AddStringToObject(row, "values", option->values);
    (void)cJSON_AddBoolToObject(row, "reloadable", option->reloadable);
    (void)cJSON_AddStringToObject(row, "text", option->text);
    return row;
}

static int options_list(bool json)
{
    cJSON *rows = cJSON_CreateArray();
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        char type[OPTION_TEXT_SIZE], value[1024];
        if (json)
            (void)cJSON_AddItemToArray(rows, option_json(option));
        else
            (void)printf("%s\n    %s\n    %s; default %s; %s\n", option->key, option->text,
                         config_option_type(option, type), config_option_default(option, value),
                         option->reloadable ? "reload" : "restart");
    }
    if (json)
        cli_print_json(rows);
    else
        cJSON_Delete(rows);
    return CLI_OK;
}

int cli_config(int argc, char **argv)
{
    if (argc < 2)
        return cli_usage("config", "check, options or example?");
    CliOptions options;
    int code = cli_get_options("config", argc - 1, argv + 1, "", &options);
    if (code != CLI_OK)
        return code;
    argv++;
    int n = argc - 1 - optind;
    if (strcmp(argv[0], "check") == 0 && n <= 1)
        return check(&options, n == 1 ? argv[optind] : options.config);
    if (strcmp(argv[0], "options") == 0 && n == 0)
        return options_list(options.json);
    if (strcmp(argv[0], "example") == 0 && n == 0) {
        config_print_example(stdout);
        return CLI_OK;
    }
    return cli_usage("config", "check, options or example?");
}
