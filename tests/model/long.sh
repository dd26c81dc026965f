#!/bin/sh
# long.sh BUILD OPERATIONS SEED: a tenth of them under 24 option sets each, a tenth with background workers, a hundredth by threads at once, the rest one by one.
set -eu
model=$1/tests/model/kv_model
"$model" --replay tests/model/histories/*.txt
"$model" --options-sweep --seed "$3" --life 500 --ops $(($2 / 10))
"$model" --workers --seed "$3" --ops $(($2 / 10))
"$model" --committers --seed "$3" --ops $(($2 / 100))
"$model" --seed "$3" --ops $(($2 - $2 / 10 * 2))
