#!/usr/bin/env bash
# Names everything at once that a build lacks on this machine, and how to install it. Fails if anything is
# missing.
#
#   scripts/prerequisites.sh [MEBIBYTES FOLDER]   also checks for pip, and for that much room in FOLDER
# shellcheck disable=SC2016 # the backticks are quotation marks for people
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
debian=() fedora=() macos=()
# need WHAT DEBIAN FEDORA MACOS: what is missing, and how each system installs it. The last three
# may be empty.
need() {
    missing+=("$1")
    [ -z "$2" ] || debian+=("$2")
    [ -z "$3" ] || fedora+=("$3")
    [ -z "$4" ] || macos+=("$4")
}

rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rust_found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || rust_found=
rust_hint="install it as https://rustup.rs says, or \`rustup update stable\`"
if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
    need "Rust $rust_wanted or newer (no \`rustc\` and \`cargo\` on the PATH): $rust_hint" '' '' ''
elif [ -z "$rust_found" ]; then
    need "Rust $rust_wanted or newer (\`rustc --version\` fails; with rustup, \`rustup default stable\` chooses a toolchain)" '' '' ''
elif [ "$(printf '%s\n' "$rust_wanted" "${rust_found%%-*}" | sort -V | head -n 1)" != "$rust_wanted" ]; then
    need "Rust $rust_wanted or newer (\`rustc\` is $rust_found): $rust_hint" '' '' ''
fi

# The compiler that the cc crate takes. Often it is installed without its standard library, so <vector> is
# tried.
compiler=${CXX:-c++}
# shellcheck disable=SC2086 # CXX may carry flags
if ! echo '#include <vector>' | $compiler -std=c++17 -fsyntax-only -x c++ - 2>/dev/null; then
    need "a C++17 compiler (\`$compiler\` is not there or does not compile)" g++ gcc-c++ 'xcode-select --install'
elif ! command -v "${CC:-cc}" >/dev/null; then
    need "a C compiler and linker (\`${CC:-cc}\`)" gcc gcc 'xcode-select --install'
fi
command -v git >/dev/null || need '`git`' git git 'xcode-select --install'

if [ $# -eq 2 ]; then
    mebibytes=$1 folder=$2
    if ! command -v python3 >/dev/null; then
        need '`python3` with pip, which libtorch is fetched with' 'python3 python3-pip' 'python3 python3-pip' 'brew install python'
    elif ! python3 -m pip --version >/dev/null 2>&1; then
        need "pip for \`$(command -v python3)\` (\`python3 -m pip\` fails), which libtorch is fetched with" python3-pip python3-pip 'python3 -m ensurepip'
    fi
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1024))
    [ "$free" -ge "$mebibytes" ] ||
        need "$mebibytes MiB of free space in $2 (there are $free): make room, or set XDG_CACHE_HOME to a folder on another disk" '' '' ''
    [ -w "$folder" ] || need "the right to write to $2: set XDG_CACHE_HOME to a folder that you own" '' '' ''
fi

[ ${#missing[@]} -gt 0 ] || exit 0
{
    echo 'To build Autoswarm, this machine lacks:'
    printf '  - %s\n' "${missing[@]}"
    if [ ${#debian[@]} -gt 0 ]; then
        echo 'To install it:'
        echo "  Debian, Ubuntu  sudo apt-get install ${debian[*]}"
        echo "  Fedora          sudo dnf install ${fedora[*]}"
        printf '  macOS           %s\n' "${macos[@]}" | sort -u
    fi
} >&2
exit 1
