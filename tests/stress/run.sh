#!/bin/sh
# Runs every concurrent scenario of tests/stress from the build folder given: each is a program that exits 0 when all went well.
set -u
failed=0
for source in tests/stress/*.c; do
    name=$(basename "$source" .c)
    if "$1/tests/stress/$name" >"$1/tests/stress/$name.out" 2>&1; then
        printf 'ok    %s\n' "$name"
    else
        printf 'FAIL  %s\n' "$name"
        tail -n 60 "$1/tests/stress/$name.out"
        failed=1
    fi
done
exit $failed
