/* The send child: one delivery attempt to one destination. See roles.h. */
#include "daemon/roles.h"

#include "base/message.h"
#include "pipeline/job_file.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static void report(const RoleReport *r)
{
    if (message_send(ROLE_CHANNEL_FD, r, sizeof *r, NULL, 0) < 0)
        _exit(1); /* the daemon has gone: what was sent is sent again, with the same UIDs */
}

static bool image_answered(void *context, int32_t index, uint16_t dimse_status, Status status)
{
    (void)context;
    RoleReport r = {.type = ROLE_IMAGE,
                    .status = (int32_t)status,
                    .index = index,
                    .dimse_status = dimse_status};
    report(&r);
    return true;
}

int role_sender(const char *send_file)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NAME, "ct2mr-sender");
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    Err err = {0};
    Destination destination;
    PathList images;
    Status status = send_file_read(send_file, &destination, &images, &err);
    if (status == ST_OK) {
        status = dicom_send(&destination, (const char *const *)images.items, images.n,
                            image_answered, NULL, &err);
        path_list_free(&images);
    }
    RoleReport r = {.type = ROLE_END, .status = (int32_t)status};
    (void)snprintf(r.text, sizeof r.text, "%s", err.msg);
    report(&r);
    return 0;
}
