/* base/: known answers for the pieces everything else stands on. */
#include "tests/test.h"

#include "base/affine.h"
#include "base/arena.h"
#include "base/digest.h"
#include "base/files.h"
#include "base/message.h"
#include "base/parallel.h"

#include <dirent.h>
#include <glob.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(status_numbers_are_unique_and_named, "every row is found by its own number")
{
    Status s, back;
    int n = 0;
    for (; status_at(n, &s); n++) {
        CHECK(status_from_number((int)s, &back) && back == s);
        CHECK(strlen(status_text(s)) > 0 && strlen(status_remedy(s)) > 0);
        for (int m = 0; m < n; m++) {
            Status other;
            CHECK(status_at(m, &other) && other != s);
        }
    }
    CHECK(n > 40);
    CHECK(!status_from_number(99999, &back));
    CHECK(strstr(status_text(ST_DISK_FULL), "spool") == NULL); /* a training's has none */
    CHECK(strstr(status_remedy(ST_DISK_FULL), "of a job that is the spool's") != NULL);
}

TEST(err_replace_hides_names, "everywhere in a message, and where its end has cut the name")
{
    Err err = {0};
    char path[301] = "";
    memset(path, 'p', 300);
    (void)err_set(&err, ST_IO, "reading /a/Smith: /a/Smith is no file");
    err_replace(&err, "/a/Smith", "it");
    CHECK_STR(err.msg, "reading it: it is no file");
    err_replace(&err, "file", "a longer word");
    err_replace(&err, "", "x");
    CHECK_STR(err.msg, "reading it: it is no a longer word");
    (void)err_set(&err, ST_IO, "%0100d%s", 0, path);
    err_replace(&err, path, "it");
    CHECK_INT(strlen(err.msg), 102);
    CHECK_STR(err.msg + 98, "00it");
    (void)err_set(&err, ST_IO, "%s and p", path); /* not cut: no beginning of it is the name */
    err_replace(&err, path, "it");
    CHECK_STR(err.msg, "it and p");
    err_replace(NULL, path, "it");
}

TEST(digest_matches_fips_180_vector, "SHA-256 of \"abc\" is FIPS 180-2's")
{
    char hex[DIGEST_HEX_SIZE];
    digest_text("abc", hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(affine_inverse_undoes, "inverse times matrix is the identity to 1e-12; singular is refused")
{
    Affine a = {{{1.1, 0.2, -0.1, 5}, {-0.3, 0.9, 0.05, -7}, {0.02, 0.1, 1.2, 30}}}, inverse;
    CHECK(affine_inverse(a, &inverse));
    Affine i = affine_mul(a, inverse);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            CHECK_NEAR(i.m[r][c], r == c ? 1.0 : 0.0, 1e-12);
    Affine singular = {{{1, 2, 3, 0}, {2, 4, 6, 0}, {0, 0, 1, 0}}};
    CHECK(!affine_inverse(singular, &inverse));
}

TEST(grid_equal_sees_half_a_millimetre, "equal within tolerance, unequal beyond")
{
    Grid a = {10, 20, 30, affine_identity()}, b = a;
    CHECK(grid_equal(&a, &b, 0));
    b.lps_from_vox.m[2][3] = 0.5;
    CHECK(!grid_equal(&a, &b, 0.1));
    CHECK(grid_equal(&a, &b, 0.6));
}

TEST(arena_limits_and_resets, "a request over the limit is ST_LIMIT; reset gives memory back")
{
    Arena arena;
    Err err = {0};
    CHECK_OK(arena_open(1 << 20, &arena, &err), &err);
    size_t mark = arena_mark(&arena);
    CHECK(arena_alloc(&arena, 1000, 1000, &err) != NULL);
    CHECK(arena_alloc(&arena, 1000, 1000, &err) == NULL);
    CHECK_INT(err.status, ST_LIMIT);
    CHECK(arena_alloc(&arena, (size_t)-1, 16, &err) == NULL);
    arena_reset(&arena, mark);
    CHECK(arena_alloc(&arena, 1000, 1000, &err) != NULL);
    arena_close(&arena);
}

/* How many names of the test's folder begin so, and one of them. */
static int names_in_folder(const char *begin, char ret[64])
{
    DIR *dir = opendir(test_dir());
    int n = 0;
    CHECK(dir != NULL);
    for (const struct dirent *e; (e = readdir(dir)) != NULL;)
        if (strncmp(e->d_name, begin, strlen(begin)) == 0) {
            (void)snprintf(ret, 64, "%.63s", e->d_name);
            n++;
        }
    (void)closedir(dir);
    return n;
}

TEST(file_keeps_owner, "a file that is replaced keeps its permissions")
{
    char path[PATH_SIZE];
    FileWriter writer;
    struct stat st;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/kept", test_dir()), &err);
    CHECK_OK(file_write_durable(path, "a", 1, &err), &err);
    CHECK(chmod(path, 0604) == 0);
    CHECK_OK(file_begin(path, &writer, &err), &err);
    file_keep_owner(&writer);
    CHECK_OK(file_add(&writer, "b", 1, &err), &err);
    CHECK_OK(file_commit(&writer, &err), &err);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0604);
}

TEST(file_write_durable_replaces_whole, "the new content, nothing left beside it")
{
    char path[PATH_SIZE], *data;
    size_t size;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/a", test_dir()), &err);
    CHECK_OK(file_write_durable(path, "one", 3, &err), &err);
    CHECK_OK(file_write_durable(path, "second", 6, &err), &err);
    CHECK_OK(file_read(path, 100, &data, &size, &err), &err);
    CHECK(size == 6 && memcmp(data, "second", 7) == 0);
    free(data);
    CHECK_STATUS(file_read(path, 5, &data, &size, &err), ST_LIMIT);
    char name[64];
    CHECK_INT(names_in_folder("a", name), 1);
    CHECK_STR(name, "a");
}

TEST(dir_make_is_a_folder_or_an_error, "made with its parents, there already; a file in its place")
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/x/y", test_dir()), &err);
    CHECK_OK(dir_make(path, &err), &err);
    CHECK_OK(dir_make(path, &err), &err);
    CHECK_OK(path_format(path, &err, "%s/x/file", test_dir()), &err);
    CHECK_OK(file_write_durable(path, "a", 1, &err), &err);
    CHECK_STATUS(dir_make(path, &err), ST_IO);
}

TEST(file_writers_have_names_of_their_own,
     "two of one file do not meet, the last to commit wins; the user's own .tmp and .part stay")
{
    char path[PATH_SIZE], own[PATH_SIZE], part[2][PATH_SIZE], name[64], *data;
    static const char *const ENDINGS[] = {"tmp", "part"};
    FileWriter first, second, given_up;
    struct stat st;
    size_t size;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/b", test_dir()), &err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(path_format(own, &err, "%s.%s", path, ENDINGS[i]), &err);
        CHECK_OK(file_write_durable(own, "mine", 4, &err), &err);
    }
    CHECK_OK(file_begin(path, &first, &err), &err);
    CHECK_OK(file_begin(path, &second, &err), &err);
    CHECK_OK(file_begin(path, &given_up, &err), &err);
    CHECK_OK(file_add(&first, "first", 5, &err), &err);
    CHECK_OK(file_add(&second, "se", 2, &err), &err);
    CHECK_OK(file_commit(&second, &err), &err);
    CHECK_OK(file_commit(&first, &err), &err);
    file_abandon(&given_up);
    CHECK_OK(file_read(path, 100, &data, &size, &err), &err);
    CHECK(size == 5 && memcmp(data, "first", 5) == 0);
    free(data);
    for (int i = 0; i < 2; i++)
        CHECK_OK(file_beside(path, part[i], &err), &err);
    CHECK(strcmp(part[0], part[1]) != 0 && stat(part[1], &st) == 0 && st.st_size == 0);
    CHECK(unlink(part[0]) == 0 && unlink(part[1]) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(path_format(own, &err, "%s.%s", path, ENDINGS[i]), &err);
        CHECK_OK(file_read(own, 100, &data, &size, &err), &err);
        CHECK_STR(data, "mine");
        free(data);
    }
    CHECK_INT(names_in_folder("b", name), 3);
}

TEST(file_writer_of_a_new_file, "of two that must be new the first to commit wins; nothing is left")
{
    char path[PATH_SIZE], name[64], *data;
    FileWriter first, second;
    size_t size;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/n", test_dir()), &err);
    CHECK_OK(file_begin(path, &first, &err), &err);
    CHECK_OK(file_begin(path, &second, &err), &err);
    first.is_new = second.is_new = true;
    CHECK_OK(file_add(&first, "first", 5, &err), &err);
    CHECK_OK(file_commit(&second, &err), &err);
    CHECK_STATUS(file_commit(&first, &err), ST_IO);
    CHECK(strstr(err.msg, "File exists") != NULL);
    CHECK_OK(file_read(path, 100, &data, &size, &err), &err);
    CHECK_INT(size, 0);
    free(data);
    CHECK_INT(names_in_folder("n", name), 1);
}

static void count_item(void *context, int item)
{
    atomic_int *counts = context;
    atomic_fetch_add(&counts[item], 1);
}

/* How a child that has a temporary file ends when the signal reaches it. */
static int end_by(int signal_number, bool ignored, const char *path)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        FileWriter writer;
        Err err = {0};
        (void)signal(signal_number, ignored ? SIG_IGN : SIG_DFL);
        files_remove_at_signals();
        if (file_begin(path, &writer, &err) != ST_OK || file_add(&writer, "x", 1, &err) != ST_OK)
            _exit(1);
        (void)raise(signal_number);
        _exit(file_commit(&writer, &err) == ST_OK ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

TEST(files_are_removed_at_signals, "what was begun is gone, the signal ends all; nohup stays nohup")
{
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP};
    char path[PATH_SIZE], pattern[PATH_SIZE];
    Err err = {0};
    glob_t found;
    CHECK_OK(path_format(path, &err, "%s/model", test_dir()), &err);
    CHECK_OK(path_format(pattern, &err, "%s/*", test_dir()), &err);
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++) {
        CHECK_INT(end_by(SIGNALS[i], false, path), -SIGNALS[i]);
        CHECK_INT(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
    }
    CHECK_INT(end_by(SIGHUP, true, path), 0);
    CHECK(access(path, F_OK) == 0);
}

TEST(file_begin_readable_obeys_umask, "0644 and 0600; file_begin 0640")
{
    char path[PATH_SIZE];
    Err err = {0};
    struct stat st;
    CHECK_OK(path_format(path, &err, "%s/model", test_dir()), &err);
    static const struct {
        mode_t mask, want;
    } CASES[] = {{022, 0644}, {077, 0600}};
    for (size_t i = 0; i < 2; i++) {
        FileWriter writer;
        mode_t before = umask(CASES[i].mask);
        CHECK_OK(file_begin_readable(path, &writer, &err), &err);
        (void)umask(before);
        CHECK_OK(file_commit(&writer, &err), &err);
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == CASES[i].want);
    }
}

TEST(parallel_for_visits_each_once, "1000 items on 4 threads, each exactly once")
{
    static atomic_int counts[1000];
    parallel_for(4, 1000, count_item, counts);
    for (int i = 0; i < 1000; i++)
        CHECK_INT(counts[i], 1);
}

TEST(message_carries_descriptors, "a pipe end passed over a socket pair works")
{
    int pair[2], ends[2], got[MESSAGE_MAX_FDS], n_got;
    Err err = {0};
    CHECK_OK(message_pair(pair, &err), &err);
    CHECK(pipe(ends) == 0);
    CHECK_INT(message_send(pair[0], "x", 1, &ends[1], 1), 1);
    char buffer[16];
    CHECK_INT(message_receive(pair[1], buffer, sizeof buffer, got, &n_got), 1);
    CHECK_INT(n_got, 1);
    CHECK(write(got[0], "hello", 5) == 5);
    CHECK(read(ends[0], buffer, sizeof buffer) == 5);
    close(pair[0]);
    CHECK_INT(message_receive(pair[1], buffer, sizeof buffer, NULL, NULL), 0);
}
