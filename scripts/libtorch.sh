#!/usr/bin/env bash
# Puts libtorch in place: `.libtorch` in this checkout links to one copy for all checkouts of a user.
#
# The first of these that applies decides:
#   LIBTORCH=DIR                     your own libtorch, or an installed torch folder, of the version below
#   AUTOSWARM_PYTORCH=PYTHON         the PyTorch of that Python interpreter, for instance .venv/bin/python
#   AUTOSWARM_LIBTORCH=cpu|cuda      the CPU libraries (500 MB on disk), or the full CUDA 13.0 set (3.6 GB)
#   a `.libtorch` that is there      kept if its version fits
#   otherwise                        cpu
#
# All its messages go to stderr. Not here: compiling against libtorch (torch-sys does that) and finding it at
# run time (trainer/build.rs writes the path into the binaries).
set -euo pipefail
readonly caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly version=2.11.0 # what tch 0.24.0 is written against
readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/autoswarm"
# The platform tags of the pinned wheels; pip must be told each of them.
readonly platforms=(manylinux_2_{5,12,17,18,25,27,28}_x86_64 manylinux2014_x86_64)

say() { printf 'libtorch: %s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

# Prints the version of the libtorch in folder $1, as 2.11.0+cu130; nothing when there is none.
version_of() {
    if [ -f "$1/build-version" ]; then
        head -n 1 "$1/build-version"
    elif [ -f "$1/version.py" ]; then
        sed -n "s/^__version__ = '\(.*\)'/\1/p" "$1/version.py"
    fi
}

# Fails unless folder $1, which came from $2, holds libraries and headers of the right version.
require_version() {
    local found
    found=$(version_of "$1")
    [ -n "$found" ] ||
        fail "$2 names \`$1\`, which has no build-version or version.py; give the folder that holds lib/ and include/"
    [ "${found%%+*}" = "$version" ] || fail "$2 names \`$1\`, which is version $found; $version is needed"
    [ -d "$1/include" ] && [ -d "$1/lib" ] ||
        fail "$2 names \`$1\`, which lacks include/ or lib/; a full installation is needed"
}

link_to() {
    [ "$(readlink .libtorch 2>/dev/null)" = "$1" ] && return
    [ ! -e .libtorch ] || [ -L .libtorch ] || fail "\`.libtorch\` is not a link; move it away"
    ln -sfn "$1" .libtorch
    say "version $(version_of .libtorch) from $1"
}

# Fails where the wheels that are pinned here do not work, and says what to do instead.
require_platform() {
    case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) ;;
    *)
        fail "no libtorch is pinned for $(uname -s) on $(uname -m), where Autoswarm is untested. To try it:
    python3 -m venv .venv && .venv/bin/python -m pip install torch==$version
    export AUTOSWARM_PYTORCH=.venv/bin/python    # and run the same script again"
        ;;
    esac
}

# Fails unless this machine's driver and GPUs can use CUDA 13.0, with which torch on the package index is
# built.
require_cuda() {
    local name driver capability
    local instead="; install a PyTorch $version that fits this machine and set AUTOSWARM_PYTORCH to its Python, or set AUTOSWARM_LIBTORCH=cpu"
    command -v nvidia-smi >/dev/null ||
        fail "AUTOSWARM_LIBTORCH=cuda, but there is no nvidia-smi and so no NVIDIA driver$instead"
    # CUDA 13 needs a driver of the 580 series or later; its libraries need compute capability 7.5 (Turing) or
    # more.
    while IFS=, read -r name driver capability; do
        [ "${driver%%.*}" -ge 580 ] ||
            fail "CUDA 13.0 needs driver 580 or newer; $name has driver$driver$instead"
        [ "$(tr -d ' .' <<<"$capability")" -ge 75 ] ||
            fail "CUDA 13.0 needs compute capability 7.5 or more; $name has$capability$instead"
        say "$name, driver$driver, compute capability$capability: CUDA 13.0 fits"
    done < <(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader)
    }

# Downloads and unpacks the variant $1 into folder $2, whole or not at all; one process at a time.
install() {
    local variant=$1 root=$2 partial=$2.partial requirements room size
    require_platform
    case $variant in
    cpu) requirements=scripts/libtorch-requirements.txt room=1100 size='543 MB, of which 500 MB stay' ;;
    cuda)
        require_cuda
        requirements=scripts/libtorch-cuda-requirements.txt room=6200 size='2.4 GB, which unpack to 3.6 GB' ;;
    *) fail "AUTOSWARM_LIBTORCH=$variant; it is cpu or cuda" ;;
    esac
    scripts/prerequisites.sh "$room" "$cache"

    mkdir -p "$cache"
    exec 9>"$root.lock"
    # macOS has no flock command, so Python takes the lock. It belongs to the open file, so it outlives this
    # Python.
    python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    [ ! -d "$root" ] || return 0 # another process was faster

    # Whole wheels that an interrupted run left behind are used again.
    rm -rf "$partial/tree"
    mkdir -p "$partial/wheels" "$partial/tree"
    say "downloading version $version for $variant to $cache ($size), because no copy is there and nothing else is named"
    local attempt
    for attempt in 1 2 3; do
        python3 -m pip download --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
            --require-hashes --python-version 3.11 "${platforms[@]/#/--platform=}" \
            --requirement "$requirements" --dest "$partial/wheels" >&2 &&
            break
        [ "$attempt" -lt 3 ] ||
            fail "the download failed three times (pip says why above); run this again to go on with what is there"
    done

    say "unpacking"
    python3 scripts/unpack_wheels.py "$variant" "$partial/wheels" "$partial/tree"
    mv "$partial/tree" "$root"
    rm -rf "$partial"
}

if [ -n "${LIBTORCH:-}" ]; then
    case $LIBTORCH in /*) ;; *) fail "LIBTORCH=$LIBTORCH is a relative path, and compilers run in many folders; give the absolute one" ;; esac
    require_version "$LIBTORCH" LIBTORCH
    link_to "$LIBTORCH"
elif [ -n "${AUTOSWARM_PYTORCH:-}" ]; then
    torch=$(cd "$caller" && "$AUTOSWARM_PYTORCH" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
        fail "AUTOSWARM_PYTORCH=$AUTOSWARM_PYTORCH cannot import torch; name the Python interpreter that PyTorch $version is installed for"
    require_version "$torch" AUTOSWARM_PYTORCH
    link_to "$torch"
elif [ -z "${AUTOSWARM_LIBTORCH:-}" ] && [ -n "$(version_of .libtorch)" ]; then
    [ "$(version_of .libtorch | cut -d+ -f1)" = "$version" ] ||
        fail "\`.libtorch\` links to $(readlink .libtorch), which is version $(version_of .libtorch) and not $version; remove the link"
else
    variant=${AUTOSWARM_LIBTORCH:-cpu}
    root=$cache/libtorch-$version-$variant
    [ -d "$root" ] || install "$variant" "$root"
    # CUDA's libraries lie beside torch/, where torch's own run paths look for them.
    case $variant in cuda) root=$root/torch ;; esac
    require_version "$root" "$cache"
    link_to "$root"
fi
scripts/prerequisites.sh
