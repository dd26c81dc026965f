/*
 * sha256.h - SHA-256 (FIPS 180-4) of bytes that come in pieces, by OpenSSL, which uses the CPU's instructions where it has them. Names
 * the contents of files in backups, so that anybody can check them with sha256sum.
 *
 * Threads    one at a time for each sum.  Ownership  kv_sha256_free; NULL is fine.  Failure  KV_NO_MEMORY.
 */
#ifndef KV_SHA256_H
#define KV_SHA256_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum { KV_SHA256_LEN = 32 };

struct kv_sha256;
KV_MUST kv_status kv_sha256_new(struct kv_sha256 **out);
void kv_sha256_add(struct kv_sha256 *sum, kv_slice bytes);
/* The sum of everything added; the next add begins a new one. */
void kv_sha256_take(struct kv_sha256 *sum, uint8_t out[KV_SHA256_LEN]);
void kv_sha256_free(struct kv_sha256 *sum);

#endif
