#!/usr/bin/env bash
# Both stages of LaCViT: train the encoder on contrast, then a head on it.
#
#   tools/lacvit.sh CONFIG_OF_STAGE_2 [arguments of train.py, for both stages]
#
# The config of stage 1 is the one that stage 2's init_cfg names. Each stage
# goes on where it was interrupted. PROCESSES (default 1) starts as many on
# this machine; WORK_DIRS (default work_dirs) holds a folder per stage.
set -euo pipefail

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PY=${PYTHON:-python}
WORK_DIRS=${WORK_DIRS:-work_dirs}

fail() { echo "lacvit.sh: $*" >&2; exit 1; }

# stage_1_of CONFIG: the config beside it whose folder init_cfg points into
stage_1_of() {
    "$PY" - "$1" <<'PYTHON'
import sys
from pathlib import Path

from mmengine.config import Config

path = Path(sys.argv[1])
init_cfg = Config.fromfile(path).model.backbone.get('init_cfg') or {}
print(path.parent / f'{Path(init_cfg.get("checkpoint", "")).parent.name}.py')
PYTHON
}

# train CONFIG WORK_DIR [arguments]
train() {
    local config=$1 work_dir=$2
    shift 2
    if [ "${PROCESSES:-1}" -gt 1 ]; then
        bash "$TOOLS/dist_train.sh" "$config" "$PROCESSES" \
            --work-dir "$work_dir" --resume "$@"
    else
        "$PY" "$TOOLS/train.py" "$config" --work-dir "$work_dir" --resume "$@"
    fi
}

main() {
    local config stage1 work_dir1 work_dir2 start
    [ "$#" -ge 1 ] || fail 'usage: tools/lacvit.sh CONFIG_OF_STAGE_2' \
        '[arguments of train.py]'
    config=$1
    shift
    # --cfg-options drops them
    [[ $WORK_DIRS != *' '* ]] || fail "WORK_DIRS='$WORK_DIRS' holds a blank"
    [ -f "$config" ] || fail "config '$config' does not exist"
    case " $*" in
        *' --work-dir'* | *' --resume'*)
            fail '--work-dir and --resume are set here; set WORK_DIRS' ;;
    esac
    stage1=$(stage_1_of "$config")
    [ -f "$stage1" ] || fail "'$config' is no config of stage 2: its" \
        "model.backbone.init_cfg.checkpoint should be in the work dir of a" \
        "config beside it, and '$stage1' does not exist"
    work_dir1=$WORK_DIRS/$(basename "$stage1" .py)
    work_dir2=$WORK_DIRS/$(basename "$config" .py)
    train "$stage1" "$work_dir1" "$@"
    # its path from here: --cfg-options would drop the blanks of a longer one
    start=$work_dir1/$(basename "$(cat "$work_dir1/last_checkpoint")")
    train "$config" "$work_dir2" "$@" --cfg-options \
        "model.backbone.init_cfg.checkpoint=$start"
    echo "lacvit.sh: encoder: $(cat "$work_dir1/last_checkpoint")"
    echo "lacvit.sh: classifier: $(cat "$work_dir2/last_checkpoint")"
}

main "$@"
