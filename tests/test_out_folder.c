/* The folder of `ct2mr run`: claim: it holds the whole result of one run or nothing. Method: files
** written as a run would, a name in the way of the second of three. */
#include "tests/test.h"

#include "daemon/out_folder.h"

#include <sys/stat.h>
#include <unistd.h>

static char dir[PATH_SIZE];
static Err err;

static const char *in_dir(const char *name)
{
    static char path[PATH_SIZE];
    CHECK_OK(path_format(path, &err, "%s/%s", dir, name), &err);
    return path;
}

static void write_results(const OutFolder *out)
{
    static const char *const names[] = {"MR0001.dcm", "MR0002.dcm", "qa.png"};
    char path[PATH_SIZE];
    for (int i = 0; i < 3; i++) {
        CHECK_OK(path_format(path, &err, "%s/%s", out->part, names[i]), &err);
        CHECK_OK(file_write_durable(path, "x", 1, &err), &err);
    }
}

static OutFolder opened(const char *name)
{
    OutFolder out;
    CHECK_OK(path_format(dir, &err, "%s/%s", test_dir(), name), &err);
    CHECK_OK(out_folder_open(dir, &out, &err), &err);
    return out;
}

TEST(out_folder_whole, "published: all files, no .part; the next run is refused")
{
    OutFolder out = opened("a/b");
    write_results(&out);
    CHECK(access(in_dir("MR0001.dcm"), F_OK) != 0);
    CHECK_OK(out_folder_publish(&out, &err), &err);
    out_folder_close(&out);
    CHECK(access(in_dir("MR0001.dcm"), F_OK) == 0 && access(in_dir("qa.png"), F_OK) == 0);
    CHECK(access(in_dir(".part"), F_OK) != 0);
    CHECK_STATUS(out_folder_open(dir, &out, &err), ST_USAGE);
    CHECK(strstr(err.msg, "3 entries)") != NULL && strstr(err.msg, dir) == NULL);
}

TEST(out_folder_nothing,
     "not published: a folder that was made is gone, one that was there is empty")
{
    OutFolder out = opened("a");
    write_results(&out);
    CHECK_STATUS(out_folder_open(dir, &(OutFolder){0}, &err), ST_USAGE); /* two at once */
    CHECK(strstr(err.msg, ".part of a run") != NULL);
    out_folder_close(&out);
    CHECK(access(dir, F_OK) != 0);
    CHECK(mkdir(dir, 0700) == 0);
    out = opened("a");
    write_results(&out);
    out_folder_close(&out);
    CHECK(access(dir, F_OK) == 0 && rmdir(dir) == 0);
}

TEST(out_folder_taken_back, "the second of three cannot be moved: the first is not left behind")
{
    OutFolder out = opened("a");
    write_results(&out);
    CHECK(mkdir(in_dir("MR0002.dcm"), 0700) == 0);
    CHECK_STATUS(out_folder_publish(&out, &err), ST_IO);
    out_folder_close(&out);
    CHECK(rmdir(in_dir("MR0002.dcm")) == 0);
    CHECK(rmdir(dir) == 0); /* nothing else was there */
}
