#!/usr/bin/env bash
# What the usual test command leaves out for its time, but for what needs a browser, rights
# or a quarter of an hour; and what it compiles in less time than users do.
set -euo pipefail
cd "$(dirname "$0")/.."
pytest -q -n auto -m "slow and not target" -k "not job and not any_process" \
  tests/experiments tests/theory tests/test_hosts.py tests/test_launch.py tests/test_outside.py
pytest -q -n auto --optimised tests/test_extend.py tests/test_runner.py \
  tests/test_sweep.py tests/test_transfer.py
