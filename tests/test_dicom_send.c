/* dicom/send: real peers (storescp, dcmqrscp) for what must work, a scripted one for what goes
** wrong. Every way to fail has its own status, and what was sent is reported image by image. */
#include "tests/ct_file.h"
#include "tests/fake_scp.h"
#include "tests/test.h"

#include "base/clock.h"
#include "base/files.h"
#include "dicom/prescan.h"
#include "dicom/send.h"
#include "dicom/write.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N_IMAGES = 3, SIDE = 200 };

static const MrSeries SERIES = {.recipe = "r",
                                .ct_series_uid = "1.2.3.2",
                                .content_digest = "00",
                                .target = "T1",
                                .model_name = "m",
                                .model_digest = "aa",
                                .model_label = "l",
                                .software_version = "0",
                                .slice_spacing_mm = 1,
                                .window_center = 1,
                                .window_width = 2};

typedef struct Answers {
    int n, stop_after;
    pid_t kill_pid; /* killed after the first answer */
    uint16_t dimse[16];
    Status status[16];
} Answers;

static bool on_answer(void *context, int32_t index, uint16_t dimse, Status status)
{
    Answers *a = context;
    if (index < 0) { /* the association stands */
        CHECK_INT(a->n, 0);
        return true;
    }
    CHECK(index == a->n);
    a->dimse[a->n] = dimse;
    a->status[a->n] = status;
    a->n++;
    if (a->kill_pid > 0) {
        CHECK(kill(a->kill_pid, SIGKILL) == 0);
        CHECK(waitpid(a->kill_pid, NULL, 0) == a->kill_pid);
        a->kill_pid = 0;
    }
    return a->stop_after == 0 || a->n < a->stop_after;
}

/* Three MR images in test_dir(). */
static const char *const *make_images(void)
{
    static char paths[N_IMAGES][PATH_SIZE];
    static const char *list[N_IMAGES];
    static uint16_t pixels[SIDE * SIDE];
    char ct[PATH_SIZE], sop[32];
    Err err = {0};
    for (int i = 0; i < SIDE * SIDE; i++)
        pixels[i] = (uint16_t)(i * 7);
    for (int i = 0; i < N_IMAGES; i++) {
        (void)snprintf(sop, sizeof sop, "1.2.3.4.%d", 10 + i);
        CtFile file = {.rows = SIDE, .columns = SIDE, .sop_uid = sop};
        CHECK_OK(path_format(ct, &err, "%s/ct%d.dcm", test_dir(), i), &err);
        CHECK_OK(path_format(paths[i], &err, "%s/mr%d.dcm", test_dir(), i), &err);
        ct_file_write(ct, &file);
        CHECK_OK(dicom_write_mr(&SERIES, ct, pixels, i, paths[i], &err), &err);
        list[i] = paths[i];
    }
    return list;
}

static Destination destination(int port, int timeout_s)
{
    Destination d = {.name = "TPS",
                     .ae_title = "TPS",
                     .calling_ae = "CT2MR",
                     .host = "127.0.0.1",
                     .port = port,
                     .timeout_s = timeout_s};
    return d;
}

static void wait_for_echo(const Destination *d)
{
    Err err = {0};
    double ms;
    for (int i = 0; i < 200; i++) {
        if (dicom_echo(d, &ms, &err) == ST_OK) {
            CHECK(ms > 0 && ms < 5000);
            return;
        }
        usleep(50 * 1000);
    }
    test_fail(__FILE__, __LINE__, "peer does not come up: %s", err.msg);
}

/* storescp on a free port, with up to two more options; files go to test_dir()/in. */
static pid_t start_storescp(int port, const char *option, const char *option2)
{
    static char number[16], folder[PATH_SIZE];
    if (access("/usr/bin/storescp", X_OK) != 0)
        SKIP("dcmtk is not installed");
    (void)snprintf(number, sizeof number, "%d", port);
    CHECK_OK(path_format(folder, NULL, "%s/in", test_dir()), &(Err){0});
    CHECK_OK(dir_make(folder, &(Err){0}), &(Err){0});
    const char *argv[] = {"storescp", "-od", folder, "-aet", "TPS", option, option2, number, NULL};
    const char *packed[10];
    int n = 0;
    for (int i = 0; i < 9; i++)
        if (argv[i] != NULL)
            packed[n++] = argv[i];
    packed[n] = NULL;
    return start_program(packed);
}

static const char *received(int image)
{
    static char path[PATH_SIZE];
    char sop[32], uid[UID_SIZE];
    (void)snprintf(sop, sizeof sop, "1.2.3.4.%d", 10 + image);
    mr_sop_uid(&SERIES, sop, uid);
    CHECK_OK(path_format(path, NULL, "%s/in/MR.%s", test_dir(), uid), &(Err){0});
    return path;
}

static size_t pixel_data(const char *path, uint8_t *ret)
{
    size_t size, length = 0;
    const uint8_t *d = ct_file_load(path, &size);
    const uint8_t *p = ct_file_find(d, size, 0x7fe0, 0x10, &length);
    CHECK(p != NULL && length <= SIDE * SIDE * 2);
    memcpy(ret, p, length);
    return length;
}

TEST(dicom_send_to_storescp, "echo, three images, Explicit VR, same pixels; sending again is fine")
{
    static uint8_t a[SIDE * SIDE * 2], b[SIDE * SIDE * 2];
    int port = free_port();
    const char *const *paths = make_images();
    Destination d = destination(port, 10);
    (void)start_storescp(port, "+B", NULL);
    wait_for_echo(&d);
    for (int round = 0; round < 2; round++) {
        Answers answers = {0};
        Err err = {0};
        CHECK_OK(dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err), &err);
        CHECK_INT(answers.n, N_IMAGES);
        for (int i = 0; i < N_IMAGES; i++)
            CHECK(answers.status[i] == ST_OK && answers.dimse[i] == 0);
    }
    for (int i = 0; i < N_IMAGES; i++) {
        size_t n = pixel_data(received(i), a);
        CHECK_INT(n, SIDE * SIDE * 2);
        CHECK_INT(pixel_data(paths[i], b), n);
        CHECK(memcmp(a, b, n) == 0);
    }
}

TEST(dicom_send_falls_back_to_implicit, "a peer that takes only Implicit VR gets it, whole")
{
    int port = free_port();
    const char *const *paths = make_images();
    Destination d = destination(port, 10);
    Answers answers = {0};
    Err err = {0};
    Instance instance;
    unsigned dimse;
    (void)start_storescp(port, "--implicit", "+B");
    wait_for_echo(&d);
    CHECK_OK(dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err), &err);
    CHECK_INT(answers.n, N_IMAGES);
    static uint8_t sent[SIDE * SIDE * 2];
    CHECK_INT(pixel_data(paths[1], sent), sizeof sent);
    size_t size;
    const uint8_t *data = ct_file_load(received(1), &size);
    CHECK(memmem(data, 400, "1.2.840.10008.1.2\0", 18) != NULL);
    CHECK(memcmp(data + size - sizeof sent, sent, sizeof sent) == 0); /* Pixel Data comes last */
    /* The structural scan walks all of it: what stops it is that this is no CT. */
    CHECK(prescan_file(received(1), &instance, &dimse, &err) != ST_OK);
    CHECK_INT(dimse, DIMSE_SOP_CLASS_NOT_SUPPORTED);
}

TEST(dicom_send_refused_by_storescp, "--refuse: SEND_REJECTED, nothing sent")
{
    int port = free_port();
    const char *const *paths = make_images();
    Destination d = destination(port, 5);
    Answers answers = {0};
    Err err = {0};
    Status status = ST_OK;
    (void)start_storescp(port, "--refuse", NULL);
    for (int i = 0; i < 100; i++) {
        status = dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err);
        if (status != ST_SEND_CONNECT)
            break;
        usleep(50 * 1000);
    }
    CHECK_STATUS(status, ST_SEND_REJECTED);
    CHECK_INT(answers.n, 0);
}

TEST(dicom_send_peer_killed_midway,
     "SIGKILL of storescp after image 1: SEND_ABORTED, image 1 counted")
{
    int port = free_port();
    const char *const *paths = make_images();
    Destination d = destination(port, 5);
    Answers answers = {0};
    Err err = {0};
    pid_t pid = start_storescp(port, NULL, NULL);
    wait_for_echo(&d);
    answers.kill_pid = pid;
    CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err), ST_SEND_ABORTED);
    CHECK_INT(answers.n, 1);
    CHECK(strstr(err.msg, "image 2 of 3") != NULL);
    CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err), ST_SEND_CONNECT);
}

TEST(dicom_send_wrong_ae_title, "dcmqrscp knows GOOD only: another title is SEND_REJECTED")
{
    if (access("/usr/bin/dcmqrscp", X_OK) != 0)
        SKIP("dcmtk is not installed");
    static char config[PATH_SIZE], text[PATH_SIZE * 2];
    int port = free_port();
    Err err = {0};
    double ms;
    CHECK_OK(path_format(config, &err, "%s/qr.cfg", test_dir()), &err);
    (void)snprintf(text, sizeof text,
                   "NetworkTCPPort = %d\nMaxPDUSize = 16384\nMaxAssociations = 4\n"
                   "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
                   "AETable BEGIN\nGOOD %s RW (10, 64mb) ANY\nAETable END\n",
                   port, test_dir());
    CHECK_OK(file_write_durable(config, text, strlen(text), &err), &err);
    const char *const argv[] = {"dcmqrscp", "-c", config, NULL};
    (void)start_program(argv);
    Destination d = destination(port, 5);
    (void)snprintf(d.ae_title, sizeof d.ae_title, "GOOD");
    wait_for_echo(&d);
    (void)snprintf(d.ae_title, sizeof d.ae_title, "WRONG");
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_REJECTED);
    CHECK(strstr(err.msg, "called AE title") != NULL);
}

TEST(dicom_send_nobody_there, "no listener, unknown host, impossible host: SEND_CONNECT")
{
    const char *const *paths = make_images();
    Err err = {0};
    double ms = -1;
    Destination d = destination(free_port(), 5);
    CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, NULL, NULL, &err), ST_SEND_CONNECT);
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_CONNECT);
    CHECK(ms == -1);
    (void)snprintf(d.host, sizeof d.host, "no-such-host.invalid");
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_CONNECT);
    (void)snprintf(d.host, sizeof d.host, "::1");
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_CONNECT);
    memset(d.host, 'a', sizeof d.host - 1); /* DCMTK's own buffer is 128 bytes */
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_CONNECT);
}

TEST(dicom_send_maps_statuses, "0000 and B0xx are good, A7xx is resources, others are refusals")
{
    static const FakeScp scp = {.statuses = {0xb007, 0xa701, 0xc123}};
    const FakeSeen *seen;
    const char *const *paths = make_images();
    Destination d = destination(fake_scp_start(&scp, &seen), 5);
    Answers answers = {0};
    Err err = {0};
    CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err), ST_SEND_RESOURCES);
    CHECK(strstr(err.msg, "image 2 of 3") != NULL && strstr(err.msg, "A701H") != NULL);
    CHECK_INT(answers.n, 3); /* a refusal of one image does not end it */
    CHECK(answers.status[0] == ST_OK && answers.dimse[0] == 0xb007);
    CHECK(answers.status[1] == ST_SEND_RESOURCES && answers.status[2] == ST_SEND_REFUSED);
    CHECK_INT(seen->n_associations, 1);
    CHECK_INT(seen->n_images, 3);
    CHECK_INT(seen->n_releases, 1);
    CHECK_INT(seen->context_id, 1); /* Explicit VR where both are taken */
    CHECK(seen->data_bytes[0] > SIDE * SIDE * 2);
    /* The next association: images 3.. of the script are answered 0000H. */
    CHECK_OK(dicom_send(&d, paths, N_IMAGES, NULL, NULL, &err), &err);
    CHECK_INT(seen->n_images, 6);
}

TEST(dicom_send_stops_when_told,
     "the callback says stop: released, CANCELLED, the rest is not sent")
{
    static const FakeScp scp = {0};
    const FakeSeen *seen;
    const char *const *paths = make_images();
    Destination d = destination(fake_scp_start(&scp, &seen), 5);
    Answers answers = {.stop_after = 2};
    Err err = {0};
    CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err), ST_CANCELLED);
    CHECK(answers.n == 2 && seen->n_images == 2 && seen->n_releases == 1);
}

TEST(dicom_send_reject_permanent_or_transient, "result 1 is SEND_REJECTED, result 2 is SEND_BUSY")
{
    static const struct {
        FakeScp scp;
        Status want;
    } rows[] = {{{.mood = FAKE_REJECT, .reject = {1, 1, 7}}, ST_SEND_REJECTED},
                {{.mood = FAKE_REJECT, .reject = {1, 1, 3}}, ST_SEND_REJECTED},
                {{.mood = FAKE_REJECT, .reject = {2, 3, 1}}, ST_SEND_BUSY},
                {{.mood = FAKE_REJECT, .reject = {2, 3, 2}}, ST_SEND_BUSY},
                {{.mood = FAKE_REJECT, .reject = {2, 1, 1}}, ST_SEND_BUSY}};
    const char *const *paths = make_images();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const FakeSeen *seen;
        Err err = {0};
        Destination d = destination(fake_scp_start(&rows[i].scp, &seen), 5);
        CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, NULL, NULL, &err), rows[i].want);
        CHECK_INT(seen->n_associations, 1);
    }
}

TEST(dicom_send_contexts, "only Implicit taken: context 3; none taken: SEND_CONTEXT and released")
{
    static const FakeScp implicit = {.context_result = {4, 0}}, none = {.context_result = {3, 3}};
    const FakeSeen *seen;
    const char *const *paths = make_images();
    Err err = {0};
    double ms;
    Destination d = destination(fake_scp_start(&implicit, &seen), 5);
    CHECK_OK(dicom_send(&d, paths, N_IMAGES, NULL, NULL, &err), &err);
    CHECK_INT(seen->context_id, 3);
    d = destination(fake_scp_start(&none, &seen), 5);
    CHECK_STATUS(dicom_send(&d, paths, N_IMAGES, NULL, NULL, &err), ST_SEND_CONTEXT);
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_CONTEXT);
    CHECK(seen->n_images == 0);
}

TEST(dicom_send_association_lost, "abort, close and silence at image 2 and before: status and time")
{
    static const struct {
        FakeScp scp;
        Status want;
        int n_answers;
        double min_s, max_s;
    } rows[] = {{{.mood = FAKE_ABORT_AT_IMAGE, .at_image = 1}, ST_SEND_ABORTED, 1, 0, 1},
                {{.mood = FAKE_CLOSE_AT_IMAGE, .at_image = 1}, ST_SEND_ABORTED, 1, 0, 1},
                {{.mood = FAKE_SILENT_AT_IMAGE, .at_image = 1}, ST_TIMEOUT, 1, 1, 6},
                {{.mood = FAKE_CLOSE_AT_REQUEST}, ST_SEND_ABORTED, 0, 0, 1},
                {{.mood = FAKE_SILENT}, ST_TIMEOUT, 0, 1, 6},
                {{.mood = FAKE_NO_RELEASE_ANSWER}, ST_OK, 3, 0, 6}};
    const char *const *paths = make_images();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const FakeSeen *seen;
        Err err = {0};
        Answers answers = {0};
        Destination d = destination(fake_scp_start(&rows[i].scp, &seen), 2);
        double start_s = clock_monotonic_s();
        Status status = dicom_send(&d, paths, N_IMAGES, on_answer, &answers, &err);
        double seconds = clock_monotonic_s() - start_s;
        if (status != rows[i].want || answers.n != rows[i].n_answers || seconds < rows[i].min_s ||
            seconds > rows[i].max_s)
            test_fail(__FILE__, __LINE__, "row %zu: %s (%s), %d answers, %.2f s", i,
                      status_name(status), err.msg, answers.n, seconds);
    }
}

TEST(dicom_send_connect_times_out, "a host that drops packets: SEND_CONNECT within the deadline")
{
    /* A listener whose backlog is full drops further SYNs. */
    Err err = {0};
    double ms, start_s = clock_monotonic_s();
    Destination d = destination(0, 2);
    d.port = full_port();
    CHECK_STATUS(dicom_echo(&d, &ms, &err), ST_SEND_CONNECT);
    CHECK(clock_monotonic_s() - start_s < 6);
}

TEST(dicom_send_bad_file, "an image that is not there or no MR: DICOM_PARSE, the peer sees an end")
{
    static const FakeScp scp = {0};
    const FakeSeen *seen;
    const char *const *made = make_images();
    char ct[PATH_SIZE];
    Err err = {0};
    CHECK_OK(path_format(ct, &err, "%s/ct0.dcm", test_dir()), &err);
    const char *paths[] = {made[0], ct};
    Destination d = destination(fake_scp_start(&scp, &seen), 5);
    CHECK_STATUS(dicom_send(&d, paths, 2, NULL, NULL, &err), ST_DICOM_PARSE);
    CHECK(seen->n_images == 1);
    paths[1] = "/nonexistent";
    CHECK_STATUS(dicom_send(&d, paths, 2, NULL, NULL, &err), ST_DICOM_PARSE);
}
