#!/usr/bin/env bash
# Runs the long versions of the network's tests, one after the other, and prints their figures: 50 nodes, 20
# seeds, ten minutes of churn in ten rounds, 40,000 authors, 100 peers on one address. Arguments choose tests,
# for instance `topologies::`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export NODES=${NODES:-50} SEEDS=${SEEDS:-20} ROUNDS=${ROUNDS:-10} CHURN_NODES=${CHURN_NODES:-20}
export FLOOD=${FLOOD:-20000} SYBILS=${SYBILS:-40000} ECLIPSE=${ECLIPSE:-100} NEWS=${NEWS:-200}
# Milliseconds between records: enough for 50 nodes in one process, so that the protocol is measured, not the
# machine.
export BETWEEN=${BETWEEN:-400}
[ $# -gt 0 ] || set -- network:: topologies:: hostile::

cargo build --locked --workspace --all-targets
cargo test --locked --workspace --test it -- "$@" --nocapture --test-threads 1
