/*
 * options.h - checks what the caller asks and fills in the defaults, once, at open. Pure; any thread.
 */
#ifndef KV_OPTIONS_H
#define KV_OPTIONS_H

#include "kvcore/db/space.h"

/* asked -> resolved with every default filled in; names are checked. KV_INVALID, KV_UNSUPPORTED (levelled
 * spaces) with the reason. resolved borrows spaces from asked. */
KV_MUST kv_status kv_options_resolve(const struct kv_options *asked, struct kv_options *resolved,
                                     struct kv_err *err);

/*
 * Matches the declared spaces with those of the manifest: ids[i] becomes the stored id of declared space i;
 * new ones get the next ids and are appended to *edit. KV_INVALID: a stored space is not declared, or with
 * another style.
 */
KV_MUST kv_status kv_options_match_spaces(const struct kv_options *options,
                                          const struct kv_manifest_state *state, uint8_t ids[KV_SPACES_MAX],
                                          struct kv_space spaces[KV_SPACES_MAX], struct kv_edit *edit,
                                          struct kv_err *err);

#endif
