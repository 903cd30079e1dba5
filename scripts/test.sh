#!/usr/bin/env bash
# Runs every check and every test, with the real libtorch too, and prints how long each step took.
# Later steps run after a failed one; the last line and the exit status say whether all passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

names=() seconds=() verdicts=()

# Runs the command $2… as the step called $1.
step() {
    local name=$1 start=$SECONDS verdict=ok
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || verdict=FAILED
    names+=("$name") seconds+=($((SECONDS - start))) verdicts+=("$verdict")
}

table() {
    local index failed=()
    printf '\n%-14s %8s  %s\n' step seconds result
    for index in "${!names[@]}"; do
        printf '%-14s %8d  %s\n' "${names[$index]}" "${seconds[$index]}" "${verdicts[$index]}"
        [ "${verdicts[$index]}" = ok ] || failed+=("${names[$index]}")
    done
    printf '%-14s %8d\n' total "$SECONDS"
    if [ ${#failed[@]} -gt 0 ]; then
        printf 'failed: %s\n' "${failed[*]}"
        return 1
    fi
    echo 'all passed'
}

# Without libtorch, the other steps would only say again that it is missing.
step libtorch scripts/libtorch.sh
[ "${verdicts[0]}" = ok ] || { table; exit 1; }

step tree scripts/check-tree.sh
step rooms scripts/check_rooms.py
step fmt cargo fmt --all --check
# Fetches the packages that `cargo tree --offline` and the later steps read.
step fetch cargo fetch --locked --quiet
step dependencies scripts/check-dependencies.sh
step clippy cargo clippy --locked --keep-going --workspace --all-targets --all-features -- -D warnings
step docs env RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
# Builds all targets, because dev-dependencies add features to shared dependencies: built for the binaries
# alone, those would be compiled twice. The tests run the binaries that this puts in place.
step build cargo build --locked --workspace --all-targets
step tests cargo test --locked --workspace --no-fail-fast
# Last, alone and one after the other: trainers give way to all other work, so beside other tests they would
# only wait.
step real cargo test --locked --workspace --features autoswarm-tests/real-trainer --test it real:: -- \
    --test-threads 1
table
