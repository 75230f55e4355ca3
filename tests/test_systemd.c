/* The unit file: claim: systemd takes it without complaint and it keeps the hardening that the
** project decided on. Method: systemd-analyze verify on the file as installed; a list of lines. */
#include "tests/test.h"

#include "base/files.h"

#include <sys/stat.h>
#include <unistd.h>

static char *unit_text(void)
{
    char *text;
    size_t size;
    Err err = {0};
    Status status = file_read("systemd/ct2mrd.service", 1 << 16, &text, &size, &err);
    if (status == ST_NOT_FOUND)
        SKIP("not started from the top of the source tree");
    CHECK_OK(status, &err);
    return text;
}

TEST(systemd_unit_verifies, "systemd-analyze verify has nothing to say")
{
    char *text = unit_text(), path[PATH_SIZE], prefix[PATH_SIZE], command[PATH_SIZE + 64];
    if (system("command -v systemd-analyze >/dev/null 2>&1") != 0)
        SKIP("no systemd-analyze here");
    CHECK(path_format(prefix, NULL, "%s/bin", test_dir()) == ST_OK && mkdir(prefix, 0755) == 0);
    CHECK(path_format(path, NULL, "%s/bin/ct2mrd", test_dir()) == ST_OK);
    CHECK(symlink("/bin/true", path) == 0);
    CHECK(path_format(path, NULL, "%s/ct2mrd.service", test_dir()) == ST_OK);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    int n = 0;
    for (char *at = text, *next; at != NULL; at = next) { /* as `make install` does */
        next = strstr(at, "@PREFIX@");
        if (next != NULL) {
            (void)fprintf(f, "%.*s%s", (int)(next - at), at, test_dir());
            next += strlen("@PREFIX@");
            n++;
        } else {
            (void)fputs(at, f);
        }
    }
    CHECK(n >= 1 && fclose(f) == 0);
    (void)snprintf(command, sizeof command, "systemd-analyze --man=no verify %s 2>&1", path);
    FILE *p = popen(command, "r");
    char output[4096] = "";
    CHECK(p != NULL);
    size_t size = fread(output, 1, sizeof output - 1, p);
    output[size] = '\0';
    int status = pclose(p);
    if (status != 0 || size != 0)
        test_fail(__FILE__, __LINE__, "status %d: %s", status, output);
    free(text);
}

TEST(systemd_unit_is_hardened, "every line of the checklist stands in the unit")
{
    static const char *const lines[] = {"Type=notify",
                                        "WatchdogSec=60",
                                        "ExecReload=/bin/kill -HUP $MAINPID",
                                        "Restart=on-failure",
                                        "User=ct2mr",
                                        "StateDirectory=ct2mr",
                                        "RuntimeDirectory=ct2mr",
                                        "ConfigurationDirectory=ct2mr",
                                        "UMask=0027",
                                        "LimitCORE=0",
                                        "OOMPolicy=continue",
                                        "NoNewPrivileges=yes",
                                        "CapabilityBoundingSet=",
                                        "ProtectSystem=strict",
                                        "ProtectHome=yes",
                                        "PrivateTmp=yes",
                                        "PrivateDevices=yes",
                                        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
                                        "RestrictNamespaces=yes",
                                        "SystemCallArchitectures=native",
                                        "SystemCallFilter=@system-service"};
    char *text = unit_text();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char want[128];
        (void)snprintf(want, sizeof want, "\n%s\n", lines[i]);
        if (strstr(text, want) == NULL)
            test_fail(__FILE__, __LINE__, "missing: %s", lines[i]);
    }
    CHECK(strstr(text, "\nMemoryDenyWriteExecute=") == NULL); /* would stop oneDNN */
    free(text);
}
