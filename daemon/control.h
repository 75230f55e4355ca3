/* The control socket: one JSON object per line, request and reply, on a Unix stream socket.
**
** Request {"verb": "status" | "ready" | "cancel" | "retry" | "hold" | "release", "job": ID}.
** Reply   {"ok": true, ...} or {"ok": false, "code": "STATE", "number": 111, "message": "..."}.
** The socket file is mode 0660; a stale one is replaced, a live one is an error.
** Thread: the daemon's loop (server), any (client). */
#ifndef CT2MR_DAEMON_CONTROL_H
#define CT2MR_DAEMON_CONTROL_H

#include "base/err.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <uv.h>

typedef struct Control Control;

/* Fills reply (an object) and returns ST_OK, or fails with err set. */
typedef Status (*ControlHandler)(void *context, const char *verb, int64_t job_id, cJSON *reply,
                                 Err *err);

/* Errors: DAEMON_RUNS (another daemon answers there), IO. */
MUST_CHECK Status control_start(uv_loop_t *loop, const char *socket_path, ControlHandler handler,
                                void *context, Control **ret, Err *err);
void control_stop(Control *control); /* NULL is fine; removes the socket file */

/* Client: sends one request and waits at most timeout_ms. *ret_reply is the reply on success (the
** caller deletes). Errors: UNREACHABLE, TIMEOUT, and whatever status the reply carries. */
MUST_CHECK Status control_request(const char *socket_path, const char *verb, int64_t job_id,
                                  int timeout_ms, cJSON **ret_reply, Err *err);

#endif
