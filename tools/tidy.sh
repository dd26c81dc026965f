#!/bin/sh
# make lint: everything a machine can hold a change to. Prints each finding as file:line and fails if there was any.
set -u
export LC_ALL=C
found=0
sources=$(git ls-files '*.c' '*.h')
fail() {
    found=1
    printf '%s\n' "$1"
}

# ---- direction of includes: an include points down only
direction() { # files..., then allowed pattern as last argument
    pattern=$1
    shift
    [ $# -gt 0 ] || return 0
    bad=$(grep -nE '^#include "' "$@" /dev/null | grep -vE "#include \"($pattern)\"")
    [ -z "$bad" ] || fail "include points up or sideways:
$bad"
}
layer() {
    git ls-files "$1" | grep -E '\.[ch]$' | grep -vE "${2:-^$}"
}
base='kvcore/base/[a-z0-9_]+\.h'
leaf="$base|kvcore/os/(clock|thread)\.h"
direction "$base" $(layer kvcore/base)
direction "$base|kvcore/os/[a-z0-9_]+\.h" $(layer kvcore/os)
direction "$base|kvcore/(os|crypt)/[a-z0-9_]+\.h" $(layer kvcore/crypt)
direction "$base|kvcore/(os|crypt|sst)/[a-z0-9_]+\.h" $(layer kvcore/sst)
direction "$base|kvcore/(os|crypt|sst|vlog)/[a-z0-9_]+\.h" $(layer kvcore/vlog)
direction "$base|kvcore/(os|crypt|sst|vlog|db)/[a-z0-9_]+\.h|kvcore/kv\.h|version\.h" $(layer kvcore/db) $(layer kvcore/kv.h)
direction "$base|kvcore/(os|crypt|sst|vlog|db|txn)/[a-z0-9_]+\.h|kvcore/kv\.h" $(layer kvcore/txn)
direction "$base|kvcore/(os|crypt|sst|vlog|db|backup)/[a-z0-9_]+\.h|kvcore/kv\.h" $(layer kvcore/backup)
direction 'examples include <kvcore/kv.h> or <tsdb/ts.h> alone' $(layer kvcore/examples) $(layer tsdb/examples)
direction "$leaf|kvcore/kv\.h|tsdb/([a-z]+/)?[a-z0-9_]+\.h" $(layer tsdb)
direction "$leaf|tsdb/ts\.h|http/([a-z]+/)?[a-z0-9_]+\.h|version\.h" $(layer http)
direction "$leaf|kvcore/kv\.h|tsdb/ts\.h|http/([a-z]+/)?[a-z0-9_]+\.h|tools/[a-z0-9_]+\.h|version\.h" $(layer tools 'kvtool[a-z_]*\.[ch]')

# ---- calls that belong behind base/ and os/
banned='malloc|calloc|realloc|free|strdup|strndup|strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|rand|srand|random|time|gettimeofday|clock_gettime|usleep|sleep|nanosleep|open|openat|creat|fopen|rename|unlink|pwrite|pread|fsync|fdatasync|ftruncate|mmap|pthread_[a-z_]+'
bad=$(grep -nE "(^|[^a-zA-Z0-9_.>])($banned)\(" $(layer kvcore '^kvcore/(base|os|examples)/') $(layer tsdb '^tsdb/examples/') $(layer http) /dev/null |
    grep -vE ':[0-9]+: *(\*|/\*|//)' | grep -vE '/\*.*\b('"$banned"')\(' | grep -v 'LINT-OK:')
[ -z "$bad" ] || fail "banned call outside kvcore/base and kvcore/os:
$bad"

# ---- headers: each compiles alone and has a guard
for h in $(git ls-files 'kvcore/*.h' 'tsdb/*.h' 'http/*.h' 'tools/*.h' version.h); do
    out=$(${CC:-gcc} -std=c11 -I. -D_GNU_SOURCE -Wall -Wextra -Wconversion -Wshadow -fsyntax-only -x c "$h" 2>&1) || fail "$h does not compile alone:
$out"
    grep -q '^#ifndef [A-Z0-9_]*_H$' "$h" || fail "$h:1: no include guard"
done

# ---- names: every symbol a layer exports carries its prefix
prefix() {
    for o in $(find "build/release/$1" -name '*.o' 2>/dev/null); do
        [ -f "${o#build/release/}" ] || [ -f "$(echo "${o#build/release/}" | sed 's/o$/c/')" ] || continue
        bad=$(nm -g --defined-only "$o" | awk '{print $3}' | grep -vE "^$2")
        [ -z "$bad" ] || fail "$o exports names without the prefix $2: $bad"
    done
}
${MAKE:-make} -s all >/dev/null || fail "the build has warnings or errors"
prefix kvcore kv_
prefix tsdb ts_
prefix http http_

# ---- dead code: what one object exports and no other object, test or benchmark asks for should be static or
# deleted; so should a header's macro or inline function that is written nowhere else
objects=$(for o in $(find build/release/kvcore build/release/tsdb build/release/http build/release/tools -name '*.o'); do
    c=${o#build/release/}
    [ ! -f "${c%.o}.c" ] || echo "$o"
done)
git ls-files 'tests/*.[ch]' 'bench/*.[ch]' | xargs cat | grep -oE '[A-Za-z_][A-Za-z0-9_]*' | sort -u >build/test-words.out
bad=$(nm -Ag $objects | awk -v words=build/test-words.out '
    BEGIN { while ((getline word < words) > 0) used[word] = 1; used["main"] = 1 }
    $(NF - 1) == "U" { used[$NF] = 1; next }
    { sub(/:.*/, "", $1); where[$NF] = $1 }
    END { for (name in where) if (!(name in used)) print where[name] ": " name }' | sort)
[ -z "$bad" ] || fail "exported, and used by its own file at most:
$bad"
bad=$(awk '
    FILENAME ~ /\.h$/ && (/^#define [A-Z]/ || /^static inline /) {
        name = $0
        if (!sub(/^#define /, "", name)) { sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
        sub(/[^A-Za-z0-9_].*/, "", name)
        where[name] = FILENAME
    }
    { n = split($0, word, /[^A-Za-z0-9_]+/); for (i = 1; i <= n; i++) count[word[i]]++ }
    END { for (name in where) if (count[name] < 2) print where[name] ": " name }' $sources | sort)
[ -z "$bad" ] || fail "in a header, and used nowhere:
$bad"

# ---- what the checklist names exists
bad=$(sh tests/kvcore/check_checklist.sh) || fail "$bad"

# ---- text: trailing blanks, tabs, very long lines, words that do not belong
for f in $sources; do
    bad=$(grep -nE '[[:space:]]$|	' "$f" | head -3)
    [ -z "$bad" ] || fail "$f: trailing blank or tab: $bad"
done
bad=$(grep -nwE 'TODO|FIXME|XXX|HACK' $sources /dev/null | head -5)
[ -z "$bad" ] || fail "unfinished: $bad"

# ---- size: no function past 100 lines unless it is listed, with its reason, in tools/long-functions.txt
for f in $(git ls-files 'kvcore/*.c' 'tsdb/*.c' 'http/*.c' 'tools/*.c'); do
    awk -v f="$f" '/^[a-zA-Z_].*\)[[:space:]]*$/ {start = NR; name = $0}
        /^}/ {if (start && NR - start > 100) print f ": " NR - start " lines: " substr(name, 1, 70); start = 0}' "$f"
done | while read -r line; do
    key=$(echo "$line" | sed 's/.*lines: //; s/(.*//; s/.* \**//')
    grep -q "^$key " tools/long-functions.txt 2>/dev/null || echo "too long: $line"
done >build/long.out
[ ! -s build/long.out ] || fail "$(cat build/long.out)"

# ---- formatting and the two analysers
if command -v clang-format-14 >/dev/null; then
    bad=$(clang-format-14 --dry-run $sources 2>&1 | grep 'warning:' | cut -d: -f1 | sort | uniq -c | head -20)
    [ -z "$bad" ] || fail "not formatted (clang-format-14 -i):
$bad"
else
    echo "SKIPPED: clang-format-14 is not installed (make deps-lint)"
fi
product=$(git ls-files 'kvcore/*.c' 'tsdb/*.c' 'http/*.c' 'tools/*.c')
if command -v cppcheck >/dev/null; then
    mkdir -p build/cppcheck # what it found in files that have not changed since
    cppcheck -q -j"$(nproc)" --cppcheck-build-dir=build/cppcheck --std=c11 --enable=warning,portability,performance --inline-suppr --suppress=missingIncludeSystem \
        --suppress=normalCheckLevelMaxBranches -I. -D_GNU_SOURCE --error-exitcode=3 $product 2>build/cppcheck.out || fail "$(cat build/cppcheck.out)"
else
    echo "SKIPPED: cppcheck is not installed (make deps-lint)"
fi
if command -v clang-tidy-14 >/dev/null; then
    mkdir -p build/clang-tidy # an empty file for each clean input: the checks, the file and all it includes
    printf '%s\n' $product | xargs -P"$(nproc)" -n1 sh -c '
        flags="-std=c11 -I. -D_GNU_SOURCE"
        seen=build/clang-tidy/$(cat .clang-tidy $(${CC:-gcc} $flags -MM "$1" | sed "s/^[^:]*://; s/\\\\$//") | sha256sum | cut -c1-32)
        [ ! -f "$seen" ] || exit 0
        clang-tidy-14 --quiet "$1" -- $flags >"$seen.$$" 2>/dev/null || echo "$1: error: clang-tidy failed" >>"$seen.$$"
        if grep -qE "(warning|error):" "$seen.$$"; then
            cat "$seen.$$"
        else
            : >"$seen"
        fi
        rm "$seen.$$"' sh >build/clang-tidy.out
    bad=$(grep -E '(warning|error):' build/clang-tidy.out | sort -u)
    [ -z "$bad" ] || fail "$bad"
else
    echo "SKIPPED: clang-tidy-14 is not installed (make deps-lint)"
fi
[ $found -eq 0 ] && echo "lint: clean"
exit $found
