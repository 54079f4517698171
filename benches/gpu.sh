#!/usr/bin/env bash
#
# Runs every GPU row of benches/RESULTS.md in one go, on a machine with a GPU
# and its Vulkan driver, and prints what to put there.
#
#   benches/gpu.sh --pack     where cargo is: builds the programs and lays them
#                             in target/gpu-bench, to be carried along
#   benches/gpu.sh            where the GPU is: runs them (building them first
#                             if cargo is there), every output also in
#                             target/gpu-bench/report
#
# A bare NVIDIA machine often has the driver but not the Vulkan loader: lay
# libvulkan1's .deb in target/gpu-bench and it is unpacked there, not installed.
# PyTorch's rows run if python3 has torch with CUDA, and say so if not.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
kit=target/gpu-bench
batches=${BATCHES:-1,64,128,256,512}

say() { printf '\n== %s\n' "$*"; }

pack() {
    mkdir -p "$kit"
    cargo build --release --locked
    local bench
    bench=$(cargo bench --locked --bench ops --no-run --message-format=json |
        sed -n 's/.*"name":"ops".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
    install "${CARGO_TARGET_DIR:-target}/release/vit-gpu" "$kit/vit-gpu"
    install "$bench" "$kit/ops"
    cargo build --release --locked --example random_checkpoint
    install "${CARGO_TARGET_DIR:-target}/release/examples/random_checkpoint" "$kit/random_checkpoint"
    (cd benches/peers && cargo build --release --locked --target-dir "$OLDPWD/target/peers" \
        -p peer-vit-gpu --bin peer-vit-gpu-text)
    install target/peers/release/peer-vit-gpu-text "$kit/peer-vit-gpu-text"
}

find_vulkan() {
    if ldconfig -p | grep -q libvulkan.so.1; then return; fi
    local deb
    for deb in "$kit"/*.deb .gl/*.deb; do
        [ -f "$deb" ] || continue
        dpkg -x "$deb" "$kit/root"
    done
    local found
    found=$(find "$kit/root" -name 'libvulkan.so.1' 2>/dev/null | head -1)
    if [ -z "$found" ]; then
        printf 'gpu.sh: no Vulkan loader (libvulkan.so.1); install libvulkan1 or lay its .deb in %s\n' "$kit" >&2
        exit 1
    fi
    LD_LIBRARY_PATH="$PWD/$(dirname "$found")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export LD_LIBRARY_PATH
}

find_driver() {
    [ -z "${VK_DRIVER_FILES-}" ] || return 0
    local file
    for file in /usr/share/vulkan/icd.d/nvidia_icd*.json /etc/vulkan/icd.d/nvidia_icd*.json; do
        [ ! -f "$file" ] || return 0
    done
    for file in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json; do
        if [ -f "$file" ]; then export VK_DRIVER_FILES="$file"; fi
    done
}

if [ "${1-}" = --pack ]; then
    pack
    exit
fi
if command -v cargo >/dev/null; then pack; fi
for program in vit-gpu ops random_checkpoint peer-vit-gpu-text; do
    if [ ! -x "$kit/$program" ]; then
        printf 'gpu.sh: no %s and no cargo; run benches/gpu.sh --pack where cargo is\n' "$kit/$program" >&2
        exit 1
    fi
done
find_vulkan
find_driver

text_folder() {
    case $1 in
    bert | t5) echo "$kit/$1-base" ;;
    *) echo "$kit/$1" ;;
    esac
}

# The same token ids for every engine: rows, tokens in a row, tokens to draw, the ids to choose from.
text_ids() {
    local name rows width new low high
    while read -r name rows width new low high; do
        awk -v rows="$rows" -v width="$width" -v new="$new" -v low="$low" -v high="$high" 'BEGIN {
            srand(1); printf "{\"new\": %d, \"ids\": [", new
            for (r = 0; r < rows; r++) {
                printf "%s[", r ? ", " : ""
                for (i = 0; i < width; i++) printf "%s%d", i ? ", " : "", low + int(rand() * (high - low))
                printf "]"
            }
            print "]}"
        }' >"$kit/$name.json"
    done <<'END'
bert 8 128 0 1000 30000
gpt2 1 512 64 0 50000
t5 1 128 32 2 32000
END
}

rows() {
    say "Adapter"
    "$kit/vit-gpu" devices
    say "Every kernel in every way against the reference"
    "$kit/vit-gpu" doctor
    say "f16 and f32 matrix products, every way"
    "$kit/ops" --bench --gemm 4096x4096x4096 --gemm 8192x8192x8192 --ways --f16
    "$kit/ops" --bench --gemm 4096x4096x4096 --ways
    say "The ops of ViT-B/16 in f16, every way, batch 1 and 64"
    "$kit/ops" --bench vit-b --ways --f16
    "$kit/ops" --bench vit-b --ways --f16 --batch 64
    say "Tuning for ViT-B/16 f16"
    "$kit/vit-gpu" tune --synthetic vit-b/16 --dtype f16 -b "$batches"
    say "ViT-B/16 end to end"
    "$kit/vit-gpu" bench --synthetic vit-b/16 --dtype f16,f32 -b "$batches" -r 20 -o md
    say "Where the time goes, batch 1 and 64"
    "$kit/vit-gpu" profile --synthetic vit-b/16 --dtype f16 -b 1 -r 20
    "$kit/vit-gpu" profile --synthetic vit-b/16 --dtype f16 -b 64 -r 20 \
        --roofline "$kit/roofline.svg" --trace "$kit/trace.json"
    say "LlamaGen: prompt, token and picture, guided"
    for size in b l; do
        "$kit/vit-gpu" profile --generate --synthetic "llamagen-$size" --dtype f16 -r 20
    done
    "$kit/vit-gpu" profile --generate --synthetic llamagen-b -r 20
    say "BERT-base 8 x 128, GPT-2 512 + 64, T5-base 128 -> 32"
    local name
    for name in bert-base gpt2 t5-base; do
        [ -d "$kit/$name" ] || "$kit/random_checkpoint" "$name" "$kit/$name"
    done
    text_ids
    for name in bert gpt2 t5; do
        for dtype in f16 f32; do
            PEER_DTYPE=$dtype "$kit/peer-vit-gpu-text" "$name" "$(text_folder "$name")" "$kit/$name.json" 10 |
                sed 's/"logits":\[[^]]*\],*//; s/,*"ids":\[[^]]*\]//'
        done
    done
    say "PyTorch on the same card"
    if python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        python3 benches/peers/python/gpu_torch.py ${batches//,/ }
        for size in b l; do
            python3 benches/peers/python/llamagen.py "random:$size" 207 4 256 --device cuda --dtype float16 |
                sed 's/, "ids".*//'
        done
        for name in bert gpt2 t5; do
            python3 benches/peers/python/text_models.py "$name" "$(text_folder "$name")" "$kit/$name.json" 10 \
                --device cuda --dtype float16 | sed 's/"logits": \[[^]]*\],*//; s/,* *"ids": \[[^]]*\]//'
        done
    else
        echo "not run: python3 has no torch with CUDA"
    fi
}

rows 2>&1 | tee "$kit/report"
