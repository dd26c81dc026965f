/*
 * options.h - numbered option sets of a store. Some change what is stored and shown: the player asks for those.
 */
#ifndef SAMPLES_OPTIONS_H
#define SAMPLES_OPTIONS_H

#include "tsdb/ts.h"

enum { SAMPLES_LABELS_MAX = 6, SAMPLES_VALUE_LEN_MAX = 64, SAMPLES_RULES_MAX = 3 };
/* A life that begins under such a set, or a later one, may have any limit; the others have none of those that came after them, so that
 * kept histories mean what they meant. */
enum { SAMPLES_LIMITED_FROM = 100000 };

struct samples_options {
    struct ts_options store; /* its rules are the ones below */
    uint64_t cache_bytes;
    struct ts_retention_rule rules[SAMPLES_RULES_MAX];
    char selectors[SAMPLES_RULES_MAX][64];
    uint64_t series[SAMPLES_RULES_MAX + 1]; /* that each rule is the first to match; last: those of no rule */
};
/* made_under: the set of the life's beginning, which decides what stays (limits of labels). 0: the default, nearly. */
void samples_options(uint32_t set, uint32_t made_under, struct samples_options *out);
/* What workers may change behind a request's back is no limit that could be judged: without it. */
void samples_options_for_workers(struct samples_options *options);

#endif
