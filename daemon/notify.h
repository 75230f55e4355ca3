/* sd_notify(3) without libsystemd: datagrams to $NOTIFY_SOCKET. Without that variable every call
** does nothing and succeeds. Thread: any. */
#ifndef CT2MR_DAEMON_NOTIFY_H
#define CT2MR_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Each returns false only if there is a socket and the datagram could not be sent. A full queue is
** waited for at most one second. */
bool notify_ready(void);     /* READY=1: after the start and after a reload */
bool notify_reloading(void); /* RELOADING=1 with the monotonic time; notify_ready() must follow */
bool notify_stopping(void);  /* STOPPING=1 */
bool notify_watchdog(void);  /* WATCHDOG=1 */
/* STATUS=: one line for `systemctl status`; control characters become blanks. */
__attribute__((format(printf, 1, 2))) bool notify_status(const char *format, ...);

/* How often notify_watchdog() is due: half of $WATCHDOG_USEC; 0 if there is no watchdog, it is
** meant for another process ($WATCHDOG_PID), or the variable is not a number. */
int64_t notify_watchdog_interval_ms(void);

#endif
