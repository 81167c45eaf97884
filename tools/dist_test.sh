#!/usr/bin/env bash
# Test with several processes on this machine: one per GPU, or on CPUs.
#
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of test.py]
#
# Several machines: run it on each, with NNODES, NODE_RANK (0 first) and
# MASTER_ADDR (of the first) set. PORT moves two jobs on one machine apart.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3

# Said here once; the launcher would add its own stack trace.
if [ ! -f "$config" ]; then
    echo "$(basename "$0"): config '$config' does not exist" >&2
    exit 1
fi
if [ ! -f "$checkpoint" ] && [[ "$checkpoint" != *://* ]]; then
    echo "$(basename "$0"): checkpoint '$checkpoint' does not exist" >&2
    exit 1
fi

# torchrun sets the same, but with a paragraph of warning.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"

exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$(dirname "${BASH_SOURCE[0]}")/test.py" \
    "$config" "$checkpoint" --launcher pytorch "$@"
