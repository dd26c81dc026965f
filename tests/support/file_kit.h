/*
 * file_kit.h - the files of a closed database in a test's vfs: read whole, put back with other bytes, taken away. What the
 * kit itself needs to succeed asserts.
 */
#ifndef FILE_KIT_H
#define FILE_KIT_H

#include "kvcore/base/buf.h"
#include "kvcore/os/vfs.h"

bool file_kit_has(struct kv_vfs *vfs, const char *path, const char *name);
void file_kit_read(struct kv_vfs *vfs, const char *path, const char *name, struct kv_buf *out); /* replaces */
/* Durable, in the place of what was there, if anything was. */
void file_kit_write(struct kv_vfs *vfs, const char *path, const char *name, kv_slice bytes);
/* Flips the lowest bit of the byte at offset. */
void file_kit_flip(struct kv_vfs *vfs, const char *path, const char *name, uint64_t offset);
uint64_t file_kit_size(struct kv_vfs *vfs, const char *path, const char *name);
void file_kit_remove(struct kv_vfs *vfs, const char *path, const char *name);
void file_kit_empty(struct kv_vfs *vfs, const char *path); /* removes every file */
/* Names that end so, NUL-terminated, one behind another, sorted. Answers how many. */
size_t file_kit_list(struct kv_vfs *vfs, const char *path, const char *suffix, struct kv_buf *out);

#endif
