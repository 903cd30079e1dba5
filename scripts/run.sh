#!/usr/bin/env bash
# Builds everything that a node needs, where it is not built yet, and runs `node` with the arguments given.
# Standard output belongs to the node alone; messages of this script and of cargo go to stderr.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

"$root/scripts/libtorch.sh"
# cargo runs in the checkout, because it reads .cargo/config.toml from the current folder. The node runs in
# the caller's folder.
(cd "$root" && cargo build --release --locked -p autoswarm-node -p autoswarm-trainer) >&2

target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$root/$target ;; esac
exec "$target/release/node" "$@"
