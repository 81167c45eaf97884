#!/usr/bin/env bash
# Builds the site of docs/ in FOLDER; any warning is an error. Needs .venv, with
# what tools/setup_env.sh --dev --ops installs; nothing is downloaded.
#
#   bash tools/misc/build_docs.sh FOLDER
#
# FOLDER must lie outside the checkout: the site holds copies of the configs
# that pages link to, and mim refuses names that it finds twice.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
FOLDER=$(realpath -m "${1:?name the folder to build the site in}")
case $FOLDER/ in
    "$ROOT"/*) echo "docs: $FOLDER lies in the checkout" >&2; exit 1 ;;
esac

cd "$ROOT"
.venv/bin/python -m sphinx -q -W --keep-going -c docs . "$FOLDER"
echo "docs: $FOLDER/docs/index.html"
