#!/usr/bin/env bash
# Sets up what the tests need, compiled operators included, and runs them.
#
#   bash tools/run_tests.sh                  all tests
#   bash tools/run_tests.sh tests/FILE -k X  what is handed on to pytest
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$ROOT/tools/setup_env.sh" --ops --dev

# The tests' tensors are too small to be shared out among threads; two processes
# share the files out instead, in the order of tests/conftest.py.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
cd "$ROOT"
exec "$ROOT/.venv/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
