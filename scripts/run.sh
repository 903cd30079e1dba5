#!/usr/bin/env bash
# Builds everything that a node needs, if it is not built, and runs `node` with the arguments given.
# Standard output belongs to the node alone; what this script and cargo say goes to stderr.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

"$root/scripts/libtorch.sh"
# In the checkout's folder, because cargo reads .cargo/config.toml from where it stands; the node stays in the caller's.
(cd "$root" && cargo build --release --locked -p autoswarm-node -p autoswarm-trainer) >&2

target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$root/$target ;; esac
exec "$target/release/node" "$@"
