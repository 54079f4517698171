#!/usr/bin/env bash
#
# Runs the GPU tests against the newest Mesa, whatever this system ships.
#
# Mesa's software Vulkan driver, lavapipe, gains features faster than stable
# distributions follow: Debian 12's has no cooperative matrices, unstable's has.
# This script makes a small Debian unstable root directory with debootstrap
# (about 600 MB, kept in target/latest-mesa-root and used again), builds the
# tests here as usual, and runs the same executables inside that root by chroot.
#
# The project and cargo's target directory appear inside at their own paths, so
# that paths compiled into the tests hold. Every command gets a mount namespace
# of its own: the mounts vanish with the command, however it ends, and are never
# visible from outside. Where mounting is not permitted (an unprivileged
# container) the files are copied into the root instead.
#
# Usage: scripts/latest-mesa.sh [--refresh] [TEST...] [-- TEST-ARGUMENT...]
#        scripts/latest-mesa.sh --run COMMAND [ARGUMENT...]
#   TEST       names of test executables: integration tests by file name, the
#              library's unit tests as `lib`; default: $MESA_TESTS, else all
#   --refresh  makes the root anew, with today's Mesa
#   --run      runs one command inside the root instead of the tests
# Environment:
#   MESA_TESTS       as TEST, separated by spaces
#   MESA_MIRROR      the Debian mirror; default: the one apt is configured with
#   MESA_BIND        more directories to show inside, separated by colons
#   MESA_TIMEOUT     seconds one test executable may take (default 1800)
#   VIT_GPU_REQUIRE  1: where the root cannot be made, fail instead of skipping
#
# It needs root and a system with apt-get; elsewhere it says SKIP and succeeds.
# The last line is `N passed, N failed`, over all executables.

set -euo pipefail

say() { printf 'latest-mesa: %s\n' "$*"; }
die() { printf 'latest-mesa: error: %s\n' "$*" >&2; exit 1; }
skip() {
    printf 'SKIP: tests on the latest Mesa: %s\n' "$*"
    if [ "${VIT_GPU_REQUIRE-}" = 1 ]; then
        printf 'latest-mesa: error: VIT_GPU_REQUIRE=1 forbids skipping\n' >&2
        exit 1
    fi
    exit 0
}

# --- Inside a fresh mount namespace: `--in-namespace ROOT DIRECTORY... -- COMMAND...`
#
# (Not for users: the script calls itself like this by unshare.)

# Shows the host directory $2 at the same path inside the root $1.
bind() {
    mkdir -p "$1$2"
    mount --bind "$2" "$1$2"
}

in_namespace() {
    local root="$1" name
    shift
    mount --rbind /proc "$root/proc"
    # A /dev of harmless nodes only: with no GPU in sight, Mesa's software
    # driver is what runs, here and everywhere.
    mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
    for name in null zero full random urandom tty; do
        if [ -e "/dev/$name" ]; then
            : >"$root/dev/$name"
            mount --bind "/dev/$name" "$root/dev/$name"
        fi
    done
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s /proc/self/fd/0 "$root/dev/stdin"
    ln -s /proc/self/fd/1 "$root/dev/stdout"
    ln -s /proc/self/fd/2 "$root/dev/stderr"
    mkdir -m 1777 "$root/dev/shm"
    while [ "$1" != -- ]; do
        bind "$root" "$1"
        shift
    done
    shift
    exec chroot "$root" "$@"
}

if [ "${1-}" = --in-namespace ]; then
    shift
    in_namespace "$@"
fi

# --- Arguments

cd "$(dirname "${BASH_SOURCE[0]}")/.."
project=$(pwd -P)
self="$project/scripts/latest-mesa.sh"
root="$project/target/latest-mesa-root"
logs="$project/target/latest-mesa-logs"
suite=sid
packages=mesa-vulkan-drivers,libvulkan1,vulkan-tools,mesa-drm-shim

refresh=no
command=()
tests=()
test_arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            sed -n '3,/^$/{s/^# \{0,1\}//;p;}' "$self"
            exit 0
            ;;
        --refresh) refresh=yes ;;
        --run)
            shift
            [ $# -gt 0 ] || die "--run needs a command"
            command=("$@")
            break
            ;;
        --)
            shift
            test_arguments=("$@")
            break
            ;;
        -*) die "unknown option '$1'; see scripts/latest-mesa.sh --help" ;;
        *) tests+=("$1") ;;
    esac
    shift
done
if [ ${#tests[@]} -eq 0 ]; then
    read -r -d '' -a tests < <(printf '%s\0' "${MESA_TESTS-}") || true
fi

# --- What this machine permits

[ "$(uname -s)" = Linux ] || skip "only Linux runs Mesa's lavapipe by chroot, this is $(uname -s)"
[ "$(id -u)" -eq 0 ] || skip "making and entering a Debian root needs root (try: sudo make test-latest-mesa)"

if unshare --mount --propagation private true 2>/dev/null; then
    mode=bind
else
    mode=copy
fi

# Runs a command in a mount namespace of its own, where that is permitted.
isolated() {
    if [ "$mode" = bind ]; then
        unshare --mount --propagation private "$@"
    else
        "$@"
    fi
}

# --- The root

# Refuses to go on while anything is mounted at or below the directory $1 (only by
# somebody else's doing: mounts made here are never visible out here), since what
# removes files would follow the mount.
refuse_mounts() {
    local path mounted
    # Field 5 is the mount point, with spaces and the like as octal escapes.
    while read -r _ _ _ _ path _; do
        mounted=$(printf '%b' "${path//\\/\\0}")
        case "$mounted" in
            "$1" | "$1"/*) die "'$mounted' is mounted; unmount it (umount -R), then run this again" ;;
        esac
    done </proc/self/mountinfo
}

remove_root() {
    [ -e "$1" ] || return 0
    refuse_mounts "$1"
    rm -rf --one-file-system "$1"
}

# Installs debootstrap if it is missing; skips where that is impossible.
need_debootstrap() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
    local try
    if command -v debootstrap >/dev/null && [ -f /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        return 0
    fi
    command -v apt-get >/dev/null || skip "no debootstrap, and no apt-get to install it with"
    say "installing debootstrap with apt-get"
    for try in 1 2; do
        "${apt[@]}" update || true
        if "${apt[@]}" install --no-install-recommends debootstrap debian-archive-keyring; then
            return 0
        fi
        [ "$try" = 2 ] || sleep 10
    done
    skip "apt-get could not install debootstrap"
}

# Prints the Debian mirror that apt uses here, else Debian's own. (A machine may
# reach its configured mirror and nothing else.)
debian_mirror() {
    local found=''
    if [ -n "${MESA_MIRROR-}" ]; then
        printf '%s\n' "$MESA_MIRROR"
        return 0
    fi
    # apt knows the origin of the indices it has fetched, whatever the format of
    # its sources; a proper Debian source is told from Debian-Security by label.
    # shellcheck disable=SC2016 # the variables are apt's
    found=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/^Debian|Debian|\(https\{0,1\}:.*\)$/\1/p' | sort | uniq -c | sort -rn |
        sed -n '1s/^ *[0-9]* //p') || found=''
    if [ -z "$found" ] && grep -q '^ID=debian' /etc/os-release 2>/dev/null; then
        # Nothing fetched yet: read the sources themselves.
        found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
            sed -n -e '/^#/d' -e '/security/d' -e 's/^\(deb\|URIs:\)[[:space:]].*\(https\{0,1\}:[^ ]*\/debian\/*\)\([[:space:]].*\)\{0,1\}$/\2/p' |
            sed -n 1p) || found=''
    fi
    printf '%s\n' "${found:-http://deb.debian.org/debian}"
}

# Hands apt's proxies, if any, to wget, which debootstrap downloads with.
export_proxies() {
    local aptProxyHttp='' aptProxyHttps=''
    command -v apt-config >/dev/null || return 0
    eval "$(apt-config shell aptProxyHttp Acquire::http::Proxy aptProxyHttps Acquire::https::Proxy)"
    if [ -n "$aptProxyHttp" ] && [ "$aptProxyHttp" != DIRECT ]; then export http_proxy="$aptProxyHttp"; fi
    if [ -n "$aptProxyHttps" ] && [ "$aptProxyHttps" != DIRECT ]; then export https_proxy="$aptProxyHttps"; fi
}

# Makes the root if it is not there, whole. It is built under another name and
# renamed when complete, so that a build cut off half-way leaves nothing that
# looks like a root.
make_root() {
    local wanted="$suite $packages" stamp="$root/.complete" half="$root.incomplete"
    local log="$logs/debootstrap.log" mirror try made=no
    if [ "$refresh" = no ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return 0
    fi
    need_debootstrap
    mirror=$(debian_mirror)
    say "making a Debian $suite root from $mirror (a minute or so, 600 MB)"
    for try in 1 2; do
        remove_root "$half"
        # In a subshell: the proxies are for debootstrap alone.
        if (
            export_proxies
            isolated debootstrap --variant=minbase --include="$packages" \
                --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
                "$suite" "$half" "$mirror"
        ) >"$log" 2>&1; then
            made=yes
            break
        fi
        [ "$try" = 2 ] || { say "debootstrap failed, trying once more in 10 s"; sleep 10; }
    done
    if [ "$made" = no ]; then
        tail -n 15 "$log" >&2
        # What debootstrap ran inside the root is logged there.
        tail -n 15 "$half/debootstrap/debootstrap.log" >&2 2>/dev/null || true
        skip "debootstrap could not make the root (the end of its log is above)"
    fi
    rm -rf --one-file-system "$half/var/cache/apt/archives" "$half/var/lib/apt/lists"
    # debootstrap leaves /proc a link where it may not mount.
    [ ! -L "$half/proc" ] || { rm "$half/proc"; mkdir "$half/proc"; }
    printf '%s\n' "$wanted" >"$half/.complete"
    remove_root "$root"
    mv "$half" "$root"
}

mkdir -p "$logs"
# One at a time: two of them must not build the root, or copy into it, together.
# (Kept to the end when copying; given up below when not.)
exec 9>"$project/target/latest-mesa.lock"
flock -n 9 || { say "waiting for another run of this script"; flock 9; }
make_root
# A minimal root knows no names; tests talk to servers of their own on localhost.
[ -s "$root/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
[ "$mode" = copy ] || exec 9>&-

version=$(sed -n '/^Package: mesa-vulkan-drivers$/,/^$/s/^Version: //p' "$root/var/lib/dpkg/status")
say "Mesa $version in ${root#"$project"/}, made $(date -r "$root/.complete" +%Y-%m-%d) (--refresh makes it anew)"

# --- Entering the root

target=${CARGO_TARGET_DIR-}
if [ -f Cargo.toml ] && command -v cargo >/dev/null; then
    # Of no weight if it fails here: building the tests would, too, and say why.
    target=$(cargo metadata --format-version 1 --no-deps 2>/dev/null |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p') || target=${CARGO_TARGET_DIR-}
fi
target=${target:-$project/target}
case "$target" in
    /*) ;;
    *) target="$project/$target" ;;
esac
mkdir -p "$target"

shown=("$project")
case "$target" in
    "$project" | "$project"/*) ;;
    *) shown+=("$target") ;;
esac
IFS=: read -r -a more <<<"${MESA_BIND-}"
for directory in "${more[@]}"; do
    [ -d "$directory" ] || die "MESA_BIND: '$directory' is not a directory"
    shown+=("$(cd "$directory" && pwd -P)")
done

# Runs a command inside the root, in the project's directory, with an
# environment that does not point at this system's drivers or directories.
enter() {
    local inside=(/usr/bin/env --chdir="$project"
        -u TMPDIR -u LD_LIBRARY_PATH -u LD_PRELOAD
        -u VK_DRIVER_FILES -u VK_ICD_FILENAMES -u VK_ADD_DRIVER_FILES -u VK_LAYER_PATH -u VK_INSTANCE_LAYERS
        -u SSL_CERT_FILE -u SSL_CERT_DIR -u REQUESTS_CA_BUNDLE -u CURL_CA_BUNDLE
        -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u XDG_DATA_DIRS -u XDG_CONFIG_DIRS -u XDG_RUNTIME_DIR
        HOME=/root LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        CARGO_MANIFEST_DIR="$project" "$@")
    if [ "$mode" = bind ]; then
        isolated bash "$self" --in-namespace "$root" "${shown[@]}" -- "${inside[@]}"
    else
        chroot "$root" "${inside[@]}"
    fi
}

# Where nothing can be mounted: copies the project (without build output) and
# the files named to the same paths inside the root.
copy_inside() {
    local file directory
    say "mounting is not permitted here: copying the project into the root, which goes without /proc"
    refuse_mounts "$root"
    mkdir -p "$root$project" "$root$target/tmp"
    # What an earlier copy left and the project no longer has would mislead.
    find "$root$project" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf --one-file-system {} +
    tar -C "$project" --exclude=./target --exclude=./.git --exclude=./fuzz/target -cf - . | tar -C "$root$project" -xf -
    for directory in "${shown[@]:1}"; do
        [ "$directory" != "$target" ] || continue
        mkdir -p "$root$directory"
        tar -C "$directory" -cf - . | tar -C "$root$directory" -xf -
    done
    for file in "$@"; do
        mkdir -p "$root$(dirname "$file")"
        cp --preserve=mode,timestamps "$file" "$root$file"
    done
}

if [ ${#command[@]} -gt 0 ]; then
    if [ "$mode" = copy ]; then
        case "${command[0]}" in
            /*) copy_inside "${command[0]}" ;;
            *) copy_inside ;;
        esac
    fi
    code=0
    enter "${command[@]}" || code=$?
    exit "$code"
fi

# --- The tests

[ -f Cargo.toml ] || die "no Cargo.toml in $project"

# Cargo reports what it built as one JSON object a line. The objects' order of
# keys is cargo's own and stable; there is no jq to rely on.
say "building the tests"
built=$(cargo test --locked --no-run --message-format=json)
names=() executables=() others=()
while IFS= read -r line; do
    executable=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$line")
    [ -n "$executable" ] || continue
    kind=$(sed -n 's/.*"target":{"kind":\["\([^"]*\)".*/\1/p' <<<"$line")
    name=$(sed -n 's/.*"target":{.*"name":"\([^"]*\)","src_path".*/\1/p' <<<"$line")
    case "$line" in
        *'"profile":{'*'"test":true}'*) ;;
        *) others+=("$executable"); continue ;; # vit-gpu itself, examples
    esac
    case "$kind" in
        lib | rlib) names+=(lib) ;;
        test) names+=("$name") ;;
        *) continue ;;
    esac
    executables+=("$executable")
done < <(grep '"reason":"compiler-artifact"' <<<"$built")
[ ${#executables[@]} -gt 0 ] || die "cargo built no test executables"

for wanted in "${tests[@]}"; do
    case " ${names[*]} " in
        *" $wanted "*) ;;
        *) die "no test executable '$wanted'; there are: ${names[*]}" ;;
    esac
done
if [ "$mode" = copy ]; then copy_inside "${executables[@]}" "${others[@]}"; fi

passed=0 failed=0 ignored=0 broken=()
for index in "${!executables[@]}"; do
    name=${names[index]}
    if [ ${#tests[@]} -gt 0 ]; then
        case " ${tests[*]} " in *" $name "*) ;; *) continue ;; esac
    fi
    log="$logs/$name.log" code=0
    say "running $name (${executables[index]})"
    VIT_GPU_REQUIRE=1 enter timeout "${MESA_TIMEOUT:-1800}" "${executables[index]}" "${test_arguments[@]}" \
        2>&1 | tee "$log" || code=$?
    # libtest's closing line: test result: ok. 3 passed; 0 failed; 1 ignored; ...
    read -r p f i < <(sed -n 's/^test result: [A-Za-z]*\. \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored;.*/\1 \2 \3/p' "$log" |
        tail -n 1) || p='' f='' i=''
    if [ -z "$p" ]; then
        # No such line: a test without libtest, or one that died.
        if [ "$code" -eq 0 ]; then p=1 f=0 i=0; else p=0 f=1 i=0; fi
    elif [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then
        f=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) ignored=$((ignored + i))
    if [ "$f" -gt 0 ]; then
        case "$code" in
            124) broken+=("$name (ran past ${MESA_TIMEOUT:-1800} s)") ;;
            101) broken+=("$name") ;;
            *) broken+=("$name (exit status $code)") ;;
        esac
    fi
done

say "Mesa $version; $ignored ignored"
if [ ${#broken[@]} -gt 0 ]; then printf 'latest-mesa: failed: %s\n' "${broken[@]}"; fi
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
