#!/usr/bin/env bash
#
# Runs the fuzz targets in fuzz/, one after the other, each for a stated time,
# from the committed seeds and what earlier runs found (fuzz/corpus).
# A target that finds a crash leaves the input in fuzz/artifacts and makes this
# script fail at the end; the other targets still run. Once it is understood it
# goes to fuzz/seeds/<target>/found_<what>, where `cargo test` replays it.
#
# Usage: scripts/fuzz.sh        (`make fuzz` installs cargo-fuzz first)
# Environment:
#   FUZZ_SECONDS  how long each target runs (default 60)
#   FUZZ_TARGETS  which targets, separated by spaces (default: all)
#
# cargo-fuzz wants a nightly compiler for its sanitizer flags; the stable one
# takes them, too, when RUSTC_BOOTSTRAP says so. It also needs a C++ compiler.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/target/tools/bin:$PATH"
export RUSTC_BOOTSTRAP=1
# Threads of resizing cost more than they give on inputs of this size.
export RAYON_NUM_THREADS=1

die() { printf 'fuzz: error: %s\n' "$*" >&2; exit 1; }

[ -f fuzz/Cargo.toml ] || die "there is no fuzz/Cargo.toml"
command -v cargo-fuzz >/dev/null || die "cargo-fuzz is missing; run: make fuzz"

seconds=${FUZZ_SECONDS:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "FUZZ_SECONDS must be a number of seconds, not '$seconds'"
known=$(cargo fuzz list)
read -r -d '' -a targets < <(printf '%s\0' "${FUZZ_TARGETS:-$known}") || true
[ ${#targets[@]} -gt 0 ] || die "no targets in fuzz/Cargo.toml"

failed=()
for name in "${targets[@]}"; do
    printf 'fuzz: %s for %s s\n' "$name" "$seconds"
    mkdir -p "fuzz/corpus/$name"
    cargo fuzz run "$name" "fuzz/corpus/$name" "fuzz/seeds/$name" -- "-dict=fuzz/dictionaries/$name.dict" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=8192 \
        -print_final_stats=1 || failed+=("$name")
done

if [ ${#failed[@]} -gt 0 ]; then
    printf 'fuzz: %d of %d targets failed: %s (inputs in fuzz/artifacts)\n' \
        "${#failed[@]}" "${#targets[@]}" "${failed[*]}"
    exit 1
fi
printf 'fuzz: %d targets, %s s each, no crash\n' "${#targets[@]}" "$seconds"
