#!/bin/sh
# The short run of the model for every `make test`: the histories that once failed, and a few random lives of each kind.
set -eu
model=$1/tests/model/kv_model
"$model" --replay tests/model/histories/*.txt
"$model" --options-sweep --seed 1 --life 200 --ops "${SWEEP_OPS:-20000}"
"$model" --workers --seed 1 --life 500 --ops "${WORKER_OPS:-5000}"
"$model" --committers --seed 1 --life 1000 --ops "${COMMITTER_OPS:-8000}"
"$model" --seed 1 --ops "${MODEL_OPS:-60000}"
