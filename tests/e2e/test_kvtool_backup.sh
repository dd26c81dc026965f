#!/bin/sh
# kvtool's backups on real files: a server's directory backed up twice, listed, verified, restored, checked, asked again; damage found.
set -u
build=$1
tidemark=$build/tidemark kvtool=$build/kvtool
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; rm -rf "$work"' EXIT
. "$(dirname "$0")/kit.sh"
start "$work/data"
at=$(date +%s)
for i in $(seq 200); do echo "m,host=h$i v=$i $at"; done >"$work/lines"
curl -s -o /dev/null --data-binary @"$work/lines" "$url/write?precision=s"
expect 2 "in use" "$kvtool" backup "$work/data" "$work/repo"
stop
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
