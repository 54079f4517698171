#!/usr/bin/env bash
#
# Builds vit-gpu and its peers for compare.py: programs land in TARGET/peers,
# where TARGET is $CARGO_TARGET_DIR or benches/peers/target.
#
# Usage: benches/peers/build.sh [PROGRAM...]
#   PROGRAM  vit-gpu, candle, burn (in its best settings), burn-plain,
#            burn[-tune][-fusion][-wgsl], or burn-all;
#            default: vit-gpu candle burn
# burn chooses autotune, kernel fusion and the shader language by cargo features,
# so every setting is a build of its own; those of one language share most crates.
# Environment:
#   CARGO_FLAGS  more for cargo, for example -j1

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")
cd "$here"
mkdir -p "$target/peers"
read -r -a flags <<<"${CARGO_FLAGS-}"

build() { # PACKAGE, NAME, further arguments for cargo
    local package=$1 name=$2
    shift 2
    printf 'build.sh: %s\n' "$name"
    CARGO_TARGET_DIR=$target cargo build --release "${flags[@]}" --package "$package" "$@"
    # By renaming: a program that is running now goes on with its old file.
    cp "$target/release/$name" "$target/peers/$name.new" 2>/dev/null ||
        cp "$target/release/$package" "$target/peers/$name.new"
    mv "$target/peers/$name.new" "$target/peers/$name"
}

burn() { # NAME: burn-plain, or burn with -tune, -fusion, -wgsl as wanted
    local features=vulkan
    case $1- in *-wgsl-*) features=wgpu ;; esac
    case $1- in *-tune-*) features+=,autotune ;; esac
    case $1- in *-fusion-*) features+=,fusion ;; esac
    build peer-burn "peer-$1" --features "$features"
}

[ $# -gt 0 ] || set -- vit-gpu candle burn
for program; do
    case $program in
        vit-gpu) build peer-vit-gpu peer-vit-gpu ;;
        # candle's own repository builds for the CPU at hand; so does this.
        candle)
            for name in peer-candle peer-candle-llamagen peer-candle-text; do
                RUSTFLAGS="${RUSTFLAGS-} -C target-cpu=native" build peer-candle "$name"
            done
            ;;
        # The name that compare.py gives to the best settings.
        burn) burn "$(sed -n 's/^BURN = "\(.*\)"$/\1/p' compare.py)" ;;
        burn-all)
            for tune in -tune ''; do
                for fusion in -fusion ''; do
                    for language in '' -wgsl; do
                        suffix=$tune$fusion$language
                        burn "burn${suffix:--plain}"
                    done
                done
            done
            ;;
        burn-*) burn "$program" ;;
        *) printf 'build.sh: no program %s; see the top of this file\n' "$program" >&2; exit 1 ;;
    esac
done
