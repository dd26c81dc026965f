#!/bin/sh
# kvcore and tsdb as others meet them: installed into a directory of its own, and their examples built against that with pkg-config alone and run.
set -u
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    failed=1
}
prefix=/opt/kvcore # as packages are made: into DESTDIR, for another place
sh tools/install.sh "$build" "$work" $prefix 1.2.3 || exit 1
root=$work$prefix
export PKG_CONFIG_PATH="$root/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$work" LD_LIBRARY_PATH="$root/lib"
cc=${CC:-cc}

# ---- what is installed
for package in kvcore tidemark; do
    [ "$(pkg-config --modversion $package)" = 1.2.3 ] || fail "$package.pc has another version"
done
headers=$(cd "$root/include" && find . -name '*.h' | sed 's,^\./,,' | sort)
for h in $headers; do
    $cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -x c $(pkg-config --cflags kvcore) "$root/include/$h" || fail "$h does not compile alone"
    case $h in kvcore/kv.h | tsdb/ts.h | kvcore/base/*.h) ;; *) fail "$h is installed" ;; esac
done
printf '#include <kvcore/kv.h>\n' | $cc -MM -x c - $(pkg-config --cflags kvcore) >"$work/needed" || fail "kv.h needs what is not installed"

# Declared in the headers <=> exported by the library: what is missing could not be linked, what is too much would become a promise.
exports() { nm -D --defined-only "$1" | awk '{print $3}' | sort -u; }
declared() { # headers...
    cat "$@" | tr '\n' ' ' | grep -oE '(KV|TS)_API [^;{]*\(' | grep -oE '[a-z_0-9]+ ?\(' | tr -d ' (' | grep -E '^(kv|ts)_' | sort -u
}
(cd "$root/include" && declared kvcore/kv.h kvcore/base/*.h) >"$work/declared"
exports "$root/lib/libkvcore.so" >"$work/exported"
[ "$(wc -l <"$work/declared")" -gt 60 ] || fail "only $(wc -l <"$work/declared") functions found in the headers"
cmp -s "$work/declared" "$work/exported" || fail "headers (<) and libkvcore.so (>) differ: $(diff "$work/declared" "$work/exported")"
missing=$(exports "$root/lib/libtidemark.so" | comm -13 - "$work/declared")
[ -z "$missing" ] || fail "libtidemark.so lacks $missing"
(cd "$root/include" && declared tsdb/ts.h | grep '^ts_') >"$work/declared_ts"
exports "$root/lib/libtidemark.so" | grep '^ts_' >"$work/exported_ts"
cmp -s "$work/declared_ts" "$work/exported_ts" || fail "ts.h (<) and libtidemark.so (>) differ: $(diff "$work/declared_ts" "$work/exported_ts")"
foreign=$(exports "$root/lib/libtidemark.so" | grep -vE '^(kv|ts)_')
[ -z "$foreign" ] || fail "libtidemark.so exports $foreign"

# ---- manual pages: clean, of what there is
for page in kvcore.3 kvtool.1 tidemark.1; do
    at=$root/share/man/man${page##*.}/$page
    [ -s "$at" ] || fail "$page is not installed"
    command -v man >/dev/null || continue
    warnings=$(man --warnings -E UTF-8 -l -Tutf8 -Z "$at" 2>&1 >/dev/null)
    [ -z "$warnings" ] || fail "$page: $warnings"
done
for name in $(grep -oE 'kv_[a-z_]+' kvcore/docs/man/kvcore.3 | sort -u); do
    grep -rqw "$name" "$root/include/kvcore" || fail "kvcore.3 tells of $name"
done
for command in $("$root/bin/kvtool" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
    grep -qE "\\b$(echo "$command" | sed 's/-/\\\\-/')\\b" kvcore/docs/man/kvtool.1 || fail "kvtool.1 does not tell of $command"
done

for command in $("$root/bin/tidemark" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
    grep -qE "\b$command\b" tools/tidemark.1 || fail "tidemark.1 does not tell of $command"
done

# ---- the examples
build_one() { # name, source, package
    $cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 "$2" -o "$work/$1" $(pkg-config --cflags --libs "$3") -pthread ||
        fail "$1 does not build"
}
# said NAME STATUS "text" arguments...: runs it, and what it prints is exactly the text
said() {
    name=$1 want=$2 text=$3
    shift 3
    "$work/$name" "$@" >"$work/out" 2>"$work/err"
    got=$?
    [ $got -eq "$want" ] || fail "$name $*: exit $got, not $want: $(cat "$work/err")"
    [ "$(cat "$work/out")" = "$text" ] || fail "$name $*: printed \"$(cat "$work/out")\", not \"$text\""
}
for source in kvcore/examples/*.c tsdb/examples/*.c; do
    name=$(basename "$source" .c)
    case $source in tsdb/*) package=tidemark ;; *) package=kvcore ;; esac
    build_one "$name" "$source" $package
    lines=$(wc -l <"$source")
    [ "$lines" -le 130 ] || fail "$source has $lines lines: not a short example"
    grep -q "^said $name " "$0" || fail "$source is not run"
done

said hello 0 "hello world
goodbye = moon
hello = world" "$work/hello.kv"
said cache 0 "page of alice, made 1 times
page of alice, made 1 times
page of alice, made 2 times
page of alice, made 2 times" "$work/cache.kv"
store=$work/state.kv
said state_store 0 "" "$store" set lamp/hall on
said state_store 0 "" "$store" set lamp/attic off
said state_store 0 "" "$store" set door shut
said state_store 0 "on" "$store" get lamp/hall
said state_store 0 "lamp/attic = off
lamp/hall = on" "$store" list lamp/
said state_store 0 "" "$store" delete lamp/attic
said state_store 1 "" "$store" get lamp/attic
said state_store 0 "door = shut
lamp/hall = on" "$store" list
said state_store 2 "" "$store" sing
said transfer 0 "400 transfers by 4 threads: 500 in all accounts, as at the start: yes" "$work/bank.kv"
said export 0 "1000 entries to $work/export.txt" "$work/export.kv" "$work/export.txt"
[ "$(wc -l <"$work/export.txt")" -eq 1000 ] || fail "export.txt has $(wc -l <"$work/export.txt") lines"
[ "$(sed -n 1p "$work/export.txt")" = "room/000	21.5\\x09degrees" ] || fail "export.txt begins $(sed -n 1p "$work/export.txt")"
registry=$work/registry.kv
said registry 0 "" "$registry" register prod web 60 10.0.0.1:80 10.0.0.2:80
said registry 0 "" "$registry" register prod db 60 10.0.0.9:5432
said registry 0 "" "$registry" register test web 1 10.1.0.1:80
said registry 0 "prod/web/10.0.0.1:80 up
prod/web/10.0.0.2:80 up" "$registry" list prod web
said registry 0 "" "$registry" deregister prod web 10.0.0.1:80
said registry 0 "prod/db/10.0.0.9:5432 up
prod/web/10.0.0.2:80 up" "$registry" list prod
sleep 1
said registry 0 "" "$registry" list test
said registry 0 "" "$registry" deregister prod web
said registry 0 "prod/db/10.0.0.9:5432 up" "$registry" list prod
said ttl_store 0 "6000 sessions written, 0 live, tables hold under half of what was written: yes" "$work/ttl.kv"

said embed 0 "room=kitchen 20.5" "$work/embed.ts"
said embed 0 "room=kitchen 20.5" "$work/embed.ts" # and again, over what is there
"$build/tidemark" check --data "$work/embed.ts" >"$work/out" 2>&1 || fail "embed left $(cat "$work/out")"

# A directory that cannot be: the reason is said, with the path.
for name in hello cache transfer ttl_store embed; do
    "$work/$name" /dev/null/x >"$work/out" 2>&1 && fail "$name succeeds on /dev/null/x"
    grep -q '^'$name': .*/dev/null/x' "$work/out" || fail "$name on /dev/null/x says: $(cat "$work/out")"
done

# The archives alone will do, too.
$cc -std=c11 -D_GNU_SOURCE tsdb/examples/embed.c -o "$work/embed_static" $(pkg-config --cflags tidemark) "$root/lib/libtidemark.a" \
    $(pkg-config --libs --static tidemark | sed 's/-ltidemark//') || fail "embed does not link against libtidemark.a"
said embed_static 0 "room=kitchen 20.5" "$work/embed2.ts"
$cc -std=c11 -D_GNU_SOURCE kvcore/examples/hello.c -o "$work/hello_static" $(pkg-config --cflags kvcore) "$root/lib/libkvcore.a" \
    $(pkg-config --libs --static kvcore | sed 's/-lkvcore//') || fail "hello does not link against libkvcore.a"
said hello_static 0 "hello world
goodbye = moon
hello = world" "$work/hello2.kv"
[ $failed -eq 0 ] && echo "$(ls kvcore/examples/*.c tsdb/examples/*.c | wc -l) examples, $(cat "$work/exported" "$work/exported_ts" | wc -l) functions exported as declared"
exit $failed
