#!/bin/sh
# check_checklist.sh: everything kvcore/docs/checklist.md names in backquotes exists: suite/test in tests/kvcore, kv_ and KV_ names and
# options in kv.h, metrics in the sources, files. Prints what does not.
set -u
page=kvcore/docs/checklist.md
names=$(grep -o '`[^`]*`' $page | tr -d '`' | sort -u)
tests=$(sed -n 's/^Test(\([a-z0-9_]*\), *\([a-z0-9_]*\).*/\1\/\2/p' tests/kvcore/*.c)
words=$(cat kvcore/kv.h kvcore/base/*.h kvcore/db/*.[ch] kvcore/sst/cache.c | grep -oE '[A-Za-z_][A-Za-z0-9_]*' | sort -u)
found=0 checked=0
missing() {
    found=1
    echo "$page: $1 does not exist"
}
for name in $(printf '%s\n' "$names" | tr ' ' '~'); do
    checked=$((checked + 1))
    case $name in
    *~* | make | metrics_v2 | CommitAt | kvtool) ;; # a command line, an example
    tests/* | kvcore/* | bench/* | db/*) [ -e "$name" ] || [ -e "kvcore/$name" ] || missing "$name" ;;
    */*) printf '%s\n' "$tests" | grep -qxF -e "$name" || missing "the test $name" ;;
    kv.h) ;;
    *.*) for word in $(echo "$name" | tr . ' '); do printf '%s\n' "$words" | grep -qxF -e "$word" || missing "$name"; done ;;
    *) printf '%s\n' "$words" | grep -qxF -e "$name" || missing "$name" ;;
    esac
done
[ $checked -gt 100 ] || missing "a list of more than $checked names"
exit $found
