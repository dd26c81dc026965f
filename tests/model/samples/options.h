/*
 * options.h - numbered option sets of a store. Some change what is stored and shown: the player asks for those.
 */
#ifndef SAMPLES_OPTIONS_H
#define SAMPLES_OPTIONS_H

#include "tsdb/ts.h"

enum { SAMPLES_LABELS_MAX = 6, SAMPLES_VALUE_LEN_MAX = 64, SAMPLES_RULES_MAX = 3 };

struct samples_options {
    struct ts_options store; /* its rules are the ones below */
    uint64_t cache_bytes;
    struct ts_retention_rule rules[SAMPLES_RULES_MAX];
    char selectors[SAMPLES_RULES_MAX][64];
    uint64_t series[SAMPLES_RULES_MAX + 1]; /* that each rule is the first to match; last: those of no rule */
};
/* made_under: the set of the life's beginning, which decides what stays (limits of labels). 0: the default, nearly. */
void samples_options(uint32_t set, uint32_t made_under, struct samples_options *out);

#endif
