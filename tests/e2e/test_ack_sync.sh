#!/bin/sh
exec python3 tests/e2e/ack_sync.py "$1/tidemark"
