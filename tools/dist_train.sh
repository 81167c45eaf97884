#!/usr/bin/env bash
# Train with several processes on this machine: one per GPU, or on CPUs.
#
#   tools/dist_train.sh CONFIG PROCESSES [arguments of train.py]
#
# Several machines: run it on each, with NNODES, NODE_RANK (0 first) and
# MASTER_ADDR (of the first) set. PORT moves two jobs on one machine apart;
# MAX_RESTARTS (0) is how often all processes are started again after one failed.
set -euo pipefail
# shellcheck source=tools/misc/launch.sh
source "$(dirname "$0")/misc/launch.sh"

if [ "$#" -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [arguments of train.py]" >&2
    exit 2
fi
need_file config "$1"
launch train.py "$2" "$1" --launcher pytorch "${@:3}"
