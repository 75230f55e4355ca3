/* `ct2mr errors`: the status table for operators.
**
** JSON: an array of {"code", "number", "retryable", "text", "remedy"}. */
#include "daemon/cli_int.h"

#include <string.h>

static bool wanted(Status status, const char *which)
{
    int64_t number;
    if (which == NULL)
        return true;
    if (cli_parse_int(which, 0, INT32_MAX, &number))
        return number == (int64_t)status;
    return strcmp(which, status_name(status)) == 0;
}

static void print_row(Status status)
{
    (void)printf("%-18s %4d  %s%s\n%24s  %s\n", status_name(status), (int)status,
                 status_text(status), status_retryable(status) ? " (tried again)" : "", "->",
                 status_remedy(status));
}

static void add_row(cJSON *rows, Status status)
{
    cJSON *row = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(row, "code", status_name(status));
    (void)cJSON_AddNumberToObject(row, "number", (int)status);
    (void)cJSON_AddBoolToObject(row, "retryable", status_retryable(status));
    (void)cJSON_AddStringToObject(row, "text", status_text(status));
    (void)cJSON_AddStringToObject(row, "remedy", status_remedy(status));
    (void)cJSON_AddItemToArray(rows, row);
}

int cli_errors(int argc, char **argv)
{
    CliOptions options;
    int code = cli_get_options("errors", argc, argv, "", &options);
    if (code != CLI_OK)
        return code;
    if (argc - optind > 1)
        return cli_usage("errors", "one code at a time");
    const char *which = optind < argc ? argv[optind] : NULL;
    cJSON *rows = cJSON_CreateArray();
    int n = 0;
    Status status;
    for (int i = 0; status_at(i, &status); i++) {
        if (!wanted(status, which))
            continue;
        n++;
        if (options.json)
            add_row(rows, status);
        else
            print_row(status);
    }
    if (n > 0 && options.json)
        cli_print_json(rows);
    else
        cJSON_Delete(rows);
    if (n > 0)
        return CLI_OK;
    Err err = {0};
    (void)err_set(&err, ST_NOT_FOUND, "no such error code; `ct2mr errors` lists all");
    return cli_fail(&err, options.json);
}
