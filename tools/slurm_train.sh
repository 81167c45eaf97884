#!/usr/bin/env bash
# Train under Slurm, one task per GPU.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR \
#       [arguments of train.py]
#
# Environment variables: GPUS (default 8), GPUS_PER_NODE (at most 8),
# CPUS_PER_TASK (5) and SRUN_ARGS, which is split at white space:
# SRUN_ARGS='--time=24:00:00 --mem=64G'
set -euo pipefail
# shellcheck source=tools/misc/launch.sh
source "$(dirname "$0")/misc/launch.sh"

if [ "$#" -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR" \
        '[arguments of train.py]' >&2
    exit 2
fi
partition=$1
job_name=$2
config=$3
work_dir=$4
shift 4

gpus=${GPUS:-8}
need_number GPUS "$gpus"
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
need_number GPUS_PER_NODE "$per_node"
need_number CPUS_PER_TASK "${CPUS_PER_TASK:=5}"
read -ra more <<< "${SRUN_ARGS:-}"

exec srun \
    --partition="$partition" \
    --job-name="$job_name" \
    --ntasks="$gpus" \
    --ntasks-per-node="$per_node" \
    --gres="gpu:$per_node" \
    --cpus-per-task="$CPUS_PER_TASK" \
    --kill-on-bad-exit=1 \
    ${more[@]+"${more[@]}"} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" \
    "$config" --work-dir "$work_dir" --launcher slurm "$@"
