/* Jobs on their way between processes: what is written is what is read; damage is found. */
#include "tests/test.h"

#include "pipeline/job_file.h"

static JobOptions some_options(void)
{
    JobOptions o = {.batch = 3,
                    .threads = 2,
                    .device = 1,
                    .envelope_refuse = true,
                    .synthetic_data = false,
                    .series_number_offset = 9000,
                    .memory_mib = 512,
                    .geometry = {.min_slices = 16, .max_slices = 1000}};
    (void)snprintf(o.model_path, sizeof o.model_path, "/m/\"quoted\" \\ model");
    (void)snprintf(o.backend, sizeof o.backend, "ref");
    (void)snprintf(o.precision, sizeof o.precision, "bf16");
    o.winograd_mib = 24;
    (void)snprintf(o.reference_path, sizeof o.reference_path, "/r");
    (void)snprintf(o.out_dir, sizeof o.out_dir, "/out");
    return o;
}

TEST(job_file_round_trip, "every field and path comes back")
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/job.json", test_dir()), &err);
    JobOptions o = some_options(), back;
    const char *images[] = {"/a", "/b c", "/d"};
    PathList list;
    CHECK_OK(job_file_write(path, &o, images, 3, &err), &err);
    CHECK_OK(job_file_read(path, &back, &list, &err), &err);
    CHECK(memcmp(&o, &back, sizeof o) == 0);
    CHECK_INT(list.n, 3);
    CHECK_STR(list.items[1], "/b c");
    path_list_free(&list);
}

TEST(job_file_damage_is_found, "cut anywhere, or with a field missing: INTERNAL, never a guess")
{
    char path[PATH_SIZE], cut[PATH_SIZE], *text;
    size_t size;
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/job.json", test_dir()), &err);
    CHECK_OK(path_format(cut, &err, "%s/cut.json", test_dir()), &err);
    JobOptions o = some_options(), back;
    const char *images[] = {"/a"};
    PathList list;
    CHECK_OK(job_file_write(path, &o, images, 1, &err), &err);
    CHECK_OK(file_read(path, 1 << 16, &text, &size, &err), &err);
    for (size_t n = 0; n < size; n += 7) {
        FILE *f = fopen(cut, "wb");
        CHECK(f != NULL && fwrite(text, 1, n, f) == n && fclose(f) == 0);
        CHECK_STATUS(job_file_read(cut, &back, &list, &err), ST_INTERNAL);
    }
    char *field = strstr(text, "\"batch\"");
    CHECK(field != NULL);
    field[1] = 'x';
    CHECK_OK(file_write_durable(cut, text, size, &err), &err);
    CHECK_STATUS(job_file_read(cut, &back, &list, &err), ST_INTERNAL);
    free(text);
}

TEST(send_file_round_trip, "the destination and its images come back")
{
    char path[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/send.json", test_dir()), &err);
    Destination d = {.name = "tps",
                     .ae_title = "TPS",
                     .calling_ae = "CT2MR",
                     .host = "127.0.0.1",
                     .port = 104,
                     .timeout_s = 30};
    Destination back;
    const char *images[] = {"/a", "/b"};
    PathList list;
    CHECK_OK(send_file_write(path, &d, images, 2, &err), &err);
    CHECK_OK(send_file_read(path, &back, &list, &err), &err);
    CHECK(memcmp(&d, &back, sizeof d) == 0 && list.n == 2);
    path_list_free(&list);
}
