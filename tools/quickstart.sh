#!/usr/bin/env bash
# From nothing to a trained vision transformer and its pictures: sets up
# .venv, trains a small DeiT with TL-Align on handwritten digits and tests it.
#
#   bash tools/quickstart.sh          goes on if it was interrupted; a run
#                                     that is finished is only tested again,
#                                     unless its config has changed
#   bash tools/quickstart.sh --fresh  trains anew
#
# tools/setup_env.sh lists the environment variables.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PY=$ROOT/.venv/bin/python
CONFIGS=$ROOT/configs/classification
NAME=tlalign_deit-digits_1xb32_digits.py
CONFIG=$CONFIGS/tlalign/$NAME
OUT=$ROOT/work_dirs/quickstart
NEEDED=92  # per cent of the held-out digits

say() { printf 'quickstart: %s\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

case ${1:-} in
    '') ;;
    --fresh) rm -rf "$OUT" ;;
    *) fail "unknown option $1: --fresh is the only one" ;;
esac

# A run of another recipe can neither go on nor be tested with this one.
check_recipe() {
    local recipe
    recipe=$(cd "$CONFIGS" &&
        find _base_ tlalign/"$NAME" -name '*.py' -exec cksum {} + |
        sort | cksum)
    if [ -d "$OUT" ] && [ "$(cat "$OUT/recipe" 2>/dev/null)" != "$recipe" ]
    then
        say 'the config has changed since the last run: training anew'
        rm -rf "$OUT"
    fi
    mkdir -p "$OUT"
    printf '%s\n' "$recipe" >"$OUT/recipe"
}

train() {
    if [ -f "$OUT/finished" ]; then
        say "already trained in $OUT (--fresh trains anew)"
        return
    fi
    say 'training a small DeiT on digits: about three minutes on two cores'
    "$PY" "$ROOT/tools/train.py" "$CONFIG" --work-dir "$OUT" --resume ||
        fail "training did not end: run bash $0 again to go on"
    touch "$OUT/finished"
}

# newest FOLDER EXTENSION: mmengine names runs, folder and file, by their time.
newest() { find "$1"/[0-9]* -maxdepth 1 -name "[0-9]*.$2" | sort | tail -n 1; }

run_test() {
    "$PY" "$ROOT/tools/test.py" "$CONFIG" "$CHECKPOINT" \
        --work-dir "$OUT/test" || fail 'testing failed (see above)'
    ACCURACY=$("$PY" - "$(newest "$OUT/test" json)" <<'EOF'
import json
import sys

with open(sys.argv[1]) as file:
    print(f'{json.load(file)["accuracy/top1"]:.2f}')
EOF
    )
}

# Two held-out digits of different classes for the alignment picture.
write_digits() {
    "$PY" - "$OUT" <<'EOF'
import sys

import cv2

from mmtlalign.datasets import Digits

digits = Digits('val', pipeline=[])
for label, name in ((3, 'a'), (8, 'b')):
    image = next(d['img'] for d in map(digits.get_data_info, range(360))
                 if d['gt_label'] == label)
    cv2.imwrite(f'{sys.argv[1]}/digit_{name}.png', image)
EOF
}

draw() {
    "$PY" "$ROOT/tools/analysis_tools/plot_curves.py" \
        "$OUT"/[0-9]*/vis_data/scalars.json --out "$OUT/curves.png" ||
        fail 'drawing the curves failed'
    write_digits
    "$PY" "$ROOT/tools/analysis_tools/visualize_alignment.py" "$CONFIG" \
        "$CHECKPOINT" --img "$OUT/digit_a.png" "$OUT/digit_b.png" \
        --out "$OUT/alignment.png" || fail 'drawing the alignment failed'
}

bash "$ROOT/tools/setup_env.sh"
check_recipe
train
CHECKPOINT=$OUT/$(basename "$(cat "$OUT/last_checkpoint")")
run_test
draw

say "accuracy on the 360 held-out digits: $ACCURACY %"
say "checkpoint:        $CHECKPOINT"
say "training log:      $(newest "$OUT" log)"
say "learning curves:   $OUT/curves.png"
say "alignment picture: $OUT/alignment.png"
awk "BEGIN {exit !($ACCURACY >= $NEEDED)}" ||
    fail "that is below $NEEDED %: something is wrong with the training"
