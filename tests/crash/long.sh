#!/bin/sh
# The long runs: hundreds of kills.
set -eu
KILLS=${KILLS:-300} sh tests/crash/test_kill9.sh "$1"
