#!/usr/bin/env bash
#
# Rehearses what `benches/gpu.sh` does on a machine that has a GPU and can build nothing, on one that has
# no GPU:
#
#   bare    in a root that holds nothing but glibc, bash and a few of its tools, and lavapipe: no Vulkan
#           loader but the kit's, no network. Rows on tiny sizes, one made to hang and one made to crash;
#           then `quick`, then `full` going on from it.
#   torch   the rows of PyTorch, on the CPU, into the same report; then both reports side by side.
#   nvidia  at the real sizes on NVK, Mesa's driver for NVIDIA cards, over a shim that compiles and does not
#           run: every pipeline of every row is made, those on 16x16 cooperative matrices among them.
#
# Usage: scripts/rehearse-gpu.sh [bare|torch|nvidia]...      all three without arguments
# Environment:
#   PYTHON   a python3 with torch, numpy and safetensors (default: target/peers-venv/bin/python)
#   SLOWER   limits are so many times as long (default 6)
#
# Needs root, Linux, and what scripts/latest-mesa.sh needs.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
project=$(pwd -P)
mesa=$project/target/latest-mesa-root
rehearsal=$project/target/gpu-rehearsal
bare=$rehearsal/root
slower=${SLOWER:-6}
python=${PYTHON:-$project/target/peers-venv/bin/python}

say() { printf '\n== rehearse-gpu: %s\n' "$*"; }
die() {
    printf 'rehearse-gpu: error: %s\n' "$*" >&2
    exit 1
}

# --- Inside a fresh mount and network namespace: `--in-namespace ROOT COMMAND...`
#
# (Not for users: the script calls itself like this by unshare.)
if [ "${1-}" = --in-namespace ]; then
    root=$2
    shift 2
    mount -t proc proc "$root/proc"
    for name in null zero urandom; do
        : >"$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    exec env -i HOME=/root LC_ALL=C PATH=/usr/bin:/bin:/sbin chroot "$root" "$@"
fi

[ "$(id -u)" -eq 0 ] && [ "$(uname -s)" = Linux ] || die "needs root on Linux"

# Copies programs, and the libraries that they ask for, from Mesa's root to the bare one.
carry() {
    local file library
    for file; do
        mkdir -p "$bare$(dirname "$file")"
        cp -L "$mesa$file" "$bare$file"
        for library in $(chroot "$mesa" ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
            [ -e "$bare$library" ] || { mkdir -p "$bare$(dirname "$library")" && cp -L "$mesa$library" "$bare$library"; }
        done
    done
}

make_bare() {
    local manifest library
    rm -rf --one-file-system "$bare"
    mkdir -p "$bare"/{proc,dev,tmp,root,work,bin,sbin,etc}
    carry /usr/bin/bash /usr/bin/grep /usr/sbin/ldconfig \
        /usr/bin/{env,dirname,uname,mkdir,rm,ln,tail,cat,ls,timeout}
    ln -s /usr/bin/bash "$bare/bin/bash"
    manifest=$(ls "$mesa"/usr/share/vulkan/icd.d/lvp_icd*.json)
    library=$(sed -n 's/.*"library_path"[^"]*"\([^"]*\)".*/\1/p' "$manifest")
    case $library in /*) ;; *) library=/usr/lib/x86_64-linux-gnu/$library ;; esac
    carry "$library"
    mkdir -p "$bare/usr/share/vulkan/icd.d"
    cp "$manifest" "$bare/usr/share/vulkan/icd.d/"
    cp "$mesa/etc/ld.so.conf" "$bare/etc/" && cp -r "$mesa/etc/ld.so.conf.d" "$bare/etc/"
    chroot "$bare" /usr/sbin/ldconfig
    [ -z "$(find "$bare" -name 'libvulkan.so*' -o -name cargo -o -name 'cc*' -o -name python3)" ] || die "the bare root is not bare"
    # The tree as git has it, and the kit: what is brought along.
    git ls-files -z -co --exclude-standard | tar --null -T - -cf - | tar -C "$bare/work" -xf -
    mkdir -p "$bare/work/target"
    cp -r target/gpu-bench "$bare/work/target/"
    say "the bare root: $(find "$bare" -xdev -type f -not -path "$bare/work/*" | wc -l) files, $(du -sm "$bare" | cut -f 1) MiB with the tree"
}

in_bare() {
    unshare --mount --net --propagation private bash "$project/scripts/rehearse-gpu.sh" --in-namespace "$bare" \
        bash -c 'cd /work && exec "$@"' rehearsal "$@"
}

bare() {
    make_bare
    say "quick, with a row made to hang and one made to crash"
    in_bare benches/gpu.sh quick --scale tiny --slower "$slower" --out /tmp/faults \
        --fault gemm-f16=hang --fault vit-f16=crash || true
    say "quick"
    in_bare benches/gpu.sh quick --scale tiny --slower "$slower" --out /tmp/report || true
    say "full, going on from quick"
    in_bare benches/gpu.sh full --scale tiny --slower "$slower" --out /tmp/report || true
    rm -rf "$rehearsal/report" "$rehearsal/faults"
    cp -r "$bare/tmp/report" "$bare/tmp/faults" "$rehearsal/"
}

torch() {
    local prefix
    [ -x "$python" ] || die "no $python; make it as benches/peers/README.md says, or set PYTHON"
    say "PyTorch's rows on the CPU, into the report of the bare root"
    # In Mesa's root, so that driver and adapter are those of the rows that are there already.
    prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
    MESA_BIND=$prefix scripts/latest-mesa.sh --run env -C "$project" PYTHON="$python" \
        target/gpu-bench/gpu rows full --scale tiny --slower "$slower" --out "$rehearsal/report" || true
    say "tables"
    "$python" benches/gpu_report.py "$rehearsal/report" >"$rehearsal/report.md"
    sed -n '1,/^## Variants/p' "$rehearsal/report.md"
    say "a second run against the first"
    mkdir -p "$rehearsal/again"
    rm -f "$rehearsal/again/rows.jsonl"
    in_bare benches/gpu.sh quick --scale tiny --slower "$slower" --out /tmp/again || true
    cp -r "$bare/tmp/again" "$rehearsal/"
    "$python" benches/gpu_report.py "$rehearsal/again" --against "$rehearsal/report" >"$rehearsal/again.md"
    sed -n '/^## Against/,/^## Variants/p' "$rehearsal/again.md"
}

# Counts the shaders that were handed to the driver, and those among them that multiply cooperative matrices
# (OpCooperativeMatrixMulAddKHR, 4459 in the low half of a word).
count_shaders() {
    "$python" - "$1" <<'END'
import collections, pathlib, struct, sys
sizes, matrices, muls = collections.Counter(), collections.Counter(), 0
for file in pathlib.Path(sys.argv[1]).glob("*"):
    data = file.read_bytes()
    words = struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4])
    if words[:1] != (0x07230203,):
        continue
    constants, at, shapes, mul = {}, 5, set(), 0
    while at < len(words):
        length, op = words[at] >> 16, words[at] & 0xFFFF
        if not length:
            break
        if op == 43:
            constants[words[at + 2]] = words[at + 3]
        if op == 4456:
            shapes.add("x".join(str(constants.get(w, "?")) for w in words[at + 4 : at + 6]))
        mul += op == 4459
        at += length
    sizes["all"] += 1
    if mul:
        matrices["+".join(sorted(shapes))] += 1
        muls += mul
print(f"{sizes['all']} distinct shaders, {sum(matrices.values())} of them on cooperative matrices: {dict(matrices)}, {muls} products")
END
}

# Runs the program on NVK, as the chip $1; the shaders that it is given land in the folder of that chip.
on_nvk() {
    local chip=$1 lib=/usr/lib/x86_64-linux-gnu
    shift
    scripts/latest-mesa.sh --run env -C "$project" NOUVEAU_CHIPSET="$chip" MESA_SHADER_CACHE_DISABLE=true \
        MESA_SPIRV_DUMP_PATH="$rehearsal/nvidia-$chip/shaders" \
        LD_PRELOAD="$lib/libnouveau_noop_drm_shim.so" VK_DRIVER_FILES=/usr/share/vulkan/icd.d/nouveau_icd.json \
        target/gpu-bench/gpu "$@"
}

nvidia() {
    local chip
    for chip in ${CHIPS:-0x172}; do
        say "real sizes on NVK, chip $chip, which compiles and does not run"
        # Pipelines that an earlier run has kept would not be made.
        rm -rf "$rehearsal/nvidia-$chip" "$rehearsal/work"
        mkdir -p "$rehearsal/nvidia-$chip/shaders"
        on_nvk "$chip" rows full --slower "$slower" --out "$rehearsal/nvidia-$chip" --work "$rehearsal/work" || true
        # Its results are zeros and its checks wrong; a kernel that it rejects would say so.
        if grep -o 'rejects kernel[^"]*' "$rehearsal/nvidia-$chip/rows.jsonl"; then die "NVK rejects kernels"; fi
        # The f32 row of LlamaGen refuses such scores before it decodes an image.
        on_nvk "$chip" profile --generate -m "$rehearsal/work/llamagen-b" -r 1 -q --format csv | wc -l
        count_shaders "$rehearsal/nvidia-$chip/shaders"
    done
}

benches/gpu.sh --pack
scripts/latest-mesa.sh --run true
mkdir -p "$rehearsal"
[ $# -gt 0 ] || set -- bare torch nvidia
for part; do
    case $part in
        bare | torch | nvidia) "$part" ;;
        *) die "no part '$part'; there are bare, torch and nvidia" ;;
    esac
done
