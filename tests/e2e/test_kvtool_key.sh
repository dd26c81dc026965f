#!/bin/sh
# kvtool and an encrypted database: every command with the key, without it, with another one; key files that others may read; a new
# master key.
set -u
build=$1
kvtool=$build/kvtool
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
# expect STATUS TEXT command...: exit status, and a part of what is printed
expect() {
    want=$1 text=$2
    shift 2
    "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    [ $got -eq "$want" ] && grep -qF -e "$text" "$work/out" && return
    echo "FAILED: $*: exit $got, not $want, or no \"$text\" in: $(head -3 "$work/out")"
    failed=1
}
db=$work/db
cp -r tests/golden/encrypted-1 "$db"
# What publish would have written: magic, generation, length, name, crc32c.
PYTHONPATH=tests/golden python3 - "$db" <<'P'
import struct
import sys

from decode_table import crc32c

raw = b"KVCURR\x01\n" + struct.pack("<QI", 1, 10) + b"000001.man"
with open(sys.argv[1] + "/.current", "wb") as f:
    f.write(raw + struct.pack("<I", crc32c(raw)))
P
umask 077
printf 'golden master key, not a secret.' >"$work/key"
printf 'golden master key, not a secret.' | od -An -tx1 | tr -d ' \n' >"$work/hex"
echo >>"$work/hex"
printf 'another key of thirty-two bytes.' >"$work/other"
printf 'short' >"$work/short"
cp "$work/key" "$work/open"
chmod 640 "$work/open"

for key in key hex; do
    expect 0 'data key       2' "$kvtool" --key-file "$work/$key" info "$db"
    expect 0 'sound' "$kvtool" --key-file "$work/$key" check "$db"
done
expect 0 'banana yellow' "$kvtool" --key-file "$work/key" scan "$db" a
expect 0 'green' "$kvtool" --key-file "$work/key" get "$db" b leek
expect 0 'data_key id=1' "$kvtool" --key-file "$work/key" dump manifest "$db/000001.man"
expect 0 'apple @1 put red' "$kvtool" --key-file "$work/key" dump table "$db/000003.tbl"
expect 0 'cherry put' "$kvtool" --key-file "$work/key" dump log "$db/000002.log"

for how in "info $db" "check $db" "scan $db a" "salvage $db" "dump manifest $db/000001.man" "dump table $db/000003.tbl" "dump log $db/000002.log"; do
    expect 2 'is encrypted and no key was given' "$kvtool" $how
    expect 2 'is encrypted with master key' "$kvtool" --key-file "$work/other" $how
done
expect 2 'may be read by others (mode 640)' "$kvtool" --key-file "$work/open" info "$db"
expect 2 'neither 32 bytes nor 64 hexadecimal digits' "$kvtool" --key-file "$work/short" info "$db"
expect 2 'cannot read the key file' "$kvtool" --key-file "$work/none" info "$db"
expect 2 'is no regular file' "$kvtool" --key-file "$work" info "$db"

expect 2 'is the master key in use' "$kvtool" --key-file "$work/key" rotate-key "$db" "$work/hex"
expect 0 'is now under the key of' "$kvtool" --key-file "$work/key" rotate-key "$db" "$work/other"
expect 2 'is encrypted with master key' "$kvtool" --key-file "$work/key" scan "$db" a
expect 0 'banana yellow' "$kvtool" --key-file "$work/other" scan "$db" a
expect 0 'sound' "$kvtool" --key-file "$work/other" check "$db"
id=$("$kvtool" key-id "$work/other")
expect 0 "$id" "$kvtool" --key-file "$work/other" info "$db"
expect 0 '0 lost' "$kvtool" --key-file "$work/other" salvage "$db"
expect 0 'cherry red\x20too' "$kvtool" --key-file "$work/other" scan "$db" a
grep -rlF -e 'another key of' -e 'golden master' -e cherry -e yellow "$db" "$db.damaged" && { echo "FAILED: plaintext in a file"; failed=1; }
[ $failed -eq 0 ] && echo "kvtool needs, takes and changes the key"
exit $failed
