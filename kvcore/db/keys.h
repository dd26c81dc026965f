/*
 * keys.h - the master key of a database that is closed. Of an open one: kv_rotate_master_key.
 */
#ifndef KV_KEYS_H
#define KV_KEYS_H

#include "kvcore/kv.h"

/* Puts next in the place of source's key; log and tables are not looked at. KV_UNSUPPORTED: the database is not
 * encrypted. Otherwise as kv_rotate_master_key. */
KV_MUST kv_status kv_rotate_closed(struct kv_env *env, const char *path, const struct kv_key_source *source,
                                   const uint8_t next[KV_MASTER_KEY_LEN], struct kv_err *err);

#endif
