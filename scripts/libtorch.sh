#!/usr/bin/env bash
# Puts libtorch in place: `.libtorch` in this checkout links to one copy for all checkouts of a user.
#
# What decides, in this order:
#   LIBTORCH=DIR                     a libtorch (or an installed torch folder) that you have; it must be the version below
#   AUTOSWARM_PYTORCH=PYTHON         the PyTorch installed for that Python interpreter, for instance .venv/bin/python
#   AUTOSWARM_LIBTORCH=cpu|cuda      the CPU libraries (about 500 MB), or the full CUDA set (about 4.6 GB)
#   a `.libtorch` that is there      kept if its version fits
#   otherwise                        cpu
#
# Everything it says goes to stderr. Not here: compiling against libtorch (torch-sys does) and finding it at run time
# (trainer/build.rs writes the path into the binaries).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly version=2.11.0 # what tch 0.24.0 is written against
readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/autoswarm"

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
    [ -n "$found" ] || fail "$2 names \`$1\`, which has no build-version or version.py; give the folder that holds lib/ and include/"
    [ "${found%%+*}" = "$version" ] || fail "$2 names \`$1\`, which is version $found; $version is needed"
    [ -d "$1/include" ] && [ -d "$1/lib" ] || fail "$2 names \`$1\`, which lacks include/ or lib/; a full installation is needed"
}

link_to() {
    [ "$(readlink .libtorch 2>/dev/null)" = "$1" ] && return
    [ ! -e .libtorch ] || [ -L .libtorch ] || fail "\`.libtorch\` is not a link; move it away"
    ln -sfn "$1" .libtorch
    say "version $(version_of .libtorch) from $1"
}

# Downloads and unpacks the variant $1 into folder $2, whole or not at all; one process at a time.
install() {
    local variant=$1 target=$2 partial=$2.partial
    mkdir -p "$partial/wheels"
    exec 9>"$target.lock"
    # The lock belongs to the open file, so it outlives this Python; macOS has no flock command.
    python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    [ -z "$(version_of "$target")" ] || return 0 # another process was faster
    rm -rf "$partial/tree" "$target"
    mkdir -p "$partial/wheels" "$partial/tree"

    # Wheels of an interrupted run that are complete are used again.
    say "downloading version $version ($variant) to $cache"
    local attempt
    for attempt in 1 2 3; do
        python3 -m pip download --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
            --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
            --platform manylinux_2_17_x86_64 --requirement scripts/libtorch-requirements.txt --dest "$partial/wheels" >&2 &&
            break
        [ "$attempt" -lt 3 ] || fail "the download failed three times; run this again to go on with what is there"
    done

    say "unpacking"
    python3 - "$partial/wheels" "$partial/tree" <<'PYTHON'
"""Unpacks what a program linked with libtorch needs from the wheels in folder 1 into folder 2: lib/ and include/."""
import pathlib, shutil, sys, zipfile

wheels, tree = map(pathlib.Path, sys.argv[1:])
libraries = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = pathlib.PurePosixPath(member.filename)
            if path.name in libraries:
                target = tree / "lib" / path.name
            elif path.parts[:2] == ("torch", "include") and not member.is_dir():
                target = tree.joinpath(*path.parts[1:])
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
missing = libraries - {path.name for path in (tree / "lib").iterdir()}
if missing:
    sys.exit(f"libtorch: the wheels lack {sorted(missing)}")
# The original only names its parts, libtorch_cuda among them; here there is one part.
(tree / "lib" / "libtorch.so").symlink_to("libtorch_cpu.so")
PYTHON
    echo "$version+cpu" >"$partial/tree/build-version"
    mv "$partial/tree" "$target"
    rm -rf "$partial"
}

if [ -n "${LIBTORCH:-}" ]; then
    require_version "$LIBTORCH" LIBTORCH
    link_to "$(cd "$LIBTORCH" && pwd)"
elif [ -n "${AUTOSWARM_PYTORCH:-}" ]; then
    torch=$("$AUTOSWARM_PYTORCH" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
        fail "AUTOSWARM_PYTORCH=$AUTOSWARM_PYTORCH cannot import torch; name the Python interpreter that PyTorch $version is installed for"
    require_version "$torch" AUTOSWARM_PYTORCH
    link_to "$torch"
elif [ -z "${AUTOSWARM_LIBTORCH:-}" ] && [ -n "$(version_of .libtorch)" ]; then
    require_version .libtorch "this checkout"
else
    variant=${AUTOSWARM_LIBTORCH:-cpu}
    target=$cache/libtorch-$version-$variant
    [ -n "$(version_of "$target")" ] || install "$variant" "$target"
    link_to "$target"
fi
