#!/bin/sh
# Bugs that a store of this design once had, each planted in a copy of the tree: the suite must catch every one.
#   run.sh [NAME...]      from the root of the tree; builds under build/seeded
set -u
tree=build/seeded/tree
rm -rf "$tree" && mkdir -p "$tree" && git archive HEAD | tar -x -C "$tree" || exit 1
build() {
    make -s -C "$tree" build/release/tests/model/kv_model build/release/tests/unit-kvcore >build/seeded/build.out 2>&1
}
caught() { # kv_model OPTIONS | unit-kvcore SUITE
    case $1 in
    kv_model) shift && ! (cd "$tree" && timeout 300 build/release/tests/model/kv_model "$@" --no-shrink >../out 2>&1) ;;
    unit-kvcore) ! (cd "$tree" && timeout 300 build/release/tests/unit-kvcore --filter "$2" >../out 2>&1) ;;
    *) echo "$1: not known" && return 1 ;;
    esac
}
build || { tail -20 build/seeded/build.out && exit 1; }
set -- ${@:-$(ls tests/seeded/*.patch)}
found=0 missed=0
set -f # suites are patterns
by_of() { sed -n 's/^Caught by: //p' "tests/seeded/$(basename "$1" .patch).patch"; }
for patch in "$@"; do by_of "$patch"; done | sort -u >build/seeded/tests
while read -r by; do
    caught $by </dev/null || continue
    echo "FAIL  $by fails without any bug" && exit 1
done <build/seeded/tests
for patch in "$@"; do
    name=$(basename "$patch" .patch)
    by=$(by_of "$name")
    patch -s -p1 -d "$tree" <"tests/seeded/$name.patch" || { echo "FAIL  $name does not apply" && missed=$((missed + 1)) && continue; }
    if ! build; then
        echo "FAIL  $name does not build" && missed=$((missed + 1))
    elif caught $by; then
        echo "ok    $name: caught by $by" && found=$((found + 1))
    else
        echo "FAIL  $name is not caught by $by" && missed=$((missed + 1))
    fi
    patch -s -R -p1 -d "$tree" <"tests/seeded/$name.patch"
done
printf '%d passed, %d failed\n' "$found" "$missed"
[ "$missed" -eq 0 ]
