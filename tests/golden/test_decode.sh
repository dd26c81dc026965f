#!/bin/sh
# The pages of the formats, read by decoders that share no code with the product.
set -eu
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }
python3 tests/golden/decode_table.py --golden tests/golden/table-1-plain.tbl tests/golden/table-1-snappy.tbl
# Sequence, synced, puts, deletes, record bytes: what tests/support/log_kit.c writes under ids 1 to 12.
got=$(python3 tests/golden/decode_log.py tests/golden/log-v1.log | tr '\n' ';')
[ "$got" = "1 0 2 0 45;2 1 2 1 82;3 2 1 0 0;4 3 2 0 156;5 4 0 0 70000;6 5 1 0 230;7 6 2 0 267;8 7 2 1 304;9 8 1 0 41;10 9 2 0 0;11 10 2 1 115;12 11 1 0 152;" ] ||
    { echo "decode_log.py read: $got"; exit 1; }
# An encrypted database (kv_kit, tests/kvcore/test_encryption.c), from its master key and the pages alone.
got=$(python3 tests/golden/decode_sealed.py "$(printf 'golden master key, not a secret.' | od -An -tx1 | tr -d ' \n')" tests/golden/encrypted-1 | cksum)
[ "$got" = "1668792414 466" ] || { echo "decode_sealed.py read something else"; exit 1; }
# The golden archive: version, time, files.
got=$(python3 tests/golden/decode_backup.py tests/golden/archive-1.kvb | tr '\n' ';')
[ "$got" = "version 4 time 1700000000000;000002.log 312;000003.tbl 401;000005.man 271;" ] ||
    { echo "decode_backup.py read: $got"; exit 1; }
# The golden segment of the value log: nothing, a line, sixty of them, noise (tests/kvcore/test_segment.c).
got=$(python3 tests/golden/decode_vlog.py tests/golden/vlog-1.vlg 128:9 137:37 174:118 292:509 | tr '\n' ';')
[ "$got" = "0 0 ;0 28 76616c75652031206f66206120676f6c;1 1680 76616c75652032206f66206120676f6c;0 500 003c5e81b40c5ec68e04a3406c97d63c;" ] || { echo "decode_vlog.py read: $got"; exit 1; }
python3 tests/golden/decode_chunk.py tests/golden/chunk-bits.bin | python3 -c '
import struct, sys
v = 0.5
for i, line in enumerate(sys.stdin):
    v = v * 0.875 + (i * i % 127) / 1024 + 1 / 3
    bits = "7ff0000000000002" if i == 600 else "%016x" % struct.unpack("<Q", struct.pack("<d", -v if i == 10 else v))
    if line.split() != [str(1795224000000 + 15000 * i), bits]:
        sys.exit("decode_chunk.py, bits, sample %d: %s" % (i, line.strip()))
if i + 1 != 700:
    sys.exit("decode_chunk.py, bits: %d samples" % (i + 1))
' || exit 1
# Chunks of samples: the sums of what tests/golden/README.md says is in them.
for chunk in int huffman jitter; do
    python3 tests/golden/decode_chunk.py tests/golden/chunk-$chunk.bin >"${TMPDIR:-/tmp}/chunk.$$" || exit 1
    python3 - $chunk "${TMPDIR:-/tmp}/chunk.$$" <<'EOF' || exit 1
import struct, sys
ints = sys.argv[1] == "int"
for i, line in enumerate(open(sys.argv[2])):
    t = 1795224000000 + 15000 * i + (7 * i % 11 if ints else i * i % 13)
    v = (i * i % 997 if ints else 40000 + i * i % 23 - i % 7) / 100
    v = -0.0 if ints and i % 50 == 20 else v
    bits = "7ff0000000000002" if i == (150 if ints else 700) else "%016x" % struct.unpack("<Q", struct.pack("<d", v))
    if line.split() != [str(t), bits]:
        sys.exit("decode_chunk.py, %s, sample %d: %s, not %d %s" % (sys.argv[1], i, line.strip(), t, bits))
if i + 1 != (200 if ints else 1300):
    sys.exit("decode_chunk.py, %s: %d samples" % (sys.argv[1], i + 1))
EOF
    rm -f "${TMPDIR:-/tmp}/chunk.$$"
done
for chunk in const raw xor; do
    python3 tests/golden/decode_chunk.py tests/golden/chunk-$chunk.bin | python3 -c '
import struct, sys
kind = sys.argv[1]
for i, line in enumerate(sys.stdin):
    t = 1795224000000 + 15000 * i + (7 * i % 11 if kind == "xor" else 0)
    v = 0.1 if kind == "const" else 1 + (i * i % 97) / 3e6
    bits = (i + 1) * 0x9e3779b97f4a7c15 % 2**64 if kind == "raw" else struct.unpack("<Q", struct.pack("<d", v))[0]
    bits = 0x7ff0000000000002 if kind != "const" and i == 200 else bits
    if line.split() != [str(t), "%016x" % bits]:
        sys.exit("decode_chunk.py, %s, sample %d: %s, not %d %016x" % (kind, i, line.strip(), t, bits))
if i + 1 != 300:
    sys.exit("decode_chunk.py, %s: %d samples" % (kind, i + 1))
' $chunk || exit 1
done
for chunk in summary summary-bits; do
    python3 tests/golden/decode_chunk.py tests/golden/chunk-$chunk.bin | python3 -c '
import struct, sys
for i, line in enumerate(sys.stdin):
    v = 1000.0 + i * i % 97 if sys.argv[1] == "summary" else i / 3
    if line.split() != [str(1795224000000 + 15000 * i), "%016x" % struct.unpack("<Q", struct.pack("<d", v))[0]]:
        sys.exit("decode_chunk.py, %s, sample %d: %s" % (sys.argv[1], i, line.strip()))
if i + 1 != 600:
    sys.exit("decode_chunk.py, %s: %d samples" % (sys.argv[1], i + 1))
' $chunk || exit 1
done
python3 tests/golden/decode_chunk.py tests/golden/chunk-multiplied.bin | python3 -c '
import struct, sys
ms = 1833562
for i, line in enumerate(sys.stdin):
    bits = "7ff0000000000002" if i == 600 else "%016x" % struct.unpack("<Q", struct.pack("<d", ms * 0.001))
    if line.split() != [str(1795224000000 + 15000 * i), bits]:
        sys.exit("decode_chunk.py, multiplied, sample %d: %s" % (i, line.strip()))
    ms += 5 + i * i % 23
if i + 1 != 700:
    sys.exit("decode_chunk.py, multiplied: %d samples" % (i + 1))
' || exit 1
# Every codec there is has a golden file: the first byte names those of times and values.
kinds=$(for f in tests/golden/chunk-*.bin; do od -An -tx1 -N1 "$f"; done | tr -d ' ' | fold -w1 | paste - - | awk '{print "value", $1; print "time", $2}' | sort -u)
[ "$(echo "$kinds" | grep -c value)" = "$(sed -n '/^enum ts_value_codec/,/^}/p' tsdb/chunk/chunk.h | grep -c TS_VALUE_)" ] || { echo "a codec of values has no golden chunk: $kinds"; exit 1; }
[ "$(echo "$kinds" | grep -c time)" = "$(sed -n '/^enum ts_time_codec/p' tsdb/chunk/chunk.h | grep -o TS_TIME_ | wc -l)" ] || { echo "a codec of times has no golden chunk: $kinds"; exit 1; }
