#include "tests/model/history.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct field {
    const char *name;
    size_t offset;
} fields[] = {
#define F(name) {#name, offsetof(struct op, name)},
    HISTORY_FIELDS(F)
#undef F
};
enum { FIELDS = sizeof fields / sizeof *fields };

void history_release(struct history *history)
{
    kv_free(history->ops);
    *history = (struct history){0};
}

void history_add(struct history *history, const struct op *op)
{
    if (history->n == history->capacity) {
        history->capacity = history->capacity ? history->capacity * 2 : 256;
        history->ops = kv_realloc(history->ops, history->capacity * sizeof *history->ops);
        KV_ASSERT(history->ops != NULL);
    }
    history->ops[history->n++] = *op;
}

/* ---- text */

static uint32_t *field_of(struct op *op, size_t i)
{
    return (uint32_t *)(void *)((uint8_t *)op + fields[i].offset);
}

void history_print_op(const struct op *op, FILE *out)
{
    struct op copy = *op;
    fputs(history_op_names[op->kind], out);
    for (size_t i = 0; i < FIELDS; i++)
        if (*field_of(&copy, i))
            fprintf(out, " %s=%" PRIu32, fields[i].name, *field_of(&copy, i));
    fputc('\n', out);
}

void history_print(const struct history *history, FILE *out)
{
    fprintf(out, "options %" PRIu32 "\n", history->options);
    if (history->threads)
        fprintf(out, "threads %d\n", history->threads);
    for (size_t i = 0; i < history->n; i++)
        history_print_op(&history->ops[i], out);
}

static bool read_op(char *line, struct op *op)
{
    char *rest = NULL, *word = strtok_r(line, " \n", &rest);
    *op = (struct op){.kind = 0};
    while (history_op_names[op->kind] && strcmp(history_op_names[op->kind], word) != 0)
        op->kind++;
    if (!history_op_names[op->kind])
        return false;
    while ((word = strtok_r(NULL, " \n", &rest)) != NULL) {
        char *value = strchr(word, '=');
        size_t i = 0;
        if (!value)
            return false;
        *value++ = 0;
        while (i < FIELDS && strcmp(fields[i].name, word) != 0)
            i++;
        if (i == FIELDS)
            return false;
        *field_of(op, i) = (uint32_t)strtoul(value, NULL, 10);
    }
    return true;
}

bool history_read(struct history *history, const char *path)
{
    char line[400];
    FILE *in = fopen(path, "r");
    bool good = in != NULL;
    *history = (struct history){0};
    for (int n = 1; good && fgets(line, sizeof line, in); n++) {
        struct op op;
        char *comment = strchr(line, '#');
        if (comment)
            *comment = 0;
        if (line[strspn(line, " \n")] == 0 || sscanf(line, "options %" SCNu32, &history->options) == 1 ||
            sscanf(line, "threads %d", &history->threads) == 1)
            continue;
        good = read_op(line, &op);
        if (good)
            history_add(history, &op);
        else
            fprintf(stderr, "%s:%d: not an operation\n", path, n);
    }
    if (in)
        fclose(in);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    return good;
}

/* ---- shrinking */

static bool fails_without(const struct history *history, size_t from, size_t to,
                          bool (*fails)(const struct history *history), struct history *less)
{
    less->options = history->options;
    less->threads = history->threads;
    less->n = 0;
    for (size_t i = 0; i < history->n; i++)
        if (i < from || i >= to)
            history_add(less, &history->ops[i]);
    return fails(less);
}

void history_shrink(struct history *history, bool (*fails)(const struct history *history), size_t tries)
{
    struct history less = {0};
    size_t chunk = history->n / 2;
    while (chunk > 0 && tries > 0) {
        bool shorter = false;
        for (size_t end = history->n; end > 0 && tries > 0;
             tries--) { /* the last ones are the likeliest to matter little */
            size_t from = end > chunk ? end - chunk : 0;
            if (fails_without(history, from, end, fails, &less)) {
                struct history was = *history;
                *history = less;
                less = was;
                shorter = true;
            }
            end = from;
        }
        if (!shorter || chunk > history->n)
            chunk /= 2;
    }
    history_release(&less);
}
