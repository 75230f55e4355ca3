/* Configuration: claim: what is written is what is set, and every wrong line is refused with its
** place. Method: files written into the test's folder, expectations on status and on the literal
** "LINE:COLUMN: KEY" of the message; the option table is walked so that a new option is tested the
** day it is added. */
#include "tests/test.h"

#include "base/clock.h"
#include "base/files.h"
#include "daemon/config_options.h"

#include <errno.h>

static char path[PATH_SIZE];

static const char *write_file(const char *data, size_t size_bytes)
{
    Err err = {0};
    CHECK_OK(path_format(path, &err, "%s/c.yaml", test_dir()), &err);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL && fwrite(data, 1, size_bytes, f) == size_bytes && fclose(f) == 0);
    return path;
}

static Status load(const char *text, Config *ret, Err *err)
{
    *err = (Err){0};
    return config_load(write_file(text, strlen(text)), ret, err);
}

/* Loading fails with `status`; the message holds `place` ("3:9: listen.port") after the path. */
static void refuses(const char *text, Status status, const char *place)
{
    Config config, before;
    Err err;
    memset(&config, 0x5a, sizeof config);
    before = config;
    Status got = load(text, &config, &err);
    char want[PATH_SIZE];
    CHECK_OK(path_format(want, NULL, "%s:%s", path, place), &err);
    if (got != status || strncmp(err.msg, want, strlen(want)) != 0)
        test_fail(__FILE__, __LINE__, "<<%.200s>>: %s \"%s\", expected %s at \"%s\"", text,
                  status_name(got), err.msg, status_name(status), place);
    CHECK(memcmp(&config, &before, sizeof config) == 0);
    CHECK_INT(err.status, status);
}

static void accepts(const char *text, Config *ret)
{
    Err err;
    Status got = load(text, ret, &err);
    if (got != ST_OK)
        test_fail(__FILE__, __LINE__, "<<%.200s>>: %s %s", text, status_name(got), err.msg);
}

/* "section:\n  name: VALUE\n" */
static const char *yaml_of(const Option *option, const char *value)
{
    static char text[4096];
    size_t n = config_option_section_length(option);
    (void)snprintf(text, sizeof text, "%.*s:\n  %s: %s\n", (int)n, option->key, option->key + n + 1,
                   value);
    return text;
}

static const char *place_of(const Option *option)
{
    static char text[128];
    size_t name = strlen(option->key) - config_option_section_length(option) - 1;
    (void)snprintf(text, sizeof text, "2:%zu: %s: ", 2 + name + 3, option->key);
    return text;
}

static void *field_of(const Option *option, Config *config)
{
    return (char *)config + option->offset;
}

TEST(config_integers_have_limits, "each integer: default, min, max set; min-1, max+1 refused")
{
    const Option *option;
    int n = 0;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        if (option->kind != OPTION_INT)
            continue;
        n++;
        Config config;
        char value[32];
        CHECK(option->min <= option->default_int && option->default_int <= option->max);
        config_defaults(&config);
        CHECK_INT(*(int32_t *)field_of(option, &config), option->default_int);
        (void)snprintf(value, sizeof value, "%lld", (long long)option->min - 1);
        refuses(yaml_of(option, value), ST_CONFIG_RANGE, place_of(option));
        (void)snprintf(value, sizeof value, "%lld", (long long)option->max + 1);
        refuses(yaml_of(option, value), ST_CONFIG_RANGE, place_of(option));
        static const char *const wrong[] = {"x",   "1.5", "\"5\"", "0x10", "010", "+7", "1e3",
                                            "5 6", "",    "~",     "true", "1_0", "-0"};
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++)
            if (wrong[k][0] != '\0') /* nothing at all: its place is the line's end, see below */
                refuses(yaml_of(option, wrong[k]), ST_CONFIG_TYPE, place_of(option));
        refuses(yaml_of(option, "99999999999999999999999"), ST_CONFIG_RANGE, place_of(option));
        refuses(yaml_of(option, "[1]"), ST_CONFIG_TYPE, place_of(option));
        refuses(yaml_of(option, "{a: 1}"), ST_CONFIG_TYPE, place_of(option));
    }
    CHECK(n > 20);
}

/* min and max of the options that are ordered in pairs cannot stand alone. */
static const char *partner_of(const Option *option, bool at_max)
{
    const char *key = option->key;
    if (at_max && strcmp(key, "series.quiet_s") == 0)
        return "  max_quiet_s: 3600\n";
    if (!at_max && strcmp(key, "series.max_quiet_s") == 0)
        return "  quiet_s: 1\n";
    if (!at_max && strcmp(key, "send.retry_max_s") == 0)
        return "  retry_first_s: 1\n";
    if (at_max && strcmp(key, "send.retry_first_s") == 0)
        return "  retry_max_s: 86400\n";
    return "";
}

TEST(config_takes_both_ends, "min and max of each integer are stored; both booleans; each choice")
{
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        Config config;
        char text[8192], value[64];
        for (int end = 0; end < 2 && option->kind == OPTION_INT; end++) {
            int32_t want = end ? option->max : option->min;
            (void)snprintf(value, sizeof value, "%d", want);
            (void)snprintf(text, sizeof text, "%s%s", yaml_of(option, value),
                           partner_of(option, end));
            accepts(text, &config);
            CHECK_INT(*(int32_t *)field_of(option, &config), want);
        }
        if (option->kind == OPTION_BOOL) {
            accepts(yaml_of(option, "true"), &config);
            CHECK(*(bool *)field_of(option, &config));
            accepts(yaml_of(option, "false"), &config);
            CHECK(!*(bool *)field_of(option, &config));
            refuses(yaml_of(option, "yes"), ST_CONFIG_TYPE, place_of(option));
            refuses(yaml_of(option, "1"), ST_CONFIG_TYPE, place_of(option));
            refuses(yaml_of(option, "\"true\""), ST_CONFIG_TYPE, place_of(option));
            refuses(yaml_of(option, "[true]"), ST_CONFIG_TYPE, place_of(option));
        }
        if (option->kind == OPTION_ENUM) {
            char values[128], *save = NULL;
            (void)snprintf(values, sizeof values, "%s", option->values);
            for (char *v = strtok_r(values, "|", &save); v; v = strtok_r(NULL, "|", &save)) {
                accepts(yaml_of(option, v), &config);
                CHECK_STR((char *)field_of(option, &config), v);
            }
            refuses(yaml_of(option, "other"), ST_CONFIG_RANGE, place_of(option));
            refuses(yaml_of(option, option->values), ST_CONFIG_RANGE, place_of(option));
            refuses(yaml_of(option, "~"), ST_CONFIG_TYPE, place_of(option));
            refuses(yaml_of(option, "[]"), ST_CONFIG_TYPE, place_of(option));
        }
    }
}

TEST(config_strings_have_limits, "each text: longest kept, one more, empty, control, list refused")
{
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        if (option->kind != OPTION_STRING)
            continue;
        Config config;
        char value[2048];
        config_defaults(&config);
        CHECK_STR((char *)field_of(option, &config), option->default_text);
        bool is_address = strcmp(option->key, "listen.address") == 0;
        memset(value, 'a', sizeof value);
        value[option->size_bytes - 1] = '\0';
        if (!is_address) {
            accepts(yaml_of(option, value), &config);
            CHECK_STR((char *)field_of(option, &config), value);
        }
        value[option->size_bytes - 1] = 'a';
        value[option->size_bytes] = '\0';
        refuses(yaml_of(option, value), ST_CONFIG_RANGE, place_of(option));
        refuses(yaml_of(option, "\"\""), ST_CONFIG_RANGE, place_of(option));
        refuses(yaml_of(option, "\"a\\nb\""), ST_CONFIG_RANGE, place_of(option));
        refuses(yaml_of(option, "\"a\\0b\""), ST_CONFIG_TYPE, place_of(option));
        refuses(yaml_of(option, "~"), ST_CONFIG_TYPE, place_of(option));
        refuses(yaml_of(option, "[a]"), ST_CONFIG_TYPE, place_of(option));
        refuses(yaml_of(option, "{a: b}"), ST_CONFIG_TYPE, place_of(option));
    }
}

TEST(config_lists_are_bounded, "64 items of 63 bytes; more, longer, nested or missing is refused")
{
    Config config;
    accepts("listen:\n  calling_ae: [CT1, 'CT 2']\n  allow:\n    - 10.0.0.1\n    - 10.1.0.0/16\n"
            "    - ::1\n    - fe80::/10\n",
            &config);
    CHECK_INT(config.calling_ae.n, 2);
    CHECK_STR(config.calling_ae.items[1], "CT 2");
    CHECK_INT(config.allow.n, 4);
    CHECK_STR(config.allow.items[3], "fe80::/10");
    char text[4096] = "listen:\n  calling_ae: [";
    for (int i = 0; i < CONFIG_MAX_LIST; i++)
        (void)snprintf(text + strlen(text), 16, "%sA%d", i ? "," : "", i);
    strcat(text, "]\n");
    accepts(text, &config);
    CHECK_INT(config.calling_ae.n, CONFIG_MAX_LIST);
    CHECK_STR(config.calling_ae.items[63], "A63");
    text[strlen(text) - 2] = '\0';
    strcat(text, ",B]\n");
    refuses(text, ST_CONFIG_RANGE, "2:262: listen.calling_ae: ");
    refuses("listen:\n  calling_ae: CT1\n", ST_CONFIG_TYPE, "2:15: listen.calling_ae: ");
    refuses("listen:\n  calling_ae: ~\n", ST_CONFIG_TYPE, "2:15: listen.calling_ae: ");
    refuses("listen:\n  calling_ae: [[A]]\n", ST_CONFIG_TYPE, "2:16: listen.calling_ae: ");
    refuses("listen:\n  calling_ae: [A, ~]\n", ST_CONFIG_TYPE, "2:19: listen.calling_ae: ");
    static const char *const bad[] = {"10.0.0", "10.0.0.1/33", "10.0.0.1/",  "10.0.0.256",
                                      "host",   "'::1/129'",   "1.2.3.4/08", "1.2.3.4/-1",
                                      "/8",     "''"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)snprintf(text, sizeof text, "listen:\n  allow: [%s]\n", bad[i]);
        refuses(text, ST_CONFIG_RANGE, "2:11: listen.allow: ");
    }
    refuses("listen:\n  address: 10.0.0.0/8\n", ST_CONFIG_RANGE, "2:12: listen.address: ");
}

TEST(config_ae_titles, "1..16 characters of the default repertoire, nothing else")
{
    Config config;
    accepts("listen:\n  ae_title: 'A B-C_1.2/x 3456'\n", &config);
    CHECK_STR(config.listen_ae_title, "A B-C_1.2/x 3456");
    accepts("listen:\n  ae_title: 12345\n", &config);
    CHECK_STR(config.listen_ae_title, "12345");
    static const char *const bad[] = {
        "'12345678901234567'", "''", "'   '", "' A'", "'A '", "'A\\B'", "\"A\\tB\"", "'\u00c4'"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "listen:\n  ae_title: %s\n", bad[i]);
        refuses(text, ST_CONFIG_RANGE, "2:13: listen.ae_title: ");
        (void)snprintf(text, sizeof text, "listen:\n  calling_ae: [%s]\n", bad[i]);
        refuses(text, ST_CONFIG_RANGE, "2:16: listen.calling_ae: ");
        (void)snprintf(text, sizeof text, "destinations:\n  - ae_title: %s\n", bad[i]);
        refuses(text, ST_CONFIG_RANGE, "2:15: destinations[0].ae_title: ");
    }
}

TEST(config_keys, "unknown and repeated keys and sections are refused where they stand")
{
    refuses("listen:\n  port: 1\nother:\n  a: 1\n", ST_CONFIG_KEY, "3:1: other: ");
    refuses("listen:\n  prot: 1\n", ST_CONFIG_KEY, "2:3: listen.prot: ");
    refuses("listen:\n  port: 1\n  port: 2\n", ST_CONFIG_KEY, "3:3: listen.port: repeated");
    refuses("listen:\n  port: 1\nlog:\n  level: 5\nlisten:\n  idle_timeout_s: 9\n", ST_CONFIG_KEY,
            "5:1: listen: ");
    refuses("listen.port: 1\n", ST_CONFIG_KEY, "1:1: listen.port: ");
    refuses("? [a]\n: 1\n", ST_CONFIG_TYPE, "1:3: ");
    refuses("listen:\n  ? {a: 1}\n  : 1\n", ST_CONFIG_TYPE, "2:5: ");
    refuses("listen:\n  \"port\\0x\": 1\n", ST_CONFIG_TYPE, "2:3: ");
    refuses("listen: 5\n", ST_CONFIG_TYPE, "1:9: listen: ");
    refuses("listen: [port]\n", ST_CONFIG_TYPE, "1:9: listen: ");
    refuses("- listen\n", ST_CONFIG_TYPE, "1:1: ");
    refuses("hello\n", ST_CONFIG_TYPE, "1:1: ");
    refuses("listen:\n  port:\n  ae_title: A\n", ST_CONFIG_TYPE, "2:8: listen.port: ");
    refuses("destinations: []\ndestinations: []\n", ST_CONFIG_KEY, "2:1: destinations: ");
    char text[400] = "listen:\n  ";
    memset(text + strlen(text), 'k', 300);
    strcat(text, ": 1\n");
    refuses(text, ST_CONFIG_KEY, "2:3: listen.kkk");
}

TEST(config_empty_files_are_defaults, "nothing, comments, empty sections: every default")
{
    Config want, config;
    config_defaults(&want);
    static const char *const empty[] = {"",     "# only this\n",       "---\n", "listen:\nlog: ~\n",
                                        "{}\n", "%YAML 1.1\n---\n{}\n"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        accepts(empty[i], &config);
        CHECK(memcmp(&config, &want, sizeof config) == 0);
    }
}

#define DEST(name) "  - name: " name "\n    ae_title: TPS\n    host: tps\n    port: 104\n"

TEST(config_destinations, "up to 16, complete, names unique; the calling AE title is inherited")
{
    Config config;
    accepts("destinations:\n" DEST("one") "    calling_ae: OTHER\n" DEST(
                "two-2_B") "listen:\n  ae_title: NODE\n",
            &config);
    CHECK_INT(config.n_destinations, 2);
    CHECK_STR(config.destinations[0].calling_ae, "OTHER");
    CHECK_STR(config.destinations[1].calling_ae, "NODE");
    CHECK_INT(config.destinations[1].port, 104);
    CHECK(config_destination(&config, "two-2_B") == &config.destinations[1]);
    CHECK(config_destination(&config, "three") == NULL);
    refuses("destinations:\n" DEST("a") DEST("a"), ST_CONFIG_KEY, "6:11: destinations[1].name: ");
    refuses("destinations:\n" DEST("a/b"), ST_CONFIG_RANGE, "2:11: destinations[0].name: ");
    refuses("destinations:\n" DEST("'a b'"), ST_CONFIG_RANGE, "2:11: destinations[0].name: ");
    refuses("destinations:\n" DEST("a") "    host: b\n", ST_CONFIG_KEY,
            "6:5: destinations[0].host: repeated");
    refuses("destinations:\n" DEST("a") "    tls: yes\n", ST_CONFIG_KEY,
            "6:5: destinations[0].tls: ");
    refuses("destinations:\n  - name: a\n    port: 1\n    host: h\n", ST_CONFIG_KEY,
            "2:5: destinations: item 1: ae_title");
    refuses("destinations:\n  - name: a\n    port: 65536\n", ST_CONFIG_RANGE,
            "3:11: destinations[0].port: ");
    refuses("destinations:\n  - port: '104'\n", ST_CONFIG_TYPE, "2:11: destinations[0].port: ");
    refuses("destinations:\n  - host: 'a b'\n", ST_CONFIG_RANGE, "2:11: destinations[0].host: ");
    refuses("destinations:\n  - host: '::1'\n", ST_CONFIG_RANGE,
            "2:11: destinations[0].host: not a host name or IPv4 address (IPv6");
    char host[128] = "destinations:\n  - host: ";
    memset(host + strlen(host), 'h', 101);
    refuses(host, ST_CONFIG_RANGE, "2:11: destinations[0].host: 101 bytes, allowed 1..100");
    refuses("destinations:\n  - host: [a]\n", ST_CONFIG_TYPE, "2:11: destinations[0].host: ");
    refuses("destinations:\n  - tps\n", ST_CONFIG_TYPE, "2:5: destinations[0]: ");
    refuses("destinations: tps\n", ST_CONFIG_TYPE, "1:15: destinations: ");
    refuses("destinations: {}\n", ST_CONFIG_TYPE, "1:15: destinations: ");
    char text[4096] = "destinations:\n";
    for (int i = 0; i < CONFIG_MAX_DESTINATIONS; i++)
        (void)snprintf(text + strlen(text), 100, "  - {name: d%d, ae_title: A, host: h, port: 1}\n",
                       i);
    accepts(text, &config);
    CHECK_INT(config.n_destinations, CONFIG_MAX_DESTINATIONS);
    CHECK_STR(config.destinations[15].name, "d15");
    strcat(text, "  - {name: more, ae_title: A, host: h, port: 1}\n");
    refuses(text, ST_CONFIG_RANGE, "18:5: destinations[16]: ");
}

TEST(config_pairs_are_ordered, "quiet <= max_quiet, min <= max slices, first <= longest pause")
{
    Config config;
    refuses("series:\n  quiet_s: 61\n", ST_CONFIG_RANGE, "2:12: series.quiet_s: ");
    refuses("series:\n  max_quiet_s: 4\n", ST_CONFIG_RANGE, "2:16: series.max_quiet_s: ");
    refuses("series:\n  max_slices: 20\n  min_slices: 21\n", ST_CONFIG_RANGE,
            "3:15: series.min_slices: ");
    refuses("send:\n  retry_first_s: 601\n", ST_CONFIG_RANGE, "2:18: send.retry_first_s: ");
    accepts("send:\n  retry_first_s: 600\n", &config);
}

TEST(config_no_yaml_tricks, "anchors, aliases, tags and further documents are refused")
{
    refuses("listen: &a\n  port: 1\nlog: *a\n", ST_CONFIG_SYNTAX, "1:9: anchors");
    refuses("listen:\n  port: &p 1\n", ST_CONFIG_SYNTAX, "2:9: anchors");
    refuses("listen:\n  port: *p\n", ST_CONFIG_SYNTAX, "2:9: anchors");
    refuses("listen:\n  <<: *p\n", ST_CONFIG_KEY, "2:3: listen.<<: ");
    refuses("listen:\n  port: !!int 5\n", ST_CONFIG_SYNTAX, "2:9: tags");
    refuses("listen: !x\n  port: 5\n", ST_CONFIG_SYNTAX, "1:9: tags");
    refuses("listen:\n  calling_ae: !!seq [A]\n", ST_CONFIG_SYNTAX, "2:15: tags");
    refuses("%TAG ! tag:x,2000:\n---\nlisten:\n", ST_CONFIG_SYNTAX, "1:1: tags");
    refuses("log:\n  level: 5\n---\nlog:\n  level: 6\n", ST_CONFIG_SYNTAX, "3:1: more than one");
    refuses("log:\n\tlevel: 5\n", ST_CONFIG_SYNTAX, "2:1: ");
    refuses("log: {level: 5\n", ST_CONFIG_SYNTAX, "2:1: ");
    refuses("log:\n  level: \"5\n", ST_CONFIG_SYNTAX, "3:1: ");
    refuses("log:\n  level: \x01\n", ST_CONFIG_SYNTAX, "2:10: ");
    refuses("log:\n  level: \xff\xfe\n", ST_CONFIG_SYNTAX, "2:10: ");
    refuses("log:\n  level: 5\n# Z\xc3\xbcrich, Z\xfcrich\n", ST_CONFIG_SYNTAX, "3:12: ");
}

TEST_TIMEOUT(config_hostile_files, "0 bytes, 10 MB, deep nesting and an alias bomb: at once", 20)
{
    Config config;
    Err err = {0};
    static const char zero[] = "log:\n  level: 5\n  x\0y: 1\n";
    CHECK_STATUS(config_load(write_file(zero, sizeof zero - 1), &config, &err), ST_CONFIG_SYNTAX);
    CHECK(strstr(err.msg, ":3:4: 0 byte") != NULL);

    double start_s = clock_monotonic_s();
    size_t size = 10 * 1000 * 1000;
    char *big = malloc(size + 1);
    CHECK(big != NULL);
    memset(big, '#', size);
    err = (Err){0};
    CHECK_STATUS(config_load(write_file(big, size), &config, &err), ST_CONFIG_SYNTAX);
    CHECK(strstr(err.msg, "larger than") != NULL);

    size = 200 * 1000; /* below the size limit: the parser must cope */
    static const char fills[] = "[{-?:";
    for (size_t i = 0; i < sizeof fills - 1; i++) {
        memset(big, fills[i], size);
        err = (Err){0};
        CHECK(config_load(write_file(big, size), &config, &err) != ST_OK);
        memcpy(big, "listen:\n  calling_ae: ", 22);
        err = (Err){0};
        CHECK(config_load(write_file(big, size), &config, &err) != ST_OK);
    }
    for (size_t i = 0; i + 1 < size; i += 2)
        memcpy(big + i, "- ", 2);
    err = (Err){0};
    CHECK(config_load(write_file(big, size), &config, &err) != ST_OK);
    memset(big, ' ', size); /* valid: nothing but blanks */
    err = (Err){0};
    CHECK_OK(config_load(write_file(big, size), &config, &err), &err);
    free(big);
    refuses("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\n", ST_CONFIG_KEY,
            "1:1: a: ");
    CHECK(clock_monotonic_s() - start_s < 10);
}

TEST(config_missing_file, "CONFIG_FILE; a folder is no file; err may be NULL")
{
    Config config;
    Err err = {0};
    CHECK_STATUS(config_load("/nonexistent/c.yaml", &config, &err), ST_CONFIG_FILE);
    CHECK(strstr(err.msg, "/nonexistent/c.yaml") != NULL);
    CHECK_INT(err.native, ENOENT);
    err = (Err){0};
    CHECK_STATUS(config_load(test_dir(), &config, &err), ST_CONFIG_FILE);
    CHECK_STATUS(config_load("/nonexistent/c.yaml", &config, NULL), ST_CONFIG_FILE);
    CHECK_STATUS(config_load(write_file("x: 1\n", 5), &config, NULL), ST_CONFIG_KEY);
}

TEST(config_load_partly_keeps_what_stands_before, "values before the error, defaults after it")
{
    Config config;
    Err err = {0};
    static const char *const wrong[] = {
        "  prot: 1\n",     /* unknown key */
        "  port: x\n",     /* wrong type */
        "  @port: 5\n",    /* no YAML */
        "  # Z\xfcrich\n", /* no UTF-8: the reader reads ahead */
        "  port: \x01\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       "db:\n  path: /a/db\nlisten:\n%scontrol:\n  socket: /a/s\n", wrong[i]);
        err = (Err){0};
        Status want = load(text, &config, &err);
        CHECK(want != ST_OK);
        CHECK_STATUS(config_load_partly(path, &config, &err), want);
        CHECK(strstr(err.msg, "c.yaml:4:") != NULL);
        CHECK_STR(config.db_path, "/a/db");
        CHECK_STR(config.control_socket, "/run/ct2mr/control.sock");
        CHECK_INT(config.listen_port, 11112);
    }
    CHECK_STATUS(load("db:\n  path: /a/Z\xfcrich\n", &config, &err), ST_CONFIG_SYNTAX);
    CHECK_STATUS(config_load_partly(path, &config, &err), ST_CONFIG_SYNTAX);
    CHECK_STR(config.db_path, "/var/lib/ct2mr/ct2mr.db"); /* not a path cut short */
    CHECK_STATUS(config_load_partly("/nonexistent", &config, &err), ST_CONFIG_FILE);
    CHECK_STR(config.db_path, "/var/lib/ct2mr/ct2mr.db");
    accepts("db:\n  path: /a/db\n", &config);
    CHECK_OK(config_load_partly(path, &config, &err), &err);
    CHECK_STR(config.db_path, "/a/db");
}

static char *example_text(size_t *ret_size)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, ret_size);
    CHECK(f != NULL);
    config_print_example(f);
    CHECK(fclose(f) == 0);
    return text;
}

TEST(config_example_is_the_defaults, "the example parses to the defaults and names every option")
{
    Config config, want;
    size_t size;
    char *text = example_text(&size);
    accepts(text, &config);
    config_defaults(&want);
    CHECK(memcmp(&config, &want, sizeof config) == 0);
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        char line[80];
        (void)snprintf(line, sizeof line,
                       "\n  %s: ", option->key + config_option_section_length(option) + 1);
        CHECK(strstr(text, line) != NULL);
    }
    size_t column = 0;
    for (size_t i = 0; i < size; i++) {
        column = text[i] == '\n' ? 0 : column + 1;
        CHECK(column <= 100);
    }
    free(text);
}

TEST(config_example_file_is_current, "etc/ct2mr.yaml is what the program prints")
{
    char *file;
    size_t size, file_size;
    Err err = {0};
    if (config_load("etc/ct2mr.yaml", &(Config){0}, &err) == ST_CONFIG_FILE)
        SKIP("not started from the top of the source tree");
    char *text = example_text(&size);
    CHECK_OK(file_read("etc/ct2mr.yaml", 1 << 20, &file, &file_size, &err), &err);
    CHECK_STR(file, text);
    free(file);
    free(text);
}

TEST(config_example_destination_works, "the commented destination of the example is valid")
{
    size_t size;
    char *text = example_text(&size), *at;
    CHECK((at = strstr(text, "# destinations:\n")) != NULL);
    at[0] = at[1] = ' ';
    for (char *p = strchr(at, '\n') + 1; strncmp(p, "#   ", 4) == 0; p = strchr(p, '\n') + 1)
        p[0] = p[1] = ' ';
    char *end = strstr(at, "destinations: []");
    CHECK(end != NULL);
    end[0] = '\0';
    Config config;
    memmove(at, at + 2, strlen(at + 2) + 1);
    accepts(text, &config);
    CHECK_INT(config.n_destinations, 1);
    CHECK_STR(config.destinations[0].name, "tps");
    free(text);
}

TEST(config_reload_takes_what_it_may, "reloadable options change; others are counted and named")
{
    Config config, fresh;
    char first[64];
    accepts("destinations:\n" DEST("old"), &config);
    accepts("log:\n  level: 7\nlisten:\n  port: 104\n  calling_ae: [CT1]\nspool:\n  path: /x\n"
            "destinations:\n" DEST("new"),
            &fresh);
    CHECK_INT(config_reload(&config, &fresh, first), 2);
    CHECK_STR(first, "spool.path"); /* the first in the table */
    CHECK_INT(config.log_level, 7);
    CHECK_INT(config.calling_ae.n, 1);
    CHECK_STR(config.destinations[0].name, "new");
    CHECK_INT(config.listen_port, 11112);
    CHECK_STR(config.spool_path, "/var/lib/ct2mr/spool");
    config_defaults(&fresh);
    CHECK_INT(config_reload(&config, &fresh, first), 0);
    CHECK_STR(first, "");
    CHECK_INT(config.n_destinations, 0);
    CHECK(memcmp(&config.log_level, &fresh.log_level, sizeof config.log_level) == 0);
}

TEST(config_reload_every_option, "each option alone behaves as its reload flag says")
{
    const Option *option;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++) {
        Config config, fresh, before;
        char first[64], value[64];
        config_defaults(&config);
        config_defaults(&before);
        if (option->kind == OPTION_INT)
            (void)snprintf(value, sizeof value, "%d",
                           option->default_int < option->max ? option->default_int + 1
                                                             : option->default_int - 1);
        else if (option->kind == OPTION_BOOL)
            (void)snprintf(value, sizeof value, "%s", option->default_int ? "false" : "true");
        else if (option->kind == OPTION_ENUM)
            (void)snprintf(value, sizeof value, "%s", strrchr(option->values, '|') + 1);
        else
            (void)snprintf(value, sizeof value, "%s",
                           option->kind == OPTION_LIST ? "['10.0.0.1']" : "'10.0.0.1'");
        accepts(yaml_of(option, value), &fresh);
        int n = config_reload(&config, &fresh, first);
        const char *old = (char *)&before + option->offset;
        CHECK_INT(n, option->reloadable ? 0 : 1);
        CHECK((memcmp(field_of(option, &config), old, option->size_bytes) != 0) ==
              option->reloadable);
        CHECK_STR(first, option->reloadable ? "" : option->key);
    }
}

TEST(config_parse_int64_is_strict, "ends of the range, overflow, and what is no number")
{
    int64_t v;
    bool overflow;
    CHECK(config_parse_int64("9223372036854775807", &v, NULL) && v == INT64_MAX);
    CHECK(config_parse_int64("-9223372036854775808", &v, NULL) && v == INT64_MIN);
    CHECK(config_parse_int64("0", &v, NULL) && v == 0);
    CHECK(!config_parse_int64("9223372036854775808", &v, &overflow) && overflow);
    CHECK(!config_parse_int64("-9223372036854775809", &v, &overflow) && overflow);
    static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "01", "-0", "1a", "0x1", "1.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!config_parse_int64(bad[i], &v, NULL));
}
