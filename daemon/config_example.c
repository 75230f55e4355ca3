/* The commented example file, made from the option table. etc/ct2mr.yaml is this text. */
#include "daemon/config_options.h"

#include <string.h>

enum { LINE_WIDTH = 92 };

/* Comment lines of at most LINE_WIDTH, broken at blanks. */
static void print_comment(FILE *out, const char *indent, const char *text)
{
    while (*text != '\0') {
        size_t n = strlen(text);
        if (n > LINE_WIDTH) {
            n = LINE_WIDTH;
            while (n > 0 && text[n] != ' ')
                n--;
            if (n == 0)
                n = LINE_WIDTH;
        }
        (void)fprintf(out, "%s# %.*s\n", indent, (int)n, text);
        text += n;
        while (*text == ' ')
            text++;
    }
}

static void print_option(FILE *out, const Option *option)
{
    char type[OPTION_TEXT_SIZE], value[1024], line[1400];
    config_option_default(option, value);
    print_comment(out, "  ", option->text);
    (void)snprintf(line, sizeof line, "%s; default %s; %s", config_option_type(option, type), value,
                   option->reloadable ? "reload" : "restart");
    print_comment(out, "  ", line);
    (void)fprintf(out, "  %s: %s\n", option->key + config_option_section_length(option) + 1, value);
}

static const char head[] =
    "# ct2mr configuration. This file is what `ct2mr config example` prints: every option with "
    "its\n"
    "# meaning, type, range, unit and default. What is left out has its default.\n"
    "#\n"
    "# An unknown key or a wrong value stops the start; `ct2mr config check FILE` names line and\n"
    "# column. \"reload\": taken over by `systemctl reload ct2mrd`; \"restart\": needs a restart.\n"
    "# Text may be quoted (IPv6 addresses inside [ ] must be); numbers, true and false must not.\n";

static const char destinations[] =
    "\n"
    "# Where results are sent: every result goes to every destination. Up to 16; default none "
    "(the\n"
    "# job then ends when the result is written); reload. Per destination:\n"
    "#   name        text of 1..63 letters, digits, '_' and '-'; unique\n"
    "#   ae_title    AE title of the destination, 1..16 characters\n"
    "#   host        host name or IPv4 address, 1..100 bytes; IPv6 is not possible\n"
    "#   port        integer 1..65535\n"
    "#   calling_ae  our AE title towards it, 1..16 characters; default listen.ae_title\n"
    "#\n"
    "# destinations:\n"
    "#   - name: tps\n"
    "#     ae_title: TPS\n"
    "#     host: tps.example.org\n"
    "#     port: 104\n"
    "destinations: []\n";

void config_print_example(FILE *out)
{
    (void)fputs(head, out);
    const Option *option, *previous = NULL;
    for (int i = 0; (option = config_option_at(i)) != NULL; i++, previous = option) {
        size_t n = config_option_section_length(option);
        if (previous == NULL || strncmp(previous->key, option->key, n + 1) != 0)
            (void)fprintf(out, "\n%.*s:\n", (int)n, option->key);
        print_option(out, option);
    }
    (void)fputs(destinations, out);
}
