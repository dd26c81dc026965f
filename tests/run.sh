#!/bin/sh
# Runs everything `make test` promises, from the build folder given: unit programs, fuzz corpora, short crash runs, end to end.
# Closes with one line "N passed, N failed, N skipped".
set -u
build=$1
passed=0 failed=0 skipped=0
export LC_ALL=C
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0"
run() { # name, command...
    name=$1
    shift
    start=$(date +%s)
    "$@" >"$build/tests/$name.out" 2>&1
    rc=$?
    took=$(($(date +%s) - start))
    if [ $rc -eq 0 ]; then
        passed=$((passed + 1))
        printf 'ok    %-28s %ss  %s\n' "$name" "$took" "$(tail -n 1 "$build/tests/$name.out" | cut -c1-100)"
    elif [ $rc -eq 77 ]; then
        skipped=$((skipped + 1))
        printf 'SKIP  %-28s %s\n' "$name" "$(tail -n 1 "$build/tests/$name.out")"
    else
        failed=$((failed + 1))
        printf 'FAIL  %-28s exit %s\n' "$name" "$rc"
        tail -n 60 "$build/tests/$name.out"
    fi
    grep -h 'SKIPPED:' "$build/tests/$name.out" 2>/dev/null | sort | uniq -c | head -5
}
mkdir -p "$build/tests"
for unit in "$build"/tests/unit-*; do
    case $unit in *.out | *.d) continue ;; esac
    [ -x "$unit" ] && run "$(basename "$unit")" "$unit" --verbose=0 -j2
done
for replay in "$build"/tests/fuzz/replay_*; do
    [ -x "$replay" ] || continue
    case $replay in *.o | *.d | *replay_main*) continue ;; esac
    name=${replay##*/replay_}
    run "replay-$name" "$replay" "tests/fuzz/corpus/$name"
done
for script in tests/golden/test_*.sh tests/model/test_*.sh tests/crash/test_*.sh tests/e2e/test_*.sh; do
    [ -f "$script" ] && run "$(basename "$script" .sh)" sh "$script" "$build"
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
