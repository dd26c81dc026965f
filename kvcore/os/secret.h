/*
 * secret.h - memory for keys: locked into RAM, left out of core dumps, between pages that fault, zeroed when it
 * is freed (libsodium). Where the system refuses to lock (RLIMIT_MEMLOCK) the rest still holds.
 *
 * Threads    any.
 * Ownership  what kv_secret_alloc returns is freed by kv_secret_free. Each takes pages of its own: a few, long-lived
 *            keys, not one per file.
 * Failure    NULL; the caller reports KV_NO_MEMORY.
 */
#ifndef KV_SECRET_H
#define KV_SECRET_H

#include <stddef.h>

void *kv_secret_alloc(size_t size); /* contents undefined */
void kv_secret_free(void *secret);  /* NULL is fine */
/* Zeroes memory of any kind, which the compiler may not leave out. */
void kv_secret_wipe(void *memory, size_t size);

#endif
