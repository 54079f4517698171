#!/usr/bin/env bash
#
# Makes sure that this machine has a Vulkan driver, and says what it did.
#
# vit-gpu needs nothing but a GPU driver to run. On Linux that means the Vulkan
# loader (libvulkan.so.1) and at least one driver that the loader can find. A
# machine without a GPU gets both from Mesa, whose software driver "lavapipe"
# runs the same shaders on the CPU; this script installs it with the system's
# package manager, and does nothing at all where a driver is already there.
# macOS (Metal) and Windows (Direct3D 12) need no set-up.
#
# Usage: scripts/setup-vulkan.sh [--check]
#   --check   only look: exit 0 where a driver was found, 1 where none was.
#
# Safe to run again. Where a built `vit-gpu` binary is found, its `devices`
# command decides (exit code 4 means "no usable adapter"), because it asks the
# driver itself; otherwise the driver manifests on disk are looked at.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup-vulkan: %s\n' "$*"; }
die() {
    printf 'setup-vulkan: error: %s\n' "$1" >&2
    shift
    local hint
    for hint in "$@"; do printf 'setup-vulkan: hint: %s\n' "$hint" >&2; done
    exit 1
}

check_only=no
case "${1-}" in
    '') ;;
    --check) check_only=yes ;;
    -h | --help)
        sed -n '3,/^$/{s/^# \{0,1\}//;p;}' scripts/setup-vulkan.sh
        exit 0
        ;;
    *) die "unknown argument '$1'" "usage: scripts/setup-vulkan.sh [--check]" ;;
esac

case "$(uname -s)" in
    Linux) ;;
    Darwin) say "macOS: nothing needed, Metal is part of the system"; exit 0 ;;
    MINGW* | MSYS* | CYGWIN*) say "Windows: nothing needed, Direct3D 12 is part of the system"; exit 0 ;;
    *) die "no set-up is known for $(uname -s)" "install a Vulkan driver by hand" ;;
esac

# ldconfig lives in /usr/sbin, which a plain user's PATH may lack.
ldconfig_list() { PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true; }

# Whether the dynamic linker can find the shared library named $1.
have_library() {
    local dir
    case "$1" in
        */*) [ -e "$1" ]; return ;;
    esac
    # Not `grep -q`: it would close the pipe early and fail under pipefail.
    if ldconfig_list | grep -F -- "$1" >/dev/null; then return 0; fi
    local IFS=:
    for dir in ${LD_LIBRARY_PATH-}; do
        if [ -n "$dir" ] && [ -e "$dir/$1" ]; then return 0; fi
    done
    return 1
}

# Prints the driver manifests the Vulkan loader would read, one a line.
driver_manifests() {
    local forced="${VK_DRIVER_FILES-${VK_ICD_FILENAMES-}}" entry
    local IFS=:
    if [ -n "$forced" ]; then
        for entry in $forced; do
            if [ -d "$entry" ]; then
                find -L "$entry" -maxdepth 1 -name '*.json' -type f
            elif [ -f "$entry" ]; then
                printf '%s\n' "$entry"
            fi
        done
        return 0
    fi
    for entry in ${XDG_CONFIG_HOME:-${HOME:-/nonexistent}/.config} ${XDG_CONFIG_DIRS:-/etc/xdg} \
        /etc /usr/local/etc ${XDG_DATA_HOME:-${HOME:-/nonexistent}/.local/share} \
        ${XDG_DATA_DIRS:-/usr/local/share:/usr/share} /usr/local/share /usr/share; do
        if [ -d "$entry/vulkan/icd.d" ]; then
            find -L "$entry/vulkan/icd.d" -maxdepth 1 -name '*.json' -type f
        fi
    done
    return 0
}

# Prints the names of the manifests whose driver library is really there, in one
# line; fails if there are none.
usable_manifests() {
    local manifest library names=()
    while IFS= read -r manifest; do
        library=$(sed -n 's/.*"library_path"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$manifest" | head -n 1)
        [ -n "$library" ] || continue
        case "$library" in
            /*) ;;
            */*) library="$(dirname "$manifest")/$library" ;;
        esac
        if have_library "$library"; then
            manifest=${manifest##*/}
            names+=("${manifest%.json}")
        fi
    done < <(driver_manifests | sort -u)
    [ ${#names[@]} -gt 0 ] || return 1
    printf '%s\n' "${names[*]}"
}

# Prints the path of a built vit-gpu binary; fails if there is none.
built_binary() {
    local dir="${CARGO_TARGET_DIR-}" profile
    if [ -z "$dir" ] && [ -f Cargo.toml ] && command -v cargo >/dev/null; then
        dir=$(cargo metadata --format-version 1 --no-deps --offline 2>/dev/null |
            sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p') || dir=
    fi
    for profile in release debug; do
        if [ -x "${dir:-target}/$profile/vit-gpu" ]; then
            printf '%s\n' "${dir:-target}/$profile/vit-gpu"
            return 0
        fi
    done
    return 1
}

# Returns 0 where a driver is usable and puts what was found into $found.
# Otherwise returns 1 and puts what is missing into $missing.
found='' missing=''
probe() {
    local binary manifests code=0
    if binary=$(built_binary); then
        timeout 120 "$binary" devices >/dev/null 2>&1 || code=$?
        case "$code" in
            0) found="\`vit-gpu devices\` found a usable adapter"; return 0 ;;
            4) missing="\`vit-gpu devices\` found no usable adapter"; return 1 ;;
            *) ;; # an old or broken binary says nothing about the driver
        esac
    fi
    if ! have_library libvulkan.so.1; then
        missing="the Vulkan loader libvulkan.so.1 is not installed"
        return 1
    fi
    if ! manifests=$(usable_manifests); then
        missing="the Vulkan loader is installed, but no driver for it"
        return 1
    fi
    found="the Vulkan loader and drivers ($manifests)"
    return 0
}

# Runs a command as root: directly, or by sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command, and once more after a pause if it fails.
twice() {
    "$@" && return 0
    say "failed, trying once more in 10 s: $*"
    sleep 10
    "$@"
}

if probe; then
    say "found: $found; nothing to do"
    exit 0
fi
say "$missing"
[ "$check_only" = no ] || exit 1

forced="${VK_DRIVER_FILES-${VK_ICD_FILENAMES-}}"
if [ -n "$forced" ]; then
    die "VK_DRIVER_FILES or VK_ICD_FILENAMES is set to '$forced', which names no usable driver and hides all others" \
        "unset it and run this again"
fi
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    die "installing a driver needs root, and there is no sudo" \
        "as root, install mesa-vulkan-drivers and libvulkan1 (Debian's names) and run this again"
fi

if command -v apt-get >/dev/null; then
    packages=(mesa-vulkan-drivers libvulkan1)
    apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
    say "installing ${packages[*]} with apt-get"
    # An index that cannot be renewed (some unrelated source, say) need not stop
    # the installation: what is needed may be in the indices that are there.
    twice as_root "${apt[@]}" update || say "apt-get update failed; going on with the package lists there are"
    twice as_root "${apt[@]}" install --no-install-recommends "${packages[@]}" ||
        die "apt-get could not install ${packages[*]}" "its own message is above"
elif command -v dnf >/dev/null; then
    packages=(mesa-vulkan-drivers vulkan-loader)
    say "installing ${packages[*]} with dnf"
    twice as_root dnf -y install "${packages[@]}" ||
        die "dnf could not install ${packages[*]}" "its own message is above"
elif command -v pacman >/dev/null; then
    packages=(vulkan-swrast vulkan-icd-loader)
    say "installing ${packages[*]} with pacman"
    twice as_root pacman -Sy --noconfirm --needed "${packages[@]}" ||
        die "pacman could not install ${packages[*]}" "its own message is above"
else
    die "no package manager that this script knows (apt-get, dnf, pacman)" \
        "install a Vulkan loader and a Vulkan driver (Mesa's lavapipe runs without a GPU) by hand"
fi

probe || die "installed ${packages[*]}, but still: $missing"
say "installed: ${packages[*]} (Mesa's Vulkan drivers, with the software driver lavapipe)"
say "found: $found"
