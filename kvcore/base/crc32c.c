#include "kvcore/base/crc32c.h"
#include "kvcore/base/coding.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

/* One table entry per nibble keeps this small: it runs only on CPUs without the instruction, and in tests. */
uint32_t kv_crc32c_portable(uint32_t crc, kv_slice bytes)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    crc = ~crc;
    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= bytes.data[i];
        crc = (crc >> 4) ^ nibble[crc & 15];
        crc = (crc >> 4) ^ nibble[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, kv_slice bytes)
{
    uint64_t sum = (uint32_t)~crc;
    size_t i = 0;
    for (; i + 8 <= bytes.len; i += 8)
        sum = _mm_crc32_u64(sum, kv_get_fixed64(bytes.data + i));
    for (; i < bytes.len; i++)
        sum = _mm_crc32_u8((uint32_t)sum, bytes.data[i]);
    return ~(uint32_t)sum;
}
#endif

uint32_t kv_crc32c(uint32_t crc, kv_slice bytes)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, bytes);
#endif
    return kv_crc32c_portable(crc, bytes);
}
