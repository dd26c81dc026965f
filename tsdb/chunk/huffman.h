/*
 * huffman.h - numbers in about as few bits as their frequencies allow: prefix codes over the numbers below 16 and over ranges
 * of the larger ones.
 *
 * A number below 16 is a symbol of its own. A larger one of b bits falls into one of the two ranges of that length; its symbol
 * names the range, and its low b - 2 bits follow the code as they are. No code is longer than TS_HUFFMAN_BITS, so the reader's
 * table is small enough to be made for each chunk, and most of its entries give several numbers at once.
 *
 *     code    := first:u8 n:u8 lens:byte[ceil(n/2)]     lens only if n > 1: of symbols first to first + n - 1, 4 bits each, the low
 *                                                        half of a byte first; 0: the symbol does not occur
 *     numbers := bits                                    codes and low bits one after another, from the low end of each byte
 *
 * Codes are canonical: shorter ones first, equal lengths in order of the symbols, counted up from zero; the highest bit of a code
 * comes first. The lengths of two or more symbols use up every code; a lone symbol has a code of no bits.
 *
 * Source     Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952; canonical codes as in RFC 1951; several
 *            symbols for one look into the table as decoders of RFC 1951 do.
 * Threads    pure functions over the caller's memory; any thread.
 */
#ifndef TS_HUFFMAN_H
#define TS_HUFFMAN_H

#include "kvcore/base/buf.h"

enum {
    TS_HUFFMAN_BITS = 9,
    TS_HUFFMAN_SYMBOLS = 136, /* 16, and two for each length from 5 to 64 bits */
    TS_HUFFMAN_NUMBERS_MAX = 512,
    TS_HUFFMAN_LANES =
        4 /* blocks that are read at once: each number waits for the one before it, so four take little longer than two, or one */
};
/* How many of `blocks` blocks of one size are best read at once: 1, 2 or 4. */
static inline size_t ts_huffman_lanes(size_t blocks)
{
    return blocks >= TS_HUFFMAN_LANES ? TS_HUFFMAN_LANES : blocks >= 2 ? 2 : 1;
}

/* How often each symbol occurs. {0} is a valid empty count. */
struct ts_huffman_counts {
    uint32_t of[TS_HUFFMAN_SYMBOLS];
    uint64_t low_bits; /* of all numbers of the larger ranges */
};
void ts_huffman_count(struct ts_huffman_counts *counts, const uint64_t *numbers, size_t n);

struct ts_huffman_code {
    uint8_t lens[TS_HUFFMAN_SYMBOLS];
    uint16_t codes[TS_HUFFMAN_SYMBOLS]; /* as they are written: the first bit lowest */
    unsigned first, n;
};
/* The best code for numbers that occur as counted; at least one does. Returns the bytes that the code and all of them take. */
size_t ts_huffman_make(const struct ts_huffman_counts *counts, struct ts_huffman_code *code);
KV_MUST kv_status ts_huffman_put_code(const struct ts_huffman_code *code, struct kv_buf *out);
/* n: 0 to TS_HUFFMAN_NUMBERS_MAX, all of them counted when the code was made. */
KV_MUST kv_status ts_huffman_put(const struct ts_huffman_code *code, const uint64_t *numbers, size_t n,
                                 struct kv_buf *out);

struct ts_huffman_entry {
    uint64_t base;           /* the symbol's smallest number */
    uint8_t len, low, whole; /* bits of the code, behind it, and of both */
};
struct ts_huffman_small { /* the same where all numbers are below 2^32 */
    uint32_t base, mask;  /* mask: of the low bits */
    uint32_t len, whole;
};
struct ts_huffman_table {
    unsigned bits;     /* that a look takes: not fewer than the longest code's */
    unsigned low_bits; /* the most that follow a code; 0: every symbol is a number */
    uint64_t most;     /* no number is larger */
    uint8_t lens[TS_HUFFMAN_SYMBOLS];
    union {                                     /* by the next bits of input */
        uint64_t several[1 << TS_HUFFMAN_BITS]; /* low_bits 0: as many numbers as these bits make */
        struct ts_huffman_small small[1 << TS_HUFFMAN_BITS]; /* else, most below 2^32 */
        struct ts_huffman_entry one[1 << TS_HUFFMAN_BITS];   /* else */
    } of;
};
/* Takes a code off the front of *in. KV_CORRUPT unless it is well formed; the table is garbage then. long_read: more than a block or so will be
 * read, so it pays to make a table that gives several numbers at once. */
KV_MUST kv_status ts_huffman_take_code(kv_slice *in, bool long_read, struct ts_huffman_table *table);
/* Takes n numbers off the front of each in[lane], lanes 1, 2 or 4. KV_CORRUPT unless they are well formed. */
KV_MUST kv_status ts_huffman_take(kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                                  uint64_t *const *numbers, size_t n);
/* The same where table->most is below 2^32; each numbers[lane] has room for TS_KERNEL_SLACK more, which may be overwritten. */
KV_MUST kv_status ts_huffman_take_small(kv_slice *in, size_t lanes, const struct ts_huffman_table *table,
                                        uint32_t *const *numbers, size_t n);

#endif
