/* An image's way to the spool: every size comes out whole, on a disk and where O_DIRECT is
** refused. */
#include "tests/test.h"

#include "base/files.h"
#include "dicom/spool_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_BYTES = 6 << 20 };

typedef struct Spool {
    char dir[PATH_SIZE];
    int tmp_fd, incoming_fd;
    SpoolBuffer buffer;
} Spool;

static int open_folder(const char *parent, const char *name)
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/%s", parent, name), &err);
    CHECK(mkdir(path, 0700) == 0);
    int fd = open(path, O_DIRECTORY | O_RDONLY);
    CHECK(fd >= 0);
    return fd;
}

static Spool open_spool(const char *dir)
{
    Spool spool = {.tmp_fd = open_folder(dir, "tmp"), .incoming_fd = open_folder(dir, "incoming")};
    Err err = {0};
    CHECK_OK(path_format(spool.dir, &err, "%s", dir), &err);
    CHECK_OK(spool_buffer_open(MAX_BYTES, &spool.buffer, &err), &err);
    return spool;
}

static void close_spool(Spool *spool)
{
    (void)close(spool->tmp_fd);
    (void)close(spool->incoming_fd);
    spool_buffer_close(&spool->buffer);
}

static size_t read_back(const Spool *spool, const char *folder, const char *name, char **data)
{
    char path[PATH_SIZE];
    size_t size = 0;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/%s/%s", spool->dir, folder, name), &err);
    CHECK_OK(file_read(path, 2 * (size_t)MAX_BYTES, data, &size, &err), &err);
    return size;
}

static bool exists(int dir_fd, const char *name)
{
    return faccessat(dir_fd, name, F_OK, 0) == 0;
}

/* In pieces of an odd size, as PDUs come. */
static void gather(SpoolFile *file, const unsigned char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t piece = size - at < 16371 ? size - at : 16371;
        spool_file_write(file, data + at, piece);
        at += piece;
    }
}

static void check_sizes(const char *dir)
{
    static const size_t sizes[] = {
        1, 4095, 4096, 4097, 527000, 2 << 20, (2 << 20) + 1, MAX_BYTES, MAX_BYTES - 4097};
    Spool spool = open_spool(dir);
    unsigned char *data = malloc(MAX_BYTES);
    CHECK(data != NULL);
    for (size_t i = 0; i < MAX_BYTES; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 24);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        SpoolFile file;
        Err err = {0};
        char *back;
        spool_file_begin(&file, spool.tmp_fd, spool.incoming_fd, "image.part", &spool.buffer);
        gather(&file, data, sizes[i]);
        CHECK_OK(spool_file_check(&file, &err), &err);
        CHECK(memcmp(spool.buffer.data, data, sizes[i]) == 0);
        CHECK(!exists(spool.incoming_fd, "image.dcm"));
        CHECK_OK(spool_file_publish(&file, "image.dcm", &err), &err);
        spool_file_end(&file);
        spool_file_end(&file);
        CHECK(!exists(spool.tmp_fd, "image.part"));
        CHECK_INT(read_back(&spool, "incoming", "image.dcm", &back), sizes[i]);
        CHECK(memcmp(back, data, sizes[i]) == 0);
        free(back);
        CHECK(unlinkat(spool.incoming_fd, "image.dcm", 0) == 0);
    }
    free(data);
    close_spool(&spool);
}

TEST(spool_file_sizes, "1 byte to 6 MiB: the bytes that came, under the final name only when whole")
{
    check_sizes(test_dir());
}

TEST(spool_file_sizes_in_memory, "the same on tmpfs, which may refuse O_DIRECT")
{
    char dir[] = "/dev/shm/ct2mr-test-XXXXXX", command[64];
    if (mkdtemp(dir) == NULL)
        SKIP("no /dev/shm");
    check_sizes(dir);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK(system(command) == 0);
}

TEST(spool_file_dropped, "ended before it was published: nothing is left")
{
    Spool spool = open_spool(test_dir());
    SpoolFile file;
    unsigned char byte = 7;
    spool_file_begin(&file, spool.tmp_fd, spool.incoming_fd, "image.part", &spool.buffer);
    spool_file_write(&file, &byte, 1);
    CHECK(exists(spool.tmp_fd, "image.part"));
    spool_file_end(&file);
    CHECK(!exists(spool.tmp_fd, "image.part"));
    close_spool(&spool);
}

TEST(spool_file_too_large, "one byte more than the buffer holds: LIMIT, and the rest is dropped")
{
    Spool spool = open_spool(test_dir());
    SpoolFile file;
    Err err = {0};
    static unsigned char zeros[MAX_BYTES];
    spool_file_begin(&file, spool.tmp_fd, spool.incoming_fd, "image.part", &spool.buffer);
    spool_file_write(&file, zeros, MAX_BYTES);
    CHECK_OK(spool_file_check(&file, &err), &err);
    spool_file_write(&file, zeros, 1);
    CHECK_STATUS(spool_file_check(&file, &err), ST_LIMIT);
    spool_file_end(&file);
    close_spool(&spool);
}

TEST(spool_file_write_error, "a write that fails part way: the error, and neither name is left")
{
    Spool spool = open_spool(test_dir());
    SpoolFile file;
    Err err = {0};
    static unsigned char zeros[3 << 20];
    struct rlimit limit = {1 << 20, 1 << 20};
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    spool_file_begin(&file, spool.tmp_fd, spool.incoming_fd, "image.part", &spool.buffer);
    gather(&file, zeros, sizeof zeros);
    CHECK(spool_file_check(&file, &err) != ST_OK);
    CHECK(spool_file_publish(&file, "image.dcm", &err) != ST_OK);
    spool_file_end(&file);
    CHECK(!exists(spool.tmp_fd, "image.part") && !exists(spool.incoming_fd, "image.dcm"));
    close_spool(&spool);
}

TEST(spool_file_no_folder, "a part file that cannot be created: the error comes at the check")
{
    Spool spool = open_spool(test_dir());
    SpoolFile file;
    Err err = {0};
    spool_file_begin(&file, spool.tmp_fd, spool.incoming_fd, "no/such.part", &spool.buffer);
    spool_file_write(&file, "x", 1);
    CHECK_STATUS(spool_file_check(&file, &err), ST_NOT_FOUND);
    spool_file_end(&file);
    close_spool(&spool);
}
