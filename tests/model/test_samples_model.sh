#!/bin/sh
# The short run of the model of samples for every `make test`: the histories that once failed, and a few random lives of each kind.
set -eu
model=$1/tests/model/samples/samples_model
"$model" --replay tests/model/samples/histories/*.txt
"$model" --workers --seed 1 --ops "${SAMPLES_WORKER_OPS:-4000}"
"$model" --seed 1 --ops "${SAMPLES_OPS:-20000}"
