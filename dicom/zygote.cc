// The zygote (receive.h): DCMTK is initialised once, then a child is forked for each connection.
//
// One thread. Waits for control messages and for ended children; a child is killed only here, where
// it is also reaped, so a process id cannot have been reused. Dies with the daemon (end of file on
// the control socket) and takes its children with it (PR_SET_PDEATHSIG). No libuv loop may exist in
// this process: the children would inherit its descriptors.
#include "dicom/receive.h"
#include "dicom/scp.hh"

#include "base/digest.h"
#include "base/files.h"
#include "base/message.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

enum { MAX_CHILDREN = 1024 };

struct Child {
    uint64_t connection_id;
    pid_t pid; // 0: free
};

struct Zygote {
    int control_fd, signal_fd;
    int tmp_dir_fd, incoming_dir_fd;
    pid_t pid;
    sigset_t signals_before;
    T_ASC_Network *network;
    ReceiveOptions options;
    Child children[MAX_CHILDREN];
};

void tell(const Zygote &zygote, ReceiveControlType type, uint64_t connection_id, pid_t pid,
          int wait_status)
{
    ReceiveControl control;
    memset(&control, 0, sizeof control);
    control.type = type;
    control.connection_id = connection_id;
    control.pid = pid;
    control.wait_status = wait_status;
    (void)message_send(zygote.control_fd, &control, sizeof control, nullptr, 0);
}

Child *find_child(Zygote &zygote, pid_t pid)
{
    for (Child &child : zygote.children)
        if (child.pid == pid)
            return &child;
    return nullptr;
}

void reap(Zygote &zygote, int flags)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, flags)) > 0) {
        Child *child = find_child(zygote, pid);
        if (child == nullptr)
            continue;
        child->pid = 0;
        tell(zygote, RECEIVE_EXITED, child->connection_id, pid, status);
    }
}

void kill_children(Zygote &zygote)
{
    for (const Child &child : zygote.children)
        if (child.pid > 0)
            (void)kill(child.pid, SIGKILL);
}

int open_dir(const char *spool, const char *name)
{
    char path[PATH_SIZE];
    if (path_format(path, nullptr, "%s/%s", spool, name) != ST_OK)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// The first options initialise DCMTK; later ones hold for new children.
bool take_options(Zygote &zygote, const ReceiveOptions &options)
{
    zygote.options = options;
    if (zygote.network != nullptr)
        return true;
    zygote.tmp_dir_fd = open_dir(options.spool, "tmp");
    zygote.incoming_dir_fd = open_dir(options.spool, "incoming");
    if (zygote.tmp_dir_fd < 0 || zygote.incoming_dir_fd < 0)
        return false;
    // libcrypto reads its configuration at first use: not in a confined child.
    char hex[DIGEST_HEX_SIZE];
    digest_text("", hex);
    zygote.network = scp_initialise(options);
    if (zygote.network == nullptr)
        return false;
    tell(zygote, RECEIVE_READY, 0, zygote.pid, 0);
    return true;
}

[[noreturn]] void run_child(Zygote &zygote, uint64_t connection_id, const int fds[2])
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != zygote.pid) // it died before the line above
        _exit(5);
    (void)close(zygote.control_fd);
    (void)close(zygote.signal_fd);
    (void)sigprocmask(SIG_SETMASK, &zygote.signals_before, nullptr);
    (void)prctl(PR_SET_NAME, "ct2mr-receive");
    AssociationJob job = {fds[0],        fds[1],         zygote.tmp_dir_fd, zygote.incoming_dir_fd,
                          connection_id, &zygote.options};
    _exit(scp_run_association(zygote.network, job)); // not exit(): no destructors of static objects
}

void spawn(Zygote &zygote, uint64_t connection_id, const int fds[2])
{
    Child *slot = find_child(zygote, 0);
    pid_t pid = slot == nullptr || zygote.network == nullptr ? -1 : fork();
    if (pid == 0)
        run_child(zygote, connection_id, fds);
    if (pid > 0) {
        *slot = {connection_id, pid};
        tell(zygote, RECEIVE_SPAWNED, connection_id, pid, 0);
    } else {
        tell(zygote, RECEIVE_EXITED, connection_id, -1, 0);
    }
}

// False at the end of file of the control socket, or when the zygote cannot work.
bool handle_control(Zygote &zygote)
{
    unsigned char message[MESSAGE_MAX];
    int fds[MESSAGE_MAX_FDS], n_fds = 0;
    long n = message_receive(zygote.control_fd, message, sizeof message, fds, &n_fds);
    ReceiveControl control;
    bool ok = n >= static_cast<long>(sizeof control);
    if (ok)
        memcpy(&control, message, sizeof control);
    if (ok && control.type == RECEIVE_OPTIONS) {
        ReceiveOptions options;
        ok = n == static_cast<long>(sizeof control + sizeof options);
        if (ok) {
            memcpy(&options, message + sizeof control, sizeof options);
            ok = take_options(zygote, options);
        }
    } else if (ok && control.type == RECEIVE_SPAWN && n_fds == 2) {
        spawn(zygote, control.connection_id, fds);
    } else if (ok && control.type == RECEIVE_KILL) {
        for (const Child &child : zygote.children)
            if (child.pid > 0 && child.connection_id == control.connection_id)
                (void)kill(child.pid, SIGKILL);
    }
    for (int i = 0; i < n_fds; i++) // before the next fork: no child has another's sockets
        (void)close(fds[i]);
    return ok;
}

} // namespace

int receive_zygote(int control_fd)
{
    static_assert(sizeof(ReceiveControl) + sizeof(ReceiveOptions) <= MESSAGE_MAX, "one message");
    static_assert(sizeof(ReceiveReport) <= MESSAGE_MAX, "one message");
    (void)fcntl(control_fd, F_SETFD, FD_CLOEXEC);
    (void)syscall(SYS_close_range, control_fd + 1, ~0U, 0U); // whatever else was inherited
    (void)prctl(PR_SET_NAME, "ct2mr-zygote");
    (void)umask(0027);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); // a terminal's ^C is the daemon's to handle

    static Zygote zygote;
    zygote.control_fd = control_fd;
    zygote.pid = getpid();
    sigset_t child_signal;
    (void)sigemptyset(&child_signal);
    (void)sigaddset(&child_signal, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &child_signal, &zygote.signals_before);
    zygote.signal_fd = signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK);
    if (zygote.signal_fd < 0)
        return 1;

    for (;;) {
        struct pollfd fds[2] = {{control_fd, POLLIN, 0}, {zygote.signal_fd, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents != 0) {
            struct signalfd_siginfo info;
            while (read(zygote.signal_fd, &info, sizeof info) > 0)
                continue;
            reap(zygote, WNOHANG);
        }
        if (fds[0].revents != 0 && !handle_control(zygote))
            break;
    }
    kill_children(zygote);
    reap(zygote, 0);
    return zygote.network != nullptr ? 0 : 1;
}
