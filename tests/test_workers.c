/* daemon/node_compute: which worker gets which job. Claims: one worker until a GPU is known, then
** one for each, who stay; a killed one costs an attempt or nothing; one whose GPU failed is not
** used beside others; idle ones end.
**
** Method: the node with a database, and children that are this program: as `--worker FILE` it plays
** a worker that reports, notes "PID DEVICE" in the test's folder, waits there for a file "go", and
** says that the result is not plausible (a failure that is final: a job needs no result then). */
#include "tests/test.h"

#include "base/clock.h"
#include "base/message.h"
#include "daemon/node.h"
#include "pipeline/job_file.h"
#include "tests/db_fixture.h"

#include <signal.h>
#include <unistd.h>

/* ---- the worker that is played ------------------------------------------------------------- */

static int number_of(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? (int)strtol(text, NULL, 10) : -1;
}

static void say(RoleReportType type, Status status, int index)
{
    const RoleReport r = {.type = type, .status = (int32_t)status, .index = index};
    if (message_send(ROLE_CHANNEL_FD, &r, sizeof r, NULL, 0) < 0)
        _exit(1);
}

/* True if the worker stays. */
static bool play_job(const char *file)
{
    JobOptions options;
    PathList images;
    char path[PATH_SIZE], line[64];
    if (job_file_read(file, &options, &images, NULL) != ST_OK)
        _exit(1);
    path_list_free(&images);
    int gpus = number_of("PLAYED_GPUS");
    bool well = options.device < gpus && options.device != number_of("PLAYED_BAD_GPU");
    if (path_format(path, NULL, "%s/log", options.model_path) != ST_OK)
        _exit(1);
    int n = snprintf(line, sizeof line, "%d %d\n", (int)getpid(), options.device);
    FILE *log = fopen(path, "ab");
    if (log == NULL || fwrite(line, 1, (size_t)n, log) != (size_t)n || fclose(log) != 0)
        _exit(1);
    if (well)
        say(ROLE_GPUS, ST_OK, gpus);
    if (path_format(path, NULL, "%s/go", options.model_path) != ST_OK)
        _exit(1);
    while (access(path, F_OK) != 0)
        (void)usleep(2000);
    say(ROLE_END, ST_CHECK_RANGE, well);
    return well;
}

__attribute__((constructor)) static void play_worker(int argc, char **argv)
{
    char file[PATH_SIZE];
    if (argc != 3 || strcmp(argv[1], "--worker") != 0 || getenv("PLAYED_GPUS") == NULL)
        return;
    bool stays = path_format(file, NULL, "%s", argv[2]) == ST_OK;
    while (stays && play_job(file))
        if (message_receive(ROLE_CHANNEL_FD, file, sizeof file, NULL, NULL) <= 0)
            break;
    _exit(0);
}

/* ---- the node ------------------------------------------------------------------------------ */

static Node node;

static const char *path_of(const char *name)
{
    static char path[PATH_SIZE];
    CHECK_OK(path_format(path, NULL, "%s/%s", test_dir(), name), &(Err){0});
    return path;
}

static void open_node(const char *gpus, const char *bad_gpu)
{
    CHECK(setenv("CT2MR_PROGRAM", "/proc/self/exe", 1) == 0);
    CHECK(setenv("PLAYED_GPUS", gpus, 1) == 0 && setenv("PLAYED_BAD_GPU", bad_gpu, 1) == 0);
    memset(&node, 0, sizeof node);
    node.loop = uv_default_loop();
    node.db = fixture_open();
    (void)snprintf(node.config.spool_path, sizeof node.config.spool_path, "%s", test_dir());
    (void)snprintf(node.config.model_path, sizeof node.config.model_path, "%s", test_dir());
    node.config.job_attempts = 3;
    node.config.job_deadline_s = 60;
    node.config.job_worker_idle_s = 300;
}

static void close_node(void)
{
    node.stopping = true;
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        if (node.workers[i] != NULL)
            child_kill(node.workers[i], ST_CANCELLED);
    (void)uv_run(node.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(node.loop) == 0);
    db_close(node.db);
}

static int64_t queue(int series)
{
    Instance in = fixture_image(series, 1);
    int64_t id = fixture_receive(node.db, &in, 1000).job_id;
    fixture_move(node.db, id, JOB_RECEIVING, JOB_QUEUED);
    node_start_workers(&node, clock_steady_ms());
    return id;
}

static void go(bool go)
{
    FILE *f = go ? fopen(path_of("go"), "wb") : NULL;
    CHECK(go ? f != NULL && fclose(f) == 0 : unlink(path_of("go")) == 0);
}

static int count(JobState state)
{
    char sql[80];
    (void)snprintf(sql, sizeof sql, "select count(*) from job where state = %d", (int)state);
    return (int)fixture_number(node.db, sql);
}

/* Workers that are there; working: have a job. */
static int count_workers(bool working)
{
    int n = 0;
    for (int i = 0; i < NODE_MAX_WORKERS; i++)
        n += node.workers[i] != NULL && (!working || !child_waits(node.workers[i]));
    return n;
}

/* Runs the loop until so many jobs are in that state, or so many workers are there. */
static void run_until(const char *what, int (*counted)(int), int argument, int want)
{
    int64_t end = clock_monotonic_ms() + 20000;
    while (counted(argument) != want) {
        (void)uv_run(node.loop, UV_RUN_NOWAIT);
        if (clock_monotonic_ms() > end)
            test_fail(__FILE__, __LINE__, "%s: %d, not %d", what, counted(argument), want);
        (void)usleep(1000);
    }
}

static int count_state(int state)
{
    return count((JobState)state);
}

static int count_there(int working)
{
    return count_workers(working != 0);
}

/* Lines of the log that hold the device, -1: any; *ret_pids: different processes. */
static int count_log(int device, int *ret_pids)
{
    FILE *f = fopen(path_of("log"), "rb");
    int pid, where, n = 0, pids[64], n_pids = 0;
    CHECK(f != NULL);
    while (fscanf(f, "%d %d", &pid, &where) == 2) {
        if (device >= 0 && where != device)
            continue;
        int k = 0;
        while (k < n_pids && pids[k] != pid)
            k++;
        if (k == n_pids) {
            CHECK(n_pids < 64);
            pids[n_pids++] = pid;
        }
        n++;
    }
    (void)fclose(f);
    *ret_pids = n_pids;
    return n;
}

static void spin(int ms)
{
    int64_t end = clock_monotonic_ms() + ms;
    while (clock_monotonic_ms() < end) {
        (void)uv_run(node.loop, UV_RUN_NOWAIT);
        (void)usleep(1000);
    }
}

/* ---- what it does -------------------------------------------------------------------------- */

TEST(workers_one_for_each_gpu, "three GPUs: the first job alone finds them, then three at a time")
{
    int pids;
    open_node("3", "-1");
    for (int i = 1; i <= 5; i++)
        (void)queue(i);
    CHECK_INT(count(JOB_RUNNING), 1); /* nobody knows of a GPU */
    CHECK_INT(count_workers(true), 1);
    int64_t end = clock_monotonic_ms() + 20000;
    while (node.n_gpus == 0 && clock_monotonic_ms() < end)
        (void)uv_run(node.loop, UV_RUN_NOWAIT);
    CHECK_INT(node.n_gpus, 3);
    node_start_workers(&node, clock_steady_ms()); /* as the tick does */
    CHECK_INT(count(JOB_RUNNING), 3);
    spin(50);
    CHECK_INT(count_workers(true), 3);
    go(true);
    run_until("failed jobs", count_state, JOB_FAILED, 5);
    CHECK_INT(count_log(-1, &pids), 5);
    CHECK_INT(pids, 3);
    for (int device = 0; device < 3; device++)
        CHECK(count_log(device, &pids) >= 1 && pids == 1);
    CHECK_INT(count_workers(false), 3);
    CHECK_INT(count_workers(true), 0);
    CHECK(!node_computes(&node, 0));
    close_node();
}

TEST(workers_without_a_gpu_end, "one at a time, a new process for each job")
{
    int pids;
    open_node("0", "-1");
    go(true);
    for (int i = 1; i <= 4; i++)
        (void)queue(i);
    CHECK_INT(count(JOB_RUNNING), 1);
    run_until("failed jobs", count_state, JOB_FAILED, 4);
    run_until("workers", count_there, 0, 0);
    CHECK_INT(count_log(0, &pids), 4);
    CHECK_INT(pids, 4);
    CHECK_INT(node.n_gpus, 0);
    close_node();
}

TEST(workers_killed_while_they_wait, "kill -9 of a worker without a job: the next takes no harm")
{
    int pids;
    open_node("1", "-1");
    go(true);
    (void)queue(1);
    run_until("failed jobs", count_state, JOB_FAILED, 1);
    CHECK_INT(count_workers(false), 1);
    CHECK(kill(child_pid(node.workers[0]), SIGKILL) == 0);
    run_until("workers", count_there, 0, 0);
    int64_t id = queue(2);
    run_until("failed jobs", count_state, JOB_FAILED, 2);
    CHECK_INT(fixture_job(node.db, id).attempt, 1);
    CHECK_INT(fixture_job(node.db, id).code, ST_CHECK_RANGE);

    /* killed, and the daemon has not seen it yet when the next job comes */
    CHECK(kill(child_pid(node.workers[0]), SIGKILL) == 0);
    (void)usleep(100 * 1000);
    id = queue(3);
    run_until("queued jobs", count_state, JOB_QUEUED, 1);
    CHECK_INT(fixture_job(node.db, id).code, ST_CRASHED);
    CHECK(fixture_job(node.db, id).next_try_ms > clock_steady_ms());
    CHECK_INT(count_log(-1, &pids), 2);
    close_node();
}

TEST(workers_killed_at_work, "kill -9 at work, cancelled, too slow: an attempt is lost, no more")
{
    open_node("1", "-1");
    int64_t id = queue(1);
    spin(100);
    CHECK(kill(child_pid(node.workers[0]), SIGKILL) == 0);
    run_until("queued jobs", count_state, JOB_QUEUED, 1);
    CHECK_INT(fixture_job(node.db, id).code, ST_CRASHED);
    CHECK(node.workers[0] == NULL && node.gpu_failed[0]);
    (void)queue(2); /* the only GPU is tried again */
    CHECK(node_computes(&node, 2));
    node_stop_children(&node, 2, ST_CANCELLED);
    run_until("workers", count_there, 0, 0);
    node.config.job_deadline_s = 1;
    id = queue(3);
    run_until("queued jobs", count_state, JOB_QUEUED, 2);
    CHECK_INT(fixture_job(node.db, id).code, ST_TIMEOUT);
    close_node();
}

TEST(workers_of_a_bad_gpu, "a GPU whose worker does not stay is not used beside a good one")
{
    int pids;
    open_node("2", "1");
    go(true);
    (void)queue(1);
    run_until("failed jobs", count_state, JOB_FAILED, 1);
    go(false);
    (void)queue(2);
    (void)queue(3); /* both at work: nobody knows yet */
    CHECK_INT(count(JOB_RUNNING), 2);
    go(true);
    run_until("failed jobs", count_state, JOB_FAILED, 3);
    run_until("workers", count_there, 0, 1);
    CHECK(node.gpu_failed[1] && !node.gpu_failed[0]);
    go(false);
    for (int i = 4; i <= 6; i++)
        (void)queue(i);
    CHECK_INT(count(JOB_RUNNING), 1);
    go(true);
    run_until("failed jobs", count_state, JOB_FAILED, 6);
    CHECK_INT(count_log(0, &pids), 5);
    CHECK_INT(pids, 1);
    CHECK_INT(count_log(1, &pids), 1);

    /* the good one has gone: the bad one is tried only after it */
    node.gpu_failed[0] = true;
    CHECK(kill(child_pid(node.workers[0]), SIGKILL) == 0);
    run_until("workers", count_there, 0, 0);
    (void)queue(7);
    CHECK(node.workers[0] != NULL && node.workers[1] == NULL);
    run_until("failed jobs", count_state, JOB_FAILED, 7);
    CHECK(!node.gpu_failed[0]);
    close_node();
}

TEST(workers_end_when_idle, "after job.worker_idle_s; at once if that is 0; after a reload")
{
    int pids;
    open_node("1", "-1");
    go(true);
    node.config.job_worker_idle_s = 1;
    (void)queue(1);
    run_until("failed jobs", count_state, JOB_FAILED, 1);
    CHECK_INT(count_workers(false), 1);
    spin(500);
    (void)queue(2); /* begins the second anew */
    run_until("failed jobs", count_state, JOB_FAILED, 2);
    spin(700);
    CHECK_INT(count_workers(false), 1);
    run_until("workers", count_there, 0, 0);
    CHECK_INT(count_log(-1, &pids), 2);
    CHECK_INT(pids, 1);
    node.config.job_worker_idle_s = 0;
    (void)queue(3);
    run_until("failed jobs", count_state, JOB_FAILED, 3);
    run_until("workers", count_there, 0, 0);
    node.config.job_worker_idle_s = 300;
    (void)queue(4);
    run_until("failed jobs", count_state, JOB_FAILED, 4);
    CHECK(count_workers(false) == 1 && node.n_gpus == 1);
    node_forget_gpus(&node);
    CHECK_INT(node.n_gpus, 0);
    run_until("workers", count_there, 0, 0);
    close_node();
}
