#!/usr/bin/env bash
#
# Measures vit-gpu on a GPU, every row of benches/RESULTS.md that needs one, PyTorch beside it on the same
# card. docs/gpu.md tells what it costs and what comes back.
#
#   benches/gpu.sh --pack            where cargo is: builds the kit in target/gpu-bench, to be carried to a
#                                    machine that can build nothing; --weigh says the sizes again
#   benches/gpu.sh quick [OPTION]    where the GPU is: what is worth most, in 3 minutes
#   benches/gpu.sh full [OPTION]     all, in 8 minutes, going on from what is there
#
# Builds the kit first if cargo is there. Options go to the program: --out DIR (default target/gpu-report),
# --from rows.jsonl, --only ROW,..., --scale tiny, --slower TIMES, --list; `quick --help` tells of them.
# Environment: PYTHON, the python3 with PyTorch; VIT_GPU_DEVICE, the adapter, by number or part of its name;
# VK_DRIVER_FILES, the Vulkan driver.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
kit=target/gpu-bench
# What the kit brings along: Vulkan's loader, and what NVIDIA's driver asks for and servers often lack.
packages=(libvulkan1 libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0 libglvnd0 libegl1 libglx0)
# Kit and tree together, in bytes: what fits where only 64 MiB may be brought along.
most=$((60 << 20))

say() { printf 'gpu.sh: %s\n' "$*"; }
die() {
    printf 'gpu.sh: error: %s\n' "$*" >&2
    exit 1
}

# --- Where cargo is

# The program, and the libraries that a bare machine may lack.
pack() {
    local commit program
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    # What is not committed counts: rows of other code are run again.
    [ -z "$(git status --porcelain 2>/dev/null)" ] ||
        commit+=+$( (git diff HEAD && git ls-files -z -o --exclude-standard | xargs -0 cat) | git hash-object --stdin | cut -c 1-7)
    mkdir -p "$kit/lib"
    say "building the program at $commit"
    program=$(VIT_GPU_COMMIT=$commit cargo bench --locked --bench gpu --no-run --message-format=json |
        sed -n 's/.*"name":"gpu".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -x "$program" ] || die "cargo built no program"
    # By renaming: one that runs now goes on with its old file.
    strip -o "$kit/gpu.new" "$program" 2>/dev/null || cp "$program" "$kit/gpu.new"
    mv "$kit/gpu.new" "$kit/gpu"
}

# Vulkan's loader and its like, from Debian's packages, which are kept beside them.
pack_libraries() {
    local package deb file scratch
    [ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
        say "no apt-get here: the kit goes without Vulkan's loader"
        return 0
    }
    mkdir -p "$kit/deb" "$kit/lib"
    for package in "${packages[@]}"; do
        compgen -G "$kit/deb/${package}_*.deb" >/dev/null ||
            (cd "$kit/deb" && apt-get -q download "$package" >/dev/null 2>&1) ||
            (apt-get -q update >/dev/null 2>&1 && cd "$kit/deb" && apt-get -q download "$package" >/dev/null 2>&1) ||
            { [ "$package" != libvulkan1 ] || die "apt-get cannot download $package"; }
    done
    scratch=$(mktemp -d)
    for deb in "$kit"/deb/*.deb; do dpkg-deb -x "$deb" "$scratch"; done
    # Copies, not links, and each under the name that programs ask for.
    while IFS= read -r file; do cp -L "$file" "$kit/lib/"; done \
        < <(find "$scratch" -name 'lib*.so.[0-9]*' ! -name 'lib*.so.[0-9]*.[0-9]*')
    rm -rf "$scratch"
}

# Says how large tree and kit are, and fails if they are too large.
weigh() {
    local tree=0 own
    [ -d "$kit" ] || die "there is no $kit; run benches/gpu.sh --pack"
    tree=$(git ls-files -z -co --exclude-standard | xargs -0 cat 2>/dev/null | wc -c)
    own=$(find "$kit" -type f -exec cat {} + | wc -c)
    say "kit $((own >> 20)) MiB, tree $((tree >> 20)) MiB; together $(((tree + own) >> 20)) of $((most >> 20)) MiB"
    [ $((tree + own)) -le "$most" ] || die "kit and tree are larger than $((most >> 20)) MiB"
}

# --- Where the GPU is

# Lays out those libraries of the kit that this machine lacks, and no others.
find_libraries() {
    local known file name
    [ -d "$kit/lib" ] || return 0
    known=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true)
    rm -rf "$kit/lacking"
    mkdir -p "$kit/lacking"
    for file in "$kit"/lib/*; do
        name=${file##*/}
        case $known in *"$name "*) ;; *) ln -s "../lib/$name" "$kit/lacking/$name" ;; esac
    done
    export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$PWD/$kit/lacking"
}

# A wedged driver must not take all the time there is.
limited() {
    if command -v timeout >/dev/null; then timeout -k 2 20 "$@"; else "$@"; fi
}

# Whether the loader, with the driver that is set now, shows a GPU; what it says is kept.
has_gpu() {
    local found
    printf '\n== devices, VK_DRIVER_FILES=%s\n' "${VK_DRIVER_FILES-}" >>"$kit/loader.log"
    found=$(VK_LOADER_DEBUG=error,warn,driver limited "$kit/gpu" devices --format json 2>>"$kit/loader.log") || true
    printf '%s\n' "$found" >>"$kit/loader.log"
    # Not by a pipe: a program that is cut off by an early match would count as none.
    grep -Eq '"kind": *"(discrete|integrated|virtual)"' <<<"$found"
}

# Loaders of before 1.3.207 know the older name only.
use_driver() { export VK_DRIVER_FILES=$1 VK_ICD_FILENAMES=$1; }

# Finds a Vulkan driver of a GPU: as the loader does, else wherever NVIDIA's is said or seen to be.
find_driver() {
    local manifest library
    : >"$kit/loader.log"
    ! has_gpu || return 0
    [ -z "${VK_DRIVER_FILES-}" ] || return 1
    for manifest in /usr/local/nvidia/share/vulkan/icd.d/*.json /usr/share/vulkan/icd.d/nvidia*.json \
        /etc/vulkan/icd.d/nvidia*.json /opt/nvidia/share/vulkan/icd.d/*.json; do
        [ -f "$manifest" ] || continue
        use_driver "$manifest"
        ! has_gpu || return 0
    done
    # No manifest, or one that names the library for a display: both of the driver's own.
    for library in libGLX_nvidia.so.0 libEGL_nvidia.so.0; do
        printf '{"file_format_version": "1.0.1", "ICD": {"library_path": "%s", "api_version": "1.3.277"}}\n' \
            "$library" >"$kit/$library.json"
        use_driver "$PWD/$kit/$library.json"
        ! has_gpu || return 0
    done
    unset VK_DRIVER_FILES VK_ICD_FILENAMES
    return 1
}

# --- The command

case "${1-}" in
    --pack)
        pack
        pack_libraries
        weigh
        exit
        ;;
    --weigh)
        weigh
        exit
        ;;
    quick | full) ;;
    -h | --help)
        sed -n '3,/^$/{s/^# \{0,1\}//;p;}' benches/gpu.sh
        exit
        ;;
    *) die "say quick, full or --pack; see benches/gpu.sh --help" ;;
esac
case " $* " in
    *' --list '* | *' --help '* | *' -h '*) [ -x "$kit/gpu" ] || pack ;;
    *) ! command -v cargo >/dev/null || pack ;;
esac
[ -f "$kit/gpu" ] || die "no $kit/gpu and no cargo; run benches/gpu.sh --pack where cargo is and bring $kit along"
# Not every way of bringing it along keeps that.
[ -x "$kit/gpu" ] || chmod +x "$kit/gpu"
# Wrong arguments are told before anything is looked for.
case " $* " in
    *' --help '* | *' -h '*) exec "$kit/gpu" rows "$@" ;;
    *) listed=$("$kit/gpu" rows "$@" --list) ;;
esac
case " $* " in
    *' --list '*)
        printf '%s\n' "$listed"
        exit
        ;;
esac
if [ "$(uname -s)" = Linux ]; then
    find_libraries
    if ! find_driver; then
        case " $* " in
            *' --scale tiny '* | *' --scale=tiny '*) say "no GPU: on the CPU" ;;
            *)
                tail -n 80 "$kit/loader.log" >&2
                die "no Vulkan driver of a GPU is to be found; what the loader said is above and in $kit/loader.log"
                ;;
        esac
    fi
fi
[ -z "${VK_DRIVER_FILES-}" ] || say "driver $VK_DRIVER_FILES"
exec "$kit/gpu" rows "$@"
