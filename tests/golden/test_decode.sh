#!/bin/sh
# The pages of the formats, read by decoders that share no code with the product.
set -eu
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }
python3 tests/golden/decode_table.py --golden tests/golden/table-1-plain.tbl tests/golden/table-1-snappy.tbl
