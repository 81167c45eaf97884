#!/usr/bin/env bash
# From nothing to trained vision transformers and their pictures: sets up
# .venv, trains a small DeiT with TL-Align on handwritten digits and tests it.
#
#   bash tools/quickstart.sh           goes on if it was interrupted; a run
#                                      that is finished is only tested again
#   bash tools/quickstart.sh --full    instead: pretrains a small Swin with
#                                      TL-Align on the digits, then starts a
#                                      detector (Mask R-CNN) and a segmenter
#                                      (UPerNet) of scenes of digits from it,
#                                      in about 12 minutes on two cores;
#                                      compiles mmcv's operators first
#   bash tools/quickstart.sh --full --random
#                                      the same two from random weights, to
#                                      compare with
#   --fresh                            with any of these: trains anew
#
# tools/setup_env.sh lists the environment variables.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PY=$ROOT/.venv/bin/python

say() { printf 'quickstart: %s\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# train FOLDER CONFIG WHAT [OPTION...]: begins, or goes on unless the config is another.
train() {
    local folder=$1 config=$2
    say "training $3"
    shift 3
    "$PY" "$ROOT/tools/train.py" "$config" --work-dir "$folder" --resume "$@" ||
        fail 'training did not end: run the same command to go on (--fresh: anew)'
}

# checkpoint FOLDER: the last one of a run.
checkpoint() { echo "$1/$(basename "$(cat "$1/last_checkpoint")")"; }

# run_test FOLDER CONFIG
run_test() {
    "$PY" "$ROOT/tools/test.py" "$2" "$(checkpoint "$1")" --work-dir "$1/test" ||
        fail 'testing failed (see above)'
}

# newest FOLDER EXTENSION: mmengine names runs, folder and file, by their time.
newest() { find "$1"/[0-9]* -maxdepth 1 -name "[0-9]*.$2" | sort | tail -n 1; }

# metric FOLDER NAME FACTOR: what the newest test found, times the factor.
metric() {
    "$PY" -c 'import json, sys
name, factor, path = sys.argv[1:]
print(f"{json.load(open(path))[name] * float(factor):.2f}")' \
        "$2" "$3" "$(newest "$1/test" json)"
}

# check_bar VALUE BAR WHAT
check_bar() {
    awk "BEGIN {exit !($1 >= $2)}" ||
        fail "$3 $1 % is below $2 %: something is wrong with the training"
}

# The short quickstart ----------------------------------------------------

# Two held-out digits of different classes for the alignment picture.
write_digits() {
    "$PY" - "$1" <<'EOF'
import sys

import cv2

from mmtlalign.commands.start_up_noise import silence_known_noise

silence_known_noise()
from mmtlalign.datasets import Digits

digits = Digits('val', pipeline=[])
for label, name in ((3, 'a'), (8, 'b')):
    image = next(d['img'] for d in map(digits.get_data_info, range(360))
                 if d['gt_label'] == label)
    cv2.imwrite(f'{sys.argv[1]}/digit_{name}.png', image)
EOF
}

# draw FOLDER CONFIG
draw() {
    "$PY" "$ROOT/tools/analysis_tools/plot_curves.py" \
        "$1"/[0-9]*/vis_data/scalars.json --out "$1/curves.png" ||
        fail 'drawing the curves failed'
    write_digits "$1"
    "$PY" "$ROOT/tools/analysis_tools/visualize_alignment.py" "$2" \
        "$(checkpoint "$1")" --img "$1/digit_a.png" "$1/digit_b.png" \
        --out "$1/alignment.png" || fail 'drawing the alignment failed'
}

run_short() {
    local out=$ROOT/work_dirs/quickstart accuracy
    local name=configs/classification/tlalign/tlalign_deit-digits_1xb32_digits.py
    bash "$ROOT/tools/setup_env.sh"
    ! $FRESH || rm -rf "$out"
    train "$out" "$ROOT/$name" \
        'a small DeiT on digits: about three minutes on two cores'
    run_test "$out" "$ROOT/$name"
    accuracy=$(metric "$out" accuracy/top1 1)
    draw "$out" "$ROOT/$name"
    say "accuracy on the 360 held-out digits: $accuracy %"
    say "checkpoint:        $(checkpoint "$out")"
    say "training log:      $(newest "$out" log)"
    say "learning curves:   $out/curves.png"
    say "alignment picture: $out/alignment.png"
    check_bar "$accuracy" 92 'the accuracy of'
}

# The full quickstart -----------------------------------------------------

DIGITS=configs/classification/tlalign/tlalign_swin-mini_1xb32_digits.py
DETECTOR=configs/detection/tlalign/mask-rcnn_tlalign-swin-mini_fpn_1xb4-2e_digits-scenes.py
SEGMENTER=configs/segmentation/tlalign/tlalign-swin-mini_upernet_1xb4-500_digits-scenes.py
# Fixed after one trial run of each, which reached 96.6 and 28.1.
MASK_AP50_BAR=90
MIOU_BAR=20

# transfer FOLDER CONFIG WHAT START: trains, tests and draws one task.
transfer() {
    train "$1" "$2" "$3" --cfg-options "$4"
    run_test "$1" "$2"
    "$PY" "$ROOT/demo/image_demo.py" "$(dirname "$1")/scenes" "$2" \
        "$(checkpoint "$1")" --out-dir "$1/pictures" --score-thr 0.6 ||
        fail 'drawing what was found failed'
}

# Four scenes of held-out digits to draw on, enlarged: labels need room.
write_scenes() {
    mkdir -p "$1"
    "$PY" - "$1" <<'EOF'
import sys

import cv2

for i in range(4):
    scene = cv2.imread(f'data/digit_scenes/images/val/{i:04}.png')
    cv2.imwrite(f'{sys.argv[1]}/{i}.png', cv2.resize(
        scene, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST))
EOF
}

run_full() {
    local out=$ROOT/work_dirs/quickstart-full start mask_ap50 miou
    ! $RANDOM_WEIGHTS || out=$out-random
    bash "$ROOT/tools/setup_env.sh" --ops
    cd "$ROOT"
    ! $FRESH || rm -rf "$out"
    # the configs look for data/digit_scenes from where they are run
    [ -d data/digit_scenes ] || "$PY" tools/dataset_tools/make_digit_scenes.py ||
        fail 'making the scenes failed'
    write_scenes "$out/scenes"
    start=model.backbone.init_cfg=None
    $RANDOM_WEIGHTS || {
        train "$out/digits" "$DIGITS" \
            'a small Swin on digits: about two minutes on two cores'
        # from here: --cfg-options drops the blanks of a longer path
        start=$(checkpoint "${out#"$ROOT"/}/digits")
        start=model.backbone.init_cfg.checkpoint=$start
    }
    transfer "$out/detection" "$DETECTOR" \
        'Mask R-CNN on scenes of digits: about four minutes' "$start"
    transfer "$out/segmentation" "$SEGMENTER" \
        'UPerNet on scenes of digits: about four minutes' "$start"
    mask_ap50=$(metric "$out/detection" coco/segm_mAP_50 100)
    miou=$(metric "$out/segmentation" mIoU 1)
    say "Mask R-CNN on 100 scenes of held-out digits: mask AP50 $mask_ap50 %"
    say "UPerNet on the same scenes: mIoU $miou %"
    say "pictures of detections and masks: $out/detection/pictures"
    say "pictures of classes:              $out/segmentation/pictures"
    $RANDOM_WEIGHTS || {
        check_bar "$mask_ap50" "$MASK_AP50_BAR" 'the mask AP50 of'
        check_bar "$miou" "$MIOU_BAR" 'the mIoU of'
    }
}

# A function, so that bash has read all of this file before it starts.
main() {
    local option full=false
    FRESH=false
    RANDOM_WEIGHTS=false
    for option in "$@"; do
        case $option in
            --full) full=true ;;
            --random) RANDOM_WEIGHTS=true ;;
            --fresh) FRESH=true ;;
            *) fail "unknown option $option: --full, --random and --fresh" \
                'are known' ;;
        esac
    done
    if $full; then
        run_full
    elif $RANDOM_WEIGHTS; then
        fail '--random goes with --full only'
    else
        run_short
    fi
}

main "$@"
