#!/bin/sh
# libFuzzer on every target (or the one named), with AddressSanitizer and UBSan: run.sh NAME SECONDS.
# Findings and new corpus stay under build/fuzz.
set -eu
only=$1
seconds=$2
out=build/fuzz
mkdir -p $out
src=$(ls kvcore/*/*.c tsdb/*.c tsdb/*/*.c http/*.c http/*/*.c tests/support/damage_kit.c tests/support/damage_repair.c tests/support/kv_kit.c \
    tests/support/clock_manual.c 2>/dev/null)
flags="-std=c11 -I. -D_GNU_SOURCE -DKV_DEBUG -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -pthread -Wno-everything"
for c in $src; do
    o=$out/$(echo "$c" | tr / _).o
    if [ ! -f "$o" ] || [ "$c" -nt "$o" ] || [ -n "$(find kvcore tsdb http tests/support -name '*.h' -newer "$o" | head -1)" ]; then
        clang-14 $flags -fsanitize=fuzzer-no-link -c "$c" -o "$o"
    fi
done
rm -f $out/all.a
ar rcs $out/all.a $out/*.o
for target in tests/fuzz/fuzz_*.c; do
    name=$(basename "$target" .c | sed 's/^fuzz_//')
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    clang-14 $flags -fsanitize=fuzzer "$target" $out/all.a -o "$out/$name" \
        -lmicrohttpd -lcjson -lyaml -lcurl -lsodium -ldeflate -lz -lzstd -lsnappy -lxxhash -lcrypto -lm
    mkdir -p "$out/corpus_$name"
    dict=tests/fuzz/$name.dict
    echo "== $name for $seconds s"
    "$out/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$out/$name-" $([ -f "$dict" ] && echo "-dict=$dict") \
        "$out/corpus_$name" "tests/fuzz/corpus/$name" 2>&1 | tail -n 12
done
