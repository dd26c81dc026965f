/*
 * assert.h - our own invariants, checked in every build.
 *
 * KV_ASSERT(cond)  false means a bug in this program: stop now, before wrong bytes spread. It stays on in
 * release. Bytes from disk, network or users never reach one; those get a status. KV_VERIFY(cond)
 * whole-structure checks (levels disjoint, postings sorted): compiled in MODE=debug, asan and tsan only.
 */
#ifndef KV_ASSERT_H
#define KV_ASSERT_H

/* Prints the failed condition and its place to stderr and aborts. Any thread. */
_Noreturn void kv_assert_failed(const char *condition, const char *file, int line);

#define KV_ASSERT(cond) ((cond) ? (void)0 : kv_assert_failed(#cond, __FILE__, __LINE__))

#ifdef KV_DEBUG
#define KV_VERIFY(cond) KV_ASSERT(cond)
#else
#define KV_VERIFY(cond) ((void)0)
#endif

#define KV_LIKELY(cond) __builtin_expect(!!(cond), 1)

#endif
