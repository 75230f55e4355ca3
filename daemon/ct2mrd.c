/* ct2mrd: the daemon. `ct2mrd -c FILE`. See node.h for what it does. */
#include "base/log.h"
#include "daemon/node.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>

static int usage(FILE *out, int exit_status)
{
    (void)fprintf(out, "usage: ct2mrd [-c FILE] | --version | --help\n"
                       "The DICOM node: receives CT series, makes synthetic MR, sends it.\n"
                       "  -c FILE   configuration (default /etc/ct2mr/ct2mr.yaml)\n"
                       "SIGHUP reloads the configuration, SIGTERM stops.\n");
    return exit_status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *config = "/etc/ct2mr/ct2mr.yaml";
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (c == 'c')
            config = optarg;
        else if (c == 'V')
            return printf("ct2mrd %s\n", CT2MR_VERSION) < 0;
        else
            return usage(c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
    }
    if (optind != argc)
        return usage(stderr, 2);
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    Err err = {0};
    if (node_run(config, &err) != ST_OK) {
        log_event(LOG_LEVEL_ERROR, "daemon.failed", "code=%s number=%d %s", status_name(err.status),
                  (int)err.status, err.msg);
        (void)fprintf(stderr, "ct2mrd: %s: %s\n  what to do: %s\n", status_name(err.status),
                      err.msg, status_remedy(err.status));
        bool for_a_person = (err.status >= ST_CONFIG_SYNTAX && err.status <= ST_CONFIG_FILE) ||
                            err.status == ST_DB_SCHEMA;
        return for_a_person ? EX_CONFIG : 1; /* systemd does not restart after EX_CONFIG */
    }
    return 0;
}
