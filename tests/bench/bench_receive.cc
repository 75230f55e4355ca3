// Rate of reception: ct2mr's receiver (durable before it answers) beside DCMTK's storescp +B (not
// durable, one process: associations queue) and the machine's own limit for making files durable.
//
//   build/release/tests/bench_receive build/release [repeats] [images] [associations]
//
// One sender process, n associations in n threads, raw sockets, TCP_NODELAY, PDUs as large as the
// receiver allows; `images` images of 512 x 512 int16 in total. The limit is write + fdatasync +
// rename + fsync of the folder for files of the same size by n threads, without any network. All in
// one run, interleaved; the table shows medians of `repeats`. No pass or fail: machines differ.
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "daemon/receiver.h"
#include "dicom/receive.h"
#include "tests/dicom_peer.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

constexpr int SIDE_PIXELS = 512;
int n_images = 340;

[[noreturn]] void fail(const char *what)
{
    (void)fprintf(stderr, "bench_receive: %s\n", what);
    exit(1);
}

int free_port()
{
    struct sockaddr_in address = {};
    socklen_t size = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, reinterpret_cast<struct sockaddr *>(&address), sizeof address) != 0 ||
        getsockname(fd, reinterpret_cast<struct sockaddr *>(&address), &size) != 0)
        fail("no free port");
    (void)close(fd);
    return ntohs(address.sin_port);
}

int count_files(const std::string &dir)
{
    int n = 0;
    DIR *d = opendir(dir.c_str());
    if (d == nullptr)
        return 0;
    while (const struct dirent *entry = readdir(d))
        n += entry->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

// ---- the machine's limit ----

void write_durably(int dir_fd, int thread, int n, const Bytes &image)
{
    for (int i = 0; i < n; i++) {
        std::string name = std::to_string(thread) + "-" + std::to_string(i), part = name + ".part";
        int fd = openat(dir_fd, part.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0640);
        if (fd < 0 || write(fd, image.data, image.size) != static_cast<ssize_t>(image.size) ||
            fdatasync(fd) != 0 || renameat(dir_fd, part.c_str(), dir_fd, name.c_str()) != 0 ||
            fsync(dir_fd) != 0)
            fail("writing failed");
        (void)close(fd);
    }
}

double measure_limit(const std::string &dir, int n, const Bytes &image)
{
    if (dir_make(dir.c_str(), nullptr) != ST_OK)
        fail("no folder");
    int dir_fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    std::vector<std::thread> threads;
    double start = clock_monotonic_s();
    for (int t = 0; t < n; t++)
        threads.emplace_back(write_durably, dir_fd, t, n_images / n, std::cref(image));
    for (std::thread &t : threads)
        t.join();
    double rate = n_images / n * n / (clock_monotonic_s() - start);
    (void)close(dir_fd);
    return rate;
}

// ---- the sender ----

std::atomic<int> n_accepted;

// Sends one image without copying it: a vector of PDU headers and slices of the data set.
bool send_image(Peer *peer, const char *uid, const Bytes &image)
{
    constexpr size_t HEADER_SIZE = 12, MAX_PDUS = 64;
    unsigned char headers[MAX_PDUS][HEADER_SIZE];
    struct iovec parts[1 + 2 * MAX_PDUS];
    Bytes command = {}, pdu = {};
    command_store_encode(PEER_CT, uid, ++peer->message_id, true, &command);
    pdata_encode(1, true, &command, peer->max_pdu_bytes, &pdu);
    parts[0] = {pdu.data, pdu.size};
    size_t n = 1, total = pdu.size, most = peer->max_pdu_bytes - 6;
    for (size_t at = 0; at < image.size && n < 2 * MAX_PDUS; n += 2) {
        size_t size = std::min(most, image.size - at), pdu_size = size + 6, pdv_size = size + 2;
        unsigned char *h = headers[n / 2];
        const unsigned char header[HEADER_SIZE] = {
            PDU_DATA,
            0,
            static_cast<unsigned char>(pdu_size >> 24),
            static_cast<unsigned char>(pdu_size >> 16),
            static_cast<unsigned char>(pdu_size >> 8),
            static_cast<unsigned char>(pdu_size),
            static_cast<unsigned char>(pdv_size >> 24),
            static_cast<unsigned char>(pdv_size >> 16),
            static_cast<unsigned char>(pdv_size >> 8),
            static_cast<unsigned char>(pdv_size),
            1,
            static_cast<unsigned char>(at + size == image.size ? 2 : 0)};
        memcpy(h, header, HEADER_SIZE);
        parts[n] = {h, HEADER_SIZE};
        parts[n + 1] = {image.data + at, size};
        at += size;
        total += size + HEADER_SIZE;
    }
    struct msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = n;
    bool sent = sendmsg(peer->fd, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(total);
    bytes_free(&command);
    bytes_free(&pdu);
    return sent && peer_read_status(peer) == 0;
}

void send_images(int port, int thread, int n, Bytes image, size_t uid_at)
{
    Peer peer;
    PeerRequest request = peer_request_usual();
    Bytes copy = {};
    bytes_add(&copy, image.data, image.size);
    if (peer_open(port, &request, &peer) == PDU_ASSOCIATE_AC) {
        for (int i = 0; i < n; i++) {
            char uid[32]; // as long as the one it replaces
            (void)snprintf(uid, sizeof uid, "1.2.3.4.%06d", 1 + 1000 * (thread + 1) + i);
            memcpy(copy.data + uid_at, uid, strlen(uid));
            n_accepted += send_image(&peer, uid, copy);
        }
        (void)peer_release(&peer);
    }
    bytes_free(&copy);
}

double measure_sending(int port, int n, const Bytes &image, size_t uid_at)
{
    n_accepted = 0;
    std::vector<std::thread> threads;
    double start = clock_monotonic_s();
    for (int t = 0; t < n; t++)
        threads.emplace_back(send_images, port, t, n_images / n, image, uid_at);
    for (std::thread &t : threads)
        t.join();
    double seconds = clock_monotonic_s() - start;
    if (n_accepted != n_images / n * n)
        fail("not all images were accepted");
    return n_accepted / seconds;
}

void wait_for_port(int port)
{
    for (int i = 0; i < 500; i++) {
        int fd = peer_connect(port);
        if (fd >= 0) {
            (void)close(fd);
            (void)usleep(300000); // the receiver is done with that connection
            return;
        }
        (void)usleep(10000);
    }
    fail("receiver does not listen");
}

double milliseconds(const struct timeval &t)
{
    return 1e3 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_usec);
}

// Returns the processor time that the receiver and all its children used, in ms.
double stop(pid_t pid)
{
    int status;
    struct rusage use;
    (void)kill(pid, SIGTERM);
    (void)wait4(pid, &status, 0, &use);
    return milliseconds(use.ru_utime) + milliseconds(use.ru_stime);
}

struct Result {
    double rate, cpu_ms; // images/s, of the receiver per image
};

// ---- the two receivers ----

uint16_t stored(void *, const AssociationInfo *, const Instance *)
{
    return 0;
}
void refused(void *, const AssociationInfo *, Status, uint16_t, const char *) {}
void turned_away(void *, const char *) {}
void lost(void *) {}
void ended(void *, const AssociationInfo *, bool) {}

[[noreturn]] void run_receiver(const std::string &spool, int port)
{
    static Config config;
    log_set_level(LOG_LEVEL_ERROR);
    (void)snprintf(config.spool_path, sizeof config.spool_path, "%s", spool.c_str());
    (void)snprintf(config.listen_address, sizeof config.listen_address, "127.0.0.1");
    (void)snprintf(config.listen_ae_title, sizeof config.listen_ae_title, "CT2MR");
    config.listen_port = port;
    config.max_associations = 32;
    config.association_timeout_s = 5;
    config.idle_timeout_s = 30;
    config.max_object_mib = 64;
    ReceiverCallbacks callbacks = {nullptr, stored, refused, turned_away, lost, ended};
    Receiver *receiver;
    Err err = {};
    uv_loop_t *loop = uv_default_loop();
    if (receiver_start(loop, &config, &callbacks, &receiver, &err) != ST_OK)
        fail(err.msg);
    uv_signal_t terminate;
    (void)uv_signal_init(loop, &terminate);
    terminate.data = receiver;
    (void)uv_signal_start_oneshot(
        &terminate,
        [](uv_signal_t *handle, int) {
            receiver_stop(static_cast<Receiver *>(handle->data), 1000, nullptr, nullptr);
            uv_close(reinterpret_cast<uv_handle_t *>(handle), nullptr);
        },
        SIGTERM);
    (void)uv_run(loop, UV_RUN_DEFAULT);
    _exit(0);
}

Result measure_ct2mr(const std::string &dir, int n, const Bytes &image, size_t uid_at)
{
    int port = free_port();
    pid_t pid = fork();
    if (pid == 0)
        run_receiver(dir, port);
    wait_for_port(port);
    double rate = measure_sending(port, n, image, uid_at);
    if (count_files(dir + "/incoming") != n_images / n * n)
        fail("ct2mr lost an image");
    double cpu_ms = stop(pid);
    return {rate, cpu_ms / n_images};
}

Result measure_storescp(const std::string &dir, int n, const Bytes &image, size_t uid_at)
{
    int port = free_port();
    if (dir_make(dir.c_str(), nullptr) != ST_OK)
        fail("no folder");
    pid_t pid = fork();
    if (pid == 0) {
        (void)setenv("TCP_NODELAY", "1", 1);
        (void)execlp("storescp", "storescp", "-q", "+B", "-pdu", "131072", "-od", dir.c_str(),
                     std::to_string(port).c_str(), nullptr);
        _exit(127);
    }
    wait_for_port(port);
    double rate = measure_sending(port, n, image, uid_at);
    if (count_files(dir) != n_images / n * n)
        fail("storescp lost an image");
    double cpu_ms = stop(pid);
    return {rate, cpu_ms / n_images};
}

// Asks ext4 to spread the folders below over the disk: it would otherwise go one by one through the
// inodes that an earlier run deleted less than a minute ago, for each new file.
void make_spread_dir(const std::string &dir)
{
    if (dir_make(dir.c_str(), nullptr) != ST_OK)
        fail("no folder");
    int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_TOPDIR_FL;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    (void)close(fd);
}

double median(std::vector<double> v)
{
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

Result median(const std::vector<Result> &results)
{
    std::vector<double> rates, cpu_ms;
    for (const Result &r : results) {
        rates.push_back(r.rate);
        cpu_ms.push_back(r.cpu_ms);
    }
    return {median(rates), median(cpu_ms)};
}

void print_row(int n, const Result &ours, const Result &theirs, double limit)
{
    (void)printf("%12d %9.0f %12.0f %7.0f %11.0f%% %13.0f%% %14.2f %10.2f\n", n, ours.rate,
                 theirs.rate, limit, 100 * ours.rate / limit, 100 * ours.rate / theirs.rate,
                 ours.cpu_ms, theirs.cpu_ms);
    (void)fflush(stdout);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--zygote") == 0)
        return receive_zygote(3);
    if (argc < 2)
        fail("usage: bench_receive BUILD_DIR [repeats] [images] [associations]");
    int repeats = argc > 2 ? atoi(argv[2]) : 3;
    if (argc > 3)
        n_images = atoi(argv[3]);
    std::vector<int> associations = {1, 4, 16};
    if (argc > 4)
        associations = {atoi(argv[4])};
    char self[PATH_SIZE] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        fail("no /proc");
    (void)setenv("CT2MR_PROGRAM", self, 1);
    (void)signal(SIGPIPE, SIG_IGN);
    std::string dir = std::string(argv[1]) + "/bench_receive." + std::to_string(getpid());

    make_spread_dir(dir);
    DataSet slice;
    Bytes image = {};
    data_set_ct(&slice, SIDE_PIXELS, SIDE_PIXELS, 0);
    data_set_encode(&slice, false, &image);
    static const char marker[] = "1.2.3.4.000001";
    const unsigned char *found =
        std::search(image.data, image.data + image.size, marker, marker + sizeof marker - 1);
    size_t uid_at = static_cast<size_t>(found - image.data);

    (void)printf("%d images of %zu bytes, medians of %d, images/s\n", n_images, image.size,
                 repeats);
    (void)printf("%12s %9s %12s %7s %12s %14s %14s %10s\n", "associations", "ct2mr", "storescp +B",
                 "limit", "ct2mr/limit", "ct2mr/storescp", "ct2mr cpu ms", "storescp");
    for (int n : associations) {
        std::vector<double> limit;
        std::vector<Result> ours, theirs;
        for (int r = 0; r < repeats; r++) {
            // Nothing is removed meanwhile: ext4 skips inodes deleted less than 5 s ago one by one.
            // What one left in the page cache is written before the next begins.
            std::string run = dir + "/" + std::to_string(n) + "." + std::to_string(r);
            limit.push_back(measure_limit(run + "l", n, image));
            sync();
            ours.push_back(measure_ct2mr(run + "c", n, image, uid_at));
            sync();
            theirs.push_back(measure_storescp(run + "s", n, image, uid_at));
            sync();
        }
        print_row(n, median(ours), median(theirs), median(limit));
    }
    (void)dir_remove(dir.c_str(), nullptr);
    bytes_free(&image);
    data_set_free(&slice);
    return 0;
}
