/*
 * options.h - numbered option sets of a store. Some change what is stored and shown: the player asks for those.
 */
#ifndef SAMPLES_OPTIONS_H
#define SAMPLES_OPTIONS_H

#include "tsdb/ts.h"

enum { SAMPLES_LABELS_MAX = 6, SAMPLES_VALUE_LEN_MAX = 64 };

/* made_under: the set of the life's beginning, which decides what stays (limits of labels). 0: the default, nearly. */
void samples_options(uint32_t set, uint32_t made_under, struct ts_options *out, uint64_t *cache_bytes);

#endif
