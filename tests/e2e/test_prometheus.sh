#!/bin/sh
# A short attachment of a real Prometheus for every `make test`; `make check-e2e` has the five minutes.
exec python3 tests/e2e/prometheus.py "$1/tidemark" --seconds "${PROMETHEUS_SECONDS:-75}"
