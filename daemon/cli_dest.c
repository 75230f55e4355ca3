/* `ct2mr dest list|echo`: the destinations of the configuration. Needs no daemon.
**
** JSON of list: an array of {"name", "ae_title", "host", "port", "calling_ae"}.
** JSON of echo: {"ok": true, "name", "ms"}, or cli_fail()'s object. */
#include "daemon/cli_int.h"
#include "dicom/send.h"

#include <string.h>

static int list(const Config *config, bool json)
{
    cJSON *rows = cJSON_CreateArray();
    if (!json)
        (void)printf("%-16s %-16s %-16s %s\n", "NAME", "AE TITLE", "CALLING AE", "ADDRESS");
    for (int i = 0; i < config->n_destinations; i++) {
        const ConfigDestination *d = &config->destinations[i];
        if (!json) {
            (void)printf("%-16s %-16s %-16s %s %d\n", d->name, d->ae_title, d->calling_ae, d->host,
                         d->port);
            continue;
        }
        cJSON *row = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(row, "name", d->name);
        (void)cJSON_AddStringToObject(row, "ae_title", d->ae_title);
        (void)cJSON_AddStringToObject(row, "host", d->host);
        (void)cJSON_AddNumberToObject(row, "port", d->port);
        (void)cJSON_AddStringToObject(row, "calling_ae", d->calling_ae);
        (void)cJSON_AddItemToArray(rows, row);
    }
    if (json)
        cli_print_json(rows);
    else
        cJSON_Delete(rows);
    return CLI_OK;
}

static int echo(const Config *config, const char *name, bool json)
{
    Err err = {0};
    const ConfigDestination *found = config_destination(config, name);
    if (found == NULL) {
        (void)err_set(&err, ST_DEST_UNKNOWN, "%.64s; `ct2mr dest list` lists all", name);
        return cli_fail(&err, json);
    }
    Destination destination = {.port = found->port, .timeout_s = config->send_timeout_s};
    memcpy(destination.name, found->name, sizeof destination.name);
    memcpy(destination.ae_title, found->ae_title, sizeof destination.ae_title);
    memcpy(destination.calling_ae, found->calling_ae, sizeof destination.calling_ae);
    memcpy(destination.host, found->host, sizeof destination.host);
    double ms = 0;
    if (dicom_echo(&destination, &ms, &err) != ST_OK)
        return cli_fail(&err, json);
    if (json) {
        cJSON *object = cJSON_CreateObject();
        (void)cJSON_AddTrueToObject(object, "ok");
        (void)cJSON_AddStringToObject(object, "name", found->name);
        (void)cJSON_AddNumberToObject(object, "ms", ms);
        cli_print_json(object);
    } else {
        (void)printf("%s answers, %.1f ms\n", found->name, ms);
    }
    return CLI_OK;
}

int cli_dest(int argc, char **argv)
{
    if (argc < 2)
        return cli_usage("dest", "list or echo?");
    CliOptions options;
    int code = cli_get_options("dest", argc - 1, argv + 1, "", &options);
    if (code != CLI_OK)
        return code;
    argv++;
    int n = argc - 1 - optind;
    bool is_list = strcmp(argv[0], "list") == 0, is_echo = strcmp(argv[0], "echo") == 0;
    if (!is_list && !is_echo)
        return cli_usage("dest", "list or echo?");
    if (n != (is_echo ? 1 : 0))
        return cli_usage("dest", is_echo ? "echo needs one name" : "list takes no name");
    Config config;
    Err err = {0};
    if (cli_load_config(options.config, &config, &err) != ST_OK)
        return cli_fail(&err, options.json);
    return is_list ? list(&config, options.json) : echo(&config, argv[optind], options.json);
}
