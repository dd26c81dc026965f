#!/bin/sh
# A short kill -9 run for every `make test`; tests/crash/long.sh has the long one.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1/tests/crash/kill9" "$1/tidemark" "$dir/data" --kills "${KILLS:-20}" || {
    tail -n 20 "$dir/data.log"
    [ ! -e "$dir/data.copy.log" ] || tail -n 20 "$dir/data.copy.log"
    exit 1
}
