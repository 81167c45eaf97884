# What the launchers share; sourced, never run.

refuse() { echo "$(basename "$0"): $1" >&2; exit "${2:-1}"; }

# The launcher would say it too, with a stack trace from every process.
need_file() { [ -f "$2" ] || refuse "$1 '$2' does not exist"; }

# need_number NAME VALUE [LEAST]: before arithmetic, which would run `$(...)`.
need_number() {
    [[ $2 =~ ^(0|[1-9][0-9]{0,5})$ ]] && [ "$2" -ge "${3:-1}" ] ||
        refuse "$1=$(printf %q "$2") must be a whole number from ${3:-1}" 2
}

# launch SCRIPT PROCESSES [arguments]: that script of tools on this machine's
# part of the processes.
launch() {
    local script=$1 processes=$2
    shift 2
    need_number PROCESSES "$processes"
    need_number NNODES "${NNODES:=1}"
    need_number NODE_RANK "${NODE_RANK:=0}" 0
    need_number PORT "${PORT:=29500}"
    need_number MAX_RESTARTS "${MAX_RESTARTS:=0}" 0
    # torchrun sets the same, but with a paragraph of warning.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
    local address=${MASTER_ADDR:-127.0.0.1}
    local meeting=(--node_rank="$NODE_RANK" --master_addr="$address" --master_port="$PORT")
    if [ "$MAX_RESTARTS" -gt 0 ]; then # where processes meet again
        # Else torchrun keeps one store for all rounds, and in it the addresses
        # of processes that died.
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
        meeting=(--max_restarts="$MAX_RESTARTS" --rdzv_backend=c10d
            --rdzv_endpoint="$address:$PORT" --rdzv_conf="is_host=$((NODE_RANK == 0))")
    fi
    exec "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes="$NNODES" \
        "${meeting[@]}" \
        --nproc_per_node="$processes" \
        "$(dirname "$0")/$script" "$@"
}
