/* See fake_scp.h. */
#include "tests/fake_scp.h"

#include "tests/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PDU_MAX = 1 << 20, COMMAND_MAX = 4096 };

typedef struct Peer {
    const FakeScp *scp;
    FakeSeen *seen;
    int fd, n_images; /* n_images: on all associations */
    uint8_t command[COMMAND_MAX];
    size_t command_bytes;
    uint32_t data_bytes;
} Peer;

static bool read_all(int fd, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = read(fd, (char *)data + done, n - done);
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

static bool write_all(int fd, const void *data, size_t n)
{
    return send(fd, data, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static uint32_t big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_big32(uint8_t *p, size_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (24 - 8 * i));
}

static size_t put_item(uint8_t *p, uint8_t type, const void *data, size_t n)
{
    p[0] = type, p[1] = 0, p[2] = (uint8_t)(n >> 8), p[3] = (uint8_t)n;
    memcpy(p + 4, data, n);
    return n + 4;
}

static void answer_request(Peer *peer, const uint8_t *request)
{
    static const char *const syntaxes[2] = {"1.2.840.10008.1.2.1", "1.2.840.10008.1.2"};
    uint8_t pdu[1024] = {2}, item[256], sub[128];
    memcpy(pdu + 6, request, 68); /* version, called, calling, reserved: as they came */
    size_t n = 74;
    n += put_item(pdu + n, 0x10, "1.2.840.10008.3.1.1.1", 21);
    for (int c = 0; c < 2; c++) {
        memset(item, 0, 4);
        item[0] = (uint8_t)(1 + 2 * c);
        item[2] = (uint8_t)peer->scp->context_result[c];
        size_t used = 4 + put_item(item + 4, 0x40, syntaxes[c], strlen(syntaxes[c]));
        n += put_item(pdu + n, 0x21, item, used);
    }
    size_t used = put_item(sub, 0x51, "\0\0\x40\0", 4);
    used += put_item(sub + used, 0x52, "1.2.3", 5);
    n += put_item(pdu + n, 0x50, sub, used);
    put_big32(pdu + 2, n - 6);
    (void)write_all(peer->fd, pdu, n);
}

/* Value of a command element (Implicit VR Little Endian); NULL if absent. */
static const uint8_t *command_find(const Peer *peer, unsigned number, size_t *ret_length)
{
    for (size_t at = 0; at + 8 <= peer->command_bytes;) {
        const uint8_t *p = peer->command + at;
        size_t length = p[4] | (size_t)p[5] << 8;
        if ((unsigned)(p[2] | p[3] << 8) == number) {
            *ret_length = length;
            return p + 8;
        }
        at += 8 + length;
    }
    return NULL;
}

static size_t put_element(uint8_t *p, unsigned number, const void *value, size_t n)
{
    const uint8_t head[8] = {
        0, 0, (uint8_t)number, (uint8_t)(number >> 8), (uint8_t)n, (uint8_t)(n >> 8), 0, 0};
    memcpy(p, head, 8);
    memcpy(p + 8, value, n);
    return n + 8;
}

static void answer_message(Peer *peer, uint8_t context_id, uint16_t status)
{
    uint8_t pdu[1024] = {4};
    size_t at = 12, length;
    const uint8_t *field = command_find(peer, 0x100, &length);
    uint8_t response[2] = {field[0], 0x80}, no_data[2] = {1, 1};
    uint8_t code[2] = {(uint8_t)status, (uint8_t)(status >> 8)};
    at += put_element(pdu + at, 0, "\0\0\0\0", 4);
    size_t start = at;
    const uint8_t *value = command_find(peer, 0x02, &length);
    at += put_element(pdu + at, 0x02, value, length);
    at += put_element(pdu + at, 0x100, response, 2);
    value = command_find(peer, 0x110, &length);
    at += put_element(pdu + at, 0x120, value, length);
    at += put_element(pdu + at, 0x800, no_data, 2);
    at += put_element(pdu + at, 0x900, code, 2);
    value = command_find(peer, 0x1000, &length);
    if (value != NULL)
        at += put_element(pdu + at, 0x1000, value, length);
    pdu[20] = (uint8_t)(at - start), pdu[21] = (uint8_t)((at - start) >> 8);
    put_big32(pdu + 2, at - 6);
    put_big32(pdu + 6, at - 10);
    pdu[10] = context_id, pdu[11] = 3; /* command, last */
    (void)write_all(peer->fd, pdu, at);
}

/* A whole message has come. False: the association ends here. */
static bool answer(Peer *peer, uint8_t context_id)
{
    size_t length;
    const uint8_t *field = command_find(peer, 0x100, &length);
    bool is_echo = field != NULL && field[0] == 0x30;
    int image = is_echo ? -1 : peer->n_images++;
    if (is_echo) {
        peer->seen->n_echoes++;
    } else {
        peer->seen->n_images++;
        peer->seen->context_id = context_id;
        if (image < FAKE_MAX_IMAGES)
            peer->seen->data_bytes[image] = peer->data_bytes;
    }
    if (image == peer->scp->at_image) {
        static const uint8_t abort_pdu[10] = {7, 0, 0, 0, 0, 4};
        switch (peer->scp->mood) {
        case FAKE_ABORT_AT_IMAGE:
            (void)write_all(peer->fd, abort_pdu, sizeof abort_pdu);
            return false;
        case FAKE_CLOSE_AT_IMAGE:
            return false;
        case FAKE_SILENT_AT_IMAGE:
            for (;;)
                pause();
        default:
            break;
        }
    }
    answer_message(peer, context_id,
                   is_echo || image >= FAKE_MAX_IMAGES ? 0 : peer->scp->statuses[image]);
    peer->command_bytes = peer->data_bytes = 0;
    return true;
}

/* The fragments of one P-DATA-TF PDU. */
static bool take_data(Peer *peer, const uint8_t *pdu, uint32_t n)
{
    for (uint32_t at = 0; at + 6 <= n;) {
        uint32_t length = big32(pdu + at);
        uint8_t context_id = pdu[at + 4], control = pdu[at + 5];
        uint32_t bytes = length - 2;
        if (control & 1) {
            if (peer->command_bytes + bytes > COMMAND_MAX)
                return false;
            memcpy(peer->command + peer->command_bytes, pdu + at + 6, bytes);
            peer->command_bytes += bytes;
        } else {
            peer->data_bytes += bytes;
        }
        at += 4 + length;
        size_t type_length;
        const uint8_t *type = command_find(peer, 0x800, &type_length);
        bool has_data = type != NULL && !(type[0] == 1 && type[1] == 1);
        bool is_last = (control & 2) != 0 && ((control & 1) == 0 || !has_data);
        if (is_last && !answer(peer, context_id))
            return false;
    }
    return true;
}

static void serve(Peer *peer)
{
    static uint8_t pdu[PDU_MAX];
    static const uint8_t release[10] = {6, 0, 0, 0, 0, 4};
    uint8_t head[6];
    peer->command_bytes = peer->data_bytes = 0;
    while (read_all(peer->fd, head, 6)) {
        uint32_t n = big32(head + 2);
        if (n > PDU_MAX || !read_all(peer->fd, pdu, n))
            return;
        if (head[0] == 1) {
            const uint8_t *r = peer->scp->reject;
            const uint8_t reject[10] = {3, 0, 0, 0, 0, 4, 0, r[0], r[1], r[2]};
            peer->seen->n_associations++;
            if (peer->scp->mood == FAKE_REJECT)
                (void)write_all(peer->fd, reject, sizeof reject);
            while (peer->scp->mood == FAKE_SILENT)
                pause();
            if (peer->scp->mood == FAKE_REJECT || peer->scp->mood == FAKE_CLOSE_AT_REQUEST)
                return;
            answer_request(peer, pdu);
        } else if (head[0] == 4) {
            if (!take_data(peer, pdu, n))
                return;
        } else if (head[0] == 5) {
            peer->seen->n_releases++;
            if (peer->scp->mood != FAKE_NO_RELEASE_ANSWER)
                (void)write_all(peer->fd, release, sizeof release);
            return;
        } else {
            peer->seen->n_aborts += head[0] == 7;
            return;
        }
    }
}

static int listen_somewhere(int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(fd, 8) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *ret_fd = fd;
    return ntohs(address.sin_port);
}

int fake_scp_start(const FakeScp *scp, const FakeSeen **ret_seen)
{
    int listener, port = listen_somewhere(&listener);
    FakeSeen *seen =
        mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(seen != MAP_FAILED);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        Peer peer = {.scp = scp, .seen = seen};
        for (;;) {
            peer.fd = accept(listener, NULL, NULL);
            int one = 1;
            (void)setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            serve(&peer);
            (void)close(peer.fd);
        }
    }
    (void)close(listener);
    *ret_seen = seen;
    return port;
}

int free_port(void)
{
    int fd, port = listen_somewhere(&fd);
    (void)close(fd);
    return port;
}

int full_port(void)
{
    int fd, port = listen_somewhere(&fd);
    CHECK(listen(fd, 0) == 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    for (int i = 0; i < 8; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        CHECK(client >= 0);
        (void)connect(client, (struct sockaddr *)&address, sizeof address);
    }
    return port;
}

pid_t start_program(const char *const *argv)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char log[4300];
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)snprintf(log, sizeof log, "%s/%s.log", test_dir(), argv[0]);
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        (void)dup2(fd, 1);
        (void)dup2(fd, 2);
        (void)execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    return pid;
}
