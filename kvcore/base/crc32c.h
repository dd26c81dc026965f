/*
 * crc32c.h - CRC-32C (Castagnoli, polynomial 0x1EDC6F41; RFC 3720 appendix B.4), by the CPU's instruction
 * where it has one. Any thread.
 */
#ifndef KV_CRC32C_H
#define KV_CRC32C_H

#include "kvcore/base/slice.h"

/* The sum of bytes that follow those summed in crc (0 for none yet). crc32c of "123456789" is 0xe3069283. */
uint32_t kv_crc32c(uint32_t crc, kv_slice bytes);
/* The portable form of the same function; tests hold the two together. */
uint32_t kv_crc32c_portable(uint32_t crc, kv_slice bytes);

#endif
