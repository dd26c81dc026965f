#!/bin/sh
# tidemark backup and restore: of a stopped store, of a server that is being written to, into a repository and into archives; kill -9 in the
# middle of one; what was restored answers as what was backed up.
set -u
build=$1
tidemark=$build/tidemark
work=$(mktemp -d)
server= writer=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null; [ -z "$writer" ] || kill -9 "$writer" 2>/dev/null; rm -rf "$work"' EXIT
. "$(dirname "$0")/kit.sh"
at=$(date +%s)
put() { # first, last
    seq "$1" "$2" | awk -v at="$at" '{print "m,host=h" $1 " v=" $1 ",w=" $1 / 7 " " at - $1 % 300}' >"$work/lines"
    curl -sf -o /dev/null --data-binary @"$work/lines" "$url/write?precision=s" || fail "a write was refused"
}
answers() { # source flags: everything that was written by put, in a form that sorts
    "$tidemark" query '{__name__=~"m_.*"}' --at "$at" "$@" | sort
}

# ---- a stopped store
start "$work/data"
put 1 200
expect 1 "in use" "$tidemark" backup --data "$work/data" "$work/repo"
stop
expect 0 "backup=1 " "$tidemark" backup --data "$work/data" "$work/repo"
expect 0 "added_files=1 " "$tidemark" backup --data "$work/data" "$work/repo"
expect 0 "backup=2 " "$tidemark" backup --list "$work/repo"
expect 0 "sound" "$tidemark" backup --verify "$work/repo"
expect 0 "backup=2 " "$tidemark" restore "$work/repo" --data "$work/copy"
expect 1 "is not empty" "$tidemark" restore "$work/repo" --data "$work/copy"
expect 0 "is sound" "$tidemark" check --data "$work/copy"
answers --data "$work/data" >"$work/one"
answers --data "$work/copy" >"$work/two"
[ "$(wc -l <"$work/one")" -eq 400 ] || fail "$(wc -l <"$work/one") lines of 400 are answered"
cmp -s "$work/one" "$work/two" || fail "the restored store answers something else"
"$tidemark" backup --remove 1 "$work/repo" || fail "removing a backup"
expect 1 "no backup 1" "$tidemark" backup --remove 1 "$work/repo"
expect 1 "backups are numbered from 1" "$tidemark" backup --remove 0 "$work/repo"
expect 0 "backup=0 " "$tidemark" backup --data "$work/data" --archive "$work/a.kvb"
expect 1 "already exists" "$tidemark" backup --data "$work/data" --archive "$work/a.kvb"
"$tidemark" backup --data "$work/data" --archive - 2>/dev/null | "$tidemark" restore - --data "$work/piped" >/dev/null 2>&1 ||
    fail "through a pipe"
answers --data "$work/piped" | cmp -s - "$work/one" || fail "what came through a pipe answers something else"
head -c 1000 "$work/a.kvb" >"$work/cut.kvb"
expect 1 "ends early" "$tidemark" backup --verify "$work/cut.kvb"
expect 1 "" "$tidemark" restore "$work/cut.kvb" --data "$work/never"
[ -z "$(ls "$work/never" 2>/dev/null)" ] || fail "a restore that failed left files"
# killed in the middle: refused by all, until it is restored again
mkfifo "$work/pipe"
"$tidemark" restore - --data "$work/killed" <"$work/pipe" >/dev/null 2>&1 &
restoring=$!
exec 3>"$work/pipe"
head -c 5000 "$work/a.kvb" >&3
for _ in $(seq 100); do [ -e "$work/killed/unfinished" ] && break; sleep 0.05; done
kill -9 $restoring
exec 3>&-
wait $restoring 2>/dev/null
expect 1 "restore or checkpoint into it was cut short" "$tidemark" check --data "$work/killed"
expect 1 "run that again, or remove the directory" "$tidemark" serve --data "$work/killed" --listen 127.0.0.1:0
expect 2 "restore or checkpoint into it was cut short" "$build/kvtool" repair "$work/killed"
expect 0 "backup=0 " "$tidemark" restore "$work/a.kvb" --data "$work/killed"
answers --data "$work/killed" | cmp -s - "$work/one" || fail "restored again, it answers something else"
"$build/kvtool" put "$work/foreign" a k v >/dev/null 2>&1 # a database, but none of samples
if [ -d "$work/foreign" ]; then
    "$build/kvtool" backup --archive "$work/foreign" "$work/f.kvb" >/dev/null 2>&1
    expect 1 "is no store of samples" "$tidemark" restore "$work/f.kvb" --data "$work/foreign2"
fi

# ---- asked wrongly
expect 2 "usage" "$tidemark" backup
expect 2 "usage" "$tidemark" backup --data x --url y z
expect 2 "usage" "$tidemark" backup --list --keep 2 "$work/repo"
expect 2 "usage" "$tidemark" restore
expect 1 "lies in the data directory" "$tidemark" backup --data "$work/data" "$work/data/backups"
expect 2 "lies in the data directory" "$build/kvtool" backup "$work/data" "$work/data/backups"
[ ! -e "$work/data/backups" ] || fail "a refused backup made a directory"
expect 2 "nearest: --archive" "$tidemark" backup --archve x
expect 0 "usage" "$tidemark" backup --help
expect 0 "usage" "$tidemark" restore --help
expect 1 "" "$tidemark" backup --data "$work/nothing" "$work/repo2"
[ ! -e "$work/nothing" ] || fail "asking for a backup of nothing made it"
expect 1 "127.0.0.1:1" "$tidemark" backup --url http://127.0.0.1:1

# ---- a server, without and with a directory for backups
start "$work/data"
expect 1 "--backup-dir" "$tidemark" backup --url "$url"
expect 0 "bytes=" "$tidemark" backup --url "$url" --archive "$work/b.kvb"
expect 0 "sound" "$tidemark" backup --verify "$work/b.kvb"
stop
start "$work/data" --backup-dir "$work/served" --backup-keep 3
expect 2 "--backup-dir" "$tidemark" backup --url "$url" "$work/elsewhere"
expect 0 "backup=1 " "$tidemark" backup --url "$url"
(
    while :; do
        echo "busy v=$((i = i + 1))" | curl -s -o /dev/null --data-binary @- "$url/write"
    done
) &
writer=$!
put 201 300
answers --url "$url" >"$work/one"
expect 0 "backup=2 " "$tidemark" backup --url "$url"
expect 0 "backup=3 " "$tidemark" backup --url "$url" --flush-head
expect 0 "backup=4 " "$tidemark" backup --url "$url"
"$tidemark" backup --url "$url" --archive - 2>/dev/null | "$tidemark" restore - --data "$work/streamed" >/dev/null 2>&1 ||
    fail "from a server through a pipe"
kill "$writer" 2>/dev/null
writer=
[ "$("$tidemark" backup --list "$work/served" | wc -l)" -eq 3 ] || fail "not three backups are left"
curl -s "$url/api/v1/status/backup" >"$work/status"
grep -qF '"state":"done"' "$work/status" && grep -qF '"number":4' "$work/status" || fail "the status is $(cat "$work/status")"
curl -s "$url/metrics" | grep -q '^tidemark_backups_total 5$' || fail "backups are not counted"
answers --data "$work/streamed" | cmp -s - "$work/one" || fail "what was streamed answers something else"
for n in 2 3 4; do
    expect 0 "backup=$n " "$tidemark" restore --number $n "$work/served" --data "$work/served$n"
    expect 0 "is sound" "$tidemark" check --data "$work/served$n"
    answers --data "$work/served$n" | cmp -s - "$work/one" || fail "backup $n answers something else"
done

# ---- kill -9 while a backup is being made: older backups stay, and the next one is made
for round in 1 2 3; do
    put $((300 + round * 2000)) $((2300 + round * 2000))
    curl -s -o /dev/null -X POST "$url/api/v1/admin/backup?flush_head=1"
    sleep 0.0$round
    kill -9 "$server"
    wait "$server" 2>/dev/null
    expect 0 "backup=" "$tidemark" backup --list "$work/served"
    start "$work/data" --backup-dir "$work/served" --backup-keep 3
done
expect 0 "backup=" "$tidemark" backup --url "$url"
expect 0 "sound" "$tidemark" backup --verify "$work/served"
answers --url "$url" >"$work/one"
stop
expect 0 "backup=" "$tidemark" restore "$work/served" --data "$work/last"
answers --data "$work/last" | cmp -s - "$work/one" || fail "the last backup answers something else"
[ $failed -eq 0 ] && echo "backup and restore: stopped, served, streamed, killed"
exit $failed
