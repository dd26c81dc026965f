#!/bin/sh
# The long runs: every case of the sweeps, hundreds of kills.
set -eu
SWEEP_ALL=1 "$1/tests/unit-kvcore" --filter '@(crash_sweep|recovery_faults|repair_sweep|schedule_sweep|bad_files|backup_faults|failing|failing_writes|follow)/*' -j2
SWEEP_ALL=1 "$1/tests/unit-tsdb" --filter '@(store_crash|store_faults)/*' -j2
KILLS=${KILLS:-300} sh tests/crash/test_kill9.sh "$1"
