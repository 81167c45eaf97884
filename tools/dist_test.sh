#!/usr/bin/env bash
# Test with several processes on this machine: one per GPU, or on CPUs.
#
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of test.py]
#
# Several machines: run it on each, with NNODES, NODE_RANK (0 first) and
# MASTER_ADDR (of the first) set. PORT moves two jobs on one machine apart.
set -euo pipefail
# shellcheck source=tools/misc/launch.sh
source "$(dirname "$0")/misc/launch.sh"

if [ "$#" -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of test.py]" >&2
    exit 2
fi
need_file config "$1"
[[ "$2" == *://* ]] || need_file checkpoint "$2"
launch test.py "$3" "$1" "$2" --launcher pytorch "${@:4}"
