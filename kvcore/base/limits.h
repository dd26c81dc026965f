/*
 * limits.h - how large a key and a value may be: the two numbers of the public face that every layer of the
 * engine, down to the blocks of a table, has to know.
 */
#ifndef KV_LIMITS_H
#define KV_LIMITS_H

enum {
    KV_KEY_LEN_MAX = 4096,
    KV_VALUE_LEN_MAX = 64 << 20,  /* one value; a commit's whole batch and record: KV_COMMIT_BYTES_MAX */
    KV_LARGE_VALUE_MAX = 1 << 30, /* one that is written and read in parts */
};

#endif
