/* db/db and db/schema: which files are opened and which refused; what survives a kill, a full disk
** and a reader beside the writer.
**
** Method: real files; the killed writer is a forked process ended by SIGKILL at a random moment, 40
** times or more; the full disk is a small tmpfs where the test may mount one (in a namespace of its
** own), and SQLite's page limit everywhere. A power cut cannot be made here: that state changes are
** synced is checked by the setting of `synchronous` that they leave behind. */
#include "tests/db_fixture.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static Status reopen(DbMode mode, Err *err)
{
    Db *db;
    Status status = db_open(fixture_path(), mode, &db, err);
    if (status == ST_OK)
        db_close(db);
    return status;
}

TEST(db_opens_new_and_again, "a new file gets schema, version and application id; reopening keeps "
                             "its rows; WAL is on")
{
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    db_close(db);
    db = fixture_open();
    CHECK_INT(fixture_job(db, id).state, JOB_RECEIVING);
    CHECK_INT(fixture_number(db, "PRAGMA user_version"), DB_SCHEMA_VERSION);
    CHECK_INT(fixture_number(db, "PRAGMA application_id"), 0x43324D52);
    CHECK_INT(fixture_number(db, "PRAGMA foreign_keys"), 1);
    CHECK_INT(fixture_number(db, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
    db_close(db);
    struct stat st;
    CHECK(stat(fixture_path(), &st) == 0 && (st.st_mode & 0007) == 0);
    db_close(NULL);
}

TEST(db_refuses_newer_and_older, "version + 1 and version 0 of ours are DB_SCHEMA for both modes")
{
    Err err = {0};
    db_close(fixture_open());
    Db *db = fixture_open();
    fixture_sql(db, "PRAGMA user_version = 2");
    db_close(db);
    CHECK_STATUS(reopen(DB_OWNER, &err), ST_DB_SCHEMA);
    CHECK(strstr(err.msg, "newer") != NULL);
    CHECK_STATUS(reopen(DB_READ, &err), ST_DB_SCHEMA);
    sqlite3 *raw;
    CHECK_INT(sqlite3_open(fixture_path(), &raw), SQLITE_OK);
    CHECK_INT(sqlite3_exec(raw, "PRAGMA user_version = 0", NULL, NULL, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_close(raw), SQLITE_OK);
    CHECK_STATUS(reopen(DB_OWNER, &err), ST_DB_SCHEMA);
    CHECK_STATUS(reopen(DB_READ, &err), ST_DB_SCHEMA);
}

TEST(db_refuses_what_is_not_ours,
     "another program's database and a text file are DB_SCHEMA and keep "
     "their bytes; a missing file is NOT_FOUND to a reader")
{
    Err err = {0};
    char before[DIGEST_HEX_SIZE], after[DIGEST_HEX_SIZE];
    CHECK_STATUS(reopen(DB_READ, &err), ST_NOT_FOUND);
    sqlite3 *raw;
    CHECK_INT(sqlite3_open(fixture_path(), &raw), SQLITE_OK);
    CHECK_INT(sqlite3_exec(raw, "CREATE TABLE job(id); PRAGMA user_version = 1", NULL, NULL, NULL),
              SQLITE_OK);
    CHECK_INT(sqlite3_close(raw), SQLITE_OK);
    CHECK_OK(digest_file(fixture_path(), before, &err), &err);
    CHECK_STATUS(reopen(DB_OWNER, &err), ST_DB_SCHEMA);
    CHECK_STATUS(reopen(DB_READ, &err), ST_DB_SCHEMA);
    CHECK_OK(digest_file(fixture_path(), after, &err), &err);
    CHECK_STR(before, after);
    char text[2000];
    memset(text, 'x', sizeof text);
    CHECK_OK(file_write_durable(fixture_path(), text, sizeof text, &err), &err);
    CHECK_STATUS(reopen(DB_OWNER, &err), ST_DB_SCHEMA);
    CHECK_STATUS(reopen(DB_READ, &err), ST_DB_SCHEMA);
    CHECK_OK(file_write_durable(fixture_path(), "", 0, &err), &err);
    CHECK_STATUS(reopen(DB_READ, &err), ST_DB_SCHEMA); /* empty: the owner may fill it, not we */
}

TEST(db_migrates_step_by_step, "1 -> 2 -> 3 keeps rows; a failing step leaves version 1; a missing "
                               "step is DB_SCHEMA")
{
    Err err = {0};
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    const Migration bad[] = {{2, "ALTER TABLE job ADD COLUMN a INTEGER"}, {3, "ALTER TABLE nix"}};
    CHECK(schema_prepare(db, bad, 2, 3, &err) != ST_OK);
    CHECK_INT(fixture_number(db, "PRAGMA user_version"), 1);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM pragma_table_info('job') WHERE name='a'"),
              0);
    const Migration good[] = {{2, "ALTER TABLE job ADD COLUMN a INTEGER NOT NULL DEFAULT 7"},
                              {3, "UPDATE job SET a = a + 1"}};
    CHECK_STATUS(schema_prepare(db, good + 1, 1, 3, &err), ST_DB_SCHEMA);
    CHECK_OK(schema_prepare(db, good, 2, 3, &err), &err);
    CHECK_INT(fixture_number(db, "PRAGMA user_version"), 3);
    CHECK_INT(fixture_number(db, "SELECT a FROM job"), 8);
    CHECK_INT(fixture_job(db, id).state, JOB_RECEIVING);
    db_close(db);
}

TEST(db_checks_refuse_impossible_rows, "DONE without a result, an image without a series, a wait "
                                       "outside WAITING")
{
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    (void)fixture_receive(db, &in, 1000);
    static const char *const bad[] = {
        "UPDATE job SET state = 8",
        "UPDATE job SET state = 12",
        "UPDATE job SET wait_until_ms = 5",
        "UPDATE image SET series_id = 99",
        "DELETE FROM series",
        "INSERT INTO job(series_id, revision, state, created_ms, updated_ms) VALUES(1, 1, 1, 1, 1)",
        "UPDATE image SET rows = 'many'",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (sqlite3_exec(db->sqlite, bad[i], NULL, NULL, NULL) != SQLITE_CONSTRAINT)
            test_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
    db_close(db);
}

TEST(db_syncs_state_changes_only, "received images and events leave synchronous at NORMAL (1), "
                                  "states, results and ends of sending at FULL (2)")
{
    static const char pragma[] = "PRAGMA synchronous";
    Db *db = fixture_open();
    Err err = {0};
    Instance in = fixture_image(1, 1);
    int64_t id = fixture_receive(db, &in, 1000).job_id;
    CHECK_INT(fixture_number(db, pragma), 1);
    fixture_move(db, id, JOB_RECEIVING, JOB_QUEUED);
    CHECK_INT(fixture_number(db, pragma), 2);
    CHECK_OK(db_event(db, id, "step", "mask", ST_OK, 5, "x", 1, &err), &err);
    CHECK_INT(fixture_number(db, pragma), 1);
    in = fixture_image(1, 2); /* restarts the job: that is a state change, synced afterwards */
    CHECK_INT(fixture_receive(db, &in, 1000).what, RECEIVED_RESTARTED);
    CHECK_INT(fixture_number(db, pragma), 2);
    int64_t other = fixture_computed(db, 2, 1, false);
    CHECK_INT(fixture_number(db, pragma), 2);
    fixture_sent(db, other, "TPS_A", 0);
    CHECK_INT(fixture_number(db, pragma), 1);
    JobState state;
    CHECK_OK(db_delivery_end(db, other, "TPS_A", ST_TIMEOUT, "t", 9, 0, 8, &state, &err), &err);
    CHECK_INT(fixture_number(db, pragma), 2);
    db_close(db);
}

enum { BIG_OUTPUTS = 300 };

static Status compute_big(Db *db, int64_t id, Err *err)
{
    OutputImage out[BIG_OUTPUTS];
    for (int k = 0; k < BIG_OUTPUTS; k++)
        out[k] = fixture_output(k);
    return db_job_computed(db, id, "abcd", "2.25.99", out, BIG_OUTPUTS, fixture_destinations, 2,
                           false, 6000, err);
}

/* RUNNING without rows -> SENDING with 600 delivery rows -> RUNNING without, until killed. */
static _Noreturn void write_forever(int64_t id, int ready_fd)
{
    Db *db = fixture_open();
    Err err = {0};
    (void)!write(ready_fd, "r", 1);
    for (;;) {
        CHECK_OK(compute_big(db, id, &err), &err);
        fixture_sql(db, "BEGIN; UPDATE job SET state = 4; DELETE FROM delivery; COMMIT");
    }
}

/* True if the killed writer left the whole result, false if none of it. */
static bool result_is_whole(int64_t id)
{
    Db *db = fixture_open();
    int64_t n = fixture_number(db, "SELECT count(*) FROM delivery_image");
    JobState state = fixture_job(db, id).state;
    CHECK((state == JOB_SENDING && n == 2 * BIG_OUTPUTS) || (state == JOB_RUNNING && n == 0));
    CHECK_INT(fixture_number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    fixture_sql(db, "BEGIN; UPDATE job SET state = 4; DELETE FROM delivery; COMMIT");
    db_close(db);
    return state == JOB_SENDING;
}

TEST(db_survives_kill_in_a_transaction,
     "after each of 40 or more kill -9 of the writer the result is "
     "whole or not there, and the file is sound; both were seen")
{
    Db *db = fixture_open();
    int64_t id = fixture_running(db, 1);
    db_close(db);
    int n_seen[2] = {0, 0};
    srand(1);
    for (int round = 0; round < 400 && (round < 40 || n_seen[0] == 0 || n_seen[1] == 0); round++) {
        int ready[2];
        char c;
        CHECK(pipe(ready) == 0);
        pid_t pid = fork();
        if (pid == 0)
            write_forever(id, ready[1]);
        (void)close(ready[1]);
        CHECK(read(ready[0], &c, 1) == 1);
        (void)close(ready[0]);
        (void)usleep((useconds_t)(rand() % (15000 + 500 * round)));
        CHECK(kill(pid, SIGKILL) == 0);
        CHECK(waitpid(pid, NULL, 0) == pid);
        n_seen[result_is_whole(id)]++;
    }
    CHECK(n_seen[0] > 0 && n_seen[1] > 0);
}

/* Fills until the disk is full, then makes room with `relieve` and goes on. */
static void check_full(Db *db, void (*relieve)(Db *db))
{
    Err err = {0};
    int64_t id = fixture_running(db, 1);
    fixture_move(db, id, JOB_RUNNING, JOB_QUEUED);
    fixture_move(db, id, JOB_QUEUED, JOB_RUNNING);
    Status status = ST_OK;
    int n = 0;
    ReceivedResult result;
    for (; n < 100000 && status == ST_OK; n++) {
        Instance in = fixture_image(2, n);
        status = db_receive(db, &in, "CT99", 1000, &result, &err);
    }
    CHECK_INT(status, ST_DISK_FULL);
    CHECK_INT(err.status, ST_DISK_FULL);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM image WHERE series_id = 2"), n - 1);
    CHECK_STATUS(compute_big(db, id, &err), ST_DISK_FULL);
    CHECK_INT(fixture_job(db, id).state, JOB_RUNNING);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM delivery_image"), 0);
    CHECK_INT(fixture_number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    relieve(db);
    CHECK_OK(compute_big(db, id, &err), &err);
    Instance in = fixture_image(2, n - 1);
    CHECK_INT(fixture_receive(db, &in, 1000).what, RECEIVED_ADDED);
}

static void more_pages(Db *db)
{
    fixture_sql(db, "PRAGMA max_page_count = 100000");
}

TEST(db_full_by_page_limit,
     "a full database refuses with DISK_FULL, keeps what it has, goes on when "
     "there is room")
{
    Db *db = fixture_open();
    fixture_sql(db, "PRAGMA max_page_count = 100");
    check_full(db, more_pages);
    db_close(db);
}

static void larger_mount(Db *db)
{
    (void)db;
    CHECK(mount("tmpfs", test_dir(), "tmpfs", MS_REMOUNT, "size=64m") == 0);
}

TEST(db_full_disk, "the same on a full file system of 1 MB")
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", test_dir(), "tmpfs", 0, "size=1m") != 0)
        SKIP("may not mount a tmpfs here");
    Db *db = fixture_open();
    check_full(db, larger_mount);
    db_close(db);
    db_close(fixture_open());
}

TEST(db_file_size_limit, "a limit on the file's size is DISK_FULL, nothing is lost")
{
    Err err = {0};
    (void)signal(SIGXFSZ, SIG_IGN);
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    (void)fixture_receive(db, &in, 1000);
    struct rlimit limit = {200000, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    Status status = ST_OK;
    int n = 2;
    ReceivedResult result;
    for (; n < 10000 && status == ST_OK; n++) {
        in = fixture_image(1, n);
        status = db_receive(db, &in, "CT99", 1000, &result, &err);
    }
    if (status != ST_DISK_FULL)
        test_fail(__FILE__, __LINE__, "%s: %s", status_name(status), err.msg);
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_INT(fixture_number(db, "SELECT count(*) FROM image"), n - 2);
    in = fixture_image(1, n - 1);
    CHECK_INT(fixture_receive(db, &in, 1000).what, RECEIVED_ADDED);
    CHECK_INT(fixture_number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    db_close(db);
}

static int64_t count_as_reader(void)
{
    Db *db;
    Err err = {0};
    JobRow *jobs;
    int32_t n;
    CHECK_OK(db_open(fixture_path(), DB_READ, &db, &err), &err);
    CHECK_OK(db_jobs_list(db, (JobState)0, 0, &jobs, &n, &err), &err);
    free(jobs);
    db_close(db);
    return n;
}

TEST(db_reader_beside_the_writer, "a reader sees each commit at once, never blocks the writer, and "
                                  "may not write")
{
    Db *db = fixture_open(), *reader;
    Err err = {0};
    Instance in = fixture_image(1, 1);
    (void)fixture_receive(db, &in, 1000);
    CHECK_OK(db_open(fixture_path(), DB_READ, &reader, &err), &err);
    CHECK_INT(count_as_reader(), 1);
    CHECK_INT(sqlite3_exec(reader->sqlite, "BEGIN; SELECT count(*) FROM job", NULL, NULL, NULL),
              SQLITE_OK); /* a snapshot that stays open */
    for (int s = 2; s <= 50; s++) {
        in = fixture_image(s, 1);
        (void)fixture_receive(db, &in, 1000);
    }
    CHECK_INT(fixture_number(reader, "SELECT count(*) FROM job"), 1);
    CHECK_INT(count_as_reader(), 50);
    CHECK_INT(sqlite3_exec(reader->sqlite, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    CHECK_INT(fixture_number(reader, "SELECT count(*) FROM job"), 50);
    CHECK(db_event(reader, 0, "operator", "", ST_OK, -1, "x", 1, &err) != ST_OK);
    CHECK_STATUS(db_job_move(reader, 1, JOB_RECEIVING, JOB_QUEUED, ST_OK, NULL, 0, 1, &err), ST_DB);
    CHECK_INT(fixture_job(db, 1).state, JOB_RECEIVING);
    db_close(reader);
    db_close(db);
    CHECK_INT(count_as_reader(), 50); /* the daemon is down */
}

/* Reads as a user who may read, but write neither the files nor the folder. */
static int read_as_nobody(int64_t want)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
            _exit(9);
        _exit(count_as_reader() == want ? 0 : 8);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(db_reader_without_write_permission,
     "reads with the owner open, closed, and with -wal and -shm "
     "removed")
{
    if (geteuid() != 0)
        SKIP("needs root to become another user");
    char beside[PATH_SIZE];
    (void)umask(022);
    CHECK(chmod(test_dir(), 0755) == 0);
    Db *db = fixture_open();
    Instance in = fixture_image(1, 1);
    (void)fixture_receive(db, &in, 1000);
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        CHECK(path_format(beside, NULL, "%s%s", fixture_path(), suffixes[i]) == ST_OK);
        CHECK(chmod(beside, 0644) == 0);
    }
    CHECK_INT(read_as_nobody(1), 0);
    in = fixture_image(2, 1);
    (void)fixture_receive(db, &in, 1000);
    db_close(db);
    CHECK_INT(read_as_nobody(2), 0);
    for (int i = 1; i < 3; i++) {
        CHECK(path_format(beside, NULL, "%s%s", fixture_path(), suffixes[i]) == ST_OK);
        CHECK(access(beside, F_OK) == 0); /* kept by the owner */
        CHECK(unlink(beside) == 0);
    }
    CHECK_INT(read_as_nobody(2), 0);
}
