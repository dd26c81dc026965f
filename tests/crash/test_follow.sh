#!/bin/sh
# Followers beside a writer in other processes, and kill -9 of either: a few seconds for every `make test`.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1/tests/crash/follow" "$dir/db" "${SECONDS_LONG:-4}" "${SEED:-1}"
