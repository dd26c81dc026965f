#!/bin/sh
# kvtool as a person meets it: every command on a small database, its text compared; and what it says of wrong usage and bad directories.
set -u
kvtool=$1/kvtool
work=$(mktemp -d)
held=
trap '[ -z "$held" ] || kill -9 "$held" 2>/dev/null; rm -rf "$work"' EXIT
failed=0
fail() {
    echo "FAILED: $1"
    failed=1
}
# says STATUS "text" arguments...: exit status, and all that is printed
says() {
    want=$1 text=$2
    shift 2
    "$kvtool" "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    [ $got -eq "$want" ] || fail "kvtool $*: exit $got, not $want: $(head -5 "$work/out")"
    [ "$(cat "$work/out")" = "$text" ] || fail "kvtool $*: printed \"$(cat "$work/out")\", not \"$text\""
}
# has STATUS "text" arguments...: a part of what is printed, which may vary
has() {
    want=$1 text=$2
    shift 2
    "$kvtool" "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    [ $got -eq "$want" ] || fail "kvtool $*: exit $got, not $want: $(head -5 "$work/out")"
    [ -z "$text" ] || grep -qF -e "$text" "$work/out" || fail "kvtool $*: \"$text\" is not in: $(head -5 "$work/out")"
}

# ---- usage
has 2 "unknown option --nothing" --nothing
has 0 "usage: kvtool" --help
has 2 "usage: kvtool"
has 2 "unknown command scna (nearest: scan)" scna
has 2 "unknown option --revers (nearest: --reverse)" scan --revers "$work/db" s
has 2 "unknown option --kye-file (nearest: --key-file)" --kye-file x info "$work/db"
has 2 "--limit ten is not a number" scan --limit ten "$work/db" s
has 2 "--limit needs a value" scan "$work/db" s --limit
for command in $("$kvtool" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
    has 0 "usage: kvtool $command" "$command" --help
    grep -q "^kvtool .*$command\|[ \"]$command[ \"]" "$0" || fail "$command is not run here"
done

# ---- a database, from bench: fill, read and scan
has 0 "fill " bench --entries 1000 --value-bytes 10 "$work/bench"
has 0 "scan             1000 entries" bench --entries 1000 --value-bytes 10 "$work/bench"
has 0 "flush " bench --entries 1000 --value-bytes 300 --separate 200 "$work/apart"
has 0 ".vlg bytes=" dump vlog "$work/apart"
[ "$(sed -n 's/.* live=\([0-9]*\)$/\1/p' "$work/out")" -ge 150000 ] || fail "half of each value is noise, and live: $(cat "$work/out")"
has 0 "offset=" dump table "$(ls "$work/apart"/*.tbl | head -1)"
db=$work/bank s=kvtool_bank
has 0 "5 accounts hold 5000, as they should" bank run --seconds 1 --threads 2 --accounts 5 "$db"
has 0 "5 accounts hold 5000, as they should" bank verify "$db"
has 2 "usage: kvtool bank" bank audit "$db"

# ---- writing, reading
rm -rf "$db"
has 0 "accounts hold" bank run --seconds 0 --accounts 3 "$db"
says 0 "0000000000000000 1000
0000000000000001 1000
0000000000000002 1000" scan "$db" $s
says 0 "version 2" put "$db" $s 'a\x00b' 'x\ y'
says 0 "version 3" put "$db" $s a 1
says 0 "version 4" put "$db" $s a 2
says 0 "version 5" put --plain-space --meta 7 --ttl 5000 "$db" $s brief 3
says 0 "2" get "$db" $s a
says 1 "" get "$db" $s nothing
says 0 "a 2
a\\x00b x\\x5c\\x20y
brief 3" scan "$db" $s a c
says 0 "brief 3
a\\x00b x\\x5c\\x20y" scan --reverse --limit 2 "$db" $s a c
says 0 "a
a\\x00b" scan --keys-only --prefix a "$db" $s
says 0 "61 32" scan --hex --limit 1 "$db" $s a
says 0 "a @4 2
a @3 1" scan --versions --limit 2 "$db" $s a
says 0 "a 2
a\\x00b x\\x5c\\x20y" stream "$db" $s a
has 0 "brief put expires=" dump wal "$(ls "$db"/*.log | tail -1)"
has 0 " meta=7 3" dump wal "$(ls "$db"/*.log | tail -1)"
says 0 "version 6" del "$db" $s a
says 1 "" get "$db" $s a
has 2 "--plain-space" del-range "$db" $s b c
says 0 "version 7" del-range --plain-space "$db" $s b c
says 2 "kvtool: invalid argument or input: LOWER must be below UPPER, and neither be empty" del-range --plain-space "$db" $s c b
has 2 "--plain-space" put --ttl 5 "$db" $s k v
# A value from a file and to one, longer than what goes through the log.
head -c 3000000 /dev/urandom >"$work/large"
rm -rf "$work/large.db"
has 0 "accounts hold" bank run --seconds 0 --accounts 2 "$work/large.db"
has 2 "--plain-space" put --from "$work/large" "$work/large.db" $s k
has 2 "cannot be read" put --plain-space --from "$work/no such file" "$work/large.db" $s k
has 2 "usage: kvtool put" put --plain-space --from "$work/large" "$work/large.db" $s k v
has 0 "version" put --plain-space --from "$work/large" "$work/large.db" $s k
has 0 "" get --to "$work/back" "$work/large.db" $s k
cmp -s "$work/large" "$work/back" || fail "a large value comes back as another"
[ "$(ls "$work/large.db" | grep -c '\.vlg$')" = 1 ] || fail "a large value has a file of its own"
"$kvtool" get --to - "$work/large.db" $s k | cmp -s "$work/large" - || fail "get --to -"
printf 'from stdin' | "$kvtool" put --plain-space --from - "$work/large.db" $s k >/dev/null || fail "put --from -"
says 0 "from stdin" get --to - "$work/large.db" $s k
says 1 "" get --to - "$work/large.db" $s nothing
has 0 "sound" check "$work/large.db"
has 2 "key of 0 bytes (1 to 4096)" put "$db" $s '' v
says 1 "" get "$db" $s brief
has 2 "--plain-space" compact "$db" $s
has 0 "bytes before," compact --plain-space "$db" $s
says 0 "0000000000000000 1000
0000000000000001 1000
0000000000000002 1000
a\\x00b x\\x5c\\x20y" scan "$db" $s

# ---- looking in
has 0 "space          $s tables=1" info "$db"
has 0 "space $s (levelled)" dump tree "$db"
has 0 "keys=0000000000000000..a\\x00b" dump tree "$db"
has 0 "a\\x00b @2 put x\\x5c\\x20y" dump table "$(ls "$db"/*.tbl)"
has 0 "edit=" dump manifest "$(ls "$db"/*.man | tail -1)"
says 0 "version 8" put "$db" $s z 9
has 0 "z put 9" dump wal "$(ls "$db"/*.log | tail -1)"
says 0 "" dump vlog "$db"
has 0 "z put 9" dump log "$(ls "$db"/*.log | tail -1)"
has 2 "tables is none of log, table, manifest, tree, vlog" dump tables "$db"
has 0 "bytes of a key: n=5 mean=10.4" histogram "$db" $s
has 0 "sound=yes" health "$db"
has 0 "job name=backup runs=0" health "$db"
has 0 "versions of a key: n=5 mean=1.0 max=1" histogram "$db" $s
has 0 "sound" check "$db"

# ---- backups (more of them in test_kvtool_backup.sh)
has 0 "" backup "$db" "$work/repository"
has 0 "1" backups "$work/repository"
has 0 "" verify "$work/repository"
has 0 "" restore "$work/repository" "$work/restored"
says 0 "9" get "$work/restored" $s z
has 0 "" backup "$db" "$work/repository"
has 0 "" forget "$work/repository" 1
has 0 "" export "$db" "$work/export"
[ -s "$work/export" ] || fail "export wrote nothing"
has 0 "commits of the log kept, 0 lost" salvage "$work/restored"

# ---- repair
has 0 "nothing had to be repaired" repair "$work/restored"
cp -r "$work/restored" "$work/broken"
rm "$work/broken"/*.man "$work/broken/.current"
has 2 "holds no database" scan "$work/broken" $s
has 2 "give all of them" repair "$work/broken"
has 2 "NAME:levelled" repair --spaces a:tree "$work/broken"
has 1 "the manifest is lost: it is made again from the files" repair --spaces $s "$work/broken"
says 0 "9" get "$work/broken" $s z
has 0 "nothing had to be repaired" repair "$work/broken"
has 0 "" check "$work/broken"

# ---- keys
head -c 32 /dev/urandom >"$work/key" && chmod 600 "$work/key"
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$work/key2" && chmod 600 "$work/key2"
[ "$("$kvtool" key-id "$work/key2" | wc -c)" -eq 17 ] || fail "key-id"
has 0 "as they should" --key-file "$work/key" bank run --seconds 0 "$work/sealed"
has 2 "kvtool: the encryption key is missing or another one" scan "$work/sealed" $s
has 2 "kvtool: the encryption key is missing or another one" --key-file "$work/key2" get "$work/sealed" $s a
has 0 "is now under the key of" --key-file "$work/key" rotate-key "$work/sealed" "$work/key2"
has 0 "as they should" --key-file "$work/key2" bank verify "$work/sealed"
chmod 644 "$work/key2"
has 2 "may be read by others" --key-file "$work/key2" info "$work/sealed"
has 2 "cannot read the key file" --key-file "$work/no" info "$work/sealed"

# ---- what is no database, or not now
for command in "info DIR" "check DIR" "scan DIR s" "get DIR s k" "put DIR s k v" "del DIR s k" "histogram DIR s" "health DIR" "dump tree DIR" \
    "compact --plain-space DIR s" "stream DIR s" "bank verify DIR"; do
    # shellcheck disable=SC2046
    has 2 "$work/none" $(echo "$command" | sed "s,DIR,$work/none,")
done
[ ! -e "$work/none" ] || fail "asking a directory that is not there made it"
mkdir "$work/foreign"
echo hello >"$work/foreign/letter"
has 2 "$work/foreign" info "$work/foreign"
has 2 "$work/foreign" put "$work/foreign" s k v
has 2 "has no space nothing" scan "$db" nothing
"$kvtool" bank run --seconds 600 "$work/busy" >/dev/null 2>&1 &
held=$!
for _ in $(seq 200); do
    [ "$("$kvtool" info "$work/busy" 2>/dev/null | grep -c "^space")" = 1 ] && break
    sleep 0.05
done
has 2 "$held" put "$work/busy" $s k v
has 2 "in use; try again later" put "$work/busy" $s k v
# beside the process that writes it
has 2 "in use by process $held: --follow reads beside it" scan "$work/busy" $s
has 2 "unknown option --follow" del --follow "$work/busy" $s k
for _ in $(seq 200); do
    "$kvtool" get --follow "$work/busy" $s 0000000000000099 >/dev/null 2>&1 && break
    sleep 0.05
done
for _ in 1 2 3 4 5; do
    total=$("$kvtool" scan --follow "$work/busy" $s | awk '{ sum += $NF } END { print sum }')
    [ "$total" = 100000 ] || fail "scan --follow sees money made or lost: $total"
done
has 0 "space          $s" info --follow "$work/busy"
has 0 "bytes of a key" histogram --follow "$work/busy" $s
has 0 "0000000000000099" stream --follow "$work/busy" $s
has 0 "damage files=0" health --follow "$work/busy"
has 0 "" export --follow "$work/busy" "$work/busy.export"
kill -9 $held
wait $held 2>/dev/null
held=
has 0 "100 accounts hold 100000, as they should" bank verify "$work/busy"
cp -r "$db" "$work/newer"
manifest=$(ls "$work/newer"/*.man | tail -1)
python3 - "$manifest" <<'P'
import sys
data = bytearray(open(sys.argv[1], 'rb').read())
data[8:10] = (999).to_bytes(2, 'little')  # the format, and the header's crc32c for it
crc = 0xffffffff
for byte in data[:124]:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
data[124:128] = (crc ^ 0xffffffff).to_bytes(4, 'little')
open(sys.argv[1], 'wb').write(data)
P
has 2 "kvtool: written by a newer version: $(basename "$manifest")" scan "$work/newer" $s
[ $failed -eq 0 ] && echo "every command of kvtool, and what it refuses"
exit $failed
