/* Messages between processes of ours: one SOCK_SEQPACKET datagram each, with descriptors if need
** be. End of file means that the other process has ended. Thread: any, one per socket end. */
#ifndef CT2MR_BASE_MESSAGE_H
#define CT2MR_BASE_MESSAGE_H

#include "base/err.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MESSAGE_MAX = 4096, MESSAGE_MAX_FDS = 2 };

/* A connected pair, both close-on-exec and blocking. */
MUST_CHECK Status message_pair(int ret_fds[2], Err *err);
/* 1 sent, 0 the socket is full (non-blocking only), -1 the peer has gone. */
int message_send(int socket, const void *data, size_t size_bytes, const int *fds, int n_fds);
/* Bytes received (0 bytes are never sent), 0 at end of file or error, -1 nothing there now
** (non-blocking only). Descriptors arrive close-on-exec; with fds == NULL they are discarded. A
** datagram larger than size_bytes counts as an error. */
long message_receive(int socket, void *data, size_t size_bytes, int fds[MESSAGE_MAX_FDS],
                     int *ret_n_fds);
/* printf into one message; text longer than MESSAGE_MAX is cut. Same result as message_send. */
__attribute__((format(printf, 2, 3))) int message_print(int socket, const char *format, ...);

#ifdef __cplusplus
}
#endif
#endif
