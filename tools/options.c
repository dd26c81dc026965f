#include "tools/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 32 };

/* Letters to add, remove or change; words are cut at WORD_MAX. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], n = strnlen(b, WORD_MAX);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; i < WORD_MAX && a[i]; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t best = corner + (a[i] != b[j]);
            corner = row[j + 1];
            best = row[j + 1] + 1 < best ? row[j + 1] + 1 : best;
            row[j + 1] = row[j] + 1 < best ? row[j] + 1 : best;
        }
    }
    return row[n];
}

void tool_unknown(const char *what, const char *word, const char *const *known, size_t n)
{
    const char *nearest = NULL;
    size_t least = strlen(word) / 2 + 1;
    for (size_t i = 0; i < n; i++)
        if (distance(word, known[i]) < least) {
            least = distance(word, known[i]);
            nearest = known[i];
        }
    if (nearest)
        fprintf(stderr, "%s: unknown %s %s (nearest: %s)\n", program_invocation_short_name, what, word,
                nearest);
    else
        fprintf(stderr, "%s: unknown %s %s\n", program_invocation_short_name, what, word);
}

static bool number_of(const char *name, const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || text[0] == '+') {
        fprintf(stderr, "%s: %s %s is not a number\n", program_invocation_short_name, name, text);
        return false;
    }
    *out = value;
    return true;
}

static bool option_take(const struct tool_option *option, char *value)
{
    if (option->flag)
        *option->flag = true;
    else if (!value)
        fprintf(stderr, "%s: %s needs a value\n", program_invocation_short_name, option->name);
    else if (option->text)
        *option->text = value;
    else
        return number_of(option->name, value, option->number);
    return option->flag || value;
}

int tool_options(int argc, char **argv, const struct tool_option *options, size_t n)
{
    int kept = 0, i = 0;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        size_t at = 0;
        while (at < n && strcmp(argv[i], options[at].name) != 0)
            at++;
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[kept++] = argv[i];
        } else if (at == n) {
            const char *names[16];
            for (at = 0; at < n && at < 16; at++)
                names[at] = options[at].name;
            tool_unknown("option", argv[i], names, at);
            return -1;
        } else {
            char *value = !options[at].flag && i + 1 < argc ? argv[++i] : NULL;
            if (!option_take(&options[at], value))
                return -1;
        }
    }
    for (i++; i < argc; i++)
        argv[kept++] = argv[i];
    return kept;
}
