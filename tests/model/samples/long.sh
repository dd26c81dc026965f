#!/bin/sh
# long.sh BUILD OPERATIONS SEED: a tenth of them with background workers, a fifth in long lives, the rest in lives of the usual length.
set -eu
model=$1/tests/model/samples/samples_model
"$model" --replay tests/model/samples/histories/*.txt
"$model" --workers --seed "$3" --ops $(($2 / 10))
"$model" --seed "$3" --life 4000 --ops $(($2 / 5))
"$model" --seed "$3" --ops $(($2 - $2 / 10 - $2 / 5))
