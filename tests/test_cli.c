/* The operator's command line: claim: it prints what the database holds and the daemon says, never
** a raw UID, and its exit code is the documented one. Method: a database made through db/jobs.h, a
** stand-in daemon on the real control socket, and the real program `ct2mr` run as a process; every
** --json output goes through a JSON parser. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "daemon/cli_int.h"
#include "daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERIES_A "1.2.826.0.1.3680043.10.1.1001"
#define SERIES_B "1.2.826.0.1.3680043.10.1.1002"
#define STUDY "1.2.826.0.1.3680043.10.1.1"
#define MR_SERIES "2.25.123456789"

static char program[PATH_SIZE], config_path[PATH_SIZE], db_path[PATH_SIZE], socket_path[100];
static char output[1 << 18]; /* of the last run: stdout and stderr */

/* Runs `ct2mr WORDS...`, returns its exit code. One argument per word of `line`. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char line[1024], *argv[32] = {program}, *save = NULL;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    int n = 1, ends[2], status;
    for (char *w = strtok_r(line, " ", &save); w && n < 31; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], 1);
        (void)dup2(ends[1], 2);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execv(program, argv);
        _exit(127);
    }
    (void)close(ends[1]);
    size_t size = 0;
    for (ssize_t got; size < sizeof output - 1 &&
                      ((got = read(ends[0], output + size, sizeof output - 1 - size)) > 0 ||
                       (got < 0 && errno == EINTR));)
        size += got > 0 ? (size_t)got : 0;
    output[size] = '\0';
    (void)close(ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status))
        test_fail(__FILE__, __LINE__, "ct2mr %s: ended by a signal: %s", argv[1], output);
    CHECK(strstr(output, SERIES_A) == NULL && strstr(output, SERIES_B) == NULL);
    CHECK(strstr(output, STUDY) == NULL);
    return WEXITSTATUS(status);
}

static void expect(const char *file, int line, int got, int want)
{
    if (got != want)
        test_fail(file, line, "exit code %d, expected %d; output:\n%s", got, want, output);
}
#define EXITS(want, ...) expect(__FILE__, __LINE__, run(__VA_ARGS__), want)
#define CONTAINS(text)                                                                             \
    do {                                                                                           \
        if (strstr(output, text) == NULL)                                                          \
            test_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", text, output);                      \
    } while (0)

/* The last output as JSON, one line; the caller deletes. */
static cJSON *json(void)
{
    cJSON *value = cJSON_Parse(output);
    if (value == NULL || strchr(output, '\n') != output + strlen(output) - 1)
        test_fail(__FILE__, __LINE__, "not one line of JSON:\n%s", output);
    return value;
}

static const char *text_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "(no text)";
}

static double number_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

/* Paths, the program, a configuration that names the test's own files. */
static void setup(void)
{
    char self[PATH_SIZE] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    CHECK(path_format(program, NULL, "%s/../ct2mr", dirname(self)) == ST_OK);
    if (access(program, X_OK) != 0)
        SKIP("the program ct2mr is not built beside the tests");
    CHECK(path_format(config_path, NULL, "%s/c.yaml", test_dir()) == ST_OK);
    CHECK(path_format(db_path, NULL, "%s/db", test_dir()) == ST_OK);
    (void)snprintf(socket_path, sizeof socket_path, "%s/s", test_dir());
    FILE *f = fopen(config_path, "w");
    CHECK(f != NULL);
    (void)fprintf(f,
                  "db:\n  path: %s\ncontrol:\n  socket: %s\nsend:\n  timeout_s: 2\n"
                  "destinations:\n  - {name: tps, ae_title: TPS, host: 127.0.0.1, port: 1}\n",
                  db_path, socket_path);
    CHECK(fclose(f) == 0);
    CHECK(setenv("CT2MR_CONFIG", config_path, 1) == 0);
    CHECK(unsetenv("COLUMNS") == 0);
}

static Instance image(const char *series_uid, int number)
{
    Instance i;
    memset(&i, 0, sizeof i);
    (void)snprintf(i.file, sizeof i.file, "%.30s-%d", series_uid + 24, number);
    (void)snprintf(i.sop_class_uid, UID_SIZE, "1.2.840.10008.5.1.4.1.1.2");
    (void)snprintf(i.sop_uid, UID_SIZE, "%.40s.%d", series_uid, number);
    (void)snprintf(i.series_uid, UID_SIZE, "%s", series_uid);
    (void)snprintf(i.study_uid, UID_SIZE, STUDY);
    (void)snprintf(i.transfer_syntax_uid, UID_SIZE, "1.2.840.10008.1.2.1");
    memset(i.patient_key, 'a', HEX_SIZE - 1);
    memset(i.digest, 'b', HEX_SIZE - 1);
    i.size_bytes = 1000;
    i.geometry.rows = i.geometry.columns = 16;
    return i;
}

static int64_t receive(Db *db, const char *series_uid, int n, int64_t now_ms)
{
    ReceivedResult result = {0};
    Err err = {0};
    for (int i = 1; i <= n; i++) {
        Instance instance = image(series_uid, i);
        CHECK_OK(db_receive(db, &instance, "SCANNER", now_ms, &result, &err), &err);
    }
    return result.job_id;
}

/* Job A: 3 images, computed, 2 sent and 1 refused on tps. Job B: 5 images, failed with a gap. */
static void make_jobs(int64_t *ret_a, int64_t *ret_b)
{
    Db *db;
    Err err = {0};
    int64_t t = clock_wall_ms() - 125000;
    CHECK_OK(db_open(db_path, DB_OWNER, &db, &err), &err);
    int64_t a = receive(db, SERIES_A, 3, t), b = receive(db, SERIES_B, 5, t + 1000);
    CHECK_OK(db_job_move(db, a, JOB_RECEIVING, JOB_QUEUED, ST_OK, NULL, 0, t + 6000, &err), &err);
    CHECK_OK(db_job_move(db, a, JOB_QUEUED, JOB_RUNNING, ST_OK, NULL, 0, t + 7000, &err), &err);
    CHECK_OK(db_event(db, a, "step", "load", ST_OK, 1250, "3 slices", t + 8250, &err), &err);
    CHECK_OK(db_event(db, a, "step", "align", ST_OK, 2500, "MI 0.71", t + 10750, &err), &err);
    OutputImage images[3];
    memset(images, 0, sizeof images);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(images[i].file, FILE_NAME_SIZE, "mr%d.dcm", i);
        (void)snprintf(images[i].sop_uid, UID_SIZE, MR_SERIES ".%d", i + 1);
    }
    const char *const destinations[] = {"tps"};
    char digest[HEX_SIZE] = "";
    memset(digest, 'c', HEX_SIZE - 1);
    CHECK_OK(db_job_computed(db, a, digest, MR_SERIES, images, 3, destinations, 1, false, t + 20000,
                             &err),
             &err);
    CHECK_OK(db_delivery_begin(db, a, "tps", t + 21000, &err), &err);
    for (int i = 0; i < 3; i++)
        CHECK_OK(db_delivery_image(db, a, "tps", images[i].sop_uid,
                                   i < 2 ? DELIVERY_SENT : DELIVERY_REFUSED, i < 2 ? 0 : 0xA700,
                                   t + 22000, &err),
                 &err);
    JobState state;
    CHECK_OK(db_delivery_end(db, a, "tps", ST_SEND_RESOURCES, "1 image answered A700H",
                             clock_wall_ms() + 3600000, 0, t + 23000, &state, &err),
             &err);
    CHECK_INT(state, JOB_RETRY);
    CHECK_OK(db_job_move(db, b, JOB_RECEIVING, JOB_FAILED, ST_SERIES_GAP,
                         "slice missing at -12.50 mm\x1b[31m", 0, t + 9000, &err),
             &err);
    db_close(db);
    *ret_a = a;
    *ret_b = b;
}

TEST(cli_help_and_usage, "help for every command, version, and exit 2 for what is not a command")
{
    setup();
    EXITS(0, "help");
    const CliCommand *command;
    for (int i = 0; (command = cli_command_at(i)) != NULL; i++) {
        EXITS(0, "help");
        CONTAINS(command->summary);
        EXITS(0, "help %s", command->name);
        CONTAINS(command->arguments);
        EXITS(0, "%s --help", command->name);
        CONTAINS(command->help);
    }
    EXITS(0, "--version");
    CHECK_STR(output, "ct2mr " CT2MR_VERSION "\n");
    static const char *const usage[] = {"",
                                        "nonsense",
                                        "help nonsense",
                                        "jobs x",
                                        "jobs -s X",
                                        "jobs -n x",
                                        "jobs -n -1",
                                        "jobs -q",
                                        "jobs -s",
                                        "job",
                                        "job show",
                                        "job eat 1",
                                        "job show x",
                                        "job show 0",
                                        "job show 1 2",
                                        "job show 01",
                                        "job show -1",
                                        "job show 99999999999999999999",
                                        "status x",
                                        "ready -t 0",
                                        "ready x",
                                        "dest",
                                        "dest echo",
                                        "dest list x",
                                        "dest eat",
                                        "config",
                                        "config eat",
                                        "errors a b",
                                        "status -t 5"};
    for (size_t i = 0; i < sizeof usage / sizeof *usage; i++)
        EXITS(2, "%s", usage[i]);
}

TEST(cli_errors_lists_the_table, "every status with its remedy, one by name or number")
{
    setup();
    EXITS(0, "errors");
    Status status;
    int n = 0;
    for (; status_at(n, &status); n++) {
        CONTAINS(status_name(status));
        CONTAINS(status_remedy(status));
    }
    EXITS(0, "errors --json");
    cJSON *rows = json();
    CHECK_INT(cJSON_GetArraySize(rows), n);
    cJSON_Delete(rows);
    EXITS(0, "errors --json 502");
    rows = json();
    CHECK_STR(text_at(cJSON_GetArrayItem(rows, 0), "code"), "SERIES_GAP");
    CHECK_INT(cJSON_GetArraySize(rows), 1);
    cJSON_Delete(rows);
    EXITS(0, "errors DISK_FULL");
    CONTAINS(status_remedy(ST_DISK_FULL));
    EXITS(1, "errors NO_SUCH_CODE");
    EXITS(1, "errors --json 9999");
    rows = json();
    CHECK_STR(text_at(rows, "code"), "NOT_FOUND");
    cJSON_Delete(rows);
}

TEST(cli_wrong_values_at_once,
     "a value that an option cannot have: exit 2 and those it may have, though no file is there")
{
    static const struct {
        const char *line, *says;
    } BAD[] = {{"ready -t 0", "1..3600"},
               {"jobs -s foo", "RECEIVING WAITING"},
               {"jobs -n -1", "0..1000000"},
               {"job foo 1", "show, log, retry"},
               {"dest foo", "list or echo"},
               {"config foo", "check, options or example"},
               {"check --backend gpu D", "auto, cpu, ref, cuda"},
               {"run --precision f15 --out D D", "auto, f32, bf16, int8, f16"},
               {"register --fixed A --moving B --out C --dof 8", "6, 7, 9 or 12"},
               {"window --out W --preset foo CT", "brain, stroke, subdural, soft, bone"},
               {"infer --model M --in X --out Y --backend gpu", "auto, cpu, ref, cuda"},
               {"infer --model M --in X --out Y --precision f15", "auto, f32, bf16, int8, f16"},
               {"infer --model M --in X --out Y --without foo", "split-concat"},
               {"model foo M", "show, verify, calibrate or import"},
               {"model verify --digest abc M", "64 hexadecimal digits"},
               {"model import --out M --target T3 F", "T1, T2"},
               {"model import --out M --pose foo F", "reference, native"},
               {"model import --out M --mask foo F", "head, brain"},
               {"model import --out M --activation foo F", "linear, sigmoid"},
               {"model import --out M --arch foo F", "drunet-34, drunet-50, drunet-101, unet"},
               {"pack --target T3", "T1, T2"},
               {"pack --pose foo", "reference, native"},
               {"pack --mask foo", "head, brain"},
               {"pack --dof 7", "6, 12"},
               {"pack --pixels 33", "multiples of 32"},
               {"pack --out P --cases L --target T1 --like M", "--like says target"},
               {"pack --out P --cases L --target T1 --registered --dof 6", "--registered means"},
               {"pack --out P --cases L --target T1 --percentiles 1,99 --mr-range 0,5", "not both"},
               {"pack --out P --png A B --target T1 --dof 6", "are for --cases"},
               {"simulate --ct C --cases 3", "are for --pack"},
               {"simulate --pack P --tissue 8,38,29", "--tissue is for --ct"},
               {"eval --data P --model M --backend gpu", "auto, cpu, ref, cuda"},
               {"eval --data P --model M --precision f15", "auto, f32, bf16, int8, f16"},
               {"eval --data P --model M --min-masked 101", "0..100"},
               {"train --data P --out M.safetensors --arch foo", "drunet-34, drunet-50"},
               {"train --data P --out M.safetensors --activation foo", "sigmoid, linear"},
               {"train --data P --out M.safetensors --schedule foo", "cosine, constant, step"},
               {"train --data P --out M.safetensors --precision int8", "f32, bf16"},
               {"train --data P --out M.safetensors --backend gpu", "cpu, cuda, ref"},
               {"train --data P --out M.safetensors --loss foo", "mse"},
               {"train --data P --out M.safetensors --augment foo", "rotate90"},
               {"train --data P --out M.safetensors --resume --overwrite", "give one of them"},
               {"gpu foo", "list, plan or selftest"},
               {"gpu plan --batch 0", "1..1024"}};
    setup();
    CHECK(chdir(test_dir()) == 0);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        EXITS(2, "%s", BAD[i].line);
        CONTAINS(BAD[i].says);
    }
    EXITS(2, "simulate --pack %s", config_path);
    CONTAINS("exists: --overwrite replaces it");
    EXITS(2, "simulate --ct %s", config_path);
    EXITS(2, "pack --cases L --target T1 --out %s", config_path);
    CONTAINS("exists: --overwrite replaces it");
    EXITS(2, "pack --overwrite --cases L --target T1 --reference R --out %s", config_path);
    CONTAINS("is no packed file");
    EXITS(2, "pack --cases L --target T1 --reference R --out nosuch/");
    CONTAINS("names no file");
    EXITS(1, "pack --cases L --target T1 --reference R --out new.pack");
    CONTAINS("NOT_FOUND");
}

TEST(cli_config_checks, "valid files 0, wrong ones 1 with the place; options; example")
{
    setup();
    EXITS(0, "config check");
    CONTAINS("valid, 1 destination\n");
    EXITS(0, "config check --json %s", config_path);
    cJSON *object = json();
    CHECK_INT(number_at(object, "destinations"), 1);
    cJSON_Delete(object);
    char bad[PATH_SIZE];
    (void)snprintf(bad, sizeof bad, "%s/bad.yaml", test_dir());
    FILE *f = fopen(bad, "w");
    CHECK(f != NULL && fputs("listen:\n  prot: 5\n", f) >= 0 && fclose(f) == 0);
    EXITS(1, "config check %s", bad);
    CONTAINS("bad.yaml:2:3: listen.prot: unknown");
    EXITS(1, "config check --json %s", bad);
    object = json();
    CHECK_STR(text_at(object, "code"), "CONFIG_KEY");
    CHECK_INT(number_at(object, "number"), 202);
    cJSON_Delete(object);
    EXITS(1, "-c %s jobs", bad);
    EXITS(1, "jobs -c %s", bad);
    EXITS(0, "config options");
    CONTAINS("listen.port\n");
    EXITS(0, "config options --json");
    object = json();
    CHECK(cJSON_GetArraySize(object) > 30);
    cJSON_Delete(object);
    EXITS(0, "config example");
    f = fopen(bad, "w");
    CHECK(f != NULL && fputs(output, f) >= 0 && fclose(f) == 0);
    EXITS(0, "config check %s", bad);
}

TEST(cli_jobs_lists, "newest first, filtered, cut, as a table and as JSON; without a daemon")
{
    setup();
    EXITS(1, "jobs");
    CONTAINS("NOT_FOUND");
    int64_t a, b;
    make_jobs(&a, &b);
    EXITS(0, "jobs");
    char hash_a[LOG_HASH_SIZE], hash_b[LOG_HASH_SIZE];
    CONTAINS(log_hash(SERIES_A, hash_a));
    CONTAINS(log_hash(SERIES_B, hash_b));
    CHECK(strstr(output, hash_b) < strstr(output, hash_a));
    CONTAINS(" FAILED ");
    CONTAINS("SERIES_GAP");
    CONTAINS("2m0");
    CONTAINS("slice missing at -12.50 mm?[31m\n"); /* no escape reaches the terminal */
    EXITS(0, "jobs -s failed --json");
    cJSON *object = json(), *rows = cJSON_GetObjectItem(object, "jobs");
    CHECK_INT(cJSON_GetArraySize(rows), 1);
    const cJSON *row = cJSON_GetArrayItem(rows, 0);
    CHECK_INT(number_at(row, "id"), b);
    CHECK_INT(number_at(row, "number"), 502);
    CHECK_INT(number_at(row, "images"), 5);
    CHECK_INT(number_at(row, "revision"), 1);
    CHECK_STR(text_at(row, "state"), "FAILED");
    CHECK_STR(text_at(row, "series"), hash_b);
    CHECK(cJSON_IsNull(cJSON_GetObjectItem(row, "mr_series_uid")));
    CHECK(cJSON_IsFalse(cJSON_GetObjectItem(object, "more")));
    cJSON_Delete(object);
    EXITS(0, "jobs -n 1 --json");
    object = json();
    CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(object, "jobs")), 1);
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(object, "more")));
    cJSON_Delete(object);
    EXITS(0, "jobs -n 1");
    CONTAINS("older ones");
    EXITS(0, "jobs -s DONE");
    CHECK(strstr(output, "FAILED") == NULL);
    CHECK(setenv("COLUMNS", "100", 1) == 0);
    EXITS(0, "jobs");
    CONTAINS("  slice missing at -...\n"); /* 79 columns before it, 21 for it */
}

TEST(cli_job_show, "everything about a job: deliveries, seconds per step, what to do")
{
    setup();
    int64_t a, b;
    make_jobs(&a, &b);
    EXITS(0, "job show %lld", (long long)b);
    CONTAINS("SERIES_GAP (502)");
    CONTAINS(status_remedy(ST_SERIES_GAP));
    CONTAINS("slice missing at -12.50 mm?");
    EXITS(0, "job show %lld", (long long)a);
    CONTAINS("RETRY: ");
    CONTAINS(MR_SERIES);
    CONTAINS("(in 59m");
    CONTAINS("1.25  3 slices");
    CONTAINS("3.75\n");
    EXITS(0, "job show %lld --json", (long long)a);
    cJSON *object = json();
    CHECK_STR(text_at(object, "state"), "RETRY");
    CHECK_STR(text_at(object, "mr_series_uid"), MR_SERIES);
    const cJSON *d = cJSON_GetArrayItem(cJSON_GetObjectItem(object, "deliveries"), 0);
    CHECK_STR(text_at(d, "destination"), "tps");
    CHECK_STR(text_at(d, "code"), "SEND_RESOURCES");
    CHECK_INT(number_at(d, "images"), 3);
    CHECK_INT(number_at(d, "sent"), 2);
    CHECK_INT(number_at(d, "sent") + number_at(d, "refused") + number_at(d, "pending"), 3);
    CHECK_INT(number_at(d, "attempt"), 1);
    CHECK(number_at(d, "next_try_ms") > (double)clock_wall_ms());
    const cJSON *steps = cJSON_GetObjectItem(object, "steps");
    CHECK_INT(cJSON_GetArraySize(steps), 2);
    CHECK_STR(text_at(cJSON_GetArrayItem(steps, 1), "step"), "align");
    CHECK_INT(number_at(cJSON_GetArrayItem(steps, 1), "duration_ms"), 2500);
    cJSON_Delete(object);
    EXITS(0, "job log %lld", (long long)a);
    CONTAINS("load");
    CONTAINS("state ");
    EXITS(0, "job log --json %lld", (long long)a);
    object = json();
    CHECK(cJSON_GetArraySize(object) >= 5);
    cJSON_Delete(object);
    EXITS(1, "job show 777");
    CONTAINS("NOT_FOUND");
    EXITS(1, "job log 777");
    EXITS(1, "job show --json 777");
    cJSON_Delete(json());
}

TEST(cli_without_a_daemon, "exit 3; the counts are printed although it is down")
{
    setup();
    EXITS(3, "status");
    CONTAINS("NOT RUNNING");
    CONTAINS("unknown");
    EXITS(3, "status --json");
    cJSON *object = json();
    CHECK(cJSON_IsFalse(cJSON_GetObjectItem(object, "running")));
    CHECK(cJSON_IsNull(cJSON_GetObjectItem(object, "jobs")));
    cJSON_Delete(object);
    int64_t a, b;
    make_jobs(&a, &b);
    EXITS(3, "status");
    CONTAINS("RETRY 1 FAILED 1");
    EXITS(3, "status --json");
    object = json();
    CHECK_INT(number_at(cJSON_GetObjectItem(object, "jobs"), "FAILED"), 1);
    CHECK_INT(number_at(cJSON_GetObjectItem(object, "jobs"), "DONE"), 0);
    cJSON_Delete(object);
    EXITS(3, "ready");
    CONTAINS("not ready: ");
    EXITS(3, "ready --json");
    cJSON_Delete(json());
    static const char *const verbs[] = {"retry", "hold", "release", "cancel"};
    for (int i = 0; i < 4; i++) {
        EXITS(3, "job %s %lld", verbs[i], (long long)a);
        CONTAINS("UNREACHABLE");
        EXITS(3, "job %s --json %lld", verbs[i], (long long)a);
        cJSON_Delete(json());
    }
}

/* Knows job 1 (DONE: refuses cancel) and nothing else. */
static Status stand_in(void *context, const char *verb, int64_t job_id, cJSON *reply, Err *err)
{
    const bool *is_ready = context;
    if (strcmp(verb, "status") == 0) {
        (void)cJSON_AddNumberToObject(reply, "pid", 4711);
        (void)cJSON_AddStringToObject(reply, "version", "9.8.7");
        (void)cJSON_AddNumberToObject(reply, "uptime_s", 7265);
        (void)cJSON_AddBoolToObject(reply, "ready", *is_ready);
        (void)cJSON_AddStringToObject(reply, "ready_reason", *is_ready ? "" : "no model");
        (void)cJSON_AddNumberToObject(reply, "associations_open", 2);
        (void)cJSON_AddNumberToObject(reply, "stored", 1234);
        (void)cJSON_AddStringToObject(reply, "worker", "idle\x1b");
        (void)cJSON_AddNumberToObject(reply, "spool_free_mib", 5678);
        return ST_OK;
    }
    if (strcmp(verb, "ready") == 0) {
        (void)cJSON_AddBoolToObject(reply, "ready", *is_ready);
        (void)cJSON_AddStringToObject(reply, "reason", *is_ready ? "" : "no model");
        return ST_OK;
    }
    if (job_id != 1)
        return err_set(err, ST_NOT_FOUND, "no job %lld", (long long)job_id);
    if (strcmp(verb, "cancel") == 0)
        return err_set(err, ST_STATE, "job 1 is DONE");
    if (strcmp(verb, "hold") == 0) { /* a daemon that ends in the middle */
        _exit(0);
    }
    (void)cJSON_AddStringToObject(reply, "state", "QUEUED");
    return ST_OK;
}

static void start_stand_in(bool is_ready)
{
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        uv_loop_t loop;
        Control *control;
        if (uv_loop_init(&loop) != 0 ||
            control_start(&loop, socket_path, stand_in, &is_ready, &control, NULL) != ST_OK ||
            write(ready[1], "y", 1) != 1)
            _exit(1);
        _exit(uv_run(&loop, UV_RUN_DEFAULT));
    }
    char answer;
    (void)close(ready[1]);
    CHECK(read(ready[0], &answer, 1) == 1);
    (void)close(ready[0]);
}

TEST(cli_with_a_daemon, "status, ready and the verbs: 0, refused by state 4, unknown job 1")
{
    setup();
    int64_t a, b;
    make_jobs(&a, &b);
    start_stand_in(true);
    EXITS(0, "status");
    CONTAINS("running, pid 4711, version 9.8.7, up 2h01m");
    CONTAINS("ready     yes");
    CONTAINS("open now 2, images stored 1234");
    CONTAINS("idle?");
    CONTAINS("5678 MiB free");
    CONTAINS("FAILED 1");
    EXITS(0, "status --json");
    cJSON *object = json();
    CHECK_INT(number_at(cJSON_GetObjectItem(object, "daemon"), "pid"), 4711);
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(object, "running")));
    cJSON_Delete(object);
    EXITS(0, "ready");
    CHECK_STR(output, "ready\n");
    EXITS(0, "job retry 1");
    CHECK_STR(output, "job 1: retry, now QUEUED\n");
    EXITS(0, "job release --json 1");
    object = json();
    CHECK_STR(text_at(object, "state"), "QUEUED");
    cJSON_Delete(object);
    EXITS(4, "job cancel 1");
    CONTAINS("STATE: job 1 is DONE");
    EXITS(4, "job cancel 1 --json");
    object = json();
    CHECK_INT(number_at(object, "number"), 111);
    cJSON_Delete(object);
    EXITS(1, "job retry 2");
    CONTAINS("NOT_FOUND");
    EXITS(3, "job hold 1");
    CONTAINS("without an answer");
    EXITS(3, "ready");
}

TEST(cli_with_a_wrong_configuration, "operators see the daemon all the same, and one line about it")
{
    setup();
    int64_t a, b;
    make_jobs(&a, &b);
    start_stand_in(true);
    FILE *f = fopen(config_path, "a");
    CHECK(f != NULL && fputs("listen:\n  prot: 5\n", f) >= 0 && fclose(f) == 0);
    static const char *const commands[] = {"status",     "ready",     "jobs",
                                           "job show 1", "job log 1", "job retry 1"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        EXITS(0, "%s", commands[i]);
        CONTAINS("ct2mr: warning: CONFIG_KEY: ");
        CONTAINS(":10:3: listen.prot: unknown");
        CONTAINS(socket_path);
    }
    EXITS(1, "config check");
    EXITS(1, "dest list");
    EXITS(1, "check %s", test_dir());
    CONTAINS("CONFIG_KEY");
    CHECK(unlink(config_path) == 0);
    EXITS(3, "ready");
    CONTAINS("warning: CONFIG_FILE");
    EXITS(1, "check %s", test_dir()); /* $CT2MR_CONFIG names it: no defaults */
    CONTAINS("CONFIG_FILE");
}

TEST(cli_json_is_utf8,
     "a path that is not UTF-8 still makes valid JSON; what is UTF-8 stays as it is")
{
    static const char *const paths[] = {"/no/Z\xfcrich", "/no/\xc3", "/no/\xed\xa0\x80",
                                        "/no/\xf5\x80\x80\x80", "/no/\xc0\x80"};
    setup();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        EXITS(1, "check --json %s", paths[i]);
        for (const char *p = output; *p != '\0'; p++)
            CHECK((unsigned char)*p < 128);
        cJSON_Delete(json());
    }
    EXITS(1, "check --json /no/\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80");
    CONTAINS("/no/\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80");
    cJSON_Delete(json());
}

TEST(cli_offline_without_the_configuration, "one that this user may not read: defaults, if unnamed")
{
    setup();
    Config config;
    Err err = {0};
    cli_default_config = config_path;
    CHECK_OK(cli_load_config_offline(config_path, &config, &err), &err);
    CHECK_STR(config.db_path, db_path);
    CHECK(chmod(config_path, 0) == 0);
    if (geteuid() == 0)
        CHECK(seteuid(65534) == 0);
    CHECK_STATUS(cli_load_config_offline(config_path, &config, &err), ST_CONFIG_FILE);
    CHECK_STATUS(cli_load_config_offline(NULL, &config, &err), ST_CONFIG_FILE); /* $CT2MR_CONFIG */
    CHECK(unsetenv("CT2MR_CONFIG") == 0);
    CHECK_OK(cli_load_config_offline(NULL, &config, &err), &err);
    CHECK_STR(config.db_path, "/var/lib/ct2mr/ct2mr.db");
    cli_default_config = "/nonexistent/c.yaml";
    CHECK_OK(cli_load_config_offline(NULL, &config, &err), &err);
    if (getuid() == 0) /* the leak checker must be able to look at this process */
        CHECK(seteuid(0) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
}

TEST(cli_ready_needs_the_daemons_yes, "a running daemon that is not ready: exit 1 and the reason")
{
    setup();
    start_stand_in(false);
    EXITS(1, "ready");
    CHECK_STR(output, "not ready: no model\n");
    EXITS(1, "ready --json");
    cJSON *object = json();
    CHECK(cJSON_IsFalse(cJSON_GetObjectItem(object, "ready")));
    CHECK_STR(text_at(object, "reason"), "no model");
    cJSON_Delete(object);
    EXITS(1, "status"); /* no database */
    CONTAINS("NO: no model");
}

TEST(cli_destinations, "the list; an echo to a closed port fails with the code; unknown names")
{
    setup();
    EXITS(0, "dest list");
    CONTAINS("127.0.0.1 1\n");
    EXITS(0, "dest list --json");
    cJSON *object = json();
    CHECK_STR(text_at(cJSON_GetArrayItem(object, 0), "calling_ae"), "CT2MR");
    cJSON_Delete(object);
    EXITS(1, "dest echo tps");
    CONTAINS("SEND_CONNECT");
    EXITS(1, "dest echo --json tps");
    object = json();
    CHECK_STR(text_at(object, "code"), "SEND_CONNECT");
    cJSON_Delete(object);
    EXITS(1, "dest echo other");
    CONTAINS("DEST_UNKNOWN");
}

TEST(cli_full_disk_is_not_an_answer, "output to a full device: exit 1")
{
    setup();
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), status;
    if (full < 0)
        SKIP("no /dev/full");
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)dup2(full, 1);
        (void)execl(program, program, "errors", (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 1);
}

TEST(cli_numbers_are_strict, "integers and numbers without blanks, hex, inf; C locale")
{
    int64_t i;
    double d;
    CHECK(cli_parse_int("5", 1, 5, &i) && i == 5);
    CHECK(!cli_parse_int("6", 1, 5, &i) && !cli_parse_int("0", 1, 5, &i));
    CHECK(!cli_parse_int("5x", 1, 5, &i) && !cli_parse_int("", 1, 5, &i));
    CHECK(cli_parse_double("-1.5e2", &d) && d == -150);
    CHECK(cli_parse_double(".5", &d) && d == 0.5);
    static const char *const bad[] = {"",    " 1",    "1 ",    "0x1", "inf", "nan",
                                      "1,5", "1e999", "1.2.3", "-",   "e5"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        CHECK(!cli_parse_double(bad[k], &d));
}

TEST(cli_replaces_only_its_own,
     "nothing, or a file that begins so; no link to nothing, folder, FIFO, shorter or other file")
{
    char path[PATH_SIZE];
    Err err = {0};
    (void)snprintf(path, sizeof path, "%s/x", test_dir());
    CHECK(cli_may_replace(path, "BEGIN") && !cli_exists(path));
    CHECK(symlink("/nonexistent/y", path) == 0);
    CHECK(!cli_may_replace(path, "BEGIN") && cli_exists(path));
    CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0);
    CHECK(!cli_may_replace(path, "BEGIN"));
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
    CHECK(!cli_may_replace(path, "BEGIN"));
    CHECK(rmdir(path) == 0);
    static const char *const TEXTS[] = {"BEGINNING", "BEGIN", "BEGI", "", "begin with"};
    for (int i = 0; i < 5; i++) {
        CHECK_OK(file_write_durable(path, TEXTS[i], strlen(TEXTS[i]), &err), &err);
        CHECK(cli_may_replace(path, "BEGIN") == (i < 2));
    }
    CHECK(cli_folder_writable(path) && cli_folder_writable("x"));
    CHECK(!cli_folder_writable("/nonexistent/x") && !cli_folder_writable(""));
    CHECK(!cli_folder_writable("nosuch/"));
}

TEST(cli_text_is_only_shown, "no control character reaches a terminal; other scripts do")
{
    static const char *const TEXTS[][2] = {
        {"a\x1b[31mb\x7f\n", "a?[31mb??"},
        {"C1 \xc2\x9b\x33m, \xc2\x85", "C1 ?3m, ?"},
        {"turn \xe2\x80\xaegpj.exe \xe2\x81\xa6x\xe2\x80\x8f", "turn ?gpj.exe ?x?"},
        {"\xc3\xa9\xc2\xa0\xe2\x80\x94\xe2\x81\xb0", "\xc3\xa9\xc2\xa0\xe2\x80\x94\xe2\x81\xb0"},
        {"cut \xc2", "cut ?"},
        {"\x9b\x33m, \xc0\xaf, \xe2\x80\xa8, \xd8\x9c.", "?3m, ??, ?, ?."},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        char shown[64] = "";
        FILE *out = fmemopen(shown, sizeof shown, "w");
        CHECK(out != NULL);
        cli_print_text(out, TEXTS[i][0], 0);
        CHECK(fclose(out) == 0);
        CHECK_STR(shown, TEXTS[i][1]);
    }
}

TEST(cli_durations, "two units, rounded down")
{
    char text[32];
    CHECK_STR(cli_duration_text(-5, text), "0s");
    CHECK_STR(cli_duration_text(59999, text), "59s");
    CHECK_STR(cli_duration_text(60000, text), "1m00s");
    CHECK_STR(cli_duration_text(3599999, text), "59m59s");
    CHECK_STR(cli_duration_text(3600000, text), "1h00m");
    CHECK_STR(cli_duration_text(86400000LL * 4 + 3600000 * 3, text), "4d03h");
}
