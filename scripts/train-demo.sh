#!/usr/bin/env bash
#
# What training does, in under three minutes on software Vulkan on two cores: the
# embedded model of shapes begins with a classifier of random weights, which guesses
# one picture in sixteen right, and learns to name the shapes of builtin:shapes with
# its last two layers. Pictures are drawn on the fly; those of the validation are
# never trained on. The run lands in target/train-demo.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

least=0.90
out=target/train-demo

target/release/vit-gpu train -m builtin:shapes --new-head --data builtin:shapes -o "$out" --force \
    --trainable last-2 --epochs 4 --epoch-size 128 --warmup-epochs 0 --lr 2e-3 --seed 1

best=$(awk -F, 'NR > 1 && $5 > best { best = $5 } END { print best }' "$out/summary.csv")
echo "best top-1 on held-out pictures: $best; the curve is $out/curve.svg"
awk -v best="$best" -v least="$least" 'BEGIN { exit !(best >= least) }' || {
    echo "error: it should be $least or more" >&2
    exit 1
}
