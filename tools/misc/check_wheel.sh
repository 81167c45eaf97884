#!/usr/bin/env bash
# Builds the wheel, installs it out of sight of the checkout, and trains and
# tests the digits classifier there by its command. Needs .venv, with what
# tools/setup_env.sh --ops installs; nothing is downloaded.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PY=$ROOT/.venv/bin/python
TMP=$(cd "$(mktemp -d)" && pwd -P)
trap 'rm -rf "$TMP"' EXIT
unset PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

say() { printf 'wheel: %s\n' "$*"; }
packages_of() {
    "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

say 'building it, by way of the source archive'
cd "$ROOT"
"$PY" setup.py -q egg_info --egg-base "$TMP" sdist -d "$TMP"
"$PY" -m pip wheel -q --no-index --no-deps --no-build-isolation -w "$TMP" \
    "$TMP"/mmtlalign-*.tar.gz

say 'installing it'
"$PY" -m venv "$TMP/venv"
NEW=$TMP/venv/bin
"$NEW/pip" install -q --no-index --no-deps "$TMP"/mmtlalign-*.whl
# The packages of .venv, but not what .pth files among them lead to: that is
# where its mmtlalign, the checkout, comes from.
packages_of "$PY" >"$(packages_of "$NEW/python")/stack.pth"

mkdir "$TMP/elsewhere"
cd "$TMP/elsewhere"
"$NEW/python" - <<'END'
import sys

from mmtlalign.resources import ROOT

assert ROOT.is_relative_to(sys.prefix), f'{ROOT} is not in {sys.prefix}'
END

say 'training and testing with it'
# Two epochs are the fewest: the first is its warm-up.
name=tlalign_deit-digits_1xb32_digits
"$NEW/mmtlalign" train "$name" --cfg-options train_cfg.max_epochs=2
"$NEW/mmtlalign" test "$name" "work_dirs/$name/epoch_2.pth"
say 'passed'
