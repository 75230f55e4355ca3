/* `ct2mr status` and `ct2mr ready`.
**
** JSON of status: {"running": bool, "reason": TEXT or null (why not), "daemon": the daemon's reply
** without "ok", or null, "jobs": {STATE: count, ...} or null, "jobs_reason": TEXT or null}.
** JSON of ready: {"ready": bool, "reason": TEXT}.
** The daemon's reply is printed as far as its fields are known here and there. */
#include "daemon/cli_int.h"
#include "daemon/control.h"

#include <string.h>

enum { STATUS_TIMEOUT_MS = 5000 };

typedef struct Found {
    cJSON *reply; /* NULL when the daemon did not answer */
    Err daemon_err, db_err;
    bool has_counts;
    int64_t counts[JOB_STATE_LAST + 1];
} Found;

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static void print_daemon(const cJSON *reply)
{
    const cJSON *uptime = cJSON_GetObjectItemCaseSensitive(reply, "uptime_s");
    const cJSON *pid = cJSON_GetObjectItemCaseSensitive(reply, "pid");
    char text[32];
    (void)printf("daemon    running");
    if (cJSON_IsNumber(pid))
        (void)printf(", pid %d", pid->valueint);
    if (text_of(reply, "version")[0] != '\0') {
        (void)printf(", version ");
        cli_print_text(stdout, text_of(reply, "version"), 32);
    }
    if (cJSON_IsNumber(uptime))
        (void)printf(", up %s", cli_duration_text((int64_t)(uptime->valuedouble * 1000), text));
    (void)printf("\n");
    const cJSON *ready = cJSON_GetObjectItemCaseSensitive(reply, "ready");
    if (cJSON_IsBool(ready)) {
        (void)printf("ready     %s", cJSON_IsTrue(ready) ? "yes" : "NO");
        if (text_of(reply, "ready_reason")[0] != '\0') {
            (void)printf(": ");
            cli_print_text(stdout, text_of(reply, "ready_reason"), 0);
        }
        (void)printf("\n");
    }
}

static void print_receiver(const cJSON *reply)
{
    static const char *const keys[] = {"associations_open", "accepted", "rejected", "stored",
                                       "refused",           "killed",   "crashed"};
    static const char *const labels[] = {"open now", "accepted", "rejected", "images stored",
                                         "refused",  "killed",   "crashed"};
    int n = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(reply, keys[i]);
        if (cJSON_IsNumber(item))
            (void)printf("%s%s %.0f", n++ == 0 ? "receiver  " : ", ", labels[i], item->valuedouble);
    }
    if (n > 0)
        (void)printf("\n");
}

static void print_warnings(const cJSON *reply)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(reply, "warnings"))
    {
        if (!cJSON_IsString(item))
            continue;
        (void)printf("WARNING   ");
        cli_print_text(stdout, item->valuestring, 0);
        (void)printf("\n");
    }
}

static void print_text_report(const Found *found)
{
    if (found->reply != NULL) {
        print_daemon(found->reply);
        print_receiver(found->reply);
        if (text_of(found->reply, "worker")[0] != '\0') {
            (void)printf("worker    ");
            cli_print_text(stdout, text_of(found->reply, "worker"), 60);
            const cJSON *gpus = cJSON_GetObjectItemCaseSensitive(found->reply, "gpus");
            if (cJSON_IsNumber(gpus) && gpus->valueint > 0)
                (void)printf(", %d GPUs", gpus->valueint);
            (void)printf("\n");
        }
        const cJSON *free_mib = cJSON_GetObjectItemCaseSensitive(found->reply, "spool_free_mib");
        if (cJSON_IsNumber(free_mib))
            (void)printf("spool     %.0f MiB free\n", free_mib->valuedouble);
        print_warnings(found->reply);
    } else {
        (void)printf("daemon    NOT RUNNING (");
        cli_print_text(stdout, found->daemon_err.msg, 0);
        (void)printf(")\n");
    }
    if (!found->has_counts) {
        (void)printf("jobs      unknown (");
        cli_print_text(stdout, found->db_err.msg, 0);
        (void)printf(")\n");
        return;
    }
    (void)printf("jobs     ");
    int n = 0;
    for (int i = JOB_STATE_FIRST; i <= JOB_STATE_LAST; i++)
        if (found->counts[i] > 0) {
            (void)printf(" %s %lld", job_state_name((JobState)i), (long long)found->counts[i]);
            n++;
        }
    (void)printf("%s\n", n == 0 ? " none" : "");
}

static void print_json_report(Found *found)
{
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddBoolToObject(object, "running", found->reply != NULL);
    if (found->reply != NULL) {
        (void)cJSON_AddNullToObject(object, "reason");
        cJSON_DeleteItemFromObjectCaseSensitive(found->reply, "ok");
        (void)cJSON_AddItemToObject(object, "daemon", found->reply);
        found->reply = NULL;
    } else {
        (void)cJSON_AddStringToObject(object, "reason", found->daemon_err.msg);
        (void)cJSON_AddNullToObject(object, "daemon");
    }
    if (found->has_counts) {
        cJSON *jobs = cJSON_AddObjectToObject(object, "jobs");
        for (int i = JOB_STATE_FIRST; i <= JOB_STATE_LAST; i++)
            (void)cJSON_AddNumberToObject(jobs, job_state_name((JobState)i),
                                          (double)found->counts[i]);
        (void)cJSON_AddNullToObject(object, "jobs_reason");
    } else {
        (void)cJSON_AddNullToObject(object, "jobs");
        (void)cJSON_AddStringToObject(object, "jobs_reason", found->db_err.msg);
    }
    cli_print_json(object);
}

int cli_status(int argc, char **argv)
{
    CliOptions options;
    int code = cli_get_options("status", argc, argv, "", &options);
    if (code != CLI_OK)
        return code;
    if (optind < argc)
        return cli_usage("status", "takes no arguments");
    Config config;
    cli_load_config_partly(options.config, &config);
    Found found = {0};
    Db *db = NULL;
    Status daemon = control_request(config.control_socket, "status", 0, STATUS_TIMEOUT_MS,
                                    &found.reply, &found.daemon_err);
    if (db_open(config.db_path, DB_READ, &db, &found.db_err) == ST_OK)
        found.has_counts = db_counts(db, found.counts, &found.db_err) == ST_OK;
    db_close(db);
    if (options.json)
        print_json_report(&found);
    else
        print_text_report(&found);
    cJSON_Delete(found.reply);
    if (daemon != ST_OK)
        return daemon == ST_UNREACHABLE || daemon == ST_TIMEOUT ? CLI_UNREACHABLE : CLI_NEGATIVE;
    return found.has_counts ? CLI_OK : CLI_NEGATIVE;
}

/* `what` the daemon said, or why it did not. */
static int report_ready(bool ready, const char *what, int code, bool json)
{
    if (json) {
        cJSON *object = cJSON_CreateObject();
        (void)cJSON_AddBoolToObject(object, "ready", ready);
        (void)cJSON_AddStringToObject(object, "reason", what);
        cli_print_json(object);
    } else {
        (void)printf("%s%s", ready ? "ready" : "not ready", what[0] ? ": " : "");
        cli_print_text(stdout, what, 0);
        (void)printf("\n");
    }
    return code;
}

int cli_ready(int argc, char **argv)
{
    CliOptions options;
    int code = cli_get_options("ready", argc, argv, "t", &options);
    if (code != CLI_OK)
        return code;
    int64_t timeout_s = 3;
    if (options.timeout != NULL && !cli_parse_int(options.timeout, 1, 3600, &timeout_s))
        return cli_usage("ready", "-t takes 1..3600 seconds");
    if (optind < argc)
        return cli_usage("ready", "takes no arguments");
    Config config;
    Err err = {0};
    cJSON *reply = NULL;
    cli_load_config_partly(options.config, &config);
    Status status =
        control_request(config.control_socket, "ready", 0, (int)timeout_s * 1000, &reply, &err);
    if (status != ST_OK)
        return report_ready(false, err.msg,
                            status == ST_UNREACHABLE || status == ST_TIMEOUT ? CLI_UNREACHABLE
                                                                             : CLI_NEGATIVE,
                            options.json);
    bool ready = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(reply, "ready"));
    code =
        report_ready(ready, text_of(reply, "reason"), ready ? CLI_OK : CLI_NEGATIVE, options.json);
    cJSON_Delete(reply);
    return code;
}
