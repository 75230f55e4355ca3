/* `ct2mr jobs` and `ct2mr job show|log|retry|hold|release|cancel`.
**
** Listing reads the database, so it works while the daemon is down; moving a job is the daemon's
** business and goes over the control socket. A series is named by log_hash() of its UID, as in the
** log; the UID of an MR series of our own making is shown.
**
** JSON of a job (times: ISO 8601 UTC, and KEY_ms; both null when there is none):
**   id, state, code, number, message, revision, attempt, images, series, study, transfer
**   (open|ended|cut), created, updated, last_image, wait_until, next_try, model_digest,
**   mr_series_uid (null until computed).
** JSON of jobs: {"jobs": [job, ...], "more": bool}.
** JSON of job show: job and state_text, text, remedy, deliveries: [{destination, images, sent,
**   warned (of those sent), refused, pending, attempt, first_try, next_try, ended, code, number,
**   message}],
**   steps: [{step, at, duration_ms, code, number, text}].
** JSON of job log: an array of {id, at, kind, step, code, number, duration_ms, text}.
** JSON of the verbs: the daemon's reply ({"ok": true, ...}), or cli_fail()'s object. */
#include "daemon/cli_int.h"
#include "daemon/control.h"

#include "base/clock.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_ROWS = 50, CONTROL_TIMEOUT_MS = 10000, MESSAGE_COLUMN = 79 };

static const char *code_or_dash(Status code)
{
    return code == ST_OK ? "-" : status_name(code);
}

static void add_text_or_null(cJSON *object, const char *key, const char *text)
{
    if (text[0] != '\0')
        (void)cJSON_AddStringToObject(object, key, text);
    else
        (void)cJSON_AddNullToObject(object, key);
}

static void add_code(cJSON *object, Status code)
{
    (void)cJSON_AddStringToObject(object, "code", status_name(code));
    (void)cJSON_AddNumberToObject(object, "number", (int)code);
}

static cJSON *job_json(const JobRow *job)
{
    char hash[LOG_HASH_SIZE];
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(object, "id", (double)job->id);
    (void)cJSON_AddStringToObject(object, "state", job_state_name(job->state));
    add_code(object, job->code);
    (void)cJSON_AddStringToObject(object, "message", job->message);
    (void)cJSON_AddNumberToObject(object, "revision", job->revision);
    (void)cJSON_AddNumberToObject(object, "attempt", job->attempt);
    (void)cJSON_AddNumberToObject(object, "images", job->n_images);
    (void)cJSON_AddStringToObject(object, "series", log_hash(job->series_uid, hash));
    (void)cJSON_AddStringToObject(object, "study", log_hash(job->study_uid, hash));
    (void)cJSON_AddStringToObject(object, "transfer", transfer_name(job->transfer));
    cli_json_add_time(object, "created", job->created_ms);
    cli_json_add_time(object, "updated", job->updated_ms);
    cli_json_add_time(object, "last_image", job->last_image_ms);
    cli_json_add_time(object, "wait_until", job->wait_until_ms);
    cli_json_add_time(object, "next_try", job->next_try_ms);
    add_text_or_null(object, "model_digest", job->model_digest);
    add_text_or_null(object, "mr_series_uid", job->mr_series_uid);
    return object;
}

static void print_table(const JobRow *jobs, int32_t n, bool more)
{
    int width = cli_terminal_width();
    int message_width = width == 0 ? 0 : width > MESSAGE_COLUMN ? width - MESSAGE_COLUMN : 10;
    int64_t now_ms = clock_wall_ms();
    (void)printf("%6s %-11s %-18s %6s %7s %7s %-12s %3s  %s\n", "ID", "STATE", "CODE", "IMAGES",
                 "AGE", "UPDATED", "SERIES", "TRY", "MESSAGE");
    for (int32_t i = 0; i < n; i++) {
        const JobRow *job = &jobs[i];
        char hash[LOG_HASH_SIZE], age[32], updated[32];
        (void)printf("%6lld %-11s %-18s %6d %7s %7s %-12s %3d  ", (long long)job->id,
                     job_state_name(job->state), code_or_dash(job->code), job->n_images,
                     cli_duration_text(now_ms - job->created_ms, age),
                     cli_duration_text(now_ms - job->updated_ms, updated),
                     log_hash(job->series_uid, hash), job->attempt);
        cli_print_text(stdout, job->message, message_width);
        (void)printf("\n");
    }
    if (more)
        (void)printf("... and older ones; -n 0 lists all\n");
}

static int list_jobs(const CliOptions *options, JobState state, int64_t limit)
{
    Config config;
    Db *db = NULL;
    Err err = {0};
    JobRow *jobs = NULL;
    int32_t n = 0;
    Status status = cli_open(options->config, &config, &db, &err);
    if (status == ST_OK) /* one more than wanted, to know whether there are more */
        status = db_jobs_list(db, state, limit > 0 ? (int32_t)limit + 1 : 0, &jobs, &n, &err);
    db_close(db);
    if (status != ST_OK)
        return cli_fail(&err, options->json);
    bool more = limit > 0 && n > limit;
    if (more)
        n = (int32_t)limit;
    if (options->json) {
        cJSON *object = cJSON_CreateObject();
        cJSON *rows = cJSON_AddArrayToObject(object, "jobs");
        for (int32_t i = 0; i < n; i++)
            (void)cJSON_AddItemToArray(rows, job_json(&jobs[i]));
        (void)cJSON_AddBoolToObject(object, "more", more);
        cli_print_json(object);
    } else {
        print_table(jobs, n, more);
    }
    free(jobs);
    return CLI_OK;
}

#define STATE_NAME(name, number, terminal, text) " " #name
#define STATE_NAMES JOB_STATE_MAP(STATE_NAME)

int cli_jobs(int argc, char **argv)
{
    CliOptions options;
    int code = cli_get_options("jobs", argc, argv, "sn", &options);
    if (code != CLI_OK)
        return code;
    if (optind < argc)
        return cli_usage("jobs", "takes no arguments; `ct2mr job show ID` shows one job");
    JobState state = (JobState)0;
    if (options.state != NULL) {
        char name[16] = "";
        for (size_t i = 0; i < sizeof name - 1 && options.state[i] != '\0'; i++)
            name[i] = (char)toupper((unsigned char)options.state[i]);
        if (strlen(options.state) >= sizeof name || !job_state_from_name(name, &state))
            return cli_usage("jobs", "no state %.40s; there are" STATE_NAMES, options.state);
    }
    int64_t limit = DEFAULT_ROWS;
    if (options.number != NULL && !cli_parse_int(options.number, 0, 1000000, &limit))
        return cli_usage("jobs", "-n takes 0..1000000");
    return list_jobs(&options, state, limit);
}

/* ---- one job ---- */

typedef struct Details {
    JobRow job;
    DeliveryRow *deliveries;
    int32_t n_deliveries;
    EventRow *events;
    int32_t n_events;
} Details;

static void details_free(Details *details)
{
    free(details->deliveries);
    free(details->events);
}

static Status details_read(const CliOptions *options, int64_t job_id, Details *ret, Err *err)
{
    Config config;
    Db *db = NULL;
    memset(ret, 0, sizeof *ret);
    Status status = cli_open(options->config, &config, &db, err);
    if (status == ST_OK)
        status = db_job_get(db, job_id, &ret->job, err);
    if (status == ST_OK)
        status = db_deliveries(db, job_id, &ret->deliveries, &ret->n_deliveries, err);
    if (status == ST_OK)
        status = db_events(db, job_id, &ret->events, &ret->n_events, err);
    db_close(db);
    if (status != ST_OK)
        details_free(ret);
    return status;
}

static void print_time(const char *label, int64_t wall_ms, int64_t now_ms)
{
    char text[CLOCK_TEXT_SIZE], age[32];
    if (wall_ms <= 0)
        return;
    int64_t ago_ms = now_ms - wall_ms;
    (void)printf("%-11s %s (%s%s%s)\n", label, clock_text(wall_ms, text), ago_ms < 0 ? "in " : "",
                 cli_duration_text(ago_ms < 0 ? -ago_ms : ago_ms, age), ago_ms < 0 ? "" : " ago");
}

static void print_line(const char *label, const char *text)
{
    (void)printf("%-11s ", label);
    cli_print_text(stdout, text, 0);
    (void)printf("\n");
}

static void print_job(const JobRow *job)
{
    char hash[LOG_HASH_SIZE], study[LOG_HASH_SIZE];
    int64_t now_ms = clock_wall_ms();
    (void)printf("job %lld     %s: %s\n", (long long)job->id, job_state_name(job->state),
                 job_state_text(job->state));
    if (job->code != ST_OK) {
        (void)printf("%-11s %s (%d): %s\n", "code", status_name(job->code), (int)job->code,
                     status_text(job->code));
        print_line("what to do", status_remedy(job->code));
    }
    if (job->message[0] != '\0')
        print_line("message", job->message);
    (void)printf("%-11s %s, study %s, %d images, transfer %s\n", "series",
                 log_hash(job->series_uid, hash), log_hash(job->study_uid, study), job->n_images,
                 transfer_name(job->transfer));
    (void)printf("%-11s %d, attempt %d\n", "revision", job->revision, job->attempt);
    print_time("created", job->created_ms, now_ms);
    print_time("updated", job->updated_ms, now_ms);
    print_time("last image", job->last_image_ms, now_ms);
    if (job->state == JOB_WAITING)
        print_time("waits until", job->wait_until_ms, now_ms);
    if (job->state == JOB_QUEUED || job->state == JOB_RETRY)
        print_time("next try", job->next_try_ms, now_ms);
    if (job->model_digest[0] != '\0')
        print_line("model", job->model_digest);
    if (job->mr_series_uid[0] != '\0')
        print_line("MR series", job->mr_series_uid);
}

static void print_deliveries(const Details *details)
{
    if (details->n_deliveries == 0)
        return;
    (void)printf("\n%-16s %6s %6s %6s %7s %7s %3s %-24s  %s\n", "DESTINATION", "IMAGES", "SENT",
                 "WARNED", "REFUSED", "PENDING", "TRY", "NEXT TRY", "CODE, MESSAGE");
    for (int32_t i = 0; i < details->n_deliveries; i++) {
        const DeliveryRow *d = &details->deliveries[i];
        char text[CLOCK_TEXT_SIZE];
        (void)printf("%-16s %6d %6d %6d %7d %7d %3d %-24s  %s", d->destination, d->n_images,
                     d->n_sent, d->n_warned, d->n_refused, d->n_images - d->n_sent - d->n_refused,
                     d->attempt,
                     d->ended             ? "ended"
                     : d->next_try_ms > 0 ? clock_text(d->next_try_ms, text)
                                          : "now",
                     code_or_dash(d->code));
        if (d->message[0] != '\0')
            (void)printf(", ");
        cli_print_text(stdout, d->message, 0);
        (void)printf("\n");
    }
}

static bool is_step(const EventRow *event)
{
    return strcmp(event->kind, "step") == 0;
}

static void print_steps(const Details *details)
{
    double total_s = 0;
    int n = 0;
    for (int32_t i = 0; i < details->n_events; i++) {
        const EventRow *e = &details->events[i];
        char at[CLOCK_TEXT_SIZE];
        if (!is_step(e))
            continue;
        if (n++ == 0)
            (void)printf("\n%-24s  %-10s %9s  %s\n", "TIME", "STEP", "SECONDS", "RESULT");
        (void)printf("%-24s  %-10s ", clock_text(e->at_ms, at), e->step);
        if (e->duration_ms >= 0)
            (void)printf("%9.2f  ", (double)e->duration_ms / 1000);
        else
            (void)printf("%9s  ", "-");
        if (e->status != ST_OK)
            (void)printf("%s ", status_name(e->status));
        cli_print_text(stdout, e->text, 0);
        (void)printf("\n");
        total_s += e->duration_ms > 0 ? (double)e->duration_ms / 1000 : 0;
    }
    if (n > 0)
        (void)printf("%-24s  %-10s %9.2f\n", "", "together", total_s);
}

static cJSON *delivery_json(const DeliveryRow *d)
{
    cJSON *row = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(row, "destination", d->destination);
    (void)cJSON_AddNumberToObject(row, "images", d->n_images);
    (void)cJSON_AddNumberToObject(row, "sent", d->n_sent);
    (void)cJSON_AddNumberToObject(row, "warned", d->n_warned);
    (void)cJSON_AddNumberToObject(row, "refused", d->n_refused);
    (void)cJSON_AddNumberToObject(row, "pending", d->n_images - d->n_sent - d->n_refused);
    (void)cJSON_AddNumberToObject(row, "attempt", d->attempt);
    cli_json_add_time(row, "first_try", d->first_try_ms);
    cli_json_add_time(row, "next_try", d->next_try_ms);
    (void)cJSON_AddBoolToObject(row, "ended", d->ended);
    add_code(row, d->code);
    (void)cJSON_AddStringToObject(row, "message", d->message);
    return row;
}

static cJSON *event_json(const EventRow *e)
{
    cJSON *row = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(row, "id", (double)e->id);
    cli_json_add_time(row, "at", e->at_ms);
    (void)cJSON_AddStringToObject(row, "kind", e->kind);
    add_text_or_null(row, "step", e->step);
    add_code(row, e->status);
    if (e->duration_ms >= 0)
        (void)cJSON_AddNumberToObject(row, "duration_ms", (double)e->duration_ms);
    else
        (void)cJSON_AddNullToObject(row, "duration_ms");
    (void)cJSON_AddStringToObject(row, "text", e->text);
    return row;
}

static int job_show(const CliOptions *options, int64_t job_id)
{
    Details details;
    Err err = {0};
    if (details_read(options, job_id, &details, &err) != ST_OK)
        return cli_fail(&err, options->json);
    if (options->json) {
        cJSON *object = job_json(&details.job);
        (void)cJSON_AddStringToObject(object, "state_text", job_state_text(details.job.state));
        (void)cJSON_AddStringToObject(object, "text", status_text(details.job.code));
        (void)cJSON_AddStringToObject(object, "remedy", status_remedy(details.job.code));
        cJSON *rows = cJSON_AddArrayToObject(object, "deliveries");
        for (int32_t i = 0; i < details.n_deliveries; i++)
            (void)cJSON_AddItemToArray(rows, delivery_json(&details.deliveries[i]));
        rows = cJSON_AddArrayToObject(object, "steps");
        for (int32_t i = 0; i < details.n_events; i++)
            if (is_step(&details.events[i]))
                (void)cJSON_AddItemToArray(rows, event_json(&details.events[i]));
        cli_print_json(object);
    } else {
        print_job(&details.job);
        print_deliveries(&details);
        print_steps(&details);
    }
    details_free(&details);
    return CLI_OK;
}

static int job_log(const CliOptions *options, int64_t job_id)
{
    Details details;
    Err err = {0};
    if (details_read(options, job_id, &details, &err) != ST_OK)
        return cli_fail(&err, options->json);
    cJSON *rows = cJSON_CreateArray();
    for (int32_t i = 0; i < details.n_events; i++) {
        const EventRow *e = &details.events[i];
        char at[CLOCK_TEXT_SIZE];
        if (options->json) {
            (void)cJSON_AddItemToArray(rows, event_json(e));
            continue;
        }
        (void)printf("%s %-8s %-10s ", clock_text(e->at_ms, at), e->kind,
                     e->step[0] ? e->step : "-");
        if (e->status != ST_OK)
            (void)printf("%s ", status_name(e->status));
        if (e->duration_ms >= 0)
            (void)printf("%.2f s ", (double)e->duration_ms / 1000);
        cli_print_text(stdout, e->text, 0);
        (void)printf("\n");
    }
    if (options->json)
        cli_print_json(rows);
    else
        cJSON_Delete(rows);
    details_free(&details);
    return CLI_OK;
}

static int job_move(const CliOptions *options, const char *verb, int64_t job_id)
{
    Config config;
    Err err = {0};
    cJSON *reply = NULL;
    cli_load_config_partly(options->config, &config);
    if (control_request(config.control_socket, verb, job_id, CONTROL_TIMEOUT_MS, &reply, &err) !=
        ST_OK)
        return cli_fail_control(&err, options->json);
    if (options->json) {
        cli_print_json(reply);
        return CLI_OK;
    }
    const cJSON *state = cJSON_GetObjectItemCaseSensitive(reply, "state");
    (void)printf("job %lld: %s", (long long)job_id, verb);
    if (cJSON_IsString(state)) {
        (void)printf(", now ");
        cli_print_text(stdout, state->valuestring, 32);
    }
    (void)printf("\n");
    cJSON_Delete(reply);
    return CLI_OK;
}

int cli_job(int argc, char **argv)
{
    static const char *const verbs[] = {"show", "log", "retry", "hold", "release", "cancel"};
    enum { SHOW, LOG, N_VERBS = sizeof verbs / sizeof *verbs };
    int verb = 0;
    while (argc > 1 && verb < N_VERBS && strcmp(argv[1], verbs[verb]) != 0)
        verb++;
    if (argc < 2 || verb == N_VERBS)
        return cli_usage("job", "show, log, retry, hold, release or cancel?");
    CliOptions options;
    int code = cli_get_options("job", argc - 1, argv + 1, "", &options);
    if (code != CLI_OK)
        return code;
    int64_t job_id;
    if (argc - 1 - optind != 1 || !cli_parse_int(argv[1 + optind], 1, INT64_MAX, &job_id))
        return cli_usage("job", "%s needs one job number", verbs[verb]);
    if (verb == SHOW)
        return job_show(&options, job_id);
    if (verb == LOG)
        return job_log(&options, job_id);
    return job_move(&options, verbs[verb], job_id);
}
