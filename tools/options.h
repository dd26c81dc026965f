/*
 * options.h - the options of a command that is not `serve`, for both programs: taken out of the arguments, wherever they stand. What is
 * wrong is said on stderr.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One of flag, text and number; number's text must be one. */
struct tool_option {
    const char *name; /* with its dashes */
    bool *flag;
    char **text;
    uint64_t *number;
};
/* Takes the options out of argv, wherever they stand before a "--"; answers how many arguments are left, or -1 after saying what is wrong.
 */
int tool_options(int argc, char **argv, const struct tool_option *options, size_t n);
/* Says that nobody knows the word, and which known one is nearest. */
void tool_unknown(const char *what, const char *word, const char *const *known, size_t n);

#endif
