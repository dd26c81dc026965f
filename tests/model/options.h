/*
 * options.h - numbered option sets: everything that must not change a single answer. Set 0 is the default, as far as databases this small
 * have one.
 *
 * What the spaces are (hook, operator, versions kept) is the same in all of them: model.h. What a database cannot change once it is there
 * (style, cuts) comes from the set it was made under.
 */
#ifndef MODEL_OPTIONS_H
#define MODEL_OPTIONS_H

#include "tests/model/model.h"

struct option_set {
    struct kv_space_options spaces[MODEL_SPACES];
    struct kv_options options; /* spaces and n_spaces unset */
    uint64_t cache_bytes;
    bool encrypted;
};
void option_set_make(uint32_t set, uint32_t made_under, struct option_set *out);

#endif
