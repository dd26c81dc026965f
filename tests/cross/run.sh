#!/bin/sh
# The suites of chunks built for AArch64 and run by qemu: what NEON's kernels read, and every golden chunk, is the same to the bit as by plain C.
#   tests/cross/run.sh BUILD_DIR
set -eu
out=$1/tests/cross
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null || {
        echo "SKIPPED: NEON's kernels are not tested, for $tool is not installed (apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        exit 0
    }
done
mkdir -p "$out"
aarch64-linux-gnu-gcc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -fno-strict-aliasing -static -I. -Itests/cross -o "$out/chunks" tests/cross/main.c \
    tests/tsdb/test_chunk.c tests/tsdb/test_chunk_data.c tsdb/chunk/*.c kvcore/base/buf.c kvcore/base/mem.c kvcore/base/status.c -lm
qemu-aarch64 "$out/chunks" neon
