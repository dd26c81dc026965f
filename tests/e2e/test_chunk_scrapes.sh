#!/bin/sh
# Takes scrapes of a real node_exporter (SCRAPES of them, a fifth of a second apart) and has the codecs' test write and read them. Exit 77: it is not installed.
exec python3 tests/e2e/chunk_scrapes.py "$1/tests/unit-tsdb" --scrapes "${SCRAPES:-40}"
