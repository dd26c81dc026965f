#!/bin/sh
# kvtool's backups on real files: a server's directory backed up twice, listed, verified, restored, checked, asked again; damage found.
set -u
build=$1
tidemark=$build/tidemark kvtool=$build/kvtool
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    failed=1
}
# expect STATUS TEXT command...: exit status, and a part of what is printed
expect() {
    want=$1 text=$2
    shift 2
    "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    [ $got -eq "$want" ] || fail "$*: exit $got, not $want: $(head -3 "$work/out")"
    grep -qF -e "$text" "$work/out" || fail "$*: \"$text\" is not in: $(head -3 "$work/out")"
}
: >"$work/ready"
"$tidemark" serve --data "$work/data" --listen 127.0.0.1:0 --self-metrics off >"$work/ready" 2>"$work/log" &
server=$!
for _ in $(seq 200); do
    grep -q '^ready ' "$work/ready" && break
    sleep 0.05
done
url=http://$(sed -n 's/^ready .*listen=\([^ ]*\).*/\1/p' "$work/ready")
at=$(date +%s)
for i in $(seq 200); do echo "m,host=h$i v=$i $at"; done >"$work/lines"
curl -s -o /dev/null --data-binary @"$work/lines" "$url/write?precision=s"
expect 2 "in use" "$kvtool" backup "$work/data" "$work/repo"
kill "$server" && wait "$server"
server=
expect 0 "backup=1 " "$kvtool" backup "$work/data" "$work/repo"
expect 0 "added_files=1 " "$kvtool" backup "$work/data" "$work/repo"
expect 0 "backup=2 " "$kvtool" backups "$work/repo"
expect 0 "sound" "$kvtool" verify "$work/repo"
expect 0 "backup=1 " "$kvtool" restore --number 1 "$work/repo" "$work/copy"
expect 0 "sound" "$kvtool" check "$work/copy"
expect 2 "is not empty" "$kvtool" restore "$work/repo" "$work/copy"
"$kvtool" forget "$work/repo" 1 || fail "forget"
expect 2 "no backup 1" "$kvtool" forget "$work/repo" 1
expect 0 "backup=0 " "$kvtool" backup --plain --archive "$work/data" "$work/a.kvb"
expect 2 "already exists" "$kvtool" backup --archive "$work/data" "$work/a.kvb"
"$kvtool" backup --archive "$work/data" - 2>/dev/null | "$kvtool" restore - "$work/piped" >/dev/null 2>&1 || fail "through a pipe"
expect 0 "sound" "$kvtool" check "$work/piped"
"$kvtool" stream "$work/copy" series >"$work/one" && "$kvtool" stream "$work/piped" series >"$work/two"
[ "$(sort "$work/one")" = "$(sort "$work/two")" ] && [ -s "$work/one" ] || fail "the two copies differ"
expect 0 "entries=" "$kvtool" export "$work/copy" "$work/e.kvx"
head -c 1000 "$work/a.kvb" >"$work/cut.kvb"
expect 1 "ends early" "$kvtool" verify "$work/cut.kvb"
victim=$(ls "$work"/repo/*.pack | head -1)
printf 'x' | dd of="$victim" bs=1 seek=200 conv=notrunc 2>/dev/null
expect 1 "$(basename "$victim")" "$kvtool" verify "$work/repo"
expect 2 "damaged" "$kvtool" restore "$work/repo" "$work/never"
expect 2 "usage" "$kvtool" backup "$work/data"
expect 2 "usage" "$kvtool" backup --keep 0 "$work/data" "$work/repo"
expect 0 '200' "$tidemark" query --data "$work/piped" 'count(m_v)' --at "$at"
[ $failed -eq 0 ] && echo "backup, verify, restore, archives, streams on real files"
exit $failed
