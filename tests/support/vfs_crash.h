/*
 * vfs_crash.h - a vfs that remembers every change made through it, so that what a machine could find after losing power at any
 * moment can be made again and again from one run.
 *
 *     struct vfs_crash *crash = vfs_crash_new();
 *     scenario(vfs_crash_as_vfs(crash));                      // notes vfs_crash_ops() after each acknowledgement
 *     for (uint64_t k = 0; k <= vfs_crash_ops(crash) + 1; k++)
 *         for (seed ...) {
 *             struct kv_vfs *disk = vfs_crash_at(crash, k, seed, profile);   // k changes had been asked for
 *             ... recover from disk; what was acknowledged at c changes must be there if c < k ...
 *             kv_vfs_mem_free(disk);
 *         }
 *
 * What is sure after a crash: bytes under a completed file sync, names under a completed directory sync, completed publishes.
 * Everything younger is pending, and a profile says what may become of it:
 *   posix-min     every pending name change survives or not on its own; every pending block survives, is lost, torn at a
 *                 512 byte sector, zeroed or filled with garbage on its own; the size is anything in between
 *   ext4-ordered  pending name changes survive as a prefix; a synced file takes its name (and all older changes) along; the
 *                 size is that of a prefix of the appends, lost blocks below it read as zeros
 *   xfs-like      as ext4, but a file's sync does not cover its name, and pending blocks are all there or all zero from one on
 * Seeds: 0 nothing pending survives, 1 all of it does, 2 sizes and names survive and pending data is zeros, others are random.
 *
 * Threads    any, while it runs; vfs_crash_at when no other thread changes anything.
 */
#ifndef VFS_CRASH_H
#define VFS_CRASH_H

#include "kvcore/os/vfs.h"

enum vfs_crash_profile {
    VFS_CRASH_POSIX_MIN,
    VFS_CRASH_EXT4_ORDERED,
    VFS_CRASH_XFS_LIKE,
    VFS_CRASH_PROFILES
};

struct vfs_crash;
struct vfs_crash *vfs_crash_new(void); /* empty; aborts when out of memory */
/* Begins with what base holds (all of it durable), e.g. what vfs_crash_at made: a crash in recovery. base stays the caller's; it is
 * read in the directories named by paths, NULL-terminated. */
struct vfs_crash *vfs_crash_new_from(struct kv_vfs *base, const char *const *paths);
void vfs_crash_free(struct vfs_crash *crash); /* NULL is fine */
struct kv_vfs *vfs_crash_as_vfs(struct vfs_crash *crash);
uint64_t vfs_crash_ops(struct vfs_crash *crash); /* changes asked for so far */
/* Makes the change number n (from 0) and all later ones fail with KV_IO without happening, as on a disk that dies. */
void vfs_crash_die_at(struct vfs_crash *crash, uint64_t n);
/* A memory vfs with what is found when power is lost after `ops` changes were asked for; the last of them may not have
 * returned (one past the end: all have). */
struct kv_vfs *vfs_crash_at(struct vfs_crash *crash, uint64_t ops, uint64_t seed,
                            enum vfs_crash_profile profile);

#endif
