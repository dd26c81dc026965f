#!/bin/sh
exec python3 tests/e2e/connections.py "$1/tidemark"
