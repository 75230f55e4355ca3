/* daemon/receiver.h with the zygote and its children, against good peers (storescu, echoscu,
 *dcmsend)
 ** and hostile ones (raw sockets, tests/dicom_peer.h).
 **
 ** Each test forks a process that runs the real receiver on a libuv loop; what it counts and what
 *its
 ** callbacks were told is seen through shared memory. The zygote is this test binary started again
 ** (ZYGOTE_VARIABLE). After each hostile case, with the bad client still connected: the zygote is
 *the
 ** same process, a C-STORE and a C-ECHO of a good peer succeed; and no part file stays behind. */
#include "tests/dicom_peer.h"
#include "tests/test.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "daemon/address.h"
#include "daemon/receiver.h"
#include "dicom/prescan.h"
#include "dicom/receive.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ZYGOTE_VARIABLE "CT2MR_TEST_ZYGOTE"

__attribute__((constructor)) static void run_as_zygote(void)
{
    const char *set = getenv(ZYGOTE_VARIABLE);
    if (set != NULL && strcmp(set, "1") == 0)
        _exit(receive_zygote(3));
}

/* ---- the daemon under test ---- */

typedef struct Shared {
    bool ready, stopped;
    ReceiverStats stats;
    int n_stored, n_refused, n_ended, n_orderly, n_turned_away, n_storing, n_lost;
    uint16_t answer; /* of stored() */
    uint16_t refused_dimse;
    Status refused_status;
    char refused_text[200], calling_ae[AE_SIZE];
    Instance last;
} Shared;

typedef struct Daemon {
    Config config, reloaded;
    volatile Shared *shared;
    pid_t pid;
    char spool[PATH_SIZE], good_path[PATH_SIZE];
    Bytes good; /* data set of a good slice, explicit */
} Daemon;

static Daemon daemon_;

static uint16_t on_stored(void *context, const AssociationInfo *from, const Instance *instance)
{
    Shared *shared = context;
    shared->n_stored++;
    memcpy(shared->calling_ae, from->calling_ae, AE_SIZE);
    shared->last = *instance;
    return shared->answer;
}

static void on_refused(void *context, const AssociationInfo *from, Status status,
                       uint16_t dimse_status, const char *text)
{
    (void)from;
    Shared *shared = context;
    shared->n_refused++;
    shared->refused_dimse = dimse_status;
    shared->refused_status = status;
    (void)snprintf(shared->refused_text, sizeof shared->refused_text, "%s", text);
}

static void on_turned_away(void *context, const char *calling_ae)
{
    (void)calling_ae;
    Shared *shared = context;
    shared->n_turned_away++;
}

static void on_lost(void *context)
{
    Shared *shared = context;
    shared->n_lost++;
}

static void on_ended(void *context, const AssociationInfo *from, bool orderly)
{
    Shared *shared = context;
    shared->n_ended++;
    shared->n_storing += from->stores;
    shared->n_orderly += orderly;
}

typedef struct LoopState {
    Receiver *receiver;
    Shared *shared;
    uv_timer_t timer;
    uv_signal_t terminate, hangup;
    bool stopping;
} LoopState;

static void copy_stats(uv_timer_t *timer)
{
    LoopState *state = timer->data;
    if (state->stopping)
        return;
    state->shared->stats = receiver_stats(state->receiver);
    state->shared->ready = receiver_ready(state->receiver);
}

static void on_stop_done(void *context)
{
    LoopState *state = context;
    state->shared->stopped = true;
    uv_close((uv_handle_t *)&state->timer, NULL);
    uv_close((uv_handle_t *)&state->terminate, NULL);
    uv_close((uv_handle_t *)&state->hangup, NULL);
}

static void on_terminate(uv_signal_t *handle, int number)
{
    (void)number;
    LoopState *state = handle->data;
    state->stopping = true;
    receiver_stop(state->receiver, 1500, on_stop_done, state);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    (void)number;
    LoopState *state = handle->data;
    receiver_reload(state->receiver, &daemon_.reloaded);
}

__attribute__((noreturn)) static void run_daemon(Shared *shared)
{
    static LoopState state;
    Err err = {0};
    uv_loop_t *loop = uv_default_loop();
    ReceiverCallbacks callbacks = {shared,         on_stored, on_refused,
                                   on_turned_away, on_lost,   on_ended};
    log_set_level(LOG_LEVEL_ALERT);
    if (receiver_start(loop, &daemon_.config, &callbacks, &state.receiver, &err) != ST_OK)
        test_fail(__FILE__, __LINE__, "receiver_start: %s", err.msg);
    state.shared = shared;
    state.timer.data = state.terminate.data = state.hangup.data = &state;
    (void)uv_timer_init(loop, &state.timer);
    (void)uv_timer_start(&state.timer, copy_stats, 5, 5);
    (void)uv_signal_init(loop, &state.terminate);
    (void)uv_signal_start(&state.terminate, on_terminate, SIGTERM);
    (void)uv_signal_init(loop, &state.hangup);
    (void)uv_signal_start(&state.hangup, on_hangup, SIGHUP);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(loop); /* 0: no handle was forgotten */
    _exit(rc == 0 ? 0 : 1);
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

/* Waits until cond holds; fails after `seconds`. */
#define CHECK_WITHIN(seconds, cond)                                                                \
    do {                                                                                           \
        double within_end_ = clock_monotonic_s() + (seconds);                                      \
        while (!(cond) && clock_monotonic_s() < within_end_)                                       \
            (void)usleep(5000);                                                                    \
        CHECK(cond);                                                                               \
    } while (0)

static void default_config(void)
{
    Config *c = &daemon_.config;
    memset(c, 0, sizeof *c);
    CHECK(path_format(daemon_.spool, NULL, "%s/spool", test_dir()) == ST_OK);
    (void)snprintf(c->spool_path, sizeof c->spool_path, "%.1000s", daemon_.spool);
    (void)snprintf(c->listen_address, sizeof c->listen_address, "127.0.0.1");
    (void)snprintf(c->listen_ae_title, sizeof c->listen_ae_title, "CT2MR");
    c->listen_port = free_port();
    c->check_called_ae = true;
    c->max_associations = 16;
    c->association_timeout_s = 5;
    c->idle_timeout_s = 30;
    c->min_rate_kib_s = 10;
    c->max_object_mib = 8;
}

static void make_good_file(void)
{
    DataSet ds;
    Bytes file = {0};
    Err err = {0};
    data_set_ct(&ds, 64, 64, 0);
    data_set_encode(&ds, false, &daemon_.good);
    file_encode(PEER_CT, "1.2.3.4.000001", PEER_EXPLICIT, &daemon_.good, &file);
    CHECK_OK(path_format(daemon_.good_path, &err, "%s/good.dcm", test_dir()), &err);
    CHECK_OK(file_write_durable(daemon_.good_path, file.data, file.size, &err), &err);
    bytes_free(&file);
    data_set_free(&ds);
}

static void start_daemon(void)
{
    char self[PATH_SIZE] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    (void)setenv("CT2MR_PROGRAM", self, 1);
    (void)setenv(ZYGOTE_VARIABLE, "1", 1);
    make_good_file();
    Shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    daemon_.shared = shared;
    daemon_.pid = fork();
    if (daemon_.pid == 0)
        run_daemon(shared);
    (void)unsetenv(ZYGOTE_VARIABLE);
    CHECK_WITHIN(15, daemon_.shared->ready);
}

/* A process of which `parent` has exactly one, or 0. */
static pid_t only_child(pid_t parent)
{
    char path[64];
    int child = 0, other;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    int n = fscanf(f, "%d %d", &child, &other);
    (void)fclose(f);
    return n == 1 ? child : 0;
}

static int count_files(const char *name)
{
    char path[PATH_SIZE];
    CHECK(path_format(path, NULL, "%s/%s", daemon_.spool, name) == ST_OK);
    DIR *d = opendir(path);
    CHECK(d != NULL);
    int n = 0;
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

/* Ends the daemon in order: its exit status says that nothing was left on its loop. */
static void stop_daemon(void)
{
    int status = -1;
    (void)kill(daemon_.pid, SIGTERM);
    CHECK(waitpid(daemon_.pid, &status, 0) == daemon_.pid);
    CHECK_INT(status, 0);
    CHECK(daemon_.shared->stopped);
    CHECK_INT(count_files("tmp"), 0);
    bytes_free(&daemon_.good);
}

/* ---- good peers ---- */

/* Runs a DCMTK tool; its exit status. */
static int run_tool(char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, 1);
        (void)dup2(null, 2);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 127);
    return WEXITSTATUS(status);
}

#define TOOL(...) run_tool((char *const[]){__VA_ARGS__, NULL})

static char *port_text(void)
{
    static char text[16];
    (void)snprintf(text, sizeof text, "%d", daemon_.config.listen_port);
    return text;
}

static int store_good(void)
{
    return TOOL("storescu", "-aet", "SCANNER", "-aec", "CT2MR", "127.0.0.1", port_text(),
                daemon_.good_path);
}

/* Others are served as if nothing were wrong, by the same zygote. */
static void check_service(pid_t zygote)
{
    int stored = daemon_.shared->n_stored;
    CHECK_INT(store_good(), 0);
    CHECK_INT(daemon_.shared->n_stored, stored + 1);
    CHECK_INT(TOOL("echoscu", "-aet", "SCANNER", "-aec", "CT2MR", "127.0.0.1", port_text()), 0);
    CHECK_INT(only_child(daemon_.pid), zygote);
}

static void open_usual(Peer *peer)
{
    PeerRequest request = peer_request_usual();
    CHECK_INT(peer_open(daemon_.config.listen_port, &request, peer), PDU_ASSOCIATE_AC);
    CHECK(peer->result[0] == 0 && peer->result[1] == 0);
}

TEST(receiver_stores_bit_preserving,
     "the file in incoming ends with the bytes sent; both syntaxes; statuses and callbacks")
{
    default_config();
    start_daemon();
    for (int implicit = 0; implicit < 2; implicit++) {
        DataSet ds;
        Bytes sent = {0};
        char path[PATH_SIZE], *data;
        size_t size;
        Err err = {0};
        Peer peer;
        PeerRequest request = peer_request_usual();
        request.contexts[0].syntax_uids[0] = implicit ? PEER_IMPLICIT : PEER_EXPLICIT;
        request.contexts[0].syntax_uids[1] = NULL;
        data_set_ct(&ds, 512, 512, 7 + implicit);
        data_set_encode(&ds, implicit == 1, &sent);
        CHECK_INT(peer_open(daemon_.config.listen_port, &request, &peer), PDU_ASSOCIATE_AC);
        CHECK_STR(peer.syntax[0], request.contexts[0].syntax_uids[0]);
        const char *uid = implicit ? "1.2.3.4.000009" : "1.2.3.4.000008";
        CHECK_INT(peer_store(&peer, 1, PEER_CT, uid, &sent), 0);
        CHECK(peer_release(&peer));
        Instance got = daemon_.shared->last, scanned;
        unsigned dimse;
        CHECK_OK(path_format(path, &err, "%s/incoming/%s", daemon_.spool, got.file), &err);
        CHECK_OK(file_read(path, 1 << 24, &data, &size, &err), &err);
        CHECK(size > sent.size && memcmp(data + size - sent.size, sent.data, sent.size) == 0);
        memcpy(scanned.file, got.file, sizeof got.file);
        CHECK_OK(prescan_file(path, &scanned, &dimse, &err), &err);
        CHECK(memcmp(&scanned, &got, sizeof got) == 0); /* the digest made while it arrived, too */
        char calling[AE_SIZE];
        memcpy(calling, (const char *)daemon_.shared->calling_ae, AE_SIZE);
        CHECK_STR(calling, "SCANNER");
        free(data);
        bytes_free(&sent);
        data_set_free(&ds);
    }
    CHECK_WITHIN(5, daemon_.shared->n_ended == 2);
    CHECK_INT(daemon_.shared->n_orderly, 2);
    CHECK_INT(count_files("incoming"), 2);
    stop_daemon();
}

TEST(receiver_answers_what_the_daemon_says,
     "a status of stored() reaches the peer; many images on one association")
{
    default_config();
    start_daemon();
    Peer peer;
    open_usual(&peer);
    static const uint16_t answers[] = {DIMSE_SUCCESS, DIMSE_DUPLICATE_CONFLICT,
                                       DIMSE_OUT_OF_RESOURCES, DIMSE_SUCCESS};
    for (int i = 0; i < 4; i++) {
        daemon_.shared->answer = answers[i];
        CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), answers[i]);
    }
    CHECK_INT(peer_echo(&peer, 3), 0);
    CHECK(peer_release(&peer));
    CHECK_INT(daemon_.shared->n_stored, 4);
    CHECK_INT(count_files("incoming"), 4);
    stop_daemon();
}

/* ---- compressed images ---- */

/* Sends a file's data set as it is, proposing its own syntax only, and compares what was kept. */
static void check_sent(const char *path, const char *want_syntax)
{
    char *data, kept_path[PATH_SIZE];
    size_t size;
    Err err = {0};
    Instance sent = {0}, kept = {0};
    unsigned dimse;
    CHECK_OK(prescan_file(path, &sent, &dimse, &err), &err);
    CHECK_STR(sent.transfer_syntax_uid, want_syntax);
    CHECK_OK(file_read(path, 1 << 24, &data, &size, &err), &err);
    uint32_t meta_size; /* of the group length element, PS3.10 section 7.1 */
    memcpy(&meta_size, data + 140, sizeof meta_size);
    CHECK(144 + (size_t)meta_size < size);
    Bytes data_set = {0};
    bytes_add(&data_set, data + 144 + meta_size, size - 144 - meta_size);
    Peer peer;
    PeerRequest request = peer_request_usual();
    request.contexts[0] = (PeerContext){PEER_CT, {want_syntax, NULL, NULL}};
    CHECK_INT(peer_open(daemon_.config.listen_port, &request, &peer), PDU_ASSOCIATE_AC);
    CHECK_INT(peer.result[0], 0);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, sent.sop_uid, &data_set), 0);
    CHECK(peer_release(&peer));
    Instance last = daemon_.shared->last;
    CHECK_OK(path_format(kept_path, &err, "%s/incoming/%s", daemon_.spool, last.file), &err);
    CHECK_OK(prescan_file(kept_path, &kept, &dimse, &err), &err);
    CHECK_STR(kept.digest, sent.digest);
    CHECK_STR(last.digest, sent.digest);
    bytes_free(&data_set);
    free(data);
}

TEST(receiver_takes_compressed_images,
     "RLE, JPEG lossless .57 and .70, JPEG-LS made by DCMTK's tools are stored as they are")
{
    static const struct {
        const char *tool, *option, *syntax;
    } rows[] = {{"dcmcrle", "-q", "1.2.840.10008.1.2.5"},
                {"dcmcjpeg", "+e1", "1.2.840.10008.1.2.4.70"},
                {"dcmcjpeg", "+el", "1.2.840.10008.1.2.4.57"},
                {"dcmcjpls", "+el", "1.2.840.10008.1.2.4.80"}};
    default_config();
    start_daemon();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[PATH_SIZE], tool[16], option[8];
        CHECK(path_format(out, NULL, "%s/%zu.dcm", test_dir(), i) == ST_OK);
        (void)snprintf(tool, sizeof tool, "%s", rows[i].tool);
        (void)snprintf(option, sizeof option, "%s", rows[i].option);
        CHECK_INT(TOOL(tool, option, daemon_.good_path, out), 0);
        check_sent(out, rows[i].syntax);
    }
    stop_daemon();
}

TEST(receiver_takes_real_compressed_images,
     "a real slice in the six accepted syntaxes is stored as it is")
{
    static const char *const rows[][2] = {
        {"LittleEndianExplicitTransferSyntax_", "1.2.840.10008.1.2.1"},
        {"LittleEndianImplicitTransferSyntax_", "1.2.840.10008.1.2"},
        {"RLELosslessTransferSyntax_", "1.2.840.10008.1.2.5"},
        {"JPEGProcess14SV1TransferSyntax_", "1.2.840.10008.1.2.4.70"},
        {"JPEGProcess14TransferSyntax_", "1.2.840.10008.1.2.4.57"},
        {"JPEGLSLosslessTransferSyntax_", "1.2.840.10008.1.2.4.80"}};
    char dir[PATH_SIZE], path[PATH_SIZE];
    CHECK(path_format(dir, NULL, "%s", test_shared("data/syntaxes")) == ST_OK);
    default_config();
    start_daemon();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK(path_format(path, NULL, "%s/CTImage.dcm_%s%s.dcm", dir, rows[i][0], rows[i][1]) ==
              ST_OK);
        check_sent(path, rows[i][1]);
    }
    stop_daemon();
}

/* ---- rows 1 to 8: below the association ---- */

/* True when the other side has closed (or aborted) within seconds. */
static bool is_closed_within(int fd, double seconds)
{
    double end = clock_monotonic_s() + seconds;
    char byte;
    do {
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return true;
        if (n < 0)
            (void)usleep(10000);
    } while (clock_monotonic_s() < end);
    return false;
}

TEST(receiver_case_1_2_silent_and_slow_requests,
     "a silent peer and one byte per 100 ms are closed at the deadline, nobody waits")
{
    default_config();
    daemon_.config.association_timeout_s = 2;
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    PeerRequest request = peer_request_usual();
    Bytes pdu = {0};
    peer_request_encode(&request, &pdu);
    double start = clock_monotonic_s();
    int silent = peer_connect(daemon_.config.listen_port);
    int slow = peer_connect(daemon_.config.listen_port);
    CHECK(silent >= 0 && slow >= 0);
    check_service(zygote);
    for (size_t i = 0; i < pdu.size && clock_monotonic_s() - start < 1.8; i++) {
        CHECK(peer_send(slow, pdu.data + i, 1));
        (void)usleep(100000);
    }
    CHECK(!is_closed_within(silent, 0) || clock_monotonic_s() - start >= 2);
    CHECK(is_closed_within(silent, 5) && is_closed_within(slow, 5));
    CHECK(clock_monotonic_s() - start >= 2);
    (void)close(silent);
    (void)close(slow);
    check_service(zygote);
    bytes_free(&pdu);
    stop_daemon();
}

TEST(receiver_silent_crowd_keeps_nobody_out,
     "40 silent connections, more than associations allowed: others are served")
{
    default_config();
    start_daemon();
    int fds[40];
    for (int i = 0; i < 40; i++)
        CHECK((fds[i] = peer_connect(daemon_.config.listen_port)) >= 0);
    check_service(only_child(daemon_.pid));
    for (int i = 0; i < 40; i++)
        (void)close(fds[i]);
    stop_daemon();
}

/* Starts a C-STORE and sends the first bytes of its data set, within a PDV that is not yet full. */
static void begin_store(Peer *peer, size_t n_bytes)
{
    Bytes command = {0}, pdus = {0};
    command_store_encode(PEER_CT, "1.2.3.4.000001", 1, true, &command);
    pdata_encode(1, true, &command, peer->max_pdu_bytes, &pdus);
    size_t command_size = pdus.size;
    pdata_encode(1, false, &daemon_.good, peer->max_pdu_bytes, &pdus);
    CHECK(command_size + 12 + n_bytes < pdus.size);
    CHECK(peer_send(peer->fd, pdus.data, command_size + 12 + n_bytes));
    bytes_free(&command);
    bytes_free(&pdus);
}

TEST(receiver_case_3_slow_data_set,
     "one byte per 100 ms: ended for its rate; no byte at all: ended as idle; no part file")
{
    default_config();
    daemon_.config.idle_timeout_s = 3;
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    Peer slow, idle;
    open_usual(&slow);
    open_usual(&idle);
    begin_store(&slow, 600);
    begin_store(&idle, 600);
    CHECK_WITHIN(5, count_files("tmp") == 2);
    check_service(zygote);
    double start = clock_monotonic_s();
    while (clock_monotonic_s() - start < 15 && peer_send(slow.fd, "x", 1) &&
           !is_closed_within(slow.fd, 0))
        (void)usleep(100000);
    CHECK(clock_monotonic_s() - start < 12);
    CHECK(is_closed_within(idle.fd, 10));
    CHECK_WITHIN(5, count_files("tmp") == 0);
    CHECK(daemon_.shared->stats.killed >= 1);
    CHECK_WITHIN(5, daemon_.shared->n_ended == daemon_.shared->n_orderly + 2);
    peer_close(&slow);
    peer_close(&idle);
    check_service(zygote);
    stop_daemon();
}

/* What a hostile peer does; the socket is left open. */
typedef struct Hostile {
    const char *name;
    bool associated;  /* on an open association, else as the first bytes */
    bool in_data_set; /* after a C-STORE command and 600 bytes of a PDV */
    unsigned char bytes[16];
    size_t n_bytes;
    bool reset; /* closes with RST at once */
} Hostile;

TEST_TIMEOUT(receiver_cases_4_to_7_broken_pdus,
             "garbage, wrong types and lengths, cut and reset: closed, all others served", 120)
{
    static const Hostile rows[] = {
        {"HTTP", false, false, "GET / HTTP/1.1\r\n", 16, false},
        {"TLS hello", false, false, {0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC}, 9, false},
        {"request of 4 GiB", false, false, {1, 0, 0xFF, 0xFF, 0xFF, 0xF0, 0, 1}, 8, false},
        {"request over 64 KiB", false, false, {1, 0, 0, 1, 0, 1, 0, 1}, 8, false},
        {"P-DATA before a request", false, false, {4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 3}, 12, false},
        {"unknown PDU type", true, false, {0x55, 0, 0, 0, 0, 4, 0, 0, 0, 0}, 10, false},
        {"PDU of 2 GiB", true, false, {4, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 2, 1, 3}, 12, false},
        {"PDV length 0xfffffff0",
         true,
         false,
         {4, 0, 0, 0, 0, 8, 0xFF, 0xFF, 0xFF, 0xF0, 1, 3, 0, 0},
         14,
         false},
        {"PDV length 0", true, false, {4, 0, 0, 0, 0, 4, 0, 0, 0, 0}, 10, false},
        {"PDV length 1", true, false, {4, 0, 0, 0, 0, 5, 0, 0, 0, 1, 1}, 11, false},
        {"odd PDV", true, false, {4, 0, 0, 0, 0, 7, 0, 0, 0, 3, 1, 3, 0}, 13, false},
        {"context not negotiated",
         true,
         false,
         {4, 0, 0, 0, 0, 8, 0, 0, 0, 4, 9, 3, 0, 0},
         14,
         false},
        {"cut and reset", true, true, {0}, 0, true},
    };
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const Hostile *h = &rows[i];
        Peer peer = {.fd = -1};
        (void)printf("# %s\n", h->name);
        if (h->associated)
            open_usual(&peer);
        else
            peer.fd = peer_connect(daemon_.config.listen_port);
        if (h->in_data_set)
            begin_store(&peer, 600);
        CHECK(peer_send(peer.fd, h->bytes, h->n_bytes));
        if (h->reset) {
            struct linger now = {1, 0};
            CHECK_WITHIN(5, count_files("tmp") == 1);
            CHECK(setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
            peer_close(&peer);
        }
        check_service(zygote);
        CHECK(h->reset || is_closed_within(peer.fd, 5));
        peer_close(&peer);
        CHECK_WITHIN(5, count_files("tmp") == 0);
    }
    CHECK_INT(daemon_.shared->stats.crashed, 0);
    stop_daemon();
}

TEST(receiver_case_7_abort_in_the_middle,
     "A-ABORT, A-RELEASE-RQ or a closed socket within a data set: dropped, not orderly, no part "
     "file")
{
    static const unsigned char end_pdus[2][10] = {{7, 0, 0, 0, 0, 4}, {5, 0, 0, 0, 0, 4}};
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    for (int how = 0; how < 3; how++) {
        int ended = daemon_.shared->n_ended, orderly = daemon_.shared->n_orderly;
        Peer peer;
        open_usual(&peer);
        CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
        /* A whole PDU of the data set that is not its last, then the end. */
        Bytes part = {0}, command = {0}, pdus = {0};
        bytes_add(&part, daemon_.good.data, 1000);
        command_store_encode(PEER_CT, "1.2.3.4.000001", 2, true, &command);
        pdata_encode(1, true, &command, peer.max_pdu_bytes, &pdus);
        size_t command_size = pdus.size;
        pdata_encode(1, false, &part, peer.max_pdu_bytes, &pdus);
        pdus.data[command_size + 11] = 0; /* data, not the last fragment */
        CHECK(peer_send(peer.fd, pdus.data, pdus.size));
        CHECK_WITHIN(5, count_files("tmp") == 1);
        if (how < 2)
            CHECK(peer_send(peer.fd, end_pdus[how], sizeof end_pdus[how]));
        else
            peer_close(&peer);
        CHECK_WITHIN(5, count_files("tmp") == 0);
        CHECK_WITHIN(5, daemon_.shared->n_ended == ended + 1);
        CHECK_INT(daemon_.shared->n_orderly, orderly);
        check_service(zygote); /* two associations: a store and an echo */
        CHECK_WITHIN(5, daemon_.shared->n_ended == ended + 3);
        peer_close(&peer);
        bytes_free(&part);
        bytes_free(&command);
        bytes_free(&pdus);
    }
    stop_daemon();
}

TEST(receiver_case_8_contexts,
     "no context, an even id, a repeated id: aborted or rejected; others served")
{
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    for (int variant = 0; variant < 3; variant++) {
        PeerRequest request = peer_request_usual();
        Bytes pdu = {0}, body = {0};
        if (variant == 0)
            request.contexts[0].class_uid = NULL;
        peer_request_encode(&request, &pdu);
        unsigned char id = variant == 1 ? 2 : 1, n = 0;
        /* Presentation context items: type 20H, 00, length, id. The second gets another id. */
        for (size_t at = 74 + 4 + 21; variant > 0 && at + 4 < pdu.size && pdu.data[at] == 0x20;) {
            if (n++ == 1)
                pdu.data[at + 4] = id;
            at += 4u + ((size_t)pdu.data[at + 2] << 8 | pdu.data[at + 3]);
        }
        CHECK_INT(n, variant > 0 ? 2 : 0);
        int fd = peer_connect(daemon_.config.listen_port);
        CHECK(peer_send(fd, pdu.data, pdu.size));
        int type = peer_read_pdu(fd, &body);
        CHECK(type == PDU_ABORT || type == PDU_ASSOCIATE_RJ || type == 0);
        check_service(zygote);
        (void)close(fd);
        bytes_free(&pdu);
        bytes_free(&body);
    }
    stop_daemon();
}

/* ---- rows 9 to 14: association policy ---- */

static void check_rejected(const PeerRequest *request, int result, int source, int reason)
{
    Peer peer;
    CHECK_INT(peer_open(daemon_.config.listen_port, request, &peer), PDU_ASSOCIATE_RJ);
    CHECK_INT(peer.result[0], result);
    CHECK_INT(peer.result[1], source);
    CHECK_INT(peer.result[2], reason);
    peer_close(&peer);
}

TEST(receiver_case_9_11_titles,
     "wrong called 1/1/7, calling 1/1/3, application context 1/1/2; reload changes them")
{
    default_config();
    daemon_.config.calling_ae.n = 2;
    (void)snprintf(daemon_.config.calling_ae.items[0], 64, "SCANNER");
    (void)snprintf(daemon_.config.calling_ae.items[1], 64, "CT 2");
    daemon_.reloaded = daemon_.config;
    daemon_.reloaded.check_called_ae = false;
    daemon_.reloaded.calling_ae.n = 0;
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    PeerRequest request = peer_request_usual();
    request.called = "ELSEWHERE";
    check_rejected(&request, 1, 1, 7);
    request = peer_request_usual();
    request.calling = "STRANGER";
    check_rejected(&request, 1, 1, 3);
    request = peer_request_usual();
    request.application_context = "1.2.3.4";
    check_rejected(&request, 1, 1, 2);
    CHECK_WITHIN(5, daemon_.shared->stats.rejected == 3);
    check_service(zygote);
    request = peer_request_usual();
    request.called = "X";
    request.calling = "../%s%n/etc";
    CHECK_INT(kill(daemon_.pid, SIGHUP), 0);
    Peer peer;
    CHECK_WITHIN(5, peer_open(daemon_.config.listen_port, &request, &peer) == PDU_ASSOCIATE_AC);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
    peer_close(&peer);
    stop_daemon();
}

TEST(receiver_case_10_association_limit,
     "the 17th of 16 is rejected 2/3/2 and comes in when one has ended")
{
    default_config();
    start_daemon();
    Peer peers[16];
    for (int i = 0; i < 16; i++)
        open_usual(&peers[i]);
    PeerRequest request = peer_request_usual();
    check_rejected(&request, 2, 3, 2);
    for (int i = 0; i < 16; i++)
        CHECK_INT(peer_echo(&peers[i], 3), 0);
    CHECK(peer_release(&peers[0]));
    CHECK_WITHIN(5, daemon_.shared->stats.open == 15);
    open_usual(&peers[0]);
    for (int i = 0; i < 16; i++)
        CHECK(peer_release(&peers[i]));
    CHECK_WITHIN(5, daemon_.shared->stats.rejected == 1);
    CHECK_INT(daemon_.shared->n_turned_away, 1);
    CHECK_WITHIN(5, daemon_.shared->n_ended >= 17);
    CHECK_INT(daemon_.shared->n_storing, 0); /* echoes */
    check_service(only_child(daemon_.pid));
    stop_daemon();
}

TEST(receiver_case_12_13_contexts,
     "unknown class result 3, unknown syntax result 4, uncompressed preferred")
{
    default_config();
    start_daemon();
    Peer peer;
    PeerRequest request = {"CT2MR",
                           "SCANNER",
                           NULL,
                           {{PEER_MR, {PEER_EXPLICIT, NULL, NULL}},
                            {PEER_CT, {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.2", NULL}},
                            {PEER_CT, {"1.2.840.10008.1.2.4.70", PEER_IMPLICIT, PEER_EXPLICIT}},
                            {PEER_CT, {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.80", NULL}}}};
    CHECK_INT(peer_open(daemon_.config.listen_port, &request, &peer), PDU_ASSOCIATE_AC);
    CHECK_INT(peer.result[0], 3);
    CHECK_INT(peer.result[1], 4);
    CHECK_INT(peer.result[2], 0);
    CHECK_STR(peer.syntax[2], PEER_EXPLICIT);
    CHECK_INT(peer.result[3], 0);
    CHECK_STR(peer.syntax[3], "1.2.840.10008.1.2.4.80");
    /* Row 14: a refused context is used. */
    CHECK_INT(peer_store(&peer, 3, PEER_CT, "1.2.3.4.000001", &daemon_.good), -1);
    check_service(only_child(daemon_.pid));
    peer_close(&peer);
    stop_daemon();
}

/* ---- rows 15 to 31: C-STORE ---- */

TEST(receiver_case_15_16_17_commands,
     "class other than the context's 0122H; bad instance UIDs 0117H or abort; leading zero passes")
{
    static const char too_long[] = "1.2.34567890123456789012345678901234567890"
                                   "12345678901234567890123456789012345";
    static const char *const uids[] = {"../../tmp/evil", "1.2.abc", "1..2", "", too_long};
    default_config();
    start_daemon();
    Peer peer;
    open_usual(&peer);
    CHECK_INT(peer_store(&peer, 1, PEER_MR, "1.2.3.4.000001", &daemon_.good),
              DIMSE_SOP_CLASS_NOT_SUPPORTED);
    CHECK_INT(peer_store(&peer, 3, PEER_CT, "1.2.3.4.000001", &daemon_.good),
              DIMSE_SOP_CLASS_NOT_SUPPORTED);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, uids[0], &daemon_.good), DIMSE_INVALID_SOP_INSTANCE);
    CHECK_WITHIN(5, daemon_.shared->n_refused == 3);
    CHECK_INT(daemon_.shared->refused_dimse, DIMSE_INVALID_SOP_INSTANCE);
    CHECK(peer_release(&peer));
    for (size_t i = 0; i < sizeof uids / sizeof uids[0]; i++) {
        open_usual(&peer);
        int status = peer_store(&peer, 1, PEER_CT, uids[i], &daemon_.good);
        CHECK(status == DIMSE_INVALID_SOP_INSTANCE || status == -1);
        peer_close(&peer);
    }
    DataSet ds;
    Bytes bytes = {0};
    data_set_ct(&ds, 16, 8, 0);
    data_set_text(&ds, 0x00080018, "UI", "1.02.3");
    data_set_encode(&ds, false, &bytes);
    open_usual(&peer);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.02.3", &bytes), 0);
    CHECK(peer_release(&peer));
    CHECK_INT(count_files("incoming"), 1);
    bytes_free(&bytes);
    data_set_free(&ds);
    stop_daemon();
}

static void add_open_sequences(Bytes *out, int depth)
{
    for (int i = 0; i < depth; i++) {
        element_add(out, false, 0x00081140, "SQ", NULL, 0, true);
        bytes_u32(out, 0xE000FFFE);
        bytes_u32(out, 0xFFFFFFFF);
    }
}

TEST(receiver_cases_18_to_31_data_sets,
     "what the scan refuses is answered so, kept nowhere, and the association goes on")
{
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    Peer peer;
    open_usual(&peer);
    DataSet ds;
    Bytes bytes = {0}, empty = {0};
    add_open_sequences(&bytes, 100000);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &bytes), DIMSE_CANNOT_UNDERSTAND);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &empty), DIMSE_CANNOT_UNDERSTAND);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000002", &daemon_.good),
              DIMSE_DATA_SET_MISMATCH);
    data_set_ct(&ds, 16, 8, 0);
    data_set_text(&ds, 0x00281053, "DS", "1e999");
    bytes.size = 0;
    data_set_encode(&ds, false, &bytes);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &bytes), DIMSE_DATA_SET_MISMATCH);
    data_set_free(&ds);
    CHECK_WITHIN(5, daemon_.shared->n_refused == 4);
    CHECK_INT(daemon_.shared->refused_status, ST_DICOM_ATTRIBUTE);
    CHECK(strstr((const char *)daemon_.shared->refused_text, "(0028,1053)") != NULL);
    CHECK_INT(count_files("incoming"), 0);
    CHECK_INT(count_files("tmp"), 0);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
    check_service(zygote);
    CHECK(peer_release(&peer));
    /* A command that announces no data set: refused, or aborted by DCMTK itself. */
    open_usual(&peer);
    int status = peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", NULL);
    CHECK(status == DIMSE_CANNOT_UNDERSTAND || status == -1);
    check_service(zygote);
    peer_close(&peer);
    bytes_free(&bytes);
    stop_daemon();
}

TEST(receiver_case_25_oversize,
     "more than listen.max_object_mib: A700H, and the association goes on")
{
    default_config();
    daemon_.config.max_object_mib = 1;
    start_daemon();
    Peer peer;
    DataSet ds;
    Bytes bytes = {0};
    data_set_ct(&ds, 1024, 1024, 0);
    data_set_encode(&ds, false, &bytes);
    open_usual(&peer);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &bytes), DIMSE_OUT_OF_RESOURCES);
    CHECK_INT(count_files("incoming"), 0);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
    CHECK(peer_release(&peer));
    bytes_free(&bytes);
    data_set_free(&ds);
    stop_daemon();
}

static bool is_rejected(const PeerRequest *request)
{
    Peer peer;
    int type = peer_open(daemon_.config.listen_port, request, &peer);
    peer_close(&peer);
    return type == PDU_ASSOCIATE_RJ;
}

TEST(receiver_case_43_disk,
     "below the low-water mark: rejected 2/3/1; a spool that cannot be written: A700H")
{
    default_config();
    daemon_.reloaded = daemon_.config;
    daemon_.reloaded.min_free_mib = INT32_MAX;
    start_daemon();
    Peer peer;
    open_usual(&peer);
    char path[PATH_SIZE];
    CHECK(path_format(path, NULL, "%s/tmp", daemon_.spool) == ST_OK);
    CHECK_INT(rmdir(path), 0);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good),
              DIMSE_OUT_OF_RESOURCES);
    CHECK_WITHIN(5, daemon_.shared->n_refused == 1);
    CHECK(peer_release(&peer));
    CHECK_INT(mkdir(path, 0750), 0);
    CHECK_INT(kill(daemon_.pid, SIGHUP), 0);
    PeerRequest request = peer_request_usual();
    CHECK_WITHIN(5, is_rejected(&request));
    check_rejected(&request, 2, 3, 1);
    stop_daemon();
}

/* ---- processes that die ---- */

TEST(receiver_survives_a_killed_child,
     "kill -9 of a child: its peer is closed, its part file goes, all others are served")
{
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    Peer peer;
    open_usual(&peer);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
    begin_store(&peer, 600);
    CHECK_WITHIN(5, count_files("tmp") == 1);
    pid_t child = only_child(zygote);
    CHECK(child > 0);
    CHECK_INT(kill(child, SIGKILL), 0);
    CHECK(is_closed_within(peer.fd, 5));
    CHECK_WITHIN(5, count_files("tmp") == 0);
    CHECK_WITHIN(5, daemon_.shared->stats.crashed == 1);
    CHECK(daemon_.shared->n_ended == 1 && daemon_.shared->n_orderly == 0);
    check_service(zygote);
    CHECK_INT(count_files("incoming"), 2);
    peer_close(&peer);
    stop_daemon();
}

TEST(receiver_survives_a_killed_zygote,
     "kill -9 of the zygote: its children end, a new one serves, nothing stored is lost; "
     "that a connection was lost unheard is told")
{
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    Peer peer, silent = {.fd = peer_connect(daemon_.config.listen_port)};
    open_usual(&peer);
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
    begin_store(&peer, 600);
    CHECK_WITHIN(5, count_files("tmp") == 1);
    double start = clock_monotonic_s();
    CHECK_INT(kill(zygote, SIGKILL), 0);
    CHECK(is_closed_within(peer.fd, 5));
    CHECK_WITHIN(5, daemon_.shared->stats.zygote_starts == 2 && daemon_.shared->ready);
    (void)printf("# service back after %.2f s\n", clock_monotonic_s() - start);
    CHECK_WITHIN(5, count_files("tmp") == 0);
    CHECK_WITHIN(5, daemon_.shared->n_ended == 1 && daemon_.shared->n_lost == 1);
    peer_close(&silent);
    pid_t next = only_child(daemon_.pid);
    CHECK(next > 0 && next != zygote);
    check_service(next);
    CHECK_INT(count_files("incoming"), 2);
    peer_close(&peer);
    stop_daemon();
}

static bool is_gone(const char *path)
{
    DIR *d = opendir(path);
    if (d != NULL)
        (void)closedir(d);
    return d == NULL;
}

TEST(receiver_zygote_dies_with_the_daemon, "kill -9 of the daemon: zygote and children end")
{
    default_config();
    start_daemon();
    pid_t zygote = only_child(daemon_.pid);
    Peer peer;
    open_usual(&peer);
    pid_t child = only_child(zygote);
    CHECK(child > 0);
    (void)kill(daemon_.pid, SIGKILL);
    (void)waitpid(daemon_.pid, NULL, 0);
    CHECK(is_closed_within(peer.fd, 5));
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)child); /* a zombie has none */
    CHECK_WITHIN(5, is_gone(path));
    peer_close(&peer);
    bytes_free(&daemon_.good);
}

static bool is_refused(void)
{
    int fd = peer_connect(daemon_.config.listen_port);
    if (fd >= 0)
        (void)close(fd);
    return fd < 0;
}

TEST(receiver_stop_lets_associations_end,
     "stopping refuses new peers at once and lets an open one finish")
{
    default_config();
    start_daemon();
    Peer peer;
    open_usual(&peer);
    (void)kill(daemon_.pid, SIGTERM);
    CHECK_WITHIN(5, is_refused());
    CHECK_INT(peer_store(&peer, 1, PEER_CT, "1.2.3.4.000001", &daemon_.good), 0);
    CHECK(peer_release(&peer));
    int status = -1;
    CHECK(waitpid(daemon_.pid, &status, 0) == daemon_.pid);
    CHECK_INT(status, 0);
    CHECK(daemon_.shared->stopped && daemon_.shared->n_orderly == 1);
    bytes_free(&daemon_.good);
}

TEST(receiver_start_fails_cleanly,
     "no program, a port in use, a bad allow-list: an error, nothing runs")
{
    default_config();
    Receiver *receiver = NULL;
    ReceiverCallbacks callbacks = {0};
    uv_loop_t loop;
    CHECK(uv_loop_init(&loop) == 0);
    (void)setenv("CT2MR_PROGRAM", "/nonexistent/ct2mr", 1);
    CHECK_STATUS(receiver_start(&loop, &daemon_.config, &callbacks, &receiver, NULL), ST_NOT_FOUND);
    daemon_.config.allow.n = 1;
    (void)snprintf(daemon_.config.allow.items[0], 64, "300.1.2.3");
    CHECK_STATUS(receiver_start(&loop, &daemon_.config, &callbacks, &receiver, NULL),
                 ST_CONFIG_RANGE);
    daemon_.config.allow.n = 0;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)daemon_.config.listen_port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0);
    CHECK_STATUS(receiver_start(&loop, &daemon_.config, &callbacks, &receiver, NULL), ST_LISTEN);
    CHECK(receiver == NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(uv_loop_close(&loop), 0);
    (void)close(fd);
}

/* ---- addresses ---- */

static bool matches(const char *address, const char *rule)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&storage;
    if (inet_pton(AF_INET, address, &in->sin_addr) == 1)
        in->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1)
        in6->sin6_family = AF_INET6;
    return address_matches((const struct sockaddr *)&storage, rule);
}

TEST(address_rules, "IPv4 and IPv6, whole and by prefix, mapped addresses, bad rules match nothing")
{
    CHECK(matches("10.1.2.3", "10.1.2.3") && !matches("10.1.2.4", "10.1.2.3"));
    CHECK(matches("10.1.2.3", "10.0.0.0/8") && !matches("11.1.2.3", "10.0.0.0/8"));
    CHECK(matches("10.1.2.3", "10.1.2.2/31") && !matches("10.1.2.4", "10.1.2.2/31"));
    CHECK(matches("10.1.2.3", "0.0.0.0/0") && !matches("::1", "0.0.0.0/0"));
    CHECK(matches("2001:db8::5", "2001:db8::/32") && !matches("2001:db9::5", "2001:db8::/32"));
    CHECK(matches("2001:db8::5", "2001:db8::4/127") && !matches("2001:db8::6", "2001:db8::4/127"));
    CHECK(matches("::1", "::1") && matches("::ffff:10.1.2.3", "10.1.0.0/16"));
    CHECK(!address_rule_valid("10.0.0.0/33") && !address_rule_valid("10.0.0/8") &&
          !address_rule_valid("") && !address_rule_valid("10.0.0.1/") &&
          !address_rule_valid("::1/129") && !address_rule_valid("10.0.0.1/8x"));
    CHECK(!matches("10.0.0.1", "10.0.0.0/33"));
}

TEST(receiver_allow_list, "a peer outside listen.allow is closed at once; reload lets it in")
{
    default_config();
    daemon_.reloaded = daemon_.config;
    daemon_.config.allow.n = 2;
    (void)snprintf(daemon_.config.allow.items[0], 64, "10.0.0.0/8");
    (void)snprintf(daemon_.config.allow.items[1], 64, "2001:db8::/32");
    start_daemon();
    int fd = peer_connect(daemon_.config.listen_port);
    CHECK(is_closed_within(fd, 2));
    (void)close(fd);
    CHECK_WITHIN(5, daemon_.shared->stats.refused_address == 1);
    CHECK_INT(daemon_.shared->stats.accepted, 0);
    daemon_.reloaded.allow.n = 1;
    CHECK_INT(kill(daemon_.pid, SIGHUP), 0);
    CHECK_WITHIN(5, store_good() == 0);
    stop_daemon();
}

/* ---- reports are not trusted ---- */

TEST(receive_report_checks,
     "sizes, types, unterminated and unprintable text, file names, UIDs, NaN are refused")
{
    DataSet ds;
    Bytes bytes = {0}, file = {0};
    ReceiveReport good, bad;
    unsigned dimse;
    memset(&good, 0, sizeof good);
    data_set_ct(&ds, 16, 8, 0);
    data_set_encode(&ds, false, &bytes);
    file_encode(PEER_CT, "1.2.3.4.000001", PEER_EXPLICIT, &bytes, &file);
    CHECK(prescan_memory(file.data, file.size, &good.instance, &dimse, NULL) == ST_OK);
    good.type = REPORT_STORED;
    (void)snprintf(good.instance.file, FILE_NAME_SIZE, "00ff-1-0.dcm");
    CHECK(receive_report_valid(&good, sizeof good));
    CHECK(!receive_report_valid(&good, sizeof good - 1));
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        bad = good;                                                                                \
        change;                                                                                    \
        CHECK(!receive_report_valid(&bad, sizeof bad));                                            \
    } while (0)
    REFUSED(bad.type = 0);
    REFUSED(bad.type = 99);
    REFUSED(bad.status = 7);
    REFUSED(memset(&bad.orderly, 2, 1));
    REFUSED(memset(bad.calling_ae, 'A', AE_SIZE));
    REFUSED(bad.text[0] = '\n');
    REFUSED(memset(bad.text, 'x', sizeof bad.text));
    REFUSED(strcpy(bad.instance.file, "../../etc/passwd"));
    REFUSED(strcpy(bad.instance.file, "a/b.dcm"));
    REFUSED(bad.instance.file[0] = '\0');
    REFUSED(strcpy(bad.instance.sop_uid, "1.2.x"));
    REFUSED(memset(bad.instance.series_uid, '1', UID_SIZE));
    REFUSED(bad.instance.digest[3] = 'G');
    REFUSED(bad.instance.patient_key[10] = '\0');
    REFUSED(bad.instance.geometry.rows = -1);
    REFUSED(bad.instance.geometry.ipp_lps_mm[1] = (double)NAN);
    REFUSED(bad.instance.geometry.pixel_spacing_mm[0] = (double)INFINITY);
    REFUSED(memset(&bad.instance.geometry.has_position, 0x40, 1));
#undef REFUSED
    bytes_free(&bytes);
    bytes_free(&file);
    data_set_free(&ds);
}
