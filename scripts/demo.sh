#!/usr/bin/env bash
#
# The main job in one command: classifies the sample images with the model that
# is built into vit-gpu, and checks that each picture's first label is the shape
# it is named after (circle.png, or circle-2.png, shows a circle).
#
# Usage: scripts/demo.sh        (`make demo` builds vit-gpu first)

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'demo: error: %s\n' "$*" >&2; exit 1; }

target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
binary="${target:-target}/release/vit-gpu"
[ -x "$binary" ] || binary="$binary.exe"
[ -x "$binary" ] || die "no built vit-gpu; run: make demo"

samples=(assets/samples/*.png)
[ -e "${samples[0]}" ] || die "no images in assets/samples"

printf '$ vit-gpu infer assets/samples\n'
"$binary" infer assets/samples

# Once more for the machine: one row an image, its file and its first label
# among the fields. (Labels and sample names hold no commas.)
rows=$("$binary" infer "${samples[@]}" --top-k 1 --format csv 2>/dev/null)

right=0 wrong=()
for sample in "${samples[@]}"; do
    file=${sample##*/}
    shape=${file%.png}
    if [[ $shape =~ ^(.*[^-_0-9])[-_]*[0-9]+$ ]]; then shape=${BASH_REMATCH[1]}; fi
    row=$(tr -d '"\r' <<<"$rows" | grep -F -- "$file" | sed -n 1p) || row=
    case ",$row," in
        *",$shape,"*) right=$((right + 1)) ;;
        *) wrong+=("$sample shows a $shape, but: ${row:-no answer}") ;;
    esac
done

printf '\n'
for line in "${wrong[@]+"${wrong[@]}"}"; do printf 'demo: wrong: %s\n' "$line"; done
printf 'demo: %d of %d samples named right\n' "$right" "${#samples[@]}"
[ "$right" -eq "${#samples[@]}" ]
