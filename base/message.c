/* See message.h. */
#include "base/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef union Control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(MESSAGE_MAX_FDS * sizeof(int))];
} Control;

Status message_pair(int ret_fds[2], Err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) != 0)
        return err_sys(err, errno, "socketpair");
    return ST_OK;
}

int message_send(int socket, const void *data, size_t size_bytes, const int *fds, int n_fds)
{
    ASSERT(size_bytes > 0 && n_fds >= 0 && n_fds <= MESSAGE_MAX_FDS);
    struct iovec iov = {(void *)data, size_bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    Control control;
    memset(&control, 0, sizeof control);
    if (n_fds > 0) {
        size_t fds_bytes = (size_t)n_fds * sizeof(int);
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(fds_bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds_bytes);
        memcpy(CMSG_DATA(header), fds, fds_bytes);
    }
    ssize_t n;
    do
        n = sendmsg(socket, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)size_bytes)
        return 1;
    return n < 0 && (errno == EAGAIN || errno == ETOOMANYREFS) ? 0 : -1;
}

static int take_fds(struct msghdr *msg, int fds[MESSAGE_MAX_FDS])
{
    int count = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h != NULL; h = CMSG_NXTHDR(msg, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(h), (size_t)count * sizeof(int));
    }
    return count;
}

long message_receive(int socket, void *data, size_t size_bytes, int fds[MESSAGE_MAX_FDS],
                     int *ret_n_fds)
{
    struct iovec iov = {data, size_bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    Control control;
    if (fds != NULL) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        *ret_n_fds = 0;
    }
    ssize_t n;
    do
        n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? -1 : 0;
    if (fds != NULL)
        *ret_n_fds = take_fds(&msg, fds);
    return (msg.msg_flags & MSG_TRUNC) != 0 ? 0 : (long)n;
}

int message_print(int socket, const char *format, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 1)
        return -1;
    size_t size = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return message_send(socket, text, size, NULL, 0);
}
